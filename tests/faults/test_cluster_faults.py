"""What clients of the gateways see while a cluster changes under load: bounces, moves, losses."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
from typing import TYPE_CHECKING, Any, Self

import pytest
from confluent_kafka import ElectionType, Producer, TopicPartition
from confluent_kafka.admin import NewTopic

from deploy.local.cluster import Wanted, start_maven
from deploy.local.errors import Unavailable
from ingest.receipt import Status
from loadtest.book import Book
from loadtest.gateway import Gateway, wait_until
from loadtest.read_back import read_back
from loadtest.verdict import verdict
from tests.conftest import VERSION, Kafka
from tests.faults.test_broker import post
from tests.faults.test_syslog_outage import Site, feeding
from tests.ingest.test_kafka_producer import producing
from tests.producer_contract import deadline, statuses
from tests.rsyslog import RESEND_FOR_EVER, omrelp

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from deploy.local.cluster import Cluster, Node
    from tests.conftest import Load
    from tests.rsyslog import Rsyslogd
    from tests.syslog_gateway import CheckedGateway

    Start = Callable[..., Gateway]
    StartLoad = Callable[..., Load]
    StartRsyslogd = Callable[..., Rsyslogd]
    StartSyslogGateway = Callable[..., CheckedGateway]

ACK_SECONDS = 10.0
"""Longer than a leader takes to be followed by another one."""
QUICK_ACK_SECONDS = 3.0
SETTLE_SECONDS = 30.0
PARTITIONS = 6
IN_SYNC = {"min.insync.replicas": "2"}
REPLICATED = {
    "topics": {"replication_factor": 3, "partitions": PARTITIONS},
    "topics.config": {f'"{name}"': int(value) for name, value in IN_SYNC.items()},
}
HOUR_MS = 3_600_000


def settings(topic: str, ack_seconds: float = ACK_SECONDS, **more: Any) -> dict[str, Any]:
    """Two workers, and a topic with keys."""
    return {
        "limits": {"ack_seconds": ack_seconds},
        "kafka": {"request_timeout_seconds": 1},
        "http": {"workers": 2},
        "sources.load": {"topic": topic, "key": "/customer_id"},
        **more,
    }


async def wait(holds: Callable[[], bool], otherwise: str) -> None:
    """Wait until ``holds``, asked in another thread; the load goes on."""
    await asyncio.to_thread(wait_until, holds, SETTLE_SECONDS, otherwise)


def complete(kafka: Kafka, topic: str) -> bool:
    """Whether all three brokers have all of every partition."""
    found = kafka.in_sync(topic)
    return len(found) > 0 and all(len(brokers) == 3 for brokers in found.values())


def leaders(kafka: Kafka, topic: str) -> dict[int, int]:
    """Partition -> the broker that leads it, -1 for none."""
    return {number: each.leader for number, each in kafka._partitions(topic).items()}


def preferred(kafka: Kafka, topic: str) -> dict[int, int]:
    """Partition -> the broker that should lead it: the first of its replicas."""
    return {number: each.replicas[0] for number, each in kafka._partitions(topic).items()}


def kill_and_start(node: Node) -> None:
    """End a broker as a crash would, and start it again."""
    node.kill()
    assert not node.running
    node.start()


def started_on(folder: Path) -> Cluster:
    """A broker whose data is there, and was there before: at ports that are new each time."""
    try:
        return start_maven(Wanted(data_dir=folder, kafka_version=VERSION))
    except Unavailable as missing:
        pytest.skip(f"no real Kafka: {missing}")


def restart(node: Node) -> None:
    """End a broker in good order, and start it again."""
    node.restart()


# Three brokers, every record on three, an ack when two have it.


@pytest.mark.parametrize("bounce", [restart, kill_and_start])
async def test_brokers_may_be_bounced_one_after_the_other_under_load(
    three_brokers: Kafka, start_gateway: Start, start_load: StartLoad, bounce: Callable[..., None]
) -> None:
    """No request fails and none is lost, though each broker was away once."""
    topic = three_brokers.new_name()
    gateway = start_gateway(three_brokers.servers, settings(topic, **REPLICATED))
    await wait(lambda: complete(three_brokers, topic), "it is not on three brokers")
    load = start_load(gateway)
    led: set[int] = set()
    for node in three_brokers.nodes:
        await load.answers(200, more=50)
        led |= {node.id} & set(leaders(three_brokers, topic).values())
        pid = node.pid
        await asyncio.to_thread(bounce, node)
        assert node.pid not in {pid, None}
        await wait(lambda: complete(three_brokers, topic), "it is not on three brokers again")
    await load.answers(200, more=50)
    await load.finish()
    assert len(led) >= 2, "no leader was bounced"
    await asyncio.to_thread(gateway.wait_until_at_rest)
    assert max(load.waits) < ACK_SECONDS
    result = await load.verdict(three_brokers.servers, topic)
    assert result.ok, str(result)
    assert result.http.keys() == {200}
    assert result.scattered == result.reordered == 0, str(result)


async def test_leaders_that_move_between_live_brokers_go_unnoticed(
    three_brokers: Kafka, start_gateway: Start, start_load: StartLoad
) -> None:
    """No request fails and nothing is lost when other replicas are elected to lead."""
    topic = three_brokers.new_name()
    gateway = start_gateway(three_brokers.servers, settings(topic, **REPLICATED))
    await wait(lambda: complete(three_brokers, topic), "it is not on three brokers")
    await asyncio.to_thread(three_brokers.nodes[0].restart)  # it leads nothing any more
    await wait(lambda: complete(three_brokers, topic), "it is not on three brokers again")
    load = start_load(gateway)
    await load.answers(200, more=100)
    before, wanted = leaders(three_brokers, topic), preferred(three_brokers, topic)
    assert before != wanted
    partitions = [TopicPartition(topic, number) for number in before]
    election = three_brokers._admin.elect_leaders(ElectionType.PREFERRED, partitions)
    await asyncio.to_thread(election.result, SETTLE_SECONDS)
    await wait(lambda: leaders(three_brokers, topic) == wanted, "no leader has moved")
    await load.answers(200, more=100)
    await load.finish()
    await asyncio.to_thread(gateway.wait_until_at_rest)
    result = await load.verdict(three_brokers.servers, topic)
    assert result.ok, str(result)
    assert result.http.keys() == {200}
    assert result.scattered == result.reordered == 0, str(result)


async def test_with_too_few_brokers_nothing_is_promised_until_there_are_enough(
    three_brokers: Kafka, start_gateway: Start, start_load: StartLoad
) -> None:
    """One of three can neither elect a leader nor ack: every answer is in time, and true."""
    topic = three_brokers.new_name()
    gateway = start_gateway(three_brokers.servers, settings(topic, QUICK_ACK_SECONDS, **REPLICATED))
    await wait(lambda: complete(three_brokers, topic), "it is not on three brokers")
    load = start_load(gateway, connections=8)
    await load.answers(200, more=100)
    victims = three_brokers.nodes[1:]
    try:
        for node in victims:
            await asyncio.to_thread(node.kill)
        good = load.book.http[200]
        await load.answers(503, 504, more=16)
        assert not any(node.running for node in victims)
        assert load.book.http[200] - good <= 8, "somebody was promised something"
    finally:
        await asyncio.gather(*(asyncio.to_thread(node.start) for node in victims))
    await wait(lambda: complete(three_brokers, topic), "it is not on three brokers again")
    await load.answers(200, more=50)
    await load.finish()
    await asyncio.to_thread(gateway.wait_until_at_rest)
    assert max(load.waits) < QUICK_ACK_SECONDS + 1
    result = await load.verdict(three_brokers.servers, topic)
    assert result.ok, str(result)
    assert result.http.keys() <= {200, 503, 504}


@pytest.mark.timeout(180)
def test_a_relp_client_loses_nothing_while_brokers_are_killed_one_after_the_other(
    three_brokers: Kafka, start_syslog_gateway: StartSyslogGateway, start_rsyslogd: StartRsyslogd
) -> None:
    """It waits for its answers: its session is never broken, and nothing is missing."""
    site = Site(three_brokers, start_syslog_gateway, workers=2)
    made = three_brokers._admin.create_topics([NewTopic(site._topic, 4, 3, config=IN_SYNC)])
    Kafka._done(made)
    site.start()
    with start_rsyslogd(omrelp(site.port, RESEND_FOR_EVER)) as client:
        feed = feeding(client)
        for node in three_brokers.nodes:
            site.flows()
            pid = node.pid
            kill_and_start(node)
            assert node.pid not in {pid, None}
            wait_until(
                lambda: complete(three_brokers, site._topic), SETTLE_SECONDS, "not on three again"
            )
        site.flows()
        sent = feed.finish()
        site.require_all(sent)
        log = client.own_log()
    assert "relp" not in log, f"the session was broken: {log}"
    assert site.gateway.restarts() == 0


async def test_what_is_read_back_is_all_there_is_wherever_it_is_led(three_brokers: Kafka) -> None:
    """Else these tests would miss what was never lost."""
    topic = three_brokers.new_name()
    made = three_brokers._admin.create_topics([NewTopic(topic, PARTITIONS, 3, config=IN_SYNC)])
    Kafka._done(made)
    await wait(lambda: complete(three_brokers, topic), "it is not on three brokers")
    producer = Producer({"bootstrap.servers": three_brokers.servers, "log_level": 0})
    for number in range(PARTITIONS):
        producer.produce(topic, b"{}", partition=number)
    assert producer.flush(SETTLE_SECONDS) == 0
    for _ in range(10):
        records = await read_back(three_brokers.servers, topic)
        assert sorted(record.partition for record in records) == list(range(PARTITIONS))


# Topics that change.


async def test_a_topic_that_is_deleted_under_load_is_made_anew(
    own_kafka: Kafka, start_gateway: Start, start_load: StartLoad
) -> None:
    """By ``topics.create``; what is answered from then on is as true as ever."""
    topic = own_kafka.create(own_kafka.new_name(), 3)
    gateway = start_gateway(own_kafka.servers, settings(topic, topics={"partitions": 2}))
    load = start_load(gateway)
    await load.answers(200, more=100)
    await asyncio.to_thread(own_kafka.delete, topic)
    await wait(lambda: len(own_kafka.replicas(topic)) == 2, "it was not made anew")
    older = set(load.book.events)
    await load.answers(200, more=100)
    await load.finish()
    await asyncio.to_thread(gateway.wait_until_at_rest)
    records = await read_back(own_kafka.servers, topic)
    result = verdict(load.book, records)
    assert result.acknowledged_and_missing > 0, "the records of the deleted topic are there"
    result.acknowledged_and_missing = 0
    assert result.ok, str(result)
    assert result.http.keys() <= {200, 503, 504}
    newer = Book()
    newer.events = {id_: sent for id_, sent in load.book.events.items() if id_ not in older}
    result = verdict(newer, [record for record in records if record.id not in older])
    assert result.ok, str(result)


async def test_a_limit_that_is_lowered_under_load_stops_only_what_is_too_large(
    kafka: Kafka, start_gateway: Start, start_load: StartLoad
) -> None:
    """Batches are cut to fit; an event that is too large is rejected until the limit is raised."""
    topic = kafka.create(kafka.new_name(), 2)
    gateway = start_gateway(kafka.servers, settings(topic))
    load = start_load(gateway, batch=200)
    large = json.dumps({"customer_id": "c", "text": secrets.token_hex(20_000)}).encode()
    await load.answers(200, more=20)
    assert (await post(gateway, large))[0] == 200
    await asyncio.to_thread(kafka.configure, topic, "max.message.bytes", "5000")
    await load.answers(200, more=50)
    status, document, _ = await post(gateway, large)
    assert (status, document["results"][0]["code"]) == (422, "event_too_large")
    await asyncio.to_thread(kafka.configure, topic, "max.message.bytes", "1048588")
    async with asyncio.timeout(SETTLE_SECONDS):
        while (await post(gateway, large))[0] != 200:
            await load.answers(200, more=20)
    await load.finish()
    await asyncio.to_thread(gateway.wait_until_at_rest)
    result = await load.verdict(kafka.servers, topic)
    result.never_sent_but_present -= 2  # the large one
    assert result.ok, str(result)
    assert result.http.keys() == {200}
    assert result.duplicated == result.scattered == result.reordered == 0, str(result)


async def test_a_record_that_is_too_old_for_its_topic_is_refused_alone(kafka: Kafka) -> None:
    """It is not tried again, and what is behind it in its partition is written."""
    topic = kafka.create(kafka.new_name(), 1, message_timestamp_before_max_ms=str(HOUR_MS))
    now = time.time_ns() // 1_000_000
    async with producing(kafka.servers, topic) as producer:
        times = (now, now - 2 * HOUR_MS, now)
        receipts = [
            producer.submit(topic, [b"v"], timestamp_ms=each, deadline=deadline(3.0))
            for each in times
        ]
        fates = [statuses(await receipt, 1)[0][0] for receipt in receipts]
    assert fates == [Status.ACKED, Status.REFUSED, Status.ACKED]
    assert [record.timestamp_ms for record in kafka.read(topic)] == [now, now]


# A cluster that moves.


class Forwarder:
    """An address of 127.0.0.1 that stays while what is behind it moves.

    Attributes:
        behind: the port that new connections are forwarded to.
        address: its own, ``host:port``.
        connections: how many it has forwarded so far.
    """

    def __init__(self, behind: int) -> None:
        self.behind = behind
        self.address = ""
        self.connections = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        self.address = f"{host}:{port}"
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Listen no more, and drop what is open."""
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._join(reader, writer))
        self._tasks.add(task)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = [writer]
        try:
            there = await asyncio.open_connection("127.0.0.1", self.behind)
            self.connections += 1
            writers.append(there[1])
            copies = (copy(reader, there[1]), copy(there[0], writer))
            await asyncio.wait(
                [asyncio.ensure_future(each) for each in copies],
                return_when=asyncio.FIRST_COMPLETED,
            )
        except OSError:
            return  # nobody is behind it
        finally:
            for each in writers:
                each.close()


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Write what is read, until its end."""
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


@pytest.mark.real_kafka
async def test_a_cluster_whose_addresses_all_changed_is_found_by_its_bootstrap_address(
    tmp_path: Path, start_gateway: Start, start_load: StartLoad
) -> None:
    """Without a restart of the gateway; answers stay exact and in time meanwhile."""
    first = await asyncio.to_thread(started_on, tmp_path)
    with first:
        topic, old = Kafka.new_name(), first.nodes[0].port
        async with Forwarder(old) as bootstrap:
            gateway = await asyncio.to_thread(
                start_gateway, bootstrap.address, settings(topic, QUICK_ACK_SECONDS)
            )
            workers = [worker["pid"] for worker in gateway.status()["workers"]]
            load = start_load(gateway)
            await load.answers(200, more=100)
            await asyncio.to_thread(first.close)
            await load.answers(503, 504, more=8)
            second = await asyncio.to_thread(started_on, tmp_path)
            with second:
                bootstrap.behind, asked = second.nodes[0].port, bootstrap.connections
                await load.answers(200, more=100)
                assert bootstrap.behind != old
                assert bootstrap.connections > asked
                await load.finish()
                await asyncio.to_thread(gateway.wait_until_at_rest)
                assert max(load.waits) < QUICK_ACK_SECONDS + 1
                result = await load.verdict(second.bootstrap_servers, topic)
                assert result.ok, str(result)
                assert result.http.keys() <= {200, 503, 504}
                assert [worker["pid"] for worker in gateway.status()["workers"]] == workers
