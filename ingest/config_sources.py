"""``sources_dir``: a folder with a file for each source, which teams can own one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ingest.config_file import parse
from ingest.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

SUFFIX = ".toml"


class SourceFiles:
    """The sources of a folder: ``orders.toml`` has the keys of ``[sources.orders]``.

    Hidden files and those with another ending are no sources: editors and Kubernetes keep theirs in
    such folders.

    Attributes:
        tables: name of the source -> its keys.
        files: name of the source -> its file.
        problems: what is wrong, one line each.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.tables: dict[str, dict[str, Any]] = {}
        self.files: dict[str, Path] = {}
        self.problems: list[str] = []
        for file in _files(folder) if folder is not None else ():
            name = file.name.removesuffix(SUFFIX)
            try:
                self.tables[name] = parse(file)
                self.files[name] = file
            except ConfigError as error:
                self.problems += error.problems


def _files(folder: Path) -> list[Path]:
    found = (each for each in folder.iterdir() if each.name.endswith(SUFFIX))
    return sorted(each for each in found if not each.name.startswith(".") and each.is_file())
