"""Routes that could feed themselves are found, and no others."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_forward.loops import Edge, loops


def found(*edges: str) -> list[tuple[int, str]]:
    """Where there are loops; edges as ``route source target``."""
    made = [Edge(int(route), source, to) for route, source, to in map(str.split, edges)]
    return [(route, " ".join(way)) for route, way in loops(made)]


@pytest.mark.parametrize(
    ("edges", "wanted"),
    [
        ([], []),
        (["0 a b"], []),
        (["0 a a"], [(0, "a a")]),
        (["0 a b", "1 b c"], []),
        (["0 a b", "1 b a"], [(0, "a b a"), (1, "b a b")]),
        (["0 a b", "1 b c", "2 c a"], [(0, "a b c a"), (1, "b c a b"), (2, "c a b c")]),
        (["0 x a", "1 a b", "2 b a"], [(1, "a b a"), (2, "b a b")]),
        (["0 a out", "0 a dead", "1 dead a"], [(0, "a dead a"), (1, "dead a dead")]),
        (["0 a b", "0 c b", "1 b c"], [(0, "c b c"), (1, "b c b")]),
        (["0 a b", "1 a b", "2 b c", "3 c d"], []),
        (["0 a a", "0 a b", "1 b a"], [(0, "a a"), (1, "b a b")]),
    ],
)
def test_loops_are_found(edges: list[str], wanted: list[tuple[int, str]]) -> None:
    """Once for each route, with the topics on the shortest way back to what it reads."""
    assert found(*edges) == wanted


TOPICS = st.sampled_from("abcde")


@settings(max_examples=120, deadline=None, derandomize=True)
@given(st.lists(st.builds(Edge, st.integers(0, 4), TOPICS, TOPICS), max_size=8))
def test_a_route_is_in_a_loop_where_its_records_come_back(edges: list[Edge]) -> None:
    """Held against all topics that its records could reach, by repeated steps."""
    wanted = set()
    for edge in edges:
        reached = {edge.target}
        for _ in edges:
            reached |= {each.target for each in edges if each.source in reached}
        if edge.source in reached:
            wanted.add(edge.route)
    ways = dict(loops(edges))
    assert ways.keys() == wanted
    pairs = {(edge.source, edge.target) for edge in edges}
    for way in ways.values():
        assert way[0] == way[-1]
        assert set(pairwise(way)) <= pairs
