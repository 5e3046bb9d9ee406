"""Who has which folder of the spool."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from ingest.spool_folders import claim, locked, orphans

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

CLAIM = """
import sys
from pathlib import Path
from ingest.spool_folders import claim
print(claim(Path(sys.argv[1])).path.name, flush=True)
sys.stdin.read()
"""


def test_each_claim_is_another_folder(tmp_path: Path) -> None:
    """Two workers never share a folder, and a folder given back is the next one's."""
    service = tmp_path / "spool" / "ingest-http"
    first, second = claim(service), claim(service)
    assert [first.path, second.path] == [service / "0", service / "1"]
    first.release()
    assert claim(service).path == service / "0"


def test_folders_are_for_their_owner_only(tmp_path: Path) -> None:
    """Nobody else reads what waits there."""
    folder = claim(tmp_path / "spool" / "ingest-http")
    modes = [path.stat().st_mode & 0o777 for path in (folder.path, *folder.path.parents[:2])]
    assert modes == [0o700] * 3


def test_orphans_are_the_folders_nobody_holds(tmp_path: Path) -> None:
    """They are held afterwards; held ones and other names are left alone."""
    kept, left = claim(tmp_path), claim(tmp_path)
    (tmp_path / "notes").mkdir()
    (tmp_path / "7").touch()
    assert orphans(tmp_path) == []
    left.release()
    assert not locked(left.path)
    found = orphans(tmp_path)
    assert [folder.path for folder in found] == [left.path]
    assert locked(left.path)
    assert locked(kept.path)
    assert orphans(tmp_path) == []


def test_no_folders_no_orphans(tmp_path: Path) -> None:
    """A service that never spooled has none."""
    assert orphans(tmp_path / "missing") == []
    assert not locked(tmp_path / "missing")


def test_only_an_empty_folder_is_removed(tmp_path: Path) -> None:
    """A file in it keeps it; either way it is given back."""
    folder = claim(tmp_path)
    (folder.path / "file").touch()
    assert not folder.remove()
    assert not locked(folder.path)
    (folder.path / "file").unlink()
    assert claim(tmp_path).remove()
    assert not folder.path.exists()


def test_a_folder_removed_under_the_lock_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who opens a folder just before its owner removes it gets a new one, not the dead one."""
    owner = claim(tmp_path)
    opened = os.open

    def open_late(path: Path, flags: int) -> int:
        descriptor = opened(path, flags)
        if path == owner.path:
            monkeypatch.undo()
            owner.remove()
        return descriptor

    monkeypatch.setattr(os, "open", open_late)
    folder = claim(tmp_path)
    assert folder.path.is_dir()
    assert locked(folder.path)


def test_the_end_of_a_process_frees_its_folder(tmp_path: Path) -> None:
    """However it ends: here it is killed."""
    with subprocess.Popen(
        [sys.executable, "-c", CLAIM, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        assert locked(tmp_path / name)
        process.kill()
        process.wait()
    assert [folder.path for folder in orphans(tmp_path)] == [tmp_path / name]
