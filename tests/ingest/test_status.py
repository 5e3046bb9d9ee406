"""What the reports of the workers add up to: readiness, liveness, ``/status`` and the gauges."""

from __future__ import annotations

import msgspec
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from ingest.status import (
    STUCK_SECONDS,
    Readiness,
    Seat,
    StatusCollector,
    WorkerStatus,
    connections,
    kafka_up,
    readiness,
    stuck,
    summary,
)

FINE = WorkerStatus(pid=1, kafka_up=True, inflight_bytes=100, connections={"http": 2, "tls": 1})
DOWN = WorkerStatus(
    pid=2, reasons=["kafka_unreachable"], inflight_bytes=30, connections={"http": 5}
)
STARTING = WorkerStatus(pid=3, reasons=["starting"])
BAD_TOPIC = WorkerStatus(pid=4, kafka_up=True, degraded={"orders": "topic_forbidden"})
GONE = WorkerStatus(pid=5, reasons=["stopped"], cut_off=0)


def seats(*reports: WorkerStatus | None, heard_at: float = 0.0) -> list[Seat]:
    """A seat for each report, in the order of the slots."""
    return [Seat(slot, 0, heard_at, report) for slot, report in enumerate(reports)]


@pytest.mark.parametrize(
    ("reports", "ready", "reasons", "degraded"),
    [
        ([FINE], True, [], {}),
        ([FINE, DOWN], True, [], {}),
        ([None, FINE], True, [], {}),
        ([DOWN], False, ["kafka_unreachable"], {}),
        ([STARTING, DOWN, DOWN], False, ["kafka_unreachable", "starting"], {}),
        ([None], False, ["starting"], {}),
        ([None, DOWN], False, ["kafka_unreachable"], {}),
        ([], False, ["starting"], {}),
        ([GONE], False, ["stopped"], {}),
        ([BAD_TOPIC], True, [], {"orders": "topic_forbidden"}),
        (
            [
                msgspec.structs.replace(DOWN, degraded={"logs": "topic_missing"}),
                msgspec.structs.replace(STARTING, degraded={"orders": "topic_forbidden"}),
            ],
            False,
            ["kafka_unreachable", "starting"],
            {"logs": "topic_missing", "orders": "topic_forbidden"},
        ),
    ],
)
def test_a_service_is_ready_when_a_worker_is(
    reports: list[WorkerStatus | None],
    ready: bool,  # noqa: FBT001
    reasons: list[str],
    degraded: dict[str, str],
) -> None:
    """One unusable topic does not change that; it is named all the same."""
    expected = Readiness(ready=ready, reasons=reasons, degraded=degraded)
    assert readiness(seats(*reports), draining=False) == expected


def test_a_draining_service_is_not_ready() -> None:
    """However well its workers are."""
    expected = Readiness(ready=False, reasons=["draining"], degraded={"orders": "topic_forbidden"})
    assert readiness(seats(FINE, BAD_TOPIC), draining=True) == expected


@pytest.mark.parametrize(
    ("report", "silence", "is_stuck"),
    [
        (FINE, STUCK_SECONDS, False),
        (FINE, STUCK_SECONDS + 0.1, True),
        (DOWN, STUCK_SECONDS + 0.1, True),
        (None, STUCK_SECONDS + 0.1, True),
        (GONE, STUCK_SECONDS + 0.1, False),
    ],
)
def test_a_worker_that_is_silent_for_long_is_stuck(
    report: WorkerStatus | None,
    silence: float,
    is_stuck: bool,  # noqa: FBT001
) -> None:
    """One that drained and ended is not, while its neighbours still finish."""
    found = stuck(seats(report, heard_at=100.0), 100.0 + silence)
    assert len(found) == is_stuck


def test_stuck_workers_are_named() -> None:
    """By slot, with the length of their silence; the others are not."""
    some = [Seat(0, 0, 50.0, FINE), Seat(1, 0, 10.0, FINE), Seat(2, 0, 0.0, None)]
    assert stuck(some, 52.0) == [
        "worker 1 has been silent for 42 seconds",
        "worker 2 has been silent for 52 seconds",
    ]


def test_the_status_document_says_all_there_is_to_say() -> None:
    """Sums over all workers, then each of them; what is fixed is passed on."""
    some = [Seat(0, 3, 0.0, FINE), Seat(1, 0, 0.0, DOWN), Seat(2, 1, 0.0, None)]
    fixed = {"listeners": {"http": "127.0.0.1:8080"}, "sources": ["orders"]}
    document = summary("ingest-http", some, draining=False, fixed=fixed)
    workers = document.pop("workers")
    assert document == {
        "service": "ingest-http",
        "draining": False,
        "ready": True,
        "reasons": [],
        "degraded": {},
        "kafka": {"up": False},
        "inflight_bytes": 130,
        "connections": {"http": 7, "tls": 1},
        **fixed,
    }
    assert [(each["slot"], each["restarts"], each["reasons"]) for each in workers] == [
        (0, 3, []),
        (1, 0, ["kafka_unreachable"]),
        (2, 1, ["starting"]),
    ]
    assert (workers[0]["pid"], workers[0]["inflight_bytes"]) == (1, 100)


def test_a_draining_service_says_so_in_its_status() -> None:
    """With the same reasons as its readiness."""
    document = summary("ingest-http", seats(FINE), draining=True)
    assert (document["draining"], document["ready"], document["reasons"]) == (
        True,
        False,
        ["draining"],
    )


@pytest.mark.parametrize(
    ("reports", "up"),
    [([FINE], True), ([FINE, BAD_TOPIC], True), ([FINE, DOWN], False), ([], False)],
)
def test_kafka_is_up_when_every_worker_reaches_it(reports: list[WorkerStatus], up: bool) -> None:  # noqa: FBT001
    """Nobody to ask means no."""
    assert kafka_up(reports) is up


def test_connections_add_up_by_listener() -> None:
    """Over all workers, also where only one has the listener."""
    assert connections([FINE, DOWN, STARTING]) == {"http": 7, "tls": 1}


def test_reports_survive_the_way_to_the_parent() -> None:
    """What a worker writes is what its parent reads."""
    for report in (FINE, DOWN, BAD_TOPIC, GONE):
        assert msgspec.json.decode(msgspec.json.encode(report), type=WorkerStatus) == report


def exported(*reports: WorkerStatus | None) -> list[str]:
    """The samples of the gauges."""
    registry = CollectorRegistry()
    registry.register(StatusCollector(lambda: seats(*reports)))
    lines = generate_latest(registry).decode().splitlines()
    return [line for line in lines if not line.startswith("#")]


def test_the_gauges_are_read_off_the_last_reports() -> None:
    """A worker that has not reported adds nothing."""
    assert exported(FINE, DOWN, None) == [
        "ingest_kafka_up 0.0",
        "ingest_inflight_bytes 130.0",
        'ingest_connections{listener="http"} 7.0',
        'ingest_connections{listener="tls"} 1.0',
    ]
    assert exported(FINE)[0] == "ingest_kafka_up 1.0"
    assert exported(None) == ["ingest_kafka_up 0.0", "ingest_inflight_bytes 0.0"]
