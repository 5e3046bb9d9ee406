"""What the forwarder promises while it, a colleague or Kafka dies: no record is lost.

Every test holds the target topic against the source topic, record by record.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from contextlib import ExitStack
from itertools import cycle, islice
from typing import TYPE_CHECKING, Self

import pytest
from confluent_kafka.admin import NewTopic

from loadtest.campaign_services import alive
from loadtest.forward_load import Sealed, Sealer, numbered_events, sealed_events
from loadtest.frozen import ALLOWANCE_BYTES, MB, Memory
from loadtest.gateway import wait_until
from tests.forward_ledger import FLOW_SECONDS, ROUTE, SETTLE_SECONDS, Highway, came_from

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from loadtest.forwarder import Forwarder
    from tests.conftest import Kafka
    from tests.faults.conftest import Fault
    from tests.forward_ledger import Sections, Verdict
    from tests.memory_producer import Record

    Start = Callable[[Forwarder], Forwarder]
    Say = Callable[[str], None]

KILLS = 2
FROZEN_SECONDS = 15.0
"""Long enough for broker and group to give each other up."""
AGAIN_SECONDS = 60.0
"""How soon after an outage the forwarder has done everything, its place in the group included."""
BACKLOG = 100_000
PER_SECOND = 2000
BUDGET_BYTES = 8 * MB
MANY = 150_000
"""Events, of more than 400 bytes: far more than the budget has room for."""
POOL = 10_000
LARGE_BYTES = 100_000
LARGE = random.Random(1).randbytes(15_000).hex()
"""Text that stays larger than 10,000 bytes when it is compressed."""
POISON = (
    (b"no json", b"invalid_json"),
    (b'{"specversion":"1.0","id":"1","source":"/s"}', b"not_cloudevents"),
    (b'{"specversion":"1.0","id":"1","source":"/s","type":"t","data":"\xff"}', b"invalid_json"),
)


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts forwarders, which must end well; what a test has ended itself is left alone."""
    with ExitStack() as stack:
        yield stack.enter_context


def worker(forwarder: Forwarder) -> int:
    """The process that does the work."""
    (found,) = forwarder.status()["workers"]
    return found["pid"]


def acked(forwarder: Forwarder) -> int:
    """How many events it has written, in this life of it."""
    return forwarder.outcomes(ROUTE)["acked"]


def require_all(highway: Highway, sent: int, seconds: float = FLOW_SECONDS) -> Verdict:
    """Wait until all is committed: then everything must be there, in order."""
    highway.wait_until_done(seconds)
    verdict = highway.verdict()
    assert verdict.ok, verdict
    assert verdict.read == sent
    return verdict


def numbered(count: int, first: int = 0, note: str = "") -> list[Sealed]:
    """Events, as they are in a source's topic."""
    source = numbered_events("n", note=note)
    return Sealer().seal(list(islice(source, first, first + count)))


def headers(record: Record) -> dict[str, bytes]:
    """The headers of a record, which has none twice."""
    found = dict(record.headers)
    assert len(found) == len(record.headers)
    return found


# The forwarder.


def test_kills_of_the_whole_forwarder_lose_nothing(kafka: Kafka, start: Start, say: Say) -> None:
    """What it had not committed is forwarded again, and can be told by its place in the source."""
    highway, uncommitted = Highway(kafka), 0
    forwarder = start(highway.forwarder())
    with highway.feed(PER_SECOND) as feed:
        for _ in range(KILLS):
            highway.flows()
            highway.commits()
            forwarder.kill()
            uncommitted += highway.uncommitted()
            forwarder.restart()
        highway.flows()
        sent = feed.finish()
    verdict = require_all(highway, sent)
    repeated = verdict.repeated.total()
    say(f"forwarder killed {KILLS} times: {sent} sent, 0 missing, {repeated} twice")
    assert repeated <= uncommitted


def test_kills_of_a_worker_lose_nothing(kafka: Kafka, start: Start, say: Say) -> None:
    """Its successor goes on where it had committed."""
    highway, uncommitted = Highway(kafka), 0
    forwarder = start(highway.forwarder())
    with highway.feed(PER_SECOND) as feed:
        for _ in range(KILLS):
            highway.flows()
            highway.commits()
            victim = worker(forwarder)
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda: not alive(victim), SETTLE_SECONDS, "it lives")  # noqa: B023
            uncommitted += highway.uncommitted()
        highway.flows()
        assert worker(forwarder) != victim
        sent = feed.finish()
    verdict = require_all(highway, sent)
    repeated = verdict.repeated.total()
    say(f"worker killed {KILLS} times: {sent} sent, 0 missing, {repeated} twice")
    assert repeated <= uncommitted


def test_an_end_in_good_order_repeats_nothing(kafka: Kafka, start: Start) -> None:
    """SIGTERM under load, exit status 0: the next one begins with the record after the last."""
    highway = Highway(kafka)
    forwarder = start(highway.forwarder())
    with highway.feed(PER_SECOND) as feed:
        for _ in range(2):
            highway.flows()
            assert forwarder.stop() == 0
            forwarder.restart()
        highway.flows()
        sent = feed.finish()
    assert not require_all(highway, sent).repeated


def test_who_joins_and_leaves_a_group_repeats_nothing(kafka: Kafka, start: Start) -> None:
    """Partitions change hands under load: what was read is written and committed before."""
    highway = Highway(kafka)
    first, second = start(highway.forwarder()), highway.forwarder()
    with highway.feed(PER_SECOND) as feed:
        highway.flows()
        with second:
            wait_until(lambda: acked(second) > 1000, FLOW_SECONDS, "nothing to do for it")
            before = acked(first)
            wait_until(lambda: acked(first) > before + 1000, FLOW_SECONDS, "it took everything")
            assert second.stop() == 0
        highway.flows(4000)
        sent = feed.finish()
    assert not require_all(highway, sent).repeated


# Kafka.


@pytest.mark.timeout(180)
async def test_while_kafka_is_away_nothing_is_lost(
    spare_kafka: Kafka, start: Start, fault: Fault, say: Say
) -> None:
    """It is not ready meanwhile, and goes on by itself, with the worker that it had."""
    highway = Highway(spare_kafka)
    highway.fill(numbered(BACKLOG))
    forwarder = start(highway.forwarder())
    pid = worker(forwarder)
    wait_until(lambda: acked(forwarder) > 0, FLOW_SECONDS, "nothing flows")
    await fault.strikes(spare_kafka)
    struck = time.monotonic()
    assert acked(forwarder) < BACKLOG, "all was done before"
    await asyncio.to_thread(
        wait_until, lambda: not forwarder.ready(), SETTLE_SECONDS, "it is still ready"
    )
    if fault.leaves_unknown:
        await asyncio.sleep(struck + FROZEN_SECONDS - time.monotonic())
    assert not spare_kafka.answers()
    await fault.is_mended(spare_kafka)
    with highway.feed(PER_SECOND) as feed:
        await asyncio.to_thread(highway.flows, 1000, AGAIN_SECONDS)
        sent = BACKLOG + await asyncio.to_thread(feed.finish)
    verdict = await asyncio.to_thread(require_all, highway, sent, AGAIN_SECONDS)
    forwarder.wait_until_ready(SETTLE_SECONDS)
    assert worker(forwarder) == pid
    repeated = verdict.repeated.total()
    what = "frozen" if fault.leaves_unknown else "killed"
    say(f"broker {what} under load: {sent} sent, 0 missing, {repeated} twice")


class Held:
    """What a forwarder with `small_budget` holds, and how much it has held at most.

    Attributes:
        peak: bytes in flight.
    """

    def __init__(self, forwarder: Forwarder) -> None:
        self.peak = 0
        self._forwarder = forwarder
        self._memory = Memory(forwarder.process.pid)

    def __enter__(self) -> Self:
        """Begin to watch its memory."""
        self._memory.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._memory.__exit__()

    def inflight(self) -> int:
        """Bytes in flight now."""
        now: int = self._forwarder.status()["inflight_bytes"]
        self.peak = max(self.peak, now)
        return now

    def require_bounds(self) -> None:
        """Neither was ever too much."""
        assert 0 < self.peak <= BUDGET_BYTES
        peaks = self._memory.peaks
        assert peaks[worker(self._forwarder)] <= 2 * BUDGET_BYTES + ALLOWANCE_BYTES, peaks


def small_budget(**topics: bool) -> Sections:
    """A budget that `MANY` events exceed by far."""
    names = ("inflight_bytes", "body_bytes", "decoded_bytes")
    return {"limits": dict.fromkeys(names, BUDGET_BYTES), "topics": {"partitions": 4, **topics}}


def test_memory_is_bounded_while_kafka_stands_still(spare_kafka: Kafka, start: Start) -> None:
    """However much there is to read, and whatever was asked for when it stopped."""
    highway = Highway(spare_kafka, settings=small_budget())
    highway.fill(small())
    forwarder = start(highway.forwarder())
    with Held(forwarder) as held:
        wait_until(lambda: held.inflight() > 0, SETTLE_SECONDS, "nothing flows")
        spare_kafka.node.pause()
        try:
            assert spare_kafka.falls_silent()
            wait_until(
                lambda: held.inflight() > 0 and not forwarder.ready(), SETTLE_SECONDS, "ready"
            )
        finally:
            spare_kafka.node.resume()
        wait_until(lambda: held.inflight() == 0 and not lag(forwarder), FLOW_SECONDS, "stuck")
    require_all(highway, MANY)
    held.require_bounds()


def small() -> list[Sealed]:
    """Events as shops send them."""
    return list(islice(cycle(sealed_events(POOL)), MANY))


def large() -> list[Sealed]:
    """Events that are each a good part of the budget, and compress to half."""
    chance = random.Random(1)
    notes = [chance.randbytes(LARGE_BYTES // 2).hex() for _ in range(50 * MB // LARGE_BYTES)]
    return Sealer().seal([b'{"note":"%b"}' % note.encode() for note in notes])


@pytest.mark.parametrize("events", [small, large])
def test_memory_is_bounded_while_a_target_cannot_be_written(
    kafka: Kafka, start: Start, events: Callable[[], list[Sealed]]
) -> None:
    """Its source is read on until the budget is used up, and again when the target is there."""
    highway, records = Highway(kafka, settings=small_budget(create=False)), events()
    kafka.delete(highway.target)
    highway.fill(records)
    forwarder = start(highway.forwarder())
    with Held(forwarder) as held:
        wait_until(lambda: held.inflight() > BUDGET_BYTES / 2, SETTLE_SECONDS, "not used up")
        wait_until(
            lambda: held.inflight() and highway.target in forwarder.status()["degraded"],
            SETTLE_SECONDS,
            "all is well",
        )
        assert forwarder.ready()
        kafka.create(highway.target)
        wait_until(lambda: held.inflight() == 0 and not lag(forwarder), FLOW_SECONDS, "stuck")
    assert not require_all(highway, len(records)).repeated
    held.require_bounds()


def lag(forwarder: Forwarder) -> int:
    """How many records it has yet to forward, as it says."""
    return sum(forwarder.lag().values())


# Records and topics.


def test_poison_is_kept_and_blocks_nothing(kafka: Kafka, start: Start) -> None:
    """Each is in the dead letter topic, with its bytes and what is wrong; the others go on."""
    highway = Highway(kafka, partitions=1)
    poison = [Sealed(b"c-1", value) for value, _ in POISON]
    highway.fill([*numbered(100), *poison, *numbered(100, first=100)])
    forwarder = start(highway.forwarder())
    highway.wait_until_done()
    assert highway.committed() == {0: 200 + len(POISON)}
    verdict = highway.verdict()
    assert verdict.missing == {(highway.source, 0, 100 + n) for n in range(len(POISON))}
    assert not verdict.wrong
    assert not verdict.repeated
    assert not verdict.disordered
    forwarder.wait_for(ROUTE, {"acked": 200, "rejected": len(POISON)})
    letters = sorted(kafka.read(highway.letters), key=came_from)
    assert [came_from(each) for each in letters] == sorted(verdict.missing)
    for letter, (value, code), place in zip(letters, POISON, sorted(verdict.missing), strict=True):
        found = headers(letter)
        assert (letter.key, letter.value) == (b"c-1", value)
        assert found["__connect.errors.topic"].decode() == place.topic
        assert int(found["__connect.errors.partition"]) == place.partition
        assert int(found["__connect.errors.offset"]) == place.offset
        assert found["__connect.errors.exception.class.name"] == code
        assert found["__connect.errors.stage"]
        assert found["__connect.errors.exception.message"]
        assert found["ingest.route"].decode() == ROUTE


def test_a_route_that_is_told_to_stop_stops_one_partition(kafka: Kafka, start: Start) -> None:
    """It says so and is ready for the others; with the poison let through it goes on from there."""
    highway = Highway(kafka, partitions=2)
    highway.fill([*numbered(100), Sealed(None, b"no json"), *numbered(50, first=100)], 0)
    forwarder = start(highway.forwarder(on_error="stop"))
    highway.fill(numbered(300, first=150), 1)
    wait_until(lambda: highway.committed() == {0: 100, 1: 300}, FLOW_SECONDS, "not that far")
    wait_until(lambda: bool(forwarder.status()["degraded"]), SETTLE_SECONDS, "all is well")
    status, body = forwarder.manage("/readyz")
    assert (status, highway.source in body.decode()) == (200, True), body
    highway.fill(numbered(300, first=450), 1)
    wait_until(lambda: highway.committed() == {0: 100, 1: 600}, FLOW_SECONDS, "not that far")
    assert highway.written() == 700
    forwarder.routes = [highway.route]
    assert forwarder.stop() == 0
    forwarder.restart()
    highway.wait_until_done()
    verdict = highway.verdict()
    assert verdict.missing == {(highway.source, 0, 100)}
    assert not verdict.wrong
    assert not verdict.repeated
    assert [came_from(each) for each in kafka.read(highway.letters)] == [*verdict.missing]


def test_what_is_too_large_for_the_target_is_a_dead_letter(kafka: Kafka, start: Start) -> None:
    """Also where the target took it a moment before; the others are forwarded."""
    highway = Highway(kafka)
    forwarder = start(highway.forwarder())
    highway.fill(numbered(10, note=LARGE))
    forwarder.wait_for(ROUTE, {"acked": 10})
    kafka.configure(highway.target, "max.message.bytes", "10000")
    mixed: list[Sealed] = []
    for tens in range(1, 11):
        last = 10 * tens + 9
        mixed += [*numbered(9, first=last - 9), *numbered(1, first=last, note=LARGE)]
    for half in (mixed[:50], mixed[50:]):
        highway.fill(half)
        highway.wait_until_done()
    verdict = highway.verdict()
    assert len(verdict.missing) == 10
    assert not verdict.wrong
    assert not verdict.repeated
    letters = kafka.read(highway.letters)
    assert {came_from(each) for each in letters} == verdict.missing
    assert len(letters) == 10
    codes = {headers(each)["__connect.errors.exception.class.name"] for each in letters}
    assert codes == {b"event_too_large"}
    forwarder.wait_for(ROUTE, {"acked": 100, "rejected": 10})


def test_a_target_that_is_deleted_is_made_again(kafka: Kafka, start: Start) -> None:
    """Nothing that is read from then on is lost, or rejected."""
    highway = Highway(kafka)
    forwarder = start(highway.forwarder())
    highway.fill(numbered(500))
    highway.wait_until_done()
    kafka.delete(highway.target)
    wait_until(lambda: not kafka.replicas(highway.target), SETTLE_SECONDS, "it is still there")
    highway.fill(numbered(500, first=500))
    highway.wait_until_done()
    verdict = highway.verdict()
    assert len(verdict.missing) == 500, "those that were in it when it was deleted"
    assert not verdict.wrong
    assert not verdict.disordered
    forwarder.wait_for(ROUTE, {"acked": 1000})
    assert forwarder.outcomes(ROUTE)["rejected"] == 0


# A topic whose only broker is dead: nothing says that it cannot be used.


def placed(kafka: Kafka, broker: int) -> str:
    """A topic of one partition, which one broker alone has."""
    topic = kafka.new_name()
    kafka._done(kafka._admin.create_topics([NewTopic(topic, 1, replica_assignment=[[broker]])]))
    return topic


def test_who_changes_the_target_of_a_route_gets_all_that_waits_in_its_order(
    three_brokers: Kafka, start: Start
) -> None:
    """What comes in the meantime stays behind it, and nothing of it is for the old target."""
    alive, dead = three_brokers.nodes[0], three_brokers.nodes[2]
    highway = Highway(three_brokers)
    highway.source, highway.target = (
        placed(three_brokers, alive.id),
        placed(three_brokers, alive.id),
    )
    stuck = placed(three_brokers, dead.id)
    source = {"from": [highway.source]}
    dead.kill()
    try:
        forwarder = start(highway.forwarder(**source, to=stuck))
        highway.fill(numbered(2000), partition=0)
        wait_until(lambda: inflight(forwarder) > 2000 * 100, SETTLE_SECONDS, "nothing waits")
        forwarder.reroute([{**highway.route, **source, "to": highway.target}])
        highway.fill(numbered(2000, first=2000), partition=0)
        wait_until(lambda: acked(forwarder) == 4000, FLOW_SECONDS, "some are missing")
        wait_until(lambda: inflight(forwarder) == 0, FLOW_SECONDS, "something is held for ever")
    finally:
        dead.start()
    numbers = [came_from(each).offset for each in three_brokers.read(highway.target)]
    assert numbers == list(range(4000))
    assert three_brokers.read(stuck) == []


def inflight(forwarder: Forwarder) -> int:
    """Bytes that it accounts for."""
    return int(forwarder.status()["inflight_bytes"])
