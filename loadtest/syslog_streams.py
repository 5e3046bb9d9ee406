"""Sends framed messages over several TCP connections at once, from one thread and without asyncio.

A connection that the receiver does not read from holds only its own messages.
"""

from __future__ import annotations

import select
import socket
import time
from typing import TYPE_CHECKING

from loadtest.syslog_pace import TICK_SECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from loadtest.syslog_numbered import Numbered
    from loadtest.syslog_pace import Pace

CHUNK_BYTES = 65_536
CLOSE_SECONDS = 30.0


class Stream:
    """One connection; what it sends is framed already.

    Args:
        sock: connected.
        source: what to send.

    Attributes:
        sent: messages handed to it.
    """

    def __init__(self, sock: socket.socket, source: Numbered) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.sent = 0
        self._source = source
        self._rest = memoryview(b"")

    @property
    def reading(self) -> bool:
        """Whether the other end is expected to say something."""
        return False

    @property
    def writing(self) -> bool:
        """Whether the kernel has not taken everything yet."""
        return bool(self._rest)

    @property
    def finished(self) -> bool:
        """Whether nothing more has to happen for the messages sent so far."""
        return not self._rest

    def pump(self, allowed: int) -> int:
        """Send at most ``allowed`` messages more, a chunk at most; returns how many."""
        if self._rest:
            self._flush()
        most = min(allowed, CHUNK_BYTES // self._source.width)
        if self._rest or most <= 0:
            return 0
        self._rest, count = self._take(most)
        self.sent += count
        self._flush()
        return count

    def close(self) -> None:
        """End in good order: say that nothing follows, and wait for the other end."""
        self.sock.settimeout(CLOSE_SECONDS)
        self._say_goodbye()
        with self.sock:
            while self.sock.recv(CHUNK_BYTES):
                pass

    def _take(self, most: int) -> tuple[memoryview, int]:
        taken = self._source.take(most)
        return taken, len(taken) // self._source.width

    def _say_goodbye(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def _flush(self) -> None:
        try:
            self._rest = self._rest[self.sock.send(self._rest) :]
        except BlockingIOError:
            return


def send(streams: Sequence[Stream], pace: Pace, patience_seconds: float) -> tuple[float, float]:
    """Send all that ``pace`` asks for and wait until every stream is finished.

    Returns:
        When it began and ended, on the clock of `time.perf_counter`.

    Raises:
        TimeoutError: nothing happened for ``patience_seconds``.
        OSError: a connection broke.
    """
    started = moved = time.perf_counter()
    while pace.left or not all(stream.finished for stream in streams):
        now = time.perf_counter()
        if _pump(streams, pace, now):
            moved = now
            if pace.paced:  # what is due after a microsecond would make a packet of its own
                time.sleep(TICK_SECONDS)
        elif now - moved > patience_seconds:
            raise TimeoutError(f"nothing happened for {patience_seconds:g} seconds")
        else:
            moved = now if _wait(streams, pace) else moved
    return started, time.perf_counter()


def _pump(streams: Sequence[Stream], pace: Pace, now: float) -> int:
    due = pace.due(now)
    share = -(-due // len(streams)) if pace.paced else due
    total = 0
    for stream in streams:
        count = stream.pump(min(share, due - total))
        pace.sent(count)
        total += count
    return total


def _wait(streams: Sequence[Stream], pace: Pace) -> bool:
    """Wait for news of any stream, or for the next tick; whether there were some."""
    readers = [stream.sock for stream in streams if stream.reading]
    writers = [stream.sock for stream in streams if stream.writing]
    if not (readers or writers or pace.left):  # the last answer has come
        return True
    seconds = TICK_SECONDS if pace.paced and pace.left else 1.0
    found = select.select(readers, writers, (), seconds)
    return bool(found[0] or found[1])
