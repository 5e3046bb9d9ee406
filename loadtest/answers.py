"""The client's side of HTTP/1.1, as little of it as a load tool needs (RFC 9112).

A client library would cost more CPU time than the gateway it measures. Only what our gateways
send is understood: answers with a ``Content-Length``, one at a time, no pipelining.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Sequence

NDJSON = "application/x-ndjson"
JSON = "application/json"


class UnreadableAnswerError(Exception):
    """The answer is not HTTP as far as it is spoken here."""


class Connection(asyncio.Protocol):
    """A kept-alive connection; subclasses say what to do with an answer.

    Attributes:
        transport: the open connection, None before and after.
        keep: whether the connection stays open after the last answer.
    """

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.keep = True
        self._chunks: list[bytes] = []
        self._missing = 0  # bytes of the current answer that have yet to come; 0: not known

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep ``transport`` for writing."""
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Forget the transport and tell `broken`."""
        self.transport = None
        self.broken()

    def data_received(self, data: bytes) -> None:
        """Collect one answer and tell `answered`."""
        if self._chunks:
            self._chunks.append(data)
            if self._missing > len(data):
                self._missing -= len(data)
                return
            data = b"".join(self._chunks)
            self._chunks.clear()
        end = data.find(b"\r\n\r\n") + 4
        total = end + _content_length(data[:end]) if end > 3 else 0
        if len(data) < total or not total:
            self._chunks.append(data)
            self._missing = total - len(data) if total else 0
            return
        self._missing = 0
        self.keep = b"\r\nconnection: close" not in data[:end].lower()
        self.answered(int(data[9:12]), data[end:])

    def answered(self, status: int, body: bytes) -> None:
        """One answer has come whole."""
        raise NotImplementedError

    def broken(self) -> None:
        """The connection has ended, whoever ended it."""
        raise NotImplementedError


class Exchange(Connection):
    """A connection for coroutines: one request, then its answer."""

    def __init__(self) -> None:
        super().__init__()
        self._waiter: asyncio.Future[tuple[int, bytes]] | None = None

    async def ask(self, request: Sequence[bytes], seconds: float) -> tuple[int, bytes]:
        """Send ``request`` and wait for its answer: status and body.

        Raises:
            ConnectionError: the connection broke before the answer was whole.
            TimeoutError: nothing came in time; the connection is closed.
        """
        if self.transport is None:
            raise ConnectionResetError
        self._waiter = asyncio.get_running_loop().create_future()
        self.transport.writelines(request)
        try:
            async with asyncio.timeout(seconds):
                return await self._waiter
        except TimeoutError:
            self.close()
            raise

    def close(self) -> None:
        """Hang up, and forget the connection at once: nobody shall ask on it any more."""
        transport, self.transport = self.transport, None
        if transport is not None:
            transport.abort()

    def answered(self, status: int, body: bytes) -> None:
        """Hand the answer to who waits for it."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result((status, body))
        if not self.keep:
            self.close()

    def broken(self) -> None:
        """Tell who waits that nothing will come."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(ConnectionResetError())


def endpoint(url: str) -> tuple[str, int]:
    """Host and port of ``http://host:port``."""
    parts = urlsplit(url)
    return parts.hostname or "127.0.0.1", parts.port or 80


def head(url: str, key: str, source: str, length: int, content_type: str = JSON) -> bytes:
    """The header of a POST of ``length`` bytes to ``source``."""
    host, port = endpoint(url)
    return (
        f"POST /v1/events/{source} HTTP/1.1\r\nHost: {host}:{port}\r\n"
        f"Authorization: Bearer {key}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {length}\r\n\r\n"
    ).encode()


def _content_length(header: bytes) -> int:
    lowered = header.lower()
    at = lowered.find(b"\r\ncontent-length:")
    if at < 0:
        raise UnreadableAnswerError("an answer without Content-Length")
    return int(lowered[at + 17 : lowered.index(b"\r\n", at + 17)])
