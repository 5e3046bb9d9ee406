"""What a source accepts, told to those who may write to it: the answer of GET on its path.

Pure: from the live configuration to a document.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from ingest import schema_example
from ingest.sources import pointer
from ingest_http.decode import SUPPORTED
from ingest_http.negotiation import EVENTS_PATH, MEDIA_TYPES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ingest.schema import Schema
    from ingest.settings import LimitSettings
    from ingest.sources import Source

LINES = tuple(media_type for media_type, kind in MEDIA_TYPES.items() if kind == "ndjson")
"""The media types of one event a line."""
CODINGS = tuple(sorted(SUPPORTED))
OPTIONAL = {
    "Content-Encoding": "the coding of the body: one of " + ", ".join(CODINGS),
    "Idempotency-Key": "makes the ids of events without their own id, so that a resend is "
    "recognised: <key>-<index>",
    "X-Request-Id": "echoed in the answer: up to 128 letters, digits, '.', '_' and '-'",
    "traceparent": "becomes an attribute of every event (W3C Trace Context)",
    "?dry_run=1": "answers what would happen; nothing is produced or counted",
    "?results=all": "lists every event, with topic, partition and offset of those in Kafka",
}
"""What a request may bring: name -> what it is good for."""
CREDENTIALS = {
    "key": ' -H "Authorization: Bearer $API_KEY"',
    "certificate": ' --cert "$CERT" --key "$KEY"',
    "none": "",
}
"""How curl shows a credential; what is secret comes from the shell's variables."""
PASTED_BYTES = 3000
"""A larger example goes into a file: many terminals cut a pasted line at 4096 bytes."""

_HOST = re.compile(
    r"(?:[A-Za-z0-9][A-Za-z0-9._-]{0,252}|\[([0-9A-Fa-f:.]{2,45})\])(?::([0-9]{1,5}))?"
)


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Offer:
    """What a source accepts.

    Attributes:
        source: the source.
        schema: what its events should look like; None: any object.
        validate: what becomes of events that do not: off, warn or enforce.
        cors_origins: the origins of pages that may send to it.
    """

    source: Source
    schema: Schema | None
    validate: str
    cors_origins: tuple[str, ...]

    @property
    def path(self) -> str:
        """Of its URL; the characters of a source's name need no escaping."""
        return EVENTS_PATH + self.source.name

    @property
    def checked(self) -> Schema | None:
        """The schema that its events are held against."""
        return None if self.validate == "off" else self.schema


def description(
    offer: Offer,
    limits: LimitSettings,
    *,
    base_url: str,
    credential: str,
    quota: Mapping[str, int] | None,
    dead_letter_topic: str | None,
) -> dict[str, Any]:
    """Everything that a client of a source needs to know, fit for JSON.

    Args:
        offer: the source.
        limits: of a request.
        base_url: scheme and authority of the door, as `base_url` makes it.
        credential: the kind that the caller shows, see `CREDENTIALS`.
        quota: the caller's: events_per_second, bytes_per_second, concurrent_requests.
        dead_letter_topic: where rejects are kept; None: nowhere.
    """
    source, event = offer.source, example(offer, limits)
    url = base_url + offer.path
    return {
        "source": source.name,
        "url": url,
        "topic": source.topic,
        "type": source.event_type,
        "key": None if source.key is None else pointer(source.key),
        "media_types": list(MEDIA_TYPES),
        "content_codings": list(CODINGS),
        "schema": None if offer.schema is None else offer.schema.document,
        "validate": "off" if offer.schema is None else offer.validate,
        "limits": {
            "body_bytes": limits.body_bytes,
            "decoded_bytes": limits.decoded_bytes,
            "event_bytes": limits.event_bytes,
            "batch_events": limits.batch_events,
            "ack_seconds": limits.ack_seconds,
        },
        "quotas": dict(quota or {}),
        "dead_letter_topic": dead_letter_topic,
        "cors_origins": list(offer.cors_origins),
        "optional": dict(OPTIONAL),
        "example": None if event is None else json.loads(event),
        "curl": curl(url, event, credential),
    }


def example(offer: Offer, limits: LimitSettings) -> bytes | None:
    """An event that is accepted, with a record key where it may have one; None: none was found.

    It is looked for once: that can take long.
    """
    if offer not in _EXAMPLES:
        _EXAMPLES[offer] = _example(offer)
    event = _EXAMPLES[offer]
    return event if event is not None and len(event) <= limits.event_bytes else None


_EXAMPLES: WeakKeyDictionary[Offer, bytes | None] = WeakKeyDictionary()
"""As long as their offers are in force."""


def _example(offer: Offer) -> bytes | None:
    key, schema = offer.source.key, offer.checked
    plain = {"message": "hello"} if key is None else _with_key({}, key, f"{key[-1][:1]}-17")
    event: bytes | None = _encoded(plain)
    if schema is not None:
        event = schema_example.example(schema, plain if key is not None else None)
        if event is not None and key is not None:
            event = _keyed(event, key, schema)
    return event


def _keyed(event: bytes, key: Sequence[str], schema: Schema) -> bytes:
    """``event``, with a record key if it has none and its schema allows one."""
    members = json.loads(event)
    if _has_key(members, key):
        return event
    for value in (f"{key[-1][:1]}-17", 17):
        changed = _encoded(_with_key(members, key, value))
        if schema.check(changed) is None:
            return changed
    return event


def _has_key(value: Any, key: Sequence[str]) -> bool:
    for token in key:
        value = value.get(token) if isinstance(value, dict) else None
    return value is not None and not isinstance(value, dict | list)


def _with_key(members: Any, key: Sequence[str], value: str | int) -> Any:
    """``members`` with ``value`` at a pointer; what is in its way and no object is replaced."""
    if not key:
        return value
    others = members if isinstance(members, dict) else {}
    return {**others, key[0]: _with_key(others.get(key[0]), key[1:], value)}


def _encoded(event: Any) -> bytes:
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()


def curl(url: str, event: bytes | None, credential: str) -> str:
    """A line for a POSIX shell that sends ``event``, or what the file ``event.json`` holds."""
    small = event is not None and len(event) <= PASTED_BYTES
    data = shlex.quote(event.decode()) if event is not None and small else "@event.json"
    return (
        f"curl -sS '{url}'{CREDENTIALS[credential]} -H 'Content-Type: application/json' -d {data}"
    )


def base_url(host: str | None, *, tls: bool, fallback: str) -> str:
    """Scheme and authority under which a client reaches the door.

    Args:
        host: the header field Host, which says anything (RFC 9110, section 7.2).
        tls: whether the connection is encrypted.
        fallback: host:port, for when ``host`` is no plain host or host:port.
    """
    authority = host if host is not None and _is_authority(host) else fallback
    return f"{'https' if tls else 'http'}://{authority}"


def _is_authority(text: str) -> bool:
    found = _HOST.fullmatch(text)
    if found is None:
        return False
    v6, port = found.groups()
    if port is not None and not 0 < int(port) <= 65535:
        return False
    try:
        IPv6Address(v6 or "::")
    except ValueError:
        return False
    return True
