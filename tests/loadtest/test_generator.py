"""The generator sends what it was told to send, and counts what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loadtest.generator import Load, build, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    Gateway = Callable[..., AbstractAsyncContextManager[str]]

BUSY = (503, b'{"code":"busy"}')
HANG_UP = (0, b"")


async def test_the_generator_counts_events_requests_and_statuses(gateway: Gateway) -> None:
    """One refusal among ten requests of seven events."""
    async with gateway((200, b'{"accepted":7}'), [BUSY]) as url:
        requests = build(url, ["key"], "load", 7)
        figures = await run(Load(url, requests, count=10), connections=3)
    assert (figures["events_acked"], figures["requests"]) == (63, 10)
    assert figures["statuses"] == {"200": 9, "503": 1}


async def test_the_generator_survives_a_broken_connection(gateway: Gateway) -> None:
    """It connects again and goes on; the request is counted as unanswered."""
    async with gateway((200, b'{"accepted": 1}'), [HANG_UP]) as url:
        requests = build(url, ["key"], "load", 1)
        figures = await run(Load(url, requests, count=5), connections=1)
    assert (figures["events_acked"], figures["no_answer"]) == (4, 1)
