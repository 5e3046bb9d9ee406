"""The command line that benchmarks with cases of their own have in common."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from loadtest.benchmark import QUICK_SHARE, verdict
from loadtest.benchmark_table import as_text
from loadtest.gateway import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


def main(  # noqa: PLR0913 - the parts of one benchmark, all by name
    arguments: Sequence[str] | None,
    *,
    name: str,
    description: str | None,
    cases: Sequence[Any],
    run: Callable[..., dict[str, list[Any]]],
    table: Callable[[Sequence[Any], Any], list[list[str]]],
    missed: Callable[[Sequence[Any], Any], list[str]],
    record: Callable[[Sequence[Sequence[str]], int, str], Path],
) -> int:
    """Run a benchmark; exit status 1 when a limit is missed in a full run.

    Args:
        arguments: of the command; None: those of the process.
        name: of the program.
        description: of the program.
        cases: all of them, each with a ``name``.
        run: called with the cluster, the chosen cases, the rounds, and the share of their events.
        table: the rows of the result.
        missed: the names of the cases above their limit.
        record: writes the result, and says where.
    """
    from deploy.local import start_cluster  # noqa: PLC0415 - the tables can be tested without it

    options = _parser(name, description).parse_args(arguments)
    chosen = [case for case in cases if options.only in case.name]
    with start_cluster(real=True) as cluster:
        measures = run(cluster, chosen, options.rounds, QUICK_SHARE if options.quick else 1.0)
        broker = cluster.description
    rows = table(chosen, measures)
    print(as_text(rows))
    if options.record:
        print(f"written: {record(rows, options.rounds, broker).relative_to(ROOT)}")
    return verdict(missed(chosen, measures), quick=options.quick)


def say(text: str) -> None:
    """Tell how far it is."""
    print(text, file=sys.stderr, flush=True)


def _parser(name: str, description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=name, description=description)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a little: to see that it works")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--record", action="store_true", help="write loadtest/results/")
    return parser
