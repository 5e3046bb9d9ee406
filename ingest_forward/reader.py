"""Reads topics as a member of a consumer group: librdkafka's consumer, in a thread of its own.

All calls of the consumer are made in that thread, one after the other, so that none ever holds up
the event loop, and a rebalance can wait in it until what is on its way has arrived.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_STORED,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from structlog import get_logger

from ingest_forward.call_thread import CallThread
from ingest_forward.identities import Identities, Partition
from ingest_forward.topic_ids import TopicIds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ingest.settings import KafkaSettings
    from ingest_forward.identities import Described

log = get_logger(__name__)

Result = TypeVar("Result")

COMPANY_SECONDS = 0.005
"""How long the first record of a poll waits for others: less would cost more than it is worth."""
POLL_SECONDS = 0.1
"""How long a poll waits for records: calls that come in the meantime wait as well."""
FETCH_BYTES = 256 << 10
"""Asked for at a time, of each partition; compressed, so it may become many times as much."""
ASK_SECONDS = 5.0
"""How long a question to the cluster may take."""
HANDOVER_SECONDS = 20.0
"""How long a partition that another member gets is kept for what is on its way."""
SESSION_SECONDS = 10.0
"""A member that is silent for this long loses its partitions. librdkafka says that it lives, from a
thread of its own."""
METADATA_SECONDS = 10.0
"""How old may be what is known of the partitions of a topic."""
TRANSIENT = frozenset({KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT, KafkaError._RESOLVE})  # noqa: SLF001
"""Errors of the connection, which the producer tells of as well."""


class Start(NamedTuple):
    """Where reading of a partition begins.

    Attributes:
        offset: what the group had committed; None: nothing, so it is the earliest record, or
            nobody can say.
        expired: how many records from there on the topic does not have any more.
    """

    offset: int | None
    expired: int = 0


class Member(Protocol):
    """Who reads: told of its partitions, on the event loop."""

    def assigned(self, starts: Mapping[Partition, Start]) -> None:
        """These are read from now on."""

    async def hand_over(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """These will be another member's, which waits: finish what is on its way.

        Returns:
            The offsets to commit.
        """

    def lost(self, partitions: Sequence[Partition]) -> None:
        """These are another member's already: nothing of them can be committed."""

    def committed(self, offsets: Mapping[Partition, int]) -> None:
        """These offsets are committed."""

    def failed(self, reason: str) -> None:
        """Kafka does not let us read, for this reason: a word of librdkafka's."""


class Reader:
    """One member of a consumer group.

    Args:
        kafka: how to reach the cluster.
        group: the name of the group.
        queue_bytes: how much is read ahead.
        member: told of what happens.
    """

    def __init__(self, kafka: KafkaSettings, group: str, queue_bytes: int, member: Member) -> None:
        self._member = member
        self._loop = asyncio.get_running_loop()
        self._starts: dict[Partition, TopicPartition] = {}
        self._revoked: set[Partition] = set()  # during the poll that is under way
        self._identities = Identities()
        self._topic_ids = TopicIds(connection_settings(kafka), ASK_SECONDS)
        self._abandoned = False
        self._commit_trouble = ""
        settings = consumer_settings(kafka, group, queue_bytes)
        called = {"error_cb": self._on_error, "on_commit": self._on_commit}
        self._consumer = Consumer({**settings, **called})
        self._thread = CallThread("reader")

    # Called on the event loop.

    async def poll(self, count: int) -> list[Message]:
        """The next records, ``count`` at most; none after a while without any.

        Raises:
            KafkaException: this member cannot go on.
        """
        return await self._call(lambda: self._poll(count))

    async def topics(self) -> set[str]:
        """The names of all topics that there are.

        Raises:
            KafkaException: the cluster does not answer.
        """
        return await self._call(lambda: topics_of(self._consumer))

    async def recreated(self) -> list[Partition]:
        """The partitions that are read and belong to another topic now, which has the same name."""
        return await self._call(self._recreated)

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Read these topics from now on, and no others."""
        names = sorted(topics)
        await self._call(lambda: self._subscribe(names))

    async def pause(self, partitions: Iterable[Partition]) -> None:
        """Give no records of these partitions until they are resumed."""
        await self._each(self._consumer.pause, partitions)

    async def resume(self, partitions: Iterable[Partition]) -> None:
        """Give records of these partitions again."""
        await self._each(self._consumer.resume, partitions)

    async def go_back(self, partition: Partition, offset: int | None) -> None:
        """Read a partition again from ``offset`` on; None: from its earliest record."""
        at = TopicPartition(*partition, OFFSET_BEGINNING if offset is None else offset)
        await self._call(lambda: self._seek(at))

    async def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Have offsets committed; `Member.committed` is told when they are."""
        if offsets:
            await self._call(lambda: self._commit(offsets))

    async def ends(
        self, partitions: Sequence[Partition], *, ask: bool
    ) -> dict[Partition, tuple[int, int]]:
        """The first offset of each partition, and the one behind its last record, where known.

        Args:
            partitions: that are read.
            ask: the cluster; else as the last records that were read said.
        """
        return await self._call(lambda: self._ends(partitions, ask=ask))

    async def close(self, seconds: float = HANDOVER_SECONDS + ASK_SECONDS) -> None:
        """Hand over all partitions, and leave the group, if that can be done in time."""
        try:
            async with asyncio.timeout(seconds):
                await self._call(self._consumer.close)
        except TimeoutError:
            log.warning("reader_abandoned")
        finally:
            self._abandoned = True
            self._thread.end()

    async def _call(self, work: Callable[[], Result]) -> Result:
        return await self._thread.call(work)

    async def _each(
        self, work: Callable[[list[TopicPartition]], None], partitions: Iterable[Partition]
    ) -> None:
        """Do ``work`` with those partitions that are still ours."""
        wanted = list(partitions)

        def run() -> None:
            mine = [TopicPartition(*each) for each in wanted if each in self._starts]
            if mine:
                work(mine)

        await self._call(run)

    # Called in the thread.

    def _poll(self, count: int) -> list[Message]:
        self._revoked.clear()
        first = self._consumer.poll(POLL_SECONDS)
        if first is None:
            return []
        messages = [first, *self._consumer.consume(count, COMPANY_SECONDS)]
        if self._revoked:
            messages = self._still_ours(messages)
        return messages

    def _still_ours(self, messages: Sequence[Message]) -> list[Message]:
        """Without those of partitions that were given away in the same poll.

        What came back in it is read again from where it was committed.
        """
        gone = set(self._revoked)
        for partition in gone & self._starts.keys():
            self._seek(self._starts[partition])
        return [each for each in messages if (each.topic(), each.partition()) not in gone]

    def _seek(self, at: TopicPartition) -> None:
        if (at.topic, at.partition) in self._starts:
            self._consumer.seek(at)

    def _recreated(self) -> list[Partition]:
        self._ask_again()
        return self._identities.recreated(self._topic_ids.of({topic for topic, _ in self._starts}))

    def _ask_again(self) -> None:
        """Ask what is committed where nobody could say when it was begun with."""
        unsure = [TopicPartition(*at) for at in sorted(self._identities.unsure)]
        if not unsure:
            return
        for at, committed in self._ask(self._consumer, unsure).items():
            self._identities.learn(at, committed.metadata or "")

    def _commit(self, offsets: Mapping[Partition, int]) -> None:
        if wanted := self._positions(offsets):
            self._consumer.commit(offsets=wanted, asynchronous=True)

    def _positions(self, offsets: Mapping[Partition, int]) -> list[TopicPartition]:
        """What to commit."""
        known = self._identities
        return [
            TopicPartition(*at, offset, known.metadata(at))
            for at, offset in offsets.items()
            if at not in known.unsure
        ]

    def _subscribe(self, names: list[str]) -> None:
        if names:
            self._consumer.subscribe(
                names,
                on_assign=self._on_assign,
                on_revoke=self._on_revoke,
                on_lost=self._on_lost,
            )
        else:
            self._consumer.unsubscribe()

    def _ends(
        self, partitions: Sequence[Partition], *, ask: bool
    ) -> dict[Partition, tuple[int, int]]:
        found = {}
        ends: Any  # None where nothing is known, whatever the stubs say
        for partition in partitions:
            at = TopicPartition(*partition)
            try:
                if ask:
                    ends = self._consumer.get_watermark_offsets(at, timeout=1)
                else:
                    ends = self._consumer.get_watermark_offsets(at, cached=True)
            except KafkaException:
                continue
            if ends is not None and ends[1] >= 0:
                found[partition] = ends
        return found

    # Called by the consumer, in the thread, while it polls or closes.

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        found = self._committed(consumer, partitions)
        described = self._topic_ids.of({each.topic for each in found})
        for each in found:
            self._identify(each, described)
        starts = {_name(each): self._start(consumer, each) for each in found}
        consumer.incremental_assign(found)
        consumer.resume(found)  # one that was paused when it was given away still is
        self._starts |= {_name(each): each for each in found}
        self._loop.call_soon_threadsafe(self._member.assigned, starts)

    def _committed(
        self, consumer: Consumer, partitions: list[TopicPartition]
    ) -> list[TopicPartition]:
        """The partitions with where the group is in them; the broker knows, if we cannot ask it."""
        known = self._ask(consumer, partitions)
        return [_position(each, known.get(_name(each))) for each in partitions]

    @staticmethod
    def _ask(
        consumer: Consumer, partitions: list[TopicPartition]
    ) -> dict[Partition, TopicPartition]:
        """What is committed of partitions, as far as the broker says it."""
        try:
            found = consumer.committed(partitions, timeout=ASK_SECONDS)
        except KafkaException:
            return {}
        return {_name(each): each for each in found if each.error is None}

    def _identify(self, at: TopicPartition, described: Mapping[str, Described]) -> None:
        """What was committed for another topic of that name says nothing of this one."""
        metadata = None if at.offset == OFFSET_STORED else at.metadata
        if self._identities.begin(_name(at), metadata, described) and at.offset > 0:
            log.warning("topic_recreated", topic=at.topic, partition=at.partition)
            at.offset = 0

    @staticmethod
    def _start(consumer: Consumer, at: TopicPartition) -> Start:
        if at.offset < 0:
            return Start(None)
        try:
            low, _ = consumer.get_watermark_offsets(at, timeout=ASK_SECONDS)
        except KafkaException:
            return Start(at.offset)
        return Start(at.offset, max(0, low - at.offset))

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        names = [_name(each) for each in partitions]
        self._forget(names)
        if self._abandoned:
            return
        handing_over = asyncio.run_coroutine_threadsafe(self._member.hand_over(names), self._loop)
        if wanted := self._positions(handing_over.result()):
            try:
                consumer.commit(offsets=wanted, asynchronous=False)
            except KafkaException as error:
                log.warning("commit_failed", reason=error.args[0].name())
        self._identities.forget(names)
        consumer.incremental_unassign(partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        names = [_name(each) for each in partitions]
        self._forget(names)
        if self._abandoned:
            return
        self._identities.forget(names)
        self._loop.call_soon_threadsafe(self._member.lost, names)
        consumer.incremental_unassign(partitions)

    def _forget(self, partitions: Sequence[Partition]) -> None:
        self._revoked.update(partitions)
        for partition in partitions:
            self._starts.pop(partition, None)

    def _on_error(self, error: KafkaError) -> None:
        if error.code() not in TRANSIENT:
            self._loop.call_soon_threadsafe(self._member.failed, error.name())

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        trouble = "" if error is None else error.name()
        if trouble not in {"", self._commit_trouble}:  # a partition that is no more fails for good
            log.warning("commit_failed", reason=trouble)
        self._commit_trouble = trouble
        if trouble:  # nobody says which of them are committed all the same
            return
        done = {_name(each): each.offset for each in partitions if each.error is None}
        self._loop.call_soon_threadsafe(self._member.committed, done)


def topics_of(consumer: Consumer) -> set[str]:
    """The names of all topics that there are.

    Raises:
        KafkaException: the cluster does not answer.
    """
    found = consumer.list_topics(timeout=ASK_SECONDS).topics
    return {name for name, topic in found.items() if topic.error is None}


def consumer_settings(kafka: KafkaSettings, group: str, queue_bytes: int) -> dict[str, Any]:
    """What librdkafka's consumer is made with.

    Source: ``CONFIGURATION.md`` of librdkafka.
    """
    settings: dict[str, Any] = {
        "group.id": group,
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "partition.assignment.strategy": "cooperative-sticky",
        "session.timeout.ms": int(SESSION_SECONDS * 1000),
        "topic.metadata.refresh.interval.ms": int(METADATA_SECONDS * 1000),
        "queued.max.messages.kbytes": max(1024, queue_bytes >> 10),
        "fetch.message.max.bytes": FETCH_BYTES,
        "fetch.queue.backoff.ms": 20,  # else it rests for a second whenever enough is read ahead
        **connection_settings(kafka),
    }
    return settings


def connection_settings(kafka: KafkaSettings) -> dict[str, Any]:
    """How librdkafka reaches the cluster, and says nothing on its own."""
    password = kafka.sasl_password
    named = {
        "bootstrap.servers": kafka.bootstrap_servers,
        "client.id": kafka.client_id,
        "security.protocol": kafka.security_protocol,
        "ssl.ca.location": kafka.ssl_ca_file,
        "ssl.certificate.location": kafka.ssl_cert_file,
        "ssl.key.location": kafka.ssl_key_file,
        "sasl.mechanism": kafka.sasl_mechanism,
        "sasl.username": kafka.sasl_username,
        "sasl.password": None if password is None else password.get_secret_value(),
        "log_level": 0,
    }
    return {name: value for name, value in named.items() if value is not None}


def _position(at: TopicPartition, committed: TopicPartition | None) -> TopicPartition:
    """Where to begin with a partition; None: nobody could say what is committed."""
    if committed is None:
        return TopicPartition(at.topic, at.partition, OFFSET_STORED)
    offset = committed.offset if committed.offset >= 0 else OFFSET_BEGINNING
    return TopicPartition(at.topic, at.partition, offset, committed.metadata or "")


def _name(at: TopicPartition) -> Partition:
    return at.topic, at.partition
