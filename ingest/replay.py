"""Gives what is in the spool to Kafka: each topic's oldest first, and no topic waits for another.

While Kafka does not take a topic's records, one batch of it is tried again and again: that shows
when it does. Then a few megabytes are on their way at a time; what comes in meanwhile goes to Kafka
at once, and before them.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from structlog import get_logger

from ingest import metrics
from ingest.accumulator import Segment
from ingest.cancelling import cancel
from ingest.dead_letter import common_headers
from ingest.envelope import source_of
from ingest.receipt import Receipt, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ingest.dead_letter import DeadLetters
    from ingest.kafka_producer import KafkaProducer
    from ingest.spool import Batch, Spool
    from ingest.spool_batch import Entry

log = get_logger(__name__)

READ_BYTES = 1 << 18
"""Read from the disk at once, for a topic; compressed."""
TOPIC_BYTES = 4 << 20
"""On their way to one topic, at most; so much may come twice after a crash."""
WORKER_BYTES = 32 << 20
"""The same for all topics together; each may have one batch in any case."""
LOOK_SECONDS = 0.25
"""How soon a topic with something in the spool is noticed, or is not troubled any more."""
REST_SECONDS = 2.0
"""Rest of a topic after something went wrong with it that should not."""
TURN_ENTRIES = 200
"""So many submissions are given back before others get their turn on the event loop."""


class Refused(NamedTuple):
    """A record that Kafka refuses for good; see `ingest.dead_letter.Rejection`."""

    event: bytes
    code: str
    detail: str = "Kafka refused the record"
    original_bytes: int | None = None


class _Fate(NamedTuple):
    """What Kafka says of a batch.

    Attributes:
        acked: records that it has.
        refused: (timestamp in milliseconds, value, code) of those that it never takes.
        whole: whether every record has its fate; else the batch stays in the spool.
    """

    acked: int
    refused: list[tuple[int, bytes, str]]
    whole: bool


class Replay:
    """Replays the spool of one worker.

    Args:
        spool: where records are.
        producer: writes them.
        dead_letters: where those go that Kafka refuses; None: nowhere.
        original_of: the bytes of a record value that its dead letter has.
    """

    def __init__(
        self,
        spool: Spool,
        producer: KafkaProducer,
        dead_letters: DeadLetters | None,
        original_of: Callable[[bytes], bytes],
    ) -> None:
        self._spool = spool
        self._producer = producer
        self._dead_letters = dead_letters
        self._original_of = original_of
        self._loop = asyncio.get_running_loop()
        self._flying: dict[str, int] = {}  # topic -> bytes on their way
        self._moved = asyncio.Event()
        self._topics: dict[str, asyncio.Task[None]] = {}
        self._batches: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, now and whenever there is something in the spool."""
        self._task = self._loop.create_task(self._run())

    async def stop(self) -> None:
        """Begin nothing more; what is on its way is the producer's."""
        await cancel([*self._topics.values(), *([self._task] if self._task else [])])

    async def finish(self) -> None:
        """Note what became of what was on its way, once the producer has stopped."""
        await asyncio.gather(*self._batches, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            for topic in self._spool.status.events:
                if topic not in self._topics:
                    self._topics[topic] = self._loop.create_task(self._replay(topic))
            await asyncio.sleep(LOOK_SECONDS)

    async def _replay(self, topic: str) -> None:
        """Replay a topic until nothing is left."""
        try:
            await self._replay_all(topic)
        except Exception:  # it is begun again, and no other topic's replay ends with it
            log.exception("replay_failed", topic=topic)
            await asyncio.sleep(REST_SECONDS)
        finally:
            del self._topics[topic]

    async def _replay_all(self, topic: str) -> None:
        after = None
        while batches := await self._spool.read(topic, after, self._most(topic)):
            for batch in batches:
                await self._turn_of(topic, batch.size)
                await self._give(topic, batch)
                after = batch.place
        while self._flying.get(topic):
            await self._movement()
        await asyncio.sleep(REST_SECONDS)  # what is in the spool is looked at less often than done

    def _most(self, topic: str) -> int:
        """How much to read at once: one batch where it has to wait."""
        return 1 if self._producer.is_troubled(topic) else READ_BYTES

    async def _turn_of(self, topic: str, size: int) -> None:
        """Wait until so many bytes more may be on their way."""
        while flying := self._flying.get(topic, 0):
            if (
                flying + size <= TOPIC_BYTES
                and sum(self._flying.values()) + size <= WORKER_BYTES
                and not self._producer.is_troubled(topic)
            ):
                return
            await self._movement()

    async def _movement(self) -> None:
        """Wait until something has come back, but not for long."""
        self._moved.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                await self._moved.wait()

    async def _give(self, topic: str, batch: Batch) -> None:
        """Hand a batch to the producer, without what is in Kafka by now."""
        landed = await self._spool.landed_in(batch.place)
        if batch.entries is None:
            return
        given = []
        for position, entry in enumerate(batch.entries):
            if position not in landed:
                given.append((entry, self._submit(topic, entry)))
            if position % TURN_ENTRIES == TURN_ENTRIES - 1:
                await asyncio.sleep(0)
        self._flying[topic] = self._flying.get(topic, 0) + batch.size
        task = self._loop.create_task(self._see_through(topic, batch, given))
        self._batches.add(task)
        task.add_done_callback(self._batches.discard)

    def _submit(self, topic: str, entry: Entry) -> Receipt:
        receipt = Receipt(len(entry.values))
        segment = Segment(
            receipt,
            range(len(entry.values)),
            entry.values,
            entry.keys,
            entry.headers,
            entry.headers_each,
            entry.timestamp_ms,
        )
        self._producer.replay(topic, segment)
        return receipt

    async def _see_through(
        self, topic: str, batch: Batch, given: list[tuple[Entry, Receipt]]
    ) -> None:
        """Wait for the fate of a batch; it leaves the spool when every record has one."""
        try:
            fate = await _fate_of(given)
            metrics.SPOOL_REPLAYED.labels(topic, "acked").inc(fate.acked)
            if fate.whole and await self._bury(topic, fate.refused):
                self._spool.done(batch.place)
        except Exception:
            log.exception("replay_failed", topic=topic)  # the batch stays for another attempt
        finally:
            self._flying[topic] -= batch.size
            if not self._flying[topic]:
                del self._flying[topic]
            self._moved.set()

    async def _bury(self, topic: str, refused: Sequence[tuple[int, bytes, str]]) -> bool:
        """Keep what Kafka refused as dead letters; whether that is settled."""
        letters, receipts, kept, lost = self._dead_letters, [], 0, 0
        if letters is None or letters.topic == topic:
            lost = len(refused)
        else:  # all at once: they share Kafka batches
            receipts = [self._letter(letters, topic, *each) for each in refused]
        for receipt in receipts:
            status = (await receipt).runs[0].status
            if status not in {Status.ACKED, Status.SPOOLED, Status.REFUSED}:
                return False
            kept += status is not Status.REFUSED
            lost += status is Status.REFUSED
        if kept:
            metrics.SPOOL_REPLAYED.labels(topic, "rejected").inc(kept)
        if lost:
            metrics.SPOOL_REPLAYED.labels(topic, "lost").inc(lost)
        return True

    def _letter(
        self, letters: DeadLetters, topic: str, timestamp_ms: int, value: bytes, code: str
    ) -> Receipt:
        when = datetime.fromtimestamp(timestamp_ms / 1000, UTC)
        received = when.isoformat(timespec="microseconds").replace("+00:00", "Z").encode()
        return letters.submit(
            [Refused(self._original_of(value), code)],
            common_headers(topic, source_of(value), received),
            timestamp_ms=timestamp_ms,
            deadline=None,
            on_settled=_nobody_waits,
        )


async def _fate_of(given: Sequence[tuple[Entry, Receipt]]) -> _Fate:
    acked, refused, whole = 0, [], True
    for entry, receipt in given:
        for run in (await receipt).runs:
            if run.status is Status.ACKED:
                acked += len(run.indices)
            elif run.status is Status.REFUSED:
                refused += [(entry.timestamp_ms, value, run.code) for value in run.values]
            else:
                whole = False
    return _Fate(acked, refused, whole)


def _nobody_waits() -> None:
    """The bytes of one dead letter are not accounted for."""
