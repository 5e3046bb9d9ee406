"""Starts the gateway under test as a process of its own, with a configuration made for it."""

from __future__ import annotations

import hashlib
import json
import queue
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

ROOT = Path(__file__).resolve().parent.parent
"""The repository: the programs are started there."""
START_SECONDS = 20.0
READY_SECONDS = 60.0
STOP_SECONDS = 45.0
POLL_SECONDS = 0.05


class Process:
    """A program that logs JSON lines to stderr and says where it listens.

    Attributes:
        addresses: by listener: the ``host:port`` that was logged.
        lines: what it logged, as dictionaries; what is no JSON comes as ``{"text": line}``.
    """

    def __init__(self, command: Sequence[str], listeners: Sequence[str] = ("http",)) -> None:
        self.addresses: dict[str, str] = {}
        self.lines: list[dict[str, Any]] = []
        self._listeners = listeners
        self._heard: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._process = subprocess.Popen(
            [sys.executable, *command], stderr=subprocess.PIPE, cwd=ROOT, text=True
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The process (of a service: the parent of its workers)."""
        return self._process.pid

    @property
    def url(self) -> str:
        """Where events are posted to."""
        return f"http://{self.addresses['http']}"

    def wait_for_addresses(self) -> None:
        """Wait until every listener is bound.

        Raises:
            RuntimeError: the program ended, or did not say so in time.
        """
        deadline = time.monotonic() + START_SECONDS
        while set(self._listeners) - set(self.addresses):
            try:
                running = self._heard.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                running = False
            if not running:
                raise RuntimeError(f"did not start: {self.lines[-20:]}")

    def stop(self) -> int:
        """End it by SIGTERM; returns its exit status.

        Raises:
            subprocess.TimeoutExpired: it did not end in time and was killed.
        """
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            status = self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        self._reader.join(STOP_SECONDS)
        return status

    def kill(self) -> None:
        """End it by SIGKILL."""
        self._process.kill()
        self._process.wait()

    def _read(self) -> None:
        if self._process.stderr is None:
            raise RuntimeError("stderr is not a pipe")
        with self._process.stderr as stream:
            for line in stream:
                self._note(line)
        self._heard.put(False)

    def _note(self, line: str) -> None:
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        self.lines.append(entry if isinstance(entry, dict) else {"text": line.rstrip()})
        if isinstance(entry, dict) and entry.get("event") == "listening":
            self.addresses[entry["listener"]] = entry["address"]
            self._heard.put(True)


class Gateway:
    """The gateway under test; a context manager that starts and ends it.

    Args:
        bootstrap_servers: where Kafka is; it need not be there yet.
        settings: by section: values that differ from `template`.
        wait: whether entering waits until it is ready, which needs Kafka.

    Attributes:
        key: the API key it was configured with.
        process: the running program.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        wait: bool = True,
    ) -> None:
        self.key = secrets.token_urlsafe(24)
        self.process: Process
        self._settings = template(bootstrap_servers, self.key)
        for section, values in (settings or {}).items():
            self._settings[section] = {**self._settings.get(section, {}), **values}
        self._wait = wait
        self._directory: tempfile.TemporaryDirectory[str]

    @property
    def url(self) -> str:
        """Where events are posted to."""
        return self.process.url

    @property
    def management_url(self) -> str:
        """Where ``/readyz`` and ``/metrics`` are."""
        return f"http://{self.process.addresses['management']}"

    def __enter__(self) -> Self:
        """Start it."""
        self._directory = tempfile.TemporaryDirectory(prefix="loadtest-")
        config = Path(self._directory.name) / "ingest.toml"
        config.write_text(as_toml(self._settings))
        command = ("-m", "ingest_http", "--config", str(config))
        self.process = Process(command, ("http", "management"))
        try:
            self.process.wait_for_addresses()
            if self._wait:
                self.wait_until_ready()
        except BaseException:
            self.process.kill()
            self._directory.cleanup()
            raise
        return self

    def __exit__(self, error: object, *_: object) -> None:
        """End it; a bad end is an error, unless there is one already."""
        try:
            status = self.process.stop()
        finally:
            self._directory.cleanup()
        if status != 0 and error is None:
            raise RuntimeError(f"exit status {status}: {self.process.lines[-20:]}")

    def ready(self) -> bool:
        """Whether it can take data now."""
        try:
            with urllib.request.urlopen(f"{self.management_url}/readyz", timeout=5):  # noqa: S310 - http
                return True
        except (urllib.error.URLError, OSError):
            return False

    def wait_until_ready(self, seconds: float = READY_SECONDS) -> None:
        """Wait until it can take data.

        Raises:
            TimeoutError: it could not within ``seconds``.
        """
        wait_until(self.ready, seconds, "the gateway is not ready")


def wait_until(holds: Callable[[], bool], seconds: float, otherwise: str) -> None:
    """Ask ``holds`` until it says yes.

    Raises:
        TimeoutError: it did not within ``seconds``; the text is ``otherwise``.
    """
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(otherwise)
        time.sleep(POLL_SECONDS)


def template(bootstrap_servers: str, key: str) -> dict[str, dict[str, Any]]:
    """The configuration under test, by section: one worker, one key for the source ``load``."""
    return {
        "service": {"prestop_seconds": 0, "log_format": "json"},
        "kafka": {"bootstrap_servers": bootstrap_servers, "request_timeout_seconds": 4},
        "topics": {"partitions": 4},
        "management": {"http": "127.0.0.1:0"},
        "http": {"listen": "127.0.0.1:0", "workers": 1},
        "auth.keys.load": {
            "sha256": [hashlib.sha256(key.encode()).hexdigest()],
            "sources": ["*"],
        },
        "sources.load": {},
    }


def as_toml(settings: Mapping[str, Mapping[str, Any]]) -> str:
    """Sections of plain values as TOML, whose notation of these is JSON's."""
    lines: list[str] = []
    for section, values in settings.items():
        lines.append(f"[{section}]")
        lines += [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    return "\n".join(lines) + "\n"
