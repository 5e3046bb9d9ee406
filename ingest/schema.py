"""JSON Schema 2020-12 for the events of a source, by jsonschema-rs.

What is checked: everything of the standard (JSON Schema Core and Validation, draft 2020-12), and
also ``format``, because people who write ``"format": "date-time"`` expect it to hold; a format that
is not known is ignored, and so are unknown keywords. Of duplicate keys in an event the last one
counts. Numbers compare exactly, except that those of extreme length are refused.

Events are hostile. So the verdict comes from ``is_valid`` alone, which remembers what it has seen,
and the reason from `ingest.schema_reason`.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from ingest.schema_compile import EVENT_BYTES, REGEX_STEPS, compiled
from ingest.schema_decode import TooManyDigits, decode
from ingest.schema_places import Places
from ingest.schema_reason import NO_MATCH, Reason
from ingest.schema_words import MAX_SHOWN, SchemaError, line, shown

if TYPE_CHECKING:
    from collections.abc import Callable


_LOCATING_BYTES, _LOCATING_STEPS = 5_000_000, 4


class Schema:
    """The schema of one source, compiled.

    Args:
        content: the schema file: JSON text in UTF-8.

    Raises:
        SchemaError: the text is not JSON or has duplicate keys, is no valid schema of 2020-12, has
            a regular expression that does not compile, refers to anything outside of itself or to
            a place that is not there, or refers to itself without going deeper into the event.
            Nothing is ever fetched or read to find out.
    """

    def __init__(self, content: bytes) -> None:
        text = _text(content)
        self.document: Any = _parse(text, float)
        exact = _parse(text, Decimal)
        self.places = Places(exact)
        self._valid = compiled(exact, self.places)
        self._reasons = tuple(Reason(self.places, steps) for steps in REGEX_STEPS)
        self.places.refuse_loops()

    def check(self, event: bytes) -> str | None:
        """Whether an event matches.

        Args:
            event: one JSON document, known to be valid, nested at most 500 deep.

        Returns:
            None if it matches; else the reason on one line of at most 200 characters: a JSON
            Pointer (RFC 6901) or ``the event``, a colon, and what is wrong there. It tells
            nothing of the event but array indices and names that the schema itself declares;
            another name in the pointer is shown as ``*``.
        """
        size = bisect_left(EVENT_BYTES, len(event))
        try:
            value = decode(event)
            if self._valid[size](value):
                return None
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - a panic of the library is no Exception
            return f"the event: {_failure(error)}"
        try:
            steps = max(_LOCATING_STEPS, _LOCATING_BYTES // len(event))
            return self._reasons[size].of(value, steps)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # noqa: BLE001 - as above; the verdict stands
            return f"the event: {NO_MATCH}"


def _failure(error: BaseException) -> str:
    if isinstance(error, RecursionError) or "recursion limit" in str(error).lower():
        return "nested too deep to be checked"
    if isinstance(error, (msgspec.ValidationError, InvalidOperation, TooManyDigits)):
        return "has numbers with too many digits to be checked"
    return "cannot be checked"


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise SchemaError("is not UTF-8") from None


def _parse(text: str, number: Callable[[str], float | Decimal]) -> Any:
    try:
        document = json.loads(
            text,
            object_pairs_hook=_without_duplicates,
            parse_float=partial(_finite, number),
            parse_constant=_no_constant,
        )
    except SchemaError:
        raise
    except RecursionError:
        raise SchemaError("is nested too deep") from None
    except ValueError as error:  # also: a number with too many digits
        raise SchemaError(f"is not JSON: {line(error)}") from None
    if not isinstance(document, (dict, bool)):
        raise SchemaError("is neither an object nor true or false")
    return document


def _without_duplicates(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) < len(members):
        names = [name for name, _ in members]
        twice = next(name for name in names if names.count(name) > 1)
        raise SchemaError(f"has the key {shown(twice)} twice in one object")
    return found


def _finite(number: Callable[[str], float | Decimal], text: str) -> float | Decimal:
    if abs(float(text)) == float("inf"):
        raise SchemaError(f"has a number that is too large: {text[:MAX_SHOWN]}")
    return number(text)


def _no_constant(text: str) -> Any:
    raise SchemaError(f"is not JSON: {text} is no number")
