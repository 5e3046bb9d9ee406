"""One connection to the HTTP front door: its requests, its time limits, its age, and its end.

aiohttp's server knows no age, and no time limit for a header that has begun.
"""

from __future__ import annotations

import asyncio
import random
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from aiohttp.client_exceptions import ClientPayloadError
from aiohttp.http_exceptions import HttpProcessingError, TransferEncodingError
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import RequestHandler, _ErrInfo
from structlog import get_logger

from ingest import metrics
from ingest.errors import ConfigError
from ingest.tls import names_in
from ingest_http.request import Request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp.streams import StreamReader
    from aiohttp.web_request import BaseRequest

    from ingest_http.door import Door

log = get_logger(__name__)

BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
SLOW_READER_SECONDS = 30.0
"""How long a client may take to make room for an answer."""
LINGER_SECONDS = 5.0
"""How long the rest of a body is read and ignored after an early answer."""
TLS_BUFFER_BYTES = 65_536
"""What waits inside TLS in each direction before a side is paused, as on a plain connection."""
TAIL_BYTES = 64


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
        "_arriving",
        "_closes_at",
        "_door",
        "_header_began",
        "_header_timer",
        "_payload",
        "address",
        "certificate_names",
        "idle_since",
        "is_tls",
    )

    def __init__(self, door: Door, sock: socket.socket, address: str, **arguments: Any) -> None:
        super().__init__(door.server, **arguments)
        self._door = door
        self._arriving: socket.socket | None = sock
        self._closes_at = self._loop.time() + door.max_age_seconds * random.uniform(0.8, 1.0)  # noqa: S311
        self._header_timer: asyncio.TimerHandle | None = None
        self._header_began = False  # behind the request that is being answered
        self._payload = EMPTY_PAYLOAD
        self._keepalive = True  # one that never sends anything is idle as well
        self.address = address
        self.is_tls = False
        self.certificate_names: tuple[str, ...] = ()
        self.idle_since = self._loop.time()

    @property
    def is_arriving(self) -> bool:
        """Whether it has no transport yet, because of a TLS handshake."""
        return self._arriving is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to serve; a TLS handshake is done."""
        self._arriving = None
        if self._force_close:  # it was closed meanwhile
            cast("asyncio.Transport", transport).abort()
            return
        if transport.get_extra_info("sslcontext") is not None:
            self._secured(transport)
        super().connection_made(transport)

    def _secured(self, transport: Any) -> None:
        self.is_tls = True
        self.certificate_names = names_in(transport.get_extra_info("peercert"))
        transport.set_write_buffer_limits(TLS_BUFFER_BYTES)
        transport.set_read_buffer_limits(TLS_BUFFER_BYTES)

    def never_made(self) -> None:
        """Let go of everything: its transport came to nothing."""
        if self._arriving is not None:
            self._arriving.close()
        self._parser = None  # it refers to us

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
            await self._send_everything()
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
        if self._messages:
            await asyncio.sleep(0)  # many came together: others have their turn in between
        elif not await self._next_message():
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

    async def _send_everything(self) -> None:
        """Before it is closed: closing has no time limit without TLS, and a short one with it."""
        if self.transport is not None and not self._force_close:
            self.transport.set_write_buffer_limits(1)  # uvloop's TLS has no end of waiting for 0
            if self.writing_paused:
                await self.room_to_write()

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

    def force_close(self) -> None:
        """Close it, also while it arrives; an answer that is not read holds it for some time."""
        transport = self.transport
        super().force_close()
        if self._arriving is not None:  # its transport sees the end, whatever it is about to do
            with suppress(OSError):
                self._arriving.shutdown(socket.SHUT_RDWR)
        elif transport is not None and transport.get_write_buffer_size():
            self._loop.call_later(SLOW_READER_SECONDS, transport.abort)

    def is_idle(self) -> bool:
        """Whether no request is there, nor being handled; part of a header may be."""
        if self._waiter is None:
            return self._arriving is not None
        return not self._waiter.done()

    def owes_an_answer(self) -> bool:
        """Whether a request is there that has no answer, or whose answer is not sent."""
        return not (self._force_close or self._task_handler is None or self.is_idle())

    @property
    def is_closed_by_us(self) -> bool:
        """Whether its end was not the client's doing."""
        return self._force_close

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
