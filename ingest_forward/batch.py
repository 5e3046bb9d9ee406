"""Records of one partition that were read together, as columns. Pure."""

from __future__ import annotations

from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from ingest.accumulator import header_bytes
from ingest_forward.route import TRACER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ingest_forward.event import Header

FROM_TOPIC, FROM_PARTITION = "ingest.from.topic", "ingest.from.partition"
FROM_OFFSET = "ingest.from.offset"
"""The headers that say where a record was read: consumers know duplicates by them."""
OFFSET_BYTES = header_bytes([(FROM_OFFSET, b"%d" % (1 << 63))])
"""The bytes that the last of them adds to a record, at most."""
CONTENT_TYPE = "content-type"
JSON = (CONTENT_TYPE, b"application/json")
"""The header of values that are no CloudEvents any more."""
OVERHEAD_BYTES = 512
"""What a record occupies in memory beside its bytes, about."""


class Headers(NamedTuple):
    """The headers of the records that are made of a batch.

    Attributes:
        each: of each record of the batch.
        sizes: the bytes that they add to each record, at most, which are the same for all of them;
            None: not known.
    """

    each: list[list[Header]]
    sizes: list[int] | None = None


class Batch:
    """Records of one partition, in their order.

    Args:
        topic, partition: where they were read.
        messages: as the consumer has them.

    Attributes:
        keys, values, timestamps, offsets: of each record.
        headers: of each record, as read.
        unreadable: the positions of records whose headers have names that are no UTF-8.
    """

    def __init__(self, topic: str, partition: int, messages: Sequence[Any]) -> None:
        self.topic = topic
        self.partition = partition
        self.keys: list[bytes | None] = [each.key() for each in messages]
        self.values: list[bytes | None] = [each.value() for each in messages]
        self.unreadable: set[int] = set()
        self.headers: list[Sequence[Header]] = [
            self._headers_of(at, each) for at, each in enumerate(messages)
        ]
        self.timestamps: list[int] = [each.timestamp()[1] for each in messages]
        self.offsets: list[int] = [each.offset() for each in messages]
        self._with_origin: dict[bool, Headers] = {}

    def _headers_of(self, position: int, message: Any) -> Sequence[Header]:
        try:
            return message.headers() or ()
        except (UnicodeError, SystemError):  # the latter is how librdkafka's binding tells of it
            self.unreadable.add(position)
            return ()

    def __len__(self) -> int:
        return len(self.offsets)

    @cached_property
    def size(self) -> int:
        """What it occupies in memory, about."""
        values = sum(map(len, filter(None, self.values)))
        values += sum(count * header_bytes(own) for own, count in self._runs)
        return values + sum(map(len, filter(None, self.keys))) + OVERHEAD_BYTES * len(self)

    def first(self, count: int) -> Batch:
        """Its first ``count`` records."""
        made = Batch(self.topic, self.partition, ())
        made.keys, made.values = self.keys[:count], self.values[:count]
        made.headers, made.timestamps = self.headers[:count], self.timestamps[:count]
        made.offsets = self.offsets[:count]
        made.unreadable = {position for position in self.unreadable if position < count}
        return made

    @cached_property
    def _runs(self) -> list[tuple[Sequence[Header], int]]:
        """Headers, and how many records in a row have them: nearly always all."""
        return [(own, len(list(alike))) for own, alike in groupby(self.headers)]

    @cached_property
    def tracers(self) -> frozenset[int]:
        """The positions of records that are tracers."""
        found: list[int] = []
        first = 0
        for own, count in self._runs:
            if any(name == TRACER for name, _ in own):
                found += range(first, first + count)
            first += count
        return frozenset(found)

    def with_origin(self, *, as_json: bool) -> Headers:
        """The headers of what is made of each record: its own, and where it was read.

        Args:
            as_json: what is made of it is plain JSON, and no CloudEvent.
        """
        found = self._with_origin.get(as_json)
        if found is None:
            found = self._with_origin[as_json] = self._originating(as_json=as_json)
        return found

    def _originating(self, *, as_json: bool) -> Headers:
        each: list[list[Header]] = []
        runs, offsets, common = self._runs, self.offsets, []
        for own, count in runs:
            common, first = self._common(own, as_json=as_json), len(each)
            of_run = offsets[first : first + count]
            each += [[*common, (FROM_OFFSET, b"%d" % offset)] for offset in of_run]
        if len(runs) != 1:
            return Headers(each)
        return Headers(each, [header_bytes(common) + OFFSET_BYTES] * len(each))

    def _common(self, own: Sequence[Header], *, as_json: bool) -> list[Header]:
        origin = [
            (FROM_TOPIC, self.topic.encode()),
            (FROM_PARTITION, b"%d" % self.partition),
        ]
        if as_json:
            own = [*(header for header in own if header[0] != CONTENT_TYPE), JSON]
        return [*own, *origin]
