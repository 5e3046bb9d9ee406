"""Frames of syslog streams: the same ones however a stream is cut, and bounded memory."""

from __future__ import annotations

import gc
import time
import tracemalloc
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_syslog.framing import Cut, Framed, Framer, FramingError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ingest_syslog.framing import Framing

LIMIT = 1000
FRAMINGS: list[Framing] = ["auto", "lf", "nul", "octet"]
each_framing = pytest.mark.parametrize("framing", FRAMINGS)


class Result(NamedTuple):
    """What a whole stream brings, with the positions of cuts among all of its frames."""

    frames: list[bytes]
    empty: int = 0
    cuts: Sequence[Cut] = ()
    suspect: int = 0
    error: str = ""


def follow(
    framing: Framing, pieces: Iterable[bytes], limit: int = LIMIT, most: int = 1 << 30
) -> Result:
    """Feed a stream in pieces and end it; memory is checked on the way."""
    framer = Framer(framing, limit, most)
    frames: list[bytes] = []
    cuts: list[Cut] = []
    empty = suspect = 0
    error = ""

    def add(framed: Framed) -> None:
        nonlocal empty, suspect
        cuts.extend(Cut(len(frames) + position, size) for position, size in framed.cuts)
        frames.extend(framed.frames)
        empty += framed.empty
        suspect += framed.suspect
        assert len(framed.frames) + framed.empty <= most

    try:
        for piece in pieces:
            framed = framer.feed(piece)
            add(framed)
            assert framed.may_have_lf or not any(b"\n" in frame for frame in framed.frames)
            while framed.rest:
                left = len(framed.rest)
                framed = framer.feed(framed.rest)
                assert len(framed.rest) < left
                add(framed)
            assert framer.held_bytes <= limit + 20
        add(framer.end())
    except FramingError as broken:
        error = broken.code
        add(broken.framed)
    assert framer.held_bytes == 0
    assert not framer.has_partial
    return Result(frames, empty, tuple(cuts), suspect, error)


def each_byte(stream: bytes) -> Iterator[bytes]:
    """A stream, a byte at a time."""
    return (stream[at : at + 1] for at in range(len(stream)))


def check(framing: Framing, stream: bytes, expected: Result, limit: int = LIMIT) -> None:
    """A stream brings what is expected: whole, byte by byte, at every split, with empty reads.

    And however few frames are taken at once.
    """
    assert follow(framing, [stream], limit) == expected
    for most in (1, 2, 3):
        assert follow(framing, [stream], limit, most) == expected, most
    assert follow(framing, each_byte(stream), limit) == expected
    for at in range(len(stream) + 1):
        assert follow(framing, [stream[:at], b"", stream[at:]], limit) == expected, at


def octets(*messages: bytes, after: bytes = b"") -> bytes:
    """Octet-counted frames."""
    return b"".join(b"%d %b%b" % (len(message), message, after) for message in messages)


# What the tables below say is checked for every way to cut the stream.

TEXTS: dict[str, tuple[bytes, Result]] = {
    "nothing": (b"", Result([])),
    "lines": (b"<1>a\n<2>b\n", Result([b"<1>a", b"<2>b"])),
    "the last line without its LF": (b"<1>a\n<2>b", Result([b"<1>a", b"<2>b"])),
    "CRLF": (b"<1>a\r\n<2>b\r\n", Result([b"<1>a", b"<2>b"])),
    "only one CR is padding": (b"<1>a\r\r\n", Result([b"<1>a\r"])),
    "CR inside": (b"<1>a\rb\r\n", Result([b"<1>a\rb"])),
    "the last line with a CR": (b"<1>a\r", Result([b"<1>a"])),
    "empty lines": (b"\n<1>a\n\n\r\n<2>b\n", Result([b"<1>a", b"<2>b"], 3)),
    "only LFs": (b"\n\n\n", Result([], 3)),
    "text without PRI": (b"hello\nworld\n", Result([b"hello", b"world"])),
    "not UTF-8": (b"<1>\xff\xfe\n\xc3\n", Result([b"<1>\xff\xfe", b"\xc3"])),
    "a TLS hello": (b"\x16\x03\x01\x02", Result([b"\x16\x03\x01\x02"])),
    "an indented line": (b"<1>a\n  at b\n", Result([b"<1>a", b"  at b"])),
    "a line of spaces": (b"<1>a\n  \n<2>b\n", Result([b"<1>a", b"  ", b"<2>b"])),
    "a date first": (b"2026-11-25 log\n<1>a\n", Result([b"2026-11-25 log", b"<1>a"])),
    "a year first": (b"2026 Nov 25\n", Result([b"2026 Nov 25"])),
    "a number": (b"12\n12 \n", Result([b"12", b"12 "])),
    "a count without PRI": (b"5 hello\n", Result([b"5 hello"])),
    "a count and half a PRI": (b"12 <\n12 <1\n", Result([b"12 <", b"12 <1"])),
    "a count and no PRI": (b"4 <>ab\n4 <a>b\n", Result([b"4 <>ab", b"4 <a>b"])),
    "a count and too long a PRI": (b"8 <1234>a\n", Result([b"8 <1234>a"])),
    "a count of zero": (b"0 <1>a\n", Result([b"0 <1>a"])),
    "a count with a zero first": (b"04 <1>a\n", Result([b"04 <1>a"])),
    "a count that is too short for its PRI": (b"1 <23>4\n", Result([b"1 <23>4"])),
    "a count one too short for its PRI": (b"4 <190>\n", Result([b"4 <190>"])),
    "a count of ten digits": (b"1234567890 <1>a\n", Result([b"1234567890 <1>a"])),
    "a count and two spaces": (b"4  <1>a\n", Result([b"4  <1>a"])),
    "a count and a tab": (b"4\t<1>a\n", Result([b"4\t<1>a"])),
    "digits that are not ASCII": ("٤ <1>a\n".encode(), Result(["٤ <1>a".encode()])),
    "digits that never end": (b"1" * 300, Result([b"1" * 300])),
    "half a header at the end": (b"<1>a\n12 <1", Result([b"<1>a", b"12 <1"])),
}
"""Streams that mean the same to ``auto`` and to ``lf``."""


@pytest.mark.parametrize("framing", ["auto", "lf"])
@pytest.mark.parametrize(("stream", "expected"), TEXTS.values(), ids=TEXTS)
def test_lines_are_frames(framing: Framing, stream: bytes, expected: Result) -> None:
    """Whatever does not begin with a count and a PRI that fits runs to LF."""
    check(framing, stream, expected)


AUTO: dict[str, tuple[bytes, Result]] = {
    "octet counts": (octets(b"<1>a", b"<190>bc"), Result([b"<1>a", b"<190>bc"])),
    "just a PRI": (b"3 <1>4 <23>", Result([b"<1>", b"<23>"])),
    "any PRI of three digits": (octets(b"<999>a"), Result([b"<999>a"])),
    "LF inside": (octets(b"<1>a\nb\n5 <1>c", b"<2>d"), Result([b"<1>a\nb\n5 <1>c", b"<2>d"])),
    "NUL inside": (octets(b"<1>a\0b", b"<2>d"), Result([b"<1>a\0b", b"<2>d"])),
    "padding inside": (octets(b"<1>a\n", b"<2>b\r\n\0"), Result([b"<1>a", b"<2>b"])),
    "LF behind": (octets(b"<1>a", b"<2>b", after=b"\n"), Result([b"<1>a", b"<2>b"])),
    "CRLF behind": (octets(b"<1>a", b"<2>b", after=b"\r\n"), Result([b"<1>a", b"<2>b"])),
    "NUL behind": (octets(b"<1>a", b"<2>b", after=b"\0"), Result([b"<1>a", b"<2>b"])),
    "LF inside and behind": (octets(b"<1>a\n", b"<2>b\n", after=b"\n"), Result([b"<1>a", b"<2>b"])),
    "lines, then counts": (b"<1>a\n4 <2>b4 <3>c", Result([b"<1>a", b"<2>b", b"<3>c"])),
    "counts, then lines": (b"4 <1>a<2>b\n<3>c\n", Result([b"<1>a", b"<2>b", b"<3>c"])),
    "counts and lines, by turns": (
        b"<1>a\n4 <2>b\n<3>c\r\n\n2026\n4 <4>d4 <5>e<6>f\n",
        Result([b"<1>a", b"<2>b", b"<3>c", b"2026", b"<4>d", b"<5>e", b"<6>f"], 1),
    ),
    "text behind a count and LF": (b"4 <1>a\nhello\n", Result([b"<1>a", b"hello"])),
    "a count that is too small": (
        b"4 <1>abc\n4 <2>d",
        Result([b"<1>a", b"bc", b"<2>d"], suspect=1),
    ),
    "a count that is too small, many times": (
        b"4 <1>ab\n" * 3 + b"4 <1>a",
        Result([b"<1>a", b"b"] * 3 + [b"<1>a"], suspect=3),
    ),
    "a usual count that is too small": (
        b"10 <13>abcdef10 <13>ghijklmn\n10 <13>opqrst",
        Result([b"<13>abcdef", b"<13>ghijkl", b"mn", b"<13>opqrst"], suspect=1),
    ),
    "a count that is too large": (
        b"9 <1>a\n<2>bcd\n<3>e\n",
        Result([b"<1>a\n<2>b", b"cd", b"<3>e"], suspect=1),
    ),
    "a body that is cut short": (
        b"9 <1>ab9 <2>efghij",
        Result([b"<1>ab9 <2", b">efghij"], suspect=1),
    ),
    "a body that never comes": (b"4 <1>a9 <1>b", Result([b"<1>a", b"<1>b"], suspect=1)),
    "padding, then the end": (b"9 <1>b\n", Result([b"<1>b"], suspect=1)),
    "a space behind a count": (b"4 <1>a <2>b\n", Result([b"<1>a", b"<2>b"])),
    "spaces before PRI": (b" <1>a\n <2>b\n   <3>c\n", Result([b"<1>a", b"<2>b", b"<3>c"])),
    "a space behind LF": (b"<1>a\n ", Result([b"<1>a"])),
    "sixteen spaces before PRI": (b" " * 16 + b"<1>a\n", Result([b"<1>a"])),
    "seventeen are text": (b" " * 17 + b"<1>a\n", Result([b" " * 17 + b"<1>a"])),
    "seventeen at the end": (b"<1>a\n" + b" " * 17, Result([b"<1>a", b" " * 17])),
    "spaces before a count": (b" 4 <1>a\n", Result([b" 4 <1>a"])),
    "NULs as ends": (b"<1>a\0<2>b\0", Result([b"<1>a", b"<2>b"])),
    "NULs and LFs as ends": (
        b"<1>a\0<2>b\n<3>c\0\n<4>d\n\0",
        Result([b"<1>a", b"<2>b", b"<3>c", b"<4>d"]),
    ),
    "CR and NUL": (b"<1>a\r\0<2>b\r\0\r\n<3>c", Result([b"<1>a", b"<2>b", b"<3>c"])),
    "many NULs": (b"\0\0<1>a\0\0\0<2>b\0\0\n\0\n", Result([b"<1>a", b"<2>b"])),
    "NUL behind a PRI": (b"<1>\0a\n", Result([b"<1>", b"a"])),
    "a count behind NUL": (b"<1>a\x004 <2>b\x004 <3>c", Result([b"<1>a", b"<2>b", b"<3>c"])),
    "an empty line before a count": (b"\n4 <1>a", Result([b"<1>a"], 1)),
    "a CR before a count": (b"\r4 <1>a\n", Result([b"\r4 <1>a"])),
    "a CR alone behind NUL": (b"\r\0<1>a\0", Result([b"<1>a"], 1)),
}


@pytest.mark.parametrize(("stream", "expected"), AUTO.values(), ids=AUTO)
def test_each_frame_says_its_own_framing(stream: bytes, expected: Result) -> None:
    """``auto`` tells octet counts from lines frame by frame, and finds back after a wrong count."""
    check("auto", stream, expected)


LF: dict[str, tuple[bytes, Result]] = {
    "counts are text": (b"4 <1>a\n4 <2>b\n", Result([b"4 <1>a", b"4 <2>b"])),
    "NULs before LF": (b"<1>a\0\0\n<2>b\0", Result([b"<1>a", b"<2>b"])),
    "NULs around CR": (b"<1>a\0\r\0\n", Result([b"<1>a"])),
    "NULs inside": (b"\0<1>a\0b\n", Result([b"\0<1>a\0b"])),
    "only NULs and CR": (b"\0\n\r\n\0\r\0\n\0", Result([], 4)),
    "spaces stay": (b" <1>a\n ", Result([b" <1>a", b" "])),
}


@pytest.mark.parametrize(("stream", "expected"), LF.values(), ids=LF)
def test_lf_looks_for_nothing_but_lf(stream: bytes, expected: Result) -> None:
    """Forced to ``lf``, counts are text and NULs are padding at the end only."""
    check("lf", stream, expected)


NUL: dict[str, tuple[bytes, Result]] = {
    "frames": (b"<1>a\0<2>b\0<3>c", Result([b"<1>a", b"<2>b", b"<3>c"])),
    "LF inside": (b"<1>a\nb\n c\0", Result([b"<1>a\nb\n c"])),
    "LF before NUL": (b"<1>a\n\0<2>b\r\n\0<3>c\r\0", Result([b"<1>a", b"<2>b", b"<3>c"])),
    "only one LF is padding": (b"<1>a\n\n\0", Result([b"<1>a\n"])),
    "counts are text": (b"4 <1>a\0", Result([b"4 <1>a"])),
    "empty frames": (b"\0\0<1>a\0\n\0\r\n\0", Result([b"<1>a"], 4)),
}


@pytest.mark.parametrize(("stream", "expected"), NUL.values(), ids=NUL)
def test_nul_looks_for_nothing_but_nul(stream: bytes, expected: Result) -> None:
    """Forced to ``nul``, a message of many lines stays whole."""
    check("nul", stream, expected)


BAD = "bad_octet_count"
OCTET: dict[str, tuple[bytes, Result]] = {
    "nothing": (b"", Result([])),
    "frames": (octets(b"<1>a", b"hello", b"x" * 300), Result([b"<1>a", b"hello", b"x" * 300])),
    "any content": (octets(b" ", b"\0a", b"12 "), Result([b" ", b"\0a", b"12 "])),
    "zeros first": (b"004 <1>a01 b", Result([b"<1>a", b"b"])),
    "a count of zero": (b"0 1 a0 ", Result([b"a"], 2)),
    "a body of padding": (b"1 \n12 " + b"\n" * 12 + b"1 a", Result([b"a"], 2)),
    "padding inside": (octets(b"<1>a\n", b"b\r\n\0"), Result([b"<1>a", b"b"])),
    "padding behind": (b"4 <1>a\n1 b\r\n1 c\0\0\n1 d", Result([b"<1>a", b"b", b"c", b"d"])),
    "a body that is cut short": (b"1 a9 <1>", Result([b"a", b"<1>"], suspect=1)),
    "a body that never begins": (b"1 a9 ", Result([b"a"], 1, suspect=1)),
    "a header that is cut short": (b"1 a12", Result([b"a", b"12"], suspect=1)),
    "a count that is too small": (b"1 a1 bc1 d", Result([b"a", b"b"], suspect=1, error=BAD)),
    "a usual count that is too small": (
        b"10 0123456789a",
        Result([b"0123456789"], suspect=1, error=BAD),
    ),
    "LF and then no count": (b"1 a\nb", Result([b"a"], error=BAD)),
    "a line": (b"<1>a\n", Result([], error=BAD)),
    "a line behind a count": (b"1 a<1>a\n", Result([b"a"], suspect=1, error=BAD)),
    "LF first": (b"\n1 a", Result([], error=BAD)),
    "NUL first": (b"\x001 a", Result([], error=BAD)),
    "a space first": (b" 1 a", Result([], error=BAD)),
    "no space": (b"12a", Result([], error=BAD)),
    "ten digits": (b"1234567890 a", Result([], error=BAD)),
    "nine digits": (b"123456789 a", Result([b"a"], suspect=1)),
    "a sign": (b"+1 a", Result([], error=BAD)),
    "an underscore": (b"1_0 aaaaaaaaaa", Result([], error=BAD)),
    "a date": (b"1 a2026-11-25 log\n", Result([b"a"], error=BAD)),
}


@pytest.mark.parametrize(("stream", "expected"), OCTET.values(), ids=OCTET)
def test_octet_accepts_nothing_but_counts(stream: bytes, expected: Result) -> None:
    """Forced to ``octet``, what is no count ends the stream; all before it is delivered."""
    check("octet", stream, expected)


# Frames over the limit. All streams here are followed with a limit of 8 bytes.

LONG: dict[str, tuple[Framing, bytes, Result]] = {
    "just the limit": ("auto", b"<1>45678\n<2>b\n", Result([b"<1>45678", b"<2>b"])),
    "just the limit with CR": ("auto", b"<1>45678\r\n", Result([b"<1>45678"])),
    "one more": ("auto", b"<1>456789\n<2>b\n", Result([b"<1>45678", b"<2>b"], 0, (Cut(0, 9),))),
    "one more with CR": ("auto", b"<1>456789\r\n", Result([b"<1>45678"], 0, (Cut(0, 9),))),
    "much more": (
        "auto",
        b"<0>\n" + b"x" * 50 + b"\0<2>b\n" + b"y" * 50,
        Result([b"<0>", b"x" * 8, b"<2>b", b"y" * 8], 0, (Cut(1, 50), Cut(3, 50))),
    ),
    "text with a count inside": (
        "auto",
        b"123456789 4 <1>a\n4 <2>b",
        Result([b"12345678", b"<2>b"], 0, (Cut(0, 16),)),
    ),
    "spaces do not count": ("auto", b" " * 16 + b"<1>45678\r\n", Result([b"<1>45678"])),
    "octets: just the limit": ("auto", b"8 <1>456784 <2>b", Result([b"<1>45678", b"<2>b"])),
    "octets: with LF": ("auto", b"9 <1>45678\n4 <2>b", Result([b"<1>45678", b"<2>b"])),
    "octets: one more": (
        "auto",
        b"9 <1>4567894 <2>b",
        Result([b"<1>45678", b"<2>b"], 0, (Cut(0, 9),)),
    ),
    "octets: much more": (
        "auto",
        b"4 <0>a" + octets(b"<1>" + b"x\n" * 30, b"<2>b"),
        Result([b"<0>a", b"<1>x\nx\nx", b"<2>b"], 0, (Cut(1, 63),)),
    ),
    "octets: absurd": (
        "auto",
        b"999999999 <1>" + b"x" * 50,
        Result([b"<1>xxxxx"], 0, (Cut(0, 999999999),), 1),
    ),
    "octets: absurd, but short": ("auto", b"999999999 <1>a", Result([b"<1>a"], suspect=1)),
    "forced octets": (
        "octet",
        octets(b"a" * 8, b"b" * 9, b"c" * 30, b"d"),
        Result([b"a" * 8, b"b" * 8, b"c" * 8, b"d"], 0, (Cut(1, 9), Cut(2, 30))),
    ),
    "forced lf": (
        "lf",
        b"a" * 8 + b"\r\n" + b"b" * 9 + b"\n\n" + b"c" * 30 + b"\r\nd\n",
        Result([b"a" * 8, b"b" * 8, b"c" * 8, b"d"], 1, (Cut(1, 9), Cut(2, 31))),
    ),
    "forced nul": (
        "nul",
        b"a" * 8 + b"\r\n\0" + b"b" * 9 + b"\0\0" + b"\n" * 30 + b"\0d\0",
        Result([b"a" * 8, b"b" * 8, b"\n" * 8, b"d"], 1, (Cut(1, 9), Cut(2, 30))),
    ),
}


@pytest.mark.parametrize(("framing", "stream", "expected"), LONG.values(), ids=LONG)
def test_a_long_frame_is_cut_and_followed_to_its_end(
    framing: Framing, stream: bytes, expected: Result
) -> None:
    """Its first bytes are a frame, its length is told, and the next frame is found."""
    check(framing, stream, expected, limit=8)


# Between two feeds.

PARTIAL: list[tuple[Framing, bytes, bool, int]] = [
    ("auto", b"", False, 0),
    ("auto", b"<1>a\n", False, 0),
    ("auto", b"<1>a\n<", True, 1),
    ("auto", b"1", True, 1),
    ("auto", b"12 <1", True, 5),
    ("auto", b"12 <1>", True, 3),
    ("auto", b"4 <1>a", False, 0),
    ("auto", b"4 <1>a\n", False, 0),
    ("auto", b"<1>a\0\0", False, 0),
    ("auto", b"\r", True, 1),
    ("auto", b"<1>a\n ", False, 1),
    ("auto", b"<1>a\n x", True, 2),
    ("lf", b"a\n", False, 0),
    ("lf", b"a\n ", True, 1),
    ("nul", b"a\n", True, 2),
    ("nul", b"a\0", False, 0),
    ("octet", b"1", True, 1),
    ("octet", b"1 ", True, 0),
    ("octet", b"1 a\n", False, 0),
    ("octet", b"0 ", False, 0),
]


@pytest.mark.parametrize(("framing", "stream", "partial", "held"), PARTIAL)
def test_a_frame_that_has_begun_shows(
    framing: Framing,
    stream: bytes,
    partial: bool,  # noqa: FBT001 - of a table
    held: int,
) -> None:
    """So a timeout can run, and does not for a sender that is idle between two frames."""
    for pieces in ([stream], each_byte(stream)):
        framer = Framer(framing, LIMIT)
        for piece in pieces:
            framer.feed(piece)
        assert (framer.has_partial, framer.held_bytes) == (partial, held)


def test_a_complete_frame_does_not_wait_for_more() -> None:
    """The last byte of a frame delivers it; only what follows can make its count suspect."""
    framer = Framer("auto", LIMIT)
    assert framer.feed(b"4 <1>") == Framed([], 0, (), 0, may_have_lf=True)
    assert framer.feed(b"a") == Framed([b"<1>a"], 0, (), 0, may_have_lf=True)
    assert framer.feed(b"b\n") == Framed([b"b"], 0, (), 1)
    assert framer.feed(b"<2>c\n<3>") == Framed([b"<2>c"], 0, (), 0)
    assert framer.end() == Framed([b"<3>"], 0, (), 0)


def test_positions_of_cuts_are_those_in_one_feed() -> None:
    """The one who feeds finds the cut frames among those it was just given."""
    framer = Framer("auto", 4)
    assert framer.feed(b"<1>a\n<2>bc\n").cuts == (Cut(1, 5),)
    assert framer.feed(b"<3>de").cuts == ()
    assert framer.feed(b"f\n<4>g\n") == Framed([b"<3>d", b"<4>g"], 0, (Cut(0, 6),), 0)


# Any bytes.

PIECES = [
    b"<1>",
    b"10 <13>abcdef",
    b"<190>a",
    b"4 <1>b",
    b"12 ",
    b"3 <1>",
    b"2026-11-25",
    b"text",
    b"\xff",
]
streams = st.binary(max_size=60) | st.lists(
    st.sampled_from([*PIECES, *(bytes([byte]) for byte in b"\n\r\0 <>0179a")]), max_size=40
).map(b"".join)


@each_framing
@settings(max_examples=400, deadline=None, derandomize=True)
@given(stream=streams, sizes=st.lists(st.integers(0, 9), max_size=30), limit=st.integers(1, 12))
def test_any_bytes_make_frames(
    framing: Framing, stream: bytes, sizes: list[int], limit: int
) -> None:
    """Any stream, in any pieces, brings the same frames or the same documented error."""
    pieces, at = [], 0
    for size in sizes:
        pieces.append(stream[at : at + size])
        at += size
    result = follow(framing, [stream], limit)
    assert follow(framing, [*pieces, stream[at:]], limit) == result
    assert follow(framing, each_byte(stream), limit) == result
    assert all(0 < len(frame) <= limit for frame in result.frames)
    assert sum(map(len, result.frames)) <= len(stream)
    assert all(len(result.frames[cut.position]) == limit for cut in result.cuts)
    assert all(cut.original_bytes > limit for cut in result.cuts)
    assert framing == "octet" or not result.error


@each_framing
@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    messages=st.lists(
        st.binary(max_size=30).map(lambda text: b"<13>" + text.translate(None, b"\n\r\0") + b"."),
        max_size=20,
    ),
    counted=st.lists(st.booleans(), min_size=20, max_size=20),
    size=st.integers(1, 70),
)
def test_what_was_framed_comes_back(
    framing: Framing, messages: list[bytes], counted: list[bool], size: int
) -> None:
    """Messages that a sender framed by the rules are found again, each as it was."""
    delimiter = b"\0" if framing == "nul" else b"\n"
    by_count = {"auto": counted, "octet": [True] * 20}.get(framing, [False] * 20)
    stream = b"".join(
        octets(message) if count else message + delimiter
        for message, count in zip(messages, by_count, strict=False)
    )
    pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
    assert follow(framing, pieces) == Result(messages)


# Hostile sizes.

READ_BYTES = 65_536
FRAME_BYTES = 65_536

ENDLESS: dict[str, tuple[Framing, bytes, bytes, int, int]] = {
    "text": ("auto", b"<1>", b"x", 256, 1),
    "digits": ("auto", b"", b"1", 256, 1),
    "spaces": ("auto", b"", b" ", 256, 1),
    "CRs": ("auto", b"", b"\r", 256, 1),
    "NULs": ("auto", b"<1>a", b"\0", 64, 1),
    "an absurd count": ("auto", b"999999999 <1>", b"\n", 256, 1),
    "lf": ("lf", b"", b"\0", 256, 1),
    "nul": ("nul", b"", b"\n", 256, 1),
    "octet": ("octet", b"999999999 ", b"9", 256, 1),
    "padding behind a count": ("octet", b"1 a", b"\n", 64, 1),
}


@pytest.mark.parametrize(
    ("framing", "start", "byte", "megabytes", "frames"), ENDLESS.values(), ids=ENDLESS
)
def test_a_frame_without_end_costs_no_memory(
    framing: Framing, start: bytes, byte: bytes, megabytes: int, frames: int
) -> None:
    """Hundreds of megabytes without an end of the frame: held is its start, and it is one frame."""
    framer, data = Framer(framing, FRAME_BYTES), byte * READ_BYTES
    found = len(framer.feed(start).frames)
    tracemalloc.start()
    try:
        began = time.process_time()
        for _ in range(megabytes * 1_048_576 // READ_BYTES):
            found += len(framer.feed(data).frames)
            assert framer.held_bytes <= FRAME_BYTES + 20
        spent = time.process_time() - began
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found + len(framer.end().frames) == frames
    assert peak < 8 * READ_BYTES
    assert spent < megabytes * 0.05, "20 MB a second is far below what the slowest machine does"


TIGHT: dict[str, tuple[Framing, bytes]] = {
    "LFs": ("auto", b"\n"),
    "NULs and letters": ("auto", b"a\0"),
    "letters and LFs": ("auto", b"a\n"),
    "digits and LFs": ("auto", b"1\n"),
    "lines and counts": ("auto", b"a\n3 <1>"),
    "counts": ("auto", b"3 <1>"),
    "wrong counts": ("auto", b"3 <1>a\n"),
    "wrong PRIs": ("auto", b"11 <11"),
    "spaces": ("auto", b" <\n"),
    "counts of zero": ("octet", b"0 "),
    "counts and padding": ("octet", b"1 a\r\n\0"),
    "lf": ("lf", b"\0\n"),
    "nul": ("nul", b"\n\0"),
}


def seconds(framing: Framing, stream: bytes, limit: int = FRAME_BYTES) -> float:
    """The CPU time one feed takes, without that of collecting garbage; the better of two."""
    spent = []
    gc.disable()
    try:
        for _ in range(2):
            framer = Framer(framing, limit)
            began = time.process_time()
            framer.feed(stream)
            spent.append(time.process_time() - began)
    finally:
        gc.enable()
    return min(spent)


@pytest.mark.parametrize(("framing", "unit"), TIGHT.values(), ids=TIGHT)
@pytest.mark.parametrize("limit", [1, FRAME_BYTES])
def test_time_is_linear_in_a_read(framing: Framing, unit: bytes, limit: int) -> None:
    """The smallest frames in a read eight times as large take about eight times as long."""
    small, large = unit * (8_192 // len(unit)), unit * (65_536 // len(unit))
    assert seconds(framing, large, limit) < 24 * seconds(framing, small, limit) + 0.005


@pytest.mark.parametrize(("unit", "limit"), [(b"a\0", FRAME_BYTES), (b"ab\n", 1)])
def test_a_delimiter_that_never_comes_is_not_searched_for_again(unit: bytes, limit: int) -> None:
    """A read without LFs, or without NULs, is searched for them once, not once for each frame."""
    small, large = unit * (32_768 // len(unit)), unit * (524_288 // len(unit))
    assert seconds("auto", large, limit) < 64 * seconds("auto", small, limit), "256 if it was"


@pytest.mark.parametrize(
    ("framing", "stream"),
    [
        ("auto", b"<1>" + b"x" * 100_000),
        ("auto", b"100000 <1>" + b"x" * 99_997),
        ("lf", b"x" * 100_000),
        ("octet", b"100000 " + b"x" * 100_000),
    ],
)
def test_time_is_linear_byte_by_byte(framing: Framing, stream: bytes) -> None:
    """A large frame that comes in single bytes is not copied for each of them."""
    framer, began = Framer(framing, 1 << 20), time.process_time()
    for byte in each_byte(stream):
        framer.feed(byte)
    framer.end()
    assert time.process_time() - began < 2, "copies would take many seconds"
