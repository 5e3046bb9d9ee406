"""The envelope of a syslog message: CloudEvents 1.0 as JSON, see `ingest.envelope`.

    {"specversion":"1.0","source":"/sources/syslog","type":"syslog.message","id":"…","time":"…",
     "subject":"host","data":{…,"peer":"192.0.2.1","listener":"tcp",…}}

Pure: clock and ids come in as arguments.
"""

from __future__ import annotations

import json

import msgspec

from ingest_syslog.message import Message  # noqa: TC001 - msgspec wants it at run time

EVENT_TYPE = "syslog.message"
"""The CloudEvents type of the messages of a source that names none."""

_ENCODER = msgspec.json.Encoder()
_DATA = b',"data":'


def start_of(source: str, event_type: str) -> bytes:
    """How the record values of a source begin: all that comes before the made id."""
    text = json.dumps(event_type, ensure_ascii=False).encode()
    return b'{"specversion":"1.0","source":"/sources/%b","type":%b,"id":"' % (source.encode(), text)


def tail_of(peer: str, listener: str) -> bytes:
    """Who sent a message and what took it, as it follows the text of the message in ``data``."""
    return b'","peer":"%b","listener":"%b"' % (peer.encode(), listener.encode())


def sealed(start: bytes, index: int, time: bytes, message: Message, tail: bytes) -> bytes:
    """The record value of a message that was parsed.

    Args:
        start: see `start_of`; and the unique part of the ids of the batch, with a hyphen.
        index: the position of the message in its batch.
        time: when it happened or was received, RFC 3339.
        message: what it says.
        tail: see `tail_of`.
    """
    subject = b""
    if message.hostname:
        subject = b',"subject":' + _ENCODER.encode(message.hostname)
    data = _ENCODER.encode(message)
    return b'%b%d","time":"%b"%b%b%b%b}}' % (
        *(start, index, time, subject, _DATA),
        *(data[:-1], tail[1:]),  # the quote that ends the text is there already
    )


def json_text(text: str) -> bytes:
    """``text`` as it stands between the quotes of a JSON string."""
    return _ENCODER.encode(text)[1:-1]
