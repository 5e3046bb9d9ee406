"""What the forwarder makes of records on a real Kafka, what it tells of them, and what it reloads.

What it promises while something dies is in `tests/faults`.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from loadtest.gateway import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from loadtest.forwarder import Forwarder
    from tests.conftest import Kafka
    from tests.memory_producer import Record

    Start = Callable[..., Forwarder]
    Headers = Sequence[tuple[str, bytes | None]]

SECONDS = 20.0
FOUND_SECONDS = 30.0
"""A topic that is new is read within this time, says the contract."""
TIME_MS = int(time.time() * 1000) - 60_000
"""Of all records: not so old that Kafka might delete them."""
CONTENT_TYPE = ("content-type", b"application/cloudevents+json; charset=UTF-8")
JSON_TYPE = ("content-type", b"application/json")


class Sent(NamedTuple):
    """A record to write."""

    value: bytes | None
    key: bytes | None = None
    headers: Headers = (CONTENT_TYPE,)
    partition: int = 0


def event(data: str, number: int = 1) -> bytes:
    """A record value as the gateway writes it."""
    head = f'{{"specversion":"1.0","source":"/sources/orders","id":"{number}"'
    return f'{head},"type":"order.created","data":{data}}}'.encode()


def numbers(count: int, first: int = 0, partition: int = 0) -> list[Sent]:
    """Records with numbers that count up."""
    data = (f'{{"n":{number}}}' for number in range(first, first + count))
    return [Sent(event(each), b"k", partition=partition) for each in data]


def produce(kafka: Kafka, topic: str, records: Iterable[Sent]) -> None:
    """Write records, in their order."""
    settings = {"bootstrap.servers": kafka.servers, "enable.idempotence": True, "log_level": 0}
    producer = Producer(settings)
    for each in records:
        producer.produce(
            topic, each.value, each.key, each.partition, headers=[*each.headers], timestamp=TIME_MS
        )
    assert producer.flush(SECONDS) == 0


def until(holds: Callable[[], bool], otherwise: str, seconds: float = SECONDS) -> None:
    """Wait until something holds."""
    wait_until(holds, seconds, otherwise)


def origin(topic: str, partition: int, offset: int) -> list[tuple[str, bytes]]:
    """The headers that say where a record was read."""
    return [
        ("ingest.from.topic", topic.encode()),
        ("ingest.from.partition", b"%d" % partition),
        ("ingest.from.offset", b"%d" % offset),
    ]


def places(records: Iterable[Record]) -> list[tuple[int, int]]:
    """Partition and offset that each record was read from, in order."""
    found = [dict(each.headers) for each in records]
    keys = ("ingest.from.partition", "ingest.from.offset")
    return sorted((int(each[keys[0]] or b""), int(each[keys[1]] or b"")) for each in found)


def data(records: Iterable[Record]) -> list[Any]:
    """The values, decoded."""
    return [json.loads(each.value) for each in records]


def degraded(forwarder: Forwarder) -> dict[str, str]:
    """What is wrong with a forwarder that is ready all the same."""
    status, body = forwarder.manage("/readyz")
    assert status == 200, body
    found: dict[str, str] = json.loads(body)["degraded"]
    return found


def counted(forwarder: Forwarder, name: str, *labels: str) -> Counter[tuple[str, ...]]:
    """A counter of the forwarder, by the values of these labels."""
    found: Counter[tuple[str, ...]] = Counter()
    for sample in forwarder.metrics():
        if sample.name == f"ingest_{name}":
            found[tuple(sample.labels[each] for each in labels)] += int(sample.value)
    return found


def write_config(forwarder: Forwarder, *routes: dict[str, Any]) -> None:
    """Give the configuration file other routes."""
    forwarder.routes = list(routes)
    forwarder.config.write_text(forwarder.configuration())


def hang_up(forwarder: Forwarder, told: str) -> dict[str, Any]:
    """Send SIGHUP; what it logs of the event ``told``, once every worker has taken it."""
    known = len(forwarder.process.logged(told))
    os.kill(forwarder.process.pid, signal.SIGHUP)
    until(lambda: len(forwarder.process.logged(told)) > known, f"{told} is not logged")
    line = forwarder.process.logged(told)[-1]
    if told == "reloaded":
        wanted = {line["version"]}
        until(lambda: set(forwarder.status()["config"]["workers"]) == wanted, "not in every worker")
    return line


# What it makes of records.


def test_bytes_pass_through_untouched(kafka: Kafka, start_forwarder: Start) -> None:
    """Value, key, timestamp and headers, also odd ones; where they were read is added."""
    source, target = kafka.create(kafka.new_name(), 1), kafka.create(kafka.new_name(), 1)
    sent = [
        Sent(b'{ "specversion" : "1.0", "odd": 1.50, "odd": [1 , 2] }\n', b"k"),
        Sent(b"no json at all \xff\x00", b"\xfe", [("a", b"1"), ("a", b"2"), ("none", None)]),
        Sent(None, b"deleted", []),
        Sent(b"", None, [("h", b"\xff")]),
        Sent(event("{}"), b"", [CONTENT_TYPE]),
    ]
    forwarder = start_forwarder(
        [{"name": "all", "from": source, "to": target, "format": "cloudevents"}],
        {"dead_letter": {"topic": kafka.new_name("letters")}},
    )
    produce(kafka, source, sent)
    forwarder.wait_for("all", {"acked": len(sent)})
    found = kafka.read(target)
    assert [(each.value, each.key) for each in found] == [(each.value, each.key) for each in sent]
    assert {each.timestamp_ms for each in found} == {TIME_MS}
    for offset, (sent_one, record) in enumerate(zip(sent, found, strict=True)):
        assert record.headers == [*sent_one.headers, *origin(source, 0, offset)]
    assert forwarder.outcomes("all") == {"acked": len(sent)}


def test_several_routes_take_one_event(kafka: Kafka, start_forwarder: Start) -> None:
    """Each makes its own of it, and one whose condition does not hold nothing."""
    source = kafka.create(kafka.new_name(), 1)
    targets = {name: kafka.create(kafka.new_name(), 1) for name in ("as-is", "plain", "cheap")}
    shapes: dict[str, dict[str, Any]] = {
        "as-is": {"format": "cloudevents"},
        "plain": {"steps": [{"drop": ["/card"]}], "key": "/customer"},
        "cheap": {"where": {"field": "/total", "below": 10}, "steps": [{"mask": ["/card"]}]},
    }
    routes = [
        {"name": name, "from": source, "to": targets[name], **shape}
        for name, shape in shapes.items()
    ]
    letters = kafka.new_name("letters")
    forwarder = start_forwarder(routes, {"dead_letter": {"topic": letters}})
    sent = [
        event('{"customer":"c1","total":5,"card":"4111"}'),
        event('{"customer":"c2","total":50, "card":"4222"}'),
    ]
    produce(kafka, source, [Sent(each, b"own") for each in sent])
    forwarder.wait_for("as-is", {"acked": 2})
    forwarder.wait_for("plain", {"acked": 2})
    forwarder.wait_for("cheap", {"acked": 1, "skipped": 1})
    found = {name: kafka.read(topic) for name, topic in targets.items()}
    assert [each.value for each in found["as-is"]] == sent
    assert data(found["plain"]) == [
        {"customer": "c1", "total": 5},
        {"customer": "c2", "total": 50},
    ]
    assert [each.key for each in found["plain"]] == [b"c1", b"c2"]
    assert data(found["cheap"]) == [{"customer": "c1", "total": 5, "card": "***"}]
    assert found["cheap"][0].key == b"own"
    assert found["cheap"][0].headers == [JSON_TYPE, *origin(source, 0, 0)]
    assert kafka.read(letters) == []


def test_null_values_pass_by_routes_that_do_not_look_into_them(
    kafka: Kafka, start_forwarder: Start
) -> None:
    """Whatever their format and steps; a route that looks into the value skips them."""
    source = kafka.create(kafka.new_name(), 1)
    schema = {"n": "int64"}
    shapes: dict[str, dict[str, Any]] = {
        "plain": {"steps": [{"drop": ["/a"]}], "key": "/n"},
        "enveloped": {"format": "connect-envelope", "schema": schema},
        "by-key": {"where": {"all": [{"key": "k"}, {"topic": source}]}},
        "by-type": {"where": {"type": "order.created"}},
        "by-field": {"where": {"not": {"field": "/n", "exists": True}}},
    }
    targets = {name: kafka.create(kafka.new_name(), 1) for name in shapes}
    routes = [
        {"name": name, "from": source, "to": targets[name], **shape}
        for name, shape in shapes.items()
    ]
    forwarder = start_forwarder(routes, {"dead_letter": {"topic": kafka.new_name("letters")}})
    produce(kafka, source, [Sent(None, b"k"), Sent(event('{"n":1}'), b"k")])
    for name in shapes:
        until(lambda name=name: forwarder.outcomes(name).total() == 2, f"{name} is not done")
    found = {
        name: [(each.key, each.value and json.loads(each.value)) for each in kafka.read(topic)]
        for name, topic in targets.items()
    }
    null = (b"k", None)
    assert found["plain"] == [null, (b"1", {"n": 1})]
    assert found["by-key"] == [null, (b"k", {"n": 1})]
    assert found["by-type"] == [(b"k", {"n": 1})]
    assert found["by-field"] == []
    assert found["enveloped"][0] == null
    assert found["enveloped"][1][1]["payload"] == {"n": 1}
    assert forwarder.outcomes("by-type") == {"acked": 1, "skipped": 1}
    assert forwarder.outcomes("by-field") == {"skipped": 2}


def test_tracers_are_left_out_unless_a_route_lets_them_through(
    kafka: Kafka, start_forwarder: Start
) -> None:
    """They are known by a record header, and counted where they are left out."""
    source = kafka.create(kafka.new_name(), 1)
    targets = {name: kafka.create(kafka.new_name(), 1) for name in ("without", "with")}
    routes = [
        {"name": "without", "from": source, "to": targets["without"], "format": "cloudevents"},
        {"name": "with", "from": source, "to": targets["with"], "tracers": "include"},
    ]
    forwarder = start_forwarder(routes, {"dead_letter": {"topic": kafka.new_name("letters")}})
    tracer = ("ingest.tracer", b"run-1")
    sent = [
        Sent(event('{"n":0}')),
        Sent(event('{"n":1}'), headers=[CONTENT_TYPE, tracer]),
        Sent(event('{"n":2}')),
    ]
    produce(kafka, source, sent)
    forwarder.wait_for("without", {"acked": 2, "excluded": 1})
    forwarder.wait_for("with", {"acked": 3})
    assert [each["data"]["n"] for each in data(kafka.read(targets["without"]))] == [0, 2]
    passed = kafka.read(targets["with"])
    assert data(passed) == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert [tracer in each.headers for each in passed] == [False, True, False]


def test_what_one_route_writes_another_can_read(kafka: Kafka, start_forwarder: Start) -> None:
    """By its name; the last headers say where this route has read, as each adds its own."""
    first, between, last = (kafka.create(kafka.new_name(), 1) for _ in range(3))
    routes = [
        {"name": "one", "from": first, "to": between, "format": "cloudevents"},
        {"name": "two", "from": between, "to": last, "steps": [{"set": {"/by": "two"}}]},
    ]
    produce(kafka, between, [Sent(event('{"n":0}'))])
    forwarder = start_forwarder(routes, {"dead_letter": {"topic": kafka.new_name("letters")}})
    produce(kafka, first, numbers(2, 1))
    forwarder.wait_for("two", {"acked": 3})
    found = kafka.read(last)
    assert data(found) == [{"n": number, "by": "two"} for number in range(3)]
    assert [each.headers[-3:] for each in found] == [origin(between, 0, at) for at in range(3)]


# Which topics it reads, and how far.


def test_topics_that_appear_are_read_from_their_earliest_record(
    kafka: Kafka, start_forwarder: Start
) -> None:
    """Those of a pattern, and one that is named, which is told to be missing until it is there."""
    stem, named = kafka.new_name("web"), kafka.new_name("named")
    target = kafka.create(kafka.new_name(), 1)
    route = {"name": "r", "from": [f"{stem}-*", named], "to": target}
    settings = {"dead_letter": {"topic": kafka.new_name("letters")}}
    forwarder = start_forwarder([route], settings)
    until(lambda: degraded(forwarder) == {named: "topic_missing"}, f"{degraded(forwarder)}")
    other = kafka.create(f"{stem}-new", 2)
    produce(kafka, other, [*numbers(1, 10), *numbers(1, 11, partition=1)])
    kafka.create(named, 1)
    produce(kafka, named, numbers(2, 20))
    forwarder.wait_for("r", {"acked": 4}, FOUND_SECONDS)
    assert sorted(each["n"] for each in data(kafka.read(target))) == [10, 11, 20, 21]
    until(lambda: degraded(forwarder) == {}, "a topic is still missing")


def test_nothing_is_forwarded_twice_over_a_restart(kafka: Kafka, start_forwarder: Start) -> None:
    """What was done is committed at the end, however short it ran; the rest is read by the next."""
    source, target = kafka.create(kafka.new_name(), 2), kafka.create(kafka.new_name(), 1)
    route = {"name": "r", "from": source, "to": target}
    letters = kafka.new_name("letters")
    forwarder = start_forwarder([route], {"dead_letter": {"topic": letters}})
    produce(kafka, source, [*numbers(50), *numbers(30, partition=1)])
    produce(kafka, source, [Sent(b"poison")])
    forwarder.wait_for("r", {"acked": 80, "rejected": 1})
    assert forwarder.stop() == 0
    produce(kafka, source, numbers(5, 50))
    forwarder.restart()
    forwarder.wait_for("r", {"acked": 5})
    wanted = [*((0, at) for at in (*range(50), *range(51, 56))), *((1, at) for at in range(30))]
    assert places(kafka.read(target)) == wanted
    assert len(kafka.read(letters)) == 1
    assert forwarder.outcomes("r") == {"acked": 5}


def test_records_that_expired_before_they_were_forwarded_are_counted(
    kafka: Kafka, start_forwarder: Start
) -> None:
    """And told in the log; what is left is forwarded."""
    source, target = kafka.create(kafka.new_name(), 1), kafka.create(kafka.new_name(), 1)
    settings = {"dead_letter": {"topic": kafka.new_name("letters")}}
    forwarder = start_forwarder([{"name": "r", "from": source, "to": target}], settings)
    produce(kafka, source, numbers(2))
    forwarder.wait_for("r", {"acked": 2})
    assert forwarder.stop() == 0
    assert counted_expired(forwarder) == []
    produce(kafka, source, numbers(5, 2))
    admin = AdminClient({"bootstrap.servers": kafka.servers, "log_level": 0})
    (deleted,) = admin.delete_records([TopicPartition(source, 0, 5)]).values()
    assert deleted.result(SECONDS).low_watermark == 5
    forwarder.restart()
    forwarder.wait_for("r", {"acked": 2})
    assert [each["n"] for each in data(kafka.read(target))] == [0, 1, 5, 6]
    assert counted(forwarder, "forward_expired_total", "topic") == {(source,): 3}
    assert counted_expired(forwarder) == [(source, 0, 3)]


def test_records_that_expired_are_counted_once(kafka: Kafka, start_forwarder: Start) -> None:
    """Also where nothing is left to forward."""
    source, target = kafka.create(kafka.new_name(), 1), kafka.create(kafka.new_name(), 1)
    settings = {"dead_letter": {"topic": kafka.new_name("letters")}}
    forwarder = start_forwarder([{"name": "r", "from": source, "to": target}], settings)
    produce(kafka, source, numbers(2))
    forwarder.wait_for("r", {"acked": 2})
    assert forwarder.stop() == 0
    produce(kafka, source, numbers(5, 2))
    admin = AdminClient({"bootstrap.servers": kafka.servers, "log_level": 0})
    (deleted,) = admin.delete_records([TopicPartition(source, 0, 7)]).values()
    assert deleted.result(SECONDS).low_watermark == 7
    forwarder.restart()
    until(lambda: counted_expired(forwarder) == [(source, 0, 5)], "nothing has expired")
    forwarder.restart()
    until(lambda: forwarder.process.logged("assigned") != [], "it has no partition")
    assert counted_expired(forwarder) == []


def counted_expired(forwarder: Forwarder) -> list[tuple[str, int, int]]:
    """What the log says of records that expired: topic, partition, how many."""
    lines = forwarder.process.logged("records_expired")
    return [(each["topic"], each["partition"], each["count"]) for each in lines]


def test_workers_share_the_partitions(kafka: Kafka, start_forwarder: Start) -> None:
    """Each reads half of them, and together they forward everything once."""
    source, target = kafka.create(kafka.new_name(), 4), kafka.create(kafka.new_name(), 1)
    settings = {"forward": {"workers": 2}, "dead_letter": {"topic": kafka.new_name("letters")}}
    forwarder = start_forwarder([{"name": "r", "from": source, "to": target}], settings)
    admin = AdminClient({"bootstrap.servers": kafka.servers, "log_level": 0})

    def shares() -> list[set[int]]:
        (group,) = admin.describe_consumer_groups([forwarder.group]).values()
        members = group.result(SECONDS).members
        return [{each.partition for each in one.assignment.topic_partitions} for one in members]

    until(lambda: sorted(map(len, shares())) == [2, 2], f"the shares are {shares()}")
    assert set.union(*shares()) == {0, 1, 2, 3}
    produce(kafka, source, [each for at in range(4) for each in numbers(10, partition=at)])
    forwarder.wait_for("r", {"acked": 40})
    assert places(kafka.read(target)) == [(at, n) for at in range(4) for n in range(10)]


# What it tells.


def test_every_record_is_counted_and_rejects_are_dead_letters(
    kafka: Kafka, start_forwarder: Start
) -> None:
    """Outcomes, codes, lag; a dead letter has the record as it was, and the headers of Connect."""
    source, target = kafka.create(kafka.new_name(), 4), kafka.create(kafka.new_name(), 1)
    letters = kafka.new_name("letters")
    route = {
        "name": "r",
        "from": source,
        "where": {"not": {"key": "skip me"}},
        "steps": [{"cast": {"/n": "int64"}}],
        "key": "/id",
        "to": target,
    }
    forwarder = start_forwarder([route], {"dead_letter": {"topic": letters}})
    own = [CONTENT_TYPE, ("x", b"1")]
    poison = {
        b'{"specversion":"1.0", ': "invalid_json",
        b'{"a": 1}': "not_cloudevents",
        event('{ "n": "many" }'): "cast_failed",
        event('{"n":1,"id":{}}'): "bad_key",
    }
    sent = [Sent(value, b"old", own, 2) for value in poison]
    tracer = Sent(event('{"n":5}'), headers=[("ingest.tracer", b"t")])
    produce(kafka, source, [*sent, *numbers(3), Sent(event("{}"), b"skip me"), tracer])
    counts = {"acked": 3, "rejected": 4, "skipped": 1, "excluded": 1}
    forwarder.wait_for("r", counts)
    assert forwarder.outcomes("r") == counts
    found = counted(forwarder, "forward_rejects_total", "route", "code")
    assert found == {("r", code): 1 for code in poison.values()}
    records = kafka.read(letters)
    assert [each.value for each in records] == [*poison]
    assert {(each.key, each.timestamp_ms) for each in records} == {(b"old", TIME_MS)}
    stages = ["VALUE_CONVERTER", "VALUE_CONVERTER", "TRANSFORMATION", "TRANSFORMATION"]
    for at, (record, code, stage) in enumerate(zip(records, poison.values(), stages, strict=True)):
        headers = dict(record.headers)
        assert [each for each in record.headers if each in own] == own
        message = headers.pop("__connect.errors.exception.message")
        assert b"many" not in (message or b"")
        assert headers == {
            "__connect.errors.topic": source.encode(),
            "__connect.errors.partition": b"2",
            "__connect.errors.offset": b"%d" % at,
            "__connect.errors.connector.name": b"r",
            "__connect.errors.stage": stage.encode(),
            "__connect.errors.exception.class.name": code.encode(),
            "ingest.route": b"r",
            **dict(own),
            **dict(origin(source, 2, at)),
        }
    none_left = {(source, at): 0 for at in range(4)}
    until(lambda: forwarder.lag() == none_left, f"the lag is {forwarder.lag()}")
    assert counted(forwarder, "kafka_up") == {(): 1}


# Reload.


def test_a_changed_route_takes_effect_and_the_log_says_what_changed(
    kafka: Kafka, start_forwarder: Start
) -> None:
    """Also one that is new and reads another topic; what was forwarded stays as it is."""
    source, more = kafka.create(kafka.new_name(), 1), kafka.create(kafka.new_name(), 1)
    target, other = kafka.create(kafka.new_name(), 1), kafka.create(kafka.new_name(), 1)
    route: dict[str, Any] = {"name": "r", "from": source, "to": target}
    settings = {"dead_letter": {"topic": kafka.new_name("letters")}}
    forwarder = start_forwarder([route], settings)
    produce(kafka, source, numbers(1))
    produce(kafka, more, numbers(1, 7))
    forwarder.wait_for("r", {"acked": 1})
    changed = {**route, "steps": [{"set": {"/by": "new"}}]}
    write_config(forwarder, changed, {"name": "second", "from": more, "to": other})
    line = hang_up(forwarder, "reloaded")
    assert sorted(line["changed"]) == [
        "forward.routes.r.steps: changed",
        "forward.routes.second: added",
    ]
    produce(kafka, source, numbers(1, 1))
    forwarder.wait_for("r", {"acked": 2})
    forwarder.wait_for("second", {"acked": 1})
    assert data(kafka.read(target)) == [{"n": 0}, {"n": 1, "by": "new"}]
    assert data(kafka.read(other)) == [{"n": 7}]
    assert counted(forwarder, "reloads_total", "outcome") == {("ok",): 1}


def test_a_bad_file_keeps_the_routes_and_all_its_errors_are_told(
    kafka: Kafka, start_forwarder: Start
) -> None:
    """Nothing of it is applied, not even the route in it that is fine."""
    source, target = kafka.create(kafka.new_name(), 1), kafka.create(kafka.new_name(), 1)
    unmade = kafka.new_name("unmade")
    route: dict[str, Any] = {"name": "r", "from": source, "to": target}
    settings = {"dead_letter": {"topic": kafka.new_name("letters")}}
    forwarder = start_forwarder([route], settings)
    write_config(
        forwarder,
        {**route, "steps": [{"set": {"/by": "new"}}]},
        {"name": "fine", "from": source, "to": unmade},
        {"name": "bad", "from": source, "to": unmade, "steps": [{"dorp": ["/a"]}], "key": "id"},
    )
    problems = hang_up(forwarder, "reload_failed")["problems"]
    prefix = f"{forwarder.config}: forward.routes[2]."
    assert [each.removeprefix(prefix).partition(":")[0] for each in problems] == [
        "steps[0].dorp",
        "key",
    ]
    assert 'did you mean "drop"?' in problems[0]
    assert forwarder.status()["config"]["last_error"] == problems
    produce(kafka, source, numbers(1))
    forwarder.wait_for("r", {"acked": 1})
    assert data(kafka.read(target)) == [{"n": 0}]
    assert kafka.read(unmade) == []
    assert not forwarder.outcomes("fine")
    assert counted(forwarder, "reloads_total", "outcome")["failed",] == 1
    forwarder.config.write_text("[forward\n")
    assert len(hang_up(forwarder, "reload_failed")["problems"]) == 1


# A route that must not go past a record.


def test_a_route_that_stops_goes_on_from_the_record_once_it_is_mended(
    kafka: Kafka, start_forwarder: Start
) -> None:
    """Only the partition halts, it is told where and why, and nothing is lost or done twice."""
    source, target = kafka.create(kafka.new_name(), 3), kafka.create(kafka.new_name(), 1)
    cast = {"steps": [{"cast": {"/n": "int64"}}]}
    route: dict[str, Any] = {"name": "r", "from": source, "to": target, "on_error": "stop"}
    forwarder = start_forwarder([{**route, **cast}])
    poison = event('{"n":"x"}')
    produce(kafka, source, [Sent(poison), *numbers(2)])
    produce(kafka, source, [*numbers(2, partition=1), Sent(poison, partition=1)])
    produce(kafka, source, [*numbers(1, 2, partition=1), *numbers(2, partition=2)])
    stopped = {
        f"{source}/0": "route r stopped at offset 0: cast_failed",
        f"{source}/1": "route r stopped at offset 2: cast_failed",
    }
    until(lambda: degraded(forwarder) == stopped, "the partitions have not stopped")
    forwarder.wait_for("r", {"acked": 4})
    produce(kafka, source, numbers(2, 2, partition=2))
    forwarder.wait_for("r", {"acked": 6})
    lines = forwarder.process.logged("route_stopped")
    assert sorted((each["partition"], each["offset"]) for each in lines) == [(0, 0), (1, 2)]
    assert {(each["route"], each["topic"], each["code"]) for each in lines} == {
        ("r", source, "cast_failed")
    }
    assert degraded(forwarder) == stopped
    lag = {(source, 0): 3, (source, 1): 2, (source, 2): 0}
    until(lambda: forwarder.lag() == lag, f"the lag is {forwarder.lag()}")

    write_config(forwarder, route)
    assert hang_up(forwarder, "reloaded")["changed"] == ["forward.routes.r.steps: changed"]
    forwarder.wait_for("r", {"acked": 11})
    read = [*((0, at) for at in range(3)), *((1, at) for at in range(4))]
    assert places(kafka.read(target)) == [*read, *((2, at) for at in range(4))]
    until(lambda: degraded(forwarder) == {}, "something is still degraded")
    assert forwarder.outcomes("r") == {"acked": 11}


def test_a_restart_finds_the_record_that_a_route_stopped_at(
    kafka: Kafka, start_forwarder: Start
) -> None:
    """It is never committed; the routes without it are held up with it, and then go on too."""
    source = kafka.create(kafka.new_name(), 1)
    targets = [kafka.create(kafka.new_name(), 1) for _ in range(2)]
    route: dict[str, Any] = {"name": "r", "from": source, "to": targets[0], "on_error": "stop"}
    settings = {"dead_letter": {"topic": kafka.new_name("letters")}}
    other = {"name": "other", "from": source, "to": targets[1], "format": "cloudevents"}
    forwarder = start_forwarder([route, other], settings)
    produce(kafka, source, [*numbers(3), Sent(b"poison"), *numbers(1, 3)])
    until(lambda: len(degraded(forwarder)) == 1, "the partition has not stopped")
    forwarder.wait_for("r", {"acked": 3})
    assert forwarder.stop() == 0
    forwarder.restart()
    text = "route r stopped at offset 3: invalid_json"
    until(lambda: degraded(forwarder) == {f"{source}/0": text}, "it has not stopped again")
    assert forwarder.stop() == 0
    forwarder.routes = [{**route, "on_error": "dead_letter"}, other]
    forwarder.restart()
    forwarder.wait_for("r", {"acked": 1, "rejected": 1})
    forwarder.wait_for("other", {"acked": 2})
    assert places(kafka.read(targets[0])) == [(0, at) for at in (0, 1, 2, 4)]
    assert places(kafka.read(targets[1])) == [(0, at) for at in range(5)]


@pytest.mark.parametrize("on_error", ["dead_letter", "stop"])
def test_what_kafka_refuses_is_a_dead_letter_or_stops_the_route(
    kafka: Kafka, start_forwarder: Start, on_error: str
) -> None:
    """A record that is larger than the target takes, beside others that are not."""
    source, letters = kafka.create(kafka.new_name(), 1), kafka.new_name("letters")
    target = kafka.create(kafka.new_name(), 1, max_message_bytes="2000")
    route: dict[str, Any] = {"name": "r", "from": source, "to": target, "on_error": on_error}
    forwarder = start_forwarder([route], {"dead_letter": {"topic": letters}})
    large = event(json.dumps({"n": "x" * 3000}))
    produce(kafka, source, [*numbers(2), Sent(large), *numbers(1, 2)])
    if on_error == "stop":
        text = "route r stopped at offset 2: event_too_large"
        until(lambda: degraded(forwarder) == {f"{source}/0": text}, "it has not stopped")
        write_config(forwarder, {**route, "steps": [{"truncate": {"/n": 10}}]})
        hang_up(forwarder, "reloaded")
        until(lambda: (0, 2) in places(kafka.read(target)), "it does not go on")
        until(lambda: degraded(forwarder) == {}, "it has stopped again")
        # It was written together with its neighbours, which are there twice now.
        assert {*places(kafka.read(target))} == {(0, at) for at in range(4)}
    else:
        forwarder.wait_for("r", {"acked": 3, "rejected": 1})
        (letter,) = kafka.read(letters)
        assert letter.value == large
        assert dict(letter.headers)["__connect.errors.stage"] == b"KAFKA_PRODUCE"
        assert places(kafka.read(target)) == [(0, 0), (0, 1), (0, 3)]
