"""One connection to a Kafka cluster through aiokafka, and what its errors mean for a batch.

aiokafka runs without idempotence: with it there is no delivery deadline, ``stop`` hangs on a dead
broker, and one refused batch wedges its partition. Order per partition holds all the same, because
one request is in flight per broker and one batch per partition.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
from collections import deque
from itertools import repeat, starmap
from typing import TYPE_CHECKING, Any

import aiokafka.errors as kafka_errors
from aiokafka import AIOKafkaProducer
from aiokafka.helpers import create_ssl_context
from aiokafka.structs import TopicPartition

from ingest import zstd_level
from ingest.errors import ConfigError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Sequence

    from ingest.accumulator import Segment
    from ingest.producer import Header
    from ingest.settings import KafkaSettings

MAX_RECORD_BYTES = 1 << 30
"""aiokafka's own limit is switched off: batches are sized here, by the limit of each topic."""


class Verdict(enum.Enum):
    """What an error says about the batch it answers."""

    AGAIN = "again"
    """Kafka's trouble: the same batch later, though this one may be written."""
    NOT_YET = "not_yet"
    """Kafka's trouble: the same batch later, for this one was not written."""
    REFUSED = "refused"
    """Something in the batch is refused for its content."""
    TOPIC_FORBIDDEN = "topic_forbidden"
    """This principal may not write to the topic."""
    TOPIC_MISSING = "topic_missing"
    """No topic can have this name."""


class InvalidRecord(kafka_errors.BrokerResponseError):
    """A record that its topic can never take, such as one without key for a compacted topic.

    aiokafka does not know the code and would tell it as -1, the broker's own defects.
    """

    errno = 87
    message = "INVALID_RECORD"
    description = "This record has failed the validation on the broker and hence will be rejected."


kafka_errors.kafka_errors.setdefault(InvalidRecord.errno, InvalidRecord)
zstd_level.use()
INVALID_RECORD: type[BaseException] = kafka_errors.for_code(InvalidRecord.errno)
TOO_LARGE = (kafka_errors.MessageSizeTooLargeError, kafka_errors.RecordListTooLargeError)
"""What one record alone is told that its topic, or its broker, finds too large."""

VERDICTS: dict[type[BaseException], Verdict] = {
    kafka_errors.CorruptRecordException: Verdict.REFUSED,  # 2
    kafka_errors.MessageSizeTooLargeError: Verdict.REFUSED,  # 10
    kafka_errors.RecordListTooLargeError: Verdict.REFUSED,  # 18
    kafka_errors.InvalidTimestampError: Verdict.REFUSED,  # 32
    kafka_errors.PolicyViolationError: Verdict.REFUSED,  # 44
    INVALID_RECORD: Verdict.REFUSED,  # 87
    kafka_errors.TopicAuthorizationFailedError: Verdict.TOPIC_FORBIDDEN,  # 29
    kafka_errors.ClusterAuthorizationFailedError: Verdict.TOPIC_FORBIDDEN,  # 31
    kafka_errors.InvalidTopicError: Verdict.TOPIC_MISSING,  # 17
    # Also told of a new topic that its leader has not heard of yet: the supervisor finds out which.
    kafka_errors.UnknownTopicOrPartitionError: Verdict.NOT_YET,  # 3
    kafka_errors.NotEnoughReplicasError: Verdict.NOT_YET,  # 19
}
CERTAIN = frozenset(Verdict) - {Verdict.AGAIN}
"""Verdicts after which the batch is certainly not in Kafka, unless an earlier attempt landed."""
NOT_READY = kafka_errors.NodeNotReadyError()
"""The leader is unknown or not connected: nothing was handed over."""


def verdict_on(error: BaseException) -> Verdict:
    """What ``error`` says about the batch; unclassified errors are Kafka's trouble."""
    return VERDICTS.get(type(error), Verdict.AGAIN)


def require_c_extension() -> None:
    """Refuse to run on aiokafka's pure-Python records, which are silently many times slower."""
    from aiokafka.record import default_records  # noqa: PLC0415 - imported only to be looked at

    if default_records.DefaultRecordBatchBuilder is default_records._DefaultRecordBatchBuilderPy:  # noqa: SLF001
        raise ConfigError(["aiokafka's C extension is missing: install aiokafka from a wheel"])


def ssl_context(settings: KafkaSettings) -> ssl.SSLContext | None:
    """The TLS context for ``settings``; None where the security protocol has none."""
    if settings.security_protocol not in {"SSL", "SASL_SSL"}:
        return None
    return create_ssl_context(
        cafile=settings.ssl_ca_file,
        certfile=settings.ssl_cert_file,
        keyfile=settings.ssl_key_file,
        password="",  # else OpenSSL asks at the terminal for that of an encrypted key
    )


def connection_arguments(settings: KafkaSettings) -> dict[str, Any]:
    """The keyword arguments that aiokafka's clients share."""
    arguments: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap_servers,
        "client_id": settings.client_id,
        "request_timeout_ms": int(settings.request_timeout_seconds * 1000),
        "security_protocol": settings.security_protocol,
        "ssl_context": ssl_context(settings),
    }
    if settings.sasl_mechanism is not None:
        password = settings.sasl_password
        arguments |= {
            "sasl_mechanism": settings.sasl_mechanism,
            "sasl_plain_username": settings.sasl_username,
            "sasl_plain_password": password.get_secret_value() if password else None,
        }
    return arguments


def longest_call(settings: KafkaSettings) -> float:
    """How many seconds a call of `KafkaClient` takes at most."""
    return 2 * settings.request_timeout_seconds + 1


class KafkaClient:
    """A started aiokafka producer, used a whole batch at a time.

    Every call is bounded in time: aiokafka's own bound may reach twice the request timeout.
    """

    ERRORS = (kafka_errors.KafkaError, OSError, TimeoutError)
    """What calls raise when Kafka is in trouble."""

    def __init__(self, settings: KafkaSettings) -> None:
        compression = None if settings.compression == "none" else settings.compression
        self._bound = longest_call(settings)
        self._producer = AIOKafkaProducer(
            acks="all",
            enable_idempotence=False,
            compression_type=compression,
            max_batch_size=MAX_RECORD_BYTES,
            linger_ms=0,
            metadata_max_age_ms=60_000,
            **connection_arguments(settings),
        )
        # Batches are born expired, so that aiokafka never sends one twice: while it waits to do so,
        # all that is for the same broker waits, and its last error hides what the first was.
        self._producer._message_accumulator._batch_ttl = -1.0  # noqa: SLF001

    async def start(self) -> None:
        """Connect to one of the bootstrap servers.

        Raises:
            OSError, KafkaError: none of them can be used now.
        """
        async with asyncio.timeout(self._bound):
            await self._producer.start()

    async def stop(self) -> None:
        """Close the connections; what is in flight fails."""
        with contextlib.suppress(Exception, asyncio.CancelledError):
            async with asyncio.timeout(self._bound):
                await self._producer.stop()

    async def refresh(self) -> bool:
        """Ask a broker for the metadata of our topics; whether one answered."""
        try:
            async with asyncio.timeout(self._bound):
                return bool(await self._producer.client.force_metadata_update())
        except self.ERRORS:
            return False

    async def follow(self, topics: Sequence[str]) -> None:
        """Have ``topics`` in the metadata from now on."""
        with contextlib.suppress(*self.ERRORS):
            async with asyncio.timeout(self._bound):
                await self._producer.client.set_topics(topics)

    def partitions(self, topic: str) -> int:
        """How many partitions ``topic`` has; 0 while this is not known."""
        known = self._producer.client.cluster.partitions_for_topic(topic)
        return len(known) if known else 0

    def forbidden(self, topic: str) -> bool:
        """Whether the cluster said that we may not use ``topic``."""
        return topic in self._producer.client.cluster.unauthorized_topics

    async def leader_ready(self, topic: str, partition: int) -> bool:
        """Whether the partition's leader is known and connected; tries to connect to it.

        Asked before a batch is handed over: what was not handed over is certainly not in Kafka.
        """
        client = self._producer.client
        leader = client.cluster.leader_for_partition(TopicPartition(topic, partition))
        if leader is None or leader == -1:
            await self.refresh()
            return False
        try:
            async with asyncio.timeout(self._bound):
                return bool(await client.ready(leader))
        except self.ERRORS:
            return False

    def build(self, segments: Sequence[Segment]) -> Any:
        """A Kafka batch of the records of ``segments``; left open, see `was_sent`.

        Appends to the C builder inside aiokafka's, whose own ``append`` is a Python function: a
        fourth of what a record costs here. So is a loop in Python: `starmap` has none.
        """
        builder = self._producer.create_batch()
        append, count = builder._builder.append, 0  # noqa: SLF001
        for segment in segments:
            size, headers, each = len(segment), segment.headers, segment.headers_each
            own: Iterable[list[Header]] = repeat(headers, size)
            if each is not None:
                own = map(headers.__add__, each) if headers else each
            offsets = range(count, count + size)
            times = segment.timestamps or repeat(segment.timestamp_ms, size)
            keys = segment.keys or repeat(None, size)
            records = zip(offsets, times, keys, segment.values, own, strict=True)
            deque(starmap(append, records), maxlen=0)
            count += size
        builder._relative_offset = count  # noqa: SLF001
        return builder

    async def send(self, builder: Any, topic: str, partition: int) -> int:
        """Write a batch, in one attempt; returns the offset of its first record.

        Raises:
            KafkaError, TimeoutError: see `verdict_on` and `was_sent`.
        """
        async with asyncio.timeout(self._bound):
            try:
                done = await self._producer.send_batch(builder, topic, partition=partition)
                metadata = await done
            except kafka_errors.KafkaError as error:
                if error.invalid_metadata:  # another broker leads: ask which
                    self._producer.client.force_metadata_update()
                raise
        return int(metadata.offset)

    @staticmethod
    def was_sent(builder: Any) -> bool:
        """Whether the batch may have left: aiokafka closes a builder when it encodes it to send."""
        return bool(builder.closed())
