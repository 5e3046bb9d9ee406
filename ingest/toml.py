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
    plain = {name: value for name, value in table.items() if not isinstance(value, dict)}
    tables = {name: value for name, value in table.items() if isinstance(value, dict)}
    if path and (plain or not tables):
        yield ""
        yield f"[{'.'.join(map(key, path))}]"
    for name, value in plain.items():
        yield f"{key(name)} = {_value(value)}"
    for name, value in tables.items():
        yield from _lines(value, (*path, name))


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
