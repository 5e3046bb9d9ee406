"""``ingest-http``: the HTTP front door. Its composition root and its command line."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingest import __version__, toml
from ingest.config import DEFAULT_FILE, dump, load
from ingest.config_change import change
from ingest.errors import ConfigError
from ingest.kafka_client import require_c_extension, ssl_context
from ingest.service import Service
from ingest.settings import SSL_KEYS
from ingest_http.auth import new_key
from ingest_http.config import RELOADABLE, HttpConfig
from ingest_http.connection import require_c_parser
from ingest_http.front import make
from ingest_http.publish import SERVICE

if TYPE_CHECKING:
    from collections.abc import Sequence

BAD_CONFIGURATION = 2
ANYBODY_MAY_WRITE = "anybody who reaches the port may write to every source: set auth.required"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status of the contract."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the service can take it: it ends nobody
    if options.command == "new-key":
        return _print_new_key(options.name)
    try:
        require_c_parser()
        require_c_extension()
        config = _load(options.config)
    except ConfigError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return BAD_CONFIGURATION
    if options.print_config:
        print(dump(config), end="")
        return 0
    if options.check:
        print(f"configuration is fine, sources: {', '.join(config.sources)}")
        return 0
    return _service(config, options.config).run()


def _load(path: Path | None) -> HttpConfig:
    """The configuration, which can be run.

    Raises:
        ConfigError: it cannot.
    """
    config = load(path, HttpConfig)
    _require_certificates(config, path or DEFAULT_FILE)
    return config


def _require_certificates(config: HttpConfig, path: Path) -> None:
    """Refuse what would keep every worker from Kafka, for ever."""
    try:
        ssl_context(config.kafka)
    except OSError as error:
        reason = getattr(error, "reason", None) or error.strerror
        keys = ", ".join(f"kafka.{key}" for key in SSL_KEYS)
        raise ConfigError([f"{path}: {keys}: cannot be used: {reason}"]) from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=SERVICE,
        description="HTTP front door of the data highway: POST events, get them acked.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("--config", type=Path, metavar="FILE", help="default: ./ingest.toml")
    parser.add_argument("--check", action="store_true", help="validate the configuration and exit")
    parser.add_argument(
        "--print-config", action="store_true", help="print the effective configuration and exit"
    )
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
    workers = config.http.workers
    return Service(
        SERVICE,
        settings=config.service,
        config=config,
        make=make,
        listeners={"http": config.http.listen},
        management=config.management.http,
        workers=len(os.sched_getaffinity(0)) if workers == "auto" else workers,
        about=_about,
        reload=lambda current: change(current, _load(path), RELOADABLE),
        warnings=_warnings,
    )


if __name__ == "__main__":
    sys.exit(main())
