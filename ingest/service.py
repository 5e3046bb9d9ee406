"""Process life of a service: a parent that owns the sockets, and workers that do the work.

start   bind, say `listening`, start workers; never wait for Kafka
run     replace workers that die, answer the management port, reload the configuration on SIGHUP
drain   not ready -> keep serving for a while -> close the listeners -> finish what is in flight
        -> flush -> end; bounded in time, and a second signal ends it at once
"""

from __future__ import annotations

import asyncio
import resource
import shutil
import signal
import socket
import tempfile
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop
from structlog import get_logger

from ingest import log as logs
from ingest import metrics
from ingest.datagrams import effective_buffer
from ingest.endpoint import Endpoint
from ingest.listening import address_of
from ingest.management import Management
from ingest.reload import Reloads
from ingest.slot import PROCESSES, Crew, Slot, signals_held_back
from ingest.worker import Order

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from ingest.config_change import Change
    from ingest.settings import ServiceSettings
    from ingest.status import Seat
    from ingest.worker import Front

log = get_logger(__name__)

WATCH_SECONDS = 1.0
"""How often the parent looks at the sockets that it keeps."""
MARGIN_SECONDS = 3.0
"""How much longer than they may workers can take to end, before they are killed."""


class Service:
    """A service that is about to run.

    Args:
        name: such as ``ingest-http``.
        settings: the section [service].
        config: the whole configuration; pickled on its way to the workers.
        make: a module-level coroutine function that builds a worker's front from ``config``.
        listeners: name -> where to listen.
        management: address of the management port.
        workers: how many worker processes.
        reload: reads the configuration anew, and tells what of it takes effect beside the one in
            force; raises `ConfigError`. It runs in a thread. None: this service cannot do that.
        about: what ``/status`` says of a configuration.
        warnings: what to warn of with a configuration, whenever it takes effect: event -> what to
            do about it.
        watch: given the sockets of each listener, makes what looks at them now and then, and a last
            time when all workers have ended; it is given the configuration in force.
        renews: a reload is passed on to the workers though nothing changed.
    """

    def __init__(  # noqa: PLR0913 - the options of one service, all by name
        self,
        name: str,
        *,
        settings: ServiceSettings,
        config: Any,
        make: Callable[[Any], Awaitable[Front]],
        listeners: Mapping[str, Endpoint],
        management: str,
        workers: int,
        reload: Callable[[Any], Change[Any]] | None = None,
        about: Callable[[Any], Mapping[str, Any]] | None = None,
        warnings: Callable[[Any], Mapping[str, str]] | None = None,
        watch: Callable[[Mapping[str, list[socket.socket]]], Callable[[Any], None]] | None = None,
        renews: bool = False,
    ) -> None:
        self._name = name
        self._settings = settings
        self._make = make
        self._listeners = listeners
        self._management_address = management
        self._workers = workers
        self._reloads = Reloads(
            name,
            config,
            reload,
            about or (lambda _: {}),
            warnings or (lambda _: {}),
            always=renews,
        )
        self._make_watch = watch
        self._watch: Callable[[Any], None] = lambda _: None
        self._slots: list[Slot] = []
        self._draining = False
        self._signals = 0

    def run(self) -> int:
        """Serve until told to end.

        Returns:
            0 when nothing was dropped, 1 otherwise; see the contract, Commands.
        """
        signal.signal(signal.SIGHUP, self._reloads.ask)
        logs.configure(self._settings, self._name)
        _raise_open_file_limit()
        directory = Path(tempfile.mkdtemp(prefix=f"{self._name}-metrics-"))
        metrics.share_counters(directory, "parent")
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                return runner.run(self._run(directory))
        except OSError as error:
            log.error("cannot_start", reason=error.strerror or type(error).__name__)  # noqa: TRY400
            return 1
        finally:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # Python resets handlers, but not this
            shutil.rmtree(directory, ignore_errors=True)

    async def _run(self, directory: Path) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        self._reloads.warn()
        management_at = Endpoint(self._management_address)
        (management_socket,) = self._bind("management", management_at, 1)
        bound = {
            name: self._bind(name, endpoint, self._workers)
            for name, endpoint in self._listeners.items()
        }
        about = _about_sockets(bound)
        if self._make_watch is not None:
            self._watch = self._make_watch(bound)
        management = Management(
            self._name,
            seats=self._seats,
            config=lambda: self._reloads.status,
            about=lambda: {**about, **self._reloads.about},
            is_draining=lambda: self._draining,
            drain=self._drain,
            now=loop.time,
            counters=directory,
            look=self._look,
        )
        await management.open(management_socket)
        self._start_workers(directory, bound)
        reloading = loop.create_task(self._reloads.run(self._slots, lambda: self._draining))
        watching = loop.create_task(self._look_now_and_then())
        drained = await asyncio.gather(*(slot.ended for slot in self._slots))
        reloading.cancel()
        watching.cancel()
        self._look()
        for name, endpoint in self._listeners.items():
            endpoint.release(bound[name])
        await management.close()
        log.info("stopped", nothing_dropped=all(drained))
        return 0 if all(drained) else 1

    def _look(self) -> None:
        self._watch(self._reloads.config)

    async def _look_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            self._look()

    def _bind(self, name: str, endpoint: Endpoint, count: int) -> list[socket.socket]:
        try:
            sockets = endpoint.bind(count)
        except OSError as error:
            log.error("cannot_bind", listener=name, address=endpoint.address)  # noqa: TRY400
            raise OSError(error.errno, error.strerror) from error
        endpoint.warn(name, sockets)
        log.info("listening", listener=name, address=address_of(sockets[0]))
        return sockets

    def _start_workers(self, directory: Path, bound: Mapping[str, list[socket.socket]]) -> None:
        with signals_held_back():
            # The first one started would give the signals back to whoever it was started with.
            resource_tracker.ensure_running()
        PROCESSES.set_forkserver_preload([self._make.__module__])
        crew = Crew(self._name, self._make, self._reloads.config, self._settings, directory)
        for number in range(self._workers):
            sockets = {name: [each[number]] for name, each in bound.items()}
            self._slots.append(Slot(crew, number, sockets))

    def _seats(self) -> list[Seat]:
        return [slot.seat for slot in self._slots]

    def _on_signal(self, number: signal.Signals) -> None:
        self._signals += 1
        if self._signals == 1:
            self._drain(signal.Signals(number).name)
        else:
            log.error("second_signal", signal=signal.Signals(number).name)
            self._kill()

    def _drain(self, reason: str) -> None:
        if self._draining:
            return
        self._draining = True
        settings = self._settings
        log.info("draining", reason=reason)
        for slot in self._slots:
            slot.drain(Order(settings.prestop_seconds, settings.drain_seconds))
        limit = settings.prestop_seconds + settings.drain_seconds + MARGIN_SECONDS
        asyncio.get_running_loop().call_later(limit, self._kill)

    def _kill(self) -> None:
        for slot in self._slots:
            slot.kill()


def _about_sockets(bound: Mapping[str, list[socket.socket]]) -> dict[str, Any]:
    """What ``/status`` says of the listeners."""
    buffers = {
        name: effective_buffer(sockets[0])
        for name, sockets in bound.items()
        if sockets[0].type == socket.SOCK_DGRAM
    }
    listeners = {name: address_of(sockets[0]) for name, sockets in bound.items()}
    return {"listeners": listeners, **({"receive_buffer_bytes": buffers} if buffers else {})}


def _raise_open_file_limit() -> None:
    """Every connection is an open file: take as many as the system allows without asking."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
