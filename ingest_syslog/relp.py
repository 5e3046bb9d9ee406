"""RELP from the server's side: one session, from the first byte to the last answer.

Sans-IO. The session reads frames, answers ``open`` and ``close`` itself, and hands out the syslog
frames of each feed as one batch. A frame is answered once its batch and all before it are done, so
that the answers leave in the order of receipt, and ``close`` is never answered early: a client
forgets what it sent when it reads that answer.

A syslog frame of an open session is never answered with 500: librelp drops the message then. What
is not answered, the client sends again after it has connected anew.

Sources: the RELP specification 0.0.1 (librelp, ``doc/relp.md``), and what librelp 1.11 does where
that leaves a choice.
"""

from __future__ import annotations

import re
from collections import deque
from enum import Enum, auto
from functools import cache

from ingest import __version__

MAX_TXNR = 999_999_999
"""The last transaction number; 1 follows it."""
MAX_CONTROL_BYTES = 4096
"""The most data that ``open`` or ``close`` may have."""
MAX_OFFER_NAME_BYTES, MAX_OFFER_VALUE_BYTES, MAX_OFFER_VALUES = 32, 255, 64
SOFTWARE = f"data-highway-ingest,{__version__}"

_HEADER = re.compile(rb"(\d{1,9}) ([A-Za-z]{1,32}) (\d{1,9})([ \n])")
_HEADER_BEGUN = re.compile(rb"\d{1,9}(?: (?:[A-Za-z]{1,32}(?: \d{0,9})?)?)?")
_MAX_HEADER_BYTES = 9 + 1 + 32 + 1 + 9 + 1
_OPEN, _SYSLOG, _CLOSE = _COMMANDS = (b"open", b"syslog", b"close")
_LF = 0x0A
_PADDING, _BEYOND_PADDING = b"\0\n\r", b"\x0e"
_COMMON_BYTES = 2048
"""Frames up to this length are read by the fast path."""

_ACK = b"%d rsp 6 200 OK\n"
_SERVERCLOSE = b"0 serverclose 0\n"
_OPENED = "200 OK\nrelp_version=0\nrelp_software={}\ncommands=syslog"
"""librelp speaks version 0, and breaks off when it is answered with a higher one."""
_REFUSALS = {
    "not_open": b"500 open the session first",
    "second_open": b"500 the session is open already",
    "bad_offer": b"500 relp_version and commands=syslog must be offered",
}
"""At most 80 characters each: librelp takes the rest for data."""


class RelpError(ValueError):
    """The client broke the protocol: write what `Session.take_output` has, and close at once.

    Codes: ``bad_frame`` (not the grammar of a frame), ``bad_txnr`` (not the next number),
    ``unknown_command``, ``not_open`` (something else came before ``open``), ``second_open``,
    ``bad_offer`` (``open`` without a version, without ``syslog``, or too large), ``after_close``.

    Args:
        code: a stable word, see above.

    Attributes:
        batch: the syslog frames that were complete in the same feed, before the error.
    """

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code
        self.batch: Batch | None = None


class Turn:
    """The place of some answers among all those of a session.

    Args:
        first: the transaction number of the first frame to acknowledge; the others follow it.
        answer: what to answer instead, at once when its turn comes.
    """

    __slots__ = ("answer", "count", "done", "first")

    def __init__(self, first: int, answer: bytes = b"") -> None:
        self.first = first
        self.count = 0
        self.done = bool(answer)
        self.answer = answer


class Batch:
    """The syslog frames that one feed completed.

    Attributes:
        frames: their data, in order, without the empty ones; cut to ``frame_bytes``.
        cuts: position in ``frames`` and whole length in bytes of those that were cut.
        empty: how many had no data, or nothing but LF, CR and NUL.
        turn: for the session only.
    """

    __slots__ = ("cuts", "empty", "frames", "turn")

    def __init__(self, turn: Turn) -> None:
        self.frames: list[bytes] = []
        self.cuts: list[tuple[int, int]] = []
        self.empty = 0
        self.turn = turn


class _State(Enum):
    NEW = auto()
    OPEN = auto()
    CLOSED = auto()  # by the client: frames may still wait for their answers
    DRAINED = auto()


class Session:
    """One connection of a RELP client.

    It keeps counts of the frames that are not answered yet, and the bytes only of a frame that is
    not complete: at most ``frame_bytes`` of it.

    Args:
        frame_bytes: what is kept of a syslog frame; the rest is read and thrown away.
        max_unacked_frames: see `is_full`. The clients' windows are 128 frames by default, and
            thousands at times.
        software: what ``open`` is answered with: name, version and address of this program.
    """

    def __init__(
        self, frame_bytes: int, *, max_unacked_frames: int = 65_536, software: str = SOFTWARE
    ) -> None:
        if len(software) > MAX_OFFER_VALUE_BYTES or not (
            software.isascii() and software.isprintable()
        ):
            raise ValueError("software: at most 255 printable ASCII characters")
        self._frame_bytes = frame_bytes
        self._max_unacked = max_unacked_frames
        self._opened = _OPENED.format(software).encode()
        self._lengths = _lengths(min(frame_bytes, _COMMON_BYTES))
        self._state = _State.NEW
        self._failure = ""
        self._txnr = 1  # of the next frame
        self._header = b""  # what has come of one that is not complete
        self._command = b""  # of the frame whose data is awaited; none at other times
        self._datalen = self._kept = self._missing = 0  # of that frame, without its trailer
        self._data = bytearray()
        self._turns: deque[Turn] = deque()
        self._unacked = 0
        self._output: list[bytes] = []

    @property
    def is_open(self) -> bool:
        """Whether the client opened the session and it has not come to its end."""
        return self._state is _State.OPEN or (self._state is _State.CLOSED and not self.closing)

    @property
    def closing(self) -> bool:
        """Whether no answer will follow what `take_output` has: write that, then close."""
        closed = self._state is _State.CLOSED and not self._turns
        return closed or self._state is _State.DRAINED

    @property
    def unacked_frames(self) -> int:
        """Syslog frames without an answer: empty ones count too, and those done out of order."""
        return self._unacked

    @property
    def is_full(self) -> bool:
        """Whether to stop reading until some of the unacknowledged frames are done."""
        return self._unacked >= self._max_unacked

    @property
    def has_partial(self) -> bool:
        """Whether a frame has begun and is not complete."""
        return bool(self._header or self._command)

    @property
    def held_bytes(self) -> int:
        """Bytes that are kept of a frame that is not complete."""
        return len(self._header) + len(self._data)

    def feed(self, data: bytes) -> Batch | None:
        """Take what was read; anything after `drain` is ignored.

        Returns:
            The syslog frames that are complete now, if any. Each batch must be handed to `done`
            some time, also one that has only empty frames.

        Raises:
            RelpError: the client broke the protocol; so does every later feed.
        """
        if self._failure:
            raise RelpError(self._failure)
        if self._state is _State.DRAINED:
            return None
        batch = Batch(Turn(self._txnr))
        try:
            self._parse(data, batch)
        except RelpError as error:
            self._failure = error.code
            self._forget_partial()
            error.batch = batch if batch.turn.count else None
            raise
        return batch if batch.turn.count else None

    def done(self, batch: Batch) -> None:
        """Say that all of ``batch`` is durable or dropped on purpose; in any order of batches."""
        batch.turn.done = True
        self._advance()

    def take_output(self) -> bytes:
        """What is to be written now, to be asked for after each `feed`, `done` and `drain`."""
        output = b"".join(self._output)
        self._output.clear()
        return output

    def drain(self) -> None:
        """End the session from this side: the answers that are due, then ``serverclose``.

        Nothing can be answered after it: what is not done by now, the client sends again.
        """
        if self.closing or self._failure:
            return
        self._output.append(_SERVERCLOSE)
        self._state = _State.DRAINED
        self._forget_partial()

    def _parse(self, data: bytes, batch: Batch) -> None:
        position = 0
        if self._command:
            position = self._continue_frame(data, batch)
        elif self._header:
            data, self._header = self._header + data, b""
        while position < len(data):
            if self._state is _State.OPEN:
                position = self._take_common_frames(data, position, batch)
            if position < len(data):
                position = self._take_frame(data, position, batch)

    def _take_common_frames(self, data: bytes, position: int, batch: Batch) -> int:
        """Take whole syslog frames of common lengths; stop at whatever else comes, to be judged.

        Returns:
            The position behind them.
        """
        frames: list[bytes] = []
        size, lengths = len(data), self._lengths
        width = 4  # of DATALEN and the space behind it; as in the last frame is a good guess
        for txnr in range(self._txnr, MAX_TXNR + 1):
            prefix = b"%d syslog " % txnr
            at = position + len(prefix)
            if data[position:at] != prefix:
                break
            length = lengths.get(data[at : at + width])
            if length is None:
                width = data.find(b" ", at, at + 5) + 1 - at
                length = lengths.get(data[at : at + width]) if width > 0 else None
                if length is None:
                    break
            begin = at + width
            end = begin + length
            if end >= size or data[end] != _LF:
                break
            frames.append(data[begin:end])
            position = end + 1
        if frames:
            self._deliver(frames, batch)
        return position

    def _deliver(self, frames: list[bytes], batch: Batch) -> None:
        count = len(frames)
        self._claim(count, batch)
        if min(frames) < _BEYOND_PADDING:
            frames = [frame for frame in frames if frame.lstrip(_PADDING)]
            batch.empty += count - len(frames)
        batch.frames += frames

    def _claim(self, count: int, batch: Batch) -> None:
        """Have the next ``count`` transaction numbers answered in the turn of ``batch``."""
        if not batch.turn.count:
            batch.turn.first = self._txnr
            self._turns.append(batch.turn)
        batch.turn.count += count
        self._unacked += count
        self._txnr = _txnr(self._txnr + count)

    def _take_frame(self, data: bytes, position: int, batch: Batch) -> int:
        """Take one frame of any kind, or as much of it as there is; the position behind it."""
        if self._state is _State.CLOSED:
            raise RelpError("after_close")
        header = _HEADER.match(data, position)
        if header is None:
            self._header = data[position : position + _MAX_HEADER_BYTES]
            if not _HEADER_BEGUN.fullmatch(self._header):
                raise RelpError("bad_frame")
            return len(data)
        self._begin_frame(header)
        begin = header.end() - (header[4] == b"\n")
        end = begin + self._datalen
        self._data += data[begin : begin + self._kept]
        if end >= len(data):
            self._missing = end - len(data)
            return len(data)
        self._end_frame(data[end], batch)
        return end + 1

    def _continue_frame(self, data: bytes, batch: Batch) -> int:
        """Take what ``data`` has of the frame whose data is awaited; the position behind it."""
        end = self._missing
        self._data += data[: min(end, self._kept - len(self._data))]
        if end >= len(data):
            self._missing -= len(data)
            return len(data)
        self._end_frame(data[end], batch)
        return end + 1

    def _begin_frame(self, header: re.Match[bytes]) -> None:
        """Judge a frame by its header, before its data has come."""
        txnr, command, datalen = int(header[1]), header[2], int(header[3])
        if datalen and header[4] == b"\n":
            raise RelpError("bad_frame")
        if txnr != self._txnr:
            raise RelpError("bad_txnr")
        if command not in _COMMANDS:
            raise RelpError("unknown_command")
        if (self._state is _State.NEW) != (command == _OPEN):
            raise self._refusal("second_open" if command == _OPEN else "not_open")
        if command != _SYSLOG and datalen > MAX_CONTROL_BYTES:
            raise self._refusal("bad_offer") if command == _OPEN else RelpError("bad_frame")
        self._command, self._datalen = command, datalen
        self._kept = min(datalen, self._frame_bytes) if command == _SYSLOG else datalen

    def _end_frame(self, trailer: int, batch: Batch) -> None:
        """Act on the frame whose data has come."""
        if trailer != _LF:
            raise RelpError("bad_frame")
        command, data = self._command, bytes(self._data)
        self._forget_partial()
        if command == _SYSLOG:
            self._end_syslog(data, batch)
        elif command == _OPEN:
            self._end_open(data)
        else:
            self._answer(b"200 OK", _SERVERCLOSE)
            self._state = _State.CLOSED

    def _end_syslog(self, data: bytes, batch: Batch) -> None:
        if self._datalen > len(data):
            batch.cuts.append((len(batch.frames), self._datalen))
            batch.frames.append(data)
            self._claim(1, batch)
        elif data:
            self._deliver([data], batch)
        else:
            self._claim(1, batch)
            batch.empty += 1

    def _end_open(self, data: bytes) -> None:
        if not _acceptable(data):
            raise self._refusal("bad_offer")
        self._answer(self._opened)
        self._state = _State.OPEN

    def _refusal(self, code: str) -> RelpError:
        self._answer(_REFUSALS[code])
        return RelpError(code)

    def _answer(self, text: bytes, more: bytes = b"") -> None:
        """Answer the next transaction number, after all that were received before it."""
        answer = b"%d rsp %d %s\n%s" % (self._txnr, len(text), text, more)
        self._turns.append(Turn(self._txnr, answer))
        self._txnr = _txnr(self._txnr + 1)
        self._advance()

    def _advance(self) -> None:
        """Answer the turns that are done, up to the first that is not."""
        turns = self._turns
        while turns and turns[0].done:
            turn = turns.popleft()
            self._unacked -= turn.count
            if self._state is not _State.DRAINED:
                self._output.append(turn.answer or _acknowledgements(turn.first, turn.count))

    def _forget_partial(self) -> None:
        self._header = self._command = b""
        self._data = bytearray()


@cache
def _lengths(up_to: int) -> dict[bytes, int]:
    """DATALEN with the space behind it -> length: it is cheaper to look up than to parse."""
    return {b"%d " % length: length for length in range(1, up_to + 1)}


def _txnr(number: int) -> int:
    return number if number <= MAX_TXNR else number - MAX_TXNR


def _acknowledgements(first: int, count: int) -> bytes:
    beyond = first + count - 1 - MAX_TXNR
    if beyond > 0:
        return _acknowledgements(first, count - beyond) + _acknowledgements(1, beyond)
    return _ACK * count % tuple(range(first, first + count))


def _acceptable(data: bytes) -> bool:
    """Whether a client with these offers can be served; as librelp, it must offer ``syslog``."""
    offers: dict[bytes, list[bytes]] = {}
    for line in filter(None, data.split(b"\n")):
        name, _, text = line.partition(b"=")
        values = text.split(b",")
        if not _within_limits(name, values):
            return False
        offers.setdefault(name, []).extend(values)
    versions = offers.get(b"relp_version", [b""])
    integers = all(version.isdigit() and len(version) <= 9 for version in versions)
    return integers and _SYSLOG in offers.get(b"commands", [])


def _within_limits(name: bytes, values: list[bytes]) -> bool:
    return (
        0 < len(name) <= MAX_OFFER_NAME_BYTES
        and len(values) <= MAX_OFFER_VALUES
        and all(len(value) <= MAX_OFFER_VALUE_BYTES for value in values)
    )
