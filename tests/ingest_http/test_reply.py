"""Answers on the wire, as another HTTP client reads them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from http.client import HTTPResponse
from io import BytesIO
from typing import Any

import pytest

from ingest_http.problem import STATUS
from ingest_http.reply import Reply, _Clock


@dataclass
class Wire:
    """What was written, and what an HTTP client wants of a socket."""

    written: list[bytes] = field(default_factory=list)

    def write(self, data: bytes) -> None:
        """Keep it."""
        self.written.append(data)

    def makefile(self, _: str) -> BytesIO:
        """All of it, to be read."""
        return BytesIO(b"".join(self.written))


@dataclass
class Connection:
    """The connection of a request, and what it wants."""

    transport: Wire | None
    closing: bool = False

    def wants_to_close(self) -> bool:
        """Whether the next answer shall be the last."""
        return self.closing


@dataclass
class Request:
    """What an answer asks of its request."""

    connection: Connection = field(default_factory=lambda: Connection(Wire()))
    method: str = "POST"
    keep_alive: bool = True
    minor_version: int = 1


def read(wire: Any) -> tuple[HTTPResponse, bytes]:
    """The answer and its body as Python's own client has them; nothing may be left."""
    response = HTTPResponse(wire)
    response.begin()
    body = response.read()
    assert b"".join(wire.written).endswith(b"\r\n\r\n" + body)
    return response, body


def answered(reply: Reply, request: Any) -> tuple[HTTPResponse, bytes]:
    """The answer to ``request`` as a client reads it."""
    reply.write(request)
    return read(request.connection.transport)


@pytest.mark.parametrize("status", sorted({200, 202, 207, *STATUS.values()}))
def test_an_answer_is_read_as_it_was_meant(status: int) -> None:
    """Status, reason, media type, length, request id and body; in one piece."""
    request = Request()
    response, body = answered(Reply(status, b'{"a":"\xc3\xa4"}', "id-1"), request)
    assert (response.status, response.reason) == (status, HTTPStatus(status).phrase)
    assert response.version == 11
    assert body == b'{"a":"\xc3\xa4"}'
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Content-Length"] == str(len(body))
    assert response.headers["X-Request-Id"] == "id-1"
    assert len(request.connection.transport.written) == 1


def test_more_header_fields_are_added() -> None:
    """Each as it is; none is lost to another."""
    reply = Reply(405, b"", "id", "text/plain", {"Allow": "POST", "Retry-After": "3"}, close=True)
    response, body = answered(reply, Request())
    assert body == b""
    names = ["Content-Type", "Content-Length", "Allow", "Retry-After", "Connection"]
    assert [response.headers[name] for name in names] == ["text/plain", "0", "POST", "3", "close"]


@pytest.mark.parametrize(
    ("wish", "kept"),
    [
        ({}, True),
        ({"client": False}, False),
        ({"connection": True}, False),
        ({"reply": True}, False),
        ({"client": False, "connection": True, "reply": True}, False),
    ],
)
@pytest.mark.parametrize("minor", [0, 1])
def test_a_connection_is_kept_unless_somebody_wants_its_end(
    wish: dict[str, bool], minor: int, *, kept: bool
) -> None:
    """The client, the connection or the answer; and the client is always told."""
    connection = Connection(Wire(), closing=wish.get("connection", False))
    request: Any = Request(connection, keep_alive=wish.get("client", True), minor_version=minor)
    reply = Reply(200, b"{}", "id", close=wish.get("reply", False))
    assert reply.write(request) is kept
    response, _ = read(connection.transport)
    told = {(True, 1): None, (True, 0): "keep-alive"}.get((kept, minor), "close")
    assert response.headers["Connection"] == told


def test_head_is_answered_without_a_body() -> None:
    """The header is that of the answer with its body."""
    request: Any = Request(method="HEAD")
    Reply(405, b"12345", "id").write(request)
    (written,) = request.connection.transport.written
    assert written.endswith(b"\r\n\r\n")
    assert b"\r\nContent-Length: 5\r\n" in written


def test_a_client_that_is_gone_is_an_error_of_the_connection() -> None:
    """Whoever answers learns that nobody reads it."""
    request: Any = Request(Connection(None))
    with pytest.raises(ConnectionError):
        Reply(200, b"{}", "id").write(request)


def test_the_date_is_that_of_the_answer() -> None:
    """In the form of RFC 9110, section 5.6.7, in UTC."""
    before = int(time.time())
    response, _ = answered(Reply(200, b"{}", "id"), Request())
    date = response.headers["Date"]
    assert date.endswith(" GMT")
    assert before <= parsedate_to_datetime(date).timestamp() <= time.time()


def test_the_date_is_written_anew_when_its_second_has_passed() -> None:
    """It is formatted once a second, and not once for all."""
    clock = _Clock()
    before = int(time.time())
    first = clock()
    clock._second -= 3600
    clock._text = "an hour ago"
    for date in (first, clock()):
        assert before <= parsedate_to_datetime(date).timestamp() <= time.time()
