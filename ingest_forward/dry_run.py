"""What the routes would make of the newest records of their topics; nothing is written."""

from __future__ import annotations

import uuid
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from confluent_kafka import Consumer, KafkaException, TopicPartition

from ingest_forward.batch import Batch
from ingest_forward.reader import ASK_SECONDS, connection_settings, topics_of
from ingest_forward.shape import shape

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ingest.settings import KafkaSettings
    from ingest_forward.shape import Reject, Shaped
    from ingest_forward.table import Table

SHOWN_REJECTS = 5
"""So many rejects of a route are shown, with where they are."""


class Newest:
    """The newest records of topics, read without a group.

    Args:
        kafka: how to reach the cluster.
    """

    def __init__(self, kafka: KafkaSettings) -> None:
        self._consumer = Consumer(
            {
                **connection_settings(kafka),
                "group.id": f"dry-run-{uuid.uuid4().hex}",  # a consumer needs one; it is not used
                "enable.auto.commit": False,
            }
        )

    def topics(self) -> set[str]:
        """The names of all topics.

        Raises:
            KafkaException: the cluster does not answer.
        """
        return topics_of(self._consumer)

    def records(self, topic: str, count: int) -> list[Any]:
        """The newest ``count`` records of a topic, oldest first.

        Raises:
            KafkaException: the cluster does not answer.
        """
        partitions = self._consumer.list_topics(topic, timeout=ASK_SECONDS).topics[topic].partitions
        starts, expected = [], 0
        for number in partitions:
            low, high = self._consumer.get_watermark_offsets(
                TopicPartition(topic, number), timeout=ASK_SECONDS
            )
            start = max(low, high - count)
            if start < high:
                starts.append(TopicPartition(topic, number, start))
                expected += high - start
        found = self._read(starts, expected)
        found.sort(key=lambda each: each.timestamp()[1])
        return found[-count:]

    def _read(self, starts: list[TopicPartition], expected: int) -> list[Any]:
        """Read from ``starts`` on; offsets may have gaps, so silence is an end as well."""
        found: list[Any] = []
        self._consumer.assign(starts)
        while len(found) < expected:
            messages = self._consumer.consume(min(1000, expected - len(found)), ASK_SECONDS)
            if not messages:
                break
            for message in messages:
                error = message.error()
                if error is not None:
                    raise KafkaException(error)
            found += messages
        self._consumer.unassign()
        return found

    def close(self) -> None:
        """Let go of the connection."""
        self._consumer.close()


class Tally(NamedTuple):
    """What a route would do.

    Attributes:
        outcomes: how many records would be forwarded, rejected, skipped, excluded.
        codes: how many of the rejects have each code.
        rejects: lines about the first ones.
    """

    outcomes: Counter[str]
    codes: Counter[str]
    rejects: list[str]


def dry_run(table: Table, kafka: KafkaSettings, count: int) -> Iterator[str]:
    """Lines for people: what the routes would make of the newest ``count`` records of each topic.

    Raises:
        KafkaException: the cluster does not answer.
    """
    newest = Newest(kafka)
    try:
        topics = sorted(table.read_of(newest.topics()))
        for name in sorted(table.named - {*topics}):
            yield f"{name}: there is no such topic"
        tallies = {route.name: Tally(Counter(), Counter(), []) for route in table.routes}
        for topic in topics:
            records = newest.records(topic, count)
            yield f"{topic}: the newest {len(records)} records"
            for batch in _batches(topic, records):
                for shaped in shape(table.of(topic), batch, table.reading):
                    _add(tallies[shaped.route.name], batch, shaped)
    finally:
        newest.close()
    for name, tally in tallies.items():
        yield from _lines(name, tally)


def _batches(topic: str, records: Sequence[Any]) -> Iterator[Batch]:
    for number in sorted({each.partition() for each in records}):
        yield Batch(topic, number, [each for each in records if each.partition() == number])


def _add(tally: Tally, batch: Batch, shaped: Shaped) -> None:
    tally.outcomes.update(
        forwarded=len(shaped.positions),
        rejected=len(shaped.rejects),
        skipped=shaped.skipped,
        excluded=shaped.excluded,
    )
    tally.codes.update(reject.code for reject in shaped.rejects)
    left = SHOWN_REJECTS - len(tally.rejects)
    tally.rejects.extend(_reject(batch, each) for each in shaped.rejects[:left])


def _reject(batch: Batch, reject: Reject) -> str:
    where = f"{batch.topic}/{batch.partition} offset {batch.offsets[reject.position]}"
    return f"{where}: {reject.code}" + (f" ({reject.detail})" if reject.detail else "")


def _lines(name: str, tally: Tally) -> Iterator[str]:
    outcomes = ", ".join(f"{count} {what}" for what, count in tally.outcomes.items() if count)
    yield f"route {name}: {outcomes or 'no records'}"
    for line in tally.rejects:
        yield f"  {line}"
    more = sum(tally.codes.values()) - len(tally.rejects)
    if more:
        codes = ", ".join(f"{count} {code}" for code, count in tally.codes.most_common())
        yield f"  and {more} more: {codes} in all"
