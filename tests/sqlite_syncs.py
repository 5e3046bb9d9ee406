"""SQLite's own file system layer, watched: which files are written, which are synced, or fail to.

A VFS (https://sqlite.org/vfs.html) that hands everything to the usual one.
"""

from __future__ import annotations

import _sqlite3
import ctypes
import os
import sqlite3
from ctypes import CFUNCTYPE, POINTER, Structure, c_char_p, c_int, c_int64, c_void_p
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAME = b"watched"
IOERR_FSYNC = sqlite3.SQLITE_IOERR_FSYNC

Open = CFUNCTYPE(c_int, c_void_p, c_char_p, c_void_p, c_int, POINTER(c_int))
Write = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
Sync = CFUNCTYPE(c_int, c_void_p, c_int)


class Vfs(Structure):
    """``sqlite3_vfs`` up to ``xOpen``, and what follows of it as it is."""

    _fields_ = (
        ("iVersion", c_int),
        ("szOsFile", c_int),
        ("mxPathname", c_int),
        ("pNext", c_void_p),
        ("zName", c_char_p),
        ("pAppData", c_void_p),
        ("xOpen", Open),
        ("others", c_void_p * 15),
    )


class Methods(Structure):
    """``sqlite3_io_methods``."""

    _fields_ = (
        ("iVersion", c_int),
        ("xClose", c_void_p),
        ("xRead", c_void_p),
        ("xWrite", Write),
        ("xTruncate", c_void_p),
        ("xSync", Sync),
        ("others", c_void_p * 13),
    )


class Watched:
    """Opens databases whose files are watched; one for each process.

    Attributes:
        unsynced: the names of files that were written to since they were synced.
        syncs: the names of the files that were synced, in their order.
        failing: syncing fails, with an I/O error.
        before_sync: called with the name of a file before it is synced.
        after_sync: and after that.
    """

    def __init__(self) -> None:
        self.unsynced: set[str] = set()
        self.syncs: list[str] = []
        self.failing = False
        self.before_sync: Callable[[str], None] = _ignore
        self.after_sync: Callable[[str], None] = _ignore
        # Its symbols are those of the library that Python itself uses, wherever that is.
        self._library = ctypes.CDLL(_sqlite3.__file__)
        self._library.sqlite3_vfs_find.restype = POINTER(Vfs)
        self._usual = self._library.sqlite3_vfs_find(None).contents
        self._kept: list[object] = []
        self._methods: dict[int, Methods] = {}
        self._names: dict[int, str] = {}
        self._vfs = Vfs.from_buffer_copy(self._usual)
        self._vfs.zName = NAME
        self._vfs.xOpen = Open(self._open)
        self._library.sqlite3_vfs_register(ctypes.byref(self._vfs), 0)

    def __call__(self, path: Path, mode: str) -> sqlite3.Connection:
        """A connection, as `ingest.spool_file.connect` makes it."""
        uri = f"file:{path}?mode={mode}&vfs={NAME.decode()}"
        return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=0)

    def _open(self, vfs: int, name: bytes, file: int, flags: int, out: object) -> int:
        """Open a file, and put our methods in the place of its own."""
        result: int = self._usual.xOpen(vfs, name, file, flags, out)
        methods = c_void_p.from_address(file)
        if methods.value:
            if methods.value not in self._methods:
                self._methods[methods.value] = self._watching(methods.value)
            methods.value = ctypes.addressof(self._methods[methods.value])
        self._names[file] = os.path.basename(name or b"").decode()  # noqa: PTH119
        return result

    def _watching(self, address: int) -> Methods:
        usual = Methods.from_address(address)
        watching = Methods.from_buffer_copy(usual)

        def write(file: int, content: int, size: int, offset: int) -> int:
            self.unsynced.add(self._names[file])
            return int(usual.xWrite(file, content, size, offset))

        def sync(file: int, flags: int) -> int:
            if self.failing:
                return IOERR_FSYNC
            self.before_sync(self._names[file])
            result = int(usual.xSync(file, flags))
            self.unsynced.discard(self._names[file])
            self.syncs.append(self._names[file])
            self.after_sync(self._names[file])
            return result

        watching.xWrite = Write(write)
        watching.xSync = Sync(sync)
        return watching


def _ignore(name: str) -> None:
    """Nobody wants to know."""
