"""The spool on the event loop: copies what Kafka does not take in time to durable files.

The files (`ingest.spool_store`) belong to one thread, which is woken by what there is to do and
takes all that waits at once: whole submissions go to the disk together, a topic's in one batch, and
one ``fsync`` is for all of them (group commit). While Kafka is well, nothing here touches the disk
but a look now and then at how much room there is.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from structlog import get_logger

from ingest import metrics
from ingest.spool_batch import Damaged, Entry, Packed, pack, unpack
from ingest.spool_file import SpoolError, SpoolFull
from ingest.spool_folders import claim, orphans
from ingest.spool_quota import Quota
from ingest.spool_store import Damage, Place, Store, Stored
from ingest.status import SpoolStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ingest.accumulator import Segment
    from ingest.receipt import Receipt
    from ingest.settings import SpoolSettings
    from ingest.spool_folders import Folder

Result = TypeVar("Result")
log = get_logger(__name__)

BATCH_BYTES = 1 << 20
"""Submissions for a topic are stored together up to this size, before compression."""
PLAIN_BYTES = 2 << 20
"""Not much more than that is read at once, after decompression."""
GROUP_BYTES = 8 << 20
"""One commit is of about so much at most, so that nobody waits long for it."""
GROUP_COPIES = 2_000
"""Nor of more submissions, whose fates are told in one turn of the event loop."""
GROUP_SHARE = 8
"""Nor is it more than this part of the quota. There is room as long as a whole one fits."""
SWAMPED_BYTES = 32 << 20
"""So much may wait to be written before records that nobody has to hold are not taken."""
LOOK_SECONDS = 0.5
"""How often room, problems and counts are looked at."""
ADOPT_SECONDS = 10.0
"""How often folders that nobody has any more are looked for."""
LEAD_SECONDS = 1.0
"""So long before its deadline a batch is copied, to be durable in time."""


class Batch(NamedTuple):
    """A stored batch, as it is read.

    Attributes:
        place: where it is.
        entries: the submissions in it; None: they cannot be read by this version.
        events: how many records they have.
        size: bytes of its records' values.
    """

    place: Place
    entries: list[Entry] | None
    events: int
    size: int


class SpoolCopy:
    """The copy of one segment; see `ingest.accumulator.Copy`."""

    __slots__ = (
        "_spool",
        "entry",
        "failed",
        "left",
        "place",
        "position",
        "receipt",
        "size",
        "topic",
    )

    def __init__(self, spool: Spool, segment: Segment, failed: Callable[[Segment], None]) -> None:
        self._spool = spool
        self.topic: str = segment.topic.name
        self.entry = Entry(
            segment.timestamp_ms,
            segment.headers,
            segment.headers_each,
            segment.keys,
            segment.values,
        )
        self.size = segment.size
        self.left = len(segment)  # records without another fate
        self.receipt: Receipt = segment.receipt
        self.failed = failed
        self.place: Place | None = None
        self.position = 0

    def parts(self) -> list[Segment]:
        """What there is now of the segment without a fate: it may have been split since."""
        parts: Iterable[object] = self.receipt.parts
        found: list[Any] = [part for part in parts if getattr(part, "copy", None) is self]
        return [part for part in found if not part.done]

    def landed(self, count: int) -> None:
        """See `ingest.accumulator.Copy.landed`."""
        self.left -= count
        if self.left <= 0 and self.place is not None:
            self._spool.landed(self)

    def over(self) -> None:
        """See `ingest.accumulator.Copy.over`."""
        if self.place is not None:
            self._spool.over(self.place, self.position)


class _Flight:
    """A stored batch of which some entries were on their way to Kafka when it was stored."""

    __slots__ = ("flying", "landed", "until")

    def __init__(self, until: float) -> None:
        self.flying: set[int] = set()
        self.landed: set[int] = set()
        self.until = until


class Spool:
    """Durable overflow of one worker; see `ingest.overflow.Overflow`.

    Args:
        settings: the section [spool].
        service: whose it is.
        ack_seconds: within so many seconds batches with a deadline are answered.
        attempt_seconds: how long an attempt to write to Kafka lasts at most.
        folders: what it has, to be released by `close`; empty: the first one that nobody holds, and
            all that were left behind, now and later.

    Attributes:
        status: how it was when somebody looked last.
    """

    def __init__(
        self,
        settings: SpoolSettings,
        service: str,
        *,
        ack_seconds: float,
        attempt_seconds: float,
        folders: Sequence[Folder] = (),
    ) -> None:
        self.after_seconds = settings.after_seconds
        self.lead_seconds = min(LEAD_SECONDS, ack_seconds / 2)
        self.status = SpoolStatus(room=False)
        self._attempt_seconds = attempt_seconds
        self._loop = asyncio.get_running_loop()
        self._group_bytes = min(GROUP_BYTES, settings.max_bytes // GROUP_SHARE)
        self._files = _Files(settings, service, self._group_bytes, folders)
        self._jobs: queue.SimpleQueue[SpoolCopy | Place | Callable[[], None]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="spool", daemon=True)
        self._looking: asyncio.Task[None] | None = None
        self._open: set[SpoolCopy] = set()  # not durable yet
        self._open_bytes = 0
        self._idle = asyncio.Event()
        self._flights: dict[Place, _Flight] = {}
        self._refused = False  # a write failed, and nobody has looked since

    async def open(self) -> None:
        """Open what is there; a disk that cannot be used is a problem of the status, no error."""
        self._thread.start()
        await self._look()
        self._looking = self._loop.create_task(self._look_now_and_then())

    async def close(self) -> None:
        """Write what is to be written, and close the files."""
        if self._looking is not None:
            self._looking.cancel()
        await self._ask(self._files.close)
        self._jobs.put(_end)
        await asyncio.to_thread(self._thread.join)

    # What the producer uses.

    @property
    def has_room(self) -> bool:
        """See `ingest.overflow.Overflow`."""
        return self.status.room and not self._refused

    @property
    def has_spare(self) -> bool:
        """See `ingest.overflow.Overflow`."""
        return self.has_room and self.status.spare

    @property
    def is_swamped(self) -> bool:
        """See `ingest.overflow.Overflow`."""
        return self._open_bytes > SWAMPED_BYTES

    def keep(self, segment: Segment, failed: Callable[[Segment], None]) -> None:
        """See `ingest.overflow.Overflow`."""
        copy = SpoolCopy(self, segment, failed)
        segment.copy = copy
        self._open.add(copy)
        self._open_bytes += copy.size
        self._idle.clear()
        self._jobs.put(copy)

    async def settle(self, seconds: float) -> None:
        """See `ingest.overflow.Overflow`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._open:
                    await self._idle.wait()

    def give_up(self) -> None:
        """Nobody waits any longer: of what is not durable yet, nobody knows."""
        for copy in tuple(self._open):
            for part in copy.parts():
                part.expire()

    def landed(self, copy: SpoolCopy) -> None:
        """Kafka has all that is in a copy which is durable: it need not be replayed."""
        place, count = copy.place, len(copy.entry.values)
        flight = None if place is None else self._flights.get(place)
        if place is None or flight is None:
            return
        flight.landed.add(copy.position)
        metrics.SPOOL_REPLAYED.labels(copy.topic, "late").inc(count)
        self.over(place, copy.position)

    def over(self, place: Place, position: int) -> None:
        """Nothing of a copy is on its way to Kafka any more."""
        flight = self._flights.get(place)
        if flight is not None:
            flight.flying.discard(position)
            if not flight.flying and not flight.landed:
                del self._flights[place]

    # What the replay uses.

    async def read(self, topic: str, after: Place | None, limit_bytes: int) -> list[Batch]:
        """The oldest batches of ``topic`` behind ``after``, about ``limit_bytes`` of them."""
        return await self._ask(lambda: self._files.read(topic, after, limit_bytes))

    async def landed_in(self, place: Place) -> set[int]:
        """Positions of the entries of a batch that need not be replayed.

        Waits for attempts to write them to Kafka which had begun before they were stored.
        """
        while (flight := self._flights.get(place)) is not None:
            if not flight.flying or self._loop.time() > flight.until:
                return flight.landed
            await asyncio.sleep(0.01)  # rare and short: an event for each flight would cost more
        return set()

    def done(self, place: Place) -> None:
        """A batch need not be replayed any more."""
        self._flights.pop(place, None)
        self._jobs.put(place)

    # The thread.

    async def _ask(self, job: Callable[[], Result]) -> Result:
        """Have the thread do something."""
        answer: asyncio.Future[Result] = self._loop.create_future()

        def run() -> None:
            try:
                result = job()
            except Exception as error:  # noqa: BLE001 - it belongs to whoever asked
                self._tell(_fail, answer, error)
            else:
                self._tell(_answer, answer, result)

        self._jobs.put(run)
        return await answer

    def _tell(self, what: Callable[..., None], *arguments: object) -> None:
        """Have the event loop do something; where it has ended, nobody waits for it."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(what, *arguments)

    def _work(self) -> None:
        """Do what there is to do, in groups, until told to end."""
        while True:
            copies, places, jobs = self._next_group()
            if copies:
                self._write(copies)
            if places:
                self._files.mark_done(places)
            if _end in jobs:
                return
            for job in jobs:
                job()

    def _next_group(self) -> tuple[list[SpoolCopy], list[Place], list[Callable[[], None]]]:
        """All that waits, as far as one commit goes; at least one thing."""
        copies: list[SpoolCopy] = []
        places: list[Place] = []
        jobs: list[Callable[[], None]] = []
        size, wait = 0, True
        with contextlib.suppress(queue.Empty):
            while size < self._group_bytes and len(copies) < GROUP_COPIES and not jobs:
                job = self._jobs.get(block=wait)
                wait = False
                if isinstance(job, SpoolCopy):
                    copies.append(job)
                    size += job.size
                elif isinstance(job, Place):
                    places.append(job)
                else:
                    jobs.append(job)
        return copies, places, jobs

    def _write(self, copies: list[SpoolCopy]) -> None:
        """Store copies, and say what became of them."""
        batches = list(_together(copies))
        try:
            packed = [pack(group[0].topic, [copy.entry for copy in group]) for group in batches]
            places = self._files.append(packed)
        except SpoolFull:
            if len(batches) == 1:
                self._tell(self._not_written, copies, True)
            else:  # it may be one that is too large
                for group in batches:
                    self._write(group)
        except SpoolError:
            self._tell(self._not_written, copies, False)
        except Exception:  # a defect of our own: the thread must go on, and everybody have a word
            log.exception("spool_failed")
            self._tell(self._not_written, copies, False)
        else:
            self._tell(self._written, batches, places)

    # What became of copies, on the event loop.

    def _written(self, batches: list[list[SpoolCopy]], places: list[Place]) -> None:
        try:
            for place, group in zip(places, batches, strict=True):
                flight = _Flight(self._loop.time() + self._attempt_seconds)
                for position, copy in enumerate(group):
                    self._take_off(copy, place, position, flight)
                if len(flight.landed) == len(group):
                    self.done(place)
                elif flight.flying or flight.landed:
                    self._flights[place] = flight
        finally:
            self._closed(copy for group in batches for copy in group)

    @staticmethod
    def _take_off(copy: SpoolCopy, place: Place, position: int, flight: _Flight) -> None:
        """A copy is durable: its records have their fate, unless they have another one."""
        copy.place, copy.position = place, position
        parts = copy.parts()
        if copy.left <= 0:
            flight.landed.add(position)
            metrics.SPOOL_REPLAYED.labels(copy.topic, "late").inc(len(copy.entry.values))
        elif not parts or any(part.in_flight for part in parts):
            flight.flying.add(position)
        for part in parts:
            part.spooled()

    def _not_written(self, copies: list[SpoolCopy], certain: bool) -> None:  # noqa: FBT001 - see `_tell`
        """Copies did not come about; where that is not certain, a restart may bring them back."""
        usual = sum(copy.size for copy in copies) <= self._group_bytes
        self._refused |= usual or not certain  # else it is just one that is too large
        try:
            for copy in copies:
                for part in copy.parts():
                    part.handed_over |= not certain
                    copy.failed(part)
        finally:
            self._closed(copies)

    def _closed(self, copies: Iterable[SpoolCopy]) -> None:
        for copy in copies:
            self._open.discard(copy)
            self._open_bytes -= copy.size
        if not self._open:
            self._idle.set()

    # Looking.

    async def _look_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self._look()
            except Exception:  # room and replay depend on looking: it must go on
                log.exception("spool_look_failed")

    async def _look(self) -> None:
        before, refused = self.status, self._refused
        self.status, damage = await self._ask(self._files.look)
        if refused:
            self._refused = False
        for kind, count in damage._asdict().items():
            if count:
                metrics.SPOOL_DAMAGED.labels(kind).inc(count)
        _tell_changes(before, self.status)


class _Files:
    """The store as the thread sees it: opened when that is possible, which it may not be yet."""

    def __init__(
        self, settings: SpoolSettings, service: str, room_bytes: int, folders: Sequence[Folder]
    ) -> None:
        self._settings = settings
        self._room_bytes = room_bytes
        self._path = Path(settings.path) / service
        self._given = folders
        self._store: Store | None = None
        self._quota: Quota | None = None
        self._unreadable: set[Place] = set()
        self._problem = ""
        self._adopted_at = float("-inf")
        self._closed = False

    def append(self, batches: Sequence[Packed]) -> list[Place]:
        """See `Store.append`."""
        if self._store is None:
            raise SpoolFull(self._problem)
        return self._store.append(batches)

    def mark_done(self, places: Sequence[Place]) -> None:
        """See `Store.mark_done`; where that fails, they are replayed once more after a restart."""
        if self._store is None:
            return
        try:
            self._store.mark_done(places)
        except Exception:
            log.exception("spool_mark_failed")

    def read(self, topic: str, after: Place | None, limit_bytes: int) -> list[Batch]:
        """See `Store.read`."""
        if self._store is None:
            return []
        found: list[Batch] = []
        for stored in self._store.read(topic, after, limit_bytes):
            if sum(batch.size for batch in found) > PLAIN_BYTES:
                break  # what compresses well is little on the disk and much here
            try:
                entries = unpack(stored.packed)
            except Damaged:
                self._tell_unreadable(stored)
                entries = None
            size = sum(sum(map(len, entry.values)) for entry in entries or ())
            found.append(Batch(stored.place, entries, stored.packed.events, size))
        return found

    def _tell_unreadable(self, stored: Stored) -> None:
        """Log, once, a batch that is intact and no batch of this version."""
        if stored.place not in self._unreadable:
            self._unreadable.add(stored.place)
            topic, events = stored.packed.topic, stored.packed.events
            log.error("spool_batch_unreadable", topic=topic, events=events)

    def look(self) -> tuple[SpoolStatus, Damage]:
        """How it is; and what was found to be damaged since the last look."""
        try:
            store = self._store or self._open()
        except (OSError, SpoolError) as error:
            self._problem = getattr(error, "strerror", None) or str(error)
            return SpoolStatus(room=False, problem=self._problem), Damage(0, 0, 0)
        if store.problem:
            store.probe()
        if not self._given and time.monotonic() - self._adopted_at > ADOPT_SECONDS:
            self._adopt(store)
        return self._status(store), store.take_damage()

    def close(self) -> None:
        """Close the files; nothing is opened any more."""
        store, self._store, self._closed = self._store, None, True
        if store is not None:
            store.close()

    def _open(self) -> Store:
        if self._closed:
            raise SpoolFull("closed")
        settings = self._settings
        quota = self._quota = Quota(self._path, settings.max_bytes, settings.min_free_bytes)
        folders = self._given or [claim(self._path), *orphans(self._path)]
        self._adopted_at = time.monotonic()
        self._store = Store(folders, quota)
        return self._store

    def _adopt(self, store: Store) -> None:
        self._adopted_at = time.monotonic()
        for folder in orphans(self._path):
            if any(folder.path.glob("*.sqlite")):
                log.info("spool_adopted", folder=folder.path.name)
                store.adopt(folder)
            else:  # empty, or with what was set aside only
                folder.remove()

    def _status(self, store: Store) -> SpoolStatus:
        backlog = {topic: each for topic, each in store.backlog().items() if each.batches}
        oldest_ms = min((each.oldest_ms for each in backlog.values()), default=0)
        return SpoolStatus(
            events={topic: each.events for topic, each in backlog.items()},
            bytes=store.bytes,
            oldest_seconds=max(0.0, time.time() - oldest_ms / 1000) if oldest_ms else 0.0,
            room=not store.problem and store.room(self._room_bytes),
            spare=self._quota is not None and not self._quota.is_half_used(),
            problem=store.problem,
        )


def _together(copies: Iterable[SpoolCopy]) -> Iterable[list[SpoolCopy]]:
    """Copies that are stored as one batch: of one topic, in their order."""
    by_topic: dict[str, list[SpoolCopy]] = {}
    sizes: dict[str, int] = {}
    for copy in copies:
        group = by_topic.setdefault(copy.topic, [])
        size = sizes.get(copy.topic, 0) + copy.size
        if group and size > BATCH_BYTES:
            yield group
            group, size = [], copy.size
            by_topic[copy.topic] = group
        group.append(copy)
        sizes[copy.topic] = size
    yield from by_topic.values()


def _end() -> None:
    """The job after which the thread ends."""


def _answer(future: asyncio.Future[Result], result: Result) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Result], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


def _tell_changes(before: SpoolStatus, now: SpoolStatus) -> None:
    """Log what an operator should know."""
    if now.problem and now.problem != before.problem:
        log.error("spool_failed", reason=now.problem)
    elif before.problem and not now.problem:
        log.info("spool_recovered")
    elif before.room and not now.room:
        log.error("spool_full", bytes=now.bytes)
    if now.events and not before.events:
        log.warning("spool_in_use", events=sum(now.events.values()), topics=sorted(now.events))
    elif before.events and not now.events:
        log.info("spool_drained")
