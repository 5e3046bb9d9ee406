"""A smart RELP client: a frame is acknowledged at its ``rsp`` with 200, and not before.

What was not, it sends again after it has connected anew, in order, before anything new.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING

from loadtest.campaign_streams import PAUSE_SECONDS, Address, Messages, Stop, ticks
from loadtest.syslog_relp import OFFERS, WINDOW, RelpError

if TYPE_CHECKING:
    from loadtest.campaign_ledger import Ledger

OPEN_SECONDS = 30.0
PATIENCE_SECONDS = 60.0
"""How long answers are waited for after the last message."""


class RelpClient:
    """One sender over RELP.

    Args:
        address: the listener.
        messages: what it sends.
        ledger: where it notes that, and what was answered.
        window: how many frames may be unanswered.
    """

    def __init__(
        self, address: Address, messages: Messages, ledger: Ledger, window: int = WINDOW
    ) -> None:
        self._address = address
        self._messages = messages
        self._ledger = ledger
        self._window = window
        self._unanswered: deque[bytes] = deque()
        self._first = 0  # the number of the first one of these
        self._txnr = 1
        self._answered_to = 1  # the transaction number that was answered last
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None

    async def run(self, rate: float, stop: Stop) -> None:
        """Send until told to stop, and then until all is answered or patience is over."""
        async for count in ticks(rate, stop):
            await self._ensure_session()
            fresh = min(count, self._window - len(self._unanswered))
            if fresh > 0 and self._writer is not None:
                await self._send_new(fresh)
        give_up = time.monotonic() + PATIENCE_SECONDS
        while self._unanswered and time.monotonic() < give_up:
            await self._ensure_session()
            await asyncio.sleep(PAUSE_SECONDS)
        self._hang_up()

    async def _send_new(self, count: int) -> None:
        self._ledger.sending(count, time.monotonic())
        fresh = self._messages.take(count)
        self._unanswered += fresh
        await self._write(fresh)

    async def _ensure_session(self) -> None:
        """Have an open session on which everything unanswered was sent."""
        if self._writer is not None and self._reading is not None and not self._reading.done():
            return
        if self._writer is not None:
            self._ledger.broke(time.monotonic())
            self._hang_up()
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                reader, self._writer = await asyncio.open_connection(*self._address)
                await _open(reader, self._writer)
        except (OSError, EOFError):  # a TimeoutError is an OSError
            self._hang_up()
            await asyncio.sleep(PAUSE_SECONDS)
            return
        self._txnr = self._answered_to = 1
        self._reading = asyncio.create_task(self._read(reader))
        if self._unanswered:
            self._ledger.again(self._first, self._first + len(self._unanswered))
            await self._write(list(self._unanswered))

    async def _write(self, messages: list[bytes]) -> None:
        if self._writer is None or self._writer.transport.is_closing():
            return  # they are sent when there is a session again
        frames = [
            b"%d syslog %d %b\n" % (number, len(message), message)
            for number, message in enumerate(messages, self._txnr + 1)
        ]
        self._txnr += len(frames)
        self._writer.write(b"".join(frames))
        try:
            await self._writer.drain()
        except OSError:  # the reading sees it too
            return

    async def _read(self, reader: asyncio.StreamReader) -> None:
        """Take answers until the session breaks."""
        try:
            while line := await reader.readline():
                if line.startswith(b"0 serverclose"):
                    return
                self._take(line)
        except OSError:
            return

    def _take(self, line: bytes) -> None:
        """One answer; they come in the order of the frames."""
        expected = b"%d rsp " % (self._answered_to + 1)
        if not line.startswith(expected) or not line.endswith(b"\n"):
            if not line.endswith(b"\n"):  # cut off by the end of the session
                return
            raise RelpError(f"expected {expected!r}, got {line[:20]!r}")
        self._answered_to += 1
        self._unanswered.popleft()
        if b" 200 " in line:
            self._ledger.acknowledged(self._first)
        else:
            self._ledger.refused(self._first)
        self._first += 1

    def _hang_up(self) -> None:
        writer, self._writer = self._writer, None
        reading, self._reading = self._reading, None
        if writer is not None:
            writer.transport.abort()
        if reading is None:
            return
        if reading.done():
            reading.result()  # a broken protocol is no broken connection
        reading.cancel()


async def _open(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"1 open %d %b\n" % (len(OFFERS), OFFERS))
    header = [await reader.readuntil(b" ") for _ in range(3)]
    answer = await reader.readexactly(int(header[2]) + 1)
    if header[:2] != [b"1 ", b"rsp "] or not answer.startswith(b"200 "):
        raise RelpError(f"open was answered by {answer[:40]!r}")
