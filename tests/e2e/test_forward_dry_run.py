"""What ``--dry-run`` says of real records, and that it leaves no trace in Kafka."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from ingest import toml
from loadtest.gateway import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.conftest import Kafka

    DryRun = Callable[..., list[str]]

TIME_MS = int(time.time() * 1000) - 60_000
"""Of all records: not so old that Kafka might delete them."""
TRACER = ("ingest.tracer", b"t")


def event(data: str, kind: str = "order.created") -> bytes:
    """A record value as the gateway writes it."""
    head = f'{{"specversion":"1.0","source":"/sources/orders","id":"1","type":"{kind}"'
    return f'{head},"data":{data}}}'.encode()


def produce(kafka: Kafka, topic: str, *records: tuple[bytes, int, Sequence[Any]]) -> None:
    """Write (value, partition, headers), each a millisecond after the one before."""
    producer = Producer({"bootstrap.servers": kafka.servers, "log_level": 0})
    for at, (value, partition, headers) in enumerate(records):
        producer.produce(topic, value, b"k", partition, headers=[*headers], timestamp=TIME_MS + at)
    assert producer.flush(20) == 0


@pytest.fixture
def dry_run(kafka: Kafka, tmp_path: Path) -> DryRun:
    """Runs the command over the newest records; the lines that it prints."""

    def run(count: int, routes: Sequence[dict[str, Any]], group: str, letters: str) -> list[str]:
        config = tmp_path / "ingest.toml"
        sections = {
            "kafka": {"bootstrap_servers": kafka.servers},
            "dead_letter": {"topic": letters},
            "forward": {"group": group, "routes": [*routes]},
        }
        config.write_text(toml.dumps(sections))
        command = ("-m", "ingest_forward", "--config", str(config), "--dry-run", str(count))
        options: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 60}
        done = subprocess.run([sys.executable, *command], cwd=ROOT, check=False, **options)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.splitlines()

    return run


def test_it_says_what_would_become_of_the_newest_records(kafka: Kafka, dry_run: DryRun) -> None:
    """By route, with the place and the code of each reject; topics that are missing are named."""
    source, missing = kafka.create(kafka.new_name("a"), 2), kafka.new_name("missing")
    group, letters = kafka.new_name("group"), kafka.new_name("letters")
    targets = [kafka.new_name("target") for _ in range(2)]
    routes = [
        {
            "name": "cast",
            "from": [source, missing],
            "where": {"type": "order.created"},
            "steps": [{"cast": {"/n": "int64"}}],
            "to": targets[0],
        },
        {"name": "idle", "from": missing, "to": targets[1]},
    ]
    produce(
        kafka,
        source,
        (event('{"n":"old and wrong"}'), 0, ()),
        (event('{"n":1}'), 0, ()),
        (event('{"n":2}', "other"), 1, ()),
        (event('{"n":"x"}'), 1, ()),
        (event('{"n":3}'), 0, [TRACER]),
        (b"no json", 0, ()),
    )
    assert dry_run(5, routes, group, letters) == [
        f"{missing}: there is no such topic",
        f"{source}: the newest 5 records",
        "route cast: 1 forwarded, 2 rejected, 1 skipped, 1 excluded",
        f"  {source}/0 offset 3: invalid_json (the value is no JSON (UTF-8, RFC 8259))",
        f"  {source}/1 offset 1: cast_failed (/n: is no int64)",
        "route idle: no records",
    ]
    assert kafka.read(source)[0].offset == 0
    for topic in (*targets, letters, missing):
        assert kafka.replicas(topic) == {}
    admin = AdminClient({"bootstrap.servers": kafka.servers, "log_level": 0})
    groups = {each.group_id for each in admin.list_consumer_groups().result(20).valid}
    assert group not in groups
    assert not any(each.startswith("dry-run-") for each in groups)


def test_only_the_first_of_many_rejects_are_shown(kafka: Kafka, dry_run: DryRun) -> None:
    """The others are counted, by their codes."""
    source = kafka.create(kafka.new_name("b"), 1)
    route = {"name": "r", "from": source, "to": kafka.new_name("target")}
    produce(kafka, source, *[(b"{}", 0, ())] * 7, *[(b"{", 0, ())] * 2, (event("{}"), 0, ()))
    lines = dry_run(1000, [route], kafka.new_name("group"), kafka.new_name("letters"))
    assert lines[:2] == [f"{source}: the newest 10 records", "route r: 1 forwarded, 9 rejected"]
    shown = [f"  {source}/0 offset {at}: not_cloudevents " for at in range(5)]
    assert [line.partition("(")[0] for line in lines[2:-1]] == shown
    assert lines[-1] == "  and 4 more: 7 not_cloudevents, 2 invalid_json in all"


def test_a_topic_without_records_has_none_to_tell_of(kafka: Kafka, dry_run: DryRun) -> None:
    """It does not wait for any."""
    source = kafka.create(kafka.new_name("c"), 2)
    route = {"name": "r", "from": source, "to": kafka.new_name("target")}
    lines = dry_run(10, [route], kafka.new_name("group"), kafka.new_name("letters"))
    assert lines == [f"{source}: the newest 0 records", "route r: no records"]
