"""A small event that a schema accepts, for people to copy. No randomness: one schema, one example.

What the schema offers comes first (``examples``, ``default``), then what is built from its required
properties. Building is guessing: it knows what schemas commonly say, and whatever it makes is
checked.
"""

from __future__ import annotations

import json
import math
import re
from decimal import Decimal
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from ingest.schema_compile import bounded, validator
from ingest.schema_words import SchemaError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ingest.schema import Schema
    from ingest.schema_places import Places

MAX_BYTES = 65_536
"""Nobody copies more."""

_PATTERN_STEPS = 1000
_MAX_DEPTH, _MAX_VALUES, _MAX_ITEMS, _MAX_LENGTH = 12, 500, 20, 1_000
_VARIANTS = 3
"""How many of the alternatives of ``anyOf`` and ``oneOf`` are tried."""

_FORMATS = {
    "date-time": "2026-11-23T12:00:00Z",
    "date": "2026-11-23",
    "time": "12:00:00Z",
    "duration": "PT1S",
    "email": "someone@example.com",
    "idn-email": "someone@example.com",
    "hostname": "example.com",
    "idn-hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "uri-reference": "https://example.com/",
    "iri": "https://example.com/",
    "iri-reference": "https://example.com/",
    "uri-template": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "json-pointer": "/example",
    "relative-json-pointer": "0",
    "regex": "^example$",
}
_TYPES_BY_KEYWORD = {
    "object": ("properties", "required", "minProperties", "additionalProperties"),
    "array": ("items", "prefixItems", "minItems", "contains"),
    "string": ("minLength", "maxLength", "pattern", "format"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}


def example(schema: Schema, first: Mapping[str, Any] | None = None) -> bytes | None:
    """An object that the schema accepts.

    Args:
        schema: what accepts it.
        first: members that it should have, if it may: where the schema has a value of its own for
            one of them, that is taken.

    Returns:
        Compact JSON text; None if nothing was found.
    """
    for value in _candidates(schema, first or {}):
        if not isinstance(value, dict):
            continue
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=float).encode()
        if len(text) <= MAX_BYTES and schema.check(text) is None:
            return text
    return None


def _candidates(schema: Schema, first: Mapping[str, Any]) -> Iterator[Any]:
    for offered in _offered(schema.document):
        yield _filled(offered, first)
        yield offered
    for variant in range(_VARIANTS):
        for wanted in (first, {}) if first else ({},):
            try:
                built = _Builder(schema.places, variant).value(("",), tuple(wanted))
            except _TooLarge:
                continue
            yield _filled(built, wanted)
            yield built


def _offered(document: Any) -> list[Any]:
    """What the schema itself has to show."""
    if not isinstance(document, dict):
        return []
    examples = document.get("examples")
    offered = list(examples) if isinstance(examples, list) else []
    return offered + ([document["default"]] if "default" in document else [])


def _filled(value: Any, members: Mapping[str, Any]) -> Any:
    """``value`` with those members that it does not have, at any depth."""
    if not isinstance(value, dict):
        return value
    result = {**members, **value}
    for name, member in members.items():
        if name in value and isinstance(member, dict):
            result[name] = _filled(value[name], member)
    return {name: result[name] for name in chain(value, result) if name in result}


class _TooLarge(Exception):  # noqa: N818 - a verdict
    """The schema asks for more than an example should have."""


class _Parts:
    """The subschemas that a value must match all at once: some, what they refer to, and so on."""

    def __init__(self, places: Places, pointers: Iterable[str], variant: int) -> None:
        seen = set[str]()
        self.nodes = [
            each for pointer in pointers for each in _together(places, pointer, variant, seen)
        ]

    def all(self, keyword: str) -> list[Any]:
        """The arguments of a keyword."""
        return [node[keyword] for _, node in self.nodes if keyword in node]

    def first(self, keyword: str, default: Any = None) -> Any:
        """The first argument of a keyword."""
        return next(iter(self.all(keyword)), default)

    def least(self, keyword: str) -> int:
        """The largest of the lower bounds that a keyword sets, or 0."""
        return int(max(self.all(keyword), default=0))

    def places(self, keyword: str) -> tuple[str, ...]:
        """Where the arguments of a keyword are."""
        return tuple(f"{at}/{keyword}" for at, node in self.nodes if keyword in node)

    def named(self, keyword: str) -> dict[str, tuple[str, ...]]:
        """Where the schemas of a keyword are that has them by name."""
        found: dict[str, tuple[str, ...]] = {}
        for at, node in self.nodes:
            for name in node.get(keyword, ()):
                escaped = name.replace("~", "~0").replace("/", "~1")
                found[name] = (*found.get(name, ()), f"{at}/{keyword}/{escaped}")
        return found


def _together(
    places: Places, pointer: str, variant: int, seen: set[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    node = places.nodes.get(pointer)
    if pointer in seen or not isinstance(node, dict):
        return
    seen.add(pointer)
    yield pointer, node
    inner = [
        places.resolve(pointer, node[each]) for each in ("$ref", "$dynamicRef") if each in node
    ]
    inner += [f"{pointer}/allOf/{at}" for at in range(len(node.get("allOf", ())))]
    for keyword in ("anyOf", "oneOf"):
        if keyword in node:
            inner.append(f"{pointer}/{keyword}/{min(variant, len(node[keyword]) - 1)}")
    branch = "then" if variant else "else"
    inner += [f"{pointer}/{branch}"] if branch in node else []
    for each in inner:
        if each is not None:
            yield from _together(places, each, variant, seen)


class _Builder:
    """Builds one value."""

    def __init__(self, places: Places, variant: int) -> None:
        self._places = places
        self._variant = variant
        self._left = _MAX_VALUES

    def value(self, pointers: tuple[str, ...], wanted: tuple[str, ...] = (), depth: int = 0) -> Any:
        """A value for all the subschemas at ``pointers``, with the members that are wanted."""
        self._left -= 1
        if self._left < 0 or depth > _MAX_DEPTH:
            raise _TooLarge
        parts = _Parts(self._places, pointers, self._variant)
        for keyword in ("const", "default"):
            if depth and parts.all(keyword):
                return parts.first(keyword)
        for keyword in ("enum", "examples"):
            if depth and parts.first(keyword):
                return parts.first(keyword)[0]
        return self._of_type("object" if not depth else _type(parts), parts, wanted, depth)

    def _of_type(self, kind: str, parts: _Parts, wanted: tuple[str, ...], depth: int) -> Any:
        if kind == "object":
            return self._object(parts, wanted, depth)
        if kind == "array":
            return self._array(parts, depth)
        if kind == "string":
            return _string(parts)
        if kind in ("integer", "number"):
            return _number(parts, Decimal(1) if kind == "integer" else Decimal(0))
        return True if kind == "boolean" else None

    def _object(self, parts: _Parts, wanted: tuple[str, ...], depth: int) -> dict[str, Any]:
        known, patterns = parts.named("properties"), parts.named("patternProperties")
        others = parts.places("additionalProperties")
        names = dict.fromkeys(chain(*parts.all("required"), (n for n in wanted if n in known)))
        for dependent in parts.all("dependentRequired"):
            for name in list(names):
                names.update(dict.fromkeys(dependent.get(name, ())))
        missing = max(parts.least("minProperties") - len(names), 0)
        spare = chain(known, (f"property{at}" for at in range(_MAX_ITEMS)))
        extra = islice((name for name in spare if name not in names), min(missing, _MAX_VALUES))
        names.update(dict.fromkeys(list(extra)))
        return {
            name: self._member(
                (*known.get(name, ()), *_matching_places(patterns, name)) or others, depth
            )
            for name in sorted(names, key=[*known, *names].index)
        }

    def _member(self, pointers: tuple[str, ...], depth: int) -> Any:
        return self.value(pointers, (), depth + 1)

    def _array(self, parts: _Parts, depth: int) -> list[Any]:
        contains = parts.places("contains")
        least = max(parts.least("minItems"), int(parts.first("minContains", 1)) if contains else 0)
        if least > _MAX_ITEMS:
            raise _TooLarge
        prefix = [
            tuple(f"{at}/{position}" for at in parts.places("prefixItems"))
            for position in range(len(parts.first("prefixItems", ())))
        ][:least]
        rest = (*contains, *parts.places("items"))
        items = [self._member(each, depth) for each in [*prefix, *[rest] * (least - len(prefix))]]
        if True not in parts.all("uniqueItems"):
            return items
        options = self._options(rest)
        return [_varied(item, at, options) for at, item in enumerate(items)]

    def _options(self, pointers: tuple[str, ...]) -> list[Any]:
        return list(_Parts(self._places, pointers, self._variant).first("enum", ()))


def _varied(item: Any, at: int, options: list[Any]) -> Any:
    """Another value than those at other places."""
    if at < len(options):
        return options[at]
    if isinstance(item, str):
        return f"{item}{at}" if at else item
    return item + at if isinstance(item, (int, float)) and not isinstance(item, bool) else item


def _type(parts: _Parts) -> str:
    found = parts.first("type")
    if isinstance(found, str):
        return found
    if found:
        return str(next((each for each in found if each != "null"), "null"))
    fitting = (
        kind
        for kind, keywords in _TYPES_BY_KEYWORD.items()
        if any(parts.all(keyword) for keyword in keywords)
    )
    return next(fitting, "string")


def _number(parts: _Parts, step: Decimal) -> int | float:
    """The smallest number that is allowed, or 1, in steps of what it must be a multiple of."""
    lows = [*map(_decimal, parts.all("minimum"))]
    above = [*map(_decimal, parts.all("exclusiveMinimum"))]
    highs = [_decimal(each) for each in parts.all("maximum")]
    below = [_decimal(each) for each in parts.all("exclusiveMaximum")]
    multiple = _decimal(parts.first("multipleOf", step))
    gap = multiple or min((Decimal(1), *((b - a) / 2 for a in above for b in (*highs, *below))))
    low = max([*lows, *(each + gap for each in above)], default=None)
    high = min([*highs, *(each - (multiple or 1) for each in below)], default=None)
    number = Decimal(1) if low is None else low
    if low is None and high is not None:
        number = min(number, high)
    if multiple:
        rounded = math.floor if low is None else math.ceil
        number = rounded(number / multiple) * multiple
        number = multiple if not number and low is None and not high else number
    return int(number) if number == number.to_integral_value() else float(number)


def _decimal(number: Any) -> Decimal:
    return number if isinstance(number, Decimal) else Decimal(str(number))


def _string(parts: _Parts) -> str:
    least = parts.least("minLength")
    most = int(min(parts.all("maxLength"), default=_MAX_LENGTH))
    if least > _MAX_LENGTH:
        raise _TooLarge
    pattern = parts.first("pattern")
    if pattern is not None:
        return _Pattern(pattern, least).text()
    text = _FORMATS.get(parts.first("format", ""), "example"[:most])
    return text + "e" * (least - len(text))


def _matching_places(patterns: Mapping[str, tuple[str, ...]], name: str) -> tuple[str, ...]:
    found: list[str] = []
    for pattern, places in patterns.items():
        try:
            matches = validator({"pattern": pattern}, bounded(_PATTERN_STEPS))
        except SchemaError:
            continue
        found += places if matches(name) else ()
    return tuple(found)


_PIECE = re.compile(
    r"\\.|\[\^?\]?(?:[^\]\\]|\\.)*\]|\((?:\?(?:<?[=!]|[:>]|<\w+>))?|\{\d+(?:,\d*)?\}|.", re.DOTALL
)
_CLASSES = {"d": "0", "w": "a", "s": " ", "D": "a", "W": "-", "S": "a", "t": "\t", "n": "\n"}
_ALPHABET = "aA0-_. "


class _Pattern:
    """A text for a simple regular expression: literals, classes, groups and repetitions.

    Each part is repeated as often as it must be, and those without a limit a bit more where the
    text would be too short.
    """

    def __init__(self, pattern: str, least: int) -> None:
        self._pieces: list[str] = _PIECE.findall(pattern)
        self._least = least
        self._at = 0

    def text(self) -> str:
        """A text that may match."""
        return self._sequence()[:_MAX_LENGTH]

    def _sequence(self) -> str:
        """The first alternative up to the end of a group."""
        found: list[str] = []
        taken = True
        while self._at < len(self._pieces) and self._pieces[self._at] != ")":
            if self._pieces[self._at] == "|":
                taken = False
            unit = self._unit()
            repeated = unit * self._times(unit)
            if taken:
                found.append(repeated)
        self._at += 1
        return "".join(found)

    def _unit(self) -> str:
        piece = self._pieces[self._at]
        self._at += 1
        if piece[0] == "(":
            text = self._sequence()
            return "" if piece.endswith(("=", "!")) else text
        if piece[0] == "[" and len(piece) > 1:
            return self._member(piece)
        if piece[0] == "\\":
            return _CLASSES.get(piece[1], "" if piece[1] in "bBAzZ" else piece[1])
        return {"^": "", "$": "", ".": "a", "|": ""}.get(piece, piece)

    def _member(self, piece: str) -> str:
        """A character of a class."""
        inner = piece[1:-1]
        if not inner.startswith("^"):
            return _CLASSES.get(inner[1], inner[1]) if inner[0] == "\\" else inner[0]
        try:
            return next((each for each in _ALPHABET if re.match(piece, each)), "a")
        except re.error:
            return "a"

    def _times(self, unit: str) -> int:
        piece = self._pieces[self._at] if self._at < len(self._pieces) else ""
        if piece not in ("*", "+", "?") and not (piece[:1] == "{" and len(piece) > 1):
            return 1
        self._at += 1
        if self._at < len(self._pieces) and self._pieces[self._at] in ("?", "+"):
            self._at += 1  # lazy or possessive
        longest = -(-self._least // len(unit)) if unit else 1
        if piece in ("*", "+"):
            return min(max(1, longest), _MAX_LENGTH)
        if piece == "?":
            return 0
        low, comma, high = piece[1:-1].partition(",")
        most = int(low) if not comma else int(high or _MAX_LENGTH)
        return min(max(int(low), min(most, longest)), _MAX_LENGTH)
