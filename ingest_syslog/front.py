"""What one worker of the syslog front door is made of, and how it opens and ends."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from ingest.outlet import Outlet
from ingest.reception import Receptions
from ingest.status import WorkerStatus, degraded_by, reasons_of
from ingest_syslog.intake import Intake, Routes
from ingest_syslog.listener import DatagramListener, StreamListener, context_of
from ingest_syslog.pressure import Pressure
from ingest_syslog.publish import SERVICE, Publisher, Road
from ingest_syslog.rules import Rules, When, facility_number, severity_number
from ingest_syslog.translate import Translator
from ingest_syslog.turns import Turns

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping, Sequence

    from ingest_syslog.config import SyslogConfig
    from ingest_syslog.settings import ListenerSettings, WhenSettings

FLUSH_SECONDS = 1.0
"""How long the last answers and dead letters may take."""


class SyslogFront:
    """A worker; see `ingest.worker.Front`.

    Args:
        config: the whole configuration of the service.
    """

    def __init__(self, config: SyslogConfig) -> None:
        self._loop = asyncio.get_running_loop()
        self._pressure = Pressure(config.limits.inflight_bytes)
        self._turns = Turns()
        self._spills = config.spool.mode != "off"
        self._outlet = Outlet(config, SERVICE, config.topics_written())
        self._producer = self._outlet.producer
        letters = self._outlet.dead_letters
        self._publisher = Publisher(self._producer, letters, self._pressure)
        self._roads: dict[str, Road] = {}
        translator, receptions = Translator(), Receptions()
        routes = self._routes(config)
        self._intakes = {
            each.name: Intake(each, routes[each.name], translator, self._publisher, receptions)
            for each in config.syslog.listeners
        }
        self._listeners = {each.name: self._listener(each) for each in config.syslog.listeners}

    def _listener(self, settings: ListenerSettings) -> StreamListener | DatagramListener:
        intake = self._intakes[settings.name]
        if settings.protocol == "udp":
            return DatagramListener(settings, intake, self._pressure, spills=self._spills)
        return StreamListener(settings, intake, self._pressure, self._turns)

    def _routes(self, config: SyslogConfig) -> dict[str, Routes]:
        """Where the messages of each listener go."""
        roads = {
            name: Road(name, config.sources[name], self._pressure) for name in config.used_sources()
        }
        self._roads = roads
        rules = Rules([(when_of(rule.when), rule.source) for rule in config.syslog.rules])
        return {
            each.name: Routes(roads, rules.for_listener(each.name, each.source))
            for each in config.syslog.listeners
        }

    async def open(self, sockets: Mapping[str, Sequence[socket.socket]]) -> None:
        """Connect to Kafka behind the scenes, and take messages."""
        await self._outlet.open()
        for name, listener in self._listeners.items():
            listener.open(sockets[name])

    async def reload(self, config: SyslogConfig) -> None:
        """Take the sources, rules and certificates of ``config``; all of them or none."""
        for each in config.syslog.listeners:
            context_of(each.tls)
        routes = self._routes(config)
        self._producer.follow(config.topics_written())
        for each in config.syslog.listeners:
            self._intakes[each.name].use(routes[each.name])
            self._listeners[each.name].use(each.tls)

    def status(self) -> WorkerStatus:
        """How it is just now."""
        connected, spool = self._producer.connected, self._outlet.spool_status
        return WorkerStatus(
            pid=os.getpid(),
            reasons=reasons_of(connected=connected, spool=spool),
            degraded=self._producer.problems | degraded_by(connected=connected, spool=spool),
            kafka_up=bool(connected),
            spool=spool,
            inflight_bytes=self._pressure.budget.used_bytes,
            connections={
                name: len(listener)
                for name, listener in self._listeners.items()
                if isinstance(listener, StreamListener)
            },
        )

    def drain(self) -> None:
        """Go on: syslog has no way to tell a sender that its connection ends soon."""

    async def close(self, deadline: float) -> int:
        """Take what is queued, close the listeners, wait for Kafka, answer, flush.

        Returns:
            How many messages nobody has any more.
        """
        flush_seconds = min(FLUSH_SECONDS, (deadline - self._loop.time()) / 4)
        with suppress(TimeoutError):
            async with asyncio.timeout_at(deadline - 2 * flush_seconds):
                await asyncio.gather(*(each.close() for each in self._listeners.values()))
        for listener in self._listeners.values():
            listener.hold()  # senders that never end would bring more all the time
        with suppress(TimeoutError):
            async with asyncio.timeout_at(deadline - flush_seconds):
                while self._publisher.open:
                    await asyncio.sleep(0.01)
        await self._producer.relieve(flush_seconds)
        for listener in self._listeners.values():
            listener.finish()
        await asyncio.gather(*(each.abort(flush_seconds) for each in self._listeners.values()))
        await self._outlet.close(max(0.0, min(FLUSH_SECONDS, deadline - self._loop.time())))
        return self._publisher.dropped


def when_of(when: WhenSettings) -> When:
    """The conditions of a rule as they are looked at."""
    severity = when.severity_at_least
    return When(
        facility=frozenset(map(facility_number, when.facility)) if when.facility else None,
        severity_at_least=None if severity is None else severity_number(severity),
        app_name=tuple(when.app_name) if when.app_name else None,
        host=tuple(when.host) if when.host else None,
        peer=tuple(when.peer) if when.peer else None,
        listener=frozenset(when.listener) if when.listener else None,
    )


async def make(config: SyslogConfig) -> SyslogFront:
    """Build a worker on its event loop."""
    return SyslogFront(config)
