"""A paced load keeps its rate, and makes up for lost time in portions."""

from __future__ import annotations

import pytest

from loadtest.syslog_pace import CATCH_UP_SECONDS, Pace


def sent_at(pace: Pace, *moments: float) -> list[int]:
    """How many messages are sent at each of these moments."""
    found = []
    for moment in moments:
        due = pace.due(moment)
        pace.sent(due)
        found.append(due)
    return found


@pytest.mark.parametrize("start", [0.0, 1e6])
def test_the_rate_is_kept_from_the_first_question_on(start: float) -> None:
    """The clock may stand anywhere."""
    moments = [start + tick / 1000 for tick in range(0, 2001, 2)]
    found = sent_at(Pace(10_000, 100_000), *moments)
    assert sum(found) == pytest.approx(20_001, abs=1)
    assert set(found[1:]) <= {19, 20, 21}


def test_a_rate_below_the_ticks_sends_one_now_and_then() -> None:
    """Fractions of a message add up."""
    found = sent_at(Pace(100, 1_000), *(tick / 1000 for tick in range(1000)))
    assert sum(found) == 100
    assert set(found) == {0, 1}


def test_lost_time_is_made_up_for_in_portions() -> None:
    """One burst of everything would test the receive buffer, not the rate."""
    pace = Pace(10_000, 100_000)
    found = sent_at(pace, 0, *(0.02 + tick / 1000 for tick in range(20)))
    assert max(found) == 10_000 * CATCH_UP_SECONDS
    assert sum(found) == pytest.approx(0.039 * 10_000, abs=2)
    assert pace.longest_gap == pytest.approx(0.02)


def test_no_more_is_due_than_is_left() -> None:
    """The count is exact."""
    assert sent_at(Pace(1_000, 3), 0, 0.004, 0.008) == [1, 2, 0]


def test_without_a_rate_everything_is_due_at_once() -> None:
    """The receiver sets the pace."""
    pace = Pace(0, 500)
    assert not pace.paced
    assert pace.due(7.0) == 500
    pace.sent(499)
    assert pace.due(7.0) == 1
