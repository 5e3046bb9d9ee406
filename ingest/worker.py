"""One worker process: serves until its parent says drain, or is gone."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import uvloop
from structlog import get_logger

from ingest import log as logs
from ingest import metrics
from ingest.memory import keep_freed_memory
from ingest.status import WorkerStatus

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from ingest.settings import ServiceSettings

log = get_logger(__name__)

REPORT_SECONDS = 0.25
"""How often a worker reports to its parent."""
GC_THRESHOLD = 20_000
"""Collections of the youngest generation are made after so many allocations: a request makes many
objects that all die by reference count."""
LENGTH_BYTES = 8
"""Of the number before each message of a parent, which says how long it is."""


class Front(Protocol):
    """What one worker of a service does."""

    async def open(self, sockets: Mapping[str, Sequence[socket.socket]]) -> None:
        """Serve on the listening sockets of each listener; does not wait for Kafka."""

    def status(self) -> WorkerStatus:
        """How it is just now."""

    async def reload(self, config: Any) -> None:
        """Take a new configuration; all of it or, when it raises, nothing.

        Calls never overlap. One may be cancelled, by a drain.
        """

    def drain(self) -> None:
        """Go on serving, but tell every client that its connection ends."""

    async def close(self, deadline: float) -> int:
        """Close the listeners, finish what is in flight, at most until ``deadline``.

        Returns:
            How many requests were cut off without an answer.
        """


@dataclass(frozen=True, slots=True)
class Order:
    """What a parent tells its worker: to drain, and how long that may take."""

    prestop_seconds: float
    drain_seconds: float


@dataclass(frozen=True, slots=True)
class Renewal:
    """What a parent tells its worker: that there is a new configuration.

    Attributes:
        version: its number, which grows.
        config: the whole configuration of the service.
    """

    version: int
    config: Any


def framed(message: Order | Renewal) -> bytes:
    """A message as it goes from a parent to its worker."""
    body = pickle.dumps(message)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


async def _next_message(reader: asyncio.StreamReader) -> Order | Renewal | None:
    """The parent's next word; None when it is gone."""
    try:
        length = int.from_bytes(await reader.readexactly(LENGTH_BYTES), "big")
        body = await reader.readexactly(length)
    except (asyncio.IncompleteReadError, OSError):
        return None
    message: Order | Renewal = pickle.loads(body)  # noqa: S301 - from our own parent
    return message


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a worker is started with; pickled on its way to the new process.

    Attributes:
        service: the service's name.
        slot: the worker's number.
        make: builds the front from the configuration, on the worker's event loop.
        config: the whole configuration of the service.
        version: the number of that configuration.
        settings: its section [service].
        sockets: listener -> listening sockets.
        control: the connection to the parent.
        metrics: where counters are kept.
    """

    service: str
    slot: int
    make: Callable[[Any], Awaitable[Front]]
    config: Any
    version: int
    settings: ServiceSettings
    sockets: dict[str, list[socket.socket]]
    control: socket.socket
    metrics: Path


def run(assignment: Assignment) -> None:
    """The whole life of a worker process."""
    metrics.share_counters(assignment.metrics, assignment.slot)
    logs.configure(assignment.settings, assignment.service)
    keep_freed_memory()
    gc.freeze()  # what is there now stays: it need not be looked at again and again
    gc.set_threshold(GC_THRESHOLD)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(assignment))


async def _serve(assignment: Assignment) -> None:
    reader, writer = await asyncio.open_connection(sock=assignment.control)
    front = await assignment.make(assignment.config)
    await front.open(assignment.sockets)
    renewals = Renewals(front, assignment.version)
    reporting = asyncio.create_task(_report(front, renewals, writer))
    renewing = asyncio.create_task(renewals.take_each())
    order = await _next_order(reader, renewals, assignment.settings)
    renewing.cancel()
    front.drain()
    await asyncio.sleep(order.prestop_seconds)
    cut_off = await front.close(asyncio.get_running_loop().time() + order.drain_seconds)
    reporting.cancel()
    last = WorkerStatus(os.getpid(), reasons=["stopped"], cut_off=cut_off)
    _say(writer, renewals.noted_in(last))
    with contextlib.suppress(OSError):
        await writer.drain()
        writer.close()


class Renewals:
    """The configurations that a worker is given, which it takes one after the other.

    Args:
        front: what takes them.
        version: of the configuration that it has.
    """

    def __init__(self, front: Front, version: int) -> None:
        self._front = front
        self._version = version
        self._failed = False
        self._newest: Renewal | None = None
        self._arrived = asyncio.Event()

    def put(self, renewal: Renewal) -> None:
        """There is a newer one; what has not been begun by now is skipped."""
        self._newest = renewal
        self._arrived.set()

    def noted_in(self, status: WorkerStatus) -> WorkerStatus:
        """``status`` with the version that is in force."""
        return msgspec.structs.replace(
            status, config_version=self._version, reload_failed=self._failed
        )

    async def take_each(self) -> None:
        """Have the front take whatever arrives, until cancelled."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            if self._newest is not None:
                await self._take(self._newest)

    async def _take(self, renewal: Renewal) -> None:
        try:
            await self._front.reload(renewal.config)
        except Exception:
            log.exception("worker_reload_failed", version=renewal.version, kept=self._version)
            self._failed = True
        else:
            self._version = renewal.version
            self._failed = False


async def _report(front: Front, renewals: Renewals, writer: asyncio.StreamWriter) -> None:
    while True:
        _say(writer, renewals.noted_in(front.status()))
        await asyncio.sleep(REPORT_SECONDS)


def _say(writer: asyncio.StreamWriter, status: WorkerStatus) -> None:
    if not writer.is_closing():
        writer.write(msgspec.json.encode(status) + b"\n")


async def _next_order(
    reader: asyncio.StreamReader, renewals: Renewals, settings: ServiceSettings
) -> Order:
    """The parent's word; a parent that is gone cannot keep the service in a balancer any more."""
    while isinstance(message := await _next_message(reader), Renewal):
        renewals.put(message)
    if message is not None:
        return message
    log.error("parent_lost")
    return Order(prestop_seconds=0.0, drain_seconds=settings.drain_seconds)
