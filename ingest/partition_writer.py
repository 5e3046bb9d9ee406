"""The one writer of a partition: queue in, Kafka batches out, one after the other.

While a Kafka batch is in flight the next one fills, so no fixed linger is needed under load. There
is exactly one writer per partition: aiokafka's ``send_batch`` miscounts its waiting time when it is
called twice at once for a partition, and order per partition rests on it.
"""

from __future__ import annotations

import asyncio
import random
from time import perf_counter
from typing import TYPE_CHECKING, Protocol

from structlog import get_logger

from ingest import metrics
from ingest.accumulator import PartitionQueue, Segment, cut
from ingest.kafka_client import CERTAIN, NOT_READY, KafkaClient, Verdict, verdict_on
from ingest.receipt import Status

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    linger_seconds: float

    def succeeded(self) -> None:
        """Kafka acked a batch just now."""

    def in_trouble(self) -> None:
        """An attempt failed: somebody should look after connection and topics."""


class Topic(Protocol):
    """What a writer needs to know of its topic."""

    name: str
    problem: str

    @property
    def batch_bytes(self) -> int:
        """How large a batch may be."""

    def begun(self, number: int) -> None:
        """Partition ``number`` begins a batch: keyless records go on with another one."""

    def give_up(self, problem: str) -> None:
        """The topic cannot be used, for the reason ``problem``."""


class PartitionWriter:
    """Queues records for one partition and writes them in order."""

    def __init__(self, link: Link, topic: Topic, number: int) -> None:
        self.number = number
        self.failing = False
        self.queue = PartitionQueue()
        self._link = link
        self._topic = topic
        self._wake = asyncio.Event()
        self._current: list[Segment] = []
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._run())

    def append(self, segment: Segment) -> None:
        """Queue ``segment`` behind what waits."""
        self.queue.append(segment)
        self._wake.set()

    def open_segments(self) -> Iterator[Segment]:
        """What is queued or being written."""
        yield from self._current
        yield from self.queue.segments

    async def stop(self) -> list[Segment]:
        """Stop writing; what was left, oldest first, is the caller's."""
        self._task.cancel()
        await asyncio.wait([self._task])
        left = [segment for segment in self.open_segments() if not segment.done]
        self._current = []
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
            self._current = queue.take(self._topic.batch_bytes)
            try:
                await self._write(self._current)
            except Exception:
                log.exception("writer_failed", topic=self._topic.name, partition=self.number)
                for segment in self._current:
                    segment.expire()
            self._current = []

    async def _linger(self) -> None:
        """Wait for company, as long as the queue grows, but at most the linger time."""
        until = self._loop.time() + self._link.linger_seconds
        size = 0
        while size < self.queue.size < BATCH_BYTES and self._loop.time() < until:
            size = self.queue.size
            for _ in range(LINGER_TURNS):
                await asyncio.sleep(0)

    async def _write(self, segments: list[Segment]) -> None:
        """Write one batch, however many attempts it takes."""
        attempt = 0
        while segments:
            error = await self._attempt(segments)
            if error is None:
                break
            verdict = verdict_on(error)
            if verdict is Verdict.REFUSED:
                await self._halve(segments)
                break
            if verdict is not Verdict.AGAIN:
                self._topic.give_up(verdict.value)
            self.failing = True
            self._link.in_trouble()
            await asyncio.sleep(pause_seconds(attempt))
            attempt += 1
            segments = self._still_wanted(segments)
            self.queue.discard_done()
        self.failing = False

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
            certain = verdict_on(error) in CERTAIN and perf_counter() - begun < client.retry_seconds
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
        return None

    def _acked(self, segments: list[Segment], offset: int) -> None:
        late = 0
        for segment in segments:
            late += segment.acked(self.number, offset)
            offset += len(segment)
        if late:
            metrics.LATE_ACKS.labels(self._topic.name).inc(late)

    async def _halve(self, segments: list[Segment]) -> None:
        """Find the refused records by halving, so that the innocent ones survive."""
        total = sum(map(len, segments))
        if total == 1:
            segments[0].failed(Status.REFUSED, "refused_by_kafka")
            return
        first, rest = cut(segments, total // 2)
        self._current = [*first, *rest]
        await self._write(first)
        await self._write(rest)

    def _still_wanted(self, segments: list[Segment]) -> list[Segment]:
        """What to try again: neither answered at its deadline nor for an unusable topic."""
        wanted = []
        for segment in segments:
            if segment.done or self._topic.problem:
                unknown = segment.handed_over
                segment.failed(Status.UNKNOWN if unknown else Status.RETRY, "topic_unavailable")
            else:
                wanted.append(segment)
        return wanted
