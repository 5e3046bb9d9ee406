"""The management port: health, metrics and drain, over HTTP, never on the public port."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web
from prometheus_client.exposition import choose_encoder

from ingest import metrics
from ingest.status import StatusCollector, readiness, stuck, summary

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from ingest.status import ConfigStatus, Seat


class Management:
    """Answers operators, balancers and scrapers on behalf of all workers.

    Args:
        service: the service's name.
        seats: the workers as they are now.
        config: the configuration as it is now.
        about: what else ``/status`` says, such as the sources.
        is_draining: whether the service is about to end.
        drain: has it begin to.
        now: the clock that `Seat.heard_at` is read on.
        counters: the directory that workers count in.
        look: brings up to date what the parent itself counts, before anything is told.
    """

    def __init__(  # noqa: PLR0913 - what it asks of its service, all by name
        self,
        service: str,
        *,
        seats: Callable[[], Sequence[Seat]],
        config: Callable[[], ConfigStatus],
        about: Callable[[], Mapping[str, Any]],
        is_draining: Callable[[], bool],
        drain: Callable[[str], None],
        now: Callable[[], float],
        counters: Path,
        look: Callable[[], None] = lambda: None,
    ) -> None:
        self._service = service
        self._seats = seats
        self._config = config
        self._about = about
        self._is_draining = is_draining
        self._drain = drain
        self._now = now
        self._look = look
        self._registry = metrics.shared_registry(counters)
        self._registry.register(StatusCollector(seats, config))
        self._runner: web.AppRunner | None = None

    async def open(self, sock: socket.socket) -> None:
        """Serve on a listening socket."""
        app = web.Application(client_max_size=1024)
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/status", self._status)
        app.router.add_post("/drain", self._post_drain)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._runner.setup()
        await web.SockSite(self._runner, sock).start()

    async def close(self) -> None:
        """Stop serving."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _livez(self, _request: web.Request) -> web.Response:
        reasons = stuck(self._seats(), self._now())
        return _json(503 if reasons else 200, {"alive": not reasons, "reasons": reasons})

    async def _readyz(self, _request: web.Request) -> web.Response:
        found = readiness(self._seats(), self._config(), draining=self._is_draining())
        return _json(200 if found.ready else 503, found)

    async def _metrics(self, request: web.Request) -> web.Response:
        self._look()
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        body = encode(self._registry)
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _status(self, _request: web.Request) -> web.Response:
        document = summary(
            self._service,
            self._seats(),
            self._config(),
            draining=self._is_draining(),
            about=self._about(),
        )
        return _json(200, document)

    async def _post_drain(self, request: web.Request) -> web.Response:
        """Begin to drain; a web page in somebody's browser must not be able to."""
        if "Origin" in request.headers or not _is_loopback(request.remote):
            return _json(403, {"draining": self._is_draining(), "code": "forbidden"})
        self._drain("management port")
        return _json(202, {"draining": True})


def _is_loopback(address: str | None) -> bool:
    if not address:
        return False
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped  # how an IPv4 client looks to a socket on "[::]"
    return ip.is_loopback


def _json(status: int, document: Any) -> web.Response:
    body = msgspec.json.encode(document) + b"\n"
    return web.Response(status=status, body=body, content_type="application/json")
