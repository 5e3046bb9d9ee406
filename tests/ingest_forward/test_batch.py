"""Batches: the records of a poll as columns, and the headers of what is made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ingest.accumulator import header_bytes
from ingest_forward.batch import OVERHEAD_BYTES, Batch
from tests.ingest_forward.polled import Polled, batch

if TYPE_CHECKING:
    from ingest_forward.event import Header

PLACE = [("ingest.from.topic", b"orders"), ("ingest.from.partition", b"3")]
CLOUDEVENTS = ("content-type", b"application/cloudevents+json; charset=UTF-8")
JSON = ("content-type", b"application/json")
TRACER = ("ingest.tracer", b"run")
MIXED: list[list[Header] | None] = [
    [CLOUDEVENTS],
    [CLOUDEVENTS],
    None,
    [("a", b"1"), ("a", None), CLOUDEVENTS],
    [CLOUDEVENTS],
]


def written(of: Batch, *, as_json: bool) -> list[list[Header]]:
    """The headers of each record that is made."""
    each, _ = of.with_origin(as_json=as_json)
    assert len(each) == len(of)
    return each


def offset(number: int) -> Header:
    """The header that says which record it was."""
    return "ingest.from.offset", b"%d" % number


def test_records_become_columns() -> None:
    """As they are; headers that there are none of are empty."""
    made = batch(Polled(b"v", b"k", offset=5, time_ms=7), Polled(None, None, [TRACER], 9, 8))
    assert (made.topic, made.partition, len(made)) == ("orders", 3, 2)
    assert (made.values, made.keys) == ([b"v", None], [b"k", None])
    assert (made.offsets, made.timestamps) == ([5, 9], [7, 8])
    assert [list(each) for each in made.headers] == [[], [TRACER]]


def test_its_size_is_that_of_values_and_keys_and_something_for_each_record() -> None:
    """Null is nothing."""
    made = batch(Polled(b"value", b"key"), Polled(None, b"k"), Polled(b"v", None))
    assert made.size == 5 + 3 + 1 + 1 + 3 * OVERHEAD_BYTES


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    "headers", [[[CLOUDEVENTS]] * 3, [None] * 3, [[]], MIXED], ids=["alike", "none", "one", "mixed"]
)
def test_what_is_made_has_the_records_headers_and_its_place(
    headers: list[list[Header] | None], *, as_json: bool
) -> None:
    """In the order of the record's own; what is plain JSON says so instead of what it was."""
    made = batch(*(Polled(b"v", headers=own, offset=at * 2) for at, own in enumerate(headers)))
    expected = []
    for at, own in enumerate(headers):
        kept = [each for each in own or [] if not (as_json and each[0] == "content-type")]
        if as_json:
            kept.append(JSON)
        expected.append([*kept, *PLACE, offset(at * 2)])
    assert written(made, as_json=as_json) == expected
    assert written(made, as_json=as_json) == expected  # what was kept is still right
    other = written(made, as_json=not as_json)
    assert [each[-1] for each in other] == [offset(at * 2) for at in range(len(headers))]


def test_the_size_of_headers_that_are_alike_is_known() -> None:
    """They are never more than is said of them, and hardly less."""
    made = batch(*(Polled(b"v", headers=[CLOUDEVENTS], offset=2**63 - 3 + at) for at in range(3)))
    each, sizes = made.with_origin(as_json=False)
    assert sizes == [header_bytes(each[-1])] * 3
    assert header_bytes(each[0]) <= sizes[0]


def test_tracers_are_known_by_their_header() -> None:
    """Whatever its value, and wherever it stands among the others."""
    headers: list[list[Header] | None] = [None, [TRACER], [CLOUDEVENTS, TRACER], [CLOUDEVENTS]]
    made = batch(*(Polled(b"v", headers=own) for own in [*headers, [("ingest.tracer", None)]]))
    assert made.tracers == {1, 2, 4}
    assert batch(*(Polled(b"v", headers=[CLOUDEVENTS]) for _ in range(3))).tracers == frozenset()


@pytest.mark.parametrize("count", [0, 1, 4, 5])
def test_the_first_records_are_a_batch_of_their_own(count: int) -> None:
    """Also after somebody has asked for the headers of all."""
    records = [Polled(b"%d" % at, b"k", own, at, at) for at, own in enumerate(MIXED)]
    whole, wanted = batch(*records), batch(*records[:count])
    whole.with_origin(as_json=True)
    found = whole.first(count)
    for name in ("topic", "partition", "keys", "values", "headers", "timestamps", "offsets"):
        assert getattr(found, name) == getattr(wanted, name)
    assert found.size == wanted.size
    if count:
        assert written(found, as_json=True) == written(wanted, as_json=True)
    assert len(whole) == len(MIXED)
