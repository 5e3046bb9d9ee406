"""``ingest-spool verify``: reads everything, changes nothing."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

from ingest.spool_batch import checksum
from ingest_spool.folders import taken
from ingest_spool.verify import Checked, Verdict, as_text, verify
from tests.ingest_spool.conftest import SYSLOG

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.ingest_spool.conftest import Done, Left

    Run = Callable[..., Done]

FILE = "ingest-http/0/00000001.sqlite"
SECRET = b"4000-1234-secret-" * 8


def _verdict(left: Left) -> Verdict:
    with taken(left.root, None, None) as folders:
        return verify(folders)


def test_what_is_good_is_counted_and_status_0(left: Left, run: Run) -> None:
    """By file and topic; the payloads are not shown."""
    left.file([("orders", [SECRET, b"b"]), ("clicks", [b"c"]), ("orders", [b"d"])])
    done = run("verify")
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [FILE, "orders", "2", "3", "0", "0"] in rows
    assert [FILE, "clicks", "1", "1", "0", "0"] in rows
    assert "3 batches with 4 events are good" in done.stdout
    assert "4000" not in done.stdout


def test_a_damaged_batch_is_found_and_status_1(
    left: Left, run: Run, flip: Callable[[Path, bytes], None]
) -> None:
    """The others are good, and the file stays as it was."""
    path = left.file([("orders", [b"a"]), ("orders", [os.urandom(50), SECRET]), ("orders", [b"c"])])
    with closing(sqlite3.connect(path)) as connection:
        ((payload,),) = connection.execute("SELECT payload FROM batches WHERE id = 2")
    flip(path, payload[20:])
    before, names = path.read_bytes(), left.names()
    done = run("verify")
    assert done.returncode == 1
    assert [FILE, "orders", "2", "2", "1", "2"] in [
        line.split() for line in done.stdout.splitlines()
    ]
    assert f"{FILE}: damaged batches of orders: 1" in done.stdout
    assert (path.read_bytes(), left.names()) == (before, names)


def test_a_batch_of_another_version_is_damage(left: Left) -> None:
    """Its checksum is right and its content is none that can be replayed."""
    path = left.file([("orders", [b"a"])])
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        crc = checksum("orders", 1, b"new format")
        connection.execute(
            "UPDATE batches SET payload = ?, bytes = 10, crc = ? WHERE id = 1", (b"new format", crc)
        )
    assert _verdict(left).checked == {FILE: {"orders": Checked(0, 0, 1, 1)}}


def test_what_the_index_has_lost_is_found(left: Left) -> None:
    """Each batch is looked for by its number; that the index is wrong is told."""
    path = left.file([("orders", [b"a"]), ("orders", [b"b"])])
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("INSERT INTO done SELECT 99, 0")
        connection.execute("DELETE FROM batches WHERE id = 1")
    verdict = _verdict(left)
    assert verdict.checked == {FILE: {"orders": Checked(1, 1, 0, 0)}}
    assert verdict.problems == [f"{FILE}: batches that are gone: 1"]


def test_what_is_done_is_neither_read_nor_missed(left: Left) -> None:
    """It is in Kafka: damage to it costs nothing."""
    path = left.file([("orders", [b"a"]), ("orders", [b"b"])])
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("INSERT INTO done SELECT id, crc FROM batches WHERE id = 1")
        connection.execute("UPDATE batches SET payload = x'00' WHERE id = 1")
    verdict = _verdict(left)
    assert verdict.checked == {FILE: {"orders": Checked(1, 1, 0, 0)}}
    assert verdict.problems == []


def test_files_that_are_none_missing_or_set_aside_are_named(left: Left) -> None:
    """A service would have counted them as damage, too."""
    for number in (1, 2, 3, 4):
        left.file([("orders", [b"a"])], file=number)
    folder = left.folder()
    (folder / "00000001.sqlite").write_bytes(b"no database" * 1000)
    (folder / "00000002.sqlite").unlink()
    (folder / "00000003.sqlite").rename(folder / "00000003.sqlite.quarantine")
    (folder / "00000007.sqlite-wal").write_bytes(b"x")
    problems = _verdict(left).problems
    assert [problem.split(": ")[0].removeprefix("ingest-http/0/") for problem in problems] == [
        "00000001.sqlite",
        "00000003.sqlite.quarantine",
        "00000007.sqlite-wal",
        "00000002.sqlite",
    ]
    names = {each.name for each in folder.iterdir()}
    assert "00000001.sqlite.quarantine" not in names


def test_a_deleted_file_that_left_its_trace_is_not_missed(left: Left) -> None:
    """It was drained."""
    left.file([("orders", [b"a"])], file=1)
    left.file([("orders", [b"a"])], file=2)
    first = left.folder() / "00000001.sqlite"
    first.rename(first.with_suffix(".retired"))
    assert _verdict(left).problems == []


def test_a_locked_folder_is_status_1_and_the_others_are_read(
    left: Left, run: Run, lock: Callable[[Path], None]
) -> None:
    """What was not looked at is not called good."""
    lock(left.file([("orders", [b"a"])]).parent)
    left.file([("syslog", [b"b"])], service=SYSLOG)
    done = run("verify")
    assert done.returncode == 1
    assert "ingest-http/0: locked by a process, not verified\n" in done.stdout
    assert "1 batches with 1 events are good\n" in done.stdout
    assert "orders" not in done.stdout


def test_what_a_killed_service_left_in_the_log_is_read(left: Left) -> None:
    """The write-ahead log is replayed; the batches are those that were durable."""
    script = (
        "import os, sys, time; from pathlib import Path; from ingest.spool_file import *;"
        "from ingest.spool_batch import Entry, pack; path = Path(sys.argv[1]); create(path, []);"
        "file = SpoolFile(path, 1);"
        "file.append([pack('orders', [Entry(1, [], None, None, [b'a', b'b'])])], 1); os._exit(0)"
    )
    path = left.folder() / "00000001.sqlite"
    subprocess.run([sys.executable, "-c", script, path], check=True, timeout=30)
    assert path.with_name("00000001.sqlite-wal").stat().st_size > 0
    assert _verdict(left).checked == {FILE: {"orders": Checked(1, 2, 0, 0)}}
    assert _verdict(left).checked == {FILE: {"orders": Checked(1, 2, 0, 0)}}


def test_names_in_damaged_files_cannot_drive_a_terminal() -> None:
    """Control characters are escaped wherever they come from."""
    verdict = Verdict({"f\x1b": {"t\x1b": Checked(1, 1)}}, ["p\x1b"])
    assert "\x1b" not in as_text(verdict)
