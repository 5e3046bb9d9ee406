"""The last resort: the mock cluster inside librdkafka, which speaks Kafka's protocol over TCP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from confluent_kafka import Producer

if TYPE_CHECKING:
    from collections.abc import Sequence


class MockCluster:
    """Brokers in this process that any client can use; they know few of Kafka's requests.

    Topics come into being when asked for, with four partitions. There are no limits of sizes, no
    compaction, and nothing can be configured.

    Args:
        brokers: how many.
        reasons: why it is not a real Kafka, for people.
    """

    kind = "mock"
    real = False

    def __init__(self, brokers: int = 1, reasons: Sequence[str] = ()) -> None:
        self.nodes: list[Any] = []
        # The mock lives and dies with the client that asked for it.
        self._owner = Producer({"test.mock.num.brokers": brokers, "log_level": 0})
        found = self._owner.list_topics(timeout=10).brokers.values()
        self.bootstrap_servers = ",".join(f"{broker.host}:{broker.port}" for broker in found)
        why = f" (no real Kafka: {'; '.join(reasons)})" if reasons else ""
        self.description = (
            f"a mock in this process, {self.bootstrap_servers}; its data lives in memory"
            f" and is gone at the end{why}"
        )

    def close(self) -> None:
        """End the mock brokers, with their data."""
        self.__dict__.pop("_owner", None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
