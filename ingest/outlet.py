"""What of a worker writes to Kafka, with a spool behind it where one is configured."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from ingest.dead_letter import DeadLetters
from ingest.kafka_client import longest_call
from ingest.kafka_producer import KafkaProducer
from ingest.original import original_of
from ingest.replay import Replay
from ingest.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ingest.settings import SharedSettings
    from ingest.status import SpoolStatus

SPOOL_CLOSE_SECONDS = 1.5
"""A disk that does not answer any more must not keep a worker from ending."""


class Outlet:
    """Producer, dead letters, spool and replay of one worker, opened and closed in order.

    Args:
        config: the shared sections.
        service: such as ``ingest-http``.
        topics: that will be written to.

    Attributes:
        producer: writes to Kafka, or else into the spool.
        dead_letters: where rejects go; None: nowhere.
    """

    def __init__(
        self,
        config: SharedSettings,
        service: str,
        topics: Iterable[str],
    ) -> None:
        letters = config.dead_letter
        self._spool = _spool_of(config, service)
        self.producer = KafkaProducer(config.kafka, config.topics, topics, self._spool)
        on = letters.mode == "on"
        self.dead_letters = DeadLetters(self.producer, letters.topic) if on else None
        self._replay: Replay | None = None
        if self._spool is not None:
            original = original_of(service)
            self._replay = Replay(self._spool, self.producer, self.dead_letters, original)

    async def open(self) -> None:
        """Open the spool, and connect to Kafka behind the scenes."""
        if self._spool is not None:
            await self._spool.open()
        self.producer.start()
        if self._replay is not None:
            self._replay.start()

    @property
    def spool_status(self) -> SpoolStatus | None:
        """How the spool is; None: there is none."""
        return None if self._spool is None else self._spool.status

    async def close(self, seconds: float) -> None:
        """Write what is queued for at most ``seconds``, spool the rest, for as long again."""
        if self._replay is not None:
            await self._replay.stop()
        await self.producer.stop(seconds)
        if self._spool is None or self._replay is None:
            return
        self._spool.give_up()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SPOOL_CLOSE_SECONDS):
                await self._replay.finish()
                await self._spool.close()


def _spool_of(config: SharedSettings, service: str) -> Spool | None:
    if config.spool.mode == "off":
        return None
    return Spool(
        config.spool,
        service,
        ack_seconds=config.limits.ack_seconds,
        attempt_seconds=longest_call(config.kafka),
    )
