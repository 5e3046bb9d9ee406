"""The loss table finds what it is there to find: each broken promise, alone, and no other."""

from __future__ import annotations

from typing import Any

import pytest

from loadtest.syslog_loss_table import ASKED_BYTES, HEADING, Loss, table


def loss(**differs: Any) -> Loss:
    """A run in which all went well, but for what differs."""
    good: dict[str, Any] = {
        "rate": 100_000,
        "workers": 2,
        "seconds": 2.0,
        "sent": 200_000,
        "delivered": 200_000,
        "buffer_bytes": ASKED_BYTES,
    }
    return Loss(**{**good, **differs})


LOSSY = {"delivered": 199_000, "dropped": {"kernel": 900, "empty": 100}, "kernel_drops": 900}


def test_a_clean_run_breaks_no_promise() -> None:
    """Everything sent is delivered."""
    assert loss().broken() == []


@pytest.mark.parametrize(
    "differs",
    [{"rate": 200_000}, {"workers": 1}, {"buffer_bytes": ASKED_BYTES - 1}],
    ids=["rate", "workers", "buffer"],
)
def test_a_loss_that_is_counted_may_be_where_nothing_was_promised(differs: dict[str, int]) -> None:
    """At a higher rate, with one worker, or where the kernel clamps the buffer."""
    assert loss(**LOSSY, **differs).broken() == []


def test_a_counted_loss_is_found_where_nothing_may_be_lost() -> None:
    """Up to 100,000 per second, two workers, a buffer as large as was asked for."""
    (found,) = loss(**LOSSY).broken()
    assert "1,000 lost in spite of a large enough buffer" in found


@pytest.mark.parametrize(("delivered", "text"), [(199_999, " 1 "), (200_001, " -1 ")])
def test_a_message_that_is_unaccounted_for_is_found(delivered: int, text: str) -> None:
    """Lost without a word, or there twice; at any rate."""
    (found,) = loss(delivered=delivered, workers=1).broken()
    assert f"{text}unaccounted for" in found


def test_a_duplicate_is_found_even_where_a_loss_makes_up_for_it() -> None:
    """The difference alone would be 0."""
    (found,) = loss(duplicated=1).broken()
    assert "1 duplicated" in found


def test_a_count_that_is_not_the_kernels_is_found() -> None:
    """One error must not hide another."""
    differs = {**LOSSY, "dropped": {"kernel": 1_000}, "rate": 200_000}
    (found,) = loss(**differs).broken()
    assert "the kernel dropped 900, counted 1,000" in found


def test_a_row_says_it_all() -> None:
    """Reasons with nothing to say are left out."""
    heading, row, clean = table(
        [loss(**LOSSY, buffer_bytes=425_984), loss(dropped={"empty": 0}, duplicated=0)]
    )
    assert heading == list(HEADING)
    assert row == [
        *("100,000", "2", "2.0", "200,000", "100,000", "199,000"),
        *("empty 100, kernel 900", "0", "", "0.4", "yes"),
    ]
    assert clean[5:] == ["200,000", "0", "0", "0", "8.0", "no"]
