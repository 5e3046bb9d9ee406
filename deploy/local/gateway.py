"""A gateway as a child process of `make run`."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import aiohttp

from deploy.local.spawn import spawn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

POLL_SECONDS = 0.1
STOP_SECONDS = 40.0
HTTP_LISTENERS = frozenset({"http", "management"})
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}


class Gateway:
    """The running gateway; a context manager that ends it in good order.

    Args:
        config: its configuration file.
        log: where its log goes; what was there is gone.
        environ: its environment, which makes it log JSON.
        say: called with every entry of the log; a line that is no JSON comes as ``{"text": line}``.
        module: the service.
        listeners: the names of what it listens on.
    """

    def __init__(
        self,
        config: Path,
        log: Path,
        environ: Mapping[str, str],
        say: Callable[[Mapping[str, Any]], None],
        *,
        module: str = "ingest_http",
        listeners: frozenset[str] = HTTP_LISTENERS,
    ) -> None:
        log.unlink(missing_ok=True)
        self.log = log
        self._say = say
        self._addresses: dict[str, str] = {}
        self._listeners = listeners
        self._listening = asyncio.Event()
        command = [sys.executable, "-m", module, "--config", str(config)]
        self._process = spawn(command, log, environ)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            self._process.terminate()
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._process.kill()
            self._process.wait()

    @property
    def failed(self) -> bool:
        """Whether it ended otherwise than it should; one that had just begun may be ended."""
        return self.status not in {None, 0, -signal.SIGTERM}

    @property
    def status(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._process.poll()

    async def follow(self) -> None:
        """Read the log until the gateway ends."""
        with self.log.open("rb") as file:
            while True:
                ended = self.status is not None  # looked at first, so that the last lines are read
                for line in _whole_lines(file):
                    self._note(line)
                if ended:
                    return
                await asyncio.sleep(POLL_SECONDS)

    async def urls(self) -> tuple[str, str]:
        """The URLs of the public and of the management port, once both are bound."""
        addresses = await self.addresses()
        return _url(addresses["http"]), _url(addresses["management"])

    async def addresses(self) -> Mapping[str, str]:
        """Listener -> address, once all are bound."""
        await self._listening.wait()
        return self._addresses

    def _note(self, line: bytes) -> None:
        entry = _entry(line)
        if entry.get("event") == "listening":
            self._addresses[entry["listener"]] = entry["address"]
            if self._addresses.keys() >= self._listeners:
                self._listening.set()
        self._say(entry)


async def until_ready(management: str, wait: Callable[[list[str]], None]) -> set[str]:
    """Wait until the gateway can take data.

    Args:
        management: the URL of its management port.
        wait: called with the reasons each time it cannot.

    Returns:
        The topics that it cannot use.
    """
    async with aiohttp.ClientSession() as session:
        while True:
            async with session.get(f"{management}/readyz") as reply:
                found = await reply.json()
            if found["ready"]:
                return set(found["degraded"])
            wait(found["reasons"])
            await asyncio.sleep(POLL_SECONDS)


def _whole_lines(file: BinaryIO) -> Iterator[bytes]:
    while (line := file.readline()).endswith(b"\n"):
        yield line
    file.seek(-len(line), 1)


def _entry(line: bytes) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError:
        entry = None
    return entry if isinstance(entry, dict) else {"text": line.decode(errors="replace").rstrip()}


def _url(address: str) -> str:
    """Where a client on this machine finds what is bound to ``address``."""
    host, _, port = address.rpartition(":")
    return f"http://{EVERYWHERE.get(host, host)}:{port}"
