"""Events -> Python values as jsonschema-rs compares them: exactly, and in bounded time."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable


_PLAIN_CHARACTERS = 15  # so many digits survive the way through a float
_CHEAP_CHARACTERS, _CHEAP_EXPONENT = 40, 60
_COSTLY_DIGITS = 20_000


class _CostlyNumber(Exception):  # noqa: N818 - a verdict
    """The event has a number that takes long to compare."""


class TooManyDigits(Exception):  # noqa: N818 - a verdict
    """The event has numbers that take too long to compare."""


def decode(event: bytes) -> Any:
    """The value of a JSON document; of duplicate keys the last one counts.

    Raises:
        TooManyDigits: its numbers would take too long to compare.
        msgspec.DecodeError: it is no JSON, or has an integer that is too long.
    """
    try:
        return _decode_usual(event)
    except _CostlyNumber:
        return msgspec.json.Decoder(float_hook=_Digits().number).decode(event)


def _usual_number(text: str) -> float | Decimal:
    """A float where that is exact, else decimal, which costs the library twice as much."""
    if len(text) <= _PLAIN_CHARACTERS and "e" not in text and "E" not in text:
        return float(text)
    number = Decimal(text)
    if len(text) <= _CHEAP_CHARACTERS and abs(number.adjusted()) <= _CHEAP_EXPONENT:
        return number
    raise _CostlyNumber


_decode_usual: Callable[[bytes], Any] = msgspec.json.Decoder(float_hook=_usual_number).decode


class _Digits:
    """Bounds the digits in one event: the library compares numbers in quadratic time."""

    def __init__(self) -> None:
        self._left = _COSTLY_DIGITS

    def number(self, text: str) -> Decimal:
        number = Decimal(text)
        self._left -= len(text) + abs(number.adjusted())
        if self._left < 0:
            raise TooManyDigits
        return number
