"""One worker process: serves until its parent says drain, or is gone."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
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


class Front(Protocol):
    """What one worker of a service does."""

    async def open(self, sockets: Mapping[str, Sequence[socket.socket]]) -> None:
        """Serve on the listening sockets of each listener; does not wait for Kafka."""

    def status(self) -> WorkerStatus:
        """How it is just now."""

    def drain(self) -> None:
        """Go on serving, but tell every client that its connection ends."""

    async def close(self, deadline: float) -> int:
        """Close the listeners, finish what is in flight, at most until ``deadline``.

        Returns:
            How many requests were cut off without an answer.
        """


class Order(msgspec.Struct, frozen=True):
    """What a parent tells its worker: to drain, and how long that may take."""

    prestop_seconds: float
    drain_seconds: float


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a worker is started with; pickled on its way to the new process.

    Attributes:
        service: the service's name.
        slot: the worker's number.
        make: builds the front from the configuration, on the worker's event loop.
        config: the whole configuration of the service.
        settings: its section [service].
        sockets: listener -> listening sockets.
        control: the connection to the parent.
        metrics: where counters are kept.
    """

    service: str
    slot: int
    make: Callable[[Any], Awaitable[Front]]
    config: Any
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
    reporting = asyncio.create_task(_report(front, writer))
    order = await _next_order(reader, assignment.settings)
    front.drain()
    await asyncio.sleep(order.prestop_seconds)
    cut_off = await front.close(asyncio.get_running_loop().time() + order.drain_seconds)
    reporting.cancel()
    _say(writer, WorkerStatus(os.getpid(), reasons=["stopped"], cut_off=cut_off))
    with contextlib.suppress(OSError):
        await writer.drain()
        writer.close()


async def _report(front: Front, writer: asyncio.StreamWriter) -> None:
    while True:
        _say(writer, front.status())
        await asyncio.sleep(REPORT_SECONDS)


def _say(writer: asyncio.StreamWriter, status: WorkerStatus) -> None:
    if not writer.is_closing():
        writer.write(msgspec.json.encode(status) + b"\n")


async def _next_order(reader: asyncio.StreamReader, settings: ServiceSettings) -> Order:
    """The parent's word; a parent that is gone cannot keep the service in a balancer any more."""
    line = await reader.readline()
    if line:
        return msgspec.json.decode(line, type=Order)
    log.error("parent_lost")
    return Order(prestop_seconds=0.0, drain_seconds=settings.drain_seconds)
