"""Listening sockets: shared by our workers only, on any address, and closed without a reset."""

from __future__ import annotations

import errno
import os
import select
import socket
import stat
from contextlib import ExitStack
from typing import TYPE_CHECKING

import psutil
import pytest

from ingest.listening import (
    accept_all,
    address_of,
    bind,
    bind_unix,
    refuse_newcomers,
    unix_path,
    unlink,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PATIENCE = 5.0


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Closes what is put on it."""
    with ExitStack() as opened:
        yield opened


@pytest.fixture
def listen(stack: ExitStack) -> Callable[..., list[socket.socket]]:
    """`bind`, closed at the end."""

    def listen(address: str = "127.0.0.1:0", count: int = 1) -> list[socket.socket]:
        return [stack.enter_context(sock) for sock in bind(address, count)]

    return listen


@pytest.fixture
def connect(stack: ExitStack) -> Callable[[socket.socket], socket.socket]:
    """A client of a listening socket, closed at the end."""

    def connect(listener: socket.socket) -> socket.socket:
        address = ("127.0.0.1", listener.getsockname()[1])
        return stack.enter_context(socket.create_connection(address, PATIENCE))

    return connect


@pytest.fixture
def ipv6() -> None:
    """A machine that has it; CI does."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        if os.environ.get("CI"):
            raise
        pytest.skip("this machine has no IPv6")


def accepted(stack: ExitStack, listener: socket.socket) -> list[socket.socket]:
    """Everybody in the queue, once there is somebody."""
    assert select.select([listener], [], [], PATIENCE)[0] == [listener]
    return [stack.enter_context(each) for each in accept_all(listener)]


@pytest.mark.parametrize("count", [1, 3])
def test_port_0_picks_one_port_for_all_workers(
    listen: Callable[..., list[socket.socket]], count: int
) -> None:
    """Each worker gets a socket of its own, which never blocks its loop."""
    sockets = listen("127.0.0.1:0", count)
    (address,) = {address_of(sock) for sock in sockets}
    assert address == f"127.0.0.1:{sockets[0].getsockname()[1]}"
    assert sockets[0].getsockname()[1] > 0
    assert len({sock.fileno() for sock in sockets}) == count
    assert not any(sock.getblocking() for sock in sockets)


def test_connections_are_spread_over_all_workers(
    stack: ExitStack,
    listen: Callable[..., list[socket.socket]],
    connect: Callable[[socket.socket], socket.socket],
) -> None:
    """The kernel shares them out, and none is lost."""
    sockets = listen("127.0.0.1:0", 2)
    for _ in range(60):
        connect(sockets[0])
    counts = [len(accepted(stack, sock)) for sock in sockets]
    assert sum(counts) == 60
    assert min(counts) > 0


@pytest.mark.parametrize("reuse_port", [0, 1])
@pytest.mark.parametrize("count", [1, 2])
def test_an_address_of_another_program_is_refused(
    stack: ExitStack, reuse_port: int, count: int
) -> None:
    """Even where that program would share it: it would take a part of our connections."""
    other = stack.enter_context(socket.socket())
    other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, reuse_port)
    other.bind(("127.0.0.1", 0))
    other.listen()
    with pytest.raises(OSError, match="in use") as refused:
        bind(address_of(other), count)
    assert refused.value.errno == errno.EADDRINUSE


def test_an_address_of_another_machine_is_refused() -> None:
    """With the system's own reason."""
    with pytest.raises(OSError, match="assign requested address") as refused:
        bind("192.0.2.1:0", 1)
    assert refused.value.errno == errno.EADDRNOTAVAIL


def test_a_refused_address_leaves_no_socket_open() -> None:
    """A start that fails may be tried again for ever."""
    before = psutil.Process().num_fds()
    for _ in range(3):
        with pytest.raises(OSError, match="assign requested address"):
            bind("192.0.2.1:0", 2)
    assert psutil.Process().num_fds() == before


def test_an_address_can_be_had_again_at_once(
    stack: ExitStack,
    listen: Callable[..., list[socket.socket]],
    connect: Callable[[socket.socket], socket.socket],
) -> None:
    """A restart does not wait for the connections of the one before, which linger in the kernel."""
    (first,) = listen()
    address = address_of(first)
    client = connect(first)
    for server_side in accepted(stack, first):
        server_side.close()  # the side that closes first lingers
    assert client.recv(1) == b""
    client.close()
    first.close()
    assert address_of(listen(address)[0]) == address


@pytest.mark.usefixtures("ipv6")
@pytest.mark.parametrize("host", ["[::1]", "[::]"])
def test_ipv6_addresses_are_bound_and_named(
    listen: Callable[..., list[socket.socket]], host: str
) -> None:
    """In brackets, as they are configured."""
    sockets = listen(f"{host}:0", 2)
    assert {address_of(sock) for sock in sockets} == {f"{host}:{sockets[0].getsockname()[1]}"}
    assert {sock.family for sock in sockets} == {socket.AF_INET6}


@pytest.mark.usefixtures("ipv6")
def test_the_unspecified_ipv6_address_takes_ipv4_too(
    stack: ExitStack,
    listen: Callable[..., list[socket.socket]],
    connect: Callable[[socket.socket], socket.socket],
) -> None:
    """As people expect of it, whatever the system's default is."""
    (listener,) = listen("[::]:0")
    client = connect(listener)
    assert client.family == socket.AF_INET
    assert len(accepted(stack, listener)) == 1


def test_an_address_without_a_host_is_every_ipv4_address(
    listen: Callable[..., list[socket.socket]],
) -> None:
    """``:8080`` is what people write."""
    (listener,) = listen(":0")
    assert listener.getsockname()[0] == "0.0.0.0"


def test_everybody_in_the_queue_is_accepted_at_once(
    stack: ExitStack,
    listen: Callable[..., list[socket.socket]],
    connect: Callable[[socket.socket], socket.socket],
) -> None:
    """Without waiting for anybody, and never blocking later."""
    (listener,) = listen()
    assert accept_all(listener) == []
    clients = [connect(listener) for _ in range(20)]
    served = accepted(stack, listener)
    assert {each.getpeername() for each in served} == {each.getsockname() for each in clients}
    assert not any(each.getblocking() for each in served)
    assert accept_all(listener) == []


def test_the_end_of_the_queue_can_be_reached(
    stack: ExitStack,
    listen: Callable[..., list[socket.socket]],
    connect: Callable[[socket.socket], socket.socket],
) -> None:
    """Newcomers get no answer at all; those who were there before are served without a reset."""
    (listener,) = listen()
    clients = [connect(listener) for _ in range(20)]
    refuse_newcomers([listener])
    newcomer = stack.enter_context(socket.socket())
    newcomer.settimeout(0.2)
    with pytest.raises(TimeoutError):
        newcomer.connect(listener.getsockname())
    for client in clients:
        client.sendall(b"request")
    served = accepted(stack, listener)
    listener.close()
    assert len(served) == 20
    for each in served:
        each.settimeout(PATIENCE)
        assert each.recv(100) == b"request"
        each.sendall(b"answer")
        each.close()
    for client in clients:
        assert (client.recv(100), client.recv(100)) == (b"answer", b"")


def test_a_handshake_that_has_begun_can_complete(
    stack: ExitStack,
    listen: Callable[..., list[socket.socket]],
    connect: Callable[[socket.socket], socket.socket],
) -> None:
    """Its last segment comes when newcomers are refused already."""
    (listener,) = listen()
    # The kernel takes the last segment for a part of the handshake only when it brings data.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 5)
    client = connect(listener)
    assert accept_all(listener) == []
    refuse_newcomers([listener])
    client.sendall(b"request")
    (served,) = accepted(stack, listener)
    served.settimeout(PATIENCE)
    assert served.recv(100) == b"request"


def test_every_worker_can_refuse_newcomers_on_its_own(
    stack: ExitStack, listen: Callable[..., list[socket.socket]]
) -> None:
    """A filter that was set by one is the same when set again."""
    first, second = listen("127.0.0.1:0", 2)
    refuse_newcomers([first, second])
    refuse_newcomers([first])
    newcomer = stack.enter_context(socket.socket())
    newcomer.settimeout(0.2)
    with pytest.raises(TimeoutError):
        newcomer.connect(first.getsockname())
    assert accept_all(first) == accept_all(second) == []


# Unix sockets.


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Where a socket may be."""
    return str(tmp_path / "log.sock")


def client_of(stack: ExitStack, path: str) -> socket.socket:
    """A client that is connected."""
    client = stack.enter_context(socket.socket(socket.AF_UNIX))
    client.settimeout(PATIENCE)
    client.connect(path)
    return client


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("unix:/run/log.sock", "/run/log.sock"),
        ("unix:", ""),
        ("/run/log.sock", None),
        ("127.0.0.1:5514", None),
        ("unix.example.com:5514", None),
        (":5514", None),
    ],
)
def test_the_address_of_a_unix_socket_begins_with_its_kind(address: str, found: str | None) -> None:
    """Others are host and port."""
    assert unix_path(address) == found


def test_a_unix_socket_has_one_queue_for_all_workers(
    stack: ExitStack, listen: Callable[..., list[socket.socket]], path: str
) -> None:
    """Whichever of them looks finds who is there; each has a descriptor of its own."""
    sockets = listen(f"unix:{path}", 3)
    assert {address_of(sock) for sock in sockets} == {f"unix:{path}"}
    assert len({sock.fileno() for sock in sockets}) == 3
    assert not any(sock.getblocking() for sock in sockets)
    clients = [client_of(stack, path) for _ in range(20)]
    sockets[0].close()
    served = accepted(stack, sockets[1])
    assert len(served) == 20
    clients[0].sendall(b"message")
    served[0].settimeout(PATIENCE)
    assert served[0].recv(100) == b"message"
    assert accept_all(sockets[2]) == []


def test_everybody_who_reaches_the_folder_may_send(
    listen: Callable[..., list[socket.socket]], path: str
) -> None:
    """Whatever the umask is: loggers run under any user."""
    before = os.umask(0o077)
    try:
        listen(f"unix:{path}")
    finally:
        os.umask(before)
    assert stat.filemode(os.lstat(path).st_mode) == "srw-rw-rw-"


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
@pytest.mark.parametrize("other", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_file_that_was_left_behind_is_replaced(
    stack: ExitStack, path: str, kind: socket.SocketKind, other: socket.SocketKind
) -> None:
    """By a process that was killed, for instance."""
    bind_unix(path, other).close()
    assert stat.S_ISSOCK(os.lstat(path).st_mode)
    sock = stack.enter_context(bind_unix(path, kind))
    assert (sock.getsockname(), sock.type) == (path, kind)


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
@pytest.mark.parametrize("other", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
@pytest.mark.parametrize("listens", [False, True])
def test_a_socket_of_another_program_is_left_alone(
    stack: ExitStack,
    path: str,
    kind: socket.SocketKind,
    other: socket.SocketKind,
    *,
    listens: bool,
) -> None:
    """Also where it does not listen yet; it is not even called."""
    theirs = stack.enter_context(bind_unix(path, other))
    if listens and other == socket.SOCK_STREAM:
        theirs.listen()
    theirs.setblocking(False)
    for _ in range(2):
        with pytest.raises(OSError, match="in use") as refused:
            bind_unix(path, kind)
        assert refused.value.errno == errno.EADDRINUSE
    unlink(path)
    assert stat.S_ISSOCK(os.lstat(path).st_mode)
    with pytest.raises(OSError, match=r"Invalid argument|temporarily unavailable"):
        theirs.accept() if other == socket.SOCK_STREAM else theirs.recv(1)


def test_what_is_no_socket_is_left_alone(tmp_path: Path, path: str) -> None:
    """A file, and a link to a socket."""
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_text("mine")
    bind_unix(path).close()
    link.symlink_to(path)
    for each in (file, link, tmp_path):
        with pytest.raises(OSError, match="in use"):
            bind(f"unix:{each}", 1)
        unlink(str(each))
    assert file.read_text() == "mine"
    assert link.is_symlink()


def test_a_path_that_cannot_be_bound_leaves_no_socket_open(tmp_path: Path) -> None:
    """With the system's own reason."""
    before = psutil.Process().num_fds()
    for _ in range(3):
        with pytest.raises(FileNotFoundError):
            bind(f"unix:{tmp_path}/none/log.sock", 2)
        with pytest.raises(OSError, match="too long"):
            bind(f"unix:{tmp_path}/{'x' * 200}", 2)
    assert psutil.Process().num_fds() == before


def test_the_file_goes_with_the_last_of_the_sockets(path: str) -> None:
    """And once more makes no difference."""
    first, second = bind(f"unix:{path}", 2)
    first.close()
    unlink(path)
    assert os.path.lexists(path)
    second.close()
    unlink(path)
    assert not os.path.lexists(path)
    unlink(path)


def test_only_tcp_has_newcomers_to_refuse(
    stack: ExitStack, listen: Callable[..., list[socket.socket]], path: str
) -> None:
    """A unix socket among the others goes on as before."""
    (listener,), tcp = listen(f"unix:{path}"), listen()
    refuse_newcomers([listener, *tcp])
    client_of(stack, path)
    assert len(accepted(stack, listener)) == 1
