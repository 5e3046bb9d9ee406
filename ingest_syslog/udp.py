"""The asyncio side of datagrams: batches, as few wake-ups as the kernel's buffer allows.

To wake up for each datagram costs more than to read it. So the listener reads all there is, hands
it over as one batch, and then rests for some milliseconds in which the kernel collects the next
batch, instead of asking the event loop to be woken at once. Only when a rest brought nothing does
it ask for that again, so that the first datagram after a silence does not wait at all.

CPU time per datagram of 280 bytes on one socket, user and system, as multiples of what was chosen
in the same run (`loadtest/udp_receive.py`):

====================  ===========  ===========
way, rest             50,000/s     200,000/s
====================  ===========  ===========
recvmmsg, 10 ms       1.0          0.7
recvmmsg, 5 ms        0.9          0.7
recvmmsg, 0 ms        2.6          1.5
====================  ===========  ===========

Between 5 and 10 ms the reading costs the same, but what follows does not: there are half as many
Kafka requests, which is a twelfth of all the CPU time at 50,000/s.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from structlog import get_logger

from ingest.datagrams import effective_buffer
from ingest_syslog.recvmmsg import DATAGRAM_BYTES, Batch, Receiver, receiver

if TYPE_CHECKING:
    from collections.abc import Callable

    Take = Callable[[list[bytes], list[str], list[int]], None]

log = get_logger(__name__)

MOST_DATAGRAMS = 1_024
"""A batch with that many is not added to, so that the event loop is not held for long."""
MOST_BYTES = 1 << 20
"""The same for what they weigh together."""
LONG_REST = 0.01
"""Seconds between two batches; at 200,000 a second 2,000 datagrams, or 2.6 MiB of the buffer."""
SHORT_REST = 0.001
"""The same for a smaller buffer: Linux's default holds only 300 datagrams."""
LARGE_BUFFER = 8 << 20
"""From this many bytes of effective buffer on, the rest may be long."""
LAST_TRIES = 3
"""So many errors in a row end the last reads of a socket, each of which is told once only."""
RETRY_SECONDS = 1.0
"""Rest after an error of the socket itself."""


class UdpListener:
    """Reads one datagram socket in batches, from `resume` on.

    Args:
        sock: non-blocking, UDP or unix; closed by `close`.
        take: gets each batch, at most about `MOST_DATAGRAMS`: payloads, empty ones too; each one's
            sender, an IP address or ``unix``; how long each one was sent, which is more than its
            payload has where that was cut. May `pause`. What it raises goes to the loop's handler
            of exceptions, and that batch is gone.
        datagram_bytes: the most that is kept of one datagram. No UDP datagram reaches the default.
        rest_seconds: between batches, in whole milliseconds; by default as long as the socket's
            buffer allows. Zero for unix sockets, which hold some ten datagrams while their senders
            wait.
        reader: reads the socket; by default the cheapest there is.
    """

    def __init__(
        self,
        sock: socket.socket,
        take: Take,
        *,
        datagram_bytes: int = DATAGRAM_BYTES,
        rest_seconds: float | None = None,
        reader: Receiver | None = None,
    ) -> None:
        self._sock = sock
        self._take = take
        self._reader = reader or receiver(sock, datagram_bytes)
        self._rest = _rest_for(sock) if rest_seconds is None else rest_seconds
        self._loop = asyncio.get_running_loop()
        self._paused = True
        self._watching = False
        self._next: asyncio.Handle | None = None

    @property
    def paused(self) -> bool:
        """Whether it does not read; datagrams wait in the kernel, which counts those it drops."""
        return self._paused

    def resume(self) -> None:
        """Read from now on."""
        if self._paused:
            self._paused = False
            self._watch()

    def pause(self) -> None:
        """Read no more, at once, until `resume`."""
        self._paused = True
        self._unwatch()
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def close(self) -> None:
        """Stop for good. What is queued stays for whoever else has the socket."""
        self.pause()
        self._sock.close()

    async def drain_rest(self) -> None:
        """Hand over all that is queued, even when paused; others get turns between batches.

        It ends only when nothing new can come: see `ingest.datagrams.refuse_datagrams`. The
        listener is paused from then on.
        """
        self.pause()
        while (batch := self._last_read()).datagrams:
            self._take(*batch)
            await asyncio.sleep(0)

    def discard_rest(self) -> int:
        """Read and forget what is queued, for when there is no time left; says how many."""
        self.pause()
        discarded = 0
        while datagrams := self._last_read().datagrams:
            discarded += len(datagrams)
        return discarded

    def _watch(self) -> None:
        if not self._watching:
            self._watching = True
            self._loop.add_reader(self._sock.fileno(), self._woken)

    def _unwatch(self) -> None:
        if self._watching:
            self._watching = False
            self._loop.remove_reader(self._sock.fileno())

    def _woken(self) -> None:
        if self._rest:
            self._unwatch()
        self._turn()

    def _turn(self) -> None:
        """Read once and see to it that there is a next time, whatever happens."""
        self._next = None
        try:
            batch = self._read()
        except OSError as error:
            log.warning("cannot read datagrams", reason=str(error))
            self._unwatch()
            self._go_on(RETRY_SECONDS)
            return
        try:
            if batch.datagrams:
                self._take(*batch)
        finally:
            self._go_on(self._pause_after(len(batch.datagrams)))

    def _pause_after(self, count: int) -> float | None:
        """Seconds until the next turn; None: when the socket has something."""
        if not count or not self._rest:
            return None
        return 0 if count >= MOST_DATAGRAMS else self._rest

    def _go_on(self, after: float | None) -> None:
        if self._paused or self._watching:
            return
        if after is None:
            self._watch()
        elif after:
            self._next = self._loop.call_later(after, self._turn)
        else:
            self._next = self._loop.call_soon(self._turn)

    def _last_read(self) -> Batch:
        """One batch; an empty one where the socket fails again and again."""
        for _ in range(LAST_TRIES):
            try:
                return self._read()
            except OSError as error:
                log.warning("cannot read datagrams", reason=str(error))
        return Batch([], [], [])

    def _read(self) -> Batch:
        """One batch.

        Raises:
            OSError: the socket says so, before anything was read.
        """
        receive, slots = self._reader.receive, self._reader.slots
        batch = more = receive()
        while len(more.datagrams) == slots and _has_room(batch):
            try:
                more = receive()
            except OSError as error:  # told once only; what was read before it counts
                log.warning("cannot read datagrams", reason=str(error))
                break
            batch.datagrams.extend(more.datagrams)
            batch.peers.extend(more.peers)
            batch.lengths.extend(more.lengths)
        return batch


def _has_room(batch: Batch) -> bool:
    return len(batch.datagrams) < MOST_DATAGRAMS and sum(batch.lengths) < MOST_BYTES


def _rest_for(sock: socket.socket) -> float:
    if sock.family == socket.AF_UNIX:
        return 0
    return LONG_REST if effective_buffer(sock) >= LARGE_BUFFER else SHORT_REST
