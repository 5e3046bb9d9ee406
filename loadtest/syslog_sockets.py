"""What the kernel knows of UDP sockets, whichever process has them (see sock_diag(7)).

It is asked about the gateway's listener, so that the gateway's own figures can be checked.
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST_DUMP = 0x301
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_SKMEMINFO = 7
_HEADER = struct.Struct("=IHHII")
_MESSAGE_BYTES = 72  # struct inet_diag_msg, before the attributes
_ATTRIBUTE = struct.Struct("=HH")
_MEMINFO = struct.Struct("=9I")
_ANY_SOCKET = struct.Struct("=32xIII")


class UdpSocket(NamedTuple):
    """One socket.

    Attributes:
        buffer_bytes: its receive buffer, word 1 of SO_MEMINFO.
        drops: datagrams that the kernel dropped on it, word 8; it wraps at 2**32.
    """

    buffer_bytes: int
    drops: int


def udp_sockets(port: int) -> list[UdpSocket]:
    """The IPv4 sockets that are bound to ``port``.

    Raises:
        OSError: the kernel does not say.
    """
    wanted = struct.pack(
        "=BBBxI", socket.AF_INET, socket.IPPROTO_UDP, 1 << (_SKMEMINFO - 1), ~0 % 2**32
    )
    wanted += struct.pack(">HH", port, 0) + _ANY_SOCKET.pack(0, 2**32 - 1, 2**32 - 1)
    size = _HEADER.size + len(wanted)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
        netlink.send(_HEADER.pack(size, _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0) + wanted)
        return list(_answers(netlink))


def _answers(netlink: socket.socket) -> Iterator[UdpSocket]:
    while True:
        data = netlink.recv(65_536)
        while data:
            size, kind, *_ = _HEADER.unpack_from(data)
            if kind == _NLMSG_DONE:
                return
            if kind == _NLMSG_ERROR:
                (number,) = struct.unpack_from("=i", data, _HEADER.size)
                raise OSError(-number, "the kernel does not tell of UDP sockets")
            yield _read(data[:size])
            data = data[_aligned(size) :]


def _read(answer: bytes) -> UdpSocket:
    at = _HEADER.size + _MESSAGE_BYTES
    while at < len(answer):
        size, kind = _ATTRIBUTE.unpack_from(answer, at)
        if kind == _SKMEMINFO:
            words = _MEMINFO.unpack_from(answer, at + _ATTRIBUTE.size)
            return UdpSocket(buffer_bytes=words[1], drops=words[8])
        at += _aligned(size)
    raise OSError("the kernel does not tell of a socket's memory")


def _aligned(size: int) -> int:
    return (size + 3) & ~3
