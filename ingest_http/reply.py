"""Answers, written as one piece of bytes."""

from __future__ import annotations

from http import HTTPStatus
from time import gmtime, strftime, time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ingest_http.request import Request

JSON = "application/json"
NO_CONTENT = 204
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
        request_id: echoed in ``X-Request-Id``.
        content_type: its media type.
        headers: further header fields; values must be free of control characters.
        close: whether the connection ends with this answer.
    """

    __slots__ = ("_body", "_close", "_content_type", "_headers", "_request_id", "status")

    def __init__(
        self,
        status: int,
        body: bytes,
        request_id: str,
        content_type: str = JSON,
        headers: Mapping[str, str] | None = None,
        *,
        close: bool = False,
    ) -> None:
        self.status = status
        self._body = body
        self._request_id = request_id
        self._content_type = content_type
        self._headers = headers
        self._close = close

    def add(self, headers: Mapping[str, str]) -> None:
        """Have further header fields."""
        self._headers = {**(self._headers or {}), **headers}

    def write(self, request: Request) -> bool:
        """Write the answer to ``request``; whether its connection is kept.

        Raises:
            ConnectionError: the client is gone.
        """
        connection = request.connection
        keep = not connection.wants_to_close() and request.keep_alive and not self._close
        transport = connection.transport
        if transport is None:
            raise ConnectionResetError
        body = b"" if request.method == "HEAD" else self._body
        transport.write(self._head(request.minor_version, keep=keep) + body)
        return keep

    def _head(self, minor: int, *, keep: bool) -> bytes:
        more = ""
        if not keep:
            more = "Connection: close\r\n"
        elif minor == 0:
            more = "Connection: keep-alive\r\n"
        if self._headers:
            more += "".join(f"{name}: {value}\r\n" for name, value in self._headers.items())
        if self.status == NO_CONTENT:  # which has neither type nor length (RFC 9110, section 8.6)
            return (
                f"HTTP/1.1 {self.status} {REASONS[self.status]}\r\n"
                f"Date: {_date()}\r\nX-Request-Id: {self._request_id}\r\n{more}\r\n"
            ).encode()
        return (
            f"HTTP/1.1 {self.status} {REASONS[self.status]}\r\n"
            f"Content-Type: {self._content_type}\r\nContent-Length: {len(self._body)}\r\n"
            f"Date: {_date()}\r\nX-Request-Id: {self._request_id}\r\n{more}\r\n"
        ).encode()
