"""The gateway as a real process on a real Kafka, and a client that remembers what it was told."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp
import pytest

from deploy.local.cluster import KAFKA_VERSION
from deploy.local.connect import Connect
from deploy.local.errors import Unavailable
from deploy.local.java import KafkaPrograms
from loadtest.forwarder import Forwarder
from loadtest.gateway import Gateway
from tests.connect_sink import FileSink

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping
    from pathlib import Path

    from tests.conftest import Kafka

EVENT_BYTES = 50_000
LETTER_BYTES = 20_000


class Answer(NamedTuple):
    """What came back for a request."""

    status: int
    headers: Mapping[str, str]
    document: dict[str, Any]

    @property
    def results(self) -> list[dict[str, Any]]:
        """The events that it lists."""
        return self.document["results"]


class Client:
    """Posts events, and adds up what the answers say of them."""

    def __init__(self, gateway: Gateway, session: aiohttp.ClientSession) -> None:
        self.gateway = gateway
        self.told: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._session = session

    async def post(
        self,
        source: str,
        body: bytes,
        content_type: str = "application/json",
        query: str = "",
        **headers: str,
    ) -> Answer:
        """Post ``body`` to ``source``; underscores in names of ``headers`` stand for hyphens."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        fields = {
            "Authorization": f"Bearer {self.gateway.key}",
            "Content-Type": content_type,
            **named,
        }
        url = f"{self.gateway.url}/v1/events/{source}{query}"
        async with self._session.post(url, data=body, headers=fields) as reply:
            answer = Answer(reply.status, reply.headers, json.loads(await reply.read()))
        if "results" in answer.document:
            self._add(self.told[source], answer.document)
        return answer

    @staticmethod
    def _add(told: Counter[str], document: Mapping[str, int]) -> None:
        retry, unknown = document["retry"], document["unknown"]
        told["acked"] += document["accepted"]
        told["rejected"] += document["rejected"]
        told["failed"] += retry + unknown
        told["received"] += document["accepted"] + document["rejected"] + retry + unknown


@pytest.fixture(scope="module")
def topics(kafka: Kafka) -> SimpleNamespace:
    """The topics of the gateway that a module shares; ``orders`` and ``plain`` are made by it."""
    return SimpleNamespace(
        orders=kafka.new_name("orders"),
        plain=kafka.new_name("plain"),
        small=kafka.create(kafka.new_name("small"), max_message_bytes="10000"),
        letters=kafka.create(kafka.new_name("letters"), 1, max_message_bytes=str(LETTER_BYTES)),
    )


@pytest.fixture(scope="module")
def gateway(kafka: Kafka, topics: SimpleNamespace) -> Iterator[Gateway]:
    """A gateway with two workers."""
    settings = {
        "http": {"workers": 2},
        "limits": {"event_bytes": EVENT_BYTES},
        "dead_letter": {"topic": topics.letters},
        "sources.load": {"topic": topics.plain},
        "sources.orders": {
            "topic": topics.orders,
            "key": "/customer_id",
            "type": "order.created",
        },
        "sources.small": {"topic": topics.small},
    }
    with Gateway(kafka.servers, settings) as gateway:
        yield gateway


@pytest.fixture(autouse=True)
def books(request: pytest.FixtureRequest) -> Iterator[None]:
    """After every test the books of the shared gateway add up."""
    shared = request.getfixturevalue("gateway") if "gateway" in request.fixturenames else None
    yield
    if shared is not None:
        shared.wait_until_at_rest()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """The HTTP client of a test."""
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def client(gateway: Gateway, session: aiohttp.ClientSession) -> Iterator[Client]:
    """A client of the shared gateway."""
    with checked(Client(gateway, session)) as client:
        yield client


@pytest.fixture
def start_client(
    kafka: Kafka, start_gateway: Callable[..., Gateway], session: aiohttp.ClientSession
) -> Iterator[Callable[..., Client]]:
    """Starts a gateway with settings of its own, and gives a client of it."""
    with ExitStack() as stack:

        def start(settings: dict[str, dict[str, Any]]) -> Client:
            plain = {"sources.load": {"topic": kafka.new_name()}}
            gateway = start_gateway(kafka.servers, {**plain, **settings})
            return stack.enter_context(checked(Client(gateway, session)))

        yield start


@contextmanager
def checked(client: Client) -> Iterator[Client]:
    """In the end its answers and the gateway's metrics must say the same of every event."""
    before = client.gateway.accounts()
    yield client
    client.gateway.wait_until_at_rest()
    after = client.gateway.accounts()
    assert {name: after[name] - before.get(name, Counter()) for name in client.told} == client.told


@pytest.fixture(scope="session")
def connect(kafka: Kafka) -> Iterator[Connect]:
    """A worker of Kafka Connect on the shared cluster; who has a connector there deletes it."""
    try:
        programs = KafkaPrograms.find(KAFKA_VERSION)  # it speaks to older brokers as well
    except Unavailable as missing:
        pytest.skip(f"no Kafka Connect: {missing}")
    with Connect(kafka.servers, programs) as connect:
        yield connect


@pytest.fixture
def start_sink(kafka: Kafka, connect: Connect, tmp_path: Path) -> Iterator[Callable[..., FileSink]]:
    """Starts sinks that write into files, by topic and converter; see `FileSink`."""
    with ExitStack() as stack:

        def start(topic: str, converter: Mapping[str, str]) -> FileSink:
            file = tmp_path / f"{topic}.txt"
            sink = FileSink(connect, kafka.servers, topic, file, converter)
            stack.callback(sink.delete)
            return sink

        yield start


@pytest.fixture
def start_forwarder(kafka: Kafka) -> Iterator[Callable[..., Forwarder]]:
    """Starts forwarders on the shared cluster; see `Forwarder`."""
    with ExitStack() as stack:

        def start(routes: Any, settings: Any = None, *, wait: bool = True) -> Forwarder:
            return stack.enter_context(Forwarder(kafka.servers, routes, settings, wait=wait))

        yield start
