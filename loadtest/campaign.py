"""The campaign: kills and broker faults under load on all ways in; nothing acknowledged is missing.

``python -m loadtest.campaign --seed 1 --seconds 600`` draws faults for so long; with explicit
counts, as ``--kills 100 --broker-kills 5``, it lasts as long as they take. It runs in rounds of a
few minutes, each with fresh services and a verdict of its own. Exit status 0: every promise was
kept, and every fault was seen to happen.

The same seed draws the same faults; what they hit is up to the machine.
"""

from __future__ import annotations

import argparse
import signal
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from loadtest.campaign_faults import Broker
from loadtest.campaign_plan import NAMES, WORKERS, Counts, drawn, planned
from loadtest.campaign_report import Report
from loadtest.campaign_round import RATES, run_round
from loadtest.recording import write

if TYPE_CHECKING:
    from collections.abc import Sequence

    from loadtest.campaign_plan import Round

SECONDS = 60.0


def run(
    rounds: Sequence[Round], broker: Broker, *, spool: bool, keep: Path | None = None
) -> Report:
    """Run ``rounds``, one after the other; see `loadtest.campaign_round.run_round`.

    A round that breaks a promise does not end the campaign, nor does one that cannot be judged:
    then a fault did not happen, or the services did not come to rest or did not end well.
    """
    report = Report()
    for number, plan in enumerate(rounds, start=1):
        _tell(f"round {number} of {len(rounds)}, about {plan.about_seconds:.0f} s: {plan.seed}")
        folder = None if keep is None else keep / plan.seed
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        doing = run_round(plan, broker, spool=spool, keep=folder)
        try:
            broken = report.add(plan.seed, uvloop.run(doing))
        except Exception as error:  # noqa: BLE001 - the rounds before have shown something all the same
            traceback.print_exception(error)
            broken = report.fail(plan.seed, error)
        _tell(f"  {'; '.join(broken) or 'ok'}")
    return report


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    from deploy.local import start_cluster  # noqa: PLC0415 - its help needs no Kafka

    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # else the services would live on
    rounds = _rounds(options)
    with start_cluster(own=True, real=True, kafka_version=options.kafka_version) as cluster:
        (node,) = cluster.nodes
        broker = Broker(node, cluster.bootstrap_servers)
        report = run(rounds, broker, spool=options.spool == "auto", keep=options.file)
        print(report)
        if options.record:
            _record(options, cluster.description, report)
    return 0 if report.ok else 1


def _rounds(options: argparse.Namespace) -> list[Round]:
    counts = Counts(**{name: getattr(options, name) for name in NAMES})
    if counts == Counts():
        return drawn(options.seed, options.seconds, options.kill_every, options.round_seconds)
    return planned(options.seed, counts, options.kill_every, options.round_seconds)


def _record(options: argparse.Namespace, broker: str, report: Report) -> None:
    rates = ", ".join(f"{way} {rate:g}" for way, rate in RATES.items())
    text = (
        f"Events per second: {rates}. Each service has {WORKERS} workers; spool: {options.spool}.\n"
        "Every answer was noted; then all topics were read back and compared.\n\n"
        f"{report}\n\nMade by `python -m loadtest.campaign {' '.join(sys.argv[1:])}`."
    )
    path = write(f"faults-{options.seed}", "Kills and broker faults under load", broker, text)
    print(f"written: {path.name}")


def _parser() -> argparse.ArgumentParser:
    from deploy.local.cluster import KAFKA_VERSION  # noqa: PLC0415 - see main

    parser = argparse.ArgumentParser(prog="loadtest.campaign", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="without counts: how long")
    for name in NAMES:
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=0, metavar="N")
    parser.add_argument("--kill-every", type=float, default=3.0, help="mean seconds between kills")
    parser.add_argument("--round-seconds", type=float, default=180.0, help="about a round's length")
    parser.add_argument("--spool", choices=("off", "auto"), default="auto")
    parser.add_argument("--file", type=Path, help="folder in which to keep books, logs and spools")
    parser.add_argument("--record", action="store_true", help="write loadtest/results/")
    parser.add_argument("--kafka-version", default=KAFKA_VERSION)
    return parser


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
