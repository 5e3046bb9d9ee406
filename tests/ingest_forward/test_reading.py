"""What is known of a partition that is read, stops, goes back, or begins anew."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from ingest.inflight import Budget
from ingest_forward.delivery import Delivery, Parcel
from ingest_forward.event import Reading as Opened
from ingest_forward.progress import Progress
from ingest_forward.reading import Reading, Stop
from ingest_forward.shape import shape
from tests.ingest_forward.engine import route, sealed
from tests.ingest_forward.polled import values
from tests.memory_producer import MemoryProducer

if TYPE_CHECKING:
    from collections.abc import Callable

STOP = Stop("r", 15, "cast_failed")


def reading(start: int | None = 10, committed: int | None = None) -> Reading:
    """A partition of which some is on its way."""
    made = Reading(Progress(start, committed), Budget(1).holder("p"))
    made.progress.begin(20)
    return made


def test_it_is_pending_while_something_is_on_its_way() -> None:
    """Also while it is not read on, for what is done before that counts; not once it goes back."""
    made = reading()
    assert (made.is_pending(0.0), made.halted) == (False, False)
    parcel = Parcel(values(b"1"), made.progress, Budget(1).book(1, made.holder), made.parcels)
    assert made.is_pending(0.0)
    made.stop = STOP
    assert (made.is_pending(0.0), made.halted) == (True, True)
    made.again_at = 5.0
    assert [made.is_pending(now) for now in (4.9, 5.0)] == [True, False]
    parcel.let_go()
    assert not made.is_pending(0.0)


def test_it_is_read_again_when_it_is_time() -> None:
    """Also where some route must not go past a record: what is before that is still to be done."""
    again = reading()
    assert not again.is_due(100.0)
    again.again_at = 5.0
    assert [again.is_due(now) for now in (4.9, 5.0)] == [False, True]
    again.stop = STOP
    assert again.is_due(5.0)
    again.again_at = None
    assert not again.is_due(5.0)


def test_going_back_forgets_what_is_on_its_way() -> None:
    """What is done and what was committed stays; what comes back late counts for nothing."""
    again = reading(10, 8)
    before, late = again.progress, again.progress.begin(30)
    again.stop, again.again_at, again.next = STOP, 5.0, 30
    assert again.go_back() == 10
    assert (again.halted, again.next) == (False, 10)
    before.finish(late)
    assert (again.progress.done, again.progress.to_commit) == (10, 10)
    again.progress.finish(again.progress.begin(12))
    assert again.progress.to_commit == 12


def test_where_nobody_said_it_a_partition_begins_at_the_first_record_that_was_read() -> None:
    """It goes back to that, and not to the earliest; what is to be committed is what is done."""
    again = Reading(Progress(), Budget(1).holder("p"))
    again.found(15)
    chunk = again.progress.begin(20)
    again.found(20)
    assert (again.progress.done, again.progress.to_commit) == (15, None)
    assert again.go_back() == 15
    again.progress.finish(chunk)
    assert (again.next, again.progress.to_commit) == (15, None)
    again.progress.finish(again.progress.begin(20))
    assert again.progress.to_commit == 20


def test_without_any_record_a_partition_goes_back_to_the_earliest() -> None:
    """Wherever that is."""
    again = Reading(Progress(), Budget(1).holder("p"))
    assert again.go_back() is None
    assert (again.next, again.progress.to_commit) == (None, None)


@pytest.mark.parametrize(("start", "committed"), [(10, None), (10, 8), (10, 15), (None, None)])
def test_another_topic_begins_at_its_first_record(start: int | None, committed: int | None) -> None:
    """Whatever was done of the former one; all that is done is committed over what was."""
    anew = reading(start, committed)
    anew.stop = STOP
    anew.begin_anew()
    assert (anew.halted, anew.next, anew.progress.done) == (False, 0, 0)
    assert anew.progress.to_commit == 0
    anew.progress.finish(anew.progress.begin(15))
    assert anew.progress.to_commit == 15


@pytest.mark.parametrize(
    ("leaves", "told"),
    [
        pytest.param(Reading.go_back, 10, id="the-offset"),
        pytest.param(Reading.begin_anew, 3, id="the-records"),
        pytest.param(Reading.abandon, None, id="nothing"),
    ],
)
async def test_what_waits_is_withdrawn_by_who_does_not_wait_for_it(
    leaves: Callable[[Reading], object], told: object
) -> None:
    """It would be there twice otherwise, or come behind what a new owner of it has written."""
    producer, again = MemoryProducer({}), reading()
    producer.reachable.clear()
    delivery = Delivery(producer, None, lambda *_: None, lambda _: None)
    budget = Budget(1 << 20)
    for of in (values(sealed(b"1")), values(sealed(b"2"), sealed(b"3"))):
        lease = budget.book(of.size, again.holder)
        parcel = Parcel(of, again.progress, lease, again.parcels)
        for each in shape([route()], of, Opened(opens=True)):
            delivery.send(parcel, each)
        parcel.let_go()
    assert (len(again.parcels), budget.used_bytes > 0) == (2, True)
    assert [again.waits_beyond(topics) for topics in ({"out"}, {"other"})] == [False, True]
    assert leaves(again) == told
    assert (again.parcels, budget.used_bytes) == (set(), 0)
    assert not again.waits_beyond({"other"})
    producer.reachable.set()
    for _ in range(20):
        await asyncio.sleep(0)
    assert not producer.topics["out"].records
