"""CPU time per syslog message: the gateway next to a bare producer, on one real broker.

``python -m loadtest.syslog_benchmark`` runs everything. As in `loadtest.benchmark`, the ratio to
the bare producer of the same round is what counts, and rounds are interleaved.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING

from loadtest import benchmark_command
from loadtest.benchmark import make_topics
from loadtest.benchmark import measure_bare as measure_bare_events
from loadtest.benchmark_command import say
from loadtest.benchmark_table import BARE
from loadtest.cpu import cpu_seconds
from loadtest.syslog_benchmark_table import (
    BARE_JSON,
    CASES,
    SyslogMeasure,
    missed,
    record,
    table,
)
from loadtest.syslog_gateway import SOURCE, SyslogGateway
from loadtest.syslog_program import program

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Sequence

    from deploy.local import Cluster
    from loadtest.syslog_benchmark_table import SyslogCase

WARM_UP_SHARE = 0.1
BARE_MESSAGES = 1_000_000


def run(
    cluster: Cluster, cases: Sequence[SyslogCase], rounds: int, share: float
) -> dict[str, list[SyslogMeasure]]:
    """All ``cases``, ``rounds`` times in turn, with ``share`` of their messages."""
    servers = cluster.bootstrap_servers
    asyncio.run(make_topics(servers, ("bare", SOURCE)))
    names = (BARE, BARE_JSON, *(case.name for case in cases))
    measures: dict[str, list[SyslogMeasure]] = {name: [] for name in names}
    with SyslogGateway(servers) as gateway:
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}: {BARE}")
            measures[BARE].append(measure_bare(servers, int(BARE_MESSAGES * share)))
            measures[BARE_JSON].append(measure_bare_json(servers, int(BARE_MESSAGES * share)))
            for case in cases:
                say(f"round {number + 1} of {rounds}: {case.name}")
                measures[case.name].append(measure(case, gateway, share))
    return measures


def measure_bare(bootstrap_servers: str, count: int) -> SyslogMeasure:
    """One round of the bare producer, in a process of its own."""
    arguments = ("--bootstrap-servers", bootstrap_servers, "--messages", str(count))
    figures = program("syslog_bare", *arguments)
    return SyslogMeasure(figures["cpu_us_per_message"], figures["messages_per_second"])


def measure_bare_json(bootstrap_servers: str, count: int) -> SyslogMeasure:
    """One round of the bare producer of `loadtest.benchmark`."""
    found = measure_bare_events(bootstrap_servers, count)
    return SyslogMeasure(found.cpu_us_per_event, found.events_per_second)


def measure(case: SyslogCase, gateway: SyslogGateway, share: float) -> SyslogMeasure:
    """One round of ``case``, after a warm-up that does not count.

    Raises:
        RuntimeError: a message is neither in Kafka nor counted as dropped; or it was dropped by a
            protocol that has no excuse for it.
    """
    count = max(case.connections, int(case.messages * share))
    _load(case, gateway, int(count * WARM_UP_SHARE) or 1)
    before = cpu_seconds(gateway.process.pid)
    added, seconds = _load(case, gateway, count)
    used = cpu_seconds(gateway.process.pid) - before
    acked = added["acked"]
    return SyslogMeasure(used / acked * 1e6, acked / seconds, delivered=acked / count)


def _load(case: SyslogCase, gateway: SyslogGateway, count: int) -> tuple[Counter[str], float]:
    """Send; returns what it added to the account, and the time until all had its outcome."""
    since = gateway.account()
    address = gateway.address(case.listener)
    arguments = ("--address", address, "--messages", str(count), *case.arguments())
    figures = program("syslog_generator", *arguments)
    added = gateway.wait_until_settled(since, count)
    seconds = time.time() - figures["started_at"]
    say(f"  generator: {figures}")
    may_drop = added["dropped"] if case.listener == "udp" else 0
    if added["received"] != count or added["acked"] + may_drop != count:
        raise RuntimeError(f"{case.name}: {count} sent, {dict(added)}: {figures}")
    return added, seconds


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; exit status 1 when a limit is missed in a full run."""
    return benchmark_command.main(
        arguments,
        name="loadtest.syslog_benchmark",
        description=__doc__,
        cases=CASES,
        run=run,
        table=table,
        missed=missed,
        record=record,
    )


if __name__ == "__main__":
    sys.exit(main())
