"""Listening sockets that outlive the worker that serves them, and that close without a reset.

The parent binds one socket for each worker (``SO_REUSEPORT``) and keeps it: connections that come
while a worker is being replaced wait in the kernel's queue. A unix socket has one queue, which all
workers share.
"""

from __future__ import annotations

import array
import errno
import socket
import stat
import struct
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingest.settings import split_address

if TYPE_CHECKING:
    from collections.abc import Sequence

BACKLOG = 2048
UNIX = "unix:"
"""What the address of a unix socket begins with; its path follows."""
SOCKET_FILE_MODE = 0o666
"""Everybody who reaches the folder may send, as with /dev/log: the folder says who that is."""

_SO_ATTACH_FILTER = 26
# Classic BPF over the TCP header: drop the segments with SYN (byte 13, bit 1), take all others.
_DROP_SYN = (
    (0x30, 0, 0, 13),  # load the byte of flags
    (0x45, 0, 1, 0x02),  # is the bit set?
    (0x06, 0, 0, 0),  # then drop it
    (0x06, 0, 0, 0xFFFFFFFF),  # else take it whole
)


def bind(address: str, count: int) -> list[socket.socket]:
    """``count`` listening sockets on the same ``host:port`` or ``unix:/path``; port 0 picks one.

    Raises:
        OSError: the address cannot be bound, or another program has it: ``SO_REUSEPORT`` alone
            would share it with that program, silently.
    """
    path = unix_path(address)
    sockets = _bound_tcp(address, count) if path is None else _bound_unix(path, count)
    for sock in sockets:
        sock.listen(BACKLOG)
        sock.setblocking(False)
    return sockets


def unix_path(address: str) -> str | None:
    """The path in ``unix:/path``; None for the address of another kind."""
    return address.removeprefix(UNIX) if address.startswith(UNIX) else None


def bind_unix(path: str, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
    """A unix socket that everybody who reaches the folder of ``path`` may send to.

    A socket file that nobody serves any more is replaced.

    Raises:
        OSError: the path cannot be bound, or something is there already.
    """
    unlink(path)
    sock = socket.socket(socket.AF_UNIX, kind)
    try:
        sock.bind(path)
        Path(path).chmod(SOCKET_FILE_MODE)
    except BaseException:
        sock.close()
        raise
    return sock


def unlink(path: str) -> None:
    """Remove the file of a socket that no process has any more; other files stay.

    To be called after the sockets were closed: before, they are still had.
    """
    file = Path(path)
    with suppress(OSError):
        if stat.S_ISSOCK(file.lstat().st_mode) and not _is_in_use(path):
            file.unlink()


def _is_in_use(path: str) -> bool:
    """Whether a process has the socket at ``path``: it refuses other kinds with another error.

    Nobody is called by this: where the kinds are the same, a datagram socket notices nothing.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        return other.connect_ex(path) != errno.ECONNREFUSED


def _bound_unix(path: str, count: int) -> list[socket.socket]:
    first = bind_unix(path)
    return [first, *(first.dup() for _ in range(count - 1))]


def _bound_tcp(address: str, count: int) -> list[socket.socket]:
    host, port = split_address(address)
    family, _, _, _, target = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    kind = socket.SOCK_STREAM
    with bound(family, kind, target, reuse_port=False) as alone:
        target = alone.getsockname()
    return [bound(family, kind, target, reuse_port=True) for _ in range(count)]


def bound(family: int, kind: socket.SocketKind, target: Any, *, reuse_port: bool) -> socket.socket:
    """A socket at ``target``; a stream's may be bound again at once after it was closed.

    With SO_REUSEADDR two processes could share a datagram socket's address.

    Raises:
        OSError: the address cannot be bound.
    """
    sock = socket.socket(family, kind)
    try:
        if kind == socket.SOCK_STREAM:
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
    """``host:port`` or ``unix:/path`` of a bound socket."""
    if sock.family == socket.AF_UNIX:
        return f"{UNIX}{sock.getsockname()}"
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if sock.family == socket.AF_INET6 else f"{host}:{port}"


def refuse_newcomers(sockets: Sequence[socket.socket]) -> None:
    """Let begun handshakes complete but no new one begin.

    Closing a listener resets every connection in its queue. A filter on the listener makes the end
    of the queue reachable: what is in it can be accepted before the listener is closed. A unix
    socket has no handshakes: who comes between its last accept and its close is reset.
    """
    code = array.array("B", b"".join(struct.pack("=HBBI", *step) for step in _DROP_SYN))
    program = struct.pack("@HP", len(_DROP_SYN), code.buffer_info()[0])
    for sock in sockets:
        if sock.family != socket.AF_UNIX:
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
