"""When the producer has records kept elsewhere, and what becomes of those that cannot be."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from ingest.accumulator import Segment
from ingest.kafka_producer import KafkaProducer
from ingest.receipt import Receipt, Status
from ingest.settings import KafkaSettings, TopicSettings
from tests.mock_broker import MockBroker
from tests.producer_contract import TIME_MS, deadline, statuses

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tests.conftest import Kafka

TOPIC = "t"
SPOOLED = (Status.SPOOLED, "")
PATIENCE_SECONDS = 10.0


class Shelf:
    """An overflow whose copies are durable, or have failed, when the test says so."""

    after_seconds = 0.3
    lead_seconds = 0.5

    def __init__(self) -> None:
        self.has_room = True
        self.has_spare = True
        self.is_swamped = False
        self.waiting: list[tuple[Segment, Callable[[Segment], None]]] = []
        self.kept: list[bytes] = []
        self.writes = True

    def keep(self, segment: Segment, failed: Callable[[Segment], None]) -> None:
        """See `ingest.overflow.Overflow`."""
        segment.copy = _Copy()
        self.waiting.append((segment, failed))
        if self.writes:
            asyncio.get_running_loop().call_soon(self.write)

    def write(self) -> None:
        """What waits is durable."""
        for segment, _ in self.waiting:
            self.kept += segment.values
            segment.spooled()
        self.waiting.clear()

    def fail(self) -> None:
        """What waits cannot be kept, nor can anything else for now."""
        self.has_room = False
        waiting, self.waiting = self.waiting, []
        for segment, failed in waiting:
            failed(segment)

    async def settle(self, seconds: float) -> None:
        """See `ingest.overflow.Overflow`."""
        async with asyncio.timeout(seconds):
            while self.waiting:
                await asyncio.sleep(0.01)


class _Copy:
    """Kept in memory: nothing takes it back."""

    def landed(self, count: int) -> None:
        """See `ingest.accumulator.Copy`."""

    def over(self) -> None:
        """See `ingest.accumulator.Copy`."""


@pytest.fixture
def silent() -> Iterator[str]:
    """Where somebody lets connections in and never says a word, as a frozen broker does."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def closed() -> str:
    """Where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def mock_broker() -> Iterator[MockBroker]:
    """A broker that answers as it is told to."""
    with MockBroker() as broker:
        yield broker


@asynccontextmanager
async def producing(servers: str, shelf: Shelf | None) -> AsyncIterator[KafkaProducer]:
    """A running producer with ``shelf`` behind it."""
    settings = KafkaSettings(bootstrap_servers=servers, request_timeout_seconds=1.0)
    producer = KafkaProducer(settings, TopicSettings(), [TOPIC], shelf)
    producer.start()
    try:
        yield producer
    finally:
        await producer.stop(0.2)


def submit(
    producer: KafkaProducer, value: bytes, seconds: float | None = None, topic: str = TOPIC
) -> Receipt:
    """One record; without ``seconds`` it waits for as long as it takes."""
    until = None if seconds is None else deadline(seconds)
    return producer.submit(topic, [value], timestamp_ms=TIME_MS, deadline=until)


async def answer(receipt: Receipt, seconds: float = PATIENCE_SECONDS) -> tuple[Status, str]:
    """The fate of the one record."""
    async with asyncio.timeout(seconds):
        return statuses(await receipt, 1)[0]


async def eventually(holds: Callable[[], bool]) -> None:
    """Wait until ``holds``; an error when it takes too long."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not holds():
            await asyncio.sleep(0.01)


async def test_while_kafka_is_known_to_be_away_what_is_new_is_kept_at_once(closed: str) -> None:
    """Nobody waits for a deadline."""
    shelf = Shelf()
    async with producing(closed, shelf) as producer:
        await eventually(lambda: producer.connected is False)
        assert producer.is_troubled(TOPIC)
        for seconds in (None, 30.0):
            assert await answer(submit(producer, b"v", seconds), 0.2) == SPOOLED
        assert shelf.kept == [b"v", b"v"]
        assert producer.preview(TOPIC, [b"v"]) == ["spooled"]


async def test_what_has_no_deadline_is_kept_once_it_is_old(silent: str) -> None:
    """Not before, as long as nothing is known to have failed; what has a deadline waits for it."""
    shelf, loop = Shelf(), asyncio.get_running_loop()
    async with producing(silent, shelf) as producer:
        begun = loop.time()
        patient, hurried = submit(producer, b"old"), submit(producer, b"waits", 30.0)
        assert not producer.is_troubled(TOPIC)
        assert await answer(patient) == SPOOLED
        assert loop.time() - begun >= shelf.after_seconds
        assert not hurried.answered
        assert await answer(submit(producer, b"new", 30.0), 0.2) == SPOOLED
        assert shelf.kept == [b"old", b"new"]


async def test_what_has_a_deadline_is_kept_just_before_it(silent: str) -> None:
    """In time to be answered."""
    shelf, loop = Shelf(), asyncio.get_running_loop()
    shelf.after_seconds = 60
    async with producing(silent, shelf) as producer:
        begun = loop.time()
        assert await answer(submit(producer, b"v", 1.0)) == SPOOLED
        assert 0.5 <= loop.time() - begun < 1.0


async def test_what_cannot_be_kept_is_answered_as_without_an_overflow(silent: str) -> None:
    """``retry`` at the deadline: it is certainly nowhere."""
    shelf = Shelf()
    shelf.after_seconds = 60
    async with producing(silent, shelf) as producer:
        shelf.writes = False
        receipt = submit(producer, b"v", 1.0)
        await eventually(lambda: bool(shelf.waiting))
        shelf.fail()
        assert not receipt.answered
        assert await answer(receipt) == (Status.RETRY, "kafka_unavailable")


async def test_what_may_have_been_kept_is_unknown(silent: str) -> None:
    """A copy that is not durable at the deadline may be so later."""
    shelf = Shelf()
    shelf.after_seconds = 60
    async with producing(silent, shelf) as producer:
        shelf.writes = False
        receipt = submit(producer, b"v", 1.0)
        assert await answer(receipt) == (Status.UNKNOWN, "ack_timeout")
        shelf.write()
        assert shelf.kept == [], "its values were given up with the answer"


async def test_what_has_no_deadline_and_cannot_be_kept_waits(silent: str) -> None:
    """It is kept when there is room again."""
    shelf = Shelf()
    async with producing(silent, shelf) as producer:
        shelf.writes = False
        receipt = submit(producer, b"v")
        await eventually(lambda: bool(shelf.waiting))
        shelf.fail()
        await asyncio.sleep(0.2)
        assert not receipt.answered
        shelf.has_room = shelf.writes = True
        assert await answer(receipt) == SPOOLED


async def test_overflow_comes_back_where_it_cannot_be_kept(silent: str) -> None:
    """There is no memory for it: it does not wait for Kafka."""
    shelf = Shelf()
    async with producing(silent, shelf) as producer:
        shelf.writes = False
        receipt = producer.submit(TOPIC, [b"v"], timestamp_ms=TIME_MS, overflow=True)
        shelf.fail()
        assert await answer(receipt) == (Status.RETRY, "no_room")
        shelf.has_room = shelf.is_swamped = True
        receipt = producer.submit(TOPIC, [b"v"], timestamp_ms=TIME_MS, overflow=True)
        assert await answer(receipt) == (Status.RETRY, "no_room")
        assert not shelf.waiting


async def test_at_the_end_everything_that_waits_is_kept(silent: str) -> None:
    """Deadline or not."""
    shelf = Shelf()
    shelf.after_seconds = 60
    async with producing(silent, shelf) as producer:
        receipts = [submit(producer, b"a"), submit(producer, b"b", 30.0)]
    assert [await answer(receipt) for receipt in receipts] == [SPOOLED, SPOOLED]


async def test_while_kafka_is_well_nothing_is_kept(kafka: Kafka) -> None:
    """Also a while after: one failure long ago is no reason."""
    topic, shelf = kafka.create(kafka.new_name()), Shelf()
    async with producing(kafka.servers, shelf) as producer:
        producer.follow([topic])
        await producer.ready()
        for seconds in (None, 10.0):
            assert await answer(submit(producer, b"v", seconds, topic)) == (Status.ACKED, "")
        await asyncio.sleep(2 * shelf.after_seconds)
        assert not producer.is_troubled(topic)
        assert await answer(submit(producer, b"v", 10.0, topic)) == (Status.ACKED, "")
    assert shelf.kept == []


async def test_a_topic_of_its_own_trouble_is_kept_alone(kafka: Kafka) -> None:
    """Others go on to Kafka; and half of the room is theirs, should they ever need it."""
    shelf, good = Shelf(), kafka.create(kafka.new_name())
    bad = "no topic can have this name!"
    async with producing(kafka.servers, shelf) as producer:
        producer.follow([good])
        await producer.ready()
        assert await answer(submit(producer, b"bad", None, bad)) == SPOOLED
        assert await answer(submit(producer, b"good", None, good)) == (Status.ACKED, "")
        assert producer.is_troubled(bad)
        assert not producer.is_troubled(good)
        shelf.has_spare = False
        receipt = producer.submit(bad, [b"no"], timestamp_ms=TIME_MS, overflow=True)
        assert await answer(receipt) == (Status.RETRY, "no_room")
        assert await answer(submit(producer, b"more", 1.0, bad)) == (
            Status.RETRY,
            "topic_unavailable",
        )
    assert shelf.kept == [b"bad"]


async def test_a_topic_given_up_is_kept_in_order(mock_broker: MockBroker) -> None:
    """What was being written just then is older than what was queued behind it."""
    shelf = Shelf()
    async with producing(mock_broker.bootstrap_servers, shelf) as producer:
        await producer.ready()
        mock_broker.answer([29], after_ms=200)
        receipts = [submit(producer, b"0")]
        await asyncio.sleep(0.1)
        receipts += [submit(producer, b"%d" % number) for number in range(1, 4)]
        assert [await answer(receipt) for receipt in receipts] == [SPOOLED] * 4
        assert mock_broker.answers_left == 0
    assert shelf.kept == [b"0", b"1", b"2", b"3"]


async def test_a_replay_that_has_to_wait_is_no_trouble(silent: str) -> None:
    """What is new goes on to Kafka while what is replayed waits behind it."""
    shelf = Shelf()
    async with producing(silent, shelf) as producer:
        receipt = Receipt(1)
        replayed = Segment(receipt, range(1), [b"old"], None, [], None, TIME_MS)
        producer.replay(TOPIC, replayed)
        await asyncio.sleep(2 * shelf.after_seconds)
        assert not producer.is_troubled(TOPIC)
    assert statuses(receipt, 1) == [(Status.RETRY, "kafka_unavailable")]
    assert shelf.kept == [], "it is in the spool already"
