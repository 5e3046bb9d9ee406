"""Brokers in containers, as far as that can be tried without an engine."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pytest

from deploy.local.docker import require_engine, variable
from deploy.local.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Engine(BaseHTTPRequestHandler):
    """Says OK to everything, as an engine does to a ping."""

    def do_GET(self) -> None:
        body = b'{"ApiVersion":"1.44"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextmanager
def engine(host: str) -> Iterator[str]:
    """An engine that answers at ``host``; gives its address."""
    with HTTPServer((host, 0), _Engine) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"tcp://{host}:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("setting", "name"),
    [
        ("node.id", "KAFKA_NODE_ID"),
        ("log.cleaner.dedupe.buffer.size", "KAFKA_LOG_CLEANER_DEDUPE_BUFFER_SIZE"),
        ("a_b-c.d", "KAFKA_A___B__C_D"),
    ],
)
def test_settings_become_the_variables_that_the_image_reads(setting: str, name: str) -> None:
    """The image's rule: dots, dashes and underscores become one, two and three underscores."""
    assert variable(setting) == name


def test_an_engine_that_does_not_answer_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client alone, without the engine, is not enough."""
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    with pytest.raises(Unavailable, match="no engine answers"):
        require_engine()


def test_an_engine_on_this_machine_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its port."""
    with engine("127.0.0.1") as address:
        monkeypatch.setenv("DOCKER_HOST", address)
        require_engine()


def test_an_engine_elsewhere_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ports of its containers are not on 127.0.0.1."""
    with engine("127.0.0.2") as address:
        monkeypatch.setenv("DOCKER_HOST", address)
        with pytest.raises(Unavailable, match=r"not on this machine but at http://127\.0\.0\.2"):
            require_engine()
