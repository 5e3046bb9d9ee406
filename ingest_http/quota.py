"""What one key may send, and what its answers say about that. Sans-IO: the clock comes as seconds.

A quota per second is a bucket of one second: it starts full, refills steadily, and lets a request
through while at least one whole event or byte is in it. What the request brings is charged
afterwards and in full, so a batch larger than the bucket passes, and its debt delays the next.

The ``RateLimit-*`` fields are those of draft-ietf-httpapi-ratelimit-headers-06, the last version
that has them as fields of their own.
"""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

SLACK_SECONDS = 1e-6
"""How much too early a request may come: more than the rounding of any clock, less than a delay."""
SLOT_SECONDS = 1.0
"""When to try again for one of the concurrent requests: nobody knows when one ends."""


class Exceeded(NamedTuple):
    """A quota that forbids one more request.

    Attributes:
        quota: ``events_per_second``, ``bytes_per_second`` or ``concurrent_requests``.
        retry_after: seconds until a request passes again, if nobody else is charged until then.
    """

    quota: str
    retry_after: float


class Bucket:
    """Holds what may be sent in one second; below zero after more was taken.

    Kept as the one moment at which it is full again (the virtual scheduling algorithm of ITU-T
    I.371, annex A), so nothing has to be refilled.

    Args:
        rate: units per second, and the units in a full bucket; above 0.
    """

    __slots__ = ("_full_at", "_tolerance", "limit")

    window_seconds = 1

    def __init__(self, rate: float) -> None:
        self.limit = rate
        self._full_at = float("-inf")
        self._tolerance = max(0.0, 1.0 - 1.0 / rate)  # this long before it is full, it has one unit

    def level(self, now: float) -> float:
        """The units in it, to a thousandth: no count is one short by rounding."""
        return round(self.limit * (1.0 - self.refill(now)), 3)

    def wait(self, now: float) -> float:
        """Seconds until a whole unit is in it; 0 where there is one."""
        seconds = self._full_at - now - self._tolerance
        return seconds if seconds > SLACK_SECONDS else 0.0

    def refill(self, now: float) -> float:
        """Seconds until it is full."""
        return max(0.0, self._full_at - now)

    def charge(self, now: float, amount: float) -> None:
        """Take ``amount`` units, whether they are there or not."""
        self._full_at = max(self._full_at, now) + amount / self.limit


class Slots:
    """The requests that may be under way at once; asked like a bucket.

    Args:
        limit: how many.
    """

    __slots__ = ("limit", "taken")

    window_seconds = 0

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0

    def level(self, _now: float) -> float:
        """How many more may begin."""
        return self.limit - self.taken

    def wait(self, _now: float) -> float:
        """Seconds after which it is worth trying; 0 where one is free."""
        return SLOT_SECONDS if self.taken >= self.limit else 0.0

    def refill(self, _now: float) -> float:
        """It fills up by requests that end, not by time."""
        return 0.0


class Quota:
    """The quotas of one key in one worker process; 0 means none of that kind, one at least is set.

    A request is let in by `exceeded`, between `enter` and `leave`, and charged when its events and
    bytes are known.
    """

    __slots__ = ("_events", "_kinds", "_policy", "_size", "_slots")

    def __init__(
        self,
        *,
        events_per_second: int = 0,
        bytes_per_second: int = 0,
        concurrent_requests: int = 0,
    ) -> None:
        self._events = Bucket(events_per_second) if events_per_second else None
        self._size = Bucket(bytes_per_second) if bytes_per_second else None
        self._slots = Slots(concurrent_requests) if concurrent_requests else None
        self._kinds: tuple[tuple[str, Bucket | Slots], ...] = tuple(
            (name, kind)
            for name, kind in (
                ("events_per_second", self._events),
                ("bytes_per_second", self._size),
                ("concurrent_requests", self._slots),
            )
            if kind is not None
        )
        self._policy = _policy(self._kinds)

    def exceeded(self, now: float) -> Exceeded | None:
        """The quota that forbids one more request, of several the one that does so longest.

        Args:
            now: seconds of a monotonic clock.
        """
        worst = None
        longest = 0.0
        for name, kind in self._kinds:
            wait = kind.wait(now)
            if wait > longest:
                worst, longest = name, wait
        return None if worst is None else Exceeded(worst, longest)

    def enter(self) -> None:
        """A request begins."""
        if self._slots is not None:
            self._slots.taken += 1

    def leave(self) -> None:
        """A request that entered ends."""
        if self._slots is not None:
            self._slots.taken -= 1

    def charge(self, now: float, *, events: int = 0, size: int = 0) -> None:
        """Charge what a request brought, in full, also into the negative.

        Args:
            now: seconds of the same clock.
            events: their number.
            size: bytes.
        """
        if self._events is not None:
            self._events.charge(now, events)
        if self._size is not None:
            self._size.charge(now, size)

    def headers(self, now: float) -> dict[str, str]:
        """The ``RateLimit-*`` fields (draft-ietf-httpapi-ratelimit-headers-06, sections 3 and 4).

        Limit, Remaining and Reset are those of the quota that is closest to its end: the one that
        forbids a request longest, else the one with the smallest share left. Remaining is 0 exactly
        where a request is refused, and Reset is then the moment of Retry-After (section 4),
        otherwise that of a full bucket. A request that has not left yet counts as under way.

        Args:
            now: seconds of the same clock.
        """
        wait, level, kind = self._closest(now)
        return {
            "RateLimit-Limit": str(int(kind.limit)),
            "RateLimit-Remaining": "0" if wait else str(max(1, int(level))),
            "RateLimit-Reset": str(whole_seconds(wait or kind.refill(now))),
            "RateLimit-Policy": self._policy,
        }

    def _closest(self, now: float) -> tuple[float, float, Bucket | Slots]:
        """The wait for, the level of, and the quota that is closest to its end."""
        _, chosen = self._kinds[0]
        wait, level = chosen.wait(now), chosen.level(now)
        for _, kind in self._kinds[1:]:
            other_wait, other_level = kind.wait(now), kind.level(now)
            if other_wait > wait or (
                other_wait == wait and other_level * chosen.limit < level * kind.limit
            ):
                chosen, wait, level = kind, other_wait, other_level
        return wait, level, chosen


def whole_seconds(seconds: float) -> int:
    """The delay-seconds (RFC 9110, section 10.2.3) after which ``seconds`` are over."""
    return ceil(seconds - SLACK_SECONDS)


_UNITS = {
    "events_per_second": "events",
    "bytes_per_second": "bytes",
    "concurrent_requests": "requests",
}


def _policy(kinds: tuple[tuple[str, Bucket | Slots], ...]) -> str:
    """The value of ``RateLimit-Policy`` (draft -06, sections 2.1 and 3.2).

    The window of concurrent requests is 0 seconds: at the same moment. Of policies with the same
    number only the first is said, because the draft forbids to say both.
    """
    policies: dict[float, str] = {}
    for name, kind in kinds:
        unit = _UNITS[name]
        policies.setdefault(kind.limit, f"{kind.limit};w={kind.window_seconds};ingest-unit={unit}")
    return ", ".join(policies.values())
