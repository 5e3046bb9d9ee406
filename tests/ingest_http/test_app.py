"""The answers of the HTTP door, as the contract has them, through a real socket."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import json
import re
import zlib
from collections import Counter
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import zstandard

from ingest.settings import FileContent
from tests import http_door
from tests.http_door import (
    BILLING_KEY,
    KEY,
    LETTERS,
    array,
    chunked,
    counted,
    ndjson,
    open_door,
    request,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.http_door import OpenDoor

door = http_door.door

NDJSON = "application/x-ndjson"
BOM = b"\xef\xbb\xbf"
BAD = b'{"customer":[1]}'
"""An event that the source ``keyed`` rejects."""
GOOD = b'{"customer":"c"}'


def data(opened: OpenDoor, topic: str = "orders") -> list[bytes]:
    """The client's bytes in each record of ``topic``."""
    return [record.value.partition(b',"data":')[2][:-1] for record in opened.records(topic)]


def headers_of(opened: OpenDoor, number: int = 0) -> dict[str, bytes]:
    """The headers of a dead letter."""
    return dict(opened.records(LETTERS)[number].headers)


# What is taken.


@pytest.mark.parametrize(
    ("media", "body", "events"),
    [
        ("application/json", b'{"a":1}', [b'{"a":1}']),
        ("application/json", b'\r\n {"a" : 1}\t\n', [b'{"a" : 1}']),
        ("application/json", b'[{"a":1}, {"b":2}\n]', [b'{"a":1}', b'{"b":2}']),
        ("application/json", b'{"a":1,"a":2}', [b'{"a":1,"a":2}']),
        ("application/json", b'{"n":%b}' % (b"9" * 400), [b'{"n":%b}' % (b"9" * 400)]),
        ("application/json", '{"ü":"€"}'.encode(), ['{"ü":"€"}'.encode()]),
        ("application/json", BOM + b"{}", [b"{}"]),
        ("application/json", BOM + b" [{}]", [b"{}"]),
        ("application/json", b"[]", []),
        (NDJSON, b'{"a":1}\n{"b": 2}\n', [b'{"a":1}', b'{"b": 2}']),
        (NDJSON, b'{"a":1}\r\n{"b":2}', [b'{"a":1}', b'{"b":2}']),
        (NDJSON, b'\n\n{"a":1}\n \t\r\n{"b":2}\n\n', [b'{"a":1}', b'{"b":2}']),
        (NDJSON, BOM + b'{"a":1}\n', [b'{"a":1}']),
        (NDJSON, b"", []),
        (NDJSON, BOM, []),
        (NDJSON, b"\n \r\n\t\n", []),
        ("application/jsonl", b'{"a":1}\n{}', [b'{"a":1}', b"{}"]),
    ],
)
async def test_the_bytes_of_each_event_are_in_kafka_when_it_is_acknowledged(
    door: OpenDoor, media: str, body: bytes, events: list[bytes]
) -> None:
    """200 comes with exact counts, and the events are in the topic, in order and as sent."""
    answer = await door.post(body, "X-Request-Id: mine", media=media)
    counts = {"accepted": len(events), "spooled": 0, "rejected": 0, "retry": 0, "unknown": 0}
    assert answer.status == 200
    assert answer.document == {"request_id": "mine", **counts, "results": []}
    assert data(door) == events


async def test_a_record_is_the_event_in_its_envelope(door: OpenDoor) -> None:
    """CloudEvents 1.0, structured, with what the event brings of its own."""
    event = b'{"id":7,"type":"t","time":"2026-01-02T03:04:05Z"}'
    await door.post(event)
    (record,) = door.records()
    assert record.headers == [("content-type", b"application/cloudevents+json; charset=UTF-8")]
    assert json.loads(record.value) == {
        "specversion": "1.0",
        "source": "/sources/orders",
        "id": "7",
        "type": "t",
        "time": "2026-01-02T03:04:05Z",
        "data": json.loads(event),
    }


async def test_time_and_timestamp_are_those_of_the_receipt(door: OpenDoor) -> None:
    """An event without a time has the time of receipt, which is the record's timestamp."""
    await door.post()
    (record,), (value,) = door.records(), door.values()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", value["time"])
    assert value["time"][17:23] == f"{record.timestamp_ms / 1000 % 60:06.3f}"


async def test_the_key_of_a_record_is_the_value_at_the_pointer(door: OpenDoor) -> None:
    """A string as its text, a number as its JSON text, nothing where it is absent."""
    events = (b'{"customer":"\\u00fc"}', b'{"customer":1.50}', b"{}", b'{"customer":null}')
    await door.post(array(*events), source="keyed")
    assert {
        bytes(event): record.key
        for event, record in zip(data(door, "keyed"), door.records("keyed"), strict=True)
    } == dict(zip(events, ("ü".encode(), b"1.50", None, None), strict=True))


# Results.


async def test_full_results_tell_where_each_event_is(door: OpenDoor) -> None:
    """Topic, partition and offset of every event, in the order of the events."""
    events = [b'{"n":%d,"customer":%d}' % (n, n % 7) for n in range(50)]
    answer = await door.post(array(*events), target="/v1/events/keyed?results=all")
    found = {(record.partition, record.offset): record.value for record in door.records("keyed")}
    places = [(each["partition"], each["offset"]) for each in answer.results]
    assert len({partition for partition, _ in places}) > 1
    assert [json.loads(found[place])["data"]["n"] for place in places] == list(range(50))
    assert [json.loads(found[place])["id"] for place in places] == [
        each["id"] for each in answer.results
    ]
    assert {(each["topic"], each["status"]) for each in answer.results} == {("keyed", "ok")}


async def test_full_results_list_every_kind_of_event_in_order(door: OpenDoor) -> None:
    """Rejects stand between the others, at their own index."""
    answer = await door.post(array(GOOD, b"1", BAD, GOOD), target="/v1/events/keyed?results=all")
    assert [(each["index"], each["status"]) for each in answer.results] == [
        (0, "ok"),
        (1, "rejected"),
        (2, "rejected"),
        (3, "ok"),
    ]
    assert answer.counts == {"accepted": 2, "rejected": 2}


@pytest.mark.parametrize("query", ["", "?results=", "?results=some", "?other=all", "?results"])
async def test_only_results_all_lists_what_is_ok(door: OpenDoor, query: str) -> None:
    """Otherwise only what is not ``ok`` is listed."""
    answer = await door.post(array(GOOD, BAD), target=f"/v1/events/keyed{query}")
    assert [each["index"] for each in answer.results] == [1]


async def test_ids_of_the_answer_are_those_in_the_topic(door: OpenDoor) -> None:
    """An event's own id where it is fit to be one, else one that nobody else has."""
    events = (b"{}", b'{"id":"a"}', b'{"id":1}', b'{"id":""}', b'{"id":null}', b'{"id":"%b"}')
    body = array(*events[:-1], events[-1] % (b"x" * 257))
    first = await door.post(body, target="/v1/events/orders?results=all")
    second = await door.post(body, target="/v1/events/orders?results=all")
    ids = [each["id"] for answer in (first, second) for each in answer.results]
    assert ids == [value["id"] for value in door.values()]
    assert ids[1:3] == ids[7:9] == ["a", "1"]
    made = [each for each in ids if each not in {"a", "1"}]
    assert len(set(made)) == len(made) == 8


@pytest.mark.parametrize(("rejects", "truncated"), [(1000, False), (1001, True), (1500, True)])
async def test_at_most_a_thousand_rejects_are_listed(
    door: OpenDoor, rejects: int, *, truncated: bool
) -> None:
    """The counts stay exact, and the answer says that the list is cut."""
    answer = await door.post(array(GOOD, *[BAD] * rejects), source="keyed")
    assert answer.counts == {"accepted": 1, "rejected": rejects}
    assert [each["index"] for each in answer.results] == list(range(1, min(rejects, 1000) + 1))
    assert answer.document.get("truncated", False) is truncated


async def test_full_results_are_not_cut(door: OpenDoor) -> None:
    """Every event is listed, however many there are."""
    body = array(*[GOOD] * 1100, *[BAD] * 1100)
    answer = await door.post(body, target="/v1/events/keyed?results=all")
    assert [each["index"] for each in answer.results] == list(range(2200))
    assert "truncated" not in answer.document


async def test_everything_that_is_to_be_sent_again_is_listed() -> None:
    """``retry`` is never cut, rejects among them are."""
    async with open_door(limits={"ack_seconds": 0.2}, dead_letter={"mode": "off"}) as door:
        door.producer.reachable.clear()
        answer = await door.post(array(*[GOOD] * 1500, *[BAD] * 1500), source="keyed")
        assert answer.status == 503
        assert answer.counts == {"retry": 1500, "rejected": 1500}
        assert [each["index"] for each in answer.results] == list(range(2500))
        assert answer.document["truncated"] is True


# The status table.


async def test_rejects_that_are_kept_do_not_change_the_status(door: OpenDoor) -> None:
    """200: every usable event is in Kafka, every reject in the dead letter topic."""
    answer = await door.post(array(GOOD, BAD), source="keyed")
    assert (answer.status, answer.counts) == (200, {"accepted": 1, "rejected": 1})
    (reject,) = answer.results
    assert (reject["index"], reject["status"], reject["code"]) == (1, "rejected", "bad_key")
    assert "kept" not in reject
    assert data(door, "keyed") == [GOOD]


async def test_rejects_that_cannot_be_kept_are_207() -> None:
    """With dead letters off, the answer says that no copy is kept."""
    async with open_door(dead_letter={"mode": "off"}) as door:
        answer = await door.post(array(GOOD, BAD), source="keyed")
        assert (answer.status, answer.counts) == (207, {"accepted": 1, "rejected": 1})
        assert answer.results[0]["kept"] is False
        assert door.records(LETTERS) == []


async def test_rejects_that_the_dead_letter_topic_refuses_are_207(door: OpenDoor) -> None:
    """Kept are only those that it took."""
    door.topics[LETTERS].refuses = frozenset({b"1"})
    answer = await door.post(b"[{},1,2]")
    assert (answer.status, answer.counts) == (207, {"accepted": 1, "rejected": 2})
    assert [each.get("kept") for each in answer.results] == [False, None]
    assert [letter.value for letter in door.records(LETTERS)] == [b"2"]


@pytest.mark.parametrize("mode", ["on", "off"])
async def test_a_batch_without_any_usable_event_is_422(mode: str) -> None:
    """A problem document that carries the counts and the results."""
    async with open_door(dead_letter={"mode": mode}) as door:
        answer = await door.post(b"[1,2]")
        assert (answer.status, answer.code) == (422, "no_usable_event")
        assert answer.counts == {"rejected": 2}
        assert [each["code"] for each in answer.results] == ["not_an_object"] * 2
        assert len(door.records(LETTERS)) == (2 if mode == "on" else 0)


async def test_what_never_left_is_503_and_is_not_in_kafka() -> None:
    """Every event is ``retry``, none of them turns up when Kafka is back."""
    async with open_door(limits={"ack_seconds": 0.1}) as door:
        door.producer.reachable.clear()
        answer = await door.post(b'[{"id":"a"},{"id":"b"}]')
        assert (answer.status, answer.code) == (503, "kafka_unavailable")
        assert answer.counts == {"retry": 2}
        assert [each["id"] for each in answer.results] == ["a", "b"]
        door.producer.reachable.set()
        assert (await door.post(b'{"id":"c"}')).status == 200
        assert [value["id"] for value in door.values()] == ["c"]


async def test_what_was_not_answered_in_time_is_504() -> None:
    """``unknown``, with the ids to send it again with."""
    async with open_door(limits={"ack_seconds": 0.1}) as door:
        door.producer.answering.clear()
        answer = await door.post(b'[{"id":"a"},{}]')
        assert (answer.status, answer.code) == (504, "ack_timeout")
        assert answer.counts == {"unknown": 2}
        assert [each["id"] for each in answer.results] == [v["id"] for v in door.values()]


async def test_a_reject_whose_dead_letter_is_not_acked_is_to_be_sent_again() -> None:
    """It is ``retry``, and the ``unknown`` of the other event decides the status."""
    async with open_door(limits={"ack_seconds": 0.1}) as door:
        door.producer.answering.clear()
        answer = await door.post(b"[1,{}]")
        assert (answer.status, answer.counts) == (504, {"retry": 1, "unknown": 1})
        assert [each["status"] for each in answer.results] == ["retry", "unknown"]
        assert (await door.post(b"[1]")).status == 503


async def test_what_is_only_in_the_spool_is_202_and_listed(door: OpenDoor) -> None:
    """A naive client is done with it, a curious one sees what is not in Kafka yet."""
    door.producer.spool, door.producer.spooling = [], True
    answer = await door.post(b'[{"id":"a"},1,{}]')
    assert (answer.status, answer.headers["content-type"]) == (202, "application/json")
    assert answer.counts == {"accepted": 2, "spooled": 2, "rejected": 1}
    assert [each["status"] for each in answer.results] == ["spooled", "rejected", "spooled"]
    assert answer.results[0] == {"index": 0, "id": "a", "status": "spooled"}
    assert "kept" not in answer.results[1]
    assert sorted(topic for topic, _ in door.producer.spool) == [LETTERS, "orders", "orders"]
    full = await door.post(target="/v1/events/orders?results=all")
    assert (full.status, full.results[0].keys()) == (202, {"index", "id", "status", "topic"})
    assert door.is_untouched()


async def test_a_dead_letter_only_in_the_spool_is_202(door: OpenDoor) -> None:
    """Every usable event is in Kafka, and still not all is where it will be."""
    door.producer.spool = []
    door.producer.spooling = {LETTERS}
    answer = await door.post(b"[{},1]")
    assert (answer.status, answer.counts) == (202, {"accepted": 1, "rejected": 1})
    assert [(each["status"], each["code"]) for each in answer.results] == [
        ("rejected", "not_an_object")
    ]
    assert len(door.records()) == 1
    assert [topic for topic, _ in door.producer.spool] == [LETTERS]
    assert (await door.post(b"[1]")).status == 422, "no event was usable"


async def test_with_kafka_away_and_a_full_spool_nothing_is_read(door: OpenDoor) -> None:
    """The client learns it at once instead of at the deadline, and nothing was taken."""
    door.producer.spool, door.producer.spooling, door.producer.room = [], True, False
    answer = await door.post()
    assert (answer.status, answer.code) == (503, "kafka_unavailable")
    assert int(answer.headers["retry-after"]) > 0
    assert "results" not in answer.document
    assert door.is_untouched()
    door.producer.room = True
    assert (await door.post()).status == 202


async def test_a_dry_run_foretells_the_spool(door: OpenDoor) -> None:
    """And does not use it."""
    door.producer.spool, door.producer.spooling = [], True
    answer = await door.post(target="/v1/events/orders?dry_run=1")
    assert (answer.status, answer.counts) == (202, {"accepted": 1, "spooled": 1})
    assert answer.document["dry_run"] is True
    assert door.producer.spool == []


async def test_a_second_request_is_answered_while_kafka_keeps_the_first_waiting() -> None:
    """What waits for Kafka holds up nobody else."""
    async with open_door(limits={"ack_seconds": 5.0}) as door:
        door.producer.reachable.clear()
        first, second = await door.connect(), await door.connect()
        await first.send(request())
        assert (await second.ask(request(source="missing"))).status == 404
        door.producer.reachable.set()
        assert (await first.answer()).status == 200


async def test_kafka_is_given_ack_seconds_from_the_last_byte_on() -> None:
    """A slow body does not shorten the time that Kafka has."""
    async with open_door(limits={"ack_seconds": 0.3}) as door:
        door.producer.reachable.clear()
        client, body, loop = await door.connect(), request(), asyncio.get_running_loop()
        await client.send(body[:-1])
        await asyncio.sleep(0.4)  # longer than Kafka has
        begun = loop.time()
        answer = await client.ask(body[-1:])
        assert answer.status == 503
        assert 0.28 <= loop.time() - begun < 1.3


async def test_a_full_budget_is_503_and_nothing_is_taken(door: OpenDoor) -> None:
    """An error without results: send it again."""
    lease = door.budget.reserve(door.budget.limit_bytes)
    assert lease is not None
    answer = await door.post()
    lease.release()
    assert (answer.status, answer.code) == (503, "overloaded")
    assert "results" not in answer.document
    assert door.is_untouched()
    assert (await door.post()).status == 200


async def test_retry_after_has_jitter() -> None:
    """Not everybody comes back at once."""
    async with open_door(limits={"inflight_bytes": 10, "body_bytes": 10, "decoded_bytes": 10}) as (
        door
    ):
        lease = door.budget.reserve(10)
        assert lease is not None
        answers = [await door.post() for _ in range(30)]
        lease.release()
        assert len({answer.headers["retry-after"] for answer in answers}) > 1


# What a request brings for all of its events.

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("own", "base"),
    [("retry-7", "retry-7"), ('"8e03978e"', "8e03978e"), ("x" * 240, "x" * 240)],
)
async def test_an_idempotency_key_makes_the_ids(door: OpenDoor, own: str, base: str) -> None:
    """An event's own id stays; a resend has the same ones."""
    for _ in range(2):
        answer = await door.post(b'[{},1,{"id":"mine"},{}]', f"Idempotency-Key: {own}")
        assert answer.results[0]["id"] == f"{base}-1"
    assert [value["id"] for value in door.values()] == [f"{base}-0", "mine", f"{base}-3"] * 2


@pytest.mark.parametrize(
    "headers",
    [
        ["Idempotency-Key:"],
        ['Idempotency-Key: ""'],
        ["Idempotency-Key: " + "x" * 241],
        ["Idempotency-Key: a b"],
        ['Idempotency-Key: a"b'],
        ["Idempotency-Key: a\\b"],
        ["Idempotency-Key: ä"],
        ["Idempotency-Key: a", "Idempotency-Key: a"],
    ],
)
async def test_what_is_no_idempotency_key_is_400(door: OpenDoor, headers: list[str]) -> None:
    """It would be worse to ignore it: a resend would be taken for new events."""
    answer = await door.post(b"{}", *headers)
    assert (answer.status, answer.code) == (400, "bad_idempotency_key")
    assert door.is_untouched()


async def test_the_request_id_is_not_the_idempotency_key(door: OpenDoor) -> None:
    """Each request has its own, also where it is sent again."""
    answers = [await door.post(b"{}", "Idempotency-Key: a") for _ in range(2)]
    assert len({answer.document["request_id"] for answer in answers} - {"a"}) == 2


async def test_a_valid_traceparent_is_an_attribute_of_every_event(door: OpenDoor) -> None:
    """Also of events with a type of their own; an invalid one is none."""
    await door.post(b'[{},{"type":"t","id":5}]', f"traceparent: {TRACE}")
    await door.post(b"{}", "traceparent: 00-nonsense")
    traces = [value.get("traceparent") for value in door.values()]
    assert traces == [TRACE, TRACE, None]
    assert [value["type"] for value in door.values()] == ["orders", "t", "orders"]


# Dead letters.


async def test_a_dead_letter_is_the_original_bytes_with_what_happened(door: OpenDoor) -> None:
    """Its headers have the names that Kafka Connect gives them."""
    bad = b'{"customer": {"a" : 1},"id":"x"}'
    answer = await door.post(array(GOOD, bad), "X-Request-Id: r-1", source="keyed")
    (letter,) = door.records(LETTERS)
    assert letter.value == bad
    assert letter.timestamp_ms == door.records("keyed")[0].timestamp_ms
    headers = headers_of(door)
    assert headers.pop("ingest.received").decode() == door.values("keyed")[0]["time"]
    assert headers == {
        "__connect.errors.topic": b"keyed",
        "__connect.errors.stage": b"VALUE_CONVERTER",
        "__connect.errors.exception.class.name": b"bad_key",
        "__connect.errors.exception.message": answer.results[0]["detail"].encode(),
        "ingest.source": b"keyed",
        "ingest.request.id": b"r-1",
    }


async def test_what_kafka_refuses_is_kept_as_the_client_sent_it(door: OpenDoor) -> None:
    """The dead letter is the bytes of ``data``; the neighbours are in the topic."""
    refused = b'{"id": "x"}'
    answer = await door.post(array(GOOD, refused, GOOD), source="compacted")
    assert (answer.status, answer.counts) == (200, {"accepted": 2, "rejected": 1})
    (reject,) = answer.results
    assert (reject["index"], reject["id"], reject["code"]) == (1, "x", "refused_by_kafka")
    assert [letter.value for letter in door.records(LETTERS)] == [refused]
    headers = headers_of(door)
    assert headers["__connect.errors.exception.class.name"] == b"refused_by_kafka"
    assert headers["__connect.errors.stage"] == b"KAFKA_PRODUCE"
    assert data(door, "compacted") == [GOOD, GOOD]


async def test_an_event_larger_than_its_topic_takes_is_rejected_alone(door: OpenDoor) -> None:
    """The topic's own limit counts, not only that of the configuration."""
    large = b'{"a":"%b"}' % (b"x" * 20_000)
    answer = await door.post(array(GOOD, large), source="small")
    assert (answer.status, answer.counts) == (200, {"accepted": 1, "rejected": 1})
    assert answer.results[0]["code"] == "event_too_large"
    assert [letter.value for letter in door.records(LETTERS)] == [large]


async def test_a_dead_letter_is_cut_to_what_its_topic_takes(door: OpenDoor) -> None:
    """It says so, and how large the event was."""
    door.topics[LETTERS].max_message_bytes = 5_000
    large = b'{"a":"%b"}' % (b"x" * 20_000)
    answer = await door.post(array(GOOD, large), source="small")
    assert answer.status == 200
    (letter,) = door.records(LETTERS)
    assert large.startswith(letter.value)
    assert 3_000 < len(letter.value) < 5_000
    headers = headers_of(door)
    assert headers["ingest.original_bytes"] == b"%d" % len(large)
    assert headers["ingest.truncated"] == b"true"


# Media types and content codings.


@pytest.mark.parametrize(
    "media",
    [
        "application/json; charset=utf-8",
        'application/json;charset="UTF-8"',
        "application/json; charset=us-ascii",
        "application/json ; profile=x; Charset=UTF-8",
        "Application/JSON",
        "application/x-ndjson; charset=utf-8",
        "APPLICATION/JSONL",
    ],
)
async def test_media_types_are_accepted_with_their_parameters(door: OpenDoor, media: str) -> None:
    """Case does not matter, nor do parameters other than a charset."""
    assert (await door.post(b'{"a":1}', media=media)).status == 200
    assert data(door) == [b'{"a":1}']


@pytest.mark.parametrize(
    "media",
    [
        None,
        "",
        "text/plain",
        "application/xml",
        "application/json+x",
        "application/jsonx",
        "multipart/form-data; boundary=x",
        "application/json; charset=iso-8859-1",
        "application/json; charset=utf-16",
        'application/x-ndjson; charset="utf-32"',
        "application/json, text/plain",
    ],
)
async def test_any_other_media_type_is_415_with_the_accepted_ones(
    door: OpenDoor, media: str | None
) -> None:
    """A charset other than UTF-8 counts as one, and so does none at all."""
    answer = await door.post(media=media)
    assert (answer.status, answer.code) == (415, "unsupported_media_type")
    for accepted in ("application/json", "application/x-ndjson", "application/jsonl"):
        assert accepted in answer.document["detail"]
    assert door.is_untouched()


@pytest.mark.parametrize(
    ("media", "hint"),
    [("application/x-www-form-urlencoded", True), ("text/plain", False)],
)
async def test_who_forgets_the_type_with_curl_is_told_the_header(
    door: OpenDoor, media: str, *, hint: bool
) -> None:
    """The type that ``curl -d`` sends on its own has a hint."""
    answer = await door.post(media=media)
    assert ("-H 'Content-Type: application/json'" in answer.document["detail"]) is hint


ENCODERS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("identity", bytes),
    ("", bytes),
    ("gzip", gzip.compress),
    ("GZip", gzip.compress),
    ("deflate", zlib.compress),
    ("deflate", lambda body: zlib.compress(body, wbits=-15)),
    ("zstd", zstandard.compress),
    ("gzip", lambda body: gzip.compress(body[:5]) + gzip.compress(body[5:])),
    ("zstd", lambda body: zstandard.compress(body[:5]) + zstandard.compress(body[5:])),
]


@pytest.mark.parametrize(("encoding", "encode"), ENCODERS)
@pytest.mark.parametrize("size", [1, 200_000])
async def test_each_content_coding_is_decoded(
    door: OpenDoor, encoding: str, encode: Callable[[bytes], bytes], size: int
) -> None:
    """Small bodies and large ones, whole and in several members or frames."""
    event = b'{"a":"%b"}' % (b"x" * size)
    answer = await door.post(encode(event), f"Content-Encoding: {encoding}")
    assert answer.status == 200
    assert data(door) == [event]


@pytest.mark.parametrize(
    "headers",
    [
        ["Content-Encoding: br"],
        ["Content-Encoding: gzip, zstd"],
        ["Content-Encoding: gzip, identity"],
        ["Content-Encoding: gzip", "Content-Encoding: gzip"],
        ["Content-Encoding: identity", "Content-Encoding: gzip"],
        ["Content-Encoding: x"],
    ],
)
async def test_any_other_content_coding_is_415(door: OpenDoor, headers: list[str]) -> None:
    """One only, and only those of the contract; the answer lists them."""
    answer = await door.post(gzip.compress(b"{}"), *headers)
    assert (answer.status, answer.code) == (415, "unsupported_encoding")
    for accepted in ("gzip", "deflate", "zstd", "identity"):
        assert accepted in answer.document["detail"]


# Who may send.


def _basic(user: str, password: str = "") -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize(
    "headers",
    [
        [f"Authorization: Bearer {KEY}"],
        [f"Authorization: bearer  {KEY}"],
        [f"X-API-Key: {KEY}"],
        [f"x-api-key:{KEY}"],
        [f"Authorization: {_basic(KEY)}"],
        [f"Authorization: {_basic(KEY, 'ignored')}"],
        [f"Authorization: Bearer {KEY}", f"X-API-Key: {KEY}"],
    ],
)
async def test_each_kind_of_credential_is_taken(door: OpenDoor, headers: list[str]) -> None:
    """Bearer, a header of its own, or the user name of Basic; the same key twice is one key."""
    assert (await door.post(b"{}", *headers, key=None)).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        [],
        ["X-API-Key: wrong"],
        ["X-API-Key:"],
        [f"X-API-Key: {KEY.upper()}"],
        ["Authorization: Bearer wrong"],
        ["Authorization: Bearer"],
        [f"Authorization: {KEY}"],
        [f"Authorization: Digest {KEY}"],
        ["Authorization: Basic %%%"],
        [f"Authorization: {_basic('', KEY)}"],
        ["Authorization: Bearer \xff\xfe"],
        [f"Authorization: Bearer {KEY}", "X-API-Key: wrong"],
        ["Authorization: Bearer wrong", f"X-API-Key: {KEY}"],
        [f"Authorization: Bearer {KEY}", f"X-API-Key: {BILLING_KEY}"],
        [f"X-API-Key: {KEY}", f"X-API-Key: {BILLING_KEY}"],
        [f"Authorization: Bearer {KEY}", f"Authorization: Bearer {BILLING_KEY}"],
        [f"Authorization: Bearer {KEY}", f"Authorization: {_basic('wrong')}"],
    ],
)
async def test_no_key_a_wrong_one_or_different_ones_are_401(
    door: OpenDoor, headers: list[str]
) -> None:
    """The answer says how to authenticate, and nothing is taken."""
    answer = await door.post(b"{}", *headers, key=None)
    assert (answer.status, answer.code) == (401, "unauthenticated")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert door.is_untouched()


@pytest.mark.parametrize(("key", "status"), [(None, 200), ("wrong", 401), (KEY, 200)])
async def test_where_no_key_is_required_a_wrong_one_is_still_refused(
    key: str | None, status: int
) -> None:
    """Whoever shows a key means it."""
    async with open_door(auth={"required": False}) as door:
        assert (await door.post(key=key)).status == status


@pytest.mark.parametrize(
    ("key", "source", "status", "code"),
    [
        (BILLING_KEY, "orders", 403, "forbidden"),
        (BILLING_KEY, "nowhere", 403, "forbidden"),
        (BILLING_KEY, "billing", 403, "forbidden"),
        (BILLING_KEY, "billing-nowhere", 404, "unknown_source"),
        (KEY, "nowhere", 404, "unknown_source"),
        (KEY, "logs", 403, "source_is_syslog"),
        (BILLING_KEY, "logs", 403, "forbidden"),
    ],
)
async def test_a_key_opens_only_its_sources(
    door: OpenDoor, key: str, source: str, status: int, code: str
) -> None:
    """Whether a source exists is told only to a key that covers its name."""
    answer = await door.post(source=source, key=key)
    assert (answer.status, answer.code) == (status, code)
    assert door.is_untouched()


# Quotas.

QUOTA_KEY = "key with a quota"


def limited(**quotas: int) -> dict[str, Any]:
    """A section [auth] in which `QUOTA_KEY` has these quotas, and the others have none."""
    digest = hashlib.sha256(QUOTA_KEY.encode()).hexdigest()
    own = {"sha256": [digest], "sources": ["*"], **quotas}
    return {"keys": http_door.KEYS | {"limited": own}}


LIMITED = limited(events_per_second=1)


@pytest.mark.parametrize(
    ("quotas", "body", "used"),
    [
        ({"events_per_second": 5}, b"[{},{},{},{},{},{}]", "events_per_second"),
        ({"bytes_per_second": 50}, b'{"a":"%b"}' % (b"x" * 60), "bytes_per_second"),
        ({"bytes_per_second": 50, "events_per_second": 100}, b" " * 99 + b"{}", "bytes_per_second"),
    ],
)
async def test_a_quota_that_is_used_up_is_429(
    quotas: dict[str, int], body: bytes, used: str
) -> None:
    """A batch larger than the bucket passes once, and is charged in full; others have theirs."""
    async with open_door(auth=limited(**quotas)) as door:
        before = counted("ingest_quota_refusals_total", key="limited", quota=used)
        assert (await door.post(body, key=QUOTA_KEY)).status == 200
        refused = await door.post(body, key=QUOTA_KEY)
        assert (refused.status, refused.code) == (429, "quota_exceeded")
        assert refused.document["quota"] == used
        assert int(refused.headers["retry-after"]) >= 1
        assert int(refused.headers["ratelimit-remaining"]) == 0
        assert len(door.records()) == body.count(b"{")
        assert (await door.post(body)).status == 200
        assert counted("ingest_quota_refusals_total", key="limited", quota=used) == before + 1


async def test_who_waits_as_told_is_served_again() -> None:
    """The time to wait is that of the bucket."""
    async with open_door(auth=LIMITED) as door:
        assert (await door.post(b"[{},{}]", key=QUOTA_KEY)).status == 200
        refused = await door.post(key=QUOTA_KEY)
        await asyncio.sleep(int(refused.headers["retry-after"]))
        assert (await door.post(key=QUOTA_KEY)).status == 200


async def test_chunks_are_charged_as_well() -> None:
    """Who does not declare the length of a body pays for it all the same."""
    async with open_door(auth=limited(bytes_per_second=50)) as door:
        body = chunked(b'{"a":"%b"}' % (b"x" * 60))
        headers = "Transfer-Encoding: chunked"
        assert (await door.post(body, headers, key=QUOTA_KEY)).status == 200
        assert (await door.post(body, headers, key=QUOTA_KEY)).status == 429


async def test_requests_at_the_same_time_have_a_quota() -> None:
    """One that waits for Kafka holds its place, and gives it back with its answer."""
    async with open_door(auth=limited(concurrent_requests=1)) as door:
        door.producer.answering.clear()
        waiting = await (await door.connect()).send(request(key=QUOTA_KEY))
        await http_door.until(door.records)
        refused = await door.post(key=QUOTA_KEY)
        assert (refused.status, refused.document["quota"]) == (429, "concurrent_requests")
        door.producer.answering.set()
        assert (await waiting.answer()).status == 200
        assert (await door.post(key=QUOTA_KEY)).status == 200


@pytest.mark.parametrize("body", [b"{", b"[" * 600, b"1"])
async def test_a_bad_request_gives_its_place_back(body: bytes) -> None:
    """Whatever the answer was."""
    async with open_door(auth=limited(concurrent_requests=1)) as door:
        for _ in range(2):
            assert (await door.post(body, key=QUOTA_KEY)).status in {400, 422}


async def test_each_answer_tells_what_is_left_of_a_quota() -> None:
    """And says nothing of quotas to who has none."""
    async with open_door(auth=limited(events_per_second=100)) as door:
        answer = await door.post(b"[{},{},{}]", key=QUOTA_KEY)
        assert int(answer.headers["ratelimit-limit"]) == 100
        assert int(answer.headers["ratelimit-remaining"]) in {97, 98}
        assert not any(name.startswith("ratelimit") for name in (await door.post()).headers)


# The share of the budget.


async def test_one_client_cannot_use_up_the_budget() -> None:
    """Whoever floods is refused beyond half of it, while the others are served."""
    limits = {"inflight_bytes": 100_000, "body_bytes": 10_000, "decoded_bytes": 10_000}
    async with open_door(limits={**limits, "event_bytes": 10_000}, auth=limited()) as door:
        door.producer.answering.clear()
        event = b'{"a":"%b"}' % (b"x" * 1900)
        flood = [await (await door.connect()).send(request(event)) for _ in range(30)]
        await http_door.until(lambda: door.budget.used_bytes > 45_000)
        other = await (await door.connect()).send(request(b'{"b":1}', key=QUOTA_KEY))
        await http_door.until(lambda: any(b'"b":1' in each.value for each in door.records()))
        door.producer.answering.set()
        assert (await other.answer()).status == 200
        statuses = Counter([(await client.answer()).status for client in flood])
        assert statuses.keys() == {200, 503}


async def test_without_keys_each_address_has_its_share() -> None:
    """Who floods anonymously is told from the others by where he is."""
    limits = {"inflight_bytes": 100_000, "body_bytes": 10_000, "decoded_bytes": 10_000}
    auth = {"required": False}
    async with open_door(limits={**limits, "event_bytes": 10_000}, auth=auth) as door:
        door.producer.answering.clear()
        flood = request(b'{"a":"%b"}' % (b"x" * 1900), key=None)
        clients = [await (await door.connect()).send(flood) for _ in range(30)]
        await http_door.until(lambda: door.budget.used_bytes > 45_000)
        other = await door.connect(local_addr=("127.0.0.2", 0))
        await other.send(request(b'{"b":1}', key=None))
        await http_door.until(lambda: any(b'"b":1' in each.value for each in door.records()))
        door.producer.answering.set()
        assert (await other.answer()).status == 200
        assert 503 in [(await client.answer()).status for client in clients]


# The order of the checks.

FAULTS: list[tuple[dict[str, Any], int, str]] = [
    ({"target": "/v2/nothing"}, 404, "not_found"),
    ({"method": "PUT"}, 405, "method_not_allowed"),
    ({"key": "wrong"}, 401, "unauthenticated"),
    ({"key": BILLING_KEY}, 403, "forbidden"),
    ({"source": "nowhere"}, 404, "unknown_source"),
    ({"media": "text/plain"}, 415, "unsupported_media_type"),
    ({"body": b"x" * 101}, 413, "body_too_large"),
    ({"key": QUOTA_KEY}, 429, "quota_exceeded"),
    ({"body": b"x"}, 503, "overloaded"),
]
"""What can be wrong, in the order of the contract; all of them are wrong from one on."""


@pytest.mark.parametrize("first", range(len(FAULTS)), ids=lambda i: FAULTS[i][2])
async def test_the_first_check_that_fails_decides(first: int) -> None:
    """Path, method, key, its sources, source, media type, length, budget, in this order."""
    limits = {"body_bytes": 100, "decoded_bytes": 100, "inflight_bytes": 1000}
    parts: dict[str, Any] = {}
    for fault, _, _ in reversed(FAULTS[first:]):
        parts |= fault
    async with open_door(limits=limits, auth=LIMITED) as door:
        assert (await door.post(b"[{},{}]", key=QUOTA_KEY)).status == 200
        lease = door.budget.reserve(1000)
        assert lease is not None
        answer = await door.ask(request(parts.pop("body"), **parts))
        lease.release()
    assert (answer.status, answer.code) == FAULTS[first][1:]


async def test_what_is_found_while_reading_comes_before_what_the_body_says() -> None:
    """Too large comes before not being JSON."""
    async with open_door(limits={"body_bytes": 100, "decoded_bytes": 100}) as door:
        answer = await door.post(chunked(b"x" * 101), "Transfer-Encoding: chunked")
        assert (answer.status, answer.code) == (413, "body_too_large")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
async def test_any_other_method_is_405_with_the_allowed_ones(door: OpenDoor, method: str) -> None:
    """It needs no key."""
    client = await door.connect()
    answer = await client.ask(request(b"", method=method, key=None, media=None))
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD, POST")
    assert (await client.ask(request())).status == 200


async def test_the_answer_to_head_has_no_body(door: OpenDoor) -> None:
    """Whatever it says: the next answer begins right behind it."""
    client = await door.connect()
    await client.send(request(b"", method="HEAD", key=None, media=None))
    assert (await client.head())[0] == 401
    assert (await client.ask(request())).status == 200


# Request ids.


@pytest.mark.parametrize("own", ["a", "A-Z_0.9", "x" * 128])
async def test_a_request_id_is_echoed(door: OpenDoor, own: str) -> None:
    """In the header and in the document, whatever the answer is."""
    for body in (b"{}", b"{"):
        answer = await door.post(body, f"X-Request-Id: {own}")
        assert answer.headers["x-request-id"] == answer.document["request_id"] == own


@pytest.mark.parametrize("own", ["", "a b", "x" * 129, "ä", 'a"b', "a/b", "<script>", None])
async def test_a_request_id_that_is_none_is_replaced(door: OpenDoor, own: str | None) -> None:
    """By one that is made, and never the same."""
    headers = [] if own is None else [f"X-Request-Id: {own}"]
    made = {(await door.post(b"{}", *headers)).headers["x-request-id"] for _ in range(3)}
    assert len(made) == 3
    assert all(re.fullmatch(r"[A-Za-z0-9._-]{1,128}", each) for each in made)


# What is counted.


async def test_requests_and_rejects_are_counted_by_source(door: OpenDoor) -> None:
    """A source that nobody configured is ``unknown``; no label comes from the request."""

    def now() -> list[float]:
        return [
            counted("ingest_requests_total", source="keyed", status="200"),
            counted("ingest_requests_total", source="keyed", status="400"),
            counted("ingest_requests_total", source="unknown", status="404"),
            counted("ingest_rejects_total", source="keyed", code="bad_key"),
            counted("ingest_events_total", source="keyed", outcome="acked"),
            counted("ingest_events_total", source="keyed", outcome="rejected"),
            counted("ingest_received_bytes_total", source="keyed"),
        ]

    before, body = now(), array(GOOD, BAD, BAD)
    await door.post(body, source="keyed")
    await door.post(b"{", source="keyed")
    await door.post(source="nowhere")
    changes = [after - then for after, then in zip(now(), before, strict=True)]
    assert changes == [1, 1, 1, 2, 1, 2, len(body) + 1]


async def test_received_bytes_are_those_of_the_wire(door: OpenDoor) -> None:
    """Compressed bodies count as they came."""
    body = gzip.compress(b'{"a":"%b"}' % (b"x" * 5000))
    before = counted("ingest_received_bytes_total", source="orders")
    await door.post(body, "Content-Encoding: gzip")
    assert counted("ingest_received_bytes_total", source="orders") - before == len(body)


# Real clients.


async def test_aiohttp_as_a_client_is_answered(door: OpenDoor) -> None:
    """A batch from a library, twice over one connection."""
    url = f"http://127.0.0.1:{door.port}/v1/events/orders"
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}"}) as session:
        for _ in range(2):
            async with session.post(url, json=[{"a": 1}, {"b": 2}]) as answer:
                assert (answer.status, (await answer.json())["accepted"]) == (200, 2)
        assert len(door.door) == 1
    assert data(door) == [b'{"a": 1}', b'{"b": 2}'] * 2


async def test_curl_as_a_client_is_answered(door: OpenDoor) -> None:
    """A body large enough that curl asks for leave to send it."""
    body = ndjson(*[b'{"a":"%b"}' % (b"x" * 1000)] * 2000)
    options = ("-H", "Content-Type: application/x-ndjson", "-H", "Expect: 100-continue")
    printed = await door.curl("orders", *options, body=body)
    assert json.loads(printed)["accepted"] == len(door.records()) == 2000


async def test_what_takes_too_long_to_read_is_503_in_time() -> None:
    """Bodies that wait for others to be split are within the time of their answer."""
    body = b'[{"a":[%b[]]}]' % (b"[]," * 250_000)
    async with open_door(limits={"ack_seconds": 0.05}) as door:
        clients = [await (await door.connect()).send(request(body)) for _ in range(20)]
        begun = asyncio.get_running_loop().time()
        answers = [await client.answer() for client in clients]
        assert asyncio.get_running_loop().time() - begun < 3
        assert "overloaded" in {answer.code for answer in answers if answer.status == 503}


async def test_a_schema_that_takes_too_long_is_503_in_time() -> None:
    """Nothing is taken of a batch that could not be checked."""
    schema = {"items": {"enum": list(range(1000, 3000))}}
    source = {"schema": FileContent("", json.dumps({"properties": {"a": schema}}).encode())}
    limits = {"ack_seconds": 0.1}
    async with open_door(limits=limits, sources={"checked": source}) as door:
        event = b'{"a":[%b3001]}' % (b"2999," * 1000)
        answer = await door.post(array(*[event] * 500), source="checked")
        assert (answer.status, answer.code) == (503, "overloaded")
        assert "results" not in answer.document
        assert door.is_untouched()
