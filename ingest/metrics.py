"""Every metric of the system, with its help text.

Workers count in files that outlive them (`share_counters`): prometheus_client's multiprocess mode
with the worker's slot in place of a process id, so that a restarted worker goes on with the counts
of its predecessor. The parent reads the files of all slots. Gauges are read off the workers' own
status reports, so they are not here but in `ingest.status`.
"""

from __future__ import annotations

import json
import os
from bisect import bisect_left
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Histogram, values
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.multiprocess import MultiProcessCollector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

REGISTRY = CollectorRegistry()
LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

EVENTS_RECEIVED = Counter(
    "ingest_events_received",
    "Events cut from an accepted body, frame or datagram.",
    ["service", "source"],
    registry=REGISTRY,
)
EVENTS = Counter(
    "ingest_events",
    "What became of the events received; at rest the outcomes add up to ingest_events_received.",
    ["service", "source", "outcome"],
    registry=REGISTRY,
)
RECEIVED_BYTES = Counter(
    "ingest_received_bytes",
    "Bytes of bodies, frames and datagrams received, as they came over the wire.",
    ["service", "source"],
    registry=REGISTRY,
)
REJECTS = Counter(
    "ingest_rejects",
    "Events that can never succeed, by the code of the contract.",
    ["source", "code"],
    registry=REGISTRY,
)
SCHEMA_WARNINGS = Counter(
    "ingest_schema_warnings",
    "Events that were produced although they do not match the schema of their source "
    "(validate = warn).",
    ["source"],
    registry=REGISTRY,
)
DEAD_LETTERS_LOST = Counter(
    "ingest_dead_letters_lost",
    "Rejected events of which no copy could be kept: dead letters off, or refused by Kafka.",
    ["source"],
    registry=REGISTRY,
)
REQUESTS = Counter(
    "ingest_requests",
    "HTTP requests answered; the source is 'unknown' where none was recognised.",
    ["source", "status"],
    registry=REGISTRY,
)
REQUEST_SECONDS = Histogram(
    "ingest_request_seconds",
    "Seconds from the first look at a request to its answer.",
    ["source"],
    buckets=LATENCY_BUCKETS,
    registry=REGISTRY,
)
PRODUCE_SECONDS = Histogram(
    "ingest_produce_seconds",
    "Seconds from handing a batch to the Kafka client to its ack.",
    ["topic"],
    buckets=LATENCY_BUCKETS,
    registry=REGISTRY,
)
LATE_ACKS = Counter(
    "ingest_late_acks",
    "Events that Kafka acked after they had been answered 'unknown' or 'spooled'.",
    ["topic"],
    registry=REGISTRY,
)
SPOOL_REPLAYED = Counter(
    "ingest_spool_replayed",
    "Events that left the spool: acked (in Kafka), late (Kafka acked them after they had been "
    "spooled), rejected (Kafka refused them: dead letters), lost (no copy of a refused one could "
    "be kept).",
    ["topic", "outcome"],
    registry=REGISTRY,
)
SPOOL_DAMAGED = Counter(
    "ingest_spool_damaged",
    "What of the spool could not be read any more, and was set aside: files, batches, events (as "
    "far as known).",
    ["kind"],
    registry=REGISTRY,
)
FORWARD_EVENTS = Counter(
    "ingest_forward_events",
    "Records that a route has looked at, by outcome: acked (what it made of them is in Kafka), "
    "rejected (in the dead letter topic), skipped (its conditions do not hold), excluded "
    "(tracers).",
    ["route", "outcome"],
    registry=REGISTRY,
)
FORWARD_REJECTS = Counter(
    "ingest_forward_rejects",
    "Records that a route can never forward, by the code of the contract.",
    ["route", "code"],
    registry=REGISTRY,
)
FORWARD_EXPIRED = Counter(
    "ingest_forward_expired",
    "Records that their topic had let go of before they were forwarded.",
    ["topic"],
    registry=REGISTRY,
)
CONNECTIONS_REFUSED = Counter(
    "ingest_connections_refused",
    "Connections closed for a limit, by its name.",
    ["listener", "limit"],
    registry=REGISTRY,
)
SYSLOG_DROPPED = Counter(
    "ingest_syslog_dropped",
    "Messages dropped, by reason: kernel (the socket's buffer was full), empty, not_allowed, "
    "oversize, backpressure, shutting_down, internal_error.",
    ["listener", "reason"],
    registry=REGISTRY,
)
SYSLOG_PARSE = Counter(
    "ingest_syslog_parse",
    "Messages parsed, by the grammar they follow and how much of it.",
    ["listener", "format", "status"],
    registry=REGISTRY,
)
SYSLOG_FRAMING_SUSPECT = Counter(
    "ingest_syslog_framing_suspect",
    "Frames whose octet count does not fit what follows them.",
    ["listener"],
    registry=REGISTRY,
)
CONNECTIONS_CLOSED = Counter(
    "ingest_connections_closed",
    "Connections that were let in and later closed by us, by the reason's name.",
    ["listener", "reason"],
    registry=REGISTRY,
)
QUOTA_REFUSALS = Counter(
    "ingest_quota_refusals",
    "Requests refused for the caller's own quota; the key is its configured name.",
    ["key", "quota"],
    registry=REGISTRY,
)
WORKER_RESTARTS = Counter(
    "ingest_worker_restarts",
    "Workers that ended without being asked to, and were started anew.",
    ["service"],
    registry=REGISTRY,
)
RELOADS = Counter(
    "ingest_reloads",
    "Reloads of the configuration that were asked for by SIGHUP, by outcome: ok, failed.",
    ["service", "outcome"],
    registry=REGISTRY,
)


def adder(counter: Counter) -> Callable[[float], None]:
    """What adds to ``counter`` at a third of the cost of its ``inc``: nothing is checked."""
    add: Callable[[float], None] = counter._value.inc  # noqa: SLF001 - what it does in the end
    return add


class Requests:
    """Counts and times the answers of one source.

    Args:
        source: the label.
    """

    __slots__ = ("_add_seconds", "_buckets", "_statuses", "source")

    def __init__(self, source: str) -> None:
        self.source = source
        self._statuses: dict[int, Callable[[float], None]] = {}
        seconds = REQUEST_SECONDS.labels(source)
        self._add_seconds: Callable[[float], None] = seconds._sum.inc  # noqa: SLF001 - see adder
        self._buckets = [bucket.inc for bucket in seconds._buckets]  # noqa: SLF001 - see adder

    def answered(self, status: int, seconds: float) -> None:
        """One answer was given, after so many seconds."""
        add = self._statuses.get(status)
        if add is None:
            add = adder(REQUESTS.labels(self.source, str(status)))
            self._statuses[status] = add
        add(1)
        self._add_seconds(seconds)
        self._buckets[bisect_left(LATENCY_BUCKETS, seconds)](1)


def share_counters(directory: Path, slot: int | str) -> None:
    """Count in files under ``directory`` from now on; call it before anything is counted."""
    files: dict[str, MmapedDict] = {}

    class SlotValue:
        """One number in a file. Not locked: a worker counts on its event loop only."""

        _multiprocess = True

        def __init__(
            self,
            typ: str,
            metric_name: str,
            name: str,
            labelnames: Any,
            labelvalues: Any,
            help_text: str,
            multiprocess_mode: str = "",
            **_: Any,
        ) -> None:
            del multiprocess_mode  # of gauges only
            if typ not in files:
                files[typ] = _file(directory / f"{typ}_{slot}.db")
            file = files[typ]
            key = mmap_key(metric_name, name, labelnames, labelvalues, help_text)
            self._value: float = file.read_value(key)[0]
            at: int = file._positions[key]  # noqa: SLF001 - it stays, also when the file grows
            # One store of eight bytes: struct.pack_into writes zeros first, and readers see them.
            self._cell = memoryview(file._m)[at : at + 8].cast("d")  # noqa: SLF001

        def inc(self, amount: float) -> None:
            value = self._value = self._value + amount
            self._cell[0] = value

        def set(self, value: float, timestamp: float | None = None) -> None:
            del timestamp  # of gauges only
            self._value = value
            self.inc(0.0)

        def set_exemplar(self, exemplar: object) -> None:
            del exemplar  # not kept over processes

        def get_exemplar(self) -> None:
            return None

        def get(self) -> float:
            return self._value

    values.ValueClass = SlotValue


def _file(path: Path) -> MmapedDict:
    """The counts at ``path``, those of a predecessor too.

    A new file is made under a name that readers do not look for: they cannot read an empty one.
    """
    if not path.exists():
        new = path.with_name(f"{path.name}.new")
        MmapedDict(str(new)).close()
        new.rename(path)
    return MmapedDict(str(path))


def shared_registry(directory: Path) -> CollectorRegistry:
    """A registry that reads the counts of all slots."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=os.fspath(directory))
    return registry


def book_lost_events(directory: Path, slot: int | str) -> int:
    """Book what a dead worker had received without an outcome as ``failed``; returns how many."""
    path = directory / f"counter_{slot}.db"
    if not path.exists():
        return 0
    counts = MmapedDict(str(path))
    lost = 0
    for (service, source), difference in _unaccounted(counts).items():
        if difference > 0:
            labels = ["service", "source", "outcome"]
            key = mmap_key(
                "ingest_events",
                "ingest_events_total",
                labels,
                [service, source, "failed"],
                EVENTS._documentation,  # noqa: SLF001 - part of the key
            )
            counts.write_value(key, counts.read_value(key)[0] + difference, 0.0)
            lost += int(difference)
    counts.close()
    return lost


def _unaccounted(counts: MmapedDict) -> dict[tuple[str, str], float]:
    """(service, source) -> events received less events with an outcome."""
    difference: dict[tuple[str, str], float] = {}
    for name, labels, value in _read(counts):
        owner = (labels.get("service", ""), labels.get("source", ""))
        if name == "ingest_events_received_total":
            difference[owner] = difference.get(owner, 0.0) + value
        elif name == "ingest_events_total":
            difference[owner] = difference.get(owner, 0.0) - value
    return difference


def _read(counts: MmapedDict) -> Iterator[tuple[str, dict[str, str], float]]:
    for key, value, _timestamp in counts.read_all_values():
        _metric, name, labels, _help = json.loads(key)
        yield name, labels, value
