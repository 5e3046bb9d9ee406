"""What is wrong with a configuration, in words for people."""

from __future__ import annotations

from difflib import get_close_matches
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from pydantic_core import PydanticCustomError

from ingest import toml

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

KeyPath = tuple[str | int, ...]
"""Where in the file: the names of tables and the positions in lists, from the top."""

WITHIN = "problems_within"
"""The type of the error that stands for several."""
_TEXTS = {
    "missing": "is required",
    "string_type": "expected text",
    "string_unicode": "expected UTF-8",
    "string_too_short": "expected some text",
    "int_type": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_type": "expected a number",
    "finite_number": "expected a finite number",
    "bool_type": "expected true or false",
    "list_type": "expected a list",
    "dict_type": "expected a table",
    "model_type": "expected a table",
    "dataclass_type": "expected a path",
    "dataclass_exact_type": "expected a path",
    "greater_than": "expected more than {gt:g}",
    "greater_than_equal": "expected at least {ge:g}",
    "less_than_equal": "expected at most {le:g}",
    "literal_error": "expected {expected}",
    "too_short": "expected at least {min_length} of them",
    "too_long": "expected at most {max_length} of them",
}


def problems_within(found: Sequence[tuple[KeyPath, str]]) -> PydanticCustomError:
    """What a validator raises for several problems in one value, each with its path from there."""
    return PydanticCustomError(WITHIN, "has problems", {"found": list(found)})


def suggestion(name: str, known: Iterable[str], prefix: str = "") -> str:
    """``, did you mean "…"?`` where something known is close, else nothing.

    Args:
        name: what was written.
        known: what is known.
        prefix: what all of them begin with, and what makes none of them closer.
    """
    begins = [each.removeprefix(prefix) for each in known]
    close = get_close_matches(name.removeprefix(prefix), begins, n=1)
    return f', did you mean "{prefix}{close[0]}"?' if close else ""


def dotted(path: KeyPath) -> str:
    """``a.b[0]."c.d"``."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{toml.key(step)}"
    return text.removeprefix(".")


def leave_out(root: dict[str, Any], paths: Iterable[KeyPath]) -> None:
    """Take the keys at ``paths`` out of ``root``: a missing one with the table that misses it.

    What is in a list goes with the whole list.
    """
    for path in {tuple(takewhile(lambda step: isinstance(step, str), path)) for path in paths}:
        _leave_out(root, path)


def _leave_out(root: dict[str, Any], path: KeyPath) -> None:
    *tables, key = path
    table: Any = root
    for name in tables:
        if name not in table:
            return
        table = table[name]
    if key in table:
        del table[key]
    elif tables:
        _leave_out(root, tuple(tables))


def of_validation(
    error: ValidationError,
    data: Any,
    known: Mapping[KeyPath, Iterable[str]],
    prefix: KeyPath = (),
) -> list[tuple[KeyPath, str]]:
    """(path, text) of each error.

    Args:
        error: what pydantic found.
        data: what it was given, below ``prefix``.
        known: path of a table, with ``*`` for names users choose -> its keys.
        prefix: where in the file that is.
    """
    found: dict[KeyPath, list[str]] = {}
    for each in error.errors(include_url=False, include_input=False):
        path = _path_in(each, (*prefix, *each["loc"]), data)
        if each["type"] == WITHIN:
            for below, text in each["ctx"]["found"]:
                found.setdefault((*path, *below), []).append(text)
            continue
        text = _text(each, path, known)
        texts = found.setdefault(path, [])
        if text not in texts:
            texts.append(text)
    return [(path, _either(texts)) for path, texts in found.items()]


def _either(texts: Sequence[str]) -> str:
    """Alternatives of a union have an error each."""
    return texts[0] + "".join(" or " + text.removeprefix("expected ") for text in texts[1:])


def _path_in(error: ErrorDetails, location: KeyPath, data: Any) -> KeyPath:
    """Where in the data it is: pydantic's own path names alternatives of unions as well."""
    path: list[str | int] = []
    for step in location:
        if isinstance(data, dict) and (step in data or error["type"] == "missing"):
            data = data.get(step)
        elif isinstance(data, list) and isinstance(step, int) and step < len(data):
            data = data[step]
        else:
            break
        path.append(step)
    return tuple(path)


def _text(error: ErrorDetails, path: KeyPath, known: Mapping[KeyPath, Iterable[str]]) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return "unknown key" + suggestion(str(path[-1]), _keys(path[:-1], known))
    if kind == "value_error":
        return str(context["error"])
    if kind in _TEXTS:
        return _TEXTS[kind].format(**context).replace("'", '"')
    return error["msg"].lower()


def _keys(path: KeyPath, known: Mapping[KeyPath, Iterable[str]]) -> Iterable[str]:
    for table, keys in known.items():
        if len(table) == len(path) and all(map(_fits, table, path)):
            return keys
    return ()


def _fits(pattern: str | int, step: str | int) -> bool:
    return pattern in {"*", step}
