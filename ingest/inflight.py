"""The one backpressure number of a process: bytes accepted but not yet acked.

Pure: no clock, no event loop. Whoever is to be told at the watermarks hands in callables.

Fair between clients by dynamic thresholds (Choudhury and Hahne, "Dynamic queue length thresholds
for shared-memory packet switches", IEEE/ACM Transactions on Networking 6(2), 1998) with alpha 1:
a client that holds something grows to at most what is left free afterwards. So one greedy client
has at most half of the budget, n of them have limit / (n + 1) each, and the same is left for a
newcomer. What a client holds as its only lease may be all that fits: the largest body always goes
through an idle budget.
"""

from __future__ import annotations

from math import ceil, floor
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from collections.abc import Callable


class Holder:
    """What one client holds of a budget.

    Attributes:
        name: whose it is.
        held_bytes: the sum of its leases.
        leases: how many it has.
    """

    __slots__ = ("__weakref__", "held_bytes", "leases", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.held_bytes = 0
        self.leases = 0


class Lease:
    """A share of the budget."""

    __slots__ = ("_budget", "_bytes", "_holder")

    def __init__(self, budget: Budget, size: int, holder: Holder | None = None) -> None:
        self._budget: Budget | None = budget
        self._bytes = size
        self._holder = holder

    def resize(self, size: int, *, force: bool = False) -> bool:
        """Have ``size`` bytes instead; whether that was possible.

        Args:
            size: bytes.
            force: the bytes are held already and are booked whatever the limit says.
        """
        budget, holder = self._budget, self._holder
        if budget is None:
            return False
        more = size - self._bytes
        if more > 0 and not force:
            free = budget.limit_bytes - budget.used_bytes - more
            if free < 0:
                return False
            if holder is not None and holder.held_bytes + more > free and holder.leases > 1:
                return False
        self._bytes = size
        if holder is not None:
            holder.held_bytes += more
        budget._move(more)  # noqa: SLF001 - a lease is a part of its budget
        return True

    def release(self) -> None:
        """Give everything back; a second time does nothing."""
        budget, self._budget = self._budget, None
        if budget is None:
            return
        holder = self._holder
        if holder is not None:
            holder.held_bytes -= self._bytes
            holder.leases -= 1
            self._holder = None  # a spent lease that is kept must not keep its holder's name
        budget._move(-self._bytes)  # noqa: SLF001 - a lease is a part of its budget


class Budget:
    """The in-flight bytes of a process.

    Args:
        limit_bytes: no lease is given beyond them.
        high, low: the watermarks as shares of the limit.
        on_pause: called when use rises to the high watermark.
        on_resume: called when it has fallen to the low one again.

    Attributes:
        limit_bytes: as given.
        used_bytes: the sum of all leases.
        paused: use has risen to the high watermark and not yet fallen to the low one.
    """

    __slots__ = (
        "_high",
        "_holders",
        "_low",
        "_on_pause",
        "_on_resume",
        "limit_bytes",
        "paused",
        "used_bytes",
    )

    def __init__(
        self,
        limit_bytes: int,
        *,
        high: float = 0.9,
        low: float = 0.7,
        on_pause: Callable[[], None] | None = None,
        on_resume: Callable[[], None] | None = None,
    ) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self._high = ceil(high * limit_bytes)  # whole bytes: int compares faster than float
        self._low = floor(low * limit_bytes)
        self._on_pause = on_pause
        self._on_resume = on_resume
        self.paused = False
        self._holders: WeakValueDictionary[str, Holder] = WeakValueDictionary()

    def holder(self, name: str) -> Holder:
        """The share of one client, the same object as long as it has leases or is kept.

        Names may be as many as there are peers: one that nobody has or keeps is forgotten.
        """
        holder = self._holders.get(name)
        if holder is None:
            holder = self._holders[name] = Holder(name)
        return holder

    def reserve(self, size: int, holder: Holder | None = None) -> Lease | None:
        """A lease of ``size`` bytes; None where they do not fit.

        Args:
            size: bytes.
            holder: who asks, of this budget; with leases already, it gets no more than leaves as
                much free as it then holds. Without one, only the limit counts.
        """
        free = self.limit_bytes - self.used_bytes - size
        if free < 0:
            return None
        if holder is not None:
            held = holder.held_bytes + size
            if held > free and holder.leases:
                return None
            holder.held_bytes = held
            holder.leases += 1
        self._move(size)
        return Lease(self, size, holder)

    def book(self, size: int, holder: Holder) -> Lease:
        """A lease of ``size`` bytes that are held already, whatever the limit says."""
        holder.held_bytes += size
        holder.leases += 1
        self._move(size)
        return Lease(self, size, holder)

    def exceeds_share(self, holder: Holder) -> bool:
        """Whether ``holder`` has more than is left free: then it should bring no more for now."""
        return holder.held_bytes > self.limit_bytes - self.used_bytes

    def _move(self, more: int) -> None:
        used = self.used_bytes = self.used_bytes + more
        if self.paused:
            if used <= self._low:
                self.paused = False
                if self._on_resume is not None:
                    self._on_resume()
        elif used >= self._high:
            self.paused = True
            if self._on_pause is not None:
                self._on_pause()
