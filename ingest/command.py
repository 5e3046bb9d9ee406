"""What the command lines of all services have in common."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from ingest import __version__
from ingest.config import DEFAULT_FILE, dump, load
from ingest.errors import ConfigError
from ingest.kafka_client import require_c_extension, ssl_context
from ingest.settings import SSL_KEYS, SharedSettings

if TYPE_CHECKING:
    from collections.abc import Callable

Config = TypeVar("Config", bound=SharedSettings)
BAD_CONFIGURATION = 2


def parser(service: str, description: str) -> argparse.ArgumentParser:
    """The options that every service has."""
    made = argparse.ArgumentParser(prog=service, description=description)
    made.add_argument("--version", action="version", version=__version__)
    made.add_argument("--config", type=Path, metavar="FILE", help="default: ./ingest.toml")
    made.add_argument("--check", action="store_true", help="validate the configuration and exit")
    made.add_argument(
        "--print-config", action="store_true", help="print the effective configuration and exit"
    )
    return made


def load_for_service(path: Path | None, kind: type[Config]) -> Config:
    """The configuration, which can be run.

    Raises:
        ConfigError: it cannot.
    """
    config = load(path, kind)
    try:  # what would keep every worker from Kafka, for ever
        ssl_context(config.kafka)
    except OSError as error:
        reason = getattr(error, "reason", None) or error.strerror
        keys = ", ".join(f"kafka.{key}" for key in SSL_KEYS)
        where = path or DEFAULT_FILE
        raise ConfigError([f"{where}: {keys}: cannot be used: {reason}"]) from None
    return config


def run(
    options: argparse.Namespace,
    kind: type[Config],
    serve: Callable[[Config], int],
    require: Callable[[], None] = require_c_extension,
    *,
    summary: Callable[[Config], str] = lambda config: f"sources: {', '.join(config.sources)}",
) -> int:
    """Do what the options say; returns the exit status of the contract.

    Args:
        options: as `parser` has them.
        kind: the settings of the service.
        serve: runs the service.
        require: raises `ConfigError` where this installation cannot do its work.
        summary: what ``--check`` says of a configuration that is fine.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the service can take it: it ends nobody
    try:
        require()
        config = load_for_service(options.config, kind)
    except ConfigError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)  # noqa: T201 - for people
        return BAD_CONFIGURATION
    if options.print_config:
        print(dump(config), end="")  # noqa: T201 - for people
        return 0
    if options.check:
        print(f"configuration is fine, {summary(config)}")  # noqa: T201 - for people
        return 0
    return serve(config)


def worker_count(setting: int | Literal["auto"]) -> int:
    """How many workers a setting means: ``auto`` is one for each core."""
    return len(os.sched_getaffinity(0)) if setting == "auto" else setting
