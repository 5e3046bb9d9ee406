"""Counts and listed events add up to the one status of the contract."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_http.problem import STATUS
from ingest_http.results import LISTED, Results

COUNTS = ["accepted", "spooled", "rejected", "retry", "unknown"]


@pytest.mark.parametrize(
    ("counts", "status"),
    [
        ({}, 200),
        ({"accepted": 1}, 200),
        ({"accepted": 2, "rejected": 1}, 200),
        ({"accepted": 2, "rejected": 1, "lost": 1}, 207),
        ({"accepted": 1, "spooled": 1}, 202),
        ({"accepted": 2, "spooled": 1, "rejected": 1}, 202),
        ({"accepted": 2, "spooled": 1, "rejected": 1, "lost": 1}, 202),
        ({"accepted": 2, "rejected": 1, "letters_spooled": 1}, 202),
        ({"accepted": 2, "rejected": 2, "lost": 1, "letters_spooled": 1}, 202),
        ({"rejected": 1, "letters_spooled": 1}, 422),
        ({"rejected": 1, "letters_spooled": 1, "retry": 1}, 503),
        ({"rejected": 1}, 422),
        ({"rejected": 2, "lost": 2}, 422),
        ({"retry": 1}, 503),
        ({"rejected": 1, "retry": 1}, 503),
        ({"accepted": 1, "retry": 1}, 503),
        ({"accepted": 2, "spooled": 1, "rejected": 1, "lost": 1, "retry": 1}, 503),
        ({"unknown": 1}, 504),
        ({"accepted": 1, "unknown": 1}, 504),
        ({"rejected": 1, "unknown": 1}, 504),
        ({"retry": 1, "unknown": 1}, 504),
        ({"accepted": 2, "spooled": 1, "rejected": 1, "lost": 1, "retry": 1, "unknown": 1}, 504),
    ],
)
def test_the_highest_status_that_applies_wins(counts: dict[str, int], status: int) -> None:
    """The contract's table, from what is all well to what nobody knows."""
    assert Results(**counts).status == status


def expected_status(results: Results) -> int:
    """The contract's table read from its top."""
    rows = [
        (504, results.unknown),
        (503, results.retry),
        (422, results.rejected and not results.accepted),
        (202, results.spooled or results.letters_spooled),
        (207, results.lost),
    ]
    return next((status for status, applies in rows if applies), 200)


def test_every_combination_has_the_status_of_the_table() -> None:
    """Accepted includes spooled; rejected includes lost, and those whose copy is in the spool."""
    for ok, spooled, kept, lost, retry, unknown, letters in product(range(3), repeat=7):
        rejected = kept + lost + letters
        results = Results(ok + spooled, spooled, rejected, retry, unknown, lost)
        results.letters_spooled = letters
        assert results.status == expected_status(results)


@pytest.mark.parametrize(
    ("counts", "code"),
    [
        ({"unknown": 1, "retry": 1, "rejected": 1}, "ack_timeout"),
        ({"retry": 1, "rejected": 1, "accepted": 1}, "kafka_unavailable"),
        ({"rejected": 1}, "no_usable_event"),
    ],
)
def test_the_code_of_a_problem_is_one_of_its_status(counts: dict[str, int], code: str) -> None:
    """Code and status come from two tables that must agree."""
    results = Results(**counts)
    assert results.code == code
    assert STATUS[results.code] == results.status


def test_counts_are_told_as_they_are() -> None:
    """Each member has its own number, and nothing of our bookkeeping is shown."""
    members = Results(7, 2, 3, 4, 5, 1).members(full=False)
    assert members == dict(zip(COUNTS, [7, 2, 3, 4, 5], strict=True)) | {"results": []}


def test_an_event_is_listed_with_all_that_is_said_of_it() -> None:
    """Index, id and status come first."""
    results = Results()
    results.add(3, "x", "rejected", code="bad_key", detail="why", kept=False)
    (entry,) = results.members(full=False)["results"]
    assert list(entry.items()) == [
        ("index", 3),
        ("id", "x"),
        ("status", "rejected"),
        ("code", "bad_key"),
        ("detail", "why"),
        ("kept", False),
    ]


def filled(statuses: list[str]) -> Results:
    """Events of these statuses, added last to first."""
    results = Results()
    for index in reversed(range(len(statuses))):
        results.add(index, f"id-{index}", statuses[index])
    return results


def listed(members: dict[str, Any]) -> list[int]:
    """The indices of the events that an answer lists."""
    return [entry["index"] for entry in members["results"]]


@given(st.lists(st.sampled_from(["ok", "spooled", "rejected", "retry", "unknown"])))
@settings(deadline=None)
def test_a_short_list_is_whole_and_in_order(statuses: list[str]) -> None:
    """Whatever the order in which the fates became known."""
    members = filled(statuses).members(full=False)
    assert listed(members) == list(range(len(statuses)))
    assert [entry["status"] for entry in members["results"]] == statuses
    assert "truncated" not in members


@pytest.mark.parametrize(("count", "truncated"), [(LISTED, False), (LISTED + 1, True)])
def test_a_thousand_rejects_are_listed_at_most(*, count: int, truncated: bool) -> None:
    """The first ones; and it is said when there are more."""
    members = filled(["rejected"] * count).members(full=False)
    assert listed(members) == list(range(1000))
    assert members.get("truncated", False) is truncated


def test_what_must_be_sent_again_is_listed_whatever_the_number() -> None:
    """Only the others are cut, and the order stays that of the events."""
    statuses = ["rejected", "retry", "unknown"] * 1500
    members = filled(statuses).members(full=False)
    first = [index for index in range(4500) if statuses[index] != "rejected" or index < 3000]
    assert listed(members) == first
    assert members["truncated"] is True
    assert listed(filled(["retry", "unknown"] * 2000).members(full=False)) == list(range(4000))


def test_what_was_not_even_added_is_said_to_be_left_out() -> None:
    """Of spooled events no more are added than an answer lists."""
    results = filled(["spooled"] * 3)
    assert "truncated" not in results.members(full=False)
    results.unlisted = 1
    assert results.members(full=False)["truncated"] is True


def test_a_full_list_is_never_cut() -> None:
    """Who asks for everything gets it."""
    members = filled(["ok", "rejected"] * 2000).members(full=True)
    assert listed(members) == list(range(4000))
    assert "truncated" not in members


def test_results_share_nothing() -> None:
    """What is listed for one request is not listed for the next."""
    filled(["retry"])
    assert Results().entries == []
