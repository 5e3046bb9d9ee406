"""What became of a submitted batch of records: the awaitable ``Receipt`` and its ``Run`` values.

A receipt knows two moments. It is *answered* when every record has a status, by Kafka's word or by
the deadline's. It is *settled* when moreover none of its bytes are held any more: a batch that was
handed to the Kafka client cannot be withdrawn, so it occupies memory beyond the deadline.
"""

from __future__ import annotations

import enum
from asyncio import get_running_loop
from collections.abc import Sequence  # noqa: TC003 - msgspec reads the types of its fields
from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Callable, Generator


class Status(enum.Enum):
    """The fate of one record."""

    ACKED = "acked"
    """In Kafka, written with ``acks=all``."""
    SPOOLED = "spooled"
    """In the durable spool of this machine, on its way to Kafka."""
    REFUSED = "refused"
    """Can never be written; the same bytes will always fail."""
    RETRY = "retry"
    """Certainly not in Kafka."""
    UNKNOWN = "unknown"
    """Handed to Kafka, no answer by the deadline: it may or may not be there."""


class Run(msgspec.Struct, frozen=True):
    """Records of one batch that share one fate.

    Attributes:
        status: their fate.
        indices: their positions in the submitted batch.
        partition: where they are, -1 unless acked.
        offset: the offset of the first; the others follow without gaps. -1 unless acked.
        code: for what is not acked, a stable word that says why.
        values: for what is not acked, the record values, so that the caller need not keep them.
    """

    status: Status
    indices: Sequence[int]
    partition: int = -1
    offset: int = -1
    code: str = ""
    values: Sequence[bytes] = ()


class Part(Protocol):
    """A piece of a batch that the producer tracks on its own: the records for one partition."""

    def expire(self) -> None:
        """Give every record without a status the one of the deadline."""


class Receipt:
    """The outcome of one submitted batch; ``await`` it until it is answered.

    Args:
        count: how many records the batch has.
        on_settled: called once, when none of the batch's bytes are held any more.
    """

    __slots__ = ("_held", "_on_settled", "_open", "_waiter", "count", "parts", "runs")

    def __init__(self, count: int, on_settled: Callable[[], None] | None = None) -> None:
        self.count = count
        self.runs: list[Run] = []
        self.parts: list[Part] = []
        self._open = count  # records without a status
        self._held = count  # records whose bytes somebody still holds
        self._on_settled = on_settled
        self._waiter: Future[None] | None = None
        if count == 0:
            self._settle()

    @property
    def answered(self) -> bool:
        """Whether every record has a status."""
        return self._open == 0

    @property
    def settled(self) -> bool:
        """Whether every record has a status and none of the bytes are held any more."""
        return self._held == 0

    @property
    def acked(self) -> bool:
        """Whether every record is in Kafka; meaningful once answered."""
        return all(run.status is Status.ACKED for run in self.runs)

    def resolve(self, run: Run, *, held: bool = False) -> None:
        """Give the records of ``run`` their status; ``held`` keeps their bytes accounted for."""
        self.runs.append(run)
        self._open -= len(run.indices)
        if not held:
            self.let_go(len(run.indices))
        if self._open == 0:
            self.parts.clear()
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_result(None)

    def replace(self, part: Part, *parts: Part) -> None:
        """Track ``parts`` instead of ``part``, which was split into them."""
        if part in self.parts:  # else the batch is answered already
            self.parts.remove(part)
            self.parts.extend(parts)

    def expire(self) -> None:
        """The deadline has come: every record gets a status now."""
        for part in tuple(self.parts):
            part.expire()

    def let_go(self, count: int) -> None:
        """Say that the bytes of ``count`` records are held no longer."""
        self._held -= count
        if self._held == 0:
            self._settle()

    def _settle(self) -> None:
        done, self._on_settled = self._on_settled, None
        if done is not None:
            done()

    def __await__(self) -> Generator[Future[None], None, Receipt]:
        """Wait until the receipt is answered; the producer's deadline bounds the wait."""
        if self._open:
            if self._waiter is None or self._waiter.cancelled():
                self._waiter = get_running_loop().create_future()
            yield from self._waiter
        return self
