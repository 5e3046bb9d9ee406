"""What callers can ask: a source, all of theirs as OpenAPI, and what web pages may do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from ingest import __version__
from ingest_http import negotiation
from ingest_http.cors import VARY
from ingest_http.description import base_url, description
from ingest_http.openapi import document
from ingest_http.reply import Reply

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ingest_http.app import Visit
    from ingest_http.auth import Caller
    from ingest_http.config import HttpConfig
    from ingest_http.forwarded import Proxies
    from ingest_http.publish import Road
    from ingest_http.request import Request
    from ingest_http.rules import Rules

NOT_STORED = {"Cache-Control": "no-store"}
"""What a caller may see is nobody else's, and a reload changes it."""


class Discovery:
    """Answers questions about what is in force.

    Args:
        config: the configuration of the service.
        proxies: whose word counts for how the door is reached.
    """

    def __init__(self, config: HttpConfig, proxies: Proxies) -> None:
        self._limits = config.limits
        self._proxies = proxies
        self._fallback = config.http.listen
        letters = config.dead_letter
        self._dead_letter_topic = letters.topic if letters.mode == "on" else None

    async def describe(self, visit: Visit, caller: Caller, road: Road) -> Reply:
        """What a source accepts."""
        found = await asyncio.to_thread(  # an example of a large schema takes its time
            description,
            road.offer,
            self._limits,
            base_url=self._base_url(visit.request),
            credential=caller.credential,
            quota=caller.limits,
            dead_letter_topic=self._dead_letter_topic,
        )
        return _json(found, visit.request_id)

    async def openapi(self, visit: Visit, caller: Caller) -> Reply:
        """The OpenAPI document of the caller's sources."""
        kept = visit.rules.documents
        if caller not in kept:  # hundreds of sources take longer than the loop may be held
            kept[caller] = await asyncio.to_thread(self._openapi, visit.rules, caller)
        return Reply(200, kept[caller], visit.request_id, headers=NOT_STORED)

    def _openapi(self, rules: Rules, caller: Caller) -> bytes:
        found = document(
            rules.offers(caller),
            self._limits,
            base_url="/",
            version=__version__,
            certificates=rules.certificates,
            required=rules.required,
        )
        return msgspec.json.encode(found) + b"\n"

    def _base_url(self, request: Request) -> str:
        host, tls = request.headers.get("Host"), request.connection.is_tls
        if self._proxies.trusts(request.connection.address):
            host = request.headers.get("X-Forwarded-Host", host)
            tls = request.headers.get("X-Forwarded-Proto", "https" if tls else "http") == "https"
        return base_url(host, tls=tls, fallback=self._fallback)

    @staticmethod
    def preflight(request: Request, rules: Rules, name: str) -> Mapping[str, str] | None:
        """The fields of the answer to a preflight; None: it is none, or not allowed."""
        road = rules.roads.get(name)
        if road is None or request.method != "OPTIONS":
            return None
        return road.origins.preflight(request.headers)

    @staticmethod
    def origin_headers(request: Request, rules: Rules) -> Mapping[str, str]:
        """What lets a page of an allowed origin read an answer."""
        name = negotiation.source_name(negotiation.path(request))
        road = rules.roads.get(name) if name is not None else None
        if road is None or not road.origins:
            return VARY  # else it would tell which sources there are
        return road.origins.headers(request.headers["Origin"])


def _json(found: Any, request_id: str) -> Reply:
    body = msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n"
    return Reply(200, body, request_id, headers=NOT_STORED)
