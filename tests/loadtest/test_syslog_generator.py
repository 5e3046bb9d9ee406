"""The syslog generator sends what it was told to send, each message once, over each protocol."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from loadtest.syslog_generator import parser, run
from loadtest.syslog_messages import MESSAGE_BYTES, Mark, mark
from loadtest.syslog_relp import RelpError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from typing import Any

    Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

COUNT = 25_000
"""More than the generator has distinct messages of."""
OFFERS = b"200 OK\nrelp_version=0\ncommands=syslog"


@asynccontextmanager
async def listening(serve: Serve) -> AsyncIterator[str]:
    """A server on a port of its own; gives ``host:port``."""

    async def serve_and_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await serve(reader, writer)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve_and_close, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def generate(address: str, *arguments: str, count: int = COUNT) -> dict[str, Any]:
    """The figures of a run; it blocks, so it has a thread."""
    command = ("--address", address, "--messages", str(count), *arguments)
    return await asyncio.to_thread(run, parser().parse_args(command))


@pytest.mark.parametrize("form", ["rfc5424", "rfc3164"])
@pytest.mark.parametrize("framing", ["lf", "octet"])
async def test_tcp_carries_each_message_once_in_its_frame(framing: str, form: str) -> None:
    """Several connections, as fast as they are read: each has its own row of numbers."""
    streams: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        streams.append(await reader.read())

    async with listening(serve) as address:
        options = ("--framing", framing, "--format", form, "--connections", "3")
        figures = await generate(address, *options)
    messages = [each for stream in streams for each in frames(stream, framing)]
    assert {len(each) for each in messages} == {MESSAGE_BYTES}
    rows = [[mark(each) for each in frames(stream, framing)] for stream in streams]
    assert all(row == [Mark(row[0].sender, at) for at in range(len(row))] for row in rows if row[0])
    assert len({row[0] for row in rows}) == 3
    assert len(messages) == figures["sent"] == COUNT


def frames(stream: bytes, framing: str) -> list[bytes]:
    """The messages of a stream."""
    if framing == "lf":
        assert stream.endswith(b"\n")
        return stream.split(b"\n")[:-1]
    width = MESSAGE_BYTES + 4
    whole = [stream[at : at + width] for at in range(0, len(stream), width)]
    assert all(each.startswith(b"280 ") for each in whole)
    return [each[4:] for each in whole]


async def test_a_paced_run_takes_its_time() -> None:
    """The rate is that of all connections together."""

    async def serve(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with listening(serve) as address:
        figures = await generate(address, "--connections", "2", "--rate", "10000", count=2_000)
    assert figures["sent"] == 2_000
    assert figures["seconds"] >= 0.199


@pytest.mark.parametrize("burst", ["1", "16", "50"])
async def test_udp_carries_each_message_once_in_a_datagram_of_its_own(burst: str) -> None:
    """The kernel cuts a run into messages, also over loopback, and keeps none together."""
    count = 150  # fits into the smallest usual receive buffer
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(5)
        address = f"127.0.0.1:{sock.getsockname()[1]}"
        options = ("--protocol", "udp", "--connections", "3", "--burst", burst)
        figures = await generate(address, *options, count=count)
        found = [sock.recvfrom(65_536) for _ in range(count)]
    assert {len(data) for data, _ in found} == {MESSAGE_BYTES}
    assert len({source for _, source in found}) == 3
    marks = Counter(mark(data) for data, _ in found)
    assert set(marks.values()) == {1}
    assert len(marks) == figures["sent"] == count


class Relp:
    """A server that answers so many frames together, and some with 500.

    Attributes:
        messages: what it got.
        closed: sessions that were closed in good order.
    """

    def __init__(self, *, refuse_every: int = 0, answer_after: int = 1) -> None:
        self.messages: list[bytes] = []
        self.closed = 0
        self._refuse_every = refuse_every
        self._answer_after = answer_after

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one session."""
        answers: list[bytes] = []
        expected = 1
        while True:
            number, command, data = await read_frame(reader)
            assert int(number) == expected
            expected += 1
            if command == b"close":
                self.closed += 1
                writer.write(number + b" rsp 6 200 OK\n")
                return
            if command == b"open":
                assert data.startswith(b"relp_version=0\n")
                writer.write(b"%b rsp %d %b\n" % (number, len(OFFERS), OFFERS))
                continue
            self.messages.append(data)
            answers.append(number + self._answer())
            if len(answers) == self._answer_after:
                writer.write(b"".join(answers))
                answers.clear()

    def _answer(self) -> bytes:
        refused = self._refuse_every and len(self.messages) % self._refuse_every == 0
        return b" rsp 6 500 NO\n" if refused else b" rsp 6 200 OK\n"


async def read_frame(reader: asyncio.StreamReader) -> tuple[bytes, bytes, bytes]:
    """Number, command and data."""
    number = (await reader.readuntil(b" "))[:-1]
    command = (await reader.readuntil(b" "))[:-1]
    if command == b"close":
        assert await reader.readexactly(2) == b"0\n"
        return number, command, b""
    data = await reader.readexactly(int(await reader.readuntil(b" ")) + 1)
    assert data.endswith(b"\n")
    return number, command, data[:-1]


async def test_relp_carries_each_message_once_and_counts_the_answers() -> None:
    """It waits for the last one, and closes every session in good order."""
    server = Relp()
    async with listening(server.serve) as address:
        options = ("--protocol", "relp", "--connections", "3")
        figures = await generate(address, *options, count=6_000)
    assert (figures["sent"], figures["acked"], figures["refused"]) == (6_000, 6_000, 0)
    marks = Counter(map(mark, server.messages))
    assert (len(marks), set(marks.values())) == (6_000, {1})
    assert server.closed == 3


async def test_relp_fills_its_window_and_not_more() -> None:
    """A server that answers whole windows only is served; one that wants more waits in vain."""
    server = Relp(answer_after=50)
    async with listening(server.serve) as address:
        options = ("--protocol", "relp", "--window", "50")
        figures = await generate(address, *options, count=1_000)
        assert figures["acked"] == 1_000
        with pytest.raises(TimeoutError):
            await generate(address, *options[:-1], "49", "--patience", "0.1", count=1_000)
    assert len(server.messages) == 1_000 + 49


async def test_relp_tells_refusals_from_answers() -> None:
    """A gateway must not refuse; the tool has to notice when it does."""
    server = Relp(refuse_every=10)
    async with listening(server.serve) as address:
        figures = await generate(address, "--protocol", "relp", count=1_000)
    assert (figures["acked"], figures["refused"]) == (900, 100)


async def test_relp_notices_an_answer_that_is_out_of_order() -> None:
    """Whoever counts answers without looking at them would count an answer twice."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_frame(reader)
        writer.write(b"1 rsp %d %b\n" % (len(OFFERS), OFFERS))
        number, _, _ = await read_frame(reader)
        writer.write(b"%d rsp 6 200 OK\n" % (int(number) + 1))
        await reader.read()

    async with listening(serve) as address:
        with pytest.raises(RelpError, match="expected"):
            await generate(address, "--protocol", "relp", count=10)
