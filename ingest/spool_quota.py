"""How much of its disk the spool of a service may take, all its workers together."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SCAN_SECONDS = 0.1
"""How long a count of all files is good for; what this worker wrote since is added to it."""


class Quota:
    """The limits of a service's spool.

    What is set aside as damaged counts too. What other workers write within `SCAN_SECONDS` is not
    seen, so the limit may be passed by that much.

    Args:
        service_path: the folder that has one folder for each worker.
        max_bytes: what all files of the service may occupy.
        min_free_bytes: what must stay free on the disk, whoever fills it.
        clock: seconds.
    """

    def __init__(
        self,
        service_path: Path,
        max_bytes: int,
        min_free_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = service_path
        self.max_bytes = max_bytes
        self._min_free_bytes = min_free_bytes
        self._clock = clock
        self._scanned_at = float("-inf")
        self._occupied = 0

    def room(self, size: int) -> bool:
        """Whether ``size`` more bytes may be written."""
        try:
            return self._used() + size <= self.max_bytes and self._is_free(size)
        except OSError:
            return False

    def is_half_used(self) -> bool:
        """Whether more than half of `max_bytes` is occupied; also where that cannot be told."""
        try:
            return 2 * self._used() > self.max_bytes
        except OSError:
            return True

    def wrote(self, size: int) -> None:
        """This worker has just written ``size`` bytes."""
        self._occupied += size

    def _is_free(self, size: int) -> bool:
        disk = os.statvfs(self._path)
        return disk.f_bavail * disk.f_frsize - size >= self._min_free_bytes

    def _used(self) -> int:
        now = self._clock()
        if now - self._scanned_at >= SCAN_SECONDS:
            self._occupied = sum(occupied(entry.path) for entry in os.scandir(self._path))
            self._scanned_at = now
        return self._occupied


def occupied(path: str | Path) -> int:
    """The bytes of all files in a folder; 0 if there is none."""
    total = 0
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                total += _size(entry)
    except (FileNotFoundError, NotADirectoryError):
        pass
    return total


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_size
    except FileNotFoundError:
        return 0  # deleted meanwhile
