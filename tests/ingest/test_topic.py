"""A topic hands its records to the writers of its partitions, however many these are."""

from __future__ import annotations

import asyncio

from ingest.accumulator import Segment
from ingest.kafka_topics import TopicLimits
from ingest.partitioner import Partitioner
from ingest.receipt import Receipt
from ingest.topic import Topic

COUNT = 20


class Link:
    """A producer that has no connection."""

    client = None
    connected = True
    linger_seconds = 0.0

    def succeeded(self) -> None:
        """See `ingest.partition_writer.Link`."""

    def in_trouble(self) -> None:
        """See `ingest.partition_writer.Link`."""

    def in_doubt(self) -> None:
        """See `ingest.partition_writer.Link`."""

    async def look_again(self) -> None:
        """See `ingest.partition_writer.Link`."""


def submit(topic: Topic) -> Receipt:
    """Give it records of many keys, without a deadline."""
    keys: list[bytes | None] = [b"%d" % number for number in range(COUNT)]
    receipt = Receipt(COUNT)
    segment = Segment(receipt, range(COUNT), [b"v"] * COUNT, keys, [], None, 0)
    segment.patient, segment.topic = True, topic
    receipt.parts.append(segment)
    topic.append(segment)
    return receipt


async def test_what_comes_while_partitions_are_given_up_is_kept() -> None:
    """A topic made anew may have fewer; their writers take a moment to stop."""
    topic = Topic("t", Link(), Partitioner())
    await topic.usable(TopicLimits(), 4)
    receipts = [submit(topic)]
    shrinking = asyncio.create_task(topic.usable(TopicLimits(), 1))
    while not shrinking.done():
        receipts.append(submit(topic))
        await asyncio.sleep(0)
    assert len(receipts) > 2
    assert len(topic.writers) == 1
    assert sum(map(len, topic.open_segments())) == COUNT * len(receipts)
    await topic.stop()
    assert all(each.settled for each in receipts)
