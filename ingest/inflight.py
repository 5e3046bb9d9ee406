"""The one backpressure number of a process: bytes accepted but not yet acked.

Pure: no clock, no event loop. Whoever is to be told at the watermarks hands in callables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Lease:
    """A share of the budget."""

    __slots__ = ("_budget", "_bytes")

    def __init__(self, budget: Budget, size: int) -> None:
        self._budget: Budget | None = budget
        self._bytes = size

    def resize(self, size: int, *, force: bool = False) -> bool:
        """Have ``size`` bytes instead; whether that was possible.

        Args:
            size: bytes.
            force: the bytes are held already and are booked whatever the limit says.
        """
        budget = self._budget
        if budget is None:
            return False
        more = size - self._bytes
        if more > 0 and not force and budget.used_bytes + more > budget.limit_bytes:
            return False
        self._bytes = size
        budget._move(more)  # noqa: SLF001 - a lease is a part of its budget
        return True

    def release(self) -> None:
        """Give everything back; a second time does nothing."""
        budget, self._budget = self._budget, None
        if budget is not None:
            budget._move(-self._bytes)  # noqa: SLF001 - a lease is a part of its budget


class Budget:
    """The in-flight bytes of a process.

    Args:
        limit_bytes: no lease is given beyond them.
        high, low: the watermarks as shares of the limit.
        on_pause: called when use rises to the high watermark.
        on_resume: called when it has fallen to the low one again.
    """

    __slots__ = ("_high", "_low", "_on_pause", "_on_resume", "_paused", "limit_bytes", "used_bytes")

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
        self._high = high * limit_bytes
        self._low = low * limit_bytes
        self._on_pause = on_pause
        self._on_resume = on_resume
        self._paused = False

    def reserve(self, size: int) -> Lease | None:
        """A lease of ``size`` bytes; None where they do not fit."""
        if self.used_bytes + size > self.limit_bytes:
            return None
        self._move(size)
        return Lease(self, size)

    def _move(self, more: int) -> None:
        used = self.used_bytes = self.used_bytes + more
        if self._paused:
            if used <= self._low:
                self._paused = False
                if self._on_resume is not None:
                    self._on_resume()
        elif used >= self._high:
            self._paused = True
            if self._on_pause is not None:
                self._on_pause()
