"""Programs that end with the process that started them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from signal import SIGKILL
from typing import TYPE_CHECKING

import psutil
import pytest

from deploy.local.spawn import LAUNCHER, spawn
from tests.deploy.processes import Program, gone, wait_for_the_end_of, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SLEEP = ["sleep", "60"]
STARTER = """
import sys, time
from pathlib import Path
from deploy.local.spawn import spawn
print(spawn(["sleep", "60"], Path(sys.argv[1])).pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Takes what a test started, and ends it."""
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        process.kill()
        process.wait()


def test_a_program_ends_when_its_starter_is_killed(tmp_path: Path) -> None:
    """No handler of the starter has to run for that."""
    with Program(["-c", STARTER, str(tmp_path / "log")]) as starter:
        pid = int(starter.line(str.isdigit))
        assert not gone([pid])
        starter.signal(SIGKILL)
        wait_for_the_end_of([pid])


def test_a_program_outlives_the_thread_that_asked_for_it(
    tmp_path: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    """Linux watches threads, so that a thread of a pool must not be the one that starts it."""

    def start() -> None:
        started.append(spawn(SLEEP, tmp_path / "log"))
        wait_until(lambda: psutil.Process(started[0].pid).name() == SLEEP[0])

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    with pytest.raises(subprocess.TimeoutExpired):
        started[0].wait(0.5)


def test_a_program_has_a_process_group_of_its_own(
    tmp_path: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    """Ctrl-C at the terminal does not reach it."""
    started.append(spawn(SLEEP, tmp_path / "log"))
    assert os.getpgid(started[0].pid) == started[0].pid


def test_output_is_appended_to_the_log(tmp_path: Path) -> None:
    """Both streams, and nothing that was there is lost."""
    log = tmp_path / "log"
    log.write_text("before\n")
    spawn(["sh", "-c", "echo out; echo err >&2"], log).wait()
    assert log.read_text().split() == ["before", "out", "err"]


@pytest.mark.parametrize(
    ("environ", "expected"), [({"COLOUR": "red"}, "red"), (None, "blue")], ids=["own", "inherited"]
)
def test_a_program_gets_the_environment_it_is_given(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    environ: dict[str, str] | None,
    expected: str,
) -> None:
    """None means the environment of the starter."""
    monkeypatch.setenv("COLOUR", "blue")
    spawn(["/bin/sh", "-c", "echo $COLOUR"], tmp_path / "log", environ).wait()
    assert (tmp_path / "log").read_text().strip() == expected


def test_a_log_that_cannot_be_written_is_an_error_of_the_caller(tmp_path: Path) -> None:
    """And the next program can be started all the same."""
    with pytest.raises(FileNotFoundError):
        spawn(SLEEP, tmp_path / "missing" / "log")
    assert spawn(["true"], tmp_path / "log").wait() == 0


def test_a_program_whose_starter_is_gone_does_not_start(tmp_path: Path) -> None:
    """Its death could not be watched any more: so nothing is left behind."""
    done = subprocess.run(
        [sys.executable, str(LAUNCHER), "1", "touch", str(tmp_path / "made")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "the parent ended" in done.stderr
    assert not (tmp_path / "made").exists()
