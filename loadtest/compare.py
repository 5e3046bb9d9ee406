"""The gateway of this tree next to that of another commit, in the same run, on one real broker.

``python -m loadtest.compare COMMIT`` says what a change costs; see `loadtest.in_turns` for how.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from loadtest.benchmark import CASES
from loadtest.benchmark_table import as_text
from loadtest.gateway import ROOT, Gateway
from loadtest.in_turns import costs_in_turns, ratio
from loadtest.recording import write

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from deploy.local import Cluster

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
    gateways = {
        "after": lambda: Gateway(servers),
        "before": lambda: Gateway(servers, root=before),
    }
    costs = costs_in_turns(gateways, cases, rounds)
    return [
        (
            case.name,
            f"{median(costs[case.name]['before']):.2f}",
            f"{median(costs[case.name]['after']):.2f}",
            f"{ratio(costs[case.name], 'after', 'before'):.2f}",
        )
        for case in cases
    ]


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
    return int(any(float(row[3]) > LIMIT for row in rows))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="loadtest.compare", description=__doc__)
    parser.add_argument("commit", help="what to compare with")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--record", action="store_true", help="write loadtest/results/")
    return parser


if __name__ == "__main__":
    sys.exit(main())
