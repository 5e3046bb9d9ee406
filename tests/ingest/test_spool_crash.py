"""What is left of the spool after a crash, of a process or of a machine.

The model of a machine's crash: what was synced is there. Of what was written since, any part may
be: the end of a log is cut, zeroed or garbled at any byte or has holes, and of the pages of a
database some are there. What was deleted may come back until its directory is synced. What was
synced is seen where SQLite asks for it, and a crash is at one of these moments.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ingest import spool_file, spool_store
from ingest.spool_batch import Entry, Packed, pack, unpack
from ingest.spool_file import PAGE_BYTES, connect
from ingest.spool_folders import claim, orphans, sync_directory
from ingest.spool_store import Damage, Quota, SpoolBroken, Store
from tests.sqlite_syncs import Watched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ingest.spool_file import Connect

    Contents = dict[str, bytes]

TOPICS = ("orders", "clicks")
ALL = 1 << 40
FILE_BYTES = 700_000
SMALL_WAL_BYTES = 300_000
"""So that there are checkpoints."""
BLOCK = 4096
WATCHED = Watched()
SEEDS = st.integers(0, 2**32 - 1)
"""Of what is left to chance; how much of that there is, is SQLite's."""
WRITER = """
import sys
from pathlib import Path
from ingest.spool_batch import Entry, pack
from ingest.spool_folders import claim, orphans
from ingest.spool_store import Quota, Store
service = Path(sys.argv[1])
store = Store([claim(service), *orphans(service)], Quota(service, 1 << 40, 0), file_bytes=1 << 20)
for number in range(1_000_000):
    names = [f"{sys.argv[2]}-{number}-{index}" for index in range(3)]
    values = [name.encode() + bytes(number % 7 * 10_000) for name in names]
    store.append([pack("orders", [Entry(1, [], None, None, [value])]) for value in values])
    print(*names, flush=True)
"""


def opened(service: Path, file_bytes: int, connection: Connect = connect) -> Store:
    """A store of all that is there."""
    folders = [claim(service), *orphans(service)]
    quota = Quota(service, ALL, 0)
    return Store(folders, quota, file_bytes=file_bytes, connection=connection)


def contents(folder: Path) -> Contents:
    """The files of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class Crashes(RuleBasedStateMachine):
    """A store that is appended to, read, and crashed, against what it promised."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="spool-crash-"))
        self.generation = 0
        self.number = 0
        self.promised: dict[str, list[Packed]] = {topic: [] for topic in TOPICS}
        self.left_behind: list[Store] = []
        self.durable: Contents = {}
        self.wal_bytes, spool_file.WAL_BYTES = spool_file.WAL_BYTES, SMALL_WAL_BYTES
        spool_file.sync_directory = spool_store.sync_directory = self._sync_directory
        self._start()

    @property
    def service(self) -> Path:
        """Where it is now: a crash leaves the old one, whose files are still open, behind."""
        return self.root / str(self.generation)

    @property
    def folder(self) -> Path:
        """Of its one worker."""
        return self.service / "0"

    @rule(
        topics=st.lists(st.sampled_from(TOPICS), min_size=1, max_size=4),
        size=st.sampled_from([0, 10, 3000, 70_000]),
    )
    def append(self, topics: list[str], size: int) -> None:
        """Promise some more."""
        batches = self._batches(topics, size)
        self.store.append(batches)
        for batch in batches:
            self.promised[batch.topic].append(batch)

    @rule(topic=st.sampled_from(TOPICS), limit=st.sampled_from([1, 5000, ALL]), skip=st.booleans())
    def replay(self, topic: str, limit: int, *, skip: bool) -> None:
        """Read some and have it done, perhaps without the first."""
        stored = self.store.read(topic, None, limit)[skip:]
        self.store.mark_done([each.place for each in stored])
        self._forget(each.packed for each in stored)

    @rule()
    def close(self) -> None:
        """An orderly end, and a start."""
        self.store.close()
        self._open()

    @rule()
    def kill(self) -> None:
        """The process ends without a word: what it wrote is there, synced or not."""
        self._crash()
        self._open()

    @rule(
        topics=st.lists(st.sampled_from(TOPICS), min_size=1, max_size=3),
        size=st.sampled_from([10, 40_000]),
        seed=SEEDS,
    )
    def crash_while_appending(self, topics: list[str], size: int, seed: int) -> None:
        """The machine ends before an append returns; its batches are there or not."""
        batches = self._batches(topics, size)
        self._crash(lambda: self.store.append(batches), Random(seed))
        self._open(tried=batches)

    @precondition(lambda self: any(self.promised.values()))
    @rule(
        topic=st.sampled_from(TOPICS),
        limit=st.sampled_from([1, 5000, ALL]),
        seed=SEEDS,
    )
    def crash_while_marking(self, topic: str, limit: int, seed: int) -> None:
        """The machine ends before a mark returns; what it marked comes back or not."""
        stored = self.store.read(topic, None, limit)
        places = [each.place for each in stored]
        self._crash(lambda: self.store.mark_done(places), Random(seed))
        self._open(marked=[each.packed for each in stored])

    @invariant()
    def the_promise_holds(self) -> None:
        """All that was promised and is not done is read, in order, and nothing else."""
        assert self.store.take_damage() == Damage(0, 0, 0)
        backlog = self.store.backlog()
        for topic in TOPICS:
            found = [each.packed for each in self.store.read(topic, None, ALL)]
            assert found == self.promised[topic]
            counted = backlog[topic].batches if topic in backlog else 0
            assert counted == len(found)

    def teardown(self) -> None:
        """Leave nothing behind."""
        spool_file.WAL_BYTES = self.wal_bytes
        spool_file.sync_directory = spool_store.sync_directory = sync_directory
        for store in (*self.left_behind, self.store):
            store.close()
        shutil.rmtree(self.root)

    def _start(self) -> None:
        WATCHED.before_sync = WATCHED.after_sync = lambda _: None
        self.store = opened(self.service, FILE_BYTES, WATCHED)
        self.durable = contents(self.folder)
        WATCHED.after_sync = self._synced

    def _batches(self, topics: list[str], size: int) -> list[Packed]:
        batches = []
        for topic in topics:
            self.number += 1
            value = str(self.number).encode() + random.Random(self.number).randbytes(size)
            batches.append(pack(topic, [Entry(1, [], None, None, [value])]))
        return batches

    def _forget(self, batches: Iterable[Packed]) -> None:
        for batch in batches:
            self.promised[batch.topic].remove(batch)

    def _crash(
        self, call: Callable[[], object] = lambda: None, chance: Random | None = None
    ) -> None:
        """Leave the store as it is within a call, and go on with what is on the disk then."""
        moments: list[tuple[Contents, Contents]] = []

        def before_sync(_: str) -> None:
            now = contents(self.folder)
            for name, content in now.items():
                if name.endswith(".sqlite"):  # made just now: it was synced before it got its name
                    self.durable.setdefault(name, content)
            moments.append((now, dict(self.durable)))

        WATCHED.before_sync = before_sync
        call()
        WATCHED.before_sync = WATCHED.after_sync = lambda _: None
        left = contents(self.folder)
        if chance is not None and moments:
            left = crashed(*chance.choice(moments), chance)
        for folder in self.store._folders:
            folder.release()
        self.left_behind.append(self.store)
        self.generation += 1
        self.folder.mkdir(parents=True)
        for name, content in left.items():
            (self.folder / name).write_bytes(content)

    def _synced(self, name: str) -> None:
        with suppress(FileNotFoundError):
            self.durable[name] = (self.folder / name).read_bytes()

    def _sync_directory(self, path: Path) -> None:
        """What was deleted before cannot come back."""
        sync_directory(path)
        if path == self.folder:
            there = {each.name for each in path.iterdir()}
            self.durable = {name: self.durable[name] for name in self.durable.keys() & there}

    def _open(self, tried: Iterable[Packed] = (), marked: Iterable[Packed] = ()) -> None:
        """Open what is there; what was under way is learned from it: it may be there or not."""
        self._start()
        found = {each.packed for topic in TOPICS for each in self.store.read(topic, None, ALL)}
        for batch in tried:
            if batch in found:
                self.promised[batch.topic].append(batch)
        self._forget(batch for batch in list(marked) if batch not in found)


def crashed(now: Contents, durable: Contents, chance: Random) -> Contents:
    """What may be on a disk, of what was written and of what of that was synced."""
    left: Contents = {}
    for name, content in now.items():
        change = _mixed if name.endswith(".sqlite") else _torn
        left[name] = change(durable.get(name, b""), content, chance)
    for name in durable.keys() - now.keys():
        if chance.random() < 0.5:  # deleted, but the directory was not synced
            left[name] = durable[name]
    return left


def _mixed(before: bytes, after: bytes, chance: Random) -> bytes:
    """Each page is the old one or the new one."""
    end = chance.choice([len(after), max(len(before), PAGE_BYTES)])
    pages = [
        (after if chance.random() < 0.5 else before)[start : start + PAGE_BYTES]
        for start in range(0, end, PAGE_BYTES)
    ]
    return b"".join(page.ljust(PAGE_BYTES, b"\0") for page in pages)


def _torn(before: bytes, after: bytes, chance: Random) -> bytes:
    """Of what was written, any part is there: up to a byte, or some blocks of it."""
    kind = chance.choice(["whole", "cut", "zeroed", "garbled", "blocks"])
    pairs = enumerate(zip(before, after, strict=False))
    same = next(
        (index for index, (old, new) in pairs if old != new), min(map(len, (before, after)))
    )
    cut = chance.randint(same, len(after)) if len(after) > same else len(after)
    match kind:
        case "cut":
            return after[:cut] + before[cut:]
        case "zeroed":
            return after[:cut] + bytes(len(after) - cut)
        case "garbled":
            return after[:cut] + chance.randbytes(len(after) - cut)
        case "blocks":
            blocks = [
                after[start : start + BLOCK]
                if start + BLOCK <= same or chance.random() < 0.7
                else before[start : start + BLOCK].ljust(len(after[start : start + BLOCK]), b"\0")
                for start in range(0, len(after), BLOCK)
            ]
            return b"".join(blocks)
        case _:
            return after


Crashes.TestCase.settings = settings(max_examples=30, stateful_step_count=12, deadline=None)
TestCrashes = Crashes.TestCase


def test_all_is_synced_that_was_promised(tmp_path: Path) -> None:
    """When a call returns, no file has anything that the disk has not been told to keep."""
    store = opened(tmp_path, 1 << 24, WATCHED)
    for size in (10, 300_000, 5_000_000, 10):
        WATCHED.syncs.clear()
        batch = pack("orders", [Entry(1, [], None, None, [random.Random(size).randbytes(size)])])
        (place,) = store.append([batch])
        assert "00000001.sqlite-wal" in WATCHED.syncs
        assert not [name for name in WATCHED.unsynced if not name.endswith(".new")]
        WATCHED.syncs.clear()
        if size < 1_000_000:
            store.mark_done([place])
            assert "00000001.sqlite-wal" in WATCHED.syncs
            assert not [name for name in WATCHED.unsynced if not name.endswith(".new")]


def test_what_cannot_be_synced_is_not_acknowledged(tmp_path: Path) -> None:
    """It is tried once; what had been acknowledged is read as before."""
    store = opened(tmp_path, 1 << 24, WATCHED)
    batches = [pack("orders", [Entry(1, [], None, None, [b"%d" % number])]) for number in range(3)]
    store.append(batches[:1])
    WATCHED.failing = True
    try:
        with pytest.raises(SpoolBroken, match="I/O error"):
            store.append(batches[1:2])
        assert not store.probe()
    finally:
        WATCHED.failing = False
    assert store.probe()
    WATCHED.syncs.clear()
    store.append(batches[2:])
    assert [stored.packed for stored in store.read("orders", None, ALL)] == batches[::2]
    assert "00000001.sqlite-wal" not in WATCHED.syncs
    store.close()
    assert not [name for name in WATCHED.syncs if name.startswith("00000001")]


def test_nothing_acknowledged_is_missing_after_a_kill(tmp_path: Path) -> None:
    """A process is killed at any moment, again and again; each one goes on where it ended."""
    chance = random.Random(5)
    acknowledged: list[str] = []
    for run in range(20):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, tmp_path, str(run)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            for _ in range(chance.randrange(1, 25)):
                acknowledged += writer.stdout.readline().split()
            writer.kill()
            acknowledged += writer.stdout.read().split()
    store = opened(tmp_path, 1 << 20)
    found = _names(store)
    assert len(found) == len(set(found))
    assert [name for name in found if name in set(acknowledged)] == acknowledged
    assert len(found) <= len(acknowledged) + 20 * 3
    assert store.take_damage() == Damage(0, 0, 0)


def _names(store: Store) -> list[str]:
    """The names in all batches, in order."""
    found = []
    after = None
    while stored := store.read("orders", after, 1 << 20):
        for each in stored:
            (entry,) = unpack(each.packed)
            found += [value.rstrip(b"\0").decode() for value in entry.values]
        after = stored[-1].place
    return found
