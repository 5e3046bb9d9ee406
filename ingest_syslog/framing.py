"""A byte stream -> the frames in it, one syslog message each: TCP, TLS and unix streams.

Sans-IO. Time is linear in the bytes fed, however they are cut into pieces, and memory stays
within one frame of the limit, whatever a stream claims.

- ``lf``: a frame runs to LF (RFC 6587, section 3.4.2). One CR and all NULs before it are padding.
- ``nul``: a frame runs to NUL, LF inside is kept. One LF, CR or CRLF before the NUL is padding.
- ``octet``: a frame is ``MSG-LEN SP MSG`` (RFC 6587, section 3.4.1; RFC 5425, section 4.3). LF, CR
  and NUL at the end of MSG and between frames are padding. Anything else is a `FramingError`.
- ``auto``: decided anew for each frame. One that starts as ``MSG-LEN SP PRI`` is octet-counted, if
  MSG-LEN is no less than the length of that PRI. Any other is text that runs to LF or NUL, without
  one CR before that; so lines that begin with a date or a number are text. NULs before a frame are
  padding, and so are LF and CR after NULs and after an octet-counted frame, and a few spaces
  before ``<``.

A frame has no delimiter and no padding. One of which nothing is left is empty: counted, not kept.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Strip = Callable[[bytes], bytes]
    Limits = tuple[int, int]
    """How long a frame may be, and how many one feed may bring."""

Framing = Literal["auto", "lf", "nul", "octet"]

_SLACK = 2
"""A frame of just the limit may have a CRLF behind it that belongs to its padding."""
_NUL, _SPACE = b"\0 "
_DIGITS = frozenset(b"0123456789")
_PADDING = b"\r\n\0"
_PADDING_RUN = re.compile(rb"[\r\n\0]*+")
_SPACES = re.compile(rb" {1,16}+\Z")
_SPACES_BEFORE_PRI = re.compile(rb" {1,16}+(?=<)")


class Cut(NamedTuple):
    """A frame that is longer than the limit.

    Attributes:
        position: in the frames of that `Framed`; what is there are its first ``frame_bytes`` bytes.
        original_bytes: how long its sender meant it to be, delimiter and octet count not included.
    """

    position: int
    original_bytes: int


class Framed(NamedTuple):
    """What one feed has brought.

    Attributes:
        frames: the frames that have become complete, in order; none is empty.
        empty: how many frames there were that are empty.
        cuts: which of the frames are cut, by position.
        suspect: how many frames have an octet count that does not fit what follows them.
        rest: what was not looked at, because there are enough frames: feed it before anything else.
        may_have_lf: whether a frame, or a part of one, may have LF inside.
    """

    frames: list[bytes]
    empty: int
    cuts: Sequence[Cut]
    suspect: int
    rest: bytes = b""
    may_have_lf: bool = False


class FramingError(ValueError):
    """The stream cannot be followed any more: feed no more of it.

    Args:
        code: a stable word: ``bad_octet_count``.
        framed: what was complete before the place that cannot be understood.
    """

    def __init__(self, code: str, framed: Framed) -> None:
        super().__init__(code)
        self.code = code
        self.framed = framed


class Framer:
    """Cuts one stream into frames.

    Args:
        framing: how its frames are told apart.
        frame_bytes: how long a frame may be, at least 1; a longer one is cut to that, and the
            stream is followed to its real end.
        most_frames: how many frames one feed may bring; the smallest take far more memory than
            their bytes do.
    """

    def __init__(self, framing: Framing, frame_bytes: int, most_frames: int = sys.maxsize) -> None:
        self._rules: _Delimited | _Counted
        limits = frame_bytes, most_frames
        if framing == "lf":
            self._rules = _Delimited(b"\n", (b"\r", b"\0"), _strip_before_lf, limits)
        elif framing == "nul":
            self._rules = _Delimited(b"\0", (b"\n", b"\r"), _strip_before_nul, limits)
        elif framing == "octet":
            self._rules = _Counted(limits)
        else:
            self._rules = _Auto(limits)

    def feed(self, data: bytes) -> Framed:
        """Take the next bytes of the stream.

        Raises:
            FramingError: with ``octet``, what should be an octet count is none.
        """
        return self._rules.feed(data)

    def end(self) -> Framed:
        """The stream has ended: what there is of a frame is one.

        One that is shorter than its octet count is suspect. Spaces that could have come before a
        frame are none.
        """
        return self._rules.end()

    @property
    def has_partial(self) -> bool:
        """Whether a frame has begun and is not complete."""
        return self._rules.has_partial

    @property
    def held_bytes(self) -> int:
        """How many bytes are kept until more come: at most a frame of the limit and a header."""
        return self._rules.held_bytes


class _Read:
    """One feed: its bytes, and what was found in them so far."""

    __slots__ = (
        "_lf",
        "_nul",
        "cuts",
        "data",
        "empty",
        "frames",
        "limit",
        "may_have_lf",
        "most",
        "split",
        "suspect",
    )

    def __init__(self, data: bytes, limits: Limits) -> None:
        self.data = data
        self.limit, self.most = limits
        self.may_have_lf = False
        self.frames: list[bytes] = []
        self.empty = 0
        self.cuts: list[Cut] = []
        self.suspect = 0
        self.split = False
        self._lf = self._nul = -1

    def take(self, start: bytes, size: int, strip: Strip, meant: int = 0) -> None:
        """Add a frame.

        Args:
            start: its first bytes: all of them, or `_SLACK` more than the limit.
            size: how many bytes it has in all.
            strip: takes its padding off.
            meant: its octet count, where it has one.
        """
        if size <= self.limit + _SLACK:
            start = strip(start)
            size = len(start)
        if size > self.limit:
            self.cuts.append(Cut(len(self.frames), meant or size))
            start = start[: self.limit]
        if start:
            self.frames.append(start)
        else:
            self.empty += 1

    def text_end(self, at: int) -> int:
        """Where the LF or NUL is that ends the text at ``at``; the end of the bytes if none is.

        Both are remembered: a stream without one of them would be searched to its end each time.
        """
        if self._lf < at:
            self._lf = self._find(b"\n", at)
        if self._nul < at:
            self._nul = self._find(b"\0", at)
        return min(self._lf, self._nul)

    def _find(self, delimiter: bytes, at: int) -> int:
        found = self.data.find(delimiter, at)
        return len(self.data) if found < 0 else found

    @property
    def room(self) -> int:
        """How many frames may still come."""
        return self.most - len(self.frames) - self.empty

    def framed(self, rest: bytes = b"") -> Framed:
        cuts = tuple(self.cuts)
        return Framed(self.frames, self.empty, cuts, self.suspect, rest, self.may_have_lf)


class _Begun:
    """The frame that has begun: its first bytes, and how many it has had so far."""

    __slots__ = ("_most", "_start", "size")

    def __init__(self, limit: int) -> None:
        self._most = limit + _SLACK
        self._start = bytearray()
        self.size = 0

    def __len__(self) -> int:
        return len(self._start)

    def add(self, piece: bytes) -> None:
        room = self._most - len(self._start)
        self._start += piece if len(piece) <= room else piece[:room]
        self.size += len(piece)

    def close(self, read: _Read, strip: Strip, meant: int = 0) -> None:
        read.take(bytes(self._start), self.size, strip, meant)
        self._start = bytearray()
        self.size = 0


class _Delimited:
    """Frames that run to a delimiter, whatever is in them."""

    def __init__(
        self, delimiter: bytes, padding: tuple[bytes, ...], strip: Strip, limits: Limits
    ) -> None:
        self._delimiter = delimiter
        self._padding = padding
        self._strip = strip
        self._limits = limits
        self._begun = _Begun(limits[0])

    @property
    def has_partial(self) -> bool:
        return self._begun.size > 0

    @property
    def held_bytes(self) -> int:
        return len(self._begun)

    def feed(self, data: bytes) -> Framed:
        read = _Read(data, self._limits)
        read.may_have_lf = self._delimiter != b"\n"
        first, *whole = data.split(self._delimiter, read.most)
        self._begun.add(first)
        rest = b""
        if whole:
            self._begun.close(read, self._strip)
            ended = len(whole)
            rest = whole.pop()
            self._take(read, whole)
            if ended < read.most:
                self._begun.add(rest)
                rest = b""
        return read.framed(rest)

    def _take(self, read: _Read, whole: list[bytes]) -> None:
        if _any_longer(whole, read):
            for frame in whole:
                read.take(frame, len(frame), self._strip)
            return
        if any(padding in read.data for padding in self._padding):
            whole = [self._strip(frame) for frame in whole]
        frames = whole if all(whole) else [frame for frame in whole if frame]
        read.empty += len(whole) - len(frames)
        read.frames += frames

    def end(self) -> Framed:
        read = _Read(b"", self._limits)
        if self._begun.size:
            self._begun.close(read, self._strip)
        return read.framed()


class _Counted:
    """Frames that begin with their octet count; nothing else is accepted."""

    _header: ClassVar = re.compile(rb"([0-9]{1,9}+) ()")
    """Octet count and PRI; none is needed here."""
    _usual: ClassVar = re.compile(rb"[\r\n\0]*+([0-9]{2,9}+) ")
    """An octet count that is surely no less than a PRI, behind the padding of the frame before."""
    _undecided: ClassVar = re.compile(rb"[0-9]{1,9}+\Z")
    """What more bytes may make a header of."""
    _fits: ClassVar = _DIGITS | frozenset(_PADDING)
    """What may follow an octet-counted frame."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._begun = _Begun(limits[0])
        self._undecided_start = b""
        self._count = 0  # of the frame that has begun, if it has one
        self._just_ended = False  # an octet-counted frame, and no byte has come since
        self._in_padding = False

    @property
    def has_partial(self) -> bool:
        # A device that sends a space behind its LF is idle, not slow.
        return self._count > 0 or self._begun.size > 0 or self._undecided_start.strip(b" ") != b""

    @property
    def held_bytes(self) -> int:
        return len(self._begun) + len(self._undecided_start)

    def feed(self, data: bytes) -> Framed:
        read = _Read(self._undecided_start + data, self._limits)
        self._undecided_start = b""
        at, size = 0, len(read.data)
        while at < size and read.room:
            if self._count:
                at = self._continue_counted(read, at)
            elif self._begun.size:
                at = self._continue_uncounted(read, at)
            else:
                at = self._begin(read, at)
        return read.framed(read.data[at:])

    def _begin(self, read: _Read, at: int) -> int:
        """Go on between two frames. Like all of these: from ``at`` to what is returned."""
        begin = self._skip_padding(read, at)
        if begin == len(read.data):
            return begin
        if read.data[begin] in _DIGITS:
            end = self._whole_counted(read, begin)
            if end == begin:
                end = self._begin_counted(read, begin)
            if end > begin:
                return end
        return self._begin_uncounted(read, begin)

    def _skip_padding(self, read: _Read, at: int) -> int:
        if self._just_ended:
            read.suspect += read.data[at] not in self._fits
            self._just_ended = False
        if self._in_padding:
            padding = _PADDING_RUN.match(read.data, at)
            at = padding.end() if padding else at
            self._in_padding = at == len(read.data)
        return at

    def _whole_counted(self, read: _Read, at: int) -> int:
        """Take all octet-counted frames that are complete and of usual size: the fast way."""
        data, size, limit, header_at = read.data, len(read.data), read.limit, self._usual.match
        begin, append = at, read.frames.append
        for _ in range(read.room):
            header = header_at(data, at)
            if header is None:
                break
            start = header.end()
            end = start + int(header[1])
            if end > size or end - start > limit:
                break
            frame = data[start:end].rstrip(_PADDING)
            if frame:
                append(frame)
            else:
                read.empty += 1
            at = end
        if at > begin:
            self._just_ended = self._in_padding = read.may_have_lf = True
        return at

    def _begin_counted(self, read: _Read, at: int) -> int:
        header = self._header.match(read.data, at)
        if header and (count := int(header[1])) >= len(header[2]):
            self._count = count
            read.may_have_lf = True
            if not count:
                self._end_counted(read)
            return header.end()
        return self._hold(read, at) if self._undecided.match(read.data, at) else at

    def _hold(self, read: _Read, at: int) -> int:
        self._undecided_start = read.data[at:]
        return len(read.data)

    def _continue_counted(self, read: _Read, at: int) -> int:
        read.may_have_lf = True
        end = at + self._count - self._begun.size
        self._begun.add(read.data[at:end])
        if end > len(read.data):
            return len(read.data)
        self._end_counted(read)
        return end

    def _end_counted(self, read: _Read) -> None:
        self._begun.close(read, _strip_counted, self._count)
        self._count = 0
        self._just_ended = self._in_padding = True

    def _begin_uncounted(self, read: _Read, at: int) -> int:  # noqa: ARG002 - for others to take
        """Refuse what has no octet count."""
        raise FramingError("bad_octet_count", read.framed())

    _continue_uncounted = _begin_uncounted

    def end(self) -> Framed:
        read = _Read(b"", self._limits)
        self._begun.add(self._undecided_start.lstrip(b" "))
        self._undecided_start = b""
        if self._count or self._begun.size:
            self._end(read)
        return read.framed()

    def _end(self, read: _Read) -> None:
        read.suspect += 1
        self._end_counted(read)


class _Auto(_Counted):
    """Frames of which each has an octet count or runs to LF or NUL."""

    _header: ClassVar = re.compile(rb"([1-9]\d{0,8}+) (?=(<\d{1,3}+>))")
    _usual: ClassVar = re.compile(rb"[\r\n\0]*+([1-9]\d{1,8}+) (?=<\d{1,3}+>)")
    _undecided: ClassVar = re.compile(rb"[1-9]\d{0,8}+(?: (?:<\d{0,3}+)?)?\Z")
    _fits: ClassVar = _DIGITS | frozenset(b"< " + _PADDING)

    def _begin_uncounted(self, read: _Read, at: int) -> int:
        first = read.data[at]
        if first == _NUL:
            self._in_padding = True
            return at
        if first == _SPACE:
            if _SPACES.match(read.data, at):
                return self._hold(read, at)
            spaces = _SPACES_BEFORE_PRI.match(read.data, at)
            at = spaces.end() if spaces else at
        if not read.split:
            read.split = True
            if (end := self._whole_lines(read, at)) > at:
                return end
        return self._continue_uncounted(read, at)

    def _whole_lines(self, read: _Read, at: int) -> int:
        """Take all complete lines up to one with an octet count: the fast way, without NULs."""
        if read.data.find(b"\0", at) >= 0:
            return at
        lines = read.data[at:].split(b"\n", read.room)
        rest = lines.pop()
        if not lines or _any_longer(lines, read):
            return at
        if min(lines)[:1] <= b"9":  # else none is empty or begins with a space, a CR or a digit
            return self._odd_lines(read, at, lines)
        if b"\r" in read.data:
            lines = [_strip_text(line) for line in lines]
        read.frames += lines
        return len(read.data) - len(rest)

    def _odd_lines(self, read: _Read, at: int, lines: list[bytes]) -> int:
        header_at, spaces_at = self._header.match, _SPACES_BEFORE_PRI.match
        for line in lines:
            frame = _strip_text(line)
            if line[:1] <= b"9":
                if header_at(line):
                    break
                frame = frame.lstrip(b" ") if spaces_at(frame) else frame
            if frame:
                read.frames.append(frame)
            else:
                read.empty += 1
            at += len(line) + 1
        return at

    def _continue_uncounted(self, read: _Read, at: int) -> int:
        end = read.text_end(at)
        piece = read.data[at:end]
        if end == len(read.data):
            self._begun.add(piece)
            return end
        if self._begun.size:
            self._begun.add(piece)
            self._begun.close(read, _strip_text)
        else:
            read.take(piece, len(piece), _strip_text)
        self._in_padding = read.data[end] == _NUL
        return end + 1

    def _end(self, read: _Read) -> None:
        if self._count:
            super()._end(read)
        else:
            self._begun.close(read, _strip_text)


def _any_longer(frames: list[bytes], read: _Read) -> bool:
    """Whether a frame is longer than the limit; most reads are not."""
    return len(read.data) > read.limit and max(map(len, frames), default=0) > read.limit


def _strip_text(frame: bytes) -> bytes:
    return frame.removesuffix(b"\r")


def _strip_counted(frame: bytes) -> bytes:
    return frame.rstrip(_PADDING)


def _strip_before_lf(frame: bytes) -> bytes:
    return frame.rstrip(b"\0").removesuffix(b"\r").rstrip(b"\0")


def _strip_before_nul(frame: bytes) -> bytes:
    return frame.removesuffix(b"\n").removesuffix(b"\r")
