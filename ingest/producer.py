"""The seam to Kafka: what a front door may ask of a producer.

Every implementation passes the one contract suite in ``tests/producer_contract.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

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
        header_sizes: list[int] | None = None,
        timestamps: list[int] | None = None,
        deadline: float | None = None,
        on_settled: Callable[[], None] | None = None,
        overflow: bool = False,
    ) -> Receipt:
        """Take a batch; never blocks, never raises for Kafka's troubles.

        Args:
            topic: a Kafka topic; created when missing where the configuration says so.
            values: record values; owned by the producer from here on. None is null, for those who
                have no spool.
            timestamp_ms: the records' timestamp, milliseconds since the epoch.
            keys: record keys, one for each value. Records with the same key keep their order and
                share a partition (Java's murmur2); without keys a batch stays together.
            headers: headers of every record.
            headers_each: further headers of each record, behind ``headers``.
            header_sizes: the bytes that ``headers_each`` add to each record, at most, if they are
                known already; see `ingest.accumulator.header_bytes`.
            timestamps: of each record, instead of ``timestamp_ms``; for those who have no spool.
            deadline: monotonic time (the event loop's) by which the receipt is answered. Then what
                was never handed over is withdrawn (``RETRY``), and the rest is ``UNKNOWN``. None:
                tried until acked or refused for good.
            on_settled: called once when none of the batch's bytes are held any more.
            overflow: there is no memory for more: into the spool with it, or back at once where
                there is none, or none with room (``RETRY`` with the code ``no_room``).
        """
        ...

    def preview(
        self,
        topic: str,
        values: list[bytes],
        *,
        keys: list[bytes | None] | None = None,
        headers: list[Header] | None = None,
    ) -> list[str]:
        """What would become of a batch that was submitted now; nothing is written.

        Returns:
            For each record ``""`` when it would be written, else the code that it would get:
            ``event_too_large`` or ``refused_by_kafka`` by the limits of ``topic`` as they are
            known, ``topic_unavailable``, ``kafka_unavailable`` when there is no connection,
            ``spooled`` where it would go to the spool.
        """
        ...

    def refuses(self, topic: str) -> bool:
        """Whether it is of no use to submit something for ``topic`` now.

        Kafka is away and the spool has no room. Without a spool there is always hope.
        """
        ...

    def follow(self, names: Iterable[str]) -> None:
        """Have ``names`` as the topics that are written to from now on; returns at once.

        New ones are prepared soon. Others may still be submitted to: they are let go when they have
        been idle for a while, and are neither created nor told of as problems any more.
        """
        ...

    def value_limit(self, topic: str) -> int:
        """The bytes of value, key and headers together that one record of ``topic`` may have.

        Kafka's default where the topic is not known (yet).
        """
        ...
