"""A campaign's faults are those that were asked for, and the same for the same seed."""

from __future__ import annotations

from collections import Counter

import pytest

from loadtest.campaign_plan import ISSUED, SERVICES, WORKERS, Counts, drawn, planned


@pytest.mark.parametrize("counts", [ISSUED, Counts(kills=7), Counts(freezes90=1), Counts()])
def test_rounds_add_up_to_what_was_asked_for(counts: Counts) -> None:
    """Every fault is in one round."""
    rounds = planned(1, counts, kill_every=2.0, round_seconds=180.0)
    names = Counter(fault.name for each in rounds for fault in each.faults)
    assert sum(len(each.kills) for each in rounds) == counts.kills
    assert names["broker killed"] == counts.broker_kills
    assert names["broker bounced"] == counts.broker_bounces
    assert names["broker frozen 5 s"] == counts.freezes5
    assert names["broker frozen 30 s"] == counts.freezes30
    assert names["broker frozen 90 s"] == counts.freezes90


def test_rounds_are_about_as_long_as_asked_for() -> None:
    """What is noted in a round is held in memory."""
    rounds = planned(1, ISSUED, kill_every=2.0, round_seconds=180.0)
    assert all(60 < each.about_seconds < 300 for each in rounds)
    assert sum(each.about_seconds for each in drawn(1, 600.0, 3.0, 180.0)) < 900


def test_kills_go_on_as_long_as_the_broker_is_disturbed() -> None:
    """Also where they alone would be over sooner."""
    (only,) = planned(3, Counts(kills=10, freezes30=3), kill_every=1.0, round_seconds=600.0)
    assert 60 < only.kills[-1].at < 160


def test_the_same_seed_draws_the_same_faults() -> None:
    """And another one others."""
    assert drawn(5, 300.0, 3.0, 100.0) == drawn(5, 300.0, 3.0, 100.0)
    assert drawn(5, 300.0, 3.0, 100.0) != drawn(6, 300.0, 3.0, 100.0)
    assert planned(5, ISSUED, 3.0, 100.0) == planned(5, ISSUED, 3.0, 100.0)


def test_every_worker_and_both_services_are_killed() -> None:
    """A hundred kills spare nobody."""
    kills = [kill for each in planned(1, Counts(kills=100), 2.0, 180.0) for kill in each.kills]
    hit = {(kill.service, kill.slot) for kill in kills}
    assert hit == {(name, slot) for name in SERVICES for slot in (None, *range(WORKERS))}
    assert 0.5 < kills[1].at - kills[0].at < 4.0
