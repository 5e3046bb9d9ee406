"""Whatever bytes a client sends, it gets one of the contract's answers, and never a 500."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
import uvloop
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.http_door import Client, array, chunked, ndjson, open_door, request, unaccounted, until

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from tests.http_door import Answer, OpenDoor

    Run = Callable[[Coroutine[Any, Any, Any]], Any]

WHITE = b" \t\r\n"


def raw_deflate(body: bytes) -> bytes:
    """Deflate without zlib's header, as some clients send it."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()


def halves(encode: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """In two members or frames, where there is enough for two."""
    return lambda body: b"".join(encode(part) for part in (body[:1], body[1:]) if part)


CODERS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("", bytes),
    ("identity", bytes),
    ("gzip", gzip.compress),
    (" GZip ", halves(gzip.compress)),
    ("deflate", zlib.compress),
    ("Deflate", raw_deflate),
    ("zstd", zstandard.compress),
    ("ZSTD", halves(zstandard.compress)),
]
"""What ``Content-Encoding`` may say, and what makes it true."""
REFUSED_CODINGS = ["br", "compress", "x-gzip", "gzip, gzip", "identity, gzip", "gzip;q=1", "\xff"]
MEDIA_TYPES = [
    "application/json",
    "Application/JSON ; charset=UTF-8",
    'application/json;charset="utf-8"; profile=x',
    "application/x-ndjson",
    "application/x-ndjson;charset=us-ascii",
    "application/jsonl",
]
REFUSED_MEDIA_TYPES = [
    "",
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "application/cloudevents+json",
    "application/json, application/json",
    "application/json; charset=utf-16",
    "*/*",
    "\xff",
]
QUERIES = ["", "?results=all", "?dry_run=1", "?results=all&dry_run=1", "?results=&x=%ff"]
LIMITS = {"body_bytes": 3000, "decoded_bytes": 2000, "event_bytes": 200, "batch_events": 20}

REQUESTS = [
    request(b'{"a":1}'),
    request() * 2,
    request(chunked(b"{", b"}"), "Transfer-Encoding: chunked"),
    request(gzip.compress(b"{}"), "Content-Encoding: gzip", "Expect: 100-continue"),
    request(b"", method="GET"),
    request(b"", target="/openapi.json", method="GET"),
    request(b"", "Origin: https://example.com", method="OPTIONS", key=None),
]
"""What arbitrary bytes are made from by spoiling it."""
WAIT_SECONDS = 0.01
"""What has no answer by then is a part of a request; a later error is found when the door ends."""

# Bytes that look more and more like what is expected.

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "type", "time", "customer", "x"]), inner, max_size=4
        )
    ),
    max_leaves=30,
)
documents = values.map(
    lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
)
spans = st.lists(documents | st.binary(max_size=6), max_size=8)
WORDS = rb'{ } [ ] , : " \ \u d800 NaN 1e9 0 - null "id" "customer"'
pieces = st.sampled_from(
    [*WORDS.split(), b"\n", b" ", b"\xef\xbb\xbf", b"\xff", b"\0", b"\xe2\x82\xac"]
)
sizes = st.integers(1, 4000).map(lambda size: b'{"a":"%b"}' % (b"x" * size))
bodies = (
    st.binary(max_size=3500)
    | documents
    | sizes
    | spans.map(lambda found: array(*found))
    | spans.map(lambda found: ndjson(*found))
    | st.lists(pieces, max_size=40).map(b"".join)
)


@st.composite
def spoiled(draw: st.DrawFn, whole: bytes) -> bytes:
    """The same bytes, or none, or with a part cut out and other bytes in its place."""
    if draw(st.booleans()):
        return draw(st.sampled_from([whole, whole, whole, b""]))
    start = draw(st.integers(0, len(whole)))
    end = draw(st.integers(start, len(whole)))
    return whole[:start] + draw(st.binary(max_size=8)) + whole[end:]


# The door, on an event loop that outlives an example.


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Runs coroutines on the event loop that workers have."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        yield runner.run


@pytest.fixture(scope="module")
def opened(run: Run) -> Iterator[OpenDoor]:
    """A door with small limits."""
    door = open_door(limits=LIMITS)
    yield run(door.__aenter__())
    run(door.__aexit__(None, None, None))


# What must hold.


def events(answer: Answer) -> int:
    """How many events were looked at."""
    return sum(answer.counts.values()) - answer.document["spooled"]


def _refuse(word: str) -> NoReturn:
    raise ValueError(word)


def is_event(text: bytes) -> bool:
    """Whether an independent decoder takes ``text`` for a JSON object."""
    try:
        found = json.loads(text.decode(), parse_constant=_refuse, parse_int=str, parse_float=str)
        json.dumps(found, ensure_ascii=False).encode()  # refuses lone surrogates
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict)


encoders = st.sampled_from([encode for _, encode in CODERS])
wires = st.tuples(bodies, encoders).flatmap(lambda found: spoiled(found[1](found[0])))


@settings(max_examples=400, deadline=None)
@given(
    body=wires,
    coding=st.sampled_from([coding for coding, _ in CODERS]) | st.sampled_from(REFUSED_CODINGS),
    media=st.sampled_from(MEDIA_TYPES) | st.sampled_from(REFUSED_MEDIA_TYPES),
    source=st.sampled_from(["orders", "keyed", "small", "compacted"]),
    query=st.sampled_from(QUERIES),
    in_chunks=st.booleans(),
)
def test_any_body_gets_an_answer_of_the_contract(
    opened: OpenDoor,
    run: Run,
    *,
    body: bytes,
    coding: str,
    media: str,
    source: str,
    query: str,
    in_chunks: bool,
) -> None:
    """Whatever it is said to be, and is: counted once, and nothing stays in flight."""
    before = unaccounted()
    headers = [f"Content-Encoding: {coding}"]
    if in_chunks:
        headers.append("Transfer-Encoding: chunked")
        body = chunked(*filter(None, [body[: len(body) // 2], body[len(body) // 2 :]]))
    target = f"/v1/events/{source}{query}"
    answer = run(opened.post(body, *headers, media=media, target=target))
    refused = media in REFUSED_MEDIA_TYPES or coding in REFUSED_CODINGS
    assert answer.status in ({415} if refused else {200, 400, 413, 422})
    assert unaccounted() == before
    assert opened.budget.used_bytes == 0


@settings(max_examples=200, deadline=None)
@given(
    body=bodies.filter(lambda body: 0 < len(body) <= LIMITS["decoded_bytes"]),
    coder=st.sampled_from(CODERS),
    media=st.sampled_from(MEDIA_TYPES),
)
def test_a_body_means_the_same_in_every_coding(
    opened: OpenDoor, run: Run, body: bytes, coder: tuple[str, Callable[[bytes], bytes]], media: str
) -> None:
    """The same status, and the same of every event."""
    coding, encode = coder
    plain = run(opened.post(body, media=media))
    encoded = run(opened.post(encode(body), f"Content-Encoding: {coding}", media=media))
    assert _gist(encoded) == _gist(plain)


def _gist(answer: Answer) -> tuple[Any, ...]:
    """What is not made anew for each request."""
    listed = [
        (each["index"], each["status"], each.get("code"))
        for each in answer.document.get("results", ())
    ]
    return answer.status, answer.document.get("code"), answer.document.get("accepted"), listed


@settings(max_examples=200, deadline=None)
@given(body=bodies.flatmap(spoiled))
def test_a_document_is_taken_if_another_decoder_takes_it(
    opened: OpenDoor, run: Run, body: bytes
) -> None:
    """Neither less nor more than JSON, and never more than the limits."""
    opened.topics["orders"].records.clear()
    answer = run(opened.post(body))
    text = body.removeprefix(b"\xef\xbb\xbf").strip(WHITE)
    if not text.startswith(b"[") and len(body) <= LIMITS["decoded_bytes"]:
        taken = is_event(text) and len(text) <= LIMITS["event_bytes"]
        assert (answer.status == 200) == taken
        assert [record.value.endswith(text + b"}") for record in opened.records()] == [True] * taken
    elif answer.status == 200:
        assert isinstance(json.loads(text), list)
        assert events(answer) == len(json.loads(text))


@settings(max_examples=200, deadline=None)
@given(lines=st.lists(spans.map(b"".join) | documents | st.binary(max_size=20), max_size=25))
def test_each_line_is_taken_if_another_decoder_takes_it(
    opened: OpenDoor, run: Run, lines: list[bytes]
) -> None:
    """One line's fate depends on no other line."""
    opened.topics["orders"].records.clear()
    body = b"\n".join(lines)
    answer = run(opened.post(body, media="application/x-ndjson"))
    expected = [line.strip(WHITE) for line in body.removeprefix(b"\xef\xbb\xbf").split(b"\n")]
    expected = [line for line in expected if line]
    if len(expected) > LIMITS["batch_events"]:
        assert answer.status == 413
    elif len(body) <= LIMITS["decoded_bytes"]:
        good = [line for line in expected if is_event(line) and len(line) <= LIMITS["event_bytes"]]
        assert events(answer) == len(expected)
        values = [record.value for record in opened.records()]
        assert len(values) == len(good)
        assert all(v.endswith(line + b"}") for v, line in zip(values, good, strict=True))


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=300) | st.sampled_from(REQUESTS).flatmap(spoiled))
def test_any_bytes_at_all_are_answered_or_waited_for(
    opened: OpenDoor, run: Run, data: bytes
) -> None:
    """What comes back is HTTP, none of it is a 500, and nothing stays behind."""
    before = unaccounted()
    run(_check_answers(opened, data))
    assert unaccounted() == before
    assert opened.budget.used_bytes == 0


async def _check_answers(opened: OpenDoor, data: bytes) -> None:
    """Each is of the contract, or bare; nothing but answers comes."""
    client: Client = await opened.connect()
    await client.send(data)
    try:
        while True:
            async with asyncio.timeout(WAIT_SECONDS):
                answer = await client._answer()
            if not (answer.bare or answer.status == 100):
                answer.require_contract()
    except asyncio.IncompleteReadError as end:
        rest = end.partial
    except (TimeoutError, ConnectionError):
        rest = bytes(client.reader._buffer)
    assert not rest
    client.abort()
    await until(lambda: not len(opened.door))
