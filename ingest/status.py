"""What workers report of themselves, and what it adds up to: readiness, and the gauges.

Pure: the clock comes in as an argument.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec
from prometheus_client.core import GaugeMetricFamily

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from prometheus_client.metrics_core import Metric

STUCK_SECONDS = 15.0
"""A worker that reports nothing for this long is stuck."""
PROBLEM_LENGTH = 200
"""How much is said of a problem where one line must do."""


class SpoolStatus(msgspec.Struct, frozen=True):
    """The spool of one worker.

    Attributes:
        events: waiting in it, by topic.
        bytes: what it occupies on its disk.
        oldest_seconds: since the oldest of its events was written to it; 0 while it is empty.
        room: whether it takes more.
        spare: whether it is less than half full.
        problem: why its disk is not trusted just now; empty when it is.
    """

    events: dict[str, int] = {}
    bytes: int = 0
    oldest_seconds: float = 0.0
    room: bool = True
    spare: bool = True
    problem: str = ""

    @property
    def takes(self) -> bool:
        """Whether events can go there now."""
        return self.room and not self.problem


class WorkerStatus(msgspec.Struct, frozen=True):
    """One report of one worker.

    Attributes:
        pid: its process.
        reasons: why it cannot take data now; empty when it can.
        degraded: unusable topic -> reason.
        kafka_up: whether Kafka answered lately.
        inflight_bytes: bytes accepted but not yet acked.
        connections: listener -> open connections.
        spool: how its spool is; None: it has none.
        lag: topic -> partition -> records that it has yet to forward.
        config_version: which configuration it works with; see `ConfigStatus`.
        reload_failed: it could not take the one it was given last.
        cut_off: with the last report of a drained worker: requests that got no answer; else None.
    """

    pid: int
    reasons: list[str] = []
    degraded: dict[str, str] = {}
    kafka_up: bool = False
    inflight_bytes: int = 0
    connections: dict[str, int] = {}
    spool: SpoolStatus | None = None
    lag: dict[str, dict[str, int]] = {}
    config_version: int = 0
    reload_failed: bool = False
    cut_off: int | None = None


def reasons_of(*, connected: bool | None, spool: SpoolStatus | None) -> list[str]:
    """Why a worker cannot take data now; empty when Kafka or its spool can.

    Args:
        connected: whether Kafka answers; None: that was not tried yet.
        spool: how the spool is; None: there is none.
    """
    if connected or (spool is not None and spool.takes):
        return []
    reasons = ["kafka_unreachable" if connected is False else "starting"]
    if spool is not None:
        reasons.append("spool_failed" if spool.problem else "spool_full")
    return reasons


def degraded_by(*, connected: bool | None, spool: SpoolStatus | None) -> dict[str, str]:
    """What is wrong with a worker that can take data all the same; see `reasons_of`."""
    if spool is None:
        return {}
    if not spool.takes:  # worth knowing before it is needed
        return {"spool": spool.problem[:PROBLEM_LENGTH] or "full"}
    return {"kafka": "unreachable: events go to the spool"} if connected is False else {}


class ConfigStatus(msgspec.Struct, frozen=True):
    """The configuration in force, as the parent of the workers knows it.

    Attributes:
        version: 0 from the start, and one more whenever another one was given to the workers.
        loaded_at: when it was last read without an error, RFC 3339.
        problems: what was wrong with the files at the last reload; empty: nothing.
    """

    version: int
    loaded_at: str
    problems: tuple[str, ...] = ()


class Readiness(msgspec.Struct, frozen=True):
    """Whether a service can take data now.

    Attributes:
        ready: at least one worker can.
        reasons: why not.
        degraded: what is wrong all the same, such as a topic that cannot be used, a
            ``configuration`` that could not be reloaded, ``kafka`` that is away while a spool takes
            its place, or a ``spool`` that could not take anything.
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


def readiness(seats: Sequence[Seat], config: ConfigStatus, *, draining: bool) -> Readiness:
    """What the reports of all workers add up to, and the last reload."""
    reports = _reports(seats)
    degraded: dict[str, str] = {}
    for report in reports:
        degraded |= report.degraded
    if problems := reload_problems(seats, config):
        degraded["configuration"] = _in_short(problems)
    if draining:
        return Readiness(ready=False, reasons=["draining"], degraded=degraded)
    if any(not report.reasons for report in reports):
        return Readiness(ready=True, reasons=[], degraded=degraded)
    reasons = sorted({reason for report in reports for reason in report.reasons})
    return Readiness(ready=False, reasons=reasons or ["starting"], degraded=degraded)


def reload_problems(seats: Sequence[Seat], config: ConfigStatus) -> list[str]:
    """Why the last reload is not in force everywhere; empty where it is."""
    return [
        *config.problems,
        *(
            f"worker {seat.slot} kept version {seat.status.config_version}: see the log"
            for seat in seats
            if seat.status is not None and seat.status.reload_failed
        ),
    ]


def _in_short(problems: Sequence[str]) -> str:
    first, *others = problems
    more = f" ({len(others)} more under /status)" if others else ""
    return f"the last reload failed: {first[:PROBLEM_LENGTH]}{more}"


def _reports(seats: Iterable[Seat]) -> list[WorkerStatus]:
    return [seat.status for seat in seats if seat.status is not None]


def silent_since(status: WorkerStatus | None, seconds: float) -> WorkerStatus | None:
    """A last report with what its age says: who is stuck cannot take data."""
    if status is None or status.cut_off is not None or seconds <= STUCK_SECONDS:
        return status
    return msgspec.structs.replace(status, reasons=[*status.reasons, "stuck"])


def stuck(seats: Sequence[Seat], now: float) -> list[str]:
    """The workers that have been silent for too long, except those that have said their last."""
    return [
        f"worker {seat.slot} has been silent for {now - seat.heard_at:.0f} seconds"
        for seat in seats
        if now - seat.heard_at > STUCK_SECONDS
        and (seat.status is None or seat.status.cut_off is None)
    ]


def summary(
    service: str,
    seats: Sequence[Seat],
    config: ConfigStatus,
    *,
    draining: bool,
    about: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The document of ``/status``; ``about`` is what else there is to say."""
    reports = _reports(seats)
    return {
        "service": service,
        "draining": draining,
        **msgspec.to_builtins(readiness(seats, config, draining=draining)),
        "kafka": {"up": kafka_up(reports)},
        "config": {
            "version": config.version,
            "loaded_at": config.loaded_at,
            "workers": [seat.status and seat.status.config_version for seat in seats],
            "last_error": reload_problems(seats, config) or None,
        },
        "inflight_bytes": sum(report.inflight_bytes for report in reports),
        **(about or {}),
        **_spool(seats, about or {}),
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


def _spool(seats: Sequence[Seat], about: Mapping[str, Any]) -> dict[str, Any]:
    """The member ``spool`` of ``/status``: all workers together; none where no worker has one."""
    found = [
        (seat.slot, seat.status.spool)
        for seat in seats
        if seat.status is not None and seat.status.spool is not None
    ]
    if not found:
        return {}
    spools = [spool for _, spool in found]
    events: Counter[str] = Counter()
    for spool in spools:
        events.update(spool.events)
    together = {
        "bytes": sum(spool.bytes for spool in spools),
        "events": dict(sorted(events.items())),
        "oldest_seconds": max(spool.oldest_seconds for spool in spools),
        "room": all(spool.room for spool in spools),
        "problems": [f"worker {slot}: {spool.problem}" for slot, spool in found if spool.problem],
    }
    return {"spool": {**about.get("spool", {}), **together}}


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

    def __init__(
        self, seats: Callable[[], Sequence[Seat]], config: Callable[[], ConfigStatus]
    ) -> None:
        self._seats = seats
        self._config = config

    def collect(self) -> Iterator[Metric]:
        """See ``prometheus_client.registry.Collector``."""
        seats, config = self._seats(), self._config()
        yield from _of_workers(_reports(seats))
        yield from _of_configuration(seats, config)


def _of_workers(reports: Sequence[WorkerStatus]) -> Iterator[Metric]:
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
    yield from _of_lag(reports)
    yield from _of_spools([report.spool for report in reports if report.spool is not None])


def _of_lag(reports: Sequence[WorkerStatus]) -> Iterator[Metric]:
    if not any(report.lag for report in reports):
        return
    family = GaugeMetricFamily(
        "ingest_forward_lag",
        "Records of a partition that are yet to be forwarded, or to be committed as such.",
        labels=["topic", "partition"],
    )
    found = {  # while one is handed over, two may have it
        (topic, partition): lag
        for report in reports
        for topic, partitions in report.lag.items()
        for partition, lag in partitions.items()
    }
    for labels, lag in found.items():
        family.add_metric(labels, lag)
    yield family


def _of_spools(spools: Sequence[SpoolStatus]) -> Iterator[Metric]:
    if not spools:
        return
    yield GaugeMetricFamily(
        "ingest_spool_bytes",
        "What the spool occupies on its disk, all workers together.",
        value=sum(spool.bytes for spool in spools),
    )
    yield GaugeMetricFamily(
        "ingest_spool_events",
        "Events in the spool, on their way to Kafka, all workers together.",
        value=sum(sum(spool.events.values()) for spool in spools),
    )
    yield GaugeMetricFamily(
        "ingest_spool_oldest_seconds",
        "Seconds since the oldest event in the spool was written to it, of all workers; 0 while it "
        "is empty.",
        value=max(spool.oldest_seconds for spool in spools),
    )


def _of_configuration(seats: Sequence[Seat], config: ConfigStatus) -> Iterator[Metric]:
    versions = [report.config_version for report in _reports(seats)]
    yield GaugeMetricFamily(
        "ingest_config_version",
        "Version of the configuration, of the worker that is furthest behind: 0 from the start, "
        "one more with every reload that changed something.",
        value=min([config.version, *versions]),
    )
    yield GaugeMetricFamily(
        "ingest_config_last_reload_successful",
        "0 while the last reload failed, in whole or in a worker, else 1.",
        value=int(not reload_problems(seats, config)),
    )
