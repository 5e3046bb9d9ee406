"""Watches spools that are drained: how far it is, which topics there are, when it has to end."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from ingest import metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from prometheus_client import Counter

    from ingest.kafka_producer import KafkaProducer
    from ingest.spool import Spool

PROGRESS_SECONDS = 5.0
"""How often it tells how far it is."""
LOOK_SECONDS = 0.1


class Watch:
    """Tells how far it is, and when it has to end.

    Args:
        spools: what is drained, open.
        tell: how far it is, for people.
        seconds: it ends after so long in any case; None: there is no limit.
        patience_seconds: it ends when there was no progress for so long.
    """

    def __init__(
        self,
        spools: Sequence[Spool],
        tell: Callable[[str], None],
        seconds: float | None,
        patience_seconds: float,
    ) -> None:
        self._spools = spools
        self._tell = tell
        self._seconds = seconds
        self._patience_seconds = patience_seconds
        self._loop = asyncio.get_running_loop()
        self._begun = self._moved = self._told = self._loop.time()
        self._seen = self._state()
        self._told_events = self._seen[0]

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits, as far as the spools have looked."""
        return not self._seen[0]

    async def until_empty(
        self, producer: KafkaProducer, names: set[str], stopped: asyncio.Event
    ) -> str:
        """Wait until nothing is left, or there is a reason to end; see `Drained.why`.

        Args:
            producer: is told which topics it may create: those that something is left for.
            names: what it was told so far.
            stopped: somebody wants it to end.
        """
        while True:
            if new := await self._new_topics(names):
                names |= new
                producer.follow(names)
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await stopped.wait()
            self._look()
            if self.is_empty:
                return ""
            if stopped.is_set():
                return "interrupted"
            if reason := self._reason(producer):
                return reason
            self._tell_now_and_then(producer)

    async def _new_topics(self, known: set[str]) -> set[str]:
        """Topics that something is left for.

        A name is believed when a batch with it was read, whose checksum covers it: a damaged index
        has others.
        """
        return {
            topic
            for spool in self._spools
            for topic in spool.status.events.keys() - known
            if await spool.read(topic, None, 1)
        }

    def _look(self) -> None:
        state = self._state()
        if state != self._seen:
            self._seen, self._moved = state, self._loop.time()

    def _state(self) -> tuple[int, list[int]]:
        """How many events wait; and what has left, which is known sooner."""
        waiting = sum(sum(spool.status.events.values()) for spool in self._spools)
        return waiting, totals()

    def _reason(self, producer: KafkaProducer) -> str:
        now = self._loop.time()
        if self._seconds is not None and now - self._begun >= self._seconds:
            return f"{self._seconds:g} seconds are over"
        if now - self._moved < self._patience_seconds:
            return ""
        if not producer.connected:
            return f"Kafka could not be reached for {self._patience_seconds:g} seconds"
        return f"Kafka took nothing for {self._patience_seconds:g} seconds" + _problems(producer)

    def _tell_now_and_then(self, producer: KafkaProducer) -> None:
        now, events = self._loop.time(), self._seen[0]
        if now - self._told < PROGRESS_SECONDS:
            return
        rate = (self._told_events - events) / (now - self._told)
        self._told, self._told_events = now, events
        state = _problems(producer) if producer.connected else ", Kafka cannot be reached"
        self._tell(f"{events} events left, {rate:.0f} events/s{state}")


def _problems(producer: KafkaProducer) -> str:
    return "".join(f", {topic}: {text}" for topic, text in sorted(producer.problems.items()))


def totals() -> list[int]:
    """What the replay has counted in this process, in the order of `Drained`."""
    outcomes = (("acked", "late"), ("rejected",), ("lost",))
    return [
        *(sum(_samples(metrics.SPOOL_REPLAYED, "outcome", *each)) for each in outcomes),
        *(sum(_samples(metrics.SPOOL_DAMAGED, "kind", kind)) for kind in ("events", "files")),
    ]


def _samples(counter: Counter, label: str, *values: str) -> Iterator[int]:
    for metric in counter.collect():
        for sample in metric.samples:
            if sample.name.endswith("_total") and sample.labels[label] in values:
                yield int(sample.value)
