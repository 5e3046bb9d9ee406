"""Shows the records of topics as they arrive, one line each."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, NamedTuple

from aiokafka import AIOKafkaConsumer

from ingest.kafka_client import connection_arguments

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from ingest.settings import KafkaSettings

VALUE_CHARACTERS = 700
KEY_CHARACTERS = 32
REASON = "__connect.errors.exception.class.name"
"""The header of a dead letter that says what was wrong, as Kafka Connect names it."""


class Row(NamedTuple):
    """A record, or the headings: text that may be shown on a terminal."""

    topic: str
    partition: str
    offset: str
    key: str
    value: str

    def line(self, topic_width: int) -> str:
        """The row, aligned under the headings."""
        place = f"{self.topic:<{topic_width}}  {self.partition:>9}  {self.offset:>6}"
        return f"{place}  {self.key:<8}  {self.value}"


HEADINGS = Row("TOPIC", "PARTITION", "OFFSET", "KEY", "VALUE")


class Tail:
    """A position at the end of some topics.

    Attributes:
        older: how many records are in the topics, before that position.
    """

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer
        self.older = 0

    async def seek_to_end(self) -> None:
        """Go to where the next record will be."""
        await self._consumer.seek_to_end()
        partitions = self._consumer.assignment()
        first = await self._consumer.beginning_offsets(partitions)
        positions = [await self._consumer.position(each) - first[each] for each in partitions]
        self.older = sum(positions)

    async def rows(self) -> AsyncIterator[Row]:
        """What arrives from now on, without end."""
        async for record in self._consumer:
            headers = dict(record.headers)
            yield row(
                (record.topic, record.partition, record.offset),
                record.key,
                record.value,
                headers.get(REASON),
            )


@contextlib.asynccontextmanager
async def tail(kafka: KafkaSettings, topics: Sequence[str]) -> AsyncIterator[Tail]:
    """Watch ``topics``, without a consumer group: nothing is left behind.

    Raises:
        KafkaError: Kafka cannot be reached, or does not let us read.
    """
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL + 1)  # it tells of every attempt
    consumer = AIOKafkaConsumer(*topics, **connection_arguments(kafka))
    try:
        await consumer.start()
        found = Tail(consumer)
        await found.seek_to_end()
        yield found
    finally:
        await consumer.stop()


def row(
    place: tuple[str, int, int], key: bytes | None, value: bytes | None, reason: bytes | None = None
) -> Row:
    """The row of a record; ``reason`` is why it is a dead letter."""
    shown = cut(value, VALUE_CHARACTERS)
    if reason is not None:
        shown += f"  <- {cut(reason, KEY_CHARACTERS)}"
    topic, partition, offset = place
    return Row(topic, str(partition), str(offset), cut(key, KEY_CHARACTERS), shown)


def cut(data: bytes | None, limit: int) -> str:
    """``data`` as at most ``limit`` characters that cannot drive a terminal."""
    if data is None:
        return "-"
    text = printable(data[: 4 * limit].decode(errors="backslashreplace"))
    return text if len(text) <= limit and len(data) <= 4 * limit else f"{text[:limit]}..."


def printable(text: str) -> str:
    """``text`` with escapes for all that is no visible character, such as control characters."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )
