"""What the spool stores, as bytes."""

from __future__ import annotations

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from ingest import spool_batch
from ingest.spool_batch import Damaged, Entry, Packed, checksum, is_intact, pack, unpack

headers = st.lists(st.tuples(st.text(max_size=5), st.binary(max_size=5)), max_size=3)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    """An entry as the producer makes it."""
    values = draw(st.lists(st.binary(max_size=20), min_size=1, max_size=4))
    size = len(values)
    keys = st.lists(st.none() | st.binary(max_size=5), min_size=size, max_size=size)
    each = st.lists(headers, min_size=size, max_size=size)
    return Entry(
        draw(st.integers(0, 1 << 50)),
        draw(headers),
        draw(st.none() | each),
        draw(st.none() | keys),
        values,
    )


@given(st.text(max_size=10), st.lists(entries(), max_size=4))
def test_what_is_packed_is_unpacked(topic: str, stored: list[Entry]) -> None:
    """Timestamps, headers, keys and values are what they were, and so is their number."""
    packed = pack(topic, stored)
    assert packed.events == sum(len(entry.values) for entry in stored)
    assert unpack(packed) == stored


PACKED = pack("orders", [Entry(1, [("a", b"b")], None, [b"key", None], [b"one", b"two" * 20])])


@given(st.integers(0, len(PACKED.payload) * 8 - 1))
def test_every_flipped_bit_is_found(bit: int) -> None:
    """Not one bit of a payload can change unseen."""
    payload = bytearray(PACKED.payload)
    payload[bit // 8] ^= 1 << bit % 8
    damaged = PACKED._replace(payload=bytes(payload))
    assert not is_intact(damaged)
    with pytest.raises(Damaged):
        unpack(damaged)


@pytest.mark.parametrize(
    "changed",
    [
        PACKED._replace(topic="others"),
        PACKED._replace(events=PACKED.events + 1),
        PACKED._replace(payload=PACKED.payload[:-1]),
        PACKED._replace(payload=b""),
        PACKED._replace(crc=PACKED.crc ^ 1),
    ],
)
def test_the_checksum_covers_everything(changed: Packed) -> None:
    """A batch never goes to another topic, nor counts as more events, than it was stored with."""
    with pytest.raises(Damaged):
        unpack(changed)


def _sealed(payload: bytes, events: int = 1) -> Packed:
    return Packed("t", events, payload, checksum("t", events, payload))


def _compressed(plain: bytes) -> bytes:
    return zstandard.compress(plain)


@pytest.mark.parametrize(
    "packed",
    [
        _sealed(b""),
        _sealed(b"no frame"),
        _sealed(_compressed(b"no msgpack")),
        _sealed(_compressed(b"\x93\x01\x02\x03")),
        _sealed(_compressed(spool_batch._encode([Entry(1, [], None, [b"k"] * 2, [b"v"])]))),
        _sealed(_compressed(spool_batch._encode([Entry(1, [], [], None, [b"v"])]))),
        _sealed(_compressed(spool_batch._encode([Entry(1, [], None, None, [b"v"])])), events=2),
        _sealed(zstandard.ZstdCompressor(write_content_size=False).compress(b"\x90")),
    ],
)
def test_a_right_checksum_is_not_enough(packed: Packed) -> None:
    """What is no batch is damaged, whatever its checksum says."""
    assert is_intact(packed)
    with pytest.raises(Damaged):
        unpack(packed)


def test_a_frame_that_would_be_too_large_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its size is read before memory is taken; and none like it is ever stored."""
    monkeypatch.setattr(spool_batch, "MAX_UNPACKED_BYTES", 1000)
    stored = [Entry(1, [], None, None, [bytes(1000)])]
    with pytest.raises(ValueError, match="too large"):
        pack("t", stored)
    with pytest.raises(Damaged, match="size"):
        unpack(_sealed(_compressed(bytes(1001))))
