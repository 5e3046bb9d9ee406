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
    from collections.abc import Callable, Collection, Coroutine, Iterable

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
    """A topic in memory.

    Attributes:
        refuses: values that Kafka refuses, which nobody knows before.
        problem: why it cannot be used.
        known_bytes: what is known of ``max_message_bytes``; None: the truth.
    """

    partitions: int = 4
    max_message_bytes: int = 1_048_588
    compacted: bool = False
    refuses: frozenset[bytes] = frozenset()
    problem: str = ""
    known_bytes: int | None = None
    records: list[Record] = field(default_factory=list)


class MemoryProducer:
    """See `ingest.producer.Producer`.

    Attributes:
        followed: the topics that were named last.
        reachable: while False nothing is handed over, and what waits is withdrawn at its deadline.
        answering: while False records are handed over, but their acks are held back.
        spool: the (topic, value) of each record in the spool; None: there is none.
        spooling: the topics whose records go to the spool, if there is one; True: all.
        room: whether the spool takes more.
        synced: while False nothing in the spool is durable yet.
    """

    def __init__(self, topics: dict[str, MemoryTopic]) -> None:
        self.topics = topics
        self.followed = set(topics)
        self.spool: list[tuple[str, bytes]] | None = None
        self.spooling: bool | Collection[str] = False
        self.room = True
        self.synced = asyncio.Event()
        self.synced.set()
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

    @property
    def problems(self) -> dict[str, str]:
        """Unusable topic that is followed -> reason."""
        topics = ((name, self._topic(name).problem) for name in sorted(self.followed))
        return {name: problem for name, problem in topics if problem}

    def follow(self, names: Iterable[str]) -> None:
        """See `ingest.producer.Producer.follow`."""
        self.followed = set(names)

    def value_limit(self, topic: str) -> int:
        """See `ingest.producer.Producer.value_limit`."""
        overhead = BATCH_OVERHEAD_BYTES + RECORD_OVERHEAD_BYTES
        where = self._topic(topic)
        return (where.known_bytes or where.max_message_bytes) - overhead

    def refuses(self, topic: str) -> bool:
        """See `ingest.producer.Producer.refuses`."""
        return self.spool is not None and not self.room and self._is_away(topic)

    def preview(
        self,
        topic: str,
        values: list[bytes],
        *,
        keys: list[bytes | None] | None = None,
        headers: list[Header] | None = None,
    ) -> list[str]:
        """See `ingest.producer.Producer.preview`."""
        count = len(values)
        segment = Segment(Receipt(count), range(count), values, keys, headers or [], None, 0)
        where = self._topic(topic)
        if where.problem:
            return ["topic_unavailable"] * count
        otherwise = "" if self.reachable.is_set() else "kafka_unavailable"
        if self._has_room() and self._is_away(topic):
            otherwise = "spooled"
        return [code or otherwise for code in _codes(where, segment)]

    def _topic(self, name: str) -> MemoryTopic:
        return self.topics.setdefault(name, MemoryTopic())

    def submit(
        self,
        topic: str,
        values: list[bytes],
        *,
        timestamp_ms: int,
        keys: list[bytes | None] | None = None,
        headers: list[Header] | None = None,
        headers_each: list[list[Header]] | None = None,
        header_sizes: list[int] | None = None,
        timestamps: list[int] | None = None,
        deadline: float | None = None,
        on_settled: Callable[[], None] | None = None,
        overflow: bool = False,
    ) -> Receipt:
        """See `ingest.producer.Producer.submit`."""
        receipt = Receipt(len(values), on_settled)
        if not values:
            return receipt
        indices, headers = range(len(values)), headers or []
        segment = Segment(
            receipt,
            indices,
            values,
            keys,
            headers,
            headers_each,
            timestamp_ms,
            timestamps=timestamps,
            header_sizes=header_sizes,
        )
        if self._stopping:
            segment.failed(Status.RETRY, "shutting_down")
            return receipt
        where = self._topic(topic)
        if where.problem:
            segment.failed(Status.RETRY, "topic_unavailable")
            return receipt
        if overflow and not self._has_room():
            segment.failed(Status.RETRY, "no_room")
            return receipt
        if overflow or (self._has_room() and self._is_away(topic)):
            receipt.parts.append(segment)
            work = [self._keep_in_spool(topic, segment)]
        else:
            parts = self._parts(where, segment)
            receipt.parts.extend(parts.values())
            work = [self._write(where, number, part) for number, part in parts.items()]
        task = asyncio.get_running_loop().create_task(self._write_all(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if deadline is not None:
            asyncio.get_running_loop().call_at(deadline, receipt.expire)
        return receipt

    def _has_room(self) -> bool:
        return self.spool is not None and self.room

    def _is_away(self, topic: str) -> bool:
        return self.spooling if isinstance(self.spooling, bool) else topic in self.spooling

    async def _keep_in_spool(self, topic: str, segment: Segment) -> None:
        await self.synced.wait()
        if self.spool is not None and not segment.done:
            self.spool += ((topic, value) for value in segment.values)
            segment.spooled()

    @staticmethod
    async def _write_all(work: Iterable[Coroutine[None, None, None]]) -> None:
        await asyncio.gather(*work)

    def _parts(self, topic: MemoryTopic, segment: Segment) -> dict[int, Segment]:
        sticky = random.randrange(topic.partitions)
        if segment.keys is None:
            return {sticky: segment}
        positions: dict[int, list[int]] = {}
        numbers = self._partitioner.partitions(segment.keys, topic.partitions, sticky)
        for position, number in enumerate(numbers):
            positions.setdefault(number, []).append(position)
        return {number: segment.select(chosen) for number, chosen in positions.items()}

    async def _write(self, topic: MemoryTopic, number: int, segment: Segment) -> None:
        await self.reachable.wait()
        if segment.done:
            return
        good, refused = [], {}
        for position, code in enumerate(_codes(topic, segment)):
            if code or segment.values[position] in topic.refuses:
                refused.setdefault(code or "refused_by_kafka", []).append(position)
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
        own = segment.headers_each or [[]] * len(segment)
        each = [segment.headers + headers for headers in own]
        times = segment.timestamps or [segment.timestamp_ms] * len(segment)
        rows = zip(keys, segment.values, each, times, strict=True)
        for offset, (key, value, headers, time_ms) in enumerate(rows, first):
            topic.records.append(Record(number, offset, key, value, headers, time_ms))
        await self.answering.wait()
        segment.in_flight = False
        segment.acked(number, first)


def _codes(topic: MemoryTopic, segment: Segment) -> list[str]:
    """Why ``topic`` can never take each record; empty where it can."""
    limit = topic.max_message_bytes - BATCH_OVERHEAD_BYTES
    keys = segment.keys or [None] * len(segment)
    return [
        "event_too_large"
        if size > limit
        else "refused_by_kafka"
        if topic.compacted and key is None
        else ""
        for size, key in zip(segment.record_sizes(), keys, strict=True)
    ]
