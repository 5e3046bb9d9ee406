"""``ingest-spool list``: what is in the folders."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from ingest_spool.folders import taken
from ingest_spool.listing import as_json, as_text, listed
from ingest_spool.table import printable
from tests.ingest_spool.conftest import SYSLOG

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.ingest_spool.conftest import Done, Left

    Run = Callable[..., Done]

SECRET = b'{"card":"4000-1234"}'


def test_everything_that_waits_is_counted_by_folder_and_topic(left: Left) -> None:
    """Batches, events, and the age of the oldest, over all files of a folder."""
    left.file([("orders", [b"a", b"b"]), ("clicks", [b"c"])], age_seconds=100)
    left.file([("orders", [b"d"])], file=2)
    left.file([("syslog", [b"e"])], service=SYSLOG, number=3)
    with taken(left.root, None, None) as folders:
        found = [listed(each) for each in folders]
    (orders, clicks), (syslog,) = (
        [each.topics[name] for name in names]
        for each, names in zip(found, (("orders", "clicks"), ("syslog",)), strict=True)
    )
    assert [each.name for each in found] == ["ingest-http/0", "ingest-syslog/3"]
    assert [each.files for each in found] == [2, 1]
    assert (orders.batches, orders.events) == (2, 3)
    assert (clicks.batches, clicks.events, syslog.events) == (1, 1, 1)
    (table,) = [line for line in as_text(found).splitlines() if "orders" in line]
    assert table.split()[:4] == ["ingest-http/0", "orders", "2", "3"]
    assert table.endswith(("0:01:40", "0:01:41"))


def test_programs_read_the_same_as_json(left: Left, run: Run) -> None:
    """An array of folders, on stdout alone."""
    path = left.file([("orders", [SECRET, SECRET])], age_seconds=50)
    done = run("list", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    (folder,) = json.loads(done.stdout)
    topic = folder["topics"].pop("orders")
    assert 50 <= topic.pop("oldest_seconds") < 80
    assert 0 < topic.pop("bytes") < 200
    assert topic == {"batches": 1, "events": 2}
    assert folder == {
        "service": "ingest-http",
        "folder": 0,
        "locked": False,
        "files": 1,
        "quarantined": 0,
        "unreadable": 0,
        "bytes": path.stat().st_size,
        "topics": {},
    }


def test_a_locked_folder_is_told_of_and_not_opened(
    left: Left, run: Run, lock: Callable[[Path], None]
) -> None:
    """Its sizes are known from outside; the others are listed as ever."""
    path = left.file([("orders", [b"a"])])
    left.file([("clicks", [b"b"])], number=1)
    lock(path.parent)
    before = path.stat()
    done = run("list")
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["ingest-http/0", "locked", "1", "0", "0", str(before.st_size)] in lines
    assert ["ingest-http/1", "clicks", "1", "1"] in [line[:4] for line in lines]
    assert "orders" not in done.stdout
    assert path.stat().st_mtime_ns == before.st_mtime_ns


def test_one_service_or_one_number_can_be_asked_for(left: Left, run: Run) -> None:
    """The others are not looked at."""
    for number in (0, 1):
        left.file([("orders", [b"a"])], number=number)
    left.file([("syslog", [b"a"])], service=SYSLOG, number=1)

    def names(*arguments: str) -> list[str]:
        found = json.loads(run("list", "--json", *arguments).stdout)
        return [f"{each['service']}/{each['folder']}" for each in found]

    assert names("--service", SYSLOG) == ["ingest-syslog/1"]
    assert names("--folder", "1") == ["ingest-http/1", "ingest-syslog/1"]
    assert names("--service", "ingest-http", "--folder", "0") == ["ingest-http/0"]


def test_what_cannot_be_read_is_counted(left: Left) -> None:
    """A file that is none, and one that was set aside."""
    folder = left.folder()
    (folder / "00000001.sqlite").write_bytes(b"no database" * 1000)
    (folder / "00000002.sqlite.quarantine").write_bytes(b"x")
    with taken(left.root, None, None) as folders:
        (found,) = (listed(each) for each in folders)
    assert (found.files, found.unreadable, found.quarantined) == (1, 1, 1)
    assert found.topics == {}


def test_topics_of_damaged_files_cannot_drive_a_terminal(left: Left) -> None:
    """Control characters are escaped, in the table and in JSON."""
    left.file([("a\x1b[2J\n\x7f\u202eb", [SECRET])])
    with taken(left.root, None, None) as folders:
        found = [listed(each) for each in folders]
    assert r"a\x1b[2J\n\x7f\u202eb" in as_text(found)
    text = as_json(found)
    assert [each for each in text if not each.isprintable() and each != "\n"] == []
    assert text.isascii()
    assert list(json.loads(text)[0]["topics"]) == ["a\x1b[2J\n\x7f\u202eb"]


@pytest.mark.parametrize("text", ["orders", "é", "a b", "web.clicks-1_x"])
def test_text_that_is_harmless_is_shown_as_it_is(text: str) -> None:
    """Names of topics are what people know them by."""
    assert printable(text) == text


def test_an_empty_path_is_an_empty_list(left: Left, run: Run) -> None:
    """Nothing for people, an empty array for programs."""
    left.root.mkdir()
    assert run("list").stdout == ""
    assert json.loads(run("list", "--json").stdout) == []


def test_folders_are_free_again_afterwards(left: Left, lock: Callable[[Path], None]) -> None:
    """A service that starts then finds what it has left."""
    path = left.file([("orders", [b"a"])])
    with taken(left.root, None, None) as folders:
        assert folders[0].held is not None
        with pytest.raises(BlockingIOError):
            lock(path.parent)
    lock(path.parent)
