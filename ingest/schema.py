"""JSON Schema 2020-12 for the events of a source, by jsonschema-rs.

What is checked: everything of the standard (JSON Schema Core and Validation, draft 2020-12), and
also ``format``, because people who write ``"format": "date-time"`` expect it to hold; a format that
is not known is ignored, and so are unknown keywords. Of duplicate keys in an event the last one
counts. Numbers compare exactly, except that those of extreme length are refused.

Events are hostile. So the verdict comes from ``is_valid`` alone: it remembers what it has seen,
while everything in the library that explains an error collects all of them for all alternatives
(seconds for an event of some bytes and a recursive ``anyOf``), recurses on the stack, and puts
values into its messages. `_Reason` finds the place by asking ``is_valid`` of subschemas instead.
Regular expressions run in linear time, and those that cannot (look-around, back-references) have a
limit that shrinks as events grow; passing it counts as a mismatch.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from decimal import Decimal, InvalidOperation
from functools import partial
from graphlib import CycleError, TopologicalSorter
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, unquote, urldefrag, urljoin

import msgspec
from jsonschema_rs import (
    Draft202012,
    Draft202012Validator,
    FancyRegexOptions,
    RegexOptions,
    Registry,
    ValidationError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Validates = Callable[[Any], bool]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
MAX_DETAIL = 200
"""Characters of a detail; the contract's limit."""

_BASE = "http://schema.invalid/"
"""Where a schema without ``$id`` is thought to be (RFC 6761: that host can never exist)."""
_MAX_ERROR, _MAX_POINTER, _MAX_SHOWN = 500, 110, 70

# Cost of an expensive expression is at most about this many steps times the length of the string.
_EVENT_BYTES = (1_000, 10_000, 100_000)
_REGEX_STEPS = (10_000, 1_000, 100, 10)

_PLAIN_CHARACTERS = 15  # so many digits survive the way through a float
_CHEAP_CHARACTERS, _CHEAP_EXPONENT = 40, 60
_COSTLY_DIGITS = 20_000
_LOCATING_BYTES, _LOCATING_STEPS, _CHUNK = 5_000_000, 4, 1000

_SCHEMAS_BY_NAME = ("$defs", "definitions", "properties", "patternProperties", "dependentSchemas")
_SCHEMA_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
_SCHEMAS = (
    *("items", "contains", "additionalProperties", "propertyNames", "not", "if", "then", "else"),
    *("unevaluatedItems", "unevaluatedProperties", "contentSchema"),
)
_REFERENCES = ("$ref", "$dynamicRef")
_IN_PLACE = {"allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas"}
_NO_MATCH = "does not match the schema"


class SchemaError(ValueError):
    """A schema that cannot be used; its text is one line for operators."""


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
        self._valid = _compile(exact, self.places)
        self._reasons = tuple(_Reason(self.places, steps) for steps in _REGEX_STEPS)
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
        size = bisect_left(_EVENT_BYTES, len(event))
        try:
            value = _decode(event)
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
            return f"the event: {_NO_MATCH}"


def _failure(error: BaseException) -> str:
    if isinstance(error, RecursionError) or "recursion limit" in str(error).lower():
        return "nested too deep to be checked"
    if isinstance(error, (msgspec.ValidationError, InvalidOperation, _TooManyDigits)):
        return "has numbers with too many digits to be checked"
    return "cannot be checked"


# The schema.


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
        raise SchemaError(f"is not JSON: {_line(error)}") from None
    if not isinstance(document, (dict, bool)):
        raise SchemaError("is neither an object nor true or false")
    return document


def _without_duplicates(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) < len(members):
        names = [name for name, _ in members]
        twice = next(name for name in names if names.count(name) > 1)
        raise SchemaError(f"has the key {_shown(twice)} twice in one object")
    return found


def _finite(number: Callable[[str], float | Decimal], text: str) -> float | Decimal:
    if abs(float(text)) == float("inf"):
        raise SchemaError(f"has a number that is too large: {text[:_MAX_SHOWN]}")
    return number(text)


def _no_constant(text: str) -> Any:
    raise SchemaError(f"is not JSON: {text} is no number")


def _compile(document: Any, places: Places) -> tuple[Validates, ...]:
    """Whether a value matches, for each size of events."""
    try:
        return (_validator(document, RegexOptions()),) * len(_REGEX_STEPS)
    except SchemaError:  # perhaps only an expression that cannot run in linear time
        validators = tuple(_validator(document, _bounded(steps)) for steps in _REGEX_STEPS)
    for pattern in places.patterns():
        if _scans_repeatedly(pattern):
            text = "repeats a look-around that itself repeats: that takes too long"
            raise SchemaError(f"the pattern {_shown(pattern)} {text}")
    return validators


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


def _bounded(steps: int) -> FancyRegexOptions:
    return FancyRegexOptions(backtrack_limit=steps)


def _validator(
    schema: Any, options: RegexOptions | FancyRegexOptions, registry: Registry | None = None
) -> Validates:
    try:
        return Draft202012Validator(
            schema,
            validate_formats=True,
            pattern_options=options,
            base_uri=_BASE if registry is None else None,
            registry=registry,
            offline=True,
        ).is_valid
    except ValidationError as error:
        place = "".join(f"/{_escaped(str(each))}" for each in error.instance_path)
        raise SchemaError(_line(f"{place}: {error.message}" if place else error.message)) from None
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - a panic of the library is no Exception
        raise SchemaError(f"cannot be compiled: {_line(error)}") from None


class Places:
    """Every subschema of a schema, by its JSON Pointer in the document ("" is the whole).

    Args:
        document: the parsed schema.

    Raises:
        SchemaError: for another dialect, and for a reference that leaves the document.
    """

    def __init__(self, document: Any) -> None:
        self.nodes: dict[str, Any] = {}
        self.names: set[str] = set()
        """The names of properties that the schema declares anywhere."""
        self._bases: dict[str, str] = {}
        self._targets: dict[str, str] = {}
        self._visit(document)
        for pointer, node in self.nodes.items():
            for reference in _references(node):
                self._check_local(reference, self._bases[pointer])

    def resolve(self, pointer: str, reference: str) -> str | None:
        """The place that a reference of the subschema at ``pointer`` leads to, if it is known."""
        resource, fragment = urldefrag(_join(self._bases[pointer], reference))
        if fragment and not fragment.startswith("/"):
            return self._targets.get(f"{resource}#{fragment}")
        root = self._targets.get(resource)
        target = None if root is None else root + unquote(fragment)
        return target if target in self.nodes else None

    def patterns(self) -> Iterator[str]:
        """Every regular expression of the schema."""
        for _, node in self._objects():
            yield from (node[each] for each in ("pattern",) if each in node)
            yield from node.get("patternProperties", ())

    def refuse_loops(self) -> None:
        """Refuse a schema that needs itself to decide about the same value.

        Raises:
            SchemaError: there is one (Core, section 9.4.1 leaves open what that would mean).
        """
        graph = {pointer: set(self._in_place(pointer, node)) for pointer, node in self._objects()}
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            place = error.args[1][0] or "the schema"
            raise SchemaError(f"{_line(place)}: refers to itself without end") from None

    def _objects(self) -> Iterator[tuple[str, dict[str, Any]]]:
        return ((place, node) for place, node in self.nodes.items() if isinstance(node, dict))

    def _in_place(self, pointer: str, node: dict[str, Any]) -> Iterator[str]:
        for suffix, _, keyword in _children(node):
            if keyword in _IN_PLACE:
                yield pointer + suffix
        for reference in _references(node):
            target = self.resolve(pointer, reference)
            if target is not None:
                yield target

    def _visit(self, document: Any) -> None:
        pending = [("", document, _BASE)]
        while pending:
            pointer, node, base = pending.pop()
            self.nodes[pointer] = node
            if isinstance(node, dict):
                base = self._enter(pointer, node, base)
                pending += [(pointer + suffix, each, base) for suffix, each, _ in _children(node)]
            self._bases[pointer] = base
        self.base = self._bases[""]

    def _enter(self, pointer: str, node: dict[str, Any], base: str) -> str:
        """Note what the subschema declares; the base of its references."""
        dialect = node.get("$schema", DIALECT)
        if not isinstance(dialect, str) or dialect.removesuffix("#") != DIALECT:
            raise SchemaError(f"$schema is {_shown(dialect)}: only {DIALECT} is supported")
        identifier = node.get("$id")
        if isinstance(identifier, str):
            base = urldefrag(_join(base, identifier)).url
        if isinstance(identifier, str) or not pointer:
            self._targets[base] = pointer
        for keyword in ("$anchor", "$dynamicAnchor"):
            if isinstance(node.get(keyword), str):
                self._targets[f"{base}#{node[keyword]}"] = pointer
        self.names.update(_declared(node))
        return base

    def _check_local(self, reference: str, base: str) -> None:
        if urldefrag(_join(base, reference)).url not in self._targets:
            text = "leads out of the schema: only references inside of it are allowed"
            raise SchemaError(f"the reference {_shown(reference)} {text}")


def _children(node: dict[str, Any]) -> Iterator[tuple[str, Any, str]]:
    """Pointer below the node, and keyword, of each subschema directly inside of it."""
    for keyword, argument in node.items():
        if keyword in _SCHEMAS:
            yield f"/{keyword}", argument, keyword
        elif keyword in _SCHEMA_LISTS and isinstance(argument, list):
            yield from ((f"/{keyword}/{at}", each, keyword) for at, each in enumerate(argument))
        elif keyword in _SCHEMAS_BY_NAME and isinstance(argument, dict):
            for name, each in argument.items():
                yield f"/{keyword}/{_escaped(name)}", each, keyword


def _references(node: Any) -> list[str]:
    found = [node.get(keyword) for keyword in _REFERENCES] if isinstance(node, dict) else []
    return [each for each in found if isinstance(each, str)]


def _declared(node: dict[str, Any]) -> Iterator[str]:
    """Names of properties in one subschema."""
    for keyword in ("properties", "dependentSchemas", "dependentRequired"):
        if isinstance(node.get(keyword), dict):
            yield from node[keyword]
    dependent = node.get("dependentRequired")
    required = list(dependent.values()) if isinstance(dependent, dict) else []
    for names in (node.get("required"), *required):
        if isinstance(names, list):
            yield from (each for each in names if isinstance(each, str))


def _join(base: str, reference: str) -> str:
    """RFC 3986, section 5.2; a fragment also under bases such as ``urn:``."""
    try:
        return base + reference if reference.startswith("#") else urljoin(base, reference)
    except ValueError as error:
        raise SchemaError(f"the reference {_shown(reference)} is no URI: {_line(error)}") from None


# The event.


class _CostlyNumber(Exception):  # noqa: N818 - a verdict
    """The event has a number that takes long to compare."""


class _TooManyDigits(Exception):  # noqa: N818 - a verdict
    """The event has numbers that take too long to compare."""


def _decode(event: bytes) -> Any:
    try:
        return _decode_usual(event)
    except _CostlyNumber:
        return msgspec.json.Decoder(float_hook=_Digits().number).decode(event)


def _usual_number(text: str) -> float | Decimal:
    """A float where that is exact, else decimal, which costs the library twice as much."""
    if len(text) <= _PLAIN_CHARACTERS and "e" not in text and "E" not in text:
        return float(text)
    number = Decimal(text)
    if len(text) <= _CHEAP_CHARACTERS and abs(number.adjusted()) <= _CHEAP_EXPONENT:
        return number
    raise _CostlyNumber


_decode_usual: Callable[[bytes], Any] = msgspec.json.Decoder(float_hook=_usual_number).decode


class _Digits:
    """Bounds the digits in one event: the library compares numbers in quadratic time."""

    def __init__(self) -> None:
        self._left = _COSTLY_DIGITS

    def number(self, text: str) -> Decimal:
        number = Decimal(text)
        self._left -= len(text) + abs(number.adjusted())
        if self._left < 0:
            raise _TooManyDigits
        return number


# The reason.


class _Step(NamedTuple):
    """From a subschema and a value to another subschema, and what it is asked about."""

    pointer: str
    key: str | int | None
    """None: the same value."""
    value: Any


class _Reason:
    """Why a value does not match: the first reason in the order in which the schema is written."""

    def __init__(self, places: Places, regex_steps: int) -> None:
        self._places = places
        self._options = _bounded(regex_steps)
        self._validators: dict[tuple[str, str], Validates] = {}
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
        return self._detail(path, _NO_MATCH)

    def _detail(self, path: list[str | int], message: str) -> str:
        names = self._places.names
        shown = (
            each if isinstance(each, int) else _escaped(each) if each in names else "*"
            for each in path
        )
        where = "".join(f"/{each}" for each in shown) or "the event"
        return f"{_cut(_line(where), _MAX_POINTER)}: {_line(message)}"[:MAX_DETAIL]

    def _first(self, pointer: str, value: Any) -> _Step | str:
        node = self._places.nodes.get(pointer)
        if node is False:
            return "is not allowed"
        if not isinstance(node, dict):
            return _NO_MATCH
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
        if keyword in _REFERENCES:
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
                    yield _Step(f"{below}/{_escaped(name)}", *inner)
        elif keyword == "patternProperties":
            for pattern in node[keyword]:
                place = f"{below}/{_escaped(pattern)}"
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
            self._matcher(f"{parent}/patternProperties/{_escaped(each)}", each) for each in patterns
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
            return f"has {_count(unknown, 'property')} not in the schema" if unknown else None
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
            return f"contains fewer than {_count(least, 'matching item')}"
        if most is None or self._part(
            f"{pointer}/maxContains",
            {"contains": reference, "minContains": 0, "maxContains": most},
        )(value):
            return None
        return f"contains more than {_count(most, 'matching item')}"

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
            if self._registry is None:
                document = self._places.nodes[""]
                self._registry = Registry([(self._places.base, document)], draft=Draft202012)
            found = _validator(schema, self._options, self._registry)
            self._validators[key] = found
        return found


def _leftover(node: dict[str, Any], value: Any) -> str:
    """What it must be when nothing else is: what is evaluated, only the library knows."""
    if isinstance(value, dict) and "unevaluatedProperties" in node:
        return "has properties not in the schema"
    if isinstance(value, list) and "unevaluatedItems" in node:
        return "has items not in the schema"
    return _NO_MATCH


# Messages say what the schema wants, and nothing of what the event has.


def _types(argument: Any, _: Any) -> str:
    return "is not of type " + " or ".join([argument] if isinstance(argument, str) else argument)


def _missing(argument: list[str], value: dict[str, Any]) -> str:
    name = next(each for each in argument if each not in value)
    return f"the required property {_shown(name)} is missing"


def _missing_dependent(argument: dict[str, list[str]], value: dict[str, Any]) -> str:
    present, missing = next(
        (present, name)
        for present, names in argument.items()
        for name in names
        if present in value and name not in value
    )
    return f"the property {_shown(missing)} is missing, which {_shown(present)} requires"


def _options(argument: list[Any], _: Any) -> str:
    shown = ", ".join(map(_shown, argument))
    return f"is none of {shown if len(shown) <= _MAX_SHOWN else f'{len(argument)} allowed values'}"


def _counted(text: str, noun: str) -> Callable[[Any, Any], str]:
    return lambda argument, _: f"{text} {_count(argument, noun)}"


def _limited(text: str) -> Callable[[Any, Any], str]:
    return lambda argument, _: f"{text} {_shown(argument)}"


def _named(text: str) -> Callable[[Any, Any], str]:
    return lambda argument, _: f"{text} {_cut(argument, _MAX_SHOWN)}"


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


def _count(number: Any, noun: str) -> str:
    plural = noun.removesuffix("y") + "ies" if noun.endswith("y") else f"{noun}s"
    return f"{_shown(number)} {noun if number == 1 else plural}"


def _shown(value: Any) -> str:
    """Something of the schema, as JSON text of bounded length."""
    if isinstance(value, Decimal):
        return _cut(str(value), _MAX_SHOWN)
    return _cut(json.dumps(value, ensure_ascii=False, default=float), _MAX_SHOWN)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _escaped(name: str) -> str:
    """RFC 6901, section 3."""
    return name.replace("~", "~0").replace("/", "~1")


def _line(text: object) -> str:
    """The text on one line, without control characters, of bounded length."""
    words = re.sub(r"\s+", " ", str(text)).strip()
    return _cut("".join(each if each.isprintable() else "?" for each in words), _MAX_ERROR)
