"""A task that is cancelled ends, also one that does not listen at first."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ingest import cancelling
from ingest.cancelling import cancel

if TYPE_CHECKING:
    import pytest


async def deaf(times: int, heard: list[int]) -> None:
    """Swallow so many cancellations."""
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            heard.append(1)
            if len(heard) > times:
                raise


async def test_a_swallowed_cancellation_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the task has ended; those that have ended already are no trouble."""
    monkeypatch.setattr(cancelling, "AGAIN_SECONDS", 0.01)
    heard: list[int] = []
    tasks = [asyncio.create_task(deaf(3, heard)), asyncio.create_task(asyncio.sleep(0))]
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await cancel(tasks)
    assert all(task.done() for task in tasks)
    assert len(heard) == 4
    await cancel([])
