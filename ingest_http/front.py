"""What one worker of the HTTP front door is made of, and how it opens and ends."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from ingest.inflight import Budget
from ingest.outlet import Outlet
from ingest.status import WorkerStatus, degraded_by, reasons_of
from ingest_http.app import App
from ingest_http.door import Door
from ingest_http.publish import SERVICE, Publisher
from ingest_http.rules import Rules, compiled
from ingest_http.tls import http_context

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping, Sequence
    from ssl import SSLContext

    from ingest_http.config import HttpConfig

FLUSH_SECONDS = 1.0
"""Every answer that was given is settled by then; what is left is dead letters of dead requests."""


class HttpFront:
    """A worker; see `ingest.worker.Front`.

    Args:
        config: the whole configuration of the service.
    """

    def __init__(self, config: HttpConfig) -> None:
        self._loop = asyncio.get_running_loop()
        self._budget = Budget(config.limits.inflight_bytes)
        self._outlet = Outlet(config, SERVICE, config.topics_written())
        self._producer = self._outlet.producer
        publisher = Publisher(self._producer, self._outlet.dead_letters)
        rules = Rules(config, compiled(config), self._budget)
        self._app = App(config, rules, publisher, self._budget)
        self._door = Door(self._app.handle, config.http, config.limits, _context(config))

    async def open(self, sockets: Mapping[str, Sequence[socket.socket]]) -> None:
        """Connect to Kafka behind the scenes, and serve."""
        await self._outlet.open()
        self._door.open(sockets["http"])

    async def reload(self, config: HttpConfig) -> None:
        """Take the rules and certificates of ``config``; all of them or, when it raises, none."""
        schemas = await asyncio.to_thread(compiled, config, self._app.rules)
        rules = Rules(config, schemas, self._budget, self._app.rules)
        context = _context(config)
        self._producer.follow(config.topics_written())
        self._app.rules = rules
        self._door.use(context)

    def status(self) -> WorkerStatus:
        """How it is just now."""
        connected, spool = self._producer.connected, self._outlet.spool_status
        return WorkerStatus(
            pid=os.getpid(),
            reasons=reasons_of(connected=connected, spool=spool),
            degraded=self._producer.problems | degraded_by(connected=connected, spool=spool),
            kafka_up=bool(connected),
            spool=spool,
            inflight_bytes=self._budget.used_bytes,
            connections={"http": len(self._door)},
        )

    def drain(self) -> None:
        """Every answer from now on is the last one on its connection."""
        self._door.draining = True

    async def close(self, deadline: float) -> int:
        """Accept who is in the queue, close the listeners, answer everybody, flush."""
        await self._door.close()
        relieving = self._loop.create_task(self._relieve(deadline - 2 * FLUSH_SECONDS))
        cut_off = await self._door.finish(deadline)
        relieving.cancel()
        await self._outlet.close(max(0.0, min(FLUSH_SECONDS, deadline - self._loop.time())))
        return cut_off

    async def _relieve(self, when: float) -> None:
        """Have the spool take, in time to tell its clients, what Kafka has not taken until then."""
        await asyncio.sleep(when - self._loop.time())
        await self._producer.relieve(FLUSH_SECONDS)


def _context(config: HttpConfig) -> SSLContext | None:
    return http_context(config.http.tls) if config.http.tls is not None else None


async def make(config: HttpConfig) -> HttpFront:
    """Build a worker on its event loop."""
    return HttpFront(config)
