"""What tests of the spool share: services that have one, a client that keeps score, and a look in.

The tests that use it are in `tests/faults`.
"""

from __future__ import annotations

import base64
import http.client
import json
import random
import time
import uuid
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from loadtest.gateway import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from loadtest.gateway import Gateway
    from tests.conftest import Kafka
    from tests.memory_producer import Record

ACK_SECONDS = 3.0
AFTER_SECONDS = 1.0
LEAST_BYTES = 16 << 20
"""The smallest spool that a configuration may ask for; its files have about a megabyte."""
ANSWER_SECONDS = 20.0
USE_SECONDS = 15.0
DRAIN_SECONDS = 30.0
FILE_PATTERN = "*/*/*.sqlite"
"""The spool's files, from ``spool.path``."""

Sections = dict[str, dict[str, Any]]


def spooled_to(path: Path, **more: Any) -> Sections:
    """Sections for a service with a spool in ``path``, and deadlines that are quick to wait for.

    Args:
        path: the value of ``spool.path``.
        more: settings of the spool that differ.
    """
    spool = {"mode": "auto", "path": str(path), "min_free_bytes": 0, "after_seconds": AFTER_SECONDS}
    return {
        "spool": {**spool, **more},
        "limits": {"ack_seconds": ACK_SECONDS},
        "kafka": {"request_timeout_seconds": 1},
    }


# A look at how the spool is.


def waiting(gateway: Gateway) -> dict[str, int]:
    """By topic: the events that are in the spool, as ``/status`` has it."""
    events: dict[str, int] = gateway.status()["spool"]["events"]
    return events


def wait_until_used(gateway: Gateway, *topics: str) -> None:
    """Wait until it is seen that there is something in the spool for each of ``topics``."""
    wait_until(lambda: set(topics) <= waiting(gateway).keys(), USE_SECONDS, "nothing is spooled")


def wait_until_drained(gateway: Gateway, seconds: float = DRAIN_SECONDS) -> None:
    """Wait until nothing is in the spool, and the books add up.

    Counters are of now, while ``/status`` may be from before the last events were spooled.
    """
    wait_until(
        lambda: has_left(gateway) >= spooled(gateway) and not waiting(gateway),
        seconds,
        f"left in the spool: {waiting(gateway)}",
    )
    gateway.wait_until_at_rest()


def spooled(gateway: Gateway) -> int:
    """The events that were given to the spool, in this life of the service."""
    return sum(account["spooled"] for account in gateway.accounts().values())


def has_left(gateway: Gateway) -> int:
    """The events and dead letters that have left the spool, in this life of the service."""
    return _labelled(gateway, "ingest_spool_replayed_total", "outcome").total()


def gauges(gateway: Gateway) -> dict[str, float]:
    """The metrics of the spool that have no labels, by name."""
    return {
        name: value
        for name, labels, value, *_ in gateway.samples()
        if name.startswith("ingest_spool_") and not labels
    }


def replayed(gateway: Gateway, topic: str) -> Counter[str]:
    """By outcome: the events of a topic that have left the spool."""
    return _labelled(gateway, "ingest_spool_replayed_total", "outcome", topic=topic)


def damaged(gateway: Gateway) -> Counter[str]:
    """By kind: what of the spool could not be read."""
    return _labelled(gateway, "ingest_spool_damaged_total", "kind")


def _labelled(gateway: Gateway, name: str, by: str, **wanted: str) -> Counter[str]:
    found = Counter[str]()
    for sample in gateway.samples():
        if sample.name == name and wanted.items() <= sample.labels.items():
            found[sample.labels[by]] += int(sample.value)
    return found


def files(path: Path) -> list[Path]:
    """The files of the spool whose ``spool.path`` is ``path``, oldest first."""
    return sorted(path.glob(FILE_PATTERN))


# A client.


class Answer(NamedTuple):
    """What came for a request.

    Attributes:
        status: of HTTP.
        document: the body.
        seconds: how long it took.
    """

    status: int
    document: dict[str, Any]
    seconds: float


class Client:
    """Posts events with known ids, one request after the other, and notes what became of them.

    Args:
        gateway: as it is now; it may be replaced by another one later.
        source: where to.

    Attributes:
        gateway: see above.
        promised: the ids of events that were answered ``ok`` or ``spooled``.
        unclear: the ids of events for which nothing certain was said.
        statuses: how often each HTTP status came.
        slowest: the seconds of the answer that took longest.
    """

    def __init__(self, gateway: Gateway, source: str = "load") -> None:
        self.gateway = gateway
        self.promised: set[str] = set()
        self.unclear: set[str] = set()
        self.statuses: Counter[int] = Counter()
        self.slowest = 0.0
        self._source = source
        self._run = uuid.uuid4().hex[:8]
        self._number = 0
        self._random = random.Random(self._run)

    def post(self, count: int = 1, size: int = 100) -> Answer:
        """Post one batch.

        Args:
            count: of events.
            size: the bytes of each, about; zstd makes them a quarter smaller at best.
        """
        events = [self._event(size) for _ in range(count)]
        answer = self.send(json.dumps(events).encode())
        fates = {each["index"]: each["status"] for each in answer.document.get("results", ())}
        taken = "results" in answer.document
        for index, event in enumerate(events):
            self._note(event["id"], fates.get(index, "ok" if taken else "retry"))
        return answer

    def send(self, body: bytes) -> Answer:
        """Post any body, of which nothing but status and time is noted."""
        address = urlsplit(self.gateway.url).netloc
        connection = http.client.HTTPConnection(address, timeout=ANSWER_SECONDS)
        headers = {
            "Authorization": f"Bearer {self.gateway.key}",
            "Content-Type": "application/json",
        }
        begun = time.monotonic()
        try:
            connection.request("POST", f"/v1/events/{self._source}", body, headers)
            with connection.getresponse() as response:
                document = json.loads(response.read())
        finally:
            connection.close()
        seconds = time.monotonic() - begun
        self.statuses[response.status] += 1
        self.slowest = max(self.slowest, seconds)
        return Answer(response.status, document, seconds)

    def post_until(self, *statuses: int, count: int = 1, size: int = 100) -> Answer:
        """Post until an answer has one of ``statuses``.

        Raises:
            TimeoutError: none has in time.
        """
        give_up = time.monotonic() + ANSWER_SECONDS
        while (answer := self.post(count, size)).status not in statuses:
            if time.monotonic() > give_up:
                raise TimeoutError(f"no {statuses} but {answer}")
            time.sleep(0.02)
        return answer

    def _event(self, size: int) -> dict[str, str]:
        self._number += 1
        text = base64.b64encode(self._random.randbytes(size * 3 // 4)).decode()
        return {"id": f"{self._run}-{self._number}", "text": text}

    def _note(self, id_: str, fate: str) -> None:
        if fate in {"ok", "spooled"}:
            self.promised.add(id_)
        elif fate == "unknown":
            self.unclear.add(id_)

    def check(self, kafka: Kafka, topic: str, *, lost: int = 0) -> Counter[str]:
        """Hold what was answered against what is in ``topic``; how often each event is there.

        Args:
            kafka: where it is.
            topic: the topic of the source.
            lost: so many of those that were promised may be missing.
        """
        found = Counter(ids(kafka.read(topic)))
        missing = self.promised - found.keys()
        assert len(missing) <= lost, f"{len(missing)} of {len(self.promised)} are missing"
        never = found.keys() - self.promised - self.unclear
        assert not never, f"{len(never)} are there though they were refused"
        return found


def ids(records: Iterable[Record]) -> list[str]:
    """The ids of the events in these records."""
    return [json.loads(record.value)["id"] for record in records]
