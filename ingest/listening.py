"""Listening sockets that outlive the worker that serves them, and that close without a reset.

The parent binds one socket for each worker (``SO_REUSEPORT``) and keeps it: connections that come
while a worker is being replaced wait in the kernel's queue.
"""

from __future__ import annotations

import array
import socket
import struct
from typing import TYPE_CHECKING, Any

from ingest.settings import split_address

if TYPE_CHECKING:
    from collections.abc import Sequence

BACKLOG = 2048

_SO_ATTACH_FILTER = 26
# Classic BPF over the TCP header: drop the segments with SYN (byte 13, bit 1), take all others.
_DROP_SYN = (
    (0x30, 0, 0, 13),  # load the byte of flags
    (0x45, 0, 1, 0x02),  # is the bit set?
    (0x06, 0, 0, 0),  # then drop it
    (0x06, 0, 0, 0xFFFFFFFF),  # else take it whole
)


def bind(address: str, count: int) -> list[socket.socket]:
    """``count`` listening sockets on the same ``host:port``; port 0 picks one.

    Raises:
        OSError: the address cannot be bound, or another program has it: ``SO_REUSEPORT`` alone
            would share it with that program, silently.
    """
    host, port = split_address(address)
    family, _, _, _, target = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with _bound(family, target, reuse_port=False) as alone:
        target = alone.getsockname()
    sockets = [_bound(family, target, reuse_port=True) for _ in range(count)]
    for sock in sockets:
        sock.listen(BACKLOG)
        sock.setblocking(False)
    return sockets


def _bound(family: int, target: Any, *, reuse_port: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(reuse_port))
        if family == socket.AF_INET6:  # "::" takes IPv4 as well, as people expect
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(target)
    except BaseException:
        sock.close()
        raise
    return sock


def address_of(sock: socket.socket) -> str:
    """``host:port`` of a bound socket."""
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if sock.family == socket.AF_INET6 else f"{host}:{port}"


def refuse_newcomers(sockets: Sequence[socket.socket]) -> None:
    """Let begun handshakes complete but no new one begin.

    Closing a listener resets every connection in its queue. A filter on the listener makes the end
    of the queue reachable: what is in it can be accepted before the listener is closed.
    """
    code = array.array("B", b"".join(struct.pack("=HBBI", *step) for step in _DROP_SYN))
    program = struct.pack("@HP", len(_DROP_SYN), code.buffer_info()[0])
    for sock in sockets:
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def accept_all(sock: socket.socket) -> list[socket.socket]:
    """Whoever waits in the accept queue, as non-blocking sockets."""
    accepted: list[socket.socket] = []
    while True:
        try:
            connection, _ = sock.accept()
        except OSError:  # nobody is left, or somebody hung up meanwhile
            return accepted
        connection.setblocking(False)
        accepted.append(connection)
