"""What the forwarder reads in tests and benchmarks: envelopes as the gateway writes them.

They come by librdkafka's producer, which is neither the gateway's nor the forwarder's.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from itertools import count, islice
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import msgspec
from confluent_kafka import Producer

from ingest.envelope import CONTENT_TYPE, Envelope, head_type
from ingest.reception import Receptions
from loadtest.events import events

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

SOURCE = "orders"
TYPE = "order.created"
REQUEST_EVENTS = 100
"""Events that share a request, and so the base of their ids and their time."""
KEYS = 200
"""How many keys the numbered events have."""
TICK_SECONDS = 0.02
FLUSH_SECONDS = 60.0
_KEY = ("customer_id",)
_HEADERS: list[tuple[str, str | bytes | None]] = [CONTENT_TYPE]
_HEAD = msgspec.json.Decoder(head_type(_KEY))


class Sealed(NamedTuple):
    """A record of a source's topic."""

    key: bytes | None
    value: bytes


class Sealer:
    """Seals events as the gateway does for a source with the key ``/customer_id``."""

    def __init__(self) -> None:
        self._envelope = Envelope(SOURCE, TYPE, _KEY)
        self._receptions = Receptions()

    def seal(self, request: Sequence[bytes]) -> list[Sealed]:
        """The records of one request's events."""
        heads = [_HEAD.decode(event) for event in request]
        received = self._receptions.now()
        values = self._envelope.seal(heads, request, range(len(request)), received)
        keys: list[Any] = self._envelope.keys(heads)
        return list(map(Sealed, keys, values))


def sealed_events(amount: int, seed: int = 1) -> list[Sealed]:
    """So many of `loadtest.events`, sealed."""
    sealer = Sealer()
    requests = _requests(islice(events(seed), amount))
    return [record for request in requests for record in sealer.seal(request)]


def numbered_events(run: str, keys: int = KEYS, note: str = "") -> Iterator[bytes]:
    """Endless small events with ids of their own, ``RUN-NUMBER``, whose keys come in turn.

    Args:
        run: what the ids begin with.
        keys: how many keys there are.
        note: text in each event, to make it larger.
    """
    for number in count():
        event = {"id": f"{run}-{number}", "customer_id": f"c-{number % keys}", "total": number / 4}
        if note:
            event["note"] = note
        yield json.dumps(event, separators=(",", ":")).encode()


class Writer:
    """Writes records to one topic; each is there once, in the order in which it was written.

    Args:
        bootstrap_servers: where Kafka is. A broker that was fenced, and answers again, may name no
            broker at all: librdkafka (2.16, its issue 5301) then never connects any more. Use a new
            writer after an outage.
        topic: must be there.
    """

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        self._topic = topic
        self._failures: list[str] = []
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap_servers,
                "enable.idempotence": True,
                "partitioner": "murmur2_random",
                "compression.type": "zstd",
                "linger.ms": 10,
                "batch.size": 1_000_000,
                "message.timeout.ms": int(FLUSH_SECONDS * 1000),
                "on_delivery": self._delivered,
                "log_level": 0,
            }
        )

    def write(self, records: Iterable[Sealed], partition: int = -1) -> int:
        """Hand over records, to their keys' partitions unless one is named; how many they were."""
        produce, poll = self._producer.produce, self._producer.poll
        written = 0
        for key, value in records:
            while True:
                try:
                    produce(self._topic, value, key, partition, headers=_HEADERS)
                except BufferError:  # its queue is full
                    poll(0.1)
                else:
                    break
            written += 1
        poll(0)
        return written

    def flush(self) -> None:
        """Wait until all is in Kafka.

        Raises:
            RuntimeError: something is not.
        """
        left = self._producer.flush(FLUSH_SECONDS)
        if left or self._failures:
            raise RuntimeError(f"{left} not written, {len(self._failures)}: {self._failures[:1]}")

    def _delivered(self, error: object, _: object) -> None:
        if error is not None:
            self._failures.append(str(error))


def fill(bootstrap_servers: str, topic: str, records: Iterable[Sealed], partition: int = -1) -> int:
    """Write records and wait until they are in Kafka; how many they were.

    Raises:
        RuntimeError: some are not.
    """
    writer = Writer(bootstrap_servers, topic)
    written = writer.write(records, partition)
    writer.flush()
    return written


class Feed:
    """Writes numbered events to a topic in a thread, at a steady rate; a context manager.

    Attributes:
        run: what their ids begin with.
        count: how many were written so far.
    """

    def __init__(self, bootstrap_servers: str, topic: str, per_second: int) -> None:
        self.run = uuid.uuid4().hex[:8]
        self.count = 0
        self._writer = Writer(bootstrap_servers, topic)
        self._per_tick = max(1, int(per_second * TICK_SECONDS))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write, daemon=True)

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End, whatever is written or not."""
        self._stop.set()
        self._thread.join()

    def finish(self) -> int:
        """Write nothing new, and wait until all is in Kafka; how many events that are.

        Raises:
            RuntimeError: some are not.
        """
        self._stop.set()
        self._thread.join()
        self._writer.flush()
        return self.count

    def _write(self) -> None:
        sealer, source, begun = Sealer(), numbered_events(self.run), time.monotonic()
        for tick in count(1):
            self.count += self._writer.write(sealer.seal(list(islice(source, self._per_tick))))
            if self._stop.wait(max(0.0, begun + tick * TICK_SECONDS - time.monotonic())):
                return


def _requests(source: Iterable[bytes]) -> Iterator[Sequence[bytes]]:
    """``source`` in lists of `REQUEST_EVENTS`."""
    rest = iter(source)
    while request := list(islice(rest, REQUEST_EVENTS)):
        yield request
