"""Work that waits for its turn: one piece at each round of the event loop, by sender in turn."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Turns:
    """What one worker has read and not worked on yet.

    A piece takes some milliseconds. With one for each connection at each round, a thousand
    connections would keep the loop from everybody else for seconds; and who has many of them is
    not served more often.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[str, deque[Callable[[], None]]] = {}  # whose turn is next comes first
        self._is_due = False

    @property
    def busy(self) -> bool:
        """Whether anything waits."""
        return bool(self._waiting)

    def add(self, sender: str, work: Callable[[], None]) -> None:
        """Do ``work`` when all others have had as many turns as ``sender``."""
        self._waiting.setdefault(sender, deque()).append(work)
        self._go_on()

    def _go_on(self) -> None:
        if self._waiting and not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._next)

    def _next(self) -> None:
        self._is_due = False
        sender = next(iter(self._waiting))
        queue = self._waiting.pop(sender)
        work = queue.popleft()
        if queue:
            self._waiting[sender] = queue
        try:
            work()
        finally:
            self._go_on()
