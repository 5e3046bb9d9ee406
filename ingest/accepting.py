"""The listening side of a front door: who is let in, up to which limits, and the end.

It accepts by itself: a server of asyncio's knows no cap on connections, and would hide them while
they shake hands.
"""

from __future__ import annotations

import asyncio
import errno
import heapq
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

from structlog import get_logger

from ingest import metrics
from ingest.listening import BACKLOG, refuse_newcomers
from ingest.networks import NO_ADDRESS, Networks, normalised

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Sequence

log = get_logger(__name__)

HANDSHAKE_SECONDS = 0.2
"""How long begun TCP handshakes have to complete before the listener is closed."""
ACCEPTED_PER_TURN = 16
"""Newcomers who are let in before others have their turn on the event loop."""
PAUSE_SECONDS = 1.0
"""How long nobody is accepted when there is nothing left to accept with."""
HUNG_UP = frozenset(
    {errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.EHOSTUNREACH, errno.ENETUNREACH}
)
"""Errors of accept(2) that are about one newcomer."""
SHUTDOWN_SECONDS = 5.0
"""How long a TLS client may take to read the last 64 KiB, and to say that it closes too (RFC 8446,
section 6.1)."""
_SHORTEST_SECONDS = 0.001


class Accepted(Protocol):
    """What is asked of a connection, which is an `asyncio.Protocol` as well.

    It is made with its socket, before it has a transport: in the meantime it counts already, is
    waiting, and can be closed. It tells `Acceptor.left` when its transport is lost.

    Attributes:
        address: of its client, ``unix`` where there is none; set anew where `Prepare` tells it.
        idle_since: on the event loop's clock; which one has been waiting longest.
    """

    address: str
    idle_since: float

    @property
    def is_arriving(self) -> bool:
        """Whether it has no transport yet: ``connection_made`` was not called."""

    @property
    def is_closed_by_us(self) -> bool:
        """Whether `force_close` was called."""

    def is_waiting(self) -> bool:
        """Whether nothing would be lost with it, so that it can make room for a newcomer."""

    def force_close(self) -> None:
        """Close it at once.

        While it is arriving: shut its socket down, and abort the transport that may still come.
        """

    def never_made(self) -> None:
        """Close its socket: no transport will come."""


Guest = TypeVar("Guest", bound=Accepted)
Prepare = Callable[["socket.socket", str], Awaitable[str | None]]
"""Looks at the non-blocking socket of a newcomer, and its address, before TLS does.

Returns the address of the client, in its usual spelling (see `normalised`), or None to close the
connection silently. What it leaves unread is for the connection. It ends with its socket: the
connection may be closed meanwhile. An OSError counts as a handshake that failed.
"""


@dataclass(frozen=True, slots=True)
class AcceptLimits:
    """The limits of one listener in one worker.

    Attributes:
        connections: how many at once; then the longest waiting one is closed for a newcomer.
        connections_per_address: how many at once from one address; then the newcomer is closed.
        handshake_seconds: from the connection to the end of the TLS handshake, `Prepare` included.
        exempt: the proxies: behind one address of theirs are many clients.
    """

    connections: int
    connections_per_address: int
    handshake_seconds: float
    exempt: Networks


class _Refused(OSError):  # noqa: N818 - a verdict
    """A newcomer is turned away after it was looked at."""

    def __init__(self, limit: str = "") -> None:
        super().__init__()
        self.limit = limit  # empty: there is nothing to count


class Acceptor(Generic[Guest]):
    """Accepts the connections of one listener, keeps their limits, and closes the listener.

    Args:
        name: of the listener, for metrics.
        make: makes a connection of a non-blocking socket and its peer's address.
        limits: how many, and how long they may take to come.
        context: for TLS; None: there is none.
        prepare: looks at newcomers before TLS does; None: nobody has to.
        allow: whether a client of this address is let in; None: everyone is. It is asked before
            anything of a connection is read; where `prepare` looks at a proxy's, after that, of
            the address that was told.

    Attributes:
        connections: who is here, also those that are arriving; to be read only.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[socket.socket, str], Guest],
        limits: AcceptLimits,
        *,
        context: ssl.SSLContext | None = None,
        prepare: Prepare | None = None,
        allow: Callable[[str], bool] | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._name = name
        self._make = make
        self._limits = limits
        self._context = context
        self._prepare = prepare
        self._allow = allow
        self.connections: set[Guest] = set()
        self._by_address: Counter[str] = Counter()
        self._longest_idle: list[tuple[float, Guest]] = []  # the longest last
        self._sockets: list[socket.socket] = []
        self._listening = False
        self._exhausted = False

    def __len__(self) -> int:
        return len(self.connections)

    def use(self, context: ssl.SSLContext | None) -> None:
        """Use another TLS context for who comes from now on; who is there already stays."""
        self._context = context

    def open(self, sockets: Sequence[socket.socket]) -> None:
        """Accept on listening ``sockets``; `close` closes them."""
        self._listening = True
        for sock in sockets:
            sock.setblocking(False)
            sock.listen(BACKLOG)
            self._sockets.append(sock)
            self._listen(sock)

    def stop_listening(self) -> None:
        """Accept nobody from now on: newcomers wait in the kernel's queue."""
        if self._listening:
            self._listening = False
            for sock in self._sockets:
                self._loop.remove_reader(sock)

    async def close(self) -> None:
        """Stop listening, without a reset for anybody who is in the queue already."""
        refuse_newcomers(self._sockets)
        await asyncio.sleep(HANDSHAKE_SECONDS)
        self.stop_listening()
        for sock in self._sockets:
            while self._accept(sock):
                await asyncio.sleep(0)
            sock.close()
        self._sockets.clear()

    def left(self, connection: Guest) -> None:
        """A connection is gone."""
        if connection not in self.connections:
            return
        self.connections.discard(connection)
        self._one_less_of(connection.address)

    def _one_less_of(self, address: str) -> None:
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]

    # The queue of the kernel.

    def _listen(self, sock: socket.socket) -> None:
        if self._listening:
            self._loop.add_reader(sock, self._accept, sock)

    def _accept(self, sock: socket.socket) -> bool:
        """Let some newcomers in; whether there may be more."""
        for _ in range(ACCEPTED_PER_TURN):
            try:
                newcomer, peer = sock.accept()
            except BlockingIOError:
                self._exhausted = False
                return False
            except OSError as error:
                if error.errno in HUNG_UP:
                    continue
                self._pause(sock, error)
                return False
            self._admit(newcomer, peer)
        return True

    def _pause(self, sock: socket.socket, error: OSError) -> None:
        """Nothing is left to accept with: to try again at once would be to try all the time."""
        if not self._exhausted:
            self._exhausted = True
            log.error("accept_failed", error=error.strerror, pause_seconds=PAUSE_SECONDS)
        if self._listening:
            self._loop.remove_reader(sock)
            self._loop.call_later(PAUSE_SECONDS, self._listen, sock)

    # Newcomers.

    def _admit(self, sock: socket.socket, peer: Any) -> None:
        """Let a newcomer in, unless a limit is reached."""
        address = (normalised(peer[0]) if isinstance(peer, tuple) else None) or NO_ADDRESS
        limit = self._limit_reached_by(address)
        if limit is not None:
            self._count(limit)
            sock.close()
            return
        sock.setblocking(False)
        connection = self._make(sock, address)
        self.connections.add(connection)
        self._by_address[address] += 1
        if self._prepare is None:
            arriving = self._connect(connection, sock, self._limits.handshake_seconds)
        else:
            arriving = self._look_at(connection, sock, self._prepare)
        arrival = self._loop.create_task(arriving)
        arrival.add_done_callback(partial(self._arrived, connection))

    def _limit_reached_by(self, address: str) -> str | None:
        """The limit that keeps a newcomer out, after the longest idle one has made room."""
        is_proxy = self._prepare is not None and self._limits.exempt.covers(address)
        limit = None if is_proxy else self._limit_of(address)
        if limit is not None or len(self.connections) < self._limits.connections:
            return limit
        idle = self._next_longest_idle()
        if idle is None:
            return "connections"
        self._count("connections")
        self.left(idle)
        idle.force_close()
        return None

    def _limit_of(self, address: str) -> str | None:
        """The limit that keeps another connection of this client out."""
        if self._allow is not None and not self._allow(address):
            return "allow_from"
        limits = self._limits
        mine = self._by_address[address]
        if mine >= limits.connections_per_address and not limits.exempt.covers(address):
            return "connections_per_address"
        return None

    def _next_longest_idle(self) -> Guest | None:
        """Looked for among all only now and then, since newcomers may be many."""
        for search in (False, True):
            if search:
                idle = [(each.idle_since, each) for each in self.connections if each.is_waiting()]
                longest = heapq.nsmallest(ACCEPTED_PER_TURN, idle, key=lambda pair: pair[0])
                self._longest_idle = longest[::-1]
            while self._longest_idle:
                since, connection = self._longest_idle.pop()
                is_here = connection in self.connections
                if is_here and connection.is_waiting() and connection.idle_since == since:
                    return connection
        return None

    async def _look_at(self, connection: Guest, sock: socket.socket, prepare: Prepare) -> None:
        """Have ``prepare`` look at a newcomer; what is left of its time is for TLS."""
        deadline = self._loop.time() + self._limits.handshake_seconds
        try:
            async with asyncio.timeout_at(deadline):
                address = await prepare(sock, connection.address)
        except TimeoutError:
            raise _Refused("handshake_seconds") from None
        if address is None or connection.is_closed_by_us:
            raise _Refused
        self._move(connection, address)
        left = deadline - self._loop.time()
        await self._connect(connection, sock, max(_SHORTEST_SECONDS, left))

    def _move(self, connection: Guest, address: str) -> None:
        """Count a connection under the address that was told."""
        self._one_less_of(connection.address)
        limit = self._limit_of(address)
        connection.address = address
        self._by_address[address] += 1
        if limit is not None:
            raise _Refused(limit)

    def _connect(self, connection: Guest, sock: socket.socket, seconds: float) -> Any:
        """Give ``sock`` a transport; with TLS that lasts until the handshake is done."""
        options: dict[str, Any] = {}
        if self._context is not None:
            options = {
                "ssl": self._context,
                "ssl_handshake_timeout": seconds,
                "ssl_shutdown_timeout": SHUTDOWN_SECONDS,
            }
        protocol = cast("asyncio.Protocol", connection)
        return self._loop.connect_accepted_socket(lambda: protocol, sock, **options)

    def _arrived(self, connection: Guest, arrival: asyncio.Task[Any]) -> None:
        """A transport was made, or came to nothing, which asyncio does not always call an error."""
        error = None if arrival.cancelled() else arrival.exception()
        if error is not None and not isinstance(error, OSError):
            log.error("connection_failed", exc_info=error)
        if not connection.is_arriving:
            return
        self.left(connection)
        connection.never_made()
        limit = _limit_behind(error)
        if limit and not connection.is_closed_by_us:
            self._count(limit)

    def _count(self, limit: str) -> None:
        metrics.CONNECTIONS_REFUSED.labels(self._name, limit).inc()


def _limit_behind(error: BaseException | None) -> str:
    """Why no transport was made."""
    if isinstance(error, _Refused):
        return error.limit
    if isinstance(error, ConnectionAbortedError):  # raised for nothing but the time-out
        return "handshake_seconds"
    return "handshake"
