"""The syslog door on real sockets, over Kafka in memory, and clients that send bytes as told.

Every door checks at its end that every message has one outcome, what the kernel dropped included,
that nothing is left in the in-flight budget, and that nothing went wrong behind the scenes.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections import Counter
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import pytest
from structlog.testing import capture_logs

from ingest import accepting, metrics, outlet
from ingest_syslog import listener as listener_module
from ingest_syslog.__main__ import _endpoint
from ingest_syslog.config import SyslogConfig
from ingest_syslog.front import SyslogFront
from ingest_syslog.kernel_drops import KernelDrops
from tests.http_door import PATIENCE, Client, on_uvloop, unaccounted, until
from tests.memory_producer import MemoryProducer, MemoryTopic

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence

    from ingest.accumulator import Segment
    from ingest.endpoint import Endpoint
    from ingest.receipt import Receipt
    from ingest_syslog.stream import Connection
    from tests.memory_producer import Record

__all__ = ["PATIENCE", "Client", "OpenDoor", "on_uvloop", "open_door", "until"]

LETTERS = "ingest.rejected"
OFFERS = b"relp_version=0\nrelp_software=test\ncommands=syslog"
DRAIN_SECONDS = 5.0
SOURCES = {"logs": {}, "auth": {}, "other": {}, "small": {"topic": "small-topic"}}
"""What is in the section [sources]; the topic of ``small`` takes 1,000 bytes."""
SMALL_BYTES = 1_000
_SWEEP_SECONDS, _QUIET_SECONDS, _HANDSHAKE_SECONDS = 0.01, 0.05, 0.01
"""How often a listener looks for time limits, and how patient its end is: all as in a hurry."""
_RESPONSE = re.compile(rb"(\d+) (rsp|serverclose) (\d+)[ \n]")


def message(text: str = "hello", *, pri: int = 14, host: str = "web-1", app: str = "shop") -> bytes:
    """A message of RFC 5424 without structured data."""
    return f"<{pri}>1 2026-11-23T12:00:00Z {host} {app} - - - {text}".encode()


def messages(count: int, first: int = 0, **parts: Any) -> list[bytes]:
    """Numbered messages; see `message`."""
    return [message(f"{number}", **parts) for number in range(first, first + count)]


def lines(frames: Iterable[bytes]) -> bytes:
    """Frames with LF."""
    return b"".join(each + b"\n" for each in frames)


@dataclass
class Topic(MemoryTopic):
    """A topic of one partition, which keeps the order.

    Attributes:
        moving: while False nothing is handed over to this topic.
    """

    partitions: int = 1
    moving: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.moving.set()


class Kafka(MemoryProducer):
    """Has a topic stuck where that is wanted, and gives up at its end, as the real producer."""

    connected: bool | None = True

    def __init__(self, topics: dict[str, MemoryTopic]) -> None:
        super().__init__(topics)
        self._receipts: list[Receipt] = []

    def start(self) -> None:
        """See `ingest.kafka_producer.KafkaProducer.start`."""

    async def relieve(self, seconds: float) -> None:
        """See `ingest.kafka_producer.KafkaProducer.relieve`; there is no spool."""

    async def stop(self, seconds: float) -> None:
        """Give up what is not acked by then."""
        tasks = [*self._tasks]
        await super().stop(seconds)
        await asyncio.gather(*tasks, return_exceptions=True)
        for receipt in self._receipts:
            parts: list[Any] = list(receipt.parts)
            for part in parts:
                part.in_flight = False
                part.expire()

    def submit(self, *args: Any, **options: Any) -> Receipt:
        """See `ingest.producer.Producer.submit`."""
        receipt = super().submit(*args, **options)
        self._receipts = [each for each in self._receipts if not each.settled]
        self._receipts.append(receipt)
        return receipt

    async def _write(self, topic: MemoryTopic, number: int, segment: Segment) -> None:
        if isinstance(topic, Topic):
            await topic.moving.wait()
        await super()._write(topic, number, segment)


class Answer(NamedTuple):
    """A frame of the RELP server.

    Attributes:
        txnr: the transaction number that it answers.
        command: ``rsp`` or ``serverclose``.
        data: what it says.
    """

    txnr: int
    command: bytes
    data: bytes


class RelpClient(Client):
    """A RELP session whose client does what it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__(reader, writer)
        self.txnr = 0

    def frame(self, command: bytes, data: bytes) -> bytes:
        """The next frame."""
        self.txnr += 1
        return b"%d %b %d%b\n" % (self.txnr, command, len(data), b" " + data if data else b"")

    async def begin(self) -> Self:
        """Open the session."""
        await self.send(self.frame(b"open", OFFERS))
        answer = await self.response()
        assert answer.data.startswith(b"200 OK\n")
        return self

    async def deliver(self, *frames: bytes) -> list[int]:
        """Send frames; their transaction numbers."""
        first = self.txnr + 1
        await self.send(b"".join(self.frame(b"syslog", each) for each in frames))
        return list(range(first, self.txnr + 1))

    async def response(self) -> Answer:
        """The next frame of the server."""
        async with asyncio.timeout(PATIENCE):
            header = await self._header()
            data = await self.reader.readexactly(int(header[3])) if int(header[3]) else b""
            assert int(header[3]) == 0 or await self.reader.readexactly(1) == b"\n"
        return Answer(int(header[1]), header[2], data)

    async def _header(self) -> re.Match[bytes]:
        header = b""
        while (found := _RESPONSE.fullmatch(header)) is None:
            header += await self.reader.readexactly(1)
        return found

    async def acked(self, numbers: Sequence[int]) -> None:
        """Wait for the acknowledgements of just these frames, in this order."""
        for number in numbers:
            assert await self.response() == Answer(number, b"rsp", b"200 OK")

    def is_silent(self) -> bool:
        """Whether the server has said nothing that was not read yet, and has not closed."""
        return not self.reader._buffer and self.is_open()  # type: ignore[attr-defined]


class OpenDoor:
    """A door that is open.

    Attributes:
        topics: the topics of the Kafka in memory.
        producer: writes to them.
        front: what is tested.
        bound: the parent's socket of each listener.
        logs: what was logged since it is open.
    """

    def __init__(self, config: SyslogConfig, logs: list[Any], *, real_producer: bool) -> None:
        self.config = config
        self.topics: dict[str, Topic] = {
            each.topic or name: Topic() for name, each in config.sources.items()
        }
        self.topics["small-topic"] = Topic(max_message_bytes=SMALL_BYTES)
        self.topics[LETTERS] = Topic()
        self.producer = Kafka(dict(self.topics))
        self.logs = logs
        self.lost: int | None = None
        self.bound = {each.name: _bound(_endpoint(each)) for each in config.syslog.listeners}
        self._drops = KernelDrops({name: [sock] for name, sock in self.bound.items()})
        self._then = _samples()
        with pytest.MonkeyPatch.context() as patch:
            if not real_producer:
                patch.setattr(outlet, "KafkaProducer", lambda *_: self.producer)
            self.front = SyslogFront(config)
        self._clients: list[Client] = []
        self._senders: list[socket.socket] = []

    async def open(self) -> None:
        """Take messages on duplicates of the sockets: the parent keeps its own."""
        await self.front.open({name: [sock.dup()] for name, sock in self.bound.items()})

    # What tests do to it.

    def address(self, listener: str) -> Any:
        """Where a listener is."""
        return self.bound[listener].getsockname()

    async def connect(
        self, listener: str = "tcp", host: str = "127.0.0.1", **options: Any
    ) -> Client:
        """A new connection from ``host``."""
        return self.adopt(Client(*await self._connected(listener, host, options)))

    async def relp(
        self, listener: str = "relp", host: str = "127.0.0.1", **options: Any
    ) -> RelpClient:
        """A new RELP session, which is open."""
        client = RelpClient(*await self._connected(listener, host, options))
        self.adopt(client)
        return await client.begin()

    async def _connected(
        self, listener: str, host: str, options: dict[str, Any]
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        address = self.address(listener)
        if isinstance(address, str):
            return await asyncio.open_unix_connection(address, **options)
        if "sock" in options:
            return await asyncio.open_connection(**options)
        return await asyncio.open_connection(*address[:2], local_addr=(host, 0), **options)

    def adopt(self, client: Client) -> Client:
        """Hang up for a client at the end."""
        self._clients.append(client)
        return client

    def datagrams(
        self, *payloads: bytes, listener: str = "udp", host: str = "127.0.0.1"
    ) -> socket.socket:
        """Send datagrams from ``host``."""
        address = self.address(listener)
        kind = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        sender = socket.socket(kind, socket.SOCK_DGRAM)
        self._senders.append(sender)
        if kind == socket.AF_INET:
            sender.bind((host, 0))
        for payload in payloads:
            sender.sendto(payload, address)
        return sender

    async def reload(self, **changes: Any) -> None:
        """Give the worker a configuration with other sections or, in ``syslog``, other keys."""
        data = _data(self.config)
        syslog = data["syslog"] | changes.pop("syslog", {})
        self.config = SyslogConfig.model_validate(data | changes | {"syslog": syslog})
        await self.front.reload(self.config)

    # What tests look at.

    def records(self, topic: str = "logs") -> list[Record]:
        """The records of a topic, in the order in which they were written."""
        return self.topics[topic].records

    def values(self, topic: str = "logs") -> list[dict[str, Any]]:
        """The record values of a topic."""
        return [json.loads(each.value) for each in self.records(topic)]

    def data(self, topic: str = "logs") -> list[dict[str, Any]]:
        """The ``data`` of a topic's records."""
        return [each["data"] for each in self.values(topic)]

    def texts(self, topic: str = "logs") -> list[str]:
        """The messages of a topic, without their headers."""
        return [each.get("message", "") for each in self.data(topic)]

    async def written(self, count: int, topic: str = "logs") -> list[str]:
        """The messages of a topic as soon as there are ``count``; see `texts`."""
        await until(lambda: len(self.records(topic)) >= count)
        return [] if topic == LETTERS else self.texts(topic)

    def counted(self, name: str, **labels: str) -> int:
        """How much a counter has grown since the door is open, over all labels but those given."""
        grown = _samples()
        grown.subtract(self._then)
        wanted = {*labels.items()}
        return int(
            sum(value for (each, found), value in grown.items() if each == name and wanted <= found)
        )

    def outcomes(self, **labels: str) -> dict[str, int]:
        """Outcome -> messages since the door is open, without zeros."""
        names = ("acked", "spooled", "rejected", "failed", "dropped")
        found = {
            each: self.counted("ingest_events_total", outcome=each, **labels) for each in names
        }
        return {name: count for name, count in found.items() if count}

    def dropped(self, reason: str, **labels: str) -> int:
        """How many messages were dropped for this reason."""
        return self.counted("ingest_syslog_dropped_total", reason=reason, **labels)

    def refused(self, limit: str) -> int:
        """How many connections were closed for a limit."""
        return self.counted("ingest_connections_refused_total", limit=limit)

    def closed(self, reason: str) -> int:
        """How many connections were closed for this reason after they had been let in."""
        return self.counted("ingest_connections_closed_total", reason=reason)

    def events(self, level: str = "warning") -> list[str]:
        """What was logged at this level."""
        return [each["event"] for each in self.logs if each["log_level"] == level]

    def connections(self, listener: str = "tcp") -> list[Connection]:
        """Who is connected to a listener, in no order."""
        found: Any = self.front._listeners[listener]
        return list(found._acceptor.connections)

    async def connected(self, count: int, listener: str = "tcp") -> None:
        """Wait until so many have a transport, and nobody else is there."""

        def there() -> bool:
            found = self.connections(listener)
            return len(found) == count and not any(each.is_arriving for each in found)

        await until(there)

    @property
    def used_bytes(self) -> int:
        """The in-flight bytes."""
        return self.front._pressure.budget.used_bytes

    def book_kernel_drops(self) -> None:
        """What the parent does every second."""
        self._drops(self.config)

    # The end.

    async def shut(self, seconds: float = DRAIN_SECONDS) -> int:
        """End the worker as the service does; how many messages nobody has."""
        self.lost = await self.front.close(asyncio.get_running_loop().time() + seconds)
        return self.lost

    async def close(self, at_rest: Callable[[], bool]) -> None:
        """Hang up for everybody, let Kafka answer, wait until all is at rest, and end."""
        for client in self._clients:
            client.abort()
        if self.lost is None:
            self.producer.reachable.set()
            self.producer.answering.set()
            for topic in self.topics.values():
                topic.moving.set()
            with suppress(TimeoutError):
                await until(lambda: not self._at_work() and at_rest())
            await self.shut()
        self.book_kernel_drops()
        for sock in (*self._senders, *self.bound.values()):
            sock.close()

    def _at_work(self) -> bool:
        return bool(self.used_bytes or sum(map(len, self.front._listeners.values())))

    def check(self) -> None:
        """Nothing is left, and the drops by reason are the drops by source."""
        assert self.used_bytes == 0, "nothing is in flight at rest"
        assert not self._at_work(), "no connection is left"
        assert self.front._publisher.open == 0, "no delivery is left"
        dropped = self.outcomes().get("dropped", 0)
        assert self.counted("ingest_syslog_dropped_total") == dropped


def _bound(endpoint: Endpoint) -> socket.socket:
    (sock,) = endpoint.bind(1)
    return sock


def _samples() -> Counter[tuple[str, frozenset[tuple[str, str]]]]:
    """(name, labels) -> value, of all counters."""
    found: Counter[tuple[str, frozenset[tuple[str, str]]]] = Counter()
    for family in metrics.REGISTRY.collect():
        for sample in family.samples:
            found[sample.name, frozenset(sample.labels.items())] += int(sample.value)
    return found


def _data(config: SyslogConfig) -> dict[str, Any]:
    """A configuration as it is validated; the contents of files stay what they are."""
    names = type(config).model_fields
    return {name: _plain(getattr(config, name)) for name in names}


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if not hasattr(value, "model_fields_set"):
        return value
    fields = type(value).model_fields
    return {fields[n].alias or n: _plain(getattr(value, n)) for n in value.model_fields_set}


def configured(
    *listeners: dict[str, Any], rules: Sequence[dict[str, Any]] = (), **sections: dict[str, Any]
) -> SyslogConfig:
    """A configuration with these listeners, TCP by default, which take all there is to them.

    Args:
        listeners: their settings; each one's name is its protocol, its source ``logs``, unless it
            says otherwise.
        rules: [[syslog.rules]].
        sections: other sections, such as ``limits``.
    """
    usual = {"listen": "127.0.0.1:0", "source": "logs"}
    each = [
        {**usual, "name": one["protocol"], **one} for one in listeners or ({"protocol": "tcp"},)
    ]
    syslog = {"listeners": each, "rules": list(rules)}
    config = SyslogConfig.model_validate({"sources": SOURCES, **sections, "syslog": syslog})
    problems = [conflict for conflict in config.conflicts() if conflict.path[:1] != ("management",)]
    assert not problems, problems
    return config


@asynccontextmanager
async def open_door(
    *listeners: dict[str, Any],
    rules: Sequence[dict[str, Any]] = (),
    real_producer: bool = False,
    errors: Sequence[str] = (),
    **sections: dict[str, Any],
) -> AsyncIterator[OpenDoor]:
    """A door with these listeners; see `configured` and the head of this module.

    With its ``real_producer`` it is not Kafka in memory that it writes to. These ``errors`` may be
    logged, or told to the event loop, by how they begin; others are failures.
    """
    config = configured(*listeners, rules=rules, **sections)
    before: Counter[str] = unaccounted()
    troubles: list[Any] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(
        lambda _, context: context["message"].startswith(tuple(errors)) or troubles.append(context)
    )
    with capture_logs() as logs, _in_a_hurry():
        door = OpenDoor(config, logs, real_producer=real_producer)
        await door.open()
        try:
            yield door
        finally:
            await door.close(lambda: unaccounted() == before)
    troubles += [log for log in logs if log["log_level"] == "error" and log["event"] not in errors]
    troubles += [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    assert not troubles, troubles
    assert unaccounted() == before, "every message received has exactly one outcome"
    door.check()


@contextmanager
def _in_a_hurry() -> Iterator[None]:
    """Has the listeners look for time limits often, and end soon."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listener_module, "SWEEP_SECONDS", _SWEEP_SECONDS)
        patch.setattr(listener_module, "QUIET_SECONDS", _QUIET_SECONDS)
        patch.setattr(accepting, "HANDSHAKE_SECONDS", _HANDSHAKE_SECONDS)
        yield
