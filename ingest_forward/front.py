"""What one worker of the forwarder is made of, and how it opens and ends."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from ingest.cancelling import cancel
from ingest.kafka_producer import KafkaProducer
from ingest.status import WorkerStatus, reasons_of
from ingest_forward.forward import Forwarder
from ingest_forward.letters import Letters

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping, Sequence

    from ingest_forward.config import ForwardConfig

SERVICE = "ingest-forward"
CLOSE_SECONDS = 2.0
"""How long the last commit and the way out of the group may take."""


class ForwardFront:
    """A worker; see `ingest.worker.Front`.

    Args:
        config: the whole configuration of the service.
    """

    def __init__(self, config: ForwardConfig) -> None:
        self._loop = asyncio.get_running_loop()
        self._producer = KafkaProducer(config.kafka, config.topics, config.topics_written())
        on = config.dead_letter.mode == "on"
        letters = Letters(self._producer, config.dead_letter.topic) if on else None
        self._forwarder = Forwarder(config, self._producer, letters)
        self._task: asyncio.Task[None] | None = None

    async def open(self, sockets: Mapping[str, Sequence[socket.socket]]) -> None:
        """Connect to Kafka behind the scenes, and forward."""
        del sockets  # it has no listeners
        self._producer.start()
        self._task = self._loop.create_task(self._forwarder.run())

    async def reload(self, config: ForwardConfig) -> None:
        """Take the routes of ``config``; all of them or none."""
        table = config.table()
        self._producer.follow(config.topics_written())
        await self._producer.look_again()  # a topic's limits may be what was mended
        self._forwarder.use(table)

    def status(self) -> WorkerStatus:
        """How it is just now."""
        connected = self._producer.connected
        ended = self._task is not None and self._task.done()
        return WorkerStatus(
            pid=os.getpid(),
            reasons=reasons_of(connected=connected, spool=None) + ["reader_ended"] * ended,
            degraded=self._producer.problems | self._trouble(),
            kafka_up=bool(connected),
            inflight_bytes=self._forwarder.budget.used_bytes,
            lag=self._forwarder.lag,
        )

    def _trouble(self) -> dict[str, str]:
        """What is not read, and why."""
        forwarder = self._forwarder
        stops = {
            f"{topic}/{number}": f"route {stop.route} stopped at offset {stop.offset}: {stop.code}"
            for (topic, number), stop in forwarder.stops.items()
        }
        reader = {"reader": forwarder.trouble} if forwarder.trouble else {}
        return dict.fromkeys(forwarder.missing, "topic_missing") | stops | reader

    def drain(self) -> None:
        """Go on: nobody sends to us."""

    async def close(self, deadline: float) -> int:
        """Read nothing any more, wait for what is on its way, commit, leave the group.

        Returns:
            0: what did not arrive is still where it was read.
        """
        self._forwarder.end(deadline - CLOSE_SECONDS)
        if self._task is not None:
            await asyncio.wait([self._task], timeout=max(0.0, deadline - self._loop.time()))
            await cancel([self._task])
        await self._producer.stop(min(1.0, max(0.0, deadline - self._loop.time())))
        return 0


async def make(config: ForwardConfig) -> ForwardFront:
    """Build a worker on its event loop."""
    return ForwardFront(config)
