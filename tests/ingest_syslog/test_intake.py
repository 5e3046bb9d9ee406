"""From what is read to its source: every message is sorted, counted, and accounted for once."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode
from typing import TYPE_CHECKING, Any

import pytest

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

if TYPE_CHECKING:
    from collections.abc import Callable

TCP: dict[str, Any] = {"protocol": "tcp"}
UDP: dict[str, Any] = {"protocol": "udp"}
RELP: dict[str, Any] = {"protocol": "relp"}
OTHER = "127.0.0.2"
AUTH, AUTHPRIV, USER = 4, 10, 1
WARNING, INFO = 4, 6


def pri(facility: int = USER, severity: int = INFO) -> int:
    """The number before a message (RFC 5424, section 6.2.1)."""
    return 8 * facility + severity


# Rules.


@pytest.mark.parametrize(
    ("when", "matches", "other"),
    [
        ({}, message(), None),
        ({"facility": "auth"}, message(pri=pri(AUTH)), message(pri=pri(USER))),
        ({"facility": ["auth", "authpriv"]}, message(pri=pri(AUTHPRIV)), message(pri=pri(USER))),
        (
            {"severity_at_least": "warning"},
            message(pri=pri(severity=WARNING)),
            message(pri=pri(severity=WARNING + 1)),
        ),
        ({"app_name": "sshd"}, message(app="sshd"), message(app="sshd2")),
        ({"app_name": ["cron", "ssh*"]}, message(app="sshd2"), message(app="xcron")),
        ({"host": "db-*"}, message(host="DB-7"), message(host="web-7")),
        (
            {"facility": "auth", "host": "db-*"},
            message(pri=pri(AUTH), host="db-1"),
            message(pri=pri(AUTH), host="web-1"),
        ),
        ({"host": "db-*"}, b"<34>Nov 23 12:00:00 db-1 su: failed", b"<34>db-1 nothing else"),
    ],
)
@on_uvloop
async def test_messages_go_where_the_rule_says_that_matches(
    when: dict[str, Any], matches: bytes, other: bytes | None
) -> None:
    """All others go to the source of the listener."""
    async with open_door(TCP, rules=[{"when": when, "source": "auth"}]) as door:
        client = await door.connect()
        await client.send(lines(filter(None, [matches, other])))
        await door.written(1, "auth")
        assert len(door.records("auth")) == 1
        assert len(await door.written(1 if other else 0)) == (1 if other else 0)
        assert door.values("auth")[0]["source"] == "/sources/auth"
        assert door.outcomes(source="auth") == {"acked": 1}


@on_uvloop
async def test_the_first_rule_that_matches_wins() -> None:
    """Whatever the later ones say."""
    rules = [
        {"when": {"app_name": "sshd"}, "source": "auth"},
        {"when": {"host": "web-*"}, "source": "other"},
        {"when": {"app_name": "sshd"}, "source": "small"},
    ]
    async with open_door(TCP, rules=rules) as door:
        client = await door.connect()
        await client.send(
            lines(
                [
                    message("1", app="sshd", host="web-1"),
                    message("2", app="cron", host="web-1"),
                    message("3", app="cron", host="db-1"),
                ]
            )
        )
        assert await door.written(1) == ["3"]
        assert await door.written(1, "auth") == ["1"]
        assert await door.written(1, "other") == ["2"]
        assert door.records("small-topic") == []


@on_uvloop
async def test_rules_may_ask_for_the_peer() -> None:
    """By its address, of datagrams as of connections."""
    rules = [{"when": {"peer": "127.0.0.2/32"}, "source": "auth"}]
    async with open_door(TCP, UDP, rules=rules) as door:
        for host in ("127.0.0.1", OTHER):
            door.datagrams(message(f"udp {host}"), host=host)
            client = await door.connect(host=host)
            await client.send(lines([message(f"tcp {host}")]))
        assert {*await door.written(2)} == {"udp 127.0.0.1", "tcp 127.0.0.1"}
        assert {*await door.written(2, "auth")} == {f"udp {OTHER}", f"tcp {OTHER}"}


@on_uvloop
async def test_rules_may_ask_for_the_listener() -> None:
    """By its name."""
    rules = [{"when": {"listener": ["udp", "relp"]}, "source": "auth"}]
    async with open_door(TCP, UDP, RELP, rules=rules) as door:
        door.datagrams(message("udp"))
        await (await door.connect()).send(lines([message("tcp")]))
        session = await door.relp()
        await session.acked(await session.deliver(message("relp")))
        assert await door.written(1) == ["tcp"]
        assert {*await door.written(2, "auth")} == {"udp", "relp"}


@on_uvloop
async def test_sorted_messages_keep_their_order_and_have_ids_of_their_own() -> None:
    """Of one read that goes to two sources."""
    rules = [{"when": {"app_name": "sshd"}, "source": "auth"}]
    async with open_door(TCP, rules=rules) as door:
        client = await door.connect()
        apps = ["shop", "sshd", "sshd", "shop", "sshd"] * 100
        await client.send(lines(message(f"{at}", app=app) for at, app in enumerate(apps)))
        for topic, app in (("logs", "shop"), ("auth", "sshd")):
            wanted = [f"{at}" for at, each in enumerate(apps) if each == app]
            assert await door.written(len(wanted), topic) == wanted
        ids = [each["id"] for topic in ("logs", "auth") for each in door.values(topic)]
        assert len({*ids}) == len(apps)
        assert door.outcomes(source="auth") == {"acked": 300}
        assert door.outcomes(source="logs") == {"acked": 200}


@on_uvloop
async def test_a_session_is_answered_when_all_of_its_sources_have_its_frames() -> None:
    """Also where the frames of one read go to two of them."""
    rules = [{"when": {"app_name": "sshd"}, "source": "auth"}]
    async with open_door(RELP, rules=rules) as door:
        session = await door.relp()
        door.topics["auth"].moving.clear()
        numbers = await session.deliver(message("a"), message("b", app="sshd"))
        await until(lambda: door.outcomes() == {"acked": 1})
        assert session.is_silent()
        door.topics["auth"].moving.set()
        await session.acked(numbers)


# More than memory takes.

LIMITS = {"inflight_bytes": 200_000, "decoded_bytes": 10_000, "body_bytes": 10_000}
LIMITS |= {"event_bytes": 10_000}
SMALL_UDP: dict[str, Any] = {**UDP, "frame_bytes": 8_192}
STUCK = [{"when": {"app_name": "stuck"}, "source": "other"}]
"""On one socket, so that the others must go on: it cannot rest."""


async def flood(door: OpenDoor, enough: Callable[[], Any]) -> int:
    """Send datagrams for the source ``other``, which is stuck; says how many."""
    door.topics["other"].moving.clear()
    sent = 0
    while not enough():
        door.datagrams(*messages(50, sent, app="stuck"))
        sent += 50
        await asyncio.sleep(0.002)
    return sent


@on_uvloop
async def test_datagrams_for_which_there_is_no_memory_go_to_the_spool() -> None:
    """Nothing is dropped while it has room; each is accounted for once, others go on."""
    async with open_door(SMALL_UDP, rules=STUCK, limits=LIMITS) as door:
        kept: list[tuple[str, bytes]] = []
        door.producer.spool = kept
        sent = await flood(door, lambda: len(kept) > 200)
        door.datagrams(message("free"))
        assert await door.written(1) == ["free"]
        await until(lambda: door.counted("ingest_events_received_total", source="other") == sent)
        await until(lambda: door.outcomes(source="other") == {"spooled": len(kept)})
        door.topics["other"].moving.set()
        acked = sent - len(kept)
        await until(lambda: door.outcomes(source="other") == {"acked": acked, "spooled": len(kept)})
        texts = [json.loads(value)["data"]["message"] for _, value in kept]
        assert {topic for topic, _ in kept} == {"other"}
        assert sorted([*texts, *door.texts("other")], key=int) == [*map(str, range(sent))]


@on_uvloop
async def test_nobody_waits_for_what_waits_for_the_spool() -> None:
    """The spool bounds what it holds: the budget, which makes everybody rest, has none of it."""
    async with open_door(SMALL_UDP, rules=STUCK, limits=LIMITS) as door:
        door.producer.spool = []
        door.producer.synced.clear()
        budget, holder = door.front._pressure.budget, door.front._roads["other"].holder
        await flood(door, lambda: budget.exceeds_share(holder))
        before, received = door.used_bytes, door.counted("ingest_events_received_total")
        await flood(door, lambda: door.counted("ingest_events_received_total") > received + 500)
        assert (door.used_bytes, budget.paused) == (before, False)
        door.datagrams(message("free"))
        assert await door.written(1) == ["free"]
        door.producer.synced.set()


@on_uvloop
async def test_rejected_datagrams_are_bounded_as_others_are() -> None:
    """A stuck dead letter topic does not fill the memory with what was too long."""
    listener = {**SMALL_UDP, "frame_bytes": 2000, "oversize": "dead_letter"}
    async with open_door(listener, rules=STUCK, limits=LIMITS) as door:
        door.topics[LETTERS].moving.clear()
        door.producer.spool, door.producer.room = [], False
        before = door.counted("ingest_events_received_total")
        long = message("x" * 4000)
        async with asyncio.timeout(10):
            while not door.dropped("backpressure"):
                door.datagrams(*[long] * 10)
                await asyncio.sleep(0.01)
        assert door.used_bytes <= LIMITS["inflight_bytes"]
        door.topics[LETTERS].moving.set()
        dropped = door.dropped("backpressure")
        received = door.counted("ingest_events_received_total") - before
        await until(lambda: door.outcomes() == {"dropped": dropped, "rejected": received - dropped})


@on_uvloop
async def test_datagrams_are_dropped_when_the_spool_has_no_room_either() -> None:
    """That is counted by its reason, once, and nothing of them is held."""
    async with open_door(SMALL_UDP, rules=STUCK, limits=LIMITS) as door:
        door.producer.spool, door.producer.room = [], False
        sent = await flood(door, lambda: door.dropped("backpressure"))
        await until(lambda: door.counted("ingest_events_received_total", source="other") == sent)
        dropped = door.dropped("backpressure")
        assert door.outcomes(source="other") == {"dropped": dropped}
        assert door.producer.spool == []
        door.topics["other"].moving.set()
        await until(
            lambda: door.outcomes(source="other") == {"acked": sent - dropped, "dropped": dropped}
        )
        assert await door.shut() == 0, "it is no loss of the end"


# Envelope and counts.


@on_uvloop
async def test_records_are_what_the_contract_says() -> None:
    """Envelope, key, headers, and the name of the source that was configured."""
    sources = {"logs": {"topic": "elsewhere", "type": "log.line"}}
    async with open_door(TCP, sources=sources) as door:
        client = await door.connect()
        await client.send(lines([message("hi", host="web-7"), b"<13>not even a header"]))
        await door.written(2, "elsewhere")
        (parsed, odd), records = door.values("elsewhere"), door.records("elsewhere")
        assert (parsed["source"], parsed["type"], parsed["subject"]) == (
            "/sources/logs",
            "log.line",
            "web-7",
        )
        assert [each.key for each in records] == [b"web-7", b"127.0.0.1"]
        assert "subject" not in odd
        assert odd["data"]["peer"] == "127.0.0.1"
        assert records[0].headers == [
            ("content-type", b"application/cloudevents+json; charset=UTF-8")
        ]
        assert records[0].timestamp_ms > 0


@on_uvloop
async def test_messages_are_counted_by_format_and_status() -> None:
    """For each listener; and the bytes of each source, without framing."""
    frames = [message(), b"<34>Nov 23 12:00:00 db-1 su: failed", b"what", b"<13>\xff\xfe"]
    async with open_door(TCP) as door:
        client = await door.connect()
        await client.send(lines(frames))
        await door.written(4)
        name = "ingest_syslog_parse_total"
        assert door.counted(name, listener="tcp") == 4
        assert door.counted(name, listener="tcp", format="rfc5424", status="ok") == 1
        assert door.counted(name, listener="tcp", format="rfc3164", status="ok") == 1
        assert door.counted("ingest_received_bytes_total", source="logs") == sum(map(len, frames))


@pytest.mark.parametrize("raw", [b"<13>\xff\xfe\0 odd", b"\xfe" * 100])
@on_uvloop
async def test_what_is_not_utf_8_is_produced_byte_for_byte(raw: bytes) -> None:
    """In base64, with the reason."""
    async with open_door({**UDP, "name": "udp"}) as door:
        door.datagrams(raw)
        await door.written(1)
        (data,) = door.data()
        assert data["reason"] == "invalid_utf8"
        assert "raw" not in data
        assert b64decode(data["raw_base64"]) == raw


@on_uvloop
async def test_dates_without_a_zone_are_in_that_of_the_listener() -> None:
    """As configured."""
    async with open_door({**TCP, "timezone": "Asia/Tokyo"}) as door:
        client = await door.connect()
        await client.send(lines([b"<34>Nov 23 12:00:00 db-1 su: failed"]))
        await door.written(1)
        assert door.data()[0]["timestamp"].endswith("+09:00")


@pytest.mark.parametrize("kind", [TCP, RELP])
@on_uvloop
async def test_oversized_messages_count_for_the_source_of_the_listener(
    kind: dict[str, Any],
) -> None:
    """Among others in one read, whose cuts and order are kept."""
    rules = [{"when": {"app_name": "sshd"}, "source": "auth"}]
    settings = {**kind, "frame_bytes": 480, "oversize": "dead_letter"}
    frames = [
        message("a"),
        message(app="sshd").ljust(500, b"x"),
        message("b", app="sshd"),
        message().ljust(600, b"y"),
        message("c"),
    ]
    async with open_door(settings, rules=rules) as door:
        if kind is TCP:
            await (await door.connect()).send(lines(frames))
        else:
            session = await door.relp()
            await session.acked(await session.deliver(*frames))
        assert await door.written(2) == ["a", "c"]
        assert await door.written(1, "auth") == ["b"]
        await until(lambda: len(door.records(LETTERS)) == 2)
        lengths = [dict(each.headers)["ingest.original_bytes"] for each in door.records(LETTERS)]
        assert lengths == [b"500", b"600"]
        await until(lambda: door.outcomes(source="logs") == {"acked": 2, "rejected": 2})


@on_uvloop
async def test_very_many_senders_are_told_apart() -> None:
    """Each message has the peer that sent it."""
    async with open_door(UDP) as door:
        hosts = [f"127.0.1.{number}" for number in range(1, 200)]
        for host in hosts:
            door.datagrams(message(host), host=host)
        await door.written(len(hosts))
        assert {(each["message"], each["peer"]) for each in door.data()} == {
            (host, host) for host in hosts
        }


@on_uvloop
async def test_peers_that_were_forgotten_are_learnt_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded, whoever sends."""
    monkeypatch.setattr("ingest_syslog.intake.REMEMBERED", 4)
    async with open_door(UDP) as door:
        hosts = [f"127.0.1.{number % 20 + 1}" for number in range(60)]
        for host in hosts:
            door.datagrams(message(host), host=host)
        await door.written(len(hosts))
        assert all(each["message"] == each["peer"] for each in door.data())
        assert len(door.front._intakes["udp"]._tails) <= 4


@on_uvloop
async def test_messages_of_two_listeners_are_told_apart() -> None:
    """By the name of the listener, though they come from one sender to one source."""
    async with open_door(TCP, {**TCP, "name": "second"}) as door:
        for listener in ("tcp", "second"):
            client = await door.connect(listener)
            await client.send(lines(messages(2)))
        await door.written(4)
        assert sorted(each["listener"] for each in door.data()) == ["second"] * 2 + ["tcp"] * 2
