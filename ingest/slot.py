"""One worker's place in its parent: started, listened to, replaced when it dies, drained."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import signal
import socket
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

import msgspec
from structlog import get_logger

from ingest import metrics
from ingest.status import Seat, WorkerStatus, silent_since
from ingest.worker import Assignment, Order, framed, run

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from multiprocessing.process import BaseProcess
    from pathlib import Path

    from ingest.settings import ServiceSettings
    from ingest.worker import Front

log = get_logger(__name__)

PROCESSES = multiprocessing.get_context("forkserver")
"""Workers are forked from a process that has the modules imported but nothing running: a
replacement is there at once."""
RESTART_SECONDS = (0.0, 5.0)
"""Pause before the first replacement, and the longest one, for workers that die young."""
YOUNG_SECONDS = 5.0
REPORT_BYTES = 16 << 20
"""The longest report of a worker: it names every unusable topic."""


@contextlib.contextmanager
def signals_held_back() -> Iterator[None]:
    """Processes started within never get the signals that only their parent obeys."""
    signals = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@dataclass(frozen=True, slots=True)
class Crew:
    """What all workers of a service share; see `ingest.worker.Assignment`.

    Attributes:
        renewal: the message that tells a running worker of ``config``; empty for the first one.
    """

    service: str
    make: Callable[[Any], Awaitable[Front]]
    config: Any
    settings: ServiceSettings
    metrics: Path
    version: int = 0
    renewal: bytes = b""


class Slot:
    """Keeps one worker running.

    Args:
        crew: what it shares with the other workers.
        number: its own number.
        sockets: its listening sockets, which outlive it: listener -> sockets.
    """

    def __init__(self, crew: Crew, number: int, sockets: dict[str, list[socket.socket]]) -> None:
        self.number = number
        self.ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._crew = crew
        self._told = crew.version
        self._sockets = sockets
        self._loop = asyncio.get_running_loop()
        self._process: BaseProcess | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._status: WorkerStatus | None = None
        self._heard_at = self._loop.time()
        self._restarts = 0
        self._restarted = metrics.WORKER_RESTARTS.labels(crew.service)
        self._order: Order | None = None
        self._ordered = asyncio.Event()
        self._task = self._loop.create_task(self._keep())

    @property
    def seat(self) -> Seat:
        """How the worker is, by its last report."""
        status = silent_since(self._status, self._loop.time() - self._heard_at)
        return Seat(self.number, self._restarts, self._heard_at, status)

    @property
    def _cut_off(self) -> int | None:
        """What a worker that drained said at its end; None without such an end."""
        return None if self._status is None else self._status.cut_off

    def renew(self, config: Any, version: int, renewal: bytes) -> None:
        """Go on with another configuration.

        Args:
            config: what the workers that follow are started with.
            version: its number.
            renewal: the message that tells the running worker of it.
        """
        self._crew = replace(self._crew, config=config, version=version, renewal=renewal)
        self._pass_on()

    def drain(self, order: Order) -> None:
        """Have the worker drain and end; it is not replaced any more."""
        self._order = order
        self._ordered.set()
        for sock in chain.from_iterable(self._sockets.values()):
            if sock.type == socket.SOCK_STREAM:  # the worker's own copies are the last ones now;
                sock.close()  # of the others the kernel's drops are counted to the end
        self._pass_on()

    def kill(self) -> None:
        """End the worker at once."""
        if self._process is not None:
            self._process.kill()

    def _pass_on(self) -> None:
        """Tell the worker, once it can be told, what it has not been told yet."""
        if self._writer is None:
            return
        if self._told != self._crew.version:
            self._told = self._crew.version
            self._writer.write(self._crew.renewal)
        if self._order is not None:
            self._writer.write(framed(self._order))

    async def _keep(self) -> None:
        """Run workers one after the other until one was told to drain."""
        pause = RESTART_SECONDS[0]
        while self._order is None:
            begun = self._loop.time()
            try:
                await self._run_one()
            except (OSError, EOFError) as error:  # the system has no file or process to spare
                reason = getattr(error, "strerror", None) or type(error).__name__
                log.error("cannot_keep_worker", slot=self.number, reason=reason)  # noqa: TRY400
            if self._order is None:
                self._restarts += 1
                self._restarted.inc()
                young = self._loop.time() - begun < YOUNG_SECONDS
                await self._rest(pause if young else RESTART_SECONDS[0])
                pause = min(RESTART_SECONDS[1], 2 * pause + 0.5) if young else RESTART_SECONDS[0]
        self.ended.set_result(self._cut_off == 0)

    async def _rest(self, seconds: float) -> None:
        """Wait, but not with a drain."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ordered.wait()

    async def _run_one(self) -> None:
        """Run one worker to its end, and book what it left behind."""
        self._status = None
        process, control = self._start()
        self._process = process
        reader, self._writer = await asyncio.open_connection(sock=control, limit=REPORT_BYTES)
        self._pass_on()
        await self._listen(reader)
        await self._death_of(process)
        self._writer.close()
        self._writer = None
        lost = metrics.book_lost_events(self._crew.metrics, self.number)
        if self._cut_off is None:
            log.error(
                "worker_died",
                slot=self.number,
                pid=process.pid,
                exit_status=process.exitcode,
                events_lost=lost,
            )

    def _start(self) -> tuple[BaseProcess, socket.socket]:
        mine, its = socket.socketpair()
        mine.setblocking(False)
        crew = self._crew
        self._told = crew.version
        assignment = Assignment(
            service=crew.service,
            slot=self.number,
            make=crew.make,
            config=crew.config,
            version=crew.version,
            settings=crew.settings,
            sockets=self._sockets,
            control=its,
            metrics=crew.metrics,
        )
        process = PROCESSES.Process(target=run, args=(assignment,), daemon=True)
        with signals_held_back():
            process.start()
        its.close()
        self._heard_at = self._loop.time()
        return process, mine

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        """Take its reports until it hangs up; it may have been killed in the middle of one."""
        with contextlib.suppress(OSError):
            while (line := await reader.readline()).endswith(b"\n"):
                self._status = msgspec.json.decode(line, type=WorkerStatus)
                self._heard_at = self._loop.time()

    async def _death_of(self, process: BaseProcess) -> None:
        dead = asyncio.Event()
        self._loop.add_reader(process.sentinel, dead.set)
        try:
            await dead.wait()
        finally:
            self._loop.remove_reader(process.sentinel)
        process.join()
