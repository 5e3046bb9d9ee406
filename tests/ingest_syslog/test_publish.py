"""From records to one outcome for each of them, whatever Kafka does meanwhile."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from ingest.receipt import Receipt, Run, Status
from ingest_syslog.publish import Countdown
from tests.syslog_door import (
    LETTERS,
    OpenDoor,
    lines,
    message,
    messages,
    on_uvloop,
    open_door,
    until,
)

TCP: dict[str, Any] = {"protocol": "tcp"}
UDP: dict[str, Any] = {"protocol": "udp"}
RELP: dict[str, Any] = {"protocol": "relp"}
SMALL: dict[str, Any] = {"source": "small"}
LARGE = message().ljust(2_000, b"x")
"""More than the topic of ``small`` takes."""
ODD = b"what is this " * 100
"""The same without a grammar, so that all of it is kept as ``raw``."""
BINARY = b"<13>\xff\xfe" * 200
"""The same without UTF-8."""


def refuse(door: OpenDoor, topic: str, word: bytes) -> None:
    """Have Kafka refuse the records of a topic whose message is ``word``.

    Anywhere else in a record it may come by chance: ids are hexadecimal.
    """
    member = b'"message":"%b"' % word

    class Having:
        def __contains__(self, value: bytes) -> bool:
            return member in value

    door.topics[topic].refuses = Having()  # type: ignore[assignment]


def code_of(record: Any) -> bytes:
    """Why something is a dead letter."""
    headers = dict(record.headers)
    return bytes(headers["__connect.errors.exception.class.name"])


# Refused records.


@pytest.mark.parametrize(
    ("text", "kept"), [(ODD, ODD), (BINARY, BINARY), (LARGE, None)], ids=["raw", "base64", "ok"]
)
@on_uvloop
async def test_records_too_large_for_their_topic_become_dead_letters(
    text: bytes, kept: bytes | None
) -> None:
    """With the bytes that were sent where the record has them, else with the whole record."""
    async with open_door({**TCP, **SMALL, "framing": "nul"}) as door:
        client = await door.connect()
        await client.send(text + b"\0" + message("fits") + b"\0")
        assert await door.written(1, "small-topic") == ["fits"]
        await door.written(1, LETTERS)
        (letter,) = door.records(LETTERS)
        if kept is None:
            envelope = json.loads(letter.value)
            assert envelope["source"] == "/sources/small"
            assert envelope["data"]["message"] == "hello" + "x" * (2_000 - len(message()))
        else:
            assert letter.value == kept.rstrip(b" ") or letter.value == kept
        headers = dict(letter.headers)
        assert code_of(letter) == b"event_too_large"
        assert headers["__connect.errors.topic"] == b"small-topic"
        assert headers["ingest.source"] == b"small"
        assert headers["ingest.received"].endswith(b"Z")
        assert headers["__connect.errors.stage"] == b"VALUE_CONVERTER"
        await until(lambda: door.outcomes(source="small") == {"acked": 1, "rejected": 1})
        assert door.counted("ingest_rejects_total", code="event_too_large") == 1


@on_uvloop
async def test_records_that_kafka_refuses_become_dead_letters() -> None:
    """Under their own code and stage; the others of the batch are written."""
    async with open_door(RELP) as door:
        refuse(door, "logs", b"bad")
        session = await door.relp()
        numbers = await session.deliver(message("a"), message("bad"), message("b"))
        await session.acked(numbers)
        assert door.texts() == ["a", "b"]
        (letter,) = door.records(LETTERS)
        assert json.loads(letter.value)["data"]["message"] == "bad"
        assert code_of(letter) == b"refused_by_kafka"
        assert dict(letter.headers)["__connect.errors.stage"] == b"KAFKA_PRODUCE"
        assert door.outcomes() == {"acked": 2, "rejected": 1}


@on_uvloop
async def test_a_session_is_answered_when_the_dead_letter_is_there() -> None:
    """Not when the record was refused."""
    async with open_door(RELP) as door:
        refuse(door, "logs", b"bad")
        door.topics[LETTERS].moving.clear()
        session = await door.relp()
        numbers = await session.deliver(message("bad"))
        await until(lambda: door.front._publisher.open == 1)
        for _ in range(20):
            await asyncio.sleep(0)
        assert session.is_silent()
        door.topics[LETTERS].moving.set()
        await session.acked(numbers)


@pytest.mark.parametrize("kind", [TCP, UDP, RELP])
@on_uvloop
async def test_without_dead_letters_refused_records_are_counted_as_lost(
    kind: dict[str, Any],
) -> None:
    """A client of RELP is answered all the same: to send it again would not help."""
    async with open_door(kind, dead_letter={"mode": "off"}) as door:
        refuse(door, "logs", b"bad")
        frames = [message("a"), message("bad"), message("b")]
        if kind is RELP:
            session = await door.relp()
            await session.acked(await session.deliver(*frames))
        elif kind is UDP:
            door.datagrams(*frames)
        else:
            await (await door.connect()).send(lines(frames))
        assert await door.written(2) == ["a", "b"]
        await until(lambda: door.outcomes() == {"acked": 2, "rejected": 1})
        assert door.counted("ingest_dead_letters_lost_total", source="logs") == 1
        assert door.records(LETTERS) == []


@on_uvloop
async def test_a_dead_letter_that_kafka_refuses_is_counted_as_lost() -> None:
    """There is no other place for it."""
    async with open_door(RELP) as door:
        refuse(door, "logs", b"bad")
        refuse(door, LETTERS, b"bad")
        session = await door.relp()
        await session.acked(await session.deliver(message("bad"), message("good")))
        assert door.outcomes() == {"acked": 1, "rejected": 1}
        assert door.counted("ingest_dead_letters_lost_total", source="logs") == 1


@on_uvloop
async def test_several_codes_are_counted_each() -> None:
    """Of one read."""
    async with open_door({**TCP, **SMALL}) as door:
        refuse(door, "small-topic", b"bad")
        client = await door.connect()
        await client.send(lines([LARGE, message("bad"), LARGE, message("good")]))
        await until(lambda: door.outcomes() == {"acked": 1, "rejected": 3})
        assert door.counted("ingest_rejects_total", code="event_too_large") == 2
        assert door.counted("ingest_rejects_total", code="refused_by_kafka") == 1
        assert sorted(map(code_of, door.records(LETTERS))) == [
            b"event_too_large",
            b"event_too_large",
            b"refused_by_kafka",
        ]


# Kafka is away, and there is a spool.


def spool(door: OpenDoor) -> list[tuple[str, bytes]]:
    """Have everything go to the spool; what is in it."""
    kept: list[tuple[str, bytes]] = []
    door.producer.spool, door.producer.spooling = kept, True
    return kept


@pytest.mark.parametrize("kind", [TCP, UDP])
@on_uvloop
async def test_what_is_durable_in_the_spool_is_counted_as_spooled(kind: dict[str, Any]) -> None:
    """Not as acked; nothing is held of it any more, and nothing is lost at the end."""
    async with open_door(kind) as door:
        kept = spool(door)
        if kind is UDP:
            door.datagrams(*messages(3))
        else:
            await (await door.connect()).send(lines(messages(3)))
        await until(lambda: door.outcomes(source="logs") == {"spooled": 3})
        assert [json.loads(value)["data"]["message"] for _, value in kept] == ["0", "1", "2"]
        assert door.used_bytes == 0
        assert await door.shut() == 0


@on_uvloop
async def test_a_session_is_answered_when_the_spool_has_its_frames_for_good() -> None:
    """Not before they are durable there."""
    async with open_door(RELP) as door:
        kept = spool(door)
        door.producer.synced.clear()
        session = await door.relp()
        numbers = await session.deliver(*messages(3))
        await until(lambda: door.front._publisher.open == 1)
        for _ in range(20):
            await asyncio.sleep(0)
        assert session.is_silent()
        assert door.outcomes() == {}
        door.producer.synced.set()
        await session.acked(numbers)
        assert len(kept) == 3
        assert door.outcomes() == {"spooled": 3}


@on_uvloop
async def test_dead_letters_in_the_spool_are_kept() -> None:
    """The message counts as rejected, and its client is answered."""
    async with open_door({**RELP, "frame_bytes": 480, "oversize": "dead_letter"}) as door:
        kept = spool(door)
        session = await door.relp()
        await session.acked(await session.deliver(message("fits"), message().ljust(500, b"x")))
        assert sorted(topic for topic, _ in kept) == [LETTERS, "logs"]
        assert door.outcomes() == {"spooled": 1, "rejected": 1}
        assert door.counted("ingest_dead_letters_lost_total") == 0
        assert door.counted("ingest_rejects_total", code="event_too_large") == 1


@on_uvloop
async def test_each_part_of_a_batch_has_its_own_outcome() -> None:
    """In Kafka, in the spool, refused, neither here nor there: every record counts once."""
    fates = [
        (Status.ACKED, [0, 1], ""),
        (Status.SPOOLED, [2], ""),
        (Status.REFUSED, [3], "refused_by_kafka"),
        (Status.RETRY, [4, 5], "shutting_down"),
        (Status.RETRY, [6], "no_room"),
    ]
    async with open_door(TCP, dead_letter={"mode": "off"}) as door:

        def submit(_topic: str, values: list[bytes], **options: Any) -> Receipt:
            receipt = Receipt(len(values), options["on_settled"])
            for status, at, code in fates:
                receipt.resolve(Run(status, at, code=code, values=[values[i] for i in at]))
            return receipt

        door.producer.submit = submit  # type: ignore[method-assign]
        await (await door.connect()).send(lines(messages(7)))
        wanted = {"acked": 2, "spooled": 1, "rejected": 1, "dropped": 3}
        await until(lambda: door.outcomes() == wanted)
        assert door.dropped("shutting_down") == 2
        assert door.dropped("backpressure") == 1
        assert await door.shut() == 2, "backpressure is no loss of the end"


# The end without Kafka.


@pytest.mark.parametrize("in_flight", [True, False])
@pytest.mark.parametrize("kind", [TCP, UDP])
@on_uvloop
async def test_what_kafka_does_not_have_at_the_end_is_dropped(
    kind: dict[str, Any], *, in_flight: bool
) -> None:
    """Nobody has it any more: that is said, and counted with its reason."""
    async with open_door(kind) as door:
        (door.producer.answering if in_flight else door.producer.reachable).clear()
        if kind is UDP:
            door.datagrams(*messages(5))
        else:
            client = await door.connect()
            await client.send(lines(messages(5)))
        await until(lambda: door.counted("ingest_events_received_total") == 5)
        assert await door.shut(0.3) == 5
        assert door.dropped("shutting_down", listener=kind["protocol"]) == 5
        assert door.outcomes(source="logs") == {"dropped": 5}


@on_uvloop
async def test_frames_of_sessions_that_kafka_does_not_have_at_the_end_failed() -> None:
    """Their client has them and sends them again: nothing is lost, and it was not answered."""
    async with open_door(RELP) as door:
        session = await door.relp()
        door.producer.reachable.clear()
        await session.deliver(*messages(5))
        await until(lambda: door.counted("ingest_events_received_total") == 5)
        closing = asyncio.create_task(door.shut(0.3))
        assert (await session.response()).command == b"serverclose"
        session.writer.close()
        assert await closing == 0
        assert door.outcomes(source="logs") == {"failed": 5}
        assert door.counted("ingest_syslog_dropped_total") == 0


@on_uvloop
async def test_dead_letters_that_kafka_does_not_have_at_the_end_are_dropped() -> None:
    """Neither message nor dead letter is there: that is no reject."""
    async with open_door(TCP) as door:
        refuse(door, "logs", b"bad")
        door.topics[LETTERS].moving.clear()
        client = await door.connect()
        await client.send(lines([message("bad"), message("good")]))
        await until(lambda: door.outcomes() == {"acked": 1})
        assert await door.shut(0.3) == 1
        assert door.outcomes() == {"acked": 1, "dropped": 1}


@on_uvloop
async def test_what_waits_for_its_turn_at_the_end_is_accounted_for_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A read of many frames, the first of which fill the budget; and the one that has begun."""
    monkeypatch.setattr("ingest_syslog.stream.TURN_FRAMES", 10)
    limits = {"inflight_bytes": 20_000, "decoded_bytes": 1_000}
    limits |= {"body_bytes": 1_000, "event_bytes": 1_000}
    async with open_door({**TCP, "frame_bytes": 480}, limits=limits) as door:
        door.producer.reachable.clear()
        client = await door.connect()
        await client.send(lines([*messages(99), b""]) + message("begun"))
        await until(lambda: [each.held for each in door.connections()] == [True])
        assert 10 < door.counted("ingest_events_received_total") < 50
        assert await door.shut(0.3) == 100
        assert door.dropped("shutting_down") == 100
        assert door.dropped("empty") == 1


DEFECTS = ["Fatal error on transport", "Exception in callback"]


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@on_uvloop
async def test_a_producer_with_a_defect_is_no_reason_to_lose_count(protocol: str) -> None:
    """The connection ends; what nobody will ever write is counted, and nothing stays booked."""
    async with open_door({"protocol": protocol}, errors=DEFECTS) as door:

        def submit(*_: object, **__: object) -> Receipt:
            raise ZeroDivisionError

        door.producer.submit = submit  # type: ignore[method-assign]
        if protocol == "tcp":
            client = await door.connect()
            await client.send(lines(messages(3)))
        else:
            door.datagrams(messages(1)[0])
        count = 3 if protocol == "tcp" else 1
        await until(lambda: door.dropped("internal_error") == count)
        assert door.outcomes() == {"dropped": count}
        assert door.used_bytes == 0


# Parts.


def test_a_countdown_calls_back_when_its_last_part_is_done() -> None:
    """Its own part counts, so that nothing is done before all parts are known."""
    calls: list[str] = []
    countdown = Countdown(lambda: calls.append("done"))
    countdown.one_more()
    countdown.one_less()
    assert calls == []
    countdown.one_more()
    countdown.one_less()
    countdown.one_less()
    assert calls == ["done"]


@on_uvloop
async def test_a_receipt_that_is_settled_at_once_has_its_outcomes_too() -> None:
    """A topic that refuses everything answers before it is asked."""
    async with open_door(RELP, dead_letter={"mode": "off"}) as door:

        def submit(_topic: str, values: list[bytes], **options: Any) -> Receipt:
            receipt = Receipt(len(values), options["on_settled"])
            receipt.resolve(Run(Status.REFUSED, range(len(values)), code="x", values=values))
            return receipt

        door.producer.submit = submit  # type: ignore[method-assign]
        session = await door.relp()
        await session.acked(await session.deliver(*messages(2)))
        assert door.outcomes() == {"rejected": 2}
