"""One HTTP request as its connection hands it over: a few fields, looked at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

    from aiohttp.http_parser import RawRequestMessage
    from aiohttp.streams import StreamReader
    from multidict import CIMultiDictProxy

    from ingest_http.connection import Connection


class Request:
    """A request whose header is complete; its body may still be coming.

    Attributes:
        method: as sent.
        target: the request target (RFC 9112, section 3.2).
        headers: the header fields.
        content: the body as it came, not decoded.
        connection: where it came from.
        keep_alive: whether the client wants to keep the connection.
        minor_version: of HTTP/1.
    """

    __slots__ = (
        "connection",
        "content",
        "headers",
        "keep_alive",
        "method",
        "minor_version",
        "target",
    )

    def __init__(
        self, message: RawRequestMessage, content: StreamReader, connection: Connection
    ) -> None:
        self.method: str = message.method
        self.target: str = message.path
        self.headers: CIMultiDictProxy[str] = message.headers
        self.keep_alive: bool = not message.should_close
        self.minor_version: int = message.version.minor
        self.content = content
        self.connection = connection

    @property
    def content_length(self) -> int | None:
        """What the header says of the body's length; the parser has seen that it is a number."""
        length = self.headers.get("Content-Length")
        return None if length is None else int(length)

    @property
    def transport(self) -> asyncio.Transport | None:
        """None once the client is gone."""
        return self.connection.transport

    def _cancel(self, error: BaseException) -> None:
        """Called by aiohttp's protocol when the connection is lost: no more of the body comes."""
        self.content.set_exception(error)
