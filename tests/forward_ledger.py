"""What tests of the forwarder share: a topic that is fed, the topic that a route fills, the ledger.

The truth is the source topic itself: each of its records must be in the target, with its place in
the headers. The tests that use it are in `tests/faults`.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from ingest.envelope import data_of
from loadtest.forward_load import Feed, Sealed, fill
from loadtest.forwarder import Forwarder
from loadtest.gateway import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from deploy.local import Cluster
    from tests.conftest import Kafka
    from tests.memory_producer import Record

ROUTE = "route"
TARGET_PARTITIONS = 4
SETTLE_SECONDS = 20.0
FLOW_SECONDS = 40.0
"""The group must have noticed by then that a member was killed."""
Sections = dict[str, dict[str, Any]]


class Place(NamedTuple):
    """Where a record was read."""

    topic: str
    partition: int
    offset: int


def came_from(record: Record) -> Place:
    """Where a record that was forwarded was read, by its headers; each must be there once."""
    found = {name: value for name, value in record.headers if name.startswith("ingest.from.")}
    assert len(record.headers) == len(dict(record.headers)), record.headers
    return Place(
        found["ingest.from.topic"].decode(),
        int(found["ingest.from.partition"]),
        int(found["ingest.from.offset"]),
    )


@dataclass(frozen=True)
class Verdict:
    """A source topic, next to what a plain route made of it.

    Attributes:
        read: records of the source.
        missing: places of those that are not in the target.
        wrong: places in headers of the target that do not hold the event, or another key.
        repeated: place -> how often it is in the target beyond the first time.
        disordered: keys whose events are not there in the order of the source, repetitions apart.
    """

    read: int
    missing: set[Place]
    wrong: set[Place]
    repeated: Counter[Place]
    disordered: set[bytes | None]

    @property
    def ok(self) -> bool:
        """Whether everything is there, whatever is there twice."""
        return not (self.missing or self.wrong or self.disordered)


def compare(topic: str, source: Iterable[Record], target: Sequence[Record]) -> Verdict:
    """Hold a target against its source ``topic``; both in the order of their partitions."""
    read = {Place(topic, each.partition, each.offset): each for each in source}
    places = [came_from(each) for each in target]
    times, wrong, disordered = Counter(places), set(), set()
    last: dict[bytes | None, tuple[int, Place]] = {}
    seen: set[Place] = set()
    for place, record in zip(places, target, strict=True):
        origin = read.get(place)
        if origin is None or (origin.key, data_of(origin.value)) != (record.key, record.value):
            wrong.add(place)
        if place in seen:
            continue
        seen.add(place)
        if record.key is None:  # these have no order
            continue
        now = (record.partition, place)
        before = last.setdefault(record.key, now)
        if before[0] != now[0] or before[1] > place:
            disordered.add(record.key)
        last[record.key] = now
    repeated = Counter({place: found - 1 for place, found in times.items() if found > 1})
    return Verdict(len(read), read.keys() - times.keys(), wrong, repeated, disordered)


def afresh(kafka: Kafka) -> Kafka:
    """The same cluster, by new clients: old ones may never connect any more after an outage."""
    cluster = SimpleNamespace(bootstrap_servers=kafka.servers, nodes=kafka.nodes)
    return type(kafka)(cast("Cluster", cluster))


class Highway:
    """One route from a topic to another, and who may run it.

    Args:
        kafka: where the topics are made.
        partitions: of the source.
        settings: by section: values that differ.
        route: keys of the route that differ.

    Attributes:
        source, target, letters: the topics; the dead letter topic is made when it is needed.
        group: the consumer group.
        route: as in a configuration.
    """

    def __init__(
        self, kafka: Kafka, partitions: int = 4, settings: Sections | None = None, **route: Any
    ) -> None:
        self.source = kafka.create(kafka.new_name("from"), partitions)
        self.target = kafka.create(kafka.new_name("to"), TARGET_PARTITIONS)
        self.letters = kafka.new_name("letters")
        self.group = kafka.new_name("group")
        self.route = {"name": ROUTE, "from": [self.source], "to": self.target, "format": "plain"}
        self.route |= route
        self._kafka = kafka
        self._partitions = {self.source: partitions, self.target: TARGET_PARTITIONS}
        self._settings: Sections = {
            "forward": {"group": self.group},
            "dead_letter": {"topic": self.letters},
            **(settings or {}),
        }

    def forwarder(self, **route: Any) -> Forwarder:
        """One of the group, not started; ``route`` has keys of the route that differ."""
        return Forwarder(self._kafka.servers, [{**self.route, **route}], self._settings)

    def feed(self, per_second: int = 2000) -> Feed:
        """Numbered events for the source, at a steady rate; not begun."""
        return Feed(self._kafka.servers, self.source, per_second)

    def fill(self, records: Iterable[Sealed], partition: int = -1) -> None:
        """Have records in the source."""
        fill(self._kafka.servers, self.source, records, partition)

    def ends(self, topic: str) -> dict[int, int]:
        """Partition -> the offset of its next record."""
        give_up = time.monotonic() + SETTLE_SECONDS
        while True:
            try:
                return self._ends(topic)
            except KafkaException:  # a leader that has just come back does not know itself yet
                if time.monotonic() > give_up:
                    raise

    def _ends(self, topic: str) -> dict[int, int]:
        partitions = [TopicPartition(topic, number) for number in range(self._partitions[topic])]
        client = self._ask()
        found = client.list_offsets({each: OffsetSpec.latest() for each in partitions})
        return {each.partition: f.result(SETTLE_SECONDS).offset for each, f in found.items()}

    def _ask(self) -> AdminClient:
        """A client of now: an old one insists on the leader's epoch of before an outage."""
        return AdminClient({"bootstrap.servers": self._kafka.servers, "log_level": 0})

    def committed(self) -> dict[int, int]:
        """Partition of the source -> the offset that the group has committed; only where it has."""
        asked = [ConsumerGroupTopicPartitions(self.group)]
        client = self._ask()  # which must live for as long as its answers are waited for
        (found,) = client.list_consumer_group_offsets(asked).values()
        places = found.result(SETTLE_SECONDS).topic_partitions
        return {p.partition: p.offset for p in places if p.topic == self.source and p.offset >= 0}

    def commits(self) -> None:
        """Wait until the group commits something."""
        before = self.committed()
        wait_until(lambda: self.committed() != before, SETTLE_SECONDS, "nothing is committed")

    def uncommitted(self) -> int:
        """How many records of the source the group has not committed."""
        return sum(self.ends(self.source).values()) - sum(self.committed().values())

    def written(self) -> int:
        """How many records are in the target."""
        return sum(self.ends(self.target).values())

    def flows(self, more: int = 1000, seconds: float = FLOW_SECONDS) -> None:
        """Wait until so many more records are in the target."""
        wanted = self.written() + more
        wait_until(lambda: self.written() >= wanted, seconds, "nothing flows")

    def wait_until_done(self, seconds: float = FLOW_SECONDS) -> None:
        """Wait until the group has committed everything that is in the source.

        Raises:
            TimeoutError: it had not within ``seconds``; the text has how far it was.
        """
        ends = {number: end for number, end in self.ends(self.source).items() if end}
        try:
            wait_until(lambda: self.committed() == ends, seconds, "")
        except TimeoutError:
            raise TimeoutError(f"{self.committed()} committed of {ends}") from None

    def verdict(self) -> Verdict:
        """Hold the target against the source, as they are now."""
        kafka = afresh(self._kafka)
        return compare(self.source, kafka.read(self.source), kafka.read(self.target))
