"""Bounded decompression: the whole value or an error, and never more than was asked for."""

from __future__ import annotations

import gzip
import random
import time
import tracemalloc
import zlib
from functools import partial
from typing import TYPE_CHECKING

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_http.decode import MAX_BLOCKS, MAX_MEMBERS, MAX_WINDOW_BYTES, DecodeError, decoder
from ingest_http.problem import STATUS

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT = 1 << 20
TEXT = b"".join(b'{"n":%d,"text":"some text"}\n' % number for number in range(40))
GZIP_HEADER, ZLIB_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff", b"\x78\x9c"
ZSTD_MAGIC = zstandard.FRAME_HEADER


def raw_deflate(data: bytes) -> bytes:
    """What some clients send as deflate: no wrapping, no checksum."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def zstd(data: bytes) -> bytes:
    """One frame with a checksum."""
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


def zstd_bare(data: bytes) -> bytes:
    """One frame with neither a checksum nor the size of its content."""
    return zstandard.ZstdCompressor(write_content_size=False).compress(data)


def zstd_flushed(data: bytes) -> bytes:
    """One frame, flushed after every hundred bytes."""
    packer = zstandard.ZstdCompressor(write_checksum=True).compressobj()
    blocks = [
        packer.compress(data[start : start + 100]) + packer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
        for start in range(0, len(data), 100)
    ]
    return b"".join(blocks) + packer.flush()


PACKERS = [
    pytest.param("gzip", gzip.compress, id="gzip"),
    pytest.param("deflate", zlib.compress, id="zlib"),
    pytest.param("deflate", raw_deflate, id="raw deflate"),
    pytest.param("zstd", zstd, id="zstd"),
    pytest.param("zstd", zstd_bare, id="bare zstd"),
    pytest.param("zstd", zstd_flushed, id="flushed zstd"),
]
each_packer = pytest.mark.parametrize(("encoding", "pack"), PACKERS)
each_with_members = pytest.mark.parametrize(
    ("encoding", "pack"), [PACKERS[0], PACKERS[3], PACKERS[4]]
)
each_with_checksum = pytest.mark.parametrize(
    ("encoding", "pack"), [PACKERS[0], PACKERS[3], PACKERS[5]]
)


def decoded(encoding: str, body: bytes, limit: int = LIMIT, step: int = 65_536) -> bytes:
    """The whole value of ``body``, read in steps, none of which is larger than asked for."""
    unpacker = decoder(encoding, limit)
    unpacker.feed(body)
    pieces = []
    while piece := unpacker.read(step):
        assert len(piece) <= step
        pieces.append(piece)
    unpacker.finish()
    assert unpacker.read(step) == b""
    value = b"".join(pieces)
    assert len(value) <= limit
    return value


def refusal(encoding: str, body: bytes, limit: int = LIMIT, step: int = 65_536) -> str:
    """The code of the error that ``body`` ends in."""
    with pytest.raises(DecodeError) as refused:
        decoded(encoding, body, limit, step)
    return refused.value.code


def value_or_code(encoding: str, body: bytes) -> bytes | str:
    """The value, or the code of the error; any other error is one of ours."""
    try:
        return decoded(encoding, body)
    except DecodeError as refused:
        return refused.code


def frame(*blocks: bytes, window: int = 0, size: bytes = b"") -> bytes:
    """A zstd frame as RFC 8878, section 3.1.1 has it; ``size``: 8 bytes of a content size."""
    return ZSTD_MAGIC + bytes([0xC0 if size else 0, window]) + size + b"".join(blocks)


def block(content: bytes, kind: int = 0, size: int | None = None, *, last: bool = False) -> bytes:
    """A zstd block; its kind is 0 for raw bytes, 1 for one byte that is repeated."""
    header = (len(content) if size is None else size) << 3 | kind << 1 | last
    return header.to_bytes(3, "little") + content


# Whole values.


@each_packer
@pytest.mark.parametrize("step", [1, 2, 3, 7, 100, 1 << 20])
def test_a_value_is_whole_however_it_is_read(
    encoding: str, pack: Callable[[bytes], bytes], step: int
) -> None:
    """No step is larger than asked for, and none is missing."""
    assert decoded(encoding, pack(TEXT), step=step) == TEXT


@each_packer
def test_a_value_larger_than_all_buffers_is_whole(
    encoding: str, pack: Callable[[bytes], bytes]
) -> None:
    """Input comes in many pieces where it does not compress, output where it does."""
    value = random.Random(1).randbytes(300_000) + bytes(400_000)
    assert decoded(encoding, pack(value), step=50_000) == value


@each_with_members
@pytest.mark.parametrize("step", [1, 1000])
def test_members_follow_each_other(
    encoding: str, pack: Callable[[bytes], bytes], step: int
) -> None:
    """The value is that of all of them together."""
    body = b"".join(pack(b"%d " % number * 9) for number in range(5))
    value = b"".join(b"%d " % number * 9 for number in range(5))
    assert decoded(encoding, body, step=step) == value


@each_with_members
def test_there_may_be_100_members_and_no_more(
    encoding: str, pack: Callable[[bytes], bytes]
) -> None:
    """More of them cost time and carry nothing."""
    assert decoded(encoding, pack(b"ab") * MAX_MEMBERS) == b"ab" * 100
    assert refusal(encoding, pack(b"ab") * 101) == "bad_compression"


def test_zstd_frames_of_all_kinds_go_together() -> None:
    """Each frame has a header of its own."""
    body = zstd(TEXT) + zstd_bare(TEXT) + zstd_flushed(TEXT)
    assert decoded("zstd", body) == 3 * TEXT


@pytest.mark.parametrize("size", range(65_536 - 2, 65_536 + 3))
def test_members_may_end_wherever_input_is_cut(size: int) -> None:
    """Neither a new member nor what is too much is lost at the edge of a piece of input."""
    value = random.Random(size).randbytes(size - len(gzip.compress(b"", 0)))
    member = gzip.compress(value, 0)
    assert len(member) in {size, size + 5}, "stored as it is, in one block or in two"
    assert decoded("gzip", member + gzip.compress(b"end")) == value + b"end"
    assert refusal("gzip", member + b"\x1f") == "bad_compression"
    stream = zlib.compress(value, 0)
    assert decoded("deflate", stream) == value
    assert refusal("deflate", stream + b"\x00") == "bad_compression"


# Broken bodies.


@each_packer
@pytest.mark.parametrize("step", [1, 65_536])
def test_a_body_cut_off_anywhere_is_refused(
    encoding: str, pack: Callable[[bytes], bytes], step: int
) -> None:
    """Half of a value is no value."""
    body = pack(TEXT[:300])
    for end in range(len(body)):
        assert refusal(encoding, body[:end], step=step) == "bad_compression"


@each_with_members
def test_a_second_member_cut_off_anywhere_is_refused(
    encoding: str, pack: Callable[[bytes], bytes]
) -> None:
    """The first one does not make up for it; only between them nothing is missing."""
    first, second = pack(TEXT[:100]), pack(TEXT[100:200])
    assert decoded(encoding, first) == TEXT[:100]
    for end in range(1, len(second)):
        assert refusal(encoding, first + second[:end]) == "bad_compression"


@each_packer
@pytest.mark.parametrize("trailing", [b"\x00", b"\n", b"\x1f", b"\x28", b"{}", bytes(20)])
def test_bytes_behind_the_end_are_refused(
    encoding: str, pack: Callable[[bytes], bytes], trailing: bytes
) -> None:
    """Whatever they are, they are nothing that the client could have meant."""
    assert refusal(encoding, pack(TEXT) + trailing) == "bad_compression"
    assert refusal(encoding, trailing + pack(TEXT)) == "bad_compression"


@pytest.mark.parametrize("pack", [zlib.compress, raw_deflate])
def test_a_second_deflate_stream_is_refused(pack: Callable[[bytes], bytes]) -> None:
    """Only gzip has members."""
    assert refusal("deflate", pack(TEXT) + pack(TEXT)) == "bad_compression"


@each_packer
@pytest.mark.parametrize("flip", [0x01, 0x20, 0x80, 0xFF])
def test_a_corrupted_byte_gives_a_value_or_an_error(
    encoding: str, pack: Callable[[bytes], bytes], flip: int
) -> None:
    """Each of its bytes in turn."""
    body = pack(TEXT[:300])
    for at in range(len(body)):
        found = value_or_code(encoding, body[:at] + bytes([body[at] ^ flip]) + body[at + 1 :])
        assert isinstance(found, bytes) or found in STATUS


@each_with_checksum
@pytest.mark.parametrize("flip", [0x01, 0x20, 0x80, 0xFF])
def test_a_corrupted_byte_never_gives_a_wrong_value(
    encoding: str, pack: Callable[[bytes], bytes], flip: int
) -> None:
    """Where there is a checksum, it is looked at."""
    body = pack(TEXT[:300])
    for at in range(len(body)):
        found = value_or_code(encoding, body[:at] + bytes([body[at] ^ flip]) + body[at + 1 :])
        assert found in {TEXT[:300], "bad_compression", "decoded_too_large"}


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
@pytest.mark.parametrize("body", [b"", b"{}", b"\x00", b"[1,2,3]" * 20, bytes(1000)])
def test_what_was_never_compressed_is_refused(encoding: str, body: bytes) -> None:
    """Also when it is empty: there is no empty stream of any kind."""
    assert refusal(encoding, body) == "bad_compression"


@each_with_members
def test_an_empty_member_is_refused_wherever_it_is(
    encoding: str, pack: Callable[[bytes], bytes]
) -> None:
    """Nobody sends one on purpose."""
    for body in (pack(b""), pack(b"") + pack(b"a"), pack(b"a") + pack(b"")):
        assert refusal(encoding, body) == "bad_compression"


def test_a_dictionary_that_we_do_not_have_is_refused() -> None:
    """In each of the encodings that know of dictionaries."""
    samples = [b"some text of a sample %d" % number for number in range(1000)]
    trained = zstandard.train_dictionary(1000, samples)
    packer = zlib.compressobj(zdict=samples[0])
    stream = packer.compress(samples[1]) + packer.flush()
    assert refusal("deflate", stream) == "bad_compression"
    body = zstandard.ZstdCompressor(dict_data=trained).compress(samples[1])
    assert refusal("zstd", body) == "bad_compression"


# The shape of zstd frames.


@pytest.mark.parametrize("skippable", [b"\x50\x2a\x4d\x18\0\0\0\0", b"\x5f\x2a\x4d\x18\1\0\0\0x"])
def test_skippable_frames_are_refused(skippable: bytes) -> None:
    """They carry nothing: like empty frames, and like bytes behind the end."""
    for body in (skippable, skippable + zstd(TEXT), zstd(TEXT) + skippable):
        assert refusal("zstd", body) == "bad_compression"


@pytest.mark.parametrize(
    ("exponent", "mantissa", "accepted"),
    [(0, 0, True), (13, 0, True), (13, 1, False), (14, 0, False), (21, 7, False), (31, 7, False)],
)
def test_a_window_may_have_8_mib_and_no_more(
    *, exponent: int, mantissa: int, accepted: bool
) -> None:
    """It is memory that a client makes us take (RFC 9659)."""
    window = 1024 * 2**exponent
    body = frame(block(b"abc", last=True), window=exponent << 3 | mantissa)
    assert accepted is (window + window // 8 * mantissa <= MAX_WINDOW_BYTES)
    assert value_or_code("zstd", body) == (b"abc" if accepted else "bad_compression")


def test_a_window_as_large_as_the_content_has_the_same_bound() -> None:
    """A single segment needs no window, but memory all the same."""
    for size, found in ((3, b"abc"), (MAX_WINDOW_BYTES + 1, "bad_compression")):
        body = ZSTD_MAGIC + b"\xa0" + size.to_bytes(4, "little") + block(b"abc", last=True)
        assert value_or_code("zstd", body) == found


@pytest.mark.parametrize("size", [0, 2, 4, 1 << 40, 1 << 62])
def test_a_content_size_that_is_not_true_is_refused(size: int) -> None:
    """What is claimed is neither believed nor allocated."""
    body = frame(block(b"abc", last=True), size=size.to_bytes(8, "little"))
    assert refusal("zstd", body) == "bad_compression"


def test_there_may_be_100_000_blocks_and_no_more() -> None:
    """In all frames together; each of them costs time."""
    one, last = block(b"a"), block(b"a", last=True)
    most = frame(one * 9 + last) + frame(one * (MAX_BLOCKS - 11) + last)
    assert decoded("zstd", most) == b"a" * 100_000
    assert refusal("zstd", most + frame(last)) == "bad_compression"
    assert refusal("zstd", frame(one * MAX_BLOCKS + last)) == "bad_compression"


@pytest.mark.parametrize(
    ("blocks", "found"),
    [
        ([block(b"ab"), block(b"", last=True)], b"ab"),
        ([block(b"x", 1, 5), block(b"ab", last=True)], b"xxxxxab"),
        ([block(b"x", 1, 131_072, last=True)], b"x" * 131_072),
        ([block(b"x", 1, 131_073, last=True)], "bad_compression"),
        ([block(b"ab", 2, last=True)], "bad_compression"),
        ([block(b"ab", 3, last=True)], "bad_compression"),
        ([block(b"ab")], "bad_compression"),
        ([block(b"ab", 0, 3, last=True)], "bad_compression"),
        ([block(b"", 1, 3, last=True)], "bad_compression"),
        ([block(b"", last=True)], "bad_compression"),
    ],
)
def test_blocks_are_what_the_rfc_says(blocks: list[bytes], found: bytes | str) -> None:
    """Raw, repeated, or broken (RFC 8878, section 3.1.1.2)."""
    assert value_or_code("zstd", frame(*blocks, window=7 << 3)) == found


# Limits.


@each_packer
@pytest.mark.parametrize("step", [1, 7, 65_536])
def test_the_limit_may_just_be_reached(
    encoding: str, pack: Callable[[bytes], bytes], step: int
) -> None:
    """One byte more is too much."""
    body, size = pack(TEXT), len(TEXT)
    assert decoded(encoding, body, size, step) == TEXT
    assert refusal(encoding, body, size - 1, step) == "decoded_too_large"


@each_with_members
def test_the_limit_is_for_all_members_together(
    encoding: str, pack: Callable[[bytes], bytes]
) -> None:
    """Many small ones are one large body."""
    body = pack(b"a" * 60) + pack(b"b" * 40)
    assert decoded(encoding, body, 100) == b"a" * 60 + b"b" * 40
    assert refusal(encoding, body, 99) == "decoded_too_large"


def _megabyte_of_zeros() -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)


GIGABYTE = _megabyte_of_zeros() * 1024
ZEROS, LAST_ZEROS = block(b"\0", 1, 131_072), block(b"\0", 1, 131_072, last=True)


@pytest.mark.parametrize(
    ("encoding", "bomb"),
    [
        pytest.param("gzip", GZIP_HEADER + GIGABYTE, id="gzip"),
        pytest.param("deflate", ZLIB_HEADER + GIGABYTE, id="zlib"),
        pytest.param("deflate", GIGABYTE, id="raw deflate"),
        pytest.param("zstd", frame(ZEROS * 8191, LAST_ZEROS, window=7 << 3), id="zstd"),
        pytest.param("zstd", zstd(bytes(1 << 20)) * 100, id="zstd frames"),
    ],
)
def test_a_bomb_stops_at_the_limit(encoding: str, bomb: bytes) -> None:
    """A gigabyte of zeros costs as much memory as one step, and as much time as the limit."""
    limit, step = 10 << 20, 65_536
    unpacker, sizes = decoder(encoding, limit), []
    unpacker.feed(bomb)
    pieces = iter(partial(unpacker.read, step), b"")
    begun = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError) as refused:
            sizes.extend(map(len, pieces))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert refused.value.code == "decoded_too_large"
    assert limit - step <= sum(sizes) <= limit
    assert peak < 8 * step
    assert time.process_time() - begun < 2.0


# Any input at all.

ENCODINGS = st.sampled_from([packer.values for packer in PACKERS])


@given(ENCODINGS, st.binary(min_size=1, max_size=3000), st.integers(1, 4000))
@settings(deadline=None)
def test_every_value_comes_back(
    packer: tuple[str, Callable[[bytes], bytes]], value: bytes, step: int
) -> None:
    """Whatever it is and however it is read."""
    encoding, pack = packer
    assert decoded(encoding, pack(value), step=step) == value


@given(ENCODINGS, st.binary(min_size=1, max_size=300), st.data())
@settings(deadline=None, max_examples=300)
def test_any_bytes_are_a_value_or_an_error(
    packer: tuple[str, Callable[[bytes], bytes]], value: bytes, data: st.DataObject
) -> None:
    """Bytes that come from nowhere, and bodies with a piece replaced by others."""
    encoding, pack = packer
    body = pack(value)
    start = data.draw(st.integers(0, len(body)))
    end = data.draw(st.integers(start, len(body)))
    for odd in (value, body[:start] + value[:9] + body[end:]):
        found = value_or_code(encoding, odd)
        assert isinstance(found, bytes) or found in {"bad_compression", "decoded_too_large"}
