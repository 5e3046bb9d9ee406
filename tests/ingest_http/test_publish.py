"""From a batch to the fate of each of its events: each has one, whatever Kafka does meanwhile."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from ingest import metrics
from ingest.dead_letter import DeadLetters
from ingest.envelope import CONTENT_TYPE, Received
from ingest.inflight import Budget
from ingest.settings import LimitSettings
from ingest.sources import Source, pointer_tokens
from ingest_http.description import Offer
from ingest_http.publish import SEAL_EVENTS, SERVICE, Publisher, Road, Ticket
from tests.memory_producer import MemoryProducer, MemoryTopic

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from ingest.receipt import Receipt
    from ingest_http.results import Results

TIME_MS = 1_795_435_200_000
RECEIVED = Received(b"2026-11-23T12:00:00.000000Z", TIME_MS, b"base")
NUMBERS = count()
OUTCOMES = ["acked", "spooled", "rejected", "failed", "dropped"]
MIXED = b'[{"n":0},1,{"id":"two","k":[]},{"id":"three"},{"pad":"%b"},{"k":"five"}]' % (b"x" * 3000)
"""Usable, no object, a bad key, usable, too large for its topic, usable."""


class Patient(MemoryProducer):
    """Its deadlines come when the test says so."""

    def __init__(self, topics: dict[str, MemoryTopic]) -> None:
        super().__init__(topics)
        self.receipts: list[Receipt] = []

    def submit(self, *args: Any, deadline: float | None = None, **options: Any) -> Receipt:
        """Take a batch as ever."""
        assert deadline is not None
        self.receipts.append(super().submit(*args, **options))
        return self.receipts[-1]

    def expire(self) -> None:
        """All deadlines have come."""
        for receipt in self.receipts:
            receipt.expire()


class Way:
    """A source, its topic and the dead letter topic in memory, with a Kafka for each of the two."""

    def __init__(
        self,
        *,
        key: str | None = None,
        dead_letters: bool = True,
        budget_bytes: int = 1 << 20,
        kafka: type[MemoryProducer] = MemoryProducer,
    ) -> None:
        self.topic, self.letters = MemoryTopic(), MemoryTopic()
        self.name = f"source-{next(NUMBERS)}"  # counters live as long as the process
        self.kafka = kafka({"orders": self.topic})
        self.letters_kafka = kafka({"rejected": self.letters})
        tokens = pointer_tokens(key) if key is not None else None
        offer = Offer(Source(self.name, "orders", "order", tokens), None, "enforce", ())
        self.road = Road(offer, LimitSettings())
        self.budget = Budget(budget_bytes)
        letters = DeadLetters(self.letters_kafka, "rejected") if dead_letters else None
        self.publisher = Publisher(self.kafka, letters)

    def publish(
        self, body: bytes, *, seconds: float = 20.0, full: bool = False
    ) -> Coroutine[Any, Any, Results]:
        """Take a JSON document to Kafka."""
        lease = self.budget.reserve(len(body))
        assert lease is not None
        deadline = asyncio.get_running_loop().time() + seconds
        ticket = Ticket("request-1", RECEIVED, deadline, lease, full)
        return self.publisher.publish(self.road, self.road.splitter.json(body), ticket)

    def outcomes(self) -> dict[str, int]:
        """Outcome -> the number of events that got it."""
        found = {
            outcome: self.counted("ingest_events", service=SERVICE, outcome=outcome)
            for outcome in OUTCOMES
        }
        return {outcome: number for outcome, number in found.items() if number}

    def received(self) -> int:
        """The number of events received."""
        return self.counted("ingest_events_received", service=SERVICE)

    def counted(self, name: str, **labels: str) -> int:
        """A counter of this source."""
        labels = {"source": self.name, **labels}
        return int(metrics.REGISTRY.get_sample_value(f"{name}_total", labels) or 0)

    async def settle(self) -> None:
        """Have both Kafkas answer everything."""
        for kafka in (self.kafka, self.letters_kafka):
            kafka.reachable.set()
            kafka.answering.set()
            await kafka.stop(5.0)

    def events(self) -> list[dict[str, Any]]:
        """What a reader of the topic finds."""
        return [json.loads(record.value) for record in self.topic.records]


@pytest.fixture
async def open_way() -> AsyncIterator[Callable[..., Way]]:
    """Opens ways; at rest, their books add up and nothing is held any more."""
    ways = []

    def opened(**options: Any) -> Way:
        ways.append(Way(**options))
        return ways[-1]

    yield opened
    for way in ways:
        await way.settle()
        assert way.budget.used_bytes == 0
        assert sum(way.outcomes().values()) == way.received()


async def until(condition: Callable[[], object]) -> None:
    """Let others go on until ``condition`` holds."""
    async with asyncio.timeout(10.0):
        while not condition():
            await asyncio.sleep(0)


async def rest() -> None:
    """Let others go on until nothing happens any more by itself."""
    for _ in range(50):
        await asyncio.sleep(0)


def listed(results: Results) -> list[tuple[int, str, str | None]]:
    """(index, status, code) of the events that the answer lists."""
    entries = results.members(full=True)["results"]
    return [(entry["index"], entry["status"], entry.get("code")) for entry in entries]


# All is well.


async def test_acked_events_are_in_the_topic_as_sent(open_way: Callable[..., Way]) -> None:
    """In their order, in their envelopes, with the header and the time of their request."""
    way = open_way()
    results = await way.publish(b'[{"n": 1},{"id":"own","n":2}]')
    assert (results.status, results.accepted, results.entries) == (200, 2, [])
    assert [record.headers for record in way.topic.records] == [[CONTENT_TYPE]] * 2
    assert [record.timestamp_ms for record in way.topic.records] == [TIME_MS] * 2
    assert [record.key for record in way.topic.records] == [None, None]
    assert way.topic.records[0].value.endswith(b',"id":"base-0","data":{"n": 1}}')
    assert [event["id"] for event in way.events()] == ["base-0", "own"]
    assert way.outcomes() == {"acked": 2}


async def test_an_empty_batch_is_done_at_once(open_way: Callable[..., Way]) -> None:
    """Nothing is received, and nothing is wrong with that, even without Kafka."""
    way = open_way()
    way.kafka.reachable.clear()
    results = await way.publish(b"[]")
    assert (results.status, results.accepted, way.received()) == (200, 0, 0)


async def test_keys_are_those_that_the_source_says(open_way: Callable[..., Way]) -> None:
    """Strings as text, numbers as their JSON; an event without one has none."""
    way = open_way(key="/k")
    keys = [b'"a\\u00e4"', b"1.50", b"true", b"null"]
    body = b",".join(b'{"n":%d,"k":%b}' % pair for pair in enumerate(keys))
    await way.publish(b'[%b,{"n":4}]' % body)
    found = {json.loads(record.value)["data"]["n"]: record.key for record in way.topic.records}
    assert found == {0: "aä".encode(), 1: b"1.50", 2: b"true", 3: None, 4: None}


async def test_everything_is_listed_with_its_place_where_that_is_wanted(
    open_way: Callable[..., Way],
) -> None:
    """Topic, partition and offset are those at which a reader finds the event; nothing is cut."""
    way = open_way(key="/k")
    body = json.dumps([{"k": str(n % 7), "n": n} for n in range(1500)] + [1]).encode()
    results = await way.publish(body, full=True)
    entries = results.members(full=True)["results"]
    assert [entry["index"] for entry in entries] == list(range(1501))
    places = {
        (record.partition, record.offset): json.loads(record.value) for record in way.topic.records
    }
    assert len({partition for partition, _ in places}) > 1
    for n, entry in enumerate(entries[:-1]):
        event = places[entry["partition"], entry["offset"]]
        assert (event["id"], event["data"]["n"]) == (entry["id"], n)
        assert (entry["status"], entry["topic"]) == ("ok", "orders")
    assert entries[-1]["status"] == "rejected"


# Rejects.


async def test_rejects_are_kept_and_the_others_written(open_way: Callable[..., Way]) -> None:
    """One bad event never spoils its batch; dead letters have the bytes that were sent."""
    way = open_way(key="/k")
    way.topic.max_message_bytes = 2000
    results = await way.publish(MIXED)
    assert listed(results) == [
        (1, "rejected", "not_an_object"),
        (2, "rejected", "bad_key"),
        (4, "rejected", "event_too_large"),
    ]
    assert (results.status, results.accepted, results.rejected, results.lost) == (200, 3, 3, 0)
    assert sorted(event["id"] for event in way.events()) == ["base-0", "base-5", "three"]
    sent = [b"1", b'{"id":"two","k":[]}', b'{"pad":"%b"}' % (b"x" * 3000)]
    assert sorted(record.value for record in way.letters.records) == sorted(sent)
    assert way.outcomes() == {"acked": 3, "rejected": 3}


async def test_a_reject_is_told_with_its_own_id_or_the_one_it_would_have_had(
    open_way: Callable[..., Way],
) -> None:
    """Made ids count the events of the request, rejects among them."""
    way = open_way(key="/k")
    way.topic.max_message_bytes = 2000
    body = (
        b'[1,{"id":"own","k":{}},{"id":7,"k":[]},{"id":[],"k":[]},{"p":"%b"},{"id":"big","p":"%b"}]'
    )
    results = await way.publish(body % (b"x" * 2000, b"y" * 2000))
    ids = [entry["id"] for entry in results.members(full=False)["results"]]
    assert ids == ["base-0", "own", "7", "base-3", "base-4", "big"]


async def test_what_kafka_refuses_is_kept_with_the_bytes_of_its_data(
    open_way: Callable[..., Way],
) -> None:
    """Not in its envelope; and its neighbours are written."""
    way = open_way(key="/k")
    way.topic.compacted = True
    results = await way.publish(b'[{"k":"a"},{ "id":"own", "odd":1e999 },{"k":"b"}]')
    assert listed(results) == [(1, "rejected", "refused_by_kafka")]
    assert (results.status, results.accepted) == (200, 2)
    (letter,) = way.letters.records
    headers = dict(letter.headers)
    assert letter.value == b'{ "id":"own", "odd":1e999 }'
    assert letter.timestamp_ms == TIME_MS
    assert headers["__connect.errors.stage"] == b"KAFKA_PRODUCE"
    assert headers["__connect.errors.topic"] == b"orders"
    assert headers["ingest.source"] == way.name.encode()
    assert headers["ingest.received"] == RECEIVED.time
    assert headers["ingest.request.id"] == b"request-1"


@pytest.mark.parametrize(
    ("body", "code", "detail"),
    [
        (b"[1]", "not_an_object", "an event is a JSON object"),
        (b'{"k":[]}', "bad_key", "an object or an array cannot be a record key"),
        (b"{}", "refused_by_kafka", "Kafka refused the record"),
        (b'{"k":"%b"}' % (b"s" * 3000), "event_too_large", "larger than its topic takes"),
    ],
)
async def test_each_reject_has_its_code_and_says_no_value(
    open_way: Callable[..., Way], body: bytes, code: str, detail: str
) -> None:
    """A code for programs, a sentence for people, and a counter for operators."""
    way = open_way(key="/k")
    way.topic.compacted, way.topic.max_message_bytes = True, 2000
    results = await way.publish(body)
    (entry,) = results.members(full=False)["results"]
    assert entry == {
        "index": 0,
        "id": "base-0",
        "status": "rejected",
        "code": code,
        "detail": detail,
    }
    assert results.status == 422
    assert way.counted("ingest_rejects", code=code) == 1


@pytest.mark.parametrize("off", [True, False])
@pytest.mark.parametrize(
    ("body", "status", "lost"),
    [(b'[{"k":"a"},1,{"k":[]},{}]', 207, 3), (b"[1,{}]", 422, 2), (b'[{"k":"a"}]', 200, 0)],
)
async def test_a_reject_that_nobody_keeps_is_told_as_such(
    open_way: Callable[..., Way], body: bytes, status: int, lost: int, *, off: bool
) -> None:
    """Dead letters are off, or their topic refuses them: no copy is anywhere."""
    way = open_way(key="/k", dead_letters=not off)
    way.topic.compacted = way.letters.compacted = True
    results = await way.publish(body)
    assert (results.status, results.rejected, results.lost) == (status, lost, lost)
    kept = [entry["kept"] for entry in results.members(full=False)["results"]]
    assert kept == [False] * lost
    assert way.counted("ingest_dead_letters_lost") == lost
    assert way.letters.records == []


@pytest.mark.parametrize("trouble", ["reachable", "answering"])
async def test_a_reject_that_cannot_be_kept_for_now_is_to_be_sent_again(
    open_way: Callable[..., Way], trouble: str
) -> None:
    """The dead letter topic is away: nothing disappears, and the others are written."""
    way = open_way(key="/k")
    way.topic.compacted = True
    getattr(way.letters_kafka, trouble).clear()
    results = await way.publish(b'[{"k":"a"},1,{"k":[]},{}]', seconds=0.2)
    again = "kafka_unavailable"
    assert listed(results) == [(1, "retry", again), (2, "retry", again), (3, "retry", again)]
    assert (results.status, results.accepted, results.rejected, results.retry) == (503, 1, 0, 3)
    assert way.outcomes() == {"acked": 1, "failed": 3}


# Kafka is away, or does not answer.


async def test_what_was_never_handed_over_is_to_be_sent_again(
    open_way: Callable[..., Way],
) -> None:
    """By the deadline, with its ids; and it is not in Kafka when that is back."""
    way = open_way()
    way.kafka.reachable.clear()
    results = await way.publish(b'[{"id":"a"},1,{}]', seconds=0.2)
    assert results.status == 503
    assert listed(results) == [
        (0, "retry", "kafka_unavailable"),
        (1, "rejected", "not_an_object"),
        (2, "retry", "kafka_unavailable"),
    ]
    assert [entry["id"] for entry in results.members(full=False)["results"]] == [
        "a",
        "base-1",
        "base-2",
    ]
    assert way.budget.used_bytes == 0
    await way.settle()
    assert way.events() == []
    assert way.outcomes() == {"failed": 2, "rejected": 1}


async def test_the_budget_is_given_back_when_kafka_has_answered_and_not_before(
    open_way: Callable[..., Way],
) -> None:
    """An answer ``unknown`` frees no memory: the records are still with the Kafka client."""
    way = open_way()
    way.kafka.answering.clear()
    results = await way.publish(b'[{"id":"a"},{}]', seconds=0.2)
    assert (results.status, results.unknown) == (504, 2)
    assert listed(results) == [(0, "unknown", "ack_timeout"), (1, "unknown", "ack_timeout")]
    assert way.budget.used_bytes == 2 * sum(len(record.value) for record in way.topic.records)
    await way.settle()
    assert way.budget.used_bytes == 0
    assert way.outcomes() == {"failed": 2}, "an outcome is never changed"


async def test_the_budget_is_held_for_dead_letters_too(open_way: Callable[..., Way]) -> None:
    """It is given back when the last of all receipts has settled."""
    way = open_way(budget_bytes=40)
    way.letters_kafka.answering.clear()
    results = await way.publish(b'[{},"a long reject"]', seconds=0.2)
    assert results.retry == 1
    (record,) = way.topic.records
    held = 2 * (len(record.value) + len(b'"a long reject"'))
    assert way.budget.used_bytes == held > way.budget.limit_bytes
    await way.settle()
    assert way.budget.used_bytes == 0


async def test_the_budget_is_held_while_kafka_is_waited_for(open_way: Callable[..., Way]) -> None:
    """It is priced at twice the sealed bytes, and freed with the answer at the latest ack."""
    way = open_way()
    way.kafka.answering.clear()
    task = asyncio.create_task(way.publish(b'{"n":1}'))
    await until(lambda: way.topic.records)
    assert way.budget.used_bytes == 2 * len(way.topic.records[0].value)
    way.kafka.answering.set()
    assert (await task).status == 200
    assert way.budget.used_bytes == 0


# Kafka is away, and there is a spool.


def spool(*kafkas: MemoryProducer) -> None:
    """Have everything go to the spool."""
    for kafka in kafkas:
        kafka.spool, kafka.spooling = [], True


async def test_what_is_only_in_the_spool_is_accepted_and_told_as_spooled(
    open_way: Callable[..., Way],
) -> None:
    """With its id, and nothing of a place in Kafka; it is not counted as acked."""
    way = open_way()
    spool(way.kafka)
    results = await way.publish(b'[{"id":"a"},{}]')
    assert (results.status, results.accepted, results.spooled) == (202, 2, 2)
    assert results.members(full=False)["results"] == [
        {"index": 0, "id": "a", "status": "spooled"},
        {"index": 1, "id": "base-1", "status": "spooled"},
    ]
    assert way.kafka.spool is not None
    values = [json.loads(value) for topic, value in way.kafka.spool if topic == "orders"]
    assert [value["id"] for value in values] == ["a", "base-1"]
    assert way.outcomes() == {"spooled": 2}
    assert way.budget.used_bytes == 0


async def test_nothing_is_told_before_it_is_durable(open_way: Callable[..., Way]) -> None:
    """The answer waits for the spool, and memory is held until then."""
    way = open_way()
    spool(way.kafka)
    way.kafka.synced.clear()
    task = asyncio.create_task(way.publish(b"{}"))
    await rest()
    assert (task.done(), way.outcomes()) == (False, {})
    assert way.budget.used_bytes > 0
    way.kafka.synced.set()
    assert (await task).status == 202


async def test_a_reject_whose_copy_is_only_in_the_spool_is_kept(
    open_way: Callable[..., Way],
) -> None:
    """It counts as rejected; the answer says that not everything is in Kafka yet."""
    way = open_way(key="/k")
    way.topic.compacted = True
    spool(way.letters_kafka)
    results = await way.publish(b'[{"k":"a"},1,{}]')
    assert listed(results) == [
        (1, "rejected", "not_an_object"),
        (2, "rejected", "refused_by_kafka"),
    ]
    assert not any("kept" in entry for _, entry in results.entries)
    assert (results.status, results.accepted, results.spooled) == (202, 1, 0)
    assert (results.rejected, results.lost, way.letters.records) == (2, 0, [])
    assert way.outcomes() == {"acked": 1, "rejected": 2}
    assert way.counted("ingest_dead_letters_lost") == 0


async def test_a_full_list_has_a_place_only_for_what_is_in_kafka(
    open_way: Callable[..., Way],
) -> None:
    """What is spooled has its topic; partition and offset are not known yet."""
    way = open_way()
    spool(way.kafka)
    results = await way.publish(json.dumps([{}] * 1500).encode(), full=True)
    members = results.members(full=True)
    assert [entry["index"] for entry in members["results"]] == list(range(1500))
    assert all(entry.keys() == {"index", "id", "status", "topic"} for entry in members["results"])
    assert "truncated" not in members


async def test_of_many_spooled_events_as_many_are_listed_as_of_others(
    open_way: Callable[..., Way],
) -> None:
    """The first ones; counts are exact all the same."""
    way = open_way()
    spool(way.kafka)
    results = await way.publish(json.dumps([1, *[{}] * 2500]).encode())
    members = results.members(full=False)
    assert (members["accepted"], members["spooled"], members["rejected"]) == (2500, 2500, 1)
    assert [entry["index"] for entry in members["results"]] == list(range(1000))
    assert members["truncated"] is True
    assert len(results.entries) <= 1001, "more are not even looked at"


# Cancelled: the client or the process is gone.


async def cancelled(task: asyncio.Task[Results]) -> None:
    """Cancel it, and have it gone."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_a_request_cancelled_while_it_waits_has_failed(open_way: Callable[..., Way]) -> None:
    """Every event has its outcome at once; the bytes are held until Kafka has answered."""
    way = open_way()
    way.kafka.answering.clear()
    task = asyncio.create_task(way.publish(b"[{},{},1]"))
    await until(lambda: way.topic.records)
    await cancelled(task)
    assert way.outcomes() == {"failed": 3}
    assert way.budget.used_bytes > 0
    await way.settle()
    assert way.outcomes() == {"failed": 3}


async def test_a_request_cancelled_while_it_waits_for_dead_letters_keeps_its_acks(
    open_way: Callable[..., Way],
) -> None:
    """What is known by then counts, the rest has failed."""
    way = open_way(key="/k")
    way.topic.compacted = True
    way.letters_kafka.answering.clear()
    task = asyncio.create_task(way.publish(b'[{"k":"a"},{},1]'))
    await until(lambda: len(way.letters.records) == 1)
    await rest()
    await cancelled(task)
    assert way.outcomes() == {"acked": 1, "failed": 2}


async def test_a_request_cancelled_while_it_is_sealed_writes_nothing(
    open_way: Callable[..., Way],
) -> None:
    """Nothing was handed over, so nothing is held."""
    way = open_way()
    task = asyncio.create_task(way.publish(b"[%b]" % b",".join([b"{}"] * 3000)))
    await asyncio.sleep(0)
    await cancelled(task)
    assert way.outcomes() == {"failed": 3000}
    assert way.budget.used_bytes == 0
    await way.settle()
    assert way.events() == []


# Large batches.


@pytest.mark.parametrize("size", [SEAL_EVENTS - 1, SEAL_EVENTS, SEAL_EVENTS + 1, 2500])
async def test_a_large_batch_is_as_a_small_one(open_way: Callable[..., Way], size: int) -> None:
    """Sealed in parts, every event has its own envelope, id and place."""
    way = open_way()
    body = [1] + [{"n": n} for n in range(1, size + 1)]
    results = await way.publish(json.dumps(body).encode())
    assert (results.accepted, results.rejected) == (size, 1)
    found = [(event["id"], event["data"]) for event in way.events()]
    assert found == [(f"base-{n}", {"n": n}) for n in range(1, size + 1)]


async def test_others_get_their_turn_while_a_large_batch_is_sealed(
    open_way: Callable[..., Way],
) -> None:
    """After every thousand events."""
    way, turns = open_way(), 0
    task = asyncio.create_task(way.publish(b"[%b]" % b",".join([b"{}"] * 9500)))
    while not way.topic.records:
        await asyncio.sleep(0)
        turns += 1
    assert turns >= 10
    assert (await task).accepted == 9500


# Whatever happens at once.

KAFKAS = ["well", "away", "silent", "refusing", "spooling"]


def spoil(kafka: MemoryProducer, topic: MemoryTopic, how: str) -> None:
    """Bring a Kafka and its only topic into one of `KAFKAS`."""
    if how == "away":
        kafka.reachable.clear()
    elif how == "silent":
        kafka.answering.clear()
    topic.compacted = how == "refusing"
    if how == "spooling":
        spool(kafka)


async def at_its_deadlines(way: Way, work: Coroutine[Any, Any, Results]) -> Results:
    """What comes of ``work`` when deadlines come as soon as nothing else happens any more."""
    task = asyncio.create_task(work)
    async with asyncio.timeout(10.0):
        while not task.done():
            await rest()
            for kafka in (way.kafka, way.letters_kafka):
                kafka.expire()
    return await task


FATES = {"well": "ok", "away": "retry", "silent": "unknown", "spooling": "spooled"}
LETTERS = {"well": "rejected", "away": "retry", "silent": "retry"}


@pytest.mark.parametrize("kafka", KAFKAS)
@pytest.mark.parametrize("letters", [*KAFKAS, "off"])
@pytest.mark.parametrize("full", [True, False])
async def test_every_event_has_the_fate_that_it_must_have(
    open_way: Callable[..., Way], kafka: str, letters: str, *, full: bool
) -> None:
    """In every combination of troubles each event has one fate, and they are told in order."""
    way = open_way(key="/k", dead_letters=letters != "off", kafka=Patient)
    spoil(way.kafka, way.topic, kafka)
    spoil(way.letters_kafka, way.letters, letters)
    body = b'[{"k":"a"},1,{},{"k":[]},{"k":"b"}]'
    results = await at_its_deadlines(way, way.publish(body, full=full))
    usable, reject = FATES.get(kafka, "ok"), LETTERS.get(letters, "rejected")
    keyless = reject if kafka == "refusing" else usable
    fates = [usable, reject, keyless, reject, usable]
    told = [(index, status) for index, status, _ in listed(results)]
    assert told == [(i, fate) for i, fate in enumerate(fates) if full or fate != "ok"]
    acked, spooled = results.accepted - results.spooled, results.spooled
    counts = [acked, spooled, results.rejected, results.retry, results.unknown]
    assert counts == [
        fates.count(fate) for fate in ("ok", "spooled", "rejected", "retry", "unknown")
    ]
    assert results.letters_spooled == (counts[2] if letters == "spooling" else 0)
    lost = letters in {"refusing", "off"}
    assert results.lost == (fates.count("rejected") if lost else 0)
    failed = results.retry + results.unknown
    outcomes = {"acked": acked, "spooled": spooled, "rejected": results.rejected, "failed": failed}
    assert way.outcomes() == {outcome: n for outcome, n in outcomes.items() if n}
