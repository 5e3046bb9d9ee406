"""Examples in the configuration: whether a route does what its author says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ingest.config_problems import dotted
from ingest_forward.examples import SHOWN_CHARACTERS, failures
from ingest_forward.problems import Problems
from ingest_forward.route import compile_route
from ingest_forward.settings import RouteSettings
from tests.ingest_forward.engine import HASH_KEY, HEAD, sealed

IN = sealed(b'{"total":5,"card":"1234"}').decode()
BASE: dict[str, Any] = {"name": "r", "from": "orders", "to": "out", "steps": [{"mask": ["/card"]}]}


def failed(*examples: dict[str, Any], **settings: Any) -> dict[str, str]:
    """Dotted path -> text, of the examples of a route that do not come out as they say."""
    made = RouteSettings.model_validate({**BASE, **settings, "examples": list(examples)})
    route = compile_route(made, (), Problems(), HASH_KEY)
    assert route is not None
    return {dotted(path): text for path, text in failures(made, route, ("forward", "routes", 3))}


def difference(example: dict[str, Any], **settings: Any) -> str:
    """What is wrong with one example; empty where nothing is."""
    return " ".join(failed({"in": IN, **example}, **settings).values())


@pytest.mark.parametrize(
    ("example", "settings"),
    [
        ({"out": '{"total":5,"card":"***"}'}, {}),
        ({"out": ' { "card" : "***" , "total" : 5.0 } '}, {}),
        ({"out": sealed(b'{"card":"***","total":5}').decode()}, {"format": "cloudevents"}),
        ({"out": '{"total":5}'}, {"schema": {"total": "int32"}}),
        ({"reject": "schema_mismatch"}, {"schema": {"total": "string"}}),
        ({"reject": "cast_failed"}, {"steps": [{"cast": {"/card": "boolean"}}]}),
        ({"reject": "bad_key"}, {"key": "/total", "steps": [{"set": {"/total": []}}]}),
        ({"in": "{", "reject": "invalid_json"}, {}),
        ({"in": "{}", "reject": "not_cloudevents"}, {}),
        ({"in": "{}", "out": "{}"}, {"format": "cloudevents", "steps": []}),
        ({"skip": True}, {"where": {"type": "other"}}),
        ({"skip": True}, {"where": {"key": "k"}}),
        ({"key": "k", "out": '{"total":5,"card":"***"}'}, {"where": {"key": "k"}}),
        ({"out": '{"total":5,"card":"***"}'}, {"where": {"topic": "orders"}}),
        ({"out": '{"total":5,"card":"***"}'}, {"from": ["web-*"], "where": {"topic": "web-"}}),
        ({"topic": "b", "out": '{"total":5,"card":"***"}'}, {"where": {"topic": "b"}}),
        (
            {"headers": {"h": "grün"}, "out": '{"total":5,"card":"***"}'},
            {"where": {"header": "h", "equals": "grün"}},
        ),
        ({"headers": {"ingest.tracer": "1"}, "skip": True}, {}),
        (
            {"headers": {"ingest.tracer": "1"}, "out": '{"total":5,"card":"***"}'},
            {"tracers": "include"},
        ),
        (
            {"in": '{"subject":"s",' + HEAD[1:].decode() + "{}}", "out": '{"s":"s"}'},
            {"steps": [{"lift": {"/s": "subject"}}]},
        ),
    ],
)
def test_what_comes_out_as_it_says(example: dict[str, Any], settings: dict[str, Any]) -> None:
    """By JSON values: white space, order of members and spelling of numbers do not count."""
    assert difference(example, **settings) == ""


@pytest.mark.parametrize(
    ("example", "settings", "text"),
    [
        (
            {"out": '{"total":5,"card":"1234"}'},
            {},
            '/card: expected "1234", and it comes out as "***"',
        ),
        ({"out": '{"total":"5","card":"***"}'}, {}, '/total: expected "5", and it comes out as 5'),
        ({"out": '{"total":5}'}, {}, '/card: it comes out as "***", and is not expected'),
        (
            {"out": '{"total":5,"card":"***","x":1}'},
            {},
            "/x: expected 1, and it is missing",
        ),
        (
            {"out": "[]"},
            {},
            'the value: expected [], and it comes out as {"total": 5, "card": "***"}',
        ),
        (
            {"out": '{"a/b":{"l":[1,{"m~n":true}]}}'},
            {"steps": [{"select": ["/x"]}, {"set": {"/a~1b": {"l": [1, {"m~n": 1}]}}}]},
            "/a~1b/l/1/m~0n: expected true, and it comes out as 1",
        ),
        (
            {"out": '{"l":[1,2]}'},
            {"steps": [{"select": ["/x"]}, {"set": {"/l": [1]}}]},
            "/l: expected [1, 2], and it comes out as [1]",
        ),
        (
            {"out": '{"total":5,"card":"***"}'},
            {"where": {"type": "other"}},
            "it comes out as skip = true",
        ),
        (
            {"out": '{"total":5,"card":"***"}'},
            {"steps": [{"cast": {"/card": "boolean"}}]},
            'it comes out as reject = "cast_failed" (/card: is no boolean)',
        ),
        ({"reject": "cast_failed"}, {}, 'it comes out as {"total":5,"card":"***"}'),
        ({"reject": "cast_failed"}, {"where": {"type": "x"}}, "it comes out as skip = true"),
        (
            {"reject": "bad_key"},
            {"schema": {"total": "string"}},
            'it comes out as reject = "schema_mismatch" (/total: is no string)',
        ),
        ({"skip": True}, {}, 'it is not skipped: {"total":5,"card":"***"}'),
        (
            {"in": "{}", "skip": True},
            {},
            'it is not skipped: reject = "not_cloudevents" (without specversion, id, source, type)',
        ),
        (
            {"in": "no JSON", "out": "{}"},
            {"format": "cloudevents", "steps": []},
            "it comes out as no JSON",
        ),
        ({"in": "[" * 100_000, "skip": True}, {}, ('it is not skipped: reject = "invalid_json" '
         "(the value is no JSON (UTF-8, RFC 8259))")),
    ],
)  # fmt: skip
def test_what_does_not_come_out_as_it_says(
    example: dict[str, Any], settings: dict[str, Any], text: str
) -> None:
    """The first difference is told by its pointer, with what was expected and what came out."""
    assert difference(example, **settings) == text


@pytest.mark.parametrize("out", ["", "{", "{'a':1}", "[" * 100_000])
def test_an_expectation_must_be_json(out: str) -> None:
    """Else it could never come out."""
    assert difference({"out": out}).startswith("is no JSON: ")


@pytest.mark.parametrize(
    "value", ["1" * 5000, sealed(b"1" * 5000).decode(), "[" * 100_000 + "]" * 100_000, "NaN"]
)
def test_odd_values_that_are_passed_on_make_no_trouble(value: str) -> None:
    """Numbers and depths that no parser here takes, where the route does not look either."""
    text = difference({"in": value, "out": "{}"}, format="cloudevents", steps=[])
    assert text


def test_examples_say_one_thing() -> None:
    """Each is pointed at by its number, and those that are fine are not mentioned."""
    nothing = "expected one of out, reject, skip = true next to in"
    assert failed(
        {"in": IN},
        {"in": IN, "out": '{"total":5,"card":"***"}'},
        {"in": IN, "out": "{}", "skip": True},
        {"in": IN, "skip": False},
        {"in": IN, "out": "{}"},
        {"in": IN, "reject": ""},
    ) == {
        "forward.routes[3].examples[0]": nothing,
        "forward.routes[3].examples[2]": nothing,
        "forward.routes[3].examples[3].skip": "expected true",
        "forward.routes[3].examples[4].out": "/total: it comes out as 5, and is not expected",
        "forward.routes[3].examples[5].reject": 'it comes out as {"total":5,"card":"***"}',
    }


def test_long_values_are_shown_from_their_beginning() -> None:
    """A message for people stays one that can be read."""
    value = sealed(json.dumps({"a": "x" * 10_000}).encode()).decode()
    for example in ({"out": '{"a":1}'}, {"skip": True}, {"reject": "x"}, {"out": "[]"}):
        text = difference({"in": value, **example})
        assert len(text) < SHOWN_CHARACTERS + 60
        assert text.endswith("…")
