"""What becomes of records for each error with which a broker can answer a produce request.

The broker is a mock that is told its answers: each test sees that it has given them.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

from ingest.receipt import Receipt, Status
from tests.conftest import Kafka
from tests.ingest.test_kafka_producer import (
    ACKED,
    OK,
    PATIENCE_SECONDS,
    REFUSED,
    TOO_LARGE,
    UNAVAILABLE,
    eventually,
    fate,
    producing,
    send,
    send_until,
)
from tests.mock_broker import HANG_UP, MockBroker
from tests.producer_contract import TIME_MS, deadline, statuses

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ingest.kafka_producer import KafkaProducer

pytestmark = pytest.mark.kafka
RETRIABLE = {
    3: "UNKNOWN_TOPIC_OR_PARTITION",
    5: "LEADER_NOT_AVAILABLE",
    6: "NOT_LEADER_OR_FOLLOWER",
    7: "REQUEST_TIMED_OUT",
    9: "REPLICA_NOT_AVAILABLE",
    13: "NETWORK_EXCEPTION",
    14: "COORDINATOR_LOAD_IN_PROGRESS",
    15: "COORDINATOR_NOT_AVAILABLE",
    16: "NOT_COORDINATOR",
    19: "NOT_ENOUGH_REPLICAS",
    20: "NOT_ENOUGH_REPLICAS_AFTER_APPEND",
    41: "NOT_CONTROLLER",
    51: "CONCURRENT_TRANSACTIONS",
    56: "KAFKA_STORAGE_ERROR",
    72: "LISTENER_NOT_FOUND",
    74: "FENCED_LEADER_EPOCH",
    75: "UNKNOWN_LEADER_EPOCH",
    78: "OFFSET_NOT_AVAILABLE",
    80: "PREFERRED_LEADER_NOT_AVAILABLE",
    89: "THROTTLING_QUOTA_EXCEEDED",
    100: "UNKNOWN_TOPIC_ID",
    103: "INCONSISTENT_TOPIC_ID",
}
"""Codes whose exception is a ``RetriableException`` in ``Errors.java`` of Kafka 4.3.

Not here: 2, CORRUPT_MESSAGE, which is also told of records that their topic can never take; and
those that are about fetching, share groups and elections only."""
UNCLASSIFIED = {
    -1: "UNKNOWN_SERVER_ERROR",
    8: "BROKER_NOT_AVAILABLE",
    11: "STALE_CONTROLLER_EPOCH",
    21: "INVALID_REQUIRED_ACKS",
    35: "UNSUPPORTED_VERSION",
    42: "INVALID_REQUEST",
    58: "SASL_AUTHENTICATION_FAILED",
    9999: "a code of Kafkas to come",
}
"""Codes that say nothing of the content of the batch, and are no promise to go away."""
AGAIN = {**RETRIABLE, **UNCLASSIFIED, HANG_UP: "the connection is closed"}
NOT_WRITTEN = {3, 19}
"""Codes after which the batch is certainly not in the log."""
LASTING = {code: AGAIN[code] for code in (3, 6, 7, 19, 20, 56, -1, 9999, HANG_UP)}
"""Of each kind, some that are seen to last."""
REFUSALS = {
    2: "CORRUPT_MESSAGE",
    10: "MESSAGE_TOO_LARGE",
    18: "RECORD_LIST_TOO_LARGE",
    32: "INVALID_TIMESTAMP",
    44: "POLICY_VIOLATION",
    87: "INVALID_RECORD",
}
SIZES = {10, 18}
"""Those that say of one record alone that it is larger than its topic takes."""
FORBIDDEN = {
    17: ("INVALID_TOPIC_EXCEPTION", "topic_missing"),
    29: ("TOPIC_AUTHORIZATION_FAILED", "topic_forbidden"),
    31: ("CLUSTER_AUTHORIZATION_FAILED", "topic_forbidden"),
}
"""Code -> its name, and the problem that the topic has."""
IN_A_ROW = 3
BATCHES, SIZE = 10, 5
TOPIC = "t"
OTHER = "other"


@pytest.fixture
def broker() -> Iterator[MockBroker]:
    """A mock broker of the test's own."""
    with MockBroker() as mock:
        yield mock


def named(codes: dict[int, str]) -> list[object]:
    """Parameters with the names of errors as ids."""
    return [pytest.param(code, id=name) for code, name in codes.items()]


def submit(producer: KafkaProducer, topic: str = TOPIC) -> list[Receipt]:
    """Submit `BATCHES` batches of `SIZE` numbered records of one key, all at once."""
    return [
        producer.submit(
            topic,
            [b"%d" % number for number in range(first, first + SIZE)],
            timestamp_ms=TIME_MS,
            keys=[b"k"] * SIZE,
            deadline=deadline(),
        )
        for first in range(0, BATCHES * SIZE, SIZE)
    ]


def refusal(code: int) -> tuple[Status, str]:
    """What becomes of the one record of which that is said."""
    return TOO_LARGE if code in SIZES else REFUSED


async def all_acked(receipts: Sequence[Receipt]) -> bool:
    """Whether every record of all batches is acked in the end."""
    return all([(await receipt).acked for receipt in receipts])


def written(broker: MockBroker, topic: str = TOPIC) -> list[int]:
    """The numbers of the records of one partition, as they are there."""
    records = Kafka(broker).read(topic)
    assert len({record.partition for record in records}) <= 1
    return [int(record.value) for record in sorted(records, key=lambda each: each.offset)]


def without_repeats(numbers: Sequence[int]) -> list[int]:
    """The first copy of each."""
    return list(dict.fromkeys(numbers))


# Errors that are Kafka's trouble.


@pytest.mark.parametrize("times", [1, IN_A_ROW])
@pytest.mark.parametrize("code", named(AGAIN))
async def test_after_an_error_of_kafkas_every_record_is_written_once_and_in_order(
    broker: MockBroker, code: int, times: int
) -> None:
    """However often it comes, as it ends before the deadline; nothing is refused."""
    async with producing(broker.bootstrap_servers, TOPIC) as producer:
        broker.answer([code] * times)
        assert await all_acked(submit(producer))
        assert broker.answers_left == 0
        assert producer.problems == {}
    assert written(broker) == list(range(BATCHES * SIZE))


async def test_errors_of_all_kinds_between_successes_change_no_order(broker: MockBroker) -> None:
    """Every other request fails, each time in another way."""
    codes = random.Random(1).sample(sorted(AGAIN), len(AGAIN))
    async with producing(broker.bootstrap_servers, TOPIC) as producer:
        broker.answer([each for code in codes for each in (code, 0)])
        for number in range(len(codes)):
            receipt = await send(producer, TOPIC, b"%d" % number, keys=[b"k"])
            assert receipt.acked
        assert broker.answers_left == 0
    assert written(broker) == list(range(len(codes)))


async def test_an_answer_that_comes_too_late_may_leave_records_twice_but_in_order(
    broker: MockBroker,
) -> None:
    """The request was written, and nobody heard of it: it is sent again, whole."""
    async with producing(broker.bootstrap_servers, TOPIC) as producer:
        broker.answer([0], after_ms=3000)  # longer than `kafka.request_timeout_seconds` here
        assert await all_acked(submit(producer))
        assert broker.answers_left == 0
    numbers = written(broker)
    assert without_repeats(numbers) == list(range(BATCHES * SIZE))
    assert BATCHES * SIZE < len(numbers) <= 2 * BATCHES * SIZE


@pytest.mark.parametrize("code", named(LASTING))
async def test_an_error_that_lasts_is_told_at_the_deadline_as_exactly_as_it_is_known(
    broker: MockBroker, code: int
) -> None:
    """Never as refused: ``retry`` where the broker has said that it wrote nothing."""
    async with producing(broker.bootstrap_servers, TOPIC) as producer:
        broker.answer([code] * 20)
        receipt = await send(producer, TOPIC, b"0", keys=[b"k"], seconds=0.5)
        ((status, _),) = statuses(receipt, 1)
        assert broker.answers_left <= 20 - IN_A_ROW
        assert producer.problems == {}
    assert status is (Status.RETRY if code in NOT_WRITTEN else Status.UNKNOWN)
    assert written(broker) == []


@pytest.mark.parametrize("code", named({3: "UNKNOWN_TOPIC_OR_PARTITION", 29: "forbidden"}))
async def test_a_possible_write_is_not_forgotten_for_a_later_error(
    broker: MockBroker, code: int
) -> None:
    """What a first attempt may have left is ``unknown``, whatever is said of the next one."""
    async with producing(broker.bootstrap_servers, TOPIC) as producer:
        broker.answer([7])
        broker.answer([code] * 20)
        receipt = await send(producer, TOPIC, b"0", keys=[b"k"], seconds=0.5)
        assert broker.answers_left < 20
    assert [status for status, _ in statuses(receipt, 1)] == [Status.UNKNOWN]


# Refusals.


@pytest.mark.parametrize("code", named(REFUSALS))
async def test_a_record_that_is_refused_is_refused_alone(broker: MockBroker, code: int) -> None:
    """It is not tried again, and those behind it are written."""
    async with producing(broker.bootstrap_servers, TOPIC) as producer:
        broker.answer([code])
        first = send(producer, TOPIC, b"0", keys=[b"k"])
        assert statuses(await first, 1) == [refusal(code)]
        assert broker.answers_left == 0
        assert statuses(await send(producer, TOPIC, b"1", keys=[b"k"]), 1) == [OK]
        assert producer.problems == {}
    assert written(broker) == [1]


@pytest.mark.parametrize("code", named(REFUSALS))
async def test_of_a_batch_that_is_refused_the_innocent_are_written(
    broker: MockBroker, code: int
) -> None:
    """It is halved until the refusal is about one record; the order of the others stays."""
    async with producing(broker.bootstrap_servers, TOPIC) as producer:
        broker.answer([code] * 4)  # for 8, 4, 2 and 1 records
        receipt = await send(producer, TOPIC, *[b"%d" % n for n in range(8)], keys=[b"k"] * 8)
        assert broker.answers_left == 0
    assert statuses(receipt, 8) == [refusal(code)] + [OK] * 7
    assert written(broker) == list(range(1, 8))


# Topics that may not be used.


@pytest.mark.parametrize(
    ("code", "problem"),
    [pytest.param(code, problem, id=name) for code, (name, problem) in FORBIDDEN.items()],
)
async def test_what_is_said_of_a_topic_makes_that_topic_unavailable_for_a_while(
    broker: MockBroker, code: int, problem: str
) -> None:
    """Its records are ``retry``, another one's are written; soon it is tried again by itself."""
    async with producing(broker.bootstrap_servers, TOPIC, OTHER) as producer:
        broker.answer([code])
        assert await fate(producer, TOPIC, b"100") == UNAVAILABLE
        assert broker.answers_left == 0
        assert producer.problems == {TOPIC: problem}
        assert await fate(producer, OTHER) == OK
        await eventually(lambda: not producer.problems)
        await send_until(producer, TOPIC, ACKED)
    assert b"100" not in {record.value for record in Kafka(broker).read(TOPIC)}


async def test_what_has_no_deadline_outlasts_a_topic_that_may_not_be_used(
    broker: MockBroker,
) -> None:
    """It is written when it may, in the order of submission."""
    async with producing(broker.bootstrap_servers, TOPIC) as producer:
        broker.answer([29])
        receipts = [
            producer.submit(TOPIC, [b"%d" % n], timestamp_ms=TIME_MS, keys=[b"k"]) for n in range(5)
        ]
        await eventually(lambda: bool(producer.problems))
        assert broker.answers_left == 0
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await all_acked(receipts)
    assert written(broker) == list(range(5))


async def test_what_was_being_written_stays_before_what_was_queued(broker: MockBroker) -> None:
    """Also when the topic turns out to be forbidden in between."""
    async with producing(broker.bootstrap_servers, TOPIC) as producer:
        broker.answer([29], after_ms=300)
        receipts = [producer.submit(TOPIC, [b"0"], timestamp_ms=TIME_MS, keys=[b"k"])]
        await asyncio.sleep(0.1)
        for number in range(1, 4):
            value = b"%d" % number
            receipts.append(producer.submit(TOPIC, [value], timestamp_ms=TIME_MS, keys=[b"k"]))
        await eventually(lambda: bool(producer.problems))
        assert broker.answers_left == 0
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await all_acked(receipts)
    assert written(broker) == [0, 1, 2, 3]


@pytest.mark.parametrize("code", [10, 29], ids=["refused", "forbidden"])
async def test_what_expired_while_it_was_written_is_held_no_longer_than_that(
    broker: MockBroker, code: int
) -> None:
    """Its bytes are given back when the answer comes, whatever that is."""
    settled: list[bool] = []
    async with producing(broker.bootstrap_servers, TOPIC) as producer:
        broker.answer([code], after_ms=700)
        receipt = await producer.submit(
            TOPIC,
            [b"a", b"b"],
            timestamp_ms=TIME_MS,
            deadline=deadline(0.3),
            on_settled=lambda: settled.append(True),
        )
        assert statuses(receipt, 2) == [(Status.UNKNOWN, "ack_timeout")] * 2
        assert not settled
        await eventually(lambda: bool(settled))
        assert broker.answers_left == 0


# The end.


async def test_stopping_is_bounded_though_a_cancellation_was_swallowed(broker: MockBroker) -> None:
    """As aiokafka's ``close`` does when it comes while it waits for a task that it cancelled."""
    swallowed: list[BaseException] = []

    async def look_deafly() -> None:
        try:
            await asyncio.sleep(PATIENCE_SECONDS)
        except asyncio.CancelledError as cancelled:
            swallowed.append(cancelled)

    async with producing(broker.bootstrap_servers, TOPIC) as producer:
        producer._prepare = look_deafly  # type: ignore[method-assign]
        producer.in_trouble()
        await eventually(lambda: not producer._trouble.is_set())
        stopping = asyncio.ensure_future(producer.stop(1.0))
        done, _ = await asyncio.wait([stopping], timeout=5.0)
        for task in producer._tasks:
            task.cancel()  # else `producing` would wait for ever, too
        assert done
        assert len(swallowed) == 1
