"""The level of zstd."""

from __future__ import annotations

import pytest
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from zstandard import ZstdCompressor

from ingest import kafka_client, zstd_level

VALUES = [b"the same again and again, but for %d" % (number**5) for number in range(2000)]
ZSTD = 4
HEADER_BYTES = 61


def test_aiokafka_compresses_with_our_level() -> None:
    """What it builds is compressed as it would be by hand, and is read back."""
    assert kafka_client.zstd_level is zstd_level
    batches = []
    for codec in (0, ZSTD):
        builder = BatchBuilder(1 << 30, codec)
        for value in VALUES:
            builder.append(timestamp=1, key=None, value=value)
        batches.append(bytes(builder._build()))
    plain, compressed = batches
    assert compressed[HEADER_BYTES:] == ZstdCompressor(level=1).compress(plain[HEADER_BYTES:])
    read = MemoryRecords(compressed).next_batch()
    assert read is not None
    assert read.validate_crc()
    assert [record.value for record in read] == VALUES


@pytest.mark.parametrize("payload", [b"", b"x", bytearray(b"y" * 100), memoryview(b"z" * 100)])
def test_a_frame_tells_its_size(payload: bytes) -> None:
    """Brokers and consumers of any kind can read it."""
    import zstandard  # noqa: PLC0415 - the counterpart

    assert zstandard.ZstdDecompressor().decompress(zstd_level.compress(payload)) == bytes(payload)
