"""What a rsyslogd that forwards by RELP loses while Kafka, a worker or the gateway dies: nothing.

It numbers nothing, so what it sends again is there again, with another id: that is counted.
"""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections import Counter
from itertools import count
from typing import TYPE_CHECKING

import pytest

from deploy.local.ports import free_ports
from loadtest.gateway import wait_until
from loadtest.syslog_gateway import SOURCE
from tests.rsyslog import RESEND_FOR_EVER, omrelp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Kafka
    from tests.rsyslog import Feed, Rsyslogd
    from tests.syslog_gateway import CheckedGateway

    StartRsyslogd = Callable[..., Rsyslogd]
    StartGateway = Callable[..., CheckedGateway]
    Say = Callable[[str], None]

OUTAGE_SECONDS = 25.0
"""Less than the 90 seconds that librelp waits for an answer."""
PER_SECOND = 500.0
CATCH_UP_SECONDS = 30.0
SETTLE_SECONDS = 10.0


class Site:
    """A gateway with one RELP listener, whose port stays the same over its lives.

    Args:
        kafka: where it writes to.
        start: starts it.
        workers: how many processes listen.

    Attributes:
        gateway: as it was started last.
        port: where it listens.
    """

    def __init__(self, kafka: Kafka, start: StartGateway, workers: int = 1) -> None:
        (port,) = free_ports(1)
        self.port = str(port)
        self.gateway: CheckedGateway
        self._kafka = kafka
        self._topic = kafka.new_name("relp")
        self._start = start
        self._workers = workers

    def start(self) -> None:
        """Start it; also again."""
        listener = {"name": "relp", "protocol": "relp", "listen": f"127.0.0.1:{self.port}"}
        settings = {
            "syslog": {"workers": self._workers},
            f"sources.{SOURCE}": {"topic": self._topic},
        }
        self.gateway = self._start(self._kafka.servers, [listener], settings)

    def flows(self, more: int = 300) -> None:
        """Wait until so many more messages are acknowledged by Kafka."""
        wanted = self.acked() + more
        wait_until(lambda: self.acked() >= wanted, SETTLE_SECONDS, "nothing flows")

    def acked(self) -> int:
        """How many messages it says are in Kafka, in this life of it."""
        return self.gateway.account()["acked"]

    def require_all(self, sent: int) -> int:
        """Wait until every message of a feed is there, and nothing else.

        Returns:
            How many records are there that repeat another one.
        """
        deadline = time.monotonic() + CATCH_UP_SECONDS
        found = self._numbers()
        while len(found) < sent and time.monotonic() < deadline:
            time.sleep(0.5)
            found = self._numbers()
        self.gateway.check_books()  # nothing is on its way any more
        found = self._numbers()
        missing = set(range(sent)) - found.keys()
        assert not missing, f"{len(missing)} of {sent} are missing, such as {sorted(missing)[:10]}"
        assert len(found) == sent, f"never sent: {sorted(found.keys() - set(range(sent)))[:10]}"
        return found.total() - sent

    def _numbers(self) -> Counter[int]:
        values = [record.value for record in self._kafka.read(self._topic)]
        return Counter(int(value.rpartition(b"n=")[2].partition(b'"')[0]) for value in values)


def messages() -> Iterator[bytes]:
    """Endless ones, numbered from 0."""
    run = uuid.uuid4().hex[:8]
    head = b"<134>1 2026-11-23T12:00:00Z shop.example.com billing 77 - - "
    for n in count():
        yield head + b"run=%b n=%d" % (run.encode(), n)


def feeding(client: Rsyslogd) -> Feed:
    """A load that goes on until it is told to finish."""
    return client.feed_paced(messages(), PER_SECOND)


@pytest.mark.timeout(180)
def test_while_the_broker_is_dead_a_client_waits_and_nothing_is_missing(
    own_kafka: Kafka, start_syslog_gateway: StartGateway, start_rsyslogd: StartRsyslogd, say: Say
) -> None:
    """No answer comes and no connection is closed: there is nothing to send again."""
    site = Site(own_kafka, start_syslog_gateway, workers=2)
    site.start()
    with start_rsyslogd(omrelp(site.port, RESEND_FOR_EVER)) as client:
        feed = feeding(client)
        site.flows()
        own_kafka.node.kill()
        killed = time.monotonic()
        assert own_kafka.falls_silent(), "Kafka still answers"
        wait_until(lambda: not site.gateway.ready(), SETTLE_SECONDS, "it is still ready")
        wait_until(lambda: not site.gateway.kafka_is_up(), SETTLE_SECONDS, "Kafka is up, it says")
        acked, fed = site.acked(), feed.count
        time.sleep(killed + OUTAGE_SECONDS - time.monotonic())
        assert site.acked() == acked
        assert feed.count > fed + PER_SECOND * OUTAGE_SECONDS / 2, "there was no load"
        own_kafka.node.start()
        site.gateway.wait_until_ready(SETTLE_SECONDS)
        site.flows()
        sent = feed.finish()
        duplicates = site.require_all(sent)
        log = client.own_log()
    assert "relp" not in log, f"the session was broken: {log}"
    assert site.gateway.restarts() == 0
    say(f"broker dead for {OUTAGE_SECONDS:.0f} s: {sent} sent, 0 missing, {duplicates} twice")


def test_the_death_of_a_worker_loses_no_message(
    kafka: Kafka, start_syslog_gateway: StartGateway, start_rsyslogd: StartRsyslogd, say: Say
) -> None:
    """The client notices, connects to its successor, and sends again what was not answered."""
    site = Site(kafka, start_syslog_gateway)
    site.start()
    with start_rsyslogd(omrelp(site.port, RESEND_FOR_EVER)) as client:
        feed = feeding(client)
        site.flows()
        (victim,) = site.gateway.worker_pids()
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: site.gateway.restarts() == 1, SETTLE_SECONDS, "no successor")
        site.flows()
        sent = feed.finish()
        duplicates = site.require_all(sent)
        require_reconnect(client)
    say(f"worker killed: {sent} sent, 0 missing, {duplicates} twice")


def test_the_death_of_the_whole_gateway_loses_no_message(
    kafka: Kafka, start_syslog_gateway: StartGateway, start_rsyslogd: StartRsyslogd, say: Say
) -> None:
    """The client tries until there is one again on the same port, and goes on."""
    site = Site(kafka, start_syslog_gateway, workers=2)
    site.start()
    with start_rsyslogd(omrelp(site.port, RESEND_FOR_EVER)) as client:
        feed = feeding(client)
        site.flows()
        site.gateway.kill_all()
        fed = feed.count
        wait_until(lambda: feed.count > fed + 1000, SETTLE_SECONDS, "there was no load")
        site.start()
        site.flows(1000)
        sent = feed.finish()
        duplicates = site.require_all(sent)
        require_reconnect(client)
    say(f"gateway killed: {sent} sent, 0 missing, {duplicates} twice")


def test_a_restart_loses_no_message_and_repeats_none(
    kafka: Kafka, start_syslog_gateway: StartGateway, start_rsyslogd: StartRsyslogd, say: Say
) -> None:
    """What was read is answered before the session is closed: there is nothing to send again."""
    site = Site(kafka, start_syslog_gateway, workers=2)
    site.start()
    with start_rsyslogd(omrelp(site.port, RESEND_FOR_EVER)) as client:
        feed = feeding(client)
        site.flows()
        assert site.gateway.process.stop() == 0
        fed = feed.count
        wait_until(lambda: feed.count > fed + 500, SETTLE_SECONDS, "there was no load")
        site.start()
        site.flows(1000)
        sent = feed.finish()
        duplicates = site.require_all(sent)
        require_reconnect(client)
    say(f"gateway restarted in good order: {sent} sent, 0 missing, {duplicates} twice")
    assert duplicates == 0


def require_reconnect(client: Rsyslogd) -> None:
    """The client must have noticed that its session was broken."""
    log = client.own_log()
    assert "relp" in log, log
