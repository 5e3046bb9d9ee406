"""A thread that makes calls, one after the other, for an event loop."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")


class CallThread:
    """The thread. Unlike one of a pool it never holds up the end of the process.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    async def call(self, work: Callable[[], Result]) -> Result:
        """What ``work`` returns or raises, made in the thread."""
        done: Future[Result] = Future()
        self._calls.put((done, work))
        return await asyncio.wrap_future(done)

    def end(self) -> None:
        """Make no calls any more after those that wait."""
        self._calls.put(None)

    def _run(self) -> None:
        while (each := self._calls.get()) is not None:
            done, work = each
            if not done.set_running_or_notify_cancel():
                continue
            try:
                done.set_result(work())
            except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
                done.set_exception(error)
