"""A record as routes see it: decoded when, and as far as, a condition or a step looks. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw

from ingest.errors import Rejected
from ingest_forward.document import BAD_JSON, ENCODER, OBJECT, Node, opened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_NO_VALUE = Raw(b"")
_ANY = msgspec.json.Decoder(Raw)
_UNSET = {b"", b"null"}
_Text = Annotated[str, Meta(min_length=1)]

REQUIRED = ("specversion", "id", "source", "type")
"""The attributes that every CloudEvent has (CloudEvents 1.0.2, section 3.1)."""
Header = tuple[str, Any]
"""The name of a record header, and its value: bytes, or None."""


class Envelope(msgspec.Struct, gc=False):
    """A CloudEvent in structured mode: what routes may ask of it."""

    specversion: Literal["1.0"]
    id: _Text
    source: _Text
    type: _Text
    data: Raw = _NO_VALUE


class Reading:
    """How the envelopes of a set of routes are decoded.

    Args:
        attributes: the names of CloudEvents attributes that routes lift.
        opens: nearly every event is looked into: its data, which are nearly always an object, are
            opened at once, which is cheaper than to do it afterwards.

    Attributes:
        decode: a record value -> its envelope.
        decode_opened: the same with ``data`` as a dict; fails where they are no object. None: not
            worth it.
    """

    def __init__(self, attributes: Iterable[str] = (), *, opens: bool = False) -> None:
        optional = sorted({*attributes} - {*REQUIRED})
        self._fields = {name: f"attribute_{at}" for at, name in enumerate(optional)}
        made = msgspec.defstruct(
            "LiftedEnvelope",
            [(field, Raw, _NO_VALUE) for field in self._fields.values()],
            bases=(Envelope,),
            rename={field: name for name, field in self._fields.items()},
            gc=False,
        )
        self.decode: Callable[[bytes], Any] = msgspec.json.Decoder(made).decode
        self.decode_opened: Callable[[bytes], Any] | None = None
        if opens:
            data = ("data", dict[str, Raw], _NO_VALUE)
            with_object = msgspec.defstruct("OpenedEnvelope", [data], bases=(made,), gc=False)
            self.decode_opened = msgspec.json.Decoder(with_object).decode

    def attribute(self, envelope: Any, name: str) -> Raw | None:
        """An attribute as JSON; None where the event does not have it, or has it as null.

        Source: CloudEvents JSON Event Format 1.0.2, section 2.2.
        """
        if name in REQUIRED:
            return Raw(ENCODER.encode(getattr(envelope, name)))
        raw: Raw = getattr(envelope, self._fields[name])
        return None if bytes(raw) in _UNSET else raw


class Event:
    """A record that was read.

    Attributes:
        topic: where it was read.
        key, value: as in Kafka; None is null.
        headers: of the record.
        envelope: as it is decoded when somebody asks for it; raises `Rejected` with
            ``invalid_json`` or ``not_cloudevents``.
        data: of the envelope: an object or array opened, other values as they are; None where there
            is none. Whoever changes it takes a copy before.
    """

    __slots__ = ("_reading", "data", "envelope", "headers", "key", "topic", "value")

    envelope: Any
    data: Node | None

    def __init__(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[Header],
        reading: Reading,
    ) -> None:
        self.topic = topic
        self.key = key
        self.value = value
        self.headers = headers
        self._reading = reading

    def __getattr__(self, name: str) -> Any:
        """Fill a slot when it is first asked for: later it costs less than a property."""
        if name == "envelope":
            self.envelope = found = self._decoded()
        elif name == "data":
            data = self.envelope.data
            if type(data) is not dict:
                data = None if data is _NO_VALUE else opened(data)
            self.data = found = data
        else:
            raise AttributeError(name)
        return found

    def _decoded(self) -> Any:
        value = self.value
        if value is None:
            raise Rejected("not_cloudevents", "the value is null")
        decode = self._reading.decode_opened or self._reading.decode
        try:
            if not value.isascii():
                value.decode()
            return decode(value)
        except BAD_JSON as error:
            if decode is self._reading.decode_opened:
                return self._decoded_unopened(value)
            raise _unfit(value, error) from None

    def _decoded_unopened(self, value: bytes) -> Any:
        try:
            return self._reading.decode(value)
        except BAD_JSON as error:
            raise _unfit(value, error) from None

    @property
    def raw_data(self) -> bytes | None:
        """The data as it was sent; None where there is none."""
        raw = self.envelope.data
        if type(raw) is dict:
            raw = self._reading.decode(self.value or b"").data
        return None if raw is _NO_VALUE else bytes(raw)

    def attribute(self, name: str) -> Raw | None:
        """A CloudEvents attribute as JSON; None where the event does not have it."""
        return self._reading.attribute(self.envelope, name)

    def with_data(self, data: Node) -> bytes:
        """The record value with other data; the other members are as they were sent."""
        members: dict[str, Any] = OBJECT.decode(self.value or b"")
        members["data"] = data
        return msgspec.json.encode(members)

    def header(self, name: str) -> bytes | None:
        """The last header of this name, whose value is the one that counts; None: there is none."""
        found = None
        for each, value in self.headers:
            if each == name:
                found = value
        return found


def _unfit(value: bytes, error: Exception) -> Rejected:
    """What is wrong with a value that cannot be decoded."""
    if isinstance(error, msgspec.ValidationError) and _is_json(value):
        return Rejected("not_cloudevents", _why_no_event(value))
    return Rejected("invalid_json", "the value is no JSON (UTF-8, RFC 8259)")


def _is_json(value: bytes) -> bool:
    """Whether all of it is: what is no event may have been told from its beginning."""
    try:
        _ANY.decode(value)
    except BAD_JSON:
        return False
    return True


def _why_no_event(value: bytes) -> str:
    """Which attribute makes a value no CloudEvent: names only."""
    try:
        members: dict[str, Raw] = OBJECT.decode(value)
    except BAD_JSON:
        return "the value is no JSON object"
    missing = [name for name in REQUIRED if name not in members]
    if missing:
        return f"without {', '.join(missing)}"
    if bytes(members["specversion"]) != b'"1.0"':
        return "specversion is not 1.0"
    return "an attribute is no text, or empty"
