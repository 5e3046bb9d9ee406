"""Where a service listens: how its sockets come to be, and what becomes of them at the end."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from structlog import get_logger

from ingest.datagrams import bind_datagrams, effective_buffer, is_clamped
from ingest.listening import bind, unix_path, unlink

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One listener.

    Attributes:
        address: ``host:port``, or ``unix:/path`` for protocols that have that.
        receive_buffer_bytes: what the kernel may keep of datagrams; 0: it is a stream.
    """

    address: str
    receive_buffer_bytes: int = 0

    def bind(self, count: int) -> list[socket.socket]:
        """A socket for each of ``count`` workers.

        Raises:
            OSError: the address cannot be bound.
        """
        if not self.receive_buffer_bytes:
            return bind(self.address, count)
        return bind_datagrams(self.address, count, self.receive_buffer_bytes)

    def warn(self, name: str, sockets: Sequence[socket.socket]) -> None:
        """Say where the kernel gives less than it was asked for."""
        wanted = self.receive_buffer_bytes
        if wanted and is_clamped(sockets[0], wanted):
            log.warning(
                "receive_buffer_clamped",
                listener=name,
                wanted_bytes=wanted,
                effective_bytes=effective_buffer(sockets[0]),
                advice="raise net.core.rmem_max, or grant CAP_NET_ADMIN",
            )

    def release(self, sockets: Sequence[socket.socket]) -> None:
        """Close what the parent still has, when all workers have ended; remove the file, if any."""
        for sock in sockets:
            with suppress(OSError):
                sock.close()
        path = unix_path(self.address)
        if path is not None:
            unlink(path)
