"""Requests as they come over the wire: targets, versions, pipelining, and what is not HTTP."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests import http_door
from tests.http_door import KEY, Answer, array, chunked, counted, request

if TYPE_CHECKING:
    from tests.http_door import OpenDoor

door = http_door.door

CHUNKED = "Transfer-Encoding: chunked"
HEAD = b"POST /v1/events/orders HTTP/1.1\r\nHost: gateway\r\n"


def ids(opened: OpenDoor) -> list[str]:
    """The ids of the events in the topic ``orders``."""
    return [value["id"] for value in opened.values()]


# Targets.


@pytest.mark.parametrize(
    "target",
    [
        "/v1/events/orders?",
        "/v1/events/orders?a=b&c",
        "/v1/events/orders?%ff",
        "/v1/events/%6frders",
        "/v1/events/%6F%72%64%65%72%73",
        "http://gateway/v1/events/orders",
        "HTTP://gateway:8080/v1/events/orders",
        "https://user@gateway/v1/events/%6frders?a=/b/c",
        "http://[::1]:8080/v1/events/orders",
    ],
)
async def test_each_way_to_write_a_target_leads_to_its_source(door: OpenDoor, target: str) -> None:
    """Percent-encoded or not, with a query or without, in origin or in absolute form."""
    assert (await door.post(target=target)).status == 200
    assert len(door.records()) == 1


async def test_a_target_in_absolute_form_has_its_query(door: OpenDoor) -> None:
    """The query counts as it does in the usual form."""
    answer = await door.post(target="http://gateway/v1/events/orders?results=all")
    assert [each["topic"] for each in answer.results] == ["orders"]


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/v1",
        "/v1/events",
        "/v1/events/",
        "/v1/events/orders/",
        "/v1/events/orders/x",
        "/v1/events//orders",
        "//v1/events/orders",
        "/V1/events/orders",
        "/v1/events/../events/orders",
        "/v2/events/orders",
        "http://gateway",
        "http://gateway/",
        "http://gateway/v1/events",
    ],
)
@pytest.mark.parametrize("method", ["POST", "GET", "OPTIONS"])
async def test_any_other_path_is_404_without_a_key(
    door: OpenDoor, target: str, method: str
) -> None:
    """Whatever the method."""
    answer = await door.post(target=target, method=method, key=None)
    assert (answer.status, answer.code) == (404, "not_found")


@pytest.mark.parametrize(
    "name", ["Orders", "orders%2Fx", "orders%00", "%ff%fe", "orders%20", "%C3%BC", "a" * 5000, "%"]
)
async def test_a_name_that_is_no_source_is_404(door: OpenDoor, name: str) -> None:
    """However odd it is."""
    answer = await door.post(source=name)
    assert (answer.status, answer.code) == (404, "unknown_source")


# Versions and the life of a connection.


@pytest.mark.parametrize(
    ("version", "headers", "stays"),
    [
        ("1.1", [], True),
        ("1.1", ["Connection: keep-alive"], True),
        ("1.1", ["Connection: close"], False),
        ("1.1", ["Connection: x, Close"], False),
        ("1.0", [], False),
        ("1.0", ["Connection: keep-alive"], True),
        ("1.0", ["Connection: close"], False),
    ],
)
@pytest.mark.parametrize("body", [b"{}", b"{"], ids=["accepted", "refused"])
async def test_a_connection_lives_as_its_client_wants(
    door: OpenDoor, version: str, headers: list[str], body: bytes, *, stays: bool
) -> None:
    """The answer says what happens to it, in the words of the version."""
    client = await door.connect()
    answer = await client.ask(request(body, *headers, version=version))
    assert answer.closes is not stays
    if stays:
        assert answer.headers.get("connection") == ("keep-alive" if version == "1.0" else None)
        assert (await client.ask(request())).status == 200
    else:
        assert await client.rest() == b""


async def test_http_1_0_needs_no_host(door: OpenDoor) -> None:
    """As its specification has it."""
    data = request(version="1.0").replace(b"Host: gateway\r\n", b"")
    assert (await door.ask(data)).status == 200


async def test_pipelined_requests_are_answered_in_order(door: OpenDoor) -> None:
    """More of them than are read ahead, some refused, some chunked."""
    bodies = [b'{"id":"%d"}' % n if n % 5 else b"{" for n in range(200)]
    wire = [
        request(chunked(body), CHUNKED, f"X-Request-Id: {n}")
        if n % 3
        else request(body, f"X-Request-Id: {n}")
        for n, body in enumerate(bodies)
    ]
    client = await door.connect()
    await client.send(b"".join(wire))
    answers = [await client.answer() for _ in wire]
    assert [answer.headers["x-request-id"] for answer in answers] == [str(n) for n in range(200)]
    assert [answer.status for answer in answers] == [200 if n % 5 else 400 for n in range(200)]
    assert ids(door) == [str(n) for n in range(200) if n % 5]


async def test_a_request_may_come_byte_by_byte(door: OpenDoor) -> None:
    """And so may the one behind it."""
    client = await door.connect()
    for number in range(2):
        for byte in request(b'{"id":"%d"}' % number):
            await client.send(bytes([byte]))
            await asyncio.sleep(0)
        assert (await client.answer()).status == 200
    assert ids(door) == ["0", "1"]


async def test_many_connections_at_once_get_their_own_answers(door: OpenDoor) -> None:
    """Each answer belongs to its request, and every event is in the topic once."""
    clients = [await door.connect() for _ in range(50)]

    async def ask(number: int, round_: int) -> None:
        own = f"{number}-{round_}"
        body = array(*[b'{"id":"%b-%d"}' % (own.encode(), n) for n in range(20)])
        answer = await clients[number].ask(request(body, f"X-Request-Id: {own}"))
        assert (answer.counts, answer.headers["x-request-id"]) == ({"accepted": 20}, own)

    for round_ in range(5):
        await asyncio.gather(*[ask(number, round_) for number in range(50)])
    assert len(set(ids(door))) == len(ids(door)) == 50 * 5 * 20


# Headers.


async def test_names_of_headers_have_no_case(door: OpenDoor) -> None:
    """Nor does white space around their values count."""
    body = b"{}"
    lines = [
        b"POST /v1/events/orders HTTP/1.1",
        b"hOST:gateway",
        b"x-api-KEY:\t%b  " % KEY.encode(),
        b"CONTENT-TYPE:application/json\t",
        b"content-LENGTH: %d" % len(body),
    ]
    assert (await door.ask(b"\r\n".join([*lines, b"", body]))).status == 200


async def test_large_headers_are_fine_up_to_a_limit(door: OpenDoor) -> None:
    """Cookies of 8,000 bytes, or a hundred header fields."""
    assert (await door.post(b"{}", f"Cookie: {'x' * 8000}")).status == 200
    assert (await door.post(b"{}", *[f"X-{n}: {n}" for n in range(100)])).status == 200


# What a proxy may see as another request than we do.


@pytest.mark.parametrize(
    "headers",
    [
        ["Transfer-Encoding: chunked", "Content-Length: 5"],
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
        ["Content-Length: 5", "Content-Length: 6"],
        ["Content-Length: 5", "Content-Length: 5"],
        ["Content-Length: 5, 6"],
        ["Content-Length: +5"],
        ["Content-Length: -1"],
        ["Content-Length: 0x5"],
        ["Content-Length: 5 5"],
        ["Content-Length: 99999999999999999999999"],
        ["Content-Length: five"],
        ["Content-Length:"],
        ["Content-Length : 5"],
        ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked, identity"],
        ["Transfer-Encoding: xchunked"],
        ["Transfer-Encoding: \x0bchunked"],
        ["Transfer-Encoding : chunked"],
        [" Transfer-Encoding: chunked"],
        ["X: a\r\n folded", "Content-Length: 5"],
        ["X: a\rTransfer-Encoding: chunked", "Content-Length: 5"],
        ["X: a\nTransfer-Encoding: chunked", "Content-Length: 5"],
        ["Transfer-Encoding: chunked"],  # on HTTP/1.0, see below
    ],
)
async def test_a_body_whose_end_is_disputed_is_refused(door: OpenDoor, headers: list[str]) -> None:
    """A bare 400 and the end: what follows is never taken for a request of its own."""
    smuggled = request(b'{"id":"smuggled"}')
    version = "1.0" if headers == ["Transfer-Encoding: chunked"] else "1.1"
    lines = [f"POST /v1/events/orders HTTP/{version}", "Host: gateway", f"X-API-Key: {KEY}"]
    lines += ["Content-Type: application/json", *headers, "", ""]
    client = await door.connect()
    await client.send("\r\n".join(lines).encode() + b"0\r\n\r\n" + smuggled)
    await client.answer(bare=True)
    assert await client.rest() == b""
    assert door.is_untouched()


@pytest.mark.parametrize("key", [KEY, "wrong"])
@pytest.mark.parametrize("media", ["text/plain", "application/json"])
async def test_the_body_of_a_refused_request_is_no_request(
    door: OpenDoor, key: str, media: str
) -> None:
    """It is skipped, whatever it looks like."""
    inner = request(b'{"id":"smuggled"}')
    client = await door.connect()
    await client.send(request(inner, key=key, media=media) + request(b'{"id":"next"}'))
    assert (await client.answer()).status in {400, 401, 415}
    assert (await client.answer()).status == 200
    assert ids(door) == ["next"]


# What is not HTTP.


GARBAGE = {
    "a TLS hello": bytes.fromhex("1603010200010001fc0303") + bytes(range(200)),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.6\r\n",
    "syslog": b"<34>1 2026-01-02T03:04:05Z host app - - - text\r\n\r\n",
    "JSON": b'{"a":1}\r\n\r\n',
    "zeros": bytes(1000),
    "no target": b"POST\r\n\r\n",
    "HTTP/3.0": b"POST / HTTP/3.0\r\nHost: x\r\n\r\n",
    "HTTP/1.x": b"POST / HTTP/1.x\r\nHost: x\r\n\r\n",
    "a method of its own": b"post / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a space in the target": b"POST /v1/ev ents/orders HTTP/1.1\r\nHost: x\r\n\r\n",
    "a broken authority": b"POST http://[/v1/events/orders HTTP/1.1\r\nHost: x\r\n\r\n",
    "a broken port": b"POST http://x:y/v1/events/orders HTTP/1.1\r\nHost: x\r\n\r\n",
    "no host": b"POST /v1/events/orders HTTP/1.1\r\n\r\n",
    "two hosts": HEAD + b"Host: other\r\n\r\n",
    "two types": HEAD + b"Content-Type: a/b\r\nContent-Type: application/json\r\n\r\n",
    "a line without a colon": HEAD + b"X-API-Key\r\n\r\n",
    "a name with a space": HEAD + b"X API Key: x\r\n\r\n",
    "an empty name": HEAD + b": x\r\n\r\n",
    "NUL in a value": HEAD + b"X-API-Key: \0\r\n\r\n",
    "a huge header field": HEAD + b"X: %b\r\n\r\n" % (b"x" * 20_000),
    "a huge header field name": HEAD + b"%b: x\r\n\r\n" % (b"x" * 20_000),
    "a huge target": b"POST /%b HTTP/1.1\r\nHost: x\r\n\r\n" % (b"x" * 20_000),
    "too many header fields": HEAD + b"".join(b"X-%d: x\r\n" % n for n in range(500)) + b"\r\n",
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE)
async def test_what_is_not_http_gets_a_bare_400_and_is_closed(door: OpenDoor, data: bytes) -> None:
    """No document, no header that tells of us; it is counted as unknown."""
    before = counted("ingest_requests_total", source="unknown", status="400")
    client = await door.connect()
    await client.send(data)
    assert set((await client.answer(bare=True)).headers) <= {"content-length", "connection"}
    assert await client.rest() == b""
    assert counted("ingest_requests_total", source="unknown", status="400") - before == 1


async def test_garbage_between_requests_ends_the_connection(door: OpenDoor) -> None:
    """What was answered before counts, and nothing that follows is taken."""
    client = await door.connect()
    assert (await client.ask(request(b'{"id":"1"}'))).status == 200
    await client.send(b"\0garbage\r\n\r\n" + request())
    await client.answer(bare=True)
    assert await client.rest() == b""
    assert ids(door) == ["1"]


async def test_nothing_behind_garbage_is_understood(door: OpenDoor) -> None:
    """A request that follows in the same stream is not taken."""
    client = await door.connect()
    await client.send(b"\0garbage\r\n\r\n" + request())
    await client.answer(bare=True)
    assert await client.rest() == b""
    assert door.is_untouched()


# Other protocols that begin as HTTP.


async def test_an_offer_to_speak_http_2_is_ignored(door: OpenDoor) -> None:
    """``curl --http2`` makes it with every request; the event is taken as usual."""
    offer = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQ")
    client = await door.connect()
    assert (await client.ask(request(b'{"id":"1"}', *offer))).status == 200
    assert (await client.ask(request(b'{"id":"2"}', *offer))).status == 200
    assert ids(door) == ["1", "2"]


async def test_an_upgrade_to_websocket_is_declined(door: OpenDoor) -> None:
    """The request is answered as any other, and the connection ends."""
    offer = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
    client = await door.connect()
    assert (await client.ask(request(b"", *offer, method="GET"))).status == 200
    assert await client.rest() == b""


async def test_the_server_as_a_whole_is_no_source(door: OpenDoor) -> None:
    """``OPTIONS *`` is 404 like any other path."""
    answer = await door.post(b"", target="*", method="OPTIONS", key=None)
    assert (answer.status, answer.code) == (404, "not_found")


async def test_a_proxy_we_are_not(door: OpenDoor) -> None:
    """``CONNECT`` leads nowhere, and the connection ends."""
    client = await door.connect()
    await client.send(b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n")
    status, headers = await client.head()
    body = await client.reader.readexactly(int(headers["content-length"]))
    assert Answer(status, headers, body).status in {400, 404, 405}
    assert await client.rest() == b""
