"""``ingest-spool``: looks after what services have left in their spools. Its command line."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ingest import __version__, command
from ingest import log as logs
from ingest_spool import listing
from ingest_spool import verify as verification
from ingest_spool.config import SpoolConfig
from ingest_spool.drain import drain
from ingest_spool.folders import Found, release, taken
from ingest_spool.table import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME = "ingest-spool"
DESCRIPTION = """Looks after what stopped services have left in their spools.

A folder that a process has is locked: nothing reads it but that process. Where a service runs on
the same path, it takes up by itself what others have left behind."""
STATUS = """Exit status: 0 all is well; 1 something is damaged, left, or locked where that is in the
way; 2 bad configuration or usage."""
HELP = {
    "list": "tell what is in the folders",
    "verify": "read everything and tell what is damaged; changes nothing",
    "drain": "give everything to Kafka, and remove folders that are empty then",
}
ABOUT = {
    "list": "Tells what is in the folders. Locked ones are named, and not looked into.",
    "verify": """Reads every batch that waits, and tells what is damaged. No batch is changed, set
aside or marked; opening a database replays its write-ahead log, as any reader of it does.""",
    "drain": """Gives every batch to Kafka, each topic's oldest first; what Kafka refuses for good
goes to the dead letter topic. Nothing of a service is drained while one of its folders is locked.
Ends early when nothing has moved for 60 seconds, and tells what is left.""",
}
_SERVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status of the contract."""
    options = _parser().parse_args(arguments)
    return command.run(options, SpoolConfig, lambda config: _do(options, config))


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog=NAME, description=DESCRIPTION, epilog=STATUS, formatter_class=raw
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.set_defaults(check=False, print_config=False)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    made = {
        name: commands.add_parser(
            name, help=text, description=ABOUT[name], epilog=STATUS, formatter_class=raw
        )
        for name, text in HELP.items()
    }
    for each in made.values():
        each.add_argument("--config", type=Path, metavar="FILE", help="default: ./ingest.toml")
        each.add_argument(
            "--service", type=_service, metavar="NAME", help="only of this one, such as ingest-http"
        )
        each.add_argument("--folder", type=_number, metavar="N", help="only of this number")
    made["list"].add_argument("--json", action="store_true", help="for programs")
    made["drain"].add_argument(
        "--seconds", type=_seconds, metavar="N", help="end after so long (default: when empty)"
    )
    return parser


def _service(text: str) -> str:
    if not _SERVICE.fullmatch(text):
        raise argparse.ArgumentTypeError("expected the name of a service")
    return text


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError("expected the number of a folder")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError("expected a number of seconds above 0")
    return seconds


def _do(options: argparse.Namespace, config: SpoolConfig) -> int:
    logs.configure(config.service, NAME)
    root = Path(config.spool.path)
    try:
        with taken(root, options.service, options.folder) as folders:
            if not folders and _is_missing(options, root):
                return 1
            return _COMMANDS[options.command](options, config, folders)
    except OSError as error:
        _tell(f"{error.filename or root}: {error.strerror or type(error).__name__}")
        return 1
    except KeyboardInterrupt:
        return 1


def _is_missing(options: argparse.Namespace, root: Path) -> bool:
    """Say that there is nothing; whether it was asked for by name."""
    if not root.is_dir():
        _tell(f"{root}: there is no such folder")
    named = options.service is not None or options.folder is not None
    if named:
        _tell(f"{root}: there is no such service or number")
    return named


def _list(options: argparse.Namespace, _config: SpoolConfig, folders: Sequence[Found]) -> int:
    found = [listing.listed(each) for each in folders]
    print(listing.as_json(found) if options.json else listing.as_text(found), end="")
    return 0


def _verify(_options: argparse.Namespace, _config: SpoolConfig, folders: Sequence[Found]) -> int:
    verdict = verification.verify(folders)
    print(verification.as_text(verdict), end="")
    return 1 if verdict.problems else 0


def _drain(options: argparse.Namespace, config: SpoolConfig, folders: Sequence[Found]) -> int:
    locked = [each for each in folders if each.held is None]
    for each in locked:
        _tell(f"{each.name}: locked by a process: nothing of {each.service} is drained")
    refused = {each.service for each in locked}
    release(each for each in folders if each.service in refused)
    free = [each for each in folders if each.service not in refused]
    if refused and not free:
        return 1
    drained = drain(config, free, tell=_tell, seconds=options.seconds)
    print(f"{drained}")
    if drained.why:
        _tell(f"ended early: {drained.why}")
    left = _tell_what_is_left(config, options, {each.path for each in free})
    return 0 if drained.is_good and not left and not refused else 1


def _tell_what_is_left(config: SpoolConfig, options: argparse.Namespace, paths: set[Path]) -> bool:
    """Whether there are files in what was drained that have not been set aside."""
    with taken(Path(config.spool.path), options.service, options.folder) as folders:
        left = [listing.listed(each) for each in folders if each.path in paths]
    if left:
        _tell(f"left:\n{listing.as_text(left)}".rstrip())
    return any(each.files for each in left)


def _tell(text: str) -> None:
    """Say something that is no result; control characters in it are escaped."""
    print("\n".join(map(printable, text.split("\n"))), file=sys.stderr, flush=True)


_COMMANDS = {"list": _list, "verify": _verify, "drain": _drain}


if __name__ == "__main__":
    sys.exit(main())
