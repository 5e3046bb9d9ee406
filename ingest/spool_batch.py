"""What the spool stores: batches of entries as bytes, each with a checksum.

A batch is msgpack, compressed with zstd. The checksum covers the topic and the number of events
too, so that no batch is ever replayed to another topic than its own. Pure: no I/O, no clock.

One thread only: the compressor is shared.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import zstandard

if TYPE_CHECKING:
    from collections.abc import Sequence

LEVEL = 1
MAX_UNPACKED_BYTES = 1 << 28
"""A frame that says to be larger is damaged: it is not even tried."""

_compressor = zstandard.ZstdCompressor(level=LEVEL)
_decompressor = zstandard.ZstdDecompressor()


class Damaged(Exception):  # noqa: N818 - a verdict
    """What was stored cannot be read back as it was."""


class Entry(msgspec.Struct, array_like=True):
    """Records of one submission that share a timestamp.

    Attributes:
        timestamp_ms: of all its records, in milliseconds since 1970.
        headers: of all its records.
        headers_each: more headers, one list for each value; None: none have any.
        keys: one for each value; None: none have any.
        values: of the records.
    """

    timestamp_ms: int
    headers: list[tuple[str, bytes]]
    headers_each: list[list[tuple[str, bytes]]] | None
    keys: list[bytes | None] | None
    values: list[bytes]


class Packed(NamedTuple):
    """One batch as it is stored.

    Attributes:
        topic: where all its records belong.
        events: how many values it has.
        payload: the entries.
        crc: see `checksum`.
    """

    topic: str
    events: int
    payload: bytes
    crc: int


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Entry]).decode


def checksum(topic: str, events: int, payload: bytes) -> int:
    """The CRC-32 of a batch, topic and number of events included."""
    return zlib.crc32(payload, zlib.crc32(f"{topic}\0{events}\0".encode()))


def pack(topic: str, entries: Sequence[Entry]) -> Packed:
    """``entries`` as one batch.

    Raises:
        ValueError: there is more in them than can be unpacked again, `MAX_UNPACKED_BYTES`.
    """
    plain = _encode(entries)
    if len(plain) > MAX_UNPACKED_BYTES:
        raise ValueError(f"a batch of {len(plain)} bytes is too large to be stored")
    payload = _compressor.compress(plain)
    events = sum(len(entry.values) for entry in entries)
    return Packed(topic, events, payload, checksum(topic, events, payload))


def is_intact(packed: Packed) -> bool:
    """Whether the checksum of a batch is right."""
    return checksum(packed.topic, packed.events, packed.payload) == packed.crc


def unpack(packed: Packed) -> list[Entry]:
    """The entries of a batch.

    Raises:
        Damaged: they are not what was packed.
    """
    if not is_intact(packed):
        raise Damaged("the checksum is wrong")
    try:
        entries = _decode(_decompress(packed.payload))
    except (zstandard.ZstdError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Damaged("the content is not a batch") from error
    if not all(_adds_up(entry) for entry in entries):
        raise Damaged("an entry has not one key or header list for each value")
    if sum(len(entry.values) for entry in entries) != packed.events:
        raise Damaged("the number of events is wrong")
    return entries


def _decompress(payload: bytes) -> bytes:
    """The content of one frame; its size is checked before memory is taken for it."""
    size = zstandard.frame_content_size(payload)
    if not 0 <= size <= MAX_UNPACKED_BYTES:
        raise Damaged("the frame tells no size, or one that is out of bounds")
    return _decompressor.decompress(payload)


def _adds_up(entry: Entry) -> bool:
    count = len(entry.values)
    return all(each is None or len(each) == count for each in (entry.keys, entry.headers_each))
