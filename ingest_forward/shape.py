"""What a route makes of the records of a batch. Pure, but for the log of its own defects."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from structlog import get_logger

from ingest.errors import Rejected

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ingest_forward.batch import Batch
    from ingest_forward.event import Event, Reading
    from ingest_forward.route import Route

log = get_logger(__name__)


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


class Shaped(NamedTuple):
    """What a route makes of a batch.

    Attributes:
        route: the route.
        positions: of the records that it takes and made something of.
        keys, values: what it made of them.
        rejects: what it takes and can never forward.
        skipped: how many records it does not take.
        excluded: how many it does not take because they are tracers.
    """

    route: Route
    positions: Sequence[int]
    keys: list[bytes | None]
    values: list[bytes | None]
    rejects: list[Reject]
    skipped: int = 0
    excluded: int = 0


def shape(route: Route, batch: Batch, reading: Reading) -> Shaped:
    """What ``route`` makes of each record of ``batch``."""
    excluded = frozenset() if route.tracers else batch.tracers
    if route.passes_bytes and route.where is None and not excluded:
        return Shaped(route, range(len(batch)), batch.keys, batch.values, [])
    return _each(route, batch.events(reading), excluded)


def _each(route: Route, events: Sequence[Event], excluded: frozenset[int]) -> Shaped:
    positions: list[int] = []
    keys: list[bytes | None] = []
    values: list[bytes | None] = []
    rejects: list[Reject] = []
    takes, run, skipped = route.takes, route.run, 0
    for position, event in enumerate(events):
        if position in excluded:
            continue
        try:
            if not takes(event):
                skipped += 1
                continue
            key, value = run(event)
        except Rejected as error:
            rejects.append(Reject(position, error.code, error.detail))
        except Exception:
            log.exception("route_failed", route=route.name)  # a defect of ours: it must go on
            rejects.append(Reject(position, "internal_error"))
        else:
            positions.append(position)
            keys.append(key)
            values.append(value)
    return Shaped(route, positions, keys, values, rejects, skipped, len(excluded))
