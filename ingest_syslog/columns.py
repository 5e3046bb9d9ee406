"""Messages that are alike, spliced column by column: the cheapest way there is in Python.

A sender's messages mostly have the same form: the same fields, the same names in their structured
data. Then a read is a table, and each step is one call for a whole column of it. Where one message
is different, `ingest_syslog.splice` goes through the read message by message instead; both give
the same results.
"""

from __future__ import annotations

import re
from itertools import compress, count, repeat
from operator import contains, itemgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Template = Callable[[tuple[bytes, ...]], Sequence[bytes] | None]
    Columns = Sequence[Sequence[bytes]]

ISO = rb"[0-9T:-]{16}:[0-5]\d(?:\.\d{1,6})?(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)"
"""A date-time of RFC 3339, but for whether its date and minute exist: its first 16 characters."""
_STAMP, _STAMPS = re.compile(ISO), re.compile(rb"(?:%b )*+" % ISO)
_DIGITS_ALIKE = bytes(ord("0") if chr(code) in "0123456789" else code for code in range(256))
_MINUTES, _SECONDS = 16, 19
"""The characters of a date-time of RFC 3339 to its minutes, and to its seconds."""
_SECOND = itemgetter(slice(_SECONDS))
_QUOTE, _SPACE = b'"', b" "
_FIELDS = 6
"""Spaces before the structured data of RFC 5424."""
_ELEMENT_END = b'"] '


class NotAlikeError(Exception):
    """The messages are not alike, or not usual."""


class Rfc5424Table:
    """Messages of RFC 5424 as columns.

    Args:
        frames: ASCII, without control characters and backslashes.
        minutes: whether all of these minutes exist.
        template: names of parameters as they stand between the values -> the structured data as
            JSON in pieces, between which the values come; None: not usual.

    Raises:
        NotAlikeError: they are not.
    """

    def __init__(
        self,
        frames: Sequence[bytes],
        minutes: Callable[[set[bytes]], bool],
        template: Template,
    ) -> None:
        self.elements: list[Iterable[bytes]] = []
        header, texts = self._cut(frames, template)
        self.pri, self.stamps, self.hosts, self.app_names, self.procids, self.msgids = header
        if not _are_stamps(self.stamps, minutes) or b"-" in self.hosts:
            raise NotAlikeError
        if b"" in texts:
            raise NotAlikeError
        self.texts = _escaped(texts)

    def _cut(self, frames: Sequence[bytes], template: Template) -> tuple[Columns, Sequence[bytes]]:
        """The columns of the header without structured data, and the texts."""
        if frames[0].split(_SPACE, _FIELDS)[-1].startswith(b"["):
            heads, ends, texts = zip(
                *map(bytes.partition, frames, repeat(_ELEMENT_END)), strict=True
            )
            if ends.count(_ELEMENT_END) != len(frames):
                raise NotAlikeError
            return self._cut_elements(heads, template), texts
        rows = list(map(bytes.split, frames, repeat(_SPACE), repeat(_FIELDS + 1)))
        if set(map(len, rows)) != {_FIELDS + 2}:
            raise NotAlikeError
        *header, nil, texts = zip(*rows, strict=True)
        if nil.count(b"-") != len(frames) or any(_QUOTE in b"".join(each) for each in header):
            raise NotAlikeError
        if any(b"" in column for column in header):
            raise NotAlikeError
        self.elements = [repeat(b'","message":"')]
        return header, texts

    def _cut_elements(self, heads: Sequence[bytes], template: Template) -> Columns:
        """The same of messages with structured data, as far as its last value."""
        parts = _table(heads, _QUOTE, b"\n", heads[0].count(_QUOTE) + 1)
        header = _table(parts[0], _SPACE, _QUOTE, parts[0][0].count(_SPACE) + 1)
        values, keys = parts[1::2], parts[2::2]
        first = _SPACE.join(column[0] for column in header[_FIELDS:])
        pieces = template((first, *(column[0] for column in keys)))
        if pieces is None or len(pieces) != len(values) + 1:
            raise NotAlikeError
        if any(column.count(column[0]) != len(heads) for column in (*header[_FIELDS:], *keys)):
            raise NotAlikeError
        if any(b"]" in b"".join(column) for column in values):
            raise NotAlikeError
        self.elements = [repeat(pieces[0])]
        for column, piece in zip(values, pieces[1:], strict=True):
            self.elements += [column, repeat(piece)]
        return header[:_FIELDS]


def _table(rows: Sequence[bytes], separator: bytes, mark: bytes, width: int) -> Columns:
    """The columns of rows of ``width`` parts, all of which are split at once.

    A ``mark``, which is in no row, stands between two of them: if these marks make a column, then
    every row has the same width. A split for each row, and one tuple of it all, cost twice as much.
    """
    buffer = b"".join((separator, mark, separator)).join(rows)
    parts, step = buffer.split(separator), width + 1
    if len(parts) != step * len(rows) - 1 or parts[width::step].count(mark) != len(rows) - 1:
        raise NotAlikeError
    if separator == _SPACE and b"  " in buffer:  # a field of a header is never empty
        raise NotAlikeError
    return [parts[at::step] for at in range(width)]


def _are_stamps(stamps: Sequence[bytes], minutes: Callable[[set[bytes]], bool]) -> bool:
    """Whether all are date-times of RFC 3339 that exist: mostly they have one form, in UTC."""
    form = stamps[0].translate(_DIGITS_ALIKE) + _SPACE
    joined_stamps = _SPACE.join([*stamps, b""])
    if form.endswith(b"Z ") and joined_stamps.translate(_DIGITS_ALIKE) == form * len(stamps):
        seconds = set(map(_SECOND, stamps))
        alike = {second + stamps[0][_SECONDS:] for second in seconds}
        return all(map(_STAMP.fullmatch, alike)) and minutes({each[:_MINUTES] for each in seconds})
    if _STAMPS.fullmatch(joined_stamps) is None:
        return False
    return minutes({stamp[:_MINUTES] for stamp in stamps})


def _escaped(texts: Sequence[bytes]) -> Sequence[bytes]:
    """The texts as JSON has them: quotation marks are all there is to escape."""
    marked = list(compress(count(), map(contains, texts, repeat(_QUOTE))))
    if not marked:
        return texts
    escaped = list(texts)
    for at in marked:
        escaped[at] = texts[at].replace(_QUOTE, b'\\"')
    return escaped


def optional(name: bytes, column: Sequence[bytes]) -> tuple[Iterable[bytes], Iterable[bytes]]:
    """A member that is left out where its value is empty: its start, and its values."""
    if b"" in column:
        return [name if value else b"" for value in column], column
    return repeat(name), column


def nilable(name: bytes, column: Sequence[bytes]) -> tuple[Iterable[bytes], Iterable[bytes]]:
    """The same of a field that may be nil (RFC 5424, section 6), and is never empty."""
    if b"-" in column:
        return optional(name, [b"" if value == b"-" else value for value in column])
    return repeat(name), column


def joined(columns: Sequence[Iterable[bytes]]) -> list[bytes]:
    """Each row of a table as one."""
    return list(map(b"".join, zip(*columns)))  # noqa: B905 - constants repeat for ever
