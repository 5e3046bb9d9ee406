"""Examples for people to copy: whatever is shown is accepted."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.schema import Schema
from ingest.schema_example import MAX_BYTES, example
from ingest.schema_words import SchemaError


def schema_of(document: Any) -> Schema:
    """A schema from its parsed form."""
    return Schema(json.dumps(document).encode())


def member(document: Any) -> dict[str, Any]:
    """The schema of an object that needs one member."""
    return {"type": "object", "required": ["a"], "properties": {"a": document}}


@pytest.mark.parametrize(
    ("document", "text"),
    [
        (True, "{}"),
        ({}, "{}"),
        ({"properties": {"a": {"type": "integer"}}}, "{}"),
        (member({"type": "integer"}), '{"a":1}'),
        (member({"type": "integer", "minimum": 5}), '{"a":5}'),
        (member({"type": "integer", "minimum": 5.5}), '{"a":6}'),
        (member({"type": "integer", "exclusiveMinimum": 5}), '{"a":6}'),
        (member({"type": "integer", "multipleOf": 7, "minimum": 10}), '{"a":14}'),
        (member({"type": "integer", "multipleOf": 10}), '{"a":10}'),
        (member({"type": "integer", "maximum": -5}), '{"a":-5}'),
        (member({"type": "number", "exclusiveMaximum": -5}), '{"a":-6}'),
        (member({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}), '{"a":0.5}'),
        (member({"minimum": 0.1, "multipleOf": 0.05}), '{"a":0.1}'),
        (member({"type": "boolean"}), '{"a":true}'),
        (member({"type": "null"}), '{"a":null}'),
        (member({"type": ["null", "boolean"]}), '{"a":true}'),
        (member({"type": "string"}), '{"a":"example"}'),
        (member(True), '{"a":"example"}'),
        (member({"minLength": 9}), '{"a":"exampleee"}'),
        (member({"minLength": 2.0, "maxLength": 3.0}), '{"a":"exa"}'),
        (member({"const": {"é": [1.5]}}), '{"a":{"é":[1.5]}}'),
        (member({"enum": ["EUR", "USD"]}), '{"a":"EUR"}'),
        (member({"type": "string", "examples": ["x1", "x2"]}), '{"a":"x1"}'),
        (member({"type": "string", "default": "y"}), '{"a":"y"}'),
        (member({"pattern": "^[A-Z]{3}$"}), '{"a":"AAA"}'),
        (member({"pattern": "^c-[0-9]+$", "minLength": 4}), '{"a":"c-0000"}'),
        (member({"pattern": r"^\d{4}-(?:Q[1-4]|H\d)$"}), '{"a":"0000-Q1"}'),
        (member({"pattern": r"^(?!x)[^a]\w?\.(?<n>b|c)*$"}), '{"a":"A.b"}'),
        (member({"type": "array"}), '{"a":[]}'),
        (member({"items": {"type": "integer"}, "minItems": 2}), '{"a":[1,1]}'),
        (
            member({"items": {"type": "integer"}, "minItems": 3, "uniqueItems": True}),
            '{"a":[1,2,3]}',
        ),
        (
            member({"items": {"enum": ["x", "y"]}, "minItems": 2, "uniqueItems": True}),
            '{"a":["x","y"]}',
        ),
        (
            member({"prefixItems": [{"type": "string"}, {"const": 7}], "minItems": 2}),
            '{"a":["example",7]}',
        ),
        (member({"type": "array", "contains": {"const": 5}, "minContains": 2}), '{"a":[5,5]}'),
        (
            {"required": ["b", "a"], "properties": {"a": member(True), "b": {"type": "null"}}},
            '{"a":{"a":"example"},"b":null}',
        ),
        ({"required": ["a/~b"], "properties": {"a/~b": {"const": 1}}}, '{"a/~b":1}'),
        (
            member({"$ref": "#/$defs/x"}) | {"$defs": {"x": member({"type": "null"})}},
            '{"a":{"a":null}}',
        ),
        (
            member({"$ref": "#x"}) | {"$defs": {"x": {"$anchor": "x", "const": 3}}},
            '{"a":3}',
        ),
        (
            {"allOf": [member({"minimum": 3}), member({"minimum": 5}), {"required": ["b"]}]},
            '{"a":5,"b":"example"}',
        ),
        ({"anyOf": [member({"type": "null"}), {"required": ["b"]}]}, '{"a":null}'),
        ({"oneOf": [{"type": "string"}, member({"const": 2})]}, '{"a":2}'),
        ({"anyOf": [False, False, member({"const": 2})]}, '{"a":2}'),
        (member({"anyOf": [{"$ref": "#"}, {"type": "null"}]}), '{"a":null}'),
        ({"properties": {"a": {"$ref": "#"}}}, "{}"),
        ({"minProperties": 2, "properties": {"x": {"const": 1}}}, '{"x":1,"property0":"example"}'),
        ({"minProperties": 1, "additionalProperties": {"type": "null"}}, '{"property0":null}'),
        ({"required": ["x-1"], "patternProperties": {"^x-": {"const": 1}}}, '{"x-1":1}'),
        ({"required": ["a"], "dependentRequired": {"a": ["b"]}}, '{"a":"example","b":"example"}'),
        (
            {"if": member({"const": 1}), "then": {"required": ["z"]}, **member({"const": 1})},
            '{"a":1,"z":"example"}',
        ),
        ({"examples": [5, {"q": 1}, {"q": 2}], "required": ["q"]}, '{"q":1}'),
        ({"examples": [{"p": 1}], "default": {"q": 2}, "required": ["q"]}, '{"q":2}'),
    ],
)
def test_an_example_is_made_from_what_the_schema_says(document: Any, text: str) -> None:
    """The expected text, compact, and accepted."""
    schema = schema_of(document)
    found = example(schema)
    assert found == text.encode()
    assert schema.check(found) is None


@pytest.mark.parametrize(
    "format_name",
    [
        *("date-time", "date", "time", "duration", "email", "idn-email", "hostname"),
        *("idn-hostname", "ipv4", "ipv6", "uri", "uri-reference", "iri", "iri-reference"),
        *("uri-template", "uuid", "json-pointer", "relative-json-pointer", "regex"),
    ],
)
def test_every_format_of_the_standard_has_an_example(format_name: str) -> None:
    """What is enforced can also be shown."""
    assert example(schema_of(member({"type": "string", "format": format_name}))) is not None


@pytest.mark.parametrize(
    "document",
    [
        False,
        {"type": "string"},
        {"not": {}},
        member({"$ref": "#"}),
        member({"type": "array", "minItems": 1000}),
        member({"minLength": 10**6}),
        member({"not": {"type": "string"}}),
        member({"pattern": "^[^\\d\\D]$"}),
        {"minProperties": 500},
        {"examples": [{"a": "x" * MAX_BYTES}], **member({"minLength": MAX_BYTES})},
    ],
)
def test_where_nothing_is_found_there_is_no_example(document: Any) -> None:
    """Schemas that accept no object, or none that building knows how to make or should make."""
    assert example(schema_of(document)) is None


@pytest.mark.parametrize(
    ("document", "first", "text"),
    [
        (True, {"k": "k-17"}, '{"k":"k-17"}'),
        (member({"type": "null"}), {"k": 1}, '{"a":null,"k":1}'),
        ({"properties": {"k": {"type": "integer"}}}, {"k": "x"}, '{"k":1}'),
        (
            {"properties": {"k": {"properties": {"l": True}, "required": ["m"]}}},
            {"k": {"l": 5}},
            '{"k":{"m":"example","l":5}}',
        ),
        ({"properties": {"a": True}, "additionalProperties": False}, {"k": 1}, "{}"),
        ({"examples": [{"q": 1}]}, {"k": 2, "q": 3}, '{"q":1,"k":2}'),
        ({"examples": [{"q": 1}], "maxProperties": 1}, {"k": 2}, '{"q":1}'),
        ({"properties": {"k": False}}, {"k": 1}, "{}"),
    ],
)
def test_wanted_members_are_there_where_the_schema_allows_them(
    document: Any, first: dict[str, Any], text: str
) -> None:
    """With the schema's own value for them if it has one, and left out where forbidden."""
    assert example(schema_of(document), first) == text.encode()


def test_schemas_that_grow_without_end_are_given_up_soon() -> None:
    """Depth, number of values and repeated parts are bounded."""
    wide = {
        "type": "object",
        "required": ["a", "b", "c"],
        "additionalProperties": {"$ref": "#"},
    }
    shared: dict[str, Any] = {
        f"d{at}": {"allOf": [{"$ref": f"#/$defs/d{at + 1}"}] * 2} for at in range(17)
    }
    shared["d17"] = {"required": ["a"]}
    start = time.thread_time()
    assert example(schema_of(wide)) is None
    assert example(schema_of({"$ref": "#/$defs/d0", "$defs": shared})) == b'{"a":"example"}'
    assert time.thread_time() - start < 1


NUMBERS = st.sampled_from([-7, 0, 1, 2.0, 2.5, 1e-300, 1e300, 10**40])
COUNTS = st.sampled_from([0, 1, 2, 3.0, 10**30])
SOUP = st.recursive(
    st.booleans() | st.just({}),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["object", "array", "string", "integer", ["null", "number"]]),
            "properties": st.dictionaries(st.sampled_from("ab/~"), inner, max_size=2),
            "patternProperties": st.dictionaries(st.sampled_from(["^a", "\\p{L}"]), inner),
            "additionalProperties": inner,
            "required": st.lists(st.sampled_from("ab/"), unique=True),
            "minProperties": COUNTS,
            "items": inner,
            "prefixItems": st.lists(inner, min_size=1, max_size=2),
            "contains": inner,
            "minContains": COUNTS,
            "minItems": COUNTS,
            "uniqueItems": st.booleans(),
            "minLength": COUNTS,
            "maxLength": COUNTS,
            "pattern": st.sampled_from(["^(a|b)+?$", "\\p{L}{2,}", "[]a]", "[^\\W]{3}", "(?=a)"]),
            "format": st.sampled_from(["date", "own"]),
            "minimum": NUMBERS,
            "maximum": NUMBERS,
            "exclusiveMinimum": NUMBERS,
            "exclusiveMaximum": NUMBERS,
            "multipleOf": st.sampled_from([1, 0.1, 1e-300, 1e300]),
            "enum": st.lists(st.integers(0, 3), max_size=2),
            "examples": st.lists(st.integers(0, 3), max_size=2),
            "$ref": st.sampled_from(["#", "#/$defs/x"]),
            "$defs": st.fixed_dictionaries({"x": inner}),
            "allOf": st.lists(inner, min_size=1, max_size=2),
            "anyOf": st.lists(inner, min_size=1, max_size=2),
            "if": inner,
            "then": inner,
        },
    ),
    max_leaves=6,
)


@settings(max_examples=600, deadline=None)
@given(SOUP, st.sampled_from([None, {"a": 1}, {"k": {"l": "x"}}]))
def test_any_schema_gets_an_accepted_example_or_none(
    document: Any, first: dict[str, Any] | None
) -> None:
    """Never an exception, never an example that is refused, and always the same one."""
    try:
        schema = schema_of(document)
    except SchemaError:
        return
    found = example(schema, first)
    assert found is None or schema.check(found) is None
    assert found is None or isinstance(json.loads(found), dict)
    assert found == example(schema, first)


def test_no_pattern_of_a_schema_takes_long() -> None:
    """An example is made whenever somebody asks."""
    document = {
        "type": "object",
        "required": ["a" * 36 + "!"],
        "patternProperties": {"^(a+)+$": {"type": "string"}},
    }
    begun = time.thread_time()
    assert example(Schema(json.dumps(document).encode())) is not None
    assert time.thread_time() - begun < 0.5
