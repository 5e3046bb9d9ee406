"""The one deadline of a receipt, without a timer for each: a heap that is swept now and then."""

from __future__ import annotations

import heapq
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from ingest.receipt import Receipt


class Deadlines:
    """Receipts by the time at which they must be answered.

    Args:
        early: is told of every receipt that is not answered ``lead_seconds`` before its deadline.
        lead_seconds: seconds.
    """

    __slots__ = ("_early", "_heap", "_lead", "_order")

    def __init__(
        self, early: Callable[[Receipt], None] | None = None, lead_seconds: float = 0.0
    ) -> None:
        self._heap: list[tuple[float, int, Receipt, float]] = []
        self._order = count()  # ties are broken by age: receipts do not compare
        self._early = early
        self._lead = 0.0 if early is None else lead_seconds

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, deadline: float, receipt: Receipt) -> None:
        """Have ``receipt`` answered at ``deadline``, on the clock that `sweep` is told."""
        entry = (deadline - self._lead, next(self._order), receipt, deadline)
        heapq.heappush(self._heap, entry)

    def sweep(self, now: float) -> None:
        """Expire every receipt whose deadline has come; forget those that are answered."""
        heap = self._heap
        while heap and (heap[0][0] <= now or heap[0][2].answered):
            when, order, receipt, deadline = heapq.heappop(heap)
            if receipt.answered:
                continue
            if self._early is not None and when < deadline:
                self._early(receipt)
                heapq.heappush(heap, (deadline, order, receipt, deadline))
            else:
                receipt.expire()
