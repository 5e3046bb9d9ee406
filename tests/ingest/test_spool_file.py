"""One file of the spool."""

from __future__ import annotations

import os
import resource
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from ingest import spool_file
from ingest.spool_batch import Damaged, Entry, Packed, pack
from ingest.spool_file import SpoolBroken, SpoolFile, SpoolFull, SpoolUnavailable, connect, create

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import Any

ALL = 1 << 40


def batch(name: object, topic: str = "orders", size: int = 0) -> Packed:
    """A batch of one event."""
    value = str(name).encode() + os.urandom(size)
    return pack(topic, [Entry(1, [], None, None, [value])])


def made(path: Path, live: Sequence[int] = ()) -> SpoolFile:
    """A new file."""
    create(path, live)
    return SpoolFile(path, 1)


def found(file: SpoolFile, topic: str = "orders", after_id: int = 0) -> list[Packed]:
    """All that waits in it."""
    return [stored.packed for stored in file.read(topic, after_id, ALL).good]


class Faulty(sqlite3.Connection):
    """A connection that can be told to fail."""

    fails: tuple[str, int] | None = None
    statements: list[str]

    def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
        """Fail instead of executing one statement."""
        self.statements.append(sql)
        if self.fails is not None and sql.startswith(self.fails[0]):
            error = sqlite3.OperationalError("injected")
            error.sqlite_errorcode = self.fails[1]
            raise error
        return super().execute(sql, *arguments)


def faulty(path: Path, mode: str) -> Faulty:
    """A connection to a path, without a fault so far."""
    connection = sqlite3.connect(
        f"file:{path}?mode={mode}", uri=True, isolation_level=None, factory=Faulty
    )
    assert isinstance(connection, Faulty)
    connection.statements = []
    return connection


def with_faults(path: Path) -> tuple[SpoolFile, Faulty]:
    """A new file, and the connection that it has."""
    create(path, [])
    file = SpoolFile(path, 1, faulty)
    assert isinstance(file._connection, Faulty)
    file._connection.statements = []
    return file, file._connection


def test_what_is_appended_is_read_in_order(tmp_path: Path) -> None:
    """Each topic has its own order, across appends and a reopening."""
    file = made(tmp_path / "f")
    batches = [batch(number, "odd" if number % 2 else "even") for number in range(10)]
    assert file.append(batches[:5], 1000) == [1, 2, 3, 4, 5]
    assert file.append(batches[5:], 1001) == [6, 7, 8, 9, 10]
    for opened in (file, None):
        if opened is None:
            assert file.close()
        file = opened or SpoolFile(tmp_path / "f", 1)
        assert found(file, "even") == batches[::2]
        assert found(file, "odd", after_id=4) == batches[5::2]
        assert found(file, "neither") == []
    assert [stored.written_ms for stored in file.read("odd", 0, ALL).good] == [1000] * 2 + [
        1001
    ] * 3


def test_a_limit_is_kept_but_for_the_first(tmp_path: Path) -> None:
    """So that a batch above the limit does not wait for ever."""
    file = made(tmp_path / "f")
    batches = [batch(number, size=1000) for number in range(4)]
    file.append(batches, 1)
    size = len(batches[0].payload)
    assert len(file.read("orders", 0, 1).good) == 1
    assert not file.read("orders", 0, 1, at_least_one=False).good
    two = file.read("orders", 0, size * 2 + 500)
    assert (len(two.good), two.more) == (2, True)
    assert not file.read("orders", 2, ALL).more


def test_what_is_done_is_not_read_again(tmp_path: Path) -> None:
    """It is told once; also after a reopening."""
    file = made(tmp_path / "f")
    batches = [batch(number) for number in range(4)]
    file.append(batches, 1)
    assert [row.id for row in file.mark_done([1, 3, 3])] == [1, 3]
    assert file.mark_done([1, 3, 99]) == []
    file.close()
    file = SpoolFile(tmp_path / "f", 1)
    assert found(file) == [batches[1], batches[3]]
    first = file.first("orders", 1)
    assert first is not None
    assert first.id == 2
    assert not file.is_drained()
    file.mark_done([2, 4])
    assert file.is_drained()
    assert file.backlog() == {}


def test_the_backlog_is_counted_from_the_index_alone(tmp_path: Path) -> None:
    """However large the batches are, none of them is read for it."""
    file = made(tmp_path / "f")
    file.append([batch("a", size=50_000), batch("b", "other", size=50_000), batch("c")], 7)
    file.mark_done([3])
    plan = file._query(f"EXPLAIN QUERY PLAN {spool_file._BACKLOG}")
    assert any("USING COVERING INDEX" in step[3] for step in plan)
    plan = file._query(f"EXPLAIN QUERY PLAN {spool_file._WAITING}", "orders", 1, 9)
    assert any("USING COVERING INDEX" in step[3] for step in plan)
    counted = file.backlog()
    assert {topic: (each.batches, each.events) for topic, each in counted.items()} == {
        "orders": (1, 1),
        "other": (1, 1),
    }
    assert counted["other"].bytes > 50_000
    assert (counted["other"].first_id, counted["other"].oldest_ms) == (2, 7)


def test_the_log_stays_small(tmp_path: Path) -> None:
    """It is copied into the database again and again, whatever is written."""
    file = made(tmp_path / "f")
    log = tmp_path / "f-wal"
    for number in range(40):
        file.append([batch(number, size=500_000)], 1)
        assert log.stat().st_size < spool_file.WAL_BYTES + (1 << 20)
    for number in range(1, 41):
        file.mark_done([number])
        assert log.stat().st_size < spool_file.WAL_BYTES + (1 << 20)
    file.close()
    assert not log.exists()


def test_a_file_knows_its_neighbours(tmp_path: Path) -> None:
    """Those that were there when it was made."""
    assert made(tmp_path / "f", [3, 4, 9]).live() == {3, 4, 9}


def test_nobody_else_can_open_it(tmp_path: Path) -> None:
    """A second connection would be a danger to it; nor is that taken for damage."""
    file = made(tmp_path / "f")
    with pytest.raises(SpoolUnavailable, match="locked"):
        SpoolFile(tmp_path / "f", 1)
    file.close()


def test_a_full_database_takes_nothing(tmp_path: Path) -> None:
    """An append that fails for room leaves nothing; earlier ones are read as before."""
    file = made(tmp_path / "f")
    file.append([batch("kept")], 1)
    file._connection.execute("PRAGMA max_page_count = 20")
    with pytest.raises(SpoolFull, match="disk full"):
        file.append([batch("small"), batch("large", size=1_000_000)], 1)
    file._connection.execute("PRAGMA max_page_count = 2000")
    _is_only_read(file)


def test_a_limit_of_the_system_breaks_a_file(tmp_path: Path) -> None:
    """A write error is not taken for a full disk; what was there is read as before."""
    file = made(tmp_path / "f")
    file.append([batch("kept")], 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(SpoolBroken, match="I/O error"):
            file.append([batch("large", size=2_000_000)], 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    _is_only_read(file)


def test_a_failed_fsync_is_not_retried(tmp_path: Path) -> None:
    """No write, no checkpoint and no closing follow it."""
    file, connection = with_faults(tmp_path / "f")
    file.append([batch("kept")], 1)
    connection.fails = ("COMMIT", sqlite3.SQLITE_IOERR_FSYNC)
    with pytest.raises(SpoolBroken, match="I/O error"):
        file.append([batch("lost")], 1)
    connection.fails = None
    connection.statements.clear()
    _is_only_read(file)
    assert not [each for each in connection.statements if not each.startswith("SELECT")]


def _is_only_read(file: SpoolFile) -> None:
    """It has one batch, ``kept``, and done marks are kept in memory."""
    assert file.failed
    with pytest.raises(SpoolFull):
        file.append([batch("more")], 1)
    log = file.path.with_name(f"{file.path.name}-wal")
    before = [path.read_bytes() for path in (file.path, log)]
    assert len(found(file)) == 1
    assert not file.is_drained()
    assert len(file.mark_done([1])) == 1
    assert file.mark_done([1]) == []
    assert found(file) == []
    assert file.is_drained()
    file.checkpoint()
    assert not file.close()
    assert [path.read_bytes() for path in (file.path, log)] == before


def test_a_failed_mark_is_kept_in_memory(tmp_path: Path) -> None:
    """What was replayed is not replayed again by the same process."""
    file, connection = with_faults(tmp_path / "f")
    file.append([batch("a"), batch("b")], 1)
    connection.fails = ("BEGIN", sqlite3.SQLITE_FULL)
    assert len(file.mark_done([1])) == 1
    assert file.failed
    assert len(found(file)) == 1


def test_a_failed_checkpoint_loses_nothing(tmp_path: Path) -> None:
    """The append before it is as good as any other; the file is only read from then on."""
    file, connection = with_faults(tmp_path / "f")
    connection.fails = ("PRAGMA wal_checkpoint", sqlite3.SQLITE_IOERR_FSYNC)
    batches = [batch(number, size=2_500_000) for number in range(2)]
    for each in batches:
        file.append([each], 1)
    assert file.failed
    assert found(file) == batches


@pytest.mark.parametrize("fault", ["BEGIN", "PRAGMA journal_mode = WAL"])
def test_a_file_is_made_as_a_whole_or_not_at_all(tmp_path: Path, fault: str) -> None:
    """Where making it fails, nothing of it stays."""

    def failing(path: Path, mode: str) -> sqlite3.Connection:
        connection = faulty(path, mode)
        connection.fails = (fault, sqlite3.SQLITE_FULL)
        return connection

    with pytest.raises(SpoolFull, match="disk full"):
        create(tmp_path / "f", [], failing)
    assert list(tmp_path.iterdir()) == []


def _execute(*statements: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with closing(connect(path, "rw")) as connection:
            for statement in statements:
                connection.execute(statement)

    return change


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"not SQLite" * 1000),
        lambda path: os.truncate(path, path.stat().st_size // 2),
        lambda path: path.write_bytes(b"X" + path.read_bytes()[1:]),
        _execute("PRAGMA application_id = 1"),
        _execute("PRAGMA user_version = 2"),
        _execute("DROP INDEX batches_by_topic"),
        _execute("DROP TABLE done"),
    ],
)
def test_what_is_no_file_of_ours_is_damaged(tmp_path: Path, change: Callable[[Path], None]) -> None:
    """It is refused at once, whatever it is."""
    file = made(tmp_path / "f")
    file.append([batch("a")], 1)
    file.close()
    change(tmp_path / "f")
    with pytest.raises(Damaged):
        SpoolFile(tmp_path / "f", 1)


def test_a_changed_batch_is_bad_and_the_others_are_not(tmp_path: Path) -> None:
    """One flipped byte costs one batch."""
    batches = [batch(f"batch{number}", size=100) for number in range(3)]
    file = made(tmp_path / "f")
    file.append(batches, 1)
    file.close()
    content = (tmp_path / "f").read_bytes()
    where = content.index(batches[1].payload) + 10
    (tmp_path / "f").write_bytes(content[:where] + b"\xff\xfe" + content[where + 2 :])
    file = SpoolFile(tmp_path / "f", 1)
    result = file.read("orders", 0, ALL)
    assert [stored.packed for stored in result.good] == [batches[0], batches[2]]
    assert [(row.id, row.events) for row in result.bad] == [(2, 1)]
    assert file.read("orders", 0, ALL).bad == []
    file.mark_done([1, 3])
    assert file.is_drained()
