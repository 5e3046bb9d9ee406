"""JSON Schemas and their regular expressions, compiled so that no event can make them run for long.

Expressions run in linear time; those that cannot (look-around, back-references) have a limit of
steps, and passing it counts as a mismatch.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from jsonschema_rs import (
    Draft202012Validator,
    FancyRegexOptions,
    RegexOptions,
    Registry,
    ValidationError,
)

from ingest.schema_places import BASE, Places
from ingest.schema_words import SchemaError, escaped, line, shown

if TYPE_CHECKING:
    from collections.abc import Callable

    Validates = Callable[[Any], bool]


# Cost of an expensive expression is at most about this many steps times the length of the string.
EVENT_BYTES = (1_000, 10_000, 100_000)
REGEX_STEPS = (10_000, 1_000, 100, 10)
"""The limits of steps, for events of up to so many bytes each, and larger ones."""


def compiled(document: Any, places: Places) -> tuple[Validates, ...]:
    """Whether a value matches, for each size of events."""
    try:
        return (validator(document, RegexOptions()),) * len(REGEX_STEPS)
    except SchemaError:  # perhaps only an expression that cannot run in linear time
        validators = tuple(validator(document, bounded(steps)) for steps in REGEX_STEPS)
    for pattern in places.patterns():
        if _scans_repeatedly(pattern):
            text = "repeats a look-around that itself repeats: that takes too long"
            raise SchemaError(f"the pattern {shown(pattern)} {text}")
        if _LOOK_AROUND.search(pattern) and _BACK_REFERENCE.search(pattern):
            text = "has a look-around and a back-reference: together they take too long"
            raise SchemaError(f"the pattern {shown(pattern)} {text}")
    return validators


_LOOK_AROUND = re.compile(r"\(\?<?[=!]")
_BACK_REFERENCE = re.compile(r"\\(?:[1-9]|k<)")


_REGEX_PIECE = re.compile(
    r"\\.|\[\^?\]?(?:[^\]\\]|\\.)*\]|\((?:\?(?:<?[=!]|>))?|\{\d+(?:,\d*)?\}|.", re.DOTALL
)


def _scans_repeatedly(pattern: str) -> bool:
    """Whether a look-around of any length is repeated: quadratic time, which no limit stops.

    Such as ``(?:(?=.*x)a)*``, but not ``(?:(?!x).)*``.
    """
    outer: list[tuple[bool, bool, bool]] = []
    looks = scans = found = False  # this group: is a look-around, has repetitions, has both
    closed = False  # whether the piece before this one ended a group that has both
    for piece in _REGEX_PIECE.findall(pattern):
        was_closed, closed = closed, False
        if piece[0] == "(":
            outer.append((looks, scans, found))
            looks, scans, found = len(piece) > 1, False, False
        elif piece == ")" and outer:
            closed = found or (looks and scans)
            scanned = scans
            looks, scans, found = outer.pop()
            scans, found = scans or scanned, found or closed
        elif piece in ("*", "+") or _REPETITION.fullmatch(piece):
            if was_closed:
                return True
            scans = True
    return False


_REPETITION = re.compile(r"\{\d+,\}|\{(?:\d+,)?\d{3,}\}")
"""So often that it matters."""


def bounded(steps: int) -> FancyRegexOptions:
    """Regular expressions with look-around and back-references, within so many steps."""
    return FancyRegexOptions(backtrack_limit=steps)


def validator(
    schema: Any, options: RegexOptions | FancyRegexOptions, registry: Registry | None = None
) -> Validates:
    """Whether a value matches ``schema``.

    Args:
        schema: the schema.
        options: how its regular expressions run.
        registry: other documents that it refers to; nothing else is ever fetched.

    Raises:
        SchemaError: it is no valid schema.
    """
    try:
        return Draft202012Validator(
            schema,
            validate_formats=True,
            pattern_options=options,
            base_uri=BASE if registry is None else None,
            registry=registry,
            offline=True,
        ).is_valid
    except ValidationError as error:
        place = "".join(f"/{escaped(str(each))}" for each in error.instance_path)
        raise SchemaError(line(f"{place}: {error.message}" if place else error.message)) from None
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - a panic of the library is no Exception
        raise SchemaError(f"cannot be compiled: {line(error)}") from None
