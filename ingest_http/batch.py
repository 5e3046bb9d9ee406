"""A request body -> its events: raw JSON slices, and the heads that the envelope needs.

Sans-IO. A body is decoded twice, both times in C: once to slices and once to heads. The client's
JSON is never re-encoded: duplicate keys and long numbers pass as they were sent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence  # noqa: TC003 - msgspec reads its fields' types
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar

import msgspec
from msgspec import Raw

from ingest.envelope import Head, head_type
from ingest_http import structure

_BOM = b"\xef\xbb\xbf"
_BLANK = b" \t\r\n"
_POSITION = re.compile(r"\(byte (\d+)\)")
_LINE = re.compile(rb"[ \t\r\n]{1,65536}|[^ \t\r\n][^\n]*")
"""A line, or some of what is between lines: not all of it, which can be megabytes, in one step."""
_MANY = 500_000
"""Bodies with more commas are scanned before they are decoded: an array costs 60 bytes of memory
for each element, and a number takes two."""


class BodyError(ValueError):
    """The body as a whole cannot be taken.

    Args:
        code: a stable word of the contract.
        detail: for people; never values.
    """

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Reject:
    """An event that can never succeed.

    Attributes:
        index: its position in the request.
        code: a stable word of the contract.
        detail: for people; never values.
        event: its original bytes.
        own_id: its ``id`` as JSON; empty where it has none.
        original_bytes: None, for `ingest.dead_letter`: what is too long is refused, never cut.
    """

    original_bytes: ClassVar[None] = None
    index: int
    code: str
    detail: str
    event: bytes
    own_id: bytes = b""


class Batch(msgspec.Struct):
    """The events of one request.

    Attributes:
        count: how many events, usable or not.
        heads: of the usable events.
        events: the usable events as sent.
        indices: the positions of the usable events in the request.
        rejects: the others, by position.
    """

    count: int
    heads: Sequence[Head] = ()
    events: Sequence[bytes | Raw] = ()
    indices: Sequence[int] = ()
    rejects: list[Reject] = []

    def reject(self, verdicts: Mapping[int, tuple[str, str]]) -> None:
        """Make rejects of usable events.

        Args:
            verdicts: position among the usable events -> code and detail.
        """
        for position, (code, detail) in sorted(verdicts.items()):
            event, own_id = bytes(self.events[position]), bytes(self.heads[position].id)
            self.rejects.append(Reject(self.indices[position], code, detail, event, own_id))
        good = [position for position in range(len(self.heads)) if position not in verdicts]
        self.heads = [self.heads[position] for position in good]
        self.events = [self.events[position] for position in good]
        self.indices = [self.indices[position] for position in good]


class Splitter:
    """Splits the bodies of one source.

    Args:
        key: the tokens of the pointer to the record key, or None.
        batch_events: how many events a body may have.
        event_bytes: how large an event may be.
    """

    def __init__(self, key: tuple[str, ...] | None, batch_events: int, event_bytes: int) -> None:
        kind = head_type(key)
        self._slices = msgspec.json.Decoder(list[Raw])
        self._heads = msgspec.json.Decoder(list[kind])  # type: ignore[valid-type]
        self._head: msgspec.json.Decoder[Head] = msgspec.json.Decoder(kind)
        self._value = msgspec.json.Decoder(Raw)
        self._batch_events = batch_events
        self._event_bytes = event_bytes

    def json(self, body: bytes) -> Batch:
        """The events of a JSON document: an array of them, or a single one.

        Raises:
            BodyError: ``empty_body``, ``invalid_utf8``, ``invalid_json``, ``too_deep``,
                ``too_many_events``.
        """
        body = body.removeprefix(_BOM)
        first = body[:1] if body[:1] not in _BLANK else body.lstrip(_BLANK)[:1]
        if not first:
            raise BodyError("empty_body", "the body is empty; a JSON document is expected")
        _require_utf8(body)
        if first != b"[":
            return self._single(body.strip(_BLANK))
        self._bound_elements(body)
        return self._from_array(body)

    def ndjson(self, body: bytes) -> Batch:
        """The events of newline-delimited JSON, one a line; blank lines do not count.

        Raises:
            BodyError: ``too_many_events``.
        """
        body = body.removeprefix(_BOM)
        lines = self._lines(body)
        if len(lines) > self._batch_events:
            raise BodyError("too_many_events", self._too_many())
        return self._from_lines(lines) if lines else Batch(0)

    def _single(self, event: bytes) -> Batch:
        """A document that is not an array: one event."""
        if _too_deep(event):
            raise BodyError("too_deep", _TOO_DEEP)
        if len(event) > self._event_bytes:
            return self._odd_one(event)
        try:
            head = self._head.decode(event)
        except msgspec.ValidationError:
            return self._odd_one(event)
        except (msgspec.DecodeError, RecursionError) as error:
            raise _refusal(error) from None
        return Batch(1, (head,), (event,), (0,))

    def _odd_one(self, event: bytes) -> Batch:
        """The only event is rejected, unless it is no JSON at all."""
        batch = self._one_by_one([event])
        for reject in batch.rejects:
            if reject.code == "invalid_json":
                raise BodyError(reject.code, reject.detail)
        return batch

    def _bound_elements(self, body: bytes) -> None:
        many = max(self._batch_events, _MANY)
        if len(body) <= many or body.count(b",") <= many:
            return
        try:
            structure.check(
                body, max_depth=structure.MAX_DEPTH + 1, max_elements=self._batch_events
            )
        except structure.TooMany:
            raise BodyError("too_many_events", self._too_many()) from None
        except structure.TooDeep:
            raise BodyError("too_deep", _TOO_DEEP) from None

    def _lines(self, body: bytes) -> list[bytes]:
        """The lines that are not blank; one more than may be, at most."""
        if body.count(b"\n") <= self._batch_events:
            return [line for line in map(_stripped, body.split(b"\n")) if line]
        found = (line[0].rstrip(_BLANK) for line in _LINE.finditer(body))
        return [*islice(filter(None, found), self._batch_events + 1)]

    def _too_many(self) -> str:
        return f"more than {self._batch_events} events in one request"

    def _from_array(self, body: bytes) -> Batch:
        try:
            events = self._slices.decode(body)
        except (msgspec.DecodeError, RecursionError) as error:
            raise _refusal(error) from None
        if len(events) > self._batch_events:
            raise BodyError("too_many_events", self._too_many())
        longest = max(map(len, events), default=0)
        if structure.may_be_too_deep(longest) and any(map(_too_deep, events)):
            raise BodyError("too_deep", _TOO_DEEP)
        if longest <= self._event_bytes:
            try:
                heads: list[Head] = self._heads.decode(body)
            except msgspec.ValidationError:
                pass  # something in it is not an object
            else:
                return Batch(len(events), heads, events, range(len(events)))
        return self._one_by_one(events)

    def _from_lines(self, lines: list[bytes]) -> Batch:
        """One decoding for all lines; where that does not fit the lines, one for each."""
        body = b"[%b]" % b",".join(lines)
        try:
            _require_utf8(body)
            self._bound_elements(body)
            batch = self._from_array(body)
        except BodyError:
            return self._one_by_one(lines)
        # A line such as `{},{}` is valid in an array, but not as a line.
        sizes = [*map(len, batch.events)]
        if len(sizes) == len(lines) and sizes == [*map(len, lines)]:
            return batch
        return self._one_by_one(lines)

    def _one_by_one(self, events: Sequence[bytes | Raw]) -> Batch:
        batch = Batch(len(events))
        heads: list[Head] = []
        usable: list[Any] = []
        indices: list[int] = []
        for index, event in enumerate(events):
            verdict = self._look_at(index, event)
            if isinstance(verdict, Reject):
                batch.rejects.append(verdict)
            else:
                heads.append(verdict)
                usable.append(event)
                indices.append(index)
        batch.heads, batch.events, batch.indices = heads, usable, indices
        return batch

    def _look_at(self, index: int, event: bytes | Raw) -> Head | Reject:
        """The head of one event, or why it is rejected."""
        text = bytes(event)
        try:
            _require_utf8(text)
            if _too_deep(text):
                return Reject(index, "invalid_json", _TOO_DEEP, text)
            self._value.decode(text)  # to the end: a head is refused at its first odd byte
            head = self._head.decode(text)
        except msgspec.ValidationError:
            return Reject(index, "not_an_object", "an event is a JSON object", text)
        except (msgspec.DecodeError, RecursionError) as error:
            return Reject(index, "invalid_json", _refusal(error).detail, text)
        except BodyError as error:
            return Reject(index, "invalid_json", error.detail, text)
        if len(text) > self._event_bytes:
            detail = f"larger than {self._event_bytes} bytes"
            return Reject(index, "event_too_large", detail, text, bytes(head.id))
        return head


_TOO_DEEP = f"nested deeper than {structure.MAX_DEPTH}"


def _stripped(line: bytes) -> bytes:
    return line.strip(_BLANK)


def _require_utf8(text: bytes) -> None:
    """The decoder takes invalid UTF-8 inside of what it only slices."""
    if text.isascii():
        return
    try:
        text.decode()
    except UnicodeDecodeError as error:
        raise BodyError("invalid_utf8", f"not UTF-8 at byte {error.start}") from None


def _too_deep(event: bytes | Raw) -> bool:
    if not structure.may_be_too_deep(len(event)):
        return False
    text = bytes(event)
    if text.count(b"[") + text.count(b"{") <= structure.MAX_DEPTH:
        return False
    try:
        structure.check(text, max_depth=structure.MAX_DEPTH)
    except structure.TooDeep:
        return True
    return False


def _refusal(error: msgspec.DecodeError | RecursionError) -> BodyError:
    """What the decoder says, without what it quotes of the body."""
    if isinstance(error, RecursionError):
        return BodyError("too_deep", _TOO_DEEP)
    position = _POSITION.search(str(error))
    where = f"at byte {position[1]}" if position else "the text ends too early"
    return BodyError("invalid_json", f"not valid JSON: {where}")
