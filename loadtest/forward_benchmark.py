"""CPU time per event forwarded: the forwarder next to a bare producer, on one real broker.

``python -m loadtest.forward_benchmark`` runs everything. As in `loadtest.benchmark`, the ratio to
the bare producer of the same round is what counts, and rounds are interleaved.

A measurement goes from rest to rest: a forwarder that is warm and has nothing to do is stopped
(SIGSTOP), its topic is filled, it goes on, and ends when everything is in its target topics. So
what a client reads ahead is paid for in full, and so is what is on its way.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
import uuid
from contextlib import contextmanager
from functools import partial
from itertools import cycle, islice
from typing import TYPE_CHECKING, Self

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from loadtest import benchmark_command
from loadtest.benchmark import PARTITIONS, make_topics, measure_bare
from loadtest.benchmark_command import say
from loadtest.benchmark_table import BARE, Measure, missed, table
from loadtest.cpu import cpu_seconds, descendants
from loadtest.forward_benchmark_table import CASES, COLUMNS, record
from loadtest.forward_load import fill, sealed_events
from loadtest.forwarder import Forwarder
from loadtest.gateway import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from deploy.local import Cluster
    from loadtest.forward_benchmark_table import ForwardCase
    from loadtest.forward_load import Sealed

POOL_EVENTS = 20_000
WARM_UP_SHARE = 0.1
BARE_EVENTS = 1_000_000
ANSWER_SECONDS = 20.0
FORWARD_SECONDS = 300.0


class Topics:
    """The topics of one measurement; a context manager that creates and deletes them.

    Attributes:
        source: what is read.
        targets: what the routes write.
    """

    def __init__(self, bootstrap_servers: str, targets: int) -> None:
        name = f"bench-{uuid.uuid4().hex[:8]}"
        self.source = f"{name}-from"
        self.targets = [f"{name}-to-{number}" for number in range(targets)]
        self._servers = bootstrap_servers
        self._admin = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0})
        settings = {"bootstrap.servers": bootstrap_servers, "group.id": name, "log_level": 0}
        self._consumer = Consumer(settings)

    def __enter__(self) -> Self:
        """Create them."""
        asyncio.run(make_topics(self._servers, (self.source, *self.targets)))
        return self

    def __exit__(self, *_: object) -> None:
        """Delete them."""
        self._consumer.close()
        for done in self._admin.delete_topics([self.source, *self.targets]).values():
            done.result(ANSWER_SECONDS)

    def have(self, records: int) -> bool:
        """Whether every target has so many records, or more."""
        return all(self._size(topic) >= records for topic in self.targets)

    def _size(self, topic: str) -> int:
        partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        ask = self._consumer.get_watermark_offsets
        return sum(ask(partition, timeout=ANSWER_SECONDS)[1] for partition in partitions)


def run(
    cluster: Cluster, cases: Sequence[ForwardCase], rounds: int, share: float
) -> dict[str, list[Measure]]:
    """All ``cases``, ``rounds`` times in turn, with ``share`` of their events."""
    servers = cluster.bootstrap_servers
    asyncio.run(make_topics(servers, ("bare",)))
    pool = sealed_events(POOL_EVENTS)
    measures: dict[str, list[Measure]] = {name: [] for name in (BARE, *(c.name for c in cases))}
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}: {BARE}")
        measures[BARE].append(measure_bare(servers, int(BARE_EVENTS * share)))
        for case in cases:
            say(f"round {number + 1} of {rounds}: {case.name}")
            measures[case.name].append(measure(case, servers, pool, share))
    return measures


def measure(
    case: ForwardCase, bootstrap_servers: str, pool: Sequence[Sealed], share: float
) -> Measure:
    """One round of ``case`` by a forwarder of its own, after a warm-up that does not count.

    Raises:
        RuntimeError: an event was not forwarded, or more than once.
        TimeoutError: it takes too long.
    """
    events = int(case.events * share)
    warm_up = int(events * WARM_UP_SHARE)
    with Topics(bootstrap_servers, len(case.routes)) as topics:
        fill(bootstrap_servers, topics.source, islice(cycle(pool), warm_up))
        routes = case.tables(topics.source, topics.targets)
        with Forwarder(bootstrap_servers, routes) as forwarder:
            _wait(forwarder, topics, warm_up)
            with _stopped(forwarder.process.pid):
                fill(bootstrap_servers, topics.source, islice(cycle(pool), events))
                used, begun = -cpu_seconds(forwarder.process.pid), time.monotonic()
            _wait(forwarder, topics, warm_up + events)
            used += cpu_seconds(forwarder.process.pid)
            seconds = time.monotonic() - begun
            _require_each_once(forwarder, topics.targets, warm_up + events)
    return Measure(used / events * 1e6, events / seconds)


def _wait(forwarder: Forwarder, topics: Topics, records: int) -> None:
    """Ask Kafka, and not the forwarder, whose time is measured."""
    try:
        wait_until(lambda: topics.have(records), FORWARD_SECONDS, "")
    except TimeoutError:
        raise TimeoutError(f"not forwarded: {forwarder.process.lines[-20:]}") from None


def _require_each_once(forwarder: Forwarder, routes: Sequence[str], events: int) -> None:
    for route in routes:
        forwarder.wait_for(route, {"acked": events}, ANSWER_SECONDS)
        acked = forwarder.outcomes(route)["acked"]
        if acked != events:
            raise RuntimeError(f"{route}: {acked} written, {events} were to be forwarded")


@contextmanager
def _stopped(pid: int) -> Iterator[None]:
    """The process and its descendants do nothing within."""
    tree = [pid, *descendants(pid)]
    for each in tree:
        os.kill(each, signal.SIGSTOP)
    try:
        yield
    finally:
        for each in tree:
            os.kill(each, signal.SIGCONT)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; exit status 1 when a limit is missed in a full run."""
    return benchmark_command.main(
        arguments,
        name="loadtest.forward_benchmark",
        description=__doc__,
        cases=CASES,
        run=run,
        table=partial(table, heading=COLUMNS),
        missed=missed,
        record=record,
    )


if __name__ == "__main__":
    sys.exit(main())
