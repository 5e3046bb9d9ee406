"""TCP ports for brokers that stay theirs while the broker is down."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack

FIRST, LAST = 20_000, 32_000
"""Below 32768, where Linux starts to hand out ports to outgoing connections: one of those could
take the port of a broker that is down, and the broker could not come back."""


def free_ports(count: int) -> list[int]:
    """``count`` different ports of 127.0.0.1 that nobody uses now."""
    with ExitStack() as held:  # all are held until the last is found, so that they differ
        return [_hold_one(held) for _ in range(count)]


def is_free(port: int) -> bool:
    """Whether nobody uses this port of 127.0.0.1 now."""
    with socket.socket() as probe:
        # Else the remains of connections that are over would count as use.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return _bound(probe, port)


def _hold_one(held: ExitStack) -> int:
    while True:
        port = random.randint(FIRST, LAST)  # noqa: S311 - no secret, only not the neighbour's
        if _bound(held.enter_context(socket.socket()), port):
            return port


def _bound(probe: socket.socket, port: int) -> bool:
    try:
        probe.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True
