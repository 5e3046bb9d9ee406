"""The OpenAPI document is valid, complete, and says of events what the door does with them."""

from __future__ import annotations

import ast
import json
import keyword
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema_rs
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openapi_spec_validator import OpenAPIV31SpecValidator

import ingest
import ingest_http
from ingest.schema import Schema
from ingest.settings import SOURCE_NAME, LimitSettings
from ingest.sources import Source, pointer_tokens
from ingest_http import openapi
from ingest_http.auth import QUOTAS
from ingest_http.cors import EXPOSED, REQUEST_HEADERS
from ingest_http.decode import SUPPORTED
from ingest_http.description import Offer, description, example
from ingest_http.negotiation import MEDIA_TYPES
from ingest_http.openapi import DIALECT, EVENT_CODES, OUTCOMES, TAKEN, WHEN, document
from ingest_http.openapi_names import Names
from ingest_http.problem import STATUS, Problem
from ingest_http.results import Results

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LIMITS = LimitSettings()
CONTRACT = {200, 202, 207, 400, 401, 403, 404, 405, 408, 413, 415, 417, 422, 429, 503, 504}
ORDER = {
    "$schema": DIALECT,
    "$id": "https://example.com/order.json",
    "type": "object",
    "required": ["customer_id", "lines"],
    "properties": {
        "customer_id": {"type": "string"},
        "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}},
        "ship_to": {"$ref": "#address"},
        "replaces": {"$ref": "#"},
    },
    "$defs": {
        "line": {"type": "object", "properties": {"sku": {"$ref": "order.json#/$defs/sku"}}},
        "sku": {"type": "string", "minLength": 1},
        "address": {"$anchor": "address", "type": "object"},
        "unused": False,
    },
}


def offer(
    name: str, schema: Any = None, validate: str = "enforce", key: str | None = None
) -> Offer:
    """Of a source of this name."""
    compiled = None if schema is None else Schema(json.dumps(schema).encode())
    tokens = None if key is None else pointer_tokens(key)
    return Offer(Source(name, f"topic.{name}", name, tokens), compiled, validate, ())


def made(
    offers: Sequence[Offer], limits: LimitSettings = LIMITS, **options: bool
) -> dict[str, Any]:
    """Their document, as it arrives."""
    options = {"certificates": False, "required": True} | options
    found = document(offers, limits, base_url="/", version="1.2.3", **options)
    decoded: dict[str, Any] = json.loads(msgspec.json.encode(found))
    assert decoded == found
    return decoded


OFFERS = [
    offer("orders", ORDER, key="/customer_id"),
    offer("orders.v1", ORDER, "warn"),
    offer("orders-v1", ORDER, "off"),
    offer("0._-", {"properties": {"a": {"type": "string"}}}),
    offer("Result", True),
    offer("event.result", {"type": "object"}),
    offer("plain"),
]
DOCUMENT = made(OFFERS)


def references(value: Any) -> Iterator[str]:
    """Every ``$ref`` below ``value``."""
    if isinstance(value, list):
        for each in value:
            yield from references(each)
    elif isinstance(value, dict):
        for name, each in value.items():
            if name == "$ref" and isinstance(each, str):
                yield each
            else:
                yield from references(each)


def at(found: Any, reference: str) -> Any:
    """Where a local reference leads."""
    assert reference.startswith("#/")
    for token in pointer_tokens(reference[1:]):
        found = found[token]
    return found


def operations(found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All of them."""
    for path in found["paths"].values():
        yield from path.values()


def validator(found: dict[str, Any], pointer: str) -> jsonschema_rs.Draft202012Validator:
    """Of the schema at a place in a document, references and all."""
    registry = jsonschema_rs.Registry([("urn:document", found)])
    return jsonschema_rs.Draft202012Validator(
        {"$ref": f"urn:document#{pointer}"}, registry=registry
    )


def body_of(found: dict[str, Any], name: str) -> jsonschema_rs.Draft202012Validator:
    """Of what can be sent to a source as JSON."""
    path = f"~1v1~1events~1{name}/post/requestBody/content/application~1json/schema"
    return validator(found, f"/paths/{path}")


def component(name: str) -> jsonschema_rs.Draft202012Validator:
    """Of a schema of the usual document."""
    return validator(DOCUMENT, f"/components/schemas/{name}")


def words(folder: Path, function: str, position: int, name: str) -> Iterator[str]:
    """The constants with which ``function`` is called in the files of a package."""
    for file in folder.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(function):
                given = [each.value for each in node.keywords if each.arg == name]
                for each in [*node.args[position : position + 1], *given]:
                    if isinstance(each, ast.Constant) and isinstance(each.value, str):
                        yield each.value


# The document as a whole.


@pytest.mark.parametrize(
    "offers",
    [
        [],
        [offer("plain")],
        [offer("orders", ORDER)],
        OFFERS,
        [offer(f"s{number}", ORDER) for number in range(3)],
    ],
    ids=len,
)
@pytest.mark.parametrize("certificates", [False, True])
def test_a_document_is_valid(offers: list[Offer], *, certificates: bool) -> None:
    """By the schema of OpenAPI 3.1 and what it cannot say."""
    OpenAPIV31SpecValidator(made(offers, certificates=certificates)).validate()


@settings(max_examples=8, deadline=None)
@given(st.sets(st.from_regex(SOURCE_NAME, fullmatch=True), max_size=4), st.booleans())
def test_a_document_is_valid_whatever_the_names(names: set[str], plain: bool) -> None:  # noqa: FBT001
    """Every name that the configuration takes."""
    found = made([offer(name, None if plain else ORDER) for name in names])
    OpenAPIV31SpecValidator(found).validate()
    assert found["paths"].keys() == {f"/v1/events/{name}" for name in names} | {"/openapi.json"}
    assert_names_differ(found)
    assert all(at(found, reference) is not None for reference in references(found))


def assert_names_differ(found: dict[str, Any]) -> None:
    """Also where case and punctuation are lost, and generators can use them."""
    ids = [each["operationId"] for each in operations(found)]
    for names in (ids, found["components"]["schemas"]):
        folded = [re.sub(r"[^a-z0-9]", "", name.lower()) for name in names]
        assert len(set(folded)) == len(folded)
    assert all(each.isidentifier() and not keyword.iskeyword(each) for each in ids)
    for names in found["components"].values():
        assert all(re.fullmatch(r"[A-Za-z0-9._-]+", name) for name in names)


def test_every_reference_leads_to_a_component() -> None:
    """Generators know no others."""
    found = list(references(DOCUMENT))
    assert len(found) > 100
    for reference in found:
        assert re.fullmatch(r"#/components/[A-Za-z]+/[A-Za-z0-9._-]+", reference)
        assert isinstance(at(DOCUMENT, reference), dict)


def test_names_are_unique_for_generators() -> None:
    """Sources whose names differ in case or punctuation only, or are those of other components."""
    names = [
        "orders.v1",
        "orders-v1",
        "Orders_V1",
        "ordersv1",
        "ordersv1_2",
        "result",
        "problem400",
    ]
    found = made([offer(name, ORDER) for name in names])
    assert_names_differ(found)
    assert len(found["paths"]) == len(names) + 1


def test_many_sources_of_almost_the_same_name_are_told_apart() -> None:
    """Each has its number, and none of these is another's name."""
    names = Names(["a_b_2", "A-B.4"])
    assert [names.unique("a.b") for _ in range(4)] == ["a.b", "a.b_3", "a.b_5", "a.b_6"]
    assert names.unique("ab_6") == "ab_6_2"


def test_a_document_is_the_same_whatever_the_order_of_sources() -> None:
    """A reload without changes changes nothing."""
    assert json.dumps(made(OFFERS[::-1])) == json.dumps(DOCUMENT)


@pytest.mark.parametrize("required", [True, False])
def test_a_credential_is_only_demanded_where_one_is_required(*, required: bool) -> None:
    """Else no credential is one of the possibilities."""
    assert ({} in made(OFFERS, required=required)["security"]) is not required


def test_a_document_is_the_same_in_every_process() -> None:
    """Nothing in it has the order of a set."""
    script = (
        "import json; from ingest_http.openapi import document;"
        "from ingest.settings import LimitSettings;"
        "print(json.dumps(document([], LimitSettings(), base_url='/', version='1',"
        " certificates=True, required=True)))"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=Path(ingest_http.__file__).parent.parent,
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(seen) == 1


def test_documents_share_nothing_that_one_source_could_change() -> None:
    """Making another one leaves the first as it is."""
    first = document(OFFERS, LIMITS, base_url="/", version="1", certificates=True, required=True)
    before = json.dumps(first)
    document(
        [offer("other", ORDER)],
        LIMITS,
        base_url="/",
        version="2",
        certificates=False,
        required=True,
    )
    assert json.dumps(first) == before


def test_the_schema_of_a_source_stays_as_it_is() -> None:
    """It is still needed as it was written."""
    what = offer("orders", ORDER)
    made([what])
    assert what.schema is not None
    assert what.schema.document == ORDER


@pytest.mark.parametrize("certificates", [False, True])
def test_every_kind_of_credential_is_enough(*, certificates: bool) -> None:
    """Alternatives, one of which is a certificate where there are any."""
    found = made([], certificates=certificates)
    schemes = found["components"]["securitySchemes"]
    kinds = [(each["type"], each.get("scheme", each.get("name"))) for each in schemes.values()]
    keys = [("http", "bearer"), ("apiKey", "X-API-Key"), ("http", "basic")]
    assert kinds == keys + [("mutualTLS", None)] * certificates
    assert found["security"] == [{name: []} for name in schemes]


def test_the_version_and_the_address_are_the_callers() -> None:
    """Of the service, and how it was reached."""
    found = document(
        [], LIMITS, base_url="https://h:1", version="9.8", certificates=False, required=True
    )
    assert found["openapi"] == "3.1.0"
    assert found["info"]["version"] == "9.8"
    assert found["servers"] == [{"url": "https://h:1"}]


# What is sent.


@pytest.mark.parametrize("what", OFFERS, ids=lambda what: what.source.name)
def test_examples_match_the_schema_through_the_document(what: Offer) -> None:
    """What a reader copies is accepted, alone and as a batch."""
    name = what.source.name
    content = DOCUMENT["paths"][f"/v1/events/{name}"]["post"]["requestBody"]["content"]
    assert content.keys() == MEDIA_TYPES.keys()
    examples = content["application/json"]["examples"]
    event = json.loads(example(what, LIMITS) or b"")
    assert examples == {"event": {"value": event}, "batch": {"value": [event, event]}}
    assert body_of(DOCUMENT, name).is_valid(event)
    assert body_of(DOCUMENT, name).is_valid([event, event])
    for media_type in ("application/x-ndjson", "application/jsonl"):
        lines = content[media_type]["example"].splitlines()
        assert [json.loads(line) for line in lines] == [event, event]
        assert content[media_type]["schema"] == {"type": "string"}


def test_a_schema_that_nothing_matches_has_no_example() -> None:
    """The document is valid all the same."""
    found = made([offer("never", False), offer("off", False, "off")])
    OpenAPIV31SpecValidator(found).validate()
    content = found["paths"]["/v1/events/never"]["post"]["requestBody"]["content"]
    assert all(each.keys() == {"schema"} for each in content.values())
    assert not body_of(found, "never").is_valid({})
    assert body_of(found, "off").is_valid({})


@pytest.mark.parametrize("value", [1, "a", None, True, [1], [[]], ["a", {}]])
def test_an_event_is_an_object_whatever_its_schema_says(value: Any) -> None:
    """Anything else is rejected by the door."""
    found = made([offer("any", True), offer("loose", {"minLength": 1}), offer("plain")])
    for name in ("any", "loose", "plain"):
        assert not body_of(found, name).is_valid(value)
        assert body_of(found, name).is_valid({"a": value})
        assert body_of(found, name).is_valid([{"a": value}])


def test_a_batch_has_its_limit() -> None:
    """That of the configuration."""
    found = made([offer("plain")], LimitSettings(batch_events=3))
    body = body_of(found, "plain")
    assert [body.is_valid([{}] * count) for count in (0, 3, 4)] == [True, True, False]


@pytest.mark.parametrize(
    ("validate", "checked", "says"),
    [("enforce", True, "rejected"), ("warn", True, "warning"), ("off", False, "any JSON object")],
)
def test_what_becomes_of_odd_events_is_said(validate: str, says: str, *, checked: bool) -> None:
    """And the schema is there unless it is off."""
    found = made([offer("s", {"type": "object", "required": ["a"]}, validate, "/a/b")])
    post = found["paths"]["/v1/events/s"]["post"]
    assert says in post["description"]
    assert "`topic.s`" in post["description"]
    assert "`/a/b`" in post["description"]
    assert ("s" in found["components"]["schemas"]) is checked
    assert body_of(found, "s").is_valid({}) is not checked


def test_the_parameters_are_those_that_the_door_reads() -> None:
    """Each with the values that it takes."""
    parameters = DOCUMENT["components"]["parameters"]
    found = {(each["in"], each["name"]) for each in parameters.values()}
    headers = set(REQUEST_HEADERS.split(", ")) - {"Authorization", "Content-Type", "X-API-Key"}
    assert found == {("query", "results"), ("query", "dry_run")} | {
        ("header", name) for name in headers
    }
    for post in (DOCUMENT["paths"][f"/v1/events/{each.source.name}"]["post"] for each in OFFERS):
        assert {each["$ref"] for each in post["parameters"]} == {
            f"#/components/parameters/{name}" for name in parameters
        }
    assert set(DOCUMENT["components"]["schemas"]["ContentCoding"]["enum"]) == SUPPORTED


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("ContentEncoding", "zstd", "br"),
        ("IdempotencyKey", "order-17", "ü"),
        ("IdempotencyKey", '"order-17"', '"'),
        ("IdempotencyKey", "x" * 240, "x" * 241),
        ("RequestId", "A.b_c-1", "a b"),
        ("RequestId", "x" * 128, "x" * 129),
        ("TraceParent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "00-1-2-3"),
        ("DryRun", "1", "0"),
        ("Results", "all", "some"),
    ],
)
def test_a_parameter_takes_what_the_door_understands(name: str, good: str, bad: str) -> None:
    """A generated client refuses what would be refused or ignored."""
    values = validator(DOCUMENT, f"/components/parameters/{name}/schema")
    assert values.is_valid(good)
    assert not values.is_valid(bad)


# What is answered.


def test_the_statuses_are_those_of_the_contract() -> None:
    """None is forgotten when a code with a new status comes; 500 is no part of the promise."""
    assert set(WHEN) == CONTRACT
    assert set(WHEN) == set(TAKEN) | set(STATUS.values()) - {500}
    for path, methods in DOCUMENT["paths"].items():
        if path != "/openapi.json":
            assert set(map(int, methods["post"]["responses"])) == CONTRACT
        assert set(map(int, methods["get"]["responses"])) == {200, 401, 403, 404}


def test_the_codes_of_a_status_are_those_of_the_table() -> None:
    """A code that is added there is told here."""
    for status in CONTRACT - set(TAKEN):
        answer = DOCUMENT["components"]["responses"][f"Problem{status}"]
        assert answer["content"].keys() == {"application/problem+json"}
        schema = at(DOCUMENT, answer["content"]["application/problem+json"]["schema"]["$ref"])
        codes = {code for code, its in STATUS.items() if its == status}
        assert set(schema["properties"]["code"]["enum"]) == codes
        assert schema["properties"]["status"]["const"] == status


@pytest.mark.parametrize("code", sorted(STATUS.keys() - {"internal_error"}))
def test_every_problem_matches_its_schema(code: str) -> None:
    """As it is really sent, with and without results."""
    status = STATUS[code]
    members = Results(rejected=1).members(full=False) if status in {422, 503, 504} else {}
    if code == "quota_exceeded":
        members = {"quota": QUOTAS[0]}
    for more in ({}, members):
        reply = Problem(code, "what is wrong", members=more).reply("r-1", "https://example.com/")
        problem = json.loads(reply._body)
        assert component(f"Problem{status}").is_valid(problem)
        assert not component(f"Problem{status}").is_valid({**problem, "code": "other"})
        known = DOCUMENT["components"]["schemas"][f"Problem{status}"]["properties"]
        assert problem.keys() <= known.keys()


def test_every_outcome_of_an_event_matches_its_schema() -> None:
    """With all that is ever said of one."""
    results = Results(accepted=1, warnings={4: "/total: too small"})
    results.add(0, "a", "ok", topic="t", partition=0, offset=7)
    results.add(1, "b", "spooled")
    results.add(2, "c", "rejected", code="bad_key", detail="no", kept=False)
    results.add(3, "d", "retry", code="kafka_unavailable")
    results.add(4, "e", "unknown", code="ack_timeout")
    members = results.members(full=True)
    assert component("Result").is_valid({"request_id": "r", **members})
    schemas = DOCUMENT["components"]["schemas"]
    said = set().union(*members["results"])
    assert said == schemas["EventResult"]["properties"].keys()
    assert {"request_id", "dry_run", "truncated", *members} == schemas["Result"][
        "properties"
    ].keys()
    statuses = [entry["status"] for entry in members["results"]]
    assert statuses == list(OUTCOMES) == schemas["EventResult"]["properties"]["status"]["enum"]


def test_a_shortened_result_matches_its_schema() -> None:
    """It says so."""
    results = Results(rejected=2000)
    for index in range(2000):
        results.add(index, "x", "rejected", code="bad_key", detail="")
    members = results.members(full=False)
    assert members["truncated"] is True
    assert component("Result").is_valid({"request_id": "r", **members})


@pytest.mark.parametrize("entry", [{"status": "lost"}, {"code": "other"}, {"index": -1}])
def test_other_results_do_not_match(entry: dict[str, Any]) -> None:
    """The schema says more than that something comes."""
    good = {"index": 0, "id": "a", "status": "rejected", "code": "bad_key"}
    assert component("EventResult").is_valid(good)
    assert not component("EventResult").is_valid({**good, **entry})


def test_every_code_of_an_event_is_told() -> None:
    """Those of rejects, and of what is to be sent again, as they are written in the source."""
    door, library = (Path(module.__file__ or "").parent for module in (ingest_http, ingest))
    rejects = set(words(door, "Reject", 1, "code"))
    fates = set(words(library, "Run", 4, "code")) | set(words(door, "results.add", 3, "code"))
    assert {"invalid_json", "not_an_object", "event_too_large"} <= rejects
    assert {"ack_timeout", "kafka_unavailable"} <= fates
    assert rejects | fates <= set(EVENT_CODES)
    contract = "invalid_json not_an_object event_too_large schema_mismatch bad_key refused_by_kafka"
    ours = {"ack_timeout", "kafka_unavailable", "shutting_down", "topic_unavailable"}
    assert set(EVENT_CODES) == {*contract.split(), *ours}


@pytest.mark.parametrize("status", sorted(CONTRACT))
def test_the_example_of_an_answer_is_one(status: int) -> None:
    """It matches its schema, and its counts lead to its status."""
    name = f"Result{status}" if status in TAKEN else f"Problem{status}"
    (content,) = DOCUMENT["components"]["responses"][name]["content"].values()
    sample = content["example"]
    assert component(content["schema"]["$ref"].rpartition("/")[2]).is_valid(sample)
    assert ("results" in sample) is (status in {*TAKEN, 422, 503, 504})
    if "results" in sample:
        names = ("accepted", "spooled", "rejected", "retry", "unknown")
        lost = sum(entry.get("kept") is False for entry in sample["results"])
        assert Results(**{name: sample[name] for name in names}, lost=lost).status == status
    assert status in TAKEN or STATUS[sample["code"]] == status


def test_the_headers_of_answers_are_told() -> None:
    """When to come back, what is taken instead, and how much is left."""
    answers = DOCUMENT["components"]["responses"]
    rest = {"X-Request-Id", *(name for name in EXPOSED.split(", ") if name.startswith("RateLimit"))}
    assert len(rest) == 5
    own = {
        401: {"WWW-Authenticate"},
        405: {"Allow"},
        415: {"Accept-Post", "Accept-Encoding"},
        **{status: {"Retry-After"} for status in (429, 503, 504)},
    }
    for name, answer in answers.items():
        assert answer["headers"].keys() == rest | own.get(int(name[-3:]), set())
    retry = {STATUS[code] for code in STATUS if "Retry-After" in Problem(code).headers}
    assert retry <= {429, 503, 504}


@pytest.mark.parametrize("what", OFFERS, ids=lambda what: what.source.name)
def test_a_description_matches_its_schema(what: Offer) -> None:
    """GET on the path of a source answers what the document says of it."""
    caller: dict[str, Any] = {"credential": "key", "quota": {"events_per_second": 1}}
    found = description(what, LIMITS, base_url="http://h", dead_letter_topic=None, **caller)
    assert component("SourceOffer").is_valid(json.loads(msgspec.json.encode(found)))
    assert found.keys() == DOCUMENT["components"]["schemas"]["SourceOffer"]["properties"].keys()


# The schemas of sources.

LIST = {"type": "object", "properties": {"next": {"$ref": "#"}, "n": {"type": "integer"}}}
TREE = {
    "$dynamicAnchor": "node",
    "type": "object",
    "properties": {"kids": {"type": "array", "items": {"$dynamicRef": "#node"}}},
}
STRICT_TREE = {
    "$id": "https://example.com/strict",
    "$dynamicAnchor": "node",
    "$ref": "tree",
    "unevaluatedProperties": False,
    "$defs": {"tree": {"$id": "tree", **TREE}},
}
MOVES = {
    "a definition": (
        {"properties": {"a": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"type": "number"}}},
        [{"a": 1}],
        [{"a": "x"}],
    ),
    "old definitions": (
        {"properties": {"a": {"$ref": "#/definitions/n"}}, "definitions": {"n": {"minimum": 3}}},
        [{"a": 3}],
        [{"a": 2}],
    ),
    "itself": (LIST, [{"next": {"next": {"n": 1}}}], [{"next": {"next": {"n": "1"}}}]),
    "root is a reference": (
        {"$ref": "#/$defs/o", "$defs": {"o": {"required": ["a"], "type": "object"}}},
        [{"a": 1}],
        [{}],
    ),
    "below a definition": (
        {
            "properties": {"a": {"$ref": "#/$defs/o/properties/b"}},
            "$defs": {"o": {"properties": {"b": {"const": 1}}}},
        },
        [{"a": 1}],
        [{"a": 2}],
    ),
    "in an array": (
        {"allOf": [{"properties": {"a": {"type": "null"}}}, {"not": {"$ref": "#/allOf/0"}}]},
        [],
        [{"a": None}, {"a": 1}],
    ),
    "a place that no keyword names": (
        {"properties": {"a": {"$ref": "#/x-own/deep/0"}}, "x-own": {"deep": [{"$ref": "#/x-n"}]},
         "x-n": {"type": "number"}},
        [{"a": 1}],
        [{"a": "x"}],
    ),
    "escapes": (
        {
            "properties": {"a": {"$ref": "#/$defs/a%20~1~0%25%C3%BC"}},
            "$defs": {"a /~%ü": {"const": 1}},
        },
        [{"a": 1}],
        [{"a": 2}],
    ),
    "an anchor": (
        {"properties": {"a": {"$ref": "#n"}}, "$defs": {"m": {"$anchor": "n", "const": 1}}},
        [{"a": 1}],
        [{"a": 2}],
    ),
    "an anchor in what is left over": (
        {
            "properties": {"a": {"$ref": "#n"}},
            "additionalProperties": {"$anchor": "n", "type": "number"},
        },
        [{"a": 1, "b": 2}],
        [{"a": "x"}, {"b": "x"}],
    ),
    "its own absolute name": (
        {
            "$id": "https://example.com/s.json",
            "properties": {
                "a": {"$ref": "https://example.com/s.json#/$defs/n"},
                "b": {"$ref": "s.json#n"},
                "c": {"$ref": "/s.json"},
            },
            "$defs": {"n": {"$anchor": "n", "const": 1}},
        },
        [{"a": 1, "b": 1, "c": {"a": 1}}],
        [{"a": 2}, {"b": 2}, {"c": {"a": 2}}],
    ),
    "a URN": (
        {
            "$id": "urn:example:s",
            "properties": {"a": {"$ref": "#/$defs/n"}, "b": {"$ref": "urn:example:s#n"}},
            "$defs": {"n": {"$anchor": "n", "const": 1}},
        },
        [{"a": 1, "b": 1}],
        [{"a": 2}, {"b": 2}],
    ),
    "resources within": (
        {
            "$id": "https://example.com/root.json",
            "properties": {"a": {"$ref": "inner.json"}, "b": {"$ref": "inner.json#n"}},
            "$defs": {
                "n": {"$anchor": "n", "const": 0},
                "i": {
                    "$id": "inner.json",
                    "properties": {"x": {"$ref": "#/$defs/n"}},
                    "$defs": {"n": {"$anchor": "n", "const": 1}},
                },
            },
        },
        [{"a": {"x": 1}, "b": 1}],
        [{"a": {"x": 0}}, {"b": 0}],
    ),
    "resources within one that has no name": (
        {
            "properties": {"a": {"$ref": "inner.json"}},
            "$defs": {
                "i": {"$id": "inner.json", "$ref": "#/$defs/n", "$defs": {"n": {"const": 1}}},
            },
        },
        [{"a": 1}],
        [{"a": 0}],
    ),
    "names of properties": (
        {
            "properties": {
                "$ref": {"type": "integer"},
                "$id": {"$ref": "#/properties/$ref"},
                "enum": {"$ref": "#n"},
                "$defs": {"const": 1},
            },
            "$defs": {"const": {"$anchor": "n", "const": 1}},
        },
        [{"$ref": 1, "$id": 1, "enum": 1, "$defs": 1}],
        [{"$ref": "x"}, {"$id": "x"}, {"enum": 0}, {"$defs": 0}],
    ),
    "data that looks like references": (
        {
            "properties": {"a": {"const": {"$ref": "#/nowhere"}}, "b": {"enum": [{"$id": "x"}]}},
            "examples": [{"$ref": "#/nowhere"}],
            "default": {"a": {"$ref": "#/nowhere"}},
        },
        [{"a": {"$ref": "#/nowhere"}, "b": {"$id": "x"}}],
        [{"a": {}}, {"b": {}}],
    ),
    "booleans": (
        {
            "properties": {
                "a": {"$ref": "#/$defs/no"},
                "b": {"$ref": "#/$defs/yes"},
                "c": False,
                "d": {"not": False, "allOf": [True], "items": True, "uniqueItems": True},
                "e": {"prefixItems": [True, False]},
            },
            "additionalProperties": False,
            "$defs": {"no": False, "yes": True},
        },
        [{"b": 1, "d": [1, 2], "e": [1]}],
        [{"a": 1}, {"c": 1}, {"d": [1, 1]}, {"e": [1, 2]}, {"f": 1}],
    ),
    "a dynamic reference to the root": (
        TREE,
        [{"kids": [{"kids": []}]}],
        [{"kids": [{"kids": 1}]}],
    ),
    "a dynamic reference that the root extends": (
        STRICT_TREE,
        [{"kids": [{"kids": []}]}],
        [{"kids": [{"kid": []}]}, {"kid": 1}],
    ),
    "a dynamic reference to a plain anchor": (
        {"properties": {"a": {"$dynamicRef": "#n"}}, "$defs": {"n": {"$anchor": "n", "const": 1}}},
        [{"a": 1}],
        [{"a": 2}],
    ),
    "a dynamic reference below the root": (
        {
            "properties": {"a": {"$ref": "#/$defs/t"}},
            "$defs": {"t": {"$id": "t", **TREE}},
        },
        [{"a": {"kids": [{}]}}],
        [{"a": {"kids": [1]}}],
    ),
    "both kinds of reference": (
        {
            "properties": {
                "a": {"$ref": "#/$defs/n", "$dynamicRef": "#m", "allOf": [{"maximum": 9}]},
            },
            "$defs": {"n": {"minimum": 3}, "m": {"$anchor": "m", "multipleOf": 2}},
        },
        [{"a": 4}],
        [{"a": 2}, {"a": 5}, {"a": 10}],
    ),
    "whole keywords": (
        {
            "patternProperties": {"^n": {"$ref": "#/$defs/n"}},
            "additionalProperties": {"$ref": "#/$defs/s"},
            "propertyNames": {"maxLength": 3},
            "dependentSchemas": {"s": {"$ref": "#/$defs/needs"}},
            "dependentRequired": {"t": ["s"]},
            "if": {"required": ["u"]},
            "then": {"$ref": "#/$defs/needs"},
            "$defs": {
                "n": {"type": "number"},
                "s": {"type": "string"},
                "needs": {"required": ["n"]},
            },
        },
        [{"n1": 1, "a": "b"}, {"s": "x", "n": 1}],
        [{"n1": "x"}, {"a": 1}, {"long": "x"}, {"s": "x"}, {"t": "x"}, {"u": "x"}],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("schema", "good", "bad"), MOVES.values(), ids=MOVES)
def test_a_schema_accepts_the_same_events_in_its_new_place(
    schema: Any, good: list[Any], bad: list[Any]
) -> None:
    """Whatever its references lead to, and however they are written."""
    what = offer("s", schema)
    found = made([what])
    OpenAPIV31SpecValidator(found).validate()
    assert what.schema is not None
    body = body_of(found, "s")
    for event in good:
        assert what.schema.check(json.dumps(event).encode()) is None
        assert body.is_valid(event)
    for event in bad:
        assert what.schema.check(json.dumps(event).encode()) is not None
        assert not body.is_valid(event)
    ours = {key: its for key, its in found["components"]["schemas"].items() if key[0] == "s"}
    for reference in references([each for each in ours.values() if "const" not in str(each)]):
        assert re.fullmatch(r"#/components/schemas/s[A-Za-z0-9._-]*", reference)


def test_booleans_among_schemas_are_spelt_out() -> None:
    """There are generators that refuse the whole document for one of them."""
    schema = {
        "properties": {"a": False, "b": {"items": True, "anyOf": [True, {"not": False}]}},
        "additionalProperties": False,
        "dependencies": {"a": ["b"]},
        "deprecated": True,
    }
    assert openapi.component_schemas("s", schema, Names())["s"] == {
        "properties": {"a": {"not": {}}, "b": {"items": {}, "anyOf": [{}, {"not": {"not": {}}}]}},
        "additionalProperties": False,
        "dependencies": {"a": ["b"]},
        "deprecated": True,
    }


def test_words_that_openapi_gives_another_meaning_are_left_out() -> None:
    """In a JSON Schema they say nothing, but a property may have such a name."""
    schema = {"discriminator": "kind", "xml": 1, "externalDocs": [], "properties": {"xml": {}}}
    moved = openapi.component_schemas("s", schema, Names())
    assert moved == {"s": {"properties": {"xml": {}}}}


@pytest.mark.parametrize("reference", [DIALECT, "#nowhere", "other.json"])
def test_a_reference_to_no_place_is_not_guessed(reference: str) -> None:
    """Such a schema is refused before; if not, there is still a document."""
    schema = {"properties": {"a": {"$ref": reference}}}
    moved = openapi.component_schemas("s", schema, Names())
    assert moved["s"].keys() == {"type", "description"}


def test_data_stays_as_it_is_and_what_nobody_knows_is_left_out() -> None:
    """Data whatever it looks like; the rest could have references to anything."""
    schema = {
        "const": {"$ref": "#/nowhere"},
        "default": [{"$id": "x", "not": True}],
        "dependentRequired": {"$ref": ["a"]},
        "required": ["$ref"],
        "type": ["object", "null"],
        "title": "T",
        "x-flag": True,
    }
    unknown = {"x-meta": {"$ref": "other.json", "allOf": [{"$ref": "#/no"}]}, "x-more": [{}]}
    assert openapi.component_schemas("s", schema | unknown, Names()) == {"s": schema}


def test_sources_with_the_same_identifiers_do_not_meet() -> None:
    """Each keeps its own rules."""

    def named(value: int) -> dict[str, Any]:
        anchor = {"$anchor": "n", "$dynamicAnchor": "m", "const": value}
        return {
            "$id": "https://example.com/same.json",
            "properties": {"a": {"$ref": "same.json#n"}, "b": {"$dynamicRef": "#m"}},
            "$defs": {"n": anchor},
        }

    found = made([offer("one", named(1)), offer("two", named(2))])
    OpenAPIV31SpecValidator(found).validate()
    for member in ("a", "b"):
        verdicts = [body_of(found, name).is_valid({member: 2}) for name in ("one", "two")]
        assert verdicts == [False, True]


def test_a_reference_that_depends_on_the_way_to_it_is_not_guessed() -> None:
    """Any object, with a hint where the schema is, instead of a schema that says something else."""

    def tree(name: str, **more: Any) -> dict[str, Any]:
        return {"$id": name, "$dynamicAnchor": "node", "$ref": "base", **more}

    schema = {
        "properties": {"a": {"$ref": "one"}, "b": {"$ref": "two"}},
        "$defs": {
            "base": {"$id": "base", **TREE},
            "one": tree("one", required=["x"]),
            "two": tree("two", required=["y"]),
        },
    }
    found = made([offer("s", schema)])
    OpenAPIV31SpecValidator(found).validate()
    assert found["components"]["schemas"]["s"].keys() == {"type", "description"}
    assert body_of(found, "s").is_valid({"a": 1})


def test_what_is_referred_to_is_named_after_its_source() -> None:
    """A reader finds it, and a generator makes classes of these names."""
    schemas = DOCUMENT["components"]["schemas"]
    assert schemas["orders"]["properties"]["lines"]["items"] == {
        "$ref": "#/components/schemas/orders.line"
    }
    assert schemas["orders"]["properties"]["replaces"] == {"$ref": "#/components/schemas/orders"}
    found = {name for name in schemas if re.match(r"orders\b(?!\.v1)", name)}
    assert found == {"orders", "orders.line", "orders.sku", "orders.address"}
    assert openapi.component_schemas("x", ORDER, Names())["x"].keys() == {
        "type",
        "required",
        "properties",
    }
