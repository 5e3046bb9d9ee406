"""Start programs that end with this process, however it ends."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

LAUNCHER = Path(__file__).with_name("die_with_parent.py")
_Process: TypeAlias = "subprocess.Popen[bytes]"


class _Order(NamedTuple):
    command: list[str]
    log: Path
    environ: Mapping[str, str] | None


_orders: SimpleQueue[tuple[_Order, Future[_Process]]] = SimpleQueue()
_starting = threading.Lock()
_thread: threading.Thread | None = None


def spawn(command: list[str], log: Path, environ: Mapping[str, str] | None = None) -> _Process:
    """Start ``command``, its output appended to ``log``; it gets SIGKILL when this process ends.

    It is in a process group of its own: Ctrl-C reaches only us, and we stop things in order.

    Raises:
        OSError: it cannot be started.
    """
    started: Future[_Process] = Future()
    _orders.put((_Order(command, log, environ), started))
    _ensure_thread()
    return started.result()


def _ensure_thread() -> None:
    # For Linux the "parent" is the thread that started a program. A thread of some pool may end at
    # any time, so that one thread, which lives as long as the process, starts everything.
    global _thread  # noqa: PLW0603 - there is one for the process
    with _starting:
        if _thread is None or not _thread.is_alive():
            _thread = threading.Thread(target=_serve, name="spawn", daemon=True)
            _thread.start()


def _serve() -> None:
    while True:
        order, started = _orders.get()
        try:
            started.set_result(_start(order))
        except Exception as error:  # noqa: BLE001 - it belongs to the one who waits
            started.set_exception(error)


def _start(order: _Order) -> _Process:
    # -I -S: the launcher needs nothing but the standard library, and starts in milliseconds.
    launcher = [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid())]
    with order.log.open("ab") as output:
        return subprocess.Popen(
            [*launcher, *order.command],
            env=order.environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
