"""The forwarder as the load tools start it."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

from confluent_kafka import Producer

from loadtest.forwarder import Forwarder
from loadtest.gateway import wait_until
from tests.deploy.processes import gone

if TYPE_CHECKING:
    from tests.conftest import Kafka

ROUTE = {
    "name": "orders-to-warehouse",
    "from": ["orders", "web-*"],
    "where": {"any": [{"type": "order.created"}, {"field": "/to~1tal", "above": 0}]},
    "steps": [{"rename": {"/customer_id": "/customer"}}, {"drop": ["/secret"]}],
    "to": "warehouse.orders",
    "format": "connect-envelope",
    "schema": {"customer": "string", "note": {"type": "string", "optional": True}},
    "examples": [{"in": '{"data":"Grüße\\n"}', "reject": "not_cloudevents"}],
}


def test_routes_and_sections_end_up_in_the_file() -> None:
    """Also the tables in their tables; what is given differs from what is usual."""
    settings = {"forward": {"group": "mine"}, "dead_letter": {"topic": "letters"}}
    forwarder = Forwarder("127.0.0.1:1", [ROUTE], settings)
    found = tomllib.loads(forwarder.configuration())
    assert found["forward"] == {"group": "mine", "workers": 1, "routes": [ROUTE]}
    assert found["dead_letter"] == {"topic": "letters"}
    assert found["kafka"]["bootstrap_servers"] == "127.0.0.1:1"
    assert forwarder.group == "mine"


def test_each_forwarder_has_a_group_of_its_own() -> None:
    """Unless one is named: two of a group would share what there is to do."""
    first, second = (Forwarder("127.0.0.1:1", [ROUTE]) for _ in range(2))
    assert first.group != second.group


def test_a_forwarder_can_be_killed_started_again_and_stopped(kafka: Kafka) -> None:
    """It goes on in its group where it was; SIGTERM is answered by a good end."""
    source, target = (kafka.create(kafka.new_name(), 1) for _ in range(2))
    route = {"name": "all", "from": [source], "to": target, "format": "cloudevents"}
    settings = {"dead_letter": {"topic": kafka.new_name("letters")}}
    with Forwarder(kafka.servers, [route], settings) as forwarder:
        _write(kafka, source, "first")
        forwarder.wait_for("all", {"acked": 1})
        wait_until(lambda: forwarder.lag() == {(source, 0): 0}, 20, "there is a lag")
        processes = [forwarder.process.pid, *_workers(forwarder)]
        forwarder.kill()
        assert gone(processes)
        _write(kafka, source, "second")
        forwarder.restart()
        wait_until(lambda: b"second" in _values(kafka, target), 20, "the second does not come")
        assert forwarder.status()["ready"]
        assert forwarder.stop() == 0
    assert set(_values(kafka, target)) == {b"first", b"second"}


def _workers(forwarder: Forwarder) -> list[int]:
    return [worker["pid"] for worker in forwarder.status()["workers"]]


def _values(kafka: Kafka, topic: str) -> list[bytes]:
    return [record.value for record in kafka.read(topic)]


def _write(kafka: Kafka, topic: str, value: str) -> None:
    producer = Producer({"bootstrap.servers": kafka.servers, "log_level": 0})
    producer.produce(topic, value)
    assert producer.flush(20) == 0
