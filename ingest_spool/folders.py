"""The folders of all spools: ``<spool.path>/<service>/<number>/``, and which of them are free."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from ingest.spool_folders import Folder, orphans

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

QUARANTINE = ".sqlite.quarantine"
_NUMBER = re.compile(r"0|[1-9][0-9]*")
_FILE = re.compile(r"[0-9]{8,}\.sqlite")


class Found(NamedTuple):
    """A folder of a spool.

    Attributes:
        service: whose.
        number: its own.
        path: where it is.
        held: our lock of it; None: another process has it.
    """

    service: str
    number: int
    path: Path
    held: Folder | None

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.service}/{self.number}"

    def files(self) -> list[Path]:
        """The databases in it, oldest first."""
        return sorted(each for each in self.path.iterdir() if _FILE.fullmatch(each.name))

    def quarantined(self) -> list[Path]:
        """Those that were set aside as damaged."""
        return sorted(each for each in self.path.iterdir() if each.name.endswith(QUARANTINE))


@contextmanager
def taken(root: Path, service: str | None, number: int | None) -> Iterator[list[Found]]:
    """All folders below ``root``, or those asked for; the free ones are ours meanwhile.

    Args:
        root: the setting ``spool.path``; that it is not there is no error.
        service: of this one only.
        number: of this number only.

    Raises:
        OSError: they cannot be looked at.
    """
    found: list[Found] = []
    try:
        for name in _services(root) if service is None else [service]:
            _take(name, root / name, number, found)
        yield found
    finally:
        release(found)


def release(folders: Iterable[Found]) -> None:
    """Let others have what we hold."""
    for each in folders:
        if each.held is not None:
            each.held.release()


def remove_empty(folders: Iterable[Found]) -> None:
    """Remove what has nothing in it any more; of deleted files there may be traces."""
    for each in folders:
        for folder in orphans(each.path.parent):
            if folder.path == each.path and all(_is_trace(path) for path in each.path.iterdir()):
                for trace in list(each.path.iterdir()):
                    trace.unlink()
                folder.remove()
            folder.release()


def _is_trace(path: Path) -> bool:
    return path.suffix == ".retired"


def _services(root: Path) -> list[str]:
    if not root.is_dir():
        return []
    return sorted(each.name for each in root.iterdir() if each.is_dir())


def _take(service: str, path: Path, number: int | None, found: list[Found]) -> None:
    """Add the folders of a service to ``found``."""
    if not path.is_dir():
        return
    held = {folder.path.name: folder for folder in orphans(path)}
    names = [each.name for each in path.iterdir() if _NUMBER.fullmatch(each.name)]
    for name in sorted(names, key=int):
        each = Found(service, int(name), path / name, held.get(name))
        if number is None or each.number == number:
            found.append(each)
        else:
            release([each])
