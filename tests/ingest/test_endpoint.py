"""Where a service listens."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from ingest.datagrams import effective_buffer
from ingest.endpoint import Endpoint

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(("buffer", "kind"), [(0, socket.SOCK_STREAM), (1, socket.SOCK_DGRAM)])
def test_each_worker_gets_a_socket_of_its_own_on_one_port(
    buffer: int, kind: socket.SocketKind
) -> None:
    """Of a stream, or of datagrams where there is a buffer to ask for."""
    endpoint = Endpoint("127.0.0.1:0", buffer)
    sockets = endpoint.bind(3)
    assert {sock.type for sock in sockets} == {kind}
    assert len({sock.getsockname() for sock in sockets}) == 1
    endpoint.release(sockets)
    assert {sock.fileno() for sock in sockets} == {-1}


def test_a_clamped_buffer_is_warned_of_with_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what to do about it; a stream has none, and what was granted is no news."""
    monkeypatch.setattr("ingest.datagrams._SO_RCVBUFFORCE", 0xFFFF)  # as without the privilege
    endpoint = Endpoint("127.0.0.1:0", 1 << 30)
    sockets = endpoint.bind(1)
    with capture_logs() as logs:
        endpoint.warn("udp", sockets)
        Endpoint("127.0.0.1:0", 1).warn("udp", sockets)
        Endpoint("127.0.0.1:0").warn("tcp", sockets)
    (line,) = logs
    assert (line["event"], line["listener"]) == ("receive_buffer_clamped", "udp")
    assert line["effective_bytes"] == effective_buffer(sockets[0]) < line["wanted_bytes"]
    endpoint.release(sockets)


@pytest.mark.parametrize("buffer", [0, 1])
def test_the_file_of_a_path_goes_with_its_last_socket(tmp_path: Path, buffer: int) -> None:
    """A start after a crash finds no remains, and an end leaves none."""
    path = tmp_path / "log.sock"
    endpoint = Endpoint(f"unix:{path}", buffer)
    sockets = endpoint.bind(2)
    assert path.exists()
    endpoint.release(sockets)
    assert not path.exists()
