"""Reads messages of RFC 3164 and of everything that calls itself so.

Sans-IO. The RFC describes what was seen on the wire, not a grammar: a date, a host name, a tag, the
text, each of which may be missing. Only what is certain becomes a field; all else stays in the
message, so that nothing is lost but punctuation between the fields:

- The first word of the text is a tag when ``:`` or ``[procid]`` ends it. One space after the tag
  belongs to the header (section 5.3). A word that could be a tag but has no colon is text.
- A date is followed by the host name, unless a tag follows it.
- Without a date no host name is expected.
- Cisco puts a sequence number or a host name before the date, and ``%FACILITY-SEVERITY-MNEMONIC``
  in place of the tag. They become ``meta`` (RFC 5424, section 7.3), the host name and the MSGID; a
  clock marked as not synchronised becomes ``timeQuality`` (section 7.1).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ingest_syslog.message import Message
from ingest_syslog.timestamp import Stamp, read_timestamp

if TYPE_CHECKING:
    from ingest_syslog.message import Clock

_NO_HOST = r"\x00-\x20\x7f\[\]{}()<>\"'=,;|*"
_HOST = rf"[^{_NO_HOST}%@.-][^{_NO_HOST}]{{0,254}}+"
"""As long as RFC 5424 allows; IPv6 addresses, ``name/address`` and any letters included."""
_NO_TAG = r"\x00-\x20\x7f\[\]{}<>\"=,;|:"
_TAG = (
    rf"(?!\d++:)([^{_NO_TAG}%@][^{_NO_TAG}]{{0,127}}+)"
    r"(?:\[([^\]\s]{0,128}+)\](?::|(?!\S))|:(?![^\s\[{@\"])) ?"
)
"""The name, perhaps the PROCID; a colon inside a word (``std::map``, ``CEF:0``) ends no tag.

Nor is a bare number one: it is a sequence number, or a date that is not known.
"""
_HEADER = re.compile(rf" ++({_HOST})(?<!:) ++{_TAG}", re.ASCII)
"""Host name and tag, which is what nearly all messages have behind their date."""
_HOST_ONLY = re.compile(rf" *+({_HOST})(?<!:)(?:[ \t]|\Z)", re.ASCII)
_TAG_ONLY = re.compile(rf" *+{_TAG}", re.ASCII)
_NIL_HOST = re.compile(r" *+- ")
_FORWARDED = re.compile(rf" *+Message forwarded from ({_HOST})(?<=:) ", re.ASCII)
_REPEATED = re.compile(r" *+last message repeated \d", re.ASCII)
_BOM = "\ufeff"
_COLON = re.compile(r" *+:")
_NUMBER = re.compile(r"\d{1,20}:", re.ASCII)
_LABEL = re.compile(rf" *+({_HOST})(?<=:) ", re.ASCII)
_MNEMONIC = re.compile(r" *+(?:: ++)?(%[A-Z][\w/.-]{0,100}-[0-7]-\w[\w-]{0,63}) ?: ?", re.ASCII)
_SEQUENCE = re.compile(r" *+(\d{1,20}): (?=[%*.]|[A-Z][a-z]{2} [ \d]\d )", re.ASCII)


def parse_rfc3164(text: str, start: int, clock: Clock) -> Message:
    """Parse the header that begins at index ``start``, and the message that follows it.

    It is ``ok``, or flagged with ``no_timestamp``, ``bad_timestamp`` or ``unrecognised``. Facility
    and severity, which come before the header, are not filled in.
    """
    message = Message(format="rfc3164", status="ok")
    stamp = read_timestamp(text, start, clock)
    if stamp.reason == "no_timestamp":
        if stamp.end == start:
            stamp = _read_origin(message, text, start, clock)
        is_skipped = stamp.end > start and text.startswith(" ", stamp.end)
        _read_content(message, text, stamp.end + is_skipped)
    elif header := _HEADER.match(text, stamp.end):
        message.hostname, message.app_name, procid = header.groups()
        message.procid = procid or None
        message.message = _text(text, header.end())
    else:
        position = _read_host(message, text, stamp.end)
        _read_content(message, text, _read_sequence(message, text, position))
    message.timestamp = stamp.text
    if stamp.reason:
        message.flag(stamp.reason)
    if not stamp.is_synced:
        _add(message, "timeQuality", "isSynced", "0")
    return message


def _read_origin(message: Message, text: str, start: int, clock: Clock) -> Stamp:
    """Read the labels that Cisco puts before a date or a mnemonic, and that date.

    They may be a sequence number and a host name, in any order, or nothing but a colon. Any other
    program may write a word, a colon and a date: it needs more than those to be Cisco's.

    Returns:
        The date; it ends where it started when this is something else.
    """
    host = sequence = None
    colon = _COLON.match(text, start)
    position = colon.end() if colon else start
    for _ in range(3):
        stamp = read_timestamp(text, position, clock)
        is_sure = sequence or host is None or not stamp.is_synced
        if (is_sure and stamp.end > position) or _MNEMONIC.match(text, stamp.end):
            message.hostname = host
            if sequence:
                _add(message, "meta", "sequenceId", sequence)
            return stamp
        label = _LABEL.match(text, position)
        if label is None:
            break
        if sequence is None and _NUMBER.fullmatch(label[1]):
            sequence = label[1][:-1]
        elif host is None:
            host = label[1][:-1]
        else:
            break
        position = label.end()
    return Stamp(None, start, "no_timestamp")


def _read_host(message: Message, text: str, start: int) -> int:
    """Read the host name behind a date, if there is one, and return the index after it."""
    if forwarded := _FORWARDED.match(text, start):
        message.hostname = forwarded[1][:-1]
        message.flag("unrecognised")  # the words of the relay are in no field
        return forwarded.end()
    label = _LABEL.match(text, start)
    if label and _MNEMONIC.match(text, label.end()):
        message.hostname = label[1][:-1]
        return label.end()
    host = None if _REPEATED.match(text, start) else _HOST_ONLY.match(text, start)
    if host:
        message.hostname = host[1]
        return host.end()
    nil = _NIL_HOST.match(text, start)
    return nil.end() if nil else start + text.startswith(" ", start)


def _read_sequence(message: Message, text: str, start: int) -> int:
    """Read Cisco's sequence number where a relay put date and host name before it."""
    sequence = _SEQUENCE.match(text, start)
    if sequence is None:
        return start
    _add(message, "meta", "sequenceId", sequence[1])
    return sequence.end()


def _read_content(message: Message, text: str, start: int) -> None:
    """Read what follows date and host name: a tag or a mnemonic, if there is one, and the text."""
    if tag := _TAG_ONLY.match(text, start):
        message.app_name = tag[1]
        message.procid = tag[2] or None
        start = tag.end()
    elif mnemonic := _MNEMONIC.match(text, start):
        message.msgid = mnemonic[1]
        start = mnemonic.end()
    message.message = _text(text, start)


def _text(text: str, start: int) -> str | None:
    return text[start:].removeprefix(_BOM) or None


def _add(message: Message, element: str, param: str, value: str) -> None:
    if message.structured_data is None:
        message.structured_data = {}
    message.structured_data[element] = {param: value}
