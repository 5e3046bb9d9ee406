"""Answers, written as one piece of bytes.

aiohttp lets a handler return anything that has `prepare`, `write_eof` and `keep_alive`; its own
responses cost a quarter of a small request's CPU time.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from time import gmtime, strftime, time
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp.web_request import BaseRequest

    from ingest_http.connection import Connection

JSON = "application/json"
SLOW_READER_SECONDS = 30.0
"""How long a client may take to make room for an answer."""

REASONS = {status.value: status.phrase for status in HTTPStatus}


class _Clock:
    """The Date header (RFC 9110, section 6.6.1), formatted once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._text = ""

    def __call__(self) -> str:
        now = int(time())
        if now != self._second:
            self._second = now
            self._text = strftime("%a, %d %b %Y %H:%M:%S GMT", gmtime(now))
        return self._text


_date = _Clock()


class Reply:
    """One HTTP/1.1 answer.

    Args:
        status: the HTTP status.
        body: the content.
        content_type: its media type.
        headers: further header fields; values must be free of control characters.
        close: whether the connection ends with this answer.
    """

    __slots__ = (
        "_body",
        "_close",
        "_content_type",
        "_headers",
        "_protocol",
        "keep_alive",
        "status",
    )

    def __init__(
        self,
        status: int,
        body: bytes,
        content_type: str = JSON,
        headers: Mapping[str, str] | None = None,
        *,
        close: bool = False,
    ) -> None:
        self.status = status
        self.keep_alive = False
        self._body = body
        self._content_type = content_type
        self._headers = headers
        self._close = close

    async def prepare(self, request: BaseRequest) -> None:
        """Decide whether the connection is kept, and write the answer."""
        self._protocol = cast("Connection", request.protocol)
        keep = request.keep_alive and not self._close
        self.keep_alive = keep and not self._protocol.wants_to_close()
        transport = request.transport
        if transport is None:
            raise ConnectionResetError
        body = b"" if request.method == "HEAD" else self._body
        transport.write(self._head(request.version.minor) + body)

    async def write_eof(self) -> None:
        """Wait for a slow reader, but not for ever."""
        protocol = self._protocol
        if protocol.writing_paused:
            try:
                async with asyncio.timeout(SLOW_READER_SECONDS):
                    await protocol._drain_helper()  # noqa: SLF001 - what aiohttp's own writer awaits
            except TimeoutError:
                protocol.force_close()
                raise ConnectionResetError from None

    def _head(self, minor: int) -> bytes:
        connection = ""
        if not self.keep_alive:
            connection = "Connection: close\r\n"
        elif minor == 0:
            connection = "Connection: keep-alive\r\n"
        more = ""
        if self._headers:
            more = "".join(f"{name}: {value}\r\n" for name, value in self._headers.items())
        return (
            f"HTTP/1.1 {self.status} {REASONS[self.status]}\r\n"
            f"Content-Type: {self._content_type}\r\nContent-Length: {len(self._body)}\r\n"
            f"Date: {_date()}\r\n{connection}{more}\r\n"
        ).encode()
