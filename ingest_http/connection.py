"""Connections to the HTTP front door: their limits, their age, and their end.

aiohttp's server knows no connection cap, no age, and no time limit for a header that has begun.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

from aiohttp.web_protocol import RequestHandler
from aiohttp.web_server import Server
from structlog import get_logger

from ingest import metrics
from ingest.errors import ConfigError
from ingest.listening import BACKLOG, accept_all, refuse_newcomers

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Sequence

    from aiohttp.web_request import BaseRequest

    from ingest.settings import LimitSettings
    from ingest_http.settings import HttpSettings

log = get_logger(__name__)

LINGER_SECONDS = 5.0
"""How long the rest of a body is read and ignored after an early answer."""
HANDSHAKE_SECONDS = 0.2
"""How long begun handshakes have to complete before the listener is closed."""
GRACE_SECONDS = 1.0
"""How long a connection without a request is kept after the listener has closed: its client may
have a request on the way."""


def require_c_parser() -> None:
    """Refuse to run on aiohttp's pure-Python HTTP parser: slow, and home of smuggling bugs."""
    from aiohttp import http_parser  # noqa: PLC0415 - imported only to be looked at

    if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
        raise ConfigError(["aiohttp's C parser is missing: install aiohttp from a wheel"])


class Connection(RequestHandler):
    """One client's connection."""

    __slots__ = ("_closes_at", "_door", "_header_timer", "address", "idle_since")

    def __init__(self, door: Door, **arguments: Any) -> None:
        super().__init__(door.server, **arguments)
        self._door = door
        self._closes_at = self._loop.time() + door.max_age_seconds * random.uniform(0.8, 1.0)  # noqa: S311
        self._header_timer: asyncio.TimerHandle | None = None
        self.address = ""
        self.idle_since = self._loop.time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Enter, unless a limit is reached."""
        peer = transport.get_extra_info("peername")
        self.address = peer[0] if isinstance(peer, tuple) else "unix"
        super().connection_made(transport)
        self._door.entered(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Leave."""
        self._stop_header_timer()
        self._door.left(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse; from the first byte of a header on, its rest has a limited time."""
        super().data_received(data)
        if self.is_idle():
            if self._header_timer is None:
                seconds = self._door.header_seconds
                self._header_timer = self._loop.call_later(seconds, self._header_too_slow)
        elif self._header_timer is not None:
            self._stop_header_timer()

    def is_idle(self) -> bool:
        """Whether no request is there, nor being handled; part of a header may be."""
        return self._waiter is not None and not self._waiter.done()

    def is_waiting(self) -> bool:
        """Whether it is idle and nothing of a header is there."""
        return self.is_idle() and self._header_timer is None

    def wants_to_close(self) -> bool:
        """Asked with every answer: whether it shall be the last one on this connection."""
        now = self._loop.time()
        self.idle_since = now
        return now >= self._closes_at or self._door.draining

    def _stop_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _header_too_slow(self) -> None:
        self._header_timer = None
        metrics.CONNECTIONS_REFUSED.labels("http", "header_seconds").inc()
        self.force_close()


class Door:
    """The listening side: every connection of a worker, their limits and their end.

    Args:
        handler: answers one request.
        http: the [http] section.
        limits: the [limits] section.
    """

    def __init__(
        self,
        handler: Callable[[BaseRequest], Awaitable[Any]],
        http: HttpSettings,
        limits: LimitSettings,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._limits = limits
        self._connections: set[Connection] = set()
        self._by_address: Counter[str] = Counter()
        self._servers: list[asyncio.Server] = []
        self._sockets: list[socket.socket] = []
        self.draining = False
        self.max_age_seconds = http.max_age_seconds
        self.header_seconds = http.header_seconds
        self.server = Server(handler)
        self._arguments: dict[str, Any] = {
            "loop": self._loop,
            "keepalive_timeout": http.keepalive_seconds,
            "lingering_time": LINGER_SECONDS,
            "auto_decompress": False,
            "access_log": None,
            "logger": _QuietLogger(),
        }

    def __len__(self) -> int:
        return len(self._connections)

    def _make(self) -> Connection:
        return Connection(self, **self._arguments)

    async def open(self, sockets: Sequence[socket.socket]) -> None:
        """Serve on listening ``sockets``, which stay the caller's to close."""
        for sock in sockets:
            self._sockets.append(sock)
            server = await self._loop.create_server(self._make, sock=sock.dup(), backlog=BACKLOG)
            self._servers.append(server)

    async def close(self) -> None:
        """Stop listening, without a reset for anybody who is in the queue already."""
        refuse_newcomers(self._sockets)
        await asyncio.sleep(HANDSHAKE_SECONDS)
        for server in self._servers:
            server.close()
        for sock in self._sockets:
            for connection in accept_all(sock):
                await self._loop.connect_accepted_socket(self._make, connection)
            sock.close()
        self._servers.clear()
        self._sockets.clear()

    async def finish(self, deadline: float) -> int:
        """Wait until every request is answered, at most until ``deadline`` on the loop's clock.

        Connections without a request get some time for one that is on its way.

        Returns:
            How many requests were cut off.
        """
        grace = min(deadline, self._loop.time() + GRACE_SECONDS)
        while self._connections and self._loop.time() < deadline:
            if self._loop.time() >= grace:
                for connection in [each for each in self._connections if each.is_idle()]:
                    connection.force_close()
            await asyncio.sleep(0.02)
        cut_off = sum(not each.is_idle() for each in self._connections)
        for connection in tuple(self._connections):
            await connection.shutdown(0.1)
        return cut_off

    # What connections tell.

    def entered(self, connection: Connection) -> None:
        """A connection is made: keep the limits."""
        address = connection.address
        self._connections.add(connection)
        self._by_address[address] += 1
        if self._by_address[address] > self._limits.connections_per_address:
            self._refuse(connection, "connections_per_address")
        elif len(self._connections) > self._limits.connections:
            self._refuse(self._longest_idle() or connection, "connections")

    def left(self, connection: Connection) -> None:
        """A connection is gone."""
        if connection not in self._connections:
            return
        self._connections.discard(connection)
        self._by_address[connection.address] -= 1
        if not self._by_address[connection.address]:
            del self._by_address[connection.address]

    def _refuse(self, connection: Connection, limit: str) -> None:
        metrics.CONNECTIONS_REFUSED.labels("http", limit).inc()
        self.left(connection)
        connection.force_close()

    def _longest_idle(self) -> Connection | None:
        idle = (each for each in self._connections if each.is_waiting())
        return min(idle, key=lambda each: each.idle_since, default=None)


class _QuietLogger:
    """aiohttp's server log, which would quote what clients sent; real errors keep their place."""

    def debug(self, *_: Any, **__: Any) -> None:
        """Drop: connection chatter."""

    def exception(self, *_: Any, exc_info: Any = None, **__: Any) -> None:
        """Log an error of ours; a client's broken HTTP is answered with 400 and counted."""
        if isinstance(exc_info, BaseException) and not _is_clients(exc_info):
            log.error("request_failed", reason=type(exc_info).__name__, exc_info=exc_info)


def _is_clients(error: BaseException) -> bool:
    return type(error).__module__.startswith("aiohttp.http")
