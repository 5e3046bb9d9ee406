"""Bounded decompression of request bodies: gzip, deflate and zstd.

Sans-IO. Output comes in steps whose size the caller chooses, time is linear in input and output,
and whatever the input claims, memory stays within a step and the decoder's window.

Sources: RFC 1950 to 1952, RFC 8878, RFC 9659 (window of at most 8 MiB for zstd on the web).
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Protocol

import zstandard

if TYPE_CHECKING:
    from collections.abc import Iterator

SUPPORTED = frozenset({"gzip", "deflate", "zstd", "identity"})
"""The content codings that are accepted."""
MAX_MEMBERS = 100
"""gzip members or zstd frames in one body: more of them cost time and carry nothing."""
MAX_BLOCKS = 100_000
"""zstd blocks in one body; an encoder that is flushed after every event makes one for each."""
MAX_WINDOW_BYTES = 8 << 20

_INPUT_BYTES = 65_536
"""zlib copies what it could not use yet: it gets its input in pieces."""
_ZSTD_MAGIC, _MAX_HEADER_BYTES, _RLE = 0xFD2FB528, 18, 1


class DecodeError(ValueError):
    """The body cannot be decoded.

    Args:
        code: ``bad_compression`` or ``decoded_too_large``.
        detail: for people; never values.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail


class Decoder(Protocol):
    """Decodes one body."""

    def feed(self, body: bytes) -> None:
        """Take the whole encoded body."""

    def read(self, size: int) -> bytes:
        """The next bytes, at most ``size``; none at the end.

        Raises:
            DecodeError: the body is broken, or decodes to more than the limit.
        """

    def finish(self) -> None:
        """Say that the end was reached.

        Raises:
            DecodeError: the body ended too early.
        """


def decoder(encoding: str, limit_bytes: int) -> Decoder:
    """A decoder for one body.

    Args:
        encoding: a member of `SUPPORTED` other than ``identity``.
        limit_bytes: how large the decoded body may be.
    """
    if encoding == "zstd":
        return _Zstd(limit_bytes)
    return _Zlib(limit_bytes, gzip=encoding == "gzip")


class _Output:
    """Counts what is decoded, all together and for the current member."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._total = 0
        self._of_member = 0
        self.members = 0

    def begin_member(self) -> None:
        self.members += 1
        self._of_member = 0
        if self.members > MAX_MEMBERS:
            raise DecodeError("bad_compression", f"more than {MAX_MEMBERS} members or frames")

    def end_member(self) -> None:
        if not self._of_member:
            raise DecodeError("bad_compression", "an empty member or frame")

    def room(self, size: int) -> int:
        """How much to decode: one byte beyond the limit is enough to know that it is passed."""
        return min(size, self._limit - self._total + 1)

    def count(self, piece: bytes) -> None:
        self._total += len(piece)
        self._of_member += len(piece)
        if self._total > self._limit:
            raise DecodeError("decoded_too_large", f"decodes to more than {self._limit} bytes")


class _Zlib:
    """gzip with its members, or deflate: in its zlib wrapping, or raw as some clients send it."""

    def __init__(self, limit_bytes: int, *, gzip: bool) -> None:
        self._output = _Output(limit_bytes)
        self._gzip = gzip
        self._input: Iterator[bytes] = iter(())
        self._pending = b""
        self._wbits = zlib.MAX_WBITS | 16
        self._member: zlib._Decompress | None = None
        self._ended = False

    def feed(self, body: bytes) -> None:
        if not self._gzip:
            self._wbits = zlib.MAX_WBITS if _has_zlib_header(body) else -zlib.MAX_WBITS
        starts = range(0, len(body), _INPUT_BYTES)
        self._input = (body[start : start + _INPUT_BYTES] for start in starts)

    def read(self, size: int) -> bytes:
        while not self._ended:
            data = self._pending or next(self._input, b"")
            if self._member is None and not data and self._output.members:
                self._ended = True
                break
            member = self._member or self._begin()
            piece = self._inflate(member, data, self._output.room(size))
            if piece:
                return piece
            if not data:
                break
        return b""

    def _begin(self) -> zlib._Decompress:
        if not self._gzip and self._output.members:
            raise DecodeError("bad_compression", "bytes after the end of the stream")
        self._output.begin_member()
        self._member = zlib.decompressobj(self._wbits)
        return self._member

    def _inflate(self, member: zlib._Decompress, data: bytes, size: int) -> bytes:
        try:
            piece = member.decompress(data, size)
        except zlib.error:
            raise DecodeError("bad_compression", "broken gzip or deflate data") from None
        self._output.count(piece)
        if member.eof:
            self._output.end_member()
            self._pending, self._member = member.unused_data, None
        else:
            self._pending = member.unconsumed_tail
        return piece

    def finish(self) -> None:
        if not self._ended:
            raise DecodeError("bad_compression", "the body ends in the middle of a stream")


def _has_zlib_header(body: bytes) -> bool:
    """Whether it starts as RFC 1950, section 2.2 has it; no encoder starts a raw stream so."""
    return len(body) > 1 and body[0] & 0x0F == 8 and int.from_bytes(body[:2], "big") % 31 == 0


class _Zstd:
    def __init__(self, limit_bytes: int) -> None:
        self._output = _Output(limit_bytes)
        self._frames: Iterator[memoryview] = iter(())
        self._context = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
        self._reader: zstandard.ZstdDecompressionReader | None = None

    def feed(self, body: bytes) -> None:
        if not body:
            raise DecodeError("bad_compression", "the body ends in the middle of a stream")
        self._frames = _frames(body)

    def read(self, size: int) -> bytes:
        while reader := self._reader or self._next_frame():
            try:
                piece = reader.read(self._output.room(size))
            except zstandard.ZstdError:
                raise DecodeError("bad_compression", "broken zstd data") from None
            if piece:
                self._output.count(piece)
                return piece
            self._output.end_member()
            self._reader = None
        return b""

    def _next_frame(self) -> zstandard.ZstdDecompressionReader | None:
        frame = next(self._frames, None)
        if frame is not None:
            self._output.begin_member()
            self._reader = self._context.stream_reader(frame, read_across_frames=False)
        return self._reader

    def finish(self) -> None:
        """Nothing is left to find: a frame that ends too early was refused when it was cut out."""


def _frames(body: bytes) -> Iterator[memoryview]:
    """The frames of a zstd body, cut out by their block headers (RFC 8878, section 3.1.1)."""
    start, blocks, view = 0, MAX_BLOCKS, memoryview(body)
    while start < len(body):
        header_size, has_checksum = _frame_header(view[start : start + _MAX_HEADER_BYTES])
        end, blocks = _blocks_end(body, start + header_size, blocks)
        end += 4 * has_checksum
        if end > len(body):
            raise DecodeError("bad_compression", "the body ends in the middle of a frame")
        yield view[start:end]
        start = end


def _blocks_end(body: bytes, at: int, blocks: int) -> tuple[int, int]:
    """Where the blocks of a frame end that begin at ``at``, and how many blocks may still come."""
    limit, last = len(body) - 3, 0
    while not last:
        if not blocks:
            raise DecodeError("bad_compression", f"more than {MAX_BLOCKS} blocks")
        blocks -= 1
        if at > limit:
            raise DecodeError("bad_compression", "the body ends in the middle of a frame")
        header = body[at] | body[at + 1] << 8 | body[at + 2] << 16
        last = header & 1
        at += 3 + (1 if header >> 1 & 3 == _RLE else header >> 3)
    return at, blocks


def _frame_header(start: memoryview) -> tuple[int, bool]:
    """Size of the frame header at ``start``, and whether a checksum ends the frame."""
    if int.from_bytes(start[:4], "little") != _ZSTD_MAGIC:
        raise DecodeError("bad_compression", "not a zstd frame, or bytes after the last one")
    try:
        size = zstandard.frame_header_size(start)
        return size, zstandard.get_frame_parameters(start).has_checksum
    except zstandard.ZstdError:
        raise DecodeError("bad_compression", "broken zstd data") from None
