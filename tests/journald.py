"""A real systemd-journald without systemd: in a mount namespace that nobody else sees."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Self

from loadtest.gateway import wait_until

PROGRAM = "/lib/systemd/systemd-journald"
START_SECONDS = 10.0

_CONFIGURATION = "[Journal]\nStorage=none\nReadKMsg=no\nAudit=no\nForwardToSyslog=yes\n"
_SCRIPT = """\
set -e
mount -t tmpfs tmpfs /run/systemd
mount -t tmpfs tmpfs /etc/systemd
mkdir /run/systemd/journal
printf "$2" > /etc/systemd/journald.conf
ln -s "$1" /run/systemd/journal/syslog
exec "$3"
"""


def missing() -> str | None:
    """What must be there before a journald can run; None when all is."""
    if not Path(PROGRAM).exists() or shutil.which("unshare") is None:
        return "needs systemd-journald and unshare: apt-get install systemd util-linux"
    return None if os.geteuid() == 0 else "needs the right to mount: run it as root"


class Journald:
    """A journald that forwards to a syslog service; a context manager that starts and ends it.

    Args:
        syslog: the unix socket of that service, which takes datagrams.
    """

    def __init__(self, syslog: str) -> None:
        self._syslog = syslog

    def __enter__(self) -> Self:
        script = ("sh", "-c", _SCRIPT, "sh", self._syslog, _CONFIGURATION, PROGRAM)
        Path("/run/systemd").mkdir(exist_ok=True)
        self._process = subprocess.Popen(
            ["unshare", "--mount", *script], stderr=subprocess.PIPE, text=True
        )
        wait_until(lambda: self._has_ended() or self._is_ready(), START_SECONDS, "no journald")
        if self._has_ended():
            _, errors = self._process.communicate()
            raise RuntimeError(f"journald ended: {errors}")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.communicate(timeout=START_SECONDS)

    def _has_ended(self) -> bool:
        return self._process.poll() is not None

    def _is_ready(self) -> bool:
        """Whether it is journald by now, and its sockets are those of its own namespace."""
        process = Path(f"/proc/{self._process.pid}")
        is_journald = (process / "exe").resolve().name == Path(PROGRAM).name
        return is_journald and (process / "root/run/systemd/journal/stdout").exists()

    def run(self, *command: str, text: str = "") -> None:
        """Run a program where this journald is the system's, with ``text`` on its input."""
        enter = ("nsenter", f"--mount=/proc/{self._process.pid}/ns/mnt", "--")
        subprocess.run([*enter, *command], input=text, text=True, check=True)
