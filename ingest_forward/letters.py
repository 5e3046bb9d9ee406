"""Dead letters of the forwarder: the record as it was read, and why it cannot be forwarded.

Source: ``org.apache.kafka.connect.runtime.errors.DeadLetterQueueReporter`` for the headers, which
come before the record's own ones, as there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ingest.accumulator import header_bytes
from ingest.dead_letter import STAGE_DECODE, STAGE_PRODUCE, fitted
from ingest_forward.batch import FROM_OFFSET, FROM_PARTITION, FROM_TOPIC

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ingest.producer import Header, Producer
    from ingest.receipt import Receipt
    from ingest_forward.batch import Batch
    from ingest_forward.shape import Reject

SHARE = 4
"""The key and the headers of a record are kept where they take less than one part in so many."""
STAGE_TRANSFORM = "TRANSFORMATION"
STAGES = {
    "invalid_json": STAGE_DECODE,
    "not_cloudevents": STAGE_DECODE,
    "event_too_large": STAGE_PRODUCE,
    "refused_by_kafka": STAGE_PRODUCE,
}
"""Code -> Connect's word for where it came up; all others come up in a step or the schema."""


class Letters:
    """Writes dead letters.

    Args:
        producer: writes them.
        topic: the dead letter topic.
    """

    def __init__(self, producer: Producer, topic: str) -> None:
        self.topic = topic
        self._producer = producer

    @property
    def limit(self) -> int:
        """The bytes that a dead letter may have, as far as is known."""
        return self._producer.value_limit(self.topic)

    def submit(
        self,
        batch: Batch,
        route: str,
        rejects: Sequence[Reject],
        limit: int,
        on_settled: Callable[[], None],
    ) -> Receipt:
        """Write the records of ``batch`` that ``route`` can never forward.

        They are tried until Kafka has them, or refuses them for good.

        Args:
            batch: where they are.
            route: its name.
            rejects: which ones, and why.
            limit: the bytes that each may have, at most; what is more is cut off.
            on_settled: see `ingest.producer.Producer.submit`.
        """
        keys: list[bytes | None] = []
        values: list[bytes | None] = []
        headers = []
        for reject in rejects:
            key = batch.keys[reject.position]
            key = key if key is None or len(key) <= limit // SHARE else None
            own = _headers(batch, route, reject, limit // SHARE)
            event = batch.values[reject.position]
            value, own = fitted(event or b"", None, own, limit - len(key or b""))
            keys.append(key)
            values.append(None if event is None else value)
            headers.append(own)
        return self._producer.submit(
            self.topic,
            cast("list[bytes]", values),
            keys=keys,
            headers_each=headers,
            timestamps=[batch.timestamps[each.position] for each in rejects],
            timestamp_ms=0,
            on_settled=on_settled,
        )


def _headers(batch: Batch, route: str, reject: Reject, most_bytes: int) -> list[Header]:
    own = batch.headers[reject.position]
    if header_bytes(own) > most_bytes:
        own = ()
    topic, partition = batch.topic.encode(), b"%d" % batch.partition
    offset = b"%d" % batch.offsets[reject.position]
    return [
        ("__connect.errors.topic", topic),
        ("__connect.errors.partition", partition),
        ("__connect.errors.offset", offset),
        ("__connect.errors.connector.name", route.encode()),
        ("__connect.errors.stage", STAGES.get(reject.code, STAGE_TRANSFORM).encode()),
        ("__connect.errors.exception.class.name", reject.code.encode()),
        ("__connect.errors.exception.message", reject.detail.encode()),
        ("ingest.route", route.encode()),
        *own,
        (FROM_TOPIC, topic),
        (FROM_PARTITION, partition),
        (FROM_OFFSET, offset),
    ]
