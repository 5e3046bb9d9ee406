"""Partitions are chosen as Kafka's Java client chooses them, and remembered within bounds."""

from __future__ import annotations

import pytest
from aiokafka.partitioner import murmur2 as aiokafkas_murmur2
from hypothesis import given
from hypothesis import strategies as st

from ingest.partitioner import CACHED_KEY_BYTES, CACHED_KEYS, Partitioner, murmur2
from tests.producer_contract import JAVA_MURMUR2

MORE_JAVA_MURMUR2 = {
    b"": 275646681,
    b"\x00": 375494588,
    b"\xff": -311467685,
    b"\xff\xfe": 1717632651,
    b"\x80\x81\x82": -1975640061,
    b"\xde\xad\xbe\xef": 833564499,
    b"\x00\x00\x00\x00\x00": 263274959,
    b"customer-4711": -371840612,
    "é€😀".encode(): -232818566,
    b"\xff" * 8: 185950397,
}
"""More keys, as ``org.apache.kafka.common.utils.Utils.murmur2`` of Kafka 4.3.1 hashes them."""
JAVA_PARTITIONS_OF_12 = {
    b"": 9,
    b"\x00": 8,
    b"\xff": 3,
    b"\xff\xfe": 3,
    b"\x80\x81\x82": 11,
    b"\xde\xad\xbe\xef": 3,
    b"\x00\x00\x00\x00\x00": 11,
    b"customer-4711": 0,
    "é€😀".encode(): 6,
    b"\xff" * 8: 5,
}
"""``Utils.toPositive(hash) % 12`` of the same."""


@pytest.mark.parametrize(("key", "java"), [*JAVA_MURMUR2.items(), *MORE_JAVA_MURMUR2.items()])
def test_the_hash_is_javas(key: bytes, java: int) -> None:
    """Every length of the last word, and bytes that Java takes for negative numbers."""
    assert murmur2(key) == java & 0xFFFFFFFF


@given(st.binary(max_size=70))
def test_the_hash_is_that_of_an_independent_implementation(key: bytes) -> None:
    """Any bytes, of any length."""
    assert murmur2(key) == aiokafkas_murmur2(key)


def test_partitions_are_javas() -> None:
    """Hashes lose their sign bit, not their sign."""
    keys = list(JAVA_PARTITIONS_OF_12)
    assert Partitioner().partitions(keys, 12, 5) == list(JAVA_PARTITIONS_OF_12.values())


def test_a_record_without_a_key_has_no_partition_of_its_own() -> None:
    """An empty key is a key, none is not."""
    assert Partitioner().partitions([None, b"", None], 12, 5) == [5, 9, 5]
    assert Partitioner().partitions([], 12, 5) == []


@given(st.lists(st.none() | st.binary(max_size=3), max_size=20), st.integers(1, 50))
def test_a_remembered_key_gets_the_partition_of_a_new_one(
    keys: list[bytes | None], count: int
) -> None:
    """Also when the topic has got more partitions in the meantime."""
    partitioner = Partitioner()
    partitioner.partitions(keys, 7, 5)
    chosen = partitioner.partitions(keys, count, 5)
    assert chosen == Partitioner().partitions(keys, count, 5)
    assert all(
        n == 5 if key is None else 0 <= n < count for n, key in zip(chosen, keys, strict=True)
    )


def test_what_is_remembered_is_bounded() -> None:
    """More keys than are kept displace the oldest, and are chosen for all the same."""
    partitioner = Partitioner()
    keys = [b"%d" % number for number in range(CACHED_KEYS + 1)]
    chosen = partitioner.partitions(keys, 1000, 5)
    assert CACHED_KEYS // 2 <= len(partitioner._hashes) <= CACHED_KEYS
    assert keys[-1] in partitioner._hashes
    assert keys[0] not in partitioner._hashes
    sample = slice(None, None, 997)
    assert chosen[sample] == [(aiokafkas_murmur2(key) & 0x7FFFFFFF) % 1000 for key in keys[sample]]
    assert partitioner.partitions(keys[:1], 1000, 5) == chosen[:1]


@pytest.mark.parametrize(("size", "kept"), [(CACHED_KEY_BYTES, 1), (CACHED_KEY_BYTES + 1, 0)])
def test_long_keys_are_not_remembered(size: int, kept: int) -> None:
    """They would fill the memory; they are hashed each time."""
    partitioner, key = Partitioner(), b"k" * size
    expected = [(aiokafkas_murmur2(key) & 0x7FFFFFFF) % 12] * 2
    assert partitioner.partitions([key, key], 12, 5) == expected
    assert len(partitioner._hashes) == kept
