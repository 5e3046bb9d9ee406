"""Both ways to read datagrams give the same: every byte, every sender, every length."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from ingest.datagrams import bind_datagrams, refuse_datagrams
from ingest_syslog import recvmmsg
from ingest_syslog.recvmmsg import Batch, ManyReceiver, OneReceiver, Receiver, receiver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Way = Callable[..., Receiver]
    Bind = Callable[[str], socket.socket]
    Client = Callable[[socket.socket], socket.socket]

BUFFER = 8 << 20
both_ways = pytest.mark.parametrize("way", [ManyReceiver, OneReceiver])


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Closes what is put on it."""
    with ExitStack() as opened:
        yield opened


@pytest.fixture
def bind(stack: ExitStack) -> Callable[[str], socket.socket]:
    """One bound socket, closed at the end."""

    def bind(address: str) -> socket.socket:
        return stack.enter_context(bind_datagrams(address, 1, BUFFER)[0])

    return bind


@pytest.fixture
def client(stack: ExitStack) -> Callable[[socket.socket], socket.socket]:
    """A sender to a socket, closed at the end."""

    def client(sock: socket.socket) -> socket.socket:
        sender = stack.enter_context(socket.socket(sock.family, socket.SOCK_DGRAM))
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


def everything(reader: Receiver) -> Batch:
    """All that waits."""
    found = Batch([], [], [])
    while (batch := reader.receive()).datagrams:
        found.datagrams.extend(batch.datagrams)
        found.peers.extend(batch.peers)
        found.lengths.extend(batch.lengths)
    return found


@both_ways
def test_datagrams_come_whole_and_in_order(way: Way, bind: Bind, client: Client) -> None:
    """Empty ones and such as look like the end of a text too; slots are used again and again."""
    sock = bind("127.0.0.1:0")
    reader, sender = way(sock), client(sock)
    for _ in range(3):
        sent = [b"%d " % number * (number % 7) + b"\0\n" * (number % 3) for number in range(100)]
        for datagram in sent:
            sender.send(datagram)
        got = everything(reader)
        assert got.datagrams == sent
        assert all(type(datagram) is bytes for datagram in got.datagrams)
        assert got.lengths == list(map(len, sent))
        assert got.peers == ["127.0.0.1"] * 100
    assert b"" in sent


@both_ways
def test_a_batch_is_not_changed_by_the_next(way: Way, bind: Bind, client: Client) -> None:
    """What was handed over is a copy of its own."""
    sock = bind("127.0.0.1:0")
    reader, sender = way(sock), client(sock)
    sender.send(b"first")
    first = reader.receive()
    sender.send(b"second")
    assert reader.receive().datagrams == [b"second"]
    assert first == ([b"first"], ["127.0.0.1"], [5])


@both_ways
def test_nothing_waiting_is_an_empty_batch(way: Way, bind: Bind) -> None:
    """The call does not wait."""
    assert way(bind("127.0.0.1:0")).receive() == ([], [], [])


@both_ways
def test_fewer_than_the_slots_means_that_no_more_were_there(
    way: Way, bind: Bind, client: Client
) -> None:
    """What is above goes into the next call."""
    sock = bind("127.0.0.1:0")
    reader, sender = way(sock), client(sock)
    for _ in range(reader.slots + 1):
        sender.send(b"datagram")
    assert [len(reader.receive().datagrams) for _ in range(3)] == [reader.slots, 1, 0]


@pytest.mark.usefixtures("ipv6")
@both_ways
@pytest.mark.parametrize(("host", "most"), [("127.0.0.1", 65_507), ("[::1]", 65_527)])
def test_the_largest_datagrams_come_whole(
    way: Way, bind: Bind, client: Client, host: str, most: int
) -> None:
    """There are none that the default would cut."""
    sock = bind(f"{host}:0")
    sent = [os.urandom(most) for _ in range(40)]
    sender, reader = client(sock), way(sock)
    for datagram in sent:
        sender.send(datagram)
    got = everything(reader)
    assert got.datagrams == sent
    assert got.lengths == [most] * 40


@both_ways
@pytest.mark.parametrize("address", ["127.0.0.1:0", "unix:{}"])
def test_what_is_longer_than_its_room_is_cut_and_its_length_told(
    way: Way, bind: Bind, client: Client, tmp_path: Path, address: str
) -> None:
    """The slots next to it are not touched."""
    sock = bind(address.format(tmp_path / "log.sock"))
    reader, sender = way(sock, 1000), client(sock)
    lengths = [999, 1000, 1001, 30_000, 3]
    for number, length in enumerate(lengths):
        sender.send(b"%d" % number * length)
    got = reader.receive()
    assert got.lengths == lengths
    assert got.datagrams == [b"%d" % n * min(len_, 1000) for n, len_ in enumerate(lengths)]


@pytest.mark.usefixtures("ipv6")
@both_ways
def test_senders_by_ipv4_are_named_so_on_any_socket(way: Way, stack: ExitStack, bind: Bind) -> None:
    """Rules about networks would not know them as ``::ffff:127.0.0.2``."""
    sock = bind("[::]:0")
    reader = way(sock)
    port = sock.getsockname()[1]
    for family, host in ((socket.AF_INET, "127.0.0.2"), (socket.AF_INET6, "::1")) * 2:
        sender = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
        sender.bind((host, 0))
        sender.sendto(host.encode(), (host.replace(".2", ".1"), port))
    got = reader.receive()
    assert got.peers == ["127.0.0.2", "::1"] * 2
    assert [peer.encode() for peer in got.peers] == got.datagrams


def test_a_sender_has_the_same_name_object_each_time(
    stack: ExitStack, bind: Bind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever its port; the number of remembered names is bounded."""
    monkeypatch.setattr(recvmmsg, "PEERS", 3)
    sock = bind("127.0.0.1:0")
    reader = ManyReceiver(sock)
    hosts = ["127.0.0.1", "127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.1"]
    for host in hosts:
        sender = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        sender.bind((host, 0))
        sender.sendto(b"", sock.getsockname())
    peers = reader.receive().peers
    assert peers == hosts
    assert peers[0] is peers[1]
    assert len(reader._peers) <= 3


@both_ways
def test_senders_to_a_path_are_unix(
    way: Way, stack: ExitStack, bind: Bind, client: Client, tmp_path: Path
) -> None:
    """Named ones and, as almost all are, unnamed ones."""
    sock = bind(f"unix:{tmp_path}/log.sock")
    reader = way(sock)
    named = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    named.bind(f"{tmp_path}/{'n' * 20}.sock")
    named.sendto(b"named", sock.getsockname())
    client(sock).send(b"unnamed")
    named.sendto(b"", sock.getsockname())
    assert reader.receive() == ([b"named", b"unnamed", b""], ["unix"] * 3, [5, 7, 0])


@both_ways
def test_datagrams_to_a_path_may_be_larger_than_any_of_udp(
    way: Way, bind: Bind, client: Client, tmp_path: Path
) -> None:
    """With more room they come whole."""
    sock = bind(f"unix:{tmp_path}/log.sock")
    sender = client(sock)
    large = os.urandom(150_000)
    reader = way(sock, 200_000)
    sender.send(large)
    sender.send(b"small")
    assert everything(reader).datagrams == [large, b"small"]


@both_ways
def test_a_path_that_is_refused_can_be_read_to_its_end(
    way: Way, bind: Bind, client: Client, tmp_path: Path
) -> None:
    """And has one: an empty batch, not an endless number of empty datagrams."""
    sock = bind(f"unix:{tmp_path}/log.sock")
    client(sock).send(b"before")
    refuse_datagrams(sock)
    reader = way(sock)
    assert reader.receive().datagrams == [b"before"]
    assert reader.receive().datagrams == []


@both_ways
def test_an_error_of_the_socket_is_raised(way: Way, bind: Bind) -> None:
    """With the system's reason."""
    sock = bind("127.0.0.1:0")
    reader = way(sock)
    sock.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        reader.receive()


@pytest.mark.parametrize(("room", "slots"), [(1000, 32), (65_536, 32), (1 << 20, 2), (9 << 20, 1)])
def test_memory_is_bounded(bind: Bind, room: int, slots: int) -> None:
    """More room for one means fewer at once."""
    assert ManyReceiver(bind("127.0.0.1:0"), room).slots == slots


def test_without_recvmmsg_they_are_read_one_by_one(
    bind: Bind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once with a word about it, as it costs more."""
    sock = bind("127.0.0.1:0")
    assert isinstance(receiver(sock), ManyReceiver)

    def missing() -> None:
        raise AttributeError("undefined symbol: recvmmsg")

    monkeypatch.setattr(recvmmsg, "_recvmmsg", missing)
    with capture_logs() as logs:
        assert isinstance(receiver(sock), OneReceiver)
    assert [entry["log_level"] for entry in logs] == ["warning"]
