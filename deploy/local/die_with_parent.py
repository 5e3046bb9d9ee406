"""A program that becomes another one, which Linux kills as soon as the one that started it ends.

Run as ``python die_with_parent.py PARENT_PID COMMAND ...``. A broker must not outlive a test run
that was killed, and no handler runs on SIGKILL. See PR_SET_PDEATHSIG in prctl(2): the setting
survives exec. It is made in a program of its own, because Python code between fork and exec (a
``preexec_fn``) can deadlock in a process with threads.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(parent: str, *command: str) -> None:
    """Become ``command``, with the parent's death as its own."""
    with contextlib.suppress(AttributeError):  # no prctl: not Linux, nothing to be had
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != int(parent):
        sys.exit("the parent ended before its death could be watched")
    os.execvp(command[0], command)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main(*sys.argv[1:])
