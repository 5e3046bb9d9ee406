"""Topics as the configuration wants them: created when missing, their limits read."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiokafka.errors as kafka_errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.protocol.metadata import MetadataRequest
from structlog import get_logger

from ingest.kafka_client import connection_arguments

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Container, Iterable, Mapping, Sequence

    from ingest.settings import KafkaSettings, TopicSettings

log = get_logger(__name__)

DEFAULT_MAX_MESSAGE_BYTES = 1_048_588
"""Kafka's own default of ``max.message.bytes``, used where we may not read the topic's."""


FORBIDDEN = kafka_errors.TopicAuthorizationFailedError.errno
SAFE_REPLICATION = 3
"""Copies to ask for, as far as there are brokers, where we may not read the broker's default."""


@dataclass(frozen=True, slots=True)
class TopicLimits:
    """What a topic takes.

    Attributes:
        max_message_bytes: the size of a record batch after compression, at most.
        min_insync_replicas: replicas that must have a record before it counts as written.
        replicas: copies that the least replicated partition has.
        compacted: whether every record needs a key.
        read: whether the topic's settings could be read; else these are assumptions.
    """

    max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES
    min_insync_replicas: int = 0
    replicas: int = 0
    compacted: bool = False
    read: bool = False


class KafkaTopics:
    """Creates topics and reads their limits, each time over a connection of its own."""

    def __init__(self, kafka: KafkaSettings, topics: TopicSettings) -> None:
        self._kafka = kafka
        self._topics = topics
        self._bound = 3 * kafka.request_timeout_seconds

    async def prepare(
        self, names: Sequence[str], wanted: Container[str]
    ) -> tuple[dict[str, TopicLimits], dict[str, str]]:
        """See that ``names`` exist, and read their limits; create those that are ``wanted``.

        Returns:
            The limits of every usable topic, and a reason for every unusable one.

        Raises:
            KafkaError, OSError, TimeoutError: Kafka cannot be reached now.
        """
        async with asyncio.timeout(self._bound), self._admin() as admin:
            replicas, problems = await self._look_up(admin, names)
            missing = [name for name in names if name not in replicas and name not in problems]
            if missing:
                problems |= await self._create(admin, missing, wanted)
                replicas |= (await self._look_up(admin, missing))[0]
            usable = [name for name in names if name not in problems]
            return await self._limits(admin, usable, replicas), problems

    @contextlib.asynccontextmanager
    async def _admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        admin = AIOKafkaAdminClient(**connection_arguments(self._kafka))
        try:
            await admin.start()
            yield admin
        finally:
            await admin.close()

    @staticmethod
    async def _look_up(
        admin: AIOKafkaAdminClient, names: Sequence[str]
    ) -> tuple[dict[str, int], dict[str, str]]:
        """Topic name -> copies of its least replicated partition; and the reason why it is hidden.

        Creates none, not even on a broker that creates topics on first use.
        """
        request = MetadataRequest(list(names), allow_auto_topic_creation=False)
        answer: Any = await admin._send_request(request)  # noqa: SLF001 - describe_topics may create
        topics = answer.to_object()["topics"]
        forbidden = [each["topic"] for each in topics if each["error_code"] == FORBIDDEN]
        return _replicas(topics), dict.fromkeys(forbidden, "topic_forbidden")

    async def _create(
        self, admin: AIOKafkaAdminClient, missing: Sequence[str], wanted: Container[str]
    ) -> dict[str, str]:
        """Create topics; the reason for each that could not be."""
        names = [name for name in missing if name in wanted] if self._topics.create else []
        problems = dict.fromkeys((name for name in missing if name not in names), "topic_missing")
        if not names:
            return problems
        replication = self._topics.replication_factor
        try:
            if replication == -1:  # aiokafka's CreateTopics is older than KIP-464: it must be told
                replication = await self._default_replication(admin)
                log.info("using_brokers_default", setting="replication_factor", value=replication)
            errors = await self._request_creation(admin, names, replication)
        except kafka_errors.IncompatibleBrokerVersion:
            return problems  # a broker without it creates on first use (librdkafka's mock)
        return problems | self._report(errors)

    async def _request_creation(
        self, admin: AIOKafkaAdminClient, names: Sequence[str], replication: int
    ) -> dict[str, int]:
        config = {key: str(value) for key, value in self._topics.config.items()}
        wanted = [
            NewTopic(name, self._topics.partitions, replication, topic_configs=config)
            for name in names
        ]
        response: Any = await admin.create_topics(wanted)
        return {error[0]: int(error[1]) for error in response.topic_errors}

    def _report(self, errors: Mapping[str, int]) -> dict[str, str]:
        problems = {}
        for name, code in errors.items():
            error = kafka_errors.for_code(code)
            if error is kafka_errors.NoError:
                log.info("topic_created", topic=name, partitions=self._topics.partitions)
            elif error is not kafka_errors.TopicAlreadyExistsError:
                problems[name] = f"topic_not_created: {error.__name__.removesuffix('Error')}"
        return problems

    async def _default_replication(self, admin: AIOKafkaAdminClient) -> int:
        """The replication factor that a broker gives to topics that do not say theirs."""
        cluster = await admin.describe_cluster()
        broker = ConfigResource(
            ConfigResourceType.BROKER,
            str(cluster["brokers"][0]["node_id"]),
            configs={"default.replication.factor": None},
        )
        config = _configs(await admin.describe_configs([broker]))
        values = next(iter(config.values()), {})
        most = min(len(cluster["brokers"]), SAFE_REPLICATION)
        return int(values.get("default.replication.factor", most))

    async def _limits(
        self, admin: AIOKafkaAdminClient, names: Sequence[str], replicas: Mapping[str, int]
    ) -> dict[str, TopicLimits]:
        wanted = [
            ConfigResource(ConfigResourceType.TOPIC, name, configs=dict.fromkeys(LIMITS))
            for name in names
        ]
        try:
            found = _configs(await admin.describe_configs(wanted)) if wanted else {}
        except kafka_errors.IncompatibleBrokerVersion:
            found = {}
        return {name: _topic_limits(found.get(name, {}), replicas.get(name, 0)) for name in names}


LIMITS = ("max.message.bytes", "min.insync.replicas", "cleanup.policy")


def _configs(responses: Iterable[Any]) -> dict[str, dict[str, str]]:
    """Resource name -> configuration, of the resources that we may read."""
    found = {}
    for response in responses:
        for error_code, _message, _type, name, entries in response.resources:
            if error_code == 0:
                found[name] = {entry[0]: entry[1] for entry in entries}
    return found


def _replicas(topics: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Topic name -> copies of its least replicated partition, of the topics that exist."""
    return {
        topic["topic"]: min((len(each["replicas"]) for each in topic["partitions"]), default=0)
        for topic in topics
        if topic["error_code"] == 0
    }


def _topic_limits(config: Mapping[str, str], replicas: int) -> TopicLimits:
    return TopicLimits(
        replicas=replicas,
        max_message_bytes=int(config.get("max.message.bytes", DEFAULT_MAX_MESSAGE_BYTES)),
        min_insync_replicas=int(config.get("min.insync.replicas", 0)),
        compacted="compact" in config.get("cleanup.policy", "delete"),
        read=bool(config),
    )
