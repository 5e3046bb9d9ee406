"""Rejected events on their way to the dead letter topic.

Headers are named as Kafka Connect names them, so that the same tools read both
(``org.apache.kafka.connect.runtime.errors.DeadLetterQueueReporter``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ingest.accumulator import header_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ingest.producer import Header, Producer
    from ingest.receipt import Receipt

STAGE_DECODE = "VALUE_CONVERTER"
"""Connect's word for what cannot be read; its word for what Kafka refused is next."""
STAGE_PRODUCE = "KAFKA_PRODUCE"


class Rejection(Protocol):
    """An event that can never succeed, as far as its dead letter is concerned."""

    @property
    def event(self) -> bytes:
        """Its original bytes, or the first ones of them."""

    @property
    def original_bytes(self) -> int | None:
        """How many it had where `event` was cut; None: `event` is whole."""

    @property
    def code(self) -> str:
        """A stable word of the contract."""

    @property
    def detail(self) -> str:
        """For people; never values."""


class DeadLetters:
    """Writes rejects to the dead letter topic.

    Args:
        producer: writes them.
        topic: the dead letter topic.
    """

    def __init__(self, producer: Producer, topic: str) -> None:
        self.topic = topic
        self._producer = producer

    def submit(
        self,
        rejects: Sequence[Rejection],
        common: list[Header],
        *,
        timestamp_ms: int,
        deadline: float | None,
        on_settled: Callable[[], None],
        overflow: bool = False,
    ) -> Receipt:
        """Write the original bytes of ``rejects``, cut to what the topic takes.

        Args:
            rejects: the events.
            common: the headers that they share, see `common_headers`.
            timestamp_ms: the time of receipt.
            deadline: when the receipt must be answered, on the event loop's clock; None: when
                Kafka or the spool has taken them, or Kafka refused them for good.
            on_settled: called when none of their bytes are held any more.
            overflow: there is no memory for them; see `ingest.producer.Producer.submit`.
        """
        limit = self._producer.value_limit(self.topic)
        values, headers = [], []
        for reject in rejects:
            value, own = _letter(reject, common, limit)
            values.append(value)
            headers.append(own)
        return self._producer.submit(
            self.topic,
            values,
            headers_each=headers,
            timestamp_ms=timestamp_ms,
            deadline=deadline,
            on_settled=on_settled,
            overflow=overflow,
        )


def common_headers(topic: str, source: str, received: bytes, request_id: str = "") -> list[Header]:
    """What the rejects of one request share; without a request there is no id of it."""
    headers = [
        ("__connect.errors.topic", topic.encode()),
        ("ingest.source", source.encode()),
        ("ingest.received", received),
    ]
    if request_id:
        headers.append(("ingest.request.id", request_id.encode()))
    return headers


def _letter(reject: Rejection, common: list[Header], limit: int) -> tuple[bytes, list[Header]]:
    stage = STAGE_PRODUCE if reject.code == "refused_by_kafka" else STAGE_DECODE
    headers = [
        *common,
        ("__connect.errors.stage", stage.encode()),
        ("__connect.errors.exception.class.name", reject.code.encode()),
        ("__connect.errors.exception.message", reject.detail.encode()),
    ]
    return fitted(reject.event, reject.original_bytes, headers, limit)


def fitted(
    event: bytes, original_bytes: int | None, headers: list[Header], limit: int
) -> tuple[bytes, list[Header]]:
    """A dead letter with the value ``event``, cut to what the topic takes, and its headers.

    Args:
        event: the original bytes, or the first ones of them.
        original_bytes: how many there were where ``event`` was cut; None: it is whole.
        headers: of the letter; the list becomes part of it.
        limit: the bytes that value and headers may have together.
    """
    if original_bytes is None:
        if len(event) + header_bytes(headers) <= limit:
            return event, headers
        original_bytes = len(event)
    headers.append(("ingest.truncated", b"true"))
    headers.append(("ingest.original_bytes", b"%d" % original_bytes))
    return event[: max(0, limit - header_bytes(headers))], headers
