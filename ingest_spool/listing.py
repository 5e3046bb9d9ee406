"""What is in the folders: how much of each topic, and how old. No batch is read for that."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from ingest.spool_batch import Damaged
from ingest.spool_file import SpoolFile, SpoolUnavailable
from ingest.spool_quota import occupied
from ingest.spool_store import Backlog
from ingest_spool.table import table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from ingest_spool.folders import Found

FOLDERS_HEAD = ("FOLDER", "STATE", "FILES", "QUARANTINED", "UNREADABLE", "BYTES")
TOPICS_HEAD = ("FOLDER", "TOPIC", "BATCHES", "EVENTS", "BYTES", "OLDEST")


class Listed(msgspec.Struct):
    """A folder.

    Attributes:
        service: whose.
        folder: its number.
        locked: a process has it, so that it was not looked into.
        files: how many.
        quarantined: files that were set aside as damaged.
        unreadable: files that could not be opened, now or ever: ``verify`` tells why.
        bytes: of all that is in it.
        topics: what waits for each.
    """

    service: str
    folder: int
    locked: bool
    files: int
    quarantined: int
    unreadable: int
    bytes: int
    topics: dict[str, Backlog]

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.service}/{self.folder}"


def listed(found: Found) -> Listed:
    """A folder, looked into where it is ours.

    Raises:
        OSError: that is not possible.
    """
    files = found.files()
    made = Listed(
        service=found.service,
        folder=found.number,
        locked=found.held is None,
        files=len(files),
        quarantined=len(found.quarantined()),
        unreadable=0,
        bytes=occupied(found.path),
        topics={},
    )
    for path in () if made.locked else files:
        made.unreadable += not _count(path, made.topics)
    return made


def _count(path: Path, topics: dict[str, Backlog]) -> bool:
    """Add what waits in a file; whether that is known."""
    try:
        file = SpoolFile(path, int(path.stem))
    except (Damaged, SpoolUnavailable):
        return False
    try:
        counted = file.backlog()
    except (Damaged, SpoolUnavailable):
        return False
    finally:
        file.close()
    for topic, each in counted.items():
        total = topics.setdefault(topic, Backlog(oldest_ms=each.oldest_ms))
        total.batches += each.batches
        total.events += each.events
        total.bytes += each.bytes
        total.oldest_ms = min(total.oldest_ms, each.oldest_ms)
    return True


def as_text(folders: Sequence[Listed]) -> str:
    """Two tables: the folders, and what waits in them."""
    first = table(
        FOLDERS_HEAD,
        [
            (
                each.name,
                "locked" if each.locked else "free",
                each.files,
                each.quarantined,
                each.unreadable,
                each.bytes,
            )
            for each in folders
        ],
    )
    second = topics_as_text(folders)
    return "\n".join(each for each in (first, second) if each)


def topics_as_text(folders: Iterable[Listed]) -> str:
    """What waits, by folder and topic; empty where nothing does."""
    now = time.time()
    rows = [
        (each.name, topic, of.batches, of.events, of.bytes, _age(now - of.oldest_ms / 1000))
        for each in folders
        for topic, of in sorted(each.topics.items())
    ]
    return table(TOPICS_HEAD, rows)


def _age(seconds: float) -> str:
    return str(timedelta(seconds=max(0, int(seconds))))


def as_json(folders: Sequence[Listed]) -> str:
    """The same for programs: an array of folders, in ASCII without control characters."""
    now = time.time()
    text = json.dumps([_plain(each, now) for each in folders], indent=1)
    return text.replace("\x7f", r"\u007f") + "\n"


def _plain(folder: Listed, now: float) -> dict[str, Any]:
    made: dict[str, Any] = msgspec.to_builtins(folder)
    for topic in made["topics"].values():
        topic["oldest_seconds"] = round(max(0.0, now - topic.pop("oldest_ms") / 1000), 3)
    return made
