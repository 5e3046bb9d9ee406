"""From the spool to Kafka: everything, as it was, and nobody waits for somebody else's trouble."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from ingest import metrics
from ingest import spool as spool_module
from ingest.dead_letter import DeadLetters
from ingest.envelope import Envelope, Received, data_of
from ingest.kafka_producer import KafkaProducer
from ingest.replay import Replay
from ingest.settings import KafkaSettings, SpoolSettings, TopicSettings
from ingest.spool import Spool
from ingest.spool_batch import Entry, pack
from ingest.spool_folders import claim
from ingest.spool_quota import Quota
from ingest.spool_store import Store
from ingest.status import SpoolStatus
from tests.producer_contract import (
    TIME_MS,
    LimitsContract,
    ProducerContract,
    SpoolContract,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from tests.conftest import Kafka
    from tests.memory_producer import Record

SERVICE = "ingest-http"
HEADERS = [("content-type", b"text/plain")]
PATIENCE_SECONDS = 20.0


@pytest.fixture(autouse=True)
def _look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody wants to wait for looks."""
    monkeypatch.setattr(spool_module, "LOOK_SECONDS", 0.05)


def store(path: Path, *batches: tuple[str, Sequence[Entry]]) -> None:
    """What a worker that is gone has left."""
    folder = claim(path / SERVICE)
    files = Store([folder], Quota(path / SERVICE, 1 << 30, 0))
    files.append([pack(topic, entries) for topic, entries in batches])
    files.close()


@asynccontextmanager
async def replaying(
    path: Path, servers: str, *topics: str, letters: str | None = None, create: bool = False
) -> AsyncIterator[tuple[KafkaProducer, Spool]]:
    """A producer with a spool behind it, which is replayed."""
    settings = SpoolSettings(mode="auto", path=str(path), min_free_bytes=0)
    spool = Spool(settings, SERVICE, ack_seconds=10, attempt_seconds=3)
    await spool.open()
    kafka = KafkaSettings(bootstrap_servers=servers, request_timeout_seconds=1.0)
    followed = [*topics, *([letters] if letters else [])]
    producer = KafkaProducer(kafka, TopicSettings(create=create), followed, spool)
    dead_letters = None if letters is None else DeadLetters(producer, letters)
    replay = Replay(spool, producer, dead_letters, data_of)
    producer.start()
    replay.start()
    try:
        yield producer, spool
    finally:
        await replay.stop()
        await producer.stop(5.0)
        await replay.finish()
        await spool.close()


def entry(*values: bytes, keys: list[bytes | None] | None = None, at: int = TIME_MS) -> Entry:
    """Records as they are stored."""
    return Entry(at, HEADERS, None, keys, list(values))


def sealed(data: bytes) -> bytes:
    """A record value of the HTTP door."""
    received = Received(b"2026-11-23T12:00:00.000000Z", TIME_MS, b"id")
    envelope = Envelope("orders", "order", None)
    head: Any = SimpleNamespace(id=b"", type=b"", time=b"", key=b"")
    return envelope.seal([head], [data], [0], received)[0]


async def drained(spool: Spool) -> None:
    """Wait until nothing is in the spool."""
    await eventually(lambda: spool.status.room and not spool.status.events)


async def eventually(holds: Callable[[], bool]) -> None:
    """Wait until ``holds``; an error when it takes too long."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not holds():
            await asyncio.sleep(0.02)


def in_order(records: Sequence[Record]) -> list[Record]:
    """By their places."""
    return sorted(records, key=lambda each: (each.partition, each.offset))


def count(topic: str, outcome: str) -> float:
    """How many records left the spool that way."""
    return metrics.SPOOL_REPLAYED.labels(topic, outcome)._value.get()


async def test_everything_is_written_as_it_was(tmp_path: Path, kafka: Kafka) -> None:
    """Values, keys, headers, timestamps, oldest first; then the spool is empty."""
    topic = kafka.create(kafka.new_name(), partitions=1)
    first = entry(b"a", b"b", keys=[b"k", None], at=TIME_MS)
    each = Entry(TIME_MS + 5, [], [[("n", b"1")], [("n", b"2")]], None, [b"c", b"d"])
    many = [entry(*(b"%d-%d" % (n, i) for i in range(100))) for n in range(300)]
    store(tmp_path, (topic, [first, each]), *((topic, [one]) for one in many))
    async with replaying(tmp_path, kafka.servers, topic) as (_, spool):
        await drained(spool)
        assert count(topic, "acked") == 30_004
    records = in_order(kafka.read(topic))
    assert [(r.key, r.value) for r in records[:4]] == [
        (b"k", b"a"),
        (None, b"b"),
        (None, b"c"),
        (None, b"d"),
    ]
    assert [r.headers for r in records[:4]] == [HEADERS, HEADERS, [("n", b"1")], [("n", b"2")]]
    assert [r.timestamp_ms for r in records[:4]] == [TIME_MS, TIME_MS, TIME_MS + 5, TIME_MS + 5]
    assert [r.value for r in records[4:]] == [value for one in many for value in one.values]


async def test_what_kafka_refuses_becomes_a_dead_letter(tmp_path: Path, kafka: Kafka) -> None:
    """With its original bytes, source and code; its neighbours are written, and nothing is left."""
    topic = kafka.create(kafka.new_name(), cleanup_policy="compact")
    letters = kafka.create(kafka.new_name())
    good, bad = sealed(b'{"n":1}'), sealed(b'{"n":2}')
    store(tmp_path, (topic, [entry(good, bad, keys=[b"k", None])]))
    async with replaying(tmp_path, kafka.servers, topic, letters=letters) as (_, spool):
        await drained(spool)
        assert count(topic, "rejected") == 1
    assert [record.value for record in kafka.read(topic)] == [good]
    (letter,) = kafka.read(letters)
    assert letter.value == b'{"n":2}'
    headers = dict(letter.headers)
    assert headers["ingest.source"] == b"orders"
    assert headers["__connect.errors.topic"] == topic.encode()
    assert headers["__connect.errors.exception.class.name"] == b"refused_by_kafka"


async def test_without_a_dead_letter_topic_what_is_refused_is_counted(
    tmp_path: Path, kafka: Kafka
) -> None:
    """It does not hold up what can be written."""
    topic = kafka.create(kafka.new_name(), cleanup_policy="compact")
    store(tmp_path, (topic, [entry(b"bad")]), (topic, [entry(b"good", keys=[b"k"])]))
    async with replaying(tmp_path, kafka.servers, topic) as (_, spool):
        await drained(spool)
        assert count(topic, "lost") == 1
    assert [record.value for record in kafka.read(topic)] == [b"good"]


async def test_a_topic_that_is_stuck_holds_up_no_other(tmp_path: Path, kafka: Kafka) -> None:
    """What is for it stays in the spool until it can be written."""
    stuck, topic = kafka.new_name(), kafka.create(kafka.new_name())
    store(tmp_path, *((stuck, [entry(b"s%d" % n)]) for n in range(5)), (topic, [entry(b"v")]))
    async with replaying(tmp_path, kafka.servers, stuck, topic) as (_, spool):
        await eventually(lambda: spool.status.events == {stuck: 5})
        assert [record.value for record in kafka.read(topic)] == [b"v"]
        kafka.create(stuck, partitions=1)
        await drained(spool)
    values = [record.value for record in in_order(kafka.read(stuck))]
    assert values == [b"s%d" % n for n in range(5)]


async def test_what_is_not_written_at_the_end_stays(tmp_path: Path, kafka: Kafka) -> None:
    """For the next start."""
    stuck = kafka.new_name()
    store(tmp_path, (stuck, [entry(b"v")]))
    async with replaying(tmp_path, kafka.servers, stuck) as (producer, _):
        await eventually(lambda: bool(producer.problems))
    kafka.create(stuck)
    async with replaying(tmp_path, kafka.servers, stuck) as (_, spool):
        await drained(spool)
    assert [record.value for record in kafka.read(stuck)] == [b"v"]


class TestAProducerWithASpool(ProducerContract, LimitsContract, SpoolContract):
    """The whole contract holds with a spool behind the producer."""

    test_overflow_without_a_spool_comes_back_at_once = None  # there is one

    @pytest.fixture
    async def world(self, tmp_path: Path, kafka: Kafka) -> AsyncIterator[SimpleNamespace]:
        """Topics of their own for each test."""
        topics = {
            "plain": kafka.create(kafka.new_name("plain")),
            "small": kafka.create(kafka.new_name("small"), max_message_bytes="10000"),
            "compacted": kafka.create(kafka.new_name("compacted"), cleanup_policy="compact"),
        }

        async def read(topic: str) -> list[Record]:
            return await asyncio.to_thread(kafka.read, topic)

        async with replaying(tmp_path, kafka.servers, *topics.values(), create=True) as (
            producer,
            spool,
        ):

            async def spooled() -> int:
                await spool._look()
                return sum(spool.status.events.values())

            def fill() -> None:
                assert spool._looking is not None
                spool._looking.cancel()
                spool.status = SpoolStatus(room=False)

            await producer.ready()
            yield SimpleNamespace(
                producer=producer, read=read, spooled=spooled, fill=fill, **topics
            )
