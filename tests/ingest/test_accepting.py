"""Acceptors: who is let in, who is looked at first, and that nobody is lost or left behind.

On uvloop, as the services are. What the limits and the end of the HTTP door show of it is in
``tests/ingest_http``.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from structlog.testing import capture_logs

from ingest import accepting
from ingest.accepting import AcceptLimits, Acceptor
from ingest.listening import bind
from ingest.networks import NO_ADDRESS, Networks
from tests.http_door import counted, on_uvloop, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

NAME = "echo"
HEADER = b"FROM 192.0.2.7\n"
"""What the proxy of these tests says before anything else."""
CA = trustme.CA()
SERVER = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
CA.issue_cert("localhost").configure_cert(SERVER)
CLIENT = ssl.create_default_context(cadata=CA.cert_pem.bytes().decode())


class Echo(asyncio.Protocol):
    """Sends back what it is sent; it is busy from ``busy`` to ``done``."""

    def __init__(self, gate: Gate, sock: socket.socket, address: str) -> None:
        self._gate = gate
        self._arriving: socket.socket | None = sock
        self._transport: asyncio.Transport | None = None
        self._busy = False
        self.is_closed_by_us = False
        self.address = address
        self.idle_since = asyncio.get_running_loop().time()

    @property
    def is_arriving(self) -> bool:
        """Whether it has no transport yet."""
        return self._arriving is not None

    def connection_made(self, transport: Any) -> None:
        """Begin."""
        self._arriving = None
        self._transport = transport
        if self.is_closed_by_us:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Send it back."""
        self._busy = data == b"busy"
        self.idle_since = asyncio.get_running_loop().time()
        if self._transport is not None:
            self._transport.write(data)

    def connection_lost(self, _error: Exception | None) -> None:
        """Leave."""
        self._gate.acceptor.left(self)

    def never_made(self) -> None:
        """Let go of the socket."""
        if self._arriving is not None:
            self._arriving.close()

    def is_waiting(self) -> bool:
        """Whether it is not busy."""
        return not self._busy

    def force_close(self) -> None:
        """Close it, also while it arrives."""
        self.is_closed_by_us = True
        if self._transport is not None:
            self._transport.abort()
        elif self._arriving is not None:
            with suppress(OSError):
                self._arriving.shutdown(socket.SHUT_RDWR)


class Gate:
    """An acceptor that is open, and its clients."""

    def __init__(self, limits: AcceptLimits, address: str, options: dict[str, Any]) -> None:
        self.made: list[Echo] = []
        self.acceptor = Acceptor(NAME, self._make, limits, **options)
        self._sockets = bind(address, 1)
        self.address = self._sockets[0].getsockname()
        self.acceptor.open(self._sockets)
        self._writers: list[asyncio.StreamWriter] = []

    def _make(self, sock: socket.socket, address: str) -> Echo:
        self.made.append(Echo(self, sock, address))
        return self.made[-1]

    async def connect(self, host: str = "127.0.0.1", **options: Any) -> Client:
        """A new client that comes from ``host``."""
        if isinstance(self.address, str):
            found = await asyncio.open_unix_connection(self.address, **options)
        else:
            place = {"local_addr": (host, 0)}
            found = await asyncio.open_connection(*self.address, **place, **options)
        self._writers.append(found[1])
        return Client(*found)

    async def close(self) -> None:
        """Hang up for everybody, and wait until all is at rest."""
        self.acceptor.stop_listening()
        for writer in self._writers:
            writer.transport.abort()
        await until(lambda: not len(self.acceptor))
        for sock in self._sockets:
            sock.close()


class Client:
    """One client of a gate."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, data: bytes = b"ping") -> bool:
        """Whether ``data`` comes back."""
        self.writer.write(data)
        async with asyncio.timeout(5):
            return await self.reader.readexactly(len(data)) == data

    async def is_closed(self) -> bool:
        """Whether the connection is closed, or reset, without a word."""
        with suppress(ConnectionResetError):
            async with asyncio.timeout(5):
                return await self.reader.read(100) == b""
        return True


@asynccontextmanager
async def open_gate(
    address: str = "127.0.0.1:0",
    *,
    connections: int = 100,
    per_address: int = 100,
    seconds: float = 5.0,
    exempt: tuple[str, ...] = (),
    **options: Any,
) -> AsyncIterator[Gate]:
    """A gate at which nothing goes wrong, and of which nothing is left."""
    troubles: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: troubles.append(what))
    limits = AcceptLimits(connections, per_address, seconds, Networks(exempt))
    gate = Gate(limits, address, options)
    try:
        yield gate
    finally:
        await gate.close()
    assert not gate.acceptor._by_address
    assert not troubles, troubles


def refused(limit: str) -> float:
    """How many connections were closed for ``limit``, ever."""
    return counted("ingest_connections_refused_total", listener=NAME, limit=limit)


def refusals() -> float:
    """How many connections were closed for any limit, ever."""
    return counted("ingest_connections_refused_total", listener=NAME)


def open_files() -> int:
    """How many file descriptors this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))


async def readable(sock: socket.socket) -> None:
    """Wait until ``sock`` can be read."""
    loop = asyncio.get_running_loop()
    there = asyncio.Event()
    loop.add_reader(sock, there.set)
    try:
        await there.wait()
    finally:
        loop.remove_reader(sock)


async def told(sock: socket.socket, address: str) -> str | None:
    """The address in `HEADER`, of which nothing is left on the socket."""
    if address != "127.0.0.1":
        return address
    await readable(sock)
    begin = sock.recv(100, socket.MSG_PEEK)
    if not begin.startswith(b"FROM "):
        return None
    header = sock.recv(begin.index(b"\n") + 1)
    return header.split()[1].decode()


async def never(sock: socket.socket, address: str) -> str | None:
    """Waits for ever."""
    await asyncio.get_running_loop().create_future()
    return address


async def silently(sock: socket.socket, address: str) -> str | None:
    """Wants nobody."""
    return None


# Limits.


@on_uvloop
async def test_the_longest_waiting_one_makes_room() -> None:
    """Counted under the listener's own name; a busy one stays, however long it is there."""
    async with open_gate(connections=3) as gate:
        before, clients = refused("connections"), []
        for data in (b"busy", b"ping", b"ping"):
            clients.append(await gate.connect())
            assert await clients[-1].ask(data)
            await asyncio.sleep(0.002)
        newcomer = await gate.connect()
        assert await clients[1].is_closed()
        for client in (newcomer, clients[0], clients[2]):
            assert await client.ask(b"busy")
        assert await (await gate.connect()).is_closed()
        assert refused("connections") - before == 2
        assert len(gate.acceptor) == 3
        assert await clients[0].ask(b"ping")
        assert await (await gate.connect()).ask()


@on_uvloop
async def test_an_address_has_its_own_limit_unless_it_is_exempt() -> None:
    """Others come in all the same."""
    async with open_gate(per_address=2, exempt=("127.0.0.2",)) as gate:
        before = refused("connections_per_address")
        for _ in range(2):
            assert await (await gate.connect()).ask()
        assert await (await gate.connect()).is_closed()
        for _ in range(4):
            assert await (await gate.connect("127.0.0.2")).ask()
        assert await (await gate.connect("127.0.0.3")).ask()
        assert refused("connections_per_address") - before == 1


@on_uvloop
async def test_who_is_not_allowed_is_closed_before_anything_is_made() -> None:
    """And does not take anybody's room."""
    async with open_gate(connections=1, allow=Networks(["127.0.0.2"]).covers) as gate:
        before, allowed = refused("allow_from"), await gate.connect("127.0.0.2")
        assert await allowed.ask()
        assert await (await gate.connect()).is_closed()
        assert refused("allow_from") - before == 1
        assert len(gate.made) == 1
        assert await allowed.ask()


@on_uvloop
async def test_a_unix_socket_has_one_address(tmp_path: Path) -> None:
    """All its clients share it."""
    async with open_gate(f"unix:{tmp_path}/echo.sock", per_address=2) as gate:
        before = refused("connections_per_address")
        for _ in range(2):
            assert await (await gate.connect()).ask()
        assert {each.address for each in gate.made} == {NO_ADDRESS}
        assert await (await gate.connect()).is_closed()
        assert refused("connections_per_address") - before == 1


# TLS.


@on_uvloop
async def test_a_handshake_that_fails_leaves_nothing() -> None:
    """Neither connections nor descriptors; who takes too long has a limit of its own."""
    async with open_gate(context=SERVER, seconds=0.2) as gate:
        failed, late = refused("handshake"), refused("handshake_seconds")
        gc.collect()
        before = open_files()
        for _ in range(10):
            junk = await gate.connect()
            junk.writer.write(b"no TLS at all\n" * 10)
            await junk.reader.read()
            junk.writer.transport.abort()
        assert await (await gate.connect()).is_closed()
        await until(lambda: not len(gate.acceptor))
        assert refused("handshake") - failed == 10
        assert refused("handshake_seconds") - late == 1
        gate._writers.clear()
        await until(lambda: open_files() <= before + 1)


@on_uvloop
async def test_another_context_is_for_who_comes_then() -> None:
    """Who is there stays."""
    async with open_gate() as gate:
        plain = await gate.connect()
        assert await plain.ask()
        gate.acceptor.use(SERVER)
        assert await (await gate.connect(ssl=CLIENT, server_hostname="localhost")).ask()
        assert await plain.ask()


# Who is looked at first.


@on_uvloop
async def test_who_is_told_of_is_the_client() -> None:
    """Its address counts, not that of the proxy that told it."""
    async with open_gate(prepare=told, exempt=("127.0.0.1",), per_address=2) as gate:
        before = refused("connections_per_address")
        for _ in range(2):
            client = await gate.connect()
            client.writer.write(HEADER)
            assert await client.ask()
            assert gate.made[-1].address == "192.0.2.7"
        assert gate.acceptor._by_address == {"192.0.2.7": 2}
        third = await gate.connect()
        third.writer.write(HEADER)
        assert await third.is_closed()
        await until(lambda: len(gate.acceptor) == 2)
        assert refused("connections_per_address") - before == 1
        other = await gate.connect()
        other.writer.write(HEADER.replace(b"7", b"8"))
        assert await other.ask()


@on_uvloop
async def test_who_tells_its_own_address_is_counted_once() -> None:
    """The limit is not reached by the connection itself."""
    async with open_gate(prepare=told, per_address=1) as gate:
        assert await (await gate.connect("127.0.0.2")).ask()
        assert gate.acceptor._by_address == {"127.0.0.2": 1}
        assert await (await gate.connect("127.0.0.2")).is_closed()


@pytest.mark.parametrize("together", [False, True])
@on_uvloop
async def test_what_was_looked_at_is_followed_by_tls(*, together: bool) -> None:
    """Also where the header and the first bytes of TLS come at once."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = CLIENT.wrap_bio(incoming, outgoing, server_hostname="localhost")
    async with open_gate(prepare=told, context=SERVER) as gate:
        client, pending = await gate.connect(), HEADER
        if not together:
            client.writer.write(pending)
            await until(lambda: gate.made and gate.made[0].address == "192.0.2.7")
            pending = b""

        async def finish(step: Callable[[], Any]) -> Any:
            nonlocal pending
            while True:
                with suppress(ssl.SSLWantReadError):
                    result = step()
                    client.writer.write(pending + outgoing.read())
                    return result
                client.writer.write(pending + outgoing.read())
                pending = b""
                async with asyncio.timeout(5):
                    incoming.write(await client.reader.read(1 << 16))

        await finish(tls.do_handshake)
        await finish(lambda: tls.write(b"ping"))
        assert await finish(lambda: tls.read(100)) == b"ping"
        assert gate.made[0].address == "192.0.2.7"


@pytest.mark.parametrize("context", [None, SERVER])
@on_uvloop
async def test_who_is_not_wanted_is_closed_silently(context: ssl.SSLContext | None) -> None:
    """Such as a balancer that only knocks: it is no connection that was refused."""
    before = refusals()
    with capture_logs() as logs:
        async with open_gate(prepare=silently, context=context) as gate:
            assert await (await gate.connect()).is_closed()
            await until(lambda: not len(gate.acceptor))
    assert refusals() == before
    assert not logs


@on_uvloop
async def test_the_time_of_a_look_is_limited() -> None:
    """It counts as a connection in the meantime."""
    async with open_gate(prepare=never, seconds=0.2) as gate:
        before, client = refused("handshake_seconds"), await gate.connect()
        await until(lambda: len(gate.acceptor) == 1)
        assert gate.made[0].is_waiting()
        assert await client.is_closed()
        await until(lambda: not len(gate.acceptor))
        assert refused("handshake_seconds") - before == 1


@on_uvloop
async def test_a_look_and_tls_have_one_time_together() -> None:
    """Who was late before has less of it for the handshake."""
    loop = asyncio.get_running_loop()

    async def slow(sock: socket.socket, address: str) -> str | None:
        await asyncio.sleep(0.3)
        return address

    async with open_gate(prepare=slow, context=SERVER, seconds=0.5) as gate:
        before, begun = refused("handshake_seconds"), loop.time()
        assert await (await gate.connect()).is_closed()
        assert 0.45 < loop.time() - begun < 0.75
        await until(lambda: not len(gate.acceptor))
        assert refused("handshake_seconds") - before == 1


@pytest.mark.parametrize(
    ("error", "logged"),
    [(ConnectionResetError("by peer"), []), (RuntimeError("a bug"), ["connection_failed"])],
)
@on_uvloop
async def test_a_look_that_fails_ends_the_connection(error: Exception, logged: list[str]) -> None:
    """Only what is no trouble of the network is logged; the listener goes on."""

    async def failing(sock: socket.socket, address: str) -> str | None:
        if address == "127.0.0.1":
            raise error
        return address

    with capture_logs() as logs:
        async with open_gate(prepare=failing) as gate:
            before = refused("handshake")
            assert await (await gate.connect()).is_closed()
            assert refused("handshake") - before == 1
            assert await (await gate.connect("127.0.0.2")).ask()
    assert [each["event"] for each in logs] == logged


@on_uvloop
async def test_who_is_looked_at_can_be_closed_for_a_newcomer() -> None:
    """And is not served when the look tells of somebody later."""
    looks: list[tuple[str, asyncio.Future[str]]] = []

    def held(sock: socket.socket, address: str) -> Awaitable[str | None]:
        looks.append((address, asyncio.get_running_loop().create_future()))
        return looks[-1][1]

    async with open_gate(prepare=held, connections=1) as gate:
        before, failed = refused("connections"), refused("handshake")
        first = await gate.connect()
        await until(lambda: len(looks) == 1)
        second = await gate.connect("127.0.0.2")
        assert await first.is_closed()
        await until(lambda: len(looks) == 2)
        for address, look in looks:
            look.set_result(address)
        assert await second.ask()
        assert gate.acceptor.connections == {gate.made[1]}
        assert gate.acceptor._by_address == {"127.0.0.2": 1}
        assert (refused("connections") - before, refused("handshake") - failed) == (1, 0)


@pytest.mark.parametrize(
    ("host", "header", "is_allowed"),
    [
        ("127.0.0.1", HEADER, True),
        ("127.0.0.1", HEADER.replace(b"7", b"8"), False),
        ("127.0.0.2", b"", False),
        ("127.0.0.3", b"", True),
    ],
    ids=["told and allowed", "told and not allowed", "not allowed", "allowed"],
)
@on_uvloop
async def test_of_a_proxy_is_asked_whom_it_tells(
    host: str, header: bytes, *, is_allowed: bool
) -> None:
    """It need not be allowed itself; everybody else is asked at once."""
    allow = Networks(["192.0.2.7", "127.0.0.3"]).covers
    async with open_gate(prepare=told, exempt=("127.0.0.1",), allow=allow) as gate:
        before, client = refused("allow_from"), await gate.connect(host)
        client.writer.write(header)
        assert await (client.ask() if is_allowed else client.is_closed())
        await until(lambda: len(gate.acceptor) == is_allowed)
        assert refused("allow_from") - before == (not is_allowed)
        assert len(gate.made) == (host != "127.0.0.2")


# The end.


@pytest.mark.parametrize("kind", ["tcp", "unix"])
@on_uvloop
async def test_who_is_in_the_queue_at_the_end_is_served(kind: str, tmp_path: Path) -> None:
    """However many; nobody comes in after that."""
    address = f"unix:{tmp_path}/echo.sock" if kind == "unix" else "127.0.0.1:0"
    async with open_gate(address) as gate:
        queued = []
        for _ in range(50):
            family = socket.AF_UNIX if kind == "unix" else socket.AF_INET
            queued.append(socket.socket(family))
            queued[-1].connect(gate.address)  # blocks: nobody accepts meanwhile
        await gate.acceptor.close()
        for sock in queued:
            sock.setblocking(False)
            found = await asyncio.open_connection(sock=sock)
            gate._writers.append(found[1])
            assert await Client(*found).ask()
        with pytest.raises(ConnectionRefusedError):
            await gate.connect()


@on_uvloop
async def test_who_stops_listening_leaves_newcomers_in_the_queue(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Until the end."""
    monkeypatch.setattr(accepting, "HANDSHAKE_SECONDS", 0.0)
    async with open_gate() as gate:
        gate.acceptor.stop_listening()
        client = await gate.connect()
        await asyncio.sleep(0.02)  # nothing happens
        assert not gate.made
        await gate.acceptor.close()
        assert await client.ask()
