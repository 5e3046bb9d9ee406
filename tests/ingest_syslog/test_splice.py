"""Splicing: what is spliced is what the complete parser makes of the same messages."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_syslog.message import Clock
from ingest_syslog.seal import start_of, tail_of
from ingest_syslog.splice import INDICES, SHAPE_BYTES, Read, Spliced, Splicer
from ingest_syslog.translate import Translator

if TYPE_CHECKING:
    from collections.abc import Sequence

NOW = datetime(2026, 11, 25, 12, 0, 0, tzinfo=UTC)
RECEIVED = b"2026-11-25T12:00:00.000000Z"
START = start_of("syslog", "syslog.message") + b"base-"
USUAL = [
    b'<165>1 2026-11-25T10:00:00.123456Z host app 123 ID47 [m@1 a="1" b="2"] the text',
    b"<34>1 2026-11-25T10:00:00+01:00 host app - - - the text",
    b"<0>1 2026-11-25T10:00:00Z host - - - - x",
    b'<191>1 2026-02-28T23:59:59.1Z host app 1 - [a x="]["][b y=""] text',
    b'<14>1 2026-11-25T10:00:00Z host app 1 ID [a x="a=="][b y=" z"] he said "no"',
    "<14>1 2026-11-25T10:00:00Z host app 1 ID - gr\u00fc\u00dfe".encode(),
    b"<14>1 2026-11-25T10:00:00Z host app 1 ID - C:\\temp\ttab",
    b"<34>Nov 25 10:00:00 host app[123]: the text",
    b"<34>Nov 25 10:00:00 host app: the text",
    b"<34>Nov  5 10:00:00 host postfix/smtpd[1]: the text",
    b'<34>Nov 25 10:00:00 host app[123]: {"json": true}',
    b"<34>2026-11-25T10:00:00.123456+00:00 host app[123]: the text",
    b"<34>2026-11-25T10:00:00Z host app: the text",
]
UNUSUAL = [
    b"no header at all",
    b"<999>1 2026-11-25T10:00:00Z host app 1 ID - text",
    b"<013>1 2026-11-25T10:00:00Z host app 1 ID - text",
    b"<13>1 2026-02-31T10:00:00Z host app 1 ID - text",
    b"<13>1 0000-01-01T10:00:00Z host app 1 ID - text",
    b"<13>1 2026-11-25T10:00:60Z host app 1 ID - text",
    b"<13>1 - host app 1 ID - text",
    b"<13>1 2026-11-25T10:00:00Z - app 1 ID - text",
    b"<13>1 2026-11-25T10:00:00Z host  1 ID - text",
    b"<13>1 2026-11-25T10:00:00Z host app 1 ID -",
    b"<13>1 2026-11-25T10:00:00Z host app 1 ID - ",
    b"<13>1 2026-11-25T10:00:00Z host app 1 ID - \xef\xbb\xbftext",
    b'<13>1 2026-11-25T10:00:00Z host app 1 ID [a x="1" x="2"] text',
    b'<13>1 2026-11-25T10:00:00Z host app 1 ID [a x="1"][a y="2"] text',
    b'<13>1 2026-11-25T10:00:00Z host app 1 ID [a x="\\"" y="2"] text',
    b'<13>1 2026-11-25T10:00:00Z host app 1 ID [a x="]"] text',
    b"<13>1 2026-11-25T10:00:00Z host app 1 ID [a x=1] text",
    b'<13>1 2026-11-25T10:00:00Z host app 1 ID [a %="1"] text',
    b'<13>1 2026-11-25T10:00:00Z host app 1 ID [a x="1"]text',
    b"<13>1 2026-11-25T10:00:00Z host app 1 ID [a] text",
    b'<13>1 2026-11-25T10:00:00Z ho"st app 1 ID [a x="1"] text',
    b"<13>1 2026-11-25T10:00:00Z ho\\st app 1 ID - text",
    b"<13>1 2026-11-25T10:00:00Z host app 1 ID - two\nlines",
    b"<13>1 2026-11-25T10:00:00Z host app\n1 ID - x y z",
    b"<13>1 2026-11-25T10:00:00Z host app 1 ID - bad \xff utf8",
    b"<13>1 2026-11-25T10:00:00.1234567Z host app 1 ID - text",
    b"<13>1 2026-11-25T10:00:00Z host app 1 ID [] text",
    b'<13>1 2026-11-25T10:00:00Z host app 1 ID [a x="v""] text',
    b'<13>1 2026-11-25T10:00:00Z host app 1 ID [a"] text',
    b'<13>1 2026-11-25T10:00:00Z host app 1 ID [a x="v" text',
    b'<13>1 2026-11-25T10:00:00Z host app 1 ID [a x="\0"] text',
    b'<13>1 2026-11-25T10:00:00Z host app 1 ID [a x="\x7f"] text',
    b"<13>1 2026-11-25T10:00:00Z ho\0st app 1 ID - text",
    b"<13>1 2026-11-25T10:00:00Z host a\0pp 1 ID - text",
    b"<34>Nov 25 10:00:00 " + b"h" * 256 + b" app: text",
    b"<34>Nov 25 10:00:00 host " + b"a" * 129 + b": text",
    b"<34>Nov 25 10:00:00 host app[" + b"1" * 129 + b"]: text",
    b"<34>Nov 25 10:00:00 host CEF[12]: %SYS-5-X: text",
    b"<34>Feb 30 10:00:00 host app: text",
    b"<34>Nov 25 24:00:00 host app: text",
    b"<34>Foo 25 10:00:00 host app: text",
    b"<34>Nov 25 10:00:00 app[1]: text",
    b"<34>Nov 25 10:00:00 host %LINK-3-UPDOWN: text",
    b"<34>Nov 25 10:00:00 host some words",
    b"<34>Nov 25 10:00:00 Message forwarded from other: text",
    b"<34>Nov 25 10:00:00 fe80::1 app: text",
    b"<34>Nov 25 10:00:00 host app[1] text",
    b"<34>Nov 25 10:00:00 host app[1]:text",
    b"<34>Nov 25 10:00:00 host app[]: text",
    b"<34>Nov 25 10:00:00 2009 host app: text",
    b"<34>Nov 25 10:00:00 UTC app: text",
    b"<34>Nov 25 10:00:00 host last message repeated 3 times",
]


def read(frames: Sequence[bytes], zone: Any = UTC) -> Read:
    """The frames as they come by one connection."""
    tail, count = tail_of("192.0.2.1", "tcp"), len(frames)
    clock = Clock(NOW, zone)
    return Read(frames, ["192.0.2.1"] * count, [tail] * count, START, RECEIVED, clock)


class NoSplicer(Splicer):
    """Leaves everything to the complete parser."""

    def rfc5424(self, read: Read, positions: Sequence[int], into: Spliced) -> list[int]:
        """Nothing is usual."""
        del read, into
        return list(positions)

    rfc3164 = rfc5424


def parsed(frames: Sequence[bytes], zone: Any = UTC) -> tuple[list[Any], list[Any]]:
    """Values, decoded, and keys by the complete parser alone."""
    translator = Translator()
    translator._splicer = NoSplicer()
    found = translator.translate(read(frames, zone))
    return [json.loads(value) for value in found.values], found.keys


def translated(frames: Sequence[bytes], zone: Any = UTC) -> tuple[list[Any], list[Any]]:
    """The same as it is done for real."""
    found = Translator().translate(read(frames, zone))
    return [json.loads(value) for value in found.values], found.keys


def spliced(frame: bytes, count: int = 1) -> bool:
    """Whether messages like this one are spliced."""
    splicer, into = Splicer(), Spliced([None] * count, [None] * count)
    stage = splicer.rfc5424 if frame.partition(b">")[2].startswith(b"1 ") else splicer.rfc3164
    return stage(read([frame] * count), range(count), into) == []


@pytest.mark.parametrize("frame", USUAL)
@pytest.mark.parametrize("count", [1, 3])
def test_usual_messages_are_spliced(frame: bytes, count: int) -> None:
    """None of them costs a parse."""
    assert spliced(frame, count) or b"][" in frame.partition(b'"')[2].partition(b'"')[0]


@pytest.mark.parametrize("frame", [*USUAL, *UNUSUAL])
def test_a_message_alone_is_what_the_parser_says(frame: bytes) -> None:
    """Column by column, where every read of one message is alike."""
    assert translated([frame]) == parsed([frame])


@pytest.mark.parametrize("frame", [*USUAL, *UNUSUAL])
@pytest.mark.parametrize("neighbour", [USUAL[0], USUAL[1], USUAL[7], USUAL[5], USUAL[6]])
def test_a_message_among_others_is_what_the_parser_says(frame: bytes, neighbour: bytes) -> None:
    """Message by message, where they differ; and the neighbours stay what they are."""
    frames = [neighbour, frame, neighbour, frame, USUAL[9]]
    assert translated(frames) == parsed(frames)


def test_all_together_are_what_the_parser_says() -> None:
    """Whatever comes in one read."""
    frames = [*USUAL, *UNUSUAL]
    assert translated(frames) == parsed(frames)


def test_dates_are_completed_anew_when_the_day_or_the_zone_changes() -> None:
    """What is remembered of a date is forgotten in time."""
    translator, frame = Translator(), b"<34>Dec 31 23:00:00 host app: text"
    east = timezone(timedelta(hours=2))
    for now, zone, stamp in (
        (NOW, UTC, "2026-12-31T23:00:00Z"),
        (NOW, east, "2026-12-31T23:00:00+02:00"),
        (NOW + timedelta(days=400), UTC, "2027-12-31T23:00:00Z"),
    ):
        one = read([frame])._replace(clock=Clock(now, zone))
        (value,) = translator.translate(one).values
        assert json.loads(value)["data"]["timestamp"] == stamp


def test_each_message_begins_as_its_route_says() -> None:
    """The route is told PRI, app name, host and position, however the message is read."""
    frames = [USUAL[0], USUAL[2], UNUSUAL[0], USUAL[7], UNUSUAL[25], USUAL[1]]
    for group in (frames, [USUAL[0]] * 3, [USUAL[7]] * 3, [USUAL[2]] * 2):
        told: dict[int, tuple[bytes, bytes, bytes]] = {}

        def route(pri: bytes, app_name: bytes, host: bytes, at: int, told: Any = told) -> bytes:
            told[at] = (pri, app_name, host)
            return start_of(f"source-{at}", "t") + b"x-"

        found = Translator().translate(read(group)._replace(route=route))
        sources = [json.loads(value)["source"] for value in found.values]
        assert sources == [f"/sources/source-{at}" for at in range(len(group))]
        values, _ = parsed(group)
        for at, value in enumerate(values):
            data = value["data"]
            known = "facility" in data
            pri = b"%d" % (8 * data["facility"] + data["severity"]) if known else b""
            names = (data.get("app_name", ""), data.get("hostname", ""))
            assert told[at] == (pri, *(name.encode() for name in names))


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hostile senders have endless minutes, dates and names of parameters."""
    monkeypatch.setattr("ingest_syslog.splice.REMEMBERED", 10)
    splicer, translator = Splicer(), Translator()
    translator._splicer = splicer
    for number in range(60):
        frames = [
            b"<1>1 2026-11-25T10:%02d:00Z h a 1 - - x" % number,
            b'<1>1 2026-11-25T10:00:00Z h a 1 - [a p%d="1"] x' % number,
            b"<1>Nov 25 10:00:%02d h a: x" % number,
        ]
        for frame in frames:
            translator.translate(read([frame]))
        assert max(map(len, (splicer._minutes, splicer._dates, splicer._shapes))) <= 10


@pytest.mark.parametrize(
    "text", [b"[xxxx", b"[a][b", b"[x y z", b"[" + b"x" * 200, b'[a="', b'[a b="]x', b"[a][" * 60]
)
def test_hostile_reads_take_no_longer_than_usual_ones(text: bytes) -> None:
    """No pattern goes back over the lines of a read: a thousand are a matter of milliseconds."""
    frames = [b"<14>1 2026-11-25T10:00:00Z h - - - " + text] * INDICES
    began = time.process_time()
    Translator().translate(read(frames))
    assert time.process_time() - began < 0.5, "it would be many seconds"


def test_large_shapes_of_structured_data_are_not_remembered() -> None:
    """Each may be as large as a frame: thousands of them would fill the memory."""
    splicer, translator = Splicer(), Translator()
    translator._splicer = splicer
    for size, kept in ((SHAPE_BYTES - 50, 1), (SHAPE_BYTES + 1, 1)):
        frame = b'<14>1 2026-11-25T10:00:00Z h a 1 - [%b x="1"] text' % (b"n" * size)
        for count in (1, 2):
            assert json.loads(translator.translate(read([frame] * count)).values[0])
        assert len(splicer._shapes) == kept


FIELD = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=6)
PIECES = st.sampled_from(
    [
        *("<34>", "<165>1 ", "<13>1 ", " ", "-", "[", "]", "[a x=", '"', "\\", "] ", '="', '" '),
        *("2026-11-25T10:00:00Z", "Nov 25 10:00:00", "host", "app", "app[1]:", ": ", "\n", "\t"),
        *("\u00e9", "\x00", "\ufeff", "0", "1", "=", ":", "T", "Z", "%b", "%"),
    ]
)
LINES = st.lists(PIECES, min_size=1, max_size=24).map("".join)
HEADERS = st.builds(
    "<{}>1 2026-11-25T10:00:{:02d}Z {} {} {} {} {} {}".format,
    *(st.integers(0, 200), st.integers(0, 61), FIELD, FIELD, FIELD, FIELD),
    st.sampled_from(["-", '[a x="1"]', '[a x="1" y=""]', '[a x="1"][b y="2"]']) | FIELD,
    LINES,
)
OLD = st.builds(
    "<{}>{} {:2d} 10:00:{:02d} {} {}: {}".format,
    *(st.integers(0, 200), st.sampled_from(["Nov", "Feb", "nov"]), st.integers(0, 32)),
    *(st.integers(0, 61), FIELD, FIELD, LINES),
)


@settings(max_examples=400, deadline=None)
@given(st.lists((HEADERS | OLD | LINES).map(str.encode), min_size=1, max_size=6))
def test_whatever_comes_is_what_the_parser_says(frames: list[bytes]) -> None:
    """For any mixture of clean and odd pieces, in any order."""
    assert translated(frames) == parsed(frames)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=4))
def test_any_bytes_are_what_the_parser_says(frames: list[bytes]) -> None:
    """They are JSON in any case."""
    assert translated(frames) == parsed(frames)
