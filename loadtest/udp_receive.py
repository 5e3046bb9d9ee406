"""CPU time and delay of a datagram on its way into the process: ways to read, and rests between.

``python -m loadtest.udp_receive`` prints a table. A forked sender keeps to a rate with sendmmsg(2);
on loopback it pays for the kernel's receiving side, so that what the receiver pays is reading.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import itertools
import os
import resource
import socket
import struct
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import uvloop

from ingest.datagrams import bind_datagrams, kernel_drops
from ingest.memory import keep_freed_memory
from ingest_syslog.recvmmsg import Batch, ManyReceiver, OneReceiver, Receiver
from ingest_syslog.udp import UdpListener

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DATAGRAM = 280
BURST_SECONDS = 0.0001
STAMP = struct.Struct("@d")
PATIENCE = 0.5


class _Header(ctypes.Structure):
    """struct mmsghdr of one part."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("namelen", ctypes.c_uint32),
        ("iov", ctypes.c_void_p),
        ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int),
        ("len", ctypes.c_uint64),
    )


def send(port: int, rate: int, seconds: float) -> None:
    """``rate`` datagrams a second; each begins with when it was sent."""
    payload = ctypes.create_string_buffer(DATAGRAM)
    part = (ctypes.c_size_t * 2)(ctypes.addressof(payload), DATAGRAM)
    burst = max(1, int(rate * BURST_SECONDS))
    headers = (_Header * burst)()
    for header in headers:
        header.iov, header.iovlen = ctypes.addressof(part), 1
    sendmmsg = ctypes.PyDLL(None).sendmmsg
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", port))
        begin, sent, total = time.monotonic(), 0, int(rate * seconds)
        while sent < total:
            now = time.monotonic()
            due = min(total, int((now - begin) * rate)) - sent
            if due < burst:
                time.sleep(BURST_SECONDS / 2)
                continue
            STAMP.pack_into(payload, 0, now)
            sent += sendmmsg(sock.fileno(), ctypes.byref(headers), min(burst, due), 0)


class RecvfromReceiver:
    """What one writes first."""

    slots = 64

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def receive(self) -> Batch:
        """See `Receiver`."""
        datagrams, peers = [], []
        try:
            for _ in range(self.slots):
                datagram, peer = self._sock.recvfrom(65_536)
                datagrams.append(datagram)
                peers.append(peer[0])
        except BlockingIOError:
            pass
        return Batch(datagrams, peers, list(map(len, datagrams)))


class Way(Protocol):
    """Makes a receiver of a socket."""

    def __call__(self, sock: socket.socket, /) -> Receiver:
        """The receiver."""


WAYS: dict[str, Way] = {
    "recvmmsg": ManyReceiver,
    "recvfrom_into": OneReceiver,
    "recvfrom": RecvfromReceiver,
}


@dataclass(slots=True)
class Figures:
    """What came out of one run."""

    received: int = 0
    batches: int = 0
    dropped: int = 0
    cpu_seconds: float = 0.0
    delays: list[float] = field(default_factory=list)

    def take(self, datagrams: list[bytes], _peers: list[str], _lengths: list[int]) -> None:
        """Count a batch; only its oldest datagram's delay, which is its longest, is kept."""
        self.received += len(datagrams)
        self.batches += 1
        self.delays.append(time.monotonic() - STAMP.unpack_from(datagrams[0])[0])

    def line(self, seconds: float) -> str:
        """As columns."""
        delay = sorted(self.delays)[int(len(self.delays) * 0.99)] * 1000
        cost = self.cpu_seconds / self.received * 1e6
        return f"{cost:9.2f} {self.batches / seconds:9.0f} {delay:9.1f} {self.dropped:8d}"


async def receive(sock: socket.socket, way: Way, rest: float, seconds: float) -> Figures:
    """Read for ``seconds`` what is sent to ``sock``."""
    figures = Figures()
    listener = UdpListener(sock, figures.take, rest_seconds=rest, reader=way(sock))
    before = resource.getrusage(resource.RUSAGE_SELF)
    listener.resume()
    await asyncio.sleep(seconds)
    after = resource.getrusage(resource.RUSAGE_SELF)
    figures.cpu_seconds = sum(after[:2]) - sum(before[:2])
    figures.dropped = kernel_drops(sock)
    listener.close()
    return figures


def measure(way: Way, rest: float, rate: int, seconds: float) -> Figures:
    """One run, with a sender of its own."""
    (sock,) = bind_datagrams("127.0.0.1:0", 1, 8 << 20)
    port = sock.getsockname()[1]
    sender = os.fork()
    if not sender:
        time.sleep(PATIENCE / 2)
        send(port, rate, seconds)
        os._exit(0)
    run: Callable[..., Figures] = uvloop.run
    figures = run(receive(sock, way, rest, seconds + 2 * PATIENCE))
    os.waitpid(sender, 0)
    return figures


def main(arguments: Sequence[str] | None = None) -> None:
    """The table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rates", type=int, nargs="+", default=[50_000, 200_000])
    parser.add_argument("--rests", type=int, nargs="+", default=[0, 1, 2, 5], help="milliseconds")
    keep_freed_memory()  # as every worker does
    asked = parser.parse_args(arguments)
    print("way             rate  rest ms    us each batches/s  p99 ms   dropped")
    for rate, rest, way in itertools.product(asked.rates, asked.rests, WAYS):
        figures = measure(WAYS[way], rest / 1000, rate, asked.seconds)
        print(f"{way:13} {rate:7d} {rest:8d} {figures.line(asked.seconds)}", flush=True)


if __name__ == "__main__":
    main()
