"""How long callbacks hold the event loop, as CPU time: wall time measures the neighbours."""

from __future__ import annotations

import asyncio
import gc
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from ingest.worker import GC_THRESHOLD

if TYPE_CHECKING:
    from collections.abc import Iterator

HELD_SECONDS = 0.05
"""The longest time that a callback may take."""


@contextmanager
def timed_callbacks() -> Iterator[list[tuple[float, str]]]:
    """Notes the CPU time of each callback of this thread's event loop; Kafka's part is left out."""
    times: list[tuple[float, str]] = []
    run = asyncio.Handle._run

    def timed(handle: asyncio.Handle) -> None:
        name, begun = _name_of(handle), time.thread_time()
        run(handle)
        if not name.startswith("MemoryProducer"):
            times.append((time.thread_time() - begun, name))

    with garbage_collected_as_in_a_worker(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio.Handle, "_run", timed)
        yield times


@contextmanager
def garbage_collected_as_in_a_worker() -> Iterator[None]:
    """What other tests have left in memory is not looked at."""
    usual = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
    yield
    gc.set_threshold(*usual)
    gc.unfreeze()


def _name_of(handle: asyncio.Handle) -> str:
    """What a callback goes on with: the coroutine of its task, else itself."""
    callback: Any = handle._callback
    task = getattr(callback, "__self__", None)
    coroutine = task.get_coro() if isinstance(task, asyncio.Task) else callback
    return str(getattr(coroutine, "__qualname__", coroutine))
