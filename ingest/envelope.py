"""The envelope around an event: CloudEvents 1.0 as JSON, spliced around the client's bytes.

Pure: clock and ids come in as arguments. The client's JSON is never re-encoded. Constants come
first, because a batch of records then compresses better, and ``data`` comes last.

    {"specversion":"1.0","source":"/sources/orders","type":"…","time":"…","id":"…","data":{…}}

Source: CloudEvents 1.0.2, JSON Event Format 3.1 and Kafka Protocol Binding 3.3.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, cast

import msgspec
from msgspec import Raw

if TYPE_CHECKING:
    from collections.abc import Sequence

CONTENT_TYPE = ("content-type", b"application/cloudevents+json; charset=UTF-8")
"""The header of every record (Kafka Protocol Binding 3.3.1)."""
ID_BYTES = 256
"""The longest id that is taken over from an event."""

MADE_ENDS = 10_000
"""So many events of a request get their made ids from a table."""

_QUOTE = ord('"')
_ID, _DATA, _END = b',"id":', b',"data":', b"}"
_SOURCE = b'"source":"/sources/'
_NUMBER = re.compile(rb"-?\d[\d.eE+-]*")
_DATE_TIME = re.compile(
    rb'"(\d{4})-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])'
    rb"[Tt](?:[01]\d|2[0-3]):[0-5]\d:(?:[0-5]\d|60)(?:\.\d+)?"
    rb'(?:[Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)"'
)
_MONTHS_OF_30_DAYS = frozenset({4, 6, 9, 11})
_NO_VALUE = Raw(b"")
_MADE_END = tuple(b'-%d"%b' % (index, _DATA) for index in range(MADE_ENDS))


class BadKey(ValueError):  # noqa: N818 - a verdict
    """The value at the key's pointer cannot be a record key: it is an object or an array."""


class Head(msgspec.Struct, frozen=True, gc=False):
    """The fields of an event that the envelope owns, each as it was sent; empty where absent.

    The types are `Raw`, so that an odd value in one event does not fail the decoding of the others.
    """

    id: Raw = _NO_VALUE
    type: Raw = _NO_VALUE
    time: Raw = _NO_VALUE


def head_type(key: tuple[str, ...] | None) -> type[Head]:
    """`Head` with a field ``key`` for the first token of a source's key pointer."""
    if key is None:
        return Head
    own = key[0] if key[0] in {"id", "type", "time"} else None
    if own is not None:
        return Head
    rename = {"key": key[0]}
    made: Any = msgspec.defstruct(
        "KeyedHead", [("key", Raw, _NO_VALUE)], bases=(Head,), rename=rename, frozen=True, gc=False
    )
    return cast("type[Head]", made)


class Received(msgspec.Struct, frozen=True, gc=False):
    """What the events of one request share.

    Attributes:
        time: when it was received, as RFC 3339 text in UTC.
        timestamp_ms: the same, in milliseconds since the epoch.
        base_id: unique, and fit for JSON as it is; made ids are ``<base_id>-<index>``.
        attributes: further CloudEvents attributes, as JSON members with a comma before each.
    """

    time: bytes
    timestamp_ms: int
    base_id: bytes
    attributes: bytes = b""


class Envelope:
    """Seals the events of one source.

    Args:
        source: the source's name.
        event_type: the CloudEvents type of events without their own.
        key: the tokens of the pointer to the record key, or None.
    """

    def __init__(self, source: str, event_type: str, key: tuple[str, ...] | None = None) -> None:
        self._start = f'{{"specversion":"1.0","source":"/sources/{source}","type":'.encode()
        self._type = json.dumps(event_type, ensure_ascii=False).encode()
        self._key = key
        self._key_field = key[0] if key and key[0] in {"id", "type", "time"} else "key"

    def seal(
        self,
        heads: Sequence[Head],
        events: Sequence[bytes | Raw],
        indices: Sequence[int],
        received: Received,
    ) -> list[bytes]:
        """The record values of ``events``, whose heads and positions are given alongside.

        Args:
            heads: what the envelope owns of each event.
            events: the events as sent, each one JSON object.
            indices: the position of each in its request; made ids end with it.
            received: what they share.
        """
        plain = self._prefix(self._type, b'"%b"' % received.time, received)
        made = b'%b"%b' % (plain, received.base_id)
        join, absent = b"".join, _NO_VALUE
        values = []
        for head, event, index in zip(heads, events, indices, strict=True):
            own_id = head.id
            if head.type is absent and head.time is absent:
                if own_id is absent and index < MADE_ENDS:  # the usual event, without a call
                    values.append(join((made, _MADE_END[index], event, _END)))
                    continue
                prefix = plain
            else:
                prefix = self._prefix(*self._own(head, received), received)
            own = event_id(bytes(own_id)) or made_id(received.base_id, index)
            values.append(join((prefix, own, _DATA, event, _END)))
        return values

    def _prefix(self, event_type: bytes, time: bytes, received: Received) -> bytes:
        return b"".join((self._start, event_type, b',"time":', time, received.attributes, _ID))

    def _own(self, head: Head, received: Received) -> tuple[bytes, bytes]:
        """Type and time of an event that brings one of them, as JSON."""
        event_type, time = bytes(head.type), bytes(head.time)
        if not (event_type.startswith(b'"') and len(event_type) > 2):
            event_type = self._type
        return event_type, time if is_date_time(time) else b'"%b"' % received.time

    def keys(self, heads: Sequence[Any]) -> list[bytes | BadKey | None]:
        """The record key of each event; None where there is none."""
        if self._key is None:
            return [None] * len(heads)
        field, rest = self._key_field, self._key[1:]
        return [record_key(bytes(getattr(head, field)), rest) for head in heads]


def made_id(base: bytes, index: int) -> bytes:
    """The id, as JSON, of an event that has none."""
    return b'"%b-%d"' % (base, index)


def event_id(value: bytes) -> bytes | None:
    """An event's own ``id`` as a JSON string; None where it is not fit to be one."""
    if value.startswith(b'"'):
        # A string that is short enough as it was written is so without its escapes as well.
        if 2 < len(value) <= ID_BYTES:
            return value
        if len(value) > 6 * ID_BYTES + 2:  # longer than the longest escapes of a short enough one
            return None
        return value if 1 <= len(json.loads(value).encode()) <= ID_BYTES else None
    if len(value) <= ID_BYTES and _NUMBER.fullmatch(value):
        return b'"%b"' % value
    return None


def is_date_time(value: bytes) -> bool:
    """Whether a JSON value is a date-time of RFC 3339, section 5.6."""
    match = _DATE_TIME.fullmatch(value)
    if match is None:
        return False
    year, month, day = map(int, match.groups())
    if month == 2:
        leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
        return day <= (29 if leap else 28)
    return day <= 30 or month not in _MONTHS_OF_30_DAYS


def record_key(value: bytes, pointer: Sequence[str] = ()) -> bytes | BadKey | None:
    """The record key at ``pointer`` in a JSON value: a string's text, or the JSON text itself."""
    for token in pointer:
        if not value.startswith(b"{"):
            return None
        value = bytes(msgspec.json.decode(value, type=dict[str, Raw]).get(token, _NO_VALUE))
    if not value or value == b"null":
        return None
    if value[0] == _QUOTE:
        plain = value[1:-1]
        return plain if b"\\" not in plain else msgspec.json.decode(value, type=str).encode()
    return BadKey() if value[0] in b"{[" else value


def id_of(value: bytes) -> str:
    """The id in a record value that was sealed here."""
    start = value.index(_ID) + len(_ID)
    return str(json.loads(value[start : value.index(_DATA, start)]))


def data_of(value: bytes) -> bytes:
    """The client's bytes in a record value that was sealed here.

    The member names are found by their quotes, which are escaped wherever a value has them.
    """
    return value[value.index(_DATA) + len(_DATA) : -1]


def source_of(value: bytes) -> str:
    """The source's name in a record value that was sealed here; empty in any other."""
    start = value.find(_SOURCE, 0, 100)
    if start < 0:
        return ""
    start += len(_SOURCE)
    return value[start : value.index(b'"', start)].decode("ascii", "replace")
