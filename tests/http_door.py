"""The HTTP door on a real socket, over Kafka in memory, and a client that sends bytes as told.

Every door checks at its end that every event has one outcome, that nothing is left in the in-flight
budget, and that nothing went wrong behind the scenes; every answer is held against the contract.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import json
import re
import socket
from asyncio.subprocess import PIPE
from collections import Counter
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import pytest
import uvloop
from structlog.testing import capture_logs

from ingest import metrics
from ingest.dead_letter import DeadLetters
from ingest.inflight import Budget
from ingest_http.app import App
from ingest_http.config import HttpConfig
from ingest_http.door import Door
from ingest_http.publish import Publisher
from ingest_http.rules import Rules, compiled
from ingest_http.tls import http_context
from tests.memory_producer import MemoryProducer, MemoryTopic

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Mapping

    from tests.memory_producer import Record

KEY, BILLING_KEY = "key of the shop", "key of billing"
"""A key for every source, and one for ``billing-*`` only."""
LETTERS = "ingest.rejected"
CANARY = "canary"
"""Stands for what no answer may quote."""
PATIENCE = 5.0

_STATUSES = {200, 202, 207, 400, 401, 403, 404, 405, 408, 413, 415, 417, 422, 429, 503, 504}
_RESULTS = {"request_id", "accepted", "results"}
_DISCOVERY = {"openapi", "curl"}
_COUNTS = ("accepted", "spooled", "rejected", "retry", "unknown")
_INTERNALS = re.compile(rb"[a-z](Error|Exception)\b|Traceback|msgspec|aiohttp| at 0x")
KEYS = {
    "shop": {"sha256": [hashlib.sha256(KEY.encode()).hexdigest()], "sources": ["*"]},
    "billing": {
        "sha256": [hashlib.sha256(BILLING_KEY.encode()).hexdigest()],
        "sources": ["billing-*"],
    },
}
"""The section [auth.keys]."""
_SECTIONS = {
    "http": {"access_log_sample": 0.0},
    "auth": {"keys": KEYS},
    "sources": {
        "orders": {},
        "keyed": {"key": "/customer"},
        "small": {},
        "compacted": {"key": "/customer"},
        "logs": {},
    },
    "syslog_sources": {"logs": ("syslog", "listeners")},
}


def request(
    body: bytes = b"{}",
    *headers: str,
    source: str = "orders",
    target: str | None = None,
    method: str = "POST",
    version: str = "1.1",
    key: str | None = KEY,
    media: str | None = "application/json",
    host: str = "gateway",
) -> bytes:
    """The bytes of a request; its length is declared unless ``headers`` declare it."""
    lines = [f"{method} {target or f'/v1/events/{source}'} HTTP/{version}", f"Host: {host}"]
    if key is not None:
        lines.append(f"X-API-Key: {key}")
    if media is not None:
        lines.append(f"Content-Type: {media}")
    if not any(line.lower().startswith(("content-length", "transfer-enc")) for line in headers):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


def ndjson(*lines: bytes) -> bytes:
    """One event a line."""
    return b"".join(line + b"\n" for line in lines)


def array(*events: bytes) -> bytes:
    """A JSON array."""
    return b"[%b]" % b",".join(events)


def chunked(*pieces: bytes) -> bytes:
    """The pieces as chunks (RFC 9112, section 7.1), and the last chunk."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def on_uvloop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an asynchronous test on the event loop of the service."""

    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(test(*arguments, **named))

    return run


async def until(condition: Callable[[], Any], seconds: float = PATIENCE) -> None:
    """Wait until ``condition()`` holds; it is an error when it does not in time."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)


@dataclass(frozen=True)
class Answer:
    """One answer; the names of its header fields are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        """The JSON of the body."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The stable word of a problem document."""
        return self.document["code"]

    @property
    def results(self) -> list[dict[str, Any]]:
        """The listed events."""
        return self.document["results"]

    @property
    def counts(self) -> dict[str, int]:
        """The counts that are not 0."""
        return {name: self.document[name] for name in _COUNTS if self.document[name]}

    @property
    def closes(self) -> bool:
        """Whether it says that the connection ends with it."""
        return self.headers.get("connection") == "close"

    @property
    def bare(self) -> bool:
        """Whether it is the answer to what is not HTTP."""
        return (self.status, self.body, self.closes) == (400, b"", True)

    def require_contract(self) -> None:
        """What holds for every answer to an HTTP request."""
        assert self.status in _STATUSES, self
        failed = self.status >= 400
        document = self.document
        kind = "application/problem+json" if failed else "application/json"
        assert self.headers["content-type"] == kind
        assert not _INTERNALS.search(self.body), self
        assert CANARY not in self.body.decode(), self
        if not failed and not _RESULTS.issubset(document):
            assert _DISCOVERY & document.keys()  # what is asked for by GET
            return
        assert self.headers["x-request-id"] == document["request_id"]
        if failed:
            assert document["status"] == self.status
            assert document["code"]
            assert document["title"]
            assert len(document["detail"]) <= 200
        if self.status in {429, 503, 504}:
            assert int(self.headers["retry-after"]) >= 1
        if not failed or "results" in document:
            self._require_results()

    def _require_results(self) -> None:
        document, found = self.document, Counter(each["status"] for each in self.results)
        indices = [each["index"] for each in self.results]
        assert indices == sorted(set(indices))
        assert document["spooled"] <= document["accepted"]
        for status in ("retry", "unknown"):
            assert found[status] == document[status]
        if not document.get("truncated"):
            assert found["rejected"] == document["rejected"]
        assert all(len(each.get("detail", "")) <= 200 for each in self.results)


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> Self:
        """Send bytes."""
        self.writer.write(data)
        await self.writer.drain()
        return self

    async def answer(self, *, bare: bool = False) -> Answer:
        """The next answer, held against the contract unless it is to be a ``bare`` one."""
        answer = await self._answer()
        if bare:
            assert answer.bare, answer
        else:
            answer.require_contract()
        return answer

    async def head(self) -> tuple[int, dict[str, str]]:
        """The next status line and header."""
        async with asyncio.timeout(PATIENCE):
            head = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode().removesuffix("\r\n\r\n").split("\r\n")
        version, status, _ = first.split(" ", 2)
        assert version == "HTTP/1.1"
        fields = (line.split(": ", 1) for line in lines)
        return int(status), {name.lower(): value for name, value in fields}

    async def _answer(self) -> Answer:
        status, headers = await self.head()
        if status == 100:
            return Answer(status, headers, b"")
        async with asyncio.timeout(PATIENCE):
            body = await self.reader.readexactly(int(headers["content-length"]))
        return Answer(status, headers, body)

    async def ask(self, data: bytes) -> Answer:
        """Send a request and read its answer."""
        await self.send(data)
        return await self.answer()

    async def rest(self, seconds: float = PATIENCE) -> bytes:
        """What comes until the server closes the connection."""
        async with asyncio.timeout(seconds):
            return await self.reader.read()

    def is_open(self) -> bool:
        """Whether the server has not closed it, as far as is known here."""
        return not self.reader.at_eof() and self.reader.exception() is None

    async def closed(self, seconds: float = PATIENCE) -> None:
        """Wait until the server has closed it."""
        await until(lambda: not self.is_open(), seconds)

    def abort(self) -> None:
        """Hang up, whatever is on the way."""
        self.writer.transport.abort()


class OpenDoor:
    """A door that is open.

    Attributes:
        port: where it listens, on 127.0.0.1.
        topics: the topics of the Kafka in memory.
        producer: writes to them.
        budget: the in-flight bytes.
        door: what is tested.
    """

    def __init__(self, config: HttpConfig) -> None:
        self.topics = {name: MemoryTopic() for name in (*config.sources, LETTERS)}
        self.topics["small"] = MemoryTopic(max_message_bytes=10_000)
        self.topics["compacted"] = MemoryTopic(compacted=True)
        self.producer = MemoryProducer(self.topics)
        self.budget = Budget(config.limits.inflight_bytes)
        letters = DeadLetters(self.producer, LETTERS) if config.dead_letter.mode == "on" else None
        publisher = Publisher(self.producer, letters)
        rules = Rules(config, compiled(config), self.budget)
        self.app = App(config, rules, publisher, self.budget)
        context = http_context(config.http.tls) if config.http.tls is not None else None
        self.door = Door(self.app.handle, config.http, config.limits, context)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.socket.getsockname()[1]
        self._clients: list[Client] = []

    async def connect(self, **options: Any) -> Client:
        """A new connection."""
        found = await asyncio.open_connection("127.0.0.1", self.port, **options)
        return self.adopt(Client(*found))

    def adopt(self, client: Client) -> Client:
        """Hang up for a client that was connected otherwise, at the end."""
        self._clients.append(client)
        return client

    async def ask(self, data: bytes) -> Answer:
        """Send a request on a connection of its own and read its answer."""
        client = await self.connect()
        answer = await client.ask(data)
        client.abort()
        return answer

    async def post(self, body: bytes = b"{}", *headers: str, **parts: Any) -> Answer:
        """Send a request and read its answer; see `request`."""
        return await self.ask(request(body, *headers, **parts))

    async def curl(self, target: str, *options: str, body: bytes = b"") -> bytes:
        """What ``curl`` prints after it has sent ``body``, in a process of its own."""
        url = f"http://127.0.0.1:{self.port}/v1/events/{target}"
        usual = ("curl", "-sS", "-H", f"X-API-Key: {KEY}", "--data-binary", "@-")
        curl = await asyncio.create_subprocess_exec(*usual, *options, url, stdin=PIPE, stdout=PIPE)
        printed, _ = await curl.communicate(body)
        assert curl.returncode == 0, printed
        return printed

    def records(self, topic: str = "orders") -> list[Record]:
        """The records of a topic, in the order in which they were written."""
        return self.topics[topic].records

    def values(self, topic: str = "orders") -> list[dict[str, Any]]:
        """The record values of a topic."""
        return [json.loads(record.value) for record in self.records(topic)]

    def is_untouched(self) -> bool:
        """Whether no topic has a record."""
        return not any(topic.records for topic in self.topics.values())

    async def close(self, at_rest: Callable[[], bool]) -> None:
        """Close every connection, let Kafka answer, wait until all is at rest, and end."""
        for client in self._clients:
            client.abort()
        self.producer.reachable.set()
        self.producer.answering.set()
        with suppress(TimeoutError):
            await until(lambda: not (len(self.door) or self.budget.used_bytes) and at_rest())
        self.door.stop_listening()
        self.socket.close()
        await self.door.finish(0.0)


def counted(name: str, **labels: str) -> float:
    """The sum of a counter over all labels but those that are given."""
    return sum(_samples(name, labels).values())


def _samples(name: str, labels: Mapping[str, str]) -> dict[str, float]:
    found: Counter[str] = Counter()
    for family in metrics.REGISTRY.collect():
        for sample in family.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                found[sample.labels.get("source", "")] += sample.value
    return found


def unaccounted() -> Counter[str]:
    """Source -> events received less events with an outcome, where they differ."""
    received = Counter(_samples("ingest_events_received_total", {}))
    received.subtract(_samples("ingest_events_total", {}))
    return Counter({source: number for source, number in received.items() if number})


@asynccontextmanager
async def open_door(**sections: dict[str, Any]) -> AsyncIterator[OpenDoor]:
    """A door with these settings on top of the usual ones; see the head of this module."""
    config = {name: _SECTIONS.get(name, {}) | section for name, section in sections.items()}
    door = OpenDoor(HttpConfig.model_validate(_SECTIONS | config))
    before: Counter[str] = unaccounted()
    troubles: list[Any] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: troubles.append(context))
    door.door.open([door.socket])
    with capture_logs() as logs:
        try:
            yield door
        finally:
            await door.close(lambda: unaccounted() == before)
    assert unaccounted() == before, "every event received has exactly one outcome"
    assert door.budget.used_bytes == 0, "nothing is in flight at rest"
    assert len(door.door) == 0, "no connection is left"
    troubles += [log for log in logs if log["log_level"] == "error"]
    assert not troubles, troubles


@pytest.fixture
async def door() -> AsyncIterator[OpenDoor]:
    """A door with the usual settings."""
    async with open_door() as opened:
        yield opened
