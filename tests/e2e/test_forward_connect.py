"""What the forwarder writes, as the sinks of a real Kafka Connect read it."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Producer

from loadtest.forwarder import Forwarder
from loadtest.gateway import ROOT
from tests.connect_sink import JSON, STRING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.conftest import Kafka
    from tests.connect_sink import FileSink
    from tests.e2e.conftest import Client

STEPS = [
    {"lift": {"/event_id": "id"}},
    {"rename": {"/customer_id": "/customer"}},
    {"cast": {"/number": "int64"}},
    {"drop": ["/secret"]},
]
SCHEMA = {
    "event_id": "string",
    "customer": "string",
    "number": "int64",
    "lines": "int32",
    "total": "float64",
    "weight": {"type": "float32", "optional": True},
    "paid": {"type": "boolean", "optional": True},
    "tags": {"type": "array", "items": "string", "optional": True},
    "address": {
        "type": "struct",
        "fields": {"city": "string", "zip": {"type": "int32", "optional": True}},
        "optional": True,
    },
}


def _event(event_id: str, data: str) -> str:
    head = f'{{"specversion":"1.0","source":"/sources/orders","id":"{event_id}"'
    return f'{head},"type":"order.created","time":"2026-11-23T12:00:00.000000Z","data":{data}}}'


RICH = _event(
    "1",
    '{"customer_id":"Zoë 🎁","number":"9007199254740993","lines":3,"total":12.5,"weight":1.25,'
    '"paid":true,"tags":["new","a \\"b\\""],"address":{"city":"Bern","zip":3011},"secret":"x"}',
)
PLAIN = _event("2", '{ "number": 7, "lines": 1, "total": 7, "customer_id": "bob", "secret": "y" }')
MISFIT = _event("3", '{"customer_id":"eve","number":8,"lines":3000000000,"total":"a lot"}')
LAST = _event("4", '{"customer_id":"ada","number":9,"lines":-2,"total":1e3,"paid":null,"more":[]}')
EVENTS = (RICH, PLAIN, MISFIT, LAST)
FITTING = len(EVENTS) - 1
STRUCTS = [
    (
        "Struct{event_id=1,customer=Zoë 🎁,number=9007199254740993,lines=3,total=12.5,weight=1.25,"
        'paid=true,tags=[new, a "b"],address=Struct{city=Bern,zip=3011}}'
    ),
    "Struct{event_id=2,customer=bob,number=7,lines=1,total=7.0}",
    "Struct{event_id=4,customer=ada,number=9,lines=-2,total=1000.0}",
]
LIMITS = {
    ("int64", "-9223372036854775808"): "-9223372036854775808",
    ("int64", "9223372036854775807"): "9223372036854775807",
    ("int32", "-2147483648"): "-2147483648",
    ("int32", "2147483647"): "2147483647",
    ("float64", "1.7976931348623157E308"): "1.7976931348623157E308",
    ("float64", "4.9E-324"): "4.9E-324",
    ("float64", f"0.{'1' * 998}"): "0.1111111111111111",
    ("float32", "3.4028235e38"): "3.4028235E38",
    ("float32", "16777216"): "1.6777216E7",
    ("string", '"\\ud83c\\udf81\\u0000\\/"'): "🎁\0/",
    ("string", '""'): "",
    ("boolean", "false"): "false",
}
"""A type and the JSON text of a value -> what Java writes for it."""
BEYOND = {
    "int64": ("9223372036854775808", "1.0", '"1"', "true"),
    "int32": ("2147483648", "1e2"),
    "float64": ("1e309", "1e-400", "9007199254740993", f"0.{'1' * 999}", '"1"'),
    "float32": ("3.5e38", "1e-46", "16777217"),
    "string": ("1", "{}", "[]"),
    "boolean": ("0", '"true"'),
}
"""Type -> JSON texts that are of another one, or that it cannot hold."""


@pytest.fixture(scope="module")
def forwarded(kafka: Kafka) -> Iterator[SimpleNamespace]:
    """The topics that one forwarder has made of `EVENTS`; each route takes them all."""
    source, letters = kafka.create(kafka.new_name("orders"), 1), kafka.new_name("letters")
    checked = {"steps": STEPS, "schema": SCHEMA}
    shapes: dict[str, dict[str, Any]] = {
        "as_it_is": {"format": "cloudevents"},
        "plain": {"format": "plain", **checked},
        "enveloped": {"format": "connect-envelope", **checked},
        "unchecked": {"format": "plain", "steps": STEPS},
    }
    # One partition each: the lines have an order.
    topics = {name: kafka.create(kafka.new_name(name), 1) for name in shapes}
    routes = [
        {"name": name, "from": [source], "to": topics[name], **shape}
        for name, shape in shapes.items()
    ]
    settings = {"dead_letter": {"topic": letters}, "topics": {"partitions": 1}}
    with Forwarder(kafka.servers, routes, settings) as forwarder:
        _produce(kafka, source, EVENTS)
        for name, shape in shapes.items():
            wrong = len(EVENTS) - FITTING if "schema" in shape else 0
            forwarder.wait_for(name, {"acked": len(EVENTS) - wrong, "rejected": wrong})
        schema = _connect_schema(forwarder, "plain")
        yield SimpleNamespace(source=source, letters=letters, schema=schema, **topics)


def _produce(kafka: Kafka, topic: str, values: Sequence[str | None]) -> None:
    producer = Producer({"bootstrap.servers": kafka.servers, "acks": "all", "log_level": 0})
    for value in values:
        producer.produce(topic, value)
    assert producer.flush(20) == 0


def _connect_schema(forwarder: Forwarder, route: str) -> str:
    """What the command line prints for ``schema.content``."""
    command = ["-m", "ingest_forward", "--config", str(forwarder.config), "schema", route]
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, check=True, capture_output=True, text=True, timeout=30
    )
    (line,) = done.stdout.splitlines()
    return line


def test_cloudevents_are_read_as_they_were_written(
    kafka: Kafka, forwarded: SimpleNamespace, start_sink: Callable[..., FileSink]
) -> None:
    """A StringConverter gets the very text of each envelope."""
    sink = start_sink(forwarded.as_it_is, {"": STRING})
    assert sink.lines(len(EVENTS)) == list(EVENTS)


def test_plain_data_are_read_as_maps(
    kafka: Kafka, forwarded: SimpleNamespace, start_sink: Callable[..., FileSink]
) -> None:
    """A JsonConverter without schemas gets the data alone, shaped; Java's maps have no order."""
    sink = start_sink(forwarded.plain, {"": JSON, "schemas.enable": "false"})
    assert sink.lines(FITTING) == [
        (
            "{number=9007199254740993, total=12.5, event_id=1, address={zip=3011, city=Bern},"
            ' paid=true, weight=1.25, lines=3, customer=Zoë 🎁, tags=[new, a "b"]}'
        ),
        "{number=7, total=7, event_id=2, lines=1, customer=bob}",
        "{number=9, total=1000.0, event_id=4, paid=null, lines=-2, customer=ada}",
    ]


def test_enveloped_data_are_read_as_structs(
    kafka: Kafka, forwarded: SimpleNamespace, start_sink: Callable[..., FileSink]
) -> None:
    """A JsonConverter with schemas gets every field with the type that the route declares."""
    sink = start_sink(forwarded.enveloped, {"": JSON, "schemas.enable": "true"})
    assert sink.lines(FITTING) == STRUCTS


def test_plain_data_are_read_as_structs_where_the_sink_has_the_schema(
    kafka: Kafka, forwarded: SimpleNamespace, start_sink: Callable[..., FileSink]
) -> None:
    """What the command ``schema`` prints is the converter's schema.content (KIP-1054)."""
    converter = {"": JSON, "schemas.enable": "true", "schema.content": forwarded.schema}
    assert start_sink(forwarded.plain, converter).lines(FITTING) == STRUCTS


def test_what_does_not_fit_the_schema_is_a_dead_letter(
    kafka: Kafka, forwarded: SimpleNamespace
) -> None:
    """One for each route with a schema, with the record as it was and the field that is wrong."""
    letters = kafka.read(forwarded.letters)
    assert [letter.value.decode() for letter in letters] == [MISFIT] * 2
    headers = [dict(letter.headers) for letter in letters]
    assert {each["ingest.route"] for each in headers} == {b"plain", b"enveloped"}
    for each in headers:
        assert each["__connect.errors.exception.class.name"] == b"schema_mismatch"
        assert each["__connect.errors.exception.message"].startswith(b"/lines: ")


def test_the_converter_alone_would_have_made_it_another_record(
    kafka: Kafka, forwarded: SimpleNamespace, start_sink: Callable[..., FileSink]
) -> None:
    """Numbers that do not fit, and words, become other numbers: why routes check types."""
    converter = {"": JSON, "schemas.enable": "true", "schema.content": forwarded.schema}
    first, second, misfit, last = start_sink(forwarded.unchecked, converter).lines(len(EVENTS))
    assert [first, second, last] == STRUCTS
    assert misfit == "Struct{event_id=3,customer=eve,number=8,lines=-1294967296,total=0.0}"


def test_values_come_through_as_they_are_or_not_at_all(
    kafka: Kafka, start_forwarder: Callable[..., Forwarder], start_sink: Callable[..., FileSink]
) -> None:
    """Up to the limits of each type; beyond them they are dead letters, and stop no sink."""
    source, target = (kafka.create(kafka.new_name(), 1) for _ in range(2))
    schema = {name: {"type": name, "optional": True} for name in BEYOND}
    form = {"format": "connect-envelope", "schema": schema}
    route = {"name": "all", "from": [source], "to": target, **form}
    forwarder = start_forwarder([route], {"dead_letter": {"topic": kafka.new_name("letters")}})
    beyond = [(name, text) for name, texts in BEYOND.items() for text in texts]
    _produce(kafka, source, [_event("1", f'{{"{n}":{text}}}') for n, text in (*beyond, *LIMITS)])
    _produce(kafka, source, [None])
    forwarder.wait_for("all", {"acked": len(LIMITS) + 1, "rejected": len(beyond)})
    sink = start_sink(target, {"": JSON, "schemas.enable": "true"})
    expected = [f"Struct{{{name}={text}}}" for (name, _), text in LIMITS.items()]
    assert sink.lines(len(LIMITS) + 1) == [*expected, "null"]


async def test_from_a_post_to_a_line_in_the_file_of_a_sink(
    kafka: Kafka,
    start_client: Callable[..., Client],
    start_forwarder: Callable[..., Forwarder],
    start_sink: Callable[..., FileSink],
) -> None:
    """Gateway, forwarder and Kafka Connect, each started as users start it; a misfit stays out."""
    source, target = (kafka.create(kafka.new_name(stem), 1) for stem in ("orders", "warehouse"))
    letters = kafka.new_name("letters")
    client = start_client({"sources.orders": {"topic": source, "type": "order.created"}})
    route = {
        "name": "orders-to-warehouse",
        "from": [source],
        "where": {"all": [{"type": "order.created"}, {"field": "/total", "exists": True}]},
        "steps": [{"rename": {"/customer_id": "/customer"}}, {"drop": ["/card"]}],
        "to": target,
        "format": "connect-envelope",
        "schema": {"customer": "string", "total": "float64"},
    }
    forwarder = start_forwarder([route], {"dead_letter": {"topic": letters}})
    sink = start_sink(target, {"": JSON, "schemas.enable": "true"})
    orders = [
        {"customer_id": "c1", "total": 12.5, "card": "4111"},
        {"customer_id": "c2", "total": "free"},
        {"customer_id": "c3"},
        {"customer_id": "c4", "total": 3},
    ]
    answer = await client.post("orders", json.dumps(orders).encode())
    assert (answer.status, answer.document["accepted"]) == (200, len(orders))
    forwarder.wait_for(route["name"], {"acked": 2, "rejected": 1, "skipped": 1})
    assert sink.lines(2) == ["Struct{customer=c1,total=12.5}", "Struct{customer=c4,total=3.0}"]
    (letter,) = kafka.read(letters)
    assert json.loads(letter.value)["data"] == orders[1]
