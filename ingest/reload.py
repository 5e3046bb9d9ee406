"""Reloads of the configuration on SIGHUP, in the parent: all of it, in every worker, or nothing."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec
from structlog import get_logger

from ingest import metrics
from ingest.errors import ConfigError
from ingest.status import ConfigStatus
from ingest.worker import Renewal, framed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ingest.config_change import Change
    from ingest.slot import Slot
    from ingest.status import Seat

Result = TypeVar("Result")
log = get_logger(__name__)


class Reloads:
    """The configuration in force, and its reloads: one after the other, each all or nothing.

    Args:
        service: the service's name.
        config: what is in force at the start.
        reload: see `Service`.
        describe: see `Service`, about.
        warnings: see `Service`.
        always: workers are told of what did not change, too.

    Attributes:
        config: what is in force.
        about: what ``describe`` says of it.
        status: its version, and how the last reload went.
    """

    def __init__(
        self,
        service: str,
        config: Any,
        reload: Callable[[Any], Change[Any]] | None,
        describe: Callable[[Any], Mapping[str, Any]],
        warnings: Callable[[Any], Mapping[str, str]],
        *,
        always: bool = False,
    ) -> None:
        self.config = config
        self.about = describe(config)
        self.status = ConfigStatus(0, _now())
        self._service = service
        self._reload = reload
        self._describe = describe
        self._warnings = warnings
        self._always = always
        self._asked = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def warn(self) -> None:
        """Say what is dangerous in what is in force."""
        for event, advice in self._warnings(self.config).items():
            log.warning(event, advice=advice)

    def ask(self, *_: object) -> None:
        """Have one more reload; a signal handler, called between any two steps of the program."""
        if self._loop is None:
            self._asked.set()
        else:
            with contextlib.suppress(RuntimeError):  # the loop has ended: so does the process
                self._loop.call_soon_threadsafe(self._asked.set)

    async def run(self, slots: Sequence[Slot], is_draining: Callable[[], bool]) -> None:
        """Reload whenever asked, until cancelled; what is asked for during one makes one more."""
        self._loop = asyncio.get_running_loop()
        while True:
            await self._asked.wait()
            self._asked.clear()
            if self._reload is None:
                log.warning("reload_ignored", reason="this service takes it with a restart only")
            elif is_draining():
                log.warning("reload_ignored", reason="draining")
            else:
                await self._run_one(self._reload, slots, is_draining)

    async def _run_one(
        self,
        reload: Callable[[Any], Change[Any]],
        slots: Sequence[Slot],
        is_draining: Callable[[], bool],
    ) -> None:
        try:
            found = await _in_thread(lambda: self._read(reload))
        except ConfigError as error:
            self._keep(error.problems)
        except Exception:  # noqa: BLE001 - whatever it is, the last good one stays in force
            self._keep(("the configuration could not be read: see the log",), exc_info=True)
        else:
            if is_draining():
                log.warning("reload_ignored", reason="draining")
            else:
                self._take(found, slots)

    def _read(self, reload: Callable[[Any], Change[Any]]) -> _Found:
        """Everything that may fail or takes long."""
        change = reload(self.config)
        renewal = framed(Renewal(self.status.version + 1, change.config))
        return _Found(change, self._describe(change.config), renewal)

    def _keep(self, problems: tuple[str, ...], *, exc_info: bool = False) -> None:
        self.status = msgspec.structs.replace(self.status, problems=problems)
        metrics.RELOADS.labels(self._service, "failed").inc()
        log.error("reload_failed", problems=list(problems), exc_info=exc_info)

    def _take(self, found: _Found, slots: Sequence[Slot]) -> None:
        change, version = found.change, self.status.version
        differs = change.config != self.config
        if differs or self._always or any(_is_behind(slot.seat, version) for slot in slots):
            version += 1
            for slot in slots:
                slot.renew(change.config, version, found.renewal)
        self.config, self.about = change.config, found.about
        self.status = ConfigStatus(version, _now())
        metrics.RELOADS.labels(self._service, "ok").inc()
        event = "reloaded" if differs else "nothing_changed"
        log.info(event, changed=change.changed, version=version)
        self.warn()
        if change.needs_restart:
            log.warning("restart_needed", keys=change.needs_restart)


class _Found(NamedTuple):
    """What a reload brings: also what ``/status`` says of it, and what workers are told."""

    change: Change[Any]
    about: Mapping[str, Any]
    renewal: bytes


def _is_behind(seat: Seat, version: int) -> bool:
    """Whether a worker has not said yet that it took this version; it may never have."""
    return seat.status is not None and seat.status.config_version != version


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


async def _in_thread(work: Callable[[], Result]) -> Result:
    """Have ``work`` done in a thread which, unlike one of the loop's, never holds up the end."""
    done: Future[Result] = Future()
    done.set_running_or_notify_cancel()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            done.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return await asyncio.wrap_future(done)
