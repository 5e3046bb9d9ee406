"""``ingest-spool drain``: everything that was left behind ends in Kafka."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest

from ingest.config import load
from ingest.spool_file import PAGE_BYTES
from ingest_spool import watch
from ingest_spool.config import SpoolConfig
from ingest_spool.drain import drain
from ingest_spool.folders import taken
from ingest_spool.listing import listed
from tests.ingest_spool.conftest import SYSLOG
from tests.spooling import Client, spooled_to

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from loadtest.gateway import Gateway
    from tests.conftest import Kafka
    from tests.ingest_spool.conftest import Done, Left

    Run = Callable[..., Done]
    Start = Callable[..., subprocess.Popen[str]]

SETTLE_SECONDS = 30.0


class Target:
    """The cluster as the configuration has it, with topics of the test's own."""

    def __init__(self, kafka: Kafka) -> None:
        self.kafka = kafka
        self.orders, self.clicks = kafka.new_name("orders"), kafka.new_name("clicks")
        self.letters = kafka.new_name("rejected")

    def configure(self, folder: Path, more: str = "") -> None:
        """Write ``ingest.toml``."""
        (folder / "ingest.toml").write_text(
            f'[spool]\npath = "spool"\n[kafka]\nbootstrap_servers = "{self.kafka.servers}"\n'
            f'[dead_letter]\ntopic = "{self.letters}"\n{more}'
        )

    def values(self, topic: str) -> list[bytes]:
        """What is in a topic, in the order of each partition."""
        return [record.value for record in self.kafka.read(topic)]


@pytest.fixture
def target(kafka: Kafka, left: Left, folder: Path) -> Target:
    """Where everything goes."""
    made = Target(kafka)
    made.configure(folder)
    return made


@pytest.fixture
def nowhere(left: Left, folder: Path) -> Iterator[None]:
    """The configuration names a Kafka that is away."""
    with _deaf() as address:
        (folder / "ingest.toml").write_text(
            f'[spool]\npath = "spool"\n[kafka]\nbootstrap_servers = "{address}"\n'
        )
        yield


@contextmanager
def _deaf() -> Iterator[str]:
    """An address that is taken by somebody who does not listen."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        yield "{}:{}".format(*deaf.getsockname())


def _event(number: int, padding: bytes = b"") -> bytes:
    """A record value as ingest-http seals it."""
    return (
        b'{"specversion":"1.0","source":"/sources/orders","type":"t","time":"2026-01-01T00:00:00Z",'
        b'"id":"%d","data":{"n":%d,"x":"%b"}}' % (number, number, padding)
    )


def _message(raw: bytes) -> bytes:
    """A record value as ingest-syslog seals it."""
    return (
        b'{"specversion":"1.0","source":"/sources/syslog","type":"syslog.message","id":"1",'
        b'"time":"2026-01-01T00:00:00Z","data":{"raw":"%b","parse":"none"}}' % raw
    )


# With Kafka.


def test_everything_goes_to_kafka_oldest_first_and_folders_are_removed(
    target: Target, left: Left, run: Run
) -> None:
    """Of all services, over all their files; topics that are not there are created."""
    orders = [_event(number) for number in range(300)]
    target.kafka.create(target.orders, partitions=1)
    left.file([(target.orders, orders[at : at + 10]) for at in range(0, 200, 10)])
    left.file([(target.orders, orders[200:]), (target.clicks, [_event(1)])], file=2)
    left.file([(target.clicks, [_event(2)])], number=1)
    left.file([(target.clicks, [_message(b"x")])], service=SYSLOG)
    done = run("drain")
    assert (done.returncode, done.stdout) == (0, "303 events are in Kafka\n")
    assert target.values(target.orders) == orders
    assert sorted(target.values(target.clicks)) == sorted([_event(1), _event(2), _message(b"x")])
    assert left.names() == {"ingest-http", "ingest-syslog"}


def test_what_a_real_service_has_left_is_drained_once_it_has_ended(
    target: Target,
    left: Left,
    run: Run,
    start_gateway: Callable[..., Gateway],
) -> None:
    """While it runs its folder is locked; nothing that it promised is missing then."""
    with _deaf() as address:
        settings = {**spooled_to(left.root), "sources.load": {"topic": target.orders}}
        gateway = start_gateway(address, settings, wait=False)
        client = Client(gateway)
        client.post_until(202, count=20)
        client.post_until(202)
        done = run("drain")
        assert (done.returncode, done.stdout) == (1, "")
        assert "ingest-http/0: locked by a process" in done.stderr
        assert gateway.process.stop() == 0
    assert run("drain").returncode == 0
    assert len(client.promised) >= 21
    client.check(target.kafka, target.orders)
    assert left.names() == {"ingest-http"}


def test_timestamps_and_headers_are_those_of_the_receipt(
    target: Target, left: Left, run: Run
) -> None:
    """A record that comes late tells when it was received."""
    before = int(time.time() * 1000)
    left.file([(target.orders, [_event(1)])], age_seconds=3600)
    assert run("drain").returncode == 0
    (record,) = target.kafka.read(target.orders)
    assert before - 3_700_000 < record.timestamp_ms < before - 3_500_000


def test_what_kafka_refuses_becomes_a_dead_letter_with_the_original_bytes(
    target: Target, left: Left, run: Run
) -> None:
    """What they are depends on the service; the records beside them are written."""
    large = os.urandom(4000).hex().encode()
    target.kafka.create(target.orders, max_message_bytes="2000")
    left.file([(target.orders, [_event(1), _event(2, large), _event(3)])])
    left.file([(target.orders, [_message(large)])], service=SYSLOG)
    done = run("drain")
    assert done.returncode == 0
    assert done.stdout == ("2 events are in Kafka, 2 were refused by it and are dead letters\n")
    assert sorted(target.values(target.orders)) == [_event(1), _event(3)]
    letters = {record.value: dict(record.headers) for record in target.kafka.read(target.letters)}
    assert letters.keys() == {b'{"n":2,"x":"%b"}' % large, large}
    for headers in letters.values():
        assert headers["__connect.errors.topic"] == target.orders.encode()
        assert headers["__connect.errors.exception.class.name"] == b"event_too_large"
    assert large.decode() not in done.stderr
    assert left.names() == {"ingest-http", "ingest-syslog"}


def test_what_is_refused_without_dead_letters_is_told_and_status_1(
    target: Target, left: Left, folder: Path, run: Run
) -> None:
    """Nothing is dropped silently."""
    target.configure(folder, 'mode = "off"\n')
    target.kafka.create(target.orders, max_message_bytes="2000")
    left.file([(target.orders, [_event(2, os.urandom(4000).hex().encode())])])
    done = run("drain")
    assert done.returncode == 1
    assert done.stdout == (
        "0 events are in Kafka, 1 were refused by it, and no copy could be kept\n"
    )


def test_a_locked_folder_keeps_its_service_from_being_drained(
    target: Target, left: Left, run: Run, lock: Callable[[Path], None]
) -> None:
    """It is named, and nothing of that service changes; other services are drained."""
    lock(left.file([(target.orders, [_event(1)])], number=0).parent)
    left.file([(target.orders, [_event(2)])], number=1)
    left.file([(target.clicks, [_event(3)])], service=SYSLOG)
    done = run("drain")
    assert (done.returncode, done.stdout) == (1, "1 events are in Kafka\n")
    assert "ingest-http/0: locked by a process: nothing of ingest-http is drained\n" in done.stderr
    assert target.values(target.clicks) == [_event(3)]
    assert target.values(target.orders) == []
    assert left.names() == {
        "ingest-http",
        "ingest-http/0",
        "ingest-http/0/00000001.sqlite",
        "ingest-http/1",
        "ingest-http/1/00000001.sqlite",
        "ingest-syslog",
    }


def test_one_folder_alone_can_be_drained(target: Target, left: Left, run: Run) -> None:
    """The others of its service stay, and so do those of other services."""
    for number in (0, 1, 2):
        left.file([(target.orders, [_event(number)])], number=number)
    left.file([(target.orders, [_event(9)])], service=SYSLOG, number=1)
    assert run("drain", "--service", "ingest-http", "--folder", "1").returncode == 0
    assert target.values(target.orders) == [_event(1)]
    folders = {name for name in left.names() if name.count("/") == 1}
    assert folders == {"ingest-http/0", "ingest-http/2", "ingest-syslog/1"}


def test_damage_is_set_aside_told_and_status_1(
    target: Target, left: Left, run: Run, flip: Callable[[Path, bytes], None]
) -> None:
    """What can be read is drained; the file with the damage in it is kept."""
    path = left.file(
        [
            (target.orders, [_event(1)]),
            (target.orders, [_event(2)] * 2),
            (target.orders, [_event(3)]),
        ]
    )
    with closing(sqlite3.connect(path)) as connection:
        ((payload,),) = connection.execute("SELECT payload FROM batches WHERE id = 2")
    flip(path, payload[20:])
    done = run("drain")
    assert done.returncode == 1
    assert (
        done.stdout == "2 events are in Kafka, 2 could not be read, damaged or missing files: 1\n"
    )
    assert sorted(target.values(target.orders)) == [_event(1), _event(3)]
    assert "ingest-http/0/00000001.sqlite.quarantine" in left.names()
    assert "ingest-http/0/00000001.sqlite" not in left.names()


def test_a_damaged_name_in_the_index_makes_no_topic(target: Target, left: Left, run: Run) -> None:
    """Nothing goes to another topic than its own, and none is created for it."""
    path = left.file([(target.orders, [_event(1)])])
    _damage_index(path, target.orders)
    assert run("list", "--json").stdout.count(target.orders) == 0
    done = run("drain")
    assert (done.returncode, target.values(target.orders)) == (1, [_event(1)])
    assert "1 events are in Kafka" in done.stdout
    assert target.kafka.replicas(target.orders[:-1] + "_") == {}
    assert "ingest-http/0/00000001.sqlite.quarantine" in left.names()


def _damage_index(path: Path, topic: str) -> None:
    """Have another last character of ``topic`` in the index of a small file."""
    with closing(sqlite3.connect(path)) as connection:
        ((page,),) = connection.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'batches_by_topic'"
        )
    content = bytearray(path.read_bytes())
    end = content.index(topic.encode(), (page - 1) * PAGE_BYTES) + len(topic)
    content[end - 1] = ord("_")
    path.write_bytes(content)


def test_a_drain_that_was_killed_is_done_by_the_next_one(
    target: Target, left: Left, folder: Path, start: Start, run: Run
) -> None:
    """Nothing is missing; what had no mark yet is written twice."""
    target.configure(folder, "[topics]\ncreate = false\n")
    target.kafka.create(target.orders)
    orders = [_event(number) for number in range(20_000)]
    left.file([(target.orders, orders[at : at + 100]) for at in range(0, 20_000, 100)])
    left.file([(target.clicks, [_event(7)])], file=2)
    process = start("drain")
    give_up = time.monotonic() + SETTLE_SECONDS
    while not target.kafka.read(target.orders):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < give_up
    process.kill()
    assert process.wait(SETTLE_SECONDS) == -signal.SIGKILL
    assert "ingest-http/0/00000002.sqlite" in left.names()
    target.kafka.create(target.clicks)
    assert run("drain").returncode == 0
    assert set(target.values(target.orders)) == set(orders)
    assert target.values(target.clicks) == [_event(7)]
    assert left.names() == {"ingest-http"}


def test_a_topic_that_cannot_be_used_keeps_no_other_one_waiting(
    target: Target, left: Left, folder: Path
) -> None:
    """What is left is told, by topic, with the reason."""
    target.configure(folder, "[topics]\ncreate = false\n")
    target.kafka.create(target.orders)
    left.file([(target.clicks, [_event(7)] * 3), (target.orders, [_event(1)])])
    told: list[str] = []
    with taken(left.root, None, None) as folders:
        config = load(folder / "ingest.toml", SpoolConfig)
        drained = drain(config, folders, tell=told.append, patience_seconds=3)
    assert drained.why.startswith("Kafka took nothing for 3 seconds")
    assert target.clicks in drained.why
    assert (drained.acked, drained.is_good) == (1, False)
    assert target.values(target.orders) == [_event(1)]
    with taken(left.root, None, None) as folders:
        (waiting,) = map(listed, folders)
    assert {topic: each.events for topic, each in waiting.topics.items()} == {target.clicks: 3}


# Without Kafka.


@pytest.mark.usefixtures("nowhere")
def test_without_kafka_it_ends_in_time_and_tells_what_is_left(left: Left, run: Run) -> None:
    """Everything is still there."""
    left.file([("orders", [_event(1), _event(2)])])
    before = left.names()
    done = run("drain", "--seconds", "1")
    assert (done.returncode, done.stdout) == (1, "0 events are in Kafka\n")
    assert "ended early: 1 seconds are over\n" in done.stderr
    assert "orders        1       2" in done.stderr
    assert left.names() == before


@pytest.mark.usefixtures("nowhere")
def test_it_tells_how_far_it_is_and_gives_up_without_progress(
    left: Left, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has to wait for a Kafka that does not come."""
    monkeypatch.setattr(watch, "PROGRESS_SECONDS", 0.3)
    left.file([("orders", [_event(1), _event(2)])])
    told: list[str] = []
    with taken(left.root, None, None) as folders:
        config = load(folder / "ingest.toml", SpoolConfig)
        drained = drain(config, folders, tell=told.append, patience_seconds=1)
    assert drained.why == "Kafka could not be reached for 1 seconds"
    assert told
    assert set(told) == {"2 events left, 0 events/s, Kafka cannot be reached"}


@pytest.mark.usefixtures("nowhere")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(left: Left, start: Start, number: signal.Signals) -> None:
    """Everything is still there, and told; status 1."""
    left.file([("orders", [_event(1)])])
    before = left.names()
    process = start("drain")
    assert process.stderr is not None
    assert "spool_in_use" in process.stderr.readline()
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=SETTLE_SECONDS)
    assert (process.returncode, stdout) == (1, "0 events are in Kafka\n")
    assert "ended early: interrupted\n" in stderr
    assert "Traceback" not in stderr
    assert left.names() == before


@pytest.mark.usefixtures("nowhere")
def test_where_nothing_waits_kafka_is_not_needed(left: Left, run: Run) -> None:
    """Folders with nothing in them, or only with traces of files, are removed."""
    left.file([])
    (left.folder(number=1) / "00000003.retired").touch()
    left.folder(number=2)
    done = run("drain")
    assert (done.returncode, done.stdout) == (0, "0 events are in Kafka\n")
    assert left.names() == {"ingest-http"}


@pytest.mark.usefixtures("nowhere")
def test_a_file_that_is_none_is_set_aside_and_status_1(left: Left, run: Run) -> None:
    """Nobody knows what was in it, so that it does not pass for drained."""
    (left.folder() / "00000001.sqlite").write_bytes(b"no database" * 1000)
    done = run("drain")
    assert done.returncode == 1
    assert done.stdout == "0 events are in Kafka, damaged or missing files: 1\n"
    assert "ingest-http/0/00000001.sqlite.quarantine" in left.names()


@pytest.mark.usefixtures("nowhere")
def test_what_was_set_aside_earlier_stays(left: Left, run: Run) -> None:
    """It is told of; it can be looked at with SQLite's own tools."""
    (left.folder() / "00000001.sqlite.quarantine").write_bytes(b"x")
    done = run("drain")
    assert done.returncode == 0
    assert "ingest-http/0" in done.stderr
    assert "ingest-http/0/00000001.sqlite.quarantine" in left.names()


@pytest.mark.usefixtures("nowhere")
def test_where_every_service_is_locked_nothing_is_tried(
    left: Left, run: Run, lock: Callable[[Path], None]
) -> None:
    """It ends at once with the reason."""
    lock(left.file([("orders", [_event(1)])]).parent)
    done = run("drain")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "ingest-http/0: locked by a process: nothing of ingest-http is drained\n"
    )
