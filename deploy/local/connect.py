"""Kafka Connect as a child process: one distributed worker, and what its REST interface can do."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from urllib.parse import quote

from deploy.local.ports import free_ports
from deploy.local.properties import as_properties
from deploy.local.spawn import spawn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from deploy.local.java import KafkaPrograms

MAIN = "org.apache.kafka.connect.cli.ConnectDistributed"
START_SECONDS = 60.0
PATIENCE_SECONDS = 30.0
STOP_SECONDS = 30.0
POLL_SECONDS = 0.05
LOG_TAIL = 3000
"""Characters of the worker's log that an error shows."""
NOT_NOW = frozenset({HTTPStatus.CONFLICT, HTTPStatus.SERVICE_UNAVAILABLE})
"""What is answered while connectors are shared out among workers, and at the start."""


class ConnectFailed(RuntimeError):  # noqa: N818 - read in a traceback as a sentence
    """Kafka Connect, or a connector in it, does not do what it should; the message says why."""


class _Reply(NamedTuple):
    status: int
    document: Any


class Connect:
    """A running worker of Kafka Connect; a context manager that ends it. Every method blocks.

    It is the only one of its group, and has internal topics of its own, which stay in the cluster.

    Args:
        bootstrap_servers: where Kafka is.
        programs: what to run.
        folder: for its settings, plug-ins and log, and kept; by default a temporary one that is
            deleted at the end.

    Attributes:
        url: of its REST interface.
        log: the file that it logs to.

    Raises:
        ConnectFailed: it ended or was not ready within 60 s.
    """

    def __init__(
        self, bootstrap_servers: str, programs: KafkaPrograms, folder: Path | None = None
    ) -> None:
        self._temporary = folder is None
        self._folder = (folder or Path(tempfile.mkdtemp(prefix="connect-"))).resolve()
        self._folder.mkdir(parents=True, exist_ok=True)
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self.log = self._folder / "connect.log"
        settings = self._folder / "connect.properties"
        plugins = _plugins(programs, self._folder / "plugins")
        properties = worker_properties(bootstrap_servers, self.url, plugins)
        settings.write_text(as_properties(properties), encoding="utf-8")
        self._process = spawn(programs.command(MAIN, str(settings)), self.log)
        try:
            self._wait(self._ready, START_SECONDS, "it is not ready")
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self._process.pid

    def create(self, name: str, config: Mapping[str, str]) -> None:
        """Have a connector with this configuration, whether there was one or not.

        Raises:
            ConnectFailed: the configuration is refused; with Connect's words.
        """
        self._insist("PUT", f"{_path(name)}/config", config)

    def status(self, name: str) -> dict[str, Any] | None:
        """What Connect says of a connector and its tasks; None while it knows none of that name.

        See "GET /connectors/(name)/status" in Kafka's documentation: a new connector is not known
        at once, for its status goes through a topic.

        Raises:
            ConnectFailed: it does not say.
        """
        reply = self._ask("GET", f"{_path(name)}/status")
        if reply.status == HTTPStatus.NOT_FOUND:
            return None
        if reply.status != HTTPStatus.OK:
            raise ConnectFailed(f"no status of {name}: {reply.status} {reply.document}")
        document: dict[str, Any] = reply.document
        return document

    def wait_running(self, name: str, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until a connector and all its tasks run.

        Raises:
            ConnectFailed: one of them failed, with its stack trace, or it took too long.
        """
        self._wait(lambda: _runs(self.status(name)), seconds, f"{name} does not run")

    def delete(self, name: str) -> None:
        """End a connector, and wait until it is gone.

        Raises:
            ConnectFailed: there is none, or it stays.
        """
        self._insist("DELETE", _path(name))
        self._wait(lambda: self.status(name) is None, PATIENCE_SECONDS, f"{name} does not go")

    def stop(self) -> None:
        """End the worker in good order (SIGTERM), or by force after 30 s."""
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._temporary:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _ready(self) -> bool:
        """Whether it has read its topics and joined its group (KIP-1017)."""
        try:
            return self._ask("GET", "/health").status == HTTPStatus.OK
        except (OSError, HTTPException):
            return False

    def _insist(self, method: str, path: str, body: Mapping[str, str] | None = None) -> None:
        """Ask again while the answer is "not now".

        Raises:
            ConnectFailed: the answer is no.
        """
        replies: list[_Reply] = []

        def decided() -> bool:
            replies.append(self._ask(method, path, body))
            return replies[-1].status not in NOT_NOW

        self._wait(decided, PATIENCE_SECONDS, f"{method} {path} has to wait")
        if replies[-1].status >= HTTPStatus.BAD_REQUEST:
            raise ConnectFailed(f"{method} {path}: {replies[-1].status} {replies[-1].document}")

    def _ask(self, method: str, path: str, body: Mapping[str, str] | None = None) -> _Reply:
        """The answer to one request; its document is text where it is no JSON.

        Raises:
            OSError: nobody answers.
        """
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, data, headers, method=method)  # noqa: S310 - http
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:  # noqa: S310 - http
                return _Reply(answer.status, _document(answer.read()))
        except urllib.error.HTTPError as refusal:
            with refusal:
                return _Reply(refusal.code, _document(refusal.read()))

    def _wait(self, holds: Callable[[], bool], seconds: float, otherwise: str) -> None:
        give_up = time.monotonic() + seconds
        while not holds():
            if self._process.poll() is not None:
                otherwise = f"it ended with {self._process.returncode}"
            elif time.monotonic() < give_up:
                time.sleep(POLL_SECONDS)
                continue
            raise ConnectFailed(f"Kafka Connect: {otherwise}; its log ends:\n{self._tail()}")

    def _tail(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")[-LOG_TAIL:]


def worker_properties(bootstrap_servers: str, url: str, plugins: Path) -> dict[str, str]:
    """The settings of a worker that is alone, and quick to start and to commit.

    Args:
        bootstrap_servers: where Kafka is.
        url: where its REST interface listens.
        plugins: the folder that has a folder for each plug-in.
    """
    name = f"connect-{uuid.uuid4().hex[:12]}"
    return {
        "bootstrap.servers": bootstrap_servers,
        "group.id": name,
        "listeners": url,
        "plugin.path": str(plugins),
        "plugin.discovery": "service_load",  # looking into every jar takes 3 s
        "key.converter": "org.apache.kafka.connect.storage.StringConverter",
        "value.converter": "org.apache.kafka.connect.json.JsonConverter",
        "offset.flush.interval.ms": "500",
        "scheduled.rebalance.max.delay.ms": "0",  # else tasks of a worker that went wait 5 minutes
        "offset.storage.partitions": "1",
        "status.storage.partitions": "1",
        **{f"{kind}.storage.topic": f"{name}-{kind}" for kind in ("config", "offset", "status")},
        **{f"{kind}.storage.replication.factor": "1" for kind in ("config", "offset", "status")},
    }


def _plugins(programs: KafkaPrograms, folder: Path) -> Path:
    """A folder for ``plugin.path`` with the file connectors, a plug-in like any other."""
    (folder / "connect-file").mkdir(parents=True, exist_ok=True)
    shutil.copy(programs.libs / f"connect-file-{programs.version}.jar", folder / "connect-file")
    return folder


def _path(name: str) -> str:
    return f"/connectors/{quote(name, safe='')}"


def _document(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode(errors="replace")


def _runs(status: Mapping[str, Any] | None) -> bool:
    """Whether a connector and its tasks run.

    Raises:
        ConnectFailed: one of them failed.
    """
    if status is None:
        return False
    parts = [status["connector"], *status["tasks"]]
    for each in parts:
        if each["state"] == "FAILED":
            raise ConnectFailed(f"{status['name']} failed: {each.get('trace')}")
    return bool(status["tasks"]) and all(each["state"] == "RUNNING" for each in parts)
