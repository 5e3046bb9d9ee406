"""The listening side of the HTTP front door: who is let in, the limits of all, and the end.

aiohttp's server knows no cap on connections, and would hide them while they shake hands.
"""

from __future__ import annotations

import asyncio
import errno
import heapq
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

from aiohttp.web_server import Server
from structlog import get_logger

from ingest import metrics
from ingest.listening import BACKLOG, refuse_newcomers
from ingest_http.connection import Connection
from ingest_http.forwarded import NO_ADDRESS, Proxies, normalised

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Awaitable, Callable, Sequence

    from aiohttp.web_request import BaseRequest

    from ingest.settings import LimitSettings
    from ingest_http.reply import Reply
    from ingest_http.request import Request
    from ingest_http.settings import HttpSettings

log = get_logger(__name__)

HANDSHAKE_SECONDS = 0.2
"""How long begun TCP handshakes have to complete before the listener is closed."""
ACCEPTED_PER_TURN = 16
"""Newcomers who are let in before others have their turn on the event loop."""
PAUSE_SECONDS = 1.0
"""How long nobody is accepted when there is nothing left to accept with."""
HUNG_UP = frozenset(
    {errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.EHOSTUNREACH, errno.ENETUNREACH}
)
"""Errors of accept(2) that are about one newcomer."""
GRACE_SECONDS = 1.0
"""How long a connection without a request is kept after the listener has closed: its client may
have a request on the way."""
SHUTDOWN_SECONDS = 5.0
"""How long a TLS client may take to read the last 64 KiB, and to say that it closes too (RFC 8446,
section 6.1)."""


class Door:
    """The listening side: every connection of a worker, their limits and their end.

    It accepts by itself: a server of asyncio's would hide connections while they shake hands.

    Args:
        handler: answers one request.
        http: the [http] section.
        limits: the [limits] section.
        context: for TLS; None is plain HTTP.
    """

    def __init__(
        self,
        handler: Callable[[Request], Awaitable[Reply]],
        http: HttpSettings,
        limits: LimitSettings,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._limits = limits
        self._context = context
        self._handshake_seconds = http.handshake_seconds
        self._proxies = Proxies(http.trusted_proxies)
        self._connections: set[Connection] = set()
        self._by_address: Counter[str] = Counter()
        self._longest_idle: list[tuple[float, Connection]] = []  # the longest last
        self._sockets: list[socket.socket] = []
        self._listening = False
        self._exhausted = False
        self.draining = False
        self.max_age_seconds = http.max_age_seconds
        self.header_seconds = http.header_seconds
        self.handler = handler
        self.server = Server(_unused)
        self._arguments: dict[str, Any] = {
            "loop": self._loop,
            "keepalive_timeout": http.keepalive_seconds,
            "auto_decompress": False,
            "access_log": None,
        }

    def __len__(self) -> int:
        return len(self._connections)

    def use(self, context: ssl.SSLContext | None) -> None:
        """Use another TLS context for who comes from now on; who is there already stays."""
        self._context = context

    async def open(self, sockets: Sequence[socket.socket]) -> None:
        """Serve on listening ``sockets``; `close` closes them."""
        self._listening = True
        for sock in sockets:
            sock.setblocking(False)
            sock.listen(BACKLOG)
            self._sockets.append(sock)
            self._listen(sock)

    def stop_listening(self) -> None:
        """Accept nobody from now on: newcomers wait in the kernel's queue."""
        if self._listening:
            self._listening = False
            for sock in self._sockets:
                self._loop.remove_reader(sock)

    async def close(self) -> None:
        """Stop listening, without a reset for anybody who is in the queue already."""
        refuse_newcomers(self._sockets)
        await asyncio.sleep(HANDSHAKE_SECONDS)
        self.stop_listening()
        for sock in self._sockets:
            while self._accept(sock):
                await asyncio.sleep(0)
            sock.close()
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
        cut_off = sum(each.owes_an_answer() for each in self._connections)
        for connection in tuple(self._connections):
            await connection.shutdown(0.1)
        return cut_off

    # Newcomers.

    def _listen(self, sock: socket.socket) -> None:
        if self._listening:
            self._loop.add_reader(sock, self._accept, sock)

    def _accept(self, sock: socket.socket) -> bool:
        """Let some newcomers in; whether there may be more."""
        for _ in range(ACCEPTED_PER_TURN):
            try:
                newcomer, peer = sock.accept()
            except BlockingIOError:
                self._exhausted = False
                return False
            except OSError as error:
                if error.errno in HUNG_UP:
                    continue
                self._pause(sock, error)
                return False
            self._admit(newcomer, peer)
        return True

    def _pause(self, sock: socket.socket, error: OSError) -> None:
        """Nothing is left to accept with: to try again at once would be to try all the time."""
        if not self._exhausted:
            self._exhausted = True
            log.error("accept_failed", error=error.strerror, pause_seconds=PAUSE_SECONDS)
        if self._listening:
            self._loop.remove_reader(sock)
            self._loop.call_later(PAUSE_SECONDS, self._listen, sock)

    def _admit(self, sock: socket.socket, peer: Any) -> None:
        """Let a newcomer in, unless a limit is reached."""
        address = (normalised(peer[0]) if isinstance(peer, tuple) else None) or NO_ADDRESS
        limit = self._limit_reached_by(address)
        if limit is not None:
            metrics.CONNECTIONS_REFUSED.labels("http", limit).inc()
            sock.close()
            return
        sock.setblocking(False)
        connection = Connection(self, sock, address, **self._arguments)
        self._connections.add(connection)
        self._by_address[address] += 1
        arrival = self._loop.create_task(self._connect(connection, sock))
        arrival.add_done_callback(partial(self._arrived, connection))

    def _limit_reached_by(self, address: str) -> str | None:
        """The limit that keeps a newcomer out, after the longest idle one has made room."""
        mine = self._by_address[address]
        if mine >= self._limits.connections_per_address and not self._proxies.trusts(address):
            return "connections_per_address"
        if len(self._connections) < self._limits.connections:
            return None
        idle = self._next_longest_idle()
        if idle is None:
            return "connections"
        metrics.CONNECTIONS_REFUSED.labels("http", "connections").inc()
        self.left(idle)
        idle.force_close()
        return None

    def _next_longest_idle(self) -> Connection | None:
        """Looked for among all only now and then, since newcomers may be many."""
        for search in (False, True):
            if search:
                idle = [(each.idle_since, each) for each in self._connections if each.is_waiting()]
                longest = heapq.nsmallest(ACCEPTED_PER_TURN, idle, key=lambda pair: pair[0])
                self._longest_idle = longest[::-1]
            while self._longest_idle:
                since, connection = self._longest_idle.pop()
                is_here = connection in self._connections
                if is_here and connection.is_waiting() and connection.idle_since == since:
                    return connection
        return None

    def _connect(self, connection: Connection, sock: socket.socket) -> Any:
        """Give ``sock`` a transport; with TLS that lasts until the handshake is done."""
        options: dict[str, Any] = {}
        if self._context is not None:
            options = {
                "ssl": self._context,
                "ssl_handshake_timeout": self._handshake_seconds,
                "ssl_shutdown_timeout": SHUTDOWN_SECONDS,
            }
        return self._loop.connect_accepted_socket(lambda: connection, sock, **options)

    def _arrived(self, connection: Connection, arrival: asyncio.Task[Any]) -> None:
        """A transport was made, or came to nothing, which asyncio does not always call an error."""
        error = None if arrival.cancelled() else arrival.exception()
        if error is not None and not isinstance(error, OSError):
            log.error("connection_failed", exc_info=error)
        if not connection.is_arriving:
            return
        self.left(connection)
        connection.never_made()
        if not connection.is_closed_by_us:
            limit = "handshake"
            if isinstance(error, ConnectionAbortedError):  # raised for nothing but the time-out
                limit = "handshake_seconds"
            metrics.CONNECTIONS_REFUSED.labels("http", limit).inc()

    def left(self, connection: Connection) -> None:
        """A connection is gone."""
        if connection not in self._connections:
            return
        self._connections.discard(connection)
        self._by_address[connection.address] -= 1
        if not self._by_address[connection.address]:
            del self._by_address[connection.address]


async def _unused(_request: BaseRequest) -> Any:
    """Aiohttp's server wants a handler; ours is called by `Connection` itself."""
    raise NotImplementedError
