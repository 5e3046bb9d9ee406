"""Bodies on their way in: chunks, leave to send them, time, room, and clients that go away."""

from __future__ import annotations

import asyncio
import gzip
import json
import math
import socket
import struct
import time
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import zstandard

from ingest.settings import FileContent
from tests import http_door
from tests.held import HELD_SECONDS, timed_callbacks
from tests.http_door import LETTERS, array, chunked, counted, ndjson, open_door, request, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.http_door import Client, OpenDoor

door = http_door.door

CHUNKED = "Transfer-Encoding: chunked"
EXPECT = "Expect: 100-continue"
EVENT = b'{"a":"%b"}' % (b"x" * 1000)


def received() -> float:
    """How many events of the source ``orders`` have been received, ever."""
    return counted("ingest_events_received_total", source="orders")


# Chunks.


@pytest.mark.parametrize(
    "wire",
    [
        chunked(EVENT),
        chunked(*[bytes([byte]) for byte in EVENT]),
        chunked(EVENT[:1], EVENT[1:]),
        chunked(EVENT).replace(b"\r\n", b";name=value\r\n", 1),
        chunked(EVENT).replace(b"3e8", b"0003E8", 1),
        chunked(EVENT)[:-2] + b"Trailer-Field: x\r\n\r\n",
    ],
    ids=["one", "single bytes", "two", "extension", "zeros and upper case", "trailer"],
)
async def test_a_chunked_body_is_put_together(door: OpenDoor, wire: bytes) -> None:
    """However it is cut, and the connection goes on behind it."""
    client = await door.connect()
    for _ in range(2):
        assert (await client.ask(request(wire, CHUNKED))).counts == {"accepted": 1}
    assert [record.value.partition(b'"data":')[2][:-1] for record in door.records()] == [EVENT] * 2


async def test_an_empty_chunked_body_is_an_empty_body(door: OpenDoor) -> None:
    """400 as JSON, no events as lines."""
    answer = await door.post(chunked(), CHUNKED)
    assert (answer.status, answer.code) == (400, "empty_body")
    assert (await door.post(chunked(), CHUNKED, media="application/x-ndjson")).status == 200


@pytest.mark.parametrize("encode", [gzip.compress, zlib.compress, zstandard.compress])
async def test_a_chunked_body_may_be_compressed(
    door: OpenDoor, encode: Callable[[bytes], bytes]
) -> None:
    """The chunks are of what was compressed, cut anywhere."""
    name = {gzip.compress: "gzip", zlib.compress: "deflate"}.get(encode, "zstd")
    body = encode(array(EVENT, EVENT))
    wire = chunked(body[:7], body[7:])
    assert (await door.post(wire, CHUNKED, f"Content-Encoding: {name}")).counts == {"accepted": 2}


@pytest.mark.parametrize(
    "wire",
    [
        b"5\r\n{}xxxyy\r\n0\r\n\r\n",
        b"x\r\n{}\r\n0\r\n\r\n",
        b"-2\r\n{}\r\n0\r\n\r\n",
        b"\r\n{}\r\n0\r\n\r\n",
        b"fffffffffffffffffffff\r\n{}\r\n",
        b"2\n{}\n0\n\n",
    ],
)
async def test_broken_chunks_are_400_and_end_the_connection(wire: bytes) -> None:
    """Nobody knows where the next request would begin, nor need anybody wait for more."""
    async with open_door(limits={"body_seconds": 1.0}) as door:
        client = await door.connect()
        await client.send(request(b"2\r\n{}\r\n", CHUNKED))
        await until(lambda: door.budget.used_bytes)
        await client.send(wire + request())
        answer = await client.answer()
        assert (answer.status, answer.code) == (400, "bad_body")
        assert await client.rest(1.0) == b""
        assert door.is_untouched()


async def test_chunks_that_break_after_the_answer_are_no_error_of_ours(door: OpenDoor) -> None:
    """The answer stands, the connection ends, and nothing is logged as an error."""
    client = await door.connect()
    answer = await client.ask(request(b"2\r\n{}\r\n", CHUNKED, key="wrong"))
    assert answer.status == 401
    await client.send(b"broken\r\n")
    await client.closed(1.0)


# Leave to send a body.


async def continued(client: Client, head: bytes) -> int:
    """Send the header alone; the status that comes back."""
    await client.send(head)
    return (await client.head())[0]


async def test_leave_is_given_when_all_is_fine(door: OpenDoor) -> None:
    """100 comes once, then the answer; the next request needs no leave."""
    client = await door.connect()
    data = request(EVENT, EXPECT)
    for _ in range(2):
        assert await continued(client, data[: -len(EVENT)]) == 100
        assert (await client.ask(EVENT)).status == 200
    assert (await client.ask(request())).status == 200


async def test_leave_is_given_for_chunks_as_well(door: OpenDoor) -> None:
    """Their length is not known before they are there."""
    client = await door.connect()
    assert await continued(client, request(b"", CHUNKED, EXPECT)) == 100
    assert (await client.ask(chunked(EVENT))).status == 200


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        ({"key": "wrong"}, 401),
        ({"source": "nowhere"}, 404),
        ({"media": "text/plain"}, 415),
        ({"method": "PUT"}, 405),
    ],
)
async def test_no_leave_is_given_for_what_is_refused(
    door: OpenDoor, parts: dict[str, str], status: int
) -> None:
    """The first thing that comes is the refusal, before a byte of the body."""
    client = await door.connect()
    await client.send(request(EVENT, EXPECT, **parts)[: -len(EVENT)])
    assert (await client.answer()).status == status


async def test_no_leave_is_given_for_what_is_too_large_or_has_no_room(door: OpenDoor) -> None:
    """413 by the length alone, 503 by the budget alone."""
    client = await door.connect()
    await client.send(request(b"", EXPECT, "Content-Length: 999999999"))
    assert (await client.answer()).status == 413
    lease = door.budget.reserve(door.budget.limit_bytes)
    assert lease is not None
    client = await door.connect()
    await client.send(request(b"", EXPECT, "Content-Length: 1000"))
    assert (await client.answer()).status == 503
    lease.release()


async def test_who_does_not_wait_for_leave_needs_none(door: OpenDoor) -> None:
    """With the whole body there, the answer comes at once."""
    assert (await door.post(EVENT, EXPECT)).status == 200


async def test_http_1_0_knows_no_leave(door: OpenDoor) -> None:
    """An older client would take 100 for its answer (RFC 9110, section 10.1.1)."""
    client = await door.connect()
    await client.send(request(EVENT, EXPECT, version="1.0")[: -len(EVENT)])
    await asyncio.sleep(0.05)  # time for leave that must not come
    assert (await client.ask(EVENT)).status == 200


async def test_any_other_expectation_is_417(door: OpenDoor) -> None:
    """It cannot be met."""
    assert (await door.post(EVENT, "Expect: a-miracle")).status == 417


# Time.


@pytest.mark.parametrize("headers", [("Content-Length: 1000",), (CHUNKED,), (EXPECT, CHUNKED)])
async def test_a_body_that_does_not_come_in_time_is_408(headers: tuple[str, ...]) -> None:
    """The time is that of the whole body, however steadily it drips."""
    async with open_door(limits={"body_seconds": 0.3}) as door:
        client, begun = await door.connect(), time.monotonic()
        await client.send(request(b"", *headers))
        dripping = asyncio.create_task(_drip(client, b"1\r\n{\r\n" if CHUNKED in headers else b"{"))
        if EXPECT in headers:
            assert (await client.head())[0] == 100
        answer = await client.answer()
        dripping.cancel()
        assert (answer.status, answer.code) == (408, "body_timeout")
        assert 0.25 < time.monotonic() - begun < 2
        assert door.is_untouched()


async def _drip(client: Client, piece: bytes) -> None:
    while True:
        await client.send(piece)
        await asyncio.sleep(0.02)


async def test_a_body_that_comes_slowly_but_in_time_is_taken(door: OpenDoor) -> None:
    """Nothing but the limit counts."""
    client = await door.connect()
    await client.send(request(b"", f"Content-Length: {len(EVENT)}"))
    for start in range(0, len(EVENT), 100):
        await client.send(EVENT[start : start + 100])
        await asyncio.sleep(0.01)
    assert (await client.answer()).status == 200


# Room.


async def test_a_body_of_the_largest_size_is_taken(door: OpenDoor) -> None:
    """Ten megabytes in ten thousand events; the answer has them all, the budget none."""
    events = [b'{"n":%d,"a":"%b"}' % (n, b"x" * 1020) for n in range(10_000)]
    body = array(*events)
    body += b" " * (10_485_760 - len(body))
    assert (await door.post(body)).counts == {"accepted": 10_000}
    assert [value["data"]["n"] for value in door.values()] == list(range(10_000))


async def test_what_is_in_flight_is_in_the_budget(door: OpenDoor) -> None:
    """From the header on, until Kafka has it."""
    client = await door.connect()
    await client.send(request(b"", "Content-Length: 1000"))
    await until(lambda: door.budget.used_bytes >= 1000)
    door.producer.answering.clear()
    await client.send(b'{"a":"%b"}' % (b"x" * 992))
    await until(door.records)
    assert door.budget.used_bytes == 2 * len(door.records()[0].value)
    door.producer.answering.set()
    assert (await client.answer()).status == 200
    assert door.budget.used_bytes == 0


async def test_what_is_unknown_stays_in_the_budget_until_kafka_has_let_go() -> None:
    """Answered is not settled: the bytes are still held."""
    async with open_door(limits={"ack_seconds": 0.1}) as door:
        door.producer.answering.clear()
        assert (await door.post(EVENT)).status == 504
        assert door.budget.used_bytes >= len(EVENT)
        door.producer.answering.set()
        await until(lambda: door.budget.used_bytes == 0)


async def test_a_body_whose_length_does_not_fit_the_budget_is_503(door: OpenDoor) -> None:
    """Before a byte of it is there, and whoever comes when there is room is served."""
    client = await door.connect()
    with almost_full(door, room=300_000):
        await client.send(request(b"", "Content-Length: 200000"))
        answer = await client.answer()
        assert (answer.status, answer.code) == (503, "overloaded")
        assert "results" not in answer.document
    assert (await door.post(b'{"a":"%b"}' % (b"x" * 200_000))).status == 200


async def test_a_body_of_unknown_length_that_does_not_fit_is_503(door: OpenDoor) -> None:
    """As soon as too much of it is there."""
    client = await door.connect()
    with almost_full(door, room=300_000):
        await client.send(request(b"10000\r\n%b\r\n" % (b" " * 65_536) * 3, CHUNKED))
        answer = await client.answer()
        assert (answer.status, answer.code) == (503, "overloaded")
        assert "results" not in answer.document


async def test_what_a_body_inflates_to_must_fit_the_budget(door: OpenDoor) -> None:
    """A small body that becomes a large one is 503 before anybody looks at what it says."""
    body = gzip.compress(b"x" * 9_000_000)
    with almost_full(door, room=3_000_000):
        answer = await door.post(body, "Content-Encoding: gzip")
    assert (answer.status, answer.code) == (503, "overloaded")


@contextmanager
def almost_full(opened: OpenDoor, room: int) -> Iterator[None]:
    """A budget of which only ``room`` is left."""
    lease = opened.budget.reserve(opened.budget.limit_bytes - room)
    assert lease is not None
    yield
    lease.release()


# Clients that go away.


def reset(client: Client) -> None:
    """Go away with a reset instead of a polite end."""
    option = struct.pack("ii", 1, 0)
    client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, option)
    client.abort()


def leave(client: Client) -> None:
    """Go away politely."""
    client.abort()


GOING = pytest.mark.parametrize("go", [leave, reset])


@GOING
@pytest.mark.parametrize(
    "part",
    [
        request(EVENT)[:10],
        request(EVENT)[: -len(EVENT)],
        request(EVENT)[:-1],
        request(b"a\r\n", CHUNKED),
        request(EVENT * 200, "Content-Encoding: gzip")[:-1],
    ],
    ids=["in the header", "before the body", "in the body", "in a chunk", "in a large body"],
)
async def test_a_client_that_goes_before_its_end_leaves_nothing(
    door: OpenDoor, go: Callable[[Client], None], part: bytes
) -> None:
    """Nothing is taken, and neither room nor connection stays behind."""
    before, clients = received(), [await door.connect() for _ in range(10)]
    for client in clients:
        await client.send(part)
    if b"\r\n\r\n" in part:
        await until(lambda: door.budget.used_bytes)
    for client in clients:
        go(client)
    await until(lambda: not (len(door.door) or door.budget.used_bytes), seconds=2)
    assert received() == before
    assert door.is_untouched()


@GOING
@pytest.mark.parametrize("state", ["reachable", "answering"])
async def test_the_events_of_a_client_that_does_not_wait_are_counted_once(
    door: OpenDoor, go: Callable[[Client], None], state: str
) -> None:
    """They go on to Kafka without it, rejects to the dead letters."""
    before = received(), counted("ingest_events_total", source="orders", outcome="acked")
    getattr(door.producer, state).clear()
    client = await door.connect()
    await client.send(request(b"[{},1,{}]"))
    await until(lambda: received() - before[0] == 3)
    go(client)
    await until(lambda: not len(door.door))
    assert door.budget.used_bytes > 0
    getattr(door.producer, state).set()
    await until(lambda: door.budget.used_bytes == 0)
    assert len(door.records()) == 2
    assert [letter.value for letter in door.records(LETTERS)] == [b"1"]
    await until(
        lambda: counted("ingest_events_total", source="orders", outcome="acked") - before[1] == 2
    )


async def test_a_client_that_goes_without_its_answer_in_an_outage_leaves_no_trace() -> None:
    """Its events are ``failed`` once, the room is free, and nothing comes later."""
    async with open_door(limits={"ack_seconds": 0.2}) as door:
        before = counted("ingest_events_total", source="orders", outcome="failed")
        door.producer.reachable.clear()
        client = await door.connect()
        await client.send(request(b"[{},{}]"))
        await until(lambda: door.budget.used_bytes)
        client.abort()
        await until(lambda: door.budget.used_bytes == 0)
        door.producer.reachable.set()
        assert counted("ingest_events_total", source="orders", outcome="failed") - before == 2
        assert door.records() == []


async def test_requests_behind_the_one_that_a_client_left_are_not_taken(door: OpenDoor) -> None:
    """Nobody would get to know of them."""
    before = received()
    door.producer.reachable.clear()
    client = await door.connect()
    await client.send(request(b'{"id":"1"}') + request(b'{"id":"2"}'))
    await until(lambda: received() - before == 1)
    client.abort()
    await until(lambda: not len(door.door))
    door.producer.reachable.set()
    await until(lambda: door.budget.used_bytes == 0)
    assert [value["id"] for value in door.values()] == ["1"]


# The event loop.

MANY = 10_000
KILOBYTES = [b'{"customer":"%d","a":"%b"}' % (n, b"x" * 1000) for n in range(MANY)]
SMALL = [b'{"customer":"%d","a":"%b"}' % (n, b"x" * 60) for n in range(MANY)]
BODIES: dict[str, tuple[str, str, bytes]] = {
    "large events": ("orders", "json", array(*[b'{"a":"%b"}' % (b"x" * 900_000)] * 11)),
    "kilobytes": ("orders", "json", array(*KILOBYTES)),
    "kilobytes in lines": ("orders", "x-ndjson", ndjson(*KILOBYTES)),
    "keys": ("keyed", "json", array(*KILOBYTES)),
    "full results": ("orders?results=all", "json", array(*KILOBYTES)),
    "small events": ("keyed", "json", array(*SMALL)),
    "small events in lines": ("keyed", "x-ndjson", ndjson(*SMALL)),
    "no objects": ("orders", "json", array(*[b"1"] * MANY)),
    "bad lines": ("orders", "x-ndjson", ndjson(*[b'{"a":1'] * MANY)),
    "lines that are not UTF-8": ("orders", "x-ndjson", ndjson(*[b'{"\xff":1}'] * MANY)),
    "bad keys": ("keyed", "json", array(*[b'{"customer":[]}'] * MANY)),
    "refused events": ("compacted", "json", array(*[b"{}"] * MANY)),
    "one wide event": ("orders", "json", b'{"a":[%b[]]}' % (b"[]," * 340_000)),
    "some wide events": ("orders", "json", array(*[b'{"a":[%b[]]}' % (b"[]," * 85_000)] * 4)),
    "too many elements": ("orders", "json", b"[%b1]" % (b"1," * 500_000)),
    "too many lines": ("orders", "x-ndjson", b"1\n" * 500_000),
    "blank lines": ("orders", "x-ndjson", b"\n" * 1_000_000),
    "escapes": ("orders", "json", b'{"a":"%b"}' % (b"\\u00fc" * 150_000)),
    "checked events": ("checked", "json", array(*SMALL)),
    "mismatches": ("checked", "json", array(*[b'{"customer":1}'] * MANY)),
    "warnings": ("warned", "json", array(*[b'{"customer":1}'] * MANY)),
    "one wide checked event": ("checked", "json", b'{"a":[%b[]]}' % (b"[]," * 300_000)),
    "a dry run": ("keyed?dry_run=1&results=all", "json", array(*SMALL)),
}
"""What may take long -> source, media type and body."""
SCHEMA = FileContent("", b'{"properties":{"customer":{"type":"string"}},"required":["customer"]}')
CHECKED = {"checked": {"schema": SCHEMA}, "warned": {"schema": SCHEMA, "validate": "warn"}}


async def _longest_callback(
    target: str, media: str, body: bytes, *options: str, away: bool = False
) -> tuple[float, str]:
    """The callback that took most CPU time while the door answered ``body``, and its name."""
    limits = {"ack_seconds": 0.1 if away else 10}
    async with open_door(limits=limits, sources=CHECKED) as opened:
        if away:
            opened.producer.reachable.clear()
        with timed_callbacks() as times:
            options = ("-H", f"Content-Type: application/{media}", *options)
            assert json.loads(await opened.curl(target, *options, body=body))
        assert any("Connection" in name for _, name in times)
        return max(times)


def longest_callback(*arguments: Any, **options: Any) -> tuple[float, str]:
    """The same on asyncio's own event loop, which can be measured; neighbours only add to it.

    So the least of three measurements counts, or the first one that is short enough.
    """
    least = (math.inf, "")
    for _ in range(3):
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            least = min(least, runner.run(_longest_callback(*arguments, **options)))
        if least[0] < HELD_SECONDS:
            break
    return least


@pytest.mark.parametrize(("target", "media", "body"), BODIES.values(), ids=BODIES)
def test_no_body_holds_the_event_loop(target: str, media: str, body: bytes) -> None:
    """No callback takes more than 50 ms of CPU time, whatever a body is made of."""
    assert longest_callback(target, media, body) < (HELD_SECONDS, "")


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_no_inflated_body_holds_the_event_loop(encoding: str) -> None:
    """Ten megabytes are inflated elsewhere."""
    body = array(*KILOBYTES)
    encoded = gzip.compress(body, 1) if encoding == "gzip" else zstandard.compress(body)
    header = ("-H", f"Content-Encoding: {encoding}")
    assert longest_callback("orders", "json", encoded, *header) < (HELD_SECONDS, "")


def test_no_outage_holds_the_event_loop() -> None:
    """Ten thousand events that are all to be sent again, and their answer."""
    longest = longest_callback("orders", "json", array(*KILOBYTES), away=True)
    assert longest < (HELD_SECONDS, "")
