"""Conditions: which records hold, and what is wrong with a condition that is none."""

from __future__ import annotations

import json
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings

from ingest.sources import pointer_tokens
from ingest_forward.condition import compile_condition, same
from ingest_forward.problems import Problems
from tests.ingest_forward.engine import (
    CONDITIONS,
    about,
    complaints,
    event,
    outcome,
    route,
    sealed,
    texts,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from ingest_forward.event import Event

ONE_OF = "field, source, type, key, topic, header, all, any, not"
OPERATORS = "equals, in, prefix, exists, above, below"
NOT_BOTH = "not above and below: combine them with all = [ … ]"
A_POINTER = 'expected a JSON Pointer such as "/customer_id" (RFC 6901)'


def holds(condition: dict[str, Any], record: Event) -> bool:
    """Whether a route with this condition takes a record."""
    return route(where=condition).takes(record)


@pytest.mark.parametrize(
    ("operator", "value", "texts_that_hold", "texts_that_do_not"),
    [
        ("equals", "a", [b'"a"', b'"\\u0061"'], [b'"b"', b'"A"', b'"a "', b"null", b'["a"]']),
        ("equals", "a/b", [b'"a/b"', b'"a\\/b"'], [b'"a\\\\/b"']),
        ("equals", "gr\u00fcn", ['"grün"'.encode(), b'"gr\\u00fcn"'], [b'"gr\\u00fc"']),
        ("equals", "", [b'""'], [b"null", b"0", b"false", b'" "']),
        ("equals", 'q"\\', [b'"q\\"\\\\"', b'"q\\u0022\\\\"'], [b'"q"']),
        ("equals", 1, [b"1", b"1.0", b"1e0", b"10e-1", b"0.1E1"], [b'"1"', b"true", b"1.1", b"-1"]),
        ("equals", 1.0, [b"1", b"1.0"], [b'"1.0"', b"true"]),
        ("equals", 0, [b"0", b"-0", b"0.0", b"-0.0e5"], [b"false", b"null", b'""', b'"0"', b"[]"]),
        ("equals", 0.1, [b"0.1", b"1e-1", b"0.10"], [b"0.2", b'"0.1"']),
        ("equals", 2**53 + 1, [b"9007199254740993"], [b"9007199254740992", b"9007199254740994"]),
        ("equals", 10**30, [b"1" + b"0" * 30], [b"1" + b"0" * 29 + b"1"]),
        ("equals", True, [b"true"], [b"1", b"1.0", b'"true"', b"false", b"null"]),
        ("equals", False, [b"false"], [b"0", b'""', b"null"]),
        ("equals", [1, "a"], [b'[1,"a"]', b'[ 1.0 , "\\u0061" ]'], [b'["a",1]', b"[1]", b"{}"]),
        ("equals", [], [b"[]", b"[ ]"], [b"{}", b"[[]]", b"null"]),
        ("equals", [True], [b"[true]"], [b"[1]"]),
        ("equals", {"x": 1, "y": {"z": [0]}}, [b'{"y":{"z":[0.0]},"x":1.0}'],
         [b'{"x":1}', b'{"x":1,"y":{"z":[false]}}', b'{"x":1,"y":{"z":[0]},"w":2}']),
        ("equals", {}, [b"{}"], [b"[]", b'{"x":null}']),
        ("equals", 1, [], [b"1e400", b"-1e400", b"1" * 400, b"1" * 5000, b"[1e400]"]),
        ("in", ["a", 1, True], [b'"a"', b"1.0", b"true"], [b'"1"', b'"true"', b"0", b"false"]),
        ("in", [[1]], [b"[1]"], [b"1", b"[[1]]"]),
        ("in", ["a"], [], [b'["a"]', b"1e400", b"null"]),
        ("prefix", "ab", [b'"ab"', b'"abc"', b'"\\u0061bc"'], [b'"a"', b'"xab"', b'"AB"', b"null"]),
        ("prefix", "1", [b'"1"', b'"12"'], [b"1", b"12", b"[1]", b"1e400"]),
        ("prefix", "gr\u00fc", ['"grün"'.encode(), b'"gr\\u00fcn"'], [b'"gru"']),
        ("prefix", "{", [b'"{}"'], [b"{}"]),
        ("exists", True, [b"1", b"null", b'""', b"{}", b"false"], []),
        ("exists", False, [], [b"1", b"null", b'""', b"{}", b"false"]),
        ("above", 1, [b"1.1", b"2", b"1e400", b"1" * 5000], [b"1", b"1.0", b"0", b"-2", b"-1e400"]),
        ("above", 0, [b"1e-300", b"1"], [b"-0.0", b"0", b'"1"', b"true", b"null", b"[1]", b"{}"]),
        ("above", -1.5, [b"-1.4", b"-1", b"0"], [b"-1.5", b"-2"]),
        ("above", 2**53, [b"9007199254740993"], [b"9007199254740992"]),
        ("above", 10**400, [b"1" + b"0" * 399 + b"1" + b"0"], [b"1", b"9" * 400]),
        ("below", 1, [b"0.9", b"0", b"-5", b"-1e400", b"-" + b"1" * 5000], [b"1", b"1.0", b"2"]),
        ("below", 1, [], [b'"0"', b"false", b"null", b"[]", b"{}", b'""', b"1e400"]),
        ("below", 0, [b"-1e-300"], [b"0", b"-0.0", b'"-1"', b'"a"']),
    ],
)  # fmt: skip
def test_a_field_is_compared(
    operator: str, value: Any, texts_that_hold: list[bytes], texts_that_do_not: list[bytes]
) -> None:
    """By JSON values: 1 equals 1.0, but not "1" nor true; above and below match numbers only."""
    condition = {"field": "/a/b", operator: value}
    for text in texts_that_hold:
        assert holds(condition, about(b'{"a":{"b":%b}}' % text)), text
    for text in texts_that_do_not:
        assert not holds(condition, about(b'{"a":{"b":%b}}' % text)), text


@pytest.mark.parametrize(
    ("operator", "value", "wanted"),
    [
        ("equals", "a", False),
        ("equals", {}, False),
        ("in", ["a", 0, False], False),
        ("prefix", "a", False),
        ("exists", True, False),
        ("exists", False, True),
        ("above", -1, False),
        ("below", 1, False),
    ],
)
@pytest.mark.parametrize("data", [b"{}", b'{"a":{}}', b'{"a":null}', b'{"a":"b"}', b"[]", b"5"])
def test_what_is_missing_holds_for_nothing(
    operator: str,
    value: Any,
    wanted: bool,  # noqa: FBT001
    data: bytes,
) -> None:
    """But for ``exists = false``; the same where there are no data at all."""
    assert holds({"field": "/a/b", operator: value}, about(data)) is wanted
    no_data = event(sealed(b"0").replace(b',"data":0', b""))
    assert holds({"field": "/a/b", operator: value}, no_data) is wanted


@pytest.mark.parametrize(
    ("field", "data", "wanted"),
    [
        ("/a~1b", b'{"a/b":1}', True),
        ("/~01", b'{"~1":1}', True),
        ("/", b'{"":1}', True),
        ("/l/1", b'{"l":[0,1]}', True),
        ("/l/01", b'{"l":[0,1]}', False),
        ("/0", b"[1]", True),
        ("/a", b'{"a":2,"a":1}', True),
        ("/a", b'{"a":1,"a":2}', False),
        ("/x y", b'{"x y":1}', True),
    ],
)
def test_a_field_is_found_by_its_pointer(field: str, data: bytes, wanted: bool) -> None:  # noqa: FBT001
    """Into objects and arrays; of members with one name the last counts."""
    assert holds({"field": field, "equals": 1}, about(data)) is wanted


RECORD = event(sealed(b'{"a":1}'), "orders", b"k", [("h", b"old"), ("h", b"v"), ("n", None)])


@pytest.mark.parametrize(
    ("condition", "wanted"),
    [
        ({"source": "web"}, True),
        ({"source": "/sources/web"}, True),
        ({"source": "we"}, False),
        ({"source": "/web"}, False),
        ({"type": "order.created"}, True),
        ({"type": "order"}, False),
        ({"topic": "orders"}, True),
        ({"topic": "order"}, False),
        ({"key": "k"}, True),
        ({"key": "K"}, False),
        ({"header": "h", "equals": "v"}, True),
        ({"header": "h", "equals": "old"}, False),
        ({"header": "H", "equals": "v"}, False),
        ({"header": "n", "equals": ""}, False),
        ({"header": "x", "equals": ""}, False),
        ({"all": [{"key": "k"}, {"topic": "orders"}]}, True),
        ({"all": [{"key": "k"}, {"topic": "x"}]}, False),
        ({"any": [{"key": "x"}, {"topic": "orders"}]}, True),
        ({"any": [{"key": "x"}, {"topic": "x"}]}, False),
        ({"not": {"key": "k"}}, False),
        ({"not": {"key": "x"}}, True),
        ({"not": {"field": "/x", "equals": 1}}, True),
        ({"not": {"field": "/x", "exists": False}}, False),
        ({"all": [{"not": {"any": [{"key": "x"}]}}, {"field": "/a", "equals": 1}]}, True),
    ],
)
def test_a_record_is_compared(condition: dict[str, Any], wanted: bool) -> None:  # noqa: FBT001
    """By what it is and by its attributes, and conditions can be combined."""
    assert holds(condition, RECORD) is wanted


def test_a_null_key_equals_no_text() -> None:
    """Nor do other bytes."""
    assert not holds({"key": "k"}, event(b"", key=None))
    assert not holds({"key": "k"}, event(b"", key=b"\xff"))
    assert holds({"key": "gr\u00fcn"}, event(b"", key="grün".encode()))


READS_VALUE = {
    "field": {"field": "/a", "exists": False},
    "source": {"source": "web"},
    "type": {"type": "t"},
}
READS_NONE = {
    "key": {"key": "k"},
    "topic": {"topic": "orders"},
    "header": {"header": "h", "equals": "v"},
}


@pytest.mark.parametrize("condition", READS_VALUE.values(), ids=READS_VALUE)
@pytest.mark.parametrize("around", ["", "not", "all", "any"])
def test_null_values_are_not_for_conditions_on_what_is_in_them(
    condition: dict[str, Any], around: str
) -> None:
    """Nor where such a condition is one of several, or is to be false."""
    combined = {
        "": condition,
        "not": {"not": condition},
        "all": {"all": [{"topic": "orders"}, {"not": condition}]},
        "any": {"any": [{"topic": "orders"}, condition]},
    }[around]
    assert not holds(combined, event(None, "orders", b"k", [("h", b"v")]))


@pytest.mark.parametrize("condition", READS_NONE.values(), ids=READS_NONE)
def test_null_values_are_for_conditions_on_what_is_around_them(condition: dict[str, Any]) -> None:
    """On topic, key and header, alone or combined, and for none at all."""
    record = event(None, "orders", b"k", [("h", b"v")])
    assert holds(condition, record)
    assert holds({"all": [condition, {"any": [{"not": {"not": condition}}]}]}, record)
    assert not holds({"not": condition}, record)
    assert route().takes(record)


@pytest.mark.parametrize("condition", READS_VALUE.values(), ids=READS_VALUE)
@pytest.mark.parametrize(
    ("value", "code"), [(b"{", "invalid_json"), (b"{}", "not_cloudevents"), (b"", "invalid_json")]
)
def test_what_cannot_be_looked_into_is_rejected(
    condition: dict[str, Any], value: bytes, code: str
) -> None:
    """By conditions that look; those on what is around the value take it."""
    assert outcome(route(where=condition), event(value)) == code
    for other in READS_NONE.values():
        assert holds({"not": {"not": other}}, event(value, "orders", b"k", [("h", b"v")]))


def test_a_condition_looks_no_further_than_it_must() -> None:
    """The first one that decides is enough, also where the next could not look."""
    bad = event(b"{", "orders")
    assert holds({"any": [{"topic": "orders"}, {"type": "t"}]}, bad)
    assert not holds({"all": [{"topic": "x"}, {"type": "t"}]}, bad)


def test_a_condition_says_what_it_is_without_its_values() -> None:
    """They may be secrets."""
    parts = [{"field": "/a", "equals": "hunter2"}, {"header": "h", "equals": "hunter2"}]
    problems = Problems()
    found = compile_condition({"all": [*parts, {"not": {"key": "hunter2"}}]}, (), problems)
    assert found is not None
    assert (found.text, [each.text for each in found.parts]) == (
        "all",
        ["/a equals", "header h", "not"],
    )
    assert found.parts[2].parts[0].text == "key"


# Against a model.


def canonical(value: Any) -> Any:
    """A Python value that equals another just where the JSON values are equal."""
    if isinstance(value, dict):
        return {name: canonical(each) for name, each in value.items()}
    if isinstance(value, list):
        return [canonical(each) for each in value]
    kind = "number" if type(value) in {int, float} else type(value).__name__
    return kind, value


def loads(text: bytes) -> Any:
    """A JSON value; whole numbers beyond Python's limit are infinite."""
    return json.loads(
        text, parse_int=lambda digits: int(digits) if len(digits) < 999 else float(digits)
    )


def value_at(node: Any, pointer: str) -> list[Any]:
    """What is at a pointer, in a list that is empty where nothing is."""
    for token in pointer_tokens(pointer):
        if isinstance(node, list):
            node = {str(at): each for at, each in enumerate(node)}
        if not isinstance(node, dict) or token not in node:
            return []
        node = node[token]
    return [node]


COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "equals": lambda node, value: bool(canonical(node) == canonical(value)),
    "in": lambda node, values: canonical(node) in [canonical(value) for value in values],
    "prefix": lambda node, value: isinstance(node, str) and node.startswith(value),
    "above": lambda node, value: type(node) in {int, float} and bool(node > value),
    "below": lambda node, value: type(node) in {int, float} and bool(node < value),
}


def field_holds(condition: dict[str, Any], data: Any) -> bool:
    """The model of a condition on a field."""
    found = value_at(data, condition["field"])
    if "exists" in condition:
        return bool(found) is condition["exists"]
    (operator,) = condition.keys() & COMPARE.keys()
    return any(COMPARE[operator](node, condition[operator]) for node in found)


def record_holds(condition: dict[str, Any], data: Any) -> bool:
    """The model of any condition on the records that are drawn."""
    match condition:
        case {"all": parts}:
            return all(record_holds(part, data) for part in parts)
        case {"any": parts}:
            return any(record_holds(part, data) for part in parts)
        case {"not": part}:
            return not record_holds(part, data)
        case {"field": _}:
            return field_holds(condition, data)
    known = {"type": "order.created", "key": "k", "topic": "orders", "header": "h"}
    if "source" in condition:
        return condition["source"] in {"web", "/sources/web"}
    head = next(name for name in condition if name in known)
    return condition[head] == known[head] and condition.get("equals", "v") == "v"


@settings(max_examples=250, deadline=None, derandomize=True)
@given(CONDITIONS, texts(twins=True))
def test_conditions_hold_where_the_model_does(condition: dict[str, Any], data: bytes) -> None:
    """For any conditions, and any JSON."""
    record = event(sealed(data), "orders", b"k", [("h", b"v")])
    assert holds(condition, record) == record_holds(condition, loads(data))


@settings(max_examples=120, deadline=None, derandomize=True)
@given(texts(), texts())
def test_values_are_the_same_as_in_the_model(one: bytes, other: bytes) -> None:
    """Each as itself, and in either order."""
    a, b = loads(one), loads(other)
    assert same(a, a)
    assert same(a, b) == same(b, a) == (canonical(a) == canonical(b))


# The configuration.


@pytest.mark.parametrize(
    ("condition", "wanted"),
    [
        ("a == 1", {"": "expected a table"}),
        ({}, {"": "expected a table with something in it"}),
        ({"feild": "/a", "equals": 1}, {"feild": 'unknown key, did you mean "field"?'}),
        ({"typ": "x"}, {"typ": 'unknown key, did you mean "type"?'}),
        ({"equals": 1}, {"": f"expected one of {ONE_OF}"}),
        (
            {"type": "a", "source": "b"},
            {"": "has type and source: combine conditions with all = [ … ] or any = [ … ]"},
        ),
        ({"type": "a", "equals": "b"}, {"equals": "means nothing next to type"}),
        ({"all": [{"key": "k"}], "exists": True}, {"exists": "means nothing next to all"}),
        ({"field": "/a"}, {"": f"expected one of {OPERATORS} next to field"}),
        (
            {"field": "/a", "above": 1, "below": 3},
            {"": f"expected one of {OPERATORS}, {NOT_BOTH}"},
        ),
        ({"field": "a", "equals": 1}, {"field": A_POINTER + ', did you mean "/a"?'}),
        ({"field": "", "equals": 1}, {"field": A_POINTER}),
        ({"field": "/a~2", "exists": 1}, {"field": A_POINTER, "exists": "expected true or false"}),
        ({"field": "/a", "in": 5}, {"in": "expected a list of values"}),
        ({"field": "/a", "in": []}, {"in": "expected a list of values"}),
        (
            {"field": "/a", "in": [1, date(2026, 1, 1)]},
            {"in[1]": "expected a JSON value: text, a number, true, false, a list or a table"},
        ),
        (
            {"field": "/a", "equals": float("nan")},
            {"equals": "expected a JSON value: text, a number, true, false, a list or a table"},
        ),
        ({"field": "/a", "prefix": 5}, {"prefix": "expected some text"}),
        ({"field": "/a", "prefix": ""}, {"prefix": "expected some text"}),
        ({"field": "/a", "above": "5"}, {"above": "expected a number"}),
        ({"field": "/a", "above": True}, {"above": "expected a number"}),
        ({"field": "/a", "below": float("inf")}, {"below": "expected a number"}),
        ({"source": 5}, {"source": "expected some text"}),
        ({"type": ""}, {"type": "expected some text"}),
        ({"key": ["k"]}, {"key": "expected some text"}),
        ({"topic": None}, {"topic": "expected some text"}),
        ({"header": "h"}, {"equals": "is required next to header"}),
        (
            {"header": "h", "equals": 5},
            {"equals": "expected text: the values of headers are no JSON"},
        ),
        (
            {"header": "h", "prefix": "v"},
            {
                "prefix": "a header is compared by equals only",
                "equals": "is required next to header",
            },
        ),
        ({"header": 5, "equals": "v"}, {"header": "expected some text"}),
        ({"all": {"key": "k"}}, {"all": "expected a list of conditions"}),
        ({"any": []}, {"any": "expected a list of conditions"}),
        ({"not": [{"key": "k"}]}, {"not": "expected a table"}),
        (
            {"all": [{"key": 5}, {"any": [{"not": {"field": "a", "equals": 1}}, "x"]}, {}]},
            {
                "all[0].key": "expected some text",
                "all[1].any[0].not.field": A_POINTER + ', did you mean "/a"?',
                "all[1].any[1]": "expected a table",
                "all[2]": "expected a table with something in it",
            },
        ),
    ],
)
def test_what_is_wrong_with_a_condition_is_said(condition: Any, wanted: dict[str, str]) -> None:
    """All at once, each with its key, and with what was meant where that is clear."""
    assert complaints(lambda found: compile_condition(condition, (), found)) == wanted
