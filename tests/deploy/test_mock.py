"""The mock cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from deploy.local.mock import MockCluster
from tests.deploy.records import answers

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.kafka


@pytest.fixture
def mock() -> Iterator[MockCluster]:
    """A mock with one broker."""
    with MockCluster() as cluster:
        yield cluster


async def test_what_is_written_can_be_read(mock: MockCluster) -> None:
    """By the clients that the services use; a topic need not be created."""
    async with AIOKafkaProducer(bootstrap_servers=mock.bootstrap_servers, acks="all") as producer:
        written = await producer.send_and_wait("topic", b"value", key=b"key")
    async with AIOKafkaConsumer(bootstrap_servers=mock.bootstrap_servers) as consumer:
        partition = TopicPartition("topic", written.partition)
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        record = await consumer.getone()
    assert (record.key, record.value, record.offset) == (b"key", b"value", written.offset)


@pytest.mark.parametrize("brokers", [1, 3])
def test_it_has_as_many_brokers_as_asked_for(brokers: int) -> None:
    """All of them on this machine."""
    with MockCluster(brokers) as cluster:
        servers = set(cluster.bootstrap_servers.split(","))
        assert len(servers) == brokers
        assert all(server.startswith("127.0.0.1:") for server in servers)


def test_it_ends_when_closed(mock: MockCluster) -> None:
    """Nobody answers any more; closing again does no harm."""
    assert answers(mock.bootstrap_servers)
    mock.close()
    assert not answers(mock.bootstrap_servers, 0.5)
    mock.close()


def test_there_is_nothing_to_disturb(mock: MockCluster) -> None:
    """It cannot be stopped, paused or killed, and is not real."""
    assert (mock.kind, mock.real, mock.nodes) == ("mock", False, [])
