"""Events are held against the schema of their source, and what does not match is told."""

from __future__ import annotations

import asyncio
import json
import math
from time import thread_time
from typing import Any

import pytest

from ingest.schema import Schema
from ingest.settings import FileContent
from ingest_http.validation import mismatches
from tests.http_door import LETTERS, array, counted, ndjson, open_door

ORDER = {
    "type": "object",
    "properties": {"total": {"type": "number", "minimum": 0}},
    "required": ["total"],
}
GOOD, BAD, MISSING = b'{"total":1}', b'{"total":-5,"id":"bad"}', b"{}"
BELOW, REQUIRED = "/total: less than the minimum of 0", "required"


def source(**settings: Any) -> dict[str, Any]:
    """The section [sources] with a source of this schema."""
    content = FileContent("order.json", json.dumps(ORDER).encode())
    return {"checked": {"schema": content, **settings}, "plain": {}}


async def test_what_does_not_match_is_rejected_alone() -> None:
    """It is a dead letter with its code; the rest of its batch is in Kafka."""
    async with open_door(sources=source()) as door:
        answer = await door.post(array(GOOD, BAD, GOOD, MISSING, b"3"), source="checked")
        assert (answer.status, answer.counts) == (200, {"accepted": 2, "rejected": 3})
        codes = [(each["index"], each["code"]) for each in answer.results]
        assert codes == [(1, "schema_mismatch"), (3, "schema_mismatch"), (4, "not_an_object")]
        assert answer.results[0]["detail"] == BELOW
        assert answer.results[0]["id"] == "bad"
        assert REQUIRED in answer.results[1]["detail"]
        letters = door.records(LETTERS)
        assert {record.value for record in letters} == {BAD, MISSING, b"3"}
        headers = next(dict(each.headers) for each in letters if each.value == BAD)
        assert headers["__connect.errors.exception.class.name"] == b"schema_mismatch"
        assert headers["__connect.errors.exception.message"] == BELOW.encode()


async def test_rejects_by_schema_are_counted_by_their_code() -> None:
    """Where operators look for them."""
    async with open_door(sources=source()) as door:
        counter = {"source": "checked", "code": "schema_mismatch"}
        before = counted("ingest_rejects_total", **counter)
        assert await door.post(ndjson(BAD, BAD), source="checked", media="application/x-ndjson")
        assert counted("ingest_rejects_total", **counter) == before + 2


async def test_a_warning_changes_neither_status_nor_outcome() -> None:
    """The event is produced, listed with its real status, and counted."""
    async with open_door(sources=source(validate="warn")) as door:
        before = counted("ingest_schema_warnings_total", source="checked")
        answer = await door.post(array(GOOD, BAD, GOOD), source="checked")
        assert (answer.status, answer.counts) == (200, {"accepted": 3})
        (warned,) = answer.results
        assert warned.items() >= {"index": 1, "id": "bad", "status": "ok"}.items()
        assert warned["warning"] == {"code": "schema_mismatch", "detail": BELOW}
        assert answer.document["warned"] == 1
        assert {value["id"] for value in door.values("checked")} >= {"bad"}
        assert counted("ingest_schema_warnings_total", source="checked") == before + 1


async def test_full_results_carry_the_warnings_too() -> None:
    """Every event is listed, and those that do not match say so."""
    async with open_door(sources=source(validate="warn")) as door:
        answer = await door.post(array(GOOD, BAD), target="/v1/events/checked?results=all")
        assert ["warning" in each for each in answer.results] == [False, True]
        assert all("offset" in each for each in answer.results)


async def test_a_warned_event_that_kafka_does_not_take_has_its_real_status() -> None:
    """The warning is told all the same."""
    async with open_door(sources=source(validate="warn"), limits={"ack_seconds": 0.2}) as door:
        door.producer.reachable.clear()
        answer = await door.post(BAD, source="checked")
        assert (answer.status, answer.results[0]["status"]) == (503, "retry")
        assert answer.results[0]["warning"]["code"] == "schema_mismatch"


@pytest.mark.parametrize("name", ["checked", "plain"])
async def test_what_is_not_to_be_checked_is_not(name: str) -> None:
    """Off, and a source without a schema."""
    async with open_door(sources=source(validate="off")) as door:
        assert (await door.post(BAD, source=name)).counts == {"accepted": 1}


async def test_no_value_of_an_event_is_in_an_answer_or_in_a_header() -> None:
    """Nor the name of a member that the schema does not know."""
    async with open_door(sources=source()) as door:
        answer = await door.post(
            b'{"canary":{"total":"canary"},"total":"canary"}', source="checked"
        )
        assert answer.status == 422
        (letter,) = door.records(LETTERS)
        assert not any(b"canary" in value for _, value in letter.headers)


async def test_a_dry_run_checks_as_well() -> None:
    """It is what a dry run is for."""
    async with open_door(sources=source()) as door:
        answer = await door.post(BAD, target="/v1/events/checked?dry_run=1")
        assert (answer.status, answer.results[0]["detail"]) == (422, BELOW)
        assert door.is_untouched()


async def test_a_large_batch_is_checked_in_turns() -> None:
    """The event loop is free for others all the time."""
    schema, events = Schema(json.dumps(ORDER).encode()), [GOOD, BAD] * 5000
    turns: list[float] = []
    checking = asyncio.create_task(mismatches(schema, events, math.inf))
    while not checking.done():
        begun = thread_time()
        await asyncio.sleep(0)
        turns.append(thread_time() - begun)
    assert len(await checking) == 5000
    assert len(turns) >= 3
    assert sorted(turns)[-2] < 0.05
