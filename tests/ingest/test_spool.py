"""The spool on the event loop: what is durable when, who is told, and what is not replayed."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from ingest import spool as spool_module
from ingest.accumulator import Segment
from ingest.receipt import Receipt, Status
from ingest.settings import SpoolSettings
from ingest.spool import Spool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from ingest.spool import Batch

SERVICE = "ingest-http"
HEADERS = [("content-type", b"text/plain")]
PATIENCE_SECONDS = 10.0


@asynccontextmanager
async def spooling(path: Path, **settings: Any) -> AsyncIterator[Spool]:
    """An open spool."""
    settings = {"mode": "auto", "min_free_bytes": 0, **settings}
    spool = Spool(
        SpoolSettings(path=str(path), **settings), SERVICE, ack_seconds=10, attempt_seconds=0.5
    )
    await spool.open()
    try:
        yield spool
    finally:
        if spool._thread.is_alive():
            await spool.close()


def segment(topic: str = "t", *values: bytes, **more: Any) -> Segment:
    """Records that wait for Kafka, as a submission makes them."""
    found = list(values or (b"v",))
    receipt = Receipt(len(found))
    made = Segment(receipt, range(len(found)), found, more.get("keys"), HEADERS, None, 1_700)
    made.topic = SimpleNamespace(name=topic)
    receipt.parts.append(made)
    return made


def statuses(receipt: Receipt) -> set[Status]:
    """The fates of its records."""
    return {run.status for run in receipt.runs}


async def keep(spool: Spool, *segments: Segment) -> list[Segment]:
    """Have ``segments`` spooled; those for which that failed."""
    failed: list[Segment] = []
    for each in segments:
        spool.keep(each, failed.append)
    await spool.settle(PATIENCE_SECONDS)
    return failed


async def stored(spool: Spool, topic: str = "t") -> list[Batch]:
    """Everything that is to be replayed."""
    found: list[Batch] = []
    while batches := await spool.read(topic, found[-1].place if found else None, 1 << 20):
        found += batches
    return found


def values(batches: list[Batch]) -> list[bytes]:
    """The values of every record, in order."""
    return [value for batch in batches for entry in batch.entries or () for value in entry.values]


async def eventually(holds: Callable[[], bool]) -> None:
    """Wait until ``holds``; an error when it takes too long."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not holds():
            await asyncio.sleep(0.02)


@pytest.fixture(autouse=True)
def _look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody wants to wait for looks."""
    monkeypatch.setattr(spool_module, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(spool_module, "ADOPT_SECONDS", 0.05)


async def test_what_is_kept_is_answered_and_read_back(tmp_path: Path) -> None:
    """With keys, headers and timestamp, in the order of submission, over a restart."""
    async with spooling(tmp_path) as spool:
        first, second = segment("t", b"a", b"b", keys=[b"k", None]), segment("t", b"c")
        assert await keep(spool, first, second) == []
        for each in (first, second):
            assert statuses(each.receipt) == {Status.SPOOLED}
            assert each.receipt.settled
        assert [list(run.values) for run in first.receipt.runs] == [[b"a", b"b"]]
    async with spooling(tmp_path) as spool:
        entries = [entry for batch in await stored(spool) for entry in batch.entries or ()]
    assert [entry.values for entry in entries] == [[b"a", b"b"], [b"c"]]
    assert [entry.keys for entry in entries] == [[b"k", None], None]
    assert {entry.timestamp_ms for entry in entries} == {1_700}
    assert [entry.headers for entry in entries] == [HEADERS, HEADERS]


async def test_submissions_of_a_topic_share_a_batch(tmp_path: Path) -> None:
    """A thousand single events are a few writes; each topic has its own batches."""
    async with spooling(tmp_path) as spool:
        await keep(spool, *(segment(f"t{n % 2}", b"%d" % n) for n in range(1000)))
        for number in (0, 1):
            batches = await stored(spool, f"t{number}")
            assert values(batches) == [b"%d" % n for n in range(number, 1000, 2)]
            assert len(batches) < 50
        await eventually(lambda: spool.status.events == {"t0": 500, "t1": 500})
        assert spool.status.bytes > 0


async def test_what_is_done_does_not_come_back(tmp_path: Path) -> None:
    """Over a restart too, and nothing is left on the disk."""
    async with spooling(tmp_path) as spool:
        await keep(spool, segment("t", b"a"))
        await keep(spool, segment("t", b"b"))
        first, second = await stored(spool)
        spool.done(first.place)
        assert values(await stored(spool)) == [b"b"]
        spool.done(second.place)
        await eventually(lambda: not spool.status.events)
    async with spooling(tmp_path) as spool:
        assert await stored(spool) == []


async def test_an_ack_before_the_copy_is_durable_counts(tmp_path: Path) -> None:
    """The records are ``acked``, and not replayed."""
    async with spooling(tmp_path) as spool:
        early = segment("t", b"a")
        spool.keep(early, lambda _: None)
        early.acked(0, 7)
        assert statuses(early.receipt) == {Status.ACKED}
        await spool.settle(PATIENCE_SECONDS)
        assert statuses(early.receipt) == {Status.ACKED}
        assert await stored(spool) == []


async def test_a_late_ack_takes_the_copy_back(tmp_path: Path) -> None:
    """Of what was on its way to Kafka when it was copied, only what did not arrive is replayed."""
    async with spooling(tmp_path) as spool:
        arrives, does_not, never_left = (segment("t", each) for each in (b"a", b"b", b"c"))
        arrives.in_flight = does_not.in_flight = True
        await keep(spool, arrives, does_not, never_left)
        assert statuses(arrives.receipt) == {Status.SPOOLED}
        arrives.acked(0, 7)
        does_not.in_flight = False
        does_not.failed(Status.UNKNOWN, "ack_timeout")
        left = []
        for batch in await stored(spool):
            landed = await spool.landed_in(batch.place)
            entries = enumerate(batch.entries or ())
            left += [entry.values for at, entry in entries if at not in landed]
        assert left == [[b"b"], [b"c"]]


async def test_the_replay_waits_for_attempts_that_are_under_way(tmp_path: Path) -> None:
    """Else it would write again what is just about to arrive; but it does not wait for ever."""
    async with spooling(tmp_path) as spool:
        flying, lost = segment("t", b"a"), segment("u", b"b")
        flying.in_flight = lost.in_flight = True
        await keep(spool, flying, lost)
        (batch,), (other,) = await stored(spool), await stored(spool, "u")
        waiting = asyncio.create_task(spool.landed_in(batch.place))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        flying.acked(0, 7)
        assert await waiting == {0}
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await spool.landed_in(other.place) == set()


async def test_at_its_deadline_a_copy_on_its_way_is_unknown(tmp_path: Path) -> None:
    """It may become durable after the answer: nobody may call it certainly not in Kafka."""
    async with spooling(tmp_path) as spool:
        late = segment("t", b"a")
        spool.keep(late, lambda _: None)
        late.expire()
        assert statuses(late.receipt) == {Status.UNKNOWN}
        await spool.settle(PATIENCE_SECONDS)
        assert statuses(late.receipt) == {Status.UNKNOWN}
        assert values(await stored(spool)) == [b"a"]


async def test_parts_of_a_segment_share_its_copy(tmp_path: Path) -> None:
    """A batch that is split while it is copied is answered as a whole, and replayed as a whole."""
    async with spooling(tmp_path) as spool:
        whole = segment("t", b"a", b"b", b"c")
        whole.in_flight = True
        spool.keep(whole, lambda _: None)
        first, rest = whole.split_at(1)
        whole.receipt.replace(whole, first, rest)
        first.in_flight = rest.in_flight = True
        await spool.settle(PATIENCE_SECONDS)
        assert statuses(whole.receipt) == {Status.SPOOLED}
        assert whole.receipt.answered
        first.acked(0, 7)
        rest.failed(Status.UNKNOWN, "ack_timeout")
        (batch,) = await stored(spool)
        assert await spool.landed_in(batch.place) == set()
        assert values([batch]) == [b"a", b"b", b"c"]


async def test_a_full_spool_gives_back_what_it_cannot_keep(tmp_path: Path) -> None:
    """Nothing is answered for it, there is no room until there is, and nothing stored is lost."""
    noise = os.urandom(1 << 20)
    async with spooling(tmp_path, max_bytes=16 << 20) as spool:
        failed: list[Segment] = []
        while not failed:
            assert spool.has_spare or spool.status.bytes > 4 << 20
            failed = await keep(spool, *(segment("t", noise) for _ in range(4)))
        assert not spool.has_room
        assert not spool.has_spare
        for each in failed:
            assert not each.receipt.answered
            assert not each.handed_over
        await eventually(lambda: not spool.status.room)
        assert not spool.status.problem
        batches = await stored(spool)
        assert len(batches) > 8
        for batch in batches:
            spool.done(batch.place)
        await eventually(lambda: spool.has_room)
        assert await keep(spool, segment("t", noise)) == []


async def test_a_folder_that_cannot_be_used_is_a_problem_that_ends(tmp_path: Path) -> None:
    """The service starts all the same, and uses it as soon as it can be used."""
    path = tmp_path / "spool"
    path.write_bytes(b"no folder")
    async with spooling(path) as spool:
        assert not spool.has_room
        assert spool.status.problem
        given = segment("t", b"a")
        assert await keep(spool, given) == [given]
        path.unlink()
        await eventually(lambda: spool.has_room)
        assert await keep(spool, segment("t", b"b")) == []


async def test_what_a_dead_worker_left_is_taken_over(tmp_path: Path) -> None:
    """At the start, and while it runs; not while somebody has it."""
    async with spooling(tmp_path) as dead:
        await keep(dead, segment("t", b"a"))
        async with spooling(tmp_path) as living:
            assert await stored(living) == []
            await dead.close()
            await eventually(lambda: living.status.events == {"t": 1})
            assert values(await stored(living)) == [b"a"]


async def test_while_much_waits_to_be_written_it_is_swamped(tmp_path: Path) -> None:
    """So that nobody holds more for its sake than memory allows."""
    async with spooling(tmp_path) as spool:
        assert not spool.is_swamped
        value = bytes(1 << 20)
        segments = [segment("t", value) for _ in range(40)]
        for each in segments:
            spool.keep(each, lambda _: None)
        assert spool.is_swamped
        await spool.settle(PATIENCE_SECONDS)
        assert not spool.is_swamped


async def test_little_on_the_disk_is_not_much_in_memory(tmp_path: Path) -> None:
    """What compresses well is read in pieces, all of it."""
    async with spooling(tmp_path) as spool:
        for number in range(12):
            await keep(spool, segment("t", b"%d" % number + bytes(1 << 20)))
        found: list[Batch] = []
        while batches := await spool.read("t", found[-1].place if found else None, 1 << 20):
            assert sum(batch.size for batch in batches) < 4 << 20
            found += batches
        assert [value.rstrip(b"\0") for value in values(found)] == [b"%d" % n for n in range(12)]


async def test_what_is_too_large_fails_alone(tmp_path: Path) -> None:
    """Its neighbours are kept, and there is room for others."""
    async with spooling(tmp_path, max_bytes=16 << 20) as spool:
        large = segment("t", os.urandom(17 << 20))
        small = [segment(f"t{number}", b"small") for number in range(3)]
        spool._jobs.put(lambda: time.sleep(0.1))  # so that they meet in one commit
        failed: list[Segment] = []
        for each in (small[0], large, *small[1:]):
            spool.keep(each, failed.append)
        await spool.settle(PATIENCE_SECONDS)
        assert failed == [large]
        assert not large.receipt.answered
        assert [statuses(each.receipt) for each in small] == [{Status.SPOOLED}] * 3
        assert spool.has_room


async def test_at_the_end_nobody_waits_for_a_disk_that_hangs(tmp_path: Path) -> None:
    """What is not durable by then may be there or not."""
    gate = threading.Event()
    async with spooling(tmp_path) as spool:
        spool._jobs.put(lambda: gate.wait() and None)
        hanging = segment("t", b"a")
        spool.keep(hanging, lambda _: None)
        await spool.settle(0.1)
        assert not hanging.receipt.answered
        spool.give_up()
        assert statuses(hanging.receipt) == {Status.UNKNOWN}
        gate.set()


async def test_a_folder_with_nothing_but_what_was_set_aside_is_left_alone(tmp_path: Path) -> None:
    """Nobody takes it over again and again; an empty one goes."""
    folders = [tmp_path / SERVICE / str(number) for number in (5, 6)]
    for folder in folders:
        folder.mkdir(parents=True)
    aside = folders[0] / "00000001.sqlite.quarantine"
    aside.write_bytes(b"damaged")
    with capture_logs() as logs:
        async with spooling(tmp_path) as spool:
            await eventually(lambda: not folders[1].exists())
            await spool._look()
    assert aside.exists()
    assert not [each for each in logs if each["event"] == "spool_adopted"]


async def test_small_submissions_are_grouped_in_linear_time() -> None:
    """By topic and in order, none larger than a batch; many of them are no more work each."""
    copies: list[Any] = [
        SimpleNamespace(topic=f"t{number % 2}", size=199, number=number) for number in range(40_000)
    ]
    begun = time.thread_time()
    groups = list(spool_module._together(copies))
    assert time.thread_time() - begun < 0.5
    assert all(sum(each.size for each in group) <= spool_module.BATCH_BYTES for group in groups)
    for topic in ("t0", "t1"):
        own = [each.number for group in groups for each in group if each.topic == topic]
        assert own == [each.number for each in copies if each.topic == topic]
