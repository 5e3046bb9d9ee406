"""Bounds on the shape of JSON that the decoder does not set: depth, and number of elements.

Sans-IO. Only text that could pass a bound, by its length or its number of commas, is scanned; that
is done in C, and in pieces: whoever runs it in a thread does not keep others waiting for long.
"""

from __future__ import annotations

import re
from array import array
from itertools import accumulate, compress
from operator import countOf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_DEPTH = 500
"""How deep an event may nest."""

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
"""Possessive, and a string without its end is one too: linear in time whatever the text."""
_STRINGS, _TOKENS = 50_000, 65_536
"""What is looked at in one piece: some milliseconds each."""
_OPENING, _CLOSING, _COMMA = b"[{", b"]}", b","
_OTHERS = bytes(set(range(256)) - set(_OPENING + _CLOSING + _COMMA))
_STEPS = bytes.maketrans(_OPENING + _CLOSING + _COMMA, b"\x01\x01\xff\xff\x00")
_COMMAS = bytes(byte == _COMMA[0] for byte in range(256))


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
    for tokens in _tokens(text):
        depths = list(accumulate(array("b", tokens.translate(_STEPS)), initial=depth))[1:]
        more = countOf(compress(depths, tokens.translate(_COMMAS)), 1)
        too_many = max_elements is not None and elements + more >= max_elements
        if max(depths) > max_depth:
            room = len(tokens) if max_elements is None else max_elements - elements
            _raise_first(tokens, depths, max_depth, room)
        if too_many:
            raise TooMany
        depth, elements = depths[-1], elements + more


def _tokens(text: bytes) -> Iterator[bytes]:
    """Brackets and commas outside of strings, in pieces that are not empty."""
    pieces = [text]
    while pieces:
        pieces = _STRING.split(pieces[-1], _STRINGS)
        left = [pieces.pop()] if len(pieces) > _STRINGS else []
        tokens = b"".join(pieces).translate(None, _OTHERS)
        for start in range(0, len(tokens), _TOKENS):
            yield tokens[start : start + _TOKENS]
        pieces = left


def _raise_first(tokens: bytes, depths: list[int], max_depth: int, room: int) -> None:
    """Say which bound is passed first, where the depth is at some time.

    Args:
        tokens: brackets and commas.
        depths: how deep it is behind each.
        max_depth: see `check`.
        room: the comma of the outermost array that is one too many.
    """
    for token, depth in zip(tokens, depths, strict=True):
        if depth > max_depth:
            raise TooDeep
        room -= token == _COMMA[0] and depth == 1
        if not room:
            raise TooMany
