"""A producer that keeps its records in memory; it passes the real one's contract suite."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ingest.accumulator import BATCH_OVERHEAD_BYTES, RECORD_OVERHEAD_BYTES, Segment
from ingest.partitioner import Partitioner
from ingest.receipt import Receipt, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from ingest.producer import Header


@dataclass(frozen=True)
class Record:
    """A record as a reader finds it."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes
    headers: list[Header]
    timestamp_ms: int


@dataclass
class MemoryTopic:
    """A topic in memory."""

    partitions: int = 4
    max_message_bytes: int = 1_048_588
    compacted: bool = False
    refuses: frozenset[bytes] = frozenset()
    records: list[Record] = field(default_factory=list)


class MemoryProducer:
    """See `ingest.producer.Producer`.

    Attributes:
        reachable: while False nothing is handed over, and what waits is withdrawn at its deadline.
        answering: while False records are handed over, but their acks are held back.
    """

    def __init__(self, topics: dict[str, MemoryTopic]) -> None:
        self.topics = topics
        self.reachable = asyncio.Event()
        self.answering = asyncio.Event()
        self.reachable.set()
        self.answering.set()
        self._partitioner = Partitioner()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False

    async def stop(self, seconds: float) -> None:
        """Wait for what is being written, then take nothing any more."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        self._stopping = True
        for task in self._tasks:
            task.cancel()

    def value_limit(self, topic: str) -> int:
        """See `ingest.producer.Producer.value_limit`."""
        overhead = BATCH_OVERHEAD_BYTES + RECORD_OVERHEAD_BYTES
        return self.topics[topic].max_message_bytes - overhead

    def submit(
        self,
        topic: str,
        values: list[bytes],
        *,
        timestamp_ms: int,
        keys: list[bytes | None] | None = None,
        headers: list[Header] | None = None,
        headers_each: list[list[Header]] | None = None,
        deadline: float | None = None,
        on_settled: Callable[[], None] | None = None,
    ) -> Receipt:
        """See `ingest.producer.Producer.submit`."""
        receipt = Receipt(len(values), on_settled)
        if not values:
            return receipt
        segment = Segment(
            receipt, range(len(values)), values, keys, headers or [], headers_each, timestamp_ms
        )
        if self._stopping:
            segment.failed(Status.RETRY, "shutting_down")
            return receipt
        parts = self._parts(self.topics[topic], segment)
        receipt.parts.extend(parts.values())
        work = [self._write(self.topics[topic], number, part) for number, part in parts.items()]
        task = asyncio.get_running_loop().create_task(self._write_all(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if deadline is not None:
            asyncio.get_running_loop().call_at(deadline, receipt.expire)
        return receipt

    @staticmethod
    async def _write_all(work: Iterable[Coroutine[None, None, None]]) -> None:
        await asyncio.gather(*work)

    def _parts(self, topic: MemoryTopic, segment: Segment) -> dict[int, Segment]:
        sticky = random.randrange(topic.partitions)
        if segment.keys is None:
            return {sticky: segment}
        positions: dict[int, list[int]] = {}
        numbers = self._partitioner.partitions(segment.keys, topic.partitions)
        for position, number in enumerate(numbers):
            positions.setdefault(sticky if number is None else number, []).append(position)
        return {number: segment.select(chosen) for number, chosen in positions.items()}

    async def _write(self, topic: MemoryTopic, number: int, segment: Segment) -> None:
        await self.reachable.wait()
        if segment.done:
            return
        good, refused = [], {}
        sizes = segment.record_sizes()
        for position, value in enumerate(segment.values):
            keyless = segment.keys is None or segment.keys[position] is None
            if sizes[position] > topic.max_message_bytes - BATCH_OVERHEAD_BYTES:
                refused.setdefault("event_too_large", []).append(position)
            elif (topic.compacted and keyless) or value in topic.refuses:
                refused.setdefault("refused_by_kafka", []).append(position)
            else:
                good.append(position)
        accepted = segment.select(good)
        parts = {code: segment.select(chosen) for code, chosen in refused.items()}
        segment.receipt.replace(segment, *([accepted] if good else []), *parts.values())
        for code, part in parts.items():
            part.failed(Status.REFUSED, code)
        if good:
            await self._keep(topic, number, accepted)

    async def _keep(self, topic: MemoryTopic, number: int, segment: Segment) -> None:
        segment.in_flight = True
        first = sum(1 for record in topic.records if record.partition == number)
        keys = segment.keys or [None] * len(segment)
        each = segment.headers_each or [segment.headers] * len(segment)
        rows = zip(keys, segment.values, each, strict=True)
        for offset, (key, value, headers) in enumerate(rows, first):
            topic.records.append(Record(number, offset, key, value, headers, segment.timestamp_ms))
        await self.answering.wait()
        segment.in_flight = False
        segment.acked(number, first)
