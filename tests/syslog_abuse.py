"""Who abuses the syslog door, and who looks on: a good sender, and the memory of the worker.

The abuser and the good sender come from different addresses of 127.0.0.0/8, but they use the same
listeners of the same worker: a limit for one address must hit only those whom it is meant for.
"""

from __future__ import annotations

import statistics
import time
import uuid
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psutil

from loadtest.gateway import wait_until
from tests.abuse import ABUSER, PATIENCE, Beside, Memory, RawClient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Kafka
    from tests.memory_producer import Record
    from tests.syslog_gateway import CheckedGateway

GOOD = "127.0.0.3"
GOOD_SOURCE = "good"
"""Where the messages of `GOOD` go, by a rule, whichever listener takes them."""
GROW_BYTES = 64 << 20
"""What an attack may cost in memory: the budget of the gateways here (`INFLIGHT_BYTES`), what is
read and parsed of one connection at a time, and half as much for what the C library keeps of it."""
INFLIGHT_BYTES = 32 << 20
MEDIAN_SECONDS, P99_SECONDS, MAX_SECONDS = 0.5, 1.0, 2.0
"""How long Kafka may take to have a message of the good sender. Alone it takes 10 ms; the machine
is shared with the abuser, Kafka and other tests, so the median has room for that, and the longest
for a long pause of the machine, but none for a worker that serves one sender after the other."""
REST_SECONDS = 20.0
EVENTS = {
    "kafka_connected",
    "topic_created",
    "topic_not_replicated",
    "framing_lost",
    "relp_protocol_error",
    "tls_on_a_plain_port",
}
"""What a gateway logs that has no other trouble than abuse; topics are looked after at any time."""
OFFERS = b"relp_version=0\nrelp_software=abuse\ncommands=syslog"
HEAD = b"<134>1 2026-11-23T12:00:00Z shop.example.com billing 77 - - "


class RelpClient(RawClient):
    """A RELP session whose client does what it is told to; it is opened at once."""

    def __init__(self, port: int, source: str = ABUSER, receive_buffer: int | None = None) -> None:
        super().__init__(port, source, receive_buffer)
        self._txnr = 0
        self._answered = 0
        self.send(self.frame(b"open", OFFERS))
        assert self.response().startswith(b"200 OK\n")

    def frame(self, command: bytes, data: bytes) -> bytes:
        """The next frame."""
        self._txnr += 1
        return b"%d %b %d %b\n" % (self._txnr, command, len(data), data)

    def frames(self, messages: list[bytes]) -> bytes:
        """Frames for messages, one after the other."""
        return b"".join(self.frame(b"syslog", each) for each in messages)

    def response(self) -> bytes:
        """The data of the next answer, which must be the one whose turn it is.

        Raises:
            AssertionError: it is another one, or the gateway has hung up.
        """
        self._answered += 1
        head = [self._read_until(b" ") for _ in range(3)]
        assert head[:2] == [b"%d" % self._answered, b"rsp"], head
        data = self._read(int(head[2] or b"") + 1)
        assert data.endswith(b"\n"), data
        return data[:-1]

    def deliver(self, *messages: bytes) -> None:
        """Send messages, and wait until each is acknowledged, which is: until Kafka has them."""
        self.send(self.frames(list(messages)))
        self.require_acknowledged(len(messages))

    def require_acknowledged(self, count: int) -> None:
        """Read so many answers, each of which must say that the next message is in Kafka."""
        first, self._answered = self._answered + 1, self._answered + count
        numbers = range(first, first + count)
        expected = b"".join([b"%d rsp 6 200 OK\n" % number for number in numbers])
        assert self._read(len(expected)) == expected


class GoodSender(Beside):
    """Sends a message by RELP and by TCP every `PAUSE_SECONDS`, now and then by new connections.

    A RELP answer says that Kafka has the message, so that it is a measure of the whole way.

    Args:
        watch: has the ports.

    Attributes:
        waits: the seconds that each RELP answer took, with the connection where that was new.
        sent: by message: when it was sent, Unix time.
        failures: what did not work.
    """

    PAUSE_SECONDS = 0.02
    NEW_CONNECTION = 10

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self.waits: list[float] = []
        self.sent: dict[str, float] = {}
        self.failures: list[str] = []
        self._watch = watch

    def run(self) -> None:
        """Send until told to end, or something goes wrong."""
        try:
            with self._watch.relp(GOOD) as relp, self._watch.client("tcp", GOOD) as tcp:
                while not self._end.wait(self.PAUSE_SECONDS):
                    self._send(relp, tcp)
        except (OSError, AssertionError) as error:
            self.failures.append(repr(error))

    def _send(self, relp: RelpClient, tcp: RawClient) -> None:
        begun = time.perf_counter()
        if len(self.waits) % self.NEW_CONNECTION:
            relp.deliver(self._message())
            assert tcp.send(self._message() + b"\n"), "the gateway does not read"
        else:
            with self._watch.relp(GOOD) as new:
                new.deliver(self._message())
            with self._watch.client("tcp", GOOD) as other:
                assert other.send(self._message() + b"\n"), "the gateway does not read"
        self.waits.append(time.perf_counter() - begun)

    def _message(self) -> bytes:
        name = uuid.uuid4().hex
        self.sent[name] = time.time()
        return HEAD + b"n=%b" % name.encode()

    def wait_for(self, answers: int) -> None:
        """Wait until so many more answers have come."""
        wanted = len(self.waits) + answers
        wait_until(
            lambda: len(self.waits) >= wanted or bool(self.failures),
            PATIENCE,
            "the good sender gets no answer",
        )


def number_of(record: Record) -> str:
    """Which message of the good sender it is."""
    return record.value.rpartition(b"n=")[2].partition(b'"')[0].decode()


class Watch:
    """A gateway that is attacked again and again, and what must hold of it whenever it is.

    Args:
        gateway: has one worker, the listeners ``tcp`` and ``relp``, and the rule for `GOOD`.
        kafka: where it writes to.
        topics: by source.

    Attributes:
        waits: the seconds that each answer to any good sender took.
        sent: all messages of all good senders, and when each was sent.
    """

    ANSWERS = 10
    """So many answers of the good sender belong to each attack at least."""

    def __init__(self, gateway: CheckedGateway, kafka: Kafka, topics: dict[str, str]) -> None:
        self.gateway = gateway
        self.waits: list[float] = []
        self.sent: dict[str, float] = {}
        self._kafka = kafka
        self._topics = topics
        (self._pid,) = gateway.worker_pids()
        self._worker = psutil.Process(self._pid)

    def port(self, listener: str) -> int:
        """The port of a listener."""
        return int(self.gateway.port(listener))

    def client(
        self, listener: str, source: str = ABUSER, receive_buffer: int | None = None
    ) -> RawClient:
        """A new connection to a listener."""
        return RawClient(self.port(listener), source, receive_buffer)

    def relp(
        self, source: str = ABUSER, receive_buffer: int | None = None, listener: str = "relp"
    ) -> RelpClient:
        """A new RELP session, which is open."""
        return RelpClient(self.port(listener), source, receive_buffer)

    def connections(self, listener: str = "") -> int:
        """How many connections it says it has, of one listener or of all."""
        found: dict[str, int] = self.gateway.status()["connections"]
        return found.get(listener, 0) if listener else sum(found.values())

    def counted(self, name: str, **labels: str) -> int:
        """The sum of a counter over all labels but those that are given."""
        samples = self.gateway.samples()
        found = [each for each in samples if each.name == name]
        return int(sum(each.value for each in found if labels.items() <= each.labels.items()))

    def records(self, source: str) -> list[Record]:
        """What is in the topic of a source."""
        return self._kafka.read(self._topics[source])

    @contextmanager
    def attacked(self, grow_bytes: int = GROW_BYTES) -> Iterator[GoodSender]:
        """Have the good sender beside an attack, and afterwards check everything that must hold."""
        self._check_rest()
        lines, before = len(self.gateway.process.lines), self.gateway.account(GOOD_SOURCE)
        with Memory([self._worker]) as memory, GoodSender(self) as good:
            try:
                yield good
                good.wait_for(self.ANSWERS)
            finally:
                good.stop()
                self.waits += good.waits
                self.sent |= good.sent
        self._check_good_sender(good, before)
        self._check_rest()
        assert memory.growth_bytes < grow_bytes
        self._check_process(lines)

    def _check_good_sender(self, good: GoodSender, before: Counter[str]) -> None:
        """All it sent has come, in time, and soon it is in Kafka."""
        assert good.failures == []
        count = len(good.sent)

        def told() -> Counter[str]:
            return self.gateway.account(GOOD_SOURCE) - before

        wait_until(lambda: told()["acked"] >= count, MAX_SECONDS, "messages of TCP do not come")
        assert told() == {"received": count, "acked": count}
        assert statistics.median(good.waits) < MEDIAN_SECONDS
        assert max(good.waits) < MAX_SECONDS

    def _check_rest(self) -> None:
        """Nobody is connected, nothing in flight, and every message has its one outcome."""
        wait_until(lambda: not self.connections(), REST_SECONDS, "somebody is connected")
        self.gateway.check_books()

    def _check_process(self, first: int) -> None:
        """It is the same worker, and it has no other complaint than about the abuser."""
        (worker,) = self.gateway.status()["workers"]
        assert (worker["pid"], worker["restarts"]) == (self._pid, 0)
        for line in self.gateway.process.lines[first:]:
            assert line.get("event") in EVENTS, line
            assert line["level"] in {"info", "warning"}, line

    def check_good_senders(self) -> None:
        """Kafka has each message of all good senders once, and each was read in time."""
        records = self.records(GOOD_SOURCE)
        assert Counter(map(number_of, records)) == Counter(self.sent.keys())
        delays = [each.timestamp_ms / 1000 - self.sent[number_of(each)] for each in records]
        assert statistics.quantiles(delays, n=100)[98] < P99_SECONDS
        assert statistics.quantiles(self.waits, n=100)[98] < P99_SECONDS
