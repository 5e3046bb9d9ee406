"""What the gateway promises while a broker is dead or frozen, and after."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from loadtest.answers import Exchange, endpoint, head
from loadtest.book import OK, RETRY, UNKNOWN
from loadtest.frozen import ALLOWANCE_BYTES, Memory
from loadtest.gateway import ROOT, Gateway, more_clients, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.conftest import Kafka, Load
    from tests.faults.conftest import Fault

    Start = Callable[..., Gateway]
    StartLoad = Callable[..., Load]

ACK_SECONDS = 3.0
BACK_SECONDS = 5.0
"""How soon the first request must succeed when Kafka is back."""
BUDGET_BYTES = 32_000_000


def settings(topic: str, **more: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Deadlines that are quick to wait for, and a topic with keys."""
    return {
        "limits": {"ack_seconds": ACK_SECONDS},
        "kafka": {"request_timeout_seconds": 1},
        "http": {"workers": 2},
        "sources.load": {"topic": topic, "key": "/customer_id"},
        **more,
    }


async def post(
    gateway: Gateway, body: bytes = b"{}", key: str | None = None
) -> tuple[int, dict[str, Any], float]:
    """Post ``body`` on a connection of its own: status, document, and the seconds it took."""
    loop = asyncio.get_running_loop()
    _, exchange = await loop.create_connection(Exchange, *endpoint(gateway.url))
    begun = loop.time()
    request = (head(gateway.url, key or gateway.key, "load", len(body)), body)
    status, document = await exchange.ask(request, 20)
    exchange.close()
    return status, json.loads(document), loop.time() - begun


async def test_while_kafka_is_away_every_answer_is_exact_and_in_time(
    own_kafka: Kafka, start_gateway: Start, start_load: StartLoad, fault: Fault
) -> None:
    """No request waits longer; what was ``retry`` is not there, what was ``ok`` is; then it works.

    The first request after Kafka is back succeeds within five seconds, without a restart.
    """
    topic = own_kafka.new_name()
    gateway = start_gateway(own_kafka.servers, settings(topic))
    workers = [worker["pid"] for worker in gateway.status()["workers"]]
    load = start_load(gateway, connections=8)
    await load.answers(200, more=100)
    await fault.strikes(own_kafka)
    await load.answers(503, 504, more=16)  # everybody has seen it
    await asyncio.to_thread(wait_until, lambda: not gateway.ready(), 10, "it is still ready")
    assert json.loads(gateway.manage("/readyz")[1])["reasons"] == ["kafka_unreachable"]
    assert gateway.manage("/livez")[0] == 200
    await fault.is_mended(own_kafka)
    status, _, seconds = await post(gateway)
    assert (status, seconds < BACK_SECONDS) == (200, True)
    await asyncio.to_thread(gateway.wait_until_ready, BACK_SECONDS)
    await load.answers(200, more=50)
    await load.finish()
    await asyncio.to_thread(gateway.wait_until_at_rest)
    assert max(load.waits) < ACK_SECONDS + 1
    assert [worker["pid"] for worker in gateway.status()["workers"]] == workers
    result = await load.verdict(own_kafka.servers, topic)
    result.never_sent_but_present -= 1  # the one that was posted here
    assert result.ok, str(result)
    assert result.http.keys() <= {200, 503, 504}, "no connection broke"
    assert min(result.answers[OK], result.answers[RETRY]) > 0
    assert result.answers[UNKNOWN] > 0 or not fault.leaves_unknown
    account = gateway.accounts()["load"]
    assert account["failed"] == result.answers[RETRY] + result.answers[UNKNOWN]
    assert account["acked"] == result.answers[OK] + 1


async def test_dead_letters_share_the_deadline(
    own_kafka: Kafka, start_gateway: Start, fault: Fault
) -> None:
    """A reject that cannot be kept in time is ``retry``: it is not lost without a copy."""
    gateway = start_gateway(own_kafka.servers, settings(own_kafka.new_name()))
    await fault.strikes(own_kafka)
    status, document, seconds = await post(gateway, b"[1,2]")
    assert (status, document["retry"], document["rejected"]) == (503, 2, 0)
    assert [(r["index"], r["status"]) for r in document["results"]] == [(0, "retry"), (1, "retry")]
    assert seconds < ACK_SECONDS + 1
    await fault.is_mended(own_kafka)
    status, document, _ = await post(gateway, b"[1,2]")
    assert (status, document["rejected"]) == (422, 2)


def test_memory_is_bounded_while_kafka_stands_still(own_kafka: Kafka, start_gateway: Start) -> None:
    """No worker needs more than twice its in-flight budget and 150 MB, however much is sent."""
    limits = {"inflight_bytes": BUDGET_BYTES, "ack_seconds": ACK_SECONDS}
    clients, keys = more_clients(8)  # one alone has no more than half of the budget
    sections = settings(own_kafka.new_name(), limits=limits, **clients)
    gateway = start_gateway(own_kafka.servers, sections)
    pids = [worker["pid"] for worker in gateway.status()["workers"]]
    with Memory(gateway.process.pid) as memory, generating(gateway, keys):
        wait_until(lambda: gateway.accounts()["load"]["acked"] > 10_000, 20, "nothing flows")
        own_kafka.node.pause()
        try:
            assert own_kafka.falls_silent()
            full = 2 * 0.8 * BUDGET_BYTES
            wait_until(lambda: gateway.status()["inflight_bytes"] > full, 10, "never full")
            wait_until(lambda: refused_as_overloaded(gateway, keys[0]), 10, "nobody was refused")
            time.sleep(ACK_SECONDS + 1)  # those who were there go, others take their place
            assert not own_kafka.answers()
        finally:
            own_kafka.node.resume()
        wait_until(gateway.ready, 10, "not ready again")
        acked = gateway.accounts()["load"]["acked"]
        wait_until(lambda: gateway.accounts()["load"]["acked"] > acked, 10, "does not serve again")
    limit = 2 * BUDGET_BYTES + ALLOWANCE_BYTES
    assert all(memory.peaks[pid] <= limit for pid in pids), memory.peaks


@contextmanager
def generating(gateway: Gateway, keys: Sequence[str]) -> Iterator[None]:
    """Much more load than the budget has room for, from a process of its own."""
    command = (sys.executable, "-m", "loadtest.generator", "--url", gateway.url)
    options = ("--key", *keys, "--batch", "2000", "--connections", "128", "--seconds", "60")
    with subprocess.Popen((*command, *options), cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.kill()


def refused_as_overloaded(gateway: Gateway, key: str) -> bool:
    """Whether a batch of a megabyte is refused because too much is in flight."""
    body = b"[" + b",".join([b'{"text":"%b"}' % (b"x" * 10_000)] * 100) + b"]"
    status, document, _ = asyncio.run(post(gateway, body, key))
    return (status, document["code"]) == (503, "overloaded")


def follows(kafka: Kafka, topic: str, broker: int) -> bool:
    """Whether ``broker`` has all of partition 0, and another one leads."""
    leader, *others = kafka.in_sync(topic)[0]
    return leader != broker and broker in others


async def test_the_leaders_failure_under_load_loses_nothing(
    three_brokers: Kafka, start_gateway: Start, start_load: StartLoad, fault: Fault
) -> None:
    """With three replicas, two of which must have it, another leads; answers stay in time."""
    topic = three_brokers.new_name()
    replicated = {
        "topics": {"replication_factor": 3, "partitions": 1},
        "topics.config": {'"min.insync.replicas"': 2},
    }
    gateway = start_gateway(three_brokers.servers, settings(topic, **replicated))
    load = start_load(gateway)
    await load.answers(200, more=100)
    number = three_brokers.replicas(topic)[0][0]
    (leader,) = [node for node in three_brokers.nodes if node.id == number]
    try:
        fault.strike(leader)
        await asyncio.to_thread(
            wait_until, lambda: three_brokers.replicas(topic)[0][0] != number, 20, "it still leads"
        )
        await load.answers(200, more=50)
        await load.finish()
        assert three_brokers.replicas(topic)[0][0] != number
    finally:
        await asyncio.to_thread(fault.mend, leader)
    # One that was frozen takes itself for the leader, and tells old ends, until it follows again.
    await asyncio.to_thread(
        wait_until, lambda: follows(three_brokers, topic, number), 20, "it leads"
    )
    await asyncio.to_thread(gateway.wait_until_at_rest)
    assert max(load.waits) < ACK_SECONDS + 1
    result = await load.verdict(three_brokers.servers, topic)
    assert result.ok, str(result)
