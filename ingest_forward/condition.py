"""Conditions on a record as it was read: a table of the configuration -> a test.

Conditions on what is missing are false, but for ``exists = false``. Pure.
"""

from __future__ import annotations

import json
from math import isfinite
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from ingest_forward.document import ENCODER, find, text_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from ingest.config_problems import KeyPath
    from ingest_forward.document import Tokens
    from ingest_forward.event import Event
    from ingest_forward.problems import Problems

    Test = Callable[[Event], bool]
    Sees = Callable[[Event], bytes | None]
    Compare = Callable[[bytes], bool]

GROUPS = ("all", "any", "not")
OPERATORS = ("equals", "in", "prefix", "exists", "above", "below")
"""What a field can be compared by, one at a time."""
SUBJECTS = ("field", "source", "type", "key", "topic", "header")
_SOURCE = "/sources/"


class Condition(NamedTuple):
    """A condition that can be tested.

    Attributes:
        test: whether it holds for an event.
        text: itself in words, without the values that it compares with.
        reads_value: it looks into the record value.
        parts: the conditions that it is made of.
        sees: the JSON text of what it compares in an event, for people; what that returns is None
            where nothing is there. None: it is made of others.
    """

    test: Test
    text: str
    reads_value: bool
    parts: tuple[Condition, ...] = ()
    sees: Sees | None = None


def compile_condition(value: Any, path: KeyPath, problems: Problems) -> Condition | None:
    """The condition of a table; None, and what is wrong in ``problems``.

    Args:
        value: the table.
        path: where it is in the file.
        problems: takes what is wrong.
    """
    table = problems.table(value, path)
    known = (*GROUPS, *SUBJECTS, *OPERATORS)
    for name in table:
        if name not in known:
            problems.unknown((*path, name), known)
    heads = [name for name in table if name in (*GROUPS, *SUBJECTS)]
    if len(heads) != 1:
        if table and not (len(heads) == 0 and any(name not in known for name in table)):
            problems.add(path, _one_only(heads))
        return None
    head = heads[0]
    for name in table:
        if name in OPERATORS and head not in {"field", "header"}:
            problems.add((*path, name), f"means nothing next to {head}")
    if head in GROUPS:
        return _group(head, table[head], (*path, head), problems)
    return _subject(head, table, path, problems)


def _one_only(heads: list[str]) -> str:
    if heads:
        return f"has {' and '.join(heads)}: combine conditions with all = [ … ] or any = [ … ]"
    return f"expected one of {', '.join((*SUBJECTS, *GROUPS))}"


# all, any, not


def _group(head: str, value: Any, path: KeyPath, problems: Problems) -> Condition | None:
    if head == "not":
        inner = compile_condition(value, path, problems)
        if inner is None:
            return None
        test = inner.test
        return Condition(lambda e: not test(e), "not", inner.reads_value, (inner,))
    if not isinstance(value, list) or not value:
        problems.add(path, "expected a list of conditions")
        return None
    found = [compile_condition(each, (*path, at), problems) for at, each in enumerate(value)]
    parts = tuple(each for each in found if each is not None)
    tests = tuple(part.test for part in parts)
    reads_value = any(part.reads_value for part in parts)
    if head == "all":
        return Condition(lambda e: all(test(e) for test in tests), head, reads_value, parts)
    return Condition(lambda e: any(test(e) for test in tests), head, reads_value, parts)


# Everything else.


def _subject(
    head: str, table: dict[str, Any], path: KeyPath, problems: Problems
) -> Condition | None:
    if head == "field":
        return _field(table, path, problems)
    text = problems.text(table[head], (*path, head))
    if head == "header":
        return _header(text, table, path, problems)
    if text is None:
        return None
    return Condition(_TESTS[head](text), head, head in {"source", "type"}, sees=_SEES[head])


def _of_source(value: str) -> Test:
    either = {value, _SOURCE + value}
    return lambda event: event.envelope.source in either


def _of_type(value: str) -> Test:
    return lambda event: bool(event.envelope.type == value)


def _of_key(value: str) -> Test:
    key = value.encode()
    return lambda event: event.key == key


def _of_topic(value: str) -> Test:
    return lambda event: event.topic == value


_TESTS: dict[str, Callable[[str], Test]] = {
    "source": _of_source,
    "type": _of_type,
    "key": _of_key,
    "topic": _of_topic,
}
_SEES: dict[str, Sees] = {
    "source": lambda event: ENCODER.encode(event.envelope.source),
    "type": lambda event: ENCODER.encode(event.envelope.type),
    "key": lambda event: _shown(event.key),
    "topic": lambda event: ENCODER.encode(event.topic),
}


def _shown(value: bytes | None) -> bytes | None:
    return None if value is None else ENCODER.encode(value.decode(errors="replace"))


def _header(
    name: str | None, table: dict[str, Any], path: KeyPath, problems: Problems
) -> Condition | None:
    for operator in OPERATORS[1:]:
        if operator in table:
            problems.add((*path, operator), "a header is compared by equals only")
    if "equals" not in table:
        problems.add((*path, "equals"), "is required next to header")
        return None
    wanted = table["equals"]
    if not isinstance(wanted, str):
        problems.add((*path, "equals"), "expected text: the values of headers are no JSON")
        return None
    if name is None:
        return None
    value = wanted.encode()
    return Condition(
        lambda event: event.header(name) == value,
        f"header {name}",
        reads_value=False,
        sees=lambda event: _shown(event.header(name)),
    )


def _field(table: dict[str, Any], path: KeyPath, problems: Problems) -> Condition | None:
    tokens = problems.pointer(table["field"], (*path, "field"))
    given = [name for name in OPERATORS if name in table]
    if len(given) != 1:
        text = f"expected one of {', '.join(OPERATORS)}"
        both = f", not {' and '.join(given)}: combine them with all = [ … ]" if given else ""
        problems.add(path, text + both + " next to field" * (not given))
        return None
    (operator,) = given
    where = (*path, operator)
    compare = _compare(operator, table[operator], where, problems)
    if tokens is None or compare is None:
        return None
    text = f"{table['field']} {operator}"
    if operator == "exists":
        test = _exists(tokens, wanted=table[operator])
        text += "" if table[operator] else " = false"
    else:
        test = _compared(tokens, compare)
    return Condition(test, text, reads_value=True, sees=_found(tokens))


def _found(tokens: Tokens) -> Sees:
    def sees(event: Event) -> bytes | None:
        node = find(event.data, tokens)
        return None if node is None else text_of(node)

    return sees


def _exists(tokens: Tokens, *, wanted: bool) -> Test:
    return lambda event: (find(event.data, tokens) is not None) is wanted


def _compared(tokens: Tokens, compare: Compare) -> Test:
    def test(event: Event) -> bool:
        node = find(event.data, tokens)
        return node is not None and compare(text_of(node))

    return test


def _compare(operator: str, value: Any, path: KeyPath, problems: Problems) -> Compare | None:
    """What compares the JSON text of a field."""
    match operator:
        case "equals":
            return _equals(value, path, problems)
        case "in":
            return _in(value, path, problems)
        case "prefix":
            return _prefix(problems.text(value, path))
        case "exists":
            if not isinstance(value, bool):
                problems.add(path, "expected true or false")
                return None
            return lambda _: True
    return _bound(operator, value, path, problems)


def _equals(value: Any, path: KeyPath, problems: Problems) -> Compare | None:
    if not is_json(value):
        problems.add(path, "expected a JSON value: text, a number, true, false, a list or a table")
        return None
    if isinstance(value, str):
        return _equals_text(value)
    return lambda text: same(value, _decoded(text))


def _equals_text(value: str) -> Compare:
    plain = b'"%b"' % value.encode()
    return lambda text: text == plain or (b"\\" in text and same(value, _decoded(text)))


def _in(value: Any, path: KeyPath, problems: Problems) -> Compare | None:
    if not isinstance(value, list) or not value:
        problems.add(path, "expected a list of values")
        return None
    found = [_equals(each, (*path, at), problems) for at, each in enumerate(value)]
    tests = [each for each in found if each is not None]
    return lambda text: any(test(text) for test in tests)


def _prefix(value: str | None) -> Compare | None:
    if value is None:
        return None
    return lambda text: text.startswith(b'"') and str(_decoded(text)).startswith(value)


def _bound(operator: str, value: Any, path: KeyPath, problems: Problems) -> Compare | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not is_json(value):
        problems.add(path, "expected a number")
        return None
    above = operator == "above"

    def compare(text: bytes) -> bool:
        if text[0] not in b"-0123456789":
            return False
        number = _decoded(text)
        return bool(number > value) if above else bool(number < value)

    return compare


def _decoded(text: bytes) -> Any:
    """A JSON value; numbers that nothing here can hold come out as infinite, as they compare."""
    try:
        return msgspec.json.decode(text)
    except msgspec.ValidationError:  # out of a float's range, or of 4300 digits
        return json.loads(text, parse_int=float)


def is_json(value: Any) -> bool:
    """Whether a value of the configuration can be written as JSON; dates cannot."""
    if isinstance(value, dict):
        return all(map(is_json, value.values()))
    if isinstance(value, list):
        return all(map(is_json, value))
    if isinstance(value, float):
        return isfinite(value)
    return isinstance(value, str | int)


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal: 1 equals 1.0, but neither "1" nor true."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return one == other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    return type(one) is type(other) and bool(one == other)
