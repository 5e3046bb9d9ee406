"""The listener for datagrams: all of them, in batches, on both event loops."""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import socket
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
import uvloop
from structlog.testing import capture_logs

from ingest.datagrams import bind_datagrams, kernel_drops, refuse_datagrams
from ingest_syslog import udp
from ingest_syslog.recvmmsg import Batch, ManyReceiver, OneReceiver
from ingest_syslog.udp import UdpListener

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from pathlib import Path

BUFFER = 8 << 20
PATIENCE = 5.0


class Taker:
    """Keeps what it is handed, and lets a test wait for it."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.on_batch: Callable[[], None] = lambda: None
        self._came = asyncio.Event()

    def __call__(self, datagrams: list[bytes], peers: list[str], lengths: list[int]) -> None:
        """What a listener calls."""
        self.batches.append(Batch(datagrams, peers, lengths))
        self._came.set()
        self.on_batch()

    @property
    def datagrams(self) -> list[bytes]:
        """All of them so far."""
        return [datagram for batch in self.batches for datagram in batch.datagrams]

    async def until(self, count: int) -> list[bytes]:
        """All of them, as soon as there are ``count``."""
        async with asyncio.timeout(PATIENCE):
            while len(self.datagrams) < count:
                self._came.clear()
                await self._came.wait()
        return self.datagrams


def on_both_loops(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an asynchronous test on asyncio's own event loop and on that of the service."""

    @functools.wraps(test)
    def run(*, make_loop: Callable[[], asyncio.AbstractEventLoop], **named: Any) -> None:
        with asyncio.Runner(loop_factory=make_loop) as runner:
            runner.run(asyncio.wait_for(test(**named), 2 * PATIENCE))

    asked = inspect.signature(test).parameters.values()
    added = inspect.Parameter("make_loop", inspect.Parameter.KEYWORD_ONLY)
    run.__signature__ = inspect.Signature([*asked, added])  # type: ignore[attr-defined]
    loops = [asyncio.new_event_loop, uvloop.new_event_loop]
    on_each: Callable[..., None] = pytest.mark.parametrize("make_loop", loops)(run)
    return on_each


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Closes what is put on it."""
    with ExitStack() as opened:
        yield opened


@pytest.fixture
def sock(stack: ExitStack) -> socket.socket:
    """A bound UDP socket with a large buffer."""
    return stack.enter_context(bind_datagrams("127.0.0.1:0", 1, BUFFER)[0])


@pytest.fixture
def sender(stack: ExitStack, sock: socket.socket) -> socket.socket:
    """A sender to ``sock``."""
    sending = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    sending.connect(sock.getsockname())
    return sending


async def turns(count: int = 20) -> None:
    """Let the loop turn: whatever is ready has happened then."""
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("rest", [0, 0.001, None])
@pytest.mark.parametrize("way", [ManyReceiver, OneReceiver])
@on_both_loops
async def test_all_datagrams_are_taken_in_order(
    stack: ExitStack,
    sock: socket.socket,
    sender: socket.socket,
    rest: float | None,
    way: Callable[[socket.socket], ManyReceiver | OneReceiver],
) -> None:
    """Those that waited, those that come while it rests, and those after a silence."""
    taker = Taker()
    sent = [b"%d" % number for number in range(3000)]
    for datagram in sent[:1500]:
        sender.send(datagram)
    listener = UdpListener(sock, taker, rest_seconds=rest, reader=way(sock))
    stack.callback(listener.close)
    listener.resume()
    await taker.until(1500)
    for datagram in sent[1500:2500]:
        sender.send(datagram)
        if len(datagram) % 2:
            await asyncio.sleep(0)
    await taker.until(2500)
    await asyncio.sleep(0.01)  # longer than it rests: now it waits to be woken
    for datagram in sent[2500:]:
        sender.send(datagram)
    assert await taker.until(3000) == sent
    assert kernel_drops(sock) == 0


@on_both_loops
async def test_empty_datagrams_are_taken_too(sock: socket.socket, sender: socket.socket) -> None:
    """They are somebody's to count."""
    taker = Taker()
    for datagram in (b"", b"one", b""):
        sender.send(datagram)
    listener = UdpListener(sock, taker)
    listener.resume()
    assert await taker.until(3) == [b"", b"one", b""]
    assert taker.batches[0].peers == ["127.0.0.1"] * 3
    assert taker.batches[0].lengths == [0, 3, 0]
    listener.close()


@on_both_loops
async def test_nothing_is_taken_before_it_is_told_to_read(
    sock: socket.socket, sender: socket.socket
) -> None:
    """Construction alone reads nothing; what came meanwhile waits."""
    taker = Taker()
    sender.send(b"early")
    listener = UdpListener(sock, taker)
    assert listener.paused
    await turns()
    assert taker.batches == []
    listener.resume()
    listener.resume()
    assert await taker.until(1) == [b"early"]
    listener.close()


@pytest.mark.parametrize("rest", [0, 0.001])
@on_both_loops
async def test_a_paused_listener_reads_nothing_until_resumed(
    sock: socket.socket, sender: socket.socket, rest: float
) -> None:
    """Not even what an earlier turn had planned; what comes waits in the kernel."""
    taker = Taker()
    listener = UdpListener(sock, taker, rest_seconds=rest)
    listener.resume()
    for number in range(5):
        sender.send(b"%d" % number)
        await taker.until(number + 1)
        listener.pause()
        listener.pause()
        sender.send(b"later")
        await asyncio.sleep(0.01)
        assert taker.datagrams[number + 1 :] == []
        assert sock.recv(10) == b"later"
        listener.resume()
    listener.close()


@pytest.mark.parametrize("rest", [0, 0.001])
@on_both_loops
async def test_a_taker_may_pause_the_listener(
    monkeypatch: pytest.MonkeyPatch, sock: socket.socket, sender: socket.socket, rest: float
) -> None:
    """When its budget is full: then this batch is the last one."""
    monkeypatch.setattr(udp, "MOST_DATAGRAMS", 64)
    taker = Taker()
    listener = UdpListener(sock, taker, rest_seconds=rest)
    taker.on_batch = listener.pause
    for _ in range(200):
        sender.send(b"datagram")
    listener.resume()
    await taker.until(64)
    await turns()
    assert len(taker.datagrams) == 64

    def pause_and_resume() -> None:
        listener.pause()
        listener.resume()

    taker.on_batch = pause_and_resume
    listener.resume()
    await taker.until(200)
    assert [len(batch.datagrams) for batch in taker.batches] == [64, 64, 64, 8]
    listener.close()


@pytest.mark.parametrize(
    ("size", "count", "most"), [(10, 5000, 1024 + 32), (60_000, 200, (1 << 20) // 60_000 + 32)]
)
@on_both_loops
async def test_no_batch_holds_the_loop_for_long(
    sock: socket.socket, sender: socket.socket, size: int, count: int, most: int
) -> None:
    """Batches are bounded by number and by weight, and others get their turns between them."""
    taker = Taker()
    for _ in range(count):
        sender.send(bytes(size))
    count -= kernel_drops(sock)
    others = 0
    between: list[int] = []
    taker.on_batch = lambda: between.append(others)
    listener = UdpListener(sock, taker)
    listener.resume()
    while len(taker.datagrams) < count:
        others += 1
        await asyncio.sleep(0)
    sizes = [len(batch.datagrams) for batch in taker.batches]
    assert max(sizes) <= most
    assert len(sizes) >= 3
    assert between == sorted(set(between))
    listener.close()


@on_both_loops
async def test_datagrams_of_a_steady_sender_come_in_few_batches(
    sock: socket.socket, sender: socket.socket
) -> None:
    """A rest collects what comes meanwhile: the point of it all."""
    taker = Taker()
    listener = UdpListener(sock, taker, rest_seconds=0.02)
    listener.resume()
    begin = time.monotonic()
    for _ in range(100):
        sender.send(b"datagram")
        await asyncio.sleep(0.001)
    await taker.until(100)
    assert len(taker.batches) <= (time.monotonic() - begin) / 0.02 + 2
    listener.close()


@pytest.mark.parametrize(("buffer", "rest"), [(BUFFER, 0.01), (4096, 0.001)])
@on_both_loops
async def test_it_rests_as_long_as_the_buffer_allows(buffer: int, rest: float) -> None:
    """A small one fills up in a millisecond or two."""
    (sock,) = bind_datagrams("127.0.0.1:0", 1, buffer)
    listener = UdpListener(sock, Taker())
    assert listener._rest == rest
    listener.close()


@on_both_loops
async def test_what_was_sent_was_taken_or_dropped_by_the_kernel(stack: ExitStack) -> None:
    """Exactly, with a buffer far too small."""
    (sock,) = bind_datagrams("127.0.0.1:0", 1, 4096)
    sending = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    sending.connect(sock.getsockname())
    taker = Taker()
    listener = UdpListener(sock, taker)
    listener.resume()
    for number in range(5000):
        sending.send(bytes(280))
        if number % 100 == 0:
            await turns(3)
    refuse_datagrams(sock)
    await listener.drain_rest()
    assert len(taker.datagrams) + kernel_drops(sock) == 5000
    assert kernel_drops(sock) > 0
    listener.close()


@on_both_loops
async def test_the_rest_is_drained_to_the_last_even_when_paused(
    monkeypatch: pytest.MonkeyPatch, sock: socket.socket, sender: socket.socket
) -> None:
    """With turns for others between the batches; nothing is read afterwards."""
    monkeypatch.setattr(udp, "MOST_DATAGRAMS", 64)
    taker = Taker()
    listener = UdpListener(sock, taker)
    for _ in range(200):
        sender.send(b"before")
    refuse_datagrams(sock)
    sender.send(b"after")
    await listener.drain_rest()
    assert taker.datagrams == [b"before"] * 200
    assert len(taker.batches) == 4
    assert listener.paused
    listener.close()


@on_both_loops
async def test_the_rest_can_be_counted_instead(sock: socket.socket, sender: socket.socket) -> None:
    """When the deadline has passed, each is still accounted for."""
    taker = Taker()
    listener = UdpListener(sock, taker)
    for _ in range(1500):
        sender.send(b"")
    refuse_datagrams(sock)
    assert listener.discard_rest() == 1500
    assert listener.discard_rest() == 0
    assert taker.batches == []
    listener.close()


@on_both_loops
async def test_a_closed_listener_leaves_the_queue_to_others(
    stack: ExitStack, sock: socket.socket, sender: socket.socket
) -> None:
    """The parent's copy of the socket goes on; to close twice is to close."""
    parents = stack.enter_context(sock.dup())
    taker = Taker()
    listener = UdpListener(sock, taker)
    listener.resume()
    sender.send(b"first")
    await taker.until(1)
    listener.close()
    listener.close()
    sender.send(b"second")
    await turns()
    assert parents.recv(100) == b"second"
    assert taker.datagrams == [b"first"]


@pytest.mark.parametrize("rest", [0, 0.001])
@on_both_loops
async def test_an_exception_of_the_taker_does_not_stop_the_listener(
    sock: socket.socket, sender: socket.socket, rest: float
) -> None:
    """The loop's handler has it."""
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    taker = Taker()
    listener = UdpListener(sock, taker, rest_seconds=rest)

    def fail() -> None:
        raise LookupError

    taker.on_batch = fail
    listener.resume()
    sender.send(b"first")
    await taker.until(1)
    sender.send(b"second")
    assert await taker.until(2) == [b"first", b"second"]
    await turns()
    assert [type(context["exception"]) for context in told] == [LookupError, LookupError]
    listener.close()


class FailsOnce:
    """Reads as another, but for an error of the socket in one of its calls."""

    def __init__(self, sock: socket.socket, call: int) -> None:
        self._real = ManyReceiver(sock)
        self.slots = self._real.slots
        self._left = call

    def receive(self) -> Batch:
        """See `Receiver`."""
        self._left -= 1
        if self._left == -1:
            raise OSError("no memory")
        return self._real.receive()


@pytest.mark.parametrize("rest", [0, 0.001])
@pytest.mark.parametrize("call", [0, 1])
@on_both_loops
async def test_an_error_of_the_socket_is_told_and_costs_no_datagram(
    monkeypatch: pytest.MonkeyPatch,
    sock: socket.socket,
    sender: socket.socket,
    rest: float,
    call: int,
) -> None:
    """What was read before it is taken, and reading goes on after a while."""
    monkeypatch.setattr(udp, "RETRY_SECONDS", 0.01)
    taker = Taker()
    for _ in range(100):
        sender.send(b"datagram")
    listener = UdpListener(sock, taker, rest_seconds=rest, reader=FailsOnce(sock, call))
    with capture_logs() as logs:
        listener.resume()
        await taker.until(100)
    assert [entry["log_level"] for entry in logs] == ["warning"]
    listener.close()


@pytest.mark.parametrize("call", [0, 1])
@on_both_loops
async def test_an_error_at_the_end_costs_no_datagram_either(
    sock: socket.socket, sender: socket.socket, call: int
) -> None:
    """What is queued is taken, and what there is no time for is counted."""
    taker = Taker()
    listener = UdpListener(sock, taker, reader=FailsOnce(sock, call))
    for count in (100, 50):
        for _ in range(count):
            sender.send(b"datagram")
        if count == 100:
            await listener.drain_rest()
            assert len(taker.datagrams) == count
        else:
            assert listener.discard_rest() == count
    listener.close()


@on_both_loops
async def test_datagrams_to_a_path_are_taken_without_rests(
    stack: ExitStack, tmp_path: Path
) -> None:
    """Its queue holds some ten, and the senders wait: rests would slow them down."""
    (sock,) = bind_datagrams(f"unix:{tmp_path}/log.sock", 1, BUFFER)
    taker = Taker()
    listener = UdpListener(sock, taker, datagram_bytes=100_000)
    assert listener._rest == 0
    listener.resume()
    sending = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    sending.connect(sock.getsockname())
    sent = [b"", b"line", os.urandom(100_000), b"x" * 100_001, b"last"]
    for _ in range(20):
        await asyncio.to_thread(lambda: [sending.send(datagram) for datagram in sent])
    await taker.until(100)
    assert taker.datagrams == [datagram[:100_000] for datagram in sent] * 20
    lengths = [length for batch in taker.batches for length in batch.lengths]
    assert lengths == list(map(len, sent)) * 20
    listener.close()


@on_both_loops
async def test_all_workers_of_a_path_share_its_datagrams(stack: ExitStack, tmp_path: Path) -> None:
    """Each has a listener on a duplicate; each datagram is taken once."""
    sockets = bind_datagrams(f"unix:{tmp_path}/log.sock", 2, BUFFER)
    taker = Taker()
    listeners = [UdpListener(sock, taker) for sock in sockets]
    for listener in listeners:
        listener.resume()
    sending = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    sending.connect(sockets[0].getsockname())
    await asyncio.to_thread(lambda: [sending.send(b"%d" % number) for number in range(200)])
    assert sorted(map(int, await taker.until(200))) == list(range(200))
    for listener in listeners:
        listener.close()
