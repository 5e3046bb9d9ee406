"""Receipts: answered when every record has a status, settled when no bytes are held any more."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from ingest.receipt import Receipt, Run, Status

if TYPE_CHECKING:
    from collections.abc import Sequence


class Part:
    """A piece of a batch that is answered by its deadline only."""

    def __init__(self, receipt: Receipt, *indices: int) -> None:
        self.receipt = receipt
        self.indices = indices
        receipt.parts.append(self)

    def expire(self) -> None:
        """See `ingest.receipt.Part`."""
        self.receipt.resolve(Run(Status.RETRY, self.indices, code="kafka_unavailable"))


def acked(*indices: int) -> Run:
    """Records that are in Kafka."""
    return Run(Status.ACKED, indices, 0, 0)


def unknown(*indices: int) -> Run:
    """Records of which nobody knows."""
    return Run(Status.UNKNOWN, indices, code="ack_timeout")


def statuses(receipt: Receipt) -> dict[int, Status]:
    """Index -> status."""
    return {index: run.status for run in receipt.runs for index in run.indices}


def test_fates_have_the_words_of_the_contract() -> None:
    """Answers and counters are made of them."""
    assert [status.value for status in Status] == [
        "acked",
        "spooled",
        "refused",
        "retry",
        "unknown",
    ]


def test_what_is_not_acked_is_nowhere() -> None:
    """Nobody mistakes it for the first record of the first partition."""
    run = unknown(0)
    assert (run.partition, run.offset, list(run.values)) == (-1, -1, [])


def test_a_receipt_is_answered_with_its_last_record() -> None:
    """Not before, in whatever pieces the statuses come."""
    receipt = Receipt(3)
    receipt.resolve(acked(2))
    assert not receipt.answered
    receipt.resolve(acked(0, 1))
    assert receipt.answered
    assert receipt.settled
    assert receipt.runs == [acked(2), acked(0, 1)]


def test_held_bytes_delay_settling_but_not_the_answer() -> None:
    """The client has its answer while the memory is still in use."""
    settled: list[bool] = []
    receipt = Receipt(3, lambda: settled.append(True))
    receipt.resolve(unknown(0, 1), held=True)
    receipt.resolve(acked(2))
    assert (receipt.answered, receipt.settled, settled) == (True, False, [])
    receipt.let_go(1)
    assert (receipt.settled, settled) == (False, [])
    receipt.let_go(1)
    assert (receipt.settled, settled) == (True, [True])


def test_settling_is_told_once() -> None:
    """Whatever comes later."""
    settled: list[bool] = []
    receipt = Receipt(1, lambda: settled.append(True))
    receipt.resolve(acked(0))
    receipt.let_go(0)
    assert settled == [True]


def test_an_empty_batch_is_answered_and_settled_from_the_start() -> None:
    """Nothing to wait for."""
    settled: list[bool] = []
    receipt = Receipt(0, lambda: settled.append(True))
    assert (receipt.answered, receipt.settled, receipt.acked, settled) == (True, True, True, [True])


@pytest.mark.parametrize(
    ("runs", "whole"),
    [
        ([acked(0, 1)], True),
        ([acked(0), acked(1)], True),
        ([acked(0), unknown(1)], False),
        ([unknown(0), acked(1)], False),
        ([Run(Status.REFUSED, [0, 1])], False),
    ],
)
def test_a_batch_is_acked_when_all_of_it_is(runs: Sequence[Run], whole: bool) -> None:  # noqa: FBT001
    """One record that is not makes the difference."""
    receipt = Receipt(2)
    for run in runs:
        receipt.resolve(run)
    assert receipt.acked is whole


def test_the_deadline_reaches_every_part_that_is_open() -> None:
    """What has a status keeps it."""
    receipt = Receipt(4)
    Part(receipt, 0, 1)
    Part(receipt, 2)
    receipt.resolve(acked(3))
    receipt.expire()
    assert receipt.answered
    assert statuses(receipt) == {3: Status.ACKED, **dict.fromkeys((0, 1, 2), Status.RETRY)}


def test_the_deadline_finds_nothing_to_do_after_the_answer() -> None:
    """No record gets a second status."""
    receipt = Receipt(1)
    Part(receipt, 0)
    receipt.resolve(acked(0))
    receipt.expire()
    assert statuses(receipt) == {0: Status.ACKED}
    assert len(receipt.runs) == 1


def test_parts_take_the_place_of_the_one_they_come_from() -> None:
    """At the deadline each is asked once, and the one that was split is not."""
    receipt = Receipt(3)
    whole, other = Part(receipt, 0, 1), Part(receipt, 2)
    pieces = Part(Receipt(1), 0), Part(Receipt(1), 1)
    for piece in pieces:
        piece.receipt = receipt
    receipt.replace(whole, *pieces)
    assert set(receipt.parts) == {other, *pieces}
    receipt.expire()
    assert sorted(index for run in receipt.runs for index in run.indices) == [0, 1, 2]


def test_parts_of_an_answered_batch_are_not_followed() -> None:
    """A batch that is split after its deadline is not answered again."""
    receipt = Receipt(1)
    whole = Part(receipt, 0)
    receipt.resolve(unknown(0), held=True)
    receipt.replace(whole, Part(Receipt(1), 0))
    assert receipt.parts == []


async def test_awaiting_gives_the_receipt_once_it_is_answered() -> None:
    """At once when it is already, else with the last status; again and again."""
    receipt = Receipt(2)
    waiting = asyncio.ensure_future(_wait_for(receipt))
    await asyncio.sleep(0)
    receipt.resolve(acked(0))
    await asyncio.sleep(0)
    assert not waiting.done()
    receipt.resolve(unknown(1), held=True)
    assert await waiting is receipt
    assert await receipt is receipt


async def test_everybody_who_waits_is_woken() -> None:
    """Two may wait for the same receipt."""
    receipt = Receipt(1)
    waiting = [asyncio.ensure_future(_wait_for(receipt)) for _ in range(3)]
    await asyncio.sleep(0)
    receipt.resolve(acked(0))
    assert await asyncio.gather(*waiting) == [receipt] * 3


async def test_one_who_gives_up_does_not_spoil_the_receipt() -> None:
    """Its client went away: the status is kept, and whoever comes later gets it."""
    receipt = Receipt(1)
    gone = asyncio.ensure_future(_wait_for(receipt))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.wait([gone])
    assert gone.cancelled()
    later = asyncio.ensure_future(_wait_for(receipt))
    await asyncio.sleep(0)
    receipt.resolve(acked(0))
    assert await later is receipt


async def test_a_status_that_comes_when_the_waiter_is_just_gone_is_kept() -> None:
    """The cancellation and the ack may fall into the same turn of the loop."""
    receipt = Receipt(1)
    gone = asyncio.ensure_future(_wait_for(receipt))
    await asyncio.sleep(0)
    gone.cancel()
    receipt.resolve(acked(0))
    await asyncio.wait([gone])
    assert receipt.answered
    assert await receipt is receipt


async def _wait_for(receipt: Receipt) -> Receipt:
    return await receipt
