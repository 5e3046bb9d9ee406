"""Ends tasks for certain."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection

AGAIN_SECONDS = 0.5
"""How soon a task that is still there is cancelled once more."""


async def cancel(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel ``tasks`` and wait until they have ended.

    Once is not enough: aiokafka swallows a cancellation that arrives while it closes a connection
    (``AIOKafkaClient.close``).
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=AGAIN_SECONDS)
