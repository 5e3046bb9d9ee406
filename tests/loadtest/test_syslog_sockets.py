"""The kernel is asked about UDP sockets of any process."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from loadtest.syslog_sockets import UdpSocket, udp_sockets

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def receiver() -> Iterator[socket.socket]:
    """A socket that is bound, with a small buffer."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8_192)
        sock.bind(("127.0.0.1", 0))
        yield sock


def test_drops_and_the_size_of_the_buffer_are_exact(receiver: socket.socket) -> None:
    """What does not fit into the buffer is dropped, and counted."""
    address = receiver.getsockname()
    size = receiver.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    assert udp_sockets(address[1]) == [UdpSocket(size, 0)]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(100):
            sender.sendto(bytes(280), address)
    receiver.setblocking(False)
    received = 0
    try:
        while receiver.recv(1_000):
            received += 1
    except BlockingIOError:
        pass
    assert 0 < received < 100
    assert udp_sockets(address[1]) == [UdpSocket(size, 100 - received)]


def test_a_port_that_nobody_has_has_no_sockets(receiver: socket.socket) -> None:
    """Other sockets are left out."""
    port = receiver.getsockname()[1]
    receiver.close()
    assert udp_sockets(port) == []
