"""Partitions of the forwarder that stop, come back, lose records, or hold what nobody can read."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaProducer
from aiokafka.record import default_records
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from loadtest.gateway import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from loadtest.forwarder import Forwarder
    from tests.conftest import Kafka

SECONDS = 35.0
"""New topics are found within 30."""


def event(number: int, data: str = "{}", kind: str = "order.created") -> bytes:
    """A record value as a gateway writes it."""
    head = f'{{"specversion":"1.0","source":"/sources/orders","type":"{kind}","id":"{number}"'
    return f'{head},"data":{data}}}'.encode()


def produce(
    kafka: Kafka, topic: str, *values: bytes | None, partition: int = 0, **more: Any
) -> None:
    """Write records to one partition, in their order."""
    producer = Producer({"bootstrap.servers": kafka.servers, "acks": "all", "log_level": 0})
    for value in values:
        producer.produce(topic, value, partition=partition, **more)
    assert producer.flush(20) == 0


def route(source: str, target: str, **more: Any) -> dict[str, Any]:
    """A route that is named by its target."""
    return {"name": target, "from": [source], "to": target, "format": "cloudevents", **more}


def hang_up(forwarder: Forwarder, routes: list[dict[str, Any]]) -> None:
    """Have it take other routes by SIGHUP."""
    forwarder.routes = routes
    forwarder.config.write_text(forwarder.configuration(), encoding="utf-8")
    os.kill(forwarder.process.pid, signal.SIGHUP)


def counted(forwarder: Forwarder, name: str, **labels: str) -> int:
    """One number of its metrics; 0 where there is none."""
    return sum(
        int(each.value)
        for each in forwarder.metrics()
        if each.name == name and each.labels.items() >= labels.items()
    )


def test_what_a_route_does_not_change_passes_byte_by_byte(
    kafka: Kafka, start_forwarder: Callable[..., Forwarder]
) -> None:
    """Value, key, timestamp and headers; where it was read is added. So does rubbish."""
    source, target = kafka.create(kafka.new_name()), kafka.new_name()
    values = (event(1, '{ "a" : 1.10, "a":2 }'), b"\xff no JSON", b"", None)
    headers = [("content-type", b"x"), ("mine", b"1"), ("mine", b"\xff")]
    produce(kafka, source, *values, partition=2, key=b"k\xff", headers=headers, timestamp=17_000)
    forwarder = start_forwarder([route(source, target)])
    forwarder.wait_for(target, {"acked": len(values)})
    read = kafka.read(target)
    assert [record.value for record in read] == list(values)
    assert {(record.key, record.timestamp_ms) for record in read} == {(b"k\xff", 17_000)}
    assert [record.headers for record in read] == [
        [
            *headers,
            ("ingest.from.topic", source.encode()),
            ("ingest.from.partition", b"2"),
            ("ingest.from.offset", b"%d" % offset),
        ]
        for offset in range(len(values))
    ]


def test_records_that_are_deleted_while_a_partition_waits_are_counted_too(
    kafka: Kafka, start_forwarder: Callable[..., Forwarder]
) -> None:
    """They are not passed by in silence when it goes on."""
    source, target = kafka.create(kafka.new_name(), 1), kafka.new_name()
    strict = route(source, target, steps=[{"cast": {"/n": "int32"}}], on_error="stop")
    forwarder = start_forwarder([strict])
    produce(kafka, source, *(event(n, '{"n":"x"}') for n in range(10)))
    wait_until(lambda: bool(forwarder.status()["degraded"]), 20, "it has not stopped")
    admin = AdminClient({"bootstrap.servers": kafka.servers, "log_level": 0})
    for done in admin.delete_records([TopicPartition(source, 0, 7)]).values():
        done.result(20)
    hang_up(forwarder, [{**strict, "steps": []}])
    forwarder.wait_for(target, {"acked": 3})
    assert counted(forwarder, "ingest_forward_expired_total", topic=source) == 7


def test_a_partition_that_had_stopped_is_read_when_it_comes_back(
    kafka: Kafka, start_forwarder: Callable[..., Forwarder]
) -> None:
    """Another member has had it in the meantime; what paused it then pauses it no more."""
    source, target = kafka.create(kafka.new_name(), 2), kafka.new_name()
    strict = route(source, target, steps=[{"cast": {"/n": "int32"}}], on_error="stop")
    for partition in range(2):
        produce(kafka, source, event(1, '{"n":"x"}'), event(2, '{"n":"2"}'), partition=partition)
    first = start_forwarder([strict])
    wait_until(lambda: len(first.status()["degraded"]) == 2, 20, "it has not stopped")
    second = start_forwarder([strict], {"forward": {"group": first.group}})
    wait_until(lambda: len(second.status()["degraded"]) == 1, 20, "it has none of them")
    assert second.stop() == 0
    wait_until(lambda: len(first.status()["degraded"]) == 2, 20, "it did not come back")
    hang_up(first, [{**strict, "steps": [{"cast": {"/n": "string"}}]}])
    first.wait_for(target, {"acked": 4})


class _Unreadable(str):
    """A name that is written with bytes that are no UTF-8."""

    __slots__ = ()

    def encode(self, *_: Any) -> bytes:
        return b"\xff\xfe"


async def _write_unreadable(kafka: Kafka, topic: str, value: bytes) -> None:
    """Write a record whose header has such a name: aiokafka's records in Python can."""
    async with AIOKafkaProducer(bootstrap_servers=kafka.servers) as producer:
        batch = producer.create_batch()
        batch._builder = default_records._DefaultRecordBatchBuilderPy(
            magic=2,
            compression_type=0,
            is_transactional=0,
            producer_id=-1,
            producer_epoch=-1,
            base_sequence=0,
            batch_size=100_000,
        )
        batch.append(key=None, value=value, timestamp=None, headers=[(_Unreadable("x"), b"v")])
        await (await producer.send_batch(batch, topic, partition=0))


async def test_a_header_that_nobody_can_read_blocks_nothing(
    kafka: Kafka, start_forwarder: Callable[..., Forwarder]
) -> None:
    """Its record is a dead letter; librdkafka's binding cannot read names that are no UTF-8."""
    source, target = kafka.create(kafka.new_name(), 1), kafka.new_name()
    await _write_unreadable(kafka, source, event(1))
    produce(kafka, source, event(2))
    forwarder = start_forwarder([route(source, target)])
    forwarder.wait_for(target, {"acked": 1, "rejected": 1})
    name = "ingest_forward_rejects_total"
    assert counted(forwarder, name, route=target, code="bad_headers") == 1
