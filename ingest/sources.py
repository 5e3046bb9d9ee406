"""Sources: who sends, under which rules, and who may write to them. Pure look-up tables."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


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


def pointer(tokens: Iterable[str]) -> str:
    """The JSON Pointer of these reference tokens (RFC 6901, section 3)."""
    return "".join("/" + token.replace("~", "~0").replace("/", "~1") for token in tokens)


def name_pattern(globs: Iterable[str]) -> re.Pattern[str]:
    """A pattern that matches the names covered by ``globs``, in which only ``*`` is special."""
    return re.compile("|".join(map(_linear, globs)) or r"(?!)")


def _linear(glob: str) -> str:
    """A pattern that never goes back behind an inner part once it is found: names are hostile."""
    first, *rest = map(re.escape, glob.split("*"))
    if not rest:
        return first
    *inner, last = rest
    return first + "".join(f"(?>.*?{each})" for each in inner) + ".*" + last
