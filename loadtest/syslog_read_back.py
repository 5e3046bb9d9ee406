"""Reads a topic back and tells which of the senders' messages are in it, and how often."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiokafka import AIOKafkaConsumer, TopicPartition

from loadtest.syslog_messages import mark

if TYPE_CHECKING:
    from collections.abc import Mapping

POLL_MS = 500
_MOST = 255


class Tally:
    """Counts messages by their marks, a byte for each.

    Attributes:
        records: values noted.
        unmarked: values without a mark: nobody has sent them.
    """

    def __init__(self) -> None:
        self.records = 0
        self.unmarked = 0
        self._copies: dict[int, bytearray] = defaultdict(bytearray)

    def note(self, value: bytes) -> None:
        """Count one record."""
        self.records += 1
        found = mark(value)
        if found is None:
            self.unmarked += 1
            return
        copies = self._copies[found.sender]
        if found.sequence >= len(copies):
            copies.extend(bytes(max(len(copies), found.sequence + 1 - len(copies))))
        copies[found.sequence] = min(_MOST, copies[found.sequence] + 1)

    @property
    def distinct(self) -> int:
        """Messages that are there at least once."""
        return sum(len(copies) - copies.count(0) for copies in self._copies.values())

    def compared(self, sent: Mapping[int, int]) -> Comparison:
        """What came of the messages that were sent; ``sent`` is sender -> how many."""
        result = Comparison(never_sent=self.unmarked)
        for sender in {*sent, *self._copies}:
            count = sent.get(sender, 0)
            copies = self._copies.get(sender, bytearray())
            known, beyond = copies[:count], copies[count:]
            result.missing += count - len(known) + known.count(0)
            result.duplicated += len(known) - known.count(0) - known.count(1)
            result.never_sent += len(beyond) - beyond.count(0)
        return result


@dataclass(slots=True)
class Comparison:
    """Messages, not copies: ``missing`` ones, ``duplicated`` ones, and ones ``never_sent``."""

    missing: int = 0
    duplicated: int = 0
    never_sent: int = 0


async def tally(
    bootstrap_servers: str, topic: str, since: Mapping[int, int], until: Mapping[int, int]
) -> Tally:
    """Count what is in ``topic``.

    Args:
        bootstrap_servers: where Kafka is.
        topic: what to read.
        since: the first offset of each partition; the earliest is 0.
        until: the offset after the last one, as `loadtest.read_back.end_offsets` gives it.
    """
    result = Tally()
    ends = {TopicPartition(topic, number): end for number, end in until.items()}
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        enable_auto_commit=False,
        max_partition_fetch_bytes=8_388_608,
    )
    async with consumer:
        consumer.assign(list(ends))
        for partition in ends:
            consumer.seek(partition, since.get(partition.partition, 0))
        while [each for each in ends if await consumer.position(each) < ends[each]]:
            for partition, records in (await consumer.getmany(timeout_ms=POLL_MS)).items():
                for record in records:
                    if record.offset < ends[partition]:
                        result.note(record.value or b"")
    return result
