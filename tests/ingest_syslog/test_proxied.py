"""The PROXY header is taken off a connection, on uvloop, with real sockets."""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
import struct
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trustme
import uvloop

from ingest_syslog.proxied import take_proxy_header
from ingest_syslog.proxy import MAX_V2_BYTES, Proxied, ProxyError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

PATIENCE = 10.0
BEHIND = b"<34>1 - - - - - -\n"
V1 = b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 514\r\n"
V2_START = b"\r\n\r\n\x00\r\nQUIT\n"
BLOCK = bytes([192, 0, 2, 1, 198, 51, 100, 1]) + struct.pack(">HH", 56324, 514)
V2 = V2_START + b"\x21\x11\x00\x0c" + BLOCK
V2_LONG = V2_START + b"\x21\x11" + struct.pack(">H", MAX_V2_BYTES - 16)
V2_LONG += BLOCK.ljust(MAX_V2_BYTES - 16, b"\x04")
LOCAL = V2_START + b"\x20\x00\x00\x00"
HEADERS = [(V1, "192.0.2.1"), (V2, "192.0.2.1"), (V2_LONG, "192.0.2.1"), (LOCAL, None)]

each_header = pytest.mark.parametrize(("header", "address"), HEADERS, ids=["1", "2", "long", "lo"])


def on_uvloop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an asynchronous test on the event loop of the service."""

    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(asyncio.wait_for(test(*arguments, **named), PATIENCE))

    return run


class Watched(socket.socket):
    """Counts the calls of recv, and what they took away."""

    calls = taken = 0

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """As that of any socket."""
        self.calls += 1
        data = super().recv(size, flags)
        if not flags & socket.MSG_PEEK:
            self.taken += len(data)
        return data


@contextmanager
def connection() -> Iterator[tuple[socket.socket, Watched]]:
    """A client's end, and ours, which is accepted and does not block."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
    ):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        ours = Watched(fileno=listener.accept()[0].detach())
        ours.setblocking(False)
        with closing(ours):
            yield client, ours


def take(ours: socket.socket, seconds: float = PATIENCE) -> asyncio.Task[Proxied | None]:
    """Begin to take the header."""
    loop = asyncio.get_running_loop()
    return loop.create_task(take_proxy_header(loop, ours, seconds))


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until ``condition()`` holds."""
    while not condition():
        await asyncio.sleep(0)


async def waiting(ours: Watched, task: asyncio.Task[Any]) -> None:
    """Let the task look at the socket and begin to wait."""
    await until(lambda: ours.calls > 0)
    assert not task.done()


def reset(client: socket.socket) -> None:
    """Close a connection by a reset, as probes do."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def left(ours: socket.socket, size: int) -> bytes:
    """What waits in the socket, up to ``size`` bytes."""
    ours.settimeout(PATIENCE)
    return ours.recv(size)


# What is taken, and what is left.


@each_header
@on_uvloop
async def test_what_came_in_the_same_segment_stays_in_the_socket(
    header: bytes, address: str | None
) -> None:
    """The header is taken by its exact length."""
    with connection() as (client, ours):
        client.sendall(header + BEHIND)
        assert await take(ours) == Proxied(address, len(header))
        assert left(ours, len(BEHIND)) == BEHIND


@each_header
@on_uvloop
async def test_a_header_may_come_byte_by_byte(header: bytes, address: str | None) -> None:
    """Each byte costs three reads at most; the socket is not polled in between."""
    with connection() as (client, ours):
        task = take(ours)
        await waiting(ours, task)
        for end in range(1, len(header)):
            client.sendall(header[end - 1 : end])
            await until(lambda end=end: ours.taken == end)  # type: ignore[misc]
        client.sendall(header[-1:] + BEHIND)
        assert await task == Proxied(address, len(header))
        assert ours.calls <= 3 * len(header) + 1
        assert left(ours, len(BEHIND)) == BEHIND


@pytest.mark.parametrize("split", range(1, len(V1)))
@on_uvloop
async def test_a_header_may_come_in_two_parts(split: int) -> None:
    """At every split; what follows comes with the second one."""
    with connection() as (client, ours):
        client.sendall(V1[:split])
        task = take(ours)
        await until(lambda: ours.taken == split)
        client.sendall(V1[split:] + BEHIND)
        assert await task == Proxied("192.0.2.1", len(V1))
        assert left(ours, len(BEHIND)) == BEHIND


# What goes wrong.


@pytest.mark.parametrize("end", [socket.socket.close, reset])
@pytest.mark.parametrize("early", [True, False])
@on_uvloop
async def test_a_probe_that_sends_nothing_is_no_error(
    end: Callable[[socket.socket], None], *, early: bool
) -> None:
    """Whether it hangs up or resets, before or while one waits."""
    with connection() as (client, ours):
        if early:
            end(client)
        task = take(ours)
        if not early:
            await waiting(ours, task)
            end(client)
        assert await task is None


@pytest.mark.parametrize("header", [V1, V2])
@pytest.mark.parametrize("end", [socket.socket.close, reset])
@pytest.mark.parametrize("early", [True, False])
@on_uvloop
async def test_an_end_within_the_header_is_told_from_a_probe(
    header: bytes, end: Callable[[socket.socket], None], *, early: bool
) -> None:
    """Somebody began to speak the protocol."""
    with connection() as (client, ours):
        client.sendall(header[:-1])
        if early:
            client.shutdown(socket.SHUT_WR)
        task = take(ours)
        if not early:
            await until(lambda: ours.taken == len(header) - 1)
            end(client)
        with pytest.raises(ProxyError) as refused:
            await task
        assert refused.value.code == "incomplete_proxy_header"


@on_uvloop
async def test_other_protocols_are_refused_at_once() -> None:
    """Their first byte is enough, and the rest of it is not waited for."""
    with connection() as (client, ours):
        task = take(ours)
        client.sendall(BEHIND[:1])
        with pytest.raises(ProxyError) as refused:
            await task
        assert refused.value.code == "no_proxy_header"


@pytest.mark.parametrize("begun", [b"", V1[:10], V2[:20]])
@on_uvloop
async def test_waiting_has_an_end_and_costs_nothing(begun: bytes) -> None:
    """A header that has begun does not keep the loop awake."""
    with connection() as (client, ours):
        client.sendall(begun)
        with pytest.raises(TimeoutError):
            await take(ours, 0.1)
        assert ours.taken == len(begun)
        assert ours.calls <= 4


@on_uvloop
async def test_slow_bytes_do_not_move_the_end() -> None:
    """The time is that of the whole header."""
    with connection() as (client, ours):
        task = take(ours, 0.1)
        for each in range(len(V2_LONG)):
            client.sendall(V2_LONG[each : each + 1])
            await asyncio.wait([task], timeout=0.01)
            if task.done():
                break
        with pytest.raises(TimeoutError):
            await task


@on_uvloop
async def test_who_is_cancelled_leaves_no_reader_behind() -> None:
    """The socket can be closed, or be read by somebody else."""
    with connection() as (client, ours):
        task = take(ours)
        await waiting(ours, task)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert not asyncio.get_running_loop().remove_reader(ours)
        client.sendall(V1)
        assert await take(ours) == Proxied("192.0.2.1", len(V1))


# TLS behind the header.

CA = trustme.CA()
SERVER = CA.issue_cert("localhost")


class Echo(asyncio.Protocol):
    """Sends back what it gets."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to send."""
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        """Send it back."""
        self._transport.write(data)


class TlsClient:
    """TLS that can be sent in any segments."""

    def __init__(self) -> None:
        context = ssl.create_default_context(cadata=CA.cert_pem.bytes().decode())
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")

    def hello(self) -> bytes:
        """The ClientHello."""
        with pytest.raises(ssl.SSLWantReadError):
            self._tls.do_handshake()
        return self._outgoing.read()

    async def echoed(self, client: socket.socket, data: bytes) -> bytes:
        """What comes back of ``data``, once the handshake is done."""
        await self._until_done(client, self._tls.do_handshake)
        self._tls.write(data)
        answer = await self._until_done(client, lambda: self._tls.read(len(data)))
        assert isinstance(answer, bytes)
        return answer

    async def _until_done(self, client: socket.socket, step: Callable[[], object]) -> object:
        loop = asyncio.get_running_loop()
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                await loop.sock_sendall(client, self._outgoing.read())
                self._incoming.write(await loop.sock_recv(client, 65_536))


@pytest.mark.parametrize("header", [V1, V2, V2_LONG, LOCAL], ids=["1", "2", "long", "local"])
@pytest.mark.parametrize("split", [0, 5, 14])
@on_uvloop
async def test_a_handshake_in_the_same_segment_succeeds(header: bytes, split: int) -> None:
    """The ClientHello is where asyncio looks for it, also when the header came in two parts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    SERVER.configure_cert(context)
    loop = asyncio.get_running_loop()
    with connection() as (client, ours):
        tls = TlsClient()
        client.sendall(header[:split])
        task = take(ours)
        await until(lambda: ours.taken == split and ours.calls > 0)
        client.sendall(header[split:] + tls.hello())
        assert await task
        arrival = loop.create_task(loop.connect_accepted_socket(Echo, ours, ssl=context))
        client.setblocking(False)
        assert await tls.echoed(client, b"over TLS") == b"over TLS"
        transport, _ = await arrival
        transport.abort()
        await asyncio.sleep(0)
