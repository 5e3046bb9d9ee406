"""JSON Schema: what is accepted as a schema, what it says about events, and what it costs."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from decimal import Decimal
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ingest.schema import Schema
from ingest.schema_places import DIALECT
from ingest.schema_reason import MAX_DETAIL
from ingest.schema_words import SchemaError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NAMES = st.text("ab/~é", max_size=3)
ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(10**20, 10**25)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
TREE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "anyOf": [
                {"type": "integer"},
                {"type": "object", "additionalProperties": {"$ref": "#/$defs/node"}},
                {"type": "array", "items": {"$ref": "#/$defs/node"}},
            ]
        }
    },
}


def schema_of(document: Any) -> Schema:
    """A schema from its parsed form."""
    return Schema(json.dumps(document).encode())


def check(document: Any, event: Any) -> str | None:
    """What a schema says about an event, both as parsed JSON."""
    return schema_of(document).check(json.dumps(event).encode())


def nested(depth: int, leaf: str = "1") -> bytes:
    """Objects and arrays in turns."""
    text = "".join('{"a":' if level % 2 else "[" for level in range(depth)) + leaf
    return (text + "".join("}" if level % 2 else "]" for level in reversed(range(depth)))).encode()


def cpu_seconds(action: Callable[[], Any]) -> float:
    """The best of three runs: the others had to share the machine."""

    def once() -> float:
        start = time.thread_time()
        action()
        return time.thread_time() - start

    return min(once() for _ in range(3))


# Schemas.


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"\xff{}", "is not UTF-8"),
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"{} {}", "is not JSON"),
        (b'{"maximum": NaN}', "is not JSON: NaN is no number"),
        (b'{"maximum": -Infinity}', "is not JSON: -Infinity is no number"),
        (b'{"maximum": 1e400}', "too large: 1e400"),
        (b'{"maximum": ' + b"1" * 5000 + b"}", "is not JSON"),
        (b"[]", "neither an object nor true or false"),
        (b'"x"', "neither an object nor true or false"),
        (b'{"type": "null", "type": "string"}', 'the key "type" twice'),
        (b'{"properties": {"a": {"minimum": 1, "minimum": 2}}}', 'the key "minimum" twice'),
        (b'{"a":' * 3000 + b"1" + b"}" * 3000, "is nested too deep"),
        (b'{"items":' * 400 + b"{}" + b"}" * 400, "cannot be compiled"),
        (b'{"const": "\\ud800"}', "cannot be compiled"),
    ],
)
def test_what_is_no_schema_at_all_is_refused(content: bytes, text: str) -> None:
    """Text that is no JSON, or no JSON that a schema can be, is an error with one line."""
    with pytest.raises(SchemaError, match=r".") as caught:
        Schema(content)
    assert text in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) <= 600


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({"type": "nope"}, "/type: "),
        ({"minimum": "5"}, "/minimum: "),
        ({"properties": {"a/b": {"minLength": -1}}}, "/properties/a~1b/minLength: -1"),
        ({"items": [{"type": "null"}]}, "/items: "),
        ({"required": "a"}, "/required: "),
        ({"pattern": "["}, "/pattern: "),
        ({"pattern": "(?=["}, "/pattern: "),
        ({"patternProperties": {"(": True}}, "/patternProperties/(: "),
        ({"$ref": 5}, "/$ref: "),
        ({"$id": "#x"}, "/$id: "),
        ({"$ref": "#/$defs/no"}, "/$defs/no"),
        ({"$ref": "#no"}, "no"),
        ({"$dynamicRef": "#no"}, "no"),
        ({"$ref": "http://[no"}, "is no URI"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "only " + DIALECT),
        ({"$schema": "http://example.com/own"}, "only " + DIALECT),
        ({"$schema": 5}, "only " + DIALECT),
        ({"$defs": {"a": {"$id": "a", "$schema": "http://json-schema.org/schema"}}}, "only "),
    ],
)
def test_an_invalid_schema_is_refused_with_the_place(document: Any, text: str) -> None:
    """What the metaschema, the dialect, a pattern or a reference forbids is an error."""
    with pytest.raises(SchemaError) as caught:
        schema_of(document)
    assert text in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "document",
    [
        {"$ref": "#"},
        {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
        {"properties": {"x": {"anyOf": [{"$ref": "#/properties/x"}, {"type": "null"}]}}},
        {"not": {"$ref": "#"}},
        {"if": {"$ref": "#"}},
        {"dependentSchemas": {"a": {"$ref": "#"}}},
        {"$dynamicAnchor": "n", "allOf": [{"$dynamicRef": "#n"}]},
        {"$id": "http://example.com/a", "$ref": "http://example.com/a"},
    ],
)
def test_a_schema_that_needs_itself_to_decide_is_refused(document: Any) -> None:
    """A reference that leads back to the same subschema for the same value is an error."""
    with pytest.raises(SchemaError, match="refers to itself"):
        schema_of(document)


@pytest.mark.parametrize(
    ("pattern", "refused"),
    [
        (r"^(?:(?=.*x)a)*b", True),
        (r"((?=a+)b)+", True),
        (r"((?=a{0,5000})b)+", True),
        (r"((?=(?:a|b*))c){2,}", True),
        (r"((?<=a.*)c)*", True),
        (r"(?=(?:(?=.*x)a)*)", True),
        (r"^(?:(?!foo).)*$", False),
        (r"^(?=.*[A-Z])(?=.*\d).{8,}$", False),
        (r"(?=.*x)a*", False),
        (r"((?=a{2,3})b)+", False),
        (r"((?=[*+(])c)*", False),
        (r"((?<!a\*)c)*", False),
        (r"(?=(a+)+)", False),
        (r"(a(?=b.*))(c)*", False),
    ],
)
def test_a_pattern_that_no_limit_can_stop_is_refused(pattern: str, refused: bool) -> None:  # noqa: FBT001 - a table
    """A repeated look-around of any length is an error; other look-arounds are not."""
    if refused:
        with pytest.raises(SchemaError, match="takes too long"):
            schema_of({"patternProperties": {pattern: True}})
    else:
        schema_of({"properties": {"a": {"pattern": pattern}}})


@contextmanager
def recording_server() -> Iterator[tuple[str, list[str]]]:
    """An HTTP server on the loopback that offers a schema, and the paths it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"type": "string", "$dynamicAnchor": "a"}')

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


def places_of(reference: str) -> list[Any]:
    """Schemas that have a reference in all sorts of places."""
    return [
        {"$ref": reference},
        {"$dynamicRef": f"{reference.partition('#')[0]}#a"},
        {"properties": {"enum": {"items": {"$ref": reference}}}},
        {"$defs": {"unused": {"not": {"$ref": reference}}}},
        {"dependentSchemas": {"a": {"prefixItems": [{"$ref": reference}]}}},
        {"if": {"$ref": reference}, "unevaluatedProperties": {"contains": {"$ref": reference}}},
    ]


def test_nothing_is_ever_fetched() -> None:
    """A reference to a server is refused in any place, also a relative one, and none is asked."""
    with recording_server() as (url, asked):
        documents = places_of(f"{url}/schema.json#/$defs/a")
        documents += [{"$id": f"{url}/mine.json", **each} for each in places_of("other.json")]
        documents += [{"$id": f"{url}/mine.json", "$schema": f"{url}/dialect"}]
        for document in documents:
            with pytest.raises(SchemaError, match=r"leads out|only"):
                schema_of(document)
        harmless = {"$id": f"{url}/mine", "$comment": f"{url}/a", "const": {"$ref": f"{url}/b"}}
        assert schema_of(harmless).check(b"1") is not None
    assert asked == []


def test_no_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reference to a file is refused, although the file is there and a good schema."""
    file = tmp_path / "other.json"
    file.write_text('{"$dynamicAnchor": "a"}')
    monkeypatch.chdir(tmp_path)
    for reference in ("other.json", "./other.json", str(file), file.as_uri()):
        for document in places_of(reference):
            with pytest.raises(SchemaError, match="leads out"):
                schema_of(document)


@pytest.mark.parametrize(
    "reference",
    [
        "https://example.com/schema.json",
        "//example.com/schema.json",
        "urn:example:schema",
        "data:application/json,{}",
        DIALECT,
        f"{DIALECT}#/$defs/anchorString",
        "http://json-schema.org/draft-07/schema#",
        "json-schema:///x",
    ],
)
def test_references_to_other_documents_are_refused(reference: str) -> None:
    """Whatever its scheme, and also where the library has the document built in."""
    for document in places_of(reference):
        with pytest.raises(SchemaError, match="leads out"):
            schema_of(document)


def test_a_metaschema_cannot_be_reached_by_a_clever_base() -> None:
    """A relative reference is judged by what it means, not by how it looks."""
    with pytest.raises(SchemaError, match="leads out"):
        schema_of({"$id": "https://json-schema.org/draft/2020-12/mine", "$ref": "schema"})


@pytest.mark.parametrize(
    "document",
    [
        {"properties": {"a": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"type": "null"}}},
        {"properties": {"a": {"$ref": "#x"}}, "$defs": {"x": {"$anchor": "x", "type": "null"}}},
        {
            "$id": "http://example.com/a",
            "properties": {"a": {"$ref": "http://example.com/a#/$defs/x"}},
            "$defs": {"x": {"type": "null"}},
        },
        {
            "$id": "http://example.com/a/",
            "properties": {"a": {"$ref": "x#/$defs/y"}},
            "$defs": {"any": {"$id": "x", "$defs": {"y": {"type": "null"}}}},
        },
        {
            "$id": "dir/order.json",
            "properties": {"a": {"$ref": "order.json#/$defs/x"}},
            "$defs": {"x": {"type": "null"}},
        },
        {
            "$id": "urn:example:a",
            "properties": {"a": {"$ref": "urn:example:a#x"}},
            "$defs": {"x": {"$anchor": "x", "type": "null"}},
        },
        {
            "properties": {"a": {"$dynamicRef": "#x"}},
            "$defs": {"x": {"$dynamicAnchor": "x", "type": "null"}},
        },
        {"properties": {"a": {"$ref": "#/properties/q~1%25"}, "q/%": {"type": "null"}}},
    ],
)
def test_references_inside_of_the_document_work(document: Any) -> None:
    """By pointer, anchor, identifier or relative to one: the target is checked, and its place."""
    assert check(document, {"a": None}) is None
    assert check(document, {"a": 1}) == "/a: is not of type null"


def test_a_schema_is_found_as_it_was_written() -> None:
    """The parsed document is there for others to show, a byte order mark is skipped."""
    schema = Schema(b'\xef\xbb\xbf{"maximum": 0.5, "$schema": "%s#"}' % DIALECT.encode())
    assert json.dumps(schema.document) == json.dumps({"maximum": 0.5, "$schema": f"{DIALECT}#"})
    assert Schema(b"true").check(b"[]") is None


# Details.


@pytest.mark.parametrize(
    ("document", "event", "detail"),
    [
        ({"type": "object"}, 5, "is not of type object"),
        ({"type": ["string", "null"]}, 5, "is not of type string or null"),
        ({"type": "integer"}, True, "is not of type integer"),
        ({"minimum": 0}, -1, "less than the minimum of 0"),
        ({"maximum": 0.1}, 0.2, "more than the maximum of 0.1"),
        ({"exclusiveMinimum": 5}, 5, "not more than 5"),
        ({"exclusiveMaximum": 5}, 5, "not less than 5"),
        ({"multipleOf": 0.01}, 0.001, "not a multiple of 0.01"),
        ({"minLength": 1}, "", "shorter than 1 character"),
        ({"maxLength": 2}, "xyz", "longer than 2 characters"),
        ({"pattern": "^c-\\d+$"}, "x", "does not match the pattern ^c-\\d+$"),
        ({"pattern": "^(?!x)"}, "x", "does not match the pattern ^(?!x)"),
        ({"pattern": "a" * 100}, "x", f"does not match the pattern {'a' * 69}…"),
        ({"format": "date-time"}, "x", "does not have the format date-time"),
        ({"enum": ["EUR", 1, None]}, "x", 'is none of "EUR", 1, null'),
        ({"enum": list(range(1000, 1050))}, 1, "is none of 50 allowed values"),
        ({"const": {"a": 1.5}}, 1, 'is not {"a": 1.5}'),
        ({"required": ["a", "b/c"]}, {"a": 1}, 'the required property "b/c" is missing'),
        ({"properties": {"q": False}, "additionalProperties": False}, {"x": 1, "y": 1}, "has 2 "),
        ({"additionalProperties": False}, {"x": 1}, "has 1 property not in the schema"),
        ({"unevaluatedProperties": False}, {"x": 1}, "has properties not in the schema"),
        ({"unevaluatedItems": False}, [1], "has items not in the schema"),
        ({"minItems": 1}, [], "fewer than 1 item"),
        ({"maxItems": 2}, [1, 2, 3], "more than 2 items"),
        ({"uniqueItems": True}, [1, 1.0], "has items that are equal"),
        ({"contains": {"type": "null"}}, [1], "contains fewer than 1 matching item"),
        ({"contains": True, "minContains": 2}, [1], "contains fewer than 2 matching items"),
        ({"contains": True, "maxContains": 1}, [1, 2], "contains more than 1 matching item"),
        ({"minProperties": 1}, {}, "fewer than 1 property"),
        ({"maxProperties": 0}, {"a": 1}, "more than 0 properties"),
        ({"propertyNames": {"maxLength": 1}}, {"ab": 1}, "has a property name that is not allowed"),
        (
            {"dependentRequired": {"z": ["y"], "a": ["b"]}},
            {"a": 1},
            'the property "b" is missing, which "a" requires',
        ),
        (
            {"dependentSchemas": {"a": {"required": ["b"]}}},
            {"a": 1},
            'the required property "b" is missing',
        ),
        ({"anyOf": [{"type": "null"}, {"minimum": 5}]}, 1, "matches none of 2 alternatives"),
        ({"oneOf": [{"type": "null"}, {"minimum": 5}]}, 1, "matches none of 2 alternatives"),
        ({"oneOf": [True, {"minimum": 5}]}, 6, "matches more than one of 2 alternatives"),
        ({"anyOf": [True, {"minimum": 5}], "maximum": 6}, 7, "more than the maximum of 6"),
        ({"const": "y" * 500}, "x", 'is not "' + "y" * 68 + "…"),
        ({"allOf": [True, {"minimum": 5}]}, 1, "less than the minimum of 5"),
        ({"not": {"type": "integer"}}, 1, "matches what is not allowed"),
        ({"if": {"minimum": 5}, "then": {"maximum": 9}}, 10, "more than the maximum of 9"),
        ({"if": {"minimum": 5}, "else": {"maximum": 1}}, 3, "more than the maximum of 1"),
        (False, {}, "is not allowed"),
        ({"$ref": "#/unknown/a", "unknown": {"a": {"type": "null"}}}, 5, "does not match the"),
    ],
)
def test_each_keyword_has_its_detail(document: Any, event: Any, detail: str) -> None:
    """The detail says what the schema wants, at the event itself and below."""
    at_top = check(document, event)
    assert at_top is not None
    assert at_top.startswith(f"the event: {detail}")
    assert len(at_top) < 110
    if "$ref" not in str(document):
        below = check({"properties": {"a/b": {"items": document}}}, {"a/b": [event]})
        assert below is not None
        assert below == at_top.replace("the event", "/a~1b/0", 1)


def test_the_contract_has_this_detail() -> None:
    """The example of the contract, to the letter."""
    document = {"properties": {"total": {"type": "number", "minimum": 0}}}
    assert check(document, {"total": -1}) == "/total: less than the minimum of 0"


@pytest.mark.parametrize(
    ("document", "event", "where"),
    [
        ({"additionalProperties": {"type": "null"}}, {"x": 1}, "/*"),
        ({"patternProperties": {"^x": {"type": "null"}}}, {"x": 1}, "/*"),
        ({"patternProperties": {"^x": {"type": "null"}}, "required": ["x"]}, {"x": 1}, "/x"),
        (
            {"properties": {"ok": True}, "additionalProperties": {"items": {"type": "null"}}},
            {"ok": 1, "other": [None, {"deep": 1}]},
            "/*/1",
        ),
        ({"prefixItems": [True], "items": {"type": "null"}}, [1, None, 1], "/2"),
        ({"prefixItems": [True, {"type": "null"}]}, [1, 1], "/1"),
        ({"items": {"type": "null"}}, [None] * 2500 + [1, 1], "/2500"),
        ({"allOf": [{"properties": {"a": {"type": "null"}}}]}, {"a": 1}, "/a"),
    ],
)
def test_the_pointer_has_indices_and_declared_names_only(
    document: Any, event: Any, where: str
) -> None:
    """A name that only the event has is shown as a star."""
    assert check(document, event) == f"{where}: is not of type null"


def test_the_first_reason_in_the_order_of_the_schema_is_told() -> None:
    """Always the same one of several."""
    event = {"a": 1, "b": 1}
    first = {"properties": {"b": {"type": "null"}, "a": {"type": "string"}}, "maxProperties": 1}
    second = {"maxProperties": 1, "properties": {"b": {"type": "null"}}}
    assert check(first, event) == "/b: is not of type null"
    assert check(second, event) == "the event: more than 1 property"


def test_odd_names_of_the_schema_stay_on_one_short_line() -> None:
    """Line breaks and control characters of a declared name are not passed on."""
    name = "a\n\x1b[31m\u2028" + "n" * 300
    detail = check({"properties": {name: {"required": [name]}}}, {name: {}})
    assert detail is not None
    assert len(detail) <= MAX_DETAIL
    assert detail.isprintable()
    assert detail.startswith("/a ?[31m n")


CANARY = "canary7"
CANARIES = st.recursive(
    st.just(CANARY) | st.just(7_654_321) | st.just(0.7654321) | st.none(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", CANARY, f"{CANARY}x"]), inner, max_size=4)
    ),
    max_leaves=8,
)
LEAVES = st.sampled_from(
    [
        {"type": "boolean"},
        {"type": "object"},
        {"type": "array"},
        {"minimum": 10**9},
        {"maximum": -1},
        {"multipleOf": 11},
        {"minLength": 50},
        {"maxLength": 1},
        {"pattern": "^(?=q)q"},
        {"format": "email"},
        {"enum": ["q", 1]},
        {"const": "q"},
        {"required": ["b"]},
        {"additionalProperties": False},
        {"unevaluatedProperties": False},
        {"unevaluatedItems": False},
        {"propertyNames": {"maxLength": 1}},
        {"maxProperties": 0},
        {"minItems": 3},
        {"maxItems": 0},
        {"uniqueItems": True},
        {"dependentRequired": {"a": ["b"]}},
        {"contains": {"const": 1}},
        False,
        True,
    ]
)
SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: (
        st.builds(lambda a: {"properties": {"a": a}}, inner)
        | st.builds(lambda a: {"additionalProperties": a}, inner)
        | st.builds(lambda a, b: {"patternProperties": {"can": a}, "items": b}, inner, inner)
        | st.builds(lambda a, b: {"prefixItems": [a], "items": b}, inner, inner)
        | st.builds(lambda a, b: {"allOf": [a, b]}, inner, inner)
        | st.builds(lambda a, b: {"anyOf": [a, b]}, inner, inner)
        | st.builds(lambda a, b: {"oneOf": [a, b], "unevaluatedItems": False}, inner, inner)
        | st.builds(lambda a: {"not": a}, inner)
        | st.builds(lambda a, b, c: {"if": a, "then": b, "else": c}, inner, inner, inner)
        | st.builds(lambda a: {"dependentSchemas": {"a": a}}, inner)
        | st.builds(lambda a: {"$defs": {"x": a}, "type": "object", "minProperties": 1}, inner)
    ),
    max_leaves=6,
)


@settings(max_examples=400, deadline=None)
@given(SCHEMAS, CANARIES)
def test_nothing_of_the_event_is_in_a_detail(document: Any, event: Any) -> None:
    """Neither values nor names that the schema does not have, whatever the schema."""
    detail = check(document, event)
    assert detail is None or not any(
        each in detail for each in (CANARY, "7654321", "7_654_321", "0.765")
    )


@settings(max_examples=400, deadline=None)
@given(SCHEMAS, CANARIES)
def test_a_reason_is_found_wherever_there_is_one(document: Any, event: Any) -> None:
    """The general text is for what cannot be located; these schemas have nothing of that kind."""
    detail = check(document, event)
    assert detail is None or "does not match the schema" not in detail


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([TREE, {"required": ["a"]}, {"uniqueItems": True}, False]) | SCHEMAS, ANY_JSON
)
def test_any_event_gets_a_verdict(document: Any, event: Any) -> None:
    """None, or one short line with a place, for any JSON."""
    detail = check(document, event)
    assert detail is None or (len(detail) <= MAX_DETAIL and detail.isprintable())
    assert detail is None or detail.startswith(("/", "the event: "))


@pytest.mark.parametrize(
    ("format_name", "good", "bad"),
    [
        ("date-time", "2026-11-23T12:00:00+01:00", "2026-11-23T12:00:00"),
        ("date", "2026-11-23", "2026-02-30"),
        ("time", "12:00:00Z", "12:00"),
        ("duration", "P1DT2H", "1D"),
        ("email", "a@example.com", "a.example.com"),
        ("hostname", "example.com", "-example"),
        ("ipv4", "192.0.2.1", "192.0.2"),
        ("ipv6", "2001:db8::1", "2001:db8"),
        ("uri", "https://example.com/", "/relative"),
        ("uuid", "00000000-0000-4000-8000-000000000000", "0000"),
        ("json-pointer", "/a", "a"),
        ("regex", "^a$", "["),
    ],
)
def test_formats_are_enforced(format_name: str, good: str, bad: str) -> None:
    """The formats of the standard are more than a remark."""
    assert check({"format": format_name}, good) is None
    assert check({"format": format_name}, bad) is not None


@pytest.mark.parametrize(
    "document",
    [{"format": "our-own"}, {"x-note": 5}, {"contentEncoding": "base64"}, {"$comment": "x"}],
)
def test_what_the_standard_only_notes_is_not_enforced(document: Any) -> None:
    """Unknown formats and keywords, and the content keywords, say nothing about validity."""
    assert check(document, "!") is None


# Numbers.


@pytest.mark.parametrize(
    ("schema", "event", "valid"),
    [
        ('{"maximum": 5}', "9" * 400, False),
        ('{"minimum": 5}', "9" * 400, True),
        ('{"type": "integer"}', "9" * 400, True),
        ('{"const": %s}' % ("9" * 400), "9" * 399 + "8", False),
        ('{"const": %s}' % ("9" * 400), "9" * 400, True),
        ('{"type": "integer"}', "1e400", True),
        ('{"type": "integer"}', "1e-400", False),
        ('{"maximum": 5}', "1e400", False),
        ('{"exclusiveMinimum": 0}', "1e-400", True),
        ('{"maximum": 18446744073709551616}', "18446744073709551617", False),
        ('{"maximum": 18446744073709551616}', "18446744073709551616", True),
        ('{"const": 9007199254740993}', "9007199254740992", False),
        ('{"const": 9007199254740993}', "9007199254740993.0", True),
        ('{"maximum": 0.1}', "0.10000000000000000001", False),
        ('{"maximum": 0.1}', "0.1", True),
        ('{"const": 0.1}', "0.100", True),
        ('{"const": 473e20}', "473E20", True),
        ('{"multipleOf": 0.01}', "19.99", True),
        ('{"multipleOf": 0.01}', "19.990000000000000001", False),
        ('{"multipleOf": 0.1}', "1e300", True),
        ('{"type": "integer"}', "1.0", True),
        ('{"type": "integer"}', "1.5e1", True),
        ('{"const": 0}', "-0.0", True),
        ('{"uniqueItems": true}', "[1, 1.0]", False),
        ('{"uniqueItems": true}', "[1e2, 100]", False),
        ('{"uniqueItems": true}', "[1e50, 1.0000000000000000000000001e50]", True),
        ('{"enum": [1, 1e2]}', "100.0", True),
    ],
)
def test_numbers_compare_exactly(schema: str, event: str, valid: bool) -> None:  # noqa: FBT001 - a table
    """Long, large, small and precise numbers are what they were written as."""
    assert (Schema(schema.encode()).check(event.encode()) is None) == valid


DECIMALS = st.from_regex(
    r"-?(0|[1-9][0-9]{0,8})(\.[0-9]{1,6})?([eE][-+]?[0-9]{1,2})?", fullmatch=True
)


@settings(max_examples=500, deadline=None)
@given(
    st.sampled_from(
        ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "const", "multipleOf"]
    ),
    DECIMALS,
    DECIMALS,
    st.integers(-3, 40),
)
def test_numbers_agree_with_exact_arithmetic(
    keyword: str, limit: str, number: str, times: int
) -> None:
    """The oracle has fractions; near misses come from multiples of the limit."""
    bound = Fraction(limit)
    assume(keyword != "multipleOf" or bound > 0)
    for text in (number, limit, str(Decimal(limit) * times)):
        value = Fraction(text)
        expected = {
            "minimum": value >= bound,
            "maximum": value <= bound,
            "exclusiveMinimum": value > bound,
            "exclusiveMaximum": value < bound,
            "const": value == bound,
            "multipleOf": bound > 0 and (value / bound).denominator == 1,
        }[keyword]
        schema = Schema(f'{{"{keyword}": {limit}}}'.encode())
        assert (schema.check(text.encode()) is None) == expected, text


@pytest.mark.parametrize(
    "number", ["1" * 5000, "1e99999", "-1E+999999999999999999999", "1e-99999", "0." + "1" * 30_000]
)
def test_numbers_of_extreme_length_cannot_be_checked(number: str) -> None:
    """They are refused, by any schema, and without telling them."""
    detail = "the event: has numbers with too many digits to be checked"
    assert Schema(b"true").check(f"[{number}]".encode()) == detail


def test_many_long_numbers_take_no_time() -> None:
    """What long numbers cost is bounded for the event as a whole."""
    schema = schema_of({"items": {"enum": [1, 0.5, 1000], "multipleOf": 0.01}})
    event = b"[" + b"1e400," * 140_000 + b"0]"
    assert schema.check(event) == "the event: has numbers with too many digits to be checked"
    assert cpu_seconds(lambda: schema.check(event)) < 0.1
    assert Schema(b"true").check(b"[" + b"1e400," * 45 + b"0]") is None


def test_the_last_of_duplicate_keys_counts() -> None:
    """As with most consumers of the event."""
    schema = schema_of({"properties": {"a": {"type": "integer"}}})
    assert schema.check(b'{"a": "x", "a": 1}') is None
    assert schema.check(b'{"a": 1, "a": "x"}') == "/a: is not of type integer"


# Depth.


@pytest.mark.parametrize("depth", [100, 200, 254, 255, 256, 257, 300, 400, 500])
def test_recursive_schemas_check_deep_events(depth: int) -> None:
    """Valid ones pass, others are refused with a pointer, in the main thread and in others."""
    loop = {
        "type": ["object", "array", "integer"],
        "additionalProperties": {"$ref": "#"},
        "items": {"$ref": "#"},
    }
    found: list[str | None] = []

    def run() -> None:
        for document in (TREE, loop):
            schema = schema_of(document)
            found.extend(schema.check(nested(depth, leaf)) for leaf in ("1", '"x"'))

    run()
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found[:4] == found[4:]
    assert found[0] is found[2] is None
    assert found[1] == "the event: matches none of 3 alternatives"
    assert str(found[3]).startswith("/0/*/0/*")
    assert str(found[3]).endswith(": is not of type object or array or integer")


@pytest.mark.parametrize("depth", [250, 300, 500])
def test_deep_items_are_compared_or_refused(depth: int) -> None:
    """Where the library gives up on deep values, the event does not pass."""
    schema = schema_of({"uniqueItems": True})
    twice = b"[" + nested(depth - 1) + b"," + nested(depth - 1) + b"]"
    assert schema.check(twice) in {
        "the event: has items that are equal",
        "the event: nested too deep to be checked",
    }


def test_an_event_that_the_decoder_finds_too_deep_cannot_be_checked() -> None:
    """Never an exception, whatever the depth of the stack."""
    detail = "the event: nested too deep to be checked"
    assert Schema(b"true").check(nested(5000)) == detail


@pytest.mark.parametrize("branches", ["anyOf", "oneOf"])
def test_alternatives_that_recurse_take_no_time(branches: str) -> None:
    """Explaining is no more than asking again: not once for each path through the alternatives."""
    node = [
        {"properties": {"l": {"$ref": "#"}}, "required": ["a"]},
        {"properties": {"l": {"$ref": "#"}}, "required": ["b"]},
    ]
    schema = schema_of({"type": "object", branches: node})
    event = b'{"l":' * 400 + b"{}" + b"}" * 400
    assert schema.check(event) == "the event: matches none of 2 alternatives"
    assert cpu_seconds(lambda: schema.check(event)) < 0.05


# Time.


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$",
        "^(a+)+$",
        "^(a|aa)+$",
        "(a*)*b",
        "^(([a-z])+.)+[A-Z]([a-z])+$",
        "(?=(a+)+b)",
        r"(\w+)\1+b",
        r"(?=.*[A-Z])(?=.*\d).{8,}",
        r"(.+)+\1y",
        "(?<=a.*)b",
    ],
)
def test_no_pattern_runs_for_long(pattern: str) -> None:
    """Catastrophic expressions on 100 KB take less than 50 ms, and the event does not pass."""
    schema = schema_of({"pattern": pattern})
    event = json.dumps("a" * 100_000 + "!").encode()
    assert schema.check(event) is not None
    assert cpu_seconds(lambda: schema.check(event)) < 0.05


def test_a_pattern_that_gave_up_lets_nothing_pass() -> None:
    """Also where not matching would be good."""
    event = json.dumps("a" * 100_000).encode()
    for document in ({"pattern": r"(\w+)\1+b"}, {"not": {"pattern": r"(.+)+\1y"}}):
        assert schema_of(document).check(event) is not None


@pytest.mark.parametrize("length", [8, 800, 8_000, 80_000])
@pytest.mark.parametrize(
    "pattern", [r"^(?=.*[A-Z])(?=.*\d).{8,}$", r"^(?!.*--)[A-Z0-9]+$", "^(?!admin)", r"(.)\d\1"]
)
def test_common_look_arounds_match_texts_of_any_length(pattern: str, length: int) -> None:
    """The limit is far from what people write."""
    assert check({"pattern": pattern}, "A1" * (length // 2)) is None


def test_look_around_at_each_character_matches_what_people_send() -> None:
    """One step a character is within the limit for texts of this length."""
    document = {"pattern": "^(?:(?!foo).)*$"}
    assert check(document, "a" * 900) is None
    assert check(document, "a" * 900 + "foo") is not None


LARGE = {
    "zeros": b"[" + b"0," * 449_990 + b'"x"]',
    "objects": b"[" + b",".join(b'{"a":%d}' % each for each in range(80_000)) + b"]",
    "names": b"{" + b",".join(b'"k%d":1' % each for each in range(75_000)) + b"}",
    "deep": b'{"a":' * 499 + b"[" + b"1," * 440_000 + b'"x"]' + b"}" * 499,
    "text": b'"' + b"x" * 900_000 + b'"',
}


@pytest.mark.parametrize("shape", LARGE)
@pytest.mark.parametrize(
    "document",
    [
        {"items": {"type": "integer"}},
        {"uniqueItems": True},
        {"contains": {"const": -1}},
        {"anyOf": [{"items": {"type": "string"}}, {"items": {"type": "boolean"}}]},
        {"items": {"oneOf": [{"type": "string"}, {"type": "object", "required": ["q"]}]}},
        {"additionalProperties": False, "patternProperties": {"^k.*x$": True}},
        {"propertyNames": {"maxLength": 5}},
        {"properties": {"a": {"$ref": "#"}}, "items": {"type": "integer"}},
        {"anyOf": [{"items": True}, {"required": ["q"]}], "unevaluatedItems": False},
    ],
)
def test_the_largest_events_take_a_bounded_time(document: Any, shape: str) -> None:
    """Far from the minutes that collecting every error would take."""
    schema = schema_of(document)
    assert cpu_seconds(lambda: schema.check(LARGE[shape])) < 1


# What it costs to explain.


def test_only_so_much_is_compiled_to_explain() -> None:
    """A client that finds ever new places of a large schema to miss cannot fill the memory."""
    count = 300
    document = {
        "type": "object",
        "properties": {f"f{n}": {"$ref": f"#/$defs/d{n}"} for n in range(count)},
        "$defs": {
            f"d{n}": {
                "properties": {"p": {"$ref": f"#/$defs/d{(n + 1) % count}"}},
                "maxProperties": 1,
            }
            for n in range(count)
        },
    }
    schema = schema_of(document)
    events = [b'{"f%d":{"p":{"p":{"x":1,"y":2}}}}' % n for n in range(count)]
    details = [schema.check(event) for event in events]
    assert None not in details
    assert str(details[0]).startswith("/f0/p/p: ")
    assert all(len(reason._validators) <= 40 for reason in schema._reasons)


@pytest.mark.parametrize("pattern", [r"(?=(\w+))\1:", r"(?!a)(b)\1", r"(?P<x>a)(?<=b)\k<x>"])
def test_a_look_around_with_a_back_reference_is_refused(pattern: str) -> None:
    """Each step of its limit takes as long as the event."""
    with pytest.raises(SchemaError, match=r"take too long|regex"):
        schema_of({"pattern": pattern})
