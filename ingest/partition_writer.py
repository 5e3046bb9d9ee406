"""The one writer of a partition: queue in, Kafka batches out, one after the other.

While a Kafka batch is in flight the next one fills, so no fixed linger is needed under load. There
is exactly one writer per partition: aiokafka's ``send_batch`` miscounts its waiting time when it is
called twice at once for a partition, and order per partition rests on it.
"""

from __future__ import annotations

import asyncio
import random
from itertools import chain
from time import perf_counter
from typing import TYPE_CHECKING, Protocol

from structlog import get_logger

from ingest import metrics
from ingest.accumulator import PartitionQueue, Segment, cut, first_since
from ingest.cancelling import cancel
from ingest.kafka_client import (
    CERTAIN,
    INVALID_RECORD,
    NOT_READY,
    TOO_LARGE,
    KafkaClient,
    Verdict,
    verdict_on,
)
from ingest.receipt import Status

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

log = get_logger(__name__)

BATCH_BYTES = 1_000_000
"""A Kafka batch before compression, at most: larger ones hold the event loop too long."""
LINGER_TURNS = 4
"""Turns of the event loop in which a newcomer has the time to get from its socket to the queue."""
OUR_PATIENCE = (TimeoutError, asyncio.CancelledError)
BACKOFF_SECONDS = (0.05, 1.0)
"""First and longest pause between attempts; each is drawn from half of it to all of it."""


def pause_seconds(attempt: int) -> float:
    """Exponential back-off with jitter before attempt number ``attempt`` (the first is 0)."""
    first, longest = BACKOFF_SECONDS
    return min(longest, first * 2.0 ** min(attempt, 16)) * random.uniform(0.5, 1.0)  # noqa: S311


class Link(Protocol):
    """What a writer needs from the producer that it belongs to."""

    client: KafkaClient | None
    connected: bool | None
    linger_seconds: float

    def succeeded(self) -> None:
        """Kafka acked a batch just now."""

    def in_trouble(self) -> None:
        """An attempt failed: somebody should look after connection and topics."""

    def in_doubt(self) -> None:
        """A topic's limits refused something: they may have been changed."""

    async def look_again(self) -> None:
        """Wait until the limits of the topics are those of now, but not for long."""


class Topic(Protocol):
    """What a writer needs to know of its topic."""

    name: str
    problem: str

    @property
    def batch_bytes(self) -> int:
        """How large a batch may be."""

    def begun(self, number: int) -> None:
        """Partition ``number`` begins a batch: keyless records go on with another one."""

    def screen(self, segments: Sequence[Segment]) -> list[Segment]:
        """Refuse what the limits of now rule out; the others."""

    def learn(self, refused: Segment) -> None:
        """Kafka finds this one record invalid."""

    def attempted(self, *, failed: bool) -> None:
        """An attempt to write has ended."""

    def give_up(self, problem: str) -> None:
        """The topic cannot be used, for the reason ``problem``."""

    def refuse(self, segments: Sequence[Segment], *, older: bool = False) -> None:
        """What becomes of segments of a topic that cannot be used, or that are done already."""


class PartitionWriter:
    """Queues records for one partition and writes them in order.

    Attributes:
        failing: its last attempt failed, and it tries again.
        attempt_since: when the attempt that is under way began, monotonic; None between attempts.
    """

    def __init__(self, link: Link, topic: Topic, number: int) -> None:
        self.number = number
        self.attempt_since: float | None = None
        self.failing = False
        self.queue = PartitionQueue()
        self._link = link
        self._topic = topic
        self._wake = asyncio.Event()
        self._pieces: list[list[Segment]] = []  # of the batch that is being written
        self._looked = False  # for its sake, at the limits of now
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._run())

    def append(self, segment: Segment) -> None:
        """Queue ``segment`` behind what waits."""
        self.queue.append(segment)
        self._wake.set()

    def open_segments(self) -> Iterator[Segment]:
        """What is queued or being written."""
        for piece in self._pieces:
            yield from piece
        yield from self.queue

    def waiting_since(self) -> Iterator[float]:
        """When the oldest was submitted, of each piece and of the queue."""
        self.queue.discard_done()
        for piece in self._pieces:
            yield from first_since(piece)
        yield from first_since(self.queue)

    async def stop(self) -> list[Segment]:
        """Stop writing; what was left, oldest first, is the caller's."""
        await cancel([self._task])
        left = []
        for segment in self.open_segments():
            if segment.done:  # its bytes are held no more
                segment.failed(Status.UNKNOWN, "")
            elif segment.waits:
                left.append(segment)
        self._pieces = []
        self.queue = PartitionQueue()
        return left

    async def _run(self) -> None:
        queue, wake = self.queue, self._wake
        while True:
            if not queue:
                wake.clear()
                await wake.wait()
                await self._linger()
            self._topic.begun(self.number)
            self._pieces, self._looked = [queue.take(self._topic.batch_bytes)], False
            try:
                while self._pieces:
                    refusal = await self._write(self._pieces[0])
                    self._pieces[:1] = await self._instead_of(refusal) if refusal else []
            except Exception:
                log.exception("writer_failed", topic=self._topic.name, partition=self.number)
                for segment in chain.from_iterable(self._pieces):
                    self._give_up(segment)
                self._pieces = []

    async def _linger(self) -> None:
        """Wait for company, as long as the queue grows, but at most the linger time."""
        until = self._loop.time() + self._link.linger_seconds
        size = 0
        while size < self.queue.size < BATCH_BYTES and self._loop.time() < until:
            size = self.queue.size
            for _ in range(LINGER_TURNS):
                await asyncio.sleep(0)

    async def _write(self, segments: list[Segment]) -> BaseException | None:
        """Write one batch, however many attempts it takes; the error when it was refused."""
        attempt = 0
        while segments:
            self.attempt_since = self._loop.time()
            try:
                error = await self._attempt(segments)
            finally:
                self.attempt_since = None
            if error is None:
                break
            verdict = verdict_on(error)
            self._topic.attempted(failed=verdict is not Verdict.REFUSED)
            if verdict is Verdict.REFUSED:
                self.failing = False
                return error
            if verdict not in {Verdict.AGAIN, Verdict.NOT_YET}:
                self._topic.give_up(verdict.value)
            self.failing = True
            self._link.in_trouble()
            await asyncio.sleep(pause_seconds(attempt))
            attempt += 1
            for piece in reversed(self._pieces):  # each is put before what is younger
                piece[:] = self._still_wanted(piece)
            self.queue.discard_done()
        self.failing = False
        return None

    async def _attempt(self, segments: list[Segment]) -> BaseException | None:
        """Hand a batch over once; the error, or None when Kafka has it."""
        client = self._link.client
        if client is None or not await client.leader_ready(self._topic.name, self.number):
            return NOT_READY
        segments[:] = [segment for segment in segments if not segment.done]
        if not segments:
            return None
        builder = client.build(segments)
        for segment in segments:
            segment.in_flight = True
        begun = perf_counter()
        try:
            offset = await client.send(builder, self._topic.name, self.number)
        except (Exception, asyncio.CancelledError) as error:  # aiokafka raises what it likes
            certain = verdict_on(error) in CERTAIN
            # Where our patience ended, aiokafka still has the batch and may send it yet.
            maybe = client.was_sent(builder) or isinstance(error, OUR_PATIENCE)
            for segment in segments:
                segment.in_flight = False
                segment.handed_over |= maybe and not certain
            if isinstance(error, asyncio.CancelledError):
                raise
            return error
        metrics.PRODUCE_SECONDS.labels(self._topic.name).observe(perf_counter() - begun)
        self._link.succeeded()
        self._acked(segments, offset)
        self._topic.attempted(failed=False)
        return None

    def _acked(self, segments: list[Segment], offset: int) -> None:
        late = 0
        for segment in segments:
            late += segment.acked(self.number, offset)
            offset += len(segment)
        if late:
            metrics.LATE_ACKS.labels(self._topic.name).inc(late)

    async def _instead_of(self, refusal: BaseException) -> list[list[Segment]]:
        """What to write instead of the refused batch, so that its innocent records survive.

        What the topic's limits leave of it, which may have changed; else its halves.
        """
        refused = self._pieces[0]
        parts = self._within_limits(refused)
        if parts == [refused] and not self._looked:
            self._looked = True
            await self._link.look_again()
            parts = self._within_limits(refused)
        if parts != [refused]:
            return parts
        total = sum(map(len, refused))
        if total > 1:
            return list(cut(refused, total // 2))
        if isinstance(refusal, INVALID_RECORD):
            self._topic.learn(refused[0])
        too_large = isinstance(refusal, TOO_LARGE)
        refused[0].failed(Status.REFUSED, "event_too_large" if too_large else "refused_by_kafka")
        return []

    def _within_limits(self, segments: list[Segment]) -> list[list[Segment]]:
        """``segments`` in batches that fit the topic, without records that never will."""
        queue = PartitionQueue()
        queue.put_back(self._topic.screen(segments))
        batches = []
        while queue:
            batches.append(queue.take(self._topic.batch_bytes))
        return batches

    def _still_wanted(self, segments: list[Segment]) -> list[Segment]:
        """What to try again: neither answered at its deadline nor for an unusable topic."""
        wanted: list[Segment] = []
        refused: list[Segment] = []
        for segment in segments:
            (refused if segment.done or self._topic.problem else wanted).append(segment)
        self._topic.refuse(refused, older=True)
        return wanted

    def _give_up(self, segment: Segment) -> None:
        """Nobody writes ``segment`` any more, nor holds its bytes."""
        segment.handed_over |= segment.in_flight
        segment.in_flight = False
        try:
            if segment.done:
                segment.failed(Status.UNKNOWN, "")
            else:
                segment.expire()
        except Exception:  # of whom it is told: others are to be told as well
            log.exception("writer_failed", topic=self._topic.name, partition=self.number)
