"""What a sender of numbered messages has sent and was answered, a few bytes for each message.

The file is JSON lines, written as it happens: ``{"sent": [first, end]}`` before messages go out for
the first time, ``{"again": [first, end]}`` before they do again, ``{"acked": number}`` after an
answer (or ``refused``), ``{"broke": end}`` when a connection broke before message ``end`` was sent.
"""

from __future__ import annotations

import json
from array import array
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

if TYPE_CHECKING:
    from pathlib import Path

_MOST = 255


class Break(NamedTuple):
    """A connection that broke: it had the messages ``first`` up to ``end``, without ``end``."""

    first: int
    end: int
    at: float


class Ledger:
    """The messages of one sender, numbered from 0; times are of `time.monotonic`.

    Args:
        path: where to write what happens; None: nowhere.

    Attributes:
        sent_at: when each message was sent first.
        sends: how often each was sent, 255 at most.
        acked: 1 for each that was acknowledged, 2 for each that was refused.
        breaks: connections that broke.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.sent_at = array("d")
        self.sends = bytearray()
        self.acked = bytearray()
        self.breaks: list[Break] = []
        self._connected_at = 0
        # Line buffered: what was noted is in the file, whatever happens to us.
        self._file: TextIO | None = None if path is None else path.open("w", buffering=1)

    def sending(self, count: int, now: float) -> int:
        """Note that the next ``count`` messages go out; returns the number of the first."""
        first = len(self.sends)
        self.sent_at.extend([now] * count)
        self.sends.extend(b"\1" * count)
        self.acked.extend(bytes(count))
        self._write({"sent": [first, first + count]})
        return first

    def again(self, first: int, end: int) -> None:
        """Note that messages ``first`` up to ``end`` go out once more."""
        for number in range(first, end):
            self.sends[number] = min(_MOST, self.sends[number] + 1)
        self._write({"again": [first, end]})

    def acknowledged(self, number: int) -> None:
        """Note a good answer."""
        self.acked[number] = 1
        self._write({"acked": number})

    def refused(self, number: int) -> None:
        """Note a bad answer."""
        self.acked[number] = 2
        self._write({"refused": number})

    def broke(self, now: float) -> None:
        """Note that the connection broke; the next message goes out on another one."""
        end = len(self.sends)
        self.breaks.append(Break(self._connected_at, end, now))
        self._connected_at = end
        self._write({"broke": end})

    def close(self) -> None:
        """End the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, entry: dict[str, Any]) -> None:
        if self._file is not None:
            self._file.write(json.dumps(entry) + "\n")
