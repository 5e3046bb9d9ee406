"""The ledger: sends events with known ids, reads the topic back, and gives a verdict.

``python -m loadtest.ledger`` starts a broker and a gateway and judges them; with ``--url`` it
judges a gateway that is running. Exit status 0: every promise was kept.

Fault tests use `send`, `read_back` and `verdict` in their own process.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from loadtest.book import Book, Sent
from loadtest.gateway import Gateway
from loadtest.read_back import Record, end_offsets, read_back
from loadtest.recording import write
from loadtest.sender import send
from loadtest.verdict import Verdict, verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Book", "Record", "Sent", "Verdict", "end_offsets", "read_back", "send", "verdict"]


async def judge(options: argparse.Namespace) -> Verdict:
    """Send, read back what has come since, and compare."""
    servers, topic = options.bootstrap_servers, options.topic or options.source
    since = await end_offsets(servers, topic)
    book = await send(
        options.url,
        options.key,
        options.source,
        connections=options.connections,
        batch=options.batch,
        events=None if options.seconds else options.events,
        seconds=options.seconds,
        path=options.file,
        resend=options.resend,
    )
    return verdict(book, await read_back(servers, topic, since))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = _parser().parse_args(arguments)
    if options.url and not (options.key and options.bootstrap_servers):
        _parser().error("--url needs --key and --bootstrap-servers")
    result = uvloop.run(judge(options)) if options.url else _judge_a_fresh_one(options)
    print(result)
    return 0 if result.ok else 1


def _judge_a_fresh_one(options: argparse.Namespace) -> Verdict:
    from deploy.local import start_cluster  # noqa: PLC0415 - a running gateway needs no broker of ours

    source = f"sources.{options.source}"
    settings = {source: {"topic": options.topic or options.source, "key": "/customer_id"}}
    with start_cluster() as cluster, Gateway(cluster.bootstrap_servers, settings) as gateway:
        print(f"broker: {cluster.description}")
        options.url, options.key = gateway.url, gateway.key
        options.bootstrap_servers = cluster.bootstrap_servers
        result = uvloop.run(judge(options))
        if options.record:
            _record(options, cluster.description, result)
        return result


def _record(options: argparse.Namespace, broker: str, result: Verdict) -> None:
    text = (
        f"{options.connections} connections, {options.batch} events a request, each with a known\n"
        "id and key; then the topic is read back and compared with every answer.\n\n"
        f"```\n{result}\n```\n\nMade by `make ledger`."
    )
    path = write("ledger", "What was answered, and what is in Kafka", broker, text)
    print(f"written: {path.name}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="loadtest.ledger", description=__doc__)
    parser.add_argument("--url", help="a running gateway; default: start a broker and a gateway")
    parser.add_argument("--key", help="an API key of the running gateway")
    parser.add_argument("--bootstrap-servers", help="the Kafka behind the running gateway")
    parser.add_argument("--source", default="demo")
    parser.add_argument("--topic", help="default: the source's name")
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--batch", type=int, default=100, help="events in a request")
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, help="send for so long instead")
    parser.add_argument("--resend", action="store_true", help="send what failed again, same ids")
    parser.add_argument("--file", type=Path, help="where to keep the book, JSON lines")
    parser.add_argument("--record", action="store_true", help="write loadtest/results/")
    return parser


if __name__ == "__main__":
    sys.exit(main())
