"""``ingest-forward``: the forwarder. Its composition root and its command line."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaException

from ingest import command
from ingest.config_change import change
from ingest.config_problems import suggestion
from ingest.service import Service
from ingest_forward.config import RELOADABLE, ForwardConfig
from ingest_forward.dry_run import dry_run
from ingest_forward.event import Event
from ingest_forward.explain import explained
from ingest_forward.front import SERVICE, make

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DESCRIPTION = "Forwarder of the data highway: configured routes from topics to topics."
FAILED = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status of the contract."""
    parser = _parser()
    options = parser.parse_args(arguments)
    _one_only(parser, options)
    return command.run(options, ForwardConfig, _work(options), summary=_summary)


def _work(options: argparse.Namespace) -> Callable[[ForwardConfig], int]:
    """What is to be done with a configuration that is fine."""
    if options.command == "explain":
        return lambda config: _explain(config, options)
    if options.command == "schema":
        return lambda config: _schema(config, options.route)
    if options.dry_run is not None:
        return lambda config: _dry_run(config, options.dry_run)
    return lambda config: _service(config, options.config).run()


def _parser() -> argparse.ArgumentParser:
    parser = command.parser(SERVICE, DESCRIPTION)
    parser.add_argument(
        "--dry-run",
        type=_count,
        metavar="N",
        help="what would become of the newest N records of each topic; writes nothing",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    explain = commands.add_parser(
        "explain", help="say what the routes make of a record value on standard input"
    )
    explain.add_argument("--topic", required=True, help="where it would be read")
    explain.add_argument("--key", help="its record key")
    explain.add_argument(
        "--header", action="append", default=[], type=_header, metavar="NAME=VALUE"
    )
    schema = commands.add_parser(
        "schema", help="print a route's schema: JsonConverter's schema.content (KIP-1054)"
    )
    schema.add_argument("route", help="its name")
    for each in (explain, schema):  # it may stand before the command or behind it
        each.add_argument(
            "--config", type=Path, metavar="FILE", default=argparse.SUPPRESS, help="see above"
        )
    return parser


def _one_only(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End with a usage error where one thing would be done, and another left out unsaid."""
    asked = {
        "--check": options.check,
        "--print-config": options.print_config,
        "--dry-run": options.dry_run is not None,
        options.command: options.command is not None,
    }
    given = [name for name, is_given in asked.items() if is_given]
    if len(given) > 1 and given != ["--check", "--print-config"]:  # what is printed is fine
        parser.error(f"{given[0]} and {given[-1]} exclude each other")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError("expected a number of records, at least 1")
    return int(text)


def _header(text: str) -> tuple[str, bytes]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError("expected NAME=VALUE")
    return name, os.fsencode(value)


def _explain(config: ForwardConfig, options: argparse.Namespace) -> int:
    value = sys.stdin.buffer.read().rstrip(b"\r\n")
    key = None if options.key is None else os.fsencode(options.key)
    table = config.table()
    event = Event(options.topic, key, value, options.header, table.reading)
    for line in explained(table, event):
        print(line)
    return 0


def _schema(config: ForwardConfig, name: str) -> int:
    routes = {route.name: route for route in config.table().routes}
    route = routes.get(name)
    if route is None:
        print(f"there is no route {name!r}{suggestion(name, routes)}", file=sys.stderr)
        return command.BAD_CONFIGURATION
    if route.schema is None:
        print(f"route {name!r} has no schema", file=sys.stderr)
        return command.BAD_CONFIGURATION
    print(route.schema.text.decode())
    return 0


def _dry_run(config: ForwardConfig, count: int) -> int:
    try:
        for line in dry_run(config.table(), config.kafka, count):
            print(line)
    except KafkaException as error:
        servers = config.kafka.bootstrap_servers
        print(f"cannot read from Kafka at {servers}: {error.args[0].str()}", file=sys.stderr)
        return FAILED
    return 0


def _summary(config: ForwardConfig) -> str:
    routes = config.forward.routes
    examples = sum(len(route.examples) for route in routes)
    return f"routes: {', '.join(route.name for route in routes)}; examples run: {examples}"


def _about(config: ForwardConfig) -> dict[str, Any]:
    """What ``/status`` says of the configuration."""
    routes = {
        route.name: {"from": route.from_, "to": route.to, "format": route.format}
        for route in config.forward.routes
    }
    return {"group": config.forward.group, "routes": routes}


def _service(config: ForwardConfig, path: Path | None) -> Service:
    # Nobody sends to us, so there is nobody to tell before we end.
    settings = config.service.model_copy(update={"prestop_seconds": 0.0})
    return Service(
        SERVICE,
        settings=settings,
        config=config,
        make=make,
        listeners={},
        management=config.management.forward,
        workers=command.worker_count(config.forward.workers),
        about=_about,
        renews=True,  # what had stopped is tried again
        reload=lambda current: change(
            current, command.load_for_service(path, ForwardConfig), RELOADABLE
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
