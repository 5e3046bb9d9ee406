"""Asks the cluster which topics there are under their names; see `ingest_forward.identities`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from ingest_forward.identities import Described

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from typing import Any

NONE = "AAAAAAAAAAAAAAAAAAAAAA"
"""The id of topics on brokers that give none: all zeros."""


class TopicIds:
    """Asks the cluster for the ids of topics.

    Args:
        settings: how librdkafka reaches it.
        seconds: how long an answer may take.
    """

    def __init__(self, settings: Mapping[str, Any], seconds: float) -> None:
        self._settings = dict(settings)
        self._seconds = seconds
        self._client: AdminClient | None = None

    def of(self, topics: Collection[str]) -> dict[str, Described]:
        """By name, the topics of which the cluster says something. Blocks; raises nothing."""
        if not topics:
            return {}
        if self._client is None:
            self._client = AdminClient(self._settings)
        wanted = TopicCollection(sorted(topics))
        asked = self._client.describe_topics(wanted, request_timeout=self._seconds)
        found = {}
        for name, answer in asked.items():
            try:
                told = answer.result()
            except KafkaException:
                continue
            found[name] = Described(str(told.topic_id), len(told.partitions))
        if not found:
            self._client = None  # an old client may never connect any more after an outage
        return {name: each for name, each in found.items() if each.id != NONE}
