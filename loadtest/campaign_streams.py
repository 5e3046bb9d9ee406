"""Clients that number their messages and get no answers: over TCP, and over UDP.

Both go on when the gateway dies, and send nothing twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from typing import TYPE_CHECKING, NamedTuple

from loadtest.syslog_messages import MESSAGE_BYTES
from loadtest.syslog_numbered import Numbered

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from loadtest.campaign_ledger import Ledger

TICK_SECONDS = 0.02
PAUSE_SECONDS = 0.05
"""Between two attempts to connect."""
CLOSE_SECONDS = 30.0


class Address(NamedTuple):
    """Where a listener is; stays the same while the gateway is away."""

    host: str
    port: int


class Stop:
    """Whether clients shall send nothing new; what is unanswered may still be sent again."""

    def __init__(self) -> None:
        self.asked = False


async def ticks(rate: float, stop: Stop) -> AsyncIterator[int]:
    """How many messages to send now, many times a second; time lost is not made up for."""
    owed, last = 0.0, time.monotonic()
    while not stop.asked:
        await asyncio.sleep(TICK_SECONDS)
        now = time.monotonic()
        owed, last = min(owed + rate * (now - last), 5 * rate * TICK_SECONDS), now
        count = int(owed)
        owed -= count
        if count:
            yield count


class Messages:
    """A sender's messages without a frame, one after the other.

    Args:
        pool: what is repeated; see `Numbered`.
        sender: its number.
    """

    def __init__(self, pool: Sequence[bytes], sender: int) -> None:
        self._numbered = Numbered(pool, sender)

    def take(self, count: int) -> list[bytes]:
        """The next ``count`` messages."""
        taken: list[bytes] = []
        while len(taken) < count:
            run = bytes(self._numbered.take(count - len(taken)))
            taken += [run[at : at + MESSAGE_BYTES] for at in range(0, len(run), MESSAGE_BYTES)]
        return taken


class TcpClient:
    """One sender over TCP, a line for each message.

    Args:
        address: the listener.
        messages: what it sends.
        ledger: where it notes that.
    """

    def __init__(self, address: Address, messages: Messages, ledger: Ledger) -> None:
        self._address = address
        self._messages = messages
        self._ledger = ledger
        self._sock: socket.socket | None = None

    async def run(self, rate: float, stop: Stop) -> None:
        """Send until told to stop, then wait until the gateway has read it all."""
        async for count in ticks(rate, stop):
            if self._sock is None:
                self._sock = await self._connected(stop)
            if self._sock is not None:
                await self._send(self._sock, count)
        if self._sock is not None:
            await self._close(self._sock)

    async def _connected(self, stop: Stop) -> socket.socket | None:
        loop = asyncio.get_running_loop()
        while not stop.asked:
            sock = socket.socket()
            sock.setblocking(False)
            try:
                await loop.sock_connect(sock, self._address)
            except OSError:
                sock.close()
                await asyncio.sleep(PAUSE_SECONDS)
            else:
                return sock
        return None

    async def _send(self, sock: socket.socket, count: int) -> None:
        if _hung_up(sock):
            self._broke(sock)
            return
        self._ledger.sending(count, time.monotonic())
        data = b"".join(message + b"\n" for message in self._messages.take(count))
        try:
            await asyncio.get_running_loop().sock_sendall(sock, data)
        except OSError:
            self._broke(sock)

    def _broke(self, sock: socket.socket) -> None:
        self._ledger.broke(time.monotonic())
        sock.close()
        self._sock = None

    async def _close(self, sock: socket.socket) -> None:
        """Say that nothing follows; a gateway that has read everything hangs up in turn."""
        try:
            sock.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(CLOSE_SECONDS):
                await asyncio.get_running_loop().sock_recv(sock, 1)
        except OSError:  # a TimeoutError is one
            self._ledger.broke(time.monotonic())
        finally:
            sock.close()


def _hung_up(sock: socket.socket) -> bool:
    """Whether the other end is gone: syslog gateways say nothing on TCP but that."""
    with contextlib.suppress(BlockingIOError):
        try:
            return not sock.recv(1)
        except ConnectionError:
            return True
    return False


class UdpClient:
    """One sender over UDP, a datagram for each message; see `TcpClient`."""

    def __init__(self, address: Address, messages: Messages, ledger: Ledger) -> None:
        self._address = address
        self._messages = messages
        self._ledger = ledger

    async def run(self, rate: float, stop: Stop) -> None:
        """Send until told to stop."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect(self._address)
            async for count in ticks(rate, stop):
                self._ledger.sending(count, time.monotonic())
                for message in self._messages.take(count):
                    _send(sock, message)


def _send(sock: socket.socket, message: bytes) -> None:
    """Send a datagram, whether or not somebody listens.

    That nobody listened to the one before is told once, instead of sending.
    """
    try:
        sock.send(message)
    except ConnectionError:
        with contextlib.suppress(ConnectionError):
            sock.send(message)
