"""The asyncio side of TCP, TLS and unix streams: one connection of a sender."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from structlog import get_logger

from ingest import metrics
from ingest_syslog.framing import Framed, Framer, FramingError
from ingest_syslog.intake import Taken
from ingest_syslog.publish import Countdown, Origin
from ingest_syslog.relp import Batch, RelpError, Session
from ingest_syslog.splice import is_plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from ingest_syslog.identity import Identity
    from ingest_syslog.intake import Intake
    from ingest_syslog.settings import ListenerSettings
    from ingest_syslog.turns import Turns

log = get_logger(__name__)

TURN_FRAMES = 1000
"""So many frames of one read are worked on before others have their turn on the event loop."""
CLIENT_HINT_SECONDS = 10.0
"""How often is told of clients that are not allowed: some of them never try again."""
_CLIENT_HELLO = b"\x16\x03"
"""How TLS begins (RFC 8446, section 5.1): a handshake record, of any version 3."""


class Host(Protocol):
    """What a connection asks of its listener."""

    settings: ListenerSettings
    intake: Intake
    identity: Identity | None
    turns: Turns
    draining: bool

    def entered(self, connection: Connection) -> None:
        """A connection has its transport."""

    def left(self, connection: Connection) -> None:
        """A connection is gone."""

    def hint(self, event: str, advice: str, again_seconds: float = float("inf")) -> None:
        """Say something about senders, once, and no sooner than after so long again."""


class Connection(asyncio.Protocol):
    """One connection; see `ingest.accepting.Accepted` and `ingest_syslog.pressure.Reader`.

    Args:
        host: its listener.
        sock: accepted, non-blocking.
        address: of the sender.
    """

    can_wait = True

    def __init__(self, host: Host, sock: socket.socket, address: str) -> None:
        self.address = address
        self.is_closed_by_us = False
        self.is_tls = False
        self._host = host
        self._loop = asyncio.get_running_loop()
        self.idle_since = self._loop.time()
        self.partial_since: float | None = None
        self._arriving: socket.socket | None = sock
        self._transport: asyncio.Transport | None = None
        self._holds = 0
        self._begun = False  # whether anything was received
        self._lost = False
        self._rest: list[Callable[[], None]] = []  # what was received and waits for its turn
        self._turning = False  # it has its turn just now
        self._turn_due = False
        self._held_by_turns = False

    # What the acceptor asks.

    @property
    def is_arriving(self) -> bool:
        """Whether it has no transport yet."""
        return self._arriving is not None

    def is_waiting(self) -> bool:
        """Whether nothing would be lost with it."""
        return self.is_arriving or not (self.has_partial or self.unacked or self._rest)

    @property
    def has_partial(self) -> bool:
        """Whether a frame has begun and is not complete."""
        raise NotImplementedError

    @property
    def unacked(self) -> int:
        """How many frames wait for their acknowledgement; 0 where there is none."""
        return 0

    def force_close(self) -> None:
        """Close it at once, also while it arrives."""
        self.is_closed_by_us = True
        if self._transport is not None:
            self._transport.abort()
        elif self._arriving is not None:
            with suppress(OSError):
                self._arriving.shutdown(socket.SHUT_RDWR)

    def give_up(self) -> None:
        """Close it at once, because the service ends."""
        self._rest.clear()
        self.force_close()

    def never_made(self) -> None:
        """Let go of the socket."""
        if self._arriving is not None:
            self._arriving.close()

    # What asyncio tells.

    def connection_made(self, transport: Any) -> None:
        """Begin, if the sender's certificate allows it."""
        self._arriving = None
        self._transport = transport
        if self.is_closed_by_us:
            transport.abort()
            return
        tls = transport.get_extra_info("ssl_object")
        self.is_tls = tls is not None
        if self.is_tls:  # at the end of the stream asyncio forgets what it has read ahead
            transport.set_read_buffer_limits(high=1, low=0)
        self.idle_since = self._loop.time()
        identity = self._host.identity
        if tls is not None and identity is not None and not _is_admitted(tls, identity):
            advice = "its certificate is none of tls.allowed_names and tls.allowed_fingerprints"
            self._host.hint("client_not_allowed", advice, again_seconds=CLIENT_HINT_SECONDS)
            self.close_for("certificate")
            return
        self._host.entered(self)
        if self._holds:
            self._loop.call_soon(self._stay_paused)

    def data_received(self, data: bytes) -> None:
        """Take what was read."""
        self.idle_since = self._loop.time()
        if self._holds:
            self._stay_paused()
        if not self._begun:
            self._begun = True
            if data.startswith(_CLIENT_HELLO) and not self.is_tls:
                self._host.hint("tls_on_a_plain_port", "give the listener tls, or send without it")
                self.close_for("tls_on_a_plain_port")
                return
        if self.is_closed_by_us:
            return
        if self._rest or self._host.turns.busy:
            self.in_turns([partial(self.feed, data)])
        else:
            self.feed(data)
        self._note_partial()

    def _note_partial(self) -> None:
        if not self.has_partial:
            self.partial_since = None
        elif self.partial_since is None:
            self.partial_since = self._loop.time()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over; what was received whole is published all the same, in its turn."""
        del exc
        self._lost = True
        if not self._rest:
            self._leave()

    def _leave(self) -> None:
        self.ended()
        self._host.left(self)

    def feed(self, data: bytes) -> None:
        """Take bytes of the stream."""
        raise NotImplementedError

    def ended(self) -> None:
        """The stream has ended."""

    def finish(self) -> None:
        """The service ends: have the sender end the connection."""
        raise NotImplementedError

    # Backpressure.

    def hold(self) -> None:
        """Read no more, until released as often."""
        self._holds += 1
        if self._holds == 1 and self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def _stay_paused(self) -> None:
        """Pause again: uvloop begins to read after ``connection_made``, whatever was said there."""
        if self._holds and self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def release(self) -> None:
        """Take one `hold` back."""
        self._holds -= 1
        if self._rest:
            self._go_on()
        elif self._holds == 0 and self._transport is not None and not self._transport.is_closing():
            now = self._loop.time()  # the time in which nobody read is not the sender's
            self.idle_since = now
            self.partial_since = None if self.partial_since is None else now
            self._transport.resume_reading()

    @property
    def held(self) -> bool:
        """Whether it does not read."""
        return self._holds > 0

    def in_turns(self, work: list[Callable[[], None]]) -> None:
        """Do the first piece of work now, if nothing waits, and the others in turns with others.

        Nothing is read before all is done, and nothing is done while reading must rest: what was
        read may make far more of itself than it was. What a piece brings comes before the others.
        """
        if self._turning:
            self._rest[:0] = work
            return
        must_wait = bool(self._rest) or self._host.turns.busy or self.must_rest()
        self._rest += work
        if must_wait:
            self._after_turn()
        else:
            self._turn()

    def next_turn(self, work: Callable[[], None]) -> None:
        """Do a piece of work at the next turn of the event loop, before all that waits."""
        self._rest.insert(0, work)
        if not self._turning:
            self._after_turn()

    def _turn(self) -> None:
        self._turn_due = False
        if not self._rest or self.must_rest():  # since it was due, it has been forgotten or held
            return
        self._turning = True
        try:
            self._rest.pop(0)()
        finally:
            self._turning = False
            self._after_turn()

    def _after_turn(self) -> None:
        self._note_partial()
        if self._rest:
            if not self._held_by_turns:
                self._held_by_turns = True
                self.hold()
            self._go_on()
            return
        if self._held_by_turns:
            self._held_by_turns = False
            self.release()
        if self._lost:
            self._leave()

    def _go_on(self) -> None:
        """Have one more turn, unless somebody has it rest."""
        if not self._turn_due and not self._turning and not self.must_rest():
            self._turn_due = True
            self._host.turns.add(self.address, self._turn)

    def must_rest(self) -> bool:
        """Whether it is held by others than itself."""
        return self._holds > self._held_by_turns

    def close_for(self, reason: str) -> None:
        """Close it for a reason that is counted."""
        metrics.CONNECTIONS_CLOSED.labels(self._host.settings.name, reason).inc()
        self.force_close()


def _is_admitted(tls: Any, identity: Identity) -> bool:
    return identity.admits(tls.getpeercert(), tls.getpeercert(True))


class StreamConnection(Connection):
    """Frames without acknowledgements: TCP, TLS and unix streams."""

    def __init__(self, host: Host, sock: socket.socket, address: str) -> None:
        super().__init__(host, sock, address)
        self._framer = Framer(host.settings.framing, host.settings.frame_bytes, TURN_FRAMES)
        self._origin = Origin(host.settings.name, self)
        self._over = False
        self._given_up = False
        self._clean = True  # whether what has come of a frame is plain

    @property
    def has_partial(self) -> bool:
        """Whether a frame has begun and is not complete."""
        return self._framer.has_partial

    def feed(self, data: bytes) -> None:
        """Take bytes of the stream."""
        if self._over:
            return
        try:
            framed = self._framer.feed(data)
        except FramingError as error:
            self._over = True
            self._take(error.framed)
            self._host.hint("framing_lost", "the octet count of a frame is none: see framing")
            self.close_for(error.code)
            return
        if framed.frames:
            self.partial_since = None
        if framed.rest:
            self.next_turn(partial(self.feed, framed.rest))
        self._take(framed, plain=self._plain(data, framed))

    def _plain(self, data: bytes, framed: Framed) -> bool:
        """Whether every frame is plain and has no LF: it is cheaper to see in what was read."""
        plain = is_plain(data) and not (framed.may_have_lf and b"\n" in data)
        of_frames = plain and self._clean
        self._clean = not self.has_partial or (plain and (self._clean or bool(framed.frames)))
        return of_frames

    def _take(self, framed: Framed, *, plain: bool = False) -> None:
        settings = self._host.settings
        if framed.suspect:
            metrics.SYSLOG_FRAMING_SUSPECT.labels(settings.name).inc(framed.suspect)
        frames = framed.frames
        if frames or framed.empty:
            peers = [self.address] * len(frames)
            self._publish(Taken(frames, peers, framed.cuts, framed.empty, plain))
        if framed.cuts and settings.oversize == "close":
            self._over = True
            self.close_for("oversize")

    def _publish(self, taken: Taken) -> None:
        if self._given_up:
            self._host.intake.lose(len(taken.frames), taken.empty)
        else:
            self._host.intake.take(taken, self._origin)

    def give_up(self) -> None:
        """Close it at once; what was read and had no turn yet is counted: nobody has it."""
        self._given_up = self._turning = True
        while self._rest:
            self._rest.pop(0)()
        self.ended()
        super().give_up()
        if self._lost:
            self._leave()

    def ended(self) -> None:
        """What there is of a frame is one: its sender will not send it again."""
        if not self._over:
            self._over = True
            self._take(self._framer.end())

    def finish(self) -> None:
        """Tell the sender that the connection ends, and read on until it ends its side.

        TLS has no such half-close: what is on its way then is lost, as with every TCP sender.
        """
        transport = self._transport
        if transport is not None and not transport.is_closing() and transport.can_write_eof():
            transport.write_eof()


class RelpConnection(Connection):
    """Frames that are acknowledged when they are durable: RELP."""

    def __init__(self, host: Host, sock: socket.socket, address: str) -> None:
        super().__init__(host, sock, address)
        self._session = Session(host.settings.frame_bytes)
        self._origin = Origin(host.settings.name, self, resends=True)
        self._flushing = False
        self._ends = False
        self._unread = False
        self._full = False

    @property
    def has_partial(self) -> bool:
        """Whether a frame has begun and is not complete."""
        return self._session.has_partial

    @property
    def unacked(self) -> int:
        """How many frames wait for their acknowledgement."""
        return self._session.unacked_frames

    def connection_made(self, transport: Any) -> None:
        """Begin."""
        transport.set_write_buffer_limits(high=self._host.settings.unread_ack_bytes)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over; the client sends again what was not worked on."""
        self._rest.clear()
        super().connection_lost(exc)

    def must_rest(self) -> bool:
        """Whether it is held by others than itself; a full session goes on, to be less full.

        At the end all that was read goes on: what is half done, the client sends again as a whole.
        """
        others = self._holds - self._held_by_turns - self._full
        return others > 0 and not self._host.draining

    def pause_writing(self) -> None:
        """The client does not read its answers: nothing more is read from it."""
        self._unread = True
        self.hold()

    def resume_writing(self) -> None:
        """The client has read enough of them."""
        self._unread = False
        self.release()

    def feed(self, data: bytes) -> None:
        """Take bytes of the stream."""
        session, failure = self._session, ""
        try:
            batch = session.feed(data)
        except RelpError as error:
            batch, failure = error.batch, error.code
        if batch is not None:
            self.partial_since = None
            self._take(batch)
        self._flush()
        if failure:
            self._host.hint("relp_protocol_error", failure)
            metrics.CONNECTIONS_CLOSED.labels(self._host.settings.name, failure).inc()
            self.is_closed_by_us = True
            if self._transport is not None:
                self._transport.close()
        elif session.is_full and not self._full:
            self._full = True
            self.hold()

    def _take(self, batch: Batch) -> None:
        done = Countdown(lambda: self._done(batch))
        frames = batch.frames
        starts = range(0, len(frames), TURN_FRAMES) or range(1)
        parts = []
        for start in starts:
            own = [each.rstrip(b"\r\n\0") for each in frames[start : start + TURN_FRAMES]]
            end = start + len(own)
            cuts = [(at - start, size) for at, size in batch.cuts if start <= at < end]
            empty = batch.empty if start == 0 else 0
            parts.append(Taken(own, [self.address] * len(own), cuts, empty))
            done.one_more()
        self.in_turns([partial(self._publish, each, done) for each in parts])
        done.one_less()

    def _publish(self, taken: Taken, done: Countdown) -> None:
        self._host.intake.take(taken, self._origin, done)
        done.one_less()

    def _done(self, batch: Batch) -> None:
        """Every frame of a batch is durable; several answers leave together."""
        self._session.done(batch)
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)
        if self._full and not self._session.is_full:
            self._full = False
            self.release()

    def _flush(self) -> None:
        self._flushing = False
        transport, output = self._transport, self._session.take_output()
        if transport is None or transport.is_closing():
            return
        if output:
            transport.write(output)
        if self._ends and transport.can_write_eof():
            transport.write_eof()
            transport.resume_reading()
        elif self._session.closing:
            transport.close()

    def finish(self) -> None:
        """Give the answers that are due, say that the server closes, and have the client close.

        What it sends meanwhile is read and forgotten. Unread it would make a reset of our close,
        and that may overtake the answers.
        """
        self._ends = True
        self._session.drain()
        self._flush()
