"""What a reload brings: which parts of a new configuration are taken, and what differs, in words.

Pure, and of keys only: values may be secrets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import BaseModel

from ingest.config import NOT_SECTIONS
from ingest.config_problems import dotted
from ingest.errors import ConfigError
from ingest.settings import SharedSettings

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from ingest.config_problems import KeyPath

Config = TypeVar("Config")
Section = TypeVar("Section", bound=BaseModel)
Shared = TypeVar("Shared", bound=SharedSettings)


@dataclass(frozen=True, slots=True)
class Change(Generic[Config]):
    """What comes of a reload.

    Attributes:
        config: what is in force from now on.
        changed: what was taken, such as ``sources.clicks: added``; also ``removed``, ``changed``.
        needs_restart: keys that differ but take effect with a restart only.
    """

    config: Config
    changed: list[str]
    needs_restart: list[str]


def change(current: Shared, found: Shared, reloadable: Sequence[KeyPath]) -> Change[Shared]:
    """Take what can be reloaded of ``found``, and keep the rest of ``current``.

    Args:
        current: what is in force.
        found: what was read, and is fine by itself.
        reloadable: sections, or keys in sections, that can be taken while the service runs; ``*``
            is each table of a list.

    Raises:
        ConfigError: what can be taken does not go with what needs a restart.
    """
    config = _taken(current, found, reloadable)
    changed = [f"{dotted(path)}: {how}" for path, how in _differences(current, config)]
    needs_restart = [dotted(path) for path, _ in _differences(config, found)]
    if needs_restart:  # then nobody has looked at this mixture of two configurations before
        _check(config, needs_restart)
    return Change(config, changed, needs_restart)


def _check(config: SharedSettings, needs_restart: Sequence[str]) -> None:
    unless = f"unless restarted, because of {', '.join(needs_restart)}"
    problems = [f"{dotted(each.path)}: {each.text} ({unless})" for each in config.conflicts()]
    if problems:
        raise ConfigError(problems)


def _taken(current: Section, found: Section, paths: Collection[KeyPath]) -> Section:
    """``current`` with the values that ``found`` has at ``paths``."""
    update: dict[str, Any] = {}
    for key, name in _names(current).items():
        inner = [path[1:] for path in paths if path[0] == key]
        if inner:
            update[name] = _taken_within(getattr(current, name), getattr(found, name), inner)
    return current.model_copy(update=update)


def _taken_within(current: Any, found: Any, paths: Collection[KeyPath]) -> Any:
    if () in paths:
        return found
    if not isinstance(current, list):
        return _taken(current, found, paths)
    # The tables of a list are known by their names; ``*`` in a path is each of them.
    new, inner = {each.name: each for each in found}, [path[1:] for path in paths]
    return [_taken(each, new[each.name], inner) if each.name in new else each for each in current]


def _names(section: BaseModel) -> dict[str, str]:
    """Key in the file -> field."""
    return {field.alias or name: name for name, field in type(section).model_fields.items()}


def _differences(current: SharedSettings, found: SharedSettings) -> Iterator[tuple[KeyPath, str]]:
    """(path, how) of each difference."""
    for key, name in _names(current).items():
        if name not in NOT_SECTIONS:
            yield from _of_values(getattr(current, name), getattr(found, name), (key,))
    # What another section says of a source is not among the source's own keys.
    for source in sorted(current.syslog_sources.keys() ^ found.syslog_sources.keys()):
        if source in current.sources and source in found.sources:
            yield ("sources", source), "changed"


def _of_values(current: Any, found: Any, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    if current == found:
        return
    if current is None or found is None:
        yield path, "added" if current is None else "removed"
        return
    tables = _table(current), _table(found)
    if None in tables:
        yield path, "changed"
        return
    old, new = tables
    for key in old | new:
        yield from _of_values(old.get(key), new.get(key), (*path, key))


def _table(value: Any) -> Any:
    """The keys and values of a table, or of tables with names; None for what is neither."""
    if isinstance(value, BaseModel):
        return {key: getattr(value, name) for key, name in _names(value).items()}
    if isinstance(value, list) and value and all(hasattr(each, "name") for each in value):
        return {each.name: each for each in value}
    return value if isinstance(value, dict) else None
