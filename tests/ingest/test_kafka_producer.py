"""The producer keeps its contract on a real Kafka, and copes with what happens to topics there."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka.admin import AclOperation
from structlog.testing import capture_logs

from ingest.kafka_producer import KafkaProducer
from ingest.receipt import Receipt, Status
from ingest.settings import KafkaSettings, TopicSettings
from tests.producer_contract import (
    JAVA_MURMUR2,
    TIME_MS,
    LimitsContract,
    ProducerContract,
    deadline,
    places,
    statuses,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.conftest import Kafka
    from tests.memory_producer import Record

OK = (Status.ACKED, "")
UNAVAILABLE = (Status.RETRY, "topic_unavailable")
ACKED = {Status.ACKED}
NOT_ACKED = {Status.RETRY, Status.UNKNOWN}
REFUSED = (Status.REFUSED, "refused_by_kafka")
TOO_LARGE = (Status.REFUSED, "event_too_large")
PATIENCE_SECONDS = 20.0


@asynccontextmanager
async def producing(
    servers: str, *names: str, ready: bool = True, **topics: Any
) -> AsyncIterator[KafkaProducer]:
    """A running producer for the topics ``names``, which ``topics`` says how to create."""
    settings = KafkaSettings(bootstrap_servers=servers, request_timeout_seconds=1.0)
    producer = KafkaProducer(settings, TopicSettings(**topics), names)
    producer.start()
    try:
        if ready:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await producer.ready()
        yield producer
    finally:
        await producer.stop(5.0)


async def send(
    producer: KafkaProducer, topic: str, *values: bytes, seconds: float = 10.0, **more: Any
) -> Receipt:
    """Submit ``values`` and wait for their fates."""
    return await producer.submit(
        topic, list(values), timestamp_ms=TIME_MS, deadline=deadline(seconds), **more
    )


async def fate(producer: KafkaProducer, topic: str, value: bytes = b"v") -> tuple[Status, str]:
    """What becomes of one record within two seconds."""
    return statuses(await send(producer, topic, value, seconds=2.0), 1)[0]


async def eventually(holds: Callable[[], bool]) -> None:
    """Wait until ``holds``; an error when it takes too long."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not holds():
            await asyncio.sleep(0.02)


async def send_until(
    producer: KafkaProducer, topic: str, wanted: set[Status]
) -> list[tuple[bytes, Status]]:
    """Send one record after the other until one has a ``wanted`` fate; the fates of all."""
    fates: list[tuple[bytes, Status]] = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not fates or fates[-1][1] not in wanted:
            value = uuid.uuid4().bytes
            fates.append((value, (await fate(producer, topic, value))[0]))
            await asyncio.sleep(0.05)
    return fates


def noise(size: int) -> bytes:
    """Bytes that do not compress."""
    return random.Random(size).randbytes(size)


def world_of(kafka: Kafka, producer: KafkaProducer, **topics: str) -> SimpleNamespace:
    """What the contract's suite works on."""

    async def read(topic: str) -> list[Record]:
        return await asyncio.to_thread(kafka.read, topic)

    return SimpleNamespace(producer=producer, read=read, **topics)


class TestOnARealKafka(ProducerContract, LimitsContract):
    """The whole suite."""

    @pytest.fixture
    async def world(self, kafka: Kafka) -> AsyncIterator[SimpleNamespace]:
        """Topics of their own for each test."""
        topics = {
            "plain": kafka.new_name("plain"),
            "small": kafka.create(kafka.new_name("small"), max_message_bytes="10000"),
            "compacted": kafka.create(kafka.new_name("compacted"), cleanup_policy="compact"),
        }
        async with producing(kafka.servers, *topics.values()) as producer:
            yield world_of(kafka, producer, **topics)


class TestOnTheMockCluster(ProducerContract):
    """All but creation, limits and refusals, which it does not have."""

    @pytest.fixture
    async def world(self, mock_kafka: Kafka) -> AsyncIterator[SimpleNamespace]:
        """A topic of its own for each test."""
        plain = mock_kafka.new_name("plain")
        async with producing(mock_kafka.servers, plain) as producer:
            yield world_of(mock_kafka, producer, plain=plain)


# Creation.


async def test_missing_topics_are_created_as_configured(kafka: Kafka) -> None:
    """Partitions, replication factor and settings are those of [topics]."""
    topic = kafka.new_name()
    wanted = {"retention.ms": 3_600_000, "max.message.bytes": 50_000}
    async with producing(
        kafka.servers, topic, partitions=3, replication_factor=1, config=wanted
    ) as producer:
        assert statuses(await send(producer, topic, b"v"), 1) == [OK]
        limit = producer.value_limit(topic)
    assert [len(each) for each in kafka.replicas(topic).values()] == [1, 1, 1]
    settings = kafka.settings(topic)
    assert {name: settings[name] for name in wanted} == {k: str(v) for k, v in wanted.items()}
    assert 49_000 < limit < 50_000


async def test_an_existing_topic_is_left_as_it_is(kafka: Kafka) -> None:
    """Neither its partitions nor its settings are changed to those of [topics]."""
    topic = kafka.create(kafka.new_name(), 2, max_message_bytes="10000")
    async with producing(kafka.servers, topic, partitions=6, config={"max.message.bytes": 20_000}):
        assert len(kafka.replicas(topic)) == 2
        assert kafka.settings(topic)["max.message.bytes"] == "10000"


async def test_replication_minus_one_is_the_brokers_default_and_named(
    three_brokers: Kafka,
) -> None:
    """The broker is asked, and what it said is logged."""
    topic = three_brokers.new_name()
    with capture_logs() as logs:
        async with producing(three_brokers.servers, topic, partitions=2):
            # The broker that is asked may not have heard of it yet.
            await eventually(lambda: len(three_brokers.replicas(topic)) == 2)
            assert [len(each) for each in three_brokers.replicas(topic).values()] == [2, 2]
    told = [(line["setting"], line["value"]) for line in logs if "value" in line]
    assert told == [("replication_factor", 2)]


@pytest.mark.parametrize(
    ("settings", "warned"),
    [
        pytest.param({"replication_factor": 1}, True, id="one copy"),
        pytest.param(
            {"replication_factor": 3, "config": {"min.insync.replicas": 1}},
            True,
            id="one waited for",
        ),
        pytest.param(
            {"replication_factor": 3, "config": {"min.insync.replicas": 2}}, False, id="safe"
        ),
    ],
)
async def test_what_one_brokers_disk_can_lose_is_warned_of(
    three_brokers: Kafka, settings: dict[str, Any], *, warned: bool
) -> None:
    """Once for each topic, when one copy is all there is or all that is waited for."""
    topic = three_brokers.new_name()
    with capture_logs() as logs:
        async with producing(three_brokers.servers, topic, **settings) as producer:
            await eventually(lambda: producer._topics[topic].limits.replicas > 0)
            looked = producer._last_prepared
            producer.in_trouble()  # it looks again, and has said it already
            await eventually(lambda: producer._last_prepared > looked)
    lines = [line for line in logs if line["event"] == "topic_not_replicated"]
    assert [(line["topic"], line["log_level"]) for line in lines] == [(topic, "warning")] * warned


async def test_an_impossible_replication_factor_is_that_topics_problem(kafka: Kafka) -> None:
    """What Kafka says is told, events are ``retry``, and topics that exist work."""
    there, impossible = kafka.create(kafka.new_name()), kafka.new_name()
    async with producing(kafka.servers, there, impossible, replication_factor=9) as producer:
        assert await fate(producer, impossible) == UNAVAILABLE
        assert await fate(producer, there) == OK
        assert producer.problems == {impossible: "topic_not_created: InvalidReplicationFactor"}


async def test_a_missing_topic_that_may_not_be_created_is_unavailable_alone(kafka: Kafka) -> None:
    """Its events are ``retry`` at once; other topics work; it works as soon as it is there."""
    there, missing = kafka.create(kafka.new_name()), kafka.new_name()
    async with producing(kafka.servers, there, missing, create=False) as producer:
        assert producer.problems == {missing: "topic_missing"}
        assert await fate(producer, missing) == UNAVAILABLE
        assert await fate(producer, there) == OK
        assert kafka.replicas(missing) == {}
        kafka.create(missing)
        producer.in_trouble()
        fates = await send_until(producer, missing, ACKED)
        assert producer.problems == {}
    check_honest(fates, kafka.read(missing))


async def test_a_batch_without_a_deadline_waits_for_its_topic(kafka: Kafka) -> None:
    """However long the topic cannot be used; then it is written, in the order of submission."""
    missing = kafka.new_name()
    async with producing(kafka.servers, missing, create=False) as producer:
        receipts = [
            producer.submit(missing, [b"%d" % number], timestamp_ms=1, keys=[b"k"])
            for number in range(3)
        ]
        producer.in_trouble()
        assert await fate(producer, missing) == UNAVAILABLE
        assert not any(receipt.answered for receipt in receipts)
        kafka.create(missing)
        producer.in_trouble()
        async with asyncio.timeout(20.0):
            for receipt in receipts:
                assert (await receipt).acked
    assert [record.value for record in kafka.read(missing)] == [b"0", b"1", b"2"]


async def test_a_batch_that_still_waits_is_told_at_the_end(kafka: Kafka) -> None:
    """It is certainly not in Kafka."""
    missing = kafka.new_name()
    async with producing(kafka.servers, missing, create=False) as producer:
        receipt = producer.submit(missing, [b"v"], timestamp_ms=1)
    assert [run.status for run in receipt.runs] == [Status.RETRY]


def check_honest(fates: list[tuple[bytes, Status]], records: list[Record]) -> None:
    """What was ``retry`` is not there, what was acked is."""
    there = {record.value for record in records}
    assert {value for value, status in fates if status is Status.ACKED} <= there
    assert not {value for value, status in fates if status is Status.RETRY} & there


# Topics that come and go with the configuration.


async def test_a_topic_that_is_followed_later_is_created_as_configured(kafka: Kafka) -> None:
    """Soon, without a record for it."""
    first, later = kafka.new_name(), kafka.new_name()
    async with producing(kafka.servers, first, partitions=2) as producer:
        producer.follow([first, later])
        async with asyncio.timeout(5.0):
            await producer.ready()
        assert len(kafka.replicas(later)) == 2
        assert await fate(producer, later) == OK


async def test_the_problems_of_a_topic_that_is_followed_no_more_are_nobodys(kafka: Kafka) -> None:
    """They are not told; followed again, they are."""
    missing = kafka.new_name()
    async with producing(kafka.servers, missing, create=False) as producer:
        assert producer.problems == {missing: "topic_missing"}
        producer.follow([])
        assert producer.problems == {}
        assert producer.preview(missing, [b"v"]) == ["topic_unavailable"]
        producer.follow([missing])
        assert producer.problems == {missing: "topic_missing"}


async def test_a_topic_that_is_followed_no_more_is_not_created_anew(kafka: Kafka) -> None:
    """Who takes a source out of the configuration may delete its topic; followed, it is made."""
    kept, topic = kafka.create(kafka.new_name()), kafka.create(kafka.new_name())
    async with producing(kafka.servers, kept, topic) as producer:
        producer.follow([kept])
        kafka.delete(topic)
        fates = await send_until(producer, topic, {Status.RETRY})
        assert await fate(producer, kept) == OK
        assert kafka.replicas(topic) == {}
        assert producer.problems == {}
        producer.follow([kept, topic])
        fates += await send_until(producer, topic, ACKED)
    check_honest(
        [each for each in fates if each[1] is Status.RETRY] + fates[-1:], kafka.read(topic)
    )


async def test_a_topic_is_let_go_when_it_was_idle_for_long(kafka: Kafka) -> None:
    """With its writers; whoever comes even later is served all the same, for a while again."""
    kept, topic = kafka.new_name(), kafka.create(kafka.new_name())
    async with producing(kafka.servers, kept) as producer:
        tasks = len(asyncio.all_tasks())
        for _ in range(2):
            producer.idle_seconds = 60.0
            assert statuses(await send(producer, topic, b"v"), 1) == [OK]
            assert len(asyncio.all_tasks()) == tasks + 4
            producer.idle_seconds = 0.1
            await eventually(lambda: topic not in producer._topics)
            await eventually(lambda: len(asyncio.all_tasks()) == tasks)
        assert kept in producer._topics
    assert [record.value for record in kafka.read(topic)] == [b"v", b"v"]


async def test_a_topic_is_kept_while_anything_waits_for_it(own_kafka: Kafka) -> None:
    """Whatever was taken for it has its fate before it goes."""
    topic = own_kafka.create(own_kafka.new_name())
    async with producing(own_kafka.servers, topic) as producer:
        own_kafka.node.pause()
        assert await asyncio.to_thread(own_kafka.falls_silent)
        receipt = producer.submit(topic, [b"v"], timestamp_ms=TIME_MS)
        producer.follow([])
        producer.idle_seconds = 0.0
        await producer._let_go()
        await asyncio.sleep(0.01)  # it takes the loop's clock to say that it was idle
        await producer._let_go()
        assert topic in producer._topics
        own_kafka.node.resume()
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert statuses(await receipt, 1) == [OK]
        await eventually(lambda: topic not in producer._topics)


async def test_a_preview_knows_whether_kafka_is_there(own_kafka: Kafka) -> None:
    """Before the first connection, and when it was lost; what is hopeless stays so."""
    topic = own_kafka.create(own_kafka.new_name(), max_message_bytes="10000")
    async with producing(own_kafka.servers, topic, ready=False) as producer:
        assert producer.preview(topic, [b"v"]) == ["kafka_unavailable"]
        await eventually(lambda: producer.preview(topic, [b"v"]) == [""])
        await producer.ready()  # the limits are known, too
        await asyncio.to_thread(own_kafka.node.kill)
        values = [b"v", noise(20_000)]
        known = ["kafka_unavailable", "event_too_large"]
        await eventually(lambda: producer.preview(topic, values) == known)


# What happens to topics later.


async def test_a_deleted_topic_is_created_anew(kafka: Kafka) -> None:
    """Answers stay honest meanwhile, and no other topic suffers."""
    other, topic = kafka.create(kafka.new_name()), kafka.create(kafka.new_name(), 3)
    async with producing(kafka.servers, other, topic, partitions=2) as producer:
        assert await fate(producer, topic, b"before") == OK
        kafka.delete(topic)
        fates: list[tuple[bytes, Status]] = []
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(kafka.replicas(topic)) != 2:
                fates += await send_until(producer, topic, {*Status})
                assert await fate(producer, other) == OK
        fates += await send_until(producer, topic, ACKED)
    records = kafka.read(topic)
    check_honest([each for each in fates[:-1] if each[1] is Status.RETRY] + fates[-1:], records)
    assert b"before" not in {record.value for record in records}


async def test_a_topic_made_anew_by_others_is_used_with_its_new_partitions(kafka: Kafka) -> None:
    """Where it may not be created here, events are ``retry`` until it is there again."""
    topic = kafka.create(kafka.new_name(), 6)
    keys = list(JAVA_MURMUR2)
    async with producing(kafka.servers, topic, create=False) as producer:
        assert where(await send(producer, topic, *keys, keys=list(keys))) == java_partitions(6)
        kafka.delete(topic)
        await send_until(producer, topic, {Status.RETRY})
        assert producer.problems == {topic: "topic_missing"}
        kafka.create(topic, 2)
        fates = await send_until(producer, topic, ACKED)
        assert where(await send(producer, topic, *keys, keys=list(keys))) == java_partitions(2)
    check_honest(fates, kafka.read(topic))


async def test_partitions_that_are_added_are_used(kafka: Kafka) -> None:
    """Keys go where Java's client would put them among the new number of partitions."""
    topic = kafka.create(kafka.new_name(), 2)
    keys = list(JAVA_MURMUR2)
    async with producing(kafka.servers, topic) as producer:
        assert where(await send(producer, topic, *keys, keys=list(keys))) == java_partitions(2)
        kafka.grow(topic, 7)
        producer.in_trouble()  # else it looks every `PREPARE_SECONDS`
        async with asyncio.timeout(PATIENCE_SECONDS):
            while where(await send(producer, topic, *keys, keys=list(keys))) != java_partitions(7):
                await asyncio.sleep(0.05)


def where(receipt: Receipt) -> list[int]:
    """The partition of each record."""
    assert receipt.acked
    return [partition for _, (partition, _) in sorted(places(receipt).items())]


def java_partitions(count: int) -> list[int]:
    """Where Java's client would put the known keys."""
    return [(value & 0x7FFFFFFF) % count for value in JAVA_MURMUR2.values()]


@pytest.mark.parametrize(
    "allowed",
    [
        pytest.param([AclOperation.DESCRIBE, AclOperation.DESCRIBE_CONFIGS], id="only seen"),
        pytest.param([AclOperation.DESCRIBE_CONFIGS], id="not even described"),
    ],
)
async def test_a_topic_that_may_not_be_written_to_is_unavailable_alone(
    own_kafka: Kafka, allowed: list[AclOperation]
) -> None:
    """Its events are ``retry``, other topics work, and it works as soon as it may be used."""
    other, topic = own_kafka.create(own_kafka.new_name()), own_kafka.create(own_kafka.new_name())
    own_kafka.allow(topic, *allowed)
    async with producing(own_kafka.servers, other, topic) as producer:
        assert await fate(producer, topic) == UNAVAILABLE
        assert producer.problems == {topic: "topic_forbidden"}
        assert await fate(producer, other) == OK
        own_kafka.allow(topic, AclOperation.ALL)
        fates = await send_until(producer, topic, ACKED)
    check_honest(fates, own_kafka.read(topic))


# Refusals.


async def test_a_batch_that_the_broker_refuses_is_split(kafka: Kafka) -> None:
    """Only the record that is too large for a limit lowered meanwhile is refused."""
    topic = kafka.create(kafka.new_name())
    async with producing(kafka.servers, topic) as producer:
        kafka.configure(topic, "max.message.bytes", "10000")
        values = [b"%d" % number for number in range(50)]
        values[17] = noise(20_000)
        receipt = await send(producer, topic, *values)
    assert statuses(receipt, 50) == [OK] * 17 + [TOO_LARGE] + [OK] * 32
    assert [list(run.values) for run in receipt.runs if run.status is Status.REFUSED] == [
        [values[17]]
    ]
    records = sorted(kafka.read(topic), key=lambda each: each.offset)
    assert [each.value for each in records] == values[:17] + values[18:]


async def test_a_refusal_hits_nobody_elses_batch(kafka: Kafka) -> None:
    """One Kafka batch mixes submissions: the innocent ones are acked."""
    topic = kafka.create(kafka.new_name(), 1)
    async with producing(kafka.servers, topic) as producer:
        kafka.configure(topic, "max.message.bytes", "10000")
        values = [b"a", noise(20_000), b"b", noise(20_001), b"c"]
        receipts = await asyncio.gather(*(send(producer, topic, value) for value in values))
    fates = [statuses(receipt, 1)[0] for receipt in receipts]
    assert fates == [OK, TOO_LARGE, OK, TOO_LARGE, OK]


async def test_callers_that_fail_at_their_answers_do_no_harm_to_others(kafka: Kafka) -> None:
    """What is in the same Kafka batch is answered and let go of; what comes later is written."""
    topic = kafka.create(kafka.new_name(), 1)
    async with producing(kafka.servers, topic) as producer:
        receipts = [
            producer.submit(topic, [b"%d" % number], timestamp_ms=TIME_MS, on_settled=told)
            for number, told in enumerate((_fail, _fail, None))
        ]
        async with asyncio.timeout(PATIENCE_SECONDS):
            await receipts[-1]
        assert [each.settled for each in receipts] == [True] * 3
        assert await fate(producer, topic, b"3") == OK
    assert [each.value for each in kafka.read(topic)] == [b"%d" % number for number in range(4)]


def _fail() -> None:
    raise RuntimeError


async def test_a_record_that_the_broker_finds_invalid_is_refused_alone(kafka: Kafka) -> None:
    """The topic has become a compacted one, which needs keys, without the producer's knowledge."""
    topic = kafka.create(kafka.new_name(), 1)
    keys: list[bytes | None] = [b"k", None, b"l", None]
    async with producing(kafka.servers, topic) as producer:
        kafka.configure(topic, "cleanup.policy", "compact")
        receipt = await send(producer, topic, b"0", b"1", b"2", b"3", keys=keys)
    assert statuses(receipt, 4) == [OK, REFUSED, OK, REFUSED]


async def test_a_batch_full_of_bad_records_is_refused_at_once(kafka: Kafka) -> None:
    """Not record by record: after the first refusal the limits are read, and tell them apart."""
    topic = kafka.create(kafka.new_name(), 1)
    keys: list[bytes | None] = [None if number % 3 else b"k" for number in range(10_000)]
    async with producing(kafka.servers, topic) as producer:
        kafka.configure(topic, "cleanup.policy", "compact")
        begun = time.monotonic()
        receipt = await send(producer, topic, *[b"v"] * 10_000, keys=keys)
        assert time.monotonic() - begun < 2.0
    assert statuses(receipt, 10_000) == [REFUSED if key is None else OK for key in keys]


async def test_a_batch_that_is_too_large_for_a_lowered_limit_is_split_to_fit(kafka: Kafka) -> None:
    """No record is refused that fits on its own, and their order stays."""
    topic = kafka.create(kafka.new_name(), 1)
    values = [b"%d " % number + noise(900) for number in range(1000)]
    async with producing(kafka.servers, topic) as producer:
        kafka.configure(topic, "max.message.bytes", "5000")
        begun = time.monotonic()
        receipt = await send(producer, topic, *values)
        assert time.monotonic() - begun < 5.0
    assert statuses(receipt, 1000) == [OK] * 1000
    records = sorted(kafka.read(topic), key=lambda each: each.offset)
    assert [each.value for each in records] == values


async def test_what_the_limits_do_not_tell_is_found_by_halving(own_kafka: Kafka) -> None:
    """A compacted topic whose settings we may not read: the innocent are written, in order."""
    topic = own_kafka.create(own_kafka.new_name(), 1, cleanup_policy="compact")
    own_kafka.allow(topic, AclOperation.WRITE, AclOperation.DESCRIBE)
    keys: list[bytes | None] = [b"%d" % number for number in range(100)]
    for number in (0, 41, 42, 99):
        keys[number] = None
    async with producing(own_kafka.servers, topic) as producer:
        assert not producer._topics[topic].limits.compacted
        receipts = [
            producer.submit(
                topic,
                [b"v"] * 10,
                timestamp_ms=TIME_MS,
                keys=keys[first : first + 10],
                deadline=deadline(),
            )
            for first in range(0, 100, 10)
        ]
        fates = [each for receipt in receipts for each in statuses(await receipt, 10)]
    assert fates == [REFUSED if key is None else OK for key in keys]
    own_kafka.allow(topic, AclOperation.READ)
    records = sorted(own_kafka.read(topic), key=lambda each: each.offset)
    assert [each.key for each in records] == [key for key in keys if key is not None]


async def test_a_batch_full_of_bad_records_is_refused_at_once_without_knowing_the_limits(
    own_kafka: Kafka,
) -> None:
    """What one record was refused for is assumed of its like, until the topic takes them again."""
    topic = own_kafka.create(own_kafka.new_name(), 1, cleanup_policy="compact")
    own_kafka.allow(topic, AclOperation.WRITE, AclOperation.DESCRIBE)
    async with producing(own_kafka.servers, topic) as producer:
        begun = time.monotonic()
        receipt = await send(producer, topic, *[b"v"] * 10_000)
        assert time.monotonic() - begun < 2.0
        assert statuses(receipt, 10_000) == [REFUSED] * 10_000
        own_kafka.allow(topic, AclOperation.ALTER_CONFIGS)
        own_kafka.configure(topic, "cleanup.policy", "delete")
        fates = await send_until(producer, topic, ACKED)
        assert {status for _, status in fates} <= {Status.REFUSED, Status.ACKED}


async def test_a_limit_that_is_raised_is_read_again_by_itself(kafka: Kafka) -> None:
    """Soon after it was in anybody's way: what was too large is taken from then on."""
    topic = kafka.create(kafka.new_name(), max_message_bytes="10000")
    async with producing(kafka.servers, topic) as producer:
        assert await fate(producer, topic, noise(20_000)) == TOO_LARGE
        kafka.configure(topic, "max.message.bytes", "30000")
        begun = time.monotonic()
        while (found := await fate(producer, topic, noise(20_000))) != OK:
            assert found == TOO_LARGE
            assert time.monotonic() - begun < 10.0
            await asyncio.sleep(0.05)


# A Kafka that is not there.


async def test_what_was_submitted_before_kafka_exists_is_written_when_it_does(
    own_kafka: Kafka,
) -> None:
    """Starting never needs Kafka; topics are created when it appears, and nothing is lost."""
    await asyncio.to_thread(own_kafka.node.kill)
    topic = own_kafka.new_name()
    async with producing(own_kafka.servers, topic, ready=False) as producer:
        assert await fate(producer, topic, b"too early") == (Status.RETRY, "kafka_unavailable")
        assert producer.connected is False
        patient = producer.submit(topic, [b"patient"], timestamp_ms=TIME_MS)
        await asyncio.to_thread(own_kafka.node.start)
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert statuses(await patient, 1) == [OK]
    assert [record.value for record in own_kafka.read(topic)] == [b"patient"]


async def test_a_broker_that_died_is_connected_to_again(own_kafka: Kafka) -> None:
    """The same producer goes on; what waited without a deadline is written, in order."""
    topic = own_kafka.new_name()
    async with producing(own_kafka.servers, topic) as producer:
        assert await fate(producer, topic, b"0") == OK
        await asyncio.to_thread(own_kafka.node.kill)
        assert own_kafka.falls_silent()
        waiting = [
            producer.submit(topic, [b"%d" % n], timestamp_ms=TIME_MS, keys=[b"k"])
            for n in range(1, 6)
        ]
        assert await fate(producer, topic, b"away") == (Status.RETRY, "kafka_unavailable")
        await eventually(lambda: producer.connected is False)
        await asyncio.to_thread(own_kafka.node.start)
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert all([(await receipt).acked for receipt in waiting])
        await eventually(lambda: producer.connected is True)
    values = [record.value for record in own_kafka.read(topic) if record.key == b"k"]
    assert list(dict.fromkeys(values)) == [b"1", b"2", b"3", b"4", b"5"]


async def test_a_frozen_broker_leaves_unknown_what_it_was_sent(own_kafka: Kafka) -> None:
    """What may have arrived is ``unknown``, what was never sent ``retry``; later all is settled."""
    topic = own_kafka.create(own_kafka.new_name(), 1)
    async with producing(own_kafka.servers, topic) as producer:
        assert await fate(producer, topic, b"0") == OK
        own_kafka.node.pause()
        assert await asyncio.to_thread(own_kafka.falls_silent)
        sent = asyncio.ensure_future(send(producer, topic, b"sent", seconds=3.0))
        (writer,) = producer._topics[topic].writers
        await eventually(lambda: any(each.in_flight for each in writer.open_segments()))
        queued = await send(producer, topic, b"queued", seconds=0.5)
        unknown = await sent
        assert statuses(queued, 1) == [(Status.RETRY, "kafka_unavailable")]
        assert statuses(unknown, 1) == [(Status.UNKNOWN, "ack_timeout")]
        own_kafka.node.resume()
        await eventually(lambda: unknown.settled)
        assert await fate(producer, topic, b"1") == OK
    assert b"queued" not in {record.value for record in own_kafka.read(topic)}


async def test_stopping_without_kafka_is_bounded(own_kafka: Kafka) -> None:
    """Everything that waits gets its fate, and nothing hangs."""
    topic = own_kafka.new_name()
    async with producing(own_kafka.servers, topic) as producer:
        await asyncio.to_thread(own_kafka.node.kill)
        receipt = producer.submit(topic, [b"v"], timestamp_ms=TIME_MS)
        begun = asyncio.get_running_loop().time()
        await producer.stop(1.0)
        assert asyncio.get_running_loop().time() - begun < 5.0
        ((status, _),) = statuses(await receipt, 1)
    assert status is not Status.ACKED
