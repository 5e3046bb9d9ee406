"""Which topic the partitions that are read belong to: a name may be another topic's by now. Pure.

Source: KIP-516, which gives each topic an id of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Partition = tuple[str, int]
"""Topic and number."""
TOPIC_ID = "topic-id="
"""What the metadata of an offset that we commit begin with: of which topic it is. A topic that is
made anew under the same name begins with other records."""


class Described(NamedTuple):
    """What the cluster says of a topic.

    Attributes:
        id: that no other topic ever has.
        partitions: how many there are.
    """

    id: str
    partitions: int


class Identities:
    """The topics of the partitions that are read.

    Attributes:
        unsure: the partitions of which nobody could say what was committed. Nothing may be
            committed of them before somebody can: it would hide that it was of another topic.
    """

    def __init__(self) -> None:
        self.unsure: set[Partition] = set()
        self._ids: dict[Partition, str] = {}  # empty: not known
        self._former: dict[str, set[str]] = {}  # by name; brokers that lag behind tell of them

    def begin(
        self, at: Partition, metadata: str | None, described: Mapping[str, Described]
    ) -> bool:
        """A partition is read, from what is committed on.

        Args:
            at: the partition.
            metadata: of what is committed; None: nobody can say.
            described: what the cluster says of topics, as far as it does.

        Returns:
            Whether that was committed for another topic of that name.
        """
        committed = _id_in(metadata or "")
        now = self._now(at, described) or ""
        self._ids[at] = now or committed
        if metadata is None:
            self.unsure.add(at)
        return bool(now and committed and now != committed)

    def learn(self, at: Partition, metadata: str) -> None:
        """The metadata of what was committed of a partition are these, as is known now."""
        self.unsure.discard(at)
        if at in self._ids:
            self._ids[at] = _id_in(metadata) or self._ids[at]

    def forget(self, partitions: Iterable[Partition]) -> None:
        """These are not read any more."""
        for at in partitions:
            self._ids.pop(at, None)
            self.unsure.discard(at)

    def recreated(self, described: Mapping[str, Described]) -> list[Partition]:
        """The partitions that belong to another topic now than when this was last asked."""
        found = []
        for at, before in self._ids.items():
            now = self._now(at, described)
            if now is None:
                continue
            self._ids[at] = now
            if before and now != before:
                self._former.setdefault(at[0], set()).add(before)
                found.append(at)
        return found

    def _now(self, at: Partition, described: Mapping[str, Described]) -> str | None:
        """The id of the topic that a partition belongs to; None: nobody says, or it is gone."""
        topic, number = at
        told = described.get(topic)
        if told is None or number >= told.partitions or told.id in self._former.get(topic, ()):
            return None
        return told.id

    def metadata(self, at: Partition) -> str:
        """What is committed with an offset of a partition."""
        return TOPIC_ID + self._ids.get(at, "")


def _id_in(metadata: str) -> str:
    """The id that is in metadata; empty where there is none."""
    return metadata.removeprefix(TOPIC_ID) if metadata.startswith(TOPIC_ID) else ""
