"""A sink of Kafka Connect that writes a line for each record of a topic into a file."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from loadtest.gateway import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from deploy.local.connect import Connect

SINK = "org.apache.kafka.connect.file.FileStreamSinkConnector"
JSON = "org.apache.kafka.connect.json.JsonConverter"
STRING = "org.apache.kafka.connect.storage.StringConverter"
SETTLE_SECONDS = 30.0


class FileSink:
    """Apache Kafka's FileStreamSink: what Java calls the record values' text, line by line.

    Args:
        connect: what runs it.
        servers: where Kafka is.
        topic: what it reads.
        file: what it writes.
        converter: the setting ``value.converter``, and by their names those of the converter.
    """

    def __init__(
        self, connect: Connect, servers: str, topic: str, file: Path, converter: Mapping[str, str]
    ) -> None:
        self.name = f"sink-{uuid.uuid4().hex[:12]}"  # who has the name of another goes on after it
        self.file = file
        self._connect = connect
        self._topic = topic
        self._admin = AdminClient({"bootstrap.servers": servers, "log_level": 0})
        config = {"connector.class": SINK, "tasks.max": "1", "topics": topic, "file": str(file)}
        value = {
            "value.converter" + (f".{key}" if key else ""): converter[key] for key in converter
        }
        connect.create(self.name, {**config, **value})

    def lines(self, count: int) -> list[str]:
        """All lines of the file, once it has what is in the topic, and that is ``count`` or more.

        Raises:
            ConnectFailed: it failed, with its stack trace.
            TimeoutError: there were too few.
        """

        def has_all() -> bool:
            self._connect.wait_running(self.name)
            return self._done() == self._there() >= count

        wait_until(has_all, SETTLE_SECONDS, f"{self.name} has not read {count} records")
        return self.file.read_text(encoding="utf-8").splitlines()

    def delete(self) -> None:
        """End it."""
        self._connect.delete(self.name)

    def _there(self) -> int:
        """How many records were ever written to the topic."""
        partitions = self._admin.list_topics(self._topic, SETTLE_SECONDS).topics[self._topic]
        wanted = {
            TopicPartition(self._topic, each): OffsetSpec.latest() for each in partitions.partitions
        }
        ends = self._admin.list_offsets(wanted).values()
        return sum(each.result(SETTLE_SECONDS).offset for each in ends)

    def _done(self) -> int:
        """How many of them are in the file: offsets are committed after it is flushed."""
        group = ConsumerGroupTopicPartitions(f"connect-{self.name}")
        (found,) = self._admin.list_consumer_group_offsets([group]).values()
        return sum(max(each.offset, 0) for each in found.result(SETTLE_SECONDS).topic_partitions)
