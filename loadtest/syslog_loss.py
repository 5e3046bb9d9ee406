"""Loss by rate over UDP: sent = delivered + counted as dropped, at any rate.

``python -m loadtest.syslog_loss`` sends at fixed rates, reads off how much the topic has grown, and
compares that with what the gateway and the kernel counted as dropped.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import TYPE_CHECKING

from loadtest.benchmark import make_topics
from loadtest.benchmark_table import as_text
from loadtest.gateway import ROOT
from loadtest.read_back import end_offsets
from loadtest.syslog_gateway import SOURCE, SyslogGateway
from loadtest.syslog_loss_table import LOSSLESS_WORKERS, Loss, record, table
from loadtest.syslog_program import program
from loadtest.syslog_read_back import tally
from loadtest.syslog_sockets import udp_sockets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from deploy.local import Cluster

RATES = (10_000, 25_000, 50_000, 100_000, 200_000)
LONG_RATES = (50_000, 100_000)
PORTS = 4
WARM_UP_MESSAGES = 20_000
WARM_UP_RATE = 10_000
LISTENERS = ({"name": "udp", "protocol": "udp"},)


def run(cluster: Cluster, options: argparse.Namespace) -> list[Loss]:
    """All rates with one worker, then those that must lose nothing with two, for longer."""
    servers = cluster.bootstrap_servers
    asyncio.run(make_topics(servers, (SOURCE,)))
    plans = (
        (1, options.rates, options.seconds),
        (LOSSLESS_WORKERS, options.long_rates, options.long_seconds),
    )
    losses: list[Loss] = []
    for workers, rates, seconds in plans:
        settings = {"syslog": {"workers": workers}}
        with SyslogGateway(servers, LISTENERS, settings) as gateway:
            measure(gateway, servers, workers, WARM_UP_RATE, WARM_UP_MESSAGES)
            for rate in rates:
                count = int(rate * seconds)
                losses.append(measure(gateway, servers, workers, rate, count, ids=options.ids))
    return losses


def measure(
    gateway: SyslogGateway,
    bootstrap_servers: str,
    workers: int,
    rate: int,
    count: int,
    *,
    ids: bool = False,
) -> Loss:
    """Send ``count`` messages at ``rate``, wait for rest, and read everything off.

    With ``ids``, the topic is read as well, and its messages are compared with those sent.
    """
    print(f"{count:,} messages at {rate:,} per second, {workers} workers", file=sys.stderr)
    port = int(gateway.address("udp").rpartition(":")[2])
    since, offsets = gateway.account(), asyncio.run(end_offsets(bootstrap_servers, SOURCE))
    dropped, kernel_drops = gateway.dropped("udp"), _kernel_drops(port)
    figures = program(
        "syslog_generator",
        *("--protocol", "udp", "--address", gateway.address("udp"), "--rate", str(rate)),
        *("--messages", str(count), "--connections", str(PORTS)),
    )
    gateway.wait_until_settled(since, count)
    print(f"  generator: {figures}", file=sys.stderr)
    ends = asyncio.run(end_offsets(bootstrap_servers, SOURCE))
    duplicated = asyncio.run(_duplicated(bootstrap_servers, offsets, ends)) if ids else None
    return Loss(
        rate=rate,
        workers=workers,
        seconds=figures["seconds"],
        sent=figures["sent"],
        delivered=sum(ends.values()) - sum(offsets.values()),
        dropped=gateway.dropped("udp") - dropped,
        duplicated=duplicated,
        kernel_drops=_kernel_drops(port) - kernel_drops,
        buffer_bytes=min(each.buffer_bytes for each in udp_sockets(port)),
    )


async def _duplicated(
    bootstrap_servers: str, since: Mapping[int, int], until: Mapping[int, int]
) -> int:
    """How many records of a run are a second copy of a message, or no message of ours."""
    found = await tally(bootstrap_servers, SOURCE, since, until)
    return found.records - found.distinct


def _kernel_drops(port: int) -> int:
    return sum(each.drops for each in udp_sockets(port))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; exit status 1 when a message is unaccounted for, or may not be lost."""
    from deploy.local import start_cluster  # noqa: PLC0415 - only a run needs a broker

    options = _parser().parse_args(arguments)
    with start_cluster(real=True) as cluster:
        losses = run(cluster, options)
        broker = cluster.description
    print(as_text(table(losses)))
    broken = [each for loss in losses for each in loss.broken()]
    for each in broken:
        print(f"NOT OK: {each}")
    if options.record:
        print(f"written: {record(losses, broker).relative_to(ROOT)}")
    return 1 if broken else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="loadtest.syslog_loss", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10, help="of each rate, one worker")
    parser.add_argument("--long-seconds", type=float, default=60, help="of each, two workers")
    parser.add_argument("--rates", type=int, nargs="*", default=RATES)
    parser.add_argument("--long-rates", type=int, nargs="*", default=LONG_RATES)
    parser.add_argument("--ids", action="store_true", help="read every message back, which lasts")
    parser.add_argument("--record", action="store_true", help="write loadtest/results/")
    return parser


if __name__ == "__main__":
    sys.exit(main())
