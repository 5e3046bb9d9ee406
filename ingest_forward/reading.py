"""What is known of one partition that is read: how far it is, what holds it up."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ingest_forward.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Container

    from ingest.inflight import Holder
    from ingest_forward.delivery import Parcel


class Stop(NamedTuple):
    """Why a partition is not read on.

    Attributes:
        route: which route must not go past a record.
        offset: of the record.
        code: why it cannot be forwarded.
    """

    route: str
    offset: int
    code: str


class Reading:
    """One partition that is read.

    Attributes:
        progress: how far it has been forwarded.
        parcels: what of it is on its way.
        holder: of the memory that its records occupy.
        paused: no records of it are asked for, for now.
        stop: why it is not read on; None: it is.
        again_at: when it is read again from what is done, on the loop's clock, because something
            came back unwritten; None: nothing has.
        lag: how many records the group has yet to forward.
        next: the offset behind the last record that was read; None: nothing was yet.
    """

    def __init__(self, progress: Progress, holder: Holder) -> None:
        self.progress = progress
        self.parcels: set[Parcel] = set()
        self.holder = holder
        self.paused = False
        self.stop: Stop | None = None
        self.again_at: float | None = None
        self.lag = 0
        self.next = progress.done

    @property
    def halted(self) -> bool:
        """Whether it is not read on for now."""
        return self.stop is not None or self.again_at is not None

    def waits_beyond(self, topics: Container[str]) -> bool:
        """Whether something is on its way to a topic that is none of these."""
        return any(each.waits_beyond(topics) for each in self.parcels)

    def is_pending(self, now: float) -> bool:
        """Whether something that was read is on its way, and worth waiting for."""
        return bool(self.parcels) and not self.is_due(now)

    def is_due(self, now: float) -> bool:
        """Whether it is to be read again."""
        return self.again_at is not None and now >= self.again_at

    def found(self, offset: int) -> None:
        """This is the first record of a poll: reading begins there where nobody said it."""
        progress = self.progress
        if progress.done is None:
            progress.done = progress.committed = offset

    def go_back(self) -> int | None:
        """Forget what is on its way, for it is read again.

        Returns:
            The offset to read from; None: the earliest.
        """
        before = self.progress
        self.next = before.done
        self._begin(Progress(before.done), before.committed)
        return before.done

    def begin_anew(self) -> int:
        """Its topic is another one of that name: nothing of it has been read.

        Returns:
            How many records of the former one were on their way, and cannot be read again.
        """
        left = sum(len(each.batch) for each in self.parcels)
        self.next = 0
        self._begin(Progress(0), None)  # whatever was committed was not of this topic
        return left

    def abandon(self) -> None:
        """Have nothing of it written any more: others go on with it, from what was committed."""
        self.progress = Progress()  # who tells of what is on its way is not heard any more
        self._withdraw()

    def _withdraw(self) -> None:
        parcels, self.parcels = self.parcels, set()
        for parcel in tuple(parcels):  # they leave it
            parcel.withdraw()

    def _begin(self, progress: Progress, committed: int | None) -> None:
        progress.committed = committed
        self.progress = progress
        self._withdraw()
        self.stop = self.again_at = None
