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
        producer=producer, plain="plain", small="small", compacted="compacted", read=read
    )


class TestMemoryProducer(ProducerContract, LimitsContract):
    """The suite."""


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
