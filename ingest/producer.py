"""The seam to Kafka: what a front door may ask of a producer.

Every implementation passes the one contract suite in ``tests/producer_contract.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from ingest.receipt import Receipt

Header = tuple[str, bytes]
"""A record header. aiokafka wants a ``list`` of exactly such tuples."""


class Producer(Protocol):
    """Writes batches of records and tells the fate of every one of them."""

    def submit(  # noqa: PLR0913 - a record's parts; a wrapper object would cost per batch
        self,
        topic: str,
        values: list[bytes],
        *,
        timestamp_ms: int,
        keys: list[bytes | None] | None = None,
        headers: list[Header] | None = None,
        headers_each: list[list[Header]] | None = None,
        deadline: float | None = None,
        on_settled: Callable[[], None] | None = None,
    ) -> Receipt:
        """Take a batch; never blocks, never raises for Kafka's troubles.

        Args:
            topic: a Kafka topic; created when missing where the configuration says so.
            values: record values; owned by the producer from here on.
            timestamp_ms: the records' timestamp, milliseconds since the epoch.
            keys: record keys, one for each value. Records with the same key keep their order and
                share a partition (Java's murmur2); without keys a batch stays together.
            headers: headers of every record.
            headers_each: headers for each record, instead of ``headers``.
            deadline: monotonic time (the event loop's) by which the receipt is answered. Then what
                was never handed over is withdrawn (``RETRY``), and the rest is ``UNKNOWN``. None:
                tried until acked or refused for good.
            on_settled: called once when none of the batch's bytes are held any more.
        """
        ...

    def value_limit(self, topic: str) -> int:
        """The bytes of value, key and headers together that one record of ``topic`` may have."""
        ...
