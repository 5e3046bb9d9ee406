"""Starts the gateway under test as a process of its own, with a configuration made for it."""

from __future__ import annotations

import hashlib
import json
import os
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
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from prometheus_client.samples import Sample

ROOT = Path(__file__).resolve().parent.parent
"""The repository: the programs are started there."""
START_SECONDS = 20.0
READY_SECONDS = 60.0
STOP_SECONDS = 45.0
REST_SECONDS = 15.0
POLL_SECONDS = 0.05
NAMED_BROKER = "INGEST_KAFKA__BOOTSTRAP_SERVERS"


class Process:
    """A program that logs JSON lines to stderr and says where it listens.

    Attributes:
        addresses: by listener: the ``host:port`` that was logged.
        lines: what it logged, as dictionaries; what is no JSON comes as ``{"text": line}``.

    Args:
        command: what follows the interpreter.
        listeners: what it will say that it listens on.
        environment: its environment variables; default: ours.
        root: the tree whose program it is.
    """

    def __init__(
        self,
        command: Sequence[str],
        listeners: Sequence[str] = ("http",),
        environment: Mapping[str, str] | None = None,
        root: Path = ROOT,
    ) -> None:
        self.addresses: dict[str, str] = {}
        self.lines: list[dict[str, Any]] = []
        self._listeners = listeners
        self._heard: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._process = subprocess.Popen(
            [sys.executable, *command],
            stderr=subprocess.PIPE,
            cwd=root,
            text=True,
            env=environment,
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

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def logged(self, event: str) -> list[dict[str, Any]]:
        """What it logged of one kind of event."""
        return [line for line in self.lines if line.get("event") == event]

    def terminate(self) -> None:
        """Ask it to end (SIGTERM); does not wait."""
        self._process.send_signal(signal.SIGTERM)

    def stop(self) -> int:
        """End it by SIGTERM; returns its exit status.

        Raises:
            subprocess.TimeoutExpired: it did not end in time and was killed.
        """
        if self.running:
            self.terminate()
        return self.wait(STOP_SECONDS)

    def wait(self, seconds: float) -> int:
        """Wait until it has ended, and all that it logged is read; returns its exit status.

        Raises:
            subprocess.TimeoutExpired: it did not end in time and was killed.
        """
        try:
            status = self._process.wait(seconds)
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
        root: the tree whose gateway it is.

    Attributes:
        key: the API key it was configured with.
        process: the running program.
        good_end: the exit status that is not an error.
        program: the module that is the service.
    """

    good_end = 0
    program = "ingest_http"

    def __init__(
        self,
        bootstrap_servers: str,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        wait: bool = True,
        root: Path = ROOT,
    ) -> None:
        self.key = f"load_{secrets.token_urlsafe(24)}"  # a leading hyphen would look like an option
        self.process: Process
        self._settings = self.template(bootstrap_servers)
        for section, values in (settings or {}).items():
            self._settings[section] = {**self._settings.get(section, {}), **values}
        self._environment = _environment(bootstrap_servers)
        self._wait = wait
        self._root = root
        self._directory: tempfile.TemporaryDirectory[str]

    def template(self, bootstrap_servers: str) -> dict[str, dict[str, Any]]:
        """The configuration by section, before the settings that differ from it."""
        return template(bootstrap_servers, self.key)

    def configuration(self) -> str:
        """The text of the configuration file."""
        return as_toml(self._settings)

    def listeners(self) -> Sequence[str]:
        """What it will say that it listens on."""
        return ("http", "management")

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
        config.write_text(self.configuration())
        command = ("-m", self.program, "--config", str(config))
        self.process = Process(command, self.listeners(), self._environment, self._root)
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
        if status != self.good_end and error is None:
            raise RuntimeError(f"exit status {status}: {self.process.lines[-20:]}")

    def manage(
        self, path: str, method: str = "GET", headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Status and body of an answer of the management port.

        Raises:
            OSError: it does not answer.
        """
        url = f"{self.management_url}{path}"
        request = urllib.request.Request(url, method=method, headers=dict(headers or {}))  # noqa: S310 - http
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 - http
                return answer.status, answer.read()
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, refusal.read()

    def status(self) -> dict[str, Any]:
        """The document of ``/status``."""
        document: dict[str, Any] = json.loads(self.manage("/status")[1])
        return document

    def ready(self) -> bool:
        """Whether it can take data now."""
        try:
            return self.manage("/readyz")[0] == 200
        except OSError:
            return False

    def samples(self) -> list[Sample]:
        """What ``/metrics`` shows now."""
        text = self.manage("/metrics")[1].decode()
        families = text_string_to_metric_families(text)
        return [sample for family in families for sample in family.samples]

    def accounts(self) -> dict[str, Counter[str]]:
        """By source: how many events were ``received``, and what became of them by outcome."""
        accounts: dict[str, Counter[str]] = defaultdict(Counter)
        for name, labels, value, *_ in self.samples():
            if name == "ingest_events_received_total":
                accounts[labels["source"]]["received"] += int(value)
            elif name == "ingest_events_total":
                accounts[labels["source"]][labels["outcome"]] += int(value)
        return dict(accounts)

    def at_rest(self) -> bool:
        """Whether nothing is in flight, and every event received has its one outcome."""
        return self.status()["inflight_bytes"] == 0 and all(map(balanced, self.accounts().values()))

    def wait_until_at_rest(self, seconds: float = REST_SECONDS) -> None:
        """Wait until the books add up.

        Raises:
            TimeoutError: they did not within ``seconds``.
        """
        try:
            wait_until(self.at_rest, seconds, "")
        except TimeoutError:
            held = self.status()["inflight_bytes"]
            raise TimeoutError(f"{held} bytes in flight, accounts {self.accounts()}") from None

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


def balanced(account: Mapping[str, int]) -> bool:
    """The accounting identity: what was received is the sum of its outcomes."""
    return account["received"] == sum(account.values()) - account["received"]


def _environment(bootstrap_servers: str) -> dict[str, str]:
    """Ours; without settings that belong to a broker which is not the one under test."""
    if os.environ.get(NAMED_BROKER) in {None, bootstrap_servers}:
        return dict(os.environ)
    return {name: value for name, value in os.environ.items() if not name.startswith("INGEST_")}


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


def more_clients(count: int) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Sections of the configuration for so many clients more, and their keys.

    One client alone cannot have more than half of what a worker has to share.
    """
    keys = [f"client_{secrets.token_urlsafe(24)}" for _ in range(count)]
    sections = {
        f"auth.keys.client-{number}": {
            "sha256": [hashlib.sha256(key.encode()).hexdigest()],
            "sources": ["*"],
        }
        for number, key in enumerate(keys)
    }
    return sections, keys


def as_toml(settings: Mapping[str, Mapping[str, Any]]) -> str:
    """Sections of plain values as TOML, whose notation of these is JSON's."""
    lines: list[str] = []
    for section, values in settings.items():
        lines.append(f"[{section}]")
        lines += [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    return "\n".join(lines) + "\n"
