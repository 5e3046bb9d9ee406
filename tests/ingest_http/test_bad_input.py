"""Bad input through a real socket: the contract's answer, and never an event of somebody else lost.

The strings that stand for a client's data are `CANARY`s: no answer may quote them.
"""

from __future__ import annotations

import gzip
import json
import zlib
from typing import TYPE_CHECKING

import pytest
import zstandard

from tests import http_door
from tests.http_door import (
    BILLING_KEY,
    CANARY,
    LETTERS,
    array,
    chunked,
    ndjson,
    open_door,
    request,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.http_door import OpenDoor

door = http_door.door

JSON, NDJSON = "application/json", "application/x-ndjson"
WORD = CANARY.encode()
GOOD = b'{"good":"%b"}' % WORD


def nested(depth: int, opening: bytes = b"[", closing: bytes = b"]") -> bytes:
    """An event that nests ``depth`` deep, itself included."""
    inner = depth - 1
    return b'{"a":%b%b}' % (opening * inner, closing * inner)


def nested_objects(depth: int) -> bytes:
    """An event of objects only that nests ``depth`` deep."""
    return b'{"a":' * (depth - 1) + b"{}" + b"}" * (depth - 1)


def number(digits: int) -> bytes:
    """An event with an integer of so many digits."""
    return b'{"n":%b}' % (b"7" * digits)


# Refused as a whole.

BAD_JSON = [
    ("truncated object", b'{"a":"%b"' % WORD, "invalid_json"),
    ("truncated string", b'{"a":"%b' % WORD, "invalid_json"),
    ("truncated array", b'[{"a":"%b"}' % WORD, "invalid_json"),
    ("truncated after a comma", b'[{"a":"%b"},' % WORD, "invalid_json"),
    ("lone bracket", b"[", "invalid_json"),
    ("a word", WORD, "invalid_json"),
    ("single quotes", b"{'a':'%b'}" % WORD, "invalid_json"),
    ("unquoted name", b"{%b:1}" % WORD, "invalid_json"),
    ("trailing comma", b'{"a":1,}', "invalid_json"),
    ("trailing comma in the array", b"[{},]", "invalid_json"),
    ("missing colon", b'{"%b" 1}' % WORD, "invalid_json"),
    ("two documents", b'{"a":"%b"}{}' % WORD, "invalid_json"),
    ("two arrays", b"[{}][{}]", "invalid_json"),
    ("lines sent as JSON", ndjson(GOOD, GOOD), "invalid_json"),
    ("NaN", b'{"a":NaN}', "invalid_json"),
    ("NaN in an array", b'[{},{"a":[NaN]}]', "invalid_json"),
    ("Infinity", b'{"a":-Infinity}', "invalid_json"),
    ("leading zero", b'{"a":01}', "invalid_json"),
    ("comment", b'{"a":1}//%b' % WORD, "invalid_json"),
    ("control character", b'{"a":"\x01%b"}' % WORD, "invalid_json"),
    ("newline in a string", b'{"a":"%b\n"}' % WORD, "invalid_json"),
    ("unknown escape", b'{"a":"%b\\q"}' % WORD, "invalid_json"),
    ("lone surrogate", b'{"a":"%b\\ud800 ..."}' % WORD, "invalid_json"),
    ("NUL", b"\0", "invalid_json"),
    ("NUL after the document", b"{}\0", "invalid_json"),
    ("UTF-16", json.dumps({"a": CANARY}).encode("utf-16-le"), "invalid_json"),
    ("two BOMs", b"\xef\xbb\xbf" * 2 + b"{}", "invalid_json"),
    ("a form", b"a=%b&b=2" % WORD, "invalid_json"),
    ("invalid UTF-8 in a string", b'{"a":"%b\xff"}' % WORD, "invalid_utf8"),
    ("invalid UTF-8 in one event", b'[{"a":1},{"a":"%b\xc3("}]' % WORD, "invalid_utf8"),
    ("invalid UTF-8 in a name", b'{"%b\xff":1}' % WORD, "invalid_utf8"),
    ("overlong UTF-8", b'{"a":"%b\xc0\xaf"}' % WORD, "invalid_utf8"),
    ("surrogate in UTF-8", b'{"a":"%b\xed\xa0\x80"}' % WORD, "invalid_utf8"),
    ("UTF-8 cut off", b'{"a":"%b\xe2\x82"}' % WORD, "invalid_utf8"),
    ("empty", b"", "empty_body"),
    ("blank", b" \r\n\t", "empty_body"),
    ("nothing but a BOM", b"\xef\xbb\xbf", "empty_body"),
    ("501 deep", nested(501), "too_deep"),
    ("501 objects deep", nested_objects(501), "too_deep"),
    ("501 deep in an array", array(b"{}", nested(501)), "too_deep"),
    ("100,000 deep", nested(100_000), "too_deep"),
    ("100,000 objects deep", nested_objects(100_000), "too_deep"),
    ("100,000 deep in an array", array(b"{}", nested(100_000)), "too_deep"),
    ("5,000,000 deep", nested(5_000_000), "too_deep"),
]
UNCLOSED = [b"[" * 100_000, b'{"a":' * 100_000, b"[" * 5_000_000]


@pytest.mark.parametrize(("body", "code"), [pytest.param(b, c, id=i) for i, b, c in BAD_JSON])
async def test_a_bad_document_is_400_and_nothing_of_it_is_taken(
    door: OpenDoor, body: bytes, code: str
) -> None:
    """Nothing is produced nor dead-lettered, and the connection goes on."""
    client = await door.connect()
    answer = await client.ask(request(body))
    assert (answer.status, answer.code) == (400, code)
    assert "results" not in answer.document
    assert door.is_untouched()
    assert (await client.ask(request(GOOD))).status == 200


@pytest.mark.parametrize("body", UNCLOSED, ids=["arrays", "objects", "megabytes"])
async def test_what_opens_and_never_closes_is_400(door: OpenDoor, body: bytes) -> None:
    """Whichever of its faults is found first."""
    answer = await door.post(body)
    assert answer.status == 400
    assert answer.code in {"too_deep", "invalid_json"}


@pytest.mark.parametrize(
    "event",
    [nested(500), nested_objects(500), number(400), b'{"a":1e400,"b":-0,"c":1E-7}'],
    ids=["500 deep", "500 objects deep", "400 digits", "odd numbers"],
)
@pytest.mark.parametrize("media", [JSON, NDJSON])
async def test_odd_but_valid_events_are_taken_as_they_are(
    door: OpenDoor, event: bytes, media: str
) -> None:
    """The limit itself is allowed, and numbers are nobody's business."""
    assert (await door.post(event, media=media)).counts == {"accepted": 1}
    assert door.records()[0].value.endswith(b'"data":%b}' % event)


async def test_an_empty_array_is_fine(door: OpenDoor) -> None:
    """It is a batch without events."""
    answer = await door.post(b" [ ] ")
    assert (answer.status, answer.counts) == (200, {})


# One bad event among good ones.


@pytest.mark.parametrize(
    ("media", "bad", "code"),
    [
        (JSON, b"1", "not_an_object"),
        (JSON, b"null", "not_an_object"),
        (JSON, b'"%b"' % WORD, "not_an_object"),
        (JSON, b"[]", "not_an_object"),
        (JSON, b'[{"a":1}]', "not_an_object"),
        (JSON, b"true", "not_an_object"),
        (JSON, b"-1.5e3", "not_an_object"),
        (NDJSON, b"1", "not_an_object"),
        (NDJSON, b'["%b"]' % WORD, "not_an_object"),
        (NDJSON, b'{"a":"%b"' % WORD, "invalid_json"),
        (NDJSON, b'{"a":"%b",' % WORD, "invalid_json"),
        (NDJSON, b'{"a":1},{"b":2}', "invalid_json"),
        (NDJSON, b'{"a":1}{"b":2}', "invalid_json"),
        (NDJSON, b'{"a":1},', "invalid_json"),
        (NDJSON, b"[{}", "invalid_json"),
        (NDJSON, b"]", "invalid_json"),
        (NDJSON, b",", "invalid_json"),
        (NDJSON, b'"', "invalid_json"),
        (NDJSON, b'{"a":NaN}', "invalid_json"),
        (NDJSON, b'{"a":"%b\xff"}' % WORD, "invalid_json"),
        (NDJSON, b"\xff\xfe", "invalid_json"),
        (NDJSON, b'{"a":"\\ud800 ..."}', "invalid_json"),
        (NDJSON, nested(501), "invalid_json"),
        (NDJSON, nested(100_000), "invalid_json"),
        (NDJSON, b"[" * 100_000, "invalid_json"),
        (NDJSON, b"\x1e" + GOOD, "invalid_json"),
    ],
)
async def test_one_bad_event_never_spoils_its_batch(
    door: OpenDoor, media: str, bad: bytes, code: str
) -> None:
    """Wherever it stands, the others are in the topic and it is kept, with its original bytes."""
    join = array if media == JSON else ndjson
    for at in range(3):
        events = [b'{"n":%d}' % n for n in range(2)]
        events.insert(at, bad)
        answer = await door.post(join(*events), media=media)
        assert (answer.status, answer.counts) == (200, {"accepted": 2, "rejected": 1})
        (reject,) = answer.results
        assert (reject["index"], reject["code"]) == (at, code)
        assert [value["data"]["n"] for value in door.values()[-2:]] == [0, 1]
    assert [letter.value for letter in door.records(LETTERS)] == [bad] * 3


@pytest.mark.parametrize("media", [JSON, NDJSON])
async def test_an_oversized_event_is_rejected_alone(media: str) -> None:
    """The limit itself is allowed; a byte more is ``event_too_large``, and has its id."""
    join = array if media == JSON else ndjson
    fits = b'{"a":"%b"}' % (b"x" * 992)
    large = b'{"id":"mine","a":"%b%b"}' % (WORD, b"x" * 1000)
    async with open_door(limits={"event_bytes": 1000}) as door:
        answer = await door.post(join(fits, large, GOOD), media=media)
        assert (answer.status, answer.counts) == (200, {"accepted": 2, "rejected": 1})
        (reject,) = answer.results
        assert (reject["index"], reject["id"], reject["code"]) == (1, "mine", "event_too_large")
        assert [letter.value for letter in door.records(LETTERS)] == [large]
        assert (await door.post(fits.replace(b"x", b"xx", 1), media=media)).status == 422


@pytest.mark.parametrize(
    "body", [b"1", b"null", b'"%b"' % WORD, b"true", b"[[]]", b"[null]"], ids=repr
)
@pytest.mark.parametrize("media", [JSON, NDJSON])
async def test_a_value_that_is_no_object_is_one_event(
    door: OpenDoor, media: str, body: bytes
) -> None:
    """It is a reject and no error of the request: 422, kept."""
    answer = await door.post(body, media=media)
    assert (answer.status, answer.code) == (422, "no_usable_event")
    (reject,) = answer.results
    assert (reject["index"], reject["code"]) == (0, "not_an_object")
    event = body if media == NDJSON or not body.startswith(b"[") else body[1:-1]
    assert [letter.value for letter in door.records(LETTERS)] == [event]


async def test_every_kind_of_reject_in_one_batch_is_told_in_order() -> None:
    """Results have the order of the events, and every reject is its own dead letter."""
    large = b'{"customer":"c","a":"%b"}' % (b"x" * 1000)
    lines = [b"{", GOOD, b"7", large, b'{"customer":{}}', b'{"customer":"c"}', b"\xff", b"[]"]
    async with open_door(limits={"event_bytes": 1000}) as door:
        answer = await door.post(ndjson(*lines), source="keyed", media=NDJSON)
        assert (answer.status, answer.counts) == (200, {"accepted": 2, "rejected": 6})
        assert [(each["index"], each["code"]) for each in answer.results] == [
            (0, "invalid_json"),
            (2, "not_an_object"),
            (3, "event_too_large"),
            (4, "bad_key"),
            (6, "invalid_json"),
            (7, "not_an_object"),
        ]
        kept = {letter.value for letter in door.records(LETTERS)}
        assert kept == {lines[each["index"]] for each in answer.results}


@pytest.mark.parametrize("pointed", [b"{}", b"[]", b'{"a":1}', b"[1]"])
async def test_an_object_or_array_is_no_key(door: OpenDoor, pointed: bytes) -> None:
    """``bad_key``, for that event only."""
    bad = b'{"id":"b","customer":%b}' % pointed
    answer = await door.post(array(GOOD, bad, GOOD), source="keyed")
    (reject,) = answer.results
    assert (reject["index"], reject["id"], reject["code"]) == (1, "b", "bad_key")
    assert [letter.value for letter in door.records(LETTERS)] == [bad]
    assert len(door.records("keyed")) == 2


# Too many, too large.


@pytest.mark.parametrize("media", [JSON, NDJSON])
async def test_too_many_events_are_413(media: str) -> None:
    """The limit itself is allowed."""
    join = array if media == JSON else ndjson
    async with open_door(limits={"batch_events": 5}) as door:
        assert (await door.post(join(*[b"{}"] * 5), media=media)).counts == {"accepted": 5}
        answer = await door.post(join(*[b"{}"] * 6), media=media)
        assert (answer.status, answer.code) == (413, "too_many_events")
        assert len(door.records()) == 5


@pytest.mark.parametrize("body", [b"1," * 4_000_000, b"{}," * 3_000_000, b"[]," * 3_000_000])
async def test_millions_of_tiny_events_are_413(door: OpenDoor, body: bytes) -> None:
    """They are counted before anything is made of them."""
    answer = await door.post(b"[" + body + b"1]")
    assert (answer.status, answer.code) == (413, "too_many_events")


@pytest.mark.parametrize("line", [b"1\n", b"{}\n", b"\xff\n"])
async def test_millions_of_tiny_lines_are_413(door: OpenDoor, line: bytes) -> None:
    """Lines as well."""
    answer = await door.post(line * 3_000_000, media=NDJSON)
    assert (answer.status, answer.code) == (413, "too_many_events")


async def test_blank_lines_are_no_events(door: OpenDoor) -> None:
    """Millions of them around one event."""
    body = b"\n" * 3_000_000 + GOOD + b"\r\n \n" * 1_000_000
    assert (await door.post(body, media=NDJSON)).counts == {"accepted": 1}


async def test_a_body_over_the_limit_is_413() -> None:
    """By its length alone, or when too much of it has come; the limit itself is allowed."""
    event = b'{"a":"%b"}' % (b"x" * 992)
    async with open_door(limits={"body_bytes": 1000}) as door:
        assert (await door.post(event)).status == 200
        pieces = [event[:500], event[500:]]
        assert (await door.post(chunked(*pieces), "Transfer-Encoding: chunked")).status == 200
        for answer in (
            await door.post(event + b" "),
            await door.post(chunked(*pieces, b" "), "Transfer-Encoding: chunked"),
        ):
            assert (answer.status, answer.code) == (413, "body_too_large")
        assert len(door.records()) == 2


async def test_a_body_that_is_not_compressed_counts_as_decoded() -> None:
    """It has both limits."""
    event = b'{"a":"%b"}' % (b"x" * 992)
    async with open_door(limits={"decoded_bytes": 1000, "event_bytes": 1000}) as door:
        assert (await door.post(event)).status == 200
        answer = await door.post(event + b" ")
        assert (answer.status, answer.code) == (413, "body_too_large")


# Content codings.

ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstandard.compress,
}
codings = pytest.mark.parametrize("encoding", ENCODERS)


@codings
@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: b"",
        lambda _: GOOD,
        lambda _: b"\xff" * 100,
        lambda _: b"\0" * 100,
        lambda good: good[:-1],
        lambda good: good[: len(good) // 2],
        lambda good: good[:3],
        lambda good: good + b"\0",
        lambda good: good + WORD,
        lambda good: good + good[:5],
        lambda good: good[:-6] + bytes(6),
        lambda good: good[:12] + bytes([good[12] ^ 0xFF]) + good[13:],
    ],
    ids=[
        "empty",
        "not compressed",
        "garbage",
        "zeros",
        "a byte short",
        "half",
        "cut off in its header",
        "a byte long",
        "a word long",
        "a second one begun",
        "wrong checksum",
        "a bit wrong",
    ],
)
async def test_a_body_that_cannot_be_decoded_is_400(
    door: OpenDoor, encoding: str, spoil: Callable[[bytes], bytes]
) -> None:
    """Truncated, broken, or with bytes behind its end; nothing of it is taken."""
    encode = zstandard.ZstdCompressor(write_checksum=True).compress
    good = (encode if encoding == "zstd" else ENCODERS[encoding])(GOOD * 20)
    answer = await door.post(spoil(good), f"Content-Encoding: {encoding}")
    assert (answer.status, answer.code) == (400, "bad_compression")
    assert door.is_untouched()


@codings
async def test_an_empty_member_or_frame_is_400(door: OpenDoor, encoding: str) -> None:
    """It carries nothing and costs time."""
    body = ENCODERS[encoding](b"")
    answer = await door.post(body, f"Content-Encoding: {encoding}", media=NDJSON)
    assert (answer.status, answer.code) == (400, "bad_compression")


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
@pytest.mark.parametrize(("members", "status"), [(100, 200), (101, 400)])
async def test_up_to_a_hundred_members_or_frames_are_taken(
    door: OpenDoor, encoding: str, members: int, status: int
) -> None:
    """Together they are one body."""
    body = b"[" + b"1," * (members - 2) + b"{}]"
    pieces = [b"[", *[b"1,"] * (members - 2), b"{}]"]
    assert b"".join(pieces) == body
    encoded = b"".join(map(ENCODERS[encoding], pieces))
    answer = await door.post(encoded, f"Content-Encoding: {encoding}")
    assert answer.status == status
    assert status == 200 or answer.code == "bad_compression"


@codings
@pytest.mark.parametrize("megabytes", [11, 64])
async def test_a_bomb_is_413(door: OpenDoor, encoding: str, megabytes: int) -> None:
    """Whatever it would inflate to, it is stopped at the limit."""
    bomb = ENCODERS[encoding](b" " * (megabytes << 20))
    answer = await door.post(bomb, f"Content-Encoding: {encoding}")
    assert (answer.status, answer.code) == (413, "decoded_too_large")
    assert door.budget.used_bytes == 0


@codings
async def test_a_decoded_body_of_the_limit_is_taken(encoding: str) -> None:
    """A byte more is not."""
    limits = {"decoded_bytes": 1000, "event_bytes": 1000}
    event = b'{"a":"%b"}' % (b"x" * 992)
    async with open_door(limits=limits) as door:
        for body, status in ((event, 200), (event + b" ", 413)):
            encoded = ENCODERS[encoding](body)
            answer = await door.post(encoded, f"Content-Encoding: {encoding}")
            assert answer.status == status
            assert status == 200 or answer.code == "decoded_too_large"


@codings
@pytest.mark.parametrize(
    ("body", "code"),
    [(b"{", "invalid_json"), (b'{"a":"\xff"}', "invalid_utf8"), (nested(100_000), "too_deep")],
    ids=["truncated", "not UTF-8", "deep"],
)
async def test_a_bad_document_is_400_in_any_coding(
    door: OpenDoor, encoding: str, body: bytes, code: str
) -> None:
    """Its coding is fine, what is in it is not."""
    answer = await door.post(ENCODERS[encoding](body), f"Content-Encoding: {encoding}")
    assert (answer.status, answer.code) == (400, code)


async def test_a_window_larger_than_the_web_allows_is_400(door: OpenDoor) -> None:
    """Frames could ask for gigabytes of memory (RFC 9659)."""
    parameters = zstandard.ZstdCompressionParameters(window_log=24, enable_ldm=True)
    encoder = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    body = encoder.compress(GOOD) + encoder.flush()
    answer = await door.post(body, "Content-Encoding: zstd")
    assert (answer.status, answer.code) == (400, "bad_compression")


# The wrong place, the wrong key.


@pytest.mark.parametrize(
    ("parts", "status", "code"),
    [
        ({"source": "nowhere"}, 404, "unknown_source"),
        ({"key": "wrong"}, 401, "unauthenticated"),
        ({"key": None}, 401, "unauthenticated"),
        ({"key": BILLING_KEY}, 403, "forbidden"),
        ({"media": "text/csv"}, 415, "unsupported_media_type"),
        ({"target": "/"}, 404, "not_found"),
        ({"method": "PUT"}, 405, "method_not_allowed"),
    ],
)
@pytest.mark.parametrize("body", [GOOD, b"{", b"x" * 3_000_000], ids=["good", "bad", "large"])
async def test_what_is_refused_by_its_header_is_refused_whatever_its_body(
    door: OpenDoor, parts: dict[str, str], status: int, code: str, body: bytes
) -> None:
    """The body is read and ignored, and the connection goes on."""
    client = await door.connect()
    answer = await client.ask(request(body, **parts))
    assert (answer.status, answer.code) == (status, code)
    assert door.is_untouched()
    assert (await client.ask(request(GOOD))).status == 200


@pytest.mark.parametrize("codings", ["gzip, chunked", "identity, chunked", "chunked;q=1"])
async def test_a_transfer_coding_that_is_not_undone_is_refused(
    door: OpenDoor, codings: str
) -> None:
    """The body would be taken for what it is not (RFC 9112, section 6.1)."""
    client = await door.connect()
    await client.send(request(chunked(b"{}"), f"Transfer-Encoding: {codings}"))
    status, _ = await client.head()
    assert status == 400
    assert door.is_untouched()
