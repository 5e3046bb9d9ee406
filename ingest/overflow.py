"""The seam between the producer and what takes records while Kafka does not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from ingest.accumulator import Segment


class Overflow(Protocol):
    """Durable local room for records; see `ingest.spool.Spool`.

    Attributes:
        after_seconds: a topic whose oldest unacked event is this old uses it.
        lead_seconds: so long before its deadline a batch that is not acked goes there.
    """

    after_seconds: float
    lead_seconds: float

    @property
    def has_room(self) -> bool:
        """Whether it takes more, as far as known."""

    @property
    def has_spare(self) -> bool:
        """Whether it takes more for a topic with trouble of its own, which may last for days.

        Half of it is kept for trouble that all topics share.
        """

    @property
    def is_swamped(self) -> bool:
        """Whether so much waits to be written to it that more should not be held for its sake."""

    def keep(self, segment: Segment, failed: Callable[[Segment], None]) -> None:
        """Copy ``segment``, and tell it when the copy is durable.

        Args:
            segment: records that wait for Kafka or are on their way to it; knows its topic.
            failed: is called where the copy did not come about, for what is left of the segment.
        """

    async def settle(self, seconds: float) -> None:
        """Wait until all that was to be kept is durable or has failed, for so long at most."""
