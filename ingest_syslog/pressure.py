"""Backpressure: who must stop reading, because too much of what was read is not yet in Kafka.

Everybody stops at the high watermark of the budget and goes on at the low one. Before that, a
source whose topic is stuck stops those who send to it, and nobody else: it may hold as much as it
leaves free (see `ingest.inflight`).

And nobody who can wait is read ahead further than keeps Kafka busy: more would only lie in memory,
where a crash loses it and the processor's caches do not reach it, which costs a tenth of the CPU
time of a message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ingest.inflight import Budget

if TYPE_CHECKING:
    from ingest.inflight import Holder

LOW_SHARE = 0.7
"""Who stopped for one source goes on when it holds no more than this share of its allowance."""
AHEAD_BYTES = 16 << 20
"""Booked for one source at that, half of it record values, who can wait stops: several batches for
each partition of a topic."""


class Reader(Protocol):
    """What reads from the network.

    Attributes:
        can_wait: whether its senders keep what is not read.
    """

    can_wait: bool

    def hold(self) -> None:
        """Read no more, until released as often as held."""

    def release(self) -> None:
        """Take one `hold` back."""


class Pressure:
    """The budget of a worker, and who waits for it.

    Args:
        limit_bytes: of the budget.

    Attributes:
        budget: bytes accepted but not yet acked.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.budget = Budget(limit_bytes, on_pause=self._pause, on_resume=self._resume)
        self._readers: set[Reader] = set()
        self._waiting: dict[Holder, set[Reader]] = {}

    def enter(self, reader: Reader) -> None:
        """A reader begins."""
        self._readers.add(reader)
        if self.budget.paused:
            reader.hold()

    def leave(self, reader: Reader) -> None:
        """A reader has ended: it is not called any more."""
        self._readers.discard(reader)
        for waiting in self._waiting.values():
            waiting.discard(reader)

    def brought(self, reader: Reader, holder: Holder) -> None:
        """``reader`` has just brought something for ``holder``: may it go on?"""
        is_ahead = reader.can_wait and holder.held_bytes > AHEAD_BYTES
        if not (is_ahead or self.budget.exceeds_share(holder)) or reader not in self._readers:
            return
        waiting = self._waiting.setdefault(holder, set())
        if reader not in waiting:
            waiting.add(reader)
            reader.hold()

    def settled(self, holder: Holder) -> None:
        """``holder`` has less than before."""
        waiting = self._waiting.get(holder)
        if waiting is None:
            return
        free = max(0, self.budget.limit_bytes - self.budget.used_bytes)
        if holder.held_bytes <= LOW_SHARE * min(free, AHEAD_BYTES):  # nothing holds nobody up
            del self._waiting[holder]
            for reader in waiting:
                reader.release()

    def _pause(self) -> None:
        for reader in tuple(self._readers):
            reader.hold()

    def _resume(self) -> None:
        for reader in tuple(self._readers):
            reader.release()
