"""Counters are shared by processes, outlive them, add up, and have the contract's names."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import textwrap
from collections import Counter as Multiset
from itertools import pairwise
from struct import unpack_from
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.mmap_dict import MmapedDict

from ingest import metrics
from ingest.metrics import LATENCY_BUCKETS, REGISTRY, Requests, book_lost_events, shared_registry
from ingest.status import ConfigStatus, Seat, SpoolStatus, StatusCollector, WorkerStatus

if TYPE_CHECKING:
    from pathlib import Path

    from prometheus_client.samples import Sample

CONTRACT = {
    "ingest_events_received_total": {"service", "source"},
    "ingest_events_total": {"service", "source", "outcome"},
    "ingest_requests_total": {"source", "status"},
    "ingest_produce_seconds": {"topic"},
    "ingest_inflight_bytes": set(),
    "ingest_spool_bytes": set(),
    "ingest_spool_events": set(),
    "ingest_spool_oldest_seconds": set(),
    "ingest_rejects_total": {"source", "code"},
    "ingest_kafka_up": set(),
    "ingest_connections": {"listener"},
    "ingest_syslog_dropped_total": {"listener", "reason"},
    "ingest_syslog_parse_total": {"listener", "format", "status"},
    "ingest_forward_events_total": {"route", "outcome"},
    "ingest_forward_lag": {"topic", "partition"},
}
"""Name -> labels, where the contract says both."""
BEYOND = {
    "ingest_schema_warnings_total": {"source"},
    "ingest_quota_refusals_total": {"key", "quota"},
    "ingest_reloads_total": {"service", "outcome"},
    "ingest_spool_replayed_total": {"topic", "outcome"},
    "ingest_spool_damaged_total": {"kind"},
    "ingest_forward_rejects_total": {"route", "code"},
    "ingest_forward_expired_total": {"topic"},
    "ingest_config_version": set(),
    "ingest_config_last_reload_successful": set(),
}
"""Name -> labels of more that others rely on."""
CONTRACT_NAMES = {*CONTRACT, "ingest_received_bytes_total", "ingest_request_seconds"}
CONFIGURED = {
    *("service", "source", "outcome", "status", "topic", "code", "listener", "limit"),
    *("key", "quota", "reason", "format", "kind", "route", "partition"),
}
"""Labels that take their values from the configuration or from a fixed set of words."""

COUNT = """
from pathlib import Path
import os, signal, sys
from ingest import metrics
metrics.share_counters(Path(sys.argv[1]), sys.argv[2])
received = metrics.adder(metrics.EVENTS_RECEIVED.labels("svc", "orders"))
acked = metrics.adder(metrics.EVENTS.labels("svc", "orders", "acked"))
"""
ONE_OF_EACH = """
for name in dir(metrics):
    metric = getattr(metrics, name)
    if isinstance(metric, metrics.Counter):
        metric.labels(*["x"] * len(metric._labelnames)).inc()
    elif isinstance(metric, metrics.Histogram):
        metric.labels(*["x"] * len(metric._labelnames)).observe(0.3)
"""


def run(directory: Path, code: str, slot: int | str = 0, *, status: int = 0) -> None:
    """Run ``code`` in a process that counts in ``directory``, as a worker does."""
    script = COUNT + textwrap.dedent(code)
    command = [sys.executable, "-c", script, str(directory), str(slot)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == status, done.stderr


def samples(directory: Path) -> list[Sample]:
    """What the parent exports."""
    return [each for metric in shared_registry(directory).collect() for each in metric.samples]


def value(directory: Path, name: str, **labels: str) -> float:
    """One exported number; 0 where there is none."""
    found = [s.value for s in samples(directory) if s.name == name and s.labels == labels]
    assert len(found) <= 1
    return found[0] if found else 0.0


def outcomes(directory: Path, source: str = "orders") -> dict[str, float]:
    """Received, and each outcome, of a source."""
    wanted = {"ingest_events_received_total", "ingest_events_total"}
    return {
        each.labels.get("outcome", "received"): each.value
        for each in samples(directory)
        if each.name in wanted and each.labels["source"] == source
    }


# Shared counters


def test_counts_of_all_workers_add_up(tmp_path: Path) -> None:
    """Each counts in its own file, the parent too; one number for each counter comes out."""
    for slot, count in ((0, 3), (1, 4), ("parent", 5)):
        run(tmp_path, f"received({count}); acked({count - 1})", slot)
    assert outcomes(tmp_path) == {"received": 12, "acked": 9}


def test_a_restarted_worker_goes_on_with_the_counts_of_its_predecessor(tmp_path: Path) -> None:
    """Killed without a chance to write anything, it has lost none of them."""
    killed = "acked(2.5); os.kill(os.getpid(), signal.SIGKILL)"
    run(tmp_path, killed, status=-signal.SIGKILL)
    assert outcomes(tmp_path)["acked"] == 2.5
    run(tmp_path, "acked(4)")
    assert outcomes(tmp_path)["acked"] == 6.5


def test_counts_survive_the_growth_of_their_file(tmp_path: Path) -> None:
    """A counter made early still counts after thousands of others."""
    code = """
    received(1)
    for number in range(2000):
        metrics.REJECTS.labels("source-%d" % number, "x" * 60).inc(number)
    received(1)
    """
    run(tmp_path, code)
    assert (tmp_path / "counter_0.db").stat().st_size > 1 << 18
    assert outcomes(tmp_path)["received"] == 2
    rejects = [each.value for each in samples(tmp_path) if each.name == "ingest_rejects_total"]
    assert sorted(rejects) == list(range(2000))


def test_a_reader_never_sees_a_count_fall(tmp_path: Path) -> None:
    """A number that is just being written is the old one or the new one, nothing in between."""
    code = COUNT + "received(1000.0); print(flush=True)\nwhile True: received(1)"
    command = [sys.executable, "-c", code, str(tmp_path), "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as counting:
        assert counting.stdout is not None
        counting.stdout.readline()
        counts = MmapedDict(str(tmp_path / "counter_0.db"), read_mode=True)
        position = next(iter(counts._read_all_values()))[3]
        seen = [unpack_from("d", counts._m, position)[0] for _ in range(1_000_000)]
        counting.kill()
    counts.close()
    assert 1000 <= seen[0] < seen[-1]
    assert sum(now < before for before, now in pairwise(seen)) == 0


def test_the_parent_may_read_while_a_worker_makes_its_files(tmp_path: Path) -> None:
    """Before every line of a new worker's first count, and of one that makes its file grow."""
    code = """
    received(1)
    looks = []
    def look(frame, event, argument):
        found = metrics.shared_registry(Path(sys.argv[1])).collect()
        looks.append([each.value for metric in found for each in metric.samples])
        return look
    metrics.share_counters(Path(sys.argv[1]), "new")
    sys.settrace(look)
    metrics.REJECTS.labels("new", "x" * (1 << 17)).inc(2)
    sys.settrace(None)
    counts = [sorted(each) for each in looks]
    steps = [[0, 1], [0, 0, 1], [0, 1, 2]]
    assert [each for at, each in enumerate(counts) if each not in counts[:at]] == steps, counts
    """
    run(tmp_path, code)
    assert (tmp_path / "counter_new.db").stat().st_size > 1 << 17


def test_a_shared_number_can_be_read_and_set(tmp_path: Path) -> None:
    """The rest of what prometheus_client asks of a value works as well."""
    code = """
    acked(5); received(7)
    for counter in (metrics.EVENTS, metrics.EVENTS_RECEIVED):
        (each,) = counter._metrics.values()
        each.reset()
        assert each._value.get() == 0
    acked(2)
    """
    run(tmp_path, code)
    assert outcomes(tmp_path) == {"received": 0, "acked": 2}


def test_shared_histograms_come_out_as_plain_ones(tmp_path: Path) -> None:
    """Buckets, sum and count over two workers are those of one that saw everything."""
    seen = [0.0005, 0.001, 0.3, 0.3, 31.0]
    for slot, part in ((0, seen[:2]), (1, seen[2:])):
        code = f"""
        requests = metrics.Requests("orders")
        for seconds in {part}:
            requests.answered(200, seconds)
            metrics.PRODUCE_SECONDS.labels("orders").observe(seconds)
        """
        run(tmp_path, code, slot)
    for name, label in (("ingest_request_seconds", "source"), ("ingest_produce_seconds", "topic")):
        own = [s for s in samples(tmp_path) if s.name.startswith(f"{name}_")]
        expected = _distribution(_plain(name, label, seen), name)
        assert _distribution(own, name) == pytest.approx(expected)


# Lost events


def test_what_a_dead_worker_left_is_booked_as_failed(tmp_path: Path) -> None:
    """By source; the identity holds then, and other workers' counts are not touched."""
    code = """
    received(10); acked(6)
    metrics.EVENTS.labels("svc", "orders", "rejected").inc(1)
    metrics.EVENTS_RECEIVED.labels("svc", "logs").inc(2)
    metrics.EVENTS_RECEIVED.labels("svc", "done").inc(4)
    metrics.EVENTS.labels("svc", "done", "acked").inc(4)
    os.kill(os.getpid(), signal.SIGKILL)
    """
    run(tmp_path, code, 0, status=-signal.SIGKILL)
    run(tmp_path, "received(7); acked(5)", 1)
    assert book_lost_events(tmp_path, 0) == 5
    assert outcomes(tmp_path) == {"received": 17, "acked": 11, "rejected": 1, "failed": 3}
    assert outcomes(tmp_path, "logs") == {"received": 2, "failed": 2}
    assert outcomes(tmp_path, "done") == {"received": 4, "acked": 4}


def test_lost_events_are_booked_once(tmp_path: Path) -> None:
    """A second look, and the next worker in the slot, find nothing left to book."""
    run(tmp_path, "received(3)")
    assert book_lost_events(tmp_path, 0) == 3
    assert book_lost_events(tmp_path, 0) == 0
    run(tmp_path, "received(2); acked(1)")
    assert book_lost_events(tmp_path, 0) == 1
    assert outcomes(tmp_path) == {"received": 5, "acked": 1, "failed": 4}


def test_failed_events_of_the_worker_itself_are_kept(tmp_path: Path) -> None:
    """What is booked adds to the worker's own count, under the same labels."""
    code = 'received(9); metrics.EVENTS.labels("svc", "orders", "failed").inc(2)'
    run(tmp_path, code)
    assert book_lost_events(tmp_path, 0) == 7
    assert outcomes(tmp_path) == {"received": 9, "acked": 0, "failed": 9}
    run(tmp_path, 'received(1); metrics.EVENTS.labels("svc", "orders", "failed").inc(1)')
    assert outcomes(tmp_path)["failed"] == 10


def test_a_worker_that_counted_nothing_has_lost_nothing(tmp_path: Path) -> None:
    """It died before its first event; no file of it is made."""
    assert book_lost_events(tmp_path, 0) == 0
    assert list(tmp_path.iterdir()) == []


# Names


def everything_exported(directory: Path) -> dict[str, set[str]]:
    """Name -> labels of every metric, when each has something to say."""
    run(directory, ONE_OF_EACH)
    registry = shared_registry(directory)
    status = WorkerStatus(
        pid=1, connections={"http": 1}, spool=SpoolStatus(), lag={"orders": {"0": 5}}
    )
    config = ConfigStatus(0, "2026-11-23T12:00:00Z")
    registry.register(StatusCollector(lambda: [Seat(0, 0, 0.0, status)], lambda: config))
    return {
        re.sub(r"_(bucket|sum|count)$", "", sample.name): set(sample.labels) - {"le"}
        for metric in registry.collect()
        for sample in metric.samples
    }


def test_metrics_have_the_names_and_labels_of_the_contract(tmp_path: Path) -> None:
    """Every one that exists so far; none has a label whose value an event or an address gives."""
    found = everything_exported(tmp_path)
    assert found.keys() >= CONTRACT_NAMES
    assert {name: found[name] for name in CONTRACT | BEYOND} == CONTRACT | BEYOND
    assert all(name.startswith("ingest_") for name in found)
    assert set().union(*found.values()) <= CONFIGURED


def test_every_metric_has_a_help_text_that_says_what_it_counts() -> None:
    """One sentence at least."""
    for metric in REGISTRY.collect():
        assert metric.name.startswith("ingest_")
        assert re.fullmatch(r"[A-Z].{10,}\.", metric.documentation)


# Requests


def _plain(name: str, label: str, seconds: list[float]) -> list[Sample]:
    registry = CollectorRegistry()
    histogram = Histogram(name, "h", [label], buckets=LATENCY_BUCKETS, registry=registry)
    for each in seconds:
        histogram.labels("orders").observe(each)
    return [sample for metric in registry.collect() for sample in metric.samples]


def _distribution(found: list[Sample], name: str) -> dict[str, float]:
    """Bound -> cumulated count, and count and sum."""
    return {
        sample.labels.get("le", sample.name.removeprefix(name)): sample.value
        for sample in found
        if not sample.name.endswith("_created")
    }


def _expected(seconds: list[float]) -> dict[str, float]:
    name = "ingest_request_seconds"
    return _distribution(_plain(name, "source", seconds), name)


def _answered(source: str, seconds: list[float]) -> dict[str, float]:
    requests = Requests(source)
    for each in seconds:
        requests.answered(200, each)
    found = [
        sample
        for metric in metrics.REQUEST_SECONDS.collect()
        for sample in metric.samples
        if sample.labels.get("source") == source
    ]
    return _distribution(found, "ingest_request_seconds")


@pytest.mark.parametrize("bound", LATENCY_BUCKETS)
@pytest.mark.parametrize("factor", [0.999, 1.0, 1.001])
def test_an_answer_is_timed_as_a_histogram_would_time_it(bound: float, factor: float) -> None:
    """Bounds are inclusive, and what is beyond the last one is counted as well."""
    seconds = bound * factor
    assert _answered(f"timed {bound} {factor}", [seconds]) == _expected([seconds])


@given(st.lists(st.floats(0, 100), min_size=1, max_size=10))
@settings(deadline=None)
def test_any_answers_are_timed_as_a_histogram_would_time_them(seconds: list[float]) -> None:
    """Counts, sum and every bucket."""
    metrics.REQUEST_SECONDS.remove("any")
    assert _answered("any", seconds) == _expected(seconds)


def test_answers_are_counted_by_status() -> None:
    """One counter for each status that was given, from the first on."""
    statuses = [200, 503, 200, 207, 200]
    requests = Requests("by status")
    for status in statuses:
        requests.answered(status, 0.1)
    found = {
        sample.labels["status"]: sample.value
        for metric in metrics.REQUESTS.collect()
        for sample in metric.samples
        if sample.labels["source"] == "by status" and sample.name.endswith("_total")
    }
    assert found == {str(status): count for status, count in Multiset(statuses).items()}


def test_an_adder_adds() -> None:
    """As the counter's own ``inc`` does."""
    counter = metrics.REJECTS.labels("added to", "bad_key")
    add = metrics.adder(counter)
    add(2)
    counter.inc()
    add(0.5)
    assert counter._value.get() == 3.5
