"""Connections to the HTTP front door: their limits, their age, and their end.

aiohttp's server knows no connection cap, no age, and no time limit for a header that has begun.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import TYPE_CHECKING, Any, cast

from aiohttp.client_exceptions import ClientPayloadError
from aiohttp.http_exceptions import HttpProcessingError, TransferEncodingError
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import RequestHandler, _ErrInfo
from aiohttp.web_server import Server
from structlog import get_logger

from ingest import metrics
from ingest.errors import ConfigError
from ingest.listening import BACKLOG, accept_all, refuse_newcomers
from ingest_http.request import Request

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Sequence

    from aiohttp.streams import StreamReader
    from aiohttp.web_request import BaseRequest

    from ingest.settings import LimitSettings
    from ingest_http.reply import Reply
    from ingest_http.settings import HttpSettings

log = get_logger(__name__)

BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
SLOW_READER_SECONDS = 30.0
"""How long a client may take to make room for an answer."""
LINGER_SECONDS = 5.0
"""How long the rest of a body is read and ignored after an early answer."""
HANDSHAKE_SECONDS = 0.2
"""How long begun handshakes have to complete before the listener is closed."""
TAIL_BYTES = 64
GRACE_SECONDS = 1.0
"""How long a connection without a request is kept after the listener has closed: its client may
have a request on the way."""


def require_c_parser() -> None:
    """Refuse to run on aiohttp's pure-Python HTTP parser: slow, and home of smuggling bugs."""
    from aiohttp import http_parser  # noqa: PLC0415 - imported only to be looked at

    if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
        raise ConfigError(["aiohttp's C parser is missing: install aiohttp from a wheel"])


class Connection(RequestHandler):
    """One client's connection.

    aiohttp parses, buffers and bounds what is pipelined; the loop over the requests is our own,
    because aiohttp's makes a task, a writer and a large request object for each, which together
    cost as much as everything else that is done for a small request.
    """

    __slots__ = (
        "_closes_at",
        "_door",
        "_header_began",
        "_header_timer",
        "_payload",
        "address",
        "idle_since",
    )

    def __init__(self, door: Door, **arguments: Any) -> None:
        super().__init__(door.server, **arguments)
        self._door = door
        self._closes_at = self._loop.time() + door.max_age_seconds * random.uniform(0.8, 1.0)  # noqa: S311
        self._header_timer: asyncio.TimerHandle | None = None
        self._header_began = False  # behind the request that is being answered
        self._payload = EMPTY_PAYLOAD
        self._keepalive = True  # one that never sends anything is idle as well
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

    async def start(self) -> None:
        """Answer one request after the other until the connection ends."""
        try:
            while not self._force_close and await self._answer_next():
                self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
                if self._keepalive_handle is None:
                    self._keepalive_handle = self._loop.call_at(
                        self._next_keepalive_close_time, self._process_keepalive
                    )
        except ConnectionError:
            pass  # the client is gone
        except asyncio.CancelledError:
            self.force_close()
            raise
        except Exception:
            log.exception("connection_failed")
            self.force_close()
        if not self._force_close:
            self._task_handler = None
            if self.transport is not None:
                self.transport.close()

    async def _answer_next(self) -> bool:
        """Wait for a request and answer it; whether the connection goes on."""
        if not self._messages and not await self._next_message():
            return False
        message, payload = self._messages.popleft()
        if self._parser is not None:
            self._parser.message_consumed()
        if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
            self._resume_reading_if_drained()
        if isinstance(message, _ErrInfo):
            self._write_bad_request()
            return False
        return await self._answer(Request(message, payload, self), payload)

    async def _next_message(self) -> bool:
        if self._header_began:
            self._start_header_timer()
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        except asyncio.CancelledError:
            if self._force_close or self._close:  # this is how aiohttp's protocol ends the wait
                return False
            raise
        finally:
            self._waiter = None
        return True

    async def _answer(self, request: Request, payload: StreamReader) -> bool:
        self._request_in_progress = True
        self._payload = payload
        self._current_request = cast("BaseRequest", request)
        try:
            reply = await self._door.handler(request)
            keep = reply.write(request)
            if self.writing_paused:
                await self.room_to_write()
        finally:
            self._request_in_progress = False
            self._current_request = None
            if self._handler_waiter is not None:
                self._handler_waiter.set_result(None)
        if not payload.is_eof() and not await self._rest_of(payload):
            return False
        return keep and not self._close and not self._upgraded

    async def _rest_of(self, payload: StreamReader) -> bool:
        """Read and ignore the rest of a body, so that its sender can read our answer."""
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                while not payload.is_eof():
                    await payload.readany()
        except (TimeoutError, HttpProcessingError, ClientPayloadError):
            return False
        return True

    def _write_bad_request(self) -> None:
        """What is not HTTP gets no more than a status."""
        metrics.REQUESTS.labels("unknown", "400").inc()
        if self.transport is not None:
            self.transport.write(BAD_REQUEST)

    async def room_to_write(self) -> None:
        """Wait until the client has read enough of what was written.

        Raises:
            ConnectionError: it is gone, or does not read.
        """
        try:
            async with asyncio.timeout(SLOW_READER_SECONDS):
                await self._drain_helper()
        except TimeoutError:
            if self.transport is not None:
                self.transport.abort()  # to close would be to wait until it has read all
            raise ConnectionResetError from None

    def data_received(self, data: bytes) -> None:
        """Parse; from the first byte of a header on, its rest has a limited time."""
        super().data_received(data)
        if self.is_idle():
            self._start_header_timer()
            return
        self._stop_header_timer()
        message, payload = self._messages[-1] if self._messages else (None, self._payload)
        if isinstance(message, _ErrInfo):
            self._break_body()
        self._header_began = payload.is_eof() and not _ends_a_request(data, payload)

    def _break_body(self) -> None:
        """Tell who reads a body that its chunks are broken: the parser tells nobody."""
        payload = self._messages[-2][1] if len(self._messages) > 1 else self._payload
        if not payload.is_eof():
            payload.set_exception(TransferEncodingError("broken chunks"))

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: FBT001, FBT002 - aiohttp's
        """Called for every piece of a body that is read, also where nothing was held up."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

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

    def _start_header_timer(self) -> None:
        if self._header_timer is None:
            seconds = self._door.header_seconds
            self._header_timer = self._loop.call_later(seconds, self._header_too_slow)

    def _stop_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _header_too_slow(self) -> None:
        self._header_timer = None
        metrics.CONNECTIONS_REFUSED.labels("http", "header_seconds").inc()
        self.force_close()


def _ends_a_request(data: bytes, payload: StreamReader) -> bool:
    """Whether ``data``, which completed a request, ends with it: else another header has begun.

    The parser keeps what it has of a header to itself. A body's end is looked at by its last bytes;
    who makes a header look like them has the time of an idle connection instead.
    """
    if data.endswith(b"\r\n\r\n"):  # no body, or the last chunk of one
        return True
    pieces: Sequence[bytes] = () if payload is EMPTY_PAYLOAD else payload._buffer  # noqa: SLF001
    return bool(pieces) and data.endswith(pieces[-1][-TAIL_BYTES:])


class Door:
    """The listening side: every connection of a worker, their limits and their end.

    Args:
        handler: answers one request.
        http: the [http] section.
        limits: the [limits] section.
    """

    def __init__(
        self,
        handler: Callable[[Request], Awaitable[Reply]],
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


async def _unused(_request: BaseRequest) -> Any:
    """Aiohttp's server wants a handler; ours is called by `Connection` itself."""
    raise NotImplementedError
