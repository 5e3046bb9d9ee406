"""CPU time per event: the gateway next to a bare producer and a naive gateway, on one real broker.

``python -m loadtest.benchmark`` runs everything. What counts is the ratio to the bare producer in
the same round: it moves far less between machines than microseconds do. Rounds are interleaved, so
that a noisy neighbour meets all cases alike, and medians are shown.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from loadtest.benchmark_table import BARE, Case, Measure, as_text, missed, record, table
from loadtest.cpu import cpu_seconds
from loadtest.gateway import ROOT, Gateway, Process

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deploy.local import Cluster

PARTITIONS = 4
WARM_UP_SHARE = 0.1
QUICK_SHARE = 0.05
RUN_SECONDS = 600
CREATED = (0, 36)
"""Kafka's error codes that say the topic is there: NONE, TOPIC_ALREADY_EXISTS."""


CASES = (
    Case("gateway, batches of 100", "gateway", 100, 16, 600_000, most=2.8, goal=2.0),
    Case("gateway, single events", "gateway", 1, 64, 40_000, most=48, goal=37),
    Case("naive gateway, batches of 100", "naive", 100, 16, 60_000),
    Case("naive gateway, single events", "naive", 1, 64, 20_000),
)
BARE_EVENTS = 1_000_000


@dataclass(frozen=True, slots=True)
class Server:
    """What a case is run against."""

    process: Process
    key: str


def run(cluster: Cluster, rounds: int, share: float) -> dict[str, list[Measure]]:
    """All cases, ``rounds`` times in turn, with ``share`` of their events."""
    servers = cluster.bootstrap_servers
    asyncio.run(make_topics(servers, ("bare", "naive")))
    measures: dict[str, list[Measure]] = {name: [] for name in (BARE, *(c.name for c in CASES))}
    with ExitStack() as stack:
        started = _start(stack, servers)
        for number in range(rounds):
            _say(f"round {number + 1} of {rounds}: {BARE}")
            measures[BARE].append(measure_bare(servers, int(BARE_EVENTS * share)))
            for case in CASES:
                _say(f"round {number + 1} of {rounds}: {case.name}")
                measures[case.name].append(measure(case, started[case.server], share))
    return measures


def measure_bare(bootstrap_servers: str, events: int) -> Measure:
    """One round of the bare producer, in a process of its own."""
    figures = _program(
        "bare_producer", "--bootstrap-servers", bootstrap_servers, "--events", str(events)
    )
    return Measure(figures["cpu_us_per_event"], figures["events_per_second"])


def measure(case: Case, server: Server, share: float) -> Measure:
    """One round of ``case``, after a warm-up that does not count.

    Raises:
        RuntimeError: an event was not accepted.
    """
    events = max(case.batch * case.connections, int(case.events * share))
    _load(case, server, int(events * WARM_UP_SHARE) or 1)
    before = cpu_seconds(server.process.pid)
    figures = _load(case, server, events)
    used = cpu_seconds(server.process.pid) - before
    acked = figures["events_acked"]
    if acked < events:
        raise RuntimeError(f"{case.name}: {acked} of {events} accepted: {figures}")
    return Measure(
        used / acked * 1e6,
        figures["events_per_second"],
        figures["p50_seconds"],
        figures["p99_seconds"],
    )


def _start(stack: ExitStack, bootstrap_servers: str) -> dict[str, Server]:
    gateway = stack.enter_context(Gateway(bootstrap_servers))
    key = "naive"
    naive = Process(
        ("-m", "loadtest.naive_gateway", "--bootstrap-servers", bootstrap_servers, "--key", key)
    )
    stack.callback(naive.kill)
    naive.wait_for_addresses()
    return {"gateway": Server(gateway.process, gateway.key), "naive": Server(naive, key)}


def _load(case: Case, server: Server, events: int) -> dict[str, Any]:
    return _program(
        "generator",
        *("--url", server.process.url, "--key", server.key, "--events", str(events)),
        *("--batch", str(case.batch), "--connections", str(case.connections)),
    )


def _program(name: str, *arguments: str) -> dict[str, Any]:
    command = (sys.executable, "-m", f"loadtest.{name}", *arguments)
    done = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, check=True, timeout=RUN_SECONDS
    )
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


async def make_topics(bootstrap_servers: str, names: Sequence[str]) -> None:
    """Have the topics of these names."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        wanted = [NewTopic(name, PARTITIONS, replication_factor=1) for name in names]
        response: Any = await admin.create_topics(wanted)
    finally:
        await admin.close()
    failed = [error for error in response.topic_errors if error[1] not in CREATED]
    if failed:
        raise RuntimeError(f"topics not created: {failed}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; exit status 1 when a limit is missed in a full run."""
    from deploy.local import start_cluster  # noqa: PLC0415 - the table can be tested without it

    options = _parser().parse_args(arguments)
    with start_cluster(real=True) as cluster:
        measures = run(cluster, options.rounds, QUICK_SHARE if options.quick else 1.0)
        broker = cluster.description
    rows = table(CASES, measures)
    print(as_text(rows))
    if options.record:
        print(f"written: {record(rows, options.rounds, broker).relative_to(ROOT)}")
    return verdict(missed(CASES, measures), quick=options.quick)


def verdict(above: Sequence[str], *, quick: bool) -> int:
    """Say which cases are above their limit; the exit status, in which a quick run has no say."""
    if quick:
        print("a quick run: the figures judge nothing")
        return 0
    for name in above:
        print(f"above its limit: {name}")
    return 1 if above else 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="loadtest.benchmark", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="few events: to see that it works")
    parser.add_argument("--record", action="store_true", help="write loadtest/results/")
    return parser


if __name__ == "__main__":
    sys.exit(main())
