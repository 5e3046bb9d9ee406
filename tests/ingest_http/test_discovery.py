"""What a caller can ask: a source, all of its sources as OpenAPI, and what would happen."""

from __future__ import annotations

import hashlib
import json
import os
from asyncio.subprocess import PIPE, create_subprocess_exec
from typing import TYPE_CHECKING, Any

import pytest

from ingest.settings import FileContent
from tests import http_door
from tests.http_door import BILLING_KEY, KEY, counted, open_door, request

if TYPE_CHECKING:
    from tests.http_door import Answer, OpenDoor

door = http_door.door

ORDER = {
    "type": "object",
    "properties": {"total": {"type": "number", "minimum": 0}, "note": {"$ref": "#/$defs/note"}},
    "required": ["total"],
    "$defs": {"note": {"type": "string"}},
}
SOURCES: dict[str, Any] = {
    "orders": {"key": "/customer/id", "schema": FileContent("", json.dumps(ORDER).encode())},
    "billing-in": {"topic": "money"},
    "logs": {},
}


async def get(door: OpenDoor, target: str, *headers: str, **parts: Any) -> Answer:
    """The answer to a GET."""
    parts = {"method": "GET", "media": None} | parts
    return await door.ask(request(b"", *headers, target=target, **parts))


async def test_a_source_tells_what_it_accepts() -> None:
    """Topic, key, schema and limits, as they are in force."""
    async with open_door(sources=SOURCES, limits={"batch_events": 7}) as door:
        answer = await get(door, "/v1/events/orders")
    assert answer.status == 200
    found = answer.document
    assert (found["topic"], found["key"], found["schema"]) == ("orders", "/customer/id", ORDER)
    assert found["limits"]["batch_events"] == 7
    assert found["dead_letter_topic"] == "ingest.rejected"
    assert found["quotas"] == {}


async def test_the_curl_line_works_as_it_is_pasted() -> None:
    """A shell that knows the key runs it, and its event is in Kafka."""
    async with open_door(sources=SOURCES) as door:
        found = await get(door, "/v1/events/orders", host=f"127.0.0.1:{door.port}")
        shell = ("bash", "-c", found.document["curl"])
        curl = await create_subprocess_exec(*shell, stdout=PIPE, env=os.environ | {"API_KEY": KEY})
        printed, _ = await curl.communicate()
        assert json.loads(printed)["accepted"] == 1
        assert door.values()[0]["data"] == found.document["example"]


@pytest.mark.parametrize(
    ("target", "parts", "status"),
    [
        ("/v1/events/orders", {"key": None}, 401),
        ("/v1/events/orders", {"key": BILLING_KEY}, 403),
        ("/v1/events/nowhere", {"key": BILLING_KEY}, 403),
        ("/v1/events/nowhere", {}, 404),
        ("/v1/events/logs", {}, 403),
        ("/v1/events/", {}, 404),
        ("/openapi.json", {"key": None}, 401),
        ("/openapi.json", {"key": "wrong"}, 401),
        ("/openapi.json", {"method": "POST"}, 405),
        ("/openapi.json", {"method": "POST", "key": None}, 405),
        ("/openapi.json/", {}, 404),
    ],
)
async def test_questions_need_a_key_like_events(
    door: OpenDoor, target: str, parts: dict[str, Any], status: int
) -> None:
    """What may not be written to is not described either."""
    assert (await get(door, target, **parts)).status == status


@pytest.mark.parametrize("target", ["/v1/events/orders", "/openapi.json"])
async def test_head_is_get_without_the_body(door: OpenDoor, target: str) -> None:
    """It has the length that the body would have."""
    client = await door.connect()
    await client.send(request(b"", target=target, method="HEAD", media=None))
    status, headers = await client.head()
    body = (await get(door, target)).body
    assert (status, int(headers["content-length"])) == (200, len(body))
    assert (await client.ask(request())).status == 200


@pytest.mark.parametrize(
    ("key", "sources"),
    [
        (KEY, {"orders", "billing-in", "keyed", "small", "compacted"}),
        (BILLING_KEY, {"billing-in"}),
    ],
)
async def test_openapi_shows_a_key_its_own_sources(key: str, sources: set[str]) -> None:
    """Not even the names of others are in it, nor is it kept for them by a cache."""
    async with open_door(sources=SOURCES) as door:
        answers = [await get(door, "/openapi.json", key=key) for _ in range(2)]
    assert answers[0].body == answers[1].body
    assert answers[0].headers["cache-control"] == "no-store"
    found = answers[0].document
    assert found["openapi"].startswith("3.1.")
    assert found["paths"].keys() - {"/openapi.json"} == {f"/v1/events/{each}" for each in sources}
    assert (b"orders" in answers[0].body) == ("orders" in sources)


@pytest.mark.parametrize(
    ("headers", "url"),
    [
        ([], "http://gateway/v1/events/orders"),
        (["X-Forwarded-Host: gw", "X-Forwarded-Proto: https"], "https://gw/v1/events/orders"),
    ],
)
async def test_the_url_is_the_one_that_clients_use(headers: list[str], url: str) -> None:
    """Also behind a proxy that can be trusted."""
    async with open_door(http={"trusted_proxies": ["127.0.0.0/8"]}) as door:
        found = await get(door, "/v1/events/orders", *headers)
    assert found.document["url"] == url


async def test_nobody_but_a_trusted_proxy_says_how_the_door_is_reached(door: OpenDoor) -> None:
    """Else a client could have another one send its key elsewhere."""
    headers = ("X-Forwarded-Host: evil", "X-Forwarded-Proto: https")
    found = await get(door, "/v1/events/orders", *headers)
    assert found.document["url"] == "http://gateway/v1/events/orders"


# What would happen.


def everything_counted() -> dict[str, float]:
    """Every counter that requests and events move."""
    names = ("events_received", "events", "received_bytes", "rejects", "requests")
    return {name: counted(f"ingest_{name}_total") for name in names}


async def test_a_dry_run_tells_what_would_happen_and_nothing_does(door: OpenDoor) -> None:
    """The answer is that of a real one but for the place; no counter moves."""
    before = everything_counted()
    body = b'[{"customer":"c"},{"customer":[1]},3,{"customer":"d"}]'
    dry = await door.post(body, target="/v1/events/keyed?dry_run=1&results=all")
    assert everything_counted() == before
    assert door.is_untouched()
    real = await door.post(body, target="/v1/events/keyed?results=all")
    assert (dry.status, dry.counts) == (real.status, real.counts)
    assert dry.document.pop("dry_run") is True
    told = [{name: each.get(name) for name in ("index", "status", "code")} for each in dry.results]
    done = [{name: each.get(name) for name in ("index", "status", "code")} for each in real.results]
    assert told == done
    assert {each.get("topic") for each in dry.results} == {"keyed", None}


@pytest.mark.parametrize("query", ["dry_run=1", "dry_run", "dry_run=true", "results=all&dry_run=1"])
async def test_each_way_of_asking_for_a_dry_run_is_one(door: OpenDoor, query: str) -> None:
    """Nobody who means to try writes real events."""
    answer = await door.post(target=f"/v1/events/orders?{query}")
    assert (answer.status, answer.document["dry_run"]) == (200, True)
    assert door.is_untouched()


@pytest.mark.parametrize("query", ["dry_run=0", "dry_run=false", "dry_running=1", "x=dry_run"])
async def test_what_is_no_dry_run_is_real(door: OpenDoor, query: str) -> None:
    """Only what asks for one is one."""
    answer = await door.post(target=f"/v1/events/orders?{query}")
    assert "dry_run" not in answer.document
    assert len(door.records()) == 1


@pytest.mark.parametrize(
    ("source", "body", "code"),
    [
        ("small", b'{"a":"%b"}' % (b"x" * 10_000), "event_too_large"),
        ("compacted", b"{}", "refused_by_kafka"),
        ("orders", b"1", "not_an_object"),
    ],
)
async def test_a_dry_run_foretells_every_reject(source: str, body: bytes, code: str) -> None:
    """Also what only the topic would refuse."""
    sources = {"small": {}, "compacted": {}, "orders": {}}
    async with open_door(sources=sources) as door:
        answer = await door.post(body, target=f"/v1/events/{source}?dry_run=1")
        assert (answer.status, answer.results[0]["code"]) == (422, code)
        assert "kept" not in answer.results[0]
        assert door.is_untouched()


async def test_a_dry_run_foretells_that_a_reject_is_not_kept() -> None:
    """Where dead letters are off, as the real answer would."""
    async with open_door(dead_letter={"mode": "off"}) as door:
        answer = await door.post(b"[{},1]", target="/v1/events/orders?dry_run=1")
    assert (answer.status, answer.results[0]["kept"]) == (207, False)


async def test_a_dry_run_foretells_that_kafka_takes_nothing(door: OpenDoor) -> None:
    """Kafka is away, or the topic cannot be used."""
    door.topics["orders"].problem = "topic_forbidden"
    answer = await door.post(target="/v1/events/orders?dry_run=1")
    assert (answer.status, answer.results[0]["code"]) == (503, "topic_unavailable")
    door.topics["orders"].problem = ""
    door.producer.reachable.clear()
    answer = await door.post(target="/v1/events/orders?dry_run=1")
    assert (answer.status, answer.results[0]["code"]) == (503, "kafka_unavailable")


async def test_a_dry_run_of_a_large_batch_gives_its_room_back() -> None:
    """The budget holds it like any other, and no longer."""
    async with open_door() as door:
        body = b"[%b]" % b",".join([b"{}"] * 5000)
        answer = await door.post(body, target="/v1/events/orders?dry_run=1")
        assert answer.document["accepted"] == 5000
        assert door.budget.used_bytes == 0


async def test_a_dry_run_that_is_refused_counts_nothing_either(door: OpenDoor) -> None:
    """It is a dry run from its first line on."""
    before = everything_counted()
    assert (await door.post(b"{", target="/v1/events/orders?dry_run=1")).status == 400
    assert everything_counted() == before


async def test_a_key_that_has_used_up_its_quota_asks_nothing_either() -> None:
    """Answers to questions cost as well."""
    digest = hashlib.sha256(b"limited").hexdigest()
    limited = {"sha256": [digest], "sources": ["*"], "events_per_second": 1}
    async with open_door(auth={"keys": http_door.KEYS | {"limited": limited}}) as door:
        assert (await get(door, "/v1/events/orders", key="limited")).status == 200
        assert (await door.post(b"[{},{}]", key="limited")).status == 200
        assert (await get(door, "/v1/events/orders", key="limited")).status == 429


async def test_without_authentication_the_curl_line_shows_no_credential() -> None:
    """It works as it is."""
    async with open_door(auth={"required": False}) as door:
        found = (await get(door, "/v1/events/orders", key=None)).document
        assert "Authorization" not in found["curl"]
        assert {} in (await get(door, "/openapi.json", key=None)).document["security"]
