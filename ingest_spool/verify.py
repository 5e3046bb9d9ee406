"""Reads everything that waits, and tells what is damaged. Nothing is repaired or set aside.

To open a database replays its write-ahead log, as any reader of it would: no batch changes by that.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from ingest.spool_batch import Damaged, unpack
from ingest.spool_file import SpoolFile, SpoolUnavailable
from ingest_spool.table import printable, table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from ingest.spool_file import Counted
    from ingest.spool_file import Found as Read
    from ingest_spool.folders import Found

READ_BYTES = 8 << 20
HEAD = ("FILE", "TOPIC", "GOOD BATCHES", "EVENTS", "DAMAGED BATCHES", "EVENTS")
_NAME = re.compile(r"([0-9]{8,})\.(sqlite|sqlite-wal|retired|sqlite\.quarantine)")


class Checked(msgspec.Struct):
    """What of a topic is in a file.

    Attributes:
        batches: that can be read.
        events: in them.
        damaged_batches: that cannot.
        damaged_events: in them, as far as is known.
    """

    batches: int = 0
    events: int = 0
    damaged_batches: int = 0
    damaged_events: int = 0


class Verdict(msgspec.Struct):
    """What was found in a folder.

    Attributes:
        checked: file -> topic -> counts.
        problems: what is damaged, or could not be looked at; for people.
    """

    checked: dict[str, dict[str, Checked]] = {}
    problems: list[str] = []


def verify(folders: Iterable[Found]) -> Verdict:
    """Look at folders, except for those of others.

    Raises:
        OSError: that is not possible.
    """
    verdict = Verdict()
    for found in folders:
        if found.held is None:
            verdict.problems.append(f"{found.name}: locked by a process, not verified")
            continue
        for path in found.files():
            name = f"{found.name}/{path.name}"
            verdict.checked[name] = {}
            verdict.problems += _of_file(name, path, verdict.checked[name])
        verdict.problems += _of_folder(found)
    return verdict


def as_text(verdict: Verdict) -> str:
    """A table of what was read, what is wrong, and the sum of it."""
    rows = [
        (name, topic, of.batches, of.events, of.damaged_batches, of.damaged_events)
        for name, topics in verdict.checked.items()
        for topic, of in sorted(topics.items())
    ]
    lines = [printable(problem) for problem in verdict.problems]
    batches, events = sum(row[2] for row in rows), sum(row[3] for row in rows)
    lines.append(f"{batches} batches with {events} events are good")
    return "\n".join(each for each in (table(HEAD, rows), "\n".join(lines)) if each) + "\n"


def _of_file(name: str, path: Path, checked: dict[str, Checked]) -> Iterator[str]:
    """Read a file, and tell what is wrong with it."""
    try:
        file = SpoolFile(path, int(path.stem))
    except (Damaged, SpoolUnavailable) as error:
        yield f"{name}: cannot be opened: {error}"
        return
    indexed = _indexed(file)
    waiting, gone = file.salvage()  # each batch by its number: what the index misses is found
    try:
        for topic in waiting:
            checked[topic] = Checked()
            _read(file, topic, checked[topic])
    except (Damaged, SpoolUnavailable) as error:
        yield f"{name}: cannot be read: {error}"
    finally:
        file.discard()  # closes it, though it counts as failed from the salvage on
    if indexed != {topic: each.batches for topic, each in waiting.items()}:
        yield f"{name}: the index is damaged"
    if gone:
        yield f"{name}: batches that are gone: {gone}"
    for topic, of in checked.items():
        if of.damaged_batches:
            yield f"{name}: damaged batches of {topic}: {of.damaged_batches}"


def _indexed(file: SpoolFile) -> dict[str, int] | None:
    """How many batches wait, by topic, as the index has it; None: it cannot be read."""
    try:
        found: dict[str, Counted] = file.backlog()
    except (Damaged, SpoolUnavailable):
        return None
    return {topic: each.batches for topic, each in found.items()}


def _read(file: SpoolFile, topic: str, checked: Checked) -> None:
    """Read all batches of a topic.

    Raises:
        Damaged, SpoolUnavailable: that is not possible, or not just now.
    """
    after, more = 0, True
    while more:
        read = file.read(topic, after, READ_BYTES)
        _add(checked, read)
        after = max([after, *(each.place.id for each in read.good), *(row.id for row in read.bad)])
        more = read.more


def _add(checked: Checked, read: Read) -> None:
    for stored in read.good:
        try:
            unpack(stored.packed)
        except Damaged:
            checked.damaged_batches += 1
            checked.damaged_events += stored.packed.events
        else:
            checked.batches += 1
            checked.events += stored.packed.events
    checked.damaged_batches += len(read.bad)
    checked.damaged_events += sum(row.events for row in read.bad)


def _of_folder(found: Found) -> Iterator[str]:
    """What was set aside, and what is not there though it should be."""
    for path in found.quarantined():
        yield f"{found.name}/{path.name}: was set aside as damaged"
    names = [_NAME.fullmatch(path.name) for path in found.path.iterdir()]
    kinds = {(int(match[1]), match[2]) for match in names if match is not None}
    present = {number for number, kind in kinds if kind != "sqlite-wal"}
    for number, kind in sorted(kinds):
        if kind == "sqlite-wal" and number not in present:
            yield f"{found.name}/{number:08}.sqlite-wal: its database is missing"
    files = found.files()
    if files and int(files[-1].stem) == max(present):
        for number in sorted(_live(files) - present):
            yield f"{found.name}/{number:08}.sqlite: is missing"


def _live(files: Sequence[Path]) -> set[int]:
    """The files that were there when the newest one was made."""
    try:
        file = SpoolFile(files[-1], 0)
    except (Damaged, SpoolUnavailable):
        return set()
    try:
        return file.live()
    except (Damaged, SpoolUnavailable):
        return set()
    finally:
        file.close()
