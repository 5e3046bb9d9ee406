"""Partitions of the forwarder that stop, come back, lose records, or hold what nobody can read."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaProducer
from aiokafka.record import default_records
from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from loadtest.forward_load import Feed
from loadtest.gateway import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from loadtest.forwarder import Forwarder
    from tests.conftest import Kafka

SECONDS = 35.0
"""New topics are found within 30."""
PER_SECOND = 2000


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


def counted(forwarder: Forwarder, name: str, **labels: str) -> int:
    """One number of its metrics; 0 where there is none."""
    return sum(
        int(each.value)
        for each in forwarder.metrics()
        if each.name == name and each.labels.items() >= labels.items()
    )


def offset_of(kafka: Kafka, group: str, topic: str, partition: int = 0) -> TopicPartition:
    """What a group has committed of a partition of a topic."""
    wanted = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, partition)])
    admin = AdminClient({"bootstrap.servers": kafka.servers, "log_level": 0})
    (asked,) = admin.list_consumer_group_offsets([wanted]).values()
    found: TopicPartition = asked.result(20).topic_partitions[0]
    return found


def committed(kafka: Kafka, group: str, topic: str, partition: int = 0) -> int | None:
    """How far it is there; None: nowhere."""
    offset = offset_of(kafka, group, topic, partition).offset
    return offset if offset >= 0 else None


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
    forwarder.reroute([{**strict, "steps": []}])
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
    first.reroute([{**strict, "steps": [{"cast": {"/n": "string"}}]}])
    first.wait_for(target, {"acked": 4})


def have_forwarded(kafka: Kafka, forwarder: Forwarder, source: str, count: int) -> None:
    """Write the first numbered events of a topic of one partition, and wait for their commit."""
    produce(kafka, source, *(event(n) for n in range(count)))
    wait_until(lambda: committed(kafka, forwarder.group, source) == count, 20, "not committed")


def recreate(kafka: Kafka, topic: str, partitions: int = 1) -> None:
    """Delete a topic, and make another one that has its name."""
    kafka.delete(topic)
    wait_until(lambda: not kafka.replicas(topic), 20, "it is still there")
    kafka.create(topic, partitions)


def test_a_topic_that_is_made_anew_is_read_from_its_beginning(
    kafka: Kafka, start_forwarder: Callable[..., Forwarder]
) -> None:
    """Though it has as many records by then as had been forwarded of the former one."""
    source, target = kafka.create(kafka.new_name(), 1), kafka.new_name()
    forwarder = start_forwarder([route(source, target)])
    have_forwarded(kafka, forwarder, source, 50)
    recreate(kafka, source)
    produce(kafka, source, *(event(n) for n in range(100, 200)))
    require_in(kafka, target, {*range(50), *range(100, 200)})
    wait_until(lambda: committed(kafka, forwarder.group, source) == 100, 20, "not committed")
    assert noticed(forwarder)


def noticed(forwarder: Forwarder) -> bool:
    """Whether it knows that a topic is another one; it may have seen that there was none."""
    process = forwarder.process
    return bool(process.logged("topic_recreated")) or len(process.logged("assigned")) > 1


def test_a_topic_that_is_made_anew_with_fewer_partitions_is_committed(
    kafka: Kafka, start_forwarder: Callable[..., Forwarder]
) -> None:
    """Those that are no more hold up none that is."""
    source, target = kafka.create(kafka.new_name(), 3), kafka.new_name()
    forwarder = start_forwarder([route(source, target)])
    for partition in range(3):
        produce(kafka, source, *(event(n) for n in range(10)), partition=partition)
    forwarder.wait_for(target, {"acked": 30})
    places = [(kafka, forwarder.group, source, partition) for partition in range(3)]
    wait_until(lambda: all(committed(*at) == 10 for at in places), 20, "not committed")
    recreate(kafka, source)
    produce(kafka, source, *(event(n) for n in range(100, 105)))
    wait_until(lambda: noticed(forwarder), SECONDS, "it was not noticed")
    produce(kafka, source, event(105))
    require_in(kafka, target, {*range(10), *range(100, 106)})
    wait_until(lambda: committed(kafka, forwarder.group, source) == 6, 20, "not committed")
    reasons = {each["reason"] for each in forwarder.process.logged("commit_failed")}
    assert "UNKNOWN_TOPIC_OR_PART" not in reasons


def test_what_was_committed_of_a_former_topic_says_nothing_of_a_new_one(
    kafka: Kafka, start_forwarder: Callable[..., Forwarder]
) -> None:
    """A commit may come late, when the new topic is there, and nobody may be there to see it."""
    source, target = kafka.create(kafka.new_name(), 1), kafka.new_name()
    forwarder = start_forwarder([route(source, target)])
    have_forwarded(kafka, forwarder, source, 50)
    assert forwarder.stop() == 0
    late = offset_of(kafka, forwarder.group, source)
    recreate(kafka, source)
    admin = AdminClient({"bootstrap.servers": kafka.servers, "log_level": 0})
    wanted = ConsumerGroupTopicPartitions(forwarder.group, [late])
    for done in admin.alter_consumer_group_offsets([wanted]).values():
        assert done.result(20).topic_partitions[0].error is None
    produce(kafka, source, *(event(n) for n in range(100, 200)))
    forwarder.restart()
    require_in(kafka, target, {*range(50), *range(100, 200)})
    wait_until(lambda: committed(kafka, forwarder.group, source) == 100, 20, "not committed")
    assert forwarder.process.logged("topic_recreated")


def require_in(kafka: Kafka, topic: str, numbers: set[int]) -> None:
    """Wait until the events with these numbers, and no others, are in a topic."""
    wanted = {event(number) for number in numbers}
    wait_until(
        lambda: {each.value for each in kafka.read(topic)} == wanted, SECONDS, "some are missing"
    )


def test_a_target_that_cannot_be_is_mended_by_a_reload(
    kafka: Kafka, start_forwarder: Callable[..., Forwarder]
) -> None:
    """What waits for it goes to the target of now, in its order, and is committed."""
    source, target = kafka.create(kafka.new_name(), 1), kafka.create(kafka.new_name(), 1)
    wrong = route(source, kafka.new_name("wrong"))
    forwarder = start_forwarder([wrong], {"topics": {"create": False}})
    produce(kafka, source, *(event(n) for n in range(3000)), key=b"k")
    wait_until(lambda: wrong["to"] in forwarder.status()["degraded"], 20, "all is well, it says")
    wait_until(lambda: forwarder.status()["inflight_bytes"] > 100_000, 20, "nothing waits")
    forwarder.reroute([route(source, target)])
    forwarder.wait_for(target, {"acked": 3000})
    assert [each.value for each in kafka.read(target)] == [event(n) for n in range(3000)]
    wait_until(lambda: committed(kafka, forwarder.group, source) == 3000, 20, "not committed")
    assert forwarder.status()["degraded"] == {}
    assert forwarder.status()["inflight_bytes"] == 0


def test_without_its_route_what_waits_for_a_target_holds_up_no_other(
    kafka: Kafka, start_forwarder: Callable[..., Forwarder]
) -> None:
    """The partition is committed, and the end is quick."""
    source, target = kafka.create(kafka.new_name(), 1), kafka.create(kafka.new_name(), 1)
    wrong = route(source, kafka.new_name("wrong"))
    forwarder = start_forwarder([wrong, route(source, target)], {"topics": {"create": False}})
    produce(kafka, source, *(event(n) for n in range(100)))
    forwarder.wait_for(target, {"acked": 100})
    wait_until(lambda: wrong["to"] in forwarder.status()["degraded"], 20, "all is well, it says")
    assert committed(kafka, forwarder.group, source) is None
    forwarder.reroute([route(source, target)])
    wait_until(lambda: committed(kafka, forwarder.group, source) == 100, 20, "not committed")
    assert forwarder.stop() == 0


def test_a_dead_letter_that_cannot_be_is_spared_by_a_reload(
    kafka: Kafka, start_forwarder: Callable[..., Forwarder]
) -> None:
    """With routes that do not reject its record any more, nothing waits for its topic."""
    source, target = kafka.create(kafka.new_name(), 1), kafka.create(kafka.new_name(), 1)
    strict = route(source, target, steps=[{"cast": {"/n": "int32"}}])
    nowhere = kafka.new_name("nowhere")
    settings = {"topics": {"create": False}, "dead_letter": {"topic": nowhere}}
    forwarder = start_forwarder([strict], settings)
    produce(kafka, source, event(1, '{"n":"x"}'))
    wait_until(lambda: forwarder.status()["inflight_bytes"] > 0, 20, "nothing waits")
    forwarder.reroute([{**strict, "steps": []}])
    forwarder.wait_for(target, {"acked": 1})
    wait_until(lambda: committed(kafka, forwarder.group, source) == 1, 20, "not committed")
    assert forwarder.status()["inflight_bytes"] == 0


def test_what_a_removed_route_has_not_forwarded_is_not_committed(
    kafka: Kafka, start_forwarder: Callable[..., Forwarder]
) -> None:
    """It is there when the route comes back; nothing of what was forwarded is repeated."""
    source, target = kafka.create(kafka.new_name(), 1), kafka.create(kafka.new_name(), 1)
    other = route(kafka.create(kafka.new_name(), 1), kafka.new_name())
    forwarder = start_forwarder([route(source, target), other])
    with Feed(kafka.servers, source, PER_SECOND) as feed:
        wait_until(lambda: len(kafka.read(target)) > 100, 20, "nothing is forwarded")
        wait_until(lambda: (source, 0) in forwarder.lag(), 20, "it is not read")
        forwarder.reroute([other])
        wait_until(lambda: (source, 0) not in forwarder.lag(), SECONDS, "it is still read")
        sent = feed.finish()
    wait_until(
        lambda: committed(kafka, forwarder.group, source) == len(kafka.read(target)),
        20,
        "what is committed is not what is forwarded",
    )
    assert len(kafka.read(target)) < sent
    forwarder.reroute([route(source, target), other])
    wait_until(lambda: len(kafka.read(target)) >= sent, SECONDS, "some are missing")
    values = [[each.value for each in kafka.read(topic)] for topic in (source, target)]
    assert values[0] == values[1]


def test_a_dead_letter_is_cut_to_what_its_topic_takes_now(
    kafka: Kafka, start_forwarder: Callable[..., Forwarder]
) -> None:
    """Also where the limit was lowered a moment ago: nothing stops for it."""
    source, target, letters = (kafka.create(kafka.new_name(), 1) for _ in range(3))
    forwarder = start_forwarder(
        [route(source, target, format="plain")], {"dead_letter": {"topic": letters}}
    )
    produce(kafka, source, b"no json")
    forwarder.wait_for(target, {"rejected": 1})
    kafka.configure(letters, "max.message.bytes", "20000")
    large = random.Random(1).randbytes(200_000)
    produce(kafka, source, large, event(1))
    forwarder.wait_for(target, {"rejected": 2, "acked": 1})
    _, letter = kafka.read(letters)
    assert large.startswith(letter.value)
    assert len(letter.value) > 5000
    assert forwarder.status()["degraded"] == {}


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
