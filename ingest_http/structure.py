"""Bounds on the shape of JSON that the decoder does not set: depth, and number of elements.

Sans-IO. Only text that could pass a bound, by its length or its number of commas, is scanned.
"""

from __future__ import annotations

import re

MAX_DEPTH = 500
"""How deep an event may nest."""

_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{},]', re.DOTALL)
"""Possessive, and a string without its end is one too: linear in time whatever the text."""
_OPENING, _CLOSING, _COMMA = frozenset(b"[{"), frozenset(b"]}"), ord(",")


class TooDeep(ValueError):  # noqa: N818 - a verdict
    """The text nests deeper than the bound."""


class TooMany(ValueError):  # noqa: N818 - a verdict
    """The outermost array has more elements than the bound."""


def may_be_too_deep(length: int) -> bool:
    """Whether an event of ``length`` bytes could nest too deep: each level takes two brackets."""
    return length > 2 * MAX_DEPTH


def check(text: bytes, *, max_depth: int, max_elements: int | None = None) -> None:
    """Scan JSON text, stopping at the first bound that it passes; it need not be valid.

    Raises:
        TooDeep, TooMany: what the names say.
    """
    depth = elements = 0
    for token in _TOKEN.finditer(text):
        first = text[token.start()]
        if first in _OPENING:
            depth += 1
            if depth > max_depth:
                raise TooDeep
        elif first in _CLOSING:
            depth -= 1
        elif first == _COMMA and depth == 1 and max_elements is not None:
            elements += 1
            if elements >= max_elements:
                raise TooMany
