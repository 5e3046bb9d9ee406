"""Which process has which folder of the spool: ``<spool.path>/<service>/<number>/``.

A folder belongs to whoever holds the lock (`flock`) of its directory. The kernel gives the lock
back however a process ends, so a folder without a lock is one that somebody left behind.
"""

from __future__ import annotations

import fcntl
import os
import re
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MODE = 0o700
_NUMBER = re.compile(r"0|[1-9][0-9]*")


class Folder:
    """A folder that this process holds.

    Attributes:
        path: where it is.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor: int | None = descriptor

    def release(self) -> None:
        """Let others have it; more than once is fine."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def remove(self) -> bool:
        """Remove it if it is empty, and release it; whether it was removed."""
        # It may be there again after a power loss: empty, that does no harm.
        with suppress(OSError):
            self.path.rmdir()
            self.release()
            return True
        self.release()
        return False


def claim(service_path: Path) -> Folder:
    """The first folder that nobody holds; it is made if there is none.

    Raises:
        OSError: the file system does not let us.
    """
    make_directory(service_path)
    for number in count():
        path = service_path / str(number)
        make_directory(path)
        folder = _lock(path)
        if folder is not None:
            return folder
    raise AssertionError("numbers do not end")


def orphans(service_path: Path) -> list[Folder]:
    """All folders of a service that nobody holds, which this process then does."""
    found = (_lock(path) for path in _folders(service_path))
    return [folder for folder in found if folder is not None]


def locked(path: Path) -> bool:
    """Whether a process holds the folder; a moment later that may have changed."""
    folder = _lock(path)
    if folder is None:
        return path.exists()
    folder.release()
    return False


def make_directory(path: Path) -> None:
    """Make a directory, and the ones above it, that will be there after a power loss."""
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for directory in reversed(missing):
        directory.mkdir(MODE, exist_ok=True)
        sync_directory(directory.parent)


def sync_directory(path: Path) -> None:
    """Have the names in a directory on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _folders(service_path: Path) -> list[Path]:
    if not service_path.is_dir():
        return []
    names = [name for name in os.listdir(service_path) if _NUMBER.fullmatch(name)]  # noqa: PTH208
    return [service_path / name for name in sorted(names, key=int)]


def _lock(path: Path) -> Folder | None:
    """The folder, locked; None: somebody else holds it, or it is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_still(path, descriptor):
            return Folder(path, descriptor)
    except BlockingIOError:
        pass
    os.close(descriptor)
    return None


def _is_still(path: Path, descriptor: int) -> bool:
    """Whether the path leads to what was locked: it may have been removed before it was locked."""
    with suppress(FileNotFoundError):
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    return False
