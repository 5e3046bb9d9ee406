"""Routes: what they take, and what they make of it, byte by byte."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.errors import Rejected
from ingest_forward.event import Event, Reading
from ingest_forward.problems import Problems
from ingest_forward.route import Output, compile_route
from ingest_forward.settings import RouteSettings
from tests.ingest_forward.engine import (
    ATTRIBUTES,
    CODES,
    HEAD,
    ODD_SCALARS,
    POINTERS,
    ROUTES,
    about,
    complaints,
    event,
    outcome,
    route,
    sealed,
    texts,
)

NOT_EVENTS = [b"", b"{", b"text", b"\xff\x00", b"{}", b"5", b'{"total":1}']
SCHEMA = {"total": "float64"}
FORMATS: list[dict[str, Any]] = [
    {"format": "cloudevents"},
    {"format": "plain"},
    {"format": "plain", "schema": SCHEMA},
    {"format": "connect-envelope", "schema": SCHEMA},
]


def value_of(made: Output | str | None) -> bytes:
    """The value of an output that there is."""
    assert isinstance(made, Output), made
    assert made.value is not None
    return made.value


# Bytes.


@pytest.mark.parametrize(
    "value", [*NOT_EVENTS, None, sealed(b"{}"), b" " + sealed(b"[ 1 ]") + b"\n"]
)
@pytest.mark.parametrize("where", [None, {"topic": "orders"}, {"key": "k"}, {"not": {"key": "x"}}])
def test_a_route_that_changes_nothing_passes_anything(
    value: bytes | None, where: dict[str, Any] | None
) -> None:
    """Byte by byte, events or not, unless its conditions look into the value."""
    made = route(format="cloudevents", where=where)
    assert outcome(made, event(value, key=b"k")) == Output(b"k", value)


@pytest.mark.parametrize("data", [*ODD_SCALARS, b'{ "a" : [ 1.50 ] , "a":2 }', b"{}", b"[]"])
def test_plain_is_the_data_as_they_were_sent(data: bytes) -> None:
    """Byte by byte: white space in them, numbers, escapes and twins."""
    assert outcome(route(), about(b" " + data + b"\n")) == Output(None, data)
    assert outcome(route(steps=[{"drop": ["/x/y"]}]), about(data + b" ")) == Output(None, data)


def test_an_event_that_no_step_changed_passes_as_it_is() -> None:
    """In the format of CloudEvents, with all that is around the data."""
    value = b' { "data" : {"a": 1.0 } , ' + HEAD[1:] + b'{"a": 1.0 }, "x":[ 1 ] } '
    made = route(format="cloudevents", steps=[{"set": {"/a/b": 1}}, {"cast": {"/a": "float64"}}])
    assert outcome(made, event(value)) == Output(None, value)


def test_an_event_that_a_step_changed_keeps_all_else() -> None:
    """Its attributes, and the fields that no step names, byte by byte."""
    value = b'{"x":{ "y" : 1.50 },' + HEAD[1:] + b'{"a": [ 1 ], "b":2}, "z":"\\u0041"}'
    found = outcome(route(format="cloudevents", steps=[{"drop": ["/b"]}]), event(value))
    wanted = b'{"x":{ "y" : 1.50 },' + HEAD[1:] + b'{"a":[ 1 ]},"z":"\\u0041"}'
    assert found == Output(None, wanted)


def test_a_schema_takes_its_fields_for_plain_as_well() -> None:
    """In its order, without the others."""
    made = route(schema={"b": "int32", "a": "string"}, steps=[{"cast": {"/b": "int32"}}])
    assert value_of(outcome(made, about(b'{"a":"\\u0041", "b":"5", "c":0}'))) == (
        b'{"b":5,"a":"\\u0041"}'
    )


def test_connect_envelope_is_schema_and_payload() -> None:
    """For JsonConverter with ``schemas.enable=true``."""
    made = route(format="connect-envelope", schema=SCHEMA)
    assert value_of(outcome(made, about(b'{"x":1,"total":1.50}'))) == (
        b'{"schema":{"type":"struct","optional":false,"fields":'
        b'[{"field":"total","type":"double","optional":false}]},"payload":{"total":1.50}}'
    )


@pytest.mark.parametrize("settings_of", FORMATS)
def test_null_values_pass_as_they_are(settings_of: dict[str, Any]) -> None:
    """With their own key, whatever the route makes of others."""
    steps = [{"set": {"/a": 1}}]
    for more in ({}, {"steps": steps}, {"key": "/a"}, {"where": {"topic": "orders"}}):
        made = route(**settings_of, **more)
        assert outcome(made, event(None, key=b"k")) == Output(b"k", None)
    for where in ({"type": "t"}, {"field": "/a", "exists": False}, {"not": {"source": "s"}}):
        assert outcome(route(**settings_of, where=where), event(None, key=b"k")) is None


# What is rejected.


@pytest.mark.parametrize("settings_of", [*FORMATS[1:], {"format": "cloudevents", "key": "/a"}])
@pytest.mark.parametrize(
    ("value", "code"),
    [
        *((value, "invalid_json") for value in (b"", b"{", b"\xff", sealed(b'"\xff"'))),
        *((value, "not_cloudevents") for value in (b"{}", b"5", b'{"total":1}')),
    ],
)
def test_what_is_no_event_is_rejected(settings_of: dict[str, Any], value: bytes, code: str) -> None:
    """By routes that look into it."""
    assert outcome(route(**settings_of), event(value)) == code
    assert outcome(route(**settings_of, steps=[{"drop": ["/a"]}]), event(value)) == code


@pytest.mark.parametrize(
    ("settings_of", "wanted"),
    [
        ({"format": "plain"}, "not_cloudevents"),
        ({"format": "plain", "steps": [{"set": {"/a": 1}}, {"select": ["/b"]}]}, "not_cloudevents"),
        ({"format": "plain", "steps": [{"flatten": "_"}, {"mask": ["/b"]}]}, "not_cloudevents"),
        ({"format": "plain", "schema": SCHEMA}, "schema_mismatch"),
        ({"format": "connect-envelope", "schema": SCHEMA}, "schema_mismatch"),
        ({"format": "cloudevents", "steps": [{"set": {"/a": 1}}, {"drop": ["/a"]}]}, None),
        ({"format": "cloudevents", "key": "/a"}, None),
    ],
)
def test_an_event_without_data_has_nothing_to_make_others_of(
    settings_of: dict[str, Any], wanted: str | None
) -> None:
    """As an event it passes as it is; also where it has twins."""
    value = b'{"x":{"b":1},"x":2,' + HEAD[1 : -len(b',"data":')] + b',"data_base64":"eA=="}'
    expected = Output(None, value) if wanted is None else wanted
    assert outcome(route(**settings_of), event(value)) == expected


@pytest.mark.parametrize(
    ("steps", "data", "wanted"),
    [
        ([], b'{"total":"5"}', "schema_mismatch"),
        ([{"cast": {"/total": "float64"}}], b'{"total":"5"}', b'{"total":5.0}'),
        ([{"cast": {"/total": "float64"}}], b'{"total":"x"}', "cast_failed"),
        ([{"rename": {"/sum": "/total"}}], b'{"sum":5}', b'{"total":5}'),
        ([{"drop": ["/total"]}], b'{"total":5}', "schema_mismatch"),
        ([{"lift": {"/total": "id"}}], b'{"total":5}', "schema_mismatch"),
    ],
)
def test_the_schema_sees_the_result(
    steps: list[dict[str, Any]], data: bytes, wanted: bytes | str
) -> None:
    """Not the record as it was read."""
    found = outcome(route(steps=steps, schema=SCHEMA), about(data))
    assert (found.value if isinstance(found, Output) else found) == wanted


# Keys.


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (b'{"k":"text"}', b"text"),
        (b'{"k":"t\\u0065xt\\n"}', b"text\n"),
        ('{"k":"grün"}'.encode(), "grün".encode()),
        (b'{"k":""}', b""),
        (b'{"k":1.50}', b"1.50"),
        (b'{"k":true}', b"true"),
        (b'{"k":null}', None),
        (b"{}", None),
        (b'{"k":{}}', "bad_key"),
        (b'{"k":[1]}', "bad_key"),
        (b"[]", None),
        (b'"text"', None),
        (b'{"k":1,"k":2}', b"2"),
    ],
)
def test_the_key_of_a_route(data: bytes, wanted: bytes | str | None) -> None:
    """A string's text, or the JSON text; none is null, and an object or array is ``bad_key``."""
    for made_of in ("cloudevents", "plain"):
        made = route(key="/k", format=made_of)
        found = outcome(made, event(sealed(data), key=b"own"))
        assert (found.key if isinstance(found, Output) else found) == wanted
        if isinstance(found, Output):
            assert found.value == (sealed(data) if made_of == "cloudevents" else data)


@pytest.mark.parametrize("own", [None, b"", b"\xff\x00"])
@pytest.mark.parametrize("settings_of", FORMATS)
def test_without_one_the_record_keeps_its_own(
    own: bytes | None, settings_of: dict[str, Any]
) -> None:
    """Whatever bytes it is."""
    found = outcome(route(**settings_of), event(sealed(b'{"total":1}'), key=own))
    assert isinstance(found, Output)
    assert found.key == own


@pytest.mark.parametrize(
    ("steps", "wanted"),
    [
        ([{"rename": {"/old": "/k"}}], b"a@b"),
        ([{"rename": {"/old": "/k"}}, {"mask": ["/k"]}], b"***"),
        ([{"lift": {"/k": "id"}}], b"7"),
        ([{"set": {"/k/x": 1}}], "bad_key"),
        ([{"drop": ["/k"]}], None),
    ],
)
def test_the_key_sees_the_result(steps: list[dict[str, Any]], wanted: bytes | str | None) -> None:
    """What was hidden before is not to be found in it either."""
    found = outcome(route(steps=steps, key="/k"), about(b'{"old":"a@b"}'))
    assert (found.key if isinstance(found, Output) else found) == wanted


def test_the_key_may_be_a_field_that_the_schema_leaves_out() -> None:
    """It sees the result of the steps, as the schema does."""
    made = route(format="connect-envelope", schema=SCHEMA, key="/k")
    found = outcome(made, about(b'{"k":"x","total":1}'))
    assert isinstance(found, Output)
    assert found.key == b"x"
    assert json.loads(found.value or b"")["payload"] == {"total": 1}


def test_where_sees_the_record_as_it_was_read() -> None:
    """Steps follow."""
    where = {"field": "/a", "equals": 1}
    made = route(where=where, steps=[{"set": {"/a": 2}}])
    assert outcome(made, about(b'{"a":1}')) == Output(None, b'{"a":2}')
    assert outcome(made, about(b'{"a":2}')) is None


# What a route says of itself.


def test_what_a_route_says_of_itself() -> None:
    """As in the configuration, with its defaults."""
    made = route(name="n", to="t")
    assert (made.name, made.to, made.format, made.stops, made.tracers, made.passes_bytes) == (
        *("n", "t", "plain"),
        *(False, False, False),
    )
    made = route(on_error="stop", tracers="include", format="cloudevents")
    assert (made.stops, made.tracers, made.passes_bytes) == (True, True, True)
    assert not route(format="cloudevents", steps=[{"drop": ["/a"]}]).passes_bytes
    assert not route(format="cloudevents", key="/a").passes_bytes
    lifts = [{"lift": {"/a": "id", "/b": "subject"}}, {"drop": ["/a"]}, {"lift": {"/c": "time"}}]
    assert route(steps=lifts).attributes == {"id", "subject", "time"}


# Of whatever comes.


def run_both(one: dict[str, Any], other: dict[str, Any], value: bytes) -> list[Any]:
    """What becomes of one event in two routes, one after the other, and in the first again."""
    record = event(value, "orders", b"k", [("h", b"v")])
    routes = [route(**each) for each in (one, other)]
    return [outcome(made, record) for made in (*routes, routes[0])]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(ROUTES, ROUTES, texts(twins=True))
def test_routes_do_not_see_what_others_made(
    one: dict[str, Any], other: dict[str, Any], data: bytes
) -> None:
    """An event comes out as if it had been read for each of them alone, however often."""
    value = sealed(data)
    first, second, again = run_both(one, other, value)
    assert first == again
    assert second == outcome(route(**other), event(value, "orders", b"k", [("h", b"v")]))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(ROUTES, texts(twins=True))
def test_any_event_comes_out_as_json_or_is_rejected(made: dict[str, Any], data: bytes) -> None:
    """With a code of the contract; nothing else is ever raised."""
    found = outcome(route(**made), event(sealed(data), "orders", b"k", [("h", b"v")]))
    if isinstance(found, Output):
        assert_json(found.value or b"")
        assert found.key is None or isinstance(found.key, bytes)
    else:
        assert found is None or found in CODES


def assert_json(value: bytes) -> None:
    """It is JSON by the standard: strict, and UTF-8."""
    msgspec.json.decode(value, type=msgspec.Raw)
    json.loads(value.decode(), parse_int=str, parse_constant=pytest.fail)


NOISE = st.binary(max_size=6) | st.sampled_from(
    [b'"', b"\\", b"{", b"]", b"\\ud800", b"\xff", b"e"]
)
BROKEN = st.builds(
    lambda data, at, cut, noise: data[: at % len(data)] + noise + data[at % len(data) + cut :],
    texts().map(sealed),
    st.integers(0, 10_000),
    st.integers(0, 8),
    NOISE,
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(ROUTES, BROKEN | BROKEN | st.binary(max_size=40) | st.none())
def test_any_bytes_come_out_or_are_rejected(made: dict[str, Any], value: bytes | None) -> None:
    """What comes out is JSON, unless it was passed on without a look; nothing else is raised."""
    built = route(**made)
    found = outcome(built, event(value, "orders", b"k", [("h", b"v")]))
    if not isinstance(found, Output):
        assert found is None or found in CODES
    elif value is None or built.passes_bytes:
        assert found == Output(b"k", value)
    else:
        assert_json(found.value or b"")


@pytest.mark.parametrize("depth", [100, 100_000])
def test_deep_values_come_out_or_are_rejected(depth: int) -> None:
    """However deep they are."""
    data = b'{"a":%b1%b}' % (b'{"a":' * depth, b"}" * depth)
    every = [
        route(),
        route(steps=[{"flatten": "_"}]),
        route(steps=[{"drop": ["/a/a/0"]}, {"set": {"/a/a/x": 1}}]),
        route(where={"field": "/a", "equals": {"a": 1}}),
        route(schema={"a": {"type": "string", "optional": True}}),
    ]
    for made in every:
        found = outcome(made, about(data))
        assert isinstance(found, Output) or found is None or found in CODES


@settings(max_examples=100, deadline=None, derandomize=True)
@given(texts(), POINTERS)
def test_a_rejection_never_tells_the_value(data: bytes, at: str) -> None:
    """Details go into headers and logs: at most 200 characters, of names only."""
    secret = json.dumps({"k": "hunter2", "x": [data.decode()] * 3}).encode()
    steps = [{"set": {at: [["hunter2"]]}}, {"cast": {at: "int32"}}]
    with pytest.raises(Rejected) as caught:
        route(steps=steps, schema={"k": "int32"}).run(about(secret))
    assert "hunter2" not in caught.value.detail
    assert len(caught.value.detail) <= 200


def test_attributes_are_read_for_all_routes_at_once() -> None:
    """The routes of one topic share their events."""
    one, other = route(steps=[{"lift": {"/s": "subject"}}]), route(steps=[{"lift": {"/t": "time"}}])
    value = b'{"subject":"s","time":"t",' + HEAD[1:] + b"{}}"
    record = Event("orders", None, value, [], Reading({*one.attributes, *other.attributes}))
    assert (one.run(record).value, other.run(record).value) == (b'{"s":"s"}', b'{"t":"t"}')
    assert set(ATTRIBUTES) > {*one.attributes, *other.attributes}


# The configuration.


@pytest.mark.parametrize(
    ("table", "wanted"),
    [
        ({"format": "connect-envelope"}, {"schema": 'is required for format "connect-envelope"'}),
        (
            {"format": "cloudevents", "schema": SCHEMA},
            {"schema": 'is for the formats "plain" and "connect-envelope"'},
        ),
        (
            {"steps": [{"drop": ["/a"]}, {"hash": ["/a"]}], "format": "connect-envelope"},
            {
                "steps[1].hash": 'needs forward.hash_key, such as { env = "PII_HASH_KEY" }',
                "schema": 'is required for format "connect-envelope"',
            },
        ),
    ],
)
def test_what_is_wrong_with_a_route_is_said(table: dict[str, Any], wanted: dict[str, str]) -> None:
    """What none of its settings knows by itself."""
    made = RouteSettings.model_validate({"name": "r", "from": "a", "to": "b", **table})
    assert complaints(lambda found: compile_route(made, (), found, None)) == wanted
    assert compile_route(made, (), Problems(), None) is None
