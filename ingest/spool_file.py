"""One file of the spool: an SQLite database of batches that are written once and read back once.

There is one connection for each file, in exclusive mode: versions of SQLite before 3.51.3 can lose
transactions when two connections reset a write-ahead log at once
(https://sqlite.org/wal.html#walresetbug). Batches are numbered from 1 without gaps and never
touched again; that one is done is a row of another table.

SQLite has no checksums of pages, so nothing that is read is believed: a batch must match its own
CRC and its row in the index, and a done mark repeats the CRC of what it marks. One flipped bit
costs a batch or brings one back, but never hides one.

A file is never written to after a write to it failed. What a failed fsync leaves behind is unknown
(Rebello et al., "Can Applications Recover from fsync Failures?", USENIX ATC 2020), and trying
again may seem to work. Such a file is not closed either, because that runs a checkpoint.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sqlite3
from array import array
from bisect import bisect_left
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import structlog

from ingest.spool_batch import Damaged, Packed, is_intact
from ingest.spool_folders import sync_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
    from pathlib import Path

    Connect = Callable[[Path, str], sqlite3.Connection]
    """Opens a path in a mode of SQLite's URIs: ``rw`` or ``rwc``."""

APPLICATION_ID = 0x44485350
FORMAT = 1
PAGE_BYTES = 16_384
WAL_BYTES = 4 << 20
"""How much of it is written before it is copied into the database: about its size."""
CACHE_KIB = 1024
ROW_BYTES = 128
"""What a batch takes beside its payload, roughly."""
PAGES_EACH_TIME = 3
LEAST_ROW_BYTES = 64
"""No stored batch is smaller, which bounds how many a file may have."""

_SCHEMA = (
    (
        "CREATE TABLE batches(id INTEGER PRIMARY KEY, topic TEXT NOT NULL, "
        "events INTEGER NOT NULL, bytes INTEGER NOT NULL, written_ms INTEGER NOT NULL, "
        "crc INTEGER NOT NULL, payload BLOB NOT NULL)"
    ),
    "CREATE INDEX batches_by_topic ON batches(topic, id, events, bytes, written_ms, crc)",
    "CREATE TABLE done(id INTEGER PRIMARY KEY, crc INTEGER NOT NULL)",
    "CREATE TABLE live(number INTEGER PRIMARY KEY)",
)
_SETTINGS = (
    "PRAGMA locking_mode = EXCLUSIVE",  # before the first access: no shared memory file then
    "PRAGMA synchronous = FULL",
    f"PRAGMA cache_size = -{CACHE_KIB}",
    f"PRAGMA journal_size_limit = {WAL_BYTES}",
    "PRAGMA wal_autocheckpoint = 0",  # it hides that it failed
    "PRAGMA temp_store = MEMORY",
    "PRAGMA cell_size_check = ON",
    "PRAGMA trusted_schema = OFF",
)
_INSERT = "INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?, ?)"
_MARK = "INSERT OR REPLACE INTO done VALUES (?, ?)"
_PROBE = 0
"""An id that no batch has."""
_NOT_DONE = "NOT EXISTS (SELECT 1 FROM done WHERE done.id = b.id AND done.crc = b.crc)"
_COLUMNS = "id, topic, events, bytes, written_ms, crc"
_INDEXED = "FROM batches AS b INDEXED BY batches_by_topic"
_WAITING = (
    f"SELECT {_COLUMNS} {_INDEXED} WHERE topic = ? "
    f"AND id BETWEEN ? AND ? AND {_NOT_DONE} ORDER BY id"
)
# Of columns that are not aggregated, SQLite shows those of the row that has the MIN().
_BACKLOG = (
    "SELECT topic, COUNT(*), SUM(events), SUM(bytes), MIN(id), written_ms "
    f"{_INDEXED} WHERE {_NOT_DONE} GROUP BY topic"
)
_ROW = f"SELECT {_COLUMNS} FROM batches WHERE id = ?"  # noqa: S608 - constants
_UNDONE_ROW = f"SELECT {_COLUMNS} FROM batches AS b WHERE id = ? AND {_NOT_DONE}"  # noqa: S608 - constants
_BATCH = f"SELECT {_COLUMNS}, payload FROM batches WHERE id = ?"  # noqa: S608 - constants
_LAST = "SELECT MAX(id) FROM batches NOT INDEXED"
_LAST_INDEXED = f"SELECT MAX(id) {_INDEXED}"
_DONE_UP_TO = "SELECT COUNT(*) FROM done WHERE id BETWEEN 1 AND ?"
_DONE_IDS = "SELECT id FROM done WHERE id BETWEEN 1 AND ?"
_IS_DONE = "SELECT 1 FROM done WHERE id = ?"

_DAMAGE = {
    sqlite3.SQLITE_ERROR,  # our statements are right, so the schema is not ours any more
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_FORMAT,
    sqlite3.SQLITE_TOOBIG,
    sqlite3.SQLITE_MISMATCH,
}
_READ_ERRORS = {
    sqlite3.SQLITE_IOERR_READ,
    sqlite3.SQLITE_IOERR_SHORT_READ,
    sqlite3.SQLITE_IOERR_CORRUPTFS,
    sqlite3.SQLITE_IOERR_DATA,
}

log = structlog.get_logger(__name__)


class SpoolError(Exception):
    """The spool cannot do what it was asked to."""


class SpoolFull(SpoolError):  # noqa: N818 - a verdict
    """Nothing was written, for certain."""


class SpoolBroken(SpoolError):  # noqa: N818 - a verdict
    """Writing failed; what was to be written may be in the file or not."""


class SpoolUnavailable(SpoolError):  # noqa: N818 - a verdict
    """A file cannot be read just now, which says nothing about what is in it."""


class Place(NamedTuple):
    """Where a batch is; the order of places is the order of writing.

    Attributes:
        file: a number that is unique among all files of a store.
        id: its number within the file, from 1.
    """

    file: int
    id: int


class Stored(NamedTuple):
    """A batch that was read back.

    Attributes:
        place: where it is.
        packed: as it was written; its CRC is right.
        written_ms: when it was written, in milliseconds since 1970.
    """

    place: Place
    packed: Packed
    written_ms: int


class Row(NamedTuple):
    """What is known of a batch without reading it; see `Packed` and `Stored`."""

    id: int
    topic: str
    events: int
    bytes: int
    written_ms: int
    crc: int


class Found(NamedTuple):
    """What was read.

    Attributes:
        good: batches, oldest first.
        bad: what the index says of batches that cannot be read, ever.
        more: the limit was reached before the end.
    """

    good: list[Stored]
    bad: list[Row]
    more: bool


class Counted:
    """What waits in a file for one topic.

    Attributes:
        batches: how many.
        events: in them.
        bytes: of their payloads.
        first_id: of the oldest.
        oldest_ms: when that was written.
    """

    __slots__ = ("batches", "bytes", "events", "first_id", "oldest_ms")

    def __init__(self, first_id: int, oldest_ms: int) -> None:
        self.batches = 0
        self.events = 0
        self.bytes = 0
        self.first_id = first_id
        self.oldest_ms = oldest_ms

    def add(self, batches: int, events: int, size: int) -> None:
        """Have more wait, or less where the figures are negative."""
        self.batches += batches
        self.events += events
        self.bytes += size


class _Marks:
    """A set of ids, at one bit for each."""

    def __init__(self) -> None:
        self._bits = bytearray()

    def add(self, number: int) -> None:
        missing = (number >> 3) + 1 - len(self._bits)
        if missing > 0:
            self._bits.extend(bytes(missing))
        self._bits[number >> 3] |= 1 << (number & 7)

    def __contains__(self, number: int) -> bool:
        index = number >> 3
        return index < len(self._bits) and bool(self._bits[index] >> (number & 7) & 1)

    def __len__(self) -> int:
        return int.from_bytes(self._bits, "little").bit_count()


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """A connection without implicit transactions.

    Args:
        path: of the database.
        mode: of SQLite's URIs.
    """
    uri = f"file:{quote(os.fspath(path))}?mode={mode}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=0)


def create(path: Path, live: Iterable[int], connect: Connect = connect) -> None:
    """Make an empty file; it is there as a whole or not at all.

    Args:
        path: of the file.
        live: the numbers of the other files of its folder.
        connect: opens a database.

    Raises:
        SpoolFull: it could not be made.
    """
    draft = path.with_name(f"{path.name}.new")
    try:
        remove(draft)
        _build(draft, live, connect)
        _sync(draft)
        draft.rename(path)
        sync_directory(path.parent)
    except (sqlite3.Error, OSError) as error:
        with suppress(OSError):
            remove(draft)
        raise SpoolFull(reason(error)) from error


def remove(path: Path) -> None:
    """Delete a database and what belongs to it."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


class SpoolFile:
    """An open file.

    Attributes:
        path: of the file.
        number: see `Place`.
        failed: nothing is written to it any more.
        last_id: of the last batch that was written to it for certain.
        written: bytes written to it by this process, roughly.
        salvaged: its structure is damaged; what could be found in it is read all the same.
        bad: the ids of batches that cannot be read.
    """

    def __init__(self, path: Path, number: int, connect: Connect = connect) -> None:
        """Open it.

        Raises:
            Damaged: it is no file of the spool, or not any more.
            SpoolUnavailable: it cannot be opened just now.
        """
        self.path = path
        self.number = number
        self.failed = False
        self.written = 0
        self.salvaged = False
        self.bad: set[int] = set()
        self._marks = _Marks()
        self._survivors: dict[str, array[int]] = {}
        self._unsettled = 0
        with _reading():
            self._connection = connect(path, "rw")
        try:
            self._prepare()
        except (Damaged, SpoolUnavailable):
            self._connection.close()
            raise

    def live(self) -> set[int]:
        """The numbers of the files that were beside it when it was made.

        Raises:
            Damaged, SpoolUnavailable: they cannot be read.
        """
        return {number for (number,) in self._query("SELECT number FROM live")}

    def append(self, batches: Sequence[Packed], written_ms: int) -> list[int]:
        """Write batches in one transaction, which is on the disk when this returns.

        Raises:
            SpoolFull: none of them was written.
            SpoolBroken: they may be in the file or not.
        """
        ids = range(self.last_id + 1, self.last_id + 1 + len(batches))
        rows = [
            (
                number,
                batch.topic,
                batch.events,
                len(batch.payload),
                written_ms,
                batch.crc,
                batch.payload,
            )
            for number, batch in zip(ids, batches, strict=True)
        ]
        self._write(_INSERT, rows)
        self.last_id += len(batches)
        size = sum(len(batch.payload) for batch in batches)
        self._wrote(size, rows=len(batches), topics=len({batch.topic for batch in batches}))
        return list(ids)

    def probe(self) -> None:
        """Write something that does not matter.

        Raises:
            SpoolError: that failed.
        """
        self._write(_MARK, [(_PROBE, 0)])

    def mark_done(self, ids: Iterable[int]) -> list[Row]:
        """Note that batches are not needed any more; those for which that is news.

        It is on the disk when this returns, or in memory only where the file has failed.

        Raises:
            Damaged, SpoolUnavailable: they cannot be found.
        """
        rows = [row for number in dict.fromkeys(ids) for row in self._undone(number)]
        if rows and not self.failed:
            # Where that fails the file is `failed`, which the next lines are about.
            with suppress(SpoolError):
                self._write(_MARK, [(row.id, row.crc) for row in rows])
                self._wrote(0, rows=len(rows), topics=0)
        if self.failed:
            for row in rows:
                self._marks.add(row.id)
        return rows

    def read(
        self, topic: str, after_id: int, limit_bytes: int, *, at_least_one: bool = True
    ) -> Found:
        """Batches that are not done, oldest first.

        Args:
            topic: whose.
            after_id: only those with higher ids.
            limit_bytes: of their payloads.
            at_least_one: the first is read whatever its size.

        Raises:
            Damaged: the index is damaged: see `salvage`.
            SpoolUnavailable: it cannot be read just now.
        """
        good: list[Stored] = []
        bad: list[Row] = []
        more = False
        size = 0
        with closing(self._waiting(topic, after_id + 1)) as rows:
            for row in rows:
                more = size + row.bytes > limit_bytes and bool(good or not at_least_one)
                if more:
                    break
                packed = self._fetch(row)
                if packed is None:
                    bad.append(row)
                else:
                    size += row.bytes
                    good.append(Stored(Place(self.number, row.id), packed, row.written_ms))
        self.bad.update(row.id for row in bad)
        return Found(good, bad, more)

    def first(self, topic: str, from_id: int) -> Row | None:
        """The oldest batch of a topic, from an id on, that is not done.

        Raises:
            Damaged, SpoolUnavailable: see `read`.
        """
        with closing(self._waiting(topic, from_id)) as rows:
            return next(rows, None)

    def backlog(self) -> dict[str, Counted]:
        """What waits, by topic; no batch is read for that.

        Raises:
            Damaged, SpoolUnavailable: see `read`.
        """
        found = {}
        for topic, batches, events, size, first_id, oldest_ms in self._query(_BACKLOG):
            row = Row(first_id, topic, events, size, oldest_ms, 0)
            if not _is_sane(row):
                raise Damaged("the index is damaged")
            found[topic] = Counted(first_id, oldest_ms)
            found[topic].add(batches, events, size)
        return found

    def is_drained(self) -> bool:
        """Whether every id is accounted for: done, or known to be bad.

        Raises:
            Damaged, SpoolUnavailable: that cannot be told.
        """
        if self.salvaged:
            return True
        last = self.last_id
        if not self.failed:
            return self._number(_DONE_UP_TO, last) + len(self.bad) >= last
        more = sum(number not in self._marks for (number,) in self._query(_DONE_IDS, last))
        return len(self._marks) + more + len(self.bad) >= last

    def salvage(self) -> tuple[dict[str, Counted], int]:
        """Look for every batch on its own, without the index; nothing is written from now on.

        Returns:
            What waits, by topic, and how many batches are gone.
        """
        self.fail()
        self.salvaged = True
        self._survivors = {}
        known = self._highest()
        found: dict[str, Counted] = {}
        missing = array("q")
        last = 0
        for number in range(1, (known or self.path.stat().st_size // LEAST_ROW_BYTES) + 1):
            if number in self.bad or number in self._marks:
                continue
            row = self._look_up(_ROW, number)
            if row is None:
                missing.append(number)
                continue
            last = number
            if not self._is_done(row):
                self._survived(row, found)
        gone = [number for number in missing if number <= (known or last)]
        return found, sum(not self._is_marked(number) for number in gone)

    def checkpoint(self) -> None:
        """Copy the write-ahead log into the database, so that it starts over."""
        if self.failed or not self._unsettled:
            return
        try:
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except (sqlite3.Error, OSError) as error:
            log.error("spool_checkpoint_failed", file=self.path.name, reason=reason(error))  # noqa: TRY400 - the reason is all
            self.fail()
        else:
            self._unsettled = 0

    def fail(self) -> None:
        """Write nothing to it any more, and keep the connection for as long as the process lives.

        SQLite would run a checkpoint if it were closed, and Python closes what is left at its end.
        """
        if self.failed:
            return
        self.failed = True
        with suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._connection))

    def close(self) -> bool:
        """Close it, unless it has failed; whether it is closed."""
        self.checkpoint()
        if self.failed:
            return False
        self._connection.close()
        return True

    def discard(self) -> None:
        """Close it after it was deleted: what that writes is gone as well."""
        if self.failed:
            ctypes.pythonapi.Py_DecRef(ctypes.py_object(self._connection))
        with suppress(sqlite3.Error):
            self._connection.close()

    def _prepare(self) -> None:
        with _reading():
            for setting in _SETTINGS:
                self._connection.execute(setting)
            for pragma, expected in (("application_id", APPLICATION_ID), ("user_version", FORMAT)):
                if self._number(f"PRAGMA {pragma}") != expected:
                    raise Damaged("it is no file of this spool, or of another version of it")
            schema = self._connection.execute("SELECT sql FROM sqlite_schema ORDER BY rowid")
            if tuple(sql for (sql,) in schema) != _SCHEMA:
                raise Damaged("the schema is damaged")
        self.last_id = self._try_number(_LAST)

    def _write(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        if self.failed:
            raise SpoolFull("nothing is written to a file that has failed")
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany(statement, rows)
            self._connection.execute("COMMIT")
        except (sqlite3.Error, OSError, MemoryError) as error:
            self.fail()
            full = SpoolFull if _primary(error) == sqlite3.SQLITE_FULL else SpoolBroken
            raise full(reason(error)) from error

    def _wrote(self, size: int, *, rows: int, topics: int) -> None:
        """Note how much the file and its log have grown, roughly.

        The log gets whole pages: some at the end of the tables, and one of the index by topic.
        """
        size += rows * ROW_BYTES
        self.written += size
        self._unsettled += size + (PAGES_EACH_TIME + topics) * PAGE_BYTES
        if self._unsettled >= WAL_BYTES:
            self.checkpoint()

    def _waiting(self, topic: str, from_id: int) -> Generator[Row, None, None]:
        """What is not done of a topic, from an id on."""
        rows = self._surviving if self.salvaged else self._indexed
        with closing(rows(topic, from_id)) as found:
            for row in found:
                if row.id not in self.bad and row.id not in self._marks:
                    yield row

    def _indexed(self, topic: str, from_id: int) -> Generator[Row, None, None]:
        """From the index; what a failed commit may have left behind is for the next process."""
        bounds = (topic, from_id, self.last_id)
        with _reading(), closing(self._connection.execute(_WAITING, bounds)) as cursor:
            for values in cursor:
                row = Row(*values)
                if not _is_sane(row):
                    raise Damaged("the index is damaged")
                yield row

    def _surviving(self, topic: str, from_id: int) -> Generator[Row, None, None]:
        ids = self._survivors.get(topic, array("q"))
        for index in range(bisect_left(ids, from_id), len(ids)):
            row = self._look_up(_ROW, ids[index])
            if row is not None and row.topic == topic:
                yield row

    def _undone(self, number: int) -> list[Row]:
        """The row of a batch, or nothing if it is done already or not there."""
        if number in self._marks:
            return []
        if self.salvaged:
            row = self._look_up(_ROW, number)
            return [row] if row is not None and not self._is_done(row) else []
        return [Row(*values) for values in self._query(_UNDONE_ROW, number)]

    def _fetch(self, row: Row) -> Packed | None:
        """A batch; None: it is damaged.

        Raises:
            Damaged: the batch is fine, but its index is not.
        """
        try:
            values = self._query(_BATCH, row.id)
        except Damaged:
            return None
        if not values and self.salvaged:
            return None
        if not values:
            raise Damaged("the index names a batch that is not there")
        stored, payload = Row(*values[0][:6]), values[0][6]
        if not (_is_sane(stored) and isinstance(payload, bytes)):
            return None
        packed = Packed(stored.topic, stored.events, payload, stored.crc)
        if not is_intact(packed):
            return None
        if stored != row:
            raise Damaged("the index is not that of the batch")
        return packed

    def _look_up(self, statement: str, number: int) -> Row | None:
        """The row of a batch; None: there is none, or not any more."""
        try:
            values = self._query(statement, number)
        except (Damaged, SpoolUnavailable):
            return None
        row = Row(*values[0]) if values else None
        return row if row is not None and _is_sane(row) else None

    def _survived(self, row: Row, found: dict[str, Counted]) -> None:
        self._survivors.setdefault(row.topic, array("q")).append(row.id)
        counted = found.setdefault(row.topic, Counted(row.id, row.written_ms))
        counted.add(1, row.events, row.bytes)

    def _is_done(self, row: Row) -> bool:
        try:
            return bool(self._query(f"{_IS_DONE} AND crc = ?", row.id, row.crc))
        except (Damaged, SpoolUnavailable):
            return False

    def _is_marked(self, number: int) -> bool:
        """Whether a batch that is gone had been done."""
        try:
            return bool(self._query(_IS_DONE, number))
        except (Damaged, SpoolUnavailable):
            return False

    def _highest(self) -> int:
        """The largest id that is known; 0: none is."""
        return max(self.last_id, self._try_number(_LAST), self._try_number(_LAST_INDEXED))

    def _try_number(self, statement: str) -> int:
        try:
            number = self._number(statement)
        except (Damaged, SpoolUnavailable):
            return 0
        return number if 0 <= number <= self.path.stat().st_size else 0

    def _number(self, statement: str, *arguments: int) -> int:
        ((number,),) = self._query(statement, *arguments)
        return number if isinstance(number, int) else 0

    def _query(self, statement: str, *arguments: object) -> list[tuple[Any, ...]]:
        with _reading():
            return self._connection.execute(statement, arguments).fetchall()


def reason(error: BaseException) -> str:
    """Why something failed, for people."""
    number = error.errno if isinstance(error, OSError) else None
    if _primary(error) == sqlite3.SQLITE_FULL or number == errno.ENOSPC:
        return "disk full"
    if _primary(error) == sqlite3.SQLITE_IOERR or number == errno.EIO:
        return "I/O error"
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or "no memory"


@contextmanager
def _reading() -> Iterator[None]:
    """Tell damage from what may be over later."""
    try:
        yield
    except sqlite3.ProgrammingError:
        raise
    except sqlite3.Error as error:
        if _is_damage(error):
            raise Damaged(reason(error)) from error
        raise SpoolUnavailable(reason(error)) from error


def _is_damage(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return True  # Python could not make text of it
    return code & 0xFF in _DAMAGE or code in _READ_ERRORS


def _primary(error: BaseException) -> int | None:
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _is_sane(row: Row) -> bool:
    """Whether the values are at least of the right types."""
    numbers = (row.id, row.events, row.bytes, row.written_ms, row.crc)
    types = {type(number) for number in numbers}
    return type(row.topic) is str and types == {int}


def _build(path: Path, live: Iterable[int], connect: Connect) -> None:
    """Nothing of it needs to be safe before it is renamed, so it is synced once, as a whole."""
    with closing(connect(path, "rwc")) as connection:
        for pragma in (f"page_size = {PAGE_BYTES}", "synchronous = OFF", "journal_mode = MEMORY"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("BEGIN")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {FORMAT}")
        for statement in _SCHEMA:
            connection.execute(statement)
        connection.executemany("INSERT INTO live VALUES (?)", ((number,) for number in live))
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode = WAL")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
