"""Sources: who sends, under which rules, and who may write to them. Pure look-up tables."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


@dataclass(frozen=True, slots=True)
class Source:
    """Where the events of a source go, and what they are.

    Attributes:
        name: as in the URL and in the CloudEvents attribute ``source``.
        topic: the Kafka topic.
        event_type: the CloudEvents type of events that do not bring their own.
        key: the tokens of the JSON Pointer to the record key (RFC 6901); None: no key.
        over_http: whether the HTTP front door takes it; a source used by syslog is not taken.
    """

    name: str
    topic: str
    event_type: str
    key: tuple[str, ...] | None = None
    over_http: bool = True


@dataclass(frozen=True, slots=True)
class Client:
    """Somebody who showed a credential.

    Attributes:
        name: as in the configuration; fit for logs.
        may_write: matches the names of the sources that this client may write to.
    """

    name: str
    may_write: re.Pattern[str]

    def covers(self, source: str) -> bool:
        """Whether some pattern of this client covers the name, whether the source exists or not."""
        return self.may_write.fullmatch(source) is not None


def pointer_tokens(pointer: str) -> tuple[str, ...]:
    """The reference tokens of a JSON Pointer (RFC 6901, section 4)."""
    return tuple(token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")[1:])


def name_pattern(globs: Iterable[str]) -> re.Pattern[str]:
    """A pattern that matches the names covered by ``globs``, in which only ``*`` is special."""
    parts = (".*".join(map(re.escape, glob.split("*"))) for glob in globs)
    return re.compile("|".join(parts) or r"(?!)")


class Sources:
    """All sources of a configuration, by name."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._by_name = {source.name: source for source in sources}
        self.get = self._by_name.get  # bound once: called for every request

    def __iter__(self) -> Iterator[Source]:
        return iter(self._by_name.values())

    @property
    def topics(self) -> list[str]:
        """The topics of all sources, each once."""
        return sorted({source.topic for source in self._by_name.values()})
