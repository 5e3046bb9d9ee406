"""A TOML file and the environment -> the frozen settings of a service, or every error at once."""

from __future__ import annotations

import os
from itertools import product
from operator import eq
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pydantic import BaseModel, SecretStr, TypeAdapter, ValidationError

from ingest import toml
from ingest.config_environment import Overlay
from ingest.config_file import parse
from ingest.config_problems import KeyPath, dotted, leave_out, of_validation, suggestion
from ingest.config_sources import SourceFiles
from ingest.errors import ConfigError
from ingest.settings import File, FileContent, Folder, NotYet, SharedSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic.fields import FieldInfo

Config = TypeVar("Config", bound=SharedSettings)

DEFAULT_FILE = Path("ingest.toml")
KNOWN_SECTIONS = (
    "service",
    "kafka",
    "topics",
    "management",
    "http",
    "limits",
    "auth",
    "sources",
    "dead_letter",
    "spool",
    "syslog",
    "forward",
    "tracer",
)
"""The top-level tables of the one file that serves all services."""
NOT_SECTIONS = frozenset({"syslog_sources"})
SOURCES_DIR = "sources_dir"
MASK = "***"


def load(path: Path | None, kind: type[Config], environ: Mapping[str, str] | None = None) -> Config:
    """The configuration of a service.

    Args:
        path: the file; None: ``ingest.toml`` in the working directory if there is one, else only
            defaults.
        kind: the settings of the service.
        environ: the environment; None: that of the process.

    Raises:
        ConfigError: with one problem for each error, all at once.
    """
    if path is None and DEFAULT_FILE.is_file():
        path = DEFAULT_FILE
    reader = _Reader(path, kind, os.environ if environ is None else environ)
    config: Config = reader.config()
    return config


def dump(config: SharedSettings) -> str:
    """``config`` as TOML, complete with its defaults; secrets are masked."""
    table = {
        section: _plain(getattr(config, section))
        for section in KNOWN_SECTIONS
        if section in type(config).model_fields
    }
    return toml.dumps(table)


def _plain(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return MASK
    if isinstance(value, FileContent):
        return value.path
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        found = {field.alias or name: getattr(value, name) for name, field in fields.items()}
        return {name: _plain(each) for name, each in found.items() if each is not None}
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value


class _Reader:
    """Reads one configuration, and collects what is wrong with it."""

    def __init__(
        self, path: Path | None, kind: type[SharedSettings], environ: Mapping[str, str]
    ) -> None:
        self._name = "defaults" if path is None else str(path)
        self._folder = Path() if path is None else path.parent
        self._kind = kind
        self._environ = environ
        self._problems: list[str] = []
        self._failed: list[KeyPath] = []
        self._data = {} if path is None else parse(path)
        self._source_files = SourceFiles()
        self._fields = {
            name: field for name, field in kind.model_fields.items() if name not in NOT_SECTIONS
        }
        self._known = dict(_tables(self._fields))
        self._overlay = self._environment()

    def config(self) -> Any:
        self._check_sections()
        self._take_source_files()
        sections = {name: self._section(name, field) for name, field in self._fields.items()}
        found = self._kind(syslog_sources=self._syslog_sources(), **sections)
        self._check_conflicts(found)
        if self._problems:
            raise ConfigError(self._problems)
        return found

    def _complain(self, path: KeyPath, text: str) -> None:
        variable, file = self._overlay.names.get(path[:2]), self._file(path)
        where = f"{self._name}: {dotted(path)}" if variable is None else f"environment: {variable}"
        if file is not None:
            where = f"{file}: {dotted(path[2:])}" if path[2:] else f"{file}"
        self._problems.append(f"{where}: {text}")

    def _file(self, path: KeyPath) -> Path | None:
        """The file of the source that a key belongs to; None where it is in the main file."""
        of_source = len(path) > 1 and path[0] == "sources"
        return self._source_files.files.get(str(path[1])) if of_source else None

    def _check_sections(self) -> None:
        for name, value in self._data.items():
            if name == SOURCES_DIR:
                continue
            if name not in KNOWN_SECTIONS:
                known = (*KNOWN_SECTIONS, SOURCES_DIR)
                self._complain((name,), "unknown section" + suggestion(name, known))
            elif not isinstance(value, dict):
                self._complain((name,), "expected a table")
                self._failed.append((name,))

    def _take_source_files(self) -> None:
        """Have the files of ``sources_dir`` among the sources."""
        if SOURCES_DIR not in self._data:
            return
        name = self._data[SOURCES_DIR]
        if not isinstance(name, str) or not name:
            self._complain((SOURCES_DIR,), "expected the path of a folder")
            self._failed.append(("sources",))
            return
        try:
            found = SourceFiles(self._folder / name)
        except OSError as error:
            self._complain((SOURCES_DIR,), f"cannot read the folder {name}: {error.strerror}")
            self._failed.append(("sources",))
            return
        self._problems += found.problems
        self._merge(found)

    def _merge(self, found: SourceFiles) -> None:
        own = self._data.setdefault("sources", {})
        if not isinstance(own, dict):
            return
        for name in own.keys() & found.tables.keys():
            self._complain(("sources", name), f"is in {found.files.pop(name)} as well")
        self._data["sources"] = found.tables | own
        self._source_files = found

    def _environment(self) -> Overlay:
        fixed = {
            name: field.annotation
            for name, field in self._fields.items()
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        }
        foreign = frozenset(KNOWN_SECTIONS) - self._fields.keys()
        overlay = Overlay(self._environ, fixed, foreign)
        self._problems += [f"environment: {name}: {text}" for name, text in overlay.problems]
        return overlay

    def _section(self, name: str, field: FieldInfo) -> Any:
        data = self._data.get(name, {})
        if not isinstance(data, dict):
            data = {}
        overlaid = {key: value for (of, key), value in self._overlay.values.items() if of == name}
        data = {key: value for key, value in data.items() if key not in overlaid}
        data = self._resolved(data, field.annotation, (name,))
        for key, value in overlaid.items():
            of_key = self._overlay.field(name, key)
            data[key] = self._value(value, of_key, Path(), (name, key))
        section = self._validated(name, field, data)
        for path in _not_yet(section, (name,)):
            self._complain(path, "not_supported_yet: leave it out for now")
        return section

    def _validated(self, name: str, field: FieldInfo, data: Any) -> Any:
        """``data`` as settings, less what is wrong with it: the rest is still looked at."""
        adapter = TypeAdapter[Any](cast("Any", field.annotation))
        root, consequence = {name: data}, False
        while True:
            try:
                return adapter.validate_python(root.get(name, {}))
            except ValidationError as error:
                found = dict(of_validation(error, root, self._known, (name,)))
            if name not in root:
                raise ConfigError(self._problems)
            if not consequence:
                for path, text in found.items():
                    self._complain(path, text)
                self._failed += found
            leave_out(root, found)
            consequence = True

    # Values that point elsewhere.

    def _resolved(self, data: Any, kind: Any, path: KeyPath) -> Any:
        """``data`` with its secrets read and its paths made absolute."""
        model = _model_in(kind)
        if isinstance(data, list) and _holder(kind) is list:
            return [self._resolved(each, model, (*path, at)) for at, each in enumerate(data)]
        if not isinstance(data, dict) or model is None:
            return data
        if _holder(kind) is dict:  # a table of tables, by names that users choose
            return {name: self._resolved(each, model, (*path, name)) for name, each in data.items()}
        fields = {field.alias or name: field for name, field in model.model_fields.items()}
        file = self._file(path)
        folder = self._folder if file is None else file.parent
        return {
            key: self._value(value, fields[key], folder, (*path, key)) if key in fields else value
            for key, value in data.items()
        }

    def _value(self, value: Any, field: FieldInfo, folder: Path, path: KeyPath) -> Any:
        if SecretStr in _kinds(field.annotation):
            return self._secret(value, folder, path)
        if not isinstance(value, str):
            return self._resolved(value, field.annotation, path)
        found = Path(os.path.abspath(folder / value))  # noqa: PTH100 - links stay as they are
        if FileContent in _kinds(field.annotation):
            return FileContent(str(found), self._content(found, value, path))
        if File in field.metadata or Folder in field.metadata:
            if File in field.metadata and not found.is_file():
                self._complain(path, f"there is no file {value}")
            return str(found)
        return self._resolved(value, field.annotation, path)

    def _content(self, file: Path, name: str, path: KeyPath) -> bytes:
        if not file.is_file():
            self._complain(path, f"there is no file {name}")
        else:
            try:
                return file.read_bytes()
            except OSError:
                self._complain(path, f"cannot read the file {name}")
        self._failed.append(path)
        return b""

    def _secret(self, value: Any, folder: Path, path: KeyPath) -> Any:
        """A secret as text, from a file, or from a variable."""
        match value:
            case {"file": str(name), **rest} if not rest:
                try:
                    return SecretStr((folder / name).read_text(encoding="utf-8").rstrip("\r\n"))
                except (OSError, ValueError):  # also: no UTF-8, or no name for a file
                    self._complain(path, f"cannot read the file {name}")
                    return SecretStr("")
            case {"env": str(name), **rest} if not rest:
                if name not in self._environ:
                    self._complain(path, f"the variable {name} is not set")
                return SecretStr(self._environ.get(name, ""))
            case str(text):
                return SecretStr(text)
            case _:
                self._complain(path, 'expected text, { file = "…" } or { env = "…" }')
                return SecretStr("")

    # What no section knows by itself.

    def _syslog_sources(self) -> dict[str, KeyPath]:
        """Which sources the syslog service uses: read, though that section is not ours."""
        section = self._data.get("syslog", {})
        used: dict[str, KeyPath] = {}
        for table in ("listeners", "rules"):
            entries = section.get(table, []) if isinstance(section, dict) else []
            for number, entry in enumerate(entries if isinstance(entries, list) else []):
                name = entry.get("source") if isinstance(entry, dict) else None
                if isinstance(name, str):
                    used.setdefault(name, ("syslog", table, number, "source"))
        return used

    def _check_conflicts(self, config: SharedSettings) -> None:
        for conflict in config.conflicts():
            involved = product((conflict.path, *conflict.others), self._failed)
            if not any(_overlap(*pair) for pair in involved):
                self._complain(conflict.path, conflict.text)


def _kinds(annotation: Any) -> tuple[Any, ...]:
    return (annotation, *getattr(annotation, "__args__", ()))


def _holder(kind: Any) -> Any:
    """What holds the tables of a model: ``dict`` by name, ``list`` by position; None: nothing."""
    origin = getattr(kind, "__origin__", None)
    return origin if origin in {dict, list} and _model_in(kind) is not None else None


def _model_in(kind: Any) -> type[BaseModel] | None:
    """The model of a table, or of the tables in a table or a list."""
    for each in _kinds(kind):
        if isinstance(each, type) and issubclass(each, BaseModel):
            return each
    return None


def _overlap(one: KeyPath, other: KeyPath) -> bool:
    """Whether they are the same, or one is inside the other."""
    return all(map(eq, one, other))


def _tables(
    fields: Mapping[str, FieldInfo], prefix: KeyPath = ()
) -> Iterator[tuple[KeyPath, list[str]]]:
    """Path of each table -> its keys."""
    for name, field in fields.items():
        model = _model_in(field.annotation)
        if model is not None:
            holder = _holder(field.annotation)
            path = (*prefix, name) if holder is None else (*prefix, name, "*")
            inner = model.model_fields
            yield path, [each.alias or key for key, each in inner.items()]
            yield from _tables(inner, path)


def _not_yet(value: Any, path: KeyPath) -> Iterator[KeyPath]:
    """The keys whose feature is not there yet, and that are not what they are by default."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _not_yet(each, (*path, name))
    if isinstance(value, list):
        for at, each in enumerate(value):
            yield from _not_yet(each, (*path, at))
    if not isinstance(value, BaseModel):
        return
    for name, field in type(value).model_fields.items():
        key, found = (*path, field.alias or name), getattr(value, name)
        if NotYet in field.metadata:
            if found != field.get_default(call_default_factory=True):
                yield key
        else:
            yield from _not_yet(found, key)
