"""Records of one partition that were read together, as columns. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ingest_forward.event import Event, Header
from ingest_forward.route import TRACER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ingest_forward.event import Reading

FROM_TOPIC, FROM_PARTITION = "ingest.from.topic", "ingest.from.partition"
FROM_OFFSET = "ingest.from.offset"
"""The headers that say where a record was read: consumers know duplicates by them."""
CONTENT_TYPE = "content-type"
JSON = (CONTENT_TYPE, b"application/json")
"""The header of values that are no CloudEvents any more."""
OVERHEAD_BYTES = 512
"""What a record occupies in memory beside its bytes, about."""


class Batch:
    """Records of one partition, in their order.

    Args:
        topic, partition: where they were read.
        messages: as the consumer has them.

    Attributes:
        keys, values, timestamps, offsets: of each record.
        headers: of each record, as read.
    """

    def __init__(self, topic: str, partition: int, messages: Sequence[Any]) -> None:
        self.topic = topic
        self.partition = partition
        self.keys: list[bytes | None] = [each.key() for each in messages]
        self.values: list[bytes | None] = [each.value() for each in messages]
        self.headers: list[Sequence[Header]] = [each.headers() or () for each in messages]
        self.timestamps: list[int] = [each.timestamp()[1] for each in messages]
        self.offsets: list[int] = [each.offset() for each in messages]
        self._events: list[Event] | None = None
        self._with_origin: dict[bool, list[list[Header]]] = {}
        self._tracers: frozenset[int] | None = None

    def __len__(self) -> int:
        return len(self.offsets)

    @property
    def size(self) -> int:
        """What it occupies in memory, about."""
        values = sum(map(len, filter(None, self.values)))
        return values + sum(map(len, filter(None, self.keys))) + OVERHEAD_BYTES * len(self)

    def first(self, count: int) -> Batch:
        """Its first ``count`` records."""
        made = Batch(self.topic, self.partition, ())
        made.keys, made.values = self.keys[:count], self.values[:count]
        made.headers, made.timestamps = self.headers[:count], self.timestamps[:count]
        made.offsets = self.offsets[:count]
        return made

    def events(self, reading: Reading) -> list[Event]:
        """Each record as routes see it."""
        if self._events is None:
            topic = self.topic
            rows = zip(self.keys, self.values, self.headers, strict=True)
            self._events = [Event(topic, key, value, own, reading) for key, value, own in rows]
        return self._events

    @property
    def tracers(self) -> frozenset[int]:
        """The positions of records that are tracers."""
        if self._tracers is None:
            self._tracers = frozenset(
                at
                for at, headers in enumerate(self.headers)
                if any(name == TRACER for name, _ in headers)
            )
        return self._tracers

    def with_origin(self, *, as_json: bool) -> list[list[Header]]:
        """The headers of what is made of each record: its own, and where it was read.

        Args:
            as_json: what is made of it is plain JSON, and no CloudEvent.
        """
        found = self._with_origin.get(as_json)
        if found is None:
            found = self._with_origin[as_json] = self._originating(as_json=as_json)
        return found

    def _originating(self, *, as_json: bool) -> list[list[Header]]:
        topic = (FROM_TOPIC, self.topic.encode())
        partition = (FROM_PARTITION, b"%d" % self.partition)
        rows = zip(self.headers, self.offsets, strict=True)
        if not as_json:
            return [[*own, topic, partition, (FROM_OFFSET, b"%d" % offset)] for own, offset in rows]
        return [
            [
                *(each for each in own if each[0] != CONTENT_TYPE),
                JSON,
                topic,
                partition,
                (FROM_OFFSET, b"%d" % offset),
            ]
            for own, offset in rows
        ]
