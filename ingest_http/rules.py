"""What a reload exchanges as a whole: who may send, to which sources, in which form."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ingest.schema import Schema
from ingest_http.auth import Auth
from ingest_http.description import Offer
from ingest_http.publish import Road

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ingest.inflight import Budget
    from ingest_http.auth import Caller
    from ingest_http.config import HttpConfig


class Rules:
    """The rules of one configuration; a request is answered by those that it began with.

    Attributes:
        auth: knows who may send.
        sources: the names of all sources, those of syslog too.
        roads: name -> the road of its events.
        certificates: whether they are credentials.
        required: whether a credential is.
        cors: whether some source is open to web pages.
        documents: caller -> its OpenAPI document, kept once it is made.

    Args:
        config: the whole configuration of the service.
        schemas: see `compiled`.
        budget: the in-flight bytes of this worker.
        before: the rules that were in force before.
    """

    def __init__(
        self,
        config: HttpConfig,
        schemas: Mapping[str, Schema],
        budget: Budget,
        before: Rules | None = None,
    ) -> None:
        known = before.auth if before is not None else None
        self.auth: Auth = Auth(config.auth, budget, known)
        self.sources = frozenset(config.sources)
        self.roads = {
            name: Road(_offer(config, name, schemas.get(name)), config.limits)
            for name in config.http_sources()
        }
        self.cors = any(road.origins for road in self.roads.values())
        self.certificates = bool(config.auth.certificates)
        self.required = config.auth.required
        self.documents: dict[Caller, bytes] = {}

    def offers(self, caller: Caller) -> list[Offer]:
        """What a caller may write to, by name."""
        return [road.offer for name, road in sorted(self.roads.items()) if caller.covers(name)]


def compiled(config: HttpConfig) -> dict[str, Schema]:
    """Name of each source -> its schema; can take a while, and needs no event loop."""
    return {
        name: Schema(source.schema_.content)
        for name, source in config.sources.items()
        if source.schema_ is not None
    }


def _offer(config: HttpConfig, name: str, schema: Schema | None) -> Offer:
    settings = config.sources[name]
    return Offer(
        source=settings.named(name),
        schema=schema,
        validate=settings.validate_,
        cors_origins=tuple(settings.cors_origins),
    )
