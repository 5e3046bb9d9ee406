"""Kafka for the tests: where it comes from, which tests need it, and in which order they run.

A test that asks for one of the fixtures here is marked by it; there is nothing else to write.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
import uuid
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

from deploy.local import start_cluster
from deploy.local.cluster import KAFKA_VERSION
from deploy.local.errors import NoRealKafka
from loadtest.gateway import Gateway, wait_until
from loadtest.ledger import Book, Verdict, read_back, verdict
from loadtest.sender import Amount, Sender
from tests import journald, rsyslog
from tests.memory_producer import Record

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator, Iterator
    from typing import Any

    from confluent_kafka.admin import PartitionMetadata, TopicMetadata

    from deploy.local import Cluster
    from deploy.local.cluster import Node

# The checks in these are read in failures like ours.
pytest.register_assert_rewrite(
    "tests.http_door", "tests.syslog_gateway", "tests.syslog_abuse", "tests.syslog_door"
)
from tests.syslog_gateway import CheckedGateway  # noqa: E402 - not before it is registered

MARKERS = {
    "mock_kafka": "kafka",
    "kafka": "real_kafka",
    "own_kafka": "real_kafka",
    "spare_kafka": "real_kafka",
    "three_brokers": "real_kafka",
}
"""Fixture -> the marker of every test that asks for it."""
DISTURBED = ("own_kafka", "spare_kafka", "three_brokers")
"""Fixtures whose brokers are stopped, killed and frozen: their tests come last, in this order."""
AUTHORISING = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "true",
}
"""Settings of a broker that lets everybody do everything until it is told more."""
VERSION = os.environ.get("TEST_KAFKA_VERSION", KAFKA_VERSION)
"""Of the brokers that the tests start; the summary says which one it was."""
SETTLE_SECONDS = 20.0
UNREACHED = {KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT}
"""What a call ends with when it comes to no broker."""
DESCRIPTIONS = pytest.StashKey[dict[str, str]]()


class Kafka:
    """A cluster as the tests see it, by a client (librdkafka's) that is not the one under test.

    After an outage of its only broker such a client may never connect again (librdkafka's issue
    5301): a call that comes to no broker fails, and the next one has new clients.

    Every method blocks, for milliseconds unless it says more.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.servers = cluster.bootstrap_servers
        self.nodes = cluster.nodes
        self._settings = {"bootstrap.servers": self.servers, "log_level": 0}

    @cached_property
    def _admin(self) -> AdminClient:
        return AdminClient(self._settings)

    @cached_property
    def _look(self) -> AdminClient:
        """Gets past a frozen broker."""
        return AdminClient({**self._settings, "socket.timeout.ms": 1000})

    @contextmanager
    def _renewing(self) -> Iterator[None]:
        try:
            yield
        except (KafkaException, TimeoutError) as error:
            if isinstance(error, TimeoutError) or error.args[0].code() in UNREACHED:
                for client in ("_admin", "_look"):
                    self.__dict__.pop(client, None)
            raise

    @property
    def node(self) -> Node:
        """The only broker."""
        (node,) = self.nodes
        return node

    @staticmethod
    def new_name(stem: str = "t") -> str:
        """A name that no topic has, here or in a cluster that is used again and again."""
        return f"{stem}-{uuid.uuid4().hex[:12]}"

    def answers(self) -> bool:
        """Whether a broker answers within a second."""
        try:
            self._listed(1)
        except KafkaException:
            return False
        return True

    def falls_silent(self) -> bool:
        """Whether it stops to answer; what it said before may still be on its way."""
        give_up = time.monotonic() + SETTLE_SECONDS
        while self.answers():
            if time.monotonic() > give_up:
                return False
        return True

    def create(self, topic: str, partitions: int = 4, **config: str) -> str:
        """Create a topic with one replica; underscores in names of ``config`` stand for dots."""
        named = {name.replace("_", "."): value for name, value in config.items()}
        self._finished(self._admin.create_topics([NewTopic(topic, partitions, 1, config=named)]))
        return topic

    def delete(self, topic: str) -> None:
        """Delete a topic."""
        self._finished(self._admin.delete_topics([topic]))

    def grow(self, topic: str, partitions: int) -> None:
        """Have ``partitions`` partitions in a topic that has fewer."""
        self._finished(self._admin.create_partitions([NewPartitions(topic, partitions)]))

    def configure(self, topic: str, name: str, value: str) -> None:
        """Change one setting of a topic, and see that the broker knows it."""
        entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource("topic", topic, incremental_configs=[entry])
        self._finished(self._admin.incremental_alter_configs([resource]))
        wanted = ConfigResource("topic", topic)

        def is_known() -> bool:
            (found,) = self._finished(self._admin.describe_configs([wanted]))
            return bool(found[name].value == value)

        wait_until(is_known, SETTLE_SECONDS, f"{name} of {topic} is not {value}")

    def allow(self, topic: str, *operations: AclOperation) -> None:
        """Let clients do to ``topic`` only that, from now on. Only a test's own broker can."""
        name = (ResourceType.TOPIC, topic, ResourcePatternType.LITERAL)
        self._finished(
            self._admin.create_acls(
                [
                    AclBinding(*name, "User:ANONYMOUS", "*", each, AclPermissionType.ALLOW)
                    for each in operations
                ]
            )
        )
        everything = (None, None, AclOperation.ANY, AclPermissionType.ANY)
        known: list[AclBinding] = []
        while not set(operations) <= {each.operation for each in known}:
            with self._renewing():
                known = self._admin.describe_acls(AclBindingFilter(*name, *everything)).result(1)

    def replicas(self, topic: str) -> dict[int, list[int]]:
        """Partition -> the brokers that have it, its leader first; empty where there is none."""
        found = self._partitions(topic)
        return {number: _leader_first(each, each.replicas) for number, each in found.items()}

    def in_sync(self, topic: str) -> dict[int, list[int]]:
        """Partition -> the brokers that have all of it, its leader first, as one broker sees it."""
        found = self._partitions(topic)
        return {number: _leader_first(each, each.isrs) for number, each in found.items()}

    def _partitions(self, topic: str) -> dict[int, PartitionMetadata]:
        found = self._topics().get(topic)
        return found.partitions if found is not None else {}

    def _topics(self) -> dict[str, TopicMetadata]:
        give_up = time.monotonic() + SETTLE_SECONDS
        while True:
            try:
                return self._listed(2)
            except KafkaException:
                if time.monotonic() > give_up:
                    raise

    def _listed(self, seconds: float) -> dict[str, TopicMetadata]:
        with self._renewing():
            return self._look.list_topics(timeout=seconds).topics

    def settings(self, topic: str) -> dict[str, str]:
        """The configuration of a topic."""
        resource = ConfigResource("topic", topic)
        (found,) = self._finished(self._admin.describe_configs([resource]))
        return {name: entry.value for name, entry in found.items()}

    def read(self, topic: str) -> list[Record]:
        """Every record that is in ``topic`` now; none where there is no such topic."""
        partitions = [TopicPartition(topic, number) for number in self.replicas(topic)]
        if not partitions:
            return []
        settings = {"bootstrap.servers": self.servers, "group.id": "unused", "log_level": 0}
        consumer = Consumer({**settings, "enable.auto.commit": False, "fetch.wait.max.ms": 10})
        try:
            return _read_all(consumer, partitions)
        finally:
            consumer.close()

    def _finished(self, futures: dict[Any, Any]) -> list[Any]:
        with self._renewing():
            return self._done(futures)

    @staticmethod
    def _done(futures: dict[Any, Any]) -> list[Any]:
        return [future.result(SETTLE_SECONDS) for future in futures.values()]


def _leader_first(partition: PartitionMetadata, brokers: list[int]) -> list[int]:
    return sorted(brokers, key=lambda broker: broker != partition.leader)


def _read_all(consumer: Consumer, partitions: list[TopicPartition]) -> list[Record]:
    limits = [consumer.get_watermark_offsets(each, timeout=SETTLE_SECONDS) for each in partitions]
    missing = sum(high - low for low, high in limits)
    consumer.assign([TopicPartition(p.topic, p.partition, OFFSET_BEGINNING) for p in partitions])
    records: list[Record] = []
    while len(records) < missing:
        found = consumer.consume(missing - len(records), timeout=SETTLE_SECONDS)
        assert found, f"{missing - len(records)} records are there and do not come"
        records += [_record(message) for message in found if message.error() is None]
    return records


def _record(message: Any) -> Record:
    return Record(
        message.partition(),
        message.offset(),
        message.key(),
        message.value(),
        message.headers() or [],
        message.timestamp()[1],
    )


# Where Kafka comes from.


@pytest.fixture(scope="session")
def kafka(pytestconfig: pytest.Config) -> Iterator[Kafka]:
    """The real cluster that tests share: nobody disturbs it, everybody has topics of their own."""
    with _started(pytestconfig, "shared by the tests", real=True) as shared:
        yield shared


@pytest.fixture(scope="session")
def mock_kafka(pytestconfig: pytest.Config) -> Iterator[Kafka]:
    """The mock cluster, which has neither limits nor refusals."""
    with _started(pytestconfig, "the mock", mock=True) as mock:
        yield mock


@pytest.fixture
def own_kafka(pytestconfig: pytest.Config) -> Iterator[Kafka]:
    """A real broker for one test, which may do to it what it likes."""
    what = "one for each test that disturbs it"
    with _started(pytestconfig, what, real=True, own=True, config=AUTHORISING) as own:
        yield own


@pytest.fixture(scope="session")
def _spare_kafka(pytestconfig: pytest.Config) -> Iterator[Kafka]:
    what = "one that tests disturb in turn"
    with _started(pytestconfig, what, real=True, own=True) as spare:
        yield spare


@pytest.fixture
def spare_kafka(_spare_kafka: Kafka) -> Iterator[Kafka]:
    """A real broker that a test may kill or freeze: the next one finds it mended."""
    yield _spare_kafka
    _spare_kafka.node.resume()
    _spare_kafka.node.start()


@pytest.fixture(scope="session")
def three_brokers(pytestconfig: pytest.Config) -> Iterator[Kafka]:
    """Three real brokers; who stops one starts it again. New topics have two replicas."""
    config = {"default.replication.factor": "2"}
    with _started(
        pytestconfig, "three brokers", real=True, own=True, brokers=3, config=config
    ) as three:
        yield three


@contextmanager
def _started(pytestconfig: pytest.Config, what: str, **options: Any) -> Iterator[Kafka]:
    try:
        cluster = start_cluster(kafka_version=VERSION, **options)
    except NoRealKafka as missing:
        pytest.skip(str(missing))
    pytestconfig.stash[DESCRIPTIONS].setdefault(what, cluster.description)
    with cluster:
        yield Kafka(cluster)


# What runs on it.


@pytest.fixture
def start_gateway() -> Iterator[Callable[..., Gateway]]:
    """Starts gateways; see `loadtest.gateway.Gateway`. Their books must add up in the end."""
    with ExitStack() as stack:

        def start(servers: str, settings: Any = None, *, wait: bool = True) -> Gateway:
            gateway = stack.enter_context(Gateway(servers, settings, wait=wait))
            stack.callback(_check_books, gateway)
            return gateway

        yield start


def _check_books(gateway: Gateway) -> None:
    if gateway.process.running:  # else the test itself has ended it, and has looked before
        gateway.wait_until_at_rest()


@pytest.fixture
def start_syslog_gateway() -> Iterator[Callable[..., CheckedGateway]]:
    """Starts syslog gateways; see `CheckedGateway`. Their books must add up in the end."""
    with ExitStack() as stack:

        def start(
            servers: str, listeners: Any, settings: Any = None, *, wait: bool = True
        ) -> CheckedGateway:
            made = CheckedGateway(servers, listeners, settings, wait=wait)
            gateway = stack.enter_context(made)
            stack.callback(_check_syslog_books, gateway)
            return gateway

        yield start


def _check_syslog_books(gateway: CheckedGateway) -> None:
    if gateway.process.running:  # else the test itself has ended it
        gateway.check_books()


@pytest.fixture
def start_rsyslogd() -> Callable[..., rsyslog.Rsyslogd]:
    """Makes an rsyslogd of the test's own that forwards to a gateway; see `rsyslog.Rsyslogd`."""
    missing = rsyslog.missing()
    if missing:
        pytest.skip(missing)
    return rsyslog.Rsyslogd


@pytest.fixture
def journald_program() -> None:
    """A journald of the test's own must be possible; see `journald.Journald`."""
    missing = journald.missing()
    if missing:
        pytest.skip(missing)


@pytest.fixture
def logger_program() -> None:
    """The ``logger`` of util-linux must be there."""
    if shutil.which("logger") is None:
        pytest.skip("needs the logger of util-linux: apt-get install bsdutils")


class TimedSender(Sender):
    """A connection of the ledger that notes how long each request took, its pauses included."""

    def __init__(
        self, name: str, book: Book, amount: Amount, waits: list[tuple[float, float]]
    ) -> None:
        super().__init__(name, book, amount, resend=False)
        self._waits = waits

    def hang_up(self) -> None:
        """Close its connection."""
        if self._exchange is not None:
            self._exchange.close()

    async def _post(
        self, url: str, key: str, source: str, batch: dict[str, bytes]
    ) -> dict[str, bytes]:
        begun = time.monotonic()
        left = await super()._post(url, key, source, batch)
        self._waits.append((begun, time.monotonic() - begun))
        return left


class Load:
    """Clients that send batches with known ids all the time, and book and time every answer.

    Attributes:
        book: what was sent and answered.
    """

    def __init__(self, gateway: Gateway, connections: int, batch: int) -> None:
        self.book = Book()
        self._waits: list[tuple[float, float]] = []
        self._amount = Amount(float("inf"), float("inf"))
        run = uuid.uuid4().hex[:8]
        self._senders = [
            TimedSender(f"{run}-{number}", self.book, self._amount, self._waits)
            for number in range(connections)
        ]
        self._tasks = [
            asyncio.create_task(sender.run(gateway.url, gateway.key, "load", batch))
            for sender in self._senders
        ]

    @property
    def waits(self) -> list[float]:
        """The seconds that each request took."""
        return self.waits_since(0.0)

    def waits_since(self, moment: float) -> list[float]:
        """The seconds that each request took which was begun after ``moment``, monotonic."""
        return [seconds for begun, seconds in self._waits if begun > moment]

    async def answers(self, *statuses: int, more: int = 50) -> None:
        """Wait until so many ``more`` requests got one of these HTTP statuses."""
        wanted = self._count(statuses) + more
        async with asyncio.timeout(SETTLE_SECONDS):
            while self._count(statuses) < wanted:
                await asyncio.sleep(0.01)

    def _count(self, statuses: tuple[int, ...]) -> int:
        return sum(self.book.http[status] for status in statuses)

    async def finish(self) -> None:
        """Send nothing new, and wait for the answers that are due."""
        self._amount.events = 0
        await asyncio.gather(*self._tasks)
        self.book.close()

    async def cut_off(self) -> None:
        """End it though there is nobody to answer any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for sender in self._senders:
            sender.hang_up()
        self.book.close()

    async def verdict(self, servers: str, topic: str) -> Verdict:
        """Hold what was answered against what is in ``topic``."""
        return verdict(self.book, await read_back(servers, topic))


@pytest.fixture
async def start_load() -> AsyncIterator[Callable[..., Load]]:
    """Starts a load on a gateway's source ``load``; it ends with the test."""
    loads: list[Load] = []

    def start(gateway: Gateway, connections: int = 4, batch: int = 10) -> Load:
        loads.append(Load(gateway, connections, batch))
        return loads[-1]

    yield start
    for load in loads:
        await load.cut_off()


# Which tests need it, and when they run.


def pytest_configure(config: pytest.Config) -> None:
    """Have a place to note which clusters were used."""
    config.stash[DESCRIPTIONS] = {}


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need Kafka; quick ones run first, those that disturb brokers last."""
    for item in items:
        wanted = _fixtures(item)
        for name in wanted & MARKERS.keys():
            item.add_marker(MARKERS[name])
        if not wanted.isdisjoint(DISTURBED):
            item.add_marker("disturbs")
    items.sort(key=_place)


def _fixtures(item: pytest.Item) -> set[str]:
    arguments = item.callspec.params if hasattr(item, "callspec") else ()
    return set(getattr(item, "fixturenames", ())) - set(arguments)


def _place(item: pytest.Item) -> int:
    wanted = _fixtures(item)
    for place, name in enumerate(DISTURBED, start=2):
        if name in wanted:
            return place
    return int(_needs_kafka(item))


def _needs_kafka(item: pytest.Item) -> bool:
    return any(item.get_closest_marker(name) for name in MARKERS.values())


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where tests run abreast, tell the process that sums up which clusters were used here."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["kafka"] = session.config.stash[DESCRIPTIONS]


@pytest.hookimpl(optionalhook=True)  # it is there where tests run abreast
def pytest_testnodedown(node: Any) -> None:
    """One of the processes has ended."""
    node.config.stash[DESCRIPTIONS].update(getattr(node, "workeroutput", {}).get("kafka", {}))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that needs Kafka and is skipped has failed where nothing may be missing."""
    report = yield
    skipped = report.skipped and not hasattr(report, "wasxfail")
    if skipped and _needs_kafka(item) and os.environ.get("CI") == "true":
        report.outcome = "failed"
        reason = report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr
        report.longrepr = f"CI=true forbids to skip this. {reason}"
    return report


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say which Kafka the tests ran on."""
    for what, description in config.stash[DESCRIPTIONS].items():
        terminalreporter.write_line(f"kafka, {what}: {description}")
