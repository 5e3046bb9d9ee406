"""A campaign is as good as its worst round."""

from __future__ import annotations

from collections import Counter

from loadtest.campaign_faults import Happened
from loadtest.campaign_report import LIMIT_BYTES, Report
from loadtest.campaign_round import Outcome
from loadtest.campaign_verdict import ALLOWED, EXCESS, Verdict

KILLED = Happened("worker killed", "http", 104.0, 104.1)
AWAY = Happened("broker killed", "", 100.0, 105.0)


def outcome(peak_bytes: int = 1, **counts: int) -> Outcome:
    """A round with two faults and these counts over HTTP."""
    found = Verdict("http", Counter({"present": 5, **counts}))
    return Outcome([found], [KILLED, AWAY], 60.0, 2.0, {"http": peak_bytes})


def test_good_rounds_are_summed_up() -> None:
    """Faults and events of all of them; a kill is told from one while the broker was away."""
    report = Report()
    assert not report.ok, "it has shown nothing yet"
    assert report.add("1-0", outcome(sent=7)) == []
    assert report.add("1-1", outcome(sent=8)) == []
    assert report.ok
    assert report.faults == {
        "worker killed": 2,
        "broker killed": 2,
        "of all kills: while the broker was away": 2,
    }
    assert "| sent | 15 |" in str(report)
    assert str(report).startswith("**ok**: 2 rounds, 120 s")


def test_one_bad_round_is_a_bad_campaign() -> None:
    """Also where later ones are good, and where the sum would be within the bound."""
    report = Report()
    report.add("1-0", outcome(**{"acknowledged and missing": 1}))
    report.add("1-1", outcome())
    assert report.broken == ["round 1-0, http: acknowledged and missing 1"]
    report = Report()
    report.add("1-0", outcome(**{EXCESS: 2, ALLOWED: 1}))
    report.add("1-1", outcome(**{ALLOWED: 9}))
    assert not report.ok
    assert "NOT OK" in str(report)


def test_a_round_that_cannot_be_judged_is_a_bad_one() -> None:
    """A fault that cannot be seen to happen proves nothing."""
    report = Report()
    report.add("1-0", outcome())
    report.fail("1-1", ExceptionGroup("in tasks", [TimeoutError("not at rest")]))
    assert report.broken == ["round 1-1: not judged: TimeoutError('not at rest')"]
    assert not report.ok


def test_memory_has_a_limit() -> None:
    """Of each process of a service."""
    report = Report()
    report.add("1-0", outcome(peak_bytes=LIMIT_BYTES))
    assert report.ok
    report.add("1-1", outcome(peak_bytes=LIMIT_BYTES + 1))
    assert not report.ok
