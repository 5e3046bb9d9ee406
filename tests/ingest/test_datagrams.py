"""Datagram sockets: our workers' only, spread evenly, and none of their losses uncounted."""

from __future__ import annotations

import errno
import os
import socket
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from structlog.testing import capture_logs

from ingest import datagrams
from ingest.datagrams import (
    DropCounter,
    bind_datagrams,
    effective_buffer,
    is_clamped,
    kernel_drops,
    queued_bytes,
    refuse_datagrams,
)
from ingest.listening import address_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Bind = Callable[..., list[socket.socket]]
    Client = Callable[[socket.socket], socket.socket]

BUFFER = 1 << 20
SMALL = 4096
NOBODY = 65534


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Closes what is put on it."""
    with ExitStack() as opened:
        yield opened


@pytest.fixture
def bind(stack: ExitStack) -> Bind:
    """`bind_datagrams`, closed at the end."""

    def bind(
        address: str = "127.0.0.1:0", count: int = 1, receive_buffer_bytes: int = BUFFER
    ) -> list[socket.socket]:
        sockets = bind_datagrams(address, count, receive_buffer_bytes)
        return [stack.enter_context(sock) for sock in sockets]

    return bind


@pytest.fixture
def client(stack: ExitStack) -> Client:
    """A sender to a socket, closed at the end."""

    def client(sock: socket.socket) -> socket.socket:
        sender = stack.enter_context(socket.socket(sock.family, socket.SOCK_DGRAM))
        sender.setblocking(False)
        sender.connect(sock.getsockname())
        return sender

    return client


@pytest.fixture
def ipv6() -> None:
    """A machine that has it; CI does."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        if os.environ.get("CI"):
            raise
        pytest.skip("this machine has no IPv6")


def received(sock: socket.socket) -> list[bytes]:
    """All that waits."""
    found = []
    try:
        while True:
            found.append(sock.recv(65_536))
    except BlockingIOError:
        return found


def fill(sender: socket.socket) -> int:
    """Send until the queue is full; says how many that took."""
    sent = 0
    try:
        while True:
            sender.send(b"datagram")
            sent += 1
    except BlockingIOError:
        return sent


@pytest.mark.parametrize("count", [1, 3])
def test_port_0_picks_one_port_for_all_workers(bind: Bind, count: int) -> None:
    """Each worker gets a socket of its own, which never blocks its loop."""
    sockets = bind("127.0.0.1:0", count)
    (address,) = {address_of(sock) for sock in sockets}
    assert not address.endswith(":0")
    assert len({sock.fileno() for sock in sockets}) == count
    assert not any(sock.getblocking() for sock in sockets)


@pytest.mark.parametrize("option", [None, socket.SO_REUSEADDR, socket.SO_REUSEPORT])
@pytest.mark.parametrize("count", [1, 2])
def test_an_address_of_another_program_is_refused(
    stack: ExitStack, option: int | None, count: int
) -> None:
    """Even where that program would share it: it would take a part of our datagrams."""
    other = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    if option is not None:
        other.setsockopt(socket.SOL_SOCKET, option, 1)
    other.bind(("127.0.0.1", 0))
    with pytest.raises(OSError, match="in use") as refused:
        bind_datagrams(address_of(other), count, BUFFER)
    assert refused.value.errno == errno.EADDRINUSE


@pytest.mark.parametrize("address", ["192.0.2.1:0", "unix:/nowhere/log.sock"])
def test_a_refused_address_leaves_no_socket_open(address: str) -> None:
    """A start that fails may be tried again for ever."""
    before = psutil.Process().num_fds()
    for _ in range(3):
        with pytest.raises(OSError, match=r"assign requested address|No such file"):
            bind_datagrams(address, 2, BUFFER)
    assert psutil.Process().num_fds() == before


@pytest.mark.usefixtures("ipv6")
@pytest.mark.parametrize("host", ["[::1]", "[::]"])
def test_ipv6_addresses_are_bound_and_named(bind: Bind, host: str) -> None:
    """In brackets, as they are configured."""
    sockets = bind(f"{host}:0", 2)
    assert {address_of(sock) for sock in sockets} == {f"{host}:{sockets[0].getsockname()[1]}"}


@pytest.mark.usefixtures("ipv6")
def test_the_unspecified_ipv6_address_takes_ipv4_too(stack: ExitStack, bind: Bind) -> None:
    """As people expect of it, whatever the system's default is."""
    (sock,) = bind("[::]:0")
    sender = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    sender.sendto(b"four", ("127.0.0.1", sock.getsockname()[1]))
    assert received(sock) == [b"four"]


def test_an_address_without_a_host_is_every_ipv4_address(bind: Bind) -> None:
    """``:514`` is what people write."""
    (sock,) = bind(":0")
    assert sock.getsockname()[0] == "0.0.0.0"


def test_one_sender_uses_all_workers(bind: Bind, client: Client) -> None:
    """By itself the kernel would send all of it to one."""
    sockets = bind("127.0.0.1:0", 4)
    sender = client(sockets[0])
    for number in range(400):
        sender.send(b"%d" % number)
    counts = [len(received(sock)) for sock in sockets]
    assert sum(counts) == 400
    assert min(counts) > 40


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become nobody; others are it already")
def test_the_spread_needs_no_privilege() -> None:
    """Nor does the rest: a buffer that may not be had is asked for within the system's limit."""
    child = os.fork()
    if not child:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            os._exit(_spread_as_nobody())
        finally:
            os._exit(255)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 4


def _spread_as_nobody() -> int:
    """How many of four sockets got some of one sender's datagrams."""
    sockets = bind_datagrams("127.0.0.1:0", 4, BUFFER)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(sockets[0].getsockname())
        for _ in range(400):
            sender.send(b"datagram")
    return sum(bool(received(sock)) for sock in sockets)


def test_a_spread_that_cannot_be_had_is_told_and_done_without(
    monkeypatch: pytest.MonkeyPatch, bind: Bind, client: Client
) -> None:
    """Datagrams still arrive; a sandbox may forbid the program."""
    monkeypatch.setattr(datagrams, "_SO_ATTACH_REUSEPORT_CBPF", 9999)
    with capture_logs() as logs:
        sockets = bind("127.0.0.1:0", 2)
    assert [entry["log_level"] for entry in logs] == ["warning"]
    client(sockets[0]).send(b"datagram")
    assert sorted(map(received, sockets)) == [[], [b"datagram"]]


def test_the_buffer_asked_for_is_granted_or_told(bind: Bind) -> None:
    """Tenfold the default, where we may; what is impossible is called clamped."""
    (small,) = bind(receive_buffer_bytes=SMALL)
    (large,) = bind(receive_buffer_bytes=BUFFER)
    assert effective_buffer(small) < effective_buffer(large)
    assert is_clamped(large, BUFFER) == (effective_buffer(large) < BUFFER)
    assert is_clamped(large, effective_buffer(large) + 1)
    assert not is_clamped(large, effective_buffer(large))


def test_what_the_kernel_drops_is_counted_exactly_and_once(bind: Bind, client: Client) -> None:
    """What was sent either arrived or was counted."""
    (sock,) = bind(receive_buffer_bytes=SMALL)
    counter = DropCounter(sock)
    sender = client(sock)
    total = arrived = 0
    for _ in range(3):
        for _ in range(5000):
            sender.send(bytes(280))
        assert 0 < queued_bytes(sock) <= 2 * effective_buffer(sock)
        arrived += len(received(sock))
        total += counter.poll()
        assert counter.poll() == 0
    assert arrived + total == 15_000
    assert 0 < arrived < 15_000
    assert kernel_drops(sock) == total


def test_drops_counted_before_are_not_counted_again(bind: Bind, client: Client) -> None:
    """By whoever goes on counting for the same socket."""
    (sock,) = bind()
    refuse_datagrams(sock)
    sender = client(sock)
    for _ in range(3):
        sender.send(b"dropped")
    before = kernel_drops(sock)
    sender.send(b"dropped")
    assert DropCounter(sock, before).poll() == 1


def test_the_kernels_counter_may_wrap(bind: Bind, client: Client) -> None:
    """It has 32 bits; here it was three drops short of them when it was read last."""
    (sock,) = bind()
    counter = DropCounter(sock, already=2**32 - 3)
    refuse_datagrams(sock)
    sender = client(sock)
    for _ in range(5):
        sender.send(b"dropped")
    assert counter.poll() == 8
    assert counter.poll() == 0


@pytest.mark.usefixtures("ipv6")
@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:0"])
def test_the_end_of_what_is_queued_can_be_reached(bind: Bind, client: Client, address: str) -> None:
    """What was there is read, what comes later is counted; to refuse twice is to refuse."""
    (sock,) = bind(address)
    sender = client(sock)
    for _ in range(20):
        sender.send(b"before")
    for _ in range(2):
        refuse_datagrams(sock)
        for _ in range(5):
            sender.send(b"after")
    assert received(sock) == [b"before"] * 20
    assert kernel_drops(sock) == 10


def test_what_waits_survives_the_worker(stack: ExitStack, bind: Bind, client: Client) -> None:
    """The parent has the socket too, and the next worker reads on."""
    (parents,) = bind()
    sender = client(parents)
    with parents.dup() as first:
        sender.send(b"first")
        assert received(first) == [b"first"]
        sender.send(b"second")
    sender.send(b"third")
    second = stack.enter_context(parents.dup())
    assert received(second) == [b"second", b"third"]


def test_a_path_is_one_socket_for_all_workers(bind: Bind, client: Client, tmp_path: Path) -> None:
    """Whoever reads first has the datagram; everyone on the machine may send."""
    path = tmp_path / "log.sock"
    sockets = bind(f"unix:{path}", 3)
    assert path.stat().st_mode & 0o777 == 0o666
    assert len({sock.fileno() for sock in sockets}) == 3
    assert not any(sock.getblocking() for sock in sockets)
    sender = client(sockets[0])
    for number in range(3):
        sender.send(b"%d" % number)
    assert [sock.recv(10) for sock in sockets] == [b"0", b"1", b"2"]
    assert not is_clamped(sockets[0], 2**30)


def test_a_full_path_has_its_senders_wait(bind: Bind, client: Client, tmp_path: Path) -> None:
    """Nothing is dropped that would have to be counted."""
    (sock,) = bind(f"unix:{tmp_path}/log.sock")
    sender = client(sock)
    sent = fill(sender)
    assert len(received(sock)) == sent
    assert kernel_drops(sock) == 0


def test_senders_to_a_path_that_ends_are_told(bind: Bind, client: Client, tmp_path: Path) -> None:
    """What was there is read; who comes later, by any of the duplicates, gets an error."""
    first, second = bind(f"unix:{tmp_path}/log.sock", 2)
    sender = client(first)
    sender.send(b"before")
    refuse_datagrams(first)
    refuse_datagrams(second)
    with pytest.raises(BrokenPipeError):
        sender.send(b"after")
    assert received(second) == [b"before"]


def test_a_stale_socket_file_is_replaced(bind: Bind, client: Client, tmp_path: Path) -> None:
    """A process that was killed leaves one."""
    address = f"unix:{tmp_path}/log.sock"
    bind_datagrams(address, 1, BUFFER)[0].close()
    (sock,) = bind(address)
    client(sock).send(b"datagram")
    assert received(sock) == [b"datagram"]


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_a_path_of_another_program_is_refused(
    stack: ExitStack, tmp_path: Path, kind: socket.SocketKind
) -> None:
    """And stays that program's."""
    path = tmp_path / "log.sock"
    other = stack.enter_context(socket.socket(socket.AF_UNIX, kind))
    other.bind(str(path))
    if kind == socket.SOCK_STREAM:
        other.listen()
    with pytest.raises(OSError, match="in use"):
        bind_datagrams(f"unix:{path}", 1, BUFFER)
    assert path.is_socket()


def test_a_path_with_a_full_queue_is_still_its_owners(
    bind: Bind, client: Client, tmp_path: Path
) -> None:
    """A program that is busy is not a stale one."""
    (sock,) = bind(f"unix:{tmp_path}/log.sock")
    fill(client(sock))
    with pytest.raises(OSError, match="in use"):
        bind_datagrams(f"unix:{tmp_path}/log.sock", 1, BUFFER)


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir, lambda path: path.symlink_to("other")])
def test_what_is_no_socket_is_never_removed(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """A slip in the configuration must not cost a file."""
    path = tmp_path / "precious"
    make(path)
    with pytest.raises(OSError, match="in use"):
        bind_datagrams(f"unix:{path}", 1, BUFFER)
    assert path.lstat()


def test_several_senders_lose_nothing_uncounted(bind: Bind, client: Client) -> None:
    """Several sockets, senders and threads at once: the sums agree."""
    sockets = bind("127.0.0.1:0", 2, SMALL)
    counters = [DropCounter(sock) for sock in sockets]
    senders = [client(sockets[0]) for _ in range(4)]

    def send(sender: socket.socket) -> None:
        for _ in range(2000):
            sender.send(bytes(280))

    threads = [threading.Thread(target=send, args=(sender,)) for sender in senders]
    for thread in threads:
        thread.start()
    arrived = 0
    while any(thread.is_alive() for thread in threads):
        arrived += sum(len(received(sock)) for sock in sockets)
    for thread in threads:
        thread.join()
    arrived += sum(len(received(sock)) for sock in sockets)
    assert arrived + sum(counter.poll() for counter in counters) == 8000
