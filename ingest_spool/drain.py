"""Gives all that was left behind to Kafka, as the services would have done."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, NamedTuple

import uvloop

from ingest.dead_letter import DeadLetters
from ingest.kafka_client import longest_call
from ingest.kafka_producer import KafkaProducer
from ingest.original import original_of
from ingest.replay import Replay
from ingest.spool import Spool
from ingest_spool.folders import remove_empty
from ingest_spool.watch import Watch, totals

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ingest.settings import SharedSettings
    from ingest.spool_folders import Folder
    from ingest_spool.folders import Found

PATIENCE_SECONDS = 60.0
"""It ends when nothing has left the spool for so long."""
FLUSH_SECONDS = 2.0
"""What is on its way to Kafka at the end has so long to get there."""
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Drained(NamedTuple):
    """How it ended.

    Attributes:
        why: it ended before all was empty; empty text: it did not.
        acked: events that Kafka has.
        rejected: events that Kafka refused, and that are dead letters now.
        lost: events that Kafka refused and of which no copy could be kept.
        damaged: events, as far as known, that could not be read.
        files: set aside as damaged, or missing.
    """

    why: str
    acked: int
    rejected: int
    lost: int
    damaged: int
    files: int

    @property
    def is_good(self) -> bool:
        """Whether all was given to Kafka, or kept as dead letters."""
        return not (self.why or self.lost or self.damaged or self.files)

    def __str__(self) -> str:
        parts = [f"{self.acked} events are in Kafka"]
        if self.rejected:
            parts.append(f"{self.rejected} were refused by it and are dead letters")
        if self.lost:
            parts.append(f"{self.lost} were refused by it, and no copy could be kept")
        if self.damaged:
            parts.append(f"{self.damaged} could not be read")
        if self.files:
            parts.append(f"damaged or missing files: {self.files}")
        return ", ".join(parts)


def drain(
    config: SharedSettings,
    folders: Sequence[Found],
    *,
    tell: Callable[[str], None],
    seconds: float | None = None,
    patience_seconds: float = PATIENCE_SECONDS,
) -> Drained:
    """Drain folders that are all ours, remove those that are empty then, release the others.

    Args:
        config: how to reach Kafka.
        folders: of any services.
        tell: how far it is, for people.
        seconds: it ends after so long in any case; None: there is no limit.
        patience_seconds: it ends when there was no progress for so long.
    """
    held: dict[str, list[Folder]] = {}
    for each in folders:
        if each.held is not None:
            held.setdefault(each.service, []).append(each.held)
    before = totals()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        why = runner.run(_drain(config, held, tell, seconds, patience_seconds))
    remove_empty(folders)
    return Drained(why, *(now - then for now, then in zip(totals(), before, strict=True)))


async def _drain(
    config: SharedSettings,
    held: Mapping[str, Sequence[Folder]],
    tell: Callable[[str], None],
    seconds: float | None,
    patience_seconds: float,
) -> str:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, stopped.set)
    spools = {service: _spool(config, service, folders) for service, folders in held.items()}
    try:
        for spool in spools.values():
            await spool.open()
        if problem := next(filter(None, (each.status.problem for each in spools.values())), ""):
            return f"the spool cannot be used: {problem}"
        watch = Watch(list(spools.values()), tell, seconds, patience_seconds)
        return "" if watch.is_empty else await _replay(config, spools, watch, stopped)
    finally:
        for spool in spools.values():
            await spool.close()
        for number in SIGNALS:
            loop.remove_signal_handler(number)


def _spool(config: SharedSettings, service: str, folders: Sequence[Folder]) -> Spool:
    return Spool(
        config.spool,
        service,
        ack_seconds=config.limits.ack_seconds,
        attempt_seconds=longest_call(config.kafka),
        folders=folders,
    )


async def _replay(
    config: SharedSettings, spools: Mapping[str, Spool], watch: Watch, stopped: asyncio.Event
) -> str:
    """Replay until all is empty, or it has to end; why that was."""
    letters = config.dead_letter
    is_on = letters.mode == "on"
    names = {letters.topic} if is_on else set()
    # Without an overflow: what Kafka does not take stays where it is.
    producer = KafkaProducer(config.kafka, config.topics, names)
    dead_letters = DeadLetters(producer, letters.topic) if is_on else None
    replays = [
        Replay(spool, producer, dead_letters, original_of(service))
        for service, spool in spools.items()
    ]
    producer.start()
    for replay in replays:
        replay.start()
    try:
        return await watch.until_empty(producer, names, stopped)
    finally:
        for replay in replays:
            await replay.stop()
        await producer.stop(FLUSH_SECONDS)
        for replay in replays:
            await replay.finish()
