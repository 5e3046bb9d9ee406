"""The ledger's client reads answers as the contract defines them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from loadtest.book import NO_ANSWER, OK, REFUSED, REJECTED, RETRY, SPOOLED, UNKNOWN
from loadtest.sender import read_answer, send

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    Gateway = Callable[..., AbstractAsyncContextManager[str]]

BUSY = (503, b'{"code":"busy"}')
HANG_UP = (0, b"")


def answer(*results: tuple[int, str], **counts: Any) -> bytes:
    """A body with these counts, the others 0."""
    zeros = dict.fromkeys(("accepted", "spooled", "rejected", "retry", "unknown"), 0)
    listed = [{"index": index, "status": status} for index, status in results]
    return json.dumps({"request_id": "r", **zeros, **counts, "results": listed}).encode()


def test_events_that_are_not_listed_are_ok() -> None:
    """Only what is not ok is listed."""
    assert read_answer(200, answer(accepted=3), 3) == ({OK: [0, 1, 2]}, [])


def test_every_status_goes_to_its_events() -> None:
    """Indices count the events of the request."""
    body = answer((1, RETRY), (3, UNKNOWN), accepted=2, retry=1, unknown=1)
    assert read_answer(504, body, 4) == ({OK: [0, 2], RETRY: [1], UNKNOWN: [3]}, [])


def test_spooled_events_count_as_accepted() -> None:
    """The contract includes them."""
    body = answer((0, SPOOLED), accepted=2, spooled=1)
    assert read_answer(202, body, 2) == ({SPOOLED: [0], OK: [1]}, [])


@pytest.mark.parametrize("status", [408, 429, 503, 504])
def test_a_refusal_without_results_that_can_be_tried_again_is_retry(status: int) -> None:
    """Nothing was taken, and it is worth another try."""
    assert read_answer(status, b'{"code":"busy"}', 2) == ({RETRY: [0, 1]}, [])


@pytest.mark.parametrize("status", [400, 401, 413, 500])
def test_a_refusal_without_results_that_needs_a_change_is_refused(status: int) -> None:
    """Nothing was taken, and trying again would not help."""
    assert read_answer(status, b'{"code":"bad"}', 2) == ({REFUSED: [0, 1]}, [])


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, answer(accepted=1)),
        (200, answer((0, RETRY), accepted=2)),
        (200, answer((0, RETRY), accepted=1, retry=1)),
        (503, answer(accepted=2)),
        (200, b"{}"),
        (200, b"not JSON"),
    ],
)
def test_an_answer_that_contradicts_itself_is_noticed(status: int, body: bytes) -> None:
    """Counts are exact, and the status follows from them."""
    assert read_answer(status, body, 2)[1]


def test_rejects_leave_the_status_to_the_dead_letter_topic() -> None:
    """200 or 207, as their copies fared."""
    body = answer((0, REJECTED), accepted=1, rejected=1)
    assert read_answer(207, body, 2)[1] == []


async def test_the_ledger_sends_each_event_once_by_default(gateway: Gateway) -> None:
    """Refused is refused: the verdict can then say that it must not be there."""
    async with gateway((200, answer(accepted=5)), [BUSY]) as url:
        book = await send(url, "key", "demo", connections=1, batch=5, events=15, run="r")
    assert [sent.answers for sent in book.events.values()] == [[RETRY]] * 5 + [[OK]] * 10
    assert list(book.events)[:2] == ["r-0-0", "r-0-1"]


async def test_the_ledger_sends_open_events_again_when_asked(gateway: Gateway) -> None:
    """Under the same ids, before anything new, so that order can hold."""
    async with gateway((200, answer(accepted=5)), [HANG_UP, BUSY]) as url:
        book = await send(url, "key", "demo", connections=1, batch=5, events=10, resend=True)
    answers = [sent.answers for sent in book.events.values()]
    assert answers == [[NO_ANSWER, RETRY, OK]] * 5 + [[OK]] * 5


async def test_the_ledger_sends_no_more_than_it_was_told(gateway: Gateway) -> None:
    """Whatever the number of connections and the size of batches."""
    async with gateway((401, b"{}")) as url:
        book = await send(url, "key", "demo", connections=4, batch=5, events=13, resend=True)
    assert len(book.events) == 13
