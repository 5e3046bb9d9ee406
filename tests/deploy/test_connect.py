"""A real Kafka Connect as a child process."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import psutil
import pytest
from confluent_kafka import Producer

from deploy.local.connect import Connect, ConnectFailed
from tests.connect_sink import SINK, STRING, FileSink
from tests.deploy.processes import (
    Program,
    clean_environment,
    gone,
    wait_for_the_end_of,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from deploy.local.java import KafkaPrograms
    from tests.conftest import Kafka

STARTER = """
import sys, time
from deploy.local.cluster import KAFKA_VERSION
from deploy.local.connect import Connect
from deploy.local.java import KafkaPrograms
print(Connect(sys.argv[1], KafkaPrograms.find(KAFKA_VERSION)).pid, flush=True)
time.sleep(60)
"""
TEXT = {"": STRING}


@pytest.fixture(scope="module")
def connect(kafka: Kafka, programs: KafkaPrograms) -> Iterator[Connect]:
    """A worker that the tests of this file share."""
    with Connect(kafka.servers, programs) as connect:
        yield connect


@pytest.fixture
def topic(kafka: Kafka) -> str:
    """A topic with one record."""
    topic = kafka.create(kafka.new_name(), 1)
    _write(kafka, topic, "first")
    return topic


def _write(kafka: Kafka, topic: str, value: str) -> None:
    producer = Producer({"bootstrap.servers": kafka.servers, "log_level": 0})
    producer.produce(topic, value)
    assert producer.flush(20) == 0


def test_a_connector_copies_records_into_a_file(
    kafka: Kafka, connect: Connect, topic: str, tmp_path: Path
) -> None:
    """From the first one on, until it is deleted; then Connect knows it no more."""
    sink = FileSink(connect, kafka.servers, topic, tmp_path / "lines.txt", TEXT)
    assert sink.lines(1) == ["first"]
    _write(kafka, topic, "second")
    assert sink.lines(2) == ["first", "second"]
    sink.delete()
    assert connect.status(sink.name) is None


def test_a_connector_can_be_changed(
    kafka: Kafka, connect: Connect, topic: str, tmp_path: Path
) -> None:
    """What is created again by the same name goes on with the new configuration."""
    before, after = tmp_path / "before.txt", tmp_path / "after.txt"
    sink = FileSink(connect, kafka.servers, topic, before, TEXT)
    assert sink.lines(1) == ["first"]
    config = {
        "connector.class": SINK,
        "topics": topic,
        "file": str(after),
        "value.converter": STRING,
    }
    connect.create(sink.name, config)
    wait_until(after.exists)
    _write(kafka, topic, "second")
    wait_until(lambda: after.read_text() == "second\n")
    assert before.read_text() == "first\n"
    sink.delete()


def test_no_connector_has_no_status(kafka: Kafka, connect: Connect) -> None:
    """And cannot be deleted, whatever its name."""
    assert connect.status("no such?") is None
    with pytest.raises(ConnectFailed, match="404"):
        connect.delete("no such?")


def test_a_refused_configuration_is_an_error_with_the_words_of_connect(
    kafka: Kafka, connect: Connect
) -> None:
    """They name what is wrong; waiting would not help."""
    with pytest.raises(ConnectFailed, match=r"Failed to find any class.*NoSuch"):
        connect.create("bad", {"connector.class": "NoSuch", "topics": "any"})
    assert connect.status("bad") is None


def test_a_connector_that_fails_is_an_error_with_its_stack_trace(
    kafka: Kafka, connect: Connect, topic: str, tmp_path: Path
) -> None:
    """Whoever waits for it need not look for its log: "first" is no JSON."""
    config = {"connector.class": SINK, "topics": topic, "file": str(tmp_path / "lines.txt")}
    connect.create(topic, config)

    def has_failed() -> bool:
        status = connect.status(topic)
        return status is not None and [each["state"] for each in status["tasks"]] == ["FAILED"]

    wait_until(has_failed)
    with pytest.raises(ConnectFailed, match="JsonParseException"):
        connect.wait_running(topic)
    connect.delete(topic)


def test_waiting_ends(kafka: Kafka, connect: Connect) -> None:
    """For a connector that nobody has created."""
    with pytest.raises(ConnectFailed, match="nobody does not run"):
        connect.wait_running("nobody", 0.2)


def test_a_stopped_worker_is_gone_with_its_folder(
    kafka: Kafka, programs: KafkaPrograms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless the folder was named: then log and settings stay."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Connect(kafka.servers, programs) as first:
        assert psutil.pid_exists(first.pid)
        assert first.log.is_relative_to(tmp_path)
    assert gone([first.pid])
    assert not list(tmp_path.iterdir())
    with Connect(kafka.servers, programs, tmp_path / "kept") as second:
        pass
    assert second.log == tmp_path / "kept" / "connect.log"
    assert second.log.exists()


def test_a_worker_that_cannot_start_is_an_error_with_the_end_of_its_log(
    kafka: Kafka, programs: KafkaPrograms
) -> None:
    """It says more than the exit status, and comes at once."""
    with pytest.raises(ConnectFailed, match=r"it ended with 2; its log ends:\n(.|\n)*: no-port"):
        Connect("no-port", programs)


def test_a_worker_ends_with_a_process_that_is_killed(
    kafka: Kafka, programs: KafkaPrograms, tmp_path: Path
) -> None:
    """A test run that is killed leaves no worker behind."""
    environment = clean_environment(TMPDIR=str(tmp_path))
    with Program(["-c", STARTER, kafka.servers], environment) as starter:
        pids = [int(starter.line(str.isdigit))]
        assert not gone(pids)
        starter.signal(signal.SIGKILL)
        wait_for_the_end_of(pids)
