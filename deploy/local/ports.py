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


def _hold_one(held: ExitStack) -> int:
    while True:
        port = random.randint(FIRST, LAST)  # noqa: S311 - no secret, only not the neighbour's
        probe = held.enter_context(socket.socket())
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return port
