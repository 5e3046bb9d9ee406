"""What routes make of a batch: every record has one outcome for each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from ingest_forward.event import Reading
from ingest_forward.shape import FEW, Reject, Shaped, shape
from tests.ingest_forward.engine import route, sealed
from tests.ingest_forward.polled import Polled, batch, values

if TYPE_CHECKING:
    from ingest_forward.batch import Batch
    from ingest_forward.route import Route

TRACER = ("ingest.tracer", b"t")
CAST = {"steps": [{"cast": {"/n": "int64"}}]}


def shaped(of: Batch, *routes: Route) -> list[Shaped]:
    """What the routes make of a batch; each of its records has one outcome for each of them."""
    reading = Reading(opens=any(each.opens for each in routes))
    found = shape(routes, of, reading)
    for each in found:
        others = each.skipped + each.excluded
        assert len(each.positions) + len(each.rejects) + others == len(of)
        assert len(each.positions) == len(each.keys) == len(each.values)
    return found


def numbered(*texts: str) -> Batch:
    """Records with these numbers, as JSON texts."""
    return values(*(sealed(b'{"n":%b}' % text.encode()) for text in texts))


def test_a_route_that_changes_nothing_passes_the_columns_on() -> None:
    """Without a copy, and whatever the values are."""
    read = values(b"no json", None, b"", sealed(b"{}"))
    (made,) = shaped(read, route(format="cloudevents"))
    assert (made.keys, made.values) == (read.keys, read.values)
    assert made.values is read.values
    assert list(made.positions) == [0, 1, 2, 3]


def test_each_record_has_one_outcome_for_a_route() -> None:
    """In the order of the batch, with codes of what cannot be forwarded."""
    read = batch(
        Polled(sealed(b'{"n":"1"}'), b"a"),
        Polled(sealed(b'{"n":2}'), b"b", [TRACER]),
        Polled(sealed(b'{"n":"x"}'), b"c"),
        Polled(b"{", b"d"),
        Polled(b"{}", b"e"),
        Polled(None, b"f"),
        Polled(sealed(b'{"n":3}'), b"other"),
        Polled(sealed(b"[1,]"), b"g"),
    )
    (made,) = shaped(read, route(**CAST, where={"not": {"key": "other"}}))
    assert list(made.positions) == [0, 5]
    assert (made.keys, made.values) == ([b"a", b"f"], [b'{"n":1}', None])
    assert [(each.position, each.code) for each in made.rejects] == [
        (2, "cast_failed"),
        (3, "invalid_json"),
        (4, "not_cloudevents"),
        (7, "invalid_json"),
    ]
    assert (made.skipped, made.excluded) == (1, 1)


def test_routes_do_not_see_what_others_make_of_a_record() -> None:
    """Each begins with the record as it was read."""
    read = numbered("1", "2")
    drop, keep = route(steps=[{"drop": ["/n"]}]), route(steps=[{"set": {"/m": 1}}])
    as_it_is = route(format="cloudevents")
    one, two, three = shaped(read, drop, keep, as_it_is)
    assert one.values == [b"{}", b"{}"]
    assert two.values == [b'{"n":1,"m":1}', b'{"n":2,"m":1}']
    assert three.values == read.values


@pytest.mark.parametrize("where", [{"type": "order.created"}, {"not": {"field": "/n", "above": 1}}])
def test_null_is_skipped_where_a_condition_looks_into_values(where: dict[str, object]) -> None:
    """It has nothing that the condition could be about."""
    (made,) = shaped(values(None, sealed(b'{"n":1}')), route(where=where))
    assert (list(made.positions), made.skipped, made.rejects) == ([1], 1, [])


def test_tracers_are_excluded_before_anything_is_looked_at() -> None:
    """Even where nothing else is; a route may include them."""
    read = batch(Polled(b"x"), Polled(b"{", None, [TRACER]), Polled(b"y"))
    without, including = shaped(
        read,
        route(format="cloudevents", where={"key": "k"}),
        route(format="cloudevents", tracers="include"),
    )
    assert (list(without.positions), without.skipped, without.excluded) == ([], 2, 1)
    assert (including.values, including.excluded) == ([b"x", b"{", b"y"], 0)
    (passing,) = shaped(read, route(format="cloudevents"))
    assert (passing.values, list(passing.positions)) == ([b"x", b"y"], [0, 2])


@pytest.mark.parametrize("count", [1, FEW - 1, FEW, FEW + 1, 3 * FEW + 5])
def test_positions_are_those_of_the_batch_however_many_there_are(count: int) -> None:
    """Though a few are looked at together."""
    read = numbered(*(str(at) if at % 3 else '"x"' for at in range(count)))
    (made,) = shaped(read, route(**CAST))
    good = [at for at in range(count) if at % 3]
    assert list(made.positions) == good
    assert made.values == [b'{"n":%d}' % at for at in good]
    assert [each.position for each in made.rejects] == list(range(0, count, 3))


def test_a_defect_of_ours_is_a_reject_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other records go on."""
    made_route = route(**CAST)
    make = made_route.make

    def fails(event: object) -> object:
        if event.key == b"bad":  # type: ignore[attr-defined]
            raise ZeroDivisionError
        return make(event)  # type: ignore[arg-type]

    monkeypatch.setattr(made_route, "make", fails)
    good, bad = Polled(sealed(b'{"n":1}'), b"good"), Polled(sealed(b'{"n":1}'), b"bad")
    with capture_logs() as logs:
        (made,) = shaped(batch(good, bad, good), made_route)
    assert made.rejects == [Reject(1, "internal_error")]
    assert list(made.positions) == [0, 2]
    assert [(each["event"], each["route"]) for each in logs] == [("route_failed", "r")]
