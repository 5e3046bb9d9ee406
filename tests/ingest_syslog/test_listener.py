"""Listeners: who may come, how many, for how long, and who they are."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import ssl
import struct
from contextlib import suppress
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from ingest.settings import FileContent
from ingest_syslog.proxy import _V2_SIGNATURE
from tests.syslog_door import (
    OFFERS,
    Client,
    OpenDoor,
    lines,
    message,
    messages,
    on_uvloop,
    open_door,
    until,
)
from tests.syslog_tls import Authority

if TYPE_CHECKING:
    from pathlib import Path

TCP: dict[str, Any] = {"protocol": "tcp"}
RELP: dict[str, Any] = {"protocol": "relp"}
UDP: dict[str, Any] = {"protocol": "udp"}
SHORT = 0.03
"""Seconds: soon over, in a test."""
OURS, OTHER = "127.0.0.1", "127.0.0.2"
SERVER, CLIENTS, STRANGERS = Authority(), trustme.CA(), trustme.CA()
WEB, MAIL = CLIENTS.issue_cert("web.example.com"), CLIENTS.issue_cert("mail.example.org")
STRANGER = STRANGERS.issue_cert("web.example.com")
V1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 6514\r\n"
V2 = _V2_SIGNATURE + struct.pack(
    "!BBH4s4sHH",
    *(0x21, 0x11, 12, ip_address("192.0.2.7").packed, ip_address("198.51.100.1").packed, 1, 2),
)


def fingerprint(certificate: trustme.LeafCert) -> str:
    """By SHA-256."""
    pem = certificate.cert_chain_pems[0].bytes().decode()
    return "sha256:" + hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()


def asking(**more: Any) -> dict[str, Any]:
    """The setting ``tls`` that asks for certificates of clients."""
    ca = FileContent("ca.pem", CLIENTS.cert_pem.bytes())
    return {**SERVER.tls, "client_ca": ca, **more}


async def connect_tls(
    door: OpenDoor, certificate: trustme.LeafCert | None = None, listener: str = "tcp"
) -> Client:
    """A client whose side of the handshake is done."""
    return await door.connect(
        listener, ssl=SERVER.context(certificate), server_hostname="localhost"
    )


async def passed(seconds: float) -> None:
    """Wait until the loop's clock has gone on by so much: what a time limit is about."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    await until(lambda: loop.time() > end)


# Time.


@pytest.mark.parametrize("protocol", ["tcp", "relp"])
@on_uvloop
async def test_silent_connections_are_closed_after_idle_seconds(protocol: str) -> None:
    """They are counted; those that send stay."""
    async with open_door({"protocol": protocol, "idle_seconds": SHORT}) as door:
        client = await door.connect(protocol)
        await client.rest()
        assert door.closed("idle_seconds") == 1
        await door.connected(0, protocol)


@on_uvloop
async def test_an_idle_session_is_told_that_the_server_closes() -> None:
    """A client of RELP then connects anew, without a complaint."""
    async with open_door({**RELP, "idle_seconds": SHORT}) as door:
        client = await door.relp()
        await client.acked(await client.deliver(message("a")))
        assert (await client.response()).command == b"serverclose"
        assert await client.rest() == b""


@on_uvloop
async def test_idle_seconds_begin_anew_with_what_is_sent() -> None:
    """Whoever sends now and then stays."""
    idle_seconds = 0.25
    async with open_door({**TCP, "idle_seconds": idle_seconds}) as door:
        client = await door.connect()
        for number in range(4):
            await passed(idle_seconds / 2)
            await client.send(lines([message(f"{number}")]))
        assert len(await door.written(4)) == 4
        assert door.closed("idle_seconds") == 0


@on_uvloop
async def test_a_frame_that_does_not_go_on_is_ended_after_partial_seconds() -> None:
    """What there is of it is produced, and the connection is closed and counted."""
    async with open_door({**TCP, "partial_seconds": SHORT}) as door:
        client = await door.connect()
        await client.send(lines([message("whole")]) + message("begun"))
        await client.closed()
        assert await door.written(2) == ["whole", "begun"]
        assert door.closed("partial_seconds") == 1


@on_uvloop
async def test_slow_bytes_do_not_move_the_end_of_partial_seconds() -> None:
    """The time is that of the whole frame."""
    async with open_door({**TCP, "partial_seconds": 0.1}) as door:
        client = await door.connect()
        with suppress(ConnectionError):
            while client.is_open():
                await client.send(b"x")
                await asyncio.sleep(0.005)
        assert door.closed("partial_seconds") == 1


@on_uvloop
async def test_whole_frames_move_the_end_of_partial_seconds() -> None:
    """A busy sender always has a frame that has begun."""
    partial_seconds = 0.2
    async with open_door({**TCP, "partial_seconds": partial_seconds}) as door:
        client = await door.connect()
        whole = lines([message("x")])
        for _ in range(5):
            await client.send(whole[:-10])
            await passed(partial_seconds / 2)
            await client.send(whole[-10:])
        assert len(await door.written(5)) == 5
        assert door.closed("partial_seconds") == 0


@on_uvloop
async def test_time_in_which_nobody_reads_is_not_the_senders() -> None:
    """While Kafka is away neither limit closes anybody."""
    limits = {"inflight_bytes": 20_000, "decoded_bytes": 1_000, "body_bytes": 1_000}
    settings = {**TCP, "partial_seconds": SHORT, "idle_seconds": SHORT, "frame_bytes": 480}
    async with open_door(settings, limits={**limits, "event_bytes": 1_000}) as door:
        door.producer.reachable.clear()
        client = await door.connect()
        await client.send(lines(messages(100)) + message("begun"))
        await until(lambda: [each.held for each in door.connections()] == [True])
        await passed(5 * SHORT)
        assert client.is_open()
        assert door.counted("ingest_connections_closed_total") == 0


@on_uvloop
async def test_a_handshake_has_handshake_seconds() -> None:
    """Who does not begin it is closed and counted."""
    async with open_door({**TCP, "tls": SERVER.tls, "handshake_seconds": SHORT}) as door:
        client = await door.connect()
        await client.closed()
        await until(lambda: door.refused("handshake_seconds") == 1)
        await door.connected(0)


# Numbers.


@pytest.mark.parametrize("protocol", ["tcp", "relp"])
@on_uvloop
async def test_newcomers_make_room_by_closing_the_longest_idle_one(protocol: str) -> None:
    """Nothing would be lost with it; it is counted."""
    async with open_door({"protocol": protocol, "connections": 2}) as door:
        first = await door.connect(protocol)
        await door.connected(1, protocol)
        await passed(0.002)  # the clock of the loop has milliseconds
        second = await door.connect(protocol)
        await door.connected(2, protocol)
        third = await door.connect(protocol)
        await first.closed()
        await door.connected(2, protocol)
        assert (second.is_open(), third.is_open()) == (True, True)
        assert door.refused("connections") == 1


@on_uvloop
async def test_connections_with_a_frame_begun_do_not_make_room() -> None:
    """Then the newcomer is closed."""
    async with open_door({**TCP, "connections": 1}) as door:
        busy = await door.connect()
        await busy.send(message("begun"))
        await until(lambda: [each.has_partial for each in door.connections()] == [True])
        newcomer = await door.connect()
        await newcomer.closed()
        assert door.refused("connections") == 1
        await busy.send(b"\n")
        assert await door.written(1) == ["begun"]


@on_uvloop
async def test_sessions_with_something_unacked_do_not_make_room() -> None:
    """Their clients would send it again."""
    async with open_door({**RELP, "connections": 1}) as door:
        busy = await door.relp()
        door.producer.answering.clear()
        numbers = await busy.deliver(message("a"))
        await door.written(1)
        newcomer = await door.connect("relp")
        await newcomer.closed()
        assert door.refused("connections") == 1
        door.producer.answering.set()
        await busy.acked(numbers)


@on_uvloop
async def test_one_address_has_its_own_limit() -> None:
    """Its newcomer is closed and counted; others come."""
    async with open_door({**TCP, "connections_per_address": 1}) as door:
        client = await door.connect(host=OTHER)
        await door.connected(1)
        await (await door.connect(host=OTHER)).closed()
        assert door.refused("connections_per_address") == 1
        other = await door.connect(host=OURS)
        await door.connected(2)
        assert client.is_open()
        assert other.is_open()


@on_uvloop
async def test_unix_sockets_have_no_limit_for_an_address(tmp_path: Path) -> None:
    """All their peers have the same."""
    listen = f"unix:{tmp_path}/log.sock"
    async with open_door({**TCP, "listen": listen, "connections": 1_500}) as door:
        clients = [await door.connect() for _ in range(1_100)]
        await door.connected(len(clients))
        assert door.counted("ingest_connections_refused_total") == 0


# Addresses.


@pytest.mark.parametrize("protocol", ["tcp", "relp"])
@on_uvloop
async def test_allow_from_refuses_others_before_anything_is_read(protocol: str) -> None:
    """They are counted, and who is allowed is served."""
    async with open_door({"protocol": protocol, "allow_from": [OTHER]}) as door:
        await (await door.connect(protocol, host=OURS)).closed()
        assert door.refused("allow_from") == 1
        client = await door.connect(protocol, host=OTHER)
        await door.connected(1, protocol)
        assert client.is_open()
        assert door.outcomes() == {}


@on_uvloop
async def test_datagrams_of_others_are_counted_as_not_allowed() -> None:
    """Whatever they hold, empty ones too."""
    async with open_door({**UDP, "allow_from": ["127.0.0.2/32"]}) as door:
        door.datagrams(message("bad"), b"", message("bad"), host=OURS)
        door.datagrams(message("good"), b"", host=OTHER)
        assert await door.written(1) == ["good"]
        await until(lambda: door.outcomes() == {"acked": 1, "dropped": 4})
        assert door.dropped("not_allowed", listener="udp") == 3
        assert door.dropped("empty", listener="udp") == 1


@on_uvloop
async def test_datagrams_are_messages_without_framing() -> None:
    """What senders put at the end is padding; the peer is the address of the sender."""
    async with open_door(UDP) as door:
        door.datagrams(message("a"), message("b") + b"\n", message("c") + b"\r\n\0", host=OTHER)
        assert await door.written(3) == ["a", "b", "c"]
        assert {each["peer"] for each in door.data()} == {OTHER}
        assert {each["listener"] for each in door.data()} == {"udp"}
        assert {each["status"] for each in door.data()} == {"ok"}


@on_uvloop
async def test_empty_datagrams_are_counted_and_not_produced() -> None:
    """Those of nothing but padding too."""
    async with open_door(UDP) as door:
        door.datagrams(b"", b"\n", b"\r\n\0", message("a"))
        assert await door.written(1) == ["a"]
        assert door.dropped("empty", listener="udp") == 3


@pytest.mark.parametrize("tail", [b"", b"\n", b"\r\n"])
@on_uvloop
async def test_a_datagram_of_just_the_limit_is_whole(tail: bytes) -> None:
    """Its padding does not count."""
    just = message().ljust(480, b"x")
    async with open_door({**UDP, "frame_bytes": 480}) as door:
        door.datagrams(just + tail)
        await door.written(1)
        (data,) = door.data()
        assert (data["status"], "original_bytes" in data) == ("ok", False)


@on_uvloop
async def test_datagrams_over_the_limit_are_cut() -> None:
    """As long as they were is told."""
    async with open_door({**UDP, "frame_bytes": 480}) as door:
        door.datagrams(message().ljust(9_000, b"x"), message("next"))
        await door.written(2)
        cut = door.data()[0]
        assert (cut["reason"], cut["original_bytes"]) == ("truncated", 9_000)
        assert len(cut["raw"]) == 480
        assert door.texts()[1] == "next"


@on_uvloop
async def test_datagrams_over_the_limit_may_be_dead_letters() -> None:
    """With their first bytes."""
    settings = {**UDP, "frame_bytes": 480, "oversize": "dead_letter"}
    async with open_door(settings) as door:
        door.datagrams(message().ljust(481, b"x"), message("next"))
        assert await door.written(1) == ["next"]
        await door.written(1, "ingest.rejected")
        (letter,) = door.records("ingest.rejected")
        assert letter.value == message().ljust(480, b"x")
        assert dict(letter.headers)["ingest.original_bytes"] == b"481"
        assert door.outcomes() == {"acked": 1, "rejected": 1}


@pytest.mark.parametrize(("protocol", "send"), [("tcp", lines), ("udp", b"".join)])
@on_uvloop
async def test_peers_of_unix_sockets_are_unix(protocol: str, send: Any, tmp_path: Path) -> None:
    """The key is the host, where there is one, else that."""
    listen = f"unix:{tmp_path}/log.sock"
    async with open_door({"protocol": protocol, "listen": listen}) as door:
        for each in (message("a", host="web-7"), b"<13>no header at all"):
            if protocol == "udp":
                door.datagrams(each)
            else:
                await (await door.connect()).send(send([each]))
            await door.written(1)
        await door.written(2)
        assert {each["peer"] for each in door.data()} == {"unix"}
        assert {each.key for each in door.records()} == {b"web-7", b"unix"}


# Certificates.


@pytest.mark.parametrize("protocol", ["tcp", "relp"])
@on_uvloop
async def test_messages_come_over_tls(protocol: str) -> None:
    """As without it; clients need no certificate unless they are asked."""
    async with open_door({"protocol": protocol, "tls": SERVER.tls}) as door:
        if protocol == "tcp":
            client = await connect_tls(door)
            await client.send(lines(messages(3)))
        else:
            session = await door.relp(ssl=SERVER.context(), server_hostname="localhost")
            await session.acked(await session.deliver(*messages(3)))
        assert await door.written(3) == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("allowed", "admitted"),
    [
        ({}, True),
        ({"allowed_names": ["web.example.com"]}, True),
        ({"allowed_names": ["*.example.com"]}, True),
        ({"allowed_names": ["mail.example.org"]}, False),
        ({"allowed_fingerprints": [fingerprint(WEB)]}, True),
        ({"allowed_fingerprints": [fingerprint(MAIL)]}, False),
        (
            {
                "allowed_names": ["mail.example.org"],
                "allowed_fingerprints": [fingerprint(WEB).upper().replace("SHA256", "sha256")],
            },
            True,
        ),
    ],
)
@on_uvloop
async def test_certificates_are_allowed_by_name_or_fingerprint(
    allowed: dict[str, Any], *, admitted: bool
) -> None:
    """Others are closed and counted, with a hint, and nothing of theirs is taken."""
    async with open_door({**TCP, "tls": asking(**allowed)}) as door:
        client = await connect_tls(door, WEB)
        with suppress(ConnectionError):
            await client.send(lines([message("a")]))
        if admitted:
            assert await door.written(1) == ["a"]
            return
        with suppress(ConnectionError):
            await client.rest()
        assert door.closed("certificate") == 1
        assert door.events() == ["client_not_allowed"]
        assert door.outcomes() == {}


@pytest.mark.parametrize("certificate", [None, STRANGER])
@on_uvloop
async def test_clients_without_a_verified_certificate_do_not_come_in(
    certificate: trustme.LeafCert | None,
) -> None:
    """Where ``client_ca`` is given; a name alone proves nothing."""
    async with open_door({**TCP, "tls": asking(allowed_names=["*.example.com"])}) as door:
        with suppress(OSError):
            client = await connect_tls(door, certificate)
            await client.send(lines([message("a")]))
            await client.rest()
        await until(lambda: door.refused("handshake") == 1)
        assert door.outcomes() == {}


# The PROXY protocol.


@pytest.mark.parametrize("header", [V1, V2])
@pytest.mark.parametrize("protocol", ["tcp", "relp"])
@on_uvloop
async def test_behind_a_proxy_the_peer_is_its_client(header: bytes, protocol: str) -> None:
    """In one segment with the first message, or not."""
    async with open_door({"protocol": protocol, "proxy_from": [OURS]}) as door:
        client = await door.connect(protocol)
        if protocol == "tcp":
            await client.send(header + lines([message("a")]))
        else:
            opening = b"1 open %d %b\n2 syslog %d %b\n"
            first = message("a")
            await client.send(header + opening % (len(OFFERS), OFFERS, len(first), first))
        await door.written(1)
        assert door.data()[0]["peer"] == "192.0.2.7"


@pytest.mark.parametrize("header", [V1, V2])
@on_uvloop
async def test_a_proxy_speaks_before_tls(header: bytes) -> None:
    """In the clear; what follows is the handshake."""
    async with open_door({**TCP, "proxy_from": [OURS], "tls": asking()}) as door:
        sock = socket.create_connection(door.address("tcp"))
        sock.sendall(header)
        sock.setblocking(False)
        client = await door.connect(sock=sock, ssl=SERVER.context(WEB), server_hostname="localhost")
        await client.send(lines([message("a")]))
        await door.written(1)
        assert door.data()[0]["peer"] == "192.0.2.7"


@on_uvloop
async def test_who_is_no_proxy_is_not_believed() -> None:
    """What it says of others is a message, odd as it is, and it is served by its own address."""
    async with open_door({**TCP, "proxy_from": [OURS]}) as door:
        client = await door.connect(host=OTHER)
        await client.send(V1 + lines([message("a")]))
        await door.written(2)
        assert {each["peer"] for each in door.data()} == {OTHER}
        assert door.data()[0]["status"] == "raw"
        assert door.data()[0]["raw"].encode() == V1.rstrip()


@on_uvloop
async def test_allow_from_is_about_the_client_behind_the_proxy() -> None:
    """The proxy itself need not be allowed, nor are its other clients."""
    settings = {**TCP, "proxy_from": [OURS], "allow_from": ["192.0.2.0/24"]}
    async with open_door(settings) as door:
        client = await door.connect()
        await client.send(V1 + lines([message("a")]))
        assert await door.written(1) == ["a"]
        other = await door.connect()
        await other.send(V1.replace(b"192.0.2.7", b"203.0.113.9") + lines([message("b")]))
        await other.closed()
        assert door.refused("allow_from") == 1
        assert door.texts() == ["a"]


@on_uvloop
async def test_a_proxy_without_a_header_is_closed_with_a_hint() -> None:
    """Its messages would have the wrong peer."""
    async with open_door({**TCP, "proxy_from": [OURS]}) as door:
        for _ in range(2):
            client = await door.connect()
            await client.send(lines([message("a")]))
            with suppress(ConnectionError):
                await client.rest()
        await until(lambda: door.refused("proxy_header") == 2)
        assert door.events() == ["bad_proxy_header"]
        assert door.outcomes() == {}


@on_uvloop
async def test_the_probe_of_a_proxy_is_silent() -> None:
    """It connects and hangs up."""
    async with open_door({**TCP, "proxy_from": [OURS]}) as door:
        client = await door.connect()
        await until(lambda: len(door.connections()) == 1)
        client.writer.close()
        await door.connected(0)
        assert door.logs == []
        assert door.counted("ingest_connections_refused_total") == 0


@on_uvloop
async def test_a_header_has_handshake_seconds() -> None:
    """A proxy that says nothing is closed."""
    settings = {**TCP, "proxy_from": [OURS], "handshake_seconds": SHORT}
    async with open_door(settings) as door:
        client = await door.connect()
        await client.send(V1[:10])
        with suppress(ConnectionError):
            await client.rest()
        await until(lambda: door.refused("handshake_seconds") == 1)


# The end.


@on_uvloop
async def test_what_is_on_its_way_at_the_end_is_taken() -> None:
    """Datagrams in the kernel, connections in the queue, and frames that have begun."""
    async with open_door(TCP, UDP) as door:
        client = await door.connect()
        await client.send(lines([message("tcp")]) + message("begun"))
        await until(lambda: [each.has_partial for each in door.connections()] == [True])
        door.datagrams(*messages(500))
        queued = socket.create_connection(door.address("tcp"))
        queued.sendall(lines([message("queued")]))
        assert await door.shut() == 0
        queued.close()
        texts = door.texts()
        assert {"tcp", "begun", "queued"} < {*texts}
        assert len(texts) == 503


@on_uvloop
async def test_senders_are_told_of_the_end_and_may_finish() -> None:
    """The server closes its side, and reads until they close theirs."""
    async with open_door() as door:
        client = await door.connect()
        await door.connected(1)
        closing = asyncio.create_task(door.shut())
        assert await client.rest() == b""  # the half-close
        await client.send(lines(messages(3)))
        client.writer.close()
        assert await closing == 0
        assert door.texts() == ["0", "1", "2"]


@on_uvloop
async def test_sessions_get_the_answers_that_are_due_and_serverclose() -> None:
    """And nothing after it."""
    async with open_door(RELP) as door:
        client = await door.relp()
        door.producer.answering.clear()
        numbers = await client.deliver(*messages(3))
        await door.written(3)
        closing = asyncio.create_task(door.shut())
        await until(lambda: door.connections("relp")[0].held)
        door.producer.answering.set()
        await client.acked(numbers)
        assert (await client.response()).command == b"serverclose"
        assert await client.rest() == b""
        client.writer.close()
        assert await closing == 0


@on_uvloop
async def test_frames_that_come_too_late_are_their_clients() -> None:
    """They are not acknowledged, come again, and do not turn the close into a reset."""
    async with open_door(RELP) as door:
        client = await door.relp()
        door.producer.answering.clear()
        numbers = await client.deliver(message("a"))
        await door.written(1)
        closing = asyncio.create_task(door.shut())
        await until(lambda: door.connections("relp")[0].held)
        await client.deliver(message("late"))
        door.producer.answering.set()
        await client.acked(numbers)
        assert (await client.response()).command == b"serverclose"
        client.writer.close()
        assert await closing == 0
        assert door.texts() == ["a"]
