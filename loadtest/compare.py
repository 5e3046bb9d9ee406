"""The gateway of this tree next to that of another commit, in the same run, on one real broker.

``python -m loadtest.compare COMMIT`` says what a change costs. Rounds are interleaved and both
gateways run all the time, so that a noisy neighbour meets both alike.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from loadtest.benchmark import CASES, Server, make_topics, measure, measure_bare
from loadtest.benchmark_table import BARE, as_text
from loadtest.gateway import ROOT, Gateway
from loadtest.recording import write

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from deploy.local import Cluster

SHARE = 0.4
"""Of the benchmark's events, in each round."""
BARE_EVENTS = 300_000
LIMIT = 1.1
"""How much more than before it may cost."""
HEADING = ("case", "before, µs CPU/event", "after, µs CPU/event", "after / before")


@contextmanager
def tree_of(commit: str) -> Iterator[Path]:
    """The files of a commit, for a while."""
    with tempfile.TemporaryDirectory(prefix="compare-") as folder:
        files = subprocess.run(
            ["git", "archive", commit], cwd=ROOT, check=True, capture_output=True
        )
        subprocess.run(["tar", "-x"], cwd=folder, input=files.stdout, check=True)
        yield Path(folder)


def run(cluster: Cluster, before: Path, rounds: int) -> list[tuple[str, ...]]:
    """The rows of the table; medians over the rounds."""
    servers = cluster.bootstrap_servers
    cases = [case for case in CASES if case.server == "gateway"]
    costs: dict[tuple[str, str], list[float]] = {}
    asyncio.run(make_topics(servers, ("bare",)))
    with ExitStack() as stack:
        gateways = {}
        for name, root in (("before", before), ("after", ROOT)):
            gateway = stack.enter_context(Gateway(servers, root=root))
            gateways[name] = Server(gateway.process, gateway.key)
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
            bare = measure_bare(servers, BARE_EVENTS)
            costs.setdefault((BARE, ""), []).append(bare.cpu_us_per_event)
            for case in cases:
                for name in sorted(gateways, reverse=number % 2 == 1):
                    found = measure(case, gateways[name], SHARE)
                    costs.setdefault((case.name, name), []).append(found.cpu_us_per_event)
    rows: list[tuple[str, ...]] = [(BARE, f"{median(costs[BARE, '']):.2f}", "", "")]
    for case in cases:
        old, new = (costs[case.name, name] for name in ("before", "after"))
        pairs = zip(new, old, strict=True)
        ratio = median(one / other for one, other in pairs)
        rows.append((case.name, f"{median(old):.2f}", f"{median(new):.2f}", f"{ratio:.2f}"))
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; exit status 1 where a case costs more than `LIMIT` times as much."""
    from deploy.local import start_cluster  # noqa: PLC0415 - only a run needs a broker

    options = _parser().parse_args(arguments)
    with tree_of(options.commit) as before, start_cluster(real=True) as cluster:
        rows = run(cluster, before, options.rounds)
        broker = cluster.description
    print(as_text([HEADING, *rows]))
    if options.record:
        table = ["| " + " | ".join(row) + " |" for row in [HEADING, ("---",) * 4, *rows]]
        text = f"Before: commit {options.commit}; {options.rounds} rounds.\n\n" + "\n".join(table)
        path = write("compare", "The gateway before and after", broker, text)
        print(f"written: {path.relative_to(ROOT)}")
    return int(any(float(row[3]) > LIMIT for row in rows if row[3]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="loadtest.compare", description=__doc__)
    parser.add_argument("commit", help="what to compare with")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--record", action="store_true", help="write loadtest/results/")
    return parser


if __name__ == "__main__":
    sys.exit(main())
