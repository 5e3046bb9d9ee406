"""The one deadline of a receipt, without a timer for each: a heap that is swept now and then."""

from __future__ import annotations

import heapq
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ingest.receipt import Receipt


class Deadlines:
    """Receipts by the time at which they must be answered."""

    __slots__ = ("_heap", "_order")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Receipt]] = []
        self._order = count()  # ties are broken by age: receipts do not compare

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, deadline: float, receipt: Receipt) -> None:
        """Have ``receipt`` answered at ``deadline``, on the clock that `sweep` is told."""
        heapq.heappush(self._heap, (deadline, next(self._order), receipt))

    def sweep(self, now: float) -> None:
        """Expire every receipt whose deadline has come; forget those that are answered."""
        heap = self._heap
        while heap and (heap[0][0] <= now or heap[0][2].answered):
            heapq.heappop(heap)[2].expire()
