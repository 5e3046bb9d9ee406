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
    from ingest.settings import SourceSettings
    from ingest_http.auth import Caller
    from ingest_http.config import HttpConfig


class Rules:
    """The rules of one configuration; a request is answered by those that it began with.

    Attributes:
        auth: knows who may send.
        sources: the settings of all sources by name, of those of syslog too.
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
        self.sources = config.sources
        self.roads = {
            name: (before.road(name, settings) if before is not None else None)
            or Road(_offer(name, settings, schemas.get(name)), config.limits)
            for name, settings in config.http_sources().items()
        }
        self.cors = any(road.origins for road in self.roads.values())
        self.certificates = bool(config.auth.certificates)
        self.required = config.auth.required
        self.documents: dict[Caller, bytes] = {}

    def road(self, name: str, settings: SourceSettings) -> Road | None:
        """The road of a source, if it has these settings: hundreds take long to make anew."""
        return self.roads.get(name) if self.sources.get(name) == settings else None

    def offers(self, caller: Caller) -> list[Offer]:
        """What a caller may write to, by name."""
        return [road.offer for name, road in sorted(self.roads.items()) if caller.covers(name)]


def compiled(config: HttpConfig, before: Rules | None = None) -> dict[str, Schema]:
    """Name of each source that is not as before -> its schema.

    This can take a while, and needs no event loop.
    """
    return {
        name: Schema(settings.schema_.content)
        for name, settings in config.http_sources().items()
        if settings.schema_ is not None and (before is None or before.road(name, settings) is None)
    }


def _offer(name: str, settings: SourceSettings, schema: Schema | None) -> Offer:
    return Offer(
        source=settings.named(name),
        schema=schema,
        validate=settings.validate_,
        cors_origins=tuple(settings.cors_origins),
    )
