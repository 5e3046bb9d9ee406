"""Record key -> partition, as Kafka's Java client has it: co-partitioned joins break otherwise.

Source: ``murmur2`` and ``toPositive`` of ``org.apache.kafka.common.utils.Utils``, and
``BuiltInPartitioner.partitionForKey``.
"""

from __future__ import annotations

from itertools import islice
from struct import unpack_from
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

CACHED_KEYS = 65_536
CACHED_KEY_BYTES = 256
"""Longer keys are hashed each time: they would fill the memory."""

_SEED, _M, _MASK = 0x9747B28C, 0x5BD1E995, 0xFFFFFFFF


def murmur2(key: bytes) -> int:
    """MurmurHash2 of ``key`` as an unsigned number of 32 bits."""
    length = len(key)
    words = length // 4
    h = _SEED ^ length
    for k in unpack_from(f"<{words}I", key):
        k = (k * _M) & _MASK  # noqa: PLW2901 - the mixing is the algorithm
        h = ((h * _M) & _MASK) ^ (((k ^ (k >> 24)) * _M) & _MASK)
    if length & 3:
        h = ((h ^ int.from_bytes(key[4 * words :], "little")) * _M) & _MASK
    h = ((h ^ (h >> 13)) * _M) & _MASK
    return h ^ (h >> 15)


class Partitioner:
    """Chooses partitions; remembers the hashes of keys, since the same ones come again and again.

    A hash costs microseconds in Python, a look-up a tenth of one.
    """

    def __init__(self) -> None:
        self._hashes: dict[bytes, int] = {}

    def partitions(self, keys: Sequence[bytes | None], count: int, keyless: int) -> list[int]:
        """The partition of each key, of ``count``; ``keyless`` for records without a key."""
        known: dict[Any, int] = self._hashes
        hashes = list(map(known.get, keys))
        if None in hashes:
            return [keyless if key is None else self._number(key, count) for key in keys]
        return [value % count for value in hashes]  # type: ignore[operator]

    def _number(self, key: bytes, count: int) -> int:
        value = self._hashes.get(key)
        return (self._hash(key) if value is None else value) % count

    def _hash(self, key: bytes) -> int:
        value = murmur2(key) & 0x7FFFFFFF  # Java's toPositive
        if len(key) <= CACHED_KEY_BYTES:
            known = self._hashes
            if len(known) >= CACHED_KEYS:  # the older half goes
                for old in list(islice(known, CACHED_KEYS // 2)):
                    del known[old]
            known[key] = value
        return value
