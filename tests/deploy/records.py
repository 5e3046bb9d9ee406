"""Records written to and read from a broker, with a client that blocks."""

from __future__ import annotations

import uuid

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

SECONDS = 20


def write(servers: str, value: str) -> str:
    """A new topic with one record, written by all replicas; returns its name."""
    topic = f"test-{uuid.uuid4().hex}"
    admin = AdminClient({"bootstrap.servers": servers})
    admin.create_topics([NewTopic(topic, 1)])[topic].result(SECONDS)
    append(servers, topic, value)
    return topic


def append(servers: str, topic: str, value: str) -> None:
    """One more record in partition 0 of ``topic``."""
    errors: list[object] = []
    producer = Producer({"bootstrap.servers": servers, "acks": "all"})
    producer.produce(topic, value, partition=0, on_delivery=lambda error, _: errors.append(error))
    producer.flush(SECONDS)
    assert errors == [None]


def read(servers: str, topic: str, count: int = 1) -> list[str]:
    """The first ``count`` records of partition 0 of ``topic``."""
    settings = {"group.id": "required by the client, not used", "enable.auto.commit": False}
    consumer = Consumer({"bootstrap.servers": servers, **settings})
    try:
        consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
        return [message.value().decode() for message in consumer.consume(count, SECONDS)]
    finally:
        consumer.close()


def answers(servers: str, seconds: float = 5.0) -> bool:
    """Whether a broker answers within that time."""
    try:
        AdminClient({"bootstrap.servers": servers, "log_level": 0}).list_topics(timeout=seconds)
    except Exception:  # noqa: BLE001 - the client has one kind of error for all
        return False
    return True
