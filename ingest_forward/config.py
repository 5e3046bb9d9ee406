"""The whole configuration of the forwarder."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ingest.settings import Conflict, SharedSettings
from ingest_forward.examples import failures
from ingest_forward.loops import Edge, loops
from ingest_forward.problems import Problems
from ingest_forward.route import Route, compile_route
from ingest_forward.settings import ForwardSettings
from ingest_forward.table import KAFKAS_OWN, Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingest.config_problems import KeyPath

RELOADABLE: tuple[KeyPath, ...] = (
    ("sources",),
    ("forward", "routes"),
    ("forward", "hash_key"),
    ("syslog_sources",),
)
"""What a SIGHUP takes; the rest needs a restart."""
ROUTES = ("forward", "routes")


class ForwardConfig(SharedSettings):
    """The shared sections, and [forward]."""

    needs_sources: ClassVar[bool] = False  # it reads topics, whoever writes them
    forward: ForwardSettings = ForwardSettings()

    def table(self) -> Table:
        """The routes, of a configuration without conflicts."""
        routes = [
            (route, settings.from_)
            for settings, route in zip(self.forward.routes, self.compiled(Problems()), strict=True)
            if route is not None
        ]
        return Table(routes, self.dead_letter.topic)

    def compiled(self, problems: Problems) -> list[Route | None]:
        """Each route, None for one with something wrong in it."""
        hash_key = self.forward.hash_key
        key = None if hash_key is None else hash_key.get_secret_value().encode()
        return [
            compile_route(settings, (*ROUTES, number), problems, key)
            for number, settings in enumerate(self.forward.routes)
        ]

    def topics_written(self) -> set[str]:
        """The topics that the forwarder writes to."""
        topics = {route.to for route in self.forward.routes}
        return topics | {self.dead_letter.topic} if self._writes_letters() else topics

    def _writes_letters(self) -> bool:
        return any(route.on_error == "dead_letter" for route in self.forward.routes)

    def conflicts(self) -> Iterator[Conflict]:
        """What is fine by itself but not together."""
        yield from super().conflicts()
        if not self.forward.routes:
            yield Conflict(ROUTES, "no route is configured: add [[forward.routes]]")
        problems = Problems()
        routes = self.compiled(problems)
        for path, text in problems.found:  # what no setting knows by itself
            yield Conflict(path, text, (("forward", "hash_key"),))
        yield from _names(self)
        yield from _topics(self)
        yield from _loops(self)
        for number, route in enumerate(routes):
            if route is not None:
                settings = self.forward.routes[number]
                for path, text in failures(settings, route, (*ROUTES, number)):
                    yield Conflict(path, text)


def _names(config: ForwardConfig) -> Iterator[Conflict]:
    taken: set[str] = set()
    for number, route in enumerate(config.forward.routes):
        if route.name in taken:
            yield Conflict((*ROUTES, number, "name"), f"{route.name!r} is taken by another route")
        taken.add(route.name)


def _topics(config: ForwardConfig) -> Iterator[Conflict]:
    letters = config.dead_letter
    for number, route in enumerate(config.forward.routes):
        path: KeyPath = (*ROUTES, number)
        for at, name in enumerate(route.from_):
            if name.startswith(KAFKAS_OWN):
                text = "topics that start with '__' are Kafka's own: reading them feeds them"
                yield Conflict((*path, "from", at), text)
        if route.to.startswith(KAFKAS_OWN):
            yield Conflict((*path, "to"), "topics that start with '__' are Kafka's own")
        if route.to == letters.topic:
            text = f"{route.to!r} is the dead letter topic"
            yield Conflict((*path, "to"), text, (("dead_letter", "topic"),))
        if route.on_error == "dead_letter" and letters.mode == "off":
            text = "needs dead_letter.mode = 'on', or set it to 'stop'"
            yield Conflict((*path, "on_error"), text, (("dead_letter", "mode"),))


def _loops(config: ForwardConfig) -> Iterator[Conflict]:
    letters, edges = config.dead_letter.topic, []
    for number, route in enumerate(config.forward.routes):
        for name in route.from_:
            if "*" not in name:
                edges.append(Edge(number, name, route.to))
                if route.on_error == "dead_letter":
                    edges.append(Edge(number, name, letters))
    for number, way in loops(edges):
        text = f"the route could feed itself: {' -> '.join(way)}"
        yield Conflict((*ROUTES, number, "to"), text, (("dead_letter", "topic"),))
