"""The HTTP front door: what its connections share, and how they end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aiohttp.web_server import Server

from ingest.accepting import AcceptLimits, Acceptor
from ingest.networks import Networks
from ingest_http.connection import Connection

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Awaitable, Callable, Sequence

    from aiohttp.web_request import BaseRequest

    from ingest.settings import LimitSettings
    from ingest_http.reply import Reply
    from ingest_http.request import Request
    from ingest_http.settings import HttpSettings

GRACE_SECONDS = 1.0
"""How long a connection without a request is kept after the listener has closed: its client may
have a request on the way."""


class Door:
    """Every connection of a worker, from its coming to its end.

    Args:
        handler: answers one request.
        http: the [http] section.
        limits: the [limits] section.
        context: for TLS; None is plain HTTP.

    Attributes:
        left: is told of connections that are gone.
        draining: whether every answer is the last one on its connection.
    """

    def __init__(
        self,
        handler: Callable[[Request], Awaitable[Reply]],
        http: HttpSettings,
        limits: LimitSettings,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.draining = False
        self.max_age_seconds = http.max_age_seconds
        self.header_seconds = http.header_seconds
        self.handler = handler
        self.server = Server(_unused)
        self._arguments: dict[str, Any] = {
            "loop": self._loop,
            "keepalive_timeout": http.keepalive_seconds,
            "auto_decompress": False,
            "access_log": None,
        }
        accept_limits = AcceptLimits(
            connections=limits.connections,
            connections_per_address=limits.connections_per_address,
            handshake_seconds=http.handshake_seconds,
            exempt=Networks(http.trusted_proxies),
        )
        self._acceptor = Acceptor("http", self._connection, accept_limits, context=context)
        self.left = self._acceptor.left

    def __len__(self) -> int:
        return len(self._acceptor)

    def _connection(self, sock: socket.socket, address: str) -> Connection:
        return Connection(self, sock, address, **self._arguments)

    def use(self, context: ssl.SSLContext | None) -> None:
        """Use another TLS context for who comes from now on; who is there already stays."""
        self._acceptor.use(context)

    def open(self, sockets: Sequence[socket.socket]) -> None:
        """Serve on listening ``sockets``; `close` closes them."""
        self._acceptor.open(sockets)

    def stop_listening(self) -> None:
        """Accept nobody from now on: newcomers wait in the kernel's queue."""
        self._acceptor.stop_listening()

    async def close(self) -> None:
        """Stop listening, without a reset for anybody who is in the queue already."""
        await self._acceptor.close()

    async def finish(self, deadline: float) -> int:
        """Wait until every request is answered, at most until ``deadline`` on the loop's clock.

        Connections without a request get some time for one that is on its way.

        Returns:
            How many requests were cut off.
        """
        connections = self._acceptor.connections
        grace = min(deadline, self._loop.time() + GRACE_SECONDS)
        while connections and self._loop.time() < deadline:
            if self._loop.time() >= grace:
                for connection in [each for each in connections if each.is_idle()]:
                    connection.force_close()
            await asyncio.sleep(0.02)
        cut_off = sum(each.owes_an_answer() for each in connections)
        for connection in tuple(connections):
            await connection.shutdown(0.1)
        return cut_off


async def _unused(_request: BaseRequest) -> Any:
    """Aiohttp's server wants a handler; ours is called by `Connection` itself."""
    raise NotImplementedError
