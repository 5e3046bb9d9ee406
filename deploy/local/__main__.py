"""`make run`: a broker, both gateways, lines to try, and the events as they arrive."""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from aiohttp import ClientError
from aiokafka.errors import KafkaError

from deploy.local.cluster import start_cluster
from deploy.local.demo import AlreadyRunning, alone, demo_key, gateway_environment, write_config
from deploy.local.errors import BrokerFailed, NoRealKafka
from deploy.local.gateway import Gateway, until_ready
from deploy.local.instructions import introduction, log_line
from deploy.local.tail import HEADINGS, tail
from ingest.config import load
from ingest.errors import ConfigError
from ingest_http.config import HttpConfig
from ingest_syslog.config import SyslogConfig

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from deploy.local.cluster import Cluster

FOLDER = Path(".cache/run")
BAD_CONFIGURATION = 2
PATIENCE_SECONDS = 2.0
"""How long Kafka may be away at the start before that is told."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it until Ctrl-C or SIGTERM; returns the exit status."""
    options = _parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal may not know every character
        sys.stdout.reconfigure(errors="backslashreplace", line_buffering=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        return _run(options.folder)
    except KeyboardInterrupt:
        return 0
    except ConfigError as error:
        print(*error.problems, sep="\n", file=sys.stderr)
        return BAD_CONFIGURATION
    except (AlreadyRunning, NoRealKafka, BrokerFailed) as error:
        print(f"cannot start: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deploy.local", description=__doc__)
    parser.add_argument(
        "--folder",
        type=Path,
        default=FOLDER,
        help=f"where data, key and configuration are kept (default: {FOLDER})",
    )
    return parser


def _interrupt(_number: int, _frame: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # `make` passes on what we have heard ourselves
    raise KeyboardInterrupt


def _run(folder: Path) -> int:
    with alone(folder), start_cluster(data_dir=folder / "kafka") as cluster:
        gateways = _run_gateways(folder, cluster)
    print("stopped", flush=True)
    failed = [gateway for gateway in gateways if gateway.failed]
    for gateway in failed:
        print(f"the gateway ended with {gateway.status}: see {gateway.log}", file=sys.stderr)
    return 1 if failed else 0


def _run_gateways(folder: Path, cluster: Cluster) -> tuple[Gateway, Gateway]:
    """Start both gateways, show what they do until it is time to end, and end them."""
    key = demo_key(folder)
    file = write_config(folder, key)
    environ = gateway_environment(cluster.bootstrap_servers, os.environ)
    configs = load(file, HttpConfig, environ), load(file, SyslogConfig, environ)
    names = frozenset({"management", *(each.name for each in configs[1].syslog.listeners)})
    say = partial(_say, own_broker=cluster.kind != "external")
    with (
        Gateway(file, folder / "gateway.log", environ, say) as http,
        Gateway(
            *(file, folder / "syslog.log", environ, say), module="ingest_syslog", listeners=names
        ) as syslog,
    ):
        asyncio.run(_serve((http, syslog), configs, key))
        print("\nstopping", flush=True)
    return http, syslog


async def _serve(
    gateways: tuple[Gateway, Gateway], configs: tuple[HttpConfig, SyslogConfig], key: str
) -> None:
    """Show what happens, until a signal comes or a gateway ends by itself."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with asyncio.TaskGroup() as group:
        showing = group.create_task(_show(gateways, configs, key))
        ends = [group.create_task(gateway.follow()) for gateway in gateways]
        ends.append(group.create_task(_until(stop)))
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for task in (showing, *ends):
            task.cancel()
    loop.remove_signal_handler(signal.SIGTERM)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # we are at it; Ctrl-C makes it shorter


async def _until(event: asyncio.Event) -> None:
    await event.wait()


async def _show(
    gateways: tuple[Gateway, Gateway], configs: tuple[HttpConfig, SyslogConfig], key: str
) -> None:
    """Say what there is to try, then show what arrives in Kafka."""
    gateway, kafka = gateways[0], configs[0].kafka
    topics = configs[0].topics_written() | configs[1].topics_written()
    http, management = await gateway.urls()
    syslog = await gateways[1].addresses()
    waiting = _Waiting(kafka.bootstrap_servers)
    try:
        unusable = await until_ready(management, waiting)
        unusable |= await until_ready(f"http://{syslog['management']}", waiting)
        async with tail(kafka, sorted(topics - unusable)) as found:
            print(introduction(http, management, syslog, gateway.log, key, older=found.older))
            width = max(map(len, topics))
            print(HEADINGS.line(width))
            async for row in found.rows():
                print(row.line(width))
    except ClientError:
        return  # the gateway ended: whoever follows it tells
    except KafkaError as error:
        print(f"cannot show what arrives: {type(error).__name__}", file=sys.stderr)


class _Waiting:
    """Tells once, after a while, that Kafka is being waited for."""

    def __init__(self, servers: str) -> None:
        self._servers = servers
        self._due: float | None = time.monotonic() + PATIENCE_SECONDS

    def __call__(self, reasons: Sequence[str]) -> None:
        if self._due is not None and time.monotonic() > self._due:
            self._due = None
            print(f"waiting for Kafka at {self._servers}: {', '.join(reasons)}", flush=True)


def _say(entry: Mapping[str, Any], *, own_broker: bool) -> None:
    line = log_line(entry, own_broker=own_broker)
    if line is not None:
        print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
