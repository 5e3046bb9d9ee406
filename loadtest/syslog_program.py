"""Runs one of the load programs in a process of its own, and returns the figures it prints."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from loadtest.gateway import ROOT

RUN_SECONDS = 900


def program(name: str, *arguments: str) -> dict[str, Any]:
    """The JSON that ``python -m loadtest.NAME`` prints.

    Raises:
        subprocess.CalledProcessError: it failed; why is on stderr.
        subprocess.TimeoutExpired: it took too long, and was killed.
    """
    command = (sys.executable, "-m", f"loadtest.{name}", *arguments)
    done = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, check=True, timeout=RUN_SECONDS
    )
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures
