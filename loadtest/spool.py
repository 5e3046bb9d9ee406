"""What the spool does at full load: how fast it fills and drains, and whom that disturbs.

``python -m loadtest.spool`` measures, in one run on one real broker:

- what an event costs with a spool that is not used, next to none: CPU time, in turns, with a
  control;
- how many events a second one worker acks with the spool off: the reference;
- with Kafka dead: how many it spools, and that nothing is answered with 5xx;
- a restart with all that in the spool: the time until it is ready, and its memory;
- with Kafka back and no other traffic: how many events a second leave the spool;
- the same with live traffic at a tenth of the reference: what that traffic's latency is, next to
  its latency without a replay.

Exit status 0: every limit below was kept.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from math import sqrt
from statistics import median
from typing import TYPE_CHECKING, Any

from loadtest.benchmark import CASES
from loadtest.cpu import descendants, rss_bytes
from loadtest.frozen import Memory
from loadtest.gateway import ROOT, Gateway, wait_until
from loadtest.in_turns import costs_in_turns, ratio
from loadtest.recording import write

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from deploy.local import Cluster

MB = 1_000_000
BATCH = 100
CONNECTIONS = 16
LIVE_CONNECTIONS = 8
LIVE_SHARE = 0.1
LEAST_DRAIN = 0.8
"""Events leave the spool at this share of the reference, at least."""
MOST_READY_SECONDS = 5.0
MOST_P99_SECONDS = 0.1
MOST_P99_SHARE = 2.0
"""Live traffic's p99 is within this multiple of its normal one, or the seconds above."""
MOST_GROWTH_BYTES = 100 * MB
"""What a worker may have more in memory for what is in its spool."""
MOST_COST = 1.05
"""CPU time of an event with a spool that is not used, next to that without one; noise included."""
COST_ROUNDS = 12
LIVE_DRAIN = 5
"""Live traffic goes on for as long as a replay of so many times the reference would take."""
WAIT_SECONDS = 300.0


@dataclass
class Report:
    """Lines for people, and whether each limit was kept."""

    lines: list[str] = field(default_factory=list)
    ok: bool = True

    def say(self, line: str) -> None:
        """Add a line without a verdict."""
        self.lines.append(line)
        print(line, file=sys.stderr, flush=True)

    def judge(self, line: str, *, kept: bool) -> None:
        """Add a line about a limit."""
        self.ok &= kept
        self.say(f"{line}: {'ok' if kept else 'TOO MUCH'}")


def run(options: argparse.Namespace) -> tuple[Report, str]:
    """Measure everything; also the broker's description."""
    from deploy.local import start_cluster  # noqa: PLC0415 - only a run needs a broker

    report = Report()
    with (
        tempfile.TemporaryDirectory(prefix="spool-") as folder,
        start_cluster(own=True, real=True) as cluster,
    ):
        settings = {"spool": {"mode": "auto", "path": folder, "min_free_bytes": 0}}
        _cost(cluster, settings, report)
        rate, calm = _reference(cluster, options, report)
        _fill(cluster, settings, options, report)
        _drain_after_restart(cluster, settings, rate, report)
        _drain_beside_live_traffic(cluster, settings, options, rate, calm, report)
    return report, cluster.description


def _cost(cluster: Cluster, settings: Mapping[str, Any], report: Report) -> None:
    """CPU time of an event without and with a spool, while Kafka is well.

    Without one it is measured twice: how far those two are apart is what the ratio is worth.
    """
    servers = cluster.bootstrap_servers
    gateways = {
        "without": lambda: Gateway(servers),
        "with": lambda: Gateway(servers, settings),
        "without, again": lambda: Gateway(servers),
    }
    for name, costs in costs_in_turns(gateways, CASES[:2], COST_ROUNDS).items():
        times = sqrt(ratio(costs, "with", "without") * ratio(costs, "with", "without, again"))
        control = ratio(costs, "without, again", "without")
        medians = ", ".join(f"{median(each):.2f} {which}" for which, each in costs.items())
        report.judge(
            f"{name}, Kafka well, us of CPU time: {medians} a spool; median ratio of "
            f"{COST_ROUNDS} rounds {times:.2f} (most {MOST_COST}), of the control {control:.2f}",
            kept=times <= MOST_COST,
        )


def _reference(
    cluster: Cluster, options: argparse.Namespace, report: Report
) -> tuple[float, float]:
    """Events a second with the spool off, and the p99 of light traffic."""
    with Gateway(cluster.bootstrap_servers) as gateway:
        _generate(gateway, events=options.events // 20)
        figures = _generate(gateway, events=options.events // 4)
        rate = figures["events_per_second"]
        calm = _generate(gateway, seconds=10, rate=rate * LIVE_SHARE)["p99_seconds"]
    report.say(f"spool off: {rate:,.0f} events/s; at a tenth of that p99 {calm * 1000:.1f} ms")
    return rate, calm


def _fill(
    cluster: Cluster, settings: Mapping[str, Any], options: argparse.Namespace, report: Report
) -> None:
    (node,) = cluster.nodes
    with Gateway(cluster.bootstrap_servers, settings) as gateway:
        _generate(gateway, events=10_000)
        node.kill()
        wait_until(lambda: not _kafka_is_up(gateway), WAIT_SECONDS, "Kafka is up, it says")
        figures = _generate(gateway, events=options.events)
        size = gateway.status()["workers"][0]["spool"]["bytes"]
    refused = {code: n for code, n in figures["statuses"].items() if code >= "500"}
    report.say(
        f"Kafka dead: {figures['events_per_second']:,} events/s spooled, "
        f"{size / MB:,.0f} MB on disk, {size / options.events:.0f} bytes each"
    )
    report.judge(f"answers by status: {figures['statuses']}", kept=not refused)


def _drain_after_restart(
    cluster: Cluster, settings: Mapping[str, Any], rate: float, report: Report
) -> None:
    """Start with all that in the spool and Kafka dead, then with Kafka back let it drain."""
    (node,) = cluster.nodes
    begun = time.monotonic()
    with ExitStack() as stack:
        gateway = stack.enter_context(Gateway(cluster.bootstrap_servers, settings))
        seconds = time.monotonic() - begun
        report.judge(
            f"restart with it: ready after {seconds:.1f} s (most {MOST_READY_SECONDS:g})",
            kept=seconds <= MOST_READY_SECONDS,
        )
        before = max(map(rss_bytes, descendants(gateway.process.pid)))
        memory = stack.enter_context(Memory(gateway.process.pid))
        node.start()
        drained = _drained_per_second(gateway)
        grown = max(memory.peaks.values()) - before
    report.judge(
        f"Kafka back: {drained:,.0f} events/s leave the spool, {drained / rate:.2f} of the "
        f"reference (least {LEAST_DRAIN})",
        kept=drained >= LEAST_DRAIN * rate,
    )
    report.judge(
        f"memory of the worker: {before / MB:.0f} MB after the start, {grown / MB:.0f} MB more "
        f"while it drains (most {MOST_GROWTH_BYTES / MB:.0f})",
        kept=grown <= MOST_GROWTH_BYTES,
    )


def _drain_beside_live_traffic(
    cluster: Cluster,
    settings: Mapping[str, Any],
    options: argparse.Namespace,
    rate: float,
    calm: float,
    report: Report,
) -> None:
    (node,) = cluster.nodes
    with Gateway(cluster.bootstrap_servers, settings) as gateway:
        node.kill()
        wait_until(lambda: not _kafka_is_up(gateway), WAIT_SECONDS, "Kafka is up, it says")
        _generate(gateway, events=options.events // 4)
        node.start()
        wait_until(lambda: _replayed(gateway) > 0, WAIT_SECONDS, "nothing is replayed")
        seconds = max(1.5, options.events / 4 / (LIVE_DRAIN * rate))
        before = _replayed(gateway)
        figures = _generate(gateway, seconds=seconds, rate=rate * LIVE_SHARE)
        replayed, waiting = _replayed(gateway) - before, _waiting(gateway)
        wait_until(lambda: not _waiting(gateway), WAIT_SECONDS, "the spool does not drain")
    p99, most = figures["p99_seconds"], max(MOST_P99_SECONDS, MOST_P99_SHARE * calm)
    report.judge(
        f"live traffic beside it ({figures['events_per_second']:,} events/s, "
        f"{figures['statuses']}): p99 {p99 * 1000:.1f} ms (most {most * 1000:.0f})",
        kept=p99 <= most,
    )
    report.judge(
        f"meanwhile {replayed / figures['seconds']:,.0f} events/s leave the spool, "
        f"{waiting:,} still waited at the end",
        kept=replayed > 0 and waiting > 0,
    )


def _drained_per_second(gateway: Gateway) -> float:
    """Wait until the spool is empty; the rate from a tenth to nine tenths of it."""
    total = _waiting(gateway)
    marks: list[tuple[float, float]] = []
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        done = _replayed(gateway)
        if total * 0.1 < done < total * 0.95:
            marks.append((time.monotonic(), done))
        if done >= total and not _waiting(gateway):
            break
        time.sleep(0.1)
    else:
        raise TimeoutError("the spool does not drain")
    (first_at, first), (last_at, last) = marks[0], marks[-1]
    return (last - first) / (last_at - first_at)


def _kafka_is_up(gateway: Gateway) -> bool:
    return bool(gateway.status()["kafka"]["up"])


def _waiting(gateway: Gateway) -> int:
    """Events in the spool."""
    return int(sum(_values(gateway, "ingest_spool_events")))


def _replayed(gateway: Gateway) -> float:
    """Events that left it."""
    return sum(_values(gateway, "ingest_spool_replayed_total"))


def _values(gateway: Gateway, name: str) -> Iterator[float]:
    return (sample.value for sample in gateway.samples() if sample.name == name)


def _generate(
    gateway: Gateway,
    *,
    events: int | None = None,
    seconds: float | None = None,
    rate: float | None = None,
) -> dict[str, Any]:
    """Run the generator: as fast as answers come, or at a rate of events a second."""
    connections = CONNECTIONS if rate is None else LIVE_CONNECTIONS
    interval = 0.0 if rate is None else connections * BATCH / rate
    amount = ("--events", str(events)) if events is not None else ("--seconds", str(seconds))
    command = (
        *(sys.executable, "-m", "loadtest.generator", "--url", gateway.url, "--key", gateway.key),
        *("--batch", str(BATCH), "--connections", str(connections), *amount),
        *("--interval", str(interval)),
    )
    done = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, check=True, timeout=2 * WAIT_SECONDS
    )
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; exit status 1 when a limit was not kept."""
    parser = argparse.ArgumentParser(prog="loadtest.spool", description=__doc__)
    parser.add_argument("--events", type=int, default=18_000_000, help="to be spooled: about 1 GB")
    parser.add_argument("--record", action="store_true", help="write loadtest/results/")
    options = parser.parse_args(arguments)
    report, broker = run(options)
    if options.record:
        text = "\n".join(report.lines)
        body = f"One worker, batches of {BATCH}.\n\n```\n{text}\n```\n\nMade by `make spool`."
        print(f"written: {write('spool', 'The spool at full load', broker, body).name}")
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
