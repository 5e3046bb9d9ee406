"""The forwarder on a real Kafka: what it reads, what it writes, and what a reload changes."""

from __future__ import annotations

import os
import signal
import uuid
from typing import TYPE_CHECKING, Any

import pytest
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


def test_several_routes_take_one_event_and_each_makes_its_own_of_it(
    kafka: Kafka, start_forwarder: Callable[..., Forwarder]
) -> None:
    """Also one that reads what another one writes; each counts what it does."""
    source, first, second, third = (kafka.create(kafka.new_name()) for _ in range(4))
    forwarder = start_forwarder(
        [
            route(source, first, steps=[{"drop": ["/a"]}], format="plain", key="/b"),
            route(source, second, where={"field": "/a", "above": 1}),
            route(second, third, steps=[{"set": {"/c": True}}]),
        ]
    )
    produce(kafka, source, event(1, '{"a":1,"b":"x"}'), event(2, '{"a":2,"b":"y"}'))
    forwarder.wait_for(first, {"acked": 2})
    forwarder.wait_for(second, {"acked": 1, "skipped": 1})
    forwarder.wait_for(third, {"acked": 1})
    made = {record.key: record.value for record in kafka.read(first)}
    assert made == {b"x": b'{"b":"x"}', b"y": b'{"b":"y"}'}
    (record,) = kafka.read(third)
    assert record.value == event(2, '{"a":2,"b":"y","c":true}')
    assert dict(record.headers)["ingest.from.topic"] == second.encode()
    wait_until(lambda: not any(forwarder.lag().values()), SECONDS, "the lag stays")
    assert forwarder.stop() == 0


def test_new_topics_are_found_and_read_from_their_first_record(
    kafka: Kafka, start_forwarder: Callable[..., Forwarder]
) -> None:
    """By a pattern, or by a name, which is told of as long as there is no such topic."""
    stem, target = f"new-{uuid.uuid4().hex[:8]}", kafka.new_name()
    routes = [route(f"{stem}-*", target), route(f"{stem}.named", target, name="named")]
    forwarder = start_forwarder(routes)
    wait_until(
        lambda: forwarder.status()["degraded"].get(f"{stem}.named") == "topic_missing",
        SECONDS,
        "it is not told of",
    )
    for name in (f"{stem}-a", f"{stem}.named"):
        produce(kafka, kafka.create(name, 1), event(1))
    forwarder.wait_for(target, {"acked": 1}, SECONDS)
    forwarder.wait_for("named", {"acked": 1}, SECONDS)
    wait_until(lambda: not forwarder.status()["degraded"], SECONDS, "it is still told of")


@pytest.mark.parametrize(("tracers", "outcome"), [("exclude", "excluded"), ("include", "acked")])
def test_tracers_are_left_out_unless_they_are_wanted(
    kafka: Kafka, start_forwarder: Callable[..., Forwarder], tracers: str, outcome: str
) -> None:
    """They are known by their record header."""
    source, target = kafka.create(kafka.new_name(), 1), kafka.new_name()
    produce(kafka, source, event(1), headers=[("ingest.tracer", b"t-1")])
    produce(kafka, source, event(2))
    forwarder = start_forwarder([route(source, target, tracers=tracers)])
    forwarder.wait_for(target, {outcome: 1, "acked": 1 + (tracers == "include")})
    assert len(kafka.read(target)) == 1 + (tracers == "include")


def test_records_without_value_pass_where_nobody_looks_into_values(
    kafka: Kafka, start_forwarder: Callable[..., Forwarder]
) -> None:
    """As they are, whatever the route makes of others."""
    source, blind, looking = (kafka.create(kafka.new_name(), 1) for _ in range(3))
    forwarder = start_forwarder(
        [
            route(source, blind, where={"key": "gone"}, format="plain", steps=[{"drop": ["/a"]}]),
            route(source, looking, where={"field": "/a", "exists": False}),
        ]
    )
    produce(kafka, source, None, key=b"gone")
    forwarder.wait_for(blind, {"acked": 1})
    forwarder.wait_for(looking, {"skipped": 1})
    assert [(record.key, record.value) for record in kafka.read(blind)] == [(b"gone", None)]
    assert kafka.read(looking) == []


def test_what_cannot_be_forwarded_is_a_dead_letter_as_it_was_read(
    kafka: Kafka, start_forwarder: Callable[..., Forwarder]
) -> None:
    """With its key, Connect's headers and ours; what comes behind it goes on."""
    source, target, letters = kafka.create(kafka.new_name(), 1), kafka.new_name(), kafka.new_name()
    forwarder = start_forwarder(
        [route(source, target, format="plain", steps=[{"cast": {"/n": "int32"}}])],
        {"dead_letter": {"topic": letters}},
    )
    bad = event(1, '{"n":"much"}')
    produce(kafka, source, bad, event(2, '{"n":"7"}'), key=b"k", headers=[("own", b"1")])
    forwarder.wait_for(target, {"acked": 1, "rejected": 1})
    (letter,) = kafka.read(letters)
    headers = dict(letter.headers)
    assert (letter.key, letter.value) == (b"k", bad)
    assert headers == {
        "__connect.errors.topic": source.encode(),
        "__connect.errors.partition": b"0",
        "__connect.errors.offset": b"0",
        "__connect.errors.connector.name": target.encode(),
        "__connect.errors.stage": b"TRANSFORMATION",
        "__connect.errors.exception.class.name": b"cast_failed",
        "__connect.errors.exception.message": b"/n: is no int32",
        "ingest.route": target.encode(),
        "own": b"1",
        "ingest.from.topic": source.encode(),
        "ingest.from.partition": b"0",
        "ingest.from.offset": b"0",
    }
    assert [record.value for record in kafka.read(target)] == [b'{"n":7}']
    name = "ingest_forward_rejects_total"
    assert counted(forwarder, name, route=target, code="cast_failed") == 1


def test_a_reload_takes_other_routes_or_none_of_them(
    kafka: Kafka, start_forwarder: Callable[..., Forwarder]
) -> None:
    """The log says what changed; with an error in one route the other stays as it is, too."""
    source, target = kafka.create(kafka.new_name(), 1), kafka.new_name()
    old = route(source, target, name="r", steps=[{"set": {"/v": 1}}])
    forwarder = start_forwarder([old])
    produce(kafka, source, event(1))
    forwarder.wait_for("r", {"acked": 1})
    bad = {**old, "steps": [{"set": {"/v": 2}}]}
    hang_up(forwarder, [bad, {**old, "name": "s", "stepz": []}, {**bad, "name": "t", "to": source}])
    wait_until(lambda: counted(forwarder, "ingest_reloads_total", outcome="failed") == 1, 20, "")
    (failed,) = forwarder.process.logged("reload_failed")
    (unknown, *_) = failed["problems"]
    assert 'forward.routes[1].stepz: unknown key, did you mean "steps"?' in unknown
    produce(kafka, source, event(2))
    forwarder.wait_for("r", {"acked": 2})
    hang_up(forwarder, [bad])
    wait_until(lambda: counted(forwarder, "ingest_reloads_total", outcome="ok") == 1, 20, "")
    wait_until(lambda: forwarder.status()["config"]["workers"] == [1], 20, "not taken")
    produce(kafka, source, event(3))
    forwarder.wait_for("r", {"acked": 3})
    assert {record.value for record in kafka.read(target)} == {
        event(1, '{"v":1}'),
        event(2, '{"v":1}'),
        event(3, '{"v":2}'),
    }
    (reloaded,) = forwarder.process.logged("reloaded")
    assert reloaded["changed"] == ["forward.routes.r.steps: changed"]


def test_a_route_that_stops_goes_on_where_it_stopped_once_it_is_mended(
    kafka: Kafka, start_forwarder: Callable[..., Forwarder]
) -> None:
    """Other partitions do not wait for it; `/readyz` names it all the while."""
    source, target = kafka.create(kafka.new_name(), 2), kafka.new_name()
    strict = route(source, target, steps=[{"cast": {"/n": "int32"}}], on_error="stop")
    forwarder = start_forwarder([strict])
    produce(kafka, source, event(1, '{"n":"1"}'), event(2, '{"n":"x"}'), event(3, '{"n":"3"}'))
    produce(kafka, source, event(4, '{"n":"4"}'), partition=1)
    forwarder.wait_for(target, {"acked": 2})
    wait_until(lambda: f"{source}/0" in forwarder.status()["degraded"], 20, "it is not named")
    assert forwarder.ready()
    assert "stopped at offset 1: cast_failed" in forwarder.status()["degraded"][f"{source}/0"]
    assert len(kafka.read(target)) == 2
    hang_up(forwarder, [{**strict, "steps": [{"cast": {"/n": "string"}}]}])
    forwarder.wait_for(target, {"acked": 4})
    made = {(1, "1"), (2, '"x"'), (3, '"3"'), (4, "4")}
    wanted = {event(number, f'{{"n":{value}}}') for number, value in made}
    assert {record.value for record in kafka.read(target)} == wanted
    wait_until(lambda: not forwarder.status()["degraded"], 20, "it is still named")


def test_what_was_forwarded_before_a_restart_is_not_forwarded_again(
    kafka: Kafka, start_forwarder: Callable[..., Forwarder]
) -> None:
    """The offsets are committed at the end, and those of two workers too."""
    source, target = kafka.create(kafka.new_name()), kafka.new_name()
    for partition in range(4):
        produce(kafka, source, *(event(n) for n in range(50)), partition=partition)
    forwarder = start_forwarder([route(source, target)], {"forward": {"workers": 2}})
    forwarder.wait_for(target, {"acked": 200})
    assert forwarder.stop() == 0
    forwarder.restart()
    produce(kafka, source, event(50), partition=3)
    forwarder.wait_for(target, {"acked": 1})
    assert len(kafka.read(target)) == 201


def test_records_that_were_deleted_before_they_were_forwarded_are_counted(
    kafka: Kafka, start_forwarder: Callable[..., Forwarder]
) -> None:
    """And told of in the log: nobody can bring them back."""
    source, target = kafka.create(kafka.new_name(), 1), kafka.new_name()
    produce(kafka, source, event(1))
    forwarder = start_forwarder([route(source, target)])
    forwarder.wait_for(target, {"acked": 1})
    assert forwarder.stop() == 0
    produce(kafka, source, *(event(n) for n in range(2, 12)))
    admin = AdminClient({"bootstrap.servers": kafka.servers, "log_level": 0})
    for done in admin.delete_records([TopicPartition(source, 0, 8)]).values():
        done.result(20)
    forwarder.restart()
    forwarder.wait_for(target, {"acked": 3})
    assert counted(forwarder, "ingest_forward_expired_total", topic=source) == 7
    (told,) = forwarder.process.logged("records_expired")
    assert (told["topic"], told["partition"], told["count"]) == (source, 0, 7)


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
