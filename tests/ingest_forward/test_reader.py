"""What a reader finds out late, because nobody answered when it was given its partitions."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from structlog.testing import capture_logs

from ingest.settings import KafkaSettings
from ingest_forward.identities import Identities
from ingest_forward.reader import Reader, Start, connection_settings
from ingest_forward.topic_ids import TopicIds
from loadtest.gateway import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    import pytest

    from ingest_forward.identities import Described, Partition
    from tests.conftest import Kafka

POLLS = 300
SECONDS = 20.0


class Member:
    """Remembers what it is told.

    Attributes:
        starts: where reading of its partitions begins.
        done: what is committed.
    """

    def __init__(self) -> None:
        self.starts: dict[Partition, Start] = {}
        self.done: dict[Partition, int] = {}

    def assigned(self, starts: Mapping[Partition, Start]) -> None:
        """See `ingest_forward.reader.Member`."""
        self.starts |= starts

    async def hand_over(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """See `ingest_forward.reader.Member`."""
        del partitions
        return {}

    def lost(self, partitions: Sequence[Partition]) -> None:
        """See `ingest_forward.reader.Member`."""

    def committed(self, offsets: Mapping[Partition, int]) -> None:
        """See `ingest_forward.reader.Member`."""
        self.done |= offsets

    def failed(self, reason: str) -> None:
        """See `ingest_forward.reader.Member`."""


class Group:
    """A group that has committed offset 5 of another topic than there is now, which has 10 records.

    Attributes:
        at: the topic's only partition.
    """

    def __init__(self, kafka: Kafka) -> None:
        self.at = (kafka.create(kafka.new_name(), 1), 0)
        self.member = Member()
        self._name = kafka.new_name("group")
        self._settings = KafkaSettings(bootstrap_servers=kafka.servers)
        client = {"bootstrap.servers": kafka.servers, "log_level": 0}
        self._admin = AdminClient(client)
        producer = Producer(client)
        for number in range(10):
            producer.produce(self.at[0], b"%d" % number)
        assert producer.flush(SECONDS) == 0
        place = TopicPartition(*self.at, 5, Identities().metadata(self.at) + "another")
        wanted = ConsumerGroupTopicPartitions(self._name, [place])
        # The coordinator of a broker that was just started may not be ready.
        wait_until(lambda: self._takes(wanted), SECONDS, "nothing can be committed")

    def _takes(self, wanted: ConsumerGroupTopicPartitions) -> bool:
        (asked,) = self._admin.alter_consumer_group_offsets([wanted]).values()
        (place,) = asked.result(SECONDS).topic_partitions
        return place.error is None

    @asynccontextmanager
    async def reading(self, topic_ids: Any = None) -> AsyncIterator[Reader]:
        """A member that subscribes; ``topic_ids`` is whom it asks for the ids of topics."""
        reader = Reader(self._settings, self._name, 1 << 20, self.member)
        reader._topic_ids = topic_ids or reader._topic_ids
        await reader.subscribe([self.at[0]])
        try:
            yield reader
        finally:
            await reader.close()

    def topic_ids(self) -> TopicIds:
        """The cluster, which does answer."""
        return TopicIds(connection_settings(self._settings), SECONDS)

    def committed(self) -> int:
        """How far the group is, as the broker says."""
        asked = [ConsumerGroupTopicPartitions(self._name, [TopicPartition(*self.at)])]
        (found,) = self._admin.list_consumer_group_offsets(asked).values()
        (place,) = found.result(SECONDS).topic_partitions
        offset: int = place.offset
        return offset

    async def first(self, reader: Reader) -> int:
        """The offset of the first record that is read."""
        for _ in range(POLLS):
            for message in await reader.poll(100):
                offset: int = message.offset()
                return offset
        raise TimeoutError("nothing is read")

    async def is_told(self, reader: Reader, offset: int) -> None:
        """Wait until an offset is committed."""
        for _ in range(POLLS):
            if self.member.done.get(self.at) == offset:
                return
            await reader.poll(1)
        raise TimeoutError(f"{offset} is not committed")


class Silent:
    """A cluster that says nothing of any topic, until it is told to."""

    def __init__(self) -> None:
        self.behind: Any = None

    def of(self, topics: set[str]) -> dict[str, Described]:
        """See `ingest_forward.topic_ids.TopicIds.of`."""
        return self.behind.of(topics) if self.behind is not None else {}


async def test_what_was_committed_of_another_topic_is_left(kafka: Kafka) -> None:
    """It is seen at once, where the cluster answers; and seen once."""
    group = Group(kafka)
    async with group.reading() as reader:
        assert await group.first(reader) == 0
        assert group.member.starts == {group.at: Start(0)}
        assert await reader.recreated() == []
        await reader.commit({group.at: 10})
        await group.is_told(reader, 10)
    group.member.starts.clear()
    async with group.reading() as reader:
        async with asyncio.timeout(SECONDS):
            while not group.member.starts:
                await reader.poll(1)
        assert group.member.starts == {group.at: Start(10)}


async def test_what_cannot_be_committed_hides_nothing_that_can(kafka: Kafka) -> None:
    """A partition that is no more: it is told of once, though it is tried again and again."""
    group = Group(kafka)
    async with group.reading() as reader:
        await group.first(reader)
        with capture_logs() as logs:
            for offset in range(1, 4):
                await reader.commit({group.at: offset, (group.at[0], 7): 1})
                async with asyncio.timeout(SECONDS):
                    while group.committed() != offset:
                        await reader.poll(1)
            await reader.commit({group.at: 4})
            await group.is_told(reader, 4)
    assert [each["reason"] for each in logs] == ["UNKNOWN_TOPIC_OR_PART"]


async def test_what_a_cluster_does_not_say_of_a_topic_is_seen_later(kafka: Kafka) -> None:
    """What is committed in the meantime says still that it is of the other topic."""
    group, silent = Group(kafka), Silent()
    async with group.reading(silent) as reader:
        assert await group.first(reader) == 5
        assert await reader.recreated() == []
        await reader.commit({group.at: 7})
        await group.is_told(reader, 7)
    async with group.reading(silent) as reader:
        assert await group.first(reader) == 7
        silent.behind = group.topic_ids()
        assert await reader.recreated() == [group.at]
        assert await reader.recreated() == []


async def test_what_nobody_can_say_of_what_was_committed_is_seen_later(
    kafka: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is committed until then, for that would hide it."""
    group = Group(kafka)
    with monkeypatch.context() as patch:
        patch.setattr(Reader, "_ask", staticmethod(lambda *_: {}))
        async with group.reading() as reader:
            assert await group.first(reader) == 5
            assert group.member.starts == {group.at: Start(None)}
            await reader.commit({group.at: 10})
            assert await reader.recreated() == []
            patch.undo()
            assert await reader.recreated() == [group.at]
            assert group.member.done == {}
            await reader.go_back(group.at, 0)
            assert await group.first(reader) == 0
            await reader.commit({group.at: 1})
            await group.is_told(reader, 1)
