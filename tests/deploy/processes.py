"""Programs that are started, read and ended by tests, and whether they are gone."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psutil

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Iterable, Mapping, Sequence

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 40.0


class Program:
    """A Python program as a child process; what it prints is read all the time.

    Attributes:
        lines: what it printed, on both streams.
    """

    def __init__(self, arguments: Sequence[str], environ: Mapping[str, str] | None = None) -> None:
        self.lines: list[str] = []
        self._process = subprocess.Popen(
            [sys.executable, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            env=environ,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join(PATIENCE_SECONDS)
        if self._process.stdout is not None:
            self._process.stdout.close()

    @property
    def text(self) -> str:
        """All that it printed so far."""
        return "\n".join(self.lines)

    @property
    def pids(self) -> set[int]:
        """It and all that it started and that runs."""
        children = psutil.Process(self._process.pid).children(recursive=True)
        return {self._process.pid, *(child.pid for child in children)}

    @property
    def children(self) -> set[int]:
        """What it started itself and runs."""
        return {child.pid for child in psutil.Process(self._process.pid).children()}

    def line(self, holds: Callable[[str], bool]) -> str:
        """The first line like that, once it is printed."""
        wait_until(lambda: any(map(holds, self.lines)) or not self._reader.is_alive(), self.text)
        found = [line for line in self.lines if holds(line)]
        assert found, f"it ended without that line:\n{self.text}"
        return found[0]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to this process alone."""
        self._process.send_signal(number)

    def ended(self) -> int:
        """The exit status, once it has ended and everything that it printed is read."""
        status = self._process.wait(PATIENCE_SECONDS)
        self._reader.join(PATIENCE_SECONDS)
        return status

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.rstrip("\n"))


def wait_until(
    holds: Callable[[], bool],
    otherwise: str = "it did not come true",
    seconds: float = PATIENCE_SECONDS,
) -> None:
    """Ask ``holds`` until it says yes."""
    give_up = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < give_up, otherwise
        time.sleep(0.05)


def wait_for_the_end_of(pids: Iterable[int]) -> None:
    """See that none of these processes runs: soon, for some of them only see that others ended."""
    wait_until(lambda: gone(pids), "something is left behind", seconds=10)


def gone(pids: Iterable[int]) -> bool:
    """Whether none of these processes runs."""
    return not any(psutil.pid_exists(pid) and _runs(pid) for pid in pids)


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def clean_environment(**more: str) -> dict[str, str]:
    """This environment without what names or configures a Kafka, and with ``more``."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("INGEST_")}
    return {**kept, **more}
