"""Takes the PROXY header off an accepted connection, and not one byte more.

What follows the header, often in the same segment, may be a TLS handshake, which asyncio has to
find in the socket.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from ingest_syslog.proxy import MAX_V2_BYTES, ProxyError, read_proxy_header

if TYPE_CHECKING:
    from ingest_syslog.proxy import Proxied


async def take_proxy_header(
    loop: asyncio.AbstractEventLoop, sock: socket.socket, seconds: float
) -> Proxied | None:
    """Wait for the header and remove it from the socket, which stays open in any case.

    Args:
        loop: the running loop; nothing else may read from the socket meanwhile.
        sock: a connection, accepted and non-blocking.
        seconds: how long the header may take, from now to its last byte.

    Returns:
        None for a connection that ended without a byte: the probe of a load balancer.

    Raises:
        ProxyError: what came is no header, or ended within one (``incomplete_proxy_header``).
        TimeoutError: it took too long.
    """
    async with asyncio.timeout(seconds):
        begun = b""
        while True:
            arrived = _peek(sock)
            if arrived is None:
                await _readable(loop, sock)
                continue
            if not arrived and begun:
                raise ProxyError("incomplete_proxy_header", "the connection ended within it")
            if not arrived:
                return None
            found = read_proxy_header(begun + arrived)
            if found is not None:
                sock.recv(found.length - len(begun))
                return found
            # All of it belongs to the header. Left in the socket it would keep that readable.
            begun += sock.recv(len(arrived))


def _peek(sock: socket.socket) -> bytes | None:
    """What has arrived, nothing at the end of the connection, or None where one has to wait."""
    try:
        return sock.recv(MAX_V2_BYTES, socket.MSG_PEEK)
    except BlockingIOError:
        return None
    except OSError:  # probes often end by a reset
        return b""


async def _readable(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
    ready = asyncio.Event()
    loop.add_reader(sock, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(sock)
