"""A service with hardly anything in it, whose life is that of a real one; runs as a process.

Its clients send lines and get a line for each:

who     which worker this is, and whether it is serving or draining
take    an event of its source is received and acked
lose    an event is received, and never accounted for
hang    a request begins, which ends with the connection's next line
config  its greeting, and how long its ballast is
reports how often this worker was asked for its status
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ingest import metrics
from ingest.config_change import Change
from ingest.endpoint import Endpoint
from ingest.errors import ConfigError
from ingest.listening import accept_all, refuse_newcomers
from ingest.service import Service
from ingest.settings import ServiceSettings
from ingest.status import WorkerStatus

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping, Sequence

NAME = "toy"
GRACE_SECONDS = 0.1
"""How long connections that wait for nothing are kept after the listener has closed."""


class ToyConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What differs from toy to toy.

    Attributes:
        fails: workers die while they start.
        overruns: workers do not keep to the deadline of their drain.
        degraded: so many topics cannot be used.
        file: what a reload reads: a JSON object with attributes that differ.
        source: which source its events are of.
        greeting: tells one configuration from another.
        ballast: makes it long.
        refused: workers raise instead of taking it.
        stalls: workers never get done with taking it.
        bug: reading it fails in a way that nobody thought of.
    """

    workers: int = 1
    prestop_seconds: float = 0.0
    drain_seconds: float = 5.0
    management: str = "127.0.0.1:0"
    listen: str = "127.0.0.1:0"
    fails: bool = False
    overruns: bool = False
    degraded: int = 0
    file: str = ""
    source: str = "toys"
    greeting: str = "hello"
    ballast: str = ""
    refused: bool = False
    stalls: bool = False
    bug: bool = False


RELOADABLE = ("source", "greeting", "ballast", "refused", "stalls")


class ToyFront:
    """See `ingest.worker.Front`."""

    def __init__(self, config: ToyConfig) -> None:
        self._config = config
        self._servers: list[asyncio.Server] = []
        self._sockets: list[socket.socket] = []
        self._idle: set[asyncio.StreamWriter] = set()
        self._open = 0
        self._hanging = 0
        self._reports = 0
        self._draining = False
        self._count()

    def _count(self) -> None:
        self._received = metrics.EVENTS_RECEIVED.labels(NAME, self._config.source)
        self._acked = metrics.EVENTS.labels(NAME, self._config.source, "acked")

    async def open(self, sockets: Mapping[str, Sequence[socket.socket]]) -> None:
        """Serve on the listening sockets."""
        for sock in sockets["toy"]:
            self._sockets.append(sock)
            self._servers.append(await asyncio.start_server(self._serve, sock=sock.dup()))

    def status(self) -> WorkerStatus:
        """How it is just now."""
        self._reports += 1
        topics = (f"topic-{number:0200}" for number in range(self._config.degraded))
        return WorkerStatus(
            os.getpid(),
            degraded=dict.fromkeys(topics, "topic_missing"),
            kafka_up=True,
            inflight_bytes=self._hanging,
            connections={"toy": self._open},
        )

    async def reload(self, config: ToyConfig) -> None:
        """Take another configuration, or raise."""
        if config.stalls:
            await asyncio.sleep(3600)
        if config.refused:
            raise RuntimeError("not this one")
        self._config = config
        self._count()

    def drain(self) -> None:
        """Every answer from now on is the last one on its connection."""
        self._draining = True

    async def close(self, deadline: float) -> int:
        """Accept who is in the queue, close the listeners, answer everybody."""
        refuse_newcomers(self._sockets)
        for server in self._servers:
            server.close()
        tasks = []
        for sock in self._sockets:
            for connection in accept_all(sock):
                streams = await asyncio.open_connection(sock=connection)
                tasks.append(asyncio.ensure_future(self._serve(*streams)))
            sock.close()
        if self._config.overruns:
            await asyncio.sleep(3600)
        loop = asyncio.get_running_loop()
        grace = loop.time() + GRACE_SECONDS
        while self._open and loop.time() < deadline:
            for writer in self._idle if loop.time() > grace else ():
                writer.close()
            await asyncio.sleep(0.01)
        return self._hanging

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            while line := await self._next(reader, writer):
                answer = self._answer(line)
                writer.write(answer.encode() + b"\n")
                if line == b"hang\n":
                    await reader.readline()
                    self._hanging -= 1
                    writer.write(b"done\n")
                if self._draining:
                    break
        finally:
            self._open -= 1
            writer.close()

    async def _next(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        self._idle.add(writer)
        try:
            return await reader.readline()
        finally:
            self._idle.discard(writer)

    def _answer(self, line: bytes) -> str:
        match line.strip():
            case b"who":
                return f"{os.getpid()} {'draining' if self._draining else 'serving'}"
            case b"reports":
                return str(self._reports)
            case b"config":
                return f"{self._config.greeting} {len(self._config.ballast)}"
            case b"take":
                self._received.inc()
                self._acked.inc()
            case b"lose":
                self._received.inc()
            case b"hang":
                self._hanging += 1
        return "ok"


async def make(config: ToyConfig) -> ToyFront:
    """Build a worker on its event loop."""
    if config.fails:
        signal.raise_signal(signal.SIGKILL)
    return ToyFront(config)


def reload(current: ToyConfig) -> Change[ToyConfig]:
    """Read the file of ``current``: see `ingest.service.Service`."""
    try:
        given = msgspec.json.decode(Path(current.file).read_bytes(), type=dict[str, Any])
        known = msgspec.structs.asdict(ToyConfig(file=current.file))
        found = msgspec.convert(known | given, ToyConfig)
    except (OSError, msgspec.ValidationError, msgspec.DecodeError) as error:
        raise ConfigError([f"toy: {error}", "toy: keep the last good one"]) from None
    if found.bug:
        raise LookupError("a toy's bug")
    differ = [name for name in given if getattr(found, name) != getattr(current, name)]
    taken = {name: getattr(found, name) for name in RELOADABLE}
    return Change(
        msgspec.structs.replace(current, **taken),
        [f"{name}: changed" for name in differ if name in RELOADABLE],
        [name for name in differ if name not in RELOADABLE],
    )


def main() -> int:
    """Run the service that the first argument describes, in JSON."""
    config = msgspec.json.decode(sys.argv[1], type=ToyConfig)
    settings = ServiceSettings(
        prestop_seconds=config.prestop_seconds,
        drain_seconds=config.drain_seconds,
        log_format="json",
    )
    return Service(
        NAME,
        settings=settings,
        config=config,
        make=make,
        listeners={"toy": Endpoint(config.listen)},
        management=config.management,
        workers=config.workers,
        reload=reload if config.file else None,
        about=lambda config: {"sources": [config.source]},
        warnings=lambda _: {"only_a_toy": "do not rely on it"},
    ).run()
