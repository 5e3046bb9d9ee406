"""What the reports of the workers add up to: readiness, liveness, ``/status`` and the gauges."""

from __future__ import annotations

import msgspec
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from ingest.status import (
    PROBLEM_LENGTH,
    STUCK_SECONDS,
    ConfigStatus,
    Readiness,
    Seat,
    SpoolStatus,
    StatusCollector,
    WorkerStatus,
    connections,
    degraded_by,
    kafka_up,
    readiness,
    reasons_of,
    reload_problems,
    silent_since,
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
AHEAD = WorkerStatus(pid=6, config_version=3)
BEHIND = WorkerStatus(pid=7, config_version=2, reload_failed=True)
SPOOL = SpoolStatus({"orders": 7, "logs": 2}, bytes=1000, oldest_seconds=3.5)
OTHER_SPOOL = SpoolStatus({"orders": 1}, bytes=500, oldest_seconds=90.0, room=False)
FULL = SpoolStatus(room=False)
BROKEN = SpoolStatus({"orders": 4}, bytes=100, problem="Input/output error")
LOADED_AT = "2026-11-23T12:00:00Z"
FIRST = ConfigStatus(0, LOADED_AT)
THIRD = ConfigStatus(3, LOADED_AT)
BAD_FILE = ConfigStatus(3, LOADED_AT, ("ingest.toml: sources: expected a table", "another"))


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
    assert readiness(seats(*reports), FIRST, draining=False) == expected


# The spool.


def with_spool(report: WorkerStatus, spool: SpoolStatus) -> WorkerStatus:
    """The same worker with a spool."""
    return msgspec.structs.replace(report, spool=spool)


AWAY = {"kafka": "unreachable: events go to the spool"}
DISK = {"spool": "Input/output error"}


@pytest.mark.parametrize(
    ("connected", "spool", "reasons", "degraded"),
    [
        (True, None, [], {}),
        (True, SPOOL, [], {}),
        (True, FULL, [], {"spool": "full"}),
        (True, BROKEN, [], DISK),
        (False, None, ["kafka_unreachable"], {}),
        (False, SPOOL, [], AWAY),
        (False, FULL, ["kafka_unreachable", "spool_full"], {"spool": "full"}),
        (False, BROKEN, ["kafka_unreachable", "spool_failed"], DISK),
        (
            False,
            SpoolStatus(room=False, problem="x" * 1000),
            ["kafka_unreachable", "spool_failed"],
            {"spool": "x" * PROBLEM_LENGTH},
        ),
        (None, None, ["starting"], {}),
        (None, SPOOL, [], {}),
        (None, FULL, ["starting", "spool_full"], {"spool": "full"}),
        (None, BROKEN, ["starting", "spool_failed"], DISK),
    ],
)
def test_a_worker_takes_data_while_kafka_or_its_spool_does(
    connected: bool | None,  # noqa: FBT001
    spool: SpoolStatus | None,
    reasons: list[str],
    degraded: dict[str, str],
) -> None:
    """Both are named where neither does; a spool that does not is, before it is needed."""
    assert reasons_of(connected=connected, spool=spool) == reasons
    assert degraded_by(connected=connected, spool=spool) == degraded


def test_the_status_document_sums_up_the_spools_of_all_workers() -> None:
    """Beside what the configuration says of it; a worker that starts, or has none, adds nothing."""
    some = [
        Seat(0, 0, 0.0, with_spool(FINE, SPOOL)),
        Seat(1, 0, 0.0, None),
        Seat(2, 0, 0.0, with_spool(DOWN, OTHER_SPOOL)),
        Seat(3, 0, 0.0, with_spool(DOWN, BROKEN)),
    ]
    about = {"spool": {"mode": "auto"}}
    document = summary("ingest-http", some, FIRST, draining=False, about=about)
    assert document["spool"] == {
        "mode": "auto",
        "bytes": 1600,
        "events": {"logs": 2, "orders": 12},
        "oldest_seconds": 90.0,
        "room": False,
        "problems": ["worker 3: Input/output error"],
    }
    assert document["workers"][0]["spool"]["events"] == {"orders": 7, "logs": 2}
    without = summary("ingest-http", seats(FINE), FIRST, draining=False, about=about)
    assert without["spool"] == {"mode": "auto"}
    assert "spool" not in summary("ingest-http", seats(FINE), FIRST, draining=False)


def test_the_gauges_of_the_spool_hold_for_all_workers() -> None:
    """Sums, and the age of the oldest; none where no worker has one."""
    found = exported(with_spool(FINE, SPOOL), with_spool(DOWN, OTHER_SPOOL), FINE, None)
    assert [each for each in found if each.startswith("ingest_spool_")] == [
        "ingest_spool_bytes 1500.0",
        "ingest_spool_events 10.0",
        "ingest_spool_oldest_seconds 90.0",
    ]
    assert "ingest_spool_bytes 0.0" in exported(with_spool(FINE, SpoolStatus()))
    assert not any(each.startswith("ingest_spool_") for each in exported(FINE, None))


def test_a_draining_service_is_not_ready() -> None:
    """However well its workers are."""
    expected = Readiness(ready=False, reasons=["draining"], degraded={"orders": "topic_forbidden"})
    assert readiness(seats(FINE, BAD_TOPIC), FIRST, draining=True) == expected


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
    """Sums over all workers, then each of them; what is said of the configuration is passed on."""
    some = [Seat(0, 3, 0.0, FINE), Seat(1, 0, 0.0, DOWN), Seat(2, 1, 0.0, None)]
    about = {"listeners": {"http": "127.0.0.1:8080"}, "sources": ["orders"]}
    document = summary("ingest-http", some, FIRST, draining=False, about=about)
    workers = document.pop("workers")
    assert document == {
        "service": "ingest-http",
        "draining": False,
        "ready": True,
        "reasons": [],
        "degraded": {},
        "kafka": {"up": False},
        "config": {
            "version": 0,
            "loaded_at": LOADED_AT,
            "workers": [0, 0, None],
            "last_error": None,
        },
        "inflight_bytes": 130,
        "connections": {"http": 7, "tls": 1},
        **about,
    }
    assert [(each["slot"], each["restarts"], each["reasons"]) for each in workers] == [
        (0, 3, []),
        (1, 0, ["kafka_unreachable"]),
        (2, 1, ["starting"]),
    ]
    assert (workers[0]["pid"], workers[0]["inflight_bytes"]) == (1, 100)


def test_a_draining_service_says_so_in_its_status() -> None:
    """With the same reasons as its readiness."""
    document = summary("ingest-http", seats(FINE), FIRST, draining=True)
    assert (document["draining"], document["ready"], document["reasons"]) == (
        True,
        False,
        ["draining"],
    )


@pytest.mark.parametrize(
    ("reports", "config", "problems"),
    [
        ([FINE, None], FIRST, []),
        ([AHEAD, AHEAD], THIRD, []),
        ([AHEAD, BEHIND], THIRD, ["worker 1 kept version 2: see the log"]),
        ([AHEAD], BAD_FILE, [*BAD_FILE.problems]),
        ([BEHIND], BAD_FILE, [*BAD_FILE.problems, "worker 0 kept version 2: see the log"]),
    ],
)
def test_a_reload_that_failed_is_explained(
    reports: list[WorkerStatus | None], config: ConfigStatus, problems: list[str]
) -> None:
    """Whether the files were bad or a worker could not take what they say; no worse for serving."""
    some = seats(*reports)
    assert reload_problems(some, config) == problems
    found = readiness(some, config, draining=False)
    assert (found.ready, "configuration" in found.degraded) == (True, bool(problems))
    document = summary("ingest-http", some, config, draining=False)
    assert document["config"]["last_error"] == (problems or None)


def test_a_reload_that_failed_is_named_in_short() -> None:
    """One line for balancers and their operators, beside the topics; the rest is in the status."""
    degraded = readiness(seats(BAD_TOPIC), BAD_FILE, draining=False).degraded
    text = "the last reload failed: ingest.toml: sources: expected a table (1 more under /status)"
    assert degraded == {"orders": "topic_forbidden", "configuration": text}
    endless = ConfigStatus(0, LOADED_AT, ("x" * 10_000,))
    degraded = readiness(seats(FINE), endless, draining=False).degraded
    assert degraded == {"configuration": f"the last reload failed: {'x' * PROBLEM_LENGTH}"}


def test_the_status_says_who_has_which_configuration() -> None:
    """By slot, with nothing for a worker that starts."""
    document = summary("ingest-http", seats(AHEAD, None, BEHIND), THIRD, draining=False)
    assert (document["config"]["version"], document["config"]["workers"]) == (3, [3, None, 2])


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
    for report in (FINE, DOWN, BAD_TOPIC, GONE, BEHIND, with_spool(FINE, BROKEN)):
        assert msgspec.json.decode(msgspec.json.encode(report), type=WorkerStatus) == report


def exported(*reports: WorkerStatus | None, config: ConfigStatus = FIRST) -> list[str]:
    """The samples of the gauges."""
    registry = CollectorRegistry()
    registry.register(StatusCollector(lambda: seats(*reports), lambda: config))
    lines = generate_latest(registry).decode().splitlines()
    return [line for line in lines if not line.startswith("#")]


def test_the_gauges_are_read_off_the_last_reports() -> None:
    """A worker that has not reported adds nothing."""
    assert exported(FINE, DOWN, None)[:4] == [
        "ingest_kafka_up 0.0",
        "ingest_inflight_bytes 130.0",
        'ingest_connections{listener="http"} 7.0',
        'ingest_connections{listener="tls"} 1.0',
    ]
    assert exported(FINE)[0] == "ingest_kafka_up 1.0"
    assert exported(None)[:2] == ["ingest_kafka_up 0.0", "ingest_inflight_bytes 0.0"]


@pytest.mark.parametrize(
    ("reports", "config", "version", "successful"),
    [
        ([FINE], FIRST, 0, 1),
        ([], THIRD, 3, 1),
        ([AHEAD, None], THIRD, 3, 1),
        ([AHEAD, FINE], THIRD, 0, 1),
        ([AHEAD, BEHIND], THIRD, 2, 0),
        ([AHEAD], BAD_FILE, 3, 0),
    ],
)
def test_the_gauges_of_the_configuration_hold_for_all_workers(
    reports: list[WorkerStatus | None], config: ConfigStatus, version: int, successful: int
) -> None:
    """The one that is furthest behind counts, and one that could not take it spoils it."""
    assert exported(*reports, config=config)[-2:] == [
        f"ingest_config_version {version:.1f}",
        f"ingest_config_last_reload_successful {successful:.1f}",
    ]


def test_a_worker_that_is_stuck_cannot_take_data() -> None:
    """Whatever it said last; one that has said its last is not stuck."""
    assert silent_since(FINE, STUCK_SECONDS) == FINE
    silent = silent_since(FINE, STUCK_SECONDS + 1)
    assert silent is not None
    assert silent.reasons == ["stuck"]
    ended = msgspec.structs.replace(FINE, cut_off=0)
    assert silent_since(ended, STUCK_SECONDS + 1) == ended
    assert silent_since(None, STUCK_SECONDS + 1) is None
