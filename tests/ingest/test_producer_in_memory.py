"""The producer in memory keeps the contract, so that tests built on it can be believed."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from ingest.receipt import Status
from tests.memory_producer import MemoryProducer, MemoryTopic, Record
from tests.producer_contract import (
    TIME_MS,
    LimitsContract,
    ProducerContract,
    SpoolContract,
    deadline,
    statuses,
)


@pytest.fixture
def world() -> SimpleNamespace:
    """A world in memory."""
    topics = {
        "plain": MemoryTopic(),
        "small": MemoryTopic(max_message_bytes=10_000),
        "compacted": MemoryTopic(compacted=True),
    }
    producer = MemoryProducer(topics)

    async def read(topic: str) -> list[Record]:
        return topics[topic].records

    return SimpleNamespace(
        producer=producer,
        topics=topics,
        plain="plain",
        small="small",
        compacted="compacted",
        read=read,
    )


class TestMemoryProducer(ProducerContract, LimitsContract):
    """The suite."""


class TestMemoryProducerWithSpool(SpoolContract):
    """Its part about the spool."""

    @pytest.fixture
    def world(self, world: SimpleNamespace) -> SimpleNamespace:
        """A world in memory whose producer has a spool."""
        producer = world.producer
        producer.spool = []

        async def spooled() -> int:
            return len(producer.spool)

        def fill() -> None:
            producer.room = False

        world.spooled, world.fill = spooled, fill
        return world


async def test_while_spooling_everything_is_durable_in_the_spool_alone(
    world: SimpleNamespace,
) -> None:
    """No sooner than it is told to be, as a preview foretells."""
    producer = world.producer
    producer.spool, producer.spooling = [], True
    assert producer.preview("plain", [b"a"]) == ["spooled"]
    producer.synced.clear()
    receipt = producer.submit("plain", [b"a"], timestamp_ms=TIME_MS)
    await asyncio.sleep(0)
    assert (receipt.answered, producer.spool) == (False, [])
    producer.synced.set()
    assert statuses(await receipt, 1) == [(Status.SPOOLED, "")]
    assert producer.spool == [("plain", b"a")]
    assert world.topics["plain"].records == []


async def test_a_topic_with_a_problem_takes_nothing(world: SimpleNamespace) -> None:
    """Its records are ``retry``, as a preview says; it is named while it is followed."""
    world.topics["plain"].problem = "topic_missing"
    assert world.producer.problems == {"plain": "topic_missing"}
    assert world.producer.preview("plain", [b"a"]) == ["topic_unavailable"]
    receipt = await world.producer.submit("plain", [b"a"], timestamp_ms=TIME_MS)
    assert statuses(receipt, 1) == [(Status.RETRY, "topic_unavailable")]
    world.producer.follow(["small"])
    assert world.producer.problems == {}


async def test_a_preview_says_that_kafka_is_out_of_reach(world: SimpleNamespace) -> None:
    """Of what could be written otherwise; what is hopeless stays so."""
    world.producer.reachable.clear()
    values = [b"a", b"x" * 20_000]
    assert world.producer.preview("small", values) == ["kafka_unavailable", "event_too_large"]


async def test_what_was_never_handed_over_is_retry_at_the_deadline(world: SimpleNamespace) -> None:
    """Kafka out of reach: the records are withdrawn, and are not there when it is back."""
    world.producer.reachable.clear()
    receipt = await world.producer.submit(
        world.plain, [b"a"], timestamp_ms=TIME_MS, deadline=deadline(0.01)
    )
    world.producer.reachable.set()
    await asyncio.sleep(0)
    assert statuses(receipt, 1) == [(Status.RETRY, "kafka_unavailable")]
    assert await world.read(world.plain) == []


async def test_what_was_handed_over_is_unknown_at_the_deadline(world: SimpleNamespace) -> None:
    """No answer in time: nobody knows, and the bytes are held until somebody does."""
    world.producer.answering.clear()
    receipt = await world.producer.submit(
        world.plain, [b"a"], timestamp_ms=TIME_MS, deadline=deadline(0.01)
    )
    assert statuses(receipt, 1) == [(Status.UNKNOWN, "ack_timeout")]
    assert not receipt.settled
    world.producer.answering.set()
    await world.producer.stop(1.0)
    assert receipt.settled
