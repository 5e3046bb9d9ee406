"""Datagram sockets that outlive the worker that reads them, and whose losses are counted exactly.

The parent binds one socket for each worker (``SO_REUSEPORT``) and keeps it: what waits in a socket
when its worker dies is read by the next one, and the kernel goes on counting what it drops. A
worker that is replaced just stops reading. Only where the whole service ends are the sockets to
`refuse_datagrams`, to be read to their end, and their drops to be polled a last time.

Python has no names for the socket options used here; the numbers are those of Linux, from
``asm-generic/socket.h``.
"""

from __future__ import annotations

import array
import socket
import struct
from typing import TYPE_CHECKING

from structlog import get_logger

from ingest.listening import bind_unix, bound, unix_path
from ingest.settings import split_address

if TYPE_CHECKING:
    from collections.abc import Sequence

log = get_logger(__name__)

_SO_ATTACH_FILTER = 26
_SO_RCVBUFFORCE = 33
_SO_ATTACH_REUSEPORT_CBPF = 51
_SO_MEMINFO = 55

_MEMINFO = struct.Struct("@9I")
_RMEM_ALLOC, _RCVBUF, _DROPS = 0, 1, 8  # the words of SO_MEMINFO, see linux/sock_diag.h
_WORD = 0xFFFFFFFF

_LOAD_RANDOM = (0x20, 0, 0, 0xFFFFF038)  # the ancillary word SKF_AD_RANDOM
_MODULO = 0x94
_RETURN_A = (0x16, 0, 0, 0)
_DROP_ALL = ((0x06, 0, 0, 0),)


def bind_datagrams(address: str, count: int, receive_buffer_bytes: int) -> list[socket.socket]:
    """``count`` non-blocking sockets on ``host:port`` or ``unix:/path``; port 0 picks one.

    Of a path there is only one socket, which all share: the list has duplicates of it.

    Args:
        address: ``host:port``, ``[v6]:port``, ``:port`` or ``unix:/path``; ``[::]`` takes IPv4 too.
        count: how many will be read, each by a worker of its own.
        receive_buffer_bytes: what the kernel may keep for each; see `is_clamped`. Without meaning
            for a path, whose senders wait.

    Raises:
        OSError: the address cannot be bound, or another program has it: ``SO_REUSEPORT`` alone
            would share it with that program, silently.
    """
    path = unix_path(address)
    if path is not None:
        return _bind_path(path, count)
    host, port = split_address(address)
    family, _, _, _, target = socket.getaddrinfo(
        host, port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE
    )[0]
    kind = socket.SOCK_DGRAM
    with bound(family, kind, target, reuse_port=False) as alone:
        target = alone.getsockname()
    sockets: list[socket.socket] = []
    try:
        for _ in range(count):
            sockets.append(bound(family, kind, target, reuse_port=True))
            sockets[-1].setblocking(False)
            _enlarge(sockets[-1], receive_buffer_bytes)
    except BaseException:
        _close(sockets)
        raise
    if count > 1:
        _spread(sockets)
    return sockets


def _bind_path(path: str, count: int) -> list[socket.socket]:
    sockets = [bind_unix(path, socket.SOCK_DGRAM)]
    try:
        sockets[0].setblocking(False)
        sockets.extend(sockets[0].dup() for _ in range(count - 1))
    except BaseException:
        _close(sockets)
        raise
    return sockets


def _close(sockets: Sequence[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def _enlarge(sock: socket.socket, receive_buffer_bytes: int) -> None:
    """Ask for the buffer with the right to exceed the system's limit, else within the limit."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, receive_buffer_bytes)
    except OSError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)


def _spread(sockets: Sequence[socket.socket]) -> None:
    """Have each datagram go to any one of the sockets, so that one loud sender uses them all.

    By itself the kernel chooses by addresses and ports, always the same socket for one sender. The
    program needs no privilege. It holds for the whole group, whichever socket it is attached to.
    """
    program = (_LOAD_RANDOM, (_MODULO, 0, 0, len(sockets)), _RETURN_A)
    try:
        _attach(sockets[0], _SO_ATTACH_REUSEPORT_CBPF, program)
    except OSError as error:
        log.warning("cannot spread a sender's datagrams over the workers", reason=str(error))


def _attach(sock: socket.socket, option: int, program: Sequence[tuple[int, int, int, int]]) -> None:
    code = array.array("B", b"".join(struct.pack("=HBBI", *step) for step in program))
    sock.setsockopt(
        socket.SOL_SOCKET, option, struct.pack("@HP", len(program), code.buffer_info()[0])
    )


def refuse_datagrams(sock: socket.socket) -> None:
    """Keep new datagrams out, so that the end of what is queued can be reached.

    For UDP the kernel drops and counts them: `kernel_drops` has them. Senders to a path are told
    (``EPIPE``), as nobody would count what a filter drops there. A path is refused for all who
    share its socket. Both last as long as the socket.
    """
    if sock.family == socket.AF_UNIX:
        sock.shutdown(socket.SHUT_RD)
    else:
        _attach(sock, _SO_ATTACH_FILTER, _DROP_ALL)


def effective_buffer(sock: socket.socket) -> int:
    """Bytes the kernel may keep for ``sock``, its own overhead included.

    It is twice what was granted, and a datagram of 280 bytes takes more than 1,000 of it.
    """
    return _meminfo(sock)[_RCVBUF]


def queued_bytes(sock: socket.socket) -> int:
    """Bytes the kernel keeps for ``sock`` now, in the measure of `effective_buffer`."""
    return _meminfo(sock)[_RMEM_ALLOC]


def kernel_drops(sock: socket.socket) -> int:
    """Datagrams the kernel had for ``sock`` and dropped, modulo 2**32.

    Those that came when the buffer was full, those with a wrong checksum, and those refused by
    `refuse_datagrams`. What is lost before a socket is found for it is not among them.
    """
    return _meminfo(sock)[_DROPS]


def is_clamped(sock: socket.socket, receive_buffer_bytes: int) -> bool:
    """Whether the kernel granted less than was asked for (``net.core.rmem_max``)."""
    return sock.family != socket.AF_UNIX and effective_buffer(sock) < receive_buffer_bytes


def _meminfo(sock: socket.socket) -> tuple[int, ...]:
    return _MEMINFO.unpack(sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size))


class DropCounter:
    """Counts a socket's drops, each once.

    One process must do so for a socket: the parent, which has it as long as it lives.

    Args:
        sock: a bound socket; of a path's duplicates any one.
        already: what `kernel_drops` said when drops were counted last.
    """

    def __init__(self, sock: socket.socket, already: int = 0) -> None:
        self._sock = sock
        self._seen = already

    def poll(self) -> int:
        """Drops since the last call; the kernel's number may have wrapped, but once only."""
        now = kernel_drops(self._sock)
        new = (now - self._seen) & _WORD
        self._seen = now
        return new
