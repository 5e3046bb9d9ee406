"""The gateway's memory at full load while Kafka stands still.

``python -m loadtest.frozen`` stops the broker's process (SIGSTOP) for longer than ``ack_seconds``
under a load that more than fills the in-flight budget, and watches the resident memory of each
worker. It passes when none exceeds twice the budget and 150 MB, and the gateway serves again later.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from loadtest.cpu import descendants, rss_bytes
from loadtest.gateway import ROOT, Gateway, more_clients, wait_until
from loadtest.generator import STOP_SECONDS
from loadtest.recording import write

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MB = 1_000_000
ALLOWANCE_BYTES = 150 * MB
SAMPLES_PER_SECOND = 10
CLIENTS = 8
"""Together they get to eight ninths of the budget."""
FLOW_SECONDS = 3.0
"""How long the load flows before Kafka stands still, and after."""
RECOVER_SECONDS = 60.0


class Memory:
    """Samples the resident memory of a process's descendants, in a thread.

    Attributes:
        peaks: the highest value so far in bytes, by process id.
        samples: how often it was looked at.
    """

    def __init__(self, pid: int) -> None:
        self.peaks: dict[int, int] = {}
        self.samples = 0
        self._pid = pid
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(1 / SAMPLES_PER_SECOND):
            self.samples += 1
            for pid in descendants(self._pid):
                self.peaks[pid] = max(self.peaks.get(pid, 0), rss_bytes(pid))


def run(options: argparse.Namespace) -> bool:
    """Freeze, watch, thaw; prints the figures and returns whether all is well."""
    from deploy.local import start_cluster  # noqa: PLC0415 - only a run needs a broker

    clients, keys = more_clients(CLIENTS)
    settings = {
        **clients,
        "limits": {"inflight_bytes": options.inflight_bytes, "ack_seconds": options.ack_seconds},
        "http": {"workers": options.workers},
    }
    with (
        start_cluster(own=True, real=True) as cluster,
        Gateway(cluster.bootstrap_servers, settings) as gateway,
        Memory(gateway.process.pid) as memory,
        _generator(gateway, keys, options) as generator,
    ):
        time.sleep(FLOW_SECONDS)
        before = dict(memory.peaks)
        for node in cluster.nodes:
            node.pause()
        try:
            time.sleep(options.ack_seconds + options.more_seconds)
        finally:
            for node in cluster.nodes:
                node.resume()
        peaks = dict(memory.peaks)
        served = _recovers(gateway)
        figures = json.loads(generator.communicate(timeout=2 * STOP_SECONDS)[0])
    limit = 2 * options.inflight_bytes + ALLOWANCE_BYTES
    report = [
        *_report(before, peaks, limit, figures),
        f"serves again: {'yes' if served else 'NO'}; memory watched {memory.samples} times",
    ]
    print("\n".join(report))
    if options.record:
        _record(options, cluster.description, report)
    return served and bool(peaks) and max(peaks.values()) <= limit


def _recovers(gateway: Gateway) -> bool:
    """Whether a single event is accepted again soon, while the load goes on."""
    try:
        wait_until(lambda: _post_one(gateway), RECOVER_SECONDS, "not accepted")
    except TimeoutError:
        return False
    return True


def _post_one(gateway: Gateway) -> bool:
    command = (*_command(gateway, [gateway.key], batch=1, connections=1), "--events", "1")
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, timeout=60)
    return bool(json.loads(done.stdout)["events_acked"] == 1)


@contextmanager
def _generator(
    gateway: Gateway, keys: Sequence[str], options: argparse.Namespace
) -> Iterator[subprocess.Popen[str]]:
    seconds = options.ack_seconds + options.more_seconds + 2 * FLOW_SECONDS
    command = _command(gateway, keys, batch=options.batch, connections=options.connections)
    with subprocess.Popen(
        (*command, "--seconds", str(seconds)), cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _command(
    gateway: Gateway, keys: Sequence[str], *, batch: int, connections: int
) -> tuple[str, ...]:
    return (
        *(sys.executable, "-m", "loadtest.generator", "--url", gateway.url, "--key", *keys),
        *("--batch", str(batch), "--connections", str(connections)),
    )


def _report(
    before: dict[int, int], peaks: dict[int, int], limit: int, figures: dict[str, Any]
) -> Iterator[str]:
    # Workers, and the small processes that start them.
    for number, (pid, peak) in enumerate(peaks.items(), start=1):
        verdict = "ok" if peak <= limit else "TOO MUCH"
        flowing = before.get(pid, 0) // MB
        yield (
            f"process {number}: {flowing} MB while Kafka ran, {peak // MB} MB at most while it "
            f"stood still, allowed {limit // MB} MB: {verdict}"
        )
    yield f"answers by status: {figures['statuses']}, broken connections: {figures['no_answer']}"


def _record(options: argparse.Namespace, broker: str, report: Sequence[str]) -> None:
    text = (
        f"{options.connections} connections with {options.batch} events a request; in-flight\n"
        f"budget {options.inflight_bytes} bytes, Kafka stopped by SIGSTOP for "
        f"{options.ack_seconds + options.more_seconds:g} s.\nThe service is a parent (1), "
        "multiprocessing's helpers (2) and workers (from 3 on).\n\n```\n"
    )
    path = write(
        "frozen",
        "Memory while Kafka stands still",
        broker,
        text + "\n".join(report) + "\n```\n\nMade by `make frozen`.",
    )
    print(f"written: {path.name}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="loadtest.frozen", description=__doc__)
    parser.add_argument("--inflight-bytes", type=int, default=268_435_456)
    parser.add_argument("--ack-seconds", type=float, default=10)
    parser.add_argument("--more-seconds", type=float, default=5, help="frozen beyond ack_seconds")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--connections", type=int, default=256)
    parser.add_argument("--batch", type=int, default=5_000, help="events in a request")
    parser.add_argument("--record", action="store_true", help="write loadtest/results/")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; exit status 1 when it did not pass."""
    return 0 if run(_parser().parse_args(arguments)) else 1


if __name__ == "__main__":
    sys.exit(main())
