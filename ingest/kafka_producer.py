"""The producer of every front door: batches in, one outcome per record out.

It keeps the connection, creates topics and reads their limits, and replaces the Kafka client by a
fresh one when nothing succeeds any more; the writing is done by one writer per partition.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from structlog import get_logger

from ingest.accumulator import BATCH_OVERHEAD_BYTES, RECORD_OVERHEAD_BYTES, Segment
from ingest.cancelling import cancel
from ingest.deadlines import Deadlines
from ingest.kafka_client import KafkaClient
from ingest.kafka_topics import KafkaTopics, TopicLimits
from ingest.partition_writer import pause_seconds
from ingest.partitioner import Partitioner
from ingest.receipt import Receipt, Status
from ingest.topic import PROBLEM_SECONDS, Topic

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from ingest.overflow import Overflow
    from ingest.producer import Header
    from ingest.settings import KafkaSettings, TopicSettings

log = get_logger(__name__)

SWEEP_SECONDS = 0.05
"""How late a deadline may be noticed."""
PROBE_SECONDS = 2.0
"""With no success for this long, Kafka is asked for its metadata to see whether it is there."""
PREPARE_SECONDS = 30.0
"""How old may be what is known of the topics, when all is well."""
DOUBT_SECONDS = 5.0
"""How old may be the limits of topics that refuse something."""
LOOK_SECONDS = 2.0
"""How long a writer waits for the limits of now before it goes on without them."""
REST_SECONDS = 0.5
"""How often the supervisor looks around when all is well."""
DISCONNECT_SECONDS = 1.0
"""How long a broker that does not answer may hold up the end."""
REBUILD_SECONDS = 10.0
"""With no success for this long, a new client starts from the bootstrap servers again."""


class KafkaProducer:
    """Writes batches to Kafka with ``acks=all``; see `ingest.producer.Producer`.

    Args:
        kafka: how to reach the cluster.
        topics: whether and how missing topics are created.
        names: the topics that will be written to; see `follow`.
        overflow: takes what Kafka does not take in time; None: nothing does.
    """

    idle_seconds = 60.0
    """How long a topic that is not followed any more is kept with nothing to write: longer than
    requests last that know it."""

    def __init__(
        self,
        kafka: KafkaSettings,
        topics: TopicSettings,
        names: Iterable[str],
        overflow: Overflow | None = None,
    ) -> None:
        self.client: KafkaClient | None = None
        self.connected: bool | None = None  # None: not tried yet
        self.linger_seconds = kafka.linger_seconds
        self._settings = kafka
        self._loop = asyncio.get_running_loop()
        self._partitioner = Partitioner()
        self._topics: dict[str, Topic] = {}
        self._leaving: dict[str, float] = {}  # not followed -> when it was last seen to be used
        self._admin = KafkaTopics(kafka, topics)
        self._overflow = overflow
        lead_seconds = 0.0 if overflow is None else overflow.lead_seconds
        self._deadlines = Deadlines(None if overflow is None else self._divert, lead_seconds)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._trouble = asyncio.Event()
        self._last_success = self._last_prepared = float("-inf")
        self._warned: set[str] = set()
        self._stopping = False
        self.follow(names)

    # What front doors use.

    def start(self) -> None:
        """Begin to connect; returns at once, whether Kafka is there or not."""
        self._spawn(self._supervise())
        self._spawn(self._sweep())

    async def stop(self, seconds: float) -> None:
        """Write what is queued for at most ``seconds``, give up the rest, disconnect.

        What is left goes to the overflow, for as long again.
        """
        limit = self._loop.time() + seconds
        self.linger_seconds = 0.0
        while any(topic.pending for topic in self._topics.values()) and self._loop.time() < limit:
            await asyncio.sleep(0.01)
        await self.relieve(seconds)
        self._stopping = True
        for topic in tuple(self._topics.values()):
            await topic.stop()
        await cancel(self._tasks)
        if self.client is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DISCONNECT_SECONDS):
                    await self.client.stop()

    async def relieve(self, seconds: float) -> None:
        """Have the overflow keep all that waits; returns when it has, or after ``seconds``."""
        if self._overflow is None:
            return
        for topic in self._topics.values():
            topic.relieve()
        await self._overflow.settle(seconds)

    async def ready(self) -> None:
        """Wait until Kafka is connected and every topic either usable or known not to be."""
        while not (self.connected and all(t.writers or t.problem for t in self._topics.values())):
            await asyncio.sleep(0.01)

    @property
    def problems(self) -> dict[str, str]:
        """Unusable topic that is followed -> reason."""
        return {
            name: topic.problem
            for name, topic in self._topics.items()
            if topic.problem and name not in self._leaving
        }

    def follow(self, names: Iterable[str]) -> None:
        """See `ingest.producer.Producer.follow`."""
        wanted, now = set(names), self._loop.time()
        for name in self._topics.keys() - wanted:
            self._leaving.setdefault(name, now)
        for name in sorted(wanted):
            self._known(name)
            if self._leaving.pop(name, None) is not None:
                self._trouble.set()

    def value_limit(self, topic: str) -> int:
        """See `ingest.producer.Producer.value_limit`."""
        known = self._topics.get(topic)
        limits = known.limits if known is not None else TopicLimits()
        return limits.max_message_bytes - BATCH_OVERHEAD_BYTES - RECORD_OVERHEAD_BYTES

    def preview(
        self,
        topic: str,
        values: list[bytes],
        *,
        keys: list[bytes | None] | None = None,
        headers: list[Header] | None = None,
    ) -> list[str]:
        """See `ingest.producer.Producer.preview`."""
        count = len(values)
        segment = Segment(Receipt(count), range(count), values, keys, headers or [], None, 0)
        known = self._known(topic)
        codes = known.preview(segment)
        if known.diverts and not self._stopping:
            return ["spooled" if code in {"", "topic_unavailable"} else code for code in codes]
        if self.connected and not self._stopping:
            return codes
        return [code or "kafka_unavailable" for code in codes]

    def submit(  # noqa: PLR0913 - see Producer.submit
        self,
        topic: str,
        values: list[bytes],
        *,
        timestamp_ms: int,
        keys: list[bytes | None] | None = None,
        headers: list[Header] | None = None,
        headers_each: list[list[Header]] | None = None,
        header_sizes: list[int] | None = None,
        timestamps: list[int] | None = None,
        deadline: float | None = None,
        on_settled: Callable[[], None] | None = None,
        overflow: bool = False,
    ) -> Receipt:
        """See `ingest.producer.Producer.submit`."""
        receipt = Receipt(len(values), on_settled)
        if not values:
            return receipt
        indices, headers = range(len(values)), headers or []
        segment = Segment(
            receipt,
            indices,
            values,
            keys,
            headers,
            headers_each,
            timestamp_ms,
            timestamps=timestamps,
            header_sizes=header_sizes,
        )
        segment.patient = deadline is None
        segment.topic = known = self._topics.get(topic) or self._known(topic)
        segment.since = self._loop.time()
        receipt.parts.append(segment)
        if self._stopping:
            segment.failed(Status.RETRY, "shutting_down")
        elif overflow:
            self._spill(known, segment)
        else:
            known.append(segment)
            if deadline is not None and not receipt.answered:
                self._deadlines.add(deadline, receipt)
        return receipt

    def refuses(self, topic: str) -> bool:
        """See `ingest.producer.Producer.refuses`."""
        del topic  # Kafka is away for all of them
        overflow = self._overflow
        return overflow is not None and self.connected is False and not overflow.has_room

    def replay(self, topic: str, segment: Segment) -> None:
        """Write records that the overflow gives back: tried until Kafka acks or refuses them."""
        segment.patient = segment.replayed = True
        segment.since = self._loop.time()
        segment.topic = known = self._topics.get(topic) or self._known(topic)
        segment.receipt.parts.append(segment)
        if self._stopping:
            segment.failed(Status.RETRY, "shutting_down")
        else:
            known.append(segment)

    def is_troubled(self, topic: str) -> bool:
        """Whether Kafka does not take records of ``topic`` as it should."""
        known = self._topics.get(topic)
        if known is None:
            return self.connected is not True
        return known.is_troubled(self._loop.time())

    def _spill(self, topic: Topic, segment: Segment) -> None:
        """Have the overflow keep records that there is no memory for."""
        overflow = self._overflow
        if overflow is None or overflow.is_swamped or not topic.spill(segment):
            segment.failed(Status.RETRY, "no_room")

    @staticmethod
    def _divert(receipt: Receipt) -> None:
        """The deadline is near."""
        for part in tuple(receipt.parts):
            if isinstance(part, Segment) and part.waits:
                part.topic.divert(part)

    # What writers tell.

    def succeeded(self) -> None:
        """Kafka acked a batch just now."""
        self._last_success = self._loop.time()
        if self.connected is False:
            log.info("kafka_reachable")
        self.connected = True

    def in_trouble(self) -> None:
        """An attempt failed: look after connection and topics now."""
        self._trouble.set()

    def in_doubt(self) -> None:
        """A topic's limits refused something: have them read again, unless that was just done."""
        if self._loop.time() - self._last_prepared > DOUBT_SECONDS:
            self._trouble.set()

    async def look_again(self) -> None:
        """Have the limits of the topics read now, and wait for it, but not for long."""
        asked = self._loop.time()
        self._trouble.set()
        while self._last_prepared < asked > self._loop.time() - LOOK_SECONDS:
            await asyncio.sleep(0.01)

    # Connection and topics.

    def _known(self, name: str) -> Topic:
        """A topic; one that is not followed (any more) is taken up for a while."""
        topic = self._topics.get(name)
        if topic is None:
            topic = Topic(name, self, self._partitioner, self._overflow)
            self._topics[name] = topic
            self._leaving[name] = self._loop.time()
            self._trouble.set()
        return topic

    async def _let_go(self) -> None:
        """Let go of topics that are not followed any more and have been idle for long."""
        now = self._loop.time()
        for name, used in tuple(self._leaving.items()):
            if self._topics[name].pending:
                self._leaving[name] = now
            elif now - used > self.idle_seconds:
                del self._leaving[name]
                await self._topics.pop(name).stop()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                self._look_at_the_clock(self._loop.time())
            except Exception:
                log.exception("sweep_failed")  # deadlines depend on it: it must go on

    def _look_at_the_clock(self, now: float) -> None:
        self._deadlines.sweep(now)
        if self._overflow is not None:
            for topic in self._topics.values():
                topic.watch(now)

    async def _supervise(self) -> None:
        """Keep a working client: connect, prepare topics, probe, start anew when all is silent."""
        failures = 0
        while True:
            try:
                await self._look_after()
                failures = 0
            except KafkaClient.ERRORS as error:
                failures += 1
                self._lost(error)
            except Exception:
                failures += 1
                log.exception("supervisor_failed")  # writers depend on it: it must go on
            await self._rest(pause_seconds(failures) if failures else REST_SECONDS)

    async def _look_after(self) -> None:
        await self._let_go()
        if self.client is None or self._silence() > REBUILD_SECONDS:
            await self._connect()
        if self._trouble.is_set() or self._loop.time() - self._last_prepared > self._patience():
            self._trouble.clear()
            await self._prepare()
        if self._silence() > PROBE_SECONDS and self.client is not None:
            if not await self.client.refresh():
                raise ConnectionError
            self.succeeded()

    def _patience(self) -> float:
        """How old may be what is known of the topics."""
        known = (t.problem or (t.writers and t.limits.replicas) for t in self._topics.values())
        if not all(known):
            return 0.0  # one was made just now, and not every broker knows it yet
        return PROBLEM_SECONDS if self.problems else PREPARE_SECONDS

    def _silence(self) -> float:
        """Seconds since the client's last success."""
        return self._loop.time() - self._last_success

    async def _rest(self, seconds: float) -> None:
        """Wait; shorter when trouble is reported, but never not at all."""
        await asyncio.sleep(pause_seconds(0))
        try:
            async with asyncio.timeout(seconds):
                await self._trouble.wait()
        except TimeoutError:
            return

    def _lost(self, error: Exception) -> None:
        if self.connected or self.connected is None:
            log.warning("kafka_unreachable", reason=type(error).__name__)
        self.connected = False

    async def _connect(self) -> None:
        """Start a fresh client from the bootstrap servers, and let go of the old one."""
        client = KafkaClient(self._settings)
        try:
            await client.start()
        except BaseException:
            await client.stop()
            raise
        old, self.client = self.client, client
        if old is not None:
            self._spawn(old.stop())
        log.info("kafka_connected", bootstrap_servers=self._settings.bootstrap_servers)
        self.succeeded()
        self._trouble.set()

    async def _prepare(self) -> None:
        """Create what is missing, read limits and partition counts, release what was parked."""
        client = self.client
        if client is None:
            return
        begun = self._loop.time()
        names = list(self._topics)
        found, problems = await self._admin.prepare(names, self._topics.keys() - self._leaving)
        await client.follow(list(found))
        await client.refresh()  # topics that were followed before may have other partitions now
        for name, limits in found.items():
            if client.forbidden(name):
                problems[name] = "topic_forbidden"
            elif count := client.partitions(name):
                self._warn_about_durability(name, limits)
                await self._topics[name].usable(limits, count)
        for name, problem in problems.items():
            self._topics[name].give_up(problem, rest_seconds=0.0)
        self._last_prepared = begun

    def _warn_about_durability(self, name: str, limits: TopicLimits) -> None:
        """One copy only is what a broker's disk can lose: say so once."""
        if name in self._warned or limits.replicas == 0:
            return
        self._warned.add(name)
        if limits.replicas == 1 or limits.min_insync_replicas == 1:
            log.warning(
                "topic_not_replicated",
                topic=name,
                replication_factor=limits.replicas,
                min_insync_replicas=limits.min_insync_replicas,
            )
