"""What a service with a spool promises while Kafka is away, and keeps when it is back."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest
from confluent_kafka.admin import AclOperation

from loadtest.gateway import wait_until
from loadtest.syslog_gateway import SOURCE
from tests.rsyslog import RESEND_FOR_EVER, omrelp
from tests.spooling import (
    ACK_SECONDS,
    LEAST_BYTES,
    Client,
    Sections,
    gauges,
    replayed,
    spooled_to,
    wait_until_drained,
    wait_until_used,
    waiting,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from loadtest.gateway import Gateway
    from tests.conftest import Kafka, Load
    from tests.faults.conftest import Fault
    from tests.rsyslog import Feed, Rsyslogd
    from tests.syslog_gateway import CheckedGateway

    Start = Callable[..., Gateway]
    StartSyslog = Callable[..., CheckedGateway]
    StartRsyslogd = Callable[..., Rsyslogd]
    StartLoad = Callable[..., Load]

NOTICED_SECONDS = 1.0
"""An answer takes no longer once it is known that Kafka is away."""
SETTLE_SECONDS = 20.0
PER_SECOND = 200.0
HEAD = b"<134>1 2026-11-23T12:00:00Z shop.example.com billing 77 - - "
LETTERS = "ingest.rejected"
HOUR_SECONDS = 3600


def settings(topic: str, path: Path, workers: int = 1, **more: object) -> Sections:
    """An HTTP gateway with a spool in ``path``, and a topic with keys."""
    return {
        **spooled_to(path),
        "http": {"workers": workers},
        "sources.load": {"topic": topic, "key": "/customer_id"},
        **more,  # type: ignore[dict-item]
    }


async def until(holds: Callable[[], bool], otherwise: str, seconds: float = SETTLE_SECONDS) -> None:
    """Wait in a thread; see `wait_until`."""
    await asyncio.to_thread(wait_until, holds, seconds, otherwise)


def is_away(kafka: Kafka) -> None:
    """End the only broker as a crash would, and see that it has ended."""
    kafka.node.kill()
    assert kafka.falls_silent(), "Kafka still answers"


def is_back(kafka: Kafka) -> None:
    """Start it again."""
    kafka.node.start()
    wait_until(kafka.answers, SETTLE_SECONDS, "Kafka does not answer")


def worker_pids(gateway: Gateway) -> list[int]:
    """The processes that do the work."""
    return [worker["pid"] for worker in gateway.status()["workers"] if worker.get("pid")]


def kill_all(gateway: Gateway) -> None:
    """End every process of a gateway by SIGKILL."""
    workers = worker_pids(gateway)
    gateway.good_end = -signal.SIGKILL
    gateway.process.kill()
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not any(map(is_alive, workers)), SETTLE_SECONDS, "a worker lives")


def is_alive(pid: int) -> bool:
    """Whether there is such a process, and it has not ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return text.rpartition(")")[2].split()[0] != "Z"


# HTTP.


def workers_up(gateway: Gateway) -> list[bool]:
    """Whether each worker says that it reaches Kafka."""
    return [worker["kafka_up"] for worker in gateway.status()["workers"]]


def waits_in_spool(gateway: Gateway) -> bool:
    """Whether the metrics say that something is in the spool."""
    seen = gauges(gateway)
    return any(seen[f"ingest_spool_{each}"] for each in ("events", "oldest_seconds"))


async def test_clients_see_nothing_of_an_outage_but_202(
    own_kafka: Kafka, start_gateway: Start, start_load: StartLoad, fault: Fault, tmp_path: Path
) -> None:
    """No error, nobody waits for long, nothing is missing in the end, and it is said what is wrong.

    When Kafka is back, it has everything, also what comes in from then on.
    """
    topic = own_kafka.new_name()
    gateway = start_gateway(own_kafka.servers, settings(topic, tmp_path, workers=2))
    load = start_load(gateway, connections=8)
    await load.answers(200, more=100)
    await fault.strikes(own_kafka)
    await load.answers(202, more=50)
    await until(lambda: not any(workers_up(gateway)), "a worker says that Kafka is up")
    noticed = time.monotonic()
    await load.answers(202, more=200)
    await until(lambda: "kafka" in gateway.status()["degraded"], "all is well, it says")
    assert gateway.manage("/readyz")[0] == 200
    await until(lambda: waiting(gateway).keys() == {topic}, "nothing is spooled, it says")
    seen = gauges(gateway)
    assert min(seen[f"ingest_spool_{each}"] for each in ("bytes", "events", "oldest_seconds")) > 0
    assert max(load.waits_since(noticed)) < NOTICED_SECONDS
    await fault.is_mended(own_kafka)
    await load.answers(200, more=100)
    await load.finish()
    await asyncio.to_thread(wait_until_drained, gateway)
    await until(lambda: gateway.status()["degraded"] == {}, "something is wrong, it says")
    assert gateway.ready()
    await until(lambda: not waits_in_spool(gateway), "something waits, it says")
    assert max(load.waits) < ACK_SECONDS + NOTICED_SECONDS
    result = await load.verdict(own_kafka.servers, topic)
    assert result.ok, str(result)
    assert result.http.keys() == {200, 202}
    assert result.lost == 0
    account = gateway.accounts()["load"]
    assert account["spooled"] == replayed(gateway, topic).total() == result.answers["spooled"]
    assert account["acked"] == result.answers["ok"]


def test_a_spool_that_is_used_up_refuses_and_keeps_what_it_has(
    own_kafka: Kafka, start_gateway: Start, tmp_path: Path
) -> None:
    """202 until it is full, then 503 and not ready; when Kafka is back, all that was promised is.

    And there is room again for the next outage.
    """
    topic = own_kafka.new_name()
    sections = settings(topic, tmp_path) | {
        "spool": spooled_to(tmp_path, max_bytes=LEAST_BYTES)["spool"]
    }
    gateway = start_gateway(own_kafka.servers, sections)
    client = Client(gateway)
    assert client.post().status == 200
    is_away(own_kafka)
    client.post_until(202)
    client.post_until(503, size=500_000)
    stored = sum(each.stat().st_size for each in tmp_path.rglob("*") if each.is_file())
    assert 0.8 * LEAST_BYTES < stored < 1.2 * LEAST_BYTES
    wait_until(lambda: not gateway.ready(), SETTLE_SECONDS, "it is still ready")
    assert gateway.status()["reasons"] == ["kafka_unreachable", "spool_full"]
    assert gateway.process.logged("spool_full")
    assert client.post(size=500_000).status == 503
    is_back(own_kafka)
    client.post_until(200)
    gateway.wait_until_ready()
    wait_until_drained(gateway)
    client.check(own_kafka, topic)
    is_away(own_kafka)
    client.post_until(202, size=500_000)
    is_back(own_kafka)
    wait_until_used(gateway, topic)
    wait_until_drained(gateway)
    client.check(own_kafka, topic)
    assert client.statuses.keys() == {200, 202, 503}


def test_dead_letters_go_to_the_spool_too(
    own_kafka: Kafka, start_gateway: Start, tmp_path: Path
) -> None:
    """422 where no event was usable, 202 where one was; the dead letter topic has both later."""
    topic = own_kafka.new_name()
    gateway = start_gateway(own_kafka.servers, settings(topic, tmp_path))
    client = Client(gateway)
    is_away(own_kafka)
    client.post_until(202)
    status, document, _ = client.send(b"[1,2]")
    assert (status, document["rejected"], document["accepted"]) == (422, 2, 0)
    assert not any(each.get("kept") is False for each in document["results"])
    status, document, _ = client.send(b'[{"id":"mixed"},3]')
    assert (status, document["rejected"], document["spooled"]) == (202, 1, 1)
    wait_until_used(gateway, topic, LETTERS)
    is_back(own_kafka)
    wait_until_drained(gateway)
    letters = own_kafka.read(LETTERS)
    assert {record.value for record in letters} == {b"1", b"2", b"3"}
    headers = [dict(record.headers) for record in letters]
    assert {each["__connect.errors.topic"] for each in headers} == {topic.encode()}
    client.promised.add("mixed")
    client.check(own_kafka, topic)
    assert gateway.accounts()["load"]["rejected"] == 3


# Topics.


def test_what_kafka_refuses_of_the_spool_is_a_dead_letter_and_blocks_nothing(
    own_kafka: Kafka, start_gateway: Start, tmp_path: Path
) -> None:
    """A record that is too large by now, and one without the key that is needed by now."""
    sizes, keys = (
        own_kafka.create(own_kafka.new_name("s")),
        own_kafka.create(own_kafka.new_name("k")),
    )
    sections = settings(sizes, tmp_path) | {"sources.keyed": {"topic": keys, "key": "/id"}}
    gateway = start_gateway(own_kafka.servers, sections)
    is_away(own_kafka)
    client, keyed = Client(gateway), Client(gateway, "keyed")
    client.post_until(202)
    large = client.post(size=200_000)
    assert (large.status, keyed.send(b'[{"n":1}]').status, keyed.post().status) == (202, 202, 202)
    client.post()
    wait_until_used(gateway, sizes, keys)
    assert gateway.process.stop() == 0
    is_back(own_kafka)
    own_kafka.configure(sizes, "max.message.bytes", "100000")
    own_kafka.configure(keys, "cleanup.policy", "compact")
    again = start_gateway(own_kafka.servers, sections)
    wait_until_drained(again)
    assert replayed(again, sizes)["rejected"] == replayed(again, keys)["rejected"] == 1
    assert not replayed(again, sizes)["lost"] + replayed(again, keys)["lost"]
    letters = {len(each.value): dict(each.headers) for each in own_kafka.read(LETTERS)}
    assert len(letters) == 2
    assert letters[len(b'{"n":1}')]["__connect.errors.topic"] == keys.encode()
    assert letters[max(letters)]["__connect.errors.topic"] == sizes.encode()
    client.check(own_kafka, sizes, lost=1)
    keyed.check(own_kafka, keys)


def test_a_topic_that_cannot_be_written_delays_no_other(
    own_kafka: Kafka, start_gateway: Start, tmp_path: Path
) -> None:
    """Neither the other's spool nor its live traffic; its own is written when it is there again."""
    stuck, fine = (
        own_kafka.create(own_kafka.new_name("s")),
        own_kafka.create(own_kafka.new_name("f")),
    )
    sections = settings(stuck, tmp_path, topics={"create": False}, dead_letter={"mode": "off"})
    gateway = start_gateway(own_kafka.servers, sections | {"sources.fine": {"topic": fine}})
    one, other = Client(gateway), Client(gateway, "fine")
    own_kafka.delete(stuck)
    is_away(own_kafka)
    for client in (one, other):
        client.post_until(202, count=50)
        for _ in range(20):
            assert client.post(count=50).status == 202
    wait_until_used(gateway, stuck, fine)
    is_back(own_kafka)
    wait_until(lambda: waiting(gateway).keys() == {stuck}, SETTLE_SECONDS, "both wait")
    wait_until(lambda: bool(gateway.status()["degraded"].get(stuck)), SETTLE_SECONDS, "all is well")
    other.slowest = 0.0
    other.post_until(200)
    assert [other.post().status for _ in range(50)] == [200] * 50
    assert other.slowest < NOTICED_SECONDS
    assert one.post().status == 202
    other.check(own_kafka, fine)
    own_kafka.create(stuck)
    wait_until_drained(gateway)
    one.post_until(200)
    one.check(own_kafka, stuck)


def test_a_topic_that_may_not_be_written_for_a_while_has_everything_later(
    own_kafka: Kafka, start_gateway: Start, tmp_path: Path
) -> None:
    """Kafka is there and says no: that topic's events are spooled, and not rejected."""
    topic = own_kafka.create(own_kafka.new_name())
    gateway = start_gateway(own_kafka.servers, settings(topic, tmp_path))
    client = Client(gateway)
    assert client.post().status == 200
    own_kafka.allow(topic, AclOperation.DESCRIBE, AclOperation.READ)
    client.post_until(202)
    assert gateway.ready()
    wait_until_used(gateway, topic)
    own_kafka.allow(topic, AclOperation.WRITE)
    wait_until_drained(gateway)
    client.post_until(200)
    client.check(own_kafka, topic)
    assert client.statuses.keys() == {200, 202}


# The end of processes.


async def test_what_was_spooled_survives_an_end_in_good_order(
    own_kafka: Kafka, start_gateway: Start, start_load: StartLoad, tmp_path: Path
) -> None:
    """SIGTERM during an outage: exit status 0, every answer is true; the next start sends it."""
    topic = own_kafka.new_name()
    gateway = start_gateway(own_kafka.servers, settings(topic, tmp_path, workers=2))
    load = start_load(gateway, connections=8)
    await load.answers(200, more=50)
    await asyncio.to_thread(is_away, own_kafka)
    await load.answers(202, more=50)
    gateway.process.terminate()
    assert await asyncio.to_thread(gateway.process.wait, SETTLE_SECONDS) == 0
    await load.cut_off()
    await asyncio.to_thread(is_back, own_kafka)
    again = await asyncio.to_thread(start_gateway, own_kafka.servers, settings(topic, tmp_path))
    await asyncio.to_thread(wait_until_drained, again)
    result = await load.verdict(own_kafka.servers, topic)
    assert result.ok, str(result)
    assert result.answers["spooled"] > 0
    assert replayed(again, topic)["acked"] > 0
    assert result.http.keys() <= {0, 200, 202, 503}


async def both_spool(kafka: Kafka, gateway: Gateway, load: Load) -> None:
    """Have Kafka away, and something in the spool of each of two workers."""
    await load.answers(200, more=50)
    await asyncio.to_thread(is_away, kafka)
    await load.answers(202, more=200)
    await until(lambda: all(map(has_spooled, gateway.status()["workers"])), "one has nothing")


async def test_what_was_spooled_survives_the_death_of_the_service(
    own_kafka: Kafka, start_gateway: Start, start_load: StartLoad, tmp_path: Path
) -> None:
    """SIGKILL to all of it during an outage: one worker then takes over what two have left."""
    topic = own_kafka.new_name()
    gateway = start_gateway(own_kafka.servers, settings(topic, tmp_path, workers=2))
    load = start_load(gateway, connections=24)  # both workers have some of them
    await both_spool(own_kafka, gateway, load)
    await asyncio.to_thread(kill_all, gateway)
    await load.cut_off()
    await asyncio.to_thread(is_back, own_kafka)
    again = await asyncio.to_thread(start_gateway, own_kafka.servers, settings(topic, tmp_path))
    await asyncio.to_thread(wait_until_drained, again)
    result = await load.verdict(own_kafka.servers, topic)
    assert result.ok, str(result)
    assert result.answers["spooled"] > 0
    assert replayed(again, topic)["acked"] > 0


def has_spooled(worker: dict[str, dict[str, object]]) -> bool:
    """Whether there is something in the spool of a worker."""
    return bool(worker.get("spool", {}).get("events"))


async def test_what_a_dead_worker_has_spooled_is_sent_without_a_restart(
    own_kafka: Kafka, start_gateway: Start, start_load: StartLoad, tmp_path: Path
) -> None:
    """SIGKILL to one of two during an outage: whoever lives takes its folder over."""
    topic = own_kafka.new_name()
    gateway = start_gateway(own_kafka.servers, settings(topic, tmp_path, workers=2))
    load = start_load(gateway, connections=24)  # both workers have some of them
    await both_spool(own_kafka, gateway, load)
    before = worker_pids(gateway)
    os.kill(before[0], signal.SIGKILL)
    await until(
        lambda: len(worker_pids(gateway)) == 2 and before[0] not in worker_pids(gateway),
        "it was not replaced",
    )
    await load.answers(202, more=50)
    await asyncio.to_thread(is_back, own_kafka)
    await load.answers(200, more=50)
    await load.finish()
    await asyncio.to_thread(wait_until_drained, gateway)
    assert gateway.process.running
    assert before[1] in worker_pids(gateway)
    result = await load.verdict(own_kafka.servers, topic)
    assert result.ok, str(result)
    assert result.http.keys() <= {0, 200, 202}, "but for the connections that broke"


# Clocks.


def test_a_clock_that_jumps_changes_nothing_but_timestamps(
    own_kafka: Kafka,
    start_gateway: Start,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fake_clock: Path,
) -> None:
    """An hour ahead and two hours back during an outage: all is answered, kept and sent."""
    topic, offset = own_kafka.new_name(), tmp_path / "offset"
    offset.write_text("+0")
    monkeypatch.setenv("LD_PRELOAD", str(fake_clock))
    monkeypatch.setenv("FAKETIME_TIMESTAMP_FILE", str(offset))
    monkeypatch.setenv("FAKETIME_NO_CACHE", "1")
    monkeypatch.setenv("DONT_FAKE_MONOTONIC", "1")
    gateway = start_gateway(own_kafka.servers, settings(topic, tmp_path / "spool"))
    monkeypatch.undo()
    client = Client(gateway)
    assert client.post().status == 200
    is_away(own_kafka)
    client.post_until(202)
    for jump in (HOUR_SECONDS, -HOUR_SECONDS):
        offset.write_text(f"{jump:+d}")
        assert [client.post().status for _ in range(10)] == [202] * 10
        assert gateway.status()["spool"]["oldest_seconds"] >= 0
        assert gateway.ready()
    # Nothing about how long that took: with this library threads wake up late, jumps or not.
    is_back(own_kafka)
    client.post_until(200)
    wait_until_drained(gateway)
    client.check(own_kafka, topic)
    now_ms = time.time_ns() // 1_000_000
    ages = {
        round((now_ms - each.timestamp_ms) / 1000 / HOUR_SECONDS) for each in own_kafka.read(topic)
    }
    assert ages == {-1, 0, 1}, "the clock has not jumped"


@pytest.fixture
def fake_clock() -> Path:
    """The library that fakes the clock of a process."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        pytest.skip("needs libfaketime: apt-get install libfaketime")
    return found[0]


# Syslog.


def syslog_settings(topic: str, path: Path, **more: object) -> Sections:
    """A syslog gateway with a spool in ``path``."""
    return {
        **spooled_to(path),
        f"sources.{SOURCE}": {"topic": topic},
        **more,  # type: ignore[dict-item]
    }


def messages(kind: bytes) -> Iterator[bytes]:
    """Endless ones, numbered from 0."""
    number = 0
    while True:
        yield HEAD + b"kind=%b n=%d" % (kind, number)
        number += 1


def numbers(kafka: Kafka, topic: str) -> dict[str, set[int]]:
    """By listener: the numbers of the messages that are in a topic."""
    found: dict[str, set[int]] = {}
    for record in kafka.read(topic):
        data = json.loads(record.value)["data"]
        number = int(data["message"].rpartition("n=")[2])
        found.setdefault(data["listener"], set()).add(number)
    return found


class Sending:
    """Numbered messages over TCP and by datagrams, a few at a time."""

    def __init__(self, gateway: CheckedGateway) -> None:
        self.count = 0
        self._stream = socket.create_connection(("127.0.0.1", int(gateway.port("tcp"))), 5)
        self._datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._datagrams.connect(("127.0.0.1", int(gateway.port("udp"))))
        self._tcp, self._udp = messages(b"tcp"), messages(b"udp")

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Hang up."""
        self._stream.close()
        self._datagrams.close()

    def some(self, more: int = 50) -> None:
        """Send so many by each way; blocks while the gateway does not read."""
        self._stream.sendall(b"".join(next(self._tcp) + b"\n" for _ in range(more)))
        for _ in range(more):
            self._datagrams.send(next(self._udp))
        self.count += more


def relayed(client: Rsyslogd) -> Feed:
    """A load by RELP that goes on until it is told to finish."""
    return client.feed_paced(messages(b"relp"), PER_SECOND)


def test_syslog_goes_on_during_an_outage(
    own_kafka: Kafka,
    start_syslog_gateway: StartSyslog,
    start_rsyslogd: StartRsyslogd,
    tmp_path: Path,
    fault: Fault,
) -> None:
    """RELP is answered once it is spooled, TCP is read, no datagram dropped; Kafka has it all."""
    topic = own_kafka.new_name()
    listeners = [{"name": each, "protocol": each} for each in ("relp", "tcp", "udp")]
    gateway = start_syslog_gateway(own_kafka.servers, listeners, syslog_settings(topic, tmp_path))
    with (
        start_rsyslogd(omrelp(gateway.port("relp"), RESEND_FOR_EVER)) as client,
        Sending(gateway) as sending,
    ):
        feed = relayed(client)
        sending.some()
        wait_until(lambda: gateway.account()["acked"] > 300, SETTLE_SECONDS, "nothing flows")
        asyncio.run(fault.strikes(own_kafka))
        for _ in range(100):
            sending.some(20)
            time.sleep(0.05)
        # More than RELP's window lets through without answers.
        wait_until(lambda: gateway.account()["spooled"] > 5000, SETTLE_SECONDS, "too little")
        assert not own_kafka.answers()
        assert gateway.ready()
        relp = feed.finish()
        wait_until(lambda: gateway.status()["inflight_bytes"] == 0, SETTLE_SECONDS, "all is held")
        asyncio.run(fault.is_mended(own_kafka))
        wait_until_drained(gateway)
        log = client.own_log()
    assert "relp" not in log, f"the session was broken: {log}"
    gateway.check_books()
    assert gateway.account()["received"] == relp + 2 * sending.count
    found = numbers(own_kafka, topic)
    assert found == {
        "relp": set(range(relp)),
        "tcp": set(range(sending.count)),
        "udp": set(range(sending.count)),
    }
    assert not gateway.drops()


def small_budget(topic: str, path: Path, mode: str) -> Sections:
    """So little memory that it is used up long before it is seen that Kafka is away."""
    size = 200_000
    limits = {"inflight_bytes": size, "body_bytes": size, "decoded_bytes": size}
    sections = syslog_settings(topic, path, kafka={"request_timeout_seconds": 15})
    sections["limits"] = {**limits, "event_bytes": 65_536, "ack_seconds": 30}
    sections["spool"] |= {"mode": mode, "after_seconds": 20}
    return sections


def send_datagrams(gateway: CheckedGateway, count: int) -> None:
    """Send numbered messages, as fast as they can be read."""
    numbered = messages(b"udp")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.connect(("127.0.0.1", int(gateway.port("udp"))))
        for number in range(count):
            datagrams.send(next(numbered))
            if number % 50 == 0:
                time.sleep(0.02)


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_datagrams_that_memory_has_no_room_for_go_to_the_spool(
    own_kafka: Kafka, start_syslog_gateway: StartSyslog, tmp_path: Path, mode: str
) -> None:
    """They are dropped, and counted, only where there is no spool."""
    topic, sent = own_kafka.create(own_kafka.new_name()), 2000
    listener = {"name": "udp", "protocol": "udp", "receive_buffer_bytes": 65_536}
    sections = small_budget(topic, tmp_path, mode)
    gateway = start_syslog_gateway(own_kafka.servers, [listener], sections)
    wait_until(gateway.kafka_is_up, SETTLE_SECONDS, "it does not reach Kafka")
    own_kafka.node.pause()
    try:
        assert own_kafka.falls_silent(), "Kafka still answers"
        send_datagrams(gateway, sent)
        if mode == "auto":
            wait_until(lambda: gateway.account()["spooled"] > sent / 2, SETTLE_SECONDS, "not used")
        assert gateway.kafka_is_up(), "only memory was to be short"
        assert gateway.status()["inflight_bytes"] > 100_000
    finally:
        own_kafka.node.resume()
    gateway.wait_until_received(SOURCE, sent)
    if mode == "auto":
        wait_until_drained(gateway)
        assert not gateway.drops()
    else:
        assert gateway.account()["dropped"] > sent / 4
    gateway.check_books()
    found = numbers(own_kafka, topic)["udp"]
    assert len(found) == sent - gateway.account()["dropped"]


def test_relp_is_answered_to_the_end_during_an_outage(
    own_kafka: Kafka,
    start_syslog_gateway: StartSyslog,
    start_rsyslogd: StartRsyslogd,
    tmp_path: Path,
) -> None:
    """SIGTERM during an outage: exit status 0; what was answered is sent by the next start."""
    topic = own_kafka.new_name()
    listener = {"name": "relp", "protocol": "relp"}
    sections = syslog_settings(topic, tmp_path)
    gateway = start_syslog_gateway(own_kafka.servers, [listener], sections)
    port = gateway.port("relp")
    with start_rsyslogd(omrelp(port, RESEND_FOR_EVER)) as client:
        feed = relayed(client)
        wait_until(lambda: gateway.account()["acked"] > 100, SETTLE_SECONDS, "nothing flows")
        is_away(own_kafka)
        wanted = gateway.account()["spooled"] + 500
        wait_until(lambda: gateway.account()["spooled"] > wanted, SETTLE_SECONDS, "not used")
        assert gateway.process.stop() == 0
        is_back(own_kafka)
        listener["listen"] = f"127.0.0.1:{port}"
        again = start_syslog_gateway(own_kafka.servers, [listener], sections)
        wait_until(lambda: again.account()["acked"] > 100, SETTLE_SECONDS, "nothing flows again")
        sent = feed.finish()
        wait_until(
            lambda: len(numbers(own_kafka, topic)["relp"]) == sent,
            SETTLE_SECONDS,
            "some are missing",
        )
    wait_until_drained(again)
    assert replayed(again, topic)["acked"] >= 500
    assert numbers(own_kafka, topic)["relp"] == set(range(sent))
