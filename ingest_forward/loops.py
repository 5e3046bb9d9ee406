"""Routes that could feed themselves: what one writes, directly or by way of others, it reads. Pure.

Only topics that are named can be part of a loop: a pattern never matches what some route writes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Edge(NamedTuple):
    """What a route does with the records of one topic.

    Attributes:
        route: its position.
        source: the topic that it reads.
        target: a topic that it writes.
    """

    route: int
    source: str
    target: str


def loops(edges: Sequence[Edge]) -> Iterator[tuple[int, list[str]]]:
    """(position of a route, the topics on the way back to what it reads), once for each route."""
    seen: set[int] = set()
    for edge in edges:
        if edge.route not in seen and (way := _way(edges, edge.target, edge.source)):
            seen.add(edge.route)
            yield edge.route, [edge.source, *way]


def _way(edges: Sequence[Edge], start: str, end: str) -> list[str]:
    """The topics from ``start`` to ``end``; empty where no way leads there."""
    ways = {start: [start]}
    frontier = [start]
    while frontier:
        here = frontier.pop(0)
        if here == end:
            return ways[here]
        for edge in edges:
            if edge.source == here and edge.target not in ways:
                ways[edge.target] = [*ways[here], edge.target]
                frontier.append(edge.target)
    return []
