"""Reading many datagrams with one system call: recvmmsg(2), which Python does not offer.

The call is made through ctypes with the global interpreter lock held: it never waits here, and
giving the lock away for each datagram, as `socket.recvfrom` does, lets any other thread keep it for
milliseconds. Payloads are cut out of an anonymous map, whose slices are ``bytes`` at once.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import socket
from typing import Any, NamedTuple, Protocol

from structlog import get_logger

log = get_logger(__name__)

DATAGRAM_BYTES = 65_536
"""More than IPv4 or IPv6 can bring in one datagram (65,507 and 65,527 bytes)."""
SLOTS = 32
"""How many datagrams one call may bring."""
SLOTS_BYTES = 2 << 20
"""What they may be together, unless one alone is larger."""
PEERS = 65_536
"""How many senders' names are remembered."""
UNIX_PEER = "unix"
"""The name of everyone who sends to a path."""

_NAME_BYTES = 32  # of a slot; sockaddr_in6, the longest, takes 28
_ADDRESS = {socket.AF_INET: slice(4, 8), socket.AF_INET6: slice(8, 24)}  # in a sockaddr
_MAPPED = bytes(10) + b"\xff\xff"  # an IPv4 address inside IPv6 (RFC 4291, section 2.5.5.2)
_SKEW = 320  # keeps slots from falling on the same few lines of the processor's caches
_FLAGS = int(socket.MSG_DONTWAIT | socket.MSG_TRUNC)  # the latter has it tell the real lengths
_NOTHING = (errno.EAGAIN, errno.EINTR)


class Batch(NamedTuple):
    """Datagrams in the order of their arrival.

    Attributes:
        datagrams: their payloads, each cut to what a slot takes.
        peers: each one's sender: an IP address (IPv4 as such, also where it came by an IPv6
            socket), or ``unix``. Equal ones are mostly the same object.
        lengths: how long each one was sent; more than the payload has where it was cut.
    """

    datagrams: list[bytes]
    peers: list[str]
    lengths: list[int]


class Receiver(Protocol):
    """Reads datagrams from one non-blocking socket.

    Attributes:
        slots: the most that a call returns; when it returns fewer, no more were there.
    """

    slots: int

    def receive(self) -> Batch:
        """What waits, without waiting.

        Raises:
            OSError: the socket says so.
        """


class _Peers(dict[bytes, str]):
    """Packed address -> its text, remembered for a bounded number of them."""

    def __missing__(self, packed: bytes) -> str:
        if len(self) >= PEERS:
            self.clear()
        mapped = packed.startswith(_MAPPED)
        v4 = packed[len(_MAPPED) :] if mapped else packed
        name = socket.inet_ntop(socket.AF_INET if len(v4) == 4 else socket.AF_INET6, v4)
        self[packed] = name
        return name


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("len", ctypes.c_size_t))


class _Msghdr(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("namelen", ctypes.c_uint32),
        ("iov", ctypes.c_void_p),
        ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Mmsghdr(ctypes.Structure):
    _fields_ = (("hdr", _Msghdr), ("len", ctypes.c_uint32))


class ManyReceiver:
    """Reads up to `SLOTS` datagrams with one call.

    Args:
        sock: a non-blocking datagram socket; it stays the caller's.
        datagram_bytes: the most that is kept of one datagram.

    Raises:
        AttributeError: the C library has no recvmmsg.
    """

    def __init__(self, sock: socket.socket, datagram_bytes: int = DATAGRAM_BYTES) -> None:
        self._recvmmsg = _recvmmsg()
        self._fd = sock.fileno()
        self.slots = max(1, min(SLOTS, SLOTS_BYTES // datagram_bytes))
        self._room = datagram_bytes
        stride = datagram_bytes + _SKEW
        self._payloads = mmap.mmap(-1, self.slots * stride)
        self._starts = [slot * stride for slot in range(self.slots)]
        self._names = mmap.mmap(-1, self.slots * _NAME_BYTES)
        self._addresses = _addresses(sock.family, self.slots)
        self._peers = _Peers()
        self._iovecs = (_Iovec * self.slots)()
        self._headers = (_Mmsghdr * self.slots)()
        self._headers_at = ctypes.addressof(self._headers)
        self._link()
        words = memoryview(self._headers).cast("B").cast("I")
        self._lengths = words[_Mmsghdr.len.offset // 4 :: ctypes.sizeof(_Mmsghdr) // 4]

    def _link(self) -> None:
        """Have each header point to its slot."""
        payloads, names = _address_of(self._payloads), _address_of(self._names)
        iovecs = ctypes.addressof(self._iovecs)
        for slot, start in enumerate(self._starts):
            self._iovecs[slot] = _Iovec(payloads + start, self._room)
            header = self._headers[slot].hdr
            header.iov = iovecs + slot * ctypes.sizeof(_Iovec)
            header.iovlen = 1
            if self._addresses:  # the kernel writes back the length it used, always the same one
                header.name = names + slot * _NAME_BYTES
                header.namelen = _NAME_BYTES

    def receive(self) -> Batch:
        """See `Receiver`."""
        count = self._recvmmsg(
            self._fd,
            self._headers_at,
            self.slots,
            _FLAGS,
            None,
        )
        if count < 0:
            _check(ctypes.get_errno())
            return Batch([], [], [])
        lengths = self._lengths[:count].tolist()
        return Batch(self._cut(lengths), self._senders(count), lengths)

    def _cut(self, lengths: list[int]) -> list[bytes]:
        kept = lengths
        if max(lengths) > self._room:
            kept = [min(length, self._room) for length in lengths]
        payloads = self._payloads
        return [
            payloads[start : start + length]
            for start, length in zip(self._starts, kept, strict=False)
        ]

    def _senders(self, count: int) -> list[str]:
        if not self._addresses:
            return [UNIX_PEER] * count
        names, peers = self._names, self._peers
        return [peers[names[address]] for address in self._addresses[:count]]


class OneReceiver:
    """Reads datagrams one by one, where there is no recvmmsg.

    Args:
        sock: a non-blocking datagram socket; it stays the caller's.
        datagram_bytes: the most that is kept of one datagram.
    """

    slots = SLOTS

    def __init__(self, sock: socket.socket, datagram_bytes: int = DATAGRAM_BYTES) -> None:
        self._sock = sock
        self._name = _unix_peer if sock.family == socket.AF_UNIX else _host
        self._buffer = bytearray(datagram_bytes)
        self._view = memoryview(self._buffer)

    def receive(self) -> Batch:
        """See `Receiver`."""
        batch = Batch([], [], [])
        try:
            for _ in range(self.slots):
                length, peer = self._sock.recvfrom_into(self._buffer, 0, _FLAGS)
                batch.datagrams.append(bytes(self._view[:length]))
                batch.peers.append(self._name(peer))
                batch.lengths.append(length)
        except (BlockingIOError, InterruptedError):
            pass
        return batch


def _unix_peer(_peer: Any) -> str:
    return UNIX_PEER


def _host(peer: Any) -> str:
    host: str = peer[0]
    if ":" in host:
        host = host.partition("%")[0]  # a link's name is ours, not the sender's
        return host.removeprefix("::ffff:") if "." in host else host
    return host


def receiver(sock: socket.socket, datagram_bytes: int = DATAGRAM_BYTES) -> Receiver:
    """The cheapest that works here."""
    try:
        return ManyReceiver(sock, datagram_bytes)
    except (OSError, AttributeError) as error:
        log.warning("recvmmsg cannot be used", reason=str(error))
        return OneReceiver(sock, datagram_bytes)


def _recvmmsg() -> Any:
    function = ctypes.PyDLL(None, use_errno=True).recvmmsg
    function.argtypes = (
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_uint,
        ctypes.c_int,
        ctypes.c_void_p,
    )
    return function


def _address_of(memory: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


def _addresses(family: int, slots: int) -> list[slice]:
    """Where the senders' packed addresses are in the memory for names; none for unix sockets."""
    if family == socket.AF_UNIX:
        return []
    within = _ADDRESS[socket.AddressFamily(family)]
    starts = range(0, slots * _NAME_BYTES, _NAME_BYTES)
    return [slice(start + within.start, start + within.stop) for start in starts]


def _check(code: int) -> None:
    if code not in _NOTHING:
        raise OSError(code, os.strerror(code))
