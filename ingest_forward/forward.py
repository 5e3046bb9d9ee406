"""The one loop: read, shape, write, and commit what is done."""

from __future__ import annotations

import asyncio
from itertools import groupby
from math import inf
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaException
from structlog import get_logger

from ingest import metrics
from ingest.inflight import Budget
from ingest_forward.batch import Batch
from ingest_forward.delivery import Delivery, Parcel
from ingest_forward.progress import Progress
from ingest_forward.reader import ASK_SECONDS, HANDOVER_SECONDS, Reader, Start
from ingest_forward.reading import Reading, Stop
from ingest_forward.shape import Reject, Shaped, shape

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from ingest.kafka_producer import KafkaProducer
    from ingest_forward.config import ForwardConfig
    from ingest_forward.identities import Partition
    from ingest_forward.letters import Letters
    from ingest_forward.table import Table

log = get_logger(__name__)

POLL_RECORDS = 1000
"""Records of a poll, at most."""
POLL_SHARE = 16
"""A poll brings about one part in so many of what may be in flight, at most."""
STEP_RECORDS = 500
"""So many records are shaped at a time, at most: the event loop must not be held for long."""
STEP_BYTES = 4 << 20
"""And about so many bytes of them, and of what is made of them."""
COMMIT_SECONDS = 1.0
TOPICS_SECONDS = 10.0
"""How often we look which topics there are."""
LAG_SECONDS = 5.0
TROUBLE_SECONDS = 60.0
"""How often an error of the reader is told that goes on."""
RETRY_SECONDS = 2.0
"""How long to wait before a reader that failed is replaced, and before records are read again that
could not be written."""
SETTLE_SECONDS = 1.0
"""How long what is on its way to topics that no route writes any more may take to arrive."""
UNANSWERED = 3
"""So many questions of the reader may stay without an answer while the producer has its own."""
QUEUE_SHARE = 4
"""The reader reads ahead one part in so many of what may be in flight."""
QUEUE_BYTES = 16 << 20
"""More read ahead does not make anything faster."""


class ReaderSilent(Exception):  # noqa: N818 - read as a sentence
    """Kafka is there, but the reader does not find it any more."""


class Forwarder:
    """Reads, shapes and writes, as a member of the consumer group; see `Member`.

    Args:
        config: the whole configuration.
        producer: writes to Kafka.
        letters: writes dead letters; None: nobody does.

    Attributes:
        table: the routes in force.
        budget: the memory that records in flight occupy.
        missing: the topics that routes name and that do not exist.
        trouble: why Kafka did not let us read, when it was last tried; empty: it does.
    """

    def __init__(
        self, config: ForwardConfig, producer: KafkaProducer, letters: Letters | None
    ) -> None:
        self.table: Table = config.table()
        self.budget = Budget(config.limits.inflight_bytes)
        self.missing: set[str] = set()
        self.trouble = ""
        self._config = config
        self._producer = producer
        self._delivery = Delivery(producer, letters, self._stop, self._back)
        self._loop = asyncio.get_running_loop()
        self._readings: dict[Partition, Reading] = {}
        self._subscribed: set[str] = set()
        self._due: dict[str, float] = {}
        self._record_bytes = float(config.limits.event_bytes)  # until more is known
        self._unanswered = 0
        self._ending = False
        self._end_at = inf

    # What the front asks for.

    def use(self, table: Table) -> None:
        """Go on with other routes.

        Partitions that are not read on are tried again with them; and so are those of which
        something waits for a topic that they do not write, before what is behind it is read. So
        does a dead letter: they may not reject its record.
        """
        self.table = table
        self._due.pop("topics", None)
        now = self._loop.time()
        for reading in self._readings.values():
            if reading.halted:
                reading.again_at = now
            elif reading.waits_beyond(table.targets):
                reading.again_at = now + SETTLE_SECONDS

    def end(self, deadline: float) -> None:
        """Read nothing any more; who runs us ends once what is on its way has arrived.

        Args:
            deadline: nothing is waited for any more then, on the loop's clock.
        """
        self._ending = True
        self._end_at = deadline

    @property
    def stops(self) -> dict[Partition, Stop]:
        """The partitions that are not read on, and why."""
        return {at: each.stop for at, each in self._readings.items() if each.stop is not None}

    @property
    def lag(self) -> dict[str, dict[str, int]]:
        """Topic -> partition -> records that are yet to be forwarded."""
        found: dict[str, dict[str, int]] = {}
        for (topic, number), reading in sorted(self._readings.items()):
            found.setdefault(topic, {})[str(number)] = reading.lag
        return found

    async def run(self) -> None:
        """Forward until told to end."""
        while not self._ending:
            try:
                await self._session()
            except Exception as error:
                known = isinstance(error, KafkaException | ReaderSilent)
                of_kafka = isinstance(error, KafkaException)
                reason = error.args[0].name() if of_kafka else type(error).__name__
                log.error("reader_failed", reason=reason, exc_info=not known)  # noqa: TRY400
                self.trouble = reason
                await asyncio.sleep(RETRY_SECONDS)

    async def _session(self) -> None:
        """Forward with one reader, for as long as it works."""
        queue_bytes = min(QUEUE_BYTES, self.budget.limit_bytes // QUEUE_SHARE)
        config = self._config
        reader = Reader(config.kafka, config.forward.group, queue_bytes, self)
        self._subscribed, self._due, self._unanswered = set(), {}, 0
        try:
            while not self._ending:
                await self._look_after(reader)
                await self._take(reader, await reader.poll(self._count()))
            await self._arrived(self._readings.values())
        except Exception:
            self._abandon(tuple(self._readings))
            await reader.close(ASK_SECONDS)
            raise
        except asyncio.CancelledError:
            await reader.close()
            raise
        await reader.close()

    async def _arrived(self, readings: Collection[Reading], until: float = inf) -> None:
        """Wait for what is on its way, but not beyond ``until``, nor the end."""
        while (now := self._loop.time()) < min(until, self._end_at):
            if not any(each.is_pending(now) for each in readings):
                return
            await asyncio.sleep(0.01)

    def _count(self) -> int:
        """How many records to ask for."""
        room = self.budget.limit_bytes / POLL_SHARE
        return max(1, min(POLL_RECORDS, int(room / self._record_bytes)))

    # Records.

    async def _take(self, reader: Reader, messages: Sequence[Any]) -> None:
        """Have the records of one poll forwarded."""
        for (topic, number), records in _by_partition(self._good(messages)):
            await self._look_for_expired(reader, (topic, number), records[0].offset())
            first = 0
            while first < len(records):
                reading = self._open((topic, number))
                if reading is None:
                    break  # they are read again, by whoever goes on
                last = first + self._step()
                self._forward(reading, Batch(topic, number, records[first:last]))
                first = last
                await asyncio.sleep(0)

    def _open(self, at: Partition) -> Reading | None:
        """A partition, if what was read of it can be forwarded now."""
        reading = self._readings.get(at)
        if reading is None or reading.halted:
            return None
        if not self.table.of(at[0]):  # no route takes it any more: it will soon not be read
            reading.again_at = self._loop.time() + RETRY_SECONDS
            return None
        return reading

    def _step(self) -> int:
        """How many records to shape at a time."""
        return max(1, min(STEP_RECORDS, int(STEP_BYTES / self._record_bytes)))

    async def _look_for_expired(self, reader: Reader, at: Partition, offset: int) -> None:
        """Count what is not there any more between what was read before and ``offset``."""
        reading = self._readings.get(at)
        if reading is None or reading.next is None or offset <= reading.next:
            return  # offsets may also leave out some: of compacted records, or of transactions
        low, _ = (await reader.ends([at], ask=True)).get(at, (0, 0))
        _expired(at, min(low, offset) - reading.next)

    def _good(self, messages: Sequence[Any]) -> Sequence[Any]:
        """The records, without what librdkafka says of errors among them."""
        good = [each for each in messages if each.error() is None]
        if len(good) != len(messages):
            self.failed(next(each.error().name() for each in messages if each.error() is not None))
        elif good:
            self.trouble = ""
        return good

    def _forward(self, reading: Reading, batch: Batch) -> None:
        table = self.table
        reading.found(batch.offsets[0])
        shaped = shape(table.of(batch.topic), batch, table.reading)
        end = _end(shaped)
        if end is not None:
            route, (position, code, _) = end
            self._halt(batch, position, route, code)
            if position == 0:
                return
            batch = batch.first(position)
            shaped = shape(table.of(batch.topic), batch, table.reading)
        size = batch.size + sum(_size(each, batch) for each in shaped)
        self._record_bytes = max(size / len(batch), self._record_bytes / 2)
        reading.next = batch.offsets[-1] + 1
        lease = self.budget.book(size, reading.holder)
        parcel = Parcel(batch, reading.progress, lease, reading.parcels)
        try:
            for each in shaped:
                self._delivery.send(parcel, each)
        except BaseException:
            parcel.stopped = True
            raise
        finally:
            parcel.let_go()

    def _stop(self, parcel: Parcel, position: int, route: str, code: str) -> None:
        """A route must not go past a record that Kafka refused."""
        batch = parcel.batch
        if self._reading_of(parcel) is not None:
            self._halt(batch, position, route, code)

    def _back(self, parcel: Parcel) -> None:
        """Something of a batch came back unwritten: read it again, in a while."""
        reading = self._reading_of(parcel)
        if reading is None or reading.again_at is not None:
            return
        reading.again_at = self._loop.time() + RETRY_SECONDS
        batch = parcel.batch
        if not self._ending:
            log.warning("read_again", topic=batch.topic, partition=batch.partition)

    def _reading_of(self, parcel: Parcel) -> Reading | None:
        """The partition that it is part of; None where it is read again anyhow."""
        batch = parcel.batch
        reading = self._readings.get((batch.topic, batch.partition))
        return reading if reading is not None and reading.progress is parcel.progress else None

    def _halt(self, batch: Batch, position: int, route: str, code: str) -> None:
        """Do not read the partition of ``batch`` past one of its records."""
        topic, partition = batch.topic, batch.partition
        reading = self._readings.get((topic, partition))
        if reading is None or reading.stop is not None:
            return
        offset = batch.offsets[position]
        reading.stop = Stop(route, offset, code)
        where = {"topic": topic, "partition": partition, "offset": offset}
        log.error("route_stopped", route=route, code=code, **where)

    # What is looked after between polls.

    def _is_due(self, what: str, seconds: float) -> bool:
        now = self._loop.time()
        if now < self._due.get(what, 0.0):
            return False
        self._due[what] = now + seconds
        return True

    async def _look_after(self, reader: Reader) -> None:
        if self._producer.connected is not False and self._is_due("topics", TOPICS_SECONDS):
            await self._follow_topics(reader)
        await self._resume(reader)
        await self._balance(reader)
        if self._is_due("commit", COMMIT_SECONDS):
            await reader.commit(self._to_commit())
        if self._is_due("lag", LAG_SECONDS):
            await self._measure(reader)

    async def _follow_topics(self, reader: Reader) -> None:
        """Read the topics of the routes that there are now."""
        try:
            existing = await reader.topics()
        except KafkaException:
            self._require_hope()
            return
        self._unanswered = 0
        missing = self.table.named - existing
        for name in sorted(missing - self.missing):
            log.warning("topic_missing", topic=name)
        self.missing = missing
        wanted = self.table.read_of(existing)
        if wanted != self._subscribed:
            await reader.subscribe(wanted)
            log.info("subscribed", topics=sorted(wanted))
            self._subscribed = wanted
        await self._begin_anew(reader)

    async def _begin_anew(self, reader: Reader) -> None:
        """Read from the beginning what is another topic now than when it was last looked at."""
        for at in await reader.recreated():
            if at not in self._readings:
                continue
            topic, partition = at
            log.warning("topic_recreated", topic=topic, partition=partition)
            _expired(at, self._readings[at].begin_anew())
            await reader.go_back(at, 0)

    def _require_hope(self) -> None:
        """The reader got no answer: where the producer does, time and again, it never will.

        A broker that comes back may say that there are no brokers, and librdkafka then asks nobody
        any more (its issue 5301).

        Raises:
            ReaderSilent: another reader is needed.
        """
        self._due.pop("topics", None)
        self._unanswered = self._unanswered + 1 if self._producer.connected else 0
        if self._unanswered >= UNANSWERED:
            raise ReaderSilent

    async def _balance(self, reader: Reader) -> None:
        """Ask for no records of partitions that have their share of the memory in flight."""
        pause, resume = [], []
        for at, reading in self._readings.items():
            full = reading.halted or self._is_full(reading)
            if full and not reading.paused:
                pause.append(at)
            elif reading.paused and not full:
                resume.append(at)
        if pause:
            await reader.pause(pause)
        if resume:
            await reader.resume(resume)
        for at in (*pause, *resume):
            if at in self._readings:
                self._readings[at].paused = at in pause

    def _is_full(self, reading: Reading) -> bool:
        """Whether a partition has as much in flight as is left free; once it has, half of that."""
        budget, held = self.budget, reading.holder.held_bytes
        if not reading.paused:
            return budget.exceeds_share(reading.holder)
        return 2 * held > budget.limit_bytes - budget.used_bytes

    async def _resume(self, reader: Reader) -> None:
        """Go back to what is done where it is time."""
        now = self._loop.time()
        for at, reading in tuple(self._readings.items()):
            if reading.is_due(now):
                await reader.go_back(at, reading.go_back())

    def _to_commit(self) -> dict[Partition, int]:
        found = {at: each.progress.to_commit for at, each in self._readings.items()}
        return {at: offset for at, offset in found.items() if offset is not None}

    async def _measure(self, reader: Reader) -> None:
        """Find out the lag: of paused partitions from the cluster, of others by what was read."""
        for ask in (False, True):
            chosen = [at for at, each in self._readings.items() if each.paused is ask]
            if ask and self._producer.connected is False:
                continue
            for at, (low, high) in (await reader.ends(chosen, ask=ask)).items():
                if (reading := self._readings.get(at)) is not None:
                    done = reading.progress.done
                    reading.lag = max(0, high - (low if done is None else done))

    # The member of the group.

    def assigned(self, starts: Mapping[Partition, Start]) -> None:
        """See `Member`."""
        for at, start in starts.items():
            topic, number = at
            holder = self.budget.holder(f"{topic}/{number}")
            self._readings[at] = Reading(_progress(start), holder)
            _expired(at, start.expired)
        if starts:
            self.trouble = ""
            log.info("assigned", partitions=_readable(starts))
        self._due.pop("lag", None)
        self._due.pop("topics", None)  # and which ones they are

    async def hand_over(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """See `Member`."""
        mine = {at: self._readings[at] for at in partitions if at in self._readings}
        await self._arrived(mine.values(), self._loop.time() + HANDOVER_SECONDS)
        offsets = {at: each.progress.to_commit for at, each in mine.items()}
        self._abandon(partitions)
        if mine:
            log.info("handed_over", partitions=_readable(mine))
        return {at: offset for at, offset in offsets.items() if offset is not None}

    def lost(self, partitions: Sequence[Partition]) -> None:
        """See `Member`."""
        self._abandon(partitions)
        log.warning("partitions_lost", partitions=_readable(partitions))

    def _abandon(self, partitions: Sequence[Partition]) -> None:
        """Read these no more, nor write what was read of them: that is another member's now."""
        for at in partitions:
            if (reading := self._readings.pop(at, None)) is not None:
                reading.abandon()

    def committed(self, offsets: Mapping[Partition, int]) -> None:
        """See `Member`."""
        for at, offset in offsets.items():
            if at in self._readings:
                self._readings[at].progress.committed = offset

    def failed(self, reason: str) -> None:
        """See `Member`."""
        if reason != self.trouble or self._is_due("trouble", TROUBLE_SECONDS):
            log.warning("reader_error", reason=reason)
        self.trouble = reason


def _expired(at: Partition, count: int) -> None:
    """So many records were let go of by their topic before they were forwarded."""
    if count <= 0:
        return
    topic, partition = at
    metrics.FORWARD_EXPIRED.labels(topic).inc(count)
    log.error("records_expired", topic=topic, partition=partition, count=count)


def _progress(start: Start) -> Progress:
    """What the topic has let go of is passed by, and that is committed: it is told of once."""
    if start.offset is None:
        return Progress()
    return Progress(start.offset + start.expired, start.offset)


def _by_partition(messages: Sequence[Any]) -> Iterator[tuple[Partition, Sequence[Any]]]:
    """The records of a poll, those of a partition that come in a row together."""
    topics, numbers = [each.topic() for each in messages], [each.partition() for each in messages]
    first = 0
    for partition, alike in groupby(zip(topics, numbers, strict=True)):
        end = first + len(list(alike))
        yield partition, messages[first:end]
        first = end


def _end(shaped: Sequence[Shaped]) -> tuple[str, Reject] | None:
    """The first record that some route must not go past, and which route."""
    ends = [(of.route.name, of.rejects[0]) for of in shaped if of.route.stops and of.rejects]
    return min(ends, key=lambda end: (end[1].position, end[0]), default=None)


def _size(shaped: Shaped, batch: Batch) -> int:
    """The bytes of what a route made, beside those that were read."""
    if shaped.values is batch.values:
        return batch.size
    return sum(map(len, filter(None, shaped.values)))


def _readable(partitions: Sequence[Partition] | Mapping[Partition, object]) -> list[str]:
    return [f"{topic}/{number}" for topic, number in sorted(partitions)]
