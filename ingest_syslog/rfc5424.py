"""Messages of RFC 5424, and those that nearly are: nothing that a sender wrote is refused for it.

Sans-IO. What deviates is taken as far as it is unambiguous, and flagged where a value, or what the
fields were, is lost; names that are too long, or not ASCII, lose nothing.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING

from ingest_syslog.message import Message
from ingest_syslog.structured_data import read_structured_data

if TYPE_CHECKING:
    from datetime import tzinfo

    from ingest_syslog.pri import Pri

MAX_FRACTION_DIGITS = 9
"""Of a second. The RFC has six, some senders tell nanoseconds, nobody has a use for more."""

_START = re.compile(
    r"""
    ([0-9]{1,2}) ([ ]++)
    (?: - | ([0-9]{4}-[0-9]{2}-[0-9]{2}) [Tt ] ([0-9]{2}:[0-9]{2}:[0-9]{2})
            (?: [.,] ([0-9]*+) )? ( [Zz] | [ ]?[+-][0-9]{2} (?: :?[0-9]{2} )? )? )
    (?: [ ] | \Z )
    """,
    re.VERBOSE,
)
"""VERSION and TIMESTAMP: what tells these messages from all others."""
_STRUCTURED_DATA = re.compile(r"\[|-(?: |\Z)")
_SPACES = re.compile(" ++")
_NAMES = ("hostname", "app_name", "procid", "msgid")
_NIL = ("-", "")
_BOM = "\ufeff"


def parse_rfc5424(text: str, pri: Pri, zone: tzinfo | None = None) -> Message | None:
    """Parse one message, decoded.

    Args:
        text: all of it, with its PRI.
        pri: what `read_pri` says of it.
        zone: of senders that do not tell theirs; None if that is not known.

    Returns:
        What it says, or None if it is something else: VERSION and TIMESTAMP do not follow the PRI;
        nor does a nil TIMESTAMP count without a PRI (``1 - first, do no harm``).
    """
    start = _START.match(text, pri.end)
    if start is None or (start[3] is None and not pri.end):
        return None
    message = Message(facility=pri.facility, severity=pri.severity, format="rfc5424", status="ok")
    version, spaces = start.group(1, 2)
    if pri.reason:
        message.flag(pri.reason)
    if version != "1":
        message.flag("bad_version")
    if spaces != " ":
        message.flag("unrecognised")
    if start[3] is not None:
        _read_timestamp(message, start, zone)
    _read_fields(message, text, start.end())
    return message


def _read_timestamp(message: Message, start: re.Match[str], zone: tzinfo | None) -> None:
    """Spell TIMESTAMP as RFC 3339 does; one that cannot be is flagged (sections 6.2.3 and A.4)."""
    date, time, fraction, offset = start.group(3, 4, 5, 6)
    stamp = f"{date}T{time}"
    offset = _read_offset(offset) if offset else _local_offset(stamp, zone)
    if not offset or not _exists(stamp):
        message.flag("bad_timestamp")
        return
    if fraction:
        if len(fraction) > MAX_FRACTION_DIGITS:
            message.flag("bad_timestamp")
        stamp = f"{stamp}.{fraction[:MAX_FRACTION_DIGITS]}"
    message.timestamp = stamp + offset


def _exists(stamp: str) -> bool:
    """Whether it is a moment of the calendar: neither a leap second nor 24:00 are (6.2.3)."""
    try:
        datetime.fromisoformat(stamp)
    except ValueError:
        return False
    return stamp[11:13] != "24"  # which later versions of Python take


def _read_offset(text: str) -> str:
    """Spell an offset as RFC 3339 does; empty if there is no such offset."""
    if text in ("Z", "z"):
        return "Z"
    digits = text.replace(":", "").strip()
    sign, hours, minutes = digits[0], digits[1:3], digits[3:] or "00"
    return f"{sign}{hours}:{minutes}" if hours < "24" and minutes < "60" else ""


def _local_offset(stamp: str, zone: tzinfo | None) -> str:
    """Return the offset at a local time; empty if it is not known, or not whole minutes."""
    if zone is None or not _exists(stamp):
        return ""
    offset = datetime.fromisoformat(stamp).replace(tzinfo=zone).isoformat()[len(stamp) :]
    return offset if len(offset) == len("+00:00") else ""


def _read_fields(message: Message, text: str, start: int) -> None:
    """Read what follows TIMESTAMP."""
    fields, regular = _split(text[start:])
    for name, field in zip(_NAMES, fields, strict=False):
        if field not in _NIL:
            setattr(message, name, field)
    if not regular or len(fields) < len(_NAMES):
        message.flag("unrecognised")
    if len(fields) > len(_NAMES):
        _read_rest(message, text, len(text) - len(fields[-1]))
    elif len(fields) == len(_NAMES):
        message.flag("bad_structured_data")


def _split(text: str) -> tuple[list[str], bool]:
    """Split HOSTNAME, APP-NAME, PROCID, MSGID and the rest, as many as there are.

    Two spaces are an empty field, if that has STRUCTURED-DATA in its place; else they are one, if
    that has. MSGID is missing if that has.

    Returns:
        The fields, and whether they followed each other as they should.
    """
    fields = text.split(" ", 4)
    if _is_complete(fields):
        return fields, "" not in fields[:4]
    squeezed = _SPACES.split(text.lstrip(" "), 4)
    if _is_complete(squeezed):
        return squeezed, False
    if len(fields) > 3 and fields[3].startswith("["):
        *fields, rest = text.split(" ", 3)
        return [*fields, "", rest], False
    return fields, "" not in fields[:4]


def _is_complete(fields: list[str]) -> bool:
    return len(fields) == 5 and _STRUCTURED_DATA.match(fields[4]) is not None


def _read_rest(message: Message, text: str, start: int) -> None:
    """Read STRUCTURED-DATA and MSG; all of it is MSG if there is no STRUCTURED-DATA."""
    structured_data = read_structured_data(text, start)
    message.structured_data = structured_data.elements
    if structured_data.reason:
        message.flag(structured_data.reason)
    end = structured_data.end
    if end > start and text.startswith(" ", end):
        end += 1
    message.message = text[end:].removeprefix(_BOM) or None
