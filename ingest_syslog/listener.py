"""One listener of a worker: its connections or its datagrams, their limits and their end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from structlog import get_logger

from ingest import metrics
from ingest.accepting import AcceptLimits, Acceptor
from ingest.datagrams import refuse_datagrams
from ingest.networks import Networks
from ingest.tls import server_context
from ingest_syslog.identity import Identity
from ingest_syslog.intake import Taken
from ingest_syslog.proxied import take_proxy_header
from ingest_syslog.proxy import ProxyError
from ingest_syslog.publish import Origin
from ingest_syslog.stream import Connection, RelpConnection, StreamConnection
from ingest_syslog.udp import UdpListener

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Sequence

    from ingest_syslog.intake import Intake
    from ingest_syslog.pressure import Pressure
    from ingest_syslog.settings import ListenerSettings, TlsSettings
    from ingest_syslog.turns import Turns

log = get_logger(__name__)

PADDING = b"\r\n\0"
"""What senders put behind a message; where there is framing it is no part of it."""
SWEEP_SECONDS = 1.0
"""How late a time limit of a connection may be noticed."""
QUIET_SECONDS = 0.3
"""How long a sender that was told of the end is silent before its connection is closed."""


class StreamListener:
    """Accepts connections; see `ingest_syslog.stream.Host`.

    Args:
        settings: of the listener.
        intake: takes what its connections read.
        pressure: who must stop reading, and when.
        turns: of the worker, for those who have sent much.
    """

    def __init__(
        self, settings: ListenerSettings, intake: Intake, pressure: Pressure, turns: Turns
    ) -> None:
        self.settings = settings
        self.intake = intake
        self.turns = turns
        self.identity: Identity | None = None
        self.draining = False
        self._loop = asyncio.get_running_loop()
        self._pressure = pressure
        self._hinted: dict[str, float] = {}  # event -> when it may be told again
        self._sweeping: asyncio.Task[None] | None = None
        self._proxies = Networks(settings.proxy_from)
        allowed = settings.allow_from
        networks = Networks(allowed) if allowed is not None else None
        self._kind = RelpConnection if settings.protocol == "relp" else StreamConnection
        exempt = settings.proxy_from
        self._acceptor: Acceptor[Connection] = Acceptor(
            settings.name,
            self._make,
            AcceptLimits(
                settings.connections,
                settings.connections if settings.is_unix else settings.connections_per_address,
                settings.handshake_seconds,
                Networks(exempt),
            ),
            prepare=self._prepare if exempt else None,
            allow=networks.covers if networks is not None else None,
        )
        self.use(settings.tls)

    def __len__(self) -> int:
        return len(self._acceptor)

    def use(self, tls: TlsSettings | None) -> None:
        """Use other certificates for who comes from now on."""
        context = context_of(tls)
        self.identity = None
        if tls is not None and tls.client_ca is not None:
            self.identity = Identity(tls.allowed_names, tls.allowed_fingerprints)
        self._acceptor.use(context)

    def open(self, sockets: Sequence[socket.socket]) -> None:
        """Accept on listening sockets."""
        self._acceptor.open(sockets)
        self._sweeping = self._loop.create_task(self._sweep())

    async def close(self) -> None:
        """Accept who is in the queue, close the listener, and have every sender end."""
        self.draining = True
        await self._acceptor.close()
        if self.settings.protocol == "relp":
            for connection in tuple(self._acceptor.connections):
                connection.hold()  # what is not read is not acknowledged, and comes again
        else:
            await self._end_streams()

    def hold(self) -> None:
        """Read no more from anybody who is here."""
        for connection in tuple(self._acceptor.connections):
            connection.hold()

    def finish(self) -> None:
        """Give RELP clients the answers that are due; close what is left."""
        for connection in tuple(self._acceptor.connections):
            connection.finish()

    async def abort(self, seconds: float) -> None:
        """Close what has not closed after ``seconds``."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        until = self._loop.time() + seconds
        while self._acceptor.connections and self._loop.time() < until:
            await asyncio.sleep(0.01)
        for connection in tuple(self._acceptor.connections):
            connection.give_up()

    async def _end_streams(self) -> None:
        for connection in tuple(self._acceptor.connections):
            connection.finish()
        while self._acceptor.connections:
            quiet = self._loop.time() - QUIET_SECONDS
            for connection in tuple(self._acceptor.connections):
                if connection.idle_since < quiet and not connection.held:
                    connection.force_close()
            await asyncio.sleep(QUIET_SECONDS / 10)

    # What connections ask.

    def entered(self, connection: Connection) -> None:
        """A connection has its transport."""
        self._pressure.enter(connection)

    def left(self, connection: Connection) -> None:
        """A connection is gone."""
        self._pressure.leave(connection)
        self._acceptor.left(connection)

    def hint(self, event: str, advice: str, again_seconds: float = float("inf")) -> None:
        """Say something about senders, seldom: they may be many."""
        now = self._loop.time()
        if now >= self._hinted.get(event, now):
            self._hinted[event] = now + again_seconds
            log.warning(event, listener=self.settings.name, advice=advice)

    def _make(self, sock: socket.socket, address: str) -> Connection:
        return self._kind(self, sock, address)

    async def _prepare(self, sock: socket.socket, address: str) -> str | None:
        """The address of the client behind a proxy; that of others as it is."""
        if not self._proxies.covers(address):
            return address
        try:
            found = await take_proxy_header(self._loop, sock, self.settings.handshake_seconds)
        except ProxyError as error:
            self.hint("bad_proxy_header", error.code)
            metrics.CONNECTIONS_REFUSED.labels(self.settings.name, "proxy_header").inc()
            return None
        if found is None:
            return None
        return found.address or address

    async def _sweep(self) -> None:
        """Close who keeps others from coming: silent ones, and those that stop within a frame."""
        settings = self.settings
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = self._loop.time()
            for each in tuple(self._acceptor.connections):
                if each.is_arriving or each.held:
                    continue
                began = each.partial_since
                if began is not None and now - began > settings.partial_seconds:
                    each.close_for("partial_seconds")
                elif now - each.idle_since > settings.idle_seconds and each.is_waiting():
                    metrics.CONNECTIONS_CLOSED.labels(settings.name, "idle_seconds").inc()
                    each.finish()
                    each.force_close()


def context_of(tls: TlsSettings | None) -> ssl.SSLContext | None:
    """The TLS context of a listener.

    Raises:
        ValueError: one of the files cannot be used.
    """
    if tls is None:
        return None
    context = server_context(tls.cert, tls.key, tls.client_ca, client_cert_required=True)
    # Senders that never read would reset the connection by their close, with session tickets in it.
    context.num_tickets = 0
    return context


class DatagramListener:
    """Reads datagrams; see `ingest_syslog.pressure.Reader`.

    Args:
        settings: of the listener.
        intake: takes what is read.
        pressure: who must stop reading, and when.
        spills: whether there is a spool, which takes what there is no memory for. Then it never
            stops reading: the kernel would only drop what the spool has room for.
    """

    can_wait = False  # the kernel drops what it has no room for

    def __init__(
        self,
        settings: ListenerSettings,
        intake: Intake,
        pressure: Pressure,
        *,
        spills: bool = False,
    ) -> None:
        self.settings = settings
        self._intake = intake
        self._pressure = pressure
        self._spills = spills
        self._allowed = None if settings.allow_from is None else Networks(settings.allow_from)
        self._readers: list[UdpListener] = []
        self._sockets: Sequence[socket.socket] = ()
        self._holds = 0
        self._origin = Origin(settings.name, None if spills else self)

    def __len__(self) -> int:
        return 0

    def use(self, tls: TlsSettings | None) -> None:
        """There is no TLS for datagrams here."""

    def open(self, sockets: Sequence[socket.socket]) -> None:
        """Read from bound sockets."""
        self._sockets = sockets
        read = self.settings.frame_bytes + len(PADDING)  # which counts for nothing
        self._readers = [UdpListener(s, self._take, datagram_bytes=read) for s in sockets]
        if not self._spills:
            self._pressure.enter(self)
        for reader in self._readers:
            if not self._holds:
                reader.resume()

    def hold(self) -> None:
        """Read no more: the kernel keeps what comes as long as it can, and counts the rest."""
        self._holds += 1
        for reader in self._readers:
            reader.pause()

    def release(self) -> None:
        """Take one `hold` back."""
        self._holds -= 1
        if not self._holds:
            for reader in self._readers:
                reader.resume()

    async def close(self) -> None:
        """Keep new datagrams out, take what is queued, and close."""
        self._pressure.leave(self)
        for sock in self._sockets:
            refuse_datagrams(sock)
        for reader in tuple(self._readers):
            await reader.drain_rest()
            self._readers.remove(reader)
            reader.close()

    def finish(self) -> None:
        """Nobody waits for an answer."""

    async def abort(self, seconds: float) -> None:
        """Count what there was no time to take."""
        del seconds  # others wait for their senders
        for reader in self._readers:
            self._intake.lose(reader.discard_rest())
            reader.close()
        self._readers.clear()

    def _take(self, datagrams: list[bytes], peers: list[str], lengths: list[int]) -> None:
        kept = self.settings.frame_bytes
        datagrams = [each.rstrip(PADDING) for each in datagrams]
        odd = not all(datagrams) or max(lengths) > kept or self._allowed is not None
        if odd:
            datagrams, peers, lengths = self._admitted(datagrams, peers, lengths)
        cuts = self._cuts(datagrams, lengths) if odd else ()
        if cuts:
            datagrams = [each[:kept] for each in datagrams]
        if datagrams:
            origin = Origin(self.settings.name) if self._intake.sorts else self._origin
            self._intake.take(Taken(datagrams, peers, cuts), origin)

    def _cuts(self, datagrams: list[bytes], lengths: list[int]) -> list[tuple[int, int]]:
        """The position and the whole length of those over the limit, without their padding."""
        kept = self.settings.frame_bytes
        whole = kept + len(PADDING)
        return [
            (at, size)
            for at, (each, size) in enumerate(zip(datagrams, lengths, strict=True))
            if size > whole or len(each) > kept
        ]

    def _admitted(
        self, datagrams: list[bytes], peers: list[str], lengths: list[int]
    ) -> tuple[list[bytes], list[str], list[int]]:
        """Those that are not empty, from who may send; the others are counted."""
        allowed, kept, refused = self._allowed, [], 0
        for each in zip(datagrams, peers, lengths, strict=True):
            if allowed is not None and not allowed.covers(each[1]):
                refused += 1
            elif each[0]:
                kept.append(each)
        if refused:
            self._intake.drop("not_allowed", refused)
        if empty := len(datagrams) - refused - len(kept):
            self._intake.drop("empty", empty)
        columns: Any = [list(column) for column in zip(*kept, strict=True)] or ([], [], [])
        return columns[0], columns[1], columns[2]
