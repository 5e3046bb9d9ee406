"""The configuration of the command: what it takes to read a spool and to write to Kafka."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ingest.settings import Conflict, SharedSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

USED = frozenset({"kafka", "topics", "limits", "dead_letter", "spool"})
"""The sections that matter here; ``spool.mode`` does not: off may have been on."""


class SpoolConfig(SharedSettings):
    """The shared sections; no source is needed, and conflicts among them are of no interest."""

    def conflicts(self) -> Iterator[Conflict]:
        """What is fine by itself but not together, as far as it is used."""
        return (conflict for conflict in super().conflicts() if conflict.path[0] in USED)
