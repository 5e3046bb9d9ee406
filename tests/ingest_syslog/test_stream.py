"""Connections of senders: every frame is produced, RELP is answered by Kafka's word only."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import pytest

from ingest_syslog import stream
from ingest_syslog.relp import Session
from tests.syslog_door import (
    LETTERS,
    OFFERS,
    OpenDoor,
    RelpClient,
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
RELP: dict[str, Any] = {"protocol": "relp"}
FRAME_BYTES = 480
"""The smallest limit that can be configured."""
HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
"""How a client of TLS begins."""


def octets(frames: list[bytes]) -> bytes:
    """Frames with octet counts."""
    return b"".join(b"%d %b" % (len(each), each) for each in frames)


def nuls(frames: list[bytes]) -> bytes:
    """Frames with NUL."""
    return b"".join(each + b"\0" for each in frames)


def mixed(frames: list[bytes]) -> bytes:
    """Another framing for each frame."""
    ways = (octets, nuls, lines)
    return b"".join(ways[at % 3]([each]) for at, each in enumerate(frames))


async def turns(count: int = 20) -> None:
    """Let the loop turn: whatever is ready has happened then."""
    for _ in range(count):
        await asyncio.sleep(0)


# TCP.


@pytest.mark.parametrize(
    ("framing", "framed"),
    [
        ("lf", lines),
        ("nul", nuls),
        ("octet", octets),
        ("auto", lines),
        ("auto", nuls),
        ("auto", octets),
        ("auto", mixed),
    ],
)
@pytest.mark.parametrize("pieces", [1, 7])
@on_uvloop
async def test_frames_of_every_framing_are_produced_in_order(
    framing: str, framed: Callable[[list[bytes]], bytes], pieces: int
) -> None:
    """However they are cut into segments."""
    stream, numbers = framed(messages(50)), [f"{number}" for number in range(50)]
    size = len(stream) // pieces + 1
    async with open_door({**TCP, "framing": framing}) as door:
        client = await door.connect()
        for start in range(0, len(stream), size):
            await client.send(stream[start : start + size])
            await turns()
        assert await door.written(50) == numbers
        assert door.outcomes(source="logs") == {"acked": 50}
        assert {each["status"] for each in door.data()} == {"ok"}


@on_uvloop
async def test_a_read_with_very_many_frames_is_worked_on_in_turns() -> None:
    """Others are served meanwhile, and the order stays."""
    count = 10 * stream.TURN_FRAMES
    async with open_door() as door:
        client = await door.connect()
        await client.send(lines(messages(count)))
        assert await door.written(count) == [f"{number}" for number in range(count)]


@on_uvloop
async def test_what_was_read_before_the_end_is_produced_whole() -> None:
    """Also where its turn comes when the sender has gone."""
    count = 5 * stream.TURN_FRAMES
    async with open_door() as door:
        client = await door.connect()
        await client.send(lines(messages(count)) + message("last"))
        client.writer.close()
        texts = await door.written(count + 1)
        assert (len(texts), texts[-1]) == (count + 1, "last")


@pytest.mark.parametrize("framing", ["auto", "lf", "nul", "octet"])
@pytest.mark.parametrize("end", ["write_eof", "close", "abort"])
@on_uvloop
async def test_a_partial_frame_at_the_end_is_produced(framing: str, end: str) -> None:
    """Its sender will not send it again; however the sender leaves."""
    begun = message("begun")
    async with open_door({**TCP, "framing": framing}) as door:
        client = await door.connect()
        await client.send(b"%d %b" % (len(begun) + 5, begun) if framing == "octet" else begun)
        await until(lambda: [each.has_partial for each in door.connections()] == [True])
        getattr(client.writer.transport, end)()
        assert await door.written(1) == ["begun"]
        await door.connected(0)


@on_uvloop
async def test_a_lost_octet_count_closes_after_what_was_complete() -> None:
    """Nobody knows where the next frame begins; the advice is logged once."""
    async with open_door({**TCP, "framing": "octet"}) as door:
        for number in range(2):
            client = await door.connect()
            await client.send(octets([message(f"{number}")]) + b"nonsense " + octets(messages(1)))
            await client.closed()
        assert await door.written(2) == ["0", "1"]
        assert door.closed("bad_octet_count") == 2
        assert door.events() == ["framing_lost"]


@pytest.mark.parametrize("protocol", ["tcp", "relp"])
@on_uvloop
async def test_tls_to_a_plain_port_is_closed_with_one_hint(protocol: str) -> None:
    """However often it is tried: senders try again for ever."""
    async with open_door({"protocol": protocol}) as door:
        for _ in range(3):
            client = await door.connect(protocol)
            await client.send(HELLO)
            await client.closed()
        assert door.closed("tls_on_a_plain_port") == 3
        assert door.events() == ["tls_on_a_plain_port"]
        assert door.outcomes() == {}


@pytest.mark.parametrize("protocol", ["tcp", "relp"])
@on_uvloop
async def test_empty_connects_are_silent(protocol: str) -> None:
    """Load balancers look whether somebody is there, all day long."""
    async with open_door({"protocol": protocol}) as door:
        for end in ("close", "abort"):
            client = await door.connect(protocol)
            await door.connected(1, protocol)
            getattr(client.writer.transport, end)()
            await door.connected(0, protocol)
        assert door.logs == []
        assert door.outcomes() == {}
        assert door.counted("ingest_connections_refused_total") == 0
        assert door.counted("ingest_connections_closed_total") == 0


@on_uvloop
async def test_empty_frames_are_counted_and_not_produced() -> None:
    """As dropped, for being empty."""
    async with open_door({**TCP, "framing": "nul"}) as door:
        client = await door.connect()
        await client.send(b"\0" + message("a") + b"\0\0\n\0" + message("b") + b"\0")
        assert await door.written(2) == ["a", "b"]
        assert door.dropped("empty", listener="tcp") == 3
        assert door.outcomes(source="logs") == {"acked": 2, "dropped": 3}


# Frames over the limit.


def oversized(text: str = "") -> bytes:
    """A frame of twice what is taken."""
    return message(text).ljust(2 * FRAME_BYTES, b"x")


@pytest.mark.parametrize("framed", [lines, nuls, octets])
@on_uvloop
async def test_truncated_frames_are_flagged_and_the_next_one_is_whole(
    framed: Callable[[list[bytes]], bytes],
) -> None:
    """The framing is kept in step, and how long it was is told."""
    async with open_door({**TCP, "frame_bytes": FRAME_BYTES}) as door:
        client = await door.connect()
        await client.send(framed([message("before"), oversized(), message("behind")]))
        texts = await door.written(3)
        assert (texts[0], texts[2]) == ("before", "behind")
        cut = door.data()[1]
        assert (cut["status"], cut["reason"]) == ("partial", "truncated")
        assert cut["original_bytes"] == 2 * FRAME_BYTES
        assert cut["raw"].encode() == oversized()[:FRAME_BYTES]
        assert door.outcomes() == {"acked": 3}


@pytest.mark.parametrize("framed", [lines, octets])
@on_uvloop
async def test_dead_letters_are_what_is_kept_of_oversized_frames(
    framed: Callable[[list[bytes]], bytes],
) -> None:
    """With their first bytes, how many there were, and a code."""
    settings = {**TCP, "frame_bytes": FRAME_BYTES, "oversize": "dead_letter"}
    async with open_door(settings) as door:
        client = await door.connect()
        await client.send(framed([message("before"), oversized(), message("behind")]))
        assert await door.written(2) == ["before", "behind"]
        await door.written(1, LETTERS)
        (letter,) = door.records(LETTERS)
        assert letter.value == oversized()[:FRAME_BYTES]
        headers = dict(letter.headers)
        assert headers["__connect.errors.topic"] == b"logs"
        assert headers["__connect.errors.stage"] == b"VALUE_CONVERTER"
        assert headers["__connect.errors.exception.class.name"] == b"event_too_large"
        assert headers["ingest.source"] == b"logs"
        assert headers["ingest.truncated"] == b"true"
        assert headers["ingest.original_bytes"] == b"%d" % (2 * FRAME_BYTES)
        assert "ingest.request.id" not in headers
        assert door.outcomes() == {"acked": 2, "rejected": 1}
        assert door.counted("ingest_rejects_total", source="logs", code="event_too_large") == 1


@on_uvloop
async def test_close_ends_the_connection_of_an_oversized_frame() -> None:
    """It is counted, what came before it is produced, and what came behind it is not read."""
    async with open_door({**TCP, "frame_bytes": FRAME_BYTES, "oversize": "close"}) as door:
        client = await door.connect()
        await client.send(lines([message("before"), oversized()]))
        await client.closed()
        assert await door.written(1) == ["before"]
        assert door.dropped("oversize", listener="tcp") == 1
        assert door.closed("oversize") == 1
        assert door.outcomes() == {"acked": 1, "dropped": 1}
        again = await door.connect()
        await again.send(lines([message("again")]))
        assert await door.written(2) == ["before", "again"]


# RELP.


@on_uvloop
async def test_frames_are_acknowledged_when_kafka_has_them() -> None:
    """Not before: what is acknowledged the client forgets."""
    async with open_door(RELP) as door:
        client = await door.relp()
        door.producer.answering.clear()
        numbers = await client.deliver(*messages(5))
        await door.written(5)
        await turns()
        assert client.is_silent()
        assert door.outcomes() == {}
        door.producer.answering.set()
        await client.acked(numbers)
        assert door.outcomes() == {"acked": 5}
        assert door.texts() == ["0", "1", "2", "3", "4"]


@on_uvloop
async def test_acknowledgements_keep_the_order_of_the_frames() -> None:
    """Though Kafka was faster with the later ones."""
    rules = [{"when": {"app_name": "sshd"}, "source": "auth"}]
    async with open_door(RELP, rules=rules) as door:
        client = await door.relp()
        door.topics["auth"].moving.clear()
        first = await client.deliver(message("first", app="sshd"))
        await until(lambda: door.connections("relp")[0].unacked == 1)
        second = await client.deliver(message("second"), message("third"))
        await until(lambda: door.outcomes(source="logs") == {"acked": 2})
        await turns()
        assert client.is_silent()
        door.topics["auth"].moving.set()
        await client.acked(first + second)


@on_uvloop
async def test_several_acknowledgements_leave_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system call for each would cost more than the messages."""
    async with open_door(RELP) as door:
        client = await door.relp()
        door.producer.answering.clear()
        numbers = []
        for number in range(10):
            numbers += await client.deliver(message(f"{number}"))
            await door.written(number + 1)
        (connection,) = door.connections("relp")
        writes: list[bytes] = []
        transport: Any = connection._transport

        class Watched:
            def write(self, data: bytes) -> None:
                writes.append(data)
                transport.write(data)

            def __getattr__(self, name: str) -> Any:
                return getattr(transport, name)

        monkeypatch.setattr(connection, "_transport", Watched())
        door.producer.answering.set()
        await client.acked(numbers)
        assert len(writes) < len(numbers) / 2


@on_uvloop
async def test_kafka_being_late_is_met_with_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither closed nor refused, however long it takes, also past every time limit."""
    limits = {"idle_seconds": 0.02, "partial_seconds": 0.02}
    async with open_door({**RELP, **limits}) as door:
        client = await door.relp()
        door.producer.reachable.clear()
        numbers = await client.deliver(*messages(3))
        await until(lambda: door.connections("relp")[0].unacked == 3)
        (connection,) = door.connections("relp")
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(connection, "idle_since", loop.time() - 3600)
        swept = loop.time() + 0.05
        await until(lambda: loop.time() > swept)  # five sweeps
        assert client.is_silent()
        door.producer.reachable.set()
        await client.acked(numbers)


@on_uvloop
async def test_a_stuck_topic_holds_only_the_sessions_that_carry_its_frames() -> None:
    """Of two listeners with a source each, the other goes on."""
    other = {**RELP, "name": "other", "source": "other"}
    async with open_door(RELP, other) as door:
        stuck, free = await door.relp(), await door.relp("other")
        door.topics["logs"].moving.clear()
        numbers = await stuck.deliver(*messages(3))
        await until(lambda: door.connections("relp")[0].unacked == 3)
        for number in range(3):
            await free.acked(await free.deliver(message(f"{number}")))
        assert stuck.is_silent()
        assert door.outcomes() == {"acked": 3}
        door.topics["logs"].moving.set()
        await stuck.acked(numbers)


@on_uvloop
async def test_empty_frames_are_acknowledged_and_counted() -> None:
    """As dropped; a client that is not answered would send them for ever."""
    async with open_door(RELP) as door:
        client = await door.relp()
        await client.acked(await client.deliver(b"", b"\n", message("a"), b"\0\r\n"))
        await client.acked(await client.deliver(b""))
        assert door.texts() == ["a"]
        assert door.outcomes() == {"acked": 1, "dropped": 4}
        assert door.dropped("empty", listener="relp") == 4


@on_uvloop
async def test_an_oversized_frame_is_acknowledged_when_its_dead_letter_is_there() -> None:
    """It counts as rejected."""
    settings = {**RELP, "frame_bytes": FRAME_BYTES, "oversize": "dead_letter"}
    async with open_door(settings) as door:
        client = await door.relp()
        door.topics[LETTERS].moving.clear()
        numbers = await client.deliver(message("a"), oversized(), message("b"))
        await until(lambda: door.outcomes() == {"acked": 2})
        await turns()
        assert client.is_silent()
        door.topics[LETTERS].moving.set()
        await client.acked(numbers)
        assert door.outcomes() == {"acked": 2, "rejected": 1}
        (letter,) = door.records(LETTERS)
        assert dict(letter.headers)["ingest.original_bytes"] == b"%d" % (2 * FRAME_BYTES)


@on_uvloop
async def test_an_oversized_frame_is_cut_and_acknowledged() -> None:
    """Unless something else is configured; the next one is whole."""
    async with open_door({**RELP, "frame_bytes": FRAME_BYTES}) as door:
        client = await door.relp()
        await client.acked(await client.deliver(oversized(), message("behind")))
        assert [each.get("original_bytes") for each in door.data()] == [2 * FRAME_BYTES, None]
        assert door.data()[0]["reason"] == "truncated"


@on_uvloop
async def test_the_clients_close_is_answered_last() -> None:
    """After the acknowledgements that are due; then the server closes."""
    async with open_door(RELP) as door:
        client = await door.relp()
        door.producer.answering.clear()
        numbers = await client.deliver(*messages(2))
        await client.send(client.frame(b"close", b""))
        await door.written(2)
        await turns()
        assert client.is_silent()
        door.producer.answering.set()
        await client.acked(numbers)
        assert (await client.response()).txnr == client.txnr
        assert (await client.response()).command == b"serverclose"
        assert await client.rest() == b""


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"nonsense\n", "bad_frame"),
        (b"7 syslog 1 x\n", "bad_txnr"),
        (b"2 open 0\n", "second_open"),
        (b"2 starttls 0\n", "unknown_command"),
    ],
)
@on_uvloop
async def test_errors_of_protocol_close_and_are_counted(data: bytes, code: str) -> None:
    """What was whole before them is produced; the hint is given once."""
    async with open_door(RELP) as door:
        for number in range(2):
            client = await door.relp()
            await client.send(data)
            await client.rest()
            assert door.closed(code) == number + 1
        assert door.events() == ["relp_protocol_error"]
        assert door.outcomes() == {}


@on_uvloop
async def test_what_was_whole_before_an_error_of_protocol_is_produced() -> None:
    """Its sender may send it again; nothing is lost."""
    async with open_door(RELP) as door:
        client = await door.relp()
        await client.send(client.frame(b"syslog", message("whole")) + b"nonsense\n")
        await client.closed()
        assert await door.written(1) == ["whole"]


@on_uvloop
async def test_a_frame_before_open_is_refused() -> None:
    """With 500, which only a client that did not open may see."""
    async with open_door(RELP) as door:
        found: Any = await door.connect("relp")
        await found.send(b"1 syslog 5 hello\n")
        assert (await found.rest()).startswith(b"1 rsp ")
        assert door.closed("not_open") == 1
        assert door.outcomes() == {}


async def unread(door: OpenDoor) -> RelpClient:
    """A session whose client has small buffers, and reads nothing unless it is told to."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, door.address("relp"))
    client = await door.relp(sock=sock, limit=1)
    transport: Any = client.writer.transport
    transport.pause_reading()
    return client


@on_uvloop
async def test_a_client_that_does_not_read_its_answers_is_paused() -> None:
    """What waits for it is bounded, and it gets everything once it reads."""
    bound = 1000
    async with open_door({**RELP, "unread_ack_bytes": bound}) as door:
        client = await unread(door)
        (connection,) = door.connections("relp")
        transport: Any = connection._transport
        ours = transport.get_extra_info("socket")
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        numbers: list[int] = []

        async def send() -> None:
            while not connection.held:
                numbers.extend(await client.deliver(*messages(20, len(numbers))))
                await turns()

        async with asyncio.timeout(10):
            await send()
        await until(lambda: connection.unacked == 0)
        most = transport.get_write_buffer_size()
        assert bound < most < bound + 30 * 20
        written = len(door.records())
        more = await client.deliver(message("more"))
        await turns(100)
        assert len(door.records()) == written
        assert client.is_open()
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        await client.acked(numbers + more)


@on_uvloop
async def test_very_many_frames_are_read_only_as_fast_as_they_are_acknowledged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Memory is bounded for each session, also while Kafka is away."""
    monkeypatch.setattr("ingest_syslog.stream.Session", session_of_at_most(10))
    async with open_door(RELP) as door:
        client = await door.relp()
        (connection,) = door.connections("relp")
        door.producer.answering.clear()
        numbers = await client.deliver(*messages(10))
        await until(lambda: connection.held)
        numbers += await client.deliver(*messages(10, 10))
        await turns(100)
        assert len(door.records()) == 10
        door.producer.answering.set()
        await client.acked(numbers)
        assert not connection.held
        assert door.texts() == [f"{number}" for number in range(20)]


def session_of_at_most(frames: int) -> Callable[[int], Any]:
    """Sessions that are full with so many."""
    return lambda frame_bytes: Session(frame_bytes, max_unacked_frames=frames)


@on_uvloop
async def test_a_client_that_leaves_takes_its_answers_with_it() -> None:
    """What it sent is produced once; it will send it again, under new ids."""
    async with open_door(RELP) as door:
        client = await door.relp()
        door.producer.answering.clear()
        await client.deliver(*messages(3))
        await door.written(3)
        client.abort()
        await door.connected(0, "relp")
        door.producer.answering.set()
        await until(lambda: door.outcomes() == {"acked": 3})


@pytest.mark.parametrize("command", [b"open", b"syslog"])
@on_uvloop
async def test_a_partial_relp_frame_is_nobodys(command: bytes) -> None:
    """It was not acknowledged, so that its sender sends it again."""
    async with open_door(RELP) as door:
        found: Any = await door.connect("relp")
        client = RelpClient(found.reader, found.writer)
        if command == b"syslog":
            await client.begin()
            await client.send(client.frame(command, message("whole")))
        begun = client.frame(command, message("x") if command == b"syslog" else OFFERS)
        await client.send(begun[:-3])
        await until(lambda: any(each.has_partial for each in door.connections("relp")))
        client.abort()
        await door.connected(0, "relp")
        assert door.texts() == ["whole"] * (command == b"syslog")


@on_uvloop
async def test_a_client_may_leave_while_its_frames_wait_for_their_turn() -> None:
    """They are forgotten, for it sends them again; and nothing else comes of it."""
    async with open_door(RELP) as door:
        client = await door.relp()
        await client.send(b"".join(client.frame(b"syslog", b"x") for _ in range(20_000)))
        await until(lambda: door.front._turns.busy)
        client.abort()
        await until(lambda: not door.connections("relp"))
        await until(lambda: not door.front._turns.busy)


@pytest.mark.parametrize("protocol", ["tcp", "relp"])
@on_uvloop
async def test_what_comes_while_reading_rests_is_worked_on_and_reading_goes_on(
    protocol: str,
) -> None:
    """What was on its way into the process when it was held comes all the same."""
    async with open_door({"protocol": protocol}) as door:
        client = await (door.relp() if protocol == "relp" else door.connect())
        await until(lambda: len(door.connections(protocol)) == 1)
        (connection,) = door.connections(protocol)
        connection.hold()
        frames = [message("1"), message("2")]
        if protocol == "relp":
            frames = [client.frame(b"syslog", each) for each in frames]
        else:
            frames = [each + b"\n" for each in frames]
        connection.data_received(frames[0])
        connection.release()
        await until(lambda: door.outcomes() == {"acked": 1})
        await client.send(frames[1])
        assert await door.written(2) == ["1", "2"]
