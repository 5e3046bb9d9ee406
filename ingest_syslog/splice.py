"""The usual messages, spliced into their envelopes from their own bytes, a whole read at a time.

A message is usual when its bytes can stand in JSON as they are, its header is canonical, and its
status is ``ok``. One regular expression cuts all messages of a read: a call for each, and a string
object for each part, would cost several times as much. Whatever is not usual is left to
`ingest_syslog.parse`, which is right for everything, and whose results these are for the rest.
"""

from __future__ import annotations

import re
from functools import cached_property
from itertools import repeat
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from ingest.envelope import is_date_time
from ingest_syslog.columns import ISO, NotAlikeError, Rfc5424Table, joined, nilable, optional
from ingest_syslog.seal import json_text
from ingest_syslog.structured_data import read_structured_data
from ingest_syslog.timestamp import read_timestamp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ingest_syslog.message import Clock

REMEMBERED = 4096
"""So many minutes, dates and shapes of structured data are remembered: hostile ones are endless."""
SHAPE_BYTES = 1024
"""Larger shapes are not remembered: they would fill the memory."""
INDICES = 1000
"""The most messages that are worked on at once, before others get their turn."""

_ISO = rb"(%b)" % ISO.replace(b"[0-9T:-]{16}", b"([0-9T:-]{16})")
_FIELD, _NILABLE = rb'([^ "]+) ', rb'(?:-|([^ "]+)) '
_ELEMENTS = rb"(?:-|\[([^\]\n]++(?:\]\[[^\]\n]*+)*+)\])"
"""Within one line and without going back: else a read of unclosed elements would take minutes."""
_RFC5424 = rb"1 " + _ISO + rb" (?!- )" + _FIELD + _NILABLE * 3 + _ELEMENTS + rb" (.+)"
_BSD = rb"([A-Z][a-z]{2} [ 123]\d \d\d:\d\d:\d\d)"
_HOST = rb"(?!(?:[A-Z]{1,5}|[AaPp][Mm]|\d{4}) )([A-Za-z0-9][A-Za-z0-9._-]{0,254})"
"""What cannot belong to the date before it: a zone, half of the day, or a year."""
_TAG = rb"([A-Za-z][A-Za-z0-9._/-]{0,127})(?:\[(\d{1,128})\])?: (.+)"
"""This and the host name as long as `ingest_syslog.rfc3164` takes them."""
_RFC3164 = rb"(?:" + _BSD + rb"|" + _ISO + rb") " + _HOST + rb" " + _TAG
_CONTROLS = tuple(bytes([code]) for code in range(0x20) if code != 0x0A)
_PLAIN = bytes(0x20 if byte < 0x20 and byte != 0x0A else byte for byte in range(256))
"""What leaves bytes as they are, but for control characters, which JSON wants escaped."""
_PADDING = (b"\0", b"\r")
"""What framing may have left behind a message; see `ingest_syslog.parse`."""
_BOM = b"\xef\xbb\xbf"

_INDEX = tuple(b'%d","time":"' % index for index in range(INDICES))
_PRI = {
    b"%d" % number: b'","data":{"facility":%d,"severity":%d,"timestamp":"'
    % (number >> 3, number & 7)
    for number in range(192)
}
_PRI_1 = {b"<%b>1" % number: members for number, members in _PRI.items()}
_SUBJECT, _HOSTNAME, _APP_NAME = b'","subject":"', b'","hostname":"', b'","app_name":"'
_RFC5424_END = b',"format":"rfc5424","status":"ok"}}'
_RFC3164_END = b',"format":"rfc3164","status":"ok"}}'
_PROCID, _MSGID, _MESSAGE, _QUOTE = b'","procid":"', b'","msgid":"', b'","message":"', b'"'


class Read(NamedTuple):
    """The messages of one read, at most `INDICES`, and what they share.

    Attributes:
        frames: the messages, none empty.
        peers: who sent each: an IP address, or ``unix``.
        tails: for each its peer and listener, as they follow the text of the message:
            ``","peer":"192.0.2.1","listener":"tcp"``.
        start: how the values begin; see `ingest_syslog.seal.start_of`.
        received: the time of receipt, RFC 3339.
        clock: see `Clock`.
        plain: whether it is known that no message has LF in it or is not plain, see `is_plain`.
        route: (PRI, app name, host, position) -> how the value begins; None: always ``start``.
    """

    frames: Sequence[bytes]
    peers: Sequence[str]
    tails: Sequence[bytes]
    start: bytes
    received: bytes
    clock: Clock
    plain: bool = False
    route: Callable[[bytes, bytes, bytes, int], bytes] | None = None


class Spliced(NamedTuple):
    """The record values and keys of a read, by position; ``None`` for what was not usual."""

    values: list[Any]
    keys: list[Any]


def is_plain(data: bytes) -> bool:
    """Whether bytes are ASCII that JSON has as it is, but for LF and quotation marks."""
    return data.isascii() and not _has_odd_characters(data)


def _has_odd_characters(data: bytes) -> bool:
    """Whether there are characters that JSON escapes, but for LF and quotation marks."""
    # One search for each is faster than one for all of them.
    return b"\\" in data or any(map(data.__contains__, _CONTROLS))


class Lines:
    """Messages as the lines of one buffer, which a regular expression can go through at once.

    Args:
        frames: all messages of a read.
        positions: which of them to take.
    """

    def __init__(self, frames: Sequence[bytes], positions: Sequence[int]) -> None:
        whole = len(positions) == len(frames)
        lines = frames if whole else [frames[at] for at in positions]
        together = b"".join(lines)
        if b"\n" in together:  # an empty line is matched as what is not usual
            whole = False
            lines = [b"" if b"\n" in line else line for line in lines]
        self.lines = lines
        self.ascii = together.isascii()
        self.odd = _has_odd_characters(together) or not self._utf8()
        self.are_plain = whole and self.ascii and not self.odd

    @cached_property
    def buffer(self) -> bytes:
        """The lines, LF between them."""
        return b"\n".join(self.lines)

    def _utf8(self) -> bool:
        try:
            return self.ascii or bool(self.buffer.decode())
        except UnicodeDecodeError:
            return False

    def cut(self, pattern: Pattern) -> list[tuple[bytes, ...]]:
        """The parts of each line; all empty where it does not match."""
        found: list[tuple[bytes, ...]] = pattern.quick.findall(self.buffer)
        if len(found) != len(self.lines):  # a part went on in the next line
            found = pattern.strict.findall(self.buffer)
        return found


class Pattern:
    """A pattern for lines, each of which is matched exactly once.

    Attributes:
        quick: its parts may go on in the next line; it costs less.
        strict: they may not.
    """

    def __init__(self, header: bytes) -> None:
        line = rb"^(?:<(\d{1,3})>%b|.*)$"
        self.quick = re.compile(line % header, re.MULTILINE)
        self.strict = re.compile(line % header.replace(b"[^", b"[^\\n"), re.MULTILINE)


RFC5424, RFC3164 = Pattern(_RFC5424), Pattern(_RFC3164)


class Splicer:
    """Splices the usual messages; remembers dates and the shapes of structured data."""

    def __init__(self) -> None:
        self._minutes: set[bytes] = set()
        self._dates: dict[bytes, bytes] = {}
        self._shapes: dict[bytes, bytes | None] = {}
        self._today: Any = None

    def rfc5424(self, read: Read, positions: Sequence[int], into: Spliced) -> list[int]:
        """Splice what is usual among the messages at ``positions``; where the others are."""
        start, route = read.start, read.route
        tails, values, keys = read.tails, into.values, into.keys
        join, minutes, shapes, pris = b"".join, self._minutes, self._shapes, _PRI
        is_whole = len(positions) == len(read.frames)
        if read.plain and is_whole and self._rfc5424_table(read, into):
            return []
        lines = Lines(read.frames, positions)
        if lines.are_plain and not read.plain and self._rfc5424_table(read, into):
            return []
        left: list[int] = []
        odd, ascii_ = lines.odd, lines.ascii
        for at, (pri, stamp, minute, host, app_name, procid, msgid, elements, text) in zip(
            positions, lines.cut(RFC5424), strict=True
        ):
            if pri not in pris or (minute not in minutes and not self._minute(minute)):
                left.append(at)
                continue
            members = _MESSAGE
            if elements:
                parts = elements.split(_QUOTE)
                names = _QUOTE.join(parts[::2])
                shape = shapes.get(names) or self._shape(names, parts[::2])
                told = parts[1::2]
                is_odd = len(parts) % 2 == 0  # a quotation mark too many
                if shape is None or is_odd or (b"]" in elements and b"]" in b"".join(told)):
                    left.append(at)
                    continue
                members = shape % tuple(told)
            if odd or not ascii_ or _QUOTE in text:
                escaped = _escaped(read.frames[at], text, odd=odd)
                if escaped is None:
                    left.append(at)
                    continue
                text = escaped  # noqa: PLW2901 - for JSON
            keys[at] = host
            values[at] = join(
                (
                    start if route is None else route(pri, app_name, host, at),
                    _INDEX[at],
                    stamp,
                    _SUBJECT,
                    host,
                    pris[pri],
                    stamp,
                    _HOSTNAME,
                    host,
                    _APP_NAME if app_name else b"",
                    app_name,
                    _PROCID if procid else b"",
                    procid,
                    _MSGID if msgid else b"",
                    msgid,
                    members,
                    text,
                    tails[at],
                    _RFC5424_END,
                )
            )
        return left

    def _rfc5424_table(self, read: Read, into: Spliced) -> bool:
        """Splice all messages at once, if they are alike; whether they were."""
        frames, count = read.frames, len(read.frames)
        try:
            table = Rfc5424Table(frames, self._minutes_exist, self._pieces_of)
            facilities = list(map(_PRI_1.__getitem__, table.pri))
        except (NotAlikeError, KeyError):
            return False
        hosts, stamps = table.hosts, table.stamps
        into.values[:] = joined(
            [
                _starts(read, (pri[1:-2] for pri in table.pri), table.app_names, hosts),
                _INDEX[:count],
                stamps,
                repeat(_SUBJECT),
                hosts,
                facilities,
                stamps,
                repeat(_HOSTNAME),
                hosts,
                *nilable(_APP_NAME, table.app_names),
                *nilable(_PROCID, table.procids),
                *nilable(_MSGID, table.msgids),
                *table.elements,
                table.texts,
                *_ends(read.tails, _RFC5424_END),
            ]
        )
        into.keys[:] = hosts
        return True

    def rfc3164(self, read: Read, positions: Sequence[int], into: Spliced) -> list[int]:
        """Splice what is usual among the messages at ``positions``; where the others are."""
        start, received, route = read.start, read.received, read.route
        tails, values, keys = read.tails, into.values, into.keys
        join, minutes, dates, pris = b"".join, self._minutes, self._dates_of(read.clock), _PRI
        lines = Lines(read.frames, positions)
        rows = lines.cut(RFC3164)
        if lines.are_plain and self._rfc3164_table(read, rows, into):
            return []
        left: list[int] = []
        odd, ascii_ = lines.odd, lines.ascii
        for at, (pri, date, stamp, minute, host, app_name, procid, text) in zip(
            positions, rows, strict=True
        ):
            time, whole = stamp, stamp
            if pri not in pris:
                whole = b""
            elif date:
                time, whole = received, dates.get(date) or self._date(date, read.clock)
            elif minute not in minutes and not self._minute(minute):
                whole = b""
            if not whole:
                left.append(at)
                continue
            if odd or not ascii_ or _QUOTE in text:
                escaped = _escaped(read.frames[at], text, odd=odd)
                if escaped is None:
                    left.append(at)
                    continue
                text = escaped  # noqa: PLW2901 - for JSON
            keys[at] = host
            values[at] = join(
                (
                    start if route is None else route(pri, app_name, host, at),
                    _INDEX[at],
                    time,
                    _SUBJECT,
                    host,
                    pris[pri],
                    whole,
                    _HOSTNAME,
                    host,
                    _APP_NAME,
                    app_name,
                    _PROCID if procid else b"",
                    procid,
                    _MESSAGE,
                    text,
                    tails[at],
                    _RFC3164_END,
                )
            )
        return left

    def _rfc3164_table(self, read: Read, rows: Sequence[tuple[bytes, ...]], into: Spliced) -> bool:
        """Splice all messages at once, if they are alike; whether they were."""
        pris, dates, stamps, minutes, hosts, app_names, procids, texts = zip(*rows, strict=True)
        if not _PRI.keys() >= set(pris) or any(_QUOTE in text for text in texts):
            return False
        times: Iterable[bytes] = stamps
        if all(dates):
            times, stamps = repeat(read.received), self._completed(dates, read.clock)
        elif any(dates) or not self._minutes_exist(set(minutes)):
            return False
        if not all(stamps):
            return False
        into.values[:] = joined(
            [
                _starts(read, pris, app_names, hosts),
                _INDEX[: len(rows)],
                times,
                repeat(_SUBJECT),
                hosts,
                list(map(_PRI.__getitem__, pris)),
                stamps,
                repeat(_HOSTNAME),
                hosts,
                *optional(_APP_NAME, app_names),
                *optional(_PROCID, procids),
                repeat(_MESSAGE),
                texts,
                *_ends(read.tails, _RFC3164_END),
            ]
        )
        into.keys[:] = hosts
        return True

    def _completed(self, dates: Sequence[bytes], clock: Clock) -> tuple[bytes, ...]:
        """Dates as RFC 3339; empty where one is not usual."""
        known = self._dates_of(clock)
        for date in set(dates) - known.keys():
            self._date(date, clock)
        return tuple(map(known.__getitem__, dates))

    # What is remembered.

    def _minute(self, minute: bytes) -> bool:
        """Whether a date and minute exist."""
        if not is_date_time(b'"%b:00Z"' % minute) or minute.startswith(b"0000"):
            return False
        if len(self._minutes) >= REMEMBERED:
            self._minutes.clear()
        self._minutes.add(minute)
        return True

    def _minutes_exist(self, minutes: set[bytes]) -> bool:
        return all(map(self._minute, minutes - self._minutes))

    def _dates_of(self, clock: Clock) -> dict[bytes, bytes]:
        """Date without a year -> RFC 3339; which year that is depends on today's date."""
        today = (clock.now.date(), clock.zone)
        if today != self._today or len(self._dates) >= REMEMBERED:
            self._today = today
            self._dates.clear()
        return self._dates

    def _date(self, date: bytes, clock: Clock) -> bytes:
        """A date as RFC 3339; empty where it is not usual."""
        found = read_timestamp(date.decode(), 0, clock)
        usual = found.text is not None and not found.reason and found.end == len(date)
        text = self._dates[date] = found.text.encode() if usual and found.text else b""
        return text

    def _shape(self, names: bytes, pieces: Sequence[bytes]) -> bytes | None:
        """Structured data as JSON, with ``%b`` in place of its values; None: not usual."""
        shape = _template(pieces) if b"%" not in names and b"\\" not in names else None
        if len(names) <= SHAPE_BYTES:
            if len(self._shapes) >= REMEMBERED:
                self._shapes.clear()
            self._shapes[names] = shape
        return shape

    def _pieces_of(self, names: tuple[bytes, ...]) -> Sequence[bytes] | None:
        """Structured data with these names as JSON, cut where its values come."""
        inner = (names[0][1:], *names[1:], b"")
        key = _QUOTE.join(inner)
        shape = self._shapes.get(key) or self._shape(key, inner)
        return None if shape is None else shape.split(b"%b")


def _starts(
    read: Read, pris: Iterable[bytes], app_names: Sequence[bytes], hosts: Sequence[bytes]
) -> Iterable[bytes]:
    """How the value of each message begins."""
    route = read.route
    if route is None:
        return repeat(read.start)
    named = (b"" if name == b"-" else name for name in app_names)
    return list(map(route, pris, named, hosts, range(len(hosts))))


def _ends(tails: Sequence[bytes], end: bytes) -> tuple[Iterable[bytes], ...]:
    """How the value of each message ends: often all in one way, as from a stream."""
    if tails.count(tails[0]) == len(tails):
        return (repeat(tails[0] + end),)
    return tails, repeat(end)


def _template(pieces: Sequence[bytes]) -> bytes | None:
    try:
        text = (b"[%b]" % b'"%b"'.join(pieces)).decode()
    except UnicodeDecodeError:
        return None
    found = read_structured_data(text, 0)
    if found.elements is None or found.reason or found.end != len(text):
        return None
    return b'","structured_data":%b,"message":"' % msgspec.json.encode(found.elements)


def _escaped(frame: bytes, text: bytes, *, odd: bool) -> bytes | None:
    """The text of a message as JSON has it; None where it is not alone in being unusual."""
    if odd:
        head = frame[: len(frame) - len(text)]
        if b"\\" in head or head.translate(_PLAIN) != head:
            return None
        if b"\n" in frame or frame.endswith(_PADDING):
            return None
    try:
        frame.decode()
        decoded = text.decode()
    except UnicodeDecodeError:
        return None
    return None if text.startswith(_BOM) else json_text(decoded)
