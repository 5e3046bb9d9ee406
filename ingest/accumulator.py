"""Records that wait for their Kafka batch: one first-in-first-out queue per partition.

Clock-free and without I/O. The unit is a ``Segment``: the records of one submitted batch that go to
one partition. A Kafka batch mixes the segments of many submissions; a segment that does not fit is
split. A segment withdrawn at its deadline stays in the queue as an empty shell and is skipped.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from itertools import accumulate
from operator import add, itemgetter
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ingest.receipt import Receipt, Run, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ingest.producer import Header

Item = TypeVar("Item")

RECORD_OVERHEAD_BYTES = 24
"""Varints and attributes of one record in a batch, at most (KIP-98, record format v2)."""
BATCH_OVERHEAD_BYTES = 61
"""The header of a record batch (KIP-98, record format v2)."""
REPLAY_TAKES = 4
"""One batch in so many begins with what is replayed, where there is more than fits."""


def header_bytes(headers: Sequence[tuple[str, bytes | None]]) -> int:
    """The bytes that ``headers`` add to a record, at most."""
    total = 0
    for name, value in headers:
        total += (len(name) if name.isascii() else 4 * len(name)) + len(value or b"") + 10
    return total


class Copy(Protocol):
    """The copy of a segment that is in the spool, or on its way there."""

    def landed(self, count: int) -> None:
        """So many of its records have their fate without it: it need not be replayed for them."""

    def over(self) -> None:
        """The attempt that was under way when the copy was made has ended, without an ack."""


class Segment:
    """Records of one submission for one partition.

    Attributes:
        done: it has its status.
        handed_over: a Kafka request with these records may have left this process, so that nobody
            can say any more that they are certainly not in Kafka.
        patient: it has no deadline: waits for as long as it takes.
        replayed: it comes from the spool, and need not go there again.
        held: it was answered at its deadline while the Kafka client still had it.
        since: when it was submitted, monotonic seconds.
        timestamps: of each record, instead of ``timestamp_ms``.
        topic: whoever queues it; for those who make it.
        copy: of it in the spool; None while there is none.
    """

    __slots__ = (
        "copy",
        "done",
        "handed_over",
        "header_sizes",
        "headers",
        "headers_each",
        "held",
        "in_flight",
        "indices",
        "keys",
        "overhead",
        "patient",
        "receipt",
        "replayed",
        "since",
        "size",
        "timestamp_ms",
        "timestamps",
        "topic",
        "values",
    )

    def __init__(  # noqa: PLR0913 - the columns of its records
        self,
        receipt: Receipt,
        indices: Sequence[int],
        values: list[bytes],
        keys: list[bytes | None] | None,
        headers: list[Header],
        headers_each: list[list[Header]] | None,
        timestamp_ms: int,
        *,
        timestamps: list[int] | None = None,
        header_sizes: list[int] | None = None,
    ) -> None:
        self.receipt = receipt
        self.indices = indices
        self.values = values
        self.keys = keys
        self.headers = headers
        self.headers_each = headers_each
        self.timestamp_ms = timestamp_ms
        self.timestamps = timestamps
        self.done = False
        self.patient = False
        self.replayed = False
        self.held = False
        self.since = 0.0
        self.topic: Any = None
        self.copy: Copy | None = None
        self.in_flight = False
        self.handed_over = False
        self.overhead = RECORD_OVERHEAD_BYTES + header_bytes(headers)
        self.size = sum(map(len, filter(None, values))) + len(values) * self.overhead
        if keys is not None:
            self.size += sum(map(len, filter(None, keys)))
        if headers_each is not None and header_sizes is None:
            header_sizes = list(map(header_bytes, headers_each))
        self.header_sizes = header_sizes
        if header_sizes is not None:
            self.size += sum(header_sizes)

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def waits(self) -> bool:
        """Whether it is still to be written: it has no status, and nobody copies it."""
        return not self.done and self.copy is None

    def fitting(self, room: int) -> int:
        """How many records, from the first one on, take ``room`` bytes together at most."""
        if self.headers_each is not None:
            return bisect_right(list(accumulate(self.record_sizes())), room)
        lengths: Iterable[int] = [len(value) if value else 0 for value in self.values]
        if self.keys is not None:
            lengths = map(add, lengths, [len(key) if key else 0 for key in self.keys])
        totals, overhead = list(accumulate(lengths)), self.overhead
        return bisect_right(
            range(len(totals)), room, key=lambda at: totals[at] + overhead * (at + 1)
        )

    def record_sizes(self) -> list[int]:
        """The bytes each record takes in an uncompressed batch, at most."""
        sizes = [len(value or b"") + self.overhead for value in self.values]
        if self.keys is not None:
            sizes = [size + len(key or b"") for size, key in zip(sizes, self.keys, strict=True)]
        if self.header_sizes is not None:
            sizes = list(map(add, sizes, self.header_sizes))
        return sizes

    def split_at(self, count: int) -> tuple[Segment, Segment]:
        """Two segments that replace this one: the first ``count`` records, and the rest."""
        return self._part(slice(count)), self._part(slice(count, None))

    def select(self, positions: Sequence[int]) -> Segment:
        """A segment of the records at ``positions`` (of this segment, not of the submission)."""
        return self._with(lambda column: _chosen(column, positions))

    def _part(self, part: slice) -> Segment:
        return self._with(lambda column: column[part])

    def _with(self, of: Callable[[Any], Any]) -> Segment:
        """A segment of what ``of`` takes from each column."""
        keys, each, times = self.keys, self.headers_each, self.timestamps
        sizes = self.header_sizes
        made = Segment(
            self.receipt,
            of(self.indices),
            of(self.values),
            None if keys is None else of(keys),
            self.headers,
            None if each is None else of(each),
            self.timestamp_ms,
            timestamps=None if times is None else of(times),
            header_sizes=None if sizes is None else of(sizes),
        )
        made.done, made.held, made.handed_over = self.done, self.held, self.handed_over
        made.patient, made.replayed, made.since = self.patient, self.replayed, self.since
        made.topic, made.copy = self.topic, self.copy
        return made

    def acked(self, partition: int, offset: int) -> int:
        """Kafka has the records, from ``offset`` on. Returns how many acks came too late."""
        if self.copy is not None:
            self.copy.landed(len(self.indices))
        if self.done:
            self._let_go()
            return len(self.indices)
        self.done = True
        self.receipt.resolve(Run(Status.ACKED, self.indices, partition, offset))
        self.values = []
        return 0

    def failed(self, status: Status, code: str) -> None:
        """The records will not be tried again, for the reason ``code``."""
        if self.done:
            if self.copy is not None:
                self.copy.over()
            self._let_go()
            return
        if self.copy is not None:
            if status is not Status.REFUSED:
                return  # it will be in the spool, or else have a word at its deadline
            self.copy.landed(len(self.indices))
        self.done = True
        self.receipt.resolve(Run(status, self.indices, code=code, values=self.values))
        self.values = []

    def spooled(self) -> None:
        """The copy is durable. What the Kafka client still has of it is not accounted for."""
        if self.done:
            return
        self.done = True
        self.receipt.resolve(Run(Status.SPOOLED, self.indices, values=self.values))
        self.values = []

    def afresh(self) -> Segment:
        """A segment that replaces this one, wherever it waits; its copy did not come about."""
        made = self._part(slice(None))
        made.copy = None
        self.receipt.replace(self, made)
        self.done, self.values = True, []
        return made

    def expire(self) -> None:
        """The deadline has come: withdraw what never left; of the rest nobody knows."""
        if self.done:
            return
        self.done, self.held = True, self.in_flight
        if self.handed_over or self.in_flight or self.copy is not None:
            run = Run(Status.UNKNOWN, self.indices, code="ack_timeout", values=self.values)
        else:
            run = Run(Status.RETRY, self.indices, code="kafka_unavailable", values=self.values)
        self.receipt.resolve(run, held=self.held)
        if not self.held:
            self.values = []

    def _let_go(self) -> None:
        if self.held:
            self.held = False
            self.values = []
            self.receipt.let_go(len(self.indices))


def _chosen(column: Sequence[Item], positions: Sequence[int]) -> list[Item]:
    """What a column has at ``positions``."""
    if len(positions) < 2:  # one alone is not given as a tuple
        return [column[at] for at in positions]
    return list(itemgetter(*positions)(column))


def first_since(segments: Iterable[Segment]) -> Iterator[float]:
    """When the first that is still to be written was submitted, if there is one.

    What is replayed does not count: it waits for what comes in, and may do so for long.
    """
    for segment in segments:
        if segment.waits and not segment.replayed:
            yield segment.since
            return


def cut(segments: Sequence[Segment], count: int) -> tuple[list[Segment], list[Segment]]:
    """The first ``count`` records of ``segments``, and the others."""
    first: list[Segment] = []
    for position, segment in enumerate(segments):
        if count >= len(segment):
            first.append(segment)
            count -= len(segment)
            continue
        rest = list(segments[position + 1 :])
        if count == 0:
            return first, [segment, *rest]
        head, tail = segment.split_at(count)
        segment.receipt.replace(segment, head, tail)
        return [*first, head], [tail, *rest]
    return first, []


class PartitionQueue:
    """Segments that wait for one partition, oldest first.

    What is replayed waits behind what comes in, but not for ever: now and then it is first.
    """

    __slots__ = ("_takes", "replayed", "segments", "size")

    def __init__(self) -> None:
        self.segments: deque[Segment] = deque()
        self.replayed: deque[Segment] = deque()
        self.size = 0
        self._takes = 0

    def __bool__(self) -> bool:
        return bool(self.segments or self.replayed)

    def __iter__(self) -> Iterator[Segment]:
        yield from self.segments
        yield from self.replayed

    def append(self, segment: Segment) -> None:
        """Queue ``segment`` behind what waits."""
        (self.replayed if segment.replayed else self.segments).append(segment)
        self.size += segment.size

    def put_back(self, segments: Sequence[Segment]) -> None:
        """Put ``segments`` in front again, in their order."""
        for segment in reversed(segments):
            (self.replayed if segment.replayed else self.segments).appendleft(segment)
            self.size += segment.size

    def discard_done(self) -> None:
        """Forget withdrawn segments at the front, so that shells do not pile up in an outage."""
        for segments in (self.segments, self.replayed):
            while segments and not segments[0].waits:
                self.size -= segments.popleft().size

    def forget_withdrawn(self) -> None:
        """Forget withdrawn segments, wherever they are."""
        for segment in self.take_all():
            self.append(segment)

    def take_all(self) -> list[Segment]:
        """Everything that waits and is still wanted."""
        left = [segment for segment in self if segment.waits]
        self.segments.clear()
        self.replayed.clear()
        self.size = 0
        return left

    def take(self, limit_bytes: int) -> list[Segment]:
        """The oldest segments that fit a batch of ``limit_bytes``; at least one record if any."""
        taken: list[Segment] = []
        room = limit_bytes - BATCH_OVERHEAD_BYTES
        if not self.replayed:
            self._take(self.segments, room, taken)
            return taken
        self._takes += 1
        if self._takes % REPLAY_TAKES:
            room = self._take(self.segments, room, taken)
            self._take(self.replayed, room, taken)
        else:
            room = self._take(self.replayed, room, taken)
            self._take(self.segments, room, taken)
        return taken

    def _take(self, segments: deque[Segment], room: int, taken: list[Segment]) -> int:
        """Take what fits ``room``; how much is left of that, 0 when something did not fit."""
        while segments and (room > 0 or not taken):
            segment = segments.popleft()
            self.size -= segment.size
            if not segment.waits:
                continue
            if segment.size > room:
                self._take_part(segment, room, taken)
                return 0
            room -= segment.size
            taken.append(segment)
        return room

    def _take_part(self, segment: Segment, room: int, taken: list[Segment]) -> None:
        """Take the records of ``segment`` that fit ``room``, put the others back."""
        fitting = segment.fitting(room)
        if fitting == 0 and not taken:
            fitting = 1  # a record on its own is tried whatever its size: Kafka has the last word
        if fitting == len(segment):
            taken.append(segment)
        elif fitting == 0:
            self.put_back([segment])
        else:
            first, rest = segment.split_at(fitting)
            segment.receipt.replace(segment, first, rest)
            taken.append(first)
            self.put_back([rest])
