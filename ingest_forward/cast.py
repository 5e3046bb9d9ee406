"""JSON values as one of the types of Kafka Connect: cast to it, or checked to be of it. Pure.

Whole numbers must come through exactly; numbers with a fraction are rounded as a float of this size
has it. What does not fit is an error, never another value.
"""

from __future__ import annotations

import re
from decimal import Decimal
from math import isfinite
from struct import pack, unpack
from typing import TYPE_CHECKING

import msgspec

from ingest_forward.document import STRING

if TYPE_CHECKING:
    from collections.abc import Callable

    Cast = Callable[[bytes], bytes]
    Check = Callable[[bytes], bool]

INT32, INT64 = 1 << 31, 1 << 63
EXACT_DIGITS = 15
"""Whole numbers of so many digits are exact in a float64 (IEEE 754: 53 bits)."""
_WHOLE = re.compile(rb"-?(?:0|[1-9]\d{0,18})")
_NUMBER = re.compile(rb"-?(?:0|[1-9]\d*)(\.\d+)?([eE][+-]?\d{1,9})?")
_DIGITS = re.compile(rb"-?\d+")
_PLAIN = re.compile(rb"-?[0-9]{1,7}(\.[0-9]{1,15})?")
"""Numbers of which every float has all that it can have."""
_ZERO = re.compile(rb"-?0(?:\.0+)?(?:[eE]|$)")
LONGEST_NUMBER = 1000
"""Characters: Jackson reads no longer ones (``StreamReadConstraints``).

Exponents have at most nine digits: Java's BigDecimal takes no larger ones.
"""
_BOOLEANS = {
    b"true": b"true", b"false": b"false", b"1": b"true", b"0": b"false",
    b'"true"': b"true", b'"false"': b"false",
}  # fmt: skip


class CastFailed(ValueError):  # noqa: N818 - a verdict
    """The value would be lost."""


def _to_string(text: bytes) -> bytes:
    """A string as it is; of other values their JSON text."""
    return text if text.startswith(b'"') else msgspec.json.encode(text.decode())


def _to_boolean(text: bytes) -> bytes:
    try:
        return _BOOLEANS[text]
    except KeyError:
        raise CastFailed from None


def _unquoted(text: bytes) -> bytes:
    """A number as its text, also where it was sent as a string; booleans as 1 and 0."""
    if text.startswith(b'"'):
        text = STRING.decode(text).encode()
        return text if _NUMBER.fullmatch(text) else b""
    return {b"true": b"1", b"false": b"0"}.get(text, text)


def _to_integer(limit: int) -> Cast:
    def cast(text: bytes) -> bytes:
        text = _unquoted(text)
        number = int(text) if _WHOLE.fullmatch(text) else _whole(text)
        if number is None or not -limit <= number < limit:
            raise CastFailed
        return b"%d" % number

    return cast


def _whole(text: bytes) -> int | None:
    """The whole number that is written with a fraction or an exponent; None where it is none."""
    if not _is_number(text):
        return None
    number = Decimal(text.decode())
    if not -INT64 <= number < INT64:  # and maybe too large to be written out
        return None
    whole = int(number)
    return whole if whole == number else None


def _to_float(fits: Check) -> Cast:
    def cast(text: bytes) -> bytes:
        if plain := _PLAIN.fullmatch(text):
            return text if plain.lastindex else text + b".0"
        text = _unquoted(text)
        if not fits(text):
            raise CastFailed
        if b"." in text or b"e" in text or b"E" in text:
            return text
        return text + b".0" if len(text) <= EXACT_DIGITS else repr(float(text)).encode()

    return cast


def _is_string(text: bytes) -> bool:
    return text.startswith(b'"')


def _is_boolean(text: bytes) -> bool:
    return text in {b"true", b"false"}


def _is_integer(limit: int) -> Check:
    def check(text: bytes) -> bool:
        return _WHOLE.fullmatch(text) is not None and -limit <= int(text) < limit

    return check


def _is_number(text: bytes) -> bool:
    return len(text) <= LONGEST_NUMBER and _NUMBER.fullmatch(text) is not None


def _is_float64(text: bytes) -> bool:
    if not _is_number(text):
        return False
    if _DIGITS.fullmatch(text) and len(text) <= EXACT_DIGITS:
        return True
    return _comes_through(text, float(text))


def _is_float32(text: bytes) -> bool:
    if not _is_number(text):
        return False
    (rounded,) = unpack("f", pack("f", float(text)))  # too large ones become infinite
    return _comes_through(text, rounded)


def _comes_through(text: bytes, number: float) -> bool:
    """Whether ``number`` is what ``text`` says, up to rounding where that has a fraction."""
    if not isfinite(number):
        return False
    if _DIGITS.fullmatch(text):
        return int(text) == int(number)
    return number != 0 or _ZERO.match(text) is not None


CASTS: dict[str, Cast] = {
    "string": _to_string,
    "boolean": _to_boolean,
    "int32": _to_integer(INT32),
    "int64": _to_integer(INT64),
    "float32": _to_float(_is_float32),
    "float64": _to_float(_is_float64),
}
"""Type -> makes a JSON value that is not null one of this type.

Raises:
    CastFailed: the value would not come through.
"""

CHECKS: dict[str, Check] = {
    "string": _is_string,
    "boolean": _is_boolean,
    "int32": _is_integer(INT32),
    "int64": _is_integer(INT64),
    "float32": _is_float32,
    "float64": _is_float64,
}
"""Type -> whether a JSON value is of this type already."""
