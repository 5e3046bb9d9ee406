"""A record as routes see it: decoded when, and as far as, a condition or a step looks. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw

from ingest.errors import Rejected
from ingest_forward.document import BAD_JSON, OBJECT, Node, node_of, opened

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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
    """

    def __init__(self, attributes: Iterable[str] = ()) -> None:
        optional = sorted({*attributes} - {*REQUIRED})
        self._fields = {name: f"attribute_{at}" for at, name in enumerate(optional)}
        made = msgspec.defstruct(
            "LiftedEnvelope",
            [(field, Raw, _NO_VALUE) for field in self._fields.values()],
            bases=(Envelope,),
            rename={field: name for name, field in self._fields.items()},
            gc=False,
        )
        self.decode = msgspec.json.Decoder(made).decode

    def attribute(self, envelope: Any, name: str) -> Raw | None:
        """An attribute as JSON; None where the event does not have it, or has it as null.

        Source: CloudEvents JSON Event Format 1.0.2, section 2.2.
        """
        if name in REQUIRED:
            return node_of(getattr(envelope, name))
        raw: Raw = getattr(envelope, self._fields[name])
        return None if bytes(raw) in _UNSET else raw


class Event:
    """A record that was read.

    Attributes:
        topic: where it was read.
        key, value: as in Kafka; None is null.
        headers: of the record.
    """

    __slots__ = ("_data", "_envelope", "_reading", "headers", "key", "topic", "value")

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
        self._envelope: Any = None
        self._data: Node = None

    @property
    def envelope(self) -> Any:
        """The envelope.

        Raises:
            Rejected: ``invalid_json`` or ``not_cloudevents``.
        """
        if self._envelope is None:
            self._envelope = self._decoded()
        return self._envelope

    def _decoded(self) -> Any:
        value = self.value
        if value is None:
            raise Rejected("not_cloudevents", "the value is null")
        try:
            if not value.isascii():
                value.decode()
            return self._reading.decode(value)
        except BAD_JSON as error:
            if isinstance(error, msgspec.ValidationError) and _is_json(value):
                raise Rejected("not_cloudevents", _why_no_event(value)) from None
            raise Rejected("invalid_json", "the value is no JSON (UTF-8, RFC 8259)") from None

    @property
    def data(self) -> Node | None:
        """The data: an object or array opened, other values as they are; None where there is none.

        Whoever changes it takes a copy before.
        """
        if self._data is None:
            raw = self.envelope.data
            self._data = None if raw is _NO_VALUE else opened(raw)
        return self._data

    @property
    def raw_data(self) -> bytes | None:
        """The data as it was sent; None where there is none."""
        raw = self.envelope.data
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
