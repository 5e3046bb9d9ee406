"""What a parser makes of one syslog message: the members of ``data`` in the envelope."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

if TYPE_CHECKING:
    from datetime import datetime, tzinfo

Format = Literal["rfc5424", "rfc3164", "raw"]
Status = Literal["ok", "partial", "raw"]

REASONS = (
    "truncated",
    "invalid_utf8",
    "no_pri",
    "bad_pri",
    "bad_version",
    "no_timestamp",
    "bad_timestamp",
    "bad_structured_data",
    "duplicate_param",
    "unrecognised",
)
"""Why a message is not ``ok``; of those that apply, the first in this order is told."""


class Clock(NamedTuple):
    """What a parser knows of time: dates of syslog may lack the year, the zone, or both.

    Attributes:
        now: when the message was received, with a time zone.
        zone: of senders that do not tell theirs.
    """

    now: datetime
    zone: tzinfo


class Message(msgspec.Struct, omit_defaults=True, kw_only=True, gc=False):
    """One message; what is not known is left out of its JSON.

    Attributes:
        facility, severity: of the PRI (RFC 5424, section 6.2.1).
        timestamp: as RFC 3339; its year and zone may have been completed.
        hostname, app_name, procid, msgid: RFC 5424, sections 6.2.4 to 6.2.7.
        structured_data: SD-ID -> parameters (RFC 5424, section 6.3), escapes undone.
        message: the free text.
        peer: who sent it: an IP address, or ``unix``.
        listener: which listener took it.
        format: which of the grammars it follows.
        status: ``ok`` where nothing but framing, a BOM, padding and the spelling of a date is lost.
        reason: why it is not ``ok``: one of `REASONS`.
        original_bytes: how long it was before it was truncated.
        raw: all of the original text, where the status is not ``ok``.
        raw_base64: all of the original bytes instead, where they are not UTF-8.
    """

    facility: int | None = None
    severity: int | None = None
    timestamp: str | None = None
    hostname: str | None = None
    app_name: str | None = None
    procid: str | None = None
    msgid: str | None = None
    structured_data: dict[str, dict[str, str]] | None = None
    message: str | None = None
    peer: str | None = None
    listener: str | None = None
    format: Format | None = None
    status: Status | None = None
    reason: str | None = None
    original_bytes: int | None = None
    raw: str | None = None
    raw_base64: str | None = None

    def flag(self, reason: str) -> None:
        """Have the message ``partial`` for ``reason``, unless an earlier one applies already."""
        if self.status != "raw":
            self.status = "partial"
        if self.reason is None or REASONS.index(reason) < REASONS.index(self.reason):
            self.reason = reason
