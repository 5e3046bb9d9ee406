"""What `make run` makes in its folder."""

from __future__ import annotations

import hashlib
import socket
import stat
from typing import TYPE_CHECKING

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from deploy.local import demo
from deploy.local.demo import AlreadyRunning, alone, demo_key, gateway_environment, write_config
from ingest.config import load
from ingest.inflight import Budget
from ingest_http.auth import Auth, NoCredentials
from ingest_http.config import HttpConfig

if TYPE_CHECKING:
    from pathlib import Path


def _shown(key: str) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict({"X-API-Key": key}))


def test_the_key_is_made_once_and_for_one_folder_only(tmp_path: Path) -> None:
    """The command in the shell's history works tomorrow; nobody else's key does."""
    other = tmp_path / "other"
    other.mkdir()
    assert demo_key(tmp_path) == demo_key(tmp_path)
    assert demo_key(tmp_path) != demo_key(other)


def test_nobody_else_can_read_the_key(tmp_path: Path) -> None:
    """From the first moment on."""
    demo_key(tmp_path)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_half_a_key_is_not_taken_for_a_whole_one(tmp_path: Path) -> None:
    """A start that was killed while it wrote leaves nothing that the next one would use."""
    (tmp_path / "key.part").write_text("ing_")
    assert len(demo_key(tmp_path)) > 40


def test_the_gateway_knows_the_key_by_its_digest(tmp_path: Path) -> None:
    """For all sources; the key itself is not in the file."""
    path = write_config(tmp_path, "the key")
    client = Auth(load(path, HttpConfig, {}).auth, Budget(1)).identify(_shown("the key"))
    assert client.name == "demo"
    assert client.covers("anything")
    assert "the key" not in path.read_text()
    assert hashlib.sha256(b"the key").hexdigest() in path.read_text()


def test_the_configuration_is_the_example_and_the_key(tmp_path: Path) -> None:
    """A change to the example has its effect at the next start."""
    write_config(tmp_path, "another key")
    found = load(write_config(tmp_path, "the key"), HttpConfig, {})
    example = load(demo.EXAMPLE, HttpConfig, {})
    assert found.auth.keys.keys() == {*example.auth.keys, "demo"}
    assert found.model_copy(update={"auth": example.auth}) == example
    with pytest.raises(NoCredentials):
        Auth(found.auth, Budget(1)).identify(_shown("another key"))


def test_only_one_at_a_time_uses_a_folder(tmp_path: Path) -> None:
    """The other one is told so; afterwards the folder is free."""
    with alone(tmp_path / "new"), pytest.raises(AlreadyRunning, match=r"runs already.*new"):
        alone(tmp_path / "new").__enter__()
    with alone(tmp_path / "new"):
        pass


def test_the_environment_says_where_kafka_is_and_is_right_for_the_gateway(tmp_path: Path) -> None:
    """It listens on this machine only, and ends without waiting for a balancer."""
    environ = gateway_environment("127.0.0.1:20000", {"HOME": "/"})
    config = load(write_config(tmp_path, "key"), HttpConfig, environ)
    assert environ["HOME"] == "/"
    assert config.kafka.bootstrap_servers == "127.0.0.1:20000"
    assert config.service.prestop_seconds == 0
    assert config.service.log_format == "json"
    for address in (config.http.listen, config.management.http):
        assert address.startswith("127.0.0.1:")


def test_settings_of_the_environment_are_kept() -> None:
    """Who says another address or time gets that."""
    own = {"INGEST_HTTP__LISTEN": "0.0.0.0:1234", "INGEST_SERVICE__PRESTOP_SECONDS": "3"}
    assert own.items() <= gateway_environment("127.0.0.1:20000", own).items()


def test_a_port_that_is_taken_is_replaced_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By one below those that Linux hands out."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setattr(demo, "PORTS", {"INGEST_HTTP__LISTEN": port})
        address = gateway_environment("127.0.0.1:20000", {})["INGEST_HTTP__LISTEN"]
    other = int(address.rpartition(":")[2])
    assert other != port
    assert other < 32768
    assert capsys.readouterr().err == f"port {port} is taken: {other} is used instead\n"
