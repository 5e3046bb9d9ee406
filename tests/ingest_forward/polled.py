"""Records as a consumer has them, without a consumer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ingest_forward.batch import Batch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ingest_forward.event import Header

TOPIC, PARTITION = "orders", 3


class Polled:
    """A record: as much of `confluent_kafka.Message` as a batch asks for.

    Args:
        value, key: None is null.
        headers: None: it has none, as librdkafka says it.
        offset: in its partition.
        time_ms: its timestamp.
    """

    def __init__(
        self,
        value: bytes | None,
        key: bytes | None = None,
        headers: Sequence[Header] | None = None,
        offset: int = 0,
        time_ms: int = 0,
    ) -> None:
        self._value = value
        self._key = key
        self._headers = None if headers is None else list(headers)
        self._offset = offset
        self._time_ms = time_ms

    def value(self) -> bytes | None:
        """Its value."""
        return self._value

    def key(self) -> bytes | None:
        """Its key."""
        return self._key

    def headers(self) -> list[Header] | None:
        """Its headers."""
        return self._headers

    def offset(self) -> int:
        """Its offset."""
        return self._offset

    def timestamp(self) -> tuple[int, int]:
        """What kind of timestamp it has, and that."""
        return 1, self._time_ms


def batch(*records: Polled) -> Batch:
    """Records of one partition that were read together."""
    return Batch(TOPIC, PARTITION, records)


def values(*each: bytes | None) -> Batch:
    """Records with these values, whose offsets count up from 10."""
    return batch(*(Polled(value, b"k", offset=at, time_ms=at) for at, value in enumerate(each, 10)))
