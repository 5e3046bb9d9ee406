"""Sends datagrams in runs that the kernel cuts (UDP_SEGMENT, see udp(7)), for a sixth of the cost.

The receiver finds one datagram per message, also over loopback, where the kernel cuts a run when it
queues it on the receiving socket. In a receive buffer such a datagram takes 1112 bytes, and one
that was sent by itself 1280 (Linux 6.18): ``burst=1`` sends like that.
"""

from __future__ import annotations

import socket
import time
from itertools import cycle
from typing import TYPE_CHECKING

from loadtest.syslog_messages import MESSAGE_BYTES
from loadtest.syslog_pace import TICK_SECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from loadtest.syslog_numbered import Numbered
    from loadtest.syslog_pace import Pace

BURST = 32
"""Messages of one run. A run goes to one socket of the receiver: long ones spread badly."""
LONGEST_BURST = 128
"""What the kernel cuts at most: ``UDP_MAX_SEGMENTS``; 64 before Linux 6.9."""

_UDP_SEGMENT = 103


def connect(host: str, port: int, burst: int = BURST) -> socket.socket:
    """A socket with a source port of its own, that can send runs of ``burst`` messages."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    sock = socket.socket(family, kind, protocol)
    if burst > 1:
        sock.setsockopt(socket.IPPROTO_UDP, _UDP_SEGMENT, MESSAGE_BYTES)
    sock.connect(address)
    return sock


def send(
    senders: Sequence[tuple[socket.socket, Numbered]], pace: Pace, burst: int = BURST
) -> tuple[float, float]:
    """Send all that ``pace`` asks for, in turn from each sender; returns when it began and ended.

    Times are of `time.perf_counter`.

    Raises:
        ConnectionRefusedError: nobody receives at that port.
    """
    started = ended = time.perf_counter()
    turns = cycle(senders)
    while pace.left:
        due = pace.due(time.perf_counter())
        while due:
            sock, source = next(turns)
            run = source.take(min(due, burst))
            sock.send(run)
            count = len(run) // source.width
            due -= count
            pace.sent(count)
        ended = time.perf_counter()
        if pace.paced:
            time.sleep(TICK_SECONDS)
    return started, ended
