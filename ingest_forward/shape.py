"""What routes make of the records of a batch. Pure, but for the log of our own defects."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from structlog import get_logger

from ingest.errors import Rejected
from ingest_forward.document import BAD_JSON
from ingest_forward.event import Event
from ingest_forward.route import BAD_DATA

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ingest_forward.batch import Batch
    from ingest_forward.event import Reading
    from ingest_forward.route import Route

log = get_logger(__name__)

BAD_HEADERS = "the name of a header is no UTF-8"
FEW = 32
"""So many records are looked at together."""


class Reject(NamedTuple):
    """A record that can never be forwarded by a route.

    Attributes:
        position: of the record in its batch.
        code: a stable word of the contract.
        detail: for people; never values.
    """

    position: int
    code: str
    detail: str = ""


class Shaped:
    """What a route makes of a batch.

    Attributes:
        route: the route.
        positions: of the records that it takes and made something of.
        keys, values: what it made of them.
        rejects: what it takes and can never forward.
        skipped: how many records it does not take.
        excluded: how many it does not take because they are tracers.
    """

    __slots__ = (
        "_taken",
        "_tracers",
        "_unreadable",
        "excluded",
        "keys",
        "positions",
        "rejects",
        "route",
        "skipped",
        "values",
    )

    def __init__(self, route: Route, batch: Batch) -> None:
        tracers = frozenset() if route.tracers else batch.tracers
        self.route = route
        self._taken: list[int] = []
        self.positions: Sequence[int] = self._taken
        self.keys: list[bytes | None] = []
        self.values: list[bytes | None] = []
        self.rejects: list[Reject] = []
        self.skipped = 0
        self.excluded = len(tracers)
        self._tracers = tracers
        self._unreadable = batch.unreadable

    def take_all(self, batch: Batch) -> bool:
        """Pass on all records as they are, if that is what the route does; whether it is."""
        route = self.route
        if not route.passes_bytes or route.where is not None or self._tracers or self._unreadable:
            return False
        self.positions, self.keys, self.values = range(len(batch)), batch.keys, batch.values
        return True

    def take(self, first: int, events: Sequence[Event]) -> None:
        """See what becomes of some records, of which the first one is at the position ``first``."""
        route, tracers, where = self.route, self._tracers, self.route.where
        unreadable = self._unreadable
        test = None if where is None else where.test
        reads_value = where is not None and where.reads_value
        make, positions, keys, values = route.make, self._taken, self.keys, self.values
        for position, event in enumerate(events, first):
            if position in tracers:
                continue
            if position in unreadable:
                self.rejects.append(Reject(position, "bad_headers", BAD_HEADERS))
                continue
            try:
                if test is not None and ((reads_value and event.value is None) or not test(event)):
                    self.skipped += 1
                    continue
                key, value = make(event)
            except Rejected as error:
                self.rejects.append(Reject(position, error.code, error.detail))
            except BAD_JSON:
                self.rejects.append(Reject(position, "invalid_json", BAD_DATA))
            except Exception:
                log.exception("route_failed", route=route.name)  # a defect of ours: it must go on
                self.rejects.append(Reject(position, "internal_error"))
            else:
                positions.append(position)
                keys.append(key)
                values.append(value)


def shape(routes: Sequence[Route], batch: Batch, reading: Reading) -> list[Shaped]:
    """What each of ``routes`` makes of each record of ``batch``.

    A few records after the other: what was decoded of them is let go while it is in the cache.
    """
    shaped = [Shaped(route, batch) for route in routes]
    looking = [each for each in shaped if not each.take_all(batch)]
    if looking:
        topic = batch.topic
        rows = zip(batch.keys, batch.values, batch.headers, strict=True)
        for first in range(0, len(batch), FEW):
            few = islice(rows, FEW)
            events = [Event(topic, key, value, own, reading) for key, value, own in few]
            for each in looking:
                each.take(first, events)
    return shaped
