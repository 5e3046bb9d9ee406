"""CPU time and memory of a process and all its descendants, from ``/proc`` (see proc(5))."""

from __future__ import annotations

import os
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
PROC = Path("/proc")

# Positions in /proc/PID/stat, counted from the field after the command's closing parenthesis.
_PARENT = 1
_TIMES = slice(11, 15)  # utime, stime, and those of the children that were waited for


def cpu_seconds(pid: int) -> float:
    """User and system time of ``pid`` and its descendants, ended ones included.

    Raises:
        ProcessLookupError: ``pid`` is no process.
    """
    ticks = sum(map(int, _stat(pid)[_TIMES]))
    for child in descendants(pid):
        try:
            ticks += sum(map(int, _stat(child)[_TIMES]))
        except ProcessLookupError:  # it ended meanwhile; its parent's next reading has it
            continue
    return ticks / TICKS_PER_SECOND


def rss_bytes(pid: int) -> int:
    """Resident memory of ``pid`` alone; 0 when it is gone."""
    try:
        pages = (PROC / str(pid) / "statm").read_text().split()[1]
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(pages) * PAGE_BYTES


def tree_rss_bytes(pid: int) -> int:
    """Resident memory of ``pid`` and its descendants, pages they share counted for each."""
    return rss_bytes(pid) + sum(map(rss_bytes, descendants(pid)))


def descendants(pid: int) -> list[int]:
    """Children of ``pid``, their children and so on, in no order worth relying on."""
    children: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                parent = int(_stat(int(entry.name))[_PARENT])
            except ProcessLookupError:
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found = list(children.get(pid, ()))
    for child in found:  # grows while it is walked
        found.extend(children.get(child, ()))
    return found


def _stat(pid: int) -> list[str]:
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except FileNotFoundError:
        raise ProcessLookupError(pid) from None
    return text.rpartition(")")[2].split()  # the command may contain anything, spaces too
