"""One frame or datagram to one message, whatever it is: nothing is refused.

Sans-IO. RFC 5424 is tried first, since its version and date cannot be mistaken; then RFC 3164 with
all its variants; what is neither is kept as it is (``raw``).
"""

from __future__ import annotations

import codecs
import re
from base64 import b64encode
from typing import TYPE_CHECKING, NamedTuple

from ingest_syslog.message import Message
from ingest_syslog.pri import read_pri
from ingest_syslog.rfc3164 import parse_rfc3164
from ingest_syslog.rfc5424 import parse_rfc5424
from ingest_syslog.timestamp import read_timestamp

if TYPE_CHECKING:
    from ingest_syslog.message import Clock
    from ingest_syslog.pri import Pri

_PADDING = "\r\n\0"
"""What senders put behind a message, and framing may have left there."""
_BOM = "\ufeff"
_COUNT = re.compile(r"[1-9][0-9]{0,8} ")
_HEADER_CHARACTERS = 64
"""Where to look for the date: versions and sequence numbers may come before it."""
_VERSION = re.compile(r"[0-9]{1,3} ++")


class Parsed(NamedTuple):
    """What `parse` makes of a frame.

    Attributes:
        message: what it says; peer and listener are not filled in.
        is_rfc3339: whether its timestamp is as the sender wrote it, neither year nor zone added.
    """

    message: Message
    is_rfc3339: bool


def parse(frame: bytes, clock: Clock, original_bytes: int | None = None) -> Parsed:
    """Parse one message; one that is not ``ok`` carries all of it in ``raw`` or ``raw_base64``.

    Args:
        frame: what the transport delivered, without its framing. Padding is allowed, and an octet
            count (RFC 6587, section 3.4.1), which some senders put into datagrams.
        clock: completes dates.
        original_bytes: how long it was, if this is only its beginning.
    """
    text, is_utf8 = _decode(frame, is_cut=original_bytes is not None)
    body = _without_framing(text, original_bytes or len(frame))
    pri = read_pri(body)
    message = parse_rfc5424(body, pri, clock.zone) or _parse_older(body, pri, clock)
    _keep(message, frame, text, is_utf8=is_utf8, original_bytes=original_bytes)
    stamp = message.timestamp
    header = body[pri.end : pri.end + _HEADER_CHARACTERS].upper()
    return Parsed(message, stamp is not None and stamp in header)


def unparsed(frame: bytes, original_bytes: int | None = None) -> Parsed:
    """The message of a frame that nothing is made of: see `parse`."""
    text, is_utf8 = _decode(frame, is_cut=original_bytes is not None)
    message = Message(message=text or None, format="raw", status="raw")
    message.flag("unrecognised")
    _keep(message, frame, text, is_utf8=is_utf8, original_bytes=original_bytes)
    return Parsed(message, is_rfc3339=False)


def _keep(
    message: Message, frame: bytes, text: str, *, is_utf8: bool, original_bytes: int | None
) -> None:
    """Flag what happened to all of a message, and keep that where it is not ``ok``."""
    if original_bytes is not None:
        message.original_bytes = original_bytes
        message.flag("truncated")
    if not is_utf8:
        message.flag("invalid_utf8")
        message.raw_base64 = b64encode(frame).decode()
    elif message.status != "ok":
        message.raw = text


def _decode(frame: bytes, *, is_cut: bool) -> tuple[str, bool]:
    """Decode UTF-8; what a cut left of the last character is dropped, it says nothing.

    Returns:
        The text, U+FFFD in place of what is not UTF-8, and whether there was none of that.
    """
    try:
        return (codecs.utf_8_decode(frame, "strict", not is_cut)[0], True)
    except UnicodeDecodeError:
        return frame.decode("utf-8", "replace"), False


def _without_framing(text: str, total_bytes: int) -> str:
    """Remove padding, an octet count that fits, and a BOM."""
    body = text.rstrip(_PADDING)
    if count := _COUNT.match(body):
        counted = total_bytes - count.end()
        if counted - (len(text) - len(body)) <= int(count[0]) <= counted:
            body = body[count.end() :]
    return body.removeprefix(_BOM)


def _parse_older(body: str, pri: Pri, clock: Clock) -> Message:
    """Parse what is not RFC 5424, though it may say so by a version before its date."""
    version = _VERSION.match(body, pri.end) if pri.end else None
    if version and read_timestamp(body, version.end(), clock).end > version.end():
        message = parse_rfc3164(body, version.end(), clock)
        message.flag("bad_version")
    else:
        message = parse_rfc3164(body, pri.end, clock)
        if pri.facility is None and _is_unknown(message):
            message = Message(message=body or None, format="raw", status="raw")
            message.flag("unrecognised")
    if pri.reason:
        message.flag(pri.reason)
    message.facility, message.severity = pri.facility, pri.severity
    return message


def _is_unknown(message: Message) -> bool:
    """Whether nothing in it looked like a header."""
    named = message.hostname or message.app_name or message.msgid
    return not named and message.reason == "no_timestamp"
