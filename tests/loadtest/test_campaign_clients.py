"""The campaign's clients note what they did, and go on when the gateway hangs up."""

from __future__ import annotations

import asyncio
import contextlib
import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING

import pytest

from loadtest.campaign_ledger import Ledger
from loadtest.campaign_relp import RelpClient
from loadtest.campaign_streams import Address, Messages, Stop, TcpClient, UdpClient
from loadtest.syslog_messages import mark, messages
from loadtest.syslog_relp import RelpError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

RATE = 2000.0
POOL = list(islice(messages("rfc5424", 1, datetime(2026, 11, 26, tzinfo=UTC)), 10))
OPENED = b"200 OK\nrelp_version=0\ncommands=syslog"


@asynccontextmanager
async def serving(serve: Serve) -> AsyncIterator[Address]:
    """A server on a port of its own, which hangs up in the end."""
    writers: list[asyncio.StreamWriter] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await serve(reader, writer)

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield Address(*server.sockets[0].getsockname()[:2])
    for writer in writers:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


class RelpServer:
    """Answers ``good`` frames of its first session, and all of the others.

    Attributes:
        frames: the numbers of the messages, by session.
    """

    def __init__(self, good: int, answer: bytes = b"200 OK") -> None:
        self.frames: list[list[int]] = []
        self._good = good
        self._answer = answer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One session."""
        self.frames.append(numbers := [])
        first = len(self.frames) == 1
        while not (first and len(numbers) >= 2 * self._good):
            try:
                txnr, command, length = [await reader.readuntil(b" ") for _ in range(3)]
                data = await reader.readexactly(int(length) + 1)
            except (asyncio.IncompleteReadError, ConnectionError):
                break
            if command == b"open ":
                writer.write(b"%brsp %d %b\n" % (txnr, len(OPENED), OPENED))
                continue
            found = mark(data)
            assert found is not None
            numbers.append(found.sequence)
            if not first or len(numbers) <= self._good:
                writer.write(b"%brsp %d %b\n" % (txnr, len(self._answer), self._answer))
        writer.close()


async def run_for(client: RelpClient | TcpClient | UdpClient, until: Callable[[], bool]) -> None:
    """Run a client until something holds."""
    stop = Stop()
    running = asyncio.create_task(client.run(RATE, stop))
    async with asyncio.timeout(10):
        while not until() and not running.done():
            await asyncio.sleep(0.01)
        stop.asked = True
        await running


async def test_a_relp_client_sends_again_what_was_not_answered() -> None:
    """In order, after it has connected anew; and nothing that was answered."""
    server, ledger = RelpServer(good=5), Ledger()
    async with serving(server.serve) as address:
        client = RelpClient(address, Messages(POOL, 3), ledger)
        await run_for(client, lambda: ledger.acked.count(1) > 100)
    first, second = server.frames[:2]
    assert first == list(range(10))
    assert second == list(range(5, len(ledger.sends))), "from the first unanswered one on"
    assert ledger.acked.count(1) == len(ledger.acked), "it waited for the last answer"
    assert set(ledger.sends[:5]) == {1}
    assert set(ledger.sends[5:10]) == {2}
    assert len(ledger.breaks) == 1


async def test_a_relp_answer_other_than_200_acknowledges_nothing() -> None:
    """It is counted, and the frame is not sent again."""
    server, ledger = RelpServer(good=10_000, answer=b"500 no"), Ledger()
    async with serving(server.serve) as address:
        client = RelpClient(address, Messages(POOL, 3), ledger)
        await run_for(client, lambda: ledger.acked.count(2) > 10)
    assert ledger.acked.count(1) == 0
    assert ledger.acked.count(2) == len(ledger.sends) == len(server.frames[0])


async def test_a_relp_server_that_answers_out_of_turn_is_an_error() -> None:
    """An acknowledgement of something else must not count."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\n")
        writer.write(b"1 rsp %d %b\n" % (len(OPENED), OPENED))
        await reader.readuntil(b" ")
        writer.write(b"7 rsp 6 200 OK\n")

    async with serving(serve) as address:
        with pytest.raises(RelpError):
            await run_for(RelpClient(address, Messages(POOL, 3), Ledger()), lambda: False)


async def test_a_tcp_client_goes_on_over_another_connection_and_sends_nothing_twice() -> None:
    """The ledger says where the first one broke."""
    lines: list[list[bytes]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.append(mine := [])
        while line := await reader.readline():
            mine.append(line)
            if len(lines) == 1 and len(mine) == 50:
                break
        writer.transport.abort()

    ledger = Ledger()
    async with serving(serve) as address:
        client = TcpClient(address, Messages(POOL, 4), ledger)
        await run_for(client, lambda: len(lines) > 1 and len(lines[1]) > 50)
    marks = [mark(line) for each in lines for line in each]
    numbers = [each.sequence for each in marks if each is not None]
    assert len(numbers) == len(set(numbers)) == len(marks)
    (broken, *_) = ledger.breaks
    assert broken.first == 0
    assert numbers[:50] == list(range(50))
    assert numbers[50:] == list(range(broken.end, len(ledger.sends)))


async def test_a_udp_client_goes_on_while_nobody_listens() -> None:
    """What was sent meanwhile is lost, and noted as sent."""
    loop = asyncio.get_running_loop()
    got: list[bytes] = []

    class Receiver(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: object) -> None:  # noqa: ARG002 - asyncio's signature
            got.append(data)

    transport, _ = await loop.create_datagram_endpoint(Receiver, ("127.0.0.1", 0))
    address = Address(*transport.get_extra_info("sockname"))
    transport.close()
    await asyncio.sleep(0)
    ledger = Ledger()
    client = UdpClient(address, Messages(POOL, 5), ledger)
    await run_for(client, lambda: len(ledger.sends) > 50)
    assert not got
    transport, _ = await loop.create_datagram_endpoint(Receiver, address)
    await run_for(client, lambda: len(got) > 50)
    transport.close()
    found = mark(got[0])
    assert found is not None
    assert found.sequence > 50


def test_a_ledger_is_in_its_file_as_it_happens(tmp_path: Path) -> None:
    """Also if its process does not live to close it."""
    ledger = Ledger(tmp_path / "ledger.jsonl")
    assert (ledger.sending(3, 1.0), ledger.sending(2, 2.0)) == (0, 3)
    ledger.acknowledged(1)
    ledger.refused(4)
    ledger.broke(2.5)
    ledger.again(2, 5)
    noted = [json.loads(line) for line in (tmp_path / "ledger.jsonl").read_text().splitlines()]
    assert noted == [
        {"sent": [0, 3]},
        {"sent": [3, 5]},
        {"acked": 1},
        {"refused": 4},
        {"broke": 5},
        {"again": [2, 5]},
    ]
    ledger.close()
    assert list(ledger.sends) == [1, 1, 2, 2, 2]
    assert list(ledger.acked) == [0, 1, 0, 0, 2]
    assert list(ledger.sent_at) == [1.0, 1.0, 1.0, 2.0, 2.0]
