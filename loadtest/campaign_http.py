"""The HTTP clients of a campaign: at a steady pace, half of them smart and half of them naive.

A smart one sends again, under the same ids, what is neither acknowledged nor rejected; a naive one
takes every answer as the last word, so that each word can be held against the topic.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from loadtest.sender import Amount, Sender

if TYPE_CHECKING:
    from loadtest.book import Book

CONNECTIONS = 8
BATCH = 20


class PacedSender(Sender):
    """A connection that sends a request every ``interval`` seconds, or as soon as it can."""

    def __init__(
        self, name: str, book: Book, amount: Amount, *, resend: bool, interval: float
    ) -> None:
        super().__init__(name, book, amount, resend=resend)
        self._interval = interval
        self._due = time.monotonic()

    async def _post(
        self, url: str, key: str, source: str, batch: dict[str, bytes]
    ) -> dict[str, bytes]:
        now = time.monotonic()
        self._due = max(now, self._due + self._interval)
        await asyncio.sleep(self._due - now)
        return await super()._post(url, key, source, batch)


def senders(book: Book, amount: Amount, rate: float, run: str) -> list[PacedSender]:
    """All connections, ``rate`` events per second together; ``run`` begins their ids."""
    interval = CONNECTIONS * BATCH / rate
    return [
        PacedSender(f"{run}-{number}", book, amount, resend=number % 2 == 0, interval=interval)
        for number in range(CONNECTIONS)
    ]
