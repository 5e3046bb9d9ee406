"""The datagrams that the kernel dropped: read off its own count, and booked once."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from ingest import metrics
from ingest.datagrams import DropCounter
from ingest_syslog.publish import SERVICE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ingest_syslog.config import SyslogConfig


class KernelDrops:
    """Books drops in the parent, which has the sockets as long as it lives.

    Args:
        bound: the sockets of each listener.
    """

    def __init__(self, bound: Mapping[str, Sequence[socket.socket]]) -> None:
        self._counters = {
            name: [DropCounter(sock) for sock in sockets]
            for name, sockets in bound.items()
            if sockets[0].type == socket.SOCK_DGRAM and sockets[0].family != socket.AF_UNIX
        }

    def __call__(self, config: SyslogConfig) -> None:
        """Book what is new, as received and dropped by the source of the listener."""
        for listener in config.syslog.listeners:
            counters = self._counters.get(listener.name, ())
            new = sum(counter.poll() for counter in counters)
            if new:
                metrics.EVENTS_RECEIVED.labels(SERVICE, listener.source).inc(new)
                metrics.EVENTS.labels(SERVICE, listener.source, "dropped").inc(new)
                metrics.SYSLOG_DROPPED.labels(listener.name, "kernel").inc(new)
