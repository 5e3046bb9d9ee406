"""``ingest-http``: the HTTP front door. Its composition root and its command line."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from ingest import command, toml
from ingest.config_change import change
from ingest.endpoint import Endpoint
from ingest.kafka_client import require_c_extension
from ingest.service import Service
from ingest_http.auth import new_key
from ingest_http.config import RELOADABLE, HttpConfig
from ingest_http.connection import require_c_parser
from ingest_http.front import make
from ingest_http.publish import SERVICE

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from pathlib import Path

DESCRIPTION = "HTTP front door of the data highway: POST events, get them acked."
ANYBODY_MAY_WRITE = "anybody who reaches the port may write to every source: set auth.required"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status of the contract."""
    options = _parser().parse_args(arguments)
    if options.command == "new-key":
        return _print_new_key(options.name)
    return command.run(options, HttpConfig, lambda c: _service(c, options.config).run(), _require)


def _require() -> None:
    require_c_parser()
    require_c_extension()


def _parser() -> argparse.ArgumentParser:
    parser = command.parser(SERVICE, DESCRIPTION)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    key = commands.add_parser("new-key", help="make an API key, and the lines to configure it")
    key.add_argument("name", metavar="NAME")
    return parser


def _print_new_key(name: str) -> int:
    key, digest = new_key()
    print(f"key, shown only this once: {key}\n")
    print(f'[auth.keys.{toml.key(name)}]\nsha256 = ["{digest}"]\nsources = ["*"]')
    return 0


def _about(config: HttpConfig) -> dict[str, Any]:
    """What ``/status`` says of the configuration."""
    return {
        "sources": {
            name: {"topic": source.topic or name} for name, source in config.http_sources().items()
        },
        "spool": {"mode": config.spool.mode},
    }


def _warnings(config: HttpConfig) -> dict[str, str]:
    return {} if config.auth.required else {"authentication_is_off": ANYBODY_MAY_WRITE}


def _service(config: HttpConfig, path: Path | None) -> Service:
    return Service(
        SERVICE,
        settings=config.service,
        config=config,
        make=make,
        listeners={"http": Endpoint(config.http.listen)},
        management=config.management.http,
        workers=command.worker_count(config.http.workers),
        about=_about,
        reload=lambda current: change(
            current, command.load_for_service(path, HttpConfig), RELOADABLE
        ),
        warnings=_warnings,
    )


if __name__ == "__main__":
    sys.exit(main())
