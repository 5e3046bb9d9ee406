"""Checks the events of a batch against their source's schema, without holding the event loop."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from msgspec import Raw

    from ingest.schema import Schema

TURN_SECONDS = 0.01
"""How long events are checked before others get their turn on the event loop."""
THREAD_BYTES = 1 << 17
"""Larger events are checked in a thread: a single one can take longer than the loop may be held."""


async def mismatches(
    schema: Schema, events: Iterable[bytes | Raw], deadline: float
) -> dict[int, str]:
    """The events that do not match: position -> why.

    Raises:
        TimeoutError: it is not known at ``deadline``, on the event loop's clock.
    """
    loop = asyncio.get_running_loop()
    found: dict[int, str] = {}
    until = perf_counter() + TURN_SECONDS
    for position, event in enumerate(events):
        if len(event) <= THREAD_BYTES:
            detail = schema.check(bytes(event))
        else:
            detail = await loop.run_in_executor(None, schema.check, bytes(event))
        if detail is not None:
            found[position] = detail
        if perf_counter() > until:
            await asyncio.sleep(0)
            if loop.time() > deadline:
                raise TimeoutError
            until = perf_counter() + TURN_SECONDS
    return found
