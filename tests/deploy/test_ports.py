"""Ports of brokers."""

from __future__ import annotations

import socket

import pytest

from deploy.local.ports import FIRST, LAST, free_ports, is_free


def test_ports_differ_and_are_below_those_that_linux_hands_out() -> None:
    """No outgoing connection can take the port of a broker that is down."""
    ports = free_ports(200)
    assert len(set(ports)) == 200
    assert all(FIRST <= port <= LAST < 32768 for port in ports)


def test_ports_can_be_bound_at_once() -> None:
    """What is handed out is not held any more, and used by nobody."""
    for port in free_ports(20):
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", port))


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_port_that_somebody_listens_on_is_not_free(host: str) -> None:
    """It does not matter whether the other one listens on this address or on all."""
    (port,) = free_ports(1)
    with socket.socket() as other:
        other.bind((host, port))
        other.listen()
        assert not is_free(port)
    assert is_free(port)


def test_a_port_with_the_remains_of_a_connection_is_free() -> None:
    """The side that closed first leaves its port in TIME_WAIT, which is no reason to avoid it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            connection, _ = server.accept()
            connection.close()
            assert client.recv(1) == b""
    assert is_free(port)
