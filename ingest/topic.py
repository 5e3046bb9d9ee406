"""One topic as the producer sees it: its limits, its partitions, and which one a record goes to."""

from __future__ import annotations

import dataclasses
import random
from time import monotonic
from typing import TYPE_CHECKING

from structlog import get_logger

from ingest.accumulator import BATCH_OVERHEAD_BYTES, PartitionQueue, Segment, first_since
from ingest.kafka_topics import TopicLimits
from ingest.partition_writer import BATCH_BYTES, Link, PartitionWriter
from ingest.receipt import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ingest.overflow import Overflow
    from ingest.partitioner import Partitioner

log = get_logger(__name__)

PROBLEM_SECONDS = 5.0
"""How long a topic that Kafka refused rests before it is tried again."""
FORGIVE_SECONDS = 1.0
"""How long a failed attempt counts when nobody tries again: somebody must, to see whether it works.
"""


class Topic:
    """Takes segments for a topic, and hands them to the writers of its partitions.

    Args:
        name: of the topic.
        link: the producer that it belongs to.
        partitioner: chooses partitions by keys.
        overflow: takes what Kafka does not take in time; None: nothing does.

    Attributes:
        problem: why the topic cannot be used, or empty. Only its own sources suffer.
        troubled: whether what is new goes to the overflow; see `is_troubled`. What is older and
            has no deadline goes there in the same moment, so that it is before what is new.
    """

    def __init__(
        self, name: str, link: Link, partitioner: Partitioner, overflow: Overflow | None = None
    ) -> None:
        self.name = name
        self.problem = ""
        self.troubled = False
        self._overflow = overflow
        self._failed_at: float | None = None  # the last attempt, if that failed
        self._given_up = False  # it had a problem, and nobody knows yet that it has none
        self.limits = TopicLimits()
        self.writers: list[PartitionWriter] = []
        self._link = link
        self._partitioner = partitioner
        self._parked = PartitionQueue()  # what waits for the number of partitions to be known
        self._sticky = 0
        self._rest_until = 0.0

    @property
    def batch_bytes(self) -> int:
        """How large a Kafka batch may be before compression."""
        return min(BATCH_BYTES, self.limits.max_message_bytes)

    @property
    def pending(self) -> bool:
        """Whether anything waits or is being written."""
        return any(not segment.done for segment in self.open_segments())

    def open_segments(self) -> Iterator[Segment]:
        """What waits or is being written."""
        yield from self._parked
        for writer in self.writers:
            yield from writer.open_segments()

    def _queues(self) -> list[PartitionQueue]:
        return [self._parked, *(writer.queue for writer in self.writers)]

    def append(self, segment: Segment) -> None:
        """Take ``segment``: refuse what the topic cannot take, queue the rest."""
        if self.writers and not self.problem:
            good = self._refuse_hopeless(segment)
            if good is None:
                return
            segment = good
        if not (self.troubled and self.divert(segment)):
            self._queue(segment)

    def _queue(self, segment: Segment) -> None:
        """Have ``segment`` written as soon as that is possible."""
        if self.problem:
            self.refuse([segment])
        elif not self.writers:
            self._parked.append(segment)
        else:
            self._distribute(segment)

    def refuse(self, segments: Sequence[Segment], *, older: bool = False) -> None:
        """The topic cannot be used: what has no deadline waits until it can.

        Args:
            segments: in their order.
            older: they were being written, and so are older than all that waits.
        """
        parked = []
        for segment in segments:
            if segment.waits and self.divert(segment):
                continue
            if segment.patient and segment.waits:
                parked.append(segment)
            else:
                status = Status.UNKNOWN if segment.handed_over else Status.RETRY
                segment.failed(status, "topic_unavailable")
        if older:
            self._parked.put_back(parked)
        else:
            for segment in parked:
                self._parked.append(segment)

    # What becomes of records while Kafka does not take them.

    def divert(self, segment: Segment) -> bool:
        """Have the overflow keep ``segment``, if it can; whether it does."""
        return not segment.replayed and self._keep(segment, self._take_back)

    def spill(self, segment: Segment) -> bool:
        """Have the overflow keep ``segment``, or nobody; whether it may do so."""
        return self._keep(segment, _give_back)

    def _keep(self, segment: Segment, failed: Callable[[Segment], None]) -> bool:
        overflow = self._overflow
        if overflow is None or not self._has_room(overflow):
            return False
        overflow.keep(segment, failed)
        return True

    @property
    def diverts(self) -> bool:
        """Whether something that was submitted now would go to the overflow."""
        overflow = self._overflow
        return overflow is not None and self._has_room(overflow) and self.is_troubled(monotonic())

    def _has_room(self, overflow: Overflow) -> bool:
        own_trouble = self.problem or self._given_up
        return overflow.has_spare if own_trouble else overflow.has_room

    def relieve(self, *, patient_only: bool = False) -> None:
        """Have the overflow keep what waits, or what of it has no deadline."""
        if self._overflow is None or not self._has_room(self._overflow):
            return
        for segment in list(self.open_segments()):
            if not segment.waits or segment.replayed or (patient_only and not segment.patient):
                continue
            if not self.divert(segment):
                break
        for queue in self._queues():
            queue.forget_withdrawn()

    def attempted(self, *, failed: bool) -> None:
        """An attempt to write has ended."""
        if failed:
            self._failed_at = monotonic()
            self.watch(self._failed_at)
        elif self.troubled or self._given_up:
            self._failed_at = None
            self._given_up = False
            self.watch(monotonic())

    def watch(self, now: float) -> None:
        """Have the overflow take what has no deadline, and what is new, as long as it must."""
        self.troubled = self.is_troubled(now)
        if self.troubled:
            self.relieve(patient_only=True)

    def is_troubled(self, now: float) -> bool:
        """Whether Kafka does not take records as it should: see `Overflow.after_seconds`."""
        if self._overflow is None:
            return False
        before = now - self._overflow.after_seconds
        return (
            bool(self.problem)
            or self._link.connected is False
            or self._failed_lately(now)
            or any(since < before for since in self._waiting_since())
        )

    def _failed_lately(self, now: float) -> bool:
        """Whether the last attempt failed, and is followed by another or was just now."""
        if self._failed_at is None:
            return False
        if now - self._failed_at > FORGIVE_SECONDS and not self.pending:
            self._failed_at = None
        return self._failed_at is not None

    def _waiting_since(self) -> Iterator[float]:
        """Since when the oldest waits, in each queue; an attempt counts also once it is copied."""
        self._parked.discard_done()
        yield from first_since(self._parked)
        for writer in self.writers:
            if writer.attempt_since is not None:
                yield writer.attempt_since
            yield from writer.waiting_since()

    def _take_back(self, segment: Segment) -> None:
        """There is no copy of ``segment``: it waits for Kafka again."""
        if segment.in_flight:
            segment.copy = None
        else:
            self._queue(segment.afresh())

    def _distribute(self, segment: Segment) -> None:
        if segment.keys is None:
            self.writers[self._keyless()].append(segment)
            return
        numbers = self._numbers(segment.keys)
        positions: dict[int, list[int]] = {number: [] for number in set(numbers)}
        if len(positions) == 1:
            self.writers[numbers[0]].append(segment)
            return
        for position, number in enumerate(numbers):
            positions[number].append(position)
        parts = {number: segment.select(chosen) for number, chosen in positions.items()}
        segment.receipt.replace(segment, *parts.values())
        for number, part in parts.items():
            self.writers[number].append(part)

    def _numbers(self, keys: Sequence[bytes | None]) -> Sequence[int]:
        """The partition of each key; records without one stay together."""
        return self._partitioner.partitions(keys, len(self.writers), self._keyless())

    def _keyless(self) -> int:
        """The partition that keyless records stick to until its next Kafka batch begins."""
        if self.writers[self._sticky].failing:
            self.begun(self._sticky)
        return self._sticky

    def begun(self, number: int) -> None:
        """Partition ``number`` begins a batch: keyless records go on with another one."""
        if number != self._sticky:
            return
        count = len(self.writers)
        following = [self.writers[(number + step) % count] for step in range(1, count + 1)]
        healthy = [writer for writer in following if not writer.failing] or following
        self._sticky = min(healthy, key=lambda writer: writer.queue.size).number

    def preview(self, segment: Segment) -> list[str]:
        """The code that `append` would give to each record now; empty where it is queued."""
        if self.problem:
            return ["topic_unavailable"] * len(segment)
        codes = [""] * len(segment)
        for code, positions in self._hopeless(segment).items():
            for position in positions:
                codes[position] = code
        return codes

    def _refuse_hopeless(self, segment: Segment) -> Segment | None:
        """Refuse the records that this topic can never take; the others, None if none is left."""
        hopeless = self._hopeless(segment)
        if not hopeless:
            return segment
        self._link.in_doubt()
        bad = {code: segment.select(positions) for code, positions in hopeless.items()}
        refused = set().union(*hopeless.values())
        good = segment.select([i for i in range(len(segment)) if i not in refused])
        segment.receipt.replace(segment, *bad.values(), *([good] if len(good) else []))
        for code, part in bad.items():
            part.failed(Status.REFUSED, code)
        return good if len(good) else None

    def screen(self, segments: Sequence[Segment]) -> list[Segment]:
        """Refuse what the limits of now rule out; the others."""
        left = []
        for segment in segments:
            if segment.done:  # whoever waits for its bytes is told that they are held no more
                segment.failed(Status.UNKNOWN, "")
            elif (good := self._refuse_hopeless(segment)) is not None:
                left.append(good)
        return left

    def learn(self, refused: Segment) -> None:
        """Kafka finds this one record invalid: assume why, where its settings cannot be read.

        Else a batch full of records without key would be refused one by one.
        """
        if not self.limits.read and (refused.keys is None or None in refused.keys):
            self.limits = dataclasses.replace(self.limits, compacted=True)

    def _hopeless(self, segment: Segment) -> dict[str, list[int]]:
        """Code -> positions of the records that this topic can never take; usually none."""
        limit = self.limits.max_message_bytes - BATCH_OVERHEAD_BYTES
        keys = segment.keys
        keyless_refused = self.limits.compacted and (keys is None or None in keys)
        if segment.size <= limit and not keyless_refused:
            return {}
        found: dict[str, list[int]] = {}
        for position, size in enumerate(segment.record_sizes()):
            if size > limit:
                found.setdefault("event_too_large", []).append(position)
            elif keyless_refused and (keys is None or keys[position] is None):
                found.setdefault("refused_by_kafka", []).append(position)
        return found

    def give_up(self, problem: str, rest_seconds: float = PROBLEM_SECONDS) -> None:
        """Answer what waits with a deadline: the topic cannot be used, for the reason ``problem``.

        It is not tried again for ``rest_seconds``, though it may look usable.
        """
        if not self.problem:
            log.error("topic_unavailable", topic=self.name, reason=problem)
        self.problem = problem
        self._given_up = True
        self._rest_until = monotonic() + rest_seconds
        self.relieve(patient_only=True)  # what is being written is older than what is queued
        self.refuse([each for queue in self._queues() for each in queue.take_all()])

    async def usable(self, limits: TopicLimits, count: int) -> None:
        """The topic is there, within ``limits`` and with ``count`` partitions."""
        if self.problem and monotonic() < self._rest_until:
            return
        if self.problem:
            log.info("topic_available", topic=self.name)
            self._failed_at = None
            self.troubled = False  # as far as is known: what waits for it is tried
        self.problem = ""
        self.limits = limits
        if count != len(self.writers) or self._parked:
            await self._resize(count)

    async def _resize(self, count: int) -> None:
        """Have one writer for each of ``count`` partitions, and distribute what was parked."""
        waiting = self._parked.take_all()
        for writer in self.writers[count:]:  # the topic was deleted and made anew
            waiting += await writer.stop()
        for writer in self.writers[count:]:  # some may have come while another one was stopped
            waiting += writer.queue.take_all()
        del self.writers[count:]
        for number in range(len(self.writers), count):
            self.writers.append(PartitionWriter(self._link, self, number))
        if not self._sticky < count:
            self._sticky = random.randrange(count)  # noqa: S311 - spreads workers, no secret
        for segment in waiting:
            self.append(segment)

    async def stop(self) -> None:
        """Stop writing; what is left gets the status of its deadline."""
        left = self._parked.take_all()
        for writer in self.writers:
            left += await writer.stop()
        for segment in left:
            segment.expire()


def _give_back(segment: Segment) -> None:
    """There is no copy of ``segment``, and no memory for it either."""
    segment.copy = None
    segment.failed(Status.UNKNOWN if segment.handed_over else Status.RETRY, "no_room")
