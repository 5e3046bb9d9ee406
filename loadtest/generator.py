"""A load generator that leaves the processor to the gateway: requests are built before the run.

``python -m loadtest.generator --url URL --key KEY`` prints one JSON line: see `Load.figures`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import time
from array import array
from collections import Counter
from itertools import cycle
from typing import TYPE_CHECKING, Any

import uvloop

from loadtest.answers import Connection, endpoint, head
from loadtest.events import batch, events

if TYPE_CHECKING:
    from collections.abc import Sequence

POOL_EVENTS = 20_000
"""Distinct events in all request bodies together."""
PAUSE_SECONDS = 0.1
"""How long a connection rests after a refusal unless told otherwise, or when it cannot connect."""
STOP_SECONDS = 60.0
"""How long after the end of a timed run answers are waited for."""

_ACCEPTED = re.compile(rb'"accepted": ?(\d+)')


class Load:
    """What all connections share: the requests to send, and what came of them.

    Args:
        url: where the gateway is, ``http://host:port``.
        requests: whole requests, header and body, sent in turn.
        count: how many requests to send; None: until ``seconds`` have passed.
        seconds: how long to send at most.
        pause_seconds: how long a connection rests after a refusal.
        interval_seconds: from one request of a connection to its next, at least.
    """

    def __init__(
        self,
        url: str,
        requests: Sequence[bytes],
        *,
        count: int | None = None,
        seconds: float | None = None,
        pause_seconds: float = PAUSE_SECONDS,
        interval_seconds: float = 0.0,
    ) -> None:
        self.endpoint = endpoint(url)
        self.pause_seconds = pause_seconds
        self.interval_seconds = interval_seconds
        self.no_answer = 0
        self._requests = requests
        self._count = count
        self._until = float("inf") if seconds is None else time.perf_counter() + seconds
        self._sent = 0
        self._acked = 0
        self._statuses: Counter[int] = Counter()
        self._latencies = array("d")
        self._started = time.perf_counter()
        self._ended = self._started

    def take(self) -> bytes | None:
        """The next request; None when all are sent."""
        if self._sent == self._count or time.perf_counter() >= self._until:
            return None
        request = self._requests[self._sent % len(self._requests)]
        self._sent += 1
        return request

    def record(self, status: int, body: bytes, sent_at: float) -> None:
        """Count one answer."""
        self._ended = now = time.perf_counter()
        self._latencies.append(now - sent_at)
        self._statuses[status] += 1
        found = _ACCEPTED.search(body)
        if found is not None:
            self._acked += int(found[1])

    def figures(self) -> dict[str, Any]:
        """The result; times in seconds, ``no_answer`` counts connections that broke in between."""
        seconds = self._ended - self._started
        ordered = sorted(self._latencies)
        return {
            "events_acked": self._acked,
            "requests": self._sent,
            "seconds": round(seconds, 3),
            "events_per_second": round(self._acked / seconds) if seconds else 0,
            "p50_seconds": round(_quantile(ordered, 0.5), 6),
            "p99_seconds": round(_quantile(ordered, 0.99), 6),
            "statuses": {str(status): count for status, count in sorted(self._statuses.items())},
            "no_answer": self.no_answer,
            "cpu_seconds": round(time.process_time(), 2),
        }


class Client(Connection):
    """One connection that always has one request on the way."""

    def __init__(self, load: Load) -> None:
        super().__init__()
        self.done = asyncio.Event()
        self._load = load
        self._loop = asyncio.get_running_loop()
        self._sent_at = 0.0
        self._waits = False
        self._connecting: asyncio.Task[None] | None = None

    def connect(self) -> None:
        """Open the connection, again and again until there is one."""
        self._connecting = self._loop.create_task(self._connect())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to send."""
        super().connection_made(transport)
        self._send()

    def answered(self, status: int, body: bytes) -> None:
        """Count the answer and send the next request; after a refusal, not at once."""
        self._waits = False
        self._load.record(status, body, self._sent_at)
        if not self.keep and self.transport is not None:
            self.transport.close()
        elif status < 300:
            self._send_in_time()
        else:
            self._loop.call_later(self._load.pause_seconds, self._send)

    def broken(self) -> None:
        """Connect again while there is something to send."""
        self._load.no_answer += self._waits
        self._waits = False
        if not self.done.is_set():
            self.connect()

    def _send_in_time(self) -> None:
        """Send the next request, but not before its time."""
        early = self._sent_at + self._load.interval_seconds - time.perf_counter()
        if early > 0:
            self._loop.call_later(early, self._send)
        else:
            self._send()

    def _send(self) -> None:
        if self.transport is None or self._waits:  # it broke during the pause
            return
        request = self._load.take()
        if request is None:
            self.done.set()
            self.transport.close()
            return
        self._waits = True
        self._sent_at = time.perf_counter()
        self.transport.write(request)

    async def _connect(self) -> None:
        while True:
            try:
                await self._loop.create_connection(lambda: self, *self._load.endpoint)
            except OSError:
                await asyncio.sleep(PAUSE_SECONDS)
            else:
                return


def build(url: str, keys: Sequence[str], source: str, size: int, seed: int = 1) -> list[bytes]:
    """Whole requests with ``size`` events each, all different: `POOL_EVENTS` events together.

    They come from the owners of ``keys`` in turn.
    """
    stream = events(seed)
    bodies = (batch(stream, size) for _ in range(max(len(keys), POOL_EVENTS // size)))
    return [
        head(url, key, source, len(body)) + body
        for body, key in zip(bodies, cycle(keys), strict=False)
    ]


async def run(load: Load, connections: int) -> dict[str, Any]:
    """Send ``load`` over that many connections; returns its figures."""
    clients = [Client(load) for _ in range(connections)]
    for client in clients:
        client.connect()
    await asyncio.gather(*(client.done.wait() for client in clients))
    return load.figures()


async def _main(options: argparse.Namespace) -> None:
    requests = build(options.url, options.key, options.source, options.batch, options.seed)
    count = None if options.events is None else -(-options.events // options.batch)
    load = Load(
        options.url,
        requests,
        count=count,
        seconds=options.seconds,
        pause_seconds=options.pause,
        interval_seconds=options.interval,
    )
    limit = None if options.seconds is None else options.seconds + STOP_SECONDS
    try:
        figures = await asyncio.wait_for(run(load, options.connections), limit)
    except TimeoutError:
        figures = load.figures()
    print(json.dumps(figures))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="loadtest.generator", description=__doc__)
    parser.add_argument("--url", required=True, help="http://host:port of the gateway")
    parser.add_argument("--key", required=True, nargs="+", help="an API key, or several")
    parser.add_argument("--source", default="load")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--batch", type=int, default=100, help="events in a request")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--pause", type=float, default=PAUSE_SECONDS, help="seconds to rest after a refusal"
    )
    parser.add_argument(
        "--interval", type=float, default=0.0, help="seconds between requests of a connection"
    )
    amount = parser.add_mutually_exclusive_group(required=True)
    amount.add_argument("--events", type=int, help="stop after so many events")
    amount.add_argument("--seconds", type=float, help="stop after so many seconds")
    return parser


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


if __name__ == "__main__":
    uvloop.run(_main(_parser().parse_args()))
