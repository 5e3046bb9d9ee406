"""Dead letters: the original bytes, why they are there, and always within what the topic takes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

import pytest

from ingest.accumulator import header_bytes
from ingest.dead_letter import DeadLetters, common_headers
from ingest.receipt import Receipt, Status
from tests.memory_producer import MemoryProducer, MemoryTopic, Record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ingest.producer import Header

TIME_MS = 1_795_435_200_000
COMMON = common_headers("orders-topic", "orders", b"2026-11-23T12:00:00.000000Z", "request-1")


class Reject(NamedTuple):
    """What a front door knows of an event that it rejects."""

    code: str
    detail: str
    event: bytes
    original_bytes: int | None = None


PLAIN = Reject("not_an_object", "an event is a JSON object", b"1")


class Cemetery:
    """A dead letter topic in memory that takes records of so many bytes."""

    def __init__(self, max_message_bytes: int = 1_048_588) -> None:
        self.topic = MemoryTopic(max_message_bytes=max_message_bytes)
        self.producer = MemoryProducer({"rejected": self.topic})
        self.settled = 0

    def submit(self, rejects: Sequence[Reject], seconds: float | None = 20.0) -> Receipt:
        """Write ``rejects``."""
        now = asyncio.get_running_loop().time()
        return DeadLetters(self.producer, "rejected").submit(
            rejects,
            COMMON,
            timestamp_ms=TIME_MS,
            deadline=None if seconds is None else now + seconds,
            on_settled=self._settle,
        )

    async def bury(self, rejects: Sequence[Reject], seconds: float | None = 20.0) -> Receipt:
        """Write ``rejects``, and wait until their receipt is answered."""
        return await self.submit(rejects, seconds)

    def _settle(self) -> None:
        self.settled += 1

    async def letter(self, event: bytes, original_bytes: int | None = None) -> Record:
        """The dead letter of ``event``, which must have been taken."""
        receipt = await self.bury([PLAIN._replace(event=event, original_bytes=original_bytes)])
        assert receipt.acked
        (record,) = self.topic.records
        return record


def room_for(limit: int, headers: Sequence[Header]) -> int:
    """The bytes of value that fit a record beside ``headers``."""
    return limit - header_bytes(headers)


async def test_a_letter_says_what_happened_and_to_what() -> None:
    """Its headers are those of Kafka Connect, so that the same tools read both."""
    cemetery = Cemetery()
    event = b'{"a":"\xff\x00'
    await cemetery.bury([Reject("invalid_json", "not UTF-8 at byte 6", event)])
    (record,) = cemetery.topic.records
    assert (record.key, record.value, record.timestamp_ms) == (None, event, TIME_MS)
    assert dict(record.headers) == {
        "__connect.errors.topic": b"orders-topic",
        "__connect.errors.stage": b"VALUE_CONVERTER",
        "__connect.errors.exception.class.name": b"invalid_json",
        "__connect.errors.exception.message": b"not UTF-8 at byte 6",
        "ingest.source": b"orders",
        "ingest.received": b"2026-11-23T12:00:00.000000Z",
        "ingest.request.id": b"request-1",
    }


@pytest.mark.parametrize(
    ("code", "stage"),
    [
        ("invalid_json", b"VALUE_CONVERTER"),
        ("not_an_object", b"VALUE_CONVERTER"),
        ("event_too_large", b"VALUE_CONVERTER"),
        ("schema_mismatch", b"VALUE_CONVERTER"),
        ("bad_key", b"VALUE_CONVERTER"),
        ("refused_by_kafka", b"KAFKA_PRODUCE"),
    ],
)
async def test_the_stage_is_one_of_connects(code: str, stage: bytes) -> None:
    """What cannot be read, or what cannot be written."""
    cemetery = Cemetery()
    await cemetery.bury([Reject(code, "", b"{}")])
    headers = dict(cemetery.topic.records[0].headers)
    assert headers["__connect.errors.stage"] == stage
    assert headers["__connect.errors.exception.class.name"] == code.encode()


async def test_each_letter_has_its_own_reason() -> None:
    """They share only what their request has in common, and keep their order."""
    cemetery = Cemetery()
    codes = ["bad_key", "invalid_json", "not_an_object"]
    rejects = [Reject(codes[i], f"detail {i}", b"%d" % i) for i in range(3)]
    assert (await cemetery.bury(rejects)).acked
    assert [record.value for record in cemetery.topic.records] == [b"0", b"1", b"2"]
    headers = [dict(record.headers) for record in cemetery.topic.records]
    names = [each["__connect.errors.exception.class.name"] for each in headers]
    messages = [each["__connect.errors.exception.message"] for each in headers]
    assert names == [code.encode() for code in codes]
    assert messages == [b"detail 0", b"detail 1", b"detail 2"]
    assert {len(record.headers) for record in cemetery.topic.records} == {len(COMMON) + 3}


@pytest.mark.parametrize("max_message_bytes", [1200, 10_000])
async def test_what_just_fits_is_kept_whole(max_message_bytes: int) -> None:
    """To the last byte that the topic takes."""
    headers = (await Cemetery().letter(b"1")).headers
    cemetery = Cemetery(max_message_bytes)
    limit = cemetery.producer.value_limit("rejected")
    event = b"x" * room_for(limit, headers)
    record = await cemetery.letter(event)
    assert (record.value, record.headers) == (event, headers)


@pytest.mark.parametrize("more", [1, 50, 100, 150, 200, 100_000])
async def test_what_does_not_fit_is_cut_and_taken(more: int) -> None:
    """As much of it as the topic takes, with the length that it had."""
    headers = (await Cemetery().letter(b"1")).headers
    cemetery = Cemetery(10_000)
    limit = cemetery.producer.value_limit("rejected")
    size = room_for(limit, headers) + more
    event = bytes(i % 251 for i in range(size))
    record = await cemetery.letter(event)
    assert record.headers == [
        *headers,
        ("ingest.truncated", b"true"),
        ("ingest.original_bytes", b"%d" % size),
    ]
    assert record.value == event[: room_for(limit, record.headers)]


@pytest.mark.parametrize("more", [0, 1, 100_000])
async def test_what_was_cut_before_tells_its_first_length(more: int) -> None:
    """Also where the topic takes all that is left of it."""
    headers = [
        *(await Cemetery().letter(b"1")).headers,
        ("ingest.truncated", b"true"),
        ("ingest.original_bytes", b"123456"),
    ]
    cemetery = Cemetery(10_000)
    room = room_for(cemetery.producer.value_limit("rejected"), headers)
    event = bytes(i % 251 for i in range(room + more))
    record = await cemetery.letter(event, 123_456)
    assert (record.value, record.headers) == (event[:room], headers)


def test_without_a_request_there_is_no_id_of_it() -> None:
    """As of events that come on a stream."""
    headers = common_headers("logs-topic", "logs", b"2026-11-23T12:00:00.000000Z")
    names = [name for name, _ in headers]
    assert names == ["__connect.errors.topic", "ingest.source", "ingest.received"]


async def test_a_topic_too_small_for_the_headers_refuses_the_letter() -> None:
    """Nothing of the event is written then, and nothing breaks."""
    cemetery = Cemetery(300)
    receipt = await cemetery.bury([Reject("bad_key", "", b"x" * 1000)])
    assert [run.status for run in receipt.runs] == [Status.REFUSED]
    assert [bytes(value) for run in receipt.runs for value in run.values] == [b""]


async def test_what_cannot_be_written_for_now_is_told_at_the_deadline() -> None:
    """The bytes are given up then, and whoever counts them is told."""
    cemetery = Cemetery()
    cemetery.producer.reachable.clear()
    receipt = await cemetery.bury([PLAIN], seconds=0.01)
    assert [run.status for run in receipt.runs] == [Status.RETRY]
    assert cemetery.settled == 1
    cemetery.producer.reachable.set()
    await cemetery.producer.stop(5.0)
    assert cemetery.topic.records == []


async def test_without_a_deadline_it_is_waited_for_kafka() -> None:
    """However long it is away."""
    cemetery = Cemetery()
    cemetery.producer.reachable.clear()
    receipt = cemetery.submit([PLAIN], seconds=None)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(receipt), 0.05)
    assert cemetery.settled == 0
    cemetery.producer.reachable.set()
    assert (await receipt).acked
    assert cemetery.settled == 1


async def test_bytes_are_held_until_kafka_has_answered() -> None:
    """Also beyond the deadline: a letter that is on its way cannot be called back."""
    cemetery = Cemetery()
    cemetery.producer.answering.clear()
    receipt = await cemetery.bury([PLAIN], seconds=0.2)
    assert [run.status for run in receipt.runs] == [Status.UNKNOWN]
    assert cemetery.settled == 0
    cemetery.producer.answering.set()
    await cemetery.producer.stop(5.0)
    assert cemetery.settled == 1
