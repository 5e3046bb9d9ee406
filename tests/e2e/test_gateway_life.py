"""How the real service begins and ends: signals, deaths, and what clients see of them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Self

import pytest

from loadtest.answers import Exchange, endpoint, head
from loadtest.gateway import Gateway, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Kafka, Load

    Start = Callable[..., Gateway]
    StartLoad = Callable[..., Load]

ACK_SECONDS = 3.0
QUICK = {
    "limits": {"ack_seconds": ACK_SECONDS},
    "kafka": {"request_timeout_seconds": 1},
}
EVENT = b'[{"a":1},{"a":2}]'


class Accounts:
    """Looks at a gateway's accounts all the time, because an ended one cannot be asked."""

    def __init__(self, gateway: Gateway) -> None:
        self.last: dict[str, Counter[str]] = {}
        self._gateway = gateway
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End, with the gateway."""
        self._thread.join(10)

    def _watch(self) -> None:
        while self._gateway.process.running:
            try:
                self.last = self._gateway.accounts()
            except OSError:
                return


async def post(gateway: Gateway, body: bytes = EVENT, **headers: str) -> tuple[int, dict[str, Any]]:
    """Post ``body`` on a connection of its own; status and document of the answer."""
    _, exchange = await asyncio.get_running_loop().create_connection(
        Exchange, *endpoint(gateway.url)
    )
    key = headers.get("key", gateway.key)
    request = (head(gateway.url, key, "load", len(body)), body)
    status, document = await exchange.ask(request, 20)
    exchange.close()
    return status, json.loads(document)


def ended(gateway: Gateway, seconds: float) -> tuple[int, float]:
    """Wait for its end: exit status, and the seconds it took."""
    begun = time.monotonic()
    return gateway.process.wait(seconds), time.monotonic() - begun


# The end in good order.


@pytest.mark.parametrize("ask", ["SIGTERM", "POST /drain"])
async def test_an_end_under_load_loses_nothing(
    kafka: Kafka, start_gateway: Start, start_load: StartLoad, ask: str
) -> None:
    """Every request on the way is answered, every acknowledged event is there, exit status 0."""
    topic = kafka.new_name()
    settings = {"http": {"workers": 2}, "sources.load": {"topic": topic, "key": "/customer_id"}}
    gateway = start_gateway(kafka.servers, settings)
    load = start_load(gateway, connections=8)
    with Accounts(gateway) as accounts:
        await load.answers(200, more=200)
        _, writer = await asyncio.open_connection(*endpoint(gateway.url))  # is waited for a second
        answered = load.book.http[200]
        if ask == "POST /drain":
            assert gateway.manage("/drain", "POST")[0] == 202
        else:
            os.kill(gateway.process.pid, signal.Signals[ask])
        status, seconds = await asyncio.to_thread(ended, gateway, 20)
        writer.close()
    await load.cut_off()
    result = await load.verdict(kafka.servers, topic)
    assert result.ok, str(result)
    assert result.http.keys() == {200}, "nobody was cut off or refused"
    assert result.http[200] > answered, "there was load when it was told to end"
    assert (status, seconds < 5) == (0, True)
    acked = result.acknowledged
    assert accounts.last == {"load": Counter(received=acked, acked=acked)}


async def test_no_connection_that_was_made_is_reset(kafka: Kafka, start_gateway: Start) -> None:
    """Whoever waits to be accepted when the listener is about to close gets an answer."""
    gateway = start_gateway(kafka.servers, {"service": {"prestop_seconds": 1}})
    (worker,) = [each["pid"] for each in gateway.status()["workers"]]
    gateway.process.terminate()
    async with asyncio.timeout(0.8):
        while b"\r\nConnection: close\r\n" not in await raw_post(gateway):
            pass
    os.kill(worker, signal.SIGSTOP)  # it has the order to end, and accepts nobody now
    streams = [await asyncio.open_connection(*endpoint(gateway.url)) for _ in range(100)]
    await asyncio.sleep(1)  # when it goes on, the time to close its listener has come
    os.kill(worker, signal.SIGCONT)
    for _, writer in streams:
        writer.write(request_to(gateway))
    answers = [await asyncio.wait_for(reader.read(), 10) for reader, _ in streams]
    for _, writer in streams:
        writer.close()
    assert {answer[:13] for answer in answers} == {b"HTTP/1.1 200 "}
    assert (await asyncio.to_thread(ended, gateway, 20))[0] == 0


def request_to(gateway: Gateway) -> bytes:
    """A whole request."""
    return head(gateway.url, gateway.key, "load", len(EVENT)) + EVENT


async def raw_post(gateway: Gateway) -> bytes:
    """The beginning of an answer as it comes over the wire."""
    reader, writer = await asyncio.open_connection(*endpoint(gateway.url))
    writer.write(request_to(gateway))
    answer = await asyncio.wait_for(reader.read(65_536), 10)
    writer.close()
    return answer


async def test_a_request_that_had_begun_is_finished(kafka: Kafka, start_gateway: Start) -> None:
    """Its body comes after the signal, on a connection from before; the answer ends it."""
    gateway = start_gateway(kafka.servers)
    streams = [await asyncio.open_connection(*endpoint(gateway.url)) for _ in range(10)]
    for _, writer in streams:
        writer.write(head(gateway.url, gateway.key, "load", len(EVENT)) + EVENT[:3])
        await writer.drain()
    await asyncio.to_thread(wait_until, lambda: connections(gateway) == 10, 5, "not connected")
    gateway.process.terminate()
    await asyncio.to_thread(wait_until, lambda: refuses(gateway), 5, "the listener stays")
    for _, writer in streams:
        writer.write(EVENT[3:])
    answers = [await asyncio.wait_for(reader.read(), 10) for reader, _ in streams]
    for answer, (_, writer) in zip(answers, streams, strict=True):
        writer.close()
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"\r\nConnection: close\r\n" in answer
        assert b'"accepted":2,' in answer
    assert (await asyncio.to_thread(ended, gateway, 20))[0] == 0


def connections(gateway: Gateway) -> int:
    """How many connections are open."""
    return gateway.status()["connections"].get("http", 0)


def refuses(gateway: Gateway) -> bool:
    """Whether nobody listens any more."""
    with socket.socket() as probe:
        probe.settimeout(0.1)
        return probe.connect_ex(endpoint(gateway.url)) != 0


async def test_before_it_ends_it_serves_for_a_while_and_says_it_is_not_ready(
    kafka: Kafka, start_gateway: Start
) -> None:
    """Balancers have the time to notice; answers ask clients to connect to somebody else."""
    gateway = start_gateway(kafka.servers, {"service": {"prestop_seconds": 1.5}})
    gateway.process.terminate()
    await asyncio.to_thread(wait_until, lambda: gateway.status()["draining"], 5, "not draining")
    status, body = gateway.manage("/readyz")
    assert (status, json.loads(body)["reasons"]) == (503, ["draining"])
    answer = await raw_post(gateway)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"\r\nConnection: close\r\n" in answer
    assert (await asyncio.to_thread(ended, gateway, 20))[0] == 0


async def test_a_second_signal_ends_it_at_once(kafka: Kafka, start_gateway: Start) -> None:
    """With exit status 1, however long the first one would have taken."""
    gateway = start_gateway(kafka.servers, {"service": {"prestop_seconds": 60}})
    gateway.good_end = 1
    workers = [worker["pid"] for worker in gateway.status()["workers"]]
    gateway.process.terminate()
    await asyncio.to_thread(wait_until, lambda: gateway.status()["draining"], 5, "not draining")
    gateway.process.terminate()
    status, seconds = await asyncio.to_thread(ended, gateway, 20)
    assert (status, seconds < 2) == (1, True)
    assert [line["signal"] for line in gateway.process.logged("second_signal")] == ["SIGTERM"]
    assert not any(map(alive, workers))


def alive(pid: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_an_end_while_kafka_is_away_answers_everybody(
    own_kafka: Kafka, start_gateway: Start
) -> None:
    """Whoever waits gets an exact answer within the deadline; then it ends, with status 0."""
    gateway = start_gateway(own_kafka.servers, QUICK)
    own_kafka.node.kill()
    assert own_kafka.falls_silent()
    with Accounts(gateway) as accounts:
        waiting = [asyncio.create_task(post(gateway)) for _ in range(20)]
        await asyncio.to_thread(wait_until, lambda: connections(gateway) == 20, 2, "not there")
        gateway.process.terminate()
        status, seconds = await asyncio.to_thread(ended, gateway, 20)
    for answer, document in [await each for each in waiting]:
        assert (answer, document["retry"]) == (503, 2)
        assert [each["status"] for each in document["results"]] == ["retry", "retry"]
    assert (status, seconds < ACK_SECONDS + 3) == (0, True)
    assert accounts.last == {"load": Counter(received=40, failed=40)}


# Deaths.


@pytest.mark.parametrize("workers", [1, 2])
async def test_the_death_of_a_worker_under_load_loses_nothing(
    kafka: Kafka, start_gateway: Start, start_load: StartLoad, workers: int
) -> None:
    """It is back within two seconds; what it had acknowledged is there; the books add up."""
    topic = kafka.new_name()
    settings = {"http": {"workers": workers}, "sources.load": {"topic": topic}}
    gateway = start_gateway(kafka.servers, settings)
    load = start_load(gateway, connections=8)
    await load.answers(200, more=200)
    victim = gateway.status()["workers"][0]["pid"]
    os.kill(victim, signal.SIGKILL)
    await asyncio.to_thread(wait_until, lambda: is_back(gateway, victim), 2, "not back")
    await load.answers(200, more=200)
    await load.finish()
    await asyncio.to_thread(gateway.wait_until_at_rest)
    result = await load.verdict(kafka.servers, topic)
    assert result.ok, str(result)
    assert result.http[0] > 0, "it was busy when it was killed"
    account = gateway.accounts()["load"]
    assert account["acked"] >= result.acknowledged
    (death,) = gateway.process.logged("worker_died")
    assert (death["pid"], death["events_lost"]) == (victim, account["failed"])
    restarts = [each.value for each in gateway.samples() if "restarts_total" in each.name]
    assert restarts == [1]


def is_back(gateway: Gateway, victim: int) -> bool:
    """Whether the successor of ``victim`` serves."""
    worker = gateway.status()["workers"][0]
    return worker.get("pid") not in {None, victim} and not worker["reasons"]


async def test_workers_do_not_outlive_their_parent(kafka: Kafka, start_gateway: Start) -> None:
    """Nobody could stop them any more; requests that are there are answered before."""
    gateway = start_gateway(kafka.servers, {"http": {"workers": 2}})
    gateway.good_end = -signal.SIGKILL
    pids = [worker["pid"] for worker in gateway.status()["workers"]]
    gateway.process.kill()
    await asyncio.to_thread(wait_until, lambda: not any(map(alive, pids)), 10, "orphans")


# The beginning.


async def test_started_before_kafka_it_serves_once_kafka_is_there(
    own_kafka: Kafka, start_gateway: Start
) -> None:
    """Until then it says it is not ready and why, and answers 503 in time."""
    own_kafka.node.kill()
    topic = own_kafka.new_name()
    gateway = start_gateway(
        own_kafka.servers, {**QUICK, "sources.load": {"topic": topic}}, wait=False
    )
    assert (await post(gateway, key="wrong"))[0] == 401  # from here on somebody serves
    begun = time.monotonic()
    status, document = await post(gateway)
    assert time.monotonic() - begun < ACK_SECONDS + 1
    assert (status, document["code"], document["retry"]) == (503, "kafka_unavailable", 2)
    ready, body = gateway.manage("/readyz")
    assert (ready, json.loads(body)["reasons"]) == (503, ["kafka_unreachable"])
    assert gateway.manage("/livez")[0] == 200
    assert gateway.status()["kafka"] == {"up": False}
    await asyncio.to_thread(own_kafka.node.start)
    begun = time.monotonic()
    status, _ = await post(gateway)
    assert (status, time.monotonic() - begun < 5) == (200, True)
    await asyncio.to_thread(gateway.wait_until_ready, 5)
    assert len(own_kafka.read(topic)) == 2, "what was answered retry is not there"


async def test_a_gateway_without_authentication_warns_loudly(
    kafka: Kafka, start_gateway: Start
) -> None:
    """Anybody may write; a wrong key is refused all the same."""
    gateway = start_gateway(kafka.servers, {"auth": {"required": False}})
    (warning,) = gateway.process.logged("authentication_is_off")
    assert warning["level"] == "warning"
    assert "auth.required" in warning["advice"]
    assert (await post(gateway, key="wrong"))[0] == 401


def test_topics_with_one_replica_are_warned_of(kafka: Kafka, start_gateway: Start) -> None:
    """Each once, by name: what is acknowledged there can be lost with one disk."""
    topics = {kafka.new_name(), kafka.new_name("letters")}
    source, letters = sorted(topics)
    gateway = start_gateway(
        kafka.servers,
        {
            "topics": {"replication_factor": 1},
            "sources.load": {"topic": source},
            "dead_letter": {"topic": letters},
        },
    )
    wait_until(lambda: len(gateway.process.logged("topic_not_replicated")) == 2, 5, "no warning")
    warnings = gateway.process.logged("topic_not_replicated")
    assert {line["topic"] for line in warnings} == topics
    assert {line["level"] for line in warnings} == {"warning"}
