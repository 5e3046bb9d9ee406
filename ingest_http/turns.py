"""Long work in a thread: one piece at a time, and those who wait have their turns by caller."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

Result = TypeVar("Result")


class Turns:
    """Runs what would hold the event loop.

    More threads would not be faster, since the work needs the interpreter's lock, but they would
    keep the event loop waiting for it. A caller who has much to do is not served more often.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._busy = False
        self._waiting: dict[Hashable, deque[asyncio.Future[None]]] = {}  # whose turn is next first

    async def run(self, caller: Hashable, work: Callable[..., Result], *arguments: Any) -> Result:
        """What ``work`` returns; once begun it goes on to its end also when this is cancelled."""
        if self._busy:
            await self._wait(caller)
        self._busy = True
        job = self._loop.run_in_executor(None, work, *arguments)
        job.add_done_callback(self._done)
        return await asyncio.shield(job)

    async def _wait(self, caller: Hashable) -> None:
        turn = self._loop.create_future()
        self._waiting.setdefault(caller, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was given away, and not used
                self._give_away()
            raise

    def _done(self, job: asyncio.Future[Any]) -> None:
        if not job.cancelled():
            job.exception()  # whoever waited for it may be gone: nobody else is told
        self._give_away()

    def _give_away(self) -> None:
        self._busy = False
        while self._waiting and not self._busy:
            caller = next(iter(self._waiting))
            queue = self._waiting.pop(caller)
            turn = queue.popleft()
            if queue:
                self._waiting[caller] = queue
            if not turn.done():  # else its request was given up meanwhile
                self._busy = True
                turn.set_result(None)
