"""What is posted is in Kafka as the answer says: by the real service, through real sockets."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import time
import zlib
from datetime import datetime
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import zstandard

from loadtest.gateway import wait_until
from tests.e2e.conftest import EVENT_BYTES, LETTER_BYTES
from tests.producer_contract import JAVA_MURMUR2, by_place

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import SimpleNamespace

    from loadtest.gateway import Gateway
    from tests.conftest import Kafka
    from tests.e2e.conftest import Answer, Client
    from tests.memory_producer import Record

NDJSON = "application/x-ndjson"
EVENTS = [
    b'{"customer_id":"abc","n":1.50,"n":2}',
    b'{ "customer_id" : "21", "id": "own-1", "type":"t", "time":"2024-02-29T12:00:00+01:00" }',
    b'{"customer_id":"foobar","id":42,"long":123456789012345678901234567890}',
    '{"text":"Grüße \\u00e9 \\ud83c\\udf81 🎁","nested":{"a":[1,{"b":null}]}}'.encode(),
    b'{"customer_id":null,"id":""}',
    b'{"customer_id":7.0,"id":{"odd":1},"type":3,"time":"yesterday"}',
    b'{"customer_id":true}',
]
KEYS = [b"abc", b"21", b"foobar", None, None, b"7.0", b"true"]
OWN_IDS = {1: "own-1", 2: "42"}
HEADERS = [("content-type", b"application/cloudevents+json; charset=UTF-8")]


def raw_deflate(body: bytes) -> bytes:
    """What some clients send as deflate: without zlib's header."""
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


MEDIA = [
    pytest.param("application/json", lambda events: events[0], 1, id="object"),
    pytest.param("application/json", lambda events: b"[%b]" % b",".join(events), 7, id="array"),
    pytest.param(NDJSON, lambda events: b"\n\n".join(events) + b"\n", 7, id="ndjson"),
]
ENCODINGS = [
    pytest.param("identity", bytes, id="plain"),
    pytest.param("gzip", gzip.compress, id="gzip"),
    pytest.param("deflate", zlib.compress, id="deflate"),
    pytest.param("deflate", raw_deflate, id="raw deflate"),
    pytest.param("zstd", zstandard.compress, id="zstd"),
]


def listed(kafka: Kafka, answer: Answer) -> list[Record]:
    """The records at the places that an answer names."""
    found = {topic: by_place(kafka.read(topic)) for topic in {r["topic"] for r in answer.results}}
    return [found[r["topic"]][r["partition"], r["offset"]] for r in answer.results]


def moment(text: str) -> float:
    """An RFC 3339 time as seconds since the epoch."""
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(("encoding", "encode"), ENCODINGS)
@pytest.mark.parametrize(("media_type", "assemble", "count"), MEDIA)
async def test_events_are_in_kafka_as_the_answer_says(
    client: Client,
    kafka: Kafka,
    topics: SimpleNamespace,
    *,
    media_type: str,
    assemble: Callable[[Sequence[bytes]], bytes],
    count: int,
    encoding: str,
    encode: Callable[[bytes], bytes],
) -> None:
    """Envelope, bytes, id, key, header, timestamp, partition and offset of every event."""
    begun = time.time()
    body = encode(assemble(EVENTS))
    answer = await client.post(
        "orders", body, media_type, "?results=all", Content_Encoding=encoding
    )
    assert (answer.status, answer.document["accepted"]) == (200, count)
    assert [(r["index"], r["status"]) for r in answer.results] == [(i, "ok") for i in range(count)]
    assert {r["topic"] for r in answer.results} == {topics.orders}
    records = listed(kafka, answer)
    assert [record.key for record in records] == KEYS[:count]
    for index, (result, record) in enumerate(zip(answer.results, records, strict=True)):
        check_envelope(json.loads(record.value), result["id"], index)
        assert record.value.endswith(b'"data":%b}' % EVENTS[index])
        assert record.headers == HEADERS
        assert int(begun * 1000) <= record.timestamp_ms <= time.time() * 1000
        if record.key in JAVA_MURMUR2:
            assert record.partition == (JAVA_MURMUR2[record.key] & 0x7FFFFFFF) % 4
    assert len({record.partition for record in records if record.key is None}) <= 1


def check_envelope(envelope: dict[str, Any], event_id: str, index: int) -> None:
    """A CloudEvent with exactly the contract's attributes, whose id is the answer's."""
    received = moment(envelope["time"])
    own = index == 1  # only this event has a type and a time that can be used
    assert set(envelope) == {"specversion", "source", "id", "type", "time", "data"}
    assert (envelope["specversion"], envelope["source"]) == ("1.0", "/sources/orders")
    assert envelope["id"] == event_id == OWN_IDS.get(index, event_id)
    assert event_id
    assert envelope["type"] == ("t" if own else "order.created")
    assert envelope["time"] == "2024-02-29T12:00:00+01:00" or not own
    assert own or abs(received - time.time()) < 60


async def test_the_time_of_receipt_is_the_records_timestamp(client: Client, kafka: Kafka) -> None:
    """And the time in the envelope of an event without its own, to the millisecond."""
    answer = await client.post("load", b'{"a":1}', query="?results=all")
    (record,) = listed(kafka, answer)
    received = moment(json.loads(record.value)["time"])
    assert int(received * 1000) == pytest.approx(record.timestamp_ms, abs=1)


async def test_made_ids_are_unique(client: Client) -> None:
    """Over events, requests, connections and workers."""
    posts = [client.post("load", b"[{},{},{}]", query="?results=all") for _ in range(40)]
    ids = [r["id"] for answer in await asyncio.gather(*posts) for r in answer.results]
    assert len(set(ids)) == len(ids) == 120


async def test_all_results_are_listed_uncapped_and_in_order(client: Client, kafka: Kafka) -> None:
    """Every one of many events, each at the place that is named for it."""
    events = [b'{"id":"all-%d"}' % number for number in range(1500)]
    body = b"[%b]" % b",".join(events)
    answer = await client.post("load", body, query="?results=all")
    assert [r["id"] for r in answer.results] == [f"all-{number}" for number in range(1500)]
    assert "truncated" not in answer.document
    assert [json.loads(each.value)["id"] for each in listed(kafka, answer)] == [
        r["id"] for r in answer.results
    ]


async def test_a_usual_answer_lists_nothing(client: Client) -> None:
    """Only what is not ok is listed."""
    answer = await client.post("load", b"[{},{}]", X_Request_Id="mine.1")
    assert answer.status == 200
    assert answer.headers["X-Request-Id"] == "mine.1"
    assert answer.document == {
        "request_id": "mine.1",
        "accepted": 2,
        "spooled": 0,
        "rejected": 0,
        "retry": 0,
        "unknown": 0,
        "results": [],
    }


# Rejects.


async def test_rejects_are_in_the_dead_letter_topic_with_their_bytes_and_the_reason(
    client: Client, kafka: Kafka, topics: SimpleNamespace
) -> None:
    """Bad events spoil nobody; results keep the order; letters name source, code and request."""
    lines = {
        0: b'{"id":"good"}',
        1: b'{"id":"broken", "a":',
        2: b'[{"id":"an array"}]',
        3: b'"text"',
        4: b'{"id":"keyed","customer_id":{"a":1}}',
        5: b'{"id":"good too"}',
        6: b'{"id":"\xff"}',
    }
    codes = {
        1: "invalid_json",
        2: "not_an_object",
        3: "not_an_object",
        4: "bad_key",
        6: "invalid_json",
    }
    body = b"\n".join(lines.values())
    answer = await client.post("orders", body, NDJSON, X_Request_Id=kafka.new_name("request"))
    assert (answer.status, answer.document["accepted"]) == (200, 2)
    told = [(r["index"], r["status"], r["code"], r.get("kept")) for r in answer.results]
    assert told == [(index, "rejected", code, None) for index, code in codes.items()]
    letters = letters_of(kafka, topics.letters, answer)
    assert {letter.value: dict(letter.headers) for letter in letters} == {
        lines[result["index"]]: letter_headers(topics.orders, "orders", answer, result)
        for result in answer.results
    }


def letters_of(kafka: Kafka, topic: str, answer: Answer) -> list[Record]:
    """The dead letters of one request; the time in them is checked and taken out."""
    letters = [
        letter
        for letter in kafka.read(topic)
        if ("ingest.request.id", answer.document["request_id"].encode()) in letter.headers
    ]
    for letter in letters:
        (received,) = [value for name, value in letter.headers if name == "ingest.received"]
        assert abs(moment(received.decode()) - time.time()) < 60
        letter.headers.remove(("ingest.received", received))
    return letters


def letter_headers(
    topic: str, source: str, answer: Answer, result: dict[str, Any], stage: str = "VALUE_CONVERTER"
) -> dict[str, bytes]:
    """The headers of a dead letter, but for the time and what a cut one says."""
    headers = {
        "__connect.errors.topic": topic,
        "__connect.errors.stage": stage,
        "__connect.errors.exception.class.name": result["code"],
        "__connect.errors.exception.message": result["detail"],
        "ingest.source": source,
        "ingest.request.id": answer.document["request_id"],
    }
    return {name: value.encode() for name, value in headers.items()}


async def test_a_dead_letter_is_cut_to_what_its_topic_takes(
    client: Client, kafka: Kafka, topics: SimpleNamespace
) -> None:
    """It says so, and how long it was."""
    large = b'{"id":"large","text":"%b"}' % (b"x" * EVENT_BYTES)
    answer = await client.post("load", b'[{"id":"small"},%b]' % large)
    assert (answer.status, answer.document["accepted"]) == (200, 1)
    (result,) = answer.results
    assert (result["index"], result["code"]) == (1, "event_too_large")
    (letter,) = letters_of(kafka, topics.letters, answer)
    assert letter.value == large[: len(letter.value)]
    assert 0.9 * LETTER_BYTES < len(letter.value) < LETTER_BYTES
    assert dict(letter.headers) == {
        **letter_headers(topics.plain, "load", answer, result),
        "ingest.truncated": b"true",
        "ingest.original_bytes": b"%d" % len(large),
    }


async def test_an_event_that_is_too_large_for_its_topic_is_rejected_alone(
    client: Client, kafka: Kafka, topics: SimpleNamespace
) -> None:
    """The topic's own limit counts, and the dead letter has the client's bytes."""
    large = b'{"id":"l","text":"%b"}' % (b"x" * 12_000)
    answer = await client.post("small", b'[%b,{"id":"s"}]' % large)
    assert (answer.status, answer.document["accepted"]) == (200, 1)
    (result,) = answer.results
    assert (result["index"], result["id"], result["code"]) == (0, "l", "event_too_large")
    (letter,) = letters_of(kafka, topics.letters, answer)
    assert letter.value == large


async def test_what_kafka_refuses_is_rejected_alone(
    kafka: Kafka, start_client: Callable[..., Client]
) -> None:
    """The limit was lowered meanwhile: the refusal hits one event, which is kept."""
    topic, letters = kafka.create(kafka.new_name()), kafka.new_name("letters")
    client = start_client({"dead_letter": {"topic": letters}, "sources.load": {"topic": topic}})
    kafka.configure(topic, "max.message.bytes", "2000")
    noise = random.Random(1).randbytes(4000).hex().encode()
    large = b'{"id":"l","text":"%b"}' % noise
    answer = await client.post("load", b'[{"id":"a"},%b,{"id":"b"}]' % large)
    assert (answer.status, answer.document["accepted"]) == (200, 2)
    (result,) = answer.results
    assert (result["index"], result["id"], result["code"]) == (1, "l", "event_too_large")
    (letter,) = letters_of(kafka, letters, answer)
    assert letter.value == large
    assert dict(letter.headers) == letter_headers(topic, "load", answer, result)
    assert {json.loads(record.value)["id"] for record in kafka.read(topic)} == {"a", "b"}


async def test_a_batch_without_a_usable_event_is_422(client: Client) -> None:
    """As a problem document, with the counts."""
    answer = await client.post("load", b"[1,null]")
    assert answer.status == 422
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert (answer.document["code"], answer.document["rejected"]) == ("no_usable_event", 2)


async def test_without_dead_letters_a_reject_is_not_kept_and_says_so(
    kafka: Kafka, start_client: Callable[..., Client]
) -> None:
    """207, and the event is listed with ``"kept": false``."""
    client = start_client({"dead_letter": {"mode": "off"}})
    answer = await client.post("load", b"[{},1]")
    assert (answer.status, answer.document["accepted"]) == (207, 1)
    assert [(r["status"], r["kept"]) for r in answer.results] == [("rejected", False)]


# Topics that cannot be used.


async def test_a_missing_topic_degrades_the_gateway_for_its_sources_alone(
    kafka: Kafka, start_client: Callable[..., Client]
) -> None:
    """Its events are ``retry``; others are in Kafka; readiness stays and names the topic."""
    missing, letters = kafka.new_name("missing"), kafka.create(kafka.new_name("letters"))
    client = start_client(
        {
            "topics": {"create": False},
            "dead_letter": {"topic": letters},
            "sources.load": {"topic": kafka.create(kafka.new_name())},
            "sources.other": {"topic": missing},
        }
    )
    answer = await client.post("other", b"[{},{}]")
    assert (answer.status, answer.document["code"]) == (503, "kafka_unavailable")
    assert [(r["index"], r["status"], r["code"]) for r in answer.results] == [
        (0, "retry", "topic_unavailable"),
        (1, "retry", "topic_unavailable"),
    ]
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    assert (await client.post("load", b"{}")).status == 200
    status, body = client.gateway.manage("/readyz")
    assert (status, json.loads(body)["degraded"]) == (200, {missing: "topic_missing"})


# Two workers, one service.


async def test_all_workers_serve_and_are_counted_together(gateway: Gateway, topics: Any) -> None:
    """Connections are spread over both workers; metrics and status add them up."""
    before = gateway.accounts()["load"]
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=40)) as session:
        await asyncio.gather(*(post_one(session, gateway) for _ in range(40)))
        await asyncio.to_thread(wait_until, lambda: connections(gateway) == 40, 5, "not 40")
        workers = gateway.status()["workers"]
        assert all(worker["connections"]["http"] > 0 for worker in workers)
    assert len({worker["pid"] for worker in workers}) == 2
    assert gateway.accounts()["load"] - before == {"received": 40, "acked": 40}


async def post_one(session: aiohttp.ClientSession, gateway: Gateway) -> None:
    """Post an event on a connection that is kept."""
    fields = {"X-API-Key": gateway.key}
    async with session.post(f"{gateway.url}/v1/events/load", json={}, headers=fields) as reply:
        assert reply.status == 200


def connections(gateway: Gateway) -> int:
    """Open connections by the metrics."""
    (value,) = [each.value for each in gateway.samples() if each.name == "ingest_connections"]
    return int(value)


# The management port.


def test_the_management_port_answers_on_an_address_of_its_own(gateway: Gateway) -> None:
    """Alive, ready, and a status that names Kafka, sources, listeners and workers."""
    assert gateway.management_url != gateway.url
    assert json.loads(gateway.manage("/livez")[1]) == {"alive": True, "reasons": []}
    status, body = gateway.manage("/readyz")
    assert (status, json.loads(body)) == (200, {"ready": True, "reasons": [], "degraded": {}})
    document = gateway.status()
    assert document["kafka"] == {"up": True}
    assert document["sources"].keys() == {"load", "orders", "small"}
    assert document["listeners"]["http"] == gateway.process.addresses["http"]
    assert [worker["slot"] for worker in document["workers"]] == [0, 1]
    assert document["inflight_bytes"] == 0


async def test_metrics_tell_what_was_received_and_answered(
    client: Client, gateway: Gateway
) -> None:
    """Bytes as they came over the wire, requests by status, rejects by code, seconds."""
    before = figures(gateway)
    body = gzip.compress(b"[{},{},3]" + b" " * 1000)
    assert (await client.post("load", body, Content_Encoding="gzip")).status == 200
    assert (await client.post("load", b"{")).status == 400
    assert (await client.post("nobody", b"{}")).status == 404
    changes = dict(figures(gateway).items() - before.items())
    assert {name: value - before.get(name, 0) for name, value in changes.items()} == {
        "ingest_received_bytes_total load": len(body) + 1,
        "ingest_requests_total load 200": 1,
        "ingest_requests_total load 400": 1,
        "ingest_requests_total unknown 404": 1,
        "ingest_rejects_total load not_an_object": 1,
        "ingest_request_seconds_count load": 2,
        "ingest_request_seconds_count unknown": 1,
    }


def figures(gateway: Gateway) -> dict[str, float]:
    """What is counted for the source ``load`` and for unknown ones, by metric and labels."""
    wanted = {
        "ingest_received_bytes_total": ("source",),
        "ingest_requests_total": ("source", "status"),
        "ingest_rejects_total": ("source", "code"),
        "ingest_request_seconds_count": ("source",),
    }
    return {
        " ".join((each.name, *(each.labels[label] for label in wanted[each.name]))): each.value
        for each in gateway.samples()
        if each.name in wanted and each.labels["source"] in {"load", "unknown"}
    }


def test_a_web_page_cannot_drain_the_gateway(gateway: Gateway) -> None:
    """A browser says where a request comes from; it is refused, and nothing happens."""
    assert gateway.manage("/drain", "POST", {"Origin": "http://example.com"})[0] == 403
    assert gateway.manage("/drain")[0] == 405
    assert gateway.ready()
    assert gateway.status()["draining"] is False
