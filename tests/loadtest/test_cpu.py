"""CPU time and memory are those of the whole tree of processes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from loadtest.cpu import cpu_seconds, descendants, rss_bytes

BURN = "import time\nwhile time.process_time() < 0.2: pass\n"
PARENT = f"""
import subprocess, sys
subprocess.run([sys.executable, "-c", {BURN!r}], check=True)
child = subprocess.Popen([sys.executable, "-c", {BURN!r} + "print(flush=True); input()"],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
input()
child.communicate(b"\\n")
"""


def test_cpu_time_has_children_that_run_and_children_that_ended() -> None:
    """A worker that was replaced has used its time all the same."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert descendants(process.pid) == [child]
        assert cpu_seconds(process.pid) >= 0.38
        assert rss_bytes(child) > 1_000_000
        process.communicate(b"\n")


def test_a_process_that_is_gone_is_an_error() -> None:
    """A benchmark must not report zero for a server that died."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    with pytest.raises(ProcessLookupError):
        cpu_seconds(process.pid)


def test_the_own_process_uses_memory() -> None:
    """The unit is bytes."""
    assert rss_bytes(os.getpid()) > 10_000_000
