"""Deadlines: every receipt is expired in time, and answered ones are not kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.accumulator import Segment
from ingest.deadlines import Deadlines
from ingest.receipt import Receipt, Run, Status


def waiting() -> Receipt:
    """The receipt of one record that waits for its partition."""
    receipt = Receipt(1)
    receipt.parts.append(Segment(receipt, [0], [b"v"], None, [], None, 0))
    return receipt


def answer(receipt: Receipt) -> None:
    """Have Kafka ack the record."""
    receipt.resolve(Run(Status.ACKED, [0], 0, 0))


@pytest.mark.parametrize(("now", "expired"), [(4.9, False), (5.0, True), (5.1, True)])
def test_a_receipt_expires_when_its_deadline_has_come(now: float, expired: bool) -> None:  # noqa: FBT001
    """Not before, and at the very moment already."""
    deadlines, receipt = Deadlines(), waiting()
    deadlines.add(5.0, receipt)
    deadlines.sweep(now)
    assert receipt.answered is expired
    assert len(deadlines) == (not expired)
    assert [run.status for run in receipt.runs] == [Status.RETRY] * expired


def test_receipts_of_the_same_deadline_expire_together() -> None:
    """Ties need no comparison of receipts."""
    deadlines, receipts = Deadlines(), [waiting() for _ in range(5)]
    for receipt in receipts:
        deadlines.add(1.0, receipt)
    deadlines.sweep(1.0)
    assert all(receipt.answered for receipt in receipts)


def test_an_answered_receipt_is_forgotten_and_keeps_its_answer() -> None:
    """It goes with the next sweep once it is the oldest, long before its deadline."""
    deadlines, first, second = Deadlines(), waiting(), waiting()
    deadlines.add(10.0, first)
    deadlines.add(20.0, second)
    answer(second)
    deadlines.sweep(0.0)
    assert len(deadlines) == 2
    answer(first)
    deadlines.sweep(0.0)
    assert len(deadlines) == 0
    assert [run.status for run in first.runs + second.runs] == [Status.ACKED] * 2


def test_nothing_to_sweep_is_fine() -> None:
    """An idle service sweeps all the time."""
    deadlines = Deadlines()
    deadlines.sweep(float("inf"))
    assert len(deadlines) == 0


@given(
    entries=st.lists(st.tuples(st.floats(0, 10), st.booleans()), max_size=20),
    now=st.floats(0, 10),
)
def test_a_sweep_expires_exactly_those_whose_time_has_come(
    entries: list[tuple[float, bool]], now: float
) -> None:
    """Whatever the order of arrival, and whoever was answered in the meantime."""
    deadlines = Deadlines()
    receipts = [waiting() for _ in entries]
    for (deadline, acked), receipt in zip(entries, receipts, strict=True):
        deadlines.add(deadline, receipt)
        if acked:
            answer(receipt)
    deadlines.sweep(now)
    for (deadline, acked), receipt in zip(entries, receipts, strict=True):
        expected = [Status.ACKED] if acked else [Status.RETRY] if deadline <= now else []
        assert [run.status for run in receipt.runs] == expected
    open_ones = sum(not receipt.answered for receipt in receipts)
    assert open_ones <= len(deadlines) <= sum(deadline > now for deadline, _ in entries)


def test_a_receipt_is_looked_at_before_its_deadline() -> None:
    """Once, as long before as was said, unless it is answered by then; then it expires in time."""
    seen: list[Receipt] = []
    deadlines, receipt, quick = Deadlines(seen.append, 1.0), waiting(), waiting()
    deadlines.add(5.0, receipt)
    deadlines.add(5.0, quick)
    answer(quick)
    deadlines.sweep(3.9)
    assert seen == []
    deadlines.sweep(4.0)
    deadlines.sweep(4.5)
    assert seen == [receipt]
    assert not receipt.answered
    deadlines.sweep(5.0)
    assert receipt.answered
    assert seen == [receipt]
    assert len(deadlines) == 0
