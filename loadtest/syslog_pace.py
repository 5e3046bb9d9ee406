"""How many messages are due at a moment, for a load that does not wait for who receives it."""

from __future__ import annotations

from typing import Final

TICK_SECONDS: Final = 0.001
"""How long a paced sender sleeps in between."""
CATCH_UP_SECONDS: Final = 0.005
"""A sender that was kept from running makes up for it in portions of so much time."""


class Pace:
    """A fixed rate from a moment on; the clock comes in as an argument.

    Args:
        rate: messages per second; 0: as fast as they are taken.
        count: messages in all.

    Attributes:
        left: messages that are not sent yet.
        longest_gap: the longest time between two questions, in seconds: how long it was kept from
            running, at worst.
    """

    def __init__(self, rate: float, count: int) -> None:
        self.left = count
        self.longest_gap = 0.0
        self._rate = rate
        self._count = count
        self._most = max(1, int(rate * CATCH_UP_SECONDS))
        self._started: float | None = None
        self._asked = 0.0

    @property
    def paced(self) -> bool:
        """Whether there is a rate."""
        return self._rate > 0

    def due(self, now: float) -> int:
        """How many messages should be sent now; ``now`` in seconds of any steady clock."""
        if self._started is None:
            self._started = self._asked = now
        self.longest_gap = max(self.longest_gap, now - self._asked)
        self._asked = now
        if not self._rate:
            return self.left
        # The first is due at once.
        owed = 1 + int((now - self._started) * self._rate) - (self._count - self.left)
        return max(0, min(owed, self.left, self._most))

    def sent(self, count: int) -> None:
        """Note that so many were sent."""
        self.left -= count
