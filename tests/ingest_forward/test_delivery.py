"""A batch is done when all that routes made of it is where it belongs, and never before."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from ingest.inflight import Budget
from ingest.metrics import REGISTRY
from ingest_forward.delivery import Delivery, Parcel
from ingest_forward.event import Reading
from ingest_forward.letters import Letters
from ingest_forward.progress import Progress
from ingest_forward.shape import shape
from tests.ingest_forward.engine import route, sealed
from tests.ingest_forward.polled import values
from tests.memory_producer import MemoryProducer, MemoryTopic

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingest_forward.batch import Batch
    from ingest_forward.route import Route

LETTERS = "letters"
POISON = sealed(b'{"n":"x"}')
SETTLE_SECONDS = 5.0


def number(count: int) -> bytes:
    """A record value with a number."""
    return sealed(b'{"n":%d}' % count)


def cast(name: str = "r", **settings: Any) -> Route:
    """A route that rejects what is no number."""
    return route(name=name, steps=[{"cast": {"/n": "int64"}}], **settings)


class Desk:
    """A delivery, and what is known of the partition whose batches it sends.

    Attributes:
        topics: in memory; two for outputs and one for letters.
        stops: what reading was told not to go past: (offset, route, code).
        back: the parcels that reading was told to read again.
        parcels: those that are under way.
    """

    def __init__(self, *, letters: bool = True) -> None:
        self.topics = {name: MemoryTopic(partitions=1) for name in ("out", "out2", LETTERS)}
        self.producer = MemoryProducer(self.topics)
        self.progress = Progress(10)
        self.budget = Budget(1 << 20)
        self.stops: list[tuple[int, str, str]] = []
        self.back: list[Parcel] = []
        self.parcels: set[Parcel] = set()
        writer = Letters(self.producer, LETTERS) if letters else None
        self._delivery = Delivery(self.producer, writer, self._stop, self.back.append)
        self._before = _counts()

    def _stop(self, parcel: Parcel, position: int, route_name: str, code: str) -> None:
        self.stops.append((parcel.batch.offsets[position], route_name, code))

    def send(self, batch: Batch, *routes: Route) -> Parcel:
        """Send what the routes make of a batch."""
        lease = self.budget.book(batch.size, self.budget.holder("p"))
        parcel = Parcel(batch, self.progress, lease, self.parcels)
        for each in shape(routes, batch, Reading(opens=True)):
            self._delivery.send(parcel, each)
        parcel.let_go()
        return parcel

    def written(self, topic: str) -> list[bytes]:
        """The values that are in a topic."""
        return [each.value for each in self.topics[topic].records]

    def counted(self, route_name: str = "r") -> dict[str, int]:
        """By outcome or code: how many records of a route had it."""
        found = {
            name: int(count - self._before.get((of, name), 0))
            for (of, name), count in _counts().items()
            if of == route_name
        }
        return {name: count for name, count in found.items() if count}

    async def until_at_rest(self) -> None:
        """Wait until the memory is given back."""
        async with asyncio.timeout(SETTLE_SECONDS):
            while self.budget.used_bytes:
                await asyncio.sleep(0)

    async def turns(self) -> None:
        """Let everything happen that can."""
        for _ in range(20):
            await asyncio.sleep(0)


def _counts() -> dict[tuple[str, str], float]:
    return dict(_samples())


def _samples() -> Iterator[tuple[tuple[str, str], float]]:
    for family in REGISTRY.collect():
        for sample in family.samples:
            labels = sample.labels
            if sample.name == "ingest_forward_events_total":
                yield (labels["route"], labels["outcome"]), sample.value
            elif sample.name == "ingest_forward_rejects_total":
                yield (labels["route"], labels["code"]), sample.value


@pytest.fixture
async def desk() -> Desk:
    """A delivery with a dead letter topic."""
    return Desk()


async def test_a_batch_is_done_when_all_of_it_is_acked(desk: Desk) -> None:
    """And its memory is given back then."""
    desk.producer.answering.clear()
    desk.send(values(number(1), number(2)), cast())
    await desk.turns()
    assert desk.written("out") == [b'{"n":1}', b'{"n":2}']
    assert (desk.progress.to_commit, desk.counted()) == (None, {})
    assert (desk.budget.used_bytes > 0, len(desk.parcels)) == (True, 1)
    desk.producer.answering.set()
    await desk.until_at_rest()
    assert (desk.progress.to_commit, desk.counted()) == (12, {"acked": 2})
    assert not desk.parcels


async def test_what_is_written_has_key_time_headers_and_place(desk: Desk) -> None:
    """Those of its own record, though others of the batch are left out."""
    where = {"where": {"field": "/n", "above": 1}}
    desk.send(values(number(1), number(2), POISON, number(3)), cast(**where))
    await desk.until_at_rest()
    found = desk.topics["out"].records
    assert [(each.key, each.timestamp_ms) for each in found] == [(b"k", 11), (b"k", 13)]
    assert [dict(each.headers) for each in found] == [
        {
            "content-type": b"application/json",
            "ingest.from.topic": b"orders",
            "ingest.from.partition": b"3",
            "ingest.from.offset": b"%d" % offset,
        }
        for offset in (11, 13)
    ]
    assert desk.counted() == {"acked": 2, "skipped": 2}


async def test_a_batch_of_which_nothing_is_made_is_done_at_once(desk: Desk) -> None:
    """Also one that no route takes any more."""
    desk.send(values(number(1)), cast(where={"key": "other"}))
    assert (desk.progress.to_commit, desk.counted()) == (11, {"skipped": 1})
    desk.send(values(number(1), number(2)))
    assert (desk.progress.to_commit, desk.budget.used_bytes) == (12, 0)


async def test_a_batch_waits_for_every_route(desk: Desk) -> None:
    """The slowest counts."""
    desk.producer.reachable.clear()
    desk.send(values(number(1)), cast("one"), cast("two", to="out2"))
    await desk.turns()
    assert desk.progress.to_commit is None
    desk.producer.reachable.set()
    await desk.until_at_rest()
    assert desk.progress.to_commit == 11
    assert (desk.counted("one"), desk.counted("two")) == ({"acked": 1}, {"acked": 1})


async def test_a_batch_waits_for_its_dead_letters(desk: Desk) -> None:
    """They are counted when they are there, by outcome and code."""
    desk.producer.answering.clear()
    desk.send(values(POISON, b"{"), cast())
    await desk.turns()
    assert desk.written(LETTERS) == [POISON, b"{"]
    assert (desk.progress.to_commit, desk.counted()) == (None, {})
    desk.producer.answering.set()
    await desk.until_at_rest()
    assert desk.progress.to_commit == 12
    assert desk.counted() == {"rejected": 2, "cast_failed": 1, "invalid_json": 1}


async def test_what_kafka_refuses_becomes_a_dead_letter(desk: Desk) -> None:
    """With the record as it was read, and its own place; the others of its batch are written."""
    desk.topics["out"].refuses = frozenset({b'{"n":2}'})
    desk.send(values(POISON, number(1), number(2), number(3)), cast())
    await desk.until_at_rest()
    assert desk.written("out") == [b'{"n":1}', b'{"n":3}']
    assert sorted(desk.written(LETTERS)) == sorted([POISON, number(2)])
    (letter,) = [each for each in desk.topics[LETTERS].records if each.value == number(2)]
    assert dict(letter.headers)["ingest.from.offset"] == b"12"
    assert dict(letter.headers)["__connect.errors.exception.class.name"] == b"refused_by_kafka"
    assert desk.counted() == {"acked": 2, "rejected": 2, "cast_failed": 1, "refused_by_kafka": 1}
    assert (desk.progress.to_commit, desk.stops) == (14, [])


async def test_a_batch_is_not_done_before_the_letters_of_what_kafka_refused(desk: Desk) -> None:
    """Though all outputs have their answer."""
    desk.topics["out"].refuses = frozenset({b'{"n":1}'})
    desk.producer.answering.clear()
    desk.send(values(number(1)), cast())
    await desk.turns()
    assert (desk.written(LETTERS), desk.progress.to_commit) == ([number(1)], None)
    assert desk.budget.used_bytes > 0
    desk.producer.answering.set()
    await desk.until_at_rest()
    assert desk.progress.to_commit == 11


@pytest.mark.parametrize("value", [number(1), POISON])
async def test_what_is_to_be_tried_again_leaves_its_batch_open(desk: Desk, value: bytes) -> None:
    """Be it an output or a letter: reading is told to read it again; nothing is counted."""
    await desk.producer.stop(0)
    parcel = desk.send(values(value), cast())
    await desk.until_at_rest()
    assert parcel.stopped
    assert desk.back == [parcel]
    assert desk.progress.to_commit is None
    assert (desk.counted(), desk.stops) == ({}, [])


async def test_what_is_withdrawn_is_not_written(desk: Desk) -> None:
    """Neither outputs nor letters that still wait; reading is told, and memory is given back."""
    desk.producer.reachable.clear()
    parcel = desk.send(values(number(1), POISON), cast())
    parcel.withdraw()
    assert (desk.budget.used_bytes, desk.parcels) == (0, set())
    assert desk.back == [parcel] * 2
    desk.producer.reachable.set()
    await desk.turns()
    assert (desk.written("out"), desk.written(LETTERS)) == ([], [])
    assert (desk.progress.to_commit, desk.counted()) == (None, {})


async def test_of_what_is_withdrawn_no_letters_are_written(desk: Desk) -> None:
    """What Kafka has refused of it by then is read, and refused, again: once is enough."""
    desk.topics["out"].refuses = frozenset({b'{"n":1}'})
    desk.producer.answering.clear()
    parcel = desk.send(values(number(1), number(2)), cast())
    await desk.turns()
    parcel.withdraw()
    desk.producer.answering.set()
    await desk.until_at_rest()
    assert desk.written("out") == [b'{"n":2}']
    assert (desk.written(LETTERS), desk.progress.to_commit) == ([], None)


async def test_a_batch_knows_what_topics_it_waits_for(desk: Desk) -> None:
    """Those of outputs and letters that are not there yet."""
    desk.producer.answering.clear()
    parcel = desk.send(values(number(1), POISON), cast())
    await desk.turns()
    assert parcel.waits_beyond({"out"})
    assert parcel.waits_beyond({LETTERS})
    assert not parcel.waits_beyond({"out", LETTERS})
    desk.producer.answering.set()
    await desk.until_at_rest()
    assert not parcel.waits_beyond(())


async def test_nothing_behind_a_batch_that_is_open_is_done(desk: Desk) -> None:
    """Though it is written and counted."""
    desk.topics["out"].problem = "gone"
    desk.send(values(number(1)), cast())
    desk.topics["out"].problem = ""
    later = values(number(1), number(2))
    later.offsets = [11, 12]
    desk.send(later, cast())
    await desk.until_at_rest()
    assert desk.counted() == {"acked": 2}
    assert desk.progress.to_commit is None


async def test_a_route_that_stops_writes_no_letter(desk: Desk) -> None:
    """Reading is told where, and the batch is never done; what is refused by Kafka is the same."""
    parcel = desk.send(values(number(1), POISON, b"{"), cast(on_error="stop"))
    await desk.until_at_rest()
    assert desk.stops == [(11, "r", "cast_failed")]
    assert parcel.stopped
    assert (desk.progress.to_commit, desk.written(LETTERS)) == (None, [])
    desk.topics["out"].refuses = frozenset({b'{"n":7}', b'{"n":8}'})
    desk.send(values(number(6), number(7), number(8)), cast(on_error="stop"))
    await desk.until_at_rest()
    assert desk.stops[1:] == [(11, "r", "refused_by_kafka")]
    assert (desk.progress.to_commit, desk.written(LETTERS)) == (None, [])
    assert desk.counted() == {"acked": 2}


async def test_the_routes_beside_one_that_stops_write_their_letters(desk: Desk) -> None:
    """But the batch is not done."""
    desk.send(values(POISON), cast("stops", on_error="stop"), cast("goes-on"))
    await desk.until_at_rest()
    assert desk.stops == [(10, "stops", "cast_failed")]
    assert desk.counted("goes-on") == {"rejected": 1, "cast_failed": 1}
    assert desk.progress.to_commit is None


async def test_without_letters_every_route_stops() -> None:
    """Nothing is skipped silently."""
    desk = Desk(letters=False)
    desk.send(values(number(1), POISON), cast())
    await desk.until_at_rest()
    assert desk.stops == [(11, "r", "cast_failed")]
    assert (desk.progress.to_commit, desk.counted()) == (None, {"acked": 1})


async def test_a_letter_that_is_refused_stops_the_route(desk: Desk) -> None:
    """At its record: it would be lost otherwise; the letters beside it are counted."""
    desk.topics[LETTERS].refuses = frozenset({POISON})
    desk.send(values(b"{", POISON), cast())
    await desk.until_at_rest()
    assert desk.stops == [(11, "r", "dead_letter_refused")]
    assert desk.progress.to_commit is None
    assert desk.counted() == {"rejected": 1, "invalid_json": 1}


async def test_a_letter_is_cut_until_its_topic_takes_it(desk: Desk) -> None:
    """What is known of the topic's limit may be old; letters that were taken are not repeated."""
    topic = desk.topics[LETTERS]
    topic.known_bytes, topic.max_message_bytes = 1_000_000, 30_000
    desk.send(values(b"{" * 100_000, b"{"), cast())
    await desk.until_at_rest()
    small, cut = desk.written(LETTERS)
    assert small == b"{"
    assert 10_000 < len(cut) < 30_000
    assert dict(topic.records[1].headers)["ingest.original_bytes"] == b"100000"
    assert desk.counted() == {"rejected": 2, "invalid_json": 2}
    assert (desk.progress.to_commit, desk.stops) == (12, [])


async def test_a_letter_is_cut_to_what_is_known_by_then(desk: Desk) -> None:
    """Not to half of it, where its topic's limit was read again in the meantime."""
    topic = desk.topics[LETTERS]
    topic.known_bytes, topic.max_message_bytes = 1_000_000, 90_000
    desk.producer.reachable.clear()
    desk.send(values(b"{" * 100_000), cast())
    topic.known_bytes = None
    desk.producer.reachable.set()
    await desk.until_at_rest()
    (cut,) = desk.written(LETTERS)
    assert 85_000 < len(cut) < 90_000


async def test_a_letters_topic_that_takes_next_to_nothing_stops_the_route(desk: Desk) -> None:
    """A letter is not cut for ever."""
    desk.topics[LETTERS].known_bytes, desk.topics[LETTERS].max_message_bytes = 1_000_000, 300
    desk.send(values(b"{" * 100_000), cast())
    await desk.until_at_rest()
    assert desk.stops == [(10, "r", "dead_letter_refused")]
    assert (desk.progress.to_commit, desk.written(LETTERS)) == (None, [])
