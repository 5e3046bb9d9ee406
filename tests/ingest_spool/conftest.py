"""Spools that services have left behind, as files."""

from __future__ import annotations

import fcntl
import logging
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

import pytest
import structlog

from ingest import log
from ingest.spool_batch import Entry, pack
from ingest.spool_file import SpoolFile, create
from ingest.spool_folders import make_directory
from ingest_spool.__main__ import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

HTTP = "ingest-http"
SYSLOG = "ingest-syslog"


class Done(NamedTuple):
    """How the command ended, and what it printed."""

    returncode: int
    stdout: str
    stderr: str


class Left:
    """What services have left below ``root``, the setting ``spool.path``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, service: str = HTTP, number: int = 0) -> Path:
        """A folder, made if it is not there."""
        path = self.root / service / str(number)
        make_directory(path)
        return path

    def file(
        self,
        batches: Sequence[tuple[str, list[bytes]]],
        *,
        service: str = HTTP,
        number: int = 0,
        file: int = 1,
        age_seconds: float = 0.0,
    ) -> Path:
        """A file with ``batches``: topic and record values of each."""
        path = self.folder(service, number) / f"{file:08}.sqlite"
        create(path, [each for each in range(1, file) if self._is_there(path, each)])
        made = SpoolFile(path, file)
        now_ms = int((time.time() - age_seconds) * 1000)
        for topic, values in batches:
            entry = Entry(now_ms, [], None, None, values)
            made.append([pack(topic, [entry])], now_ms)
        made.close()
        return path

    @staticmethod
    def _is_there(path: Path, number: int) -> bool:
        return (path.parent / f"{number:08}.sqlite").exists()

    def names(self) -> set[str]:
        """All files and folders that are left."""
        return {str(each.relative_to(self.root)) for each in self.root.rglob("*")}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, empty; no variable overrides a setting."""
    for name in [each for each in os.environ if each.startswith("INGEST_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def left(folder: Path) -> Left:
    """What was left, and an ``ingest.toml`` that names it, with nothing else in it."""
    (folder / "ingest.toml").write_text('[spool]\npath = "spool"\n')
    return Left(folder / "spool")


@pytest.fixture
def restored() -> Iterator[None]:
    """The logging that the command configures ends with the test."""
    root = logging.getLogger()
    levels = {name: logging.getLogger(name).level for name in ("", *log.SILENCED)}
    handlers, configured = list(root.handlers), structlog.get_config()
    yield
    structlog.configure(**configured)
    root.handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture
def run(folder: Path, restored: None, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Runs the command in this process, in the working directory."""

    def run(*arguments: str) -> Done:
        status = main(arguments)
        return Done(status, *capsys.readouterr())

    return run


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts the command as a process of its own, in the working directory."""
    with ExitStack() as stack:

        def start(*arguments: str) -> subprocess.Popen[str]:
            command = [sys.executable, "-m", "ingest_spool", *arguments]
            pipe = subprocess.PIPE
            process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield start


@pytest.fixture
def lock() -> Iterator[Callable[[Path], None]]:
    """Locks a folder as a service does, until the test ends."""
    descriptors: list[int] = []

    def lock(path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        descriptors.append(descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    yield lock
    for descriptor in descriptors:
        os.close(descriptor)


@pytest.fixture
def flip() -> Callable[[Path, bytes], None]:
    """Damages a file: one bit of the first place where some bytes are."""

    def flip(path: Path, marker: bytes) -> None:
        content = bytearray(path.read_bytes())
        content[content.index(marker)] ^= 1
        path.write_bytes(content)

    return flip
