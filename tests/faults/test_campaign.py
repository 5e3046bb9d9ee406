"""One round of the campaign: kills and broker faults under load on all ways in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from loadtest.campaign import run
from loadtest.campaign_faults import Broker
from loadtest.campaign_plan import Counts, planned

if TYPE_CHECKING:
    from tests.conftest import Kafka

SEED = 8
COUNTS = Counts(kills=6, broker_kills=1, freezes5=1)


@pytest.mark.timeout(300)
def test_nothing_acknowledged_is_missing(own_kafka: Kafka) -> None:
    """Over HTTP and RELP; TCP and UDP lose only what a kill explains; copies are bounded."""
    (plan,) = planned(SEED, COUNTS, kill_every=10.0, round_seconds=120.0)
    assert {kill.slot is None for kill in plan.kills} == {True, False}, "a worker, and a service"
    report = run([plan], Broker(own_kafka.node, own_kafka.servers), spool=True)
    assert report.ok, str(report)
    assert report.faults["broker killed"] == report.faults["broker frozen 5 s"] == 1
    assert report.faults["worker killed"] + report.faults["service killed"] == COUNTS.kills
    assert report.verdicts["http"].counts["acknowledged"] > 10_000
    assert report.verdicts["http"].counts["spooled"] > 0, "the freeze was longer than it waits"
    assert report.verdicts["relp"].counts["acknowledged"] > 5_000
    assert min(report.verdicts[way].counts["present"] for way in ("tcp", "udp")) > 2_000
