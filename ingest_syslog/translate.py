"""Messages -> record values and keys, a read at a time."""

from __future__ import annotations

import traceback
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from structlog import get_logger

from ingest_syslog.parse import parse, unparsed
from ingest_syslog.seal import sealed
from ingest_syslog.splice import Read, Spliced, Splicer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ingest_syslog.message import Message

log = get_logger(__name__)

_FORMAT_CHARACTERS = 7
"""Of RFC 5424, the PRI and the version: enough to guess the format of a read by."""


class Translated(NamedTuple):
    """What comes of a read.

    Attributes:
        values: the record values.
        keys: the record keys: host names, else the addresses of the senders.
        parsed: (format, status) -> how many.
    """

    values: list[bytes]
    keys: list[bytes | None]
    parsed: Mapping[tuple[str, str], int]


class Translator:
    """Translates what one worker reads; what it learns of one listener serves all."""

    def __init__(self) -> None:
        self._splicer = Splicer()

    def translate(self, read: Read, cuts: Mapping[int, int] | None = None) -> Translated:
        """Translate a read.

        Args:
            read: the messages.
            cuts: position -> how long the message was, where it was cut.
        """
        count = len(read.frames)
        into = Spliced([None] * count, [None] * count)
        left: Sequence[int] = (
            [at for at in range(count) if at not in cuts] if cuts else range(count)
        )
        parsed: Counter[tuple[str, str]] = Counter()
        splicer = self._splicer
        stages = (("rfc5424", splicer.rfc5424), ("rfc3164", splicer.rfc3164))
        is_rfc5424 = b">1 " in read.frames[0][:_FORMAT_CHARACTERS]
        for name, stage in stages if is_rfc5424 else reversed(stages):
            if left:
                before = len(left)
                left = _guarded(stage, read, left, into)
                parsed[name, "ok"] += before - len(left)
        for at in (*left, *(cuts or ())):
            message = _parse(read, at, cuts, into)
            parsed[message.format or "raw", message.status or "raw"] += 1
        return Translated(*into, parsed)


def _guarded(
    stage: Callable[[Read, Sequence[int], Spliced], list[int]],
    read: Read,
    positions: Sequence[int],
    into: Spliced,
) -> Sequence[int]:
    """Do a stage; where it has a defect, all is left to the others, which know no haste."""
    try:
        return stage(read, positions, into)
    except Exception as error:  # noqa: BLE001 - else a whole read would be lost
        _tell(error)
        return positions


def _tell(error: Exception) -> None:
    """Say what was raised where; its text may have a part of a message in it."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(place.filename).name}:{place.lineno}"
    log.error("translation_failed", error=type(error).__name__, where=where)


def _parse(read: Read, at: int, cuts: Mapping[int, int] | None, into: Spliced) -> Message:
    """Translate one message that is not usual."""
    length = cuts.get(at) if cuts else None
    try:
        message, is_rfc3339 = parse(read.frames[at], read.clock, length)
    except Exception as error:  # noqa: BLE001 - a RELP client would send it again for ever
        _tell(error)
        message, is_rfc3339 = unparsed(read.frames[at], length)
    stamp = message.timestamp if is_rfc3339 else None
    host = (message.hostname or "").encode()
    start = read.start
    if read.route is not None:
        start = read.route(_pri(message), (message.app_name or "").encode(), host, at)
    time = stamp.encode() if stamp else read.received
    into.values[at] = sealed(start, at, time, message, read.tails[at])
    into.keys[at] = host or read.peers[at].encode()
    return message


def _pri(message: Message) -> bytes:
    """The PRI, empty where it is not known."""
    if message.facility is None or message.severity is None:
        return b""
    return b"%d" % (8 * message.facility + message.severity)
