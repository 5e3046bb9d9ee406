"""All routes: which of them read a topic."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ingest_forward.table import Table
from tests.ingest_forward.engine import route

if TYPE_CHECKING:
    from collections.abc import Sequence

LETTERS = "ingest.rejected"


def table(*routes: tuple[str, str]) -> Table:
    """The table of routes, each ``(its topics with spaces between them, the topic it writes)``."""
    made = [
        (route(**{"name": f"{number}", "from": sources.split(), "to": to}), sources.split())
        for number, (sources, to) in enumerate(routes)
    ]
    return Table(made, LETTERS)


def readers(of: Table, topic: str) -> str:
    """The numbers of the routes that read a topic."""
    return " ".join(each.name for each in of.of(topic))


@pytest.mark.parametrize(
    ("sources", "read", "not_read"),
    [
        ("orders", ["orders"], ["order", "orders2", "Orders", "x.orders", ""]),
        ("a.b", ["a.b"], ["aXb"]),
        ("orders web-*", ["orders", "web-", "web-x", "web-x.y"], ["web", "xweb-y", "Web-x"]),
        ("*", ["a", "_a", "a__b"], ["__consumer_offsets", "__x", LETTERS, "out"]),
        ("*-eu", ["a-eu", "-eu"], ["a-eu2", "eu"]),
        ("a*b*c", ["abc", "aXbYc", "abbcc"], ["ab", "acb", "xabc"]),
        ("__*", [], ["__consumer_offsets", "__", "a"]),
        ("ingest.*", ["ingest.a"], [LETTERS, "ingestXa"]),
        ("o*", ["o", "ou", "outer"], ["out"]),
    ],
)
def test_topics_are_read_by_name_or_pattern(
    sources: str, read: Sequence[str], not_read: Sequence[str]
) -> None:
    """Only ``*`` is special, and a pattern covers neither ``__*`` nor what is written here."""
    made = table((sources, "out"))
    assert [topic for topic in read if not made.of(topic)] == []
    assert [topic for topic in not_read if made.of(topic)] == []


def test_a_pattern_covers_no_topic_that_any_route_writes() -> None:
    """Also not one that another route reads by its name."""
    made = table(("web-*", "web-all"), ("web-all", "web-last"), ("* web-last", "x"))
    assert readers(made, "web-a") == "0 2"
    assert readers(made, "web-all") == "1"
    assert readers(made, "web-last") == "2"
    assert readers(made, "x") == ""


def test_what_is_named_is_read_whatever_it_is() -> None:
    """The dead letter topic too, to have its records once more."""
    made = table((LETTERS, "again"), ("*", "out"))
    assert readers(made, LETTERS) == "0"


def test_routes_read_in_their_order() -> None:
    """Each at most once, though it names a topic in several ways."""
    made = table(("b a* *", "x"), ("ab", "y"), ("a*", "z"))
    assert readers(made, "ab") == "0 1 2"
    assert readers(made, "ab") == "0 1 2"  # and the second time as well
    assert [each.name for each in made.routes] == ["0", "1", "2"]


def test_which_topics_are_read() -> None:
    """Of those that there are, and which must be there since they are named."""
    made = table(("orders web-*", "out"), ("orders x", "out2"))
    there = ["orders", "web-a", "out", "out2", LETTERS, "__consumer_offsets", "other"]
    assert made.read_of(there) == {"orders", "web-a"}
    assert made.named == {"orders", "x"}


def test_events_are_decoded_for_all_routes() -> None:
    """So far as any of them asks for attributes."""
    one = route(steps=[{"lift": {"/a": "subject"}}])
    other = route(steps=[{"lift": {"/b": "time"}}])
    reading = Table([(one, ["a"]), (other, ["b"])], LETTERS).reading
    value = b'{"specversion":"1.0","id":"1","source":"s","type":"t","subject":"x","time":"y"}'
    envelope = reading.decode(value)
    found = [reading.attribute(envelope, name) for name in ("subject", "time", "id")]
    assert [bytes(each or b"") for each in found] == [b'"x"', b'"y"', b'"1"']
