"""Whatever bytes a client sends, it gets one of the contract's answers, and never a 500."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from contextlib import suppress
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
ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    "identity": bytes,
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstandard.compress,
    "br": bytes,
}
ACCEPTED = ("application/json", "application/x-ndjson", "application/jsonl")
LIMITS = {"body_bytes": 3000, "decoded_bytes": 2000, "event_bytes": 200, "batch_events": 20}

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


@settings(max_examples=200, deadline=None)
@given(
    wire=st.tuples(bodies, st.sampled_from([*ENCODERS])).flatmap(
        lambda found: st.tuples(spoiled(ENCODERS[found[1]](found[0])), st.just(found[1]))
    ),
    media=st.sampled_from(ACCEPTED) | st.sampled_from([*ACCEPTED, "text/plain", ""]),
    source=st.sampled_from(["orders", "keyed", "small", "compacted"]),
    in_chunks=st.booleans(),
)
def test_any_body_gets_an_answer_of_the_contract(
    opened: OpenDoor, run: Run, wire: tuple[bytes, str], media: str, source: str, *, in_chunks: bool
) -> None:
    """Whatever its media type and coding: counted once, and nothing stays in flight."""
    (body, encoding), before = wire, unaccounted()
    headers = [f"Content-Encoding: {encoding}"]
    if in_chunks:
        headers.append("Transfer-Encoding: chunked")
        body = chunked(*filter(None, [body[: len(body) // 2], body[len(body) // 2 :]]))
    answer = run(opened.post(body, *headers, media=media, source=source))
    assert answer.status in {200, 400, 413, 415, 422}
    if media not in ACCEPTED or encoding == "br":
        assert answer.status == 415
    assert unaccounted() == before
    assert opened.budget.used_bytes == 0


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
@given(data=st.binary(max_size=300) | spoiled(request(b'{"a":1}')) | spoiled(request() * 2))
def test_any_bytes_at_all_are_answered_or_waited_for(
    opened: OpenDoor, run: Run, data: bytes
) -> None:
    """What comes back is HTTP, none of it is a 500, and nothing stays behind."""
    before, came = unaccounted(), run(_answers(opened, data))
    for part in came.split(b"HTTP/1.1 ")[1:]:
        assert 100 <= int(part[:3]) < 500
    assert came.startswith(b"HTTP/1.1 ") or not came
    assert unaccounted() == before
    assert opened.budget.used_bytes == 0


async def _answers(opened: OpenDoor, data: bytes) -> bytes:
    """All that comes back for ``data``, to a client that then has nothing more to say."""
    client: Client = await opened.connect()
    await client.send(data)
    came = b""
    with suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(0.01):
            while piece := await client.reader.read(65_536):
                came += piece
    client.abort()
    await until(lambda: not len(opened.door))
    return came
