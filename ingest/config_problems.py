"""What is wrong with a configuration, in words for people."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

_TEXTS = {
    "missing": "is required",
    "string_type": "expected text",
    "string_too_short": "expected some text",
    "int_type": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_type": "expected a number",
    "finite_number": "expected a finite number",
    "bool_type": "expected true or false",
    "list_type": "expected a list",
    "dict_type": "expected a table",
    "model_type": "expected a table",
    "greater_than": "expected more than {gt}",
    "greater_than_equal": "expected at least {ge}",
    "less_than_equal": "expected at most {le}",
    "literal_error": "expected {expected}",
    "too_short": "expected at least {min_length} of them",
    "too_long": "expected at most {max_length} of them",
}


def suggestion(name: str, known: Iterable[str]) -> str:
    """``, did you mean "…"?`` where something known is close, else nothing."""
    close = get_close_matches(name, list(known), n=1)
    return f', did you mean "{close[0]}"?' if close else ""


def dotted(path: Sequence[str | int]) -> str:
    """``a.b[0].c``."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}"
    return text.removeprefix(".")


def of_validation(
    error: ValidationError,
    data: Any,
    known: Mapping[str, Iterable[str]],
    prefix: tuple[str, ...] = (),
) -> list[tuple[tuple[str | int, ...], str]]:
    """(path, text) of each error.

    Args:
        error: what pydantic found.
        data: what it was given, below ``prefix``.
        known: dotted path of a table, with ``*`` for names users choose -> its keys.
        prefix: where in the file that is.
    """
    found: dict[tuple[str | int, ...], list[str]] = {}
    for each in error.errors(include_url=False, include_input=False):
        path = _path_in(each, (*prefix, *each["loc"]), data)
        text = _text(each, path, known)
        texts = found.setdefault(path, [])
        if text not in texts:
            texts.append(text)
    return [(path, _either(texts)) for path, texts in found.items()]


def _either(texts: Sequence[str]) -> str:
    """Alternatives of a union have an error each."""
    return texts[0] + "".join(" or " + text.removeprefix("expected ") for text in texts[1:])


def _path_in(
    error: ErrorDetails, location: Sequence[str | int], data: Any
) -> tuple[str | int, ...]:
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


def _text(
    error: ErrorDetails, path: Sequence[str | int], known: Mapping[str, Iterable[str]]
) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        table = dotted(path[:-1])
        keys = known.get(table) or known.get(f"{table.rpartition('.')[0]}.*", ())
        return "unknown key" + suggestion(str(path[-1]), keys)
    if kind == "value_error":
        return str(context["error"])
    if kind in _TEXTS:
        return _TEXTS[kind].format(**context).replace("'", '"')
    return error["msg"].lower()
