"""Rejected events on their way to the dead letter topic.

Headers are named as Kafka Connect names them, so that the same tools read both
(``org.apache.kafka.connect.runtime.errors.DeadLetterQueueReporter``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ingest.accumulator import header_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ingest.producer import Header, Producer
    from ingest.receipt import Receipt
    from ingest_http.batch import Reject

STAGE_DECODE = "VALUE_CONVERTER"
"""Connect's word for what cannot be read; its word for what Kafka refused is next."""
STAGE_PRODUCE = "KAFKA_PRODUCE"


class DeadLetters:
    """Writes rejects to the dead letter topic.

    Args:
        producer: writes them.
        topic: the dead letter topic.
    """

    def __init__(self, producer: Producer, topic: str) -> None:
        self._producer = producer
        self._topic = topic

    def submit(
        self,
        rejects: Sequence[Reject],
        common: list[Header],
        *,
        timestamp_ms: int,
        deadline: float,
        on_settled: Callable[[], None],
    ) -> Receipt:
        """Write the original bytes of ``rejects``, cut to what the topic takes.

        Args:
            rejects: the events.
            common: the headers that they share, see `common_headers`.
            timestamp_ms: the time of receipt.
            deadline: when the receipt must be answered, on the event loop's clock.
            on_settled: called when none of their bytes are held any more.
        """
        limit = self._producer.value_limit(self._topic)
        values, headers = [], []
        for reject in rejects:
            value, own = _letter(reject, common, limit)
            values.append(value)
            headers.append(own)
        return self._producer.submit(
            self._topic,
            values,
            headers_each=headers,
            timestamp_ms=timestamp_ms,
            deadline=deadline,
            on_settled=on_settled,
        )


def common_headers(topic: str, source: str, received: bytes, request_id: str) -> list[Header]:
    """What the rejects of one request share."""
    return [
        ("__connect.errors.topic", topic.encode()),
        ("ingest.source", source.encode()),
        ("ingest.received", received),
        ("ingest.request.id", request_id.encode()),
    ]


def _letter(reject: Reject, common: list[Header], limit: int) -> tuple[bytes, list[Header]]:
    stage = STAGE_PRODUCE if reject.code == "refused_by_kafka" else STAGE_DECODE
    headers = [
        *common,
        ("__connect.errors.stage", stage.encode()),
        ("__connect.errors.exception.class.name", reject.code.encode()),
        ("__connect.errors.exception.message", reject.detail.encode()),
    ]
    if len(reject.event) + header_bytes(headers) <= limit:
        return reject.event, headers
    headers.append(("ingest.truncated", b"true"))
    headers.append(("ingest.original_bytes", b"%d" % len(reject.event)))
    return reject.event[: max(0, limit - header_bytes(headers))], headers
