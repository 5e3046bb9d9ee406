"""The schema of a route: what JsonConverter is told, and what of the data goes with it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings

from ingest.errors import Rejected
from ingest_forward.cast import CHECKS
from ingest_forward.connect_schema import ConnectSchema, compile_schema
from ingest_forward.document import opened, text_of
from ingest_forward.problems import Problems
from tests.ingest_forward.engine import SCHEMAS, Spelled, about, complaints, spelled, texts

TYPES = '"string", "boolean", "int32", "int64", "float32", "float64", "array", "struct"'
CONTRACT = {
    "customer": "string",
    "total": "float64",
    "note": {"type": "string", "optional": True},
}
DEEP = {
    "tags": {"type": "array", "items": "string"},
    "lines": {
        "type": "array",
        "optional": True,
        "items": {"type": "struct", "optional": True, "fields": {"sku": "string", "n": "int32"}},
    },
    "who": {"type": "struct", "fields": {"a/b": {"type": "int64", "optional": True}}},
}


def schema(table: dict[str, Any]) -> ConnectSchema:
    """The schema of a table as in the file."""
    problems = Problems()
    found = compile_schema(table, (), problems)
    assert found is not None, problems.found
    return found


def checked(table: dict[str, Any], data: bytes) -> bytes | str:
    """The fields of the schema in these data, or why there is a mismatch."""
    try:
        payload = schema(table).checked(about(data).data)
    except Rejected as error:
        assert error.code == "schema_mismatch"  # noqa: PT017 - or no error
        return error.detail
    return text_of(payload)


def field(name: str, kind: str, **more: Any) -> dict[str, Any]:
    """A field of a struct in the words of ``JsonSchema``."""
    return {"field": name, "type": kind, "optional": False, **more}


@pytest.mark.parametrize(
    ("table", "fields"),
    [
        (
            CONTRACT,
            [
                field("customer", "string"),
                field("total", "double"),
                field("note", "string", optional=True),
            ],
        ),
        (
            {kind: kind for kind in ("boolean", "int32", "int64", "float32")},
            [
                field("boolean", "boolean"),
                field("int32", "int32"),
                field("int64", "int64"),
                field("float32", "float"),
            ],
        ),
        (
            DEEP,
            [
                field("tags", "array", items={"type": "string", "optional": False}),
                field(
                    "lines",
                    "array",
                    optional=True,
                    items={
                        "type": "struct",
                        "optional": True,
                        "fields": [field("sku", "string"), field("n", "int32")],
                    },
                ),
                field("who", "struct", fields=[field("a/b", "int64", optional=True)]),
            ],
        ),
        ({"grün": "string"}, [field("grün", "string")]),
    ],
)
def test_the_schema_in_the_words_of_jsonconverter(
    table: dict[str, Any], fields: list[dict[str, Any]]
) -> None:
    """A struct with all fields, in their order; a type is not optional unless it says so."""
    wanted = {"type": "struct", "optional": False, "fields": fields}
    assert json.loads(schema(table).text) == wanted


def test_a_record_has_schema_and_payload() -> None:
    """Just these two keys: JsonConverter refuses what has others."""
    made = schema({"total": "float64"})
    payload = made.checked(about(b'{"total":1.50}').data)
    assert made.enveloped(payload) == b'{"schema":' + made.text + b',"payload":{"total":1.50}}'
    assert json.loads(made.enveloped(payload)) == {
        "schema": json.loads(made.text),
        "payload": {"total": 1.5},
    }


@pytest.mark.parametrize(
    ("table", "data", "wanted"),
    [
        (CONTRACT, b'{"customer":"c","total":1.50,"note":"n"}', None),
        (CONTRACT, b'{"customer":"\\u0041\\/","total":1E2}', None),
        (CONTRACT, b'{"customer":"c","total":5,"note":null}', None),
        (
            CONTRACT,
            b'{ "note" : "n" , "x" : {"customer":1} , "total" : 1 , "customer" : "c" }',
            b'{"customer":"c","total":1,"note":"n"}',
        ),
        ({"a": "int32"}, b'{"a":1,"a":2,"b":3}', b'{"a":2}'),
        ({"a": {"type": "int32", "optional": True}}, b"{}", b"{}"),
        ({"a": {"type": "int32", "optional": True}}, b'{"b":1}', b"{}"),
        (
            DEEP,
            b'{"tags":["x"],"lines":[{"n":1,"sku":"s","x":0},null],"who":{"a/b":1,"c":2}}',
            b'{"tags":["x"],"lines":[{"sku":"s","n":1},null],"who":{"a/b":1}}',
        ),
        (DEEP, b'{"tags":[],"lines":null,"who":{}}', None),
        (DEEP, b'{"tags":[],"who":{"a/b":null}}', None),
        ({"": "string"}, b'{"":""}', None),
    ],
)
def test_the_fields_of_the_schema_are_taken(
    table: dict[str, Any], data: bytes, wanted: bytes | None
) -> None:
    """In its order, each as it was sent; others are left out, at any depth (None: none)."""
    assert checked(table, data) == (data if wanted is None else wanted)


@pytest.mark.parametrize(
    ("table", "data", "wanted"),
    [
        (CONTRACT, b'{"total":1}', "/customer: is missing, and not optional"),
        (CONTRACT, b'{"customer":null,"total":1}', "/customer: is null, and not optional"),
        (CONTRACT, b'{"customer":5,"total":1}', "/customer: is no string"),
        (CONTRACT, b'{"customer":"c","total":"1"}', "/total: is no float64"),
        (CONTRACT, b'{"customer":"c","total":1e400}', "/total: is no float64"),
        (CONTRACT, b'{"customer":"c","total":1,"note":1}', "/note: is no string"),
        ({"n": "int32"}, b'{"n":1.0}', "/n: is no int32"),
        ({"n": "int32"}, b'{"n":2147483648}', "/n: is no int32"),
        ({"n": "int64"}, b'{"n":true}', "/n: is no int64"),
        ({"n": "float32"}, b'{"n":16777217}', "/n: is no float32"),
        ({"n": "boolean"}, b'{"n":1}', "/n: is no boolean"),
        ({"n": "string"}, b'{"n":{}}', "/n: is no string"),
        (DEEP, b'{"tags":"x","who":{}}', "/tags: is no array"),
        (DEEP, b'{"tags":{},"who":{}}', "/tags: is no array"),
        (DEEP, b'{"tags":["x",1],"who":{}}', "/tags/1: is no string"),
        (DEEP, b'{"tags":["x",null],"who":{}}', "/tags/1: is null, and not optional"),
        (DEEP, b'{"tags":[],"lines":[{"sku":"s"}],"who":{}}',
         "/lines/0/n: is missing, and not optional"),
        (DEEP, b'{"tags":[],"lines":[[]],"who":{}}', "/lines/0: is no object"),
        (DEEP, b'{"tags":[],"who":[]}', "/who: is no object"),
        (DEEP, b'{"tags":[],"who":{"a/b":"secret"}}', "/who/a~1b: is no int64"),
        (CONTRACT, b"[]", "the data are no object"),
        (CONTRACT, b'"text"', "the data are no object"),
        (CONTRACT, b"null", "the data are no object"),
    ],
)  # fmt: skip
def test_what_does_not_go_with_the_schema(table: dict[str, Any], data: bytes, wanted: str) -> None:
    """It is ``schema_mismatch``, which says where by a pointer, and never the value."""
    assert checked(table, data) == wanted


def test_an_event_without_data_goes_with_no_schema() -> None:
    """Not even where all of it is optional."""
    with pytest.raises(Rejected, match="schema_mismatch"):
        schema({"a": {"type": "int32", "optional": True}}).checked(None)


@pytest.mark.parametrize("table", [CONTRACT, DEEP])
def test_what_was_opened_is_checked_alike(table: dict[str, Any]) -> None:
    """Whether a step has changed something inside a value makes no difference to its check."""
    data = b'{"tags":["x"],"who":{"a/b":1},"customer":"c","total":1,"note":{"x":1}}'
    root = about(data).data
    for name in ("tags", "who", "note"):
        root[name] = opened(root[name])
    wanted = checked(table, data)
    try:
        found: bytes | str = text_of(schema(table).checked(root))
    except Rejected as error:
        found = error.detail
    assert found == wanted


# Against a model.


class MismatchError(Exception):
    """A value is not of its type."""


def conform(value: Any, kind: Any) -> Any:
    """What of a Python value goes with a type of the file."""
    table = {"type": kind} if isinstance(kind, str) else kind
    if value is None:
        if table.get("optional"):
            return None
        raise MismatchError
    if table["type"] == "array" and isinstance(value, list):
        return [conform(each, table["items"]) for each in value]
    if table["type"] == "struct" and isinstance(value, dict):
        return conform_struct(value, table["fields"])
    text = value if isinstance(value, Spelled) else json.dumps(value)
    if table["type"] not in CHECKS or isinstance(value, list | dict):
        raise MismatchError
    if not CHECKS[table["type"]](text.encode()):  # tests/ingest_forward/test_cast.py
        raise MismatchError
    return value


def conform_struct(value: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
    """The fields that are there; those that are missing must be optional."""
    missing = {name: conform(None, fields[name]) for name in fields if name not in value}
    return {name: conform(value[name], fields[name]) for name in fields if name not in missing}


@settings(max_examples=150, deadline=None, derandomize=True)
@given(SCHEMAS, texts(twins=True))
def test_the_check_says_what_the_model_says(table: dict[str, Any], data: bytes) -> None:
    """For any schema and any data: the same fields in the same order, or a mismatch."""
    found = checked(table, data)
    try:
        value = spelled(data)
        if not isinstance(value, dict):
            raise MismatchError  # noqa: TRY301 - the same verdict
        wanted = conform_struct(value, table)
    except MismatchError:
        assert isinstance(found, str)
    else:
        assert isinstance(found, bytes)
        assert spelled(found) == wanted
        assert list(spelled(found)) == [name for name in table if name in value]


@settings(max_examples=120, deadline=None, derandomize=True)
@given(SCHEMAS)
def test_any_schema_is_one_of_jsonconverter(table: dict[str, Any]) -> None:
    """Each part has a type and says whether it is optional; containers say what is in them."""
    assert_connect(json.loads(schema(table).text))


def assert_connect(part: dict[str, Any]) -> None:
    """As ``JsonConverter.asConnectSchema`` reads it."""
    kinds = {"boolean", "int32", "int64", "float", "double", "string"}
    assert isinstance(part["optional"], bool)
    if part["type"] == "struct":
        assert part["fields"]
        for each in part["fields"]:
            assert isinstance(each["field"], str)
            assert_connect(each)
    elif part["type"] == "array":
        assert_connect(part["items"])
    else:
        assert part["type"] in kinds


# The configuration.


@pytest.mark.parametrize(
    ("table", "wanted"),
    [
        ("string", {"": "expected a table"}),
        ({}, {"": "expected a table with something in it"}),
        (
            {"a": "sting", "b": 5, "c": {}},
            {
                "a.type": f'expected one of {TYPES}, did you mean "string"?',
                "b": "expected a table",
                "c": "expected a table with something in it",
            },
        ),
        ({"a": {"optional": True}}, {"a.type": f"expected one of {TYPES}"}),
        (
            {"a": {"type": "int32", "optinal": True}},
            {"a.optinal": 'unknown key, did you mean "optional"?'},
        ),
        ({"a": {"type": "int32", "optional": "yes"}}, {"a.optional": "expected true or false"}),
        ({"a": {"type": "int32", "items": "x"}}, {"a.items": 'means nothing for type "int32"'}),
        (
            {"a": {"type": "array", "items": "int32", "fields": {}}},
            {"a.fields": 'means nothing for type "array"'},
        ),
        ({"a": "array"}, {"a.items": 'is required for type "array"'}),
        ({"a": {"type": "struct"}}, {"a.fields": 'is required for type "struct"'}),
        (
            {"a": {"type": "struct", "fields": {}}},
            {"a.fields": "expected a table with something in it"},
        ),
        (
            {"a": {"type": "array", "items": {"type": "struct", "fields": {"b": "int"}}}},
            {"a.items.fields.b.type": f'expected one of {TYPES}, did you mean "int64"?'},
        ),
    ],
)
def test_what_is_wrong_with_a_schema_is_said(table: Any, wanted: dict[str, str]) -> None:
    """All at once, each with its key, and with what was meant where that is clear."""
    assert complaints(lambda found: compile_schema(table, (), found)) == wanted
