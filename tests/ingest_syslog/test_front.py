"""A worker as a whole: what it is made of, how it changes while it runs, and how it ends."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from typing import Any

import pytest

from ingest.settings import FileContent
from ingest_syslog.front import SyslogFront, make, when_of
from ingest_syslog.rules import When
from ingest_syslog.settings import WhenSettings
from tests.syslog_door import (
    LETTERS,
    OpenDoor,
    configured,
    lines,
    message,
    messages,
    on_uvloop,
    open_door,
    until,
)
from tests.syslog_tls import Authority

TCP: dict[str, Any] = {"protocol": "tcp"}
UDP: dict[str, Any] = {"protocol": "udp"}
RELP: dict[str, Any] = {"protocol": "relp"}
SSHD = {"when": {"app_name": "sshd"}, "source": "auth"}


def listeners(door: OpenDoor, **changes: Any) -> dict[str, Any]:
    """The section [syslog] with every listener changed in this way."""
    names = ("name", "protocol", "listen", "source")
    return {
        "listeners": [
            {**{name: getattr(each, name) for name in names}, **changes}
            for each in door.config.syslog.listeners
        ]
    }


# What changes while it runs.


@on_uvloop
async def test_a_reload_exchanges_rules_while_connections_stay() -> None:
    """From the next read on."""
    async with open_door(TCP, RELP, UDP) as door:
        client, session = await door.connect(), await door.relp()
        await client.send(lines([message("1", app="sshd")]))
        await door.written(1)
        await door.reload(syslog={"rules": [SSHD]})
        await client.send(lines([message("2", app="sshd")]))
        await door.written(1, "auth")
        await session.acked(await session.deliver(message("3", app="sshd")))
        door.datagrams(message("4", app="sshd"))
        assert await door.written(3, "auth") == ["2", "3", "4"]
        await door.reload(syslog={"rules": []})
        await client.send(lines([message("5", app="sshd")]))
        assert await door.written(2) == ["1", "5"]


@on_uvloop
async def test_a_reload_exchanges_sources() -> None:
    """Their topics, their types, and which of them a listener has."""
    async with open_door(TCP) as door:
        client = await door.connect()
        await client.send(lines([message("1")]))
        await door.written(1)
        sources = {"logs": {"topic": "other", "type": "new"}, "auth": {}}
        await door.reload(sources=sources)
        await client.send(lines([message("2")]))
        assert await door.written(1, "other") == ["2"]
        assert door.values("other")[0]["type"] == "new"
        assert door.producer.followed == {"other", LETTERS}
        await door.reload(sources=sources, syslog=listeners(door, source="auth"))
        await client.send(lines([message("3")]))
        assert await door.written(1, "auth") == ["3"]
        assert door.outcomes(source="auth") == {"acked": 1}


@on_uvloop
async def test_a_reload_exchanges_certificates_for_newcomers() -> None:
    """Who is here stays."""
    old, new = Authority(), Authority()
    async with open_door({**TCP, "tls": old.tls}) as door:
        here = await door.connect(ssl=old.context(), server_hostname="localhost")
        await door.connected(1)
        await door.reload(syslog=listeners(door, tls=new.tls))
        await here.send(lines([message("here")]))
        assert await door.written(1) == ["here"]
        newcomer = await door.connect(ssl=new.context(), server_hostname="localhost")
        await newcomer.send(lines([message("new")]))
        assert await door.written(2) == ["here", "new"]
        with pytest.raises(ssl.SSLCertVerificationError):
            await door.connect(ssl=old.context(), server_hostname="localhost")


@on_uvloop
async def test_a_reload_that_is_rejected_changes_nothing() -> None:
    """Neither rules nor certificates nor topics: all of it or none."""
    authority = Authority()
    async with open_door({**TCP, "tls": authority.tls}) as door:
        broken = {**authority.tls, "key": FileContent("key.pem", b"no key")}
        followed = set(door.producer.followed)
        syslog = listeners(door, tls=broken) | {"rules": [SSHD]}
        with pytest.raises(ValueError, match=r"key\.pem"):
            await door.reload(syslog=syslog)
        assert door.producer.followed == followed
        client = await door.connect(ssl=authority.context(), server_hostname="localhost")
        await client.send(lines([message("still", app="sshd")]))
        assert await door.written(1) == ["still"]


@on_uvloop
async def test_what_is_in_flight_at_a_reload_keeps_its_place_in_the_budget() -> None:
    """The source is the same, and so is who waits for it."""
    async with open_door(RELP) as door:
        session = await door.relp()
        door.producer.answering.clear()
        numbers = await session.deliver(*messages(3))
        await door.written(3)
        used = door.used_bytes
        await door.reload(syslog={"rules": [SSHD]})
        holder = door.front._roads["logs"].holder
        assert holder.held_bytes == used > 0
        door.producer.answering.set()
        await session.acked(numbers)
        assert holder.held_bytes == 0


# What it says of itself.


@pytest.mark.parametrize(
    ("connected", "reasons"),
    [(True, []), (False, ["kafka_unreachable"]), (None, ["starting"])],
)
@on_uvloop
async def test_it_is_ready_when_kafka_is_there(
    *, connected: bool | None, reasons: list[str]
) -> None:
    """Also before it was ever reached."""
    async with open_door(TCP) as door:
        door.producer.connected = connected
        status = door.front.status()
        assert (status.reasons, status.kafka_up) == (reasons, bool(connected))


@on_uvloop
async def test_its_status_has_connections_bytes_and_bad_topics() -> None:
    """Of each listener that has connections."""
    async with open_door(TCP, RELP, UDP) as door:
        door.producer.answering.clear()
        client = await door.connect()
        await client.send(lines(messages(3)))
        await door.written(3)
        door.topics[LETTERS].problem = "topic_missing"
        status = door.front.status()
        assert status.connections == {"tcp": 1, "relp": 0}
        assert status.inflight_bytes == door.used_bytes > 0
        assert status.degraded == {LETTERS: "topic_missing"}
        door.topics[LETTERS].problem = ""


@pytest.mark.parametrize(
    ("settings", "when"),
    [
        ({}, When()),
        ({"facility": "auth"}, When(facility=frozenset({4}))),
        ({"facility": ["kern", "local7"]}, When(facility=frozenset({0, 23}))),
        ({"severity_at_least": "warning"}, When(severity_at_least=4)),
        ({"app_name": "sshd"}, When(app_name=("sshd",))),
        ({"host": ["a", "b*"]}, When(host=("a", "b*"))),
        ({"peer": "10.0.0.0/8"}, When(peer=("10.0.0.0/8",))),
        ({"listener": "udp"}, When(listener=frozenset({"udp"}))),
        ({"listener": ["udp", "tcp"]}, When(listener=frozenset({"udp", "tcp"}))),
    ],
)
def test_conditions_are_what_was_configured(settings: dict[str, Any], when: When) -> None:
    """One value or several, by name or by number."""
    assert when_of(WhenSettings.model_validate(settings)) == when


# The end.


@on_uvloop
async def test_a_good_end_drops_nothing() -> None:
    """Everything that was taken is in Kafka, and who was answered was answered rightly."""
    async with open_door(TCP, RELP, UDP) as door:
        client, session = await door.connect(), await door.relp()
        await client.send(lines(messages(10)))
        numbers = await session.deliver(*messages(10))
        door.datagrams(*messages(10))
        await session.acked(numbers)
        closing = asyncio.create_task(door.shut())
        assert (await session.response()).command == b"serverclose"
        session.writer.close()
        assert await closing == 0
        assert door.outcomes() == {"acked": 30}


@on_uvloop
async def test_the_deadline_holds_though_a_sender_never_ends() -> None:
    """What it had sent by then is not lost."""
    async with open_door(TCP) as door:
        client = await door.connect()
        loop = asyncio.get_running_loop()

        async def send_for_ever() -> None:
            with suppress(OSError):
                while True:
                    await client.send(lines([message()]))
                    await asyncio.sleep(0.001)

        sending = asyncio.create_task(send_for_ever())
        await door.written(5)
        begun = loop.time()
        await door.shut(0.5)
        assert loop.time() - begun < 1.0
        sending.cancel()
        with suppress(asyncio.CancelledError):
            await sending
        assert door.dropped("shutting_down") == door.lost


@on_uvloop
async def test_datagrams_that_nobody_had_time_to_read_are_counted() -> None:
    """There is a time for the end, which may be short."""
    async with open_door(UDP, TCP) as door:
        door.producer.reachable.clear()
        door.front._listeners["udp"].hold()
        door.datagrams(*messages(5_000))
        lost = await door.shut(0.05)
        door.book_kernel_drops()
        assert lost + door.dropped("kernel") == 5_000


@on_uvloop
async def test_a_worker_that_never_reached_kafka_ends_and_says_what_is_lost() -> None:
    """With the real producer: TCP's messages are dropped, RELP's are their client's."""
    kafka = {"bootstrap_servers": "127.0.0.1:1"}
    async with open_door(TCP, RELP, real_producer=True, kafka=kafka) as door:
        client, session = await door.connect(), await door.relp()
        await client.send(lines(messages(3)))
        await session.deliver(*messages(2))
        await until(lambda: door.counted("ingest_events_received_total") == 5)
        assert door.front.status().kafka_up is False
        assert await door.shut(0.5) == 3
        assert door.outcomes() == {"dropped": 3, "failed": 2}


@on_uvloop
async def test_a_worker_is_made_on_its_loop() -> None:
    """Without anything that would have to be closed."""
    front = await make(configured(TCP, UDP))
    assert isinstance(front, SyslogFront)
    assert front.status().reasons == ["starting"]
