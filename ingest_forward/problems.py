"""Collects what is wrong with a route, each with where it is, while the rest is still looked at."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ingest.config_problems import suggestion
from ingest.settings import POINTER
from ingest.sources import pointer_tokens

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from ingest.config_problems import KeyPath
    from ingest_forward.document import Tokens


class Problems:
    """The problems found so far.

    Attributes:
        found: (path, text) of each; paths as in the file.
    """

    def __init__(self) -> None:
        self.found: list[tuple[KeyPath, str]] = []

    def add(self, path: KeyPath, text: str) -> None:
        """There is something wrong at ``path``."""
        self.found.append((path, text))

    def unknown(self, path: KeyPath, known: Iterable[str], what: str = "unknown key") -> None:
        """The last step of ``path`` is none of the names that are known there."""
        self.add(path, what + suggestion(str(path[-1]), known))

    def pointer(self, value: Any, path: KeyPath) -> Tokens | None:
        """The tokens of a JSON Pointer; None where it is none."""
        if isinstance(value, str) and POINTER.fullmatch(value):
            return pointer_tokens(value)
        begin = f', did you mean "/{value}"?' if _is_name(value) else ""
        self.add(path, f'expected a JSON Pointer such as "/customer_id" (RFC 6901){begin}')
        return None

    def pointers(self, value: Any, path: KeyPath) -> list[Tokens]:
        """The tokens of each pointer of a list that is not empty."""
        if not isinstance(value, list) or not value:
            self.add(path, 'expected a list of JSON Pointers such as ["/customer_id"] (RFC 6901)')
            return []
        found = [self.pointer(each, (*path, at)) for at, each in enumerate(value)]
        return [tokens for tokens in found if tokens is not None]

    def table(self, value: Any, path: KeyPath) -> dict[str, Any]:
        """A table that is not empty."""
        if not isinstance(value, dict) or not value:
            self.add(path, "expected a table" + (" with something in it" if value == {} else ""))
            return {}
        return value

    def text(self, value: Any, path: KeyPath) -> str | None:
        """Some text."""
        if not isinstance(value, str) or not value:
            self.add(path, "expected some text")
            return None
        return value

    def one_of(self, value: Any, known: Collection[str], path: KeyPath) -> str | None:
        """One of the names that are known."""
        if isinstance(value, str) and value in known:
            return value
        names = ", ".join(f'"{each}"' for each in known)
        close = suggestion(value, known) if isinstance(value, str) else ""
        self.add(path, f"expected one of {names}{close}")
        return None


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_.-]+", value) is not None
