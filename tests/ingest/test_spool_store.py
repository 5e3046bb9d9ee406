"""The files of one worker's spool."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import tempfile
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from ingest import spool_quota, spool_store
from ingest.spool_batch import Entry, Packed, pack
from ingest.spool_file import PAGE_BYTES, connect
from ingest.spool_folders import claim, locked, orphans
from ingest.spool_store import Damage, Place, Quota, SpoolBroken, SpoolFull, Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

ALL = 1 << 40
ROOMY = 1 << 40
NOTHING = Damage(0, 0, 0)


def batch(name: object, topic: str = "orders", size: int = 0) -> Packed:
    """A batch of one event."""
    value = str(name).encode() + random.Random(str(name)).randbytes(size)
    return pack(topic, [Entry(1, [], None, None, [value])])


def opened(service: Path, *, file_bytes: int | None = None, **options: Any) -> Store:
    """A store of its own folder and of what others left."""
    folders = [claim(service), *orphans(service)]
    # Less than no room must be left free: the disk itself is the limit.
    return Store(folders, Quota(service, ROOMY, -ROOMY), file_bytes=file_bytes, **options)


def waiting(store: Store, topic: str = "orders", after: Place | None = None) -> list[Packed]:
    """All that is read of a topic, a little at a time."""
    found = []
    while stored := store.read(topic, after, 1000):
        found += [each.packed for each in stored]
        after = stored[-1].place
    return found


def drain(store: Store, topic: str = "orders") -> list[Packed]:
    """All that is read of a topic, and done."""
    found = []
    while stored := store.read(topic, None, 1000):
        found += [each.packed for each in stored]
        store.mark_done([each.place for each in stored])
    return found


def names(folder: Path) -> list[str]:
    """The files of a folder."""
    return sorted(path.name for path in folder.iterdir())


def test_order_holds_across_files(tmp_path: Path) -> None:
    """What was written earlier is read earlier, in one run or after a restart."""
    store = opened(tmp_path, file_bytes=1)
    batches = [batch(number) for number in range(30)]
    places = [place for each in batches for place in store.append([each])]
    assert places == sorted(places)
    assert len({place.file for place in places}) == 30
    assert waiting(store) == batches
    assert waiting(store, after=places[9]) == batches[10:]
    store.close()
    assert waiting(opened(tmp_path)) == batches


def test_a_limit_never_skips_what_is_older(tmp_path: Path) -> None:
    """Where the next batch does not fit, nothing of later files is read in its place."""
    store = opened(tmp_path, file_bytes=1)
    batches = [batch("a"), batch("large", size=5000), batch("b")]
    for each in batches:
        store.append([each])
    assert [stored.packed for stored in store.read("orders", None, 1000)] == batches[:1]
    assert [stored.packed for stored in store.read("orders", None, ALL)] == batches


def test_the_backlog_is_right_at_any_time(tmp_path: Path) -> None:
    """Appended, done and found at the start add up, with the time of the oldest."""
    now = iter(range(1000, 2000))
    store = opened(tmp_path, file_bytes=200_000, now_ms=lambda: next(now))
    places = [
        place
        for number in range(20)
        for place in store.append([batch(number, f"t{number % 2}", size=1000)])
    ]
    store.mark_done(places[:5])
    for each in (store, None):
        if each is None:
            store.close()
        store = each or opened(tmp_path)
        backlog = store.backlog()
        assert {topic: (one.batches, one.events) for topic, one in backlog.items()} == {
            "t0": (7, 7),
            "t1": (8, 8),
        }
        assert (backlog["t0"].oldest_ms, backlog["t1"].oldest_ms) == (1006, 1005)
        assert sum(len(one.payload) for one in waiting(store, "t1")) == backlog["t1"].bytes
    store.mark_done(places[:6])
    assert store.backlog()["t1"].oldest_ms == 1007


def test_a_drained_file_is_deleted(tmp_path: Path) -> None:
    """Its space is there again at once; the one that is written to may stay while it is small."""
    store = opened(tmp_path, file_bytes=1 << 20)
    for number in range(6):
        store.append([batch(number, size=500_000)])
    assert store.bytes > 3_000_000
    assert len(drain(store)) == 6
    assert store.bytes < 2_000_000
    assert store.backlog() == {}
    store.append([batch("next")])
    assert [name for name in names(tmp_path / "0") if "retired" in name] == []
    drain(store)
    store.close()
    assert [name for name in names(tmp_path / "0") if "retired" not in name] == []
    assert opened(tmp_path).take_damage() == NOTHING


def test_a_file_without_end_is_dropped_when_it_is_drained(tmp_path: Path) -> None:
    """Also the one that is written to, when it is worth it."""
    store = opened(tmp_path, file_bytes=1 << 30)
    store.append([batch("a", size=3_000_000)])
    drain(store)
    assert store.bytes == 0
    assert store.append([batch("b")])[0].file == 2


def test_adopted_folders_come_first_and_go_when_they_are_drained(tmp_path: Path) -> None:
    """What a dead worker left is older than what is written now."""
    left = opened(tmp_path)
    old = batch("old")
    left.append([old])
    store = opened(tmp_path)
    new = batch("new")
    place = store.append([new])[0]
    left.close()
    (folder,) = orphans(tmp_path)
    store.adopt(folder)
    assert waiting(store) == [old, new]
    assert store.backlog()["orders"].batches == 2
    assert store.read("orders", None, ALL)[0].place < place
    assert drain(store) == [old, new]
    assert not folder.path.exists()


def test_an_empty_folder_is_not_kept_when_adopted(tmp_path: Path) -> None:
    """Workers that never spooled leave nothing to look after."""
    store = opened(tmp_path)
    other = claim(tmp_path)
    store.adopt(other)
    assert not other.path.exists()
    assert not locked(other.path)


def test_few_files_are_open(tmp_path: Path) -> None:
    """However many there are, and whichever are read."""
    store = opened(tmp_path, file_bytes=1)
    places = [place for number in range(40) for place in store.append([batch(number)])]
    waiting(store)
    store.mark_done([places[3], places[30]])
    assert sum(held.file is not None for held in store._held) <= spool_store.MAX_OPEN


def test_quota_of_all_workers(tmp_path: Path) -> None:
    """What others have written counts, and what is beyond it is refused; nothing old is deleted."""
    other = opened(tmp_path)
    kept = batch("other", size=1_000_000)
    other.append([kept])
    now = [0.0]
    quota = Quota(tmp_path, 3_000_000, 0, clock=lambda: now[0])
    store = Store([claim(tmp_path)], quota)
    assert store.room(100_000)
    assert not store.room(2_500_000)
    store.append([batch("mine", size=1_000_000)])
    assert not store.room(1_000_000), "what was written just now counts at once"
    with pytest.raises(SpoolFull, match="quota"):
        store.append([batch("more", size=1_000_000)])
    assert store.problem == ""
    drain(store)
    now[0] += spool_quota.SCAN_SECONDS
    assert store.room(500_000)
    assert waiting(other) == [kept]


def test_the_floor_of_the_disk(tmp_path: Path) -> None:
    """What must stay free is never used, whatever the quota."""
    disk = os.statvfs(tmp_path)
    free = disk.f_bavail * disk.f_frsize
    assert Quota(tmp_path, 1 << 60, 0).room(1)
    assert not Quota(tmp_path, 1 << 60, free * 2).room(1)
    assert not Quota(tmp_path / "missing", 1 << 60, 0).room(1)


def test_file_bytes_follow_the_quota(tmp_path: Path) -> None:
    """Small spools have small files, so that space returns in steps."""
    quotas = [Quota(tmp_path, 1 << bits, 0) for bits in (20, 30, 40)]
    sizes = [Store([claim(tmp_path)], quota)._file_bytes for quota in quotas]
    assert sizes == [1 << 20, 1 << 25, 1 << 26]


class Faulty(sqlite3.Connection):
    """A connection that fails at what begins with a key of `faults`."""

    faults: dict[str, int]

    def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
        """Fail, or not."""
        for start, code in self.faults.items():
            if sql.startswith(start):
                error = sqlite3.OperationalError("injected")
                error.sqlite_errorcode = code
                raise error
        return super().execute(sql, *arguments)


class Disk:
    """Connections that can be made to fail, all at once."""

    def __init__(self) -> None:
        self.faults: dict[str, int] = {}

    def __call__(self, path: Path, mode: str) -> sqlite3.Connection:
        """Open a database."""
        connection = sqlite3.connect(
            f"file:{path}?mode={mode}", uri=True, isolation_level=None, factory=Faulty, timeout=0
        )
        assert isinstance(connection, Faulty)
        connection.faults = self.faults
        return connection


def test_after_a_failed_append_another_file_is_tried_in_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no room until then, what was acknowledged is kept, and a success ends it."""
    disk = Disk()
    store = opened(tmp_path, connection=disk)
    kept = batch("kept")
    first = store.append([kept])[0]
    disk.faults["COMMIT"] = sqlite3.SQLITE_IOERR_FSYNC
    with pytest.raises(SpoolBroken):
        store.append([batch("lost")])
    disk.faults.clear()
    assert store.problem == "I/O error"
    assert not store.room(1)
    with pytest.raises(SpoolFull, match="I/O error"):
        store.append([batch("too early")])
    monkeypatch.setattr(store, "_retry_at", 0.0)
    new = batch("new")
    assert store.append([new])[0].file > first.file
    assert store.problem == ""
    assert store.room(1)
    assert drain(store) == [kept, new]


def test_a_probe_ends_a_problem_when_it_is_over(tmp_path: Path) -> None:
    """Not before; and the traces of the ones that failed do not pile up."""
    disk = Disk()
    store = opened(tmp_path, connection=disk)
    assert store.probe()
    kept = batch("kept")
    store.append([kept])
    disk.faults["COMMIT"] = sqlite3.SQLITE_FULL
    with pytest.raises(SpoolFull):
        store.append([batch("lost")])
    for _ in range(5):
        assert not store.probe()
        assert store.problem == "disk full"
    disk.faults.clear()
    disk.faults["BEGIN IMMEDIATE"] = sqlite3.SQLITE_IOERR_WRITE
    for _ in range(5):
        assert not store.probe()
    disk.faults.clear()
    assert store.probe()
    assert store.problem == ""
    assert len([name for name in names(tmp_path / "0") if name.endswith("sqlite")]) == 2
    store.append([batch("new")])
    assert waiting(store)[0] == kept


def test_marks_survive_in_memory_where_the_disk_does_not(tmp_path: Path) -> None:
    """A file that failed is drained and deleted as any other."""
    disk = Disk()
    store = opened(tmp_path, connection=disk)
    places = store.append([batch(number) for number in range(4)])
    disk.faults["COMMIT"] = sqlite3.SQLITE_FULL
    store.mark_done(places[:2])
    assert len(waiting(store)) == 2
    store.mark_done(places[2:])
    assert store.backlog() == {}
    assert [name for name in names(tmp_path / "0") if "retired" not in name] == []


@contextmanager
def small_disk(path: Path, size: int) -> Iterator[None]:
    """A file system of ``size`` bytes; only root can have one."""
    path.mkdir()
    options = f"size={size}"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], capture_output=True, check=False
    )
    if mounted.returncode:
        if os.environ.get("CI") == "true":
            pytest.fail(f"no small disk: {mounted.stderr.decode()}")
        pytest.skip("needs to mount a file system")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", path], check=True)


def test_a_full_disk_loses_nothing_and_is_left_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was acknowledged is read, drained and deleted on it, and then there is room."""
    monkeypatch.setattr(spool_store, "RETRY_SECONDS", 0.0)
    service = tmp_path / "disk"
    with small_disk(service, 12 << 20):
        store = opened(service, file_bytes=2 << 20)
        acknowledged, refused = [], 0
        for number in range(60):
            each = batch(number, size=300_000)
            try:
                store.append([each])
            except SpoolFull:
                refused += 1
            else:
                acknowledged.append(each)
        assert refused > 10
        assert len(acknowledged) > 10
        assert store.problem == "disk full"
        assert drain(store) == acknowledged
        assert store.probe()
        assert store.problem == ""
        store.append([batch("new", size=300_000)])
        assert store.take_damage() == NOTHING
        store.close()
        assert len(waiting(opened(service))) == 1


def test_a_full_disk_is_read_after_a_restart(tmp_path: Path) -> None:
    """Opening needs no room; only what was not promised may come on top."""
    service = tmp_path / "disk"
    with small_disk(service, 6 << 20):
        store = opened(service)
        acknowledged = []
        while not store.problem:
            each = batch("a", size=300_000)
            with suppress(SpoolFull):
                store.append([each])
                acknowledged.append(each)
        copied = tmp_path / "copied" / "0"
        shutil.copytree(service / "0", copied)
        with (service / "filler").open("wb") as filler, pytest.raises(OSError, match="No space"):
            filler.write(bytes(6 << 20))
        for folder in store._folders:
            folder.release()
        # The failed file stays locked while this process lives: another one would read it.
        assert waiting(opened(copied.parent)) == acknowledged


def damaged(service: Path, change: Any) -> tuple[Store, list[dict[str, Any]]]:
    """A store, opened after one of its files was changed, and what that logged."""
    change(service)
    with capture_logs() as logs:
        store = opened(service)
    return store, [entry for entry in logs if entry["log_level"] == "error"]


def filled(service: Path, files: int = 3, each: int = 4) -> list[Packed]:
    """Batches in a closed store of several files."""
    store = opened(service, file_bytes=1)
    batches = [batch(number, size=200) for number in range(files * each)]
    for start in range(0, len(batches), each):
        store.append(batches[start : start + each])
    store.close()
    return batches


def second(service: Path) -> Path:
    """The file in the middle."""
    return service / "0" / "00000002.sqlite"


@pytest.mark.parametrize(
    "change",
    [
        lambda service: second(service).write_bytes(b""),
        lambda service: second(service).write_bytes(b"\0" * 100_000),
        lambda service: os.truncate(second(service), second(service).stat().st_size // 2),
        lambda service: second(service).write_bytes(b"?" + second(service).read_bytes()[1:]),
    ],
)
def test_a_file_that_cannot_be_opened_is_set_aside(tmp_path: Path, change: Any) -> None:
    """The others are read, it is counted and logged once, and no restart trips over it."""
    batches = filled(tmp_path)
    store, errors = damaged(tmp_path, change)
    assert [entry["event"] for entry in errors] == ["spool_file_quarantined"]
    assert store.take_damage() == Damage(1, 0, 0)
    assert store.take_damage() == NOTHING
    assert waiting(store) == batches[:4] + batches[8:]
    assert drain(store) == batches[:4] + batches[8:]
    store.close()
    assert second(tmp_path).with_name("00000002.sqlite.quarantine").exists()
    store = opened(tmp_path)
    assert store.take_damage() == NOTHING
    assert store.append([batch("new")])[0].file == 4


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    """It cannot be brought back, but it is not passed over in silence."""
    batches = filled(tmp_path)
    store, errors = damaged(tmp_path, lambda service: second(service).unlink())
    assert [entry["event"] for entry in errors] == ["spool_file_missing"]
    assert store.take_damage() == Damage(1, 0, 0)
    assert waiting(store) == batches[:4] + batches[8:]


def test_a_deleted_file_is_not_missing(tmp_path: Path) -> None:
    """Whether a later file was made since or not, and wherever it was drained."""
    filled(tmp_path)
    store = opened(tmp_path)
    store.mark_done([each.place for each in store.read("orders", None, 1)])
    places = [each.place for each in store.read("orders", None, ALL)]
    store.mark_done([place for place in places if place.file == 2])
    for append in (False, True):
        if append:
            store.append([batch("new")])
        store.close()
        store = opened(tmp_path)
        assert store.take_damage() == NOTHING


def test_a_file_gone_while_it_is_closed_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all that waited in it, as that is known."""
    monkeypatch.setattr(spool_store, "MAX_OPEN", 1)
    batches = filled(tmp_path)
    store = opened(tmp_path)
    second(tmp_path).unlink()
    assert waiting(store) == batches[:4] + batches[8:]
    assert store.take_damage() == Damage(1, 4, 4)
    assert store.backlog()["orders"].batches == 8


def test_a_bad_batch_is_counted_once_and_its_file_kept(tmp_path: Path) -> None:
    """The rest of the file is read; then it is set aside, for people to look at."""
    batches = filled(tmp_path)
    content = second(tmp_path).read_bytes()
    where = content.index(batches[5].payload)
    second(tmp_path).write_bytes(content[: where + 9] + b"???" + content[where + 12 :])
    store = opened(tmp_path)
    left = batches[:5] + batches[6:]
    assert waiting(store) == left
    assert waiting(store) == left
    assert store.take_damage() == Damage(0, 1, 1)
    assert store.backlog()["orders"].batches == len(left)
    assert drain(store) == left
    assert store.take_damage() == Damage(1, 0, 0)
    assert second(tmp_path).with_name("00000002.sqlite.quarantine").exists()
    store.close()
    assert opened(tmp_path).take_damage() == NOTHING


@pytest.mark.parametrize("name", ["batches_by_topic", "done"])
def test_a_damaged_index_loses_no_batch(tmp_path: Path, name: str) -> None:
    """Batches are looked for one by one then; the file is set aside when they are done."""
    batches = filled(tmp_path)
    with closing(connect(second(tmp_path), "rw")) as connection:
        root = "SELECT rootpage FROM sqlite_schema WHERE name = ?"
        ((page,),) = connection.execute(root, (name,)).fetchall()
    with second(tmp_path).open("r+b") as file:
        file.seek((page - 1) * PAGE_BYTES)
        file.write(os.urandom(PAGE_BYTES))
    store = opened(tmp_path)
    assert waiting(store) == batches
    assert store.backlog()["orders"].batches == len(batches)
    assert drain(store) == batches
    assert store.take_damage() == Damage(1, 0, 0)
    assert second(tmp_path).with_name("00000002.sqlite.quarantine").exists()


def test_damaged_tables_lose_what_is_counted(tmp_path: Path) -> None:
    """Where nothing can be found any more, every batch that the index knew of is counted."""
    batches = filled(tmp_path)
    with closing(connect(second(tmp_path), "rw")) as connection:
        root = "SELECT rootpage FROM sqlite_schema WHERE name = 'batches'"
        ((page,),) = connection.execute(root).fetchall()
    with second(tmp_path).open("r+b") as file:
        file.seek((page - 1) * PAGE_BYTES)
        file.write(bytes(PAGE_BYTES))
    store = opened(tmp_path)
    assert waiting(store) == batches[:4] + batches[8:]
    assert store.take_damage() == Damage(1, 4, 4)
    assert store.backlog()["orders"].batches == 8


def test_a_locked_file_is_not_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody looks at it with a tool: it is read when they are gone."""
    batches = filled(tmp_path)
    tool = connect(second(tmp_path), "rw")
    tool.execute("BEGIN IMMEDIATE")
    store = opened(tmp_path)
    assert waiting(store) == batches[:4] + batches[8:]
    assert store.backlog()["orders"].batches == 8
    tool.close()
    monkeypatch.setattr(spool_store, "RETRY_SECONDS", 0.0)
    assert store.backlog()["orders"].batches == 12
    assert waiting(store) == batches
    assert store.take_damage() == NOTHING


def test_what_a_crash_left_half_done_is_tidied(tmp_path: Path) -> None:
    """Drafts, and the log of a file that was being deleted."""
    batches = filled(tmp_path)
    folder = tmp_path / "0"
    for name in ("00000004.sqlite.new", "00000004.sqlite.new-wal", "00000005.retired"):
        (folder / name).touch()
    (folder / "00000005.sqlite-wal").write_bytes(b"log")
    store = opened(tmp_path)
    assert waiting(store) == batches
    assert store.take_damage() == NOTHING
    assert names(folder)[-1] == "00000005.retired"


@dataclass(frozen=True, repr=False)  # it would be megabytes
class Several:
    """A closed store of one file, half of it done: its folder, what waits, and all there was."""

    service: Path
    left: list[Packed]
    batches: list[Packed]


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Several:
    """There once: each example has a copy."""
    service = tmp_path_factory.mktemp("several")
    store = opened(service, now_ms=lambda: 1_700_000_000_000)
    batches = [batch(number, f"topic{number % 3}", size=number * 40) for number in range(200)]
    places = store.append(batches)
    store.mark_done(places[::2])
    store.close()
    return Several(service, batches[1::2], batches)


@given(
    where=st.floats(0, 1, exclude_max=True),
    length=st.sampled_from([0, 0, 0, 1, 64, 20_000]),
    seed=st.integers(0, 2**32 - 1),
)
@example(where=0.04296875, length=0, seed=0)  # the index hides batches, and looks well
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whatever_is_damaged_is_returned_or_counted(
    several: Several,
    tmp_path: Path,
    where: float,
    length: int,
    seed: int,
) -> None:
    """A bit, or up to some pages: every batch that waited comes back as it was, or is counted."""
    chance = random.Random(seed)
    target = Path(tempfile.mkdtemp(dir=tmp_path))
    shutil.copytree(several.service, target, dirs_exist_ok=True)
    path = target / "0" / "00000001.sqlite"
    content = bytearray(path.read_bytes())
    position = int(where * len(content))
    if length:
        end = min(position + length, len(content))
        content[position:end] = chance.randbytes(end - position)
    else:
        content[position] ^= 1 << chance.randrange(8)
    path.write_bytes(content)
    store = opened(target)
    found = [each for number in range(3) for each in drain(store, f"topic{number}")]
    damage = store.take_damage()
    assert len(found) == len(set(found))
    assert set(found) <= set(several.batches)
    lost = set(several.left) - set(found)
    assert len(lost) <= damage.batches or (not found and damage.files)
    assert store.backlog() == {}
    store.close()
