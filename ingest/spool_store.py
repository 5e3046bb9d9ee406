"""The files of one worker's spool: what is written, what waits, and what becomes of a file.

Batches are appended to one file at a time, and to a new one when that is large enough or has
failed. A file is deleted when all its batches are done. One with damage in it is set aside as
``NAME.quarantine`` when there is nothing more to be read from it, and never deleted.

In a folder, ``NUMBER.sqlite`` is a file, ``NUMBER.retired`` is the trace of a deleted one, which
tells it from one that is missing, and goes when the next file is made. Each file knows which
others there were when it was made.

What is kept in memory does not grow with what is stored: counts for each file and topic.
"""

from __future__ import annotations

import os
import re
import time
from collections import OrderedDict
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import structlog

from ingest.spool_batch import Damaged
from ingest.spool_file import (
    Counted,
    Place,
    Row,
    SpoolBroken,
    SpoolError,
    SpoolFile,
    SpoolFull,
    SpoolUnavailable,
    Stored,
    connect,
    create,
    reason,
    remove,
)
from ingest.spool_folders import sync_directory
from ingest.spool_quota import Quota, occupied

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from ingest.spool_batch import Packed
    from ingest.spool_file import Connect
    from ingest.spool_folders import Folder

__all__ = [
    "Backlog",
    "Damage",
    "Place",
    "Quota",
    "SpoolBroken",
    "SpoolError",
    "SpoolFull",
    "Store",
    "Stored",
]

RETRY_SECONDS = 1.0
"""How long nothing is tried after writing failed."""
MAX_OPEN = 8
"""How many files are open; more only where some have failed or are damaged."""
MIN_FILE_BYTES = 1 << 20
MAX_FILE_BYTES = 1 << 26
FILES = 32
"""About how many files a full spool has."""
_NAME = re.compile(r"([0-9]{8,})\.(sqlite|sqlite-wal|retired|sqlite\.quarantine(?:-wal)?)")

log = structlog.get_logger(__name__)


class Backlog(msgspec.Struct):
    """What waits for one topic.

    Attributes:
        batches: how many.
        events: in them.
        bytes: of their payloads.
        oldest_ms: when the oldest was written, in milliseconds since 1970; 0: there is none.
    """

    batches: int = 0
    events: int = 0
    bytes: int = 0
    oldest_ms: int = 0


class Damage(NamedTuple):
    """What could not be read.

    Attributes:
        files: set aside, or missing.
        batches: lost, as far as is known: not those of files that could not even be opened.
        events: in them, as far as is known.
    """

    files: int = 0
    batches: int = 0
    events: int = 0


class _Held:
    """A file of the store, open or not.

    Attributes:
        folder: where it is.
        path: of the file.
        number: see `Place`.
        file: while it is open.
        topics: what waits in it; None: not known yet, it could not be opened so far.
        tried_at: when that was tried last, on the clock of `time.monotonic`.
        damaged: something in it could not be read.
    """

    __slots__ = ("damaged", "file", "folder", "number", "path", "topics", "tried_at")

    def __init__(self, folder: Folder, path: Path, number: int) -> None:
        self.folder = folder
        self.path = path
        self.number = number
        self.file: SpoolFile | None = None
        self.topics: dict[str, Counted] | None = None
        self.tried_at = float("-inf")
        self.damaged = False


class Store:
    """All the files of one worker. One thread only.

    Args:
        folders: the first is written to, all are read; they are released by `close`.
        quota: how much may be written.
        file_bytes: how large a file becomes before the next one is begun.
        now_ms: the time, in milliseconds since 1970.
        connection: opens a database.

    Raises:
        OSError: a folder cannot be read; all are released.

    Attributes:
        problem: why nothing can be written just now; empty: nothing is known to be wrong.
    """

    def __init__(
        self,
        folders: Sequence[Folder],
        quota: Quota,
        *,
        file_bytes: int | None = None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        connection: Connect = connect,
    ) -> None:
        self.problem = ""
        self._own = folders[0]
        self._folders = list(folders)
        self._quota = quota
        fair = min(max(quota.max_bytes // FILES, MIN_FILE_BYTES), MAX_FILE_BYTES)
        self._file_bytes = file_bytes or fair
        self._now_ms = now_ms
        self._connect = connection
        self._held: list[_Held] = []
        self._recent: OrderedDict[int, _Held] = OrderedDict()
        self._active: _Held | None = None
        self._next_number = 1
        self._retry_at = float("-inf")
        self._damage = Damage()
        try:
            self._load(self._own)
            for folder in folders[1:]:
                self._load(folder)
        except OSError:
            self.close()
            raise

    @property
    def bytes(self) -> int:
        """What the folders occupy."""
        return sum(occupied(folder.path) for folder in self._folders)

    def room(self, size: int) -> bool:
        """Whether ``size`` more bytes may be appended."""
        return not self.problem and self._quota.room(size)

    def append(self, batches: Sequence[Packed]) -> list[Place]:
        """Write batches; they are on the disk when this returns.

        Raises:
            SpoolFull: none of them was written.
            SpoolBroken: they may come back from `read` after a restart, or not.
        """
        if not batches:
            return []
        size = sum(len(batch.payload) for batch in batches)
        self._check_room(size)
        now_ms = self._now_ms()
        try:
            held, file = self._writable()
            ids = file.append(batches, now_ms)
        except SpoolError as error:
            self._have_problem(error)
            raise
        self.problem = ""
        self._quota.wrote(size)
        for number, batch in zip(ids, batches, strict=True):
            _count(held, Row(number, batch.topic, batch.events, len(batch.payload), now_ms, 0))
        return [Place(held.number, number) for number in ids]

    def probe(self) -> bool:
        """While there is a problem: try whether a new file can be written; whether all is well."""
        if not self.problem:
            return True
        try:
            self._begin_file().probe()
        except SpoolError as error:
            self._have_problem(error)
            return False
        self.problem = ""
        return True

    def read(self, topic: str, after: Place | None, limit_bytes: int) -> list[Stored]:
        """Batches of a topic that are not done, oldest first; at least one if there is any.

        Args:
            topic: whose.
            after: only what was written later; None: from the oldest.
            limit_bytes: of their payloads.
        """
        found: list[Stored] = []
        for held in list(self._held):
            if after is not None and held.number < after.file:
                continue
            after_id = after.id if after is not None and held.number == after.file else 0
            left = limit_bytes - sum(len(stored.packed.payload) for stored in found)
            good, more = self._read(held, topic, after_id, left, at_least_one=not found)
            found += good
            if more:
                break
        return found

    def mark_done(self, places: Iterable[Place]) -> None:
        """Never return these batches again; files that are drained by that are deleted."""
        by_file: dict[int, list[int]] = {}
        for place in places:
            by_file.setdefault(place.file, []).append(place.id)
        for held in [held for held in self._held if held.number in by_file]:
            self._mark(held, by_file[held.number])
            self._settle(held)

    def backlog(self) -> dict[str, Backlog]:
        """What waits, by topic."""
        found: dict[str, Backlog] = {}
        for held in list(self._held):
            if held.topics is None:
                self._use(held)  # it could not be opened so far
            for topic, counted in (held.topics or {}).items():
                total = found.setdefault(topic, Backlog(oldest_ms=counted.oldest_ms))
                total.batches += counted.batches
                total.events += counted.events
                total.bytes += counted.bytes
        return found

    def adopt(self, folder: Folder) -> None:
        """Read one more folder, whose batches are the oldest from now on."""
        self._folders.append(folder)
        try:
            self._load(folder)
        except OSError as error:
            log.error("spool_folder_unreadable", folder=folder.path.name, reason=reason(error))  # noqa: TRY400 - the reason is all
            self._folders.remove(folder)
            folder.release()

    def take_damage(self) -> Damage:
        """What was found to be unreadable since the last call."""
        damage, self._damage = self._damage, Damage()
        return damage

    def close(self) -> None:
        """Close the files and release the folders."""
        active, self._active = self._active, None
        if active is not None:
            self._settle(active)
        for held in self._held:
            if held.file is not None:
                held.file.close()
        for folder in self._folders:
            folder.release()
        self._held, self._folders = [], []

    # Writing

    def _check_room(self, size: int) -> None:
        if self.problem and time.monotonic() < self._retry_at:
            raise SpoolFull(self.problem)
        if not self._quota.room(size):
            raise SpoolFull("the quota is used up")

    def _writable(self) -> tuple[_Held, SpoolFile]:
        """The file to be written to: a new one if there is none or it is large enough."""
        held = self._active
        if held is not None and held.file is not None and not held.file.failed:
            if held.file.written < self._file_bytes:
                return held, held.file
            self._active = None
            self._settle(held)
            self._close(held)
        file = self._begin_file()
        assert self._active is not None  # noqa: S101 - for the type checker
        return self._active, file

    def _begin_file(self) -> SpoolFile:
        """Make the next file and write to it from now on.

        Raises:
            SpoolFull: that is not possible now.
        """
        held = _Held(self._own, self._path(self._next_number), self._next_number)
        live = [each.number for each in self._held if each.folder is self._own]
        create(held.path, live, self._connect)
        self._next_number += 1
        try:
            held.file = SpoolFile(held.path, held.number, self._connect)
        except (Damaged, SpoolUnavailable) as error:
            remove(held.path)
            raise SpoolFull(str(error)) from error
        held.topics = {}
        before, self._active = self._active, held
        self._held.append(held)
        self._quota.wrote(held.path.stat().st_size)
        self._forget_retired(self._own)
        self._use_lately(held)
        if before is not None:
            self._settle(before)
        return held.file

    def _have_problem(self, error: SpoolError) -> None:
        """Write to another file the next time, and not at once."""
        self.problem = str(error) or "unknown"
        self._retry_at = time.monotonic() + RETRY_SECONDS
        active = self._active
        if active is not None and active.file is not None and active.file.failed:
            self._active = None
            self._settle(active)

    # Reading

    def _read(
        self, held: _Held, topic: str, after_id: int, limit_bytes: int, *, at_least_one: bool
    ) -> tuple[list[Stored], bool]:
        """What a file has for a topic, and whether it has more than the limit allows."""
        if held.topics is not None and topic not in held.topics:
            return [], False
        file = self._use(held)
        counted = (held.topics or {}).get(topic)
        if file is None or counted is None:
            return [], False
        start = max(after_id, counted.first_id - 1)
        try:
            found = file.read(topic, start, limit_bytes, at_least_one=at_least_one)
        except Damaged:
            self._salvage(held, file)
            self._settle(held)
            return self._read(held, topic, after_id, limit_bytes, at_least_one=at_least_one)
        except SpoolUnavailable as error:
            self._is_unavailable(held, error)
            return [], False
        for row in found.bad:
            self._lose(held, row)
        is_nothing = start < counted.first_id and not found.good and not found.more
        if is_nothing and topic in (held.topics or {}):  # there should be something
            if file.salvaged:
                self._give_up(held, topic)
            else:  # the index hides it: it may be found otherwise
                self._salvage(held, file)
            self._settle(held)
            return self._read(held, topic, after_id, limit_bytes, at_least_one=at_least_one)
        self._settle(held)
        return found.good, found.more

    def _give_up(self, held: _Held, topic: str) -> None:
        """What is missing of a topic is counted."""
        counted = (held.topics or {}).pop(topic)
        self._add_damage(batches=counted.batches, events=counted.events)

    def _lose(self, held: _Held, row: Row) -> None:
        held.damaged = True
        self._add_damage(batches=1, events=row.events)
        log.error("spool_batch_damaged", file=held.path.name, id=row.id, events=row.events)
        _discount(held, [row])

    def _mark(self, held: _Held, ids: list[int]) -> None:
        file = self._use(held)
        if file is None:
            return
        try:
            rows = file.mark_done(ids)
            _discount(held, rows)
            self._find_first(held, file, {row.topic for row in rows})
        except Damaged:
            self._salvage(held, file)
            self._mark(held, ids)
        except SpoolUnavailable as error:
            self._is_unavailable(held, error)

    @staticmethod
    def _find_first(held: _Held, file: SpoolFile, topics: Iterable[str]) -> None:
        """Note which batches are the oldest now."""
        for topic in topics:
            counted = (held.topics or {}).get(topic)
            row = None if counted is None else file.first(topic, counted.first_id)
            if counted is not None and row is not None:
                counted.first_id, counted.oldest_ms = row.id, row.written_ms

    def _salvage(self, held: _Held, file: SpoolFile) -> None:
        """Read what is left of a damaged file; what is gone is counted."""
        known = sum(counted.events for counted in (held.topics or {}).values())
        held.topics, gone = file.salvage()
        held.damaged = True
        left = sum(counted.events for counted in held.topics.values())
        self._add_damage(batches=gone, events=max(0, known - left))
        log.error("spool_file_damaged", file=held.path.name, lost=gone, left_events=left)
        if held is self._active:
            self._active = None

    # Files

    def _use(self, held: _Held) -> SpoolFile | None:
        """The file, opened if it is not; None: that is not possible, now or ever."""
        if held.file is None and not self._open(held):
            return None
        self._use_lately(held)
        return held.file

    def _use_lately(self, held: _Held) -> None:
        """Close what was not used for the longest time."""
        self._recent[held.number] = held
        self._recent.move_to_end(held.number)
        for old in list(self._recent.values()):
            if len(self._recent) <= MAX_OPEN:
                return
            if old is not self._active and old is not held and not old.damaged:
                self._close(old)

    def _close(self, held: _Held) -> None:
        """Close a file that is read again later, if at all."""
        self._recent.pop(held.number, None)
        if held.file is not None and not held.damaged and held.file.close():
            held.file = None

    def _open(self, held: _Held) -> bool:
        if time.monotonic() - held.tried_at < RETRY_SECONDS:
            return False
        held.tried_at = float("-inf")
        try:
            held.file = SpoolFile(held.path, held.number, self._connect)
            if held.topics is None:
                held.topics = held.file.backlog()
        except Damaged as error:
            self._open_damaged(held, error)
        except SpoolUnavailable as error:
            self._open_unavailable(held, error)
        return held.file is not None

    def _open_damaged(self, held: _Held, error: Damaged) -> None:
        if held.file is not None:
            self._salvage(held, held.file)
            return
        lost = list((held.topics or {}).values())
        self._add_damage(
            batches=sum(each.batches for each in lost), events=sum(each.events for each in lost)
        )
        self._quarantine(held, str(error))

    def _open_unavailable(self, held: _Held, error: SpoolUnavailable) -> None:
        file, held.file = held.file, None
        if file is not None:
            file.close()
        if held.path.exists():
            self._is_unavailable(held, error)
        else:
            self._open_damaged(held, Damaged("it is gone"))

    @staticmethod
    def _is_unavailable(held: _Held, error: SpoolUnavailable) -> None:
        held.tried_at = time.monotonic()
        log.error("spool_file_unavailable", file=held.path.name, reason=str(error))

    def _settle(self, held: _Held) -> None:
        """Delete a file or set it aside when nothing waits in it."""
        if held not in self._held or held.topics is None or held.topics or self._is_wanted(held):
            return
        file = self._use(held)
        if file is None:
            return
        try:
            complete = file.is_drained()
        except Damaged:
            complete = False
        except SpoolUnavailable as error:
            self._is_unavailable(held, error)
            return
        if not complete:
            self._salvage(held, file)
        if held is self._active:
            self._active = None
        if held.topics:
            return
        if held.damaged:
            self._quarantine(held, "damaged")
        else:
            self._retire(held)

    def _is_wanted(self, held: _Held) -> bool:
        """Whether it is still written to, and not worth to be replaced for the space it takes."""
        if held is not self._active or held.file is None or held.damaged:
            return False
        return not held.file.failed and held.file.written < MIN_FILE_BYTES

    def _retire(self, held: _Held) -> None:
        """Delete a file, and leave a trace of it."""
        # Where the disk has no room for the trace, the file may be reported as missing later.
        with suppress(OSError):
            held.path.with_suffix(".retired").touch()
        try:
            remove(held.path)
            sync_directory(held.folder.path)
        except OSError as error:
            log.error("spool_file_not_deleted", file=held.path.name, reason=reason(error))  # noqa: TRY400 - the reason is all
        if held.file is not None:
            held.file.discard()
        self._drop(held)

    def _quarantine(self, held: _Held, why: str) -> None:
        """Set a file aside; it is not opened again."""
        if held.file is not None:
            held.file.close()
        try:
            _set_aside(held.path)
        except OSError as error:
            log.error("spool_file_not_renamed", file=held.path.name, reason=reason(error))  # noqa: TRY400 - the reason is all
        self._add_damage(files=1)
        log.error("spool_file_quarantined", file=held.path.name, reason=why)
        self._drop(held)

    def _drop(self, held: _Held) -> None:
        self._held.remove(held)
        self._recent.pop(held.number, None)
        if held is self._active:
            self._active = None
        self._leave(held.folder)

    def _leave(self, folder: Folder) -> None:
        """Remove an adopted folder when there are no files in it any more."""
        if folder is self._own or any(held.folder is folder for held in self._held):
            return
        self._forget_retired(folder)
        self._folders.remove(folder)
        folder.remove()

    @staticmethod
    def _forget_retired(folder: Folder) -> None:
        with suppress(OSError):
            for path in folder.path.glob("*.retired"):
                path.unlink(missing_ok=True)

    def _add_damage(self, *, files: int = 0, batches: int = 0, events: int = 0) -> None:
        before = self._damage
        self._damage = Damage(
            before.files + files, before.batches + batches, before.events + events
        )

    def _path(self, number: int) -> Path:
        return self._own.path / f"{number:08}.sqlite"

    # What is there at the start

    def _load(self, folder: Folder) -> None:
        """Take up all the files of a folder."""
        names = _tidy(folder.path)
        present = {number for number, _ in names}
        files = sorted(number for number, kind in names if kind == "sqlite")
        if folder is self._own:
            base = 0
            self._next_number = max(present, default=0) + 1
        else:
            lowest = min([held.number for held in self._held], default=1)
            base = min(lowest, 1) - max(files, default=0) - 1
        found = [
            _Held(folder, folder.path / f"{number:08}.sqlite", base + number) for number in files
        ]
        self._held = sorted([*self._held, *found], key=lambda held: held.number)
        for held in found:
            self._use(held)
        if found and files[-1] == max(present):
            self._look_for_missing(found[-1], present)
        for held in found:
            self._settle(held)
        if folder in self._folders:
            self._leave(folder)

    def _look_for_missing(self, newest: _Held, present: set[int]) -> None:
        """Tell which files are gone that were there when the newest one was made."""
        try:
            live = newest.file.live() if newest.file is not None else set()
        except (Damaged, SpoolUnavailable):
            return
        for number in sorted(live - present):
            self._add_damage(files=1)
            log.error("spool_file_missing", folder=newest.folder.path.name, number=number)


def _count(held: _Held, row: Row) -> None:
    """Have one more batch wait."""
    assert held.topics is not None  # noqa: S101 - for the type checker
    counted = held.topics.get(row.topic)
    if counted is None:
        counted = held.topics[row.topic] = Counted(row.id, row.written_ms)
    counted.add(1, row.events, row.bytes)


def _discount(held: _Held, rows: Iterable[Row]) -> None:
    """Have batches not wait any more."""
    topics = held.topics or {}
    for row in rows:
        counted = topics.get(row.topic)
        if counted is None:
            continue
        counted.add(-1, -row.events, -row.bytes)
        if counted.batches <= 0:
            del topics[row.topic]


def _set_aside(path: Path) -> None:
    """Rename a file so that nobody opens it as a part of the spool, but SQLite's tools can."""
    for suffix in ("-wal", ""):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(path.with_name(f"{path.name}.quarantine{suffix}"))
    sync_directory(path.parent)


def _tidy(folder: Path) -> list[tuple[int, str]]:
    """The numbers and kinds of the files in a folder, without what a crash left half-done."""
    for draft in folder.glob("*.new*"):
        draft.unlink(missing_ok=True)
    found = [_NAME.fullmatch(name) for name in os.listdir(folder)]  # noqa: PTH208
    names = {(int(match[1]), match[2]) for match in found if match is not None}
    for number, kind in list(names):
        if kind == "sqlite-wal" and (number, "sqlite") not in names:
            path = folder / f"{number:08}.sqlite"
            if (number, "retired") in names:
                remove(path)
            else:
                _set_aside(path)
    return [(number, kind) for number, kind in names if kind != "sqlite-wal"]
