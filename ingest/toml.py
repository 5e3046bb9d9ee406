"""Nested tables -> TOML 1.0 text; the standard library only reads it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def dumps(table: Mapping[str, Any]) -> str:
    """TOML text of ``table``; values are text, numbers, booleans, lists and tables."""
    return "\n".join(_lines(table, ())).lstrip("\n") + "\n"


def key(name: str) -> str:
    """A key, quoted where it has to be."""
    return name if _BARE.fullmatch(name) else _text(name)


def _lines(table: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    tables = {name: value for name, value in table.items() if isinstance(value, dict)}
    arrays = {name: value for name, value in table.items() if _is_array_of_tables(value)}
    plain = table.keys() - tables.keys() - arrays.keys()
    if path and (plain or not (tables or arrays)):
        yield ""
        yield f"[{'.'.join(map(key, path))}]"
    yield from _body(table, path)


def _body(table: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    """The values of a table, then the tables in it: in TOML nothing can come behind those."""
    for name, value in table.items():
        if not isinstance(value, dict) and not _is_array_of_tables(value):
            yield f"{key(name)} = {_value(value)}"
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _lines(value, (*path, name))
        elif _is_array_of_tables(value):
            for each in value:
                yield ""
                yield f"[[{'.'.join(map(key, (*path, name)))}]]"
                yield from _body(each, (*path, name))


def _is_array_of_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, dict) for v in value)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, dict):
        pairs = (f"{key(name)} = {_value(each)}" for name, each in value.items())
        return f"{{ {', '.join(pairs)} }}"
    return f"[{', '.join(map(_value, value))}]"


def _text(value: str) -> str:
    # JSON's escapes are TOML's as well, but for DEL, which TOML wants escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
