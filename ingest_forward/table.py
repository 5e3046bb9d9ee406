"""The routes of a configuration, and which of them read a topic. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ingest.sources import name_pattern
from ingest_forward.event import Reading

if TYPE_CHECKING:
    import re
    from collections.abc import Iterable, Sequence

    from ingest_forward.route import Route

KAFKAS_OWN = "__"
"""What the names of Kafka's own topics begin with."""


class Table:
    """All routes.

    Args:
        routes: each with the topics and patterns that it reads.
        dead_letters: the dead letter topic.

    Attributes:
        routes: in their order.
        reading: how the envelopes of their events are decoded.
        named: the topics that are named, and not only matched by a pattern.
        targets: the topics that they write.
    """

    def __init__(self, routes: Sequence[tuple[Route, Sequence[str]]], dead_letters: str) -> None:
        self.routes = tuple(route for route, _ in routes)
        self.reading = Reading(
            {name for route in self.routes for name in route.attributes},
            opens=any(route.opens for route in self.routes),
        )
        self.named = {name for _, names in routes for name in names if "*" not in name}
        self.targets = {route.to for route in self.routes}
        self._never = {dead_letters, *self.targets}
        self._sources = [(route, *_split(names)) for route, names in routes]
        self._known: dict[str, tuple[Route, ...]] = {}

    def of(self, topic: str) -> tuple[Route, ...]:
        """The routes that read ``topic``, in their order."""
        found = self._known.get(topic)
        if found is None:
            matched = not topic.startswith(KAFKAS_OWN) and topic not in self._never
            found = self._known[topic] = tuple(
                route
                for route, names, pattern in self._sources
                if topic in names or (matched and pattern.fullmatch(topic))
            )
        return found

    def read_of(self, topics: Iterable[str]) -> set[str]:
        """Which of the topics that there are are read."""
        return {topic for topic in topics if self.of(topic)}


def _split(names: Sequence[str]) -> tuple[frozenset[str], re.Pattern[str]]:
    """The topics that are named, and what matches those of the patterns."""
    globs = [name for name in names if "*" in name]
    return frozenset(names) - {*globs}, name_pattern(globs)
