"""What workers report of themselves, and what it adds up to: readiness, and the gauges.

Pure: the clock comes in as an argument.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from prometheus_client.core import GaugeMetricFamily

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from prometheus_client.metrics_core import Metric

STUCK_SECONDS = 15.0
"""A worker that reports nothing for this long is stuck."""


class WorkerStatus(msgspec.Struct, frozen=True):
    """One report of one worker.

    Attributes:
        pid: its process.
        reasons: why it cannot take data now; empty when it can.
        degraded: unusable topic -> reason.
        kafka_up: whether Kafka answered lately.
        inflight_bytes: bytes accepted but not yet acked.
        connections: listener -> open connections.
        cut_off: with the last report of a drained worker: requests that got no answer; else None.
    """

    pid: int
    reasons: list[str] = []
    degraded: dict[str, str] = {}
    kafka_up: bool = False
    inflight_bytes: int = 0
    connections: dict[str, int] = {}
    cut_off: int | None = None


class Readiness(msgspec.Struct, frozen=True):
    """Whether a service can take data now.

    Attributes:
        ready: at least one worker can.
        reasons: why not.
        degraded: what is wrong all the same, such as a topic that cannot be used.
    """

    ready: bool
    reasons: list[str]
    degraded: dict[str, str]


class Seat(msgspec.Struct, frozen=True):
    """A worker as its parent sees it.

    Attributes:
        slot: its number, which a replacement takes over.
        restarts: how often it was replaced.
        heard_at: when it last reported, on the clock of the parent's loop.
        status: its last report; None while it starts.
    """

    slot: int
    restarts: int
    heard_at: float
    status: WorkerStatus | None


def readiness(seats: Sequence[Seat], *, draining: bool) -> Readiness:
    """What the reports of all workers add up to."""
    reports = [seat.status for seat in seats if seat.status is not None]
    degraded: dict[str, str] = {}
    for report in reports:
        degraded |= report.degraded
    if draining:
        return Readiness(ready=False, reasons=["draining"], degraded=degraded)
    if any(not report.reasons for report in reports):
        return Readiness(ready=True, reasons=[], degraded=degraded)
    reasons = sorted({reason for report in reports for reason in report.reasons})
    return Readiness(ready=False, reasons=reasons or ["starting"], degraded=degraded)


def stuck(seats: Sequence[Seat], now: float) -> list[str]:
    """The workers that have been silent for too long, except those that have said their last."""
    return [
        f"worker {seat.slot} has been silent for {now - seat.heard_at:.0f} seconds"
        for seat in seats
        if now - seat.heard_at > STUCK_SECONDS
        and (seat.status is None or seat.status.cut_off is None)
    ]


def summary(
    service: str, seats: Sequence[Seat], *, draining: bool, fixed: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The document of ``/status``; ``fixed`` is what does not change while the service runs."""
    reports = [seat.status for seat in seats if seat.status is not None]
    return {
        "service": service,
        "draining": draining,
        **msgspec.to_builtins(readiness(seats, draining=draining)),
        "kafka": {"up": kafka_up(reports)},
        "inflight_bytes": sum(report.inflight_bytes for report in reports),
        **(fixed or {}),
        "connections": connections(reports),
        "workers": [
            {
                "slot": seat.slot,
                "restarts": seat.restarts,
                **(msgspec.to_builtins(seat.status) if seat.status else {"reasons": ["starting"]}),
            }
            for seat in seats
        ],
    }


def kafka_up(reports: Sequence[WorkerStatus]) -> bool:
    """Whether every worker reaches Kafka."""
    return bool(reports) and all(report.kafka_up for report in reports)


def connections(reports: Iterable[WorkerStatus]) -> dict[str, int]:
    """Listener -> open connections of all workers."""
    total: dict[str, int] = {}
    for report in reports:
        for listener, count in report.connections.items():
            total[listener] = total.get(listener, 0) + count
    return total


class StatusCollector:
    """The gauges, read off the last reports whenever metrics are asked for."""

    def __init__(self, seats: Callable[[], Sequence[Seat]]) -> None:
        self._seats = seats

    def collect(self) -> Iterator[Metric]:
        """See ``prometheus_client.registry.Collector``."""
        reports = [seat.status for seat in self._seats() if seat.status is not None]
        yield GaugeMetricFamily(
            "ingest_kafka_up",
            "1 while every worker reaches Kafka, else 0.",
            value=int(kafka_up(reports)),
        )
        yield GaugeMetricFamily(
            "ingest_inflight_bytes",
            "Bytes accepted but not yet acked, all workers together.",
            value=sum(report.inflight_bytes for report in reports),
        )
        family = GaugeMetricFamily(
            "ingest_connections", "Open connections, all workers together.", labels=["listener"]
        )
        for listener, count in connections(reports).items():
            family.add_metric([listener], count)
        yield family
