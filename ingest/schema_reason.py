"""Why an event does not match its schema, in words that tell nothing of the event.

The library's own explanations collect all errors of all alternatives (seconds for an event of some
bytes and a recursive ``anyOf``), recurse on the stack, and quote values. So the place is found by
asking ``is_valid`` of subschemas.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from jsonschema_rs import (
    Draft202012,
    Registry,
)

from ingest.schema_compile import bounded, validator
from ingest.schema_places import REFERENCES, Places
from ingest.schema_words import MAX_SHOWN, count, cut, escaped, line, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Validates = Callable[[Any], bool]


MAX_DETAIL = 200
"""Characters of a detail; the contract's limit."""
NO_MATCH = "does not match the schema"
_MAX_POINTER, _CHUNK = 110, 1000
_MAX_NODES, _FEW_PARTS = 10_000, 8
"""Subschemas that are compiled to explain, together: each part may need the whole schema once more.
So few parts of the largest schemas are explained all the same."""


class _Enough(Exception):  # noqa: N818 - a verdict
    """No more parts of the schema are compiled to explain."""


class _Step(NamedTuple):
    """From a subschema and a value to another subschema, and what it is asked about."""

    pointer: str
    key: str | int | None
    """None: the same value."""
    value: Any


class Reason:
    """Why a value does not match: the first reason in the order in which the schema is written."""

    def __init__(self, places: Places, regex_steps: int) -> None:
        self._places = places
        self._options = bounded(regex_steps)
        self._validators: dict[tuple[str, str], Validates] = {}
        self._most = max(_FEW_PARTS, _MAX_NODES // max(1, len(places.nodes)))
        self._registry: Registry | None = None

    def of(self, value: Any, steps: int) -> str:
        """The detail for a value that does not match.

        Args:
            value: the event.
            steps: how many subschemas to go down at most; then the place reached must do.
        """
        pointer, path = "", list[str | int]()
        for _ in range(steps):
            found = self._first(pointer, value)
            if isinstance(found, str):
                return self._detail(path, found)
            pointer, value = found.pointer, found.value
            if found.key is not None:
                path.append(found.key)
        return self._detail(path, NO_MATCH)

    def _detail(self, path: list[str | int], message: str) -> str:
        names = self._places.names
        shown = (
            each if isinstance(each, int) else escaped(each) if each in names else "*"
            for each in path
        )
        where = "".join(f"/{each}" for each in shown) or "the event"
        return f"{cut(line(where), _MAX_POINTER)}: {line(message)}"[:MAX_DETAIL]

    def _first(self, pointer: str, value: Any) -> _Step | str:
        node = self._places.nodes.get(pointer)
        if node is False:
            return "is not allowed"
        if not isinstance(node, dict):
            return NO_MATCH
        for keyword, argument in node.items():
            for step in self._steps(pointer, node, keyword, value):
                if not self._valid(step.pointer, step.value):
                    return step
            message = self._violated(pointer, keyword, argument, value)
            if message is not None:
                return message
        return _leftover(node, value)

    # Subschemas.

    def _steps(
        self, pointer: str, node: dict[str, Any], keyword: str, value: Any
    ) -> Iterator[_Step]:
        """What must hold for the keyword to hold, so far as it is about other subschemas."""
        below, argument = f"{pointer}/{keyword}", node[keyword]
        if keyword in REFERENCES:
            target = self._places.resolve(pointer, argument)
            yield from () if target is None else (_Step(target, None, value),)
        elif keyword == "allOf":
            yield from (_Step(f"{below}/{at}", None, value) for at in range(len(argument)))
        elif keyword == "if":
            branch = "then" if self._valid(below, value) else "else"
            yield from (_Step(f"{pointer}/{branch}", None, value),) if branch in node else ()
        elif isinstance(value, dict):
            yield from self._steps_of_object(below, node, keyword, value)
        elif isinstance(value, list):
            yield from self._steps_of_array(below, node, keyword, value)

    def _steps_of_object(
        self, below: str, node: dict[str, Any], keyword: str, value: dict[str, Any]
    ) -> Iterator[_Step]:
        if keyword in ("properties", "dependentSchemas"):
            for name in node[keyword]:
                if name in value:
                    step = name, value[name]
                    inner = (None, value) if keyword == "dependentSchemas" else step
                    yield _Step(f"{below}/{escaped(name)}", *inner)
        elif keyword == "patternProperties":
            for pattern in node[keyword]:
                place = f"{below}/{escaped(pattern)}"
                matches = self._matcher(place, pattern)
                yield from (_Step(place, *each) for each in value.items() if matches(each[0]))
        elif keyword == "additionalProperties" and node[keyword] is not False:
            yield from (_Step(below, name, value[name]) for name in self._additional(below, value))

    def _steps_of_array(
        self, below: str, node: dict[str, Any], keyword: str, value: list[Any]
    ) -> Iterator[_Step]:
        if keyword == "prefixItems":
            for at, each in enumerate(islice(value, len(node[keyword]))):
                yield _Step(f"{below}/{at}", at, each)
        elif keyword == "items":  # the library is faster at finding out that nothing is wrong
            holds = self._part(below, {"items": self._reference(below)})
            for start in range(len(node.get("prefixItems", ())), len(value), _CHUNK):
                chunk = value[start : start + _CHUNK]
                if not holds(chunk):
                    yield from (_Step(below, at, each) for at, each in enumerate(chunk, start))

    def _matcher(self, place: str, pattern: str) -> Validates:
        return self._cached(place, "pattern", {"pattern": pattern})

    def _additional(self, below: str, value: dict[str, Any]) -> Iterator[str]:
        """The properties that ``additionalProperties`` at the place is about."""
        parent = below.rpartition("/")[0]
        node = self._places.nodes[parent]
        known, patterns = node.get("properties", {}), node.get("patternProperties", {})
        matchers = [
            self._matcher(f"{parent}/patternProperties/{escaped(each)}", each) for each in patterns
        ]
        for name in value:
            if name not in known and not any(matches(name) for matches in matchers):
                yield name

    # Assertions.

    def _violated(self, pointer: str, keyword: str, argument: Any, value: Any) -> str | None:
        """What is wrong with the value itself, if the keyword says so."""
        place = f"{pointer}/{keyword}"
        if keyword in _MESSAGES:
            holds = self._cached(place, keyword, {keyword: argument})(value)
            return None if holds else _MESSAGES[keyword](argument, value)
        if keyword in ("anyOf", "oneOf"):
            return self._alternatives(place, keyword, argument, value)
        if keyword == "not":
            return "matches what is not allowed" if self._valid(place, value) else None
        if isinstance(value, dict):
            return self._violated_by_object(pointer, keyword, argument, value)
        if keyword == "contains" and isinstance(value, list):
            return self._contained(pointer, value)
        return None

    def _violated_by_object(
        self, pointer: str, keyword: str, argument: Any, value: dict[str, Any]
    ) -> str | None:
        place = f"{pointer}/{keyword}"
        if keyword == "propertyNames":
            holds = self._part(place, {keyword: self._reference(place)})(value)
            return None if holds else "has a property name that is not allowed"
        if keyword == "additionalProperties" and argument is False:
            unknown = sum(1 for _ in self._additional(place, value))
            return f"has {count(unknown, 'property')} not in the schema" if unknown else None
        return None

    def _alternatives(self, place: str, keyword: str, argument: Any, value: Any) -> str | None:
        matching = sum(self._valid(f"{place}/{at}", value) for at in range(len(argument)))
        if not matching:
            return f"matches none of {len(argument)} alternatives"
        if keyword == "oneOf" and matching > 1:
            return f"matches more than one of {len(argument)} alternatives"
        return None

    def _contained(self, pointer: str, value: list[Any]) -> str | None:
        node, place = self._places.nodes[pointer], f"{pointer}/contains"
        least, most = node.get("minContains", 1), node.get("maxContains")
        reference = self._reference(place)
        if not self._part(place, {"contains": reference, "minContains": least})(value):
            return f"contains fewer than {count(least, 'matching item')}"
        if most is None or self._part(
            f"{pointer}/maxContains",
            {"contains": reference, "minContains": 0, "maxContains": most},
        )(value):
            return None
        return f"contains more than {count(most, 'matching item')}"

    # Validators of parts, compiled when they are needed for the first time.

    def _valid(self, pointer: str, value: Any) -> bool:
        return self._cached(pointer, "", self._reference(pointer))(value)

    def _part(self, place: str, schema: Mapping[str, Any]) -> Validates:
        return self._cached(place, place.rpartition("/")[2], schema)

    def _reference(self, pointer: str) -> dict[str, str]:
        return {"$ref": f"{self._places.base}#{quote(pointer)}"}

    def _cached(self, pointer: str, keyword: str, schema: Mapping[str, Any]) -> Validates:
        key = pointer, keyword
        found = self._validators.get(key)
        if found is None:
            if len(self._validators) >= self._most:
                raise _Enough
            if self._registry is None:
                document = self._places.nodes[""]
                self._registry = Registry([(self._places.base, document)], draft=Draft202012)
            found = validator(schema, self._options, self._registry)
            self._validators[key] = found
        return found


def _leftover(node: dict[str, Any], value: Any) -> str:
    """What it must be when nothing else is: what is evaluated, only the library knows."""
    if isinstance(value, dict) and "unevaluatedProperties" in node:
        return "has properties not in the schema"
    if isinstance(value, list) and "unevaluatedItems" in node:
        return "has items not in the schema"
    return NO_MATCH


# Messages say what the schema wants, and nothing of what the event has.


def _types(argument: Any, _: Any) -> str:
    return "is not of type " + " or ".join([argument] if isinstance(argument, str) else argument)


def _missing(argument: list[str], value: dict[str, Any]) -> str:
    name = next(each for each in argument if each not in value)
    return f"the required property {shown(name)} is missing"


def _missing_dependent(argument: dict[str, list[str]], value: dict[str, Any]) -> str:
    present, missing = next(
        (present, name)
        for present, names in argument.items()
        for name in names
        if present in value and name not in value
    )
    return f"the property {shown(missing)} is missing, which {shown(present)} requires"


def _options(argument: list[Any], _: Any) -> str:
    options = ", ".join(map(shown, argument))
    if len(options) > MAX_SHOWN:
        options = f"{len(argument)} allowed values"
    return f"is none of {options}"


def _counted(text: str, noun: str) -> Callable[[Any, Any], str]:
    return lambda argument, _: f"{text} {count(argument, noun)}"


def _limited(text: str) -> Callable[[Any, Any], str]:
    return lambda argument, _: f"{text} {shown(argument)}"


def _named(text: str) -> Callable[[Any, Any], str]:
    return lambda argument, _: f"{text} {cut(argument, MAX_SHOWN)}"


_MESSAGES: dict[str, Callable[[Any, Any], str]] = {
    "type": _types,
    "enum": _options,
    "const": _limited("is not"),
    "minimum": _limited("less than the minimum of"),
    "maximum": _limited("more than the maximum of"),
    "exclusiveMinimum": _limited("not more than"),
    "exclusiveMaximum": _limited("not less than"),
    "multipleOf": _limited("not a multiple of"),
    "minLength": _counted("shorter than", "character"),
    "maxLength": _counted("longer than", "character"),
    "pattern": _named("does not match the pattern"),
    "format": _named("does not have the format"),
    "minItems": _counted("fewer than", "item"),
    "maxItems": _counted("more than", "item"),
    "uniqueItems": lambda *_: "has items that are equal",
    "minProperties": _counted("fewer than", "property"),
    "maxProperties": _counted("more than", "property"),
    "required": _missing,
    "dependentRequired": _missing_dependent,
}
