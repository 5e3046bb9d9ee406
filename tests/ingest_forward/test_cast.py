"""Casts and checks of types, held against decimal arithmetic and against what Java reads."""

from __future__ import annotations

import json
import math
import re
import struct
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ingest_forward.cast import CASTS, CHECKS, LONGEST_NUMBER, CastFailed
from tests.ingest_forward.engine import ODD_SCALARS, TYPES, texts

LIMITS = {"int32": 1 << 31, "int64": 1 << 63}
INTEGERS, FLOATS = ("int32", "int64"), ("float32", "float64")
JSON_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
LARGEST = {"float32": (2 - 2**-23) * 2.0**127, "float64": (2 - 2**-52) * 2.0**1023}


def cast(kind: str, text: bytes) -> bytes | None:
    """The value as another type; None: it would be lost."""
    try:
        return CASTS[kind](text)
    except CastFailed:
        return None


def test_these_are_the_types_of_the_contract() -> None:
    """Each can be cast to and checked."""
    assert list(CASTS) == list(CHECKS) == TYPES


@pytest.mark.parametrize(
    ("kind", "text", "wanted"),
    [
        ("string", b'"a\\u0062"', b'"a\\u0062"'),
        ("string", b"5", b'"5"'),
        ("string", b"1.50E+2", b'"1.50E+2"'),
        ("string", b"true", b'"true"'),
        ("string", b'["a", 1]', b'"[\\"a\\", 1]"'),
        ("string", '{"ü":"\\n"}'.encode(), '"{\\"ü\\":\\"\\\\n\\"}"'.encode()),
        ("boolean", b"true", b"true"),
        ("boolean", b"false", b"false"),
        ("boolean", b'"true"', b"true"),
        ("boolean", b'"false"', b"false"),
        ("boolean", b"1", b"true"),
        ("boolean", b"0", b"false"),
        ("boolean", b"2", None),
        ("boolean", b'"yes"', None),
        ("boolean", b'"True"', None),
        ("boolean", b'""', None),
        ("boolean", b"[]", None),
        ("int32", b"5", b"5"),
        ("int32", b"5.0", b"5"),
        ("int32", b"5.000", b"5"),
        ("int32", b"-0", b"0"),
        ("int32", b"-0.0", b"0"),
        ("int32", b"1e3", b"1000"),
        ("int32", b"1.5E1", b"15"),
        ("int32", b"100e-2", b"1"),
        ("int32", b"0e999999999", b"0"),
        ("int32", b"5.5", None),
        ("int32", b"1e-1", None),
        ("int32", b"1e-999999999", None),
        ("int32", b"1e999999999", None),
        ("int32", b"1e9999999999999999999", None),
        ("int32", b"2147483647", b"2147483647"),
        ("int32", b"2147483648", None),
        ("int32", b"-2147483648", b"-2147483648"),
        ("int32", b"-2147483649", None),
        ("int32", b'"5"', b"5"),
        ("int32", b'"\\u0035"', b"5"),
        ("int32", b'"-5.0"', b"-5"),
        ("int32", b'"05"', None),
        ("int32", b'"+5"', None),
        ("int32", b'" 5"', None),
        ("int32", b'"5\\n"', None),
        ("int32", b'"0x5"', None),
        ("int32", b'"1_000"', None),
        ("int32", b'"\\u0665"', None),
        ("int32", b'""', None),
        ("int32", b'"true"', None),
        ("int32", b'"NaN"', None),
        ("int32", b"true", b"1"),
        ("int32", b"false", b"0"),
        ("int32", b"[5]", None),
        ("int32", b"{}", None),
        ("int64", b"9223372036854775807", b"9223372036854775807"),
        ("int64", b"9223372036854775807.0", b"9223372036854775807"),
        ("int64", b"9223372036854775807.5", None),
        ("int64", b"9223372036854775808", None),
        ("int64", b"-9223372036854775808", b"-9223372036854775808"),
        ("int64", b"-9223372036854775809", None),
        ("int64", b"9" * 400, None),
        ("int64", b"9" * 5000, None),
        ("float64", b"5", b"5.0"),
        ("float64", b"-0", b"-0.0"),
        ("float64", b"1.50", b"1.50"),
        ("float64", b"1E3", b"1E3"),
        (
            "float64",
            b"0.1000000000000000055511151231257827",
            b"0.1000000000000000055511151231257827",
        ),
        ("float64", b"9007199254740992", b"9007199254740992.0"),
        ("float64", b"9007199254740993", None),
        ("float64", b"10000000000000000000000", b"1e+22"),
        ("float64", b"1" * 400, None),
        ("float64", b"1e308", b"1e308"),
        ("float64", b"1e309", None),
        ("float64", b"-1e400", None),
        ("float64", b"1e-400", None),
        ("float64", b"0e-400", b"0e-400"),
        ("float64", b"-0.00e5", b"-0.00e5"),
        ("float64", b"0.0", b"0.0"),
        ("float64", b"5e-324", b"5e-324"),
        ("float64", b'"1.5"', b"1.5"),
        ("float64", b'"Infinity"', None),
        ("float64", b'"1."', None),
        ("float64", b"true", b"1.0"),
        ("float64", b"{}", None),
        ("float64", b"0." + b"1" * 2000, None),
        ("float32", b"0.1", b"0.1"),
        ("float32", b"16777216", b"16777216.0"),
        ("float32", b"16777217", None),
        ("float32", b"16777217.5", b"16777217.5"),
        ("float32", b"3.4e38", b"3.4e38"),
        ("float32", b"3.5e38", None),
        ("float32", b"1e400", None),
        ("float32", b"-1e400", None),
        ("float32", b"1e-46", None),
        ("float32", b"1e-45", b"1e-45"),
        ("float32", b"1267650600228229401496703205376", b"1.2676506002282294e+30"),
    ],
)
def test_what_a_cast_makes(kind: str, text: bytes, wanted: bytes | None) -> None:
    """Numbers also where they are sent as strings; None: the value would be lost."""
    assert cast(kind, text) == wanted


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("text", ODD_SCALARS)
def test_what_was_cast_is_of_its_type(kind: str, text: bytes) -> None:
    """So that the schema takes it, and a second cast leaves it as it is."""
    found = cast(kind, text)
    if found is not None:
        assert CHECKS[kind](found)
        assert CASTS[kind](found) == found


DIGITS = st.text("0123456789", min_size=1, max_size=22).map(lambda text: text.lstrip("0") or "0")
NUMBERS = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["", "-"]),
    DIGITS | st.sampled_from(["0", "1", "16777216", "16777217", "2147483648", "9007199254740993"]),
    st.sampled_from(["", "", ".0", ".50", ".000000000000000000001"]) | DIGITS.map(".{}".format),
    st.sampled_from(
        ["", "", "", "e0", "E+2", "e-3", "e38", "e-46", "e308", "e-324", "e400", "e-400"]
    ),
)


@settings(max_examples=250, deadline=None, derandomize=True)
@given(NUMBERS, st.booleans(), st.sampled_from(INTEGERS))
@example("9223372036854775808", False, "int64")
def test_whole_numbers_come_through_exactly(number: str, quoted: bool, kind: str) -> None:  # noqa: FBT001
    """Just those that are whole and within the limits, however they are written."""
    exact = Decimal(number)
    text = f'"{number}"' if quoted else number
    whole = exact == exact.to_integral_value()
    fits = whole and -LIMITS[kind] <= exact < LIMITS[kind]
    assert cast(kind, text.encode()) == (b"%d" % int(exact) if fits else None)


def nearest(number: str, kind: str) -> float:
    """The float of this size that is nearest to a decimal number."""
    if kind == "float64" or abs(Fraction(number)) > LARGEST["float32"]:
        return float(number)
    return float(struct.unpack("f", struct.pack("f", float(number)))[0])


@settings(max_examples=250, deadline=None, derandomize=True)
@given(NUMBERS, st.booleans(), st.sampled_from(FLOATS))
def test_floats_are_rounded_and_whole_numbers_are_not(number: str, quoted: bool, kind: str) -> None:  # noqa: FBT001
    """What is written as a whole number comes through exactly; nothing becomes infinite or 0."""
    exact, rounded = Fraction(number), nearest(number, kind)
    fits = abs(rounded) <= LARGEST[kind] and (rounded != 0 or exact == 0)
    if re.fullmatch(r"-?\d+", number):
        fits = fits and Fraction(rounded) == exact
    found = cast(kind, (f'"{number}"' if quoted else number).encode())
    assert (found is not None) is fits
    if found is not None:
        assert re.search(rb"[.eE]", found)
        same_number = Fraction(found.decode()) == exact
        assert same_number or nearest(found.decode(), kind) == rounded


@settings(max_examples=120, deadline=None, derandomize=True)
@given(texts(), st.sampled_from(TYPES))
def test_any_value_is_cast_or_would_be_lost(text: bytes, kind: str) -> None:
    """What comes out is JSON of the type, and nothing else is raised."""
    found = cast(kind, text)
    if found is not None:
        assert CHECKS[kind](found)
        json.loads(found, parse_int=str)
    if kind == "string" and not text.startswith(b'"'):
        assert json.loads(found or b"") == text.decode()


# What Jackson makes of what passed a check, as JsonConverter asks it.


class JavaError(Exception):
    """Jackson would have thrown."""


def jackson_number(text: str) -> int | Decimal:
    """The number that Jackson reads, with USE_BIG_DECIMAL_FOR_FLOATS, as JsonConverter has it.

    Source: ``StreamReadConstraints`` of Jackson 2.15 and later, ``java.math.BigDecimal(String)``.
    """
    if len(text) > 1000:
        raise JavaError("number too long")
    if re.fullmatch(r"-?\d+", text):
        return int(text)
    exponent = re.search(r"[eE][+-]?(\d+)", text)
    if exponent and len(exponent[1]) > 10:
        raise JavaError("too many exponent digits")
    return Decimal(text)


def wrapped(number: int, bits: int) -> int:
    """A whole number as Java narrows it."""
    return (number + (1 << bits - 1)) % (1 << bits) - (1 << bits - 1)


def read_by_java(kind: str, text: bytes) -> Any:
    """The value in Connect: what does not fit becomes something else without a word."""
    if kind == "string":
        return json.loads(text) if text.startswith(b'"') else None
    if kind == "boolean":
        return text == b"true"
    if not JSON_NUMBER.fullmatch(text.decode()):
        return 0
    number = jackson_number(text.decode())
    if kind in INTEGERS:
        return wrapped(int(number) if abs(number) < 10**30 else 0, 32 if kind == "int32" else 64)
    return nearest(str(number), kind)


@settings(max_examples=250, deadline=None, derandomize=True)
@given(NUMBERS.map(str.encode) | texts(), st.sampled_from(TYPES))
@example(b"9" * LONGEST_NUMBER + b".0", "float64")
@example(b"0." + b"0" * LONGEST_NUMBER, "float64")
@example(b"0e99999999999", "float64")
@example(b"0e99999999999", "float32")
def test_what_passes_is_read_by_java_as_the_same(text: bytes, kind: str) -> None:
    """The same string, boolean or number, up to rounding where it is written with a fraction."""
    if not CHECKS[kind](text):
        return
    value = read_by_java(kind, text)
    if kind in {"string", "boolean"}:
        assert value == json.loads(text)
        return
    exact = Fraction(text.decode())
    if kind in INTEGERS or re.fullmatch(rb"-?\d+", text):
        assert Fraction(value) == exact
    else:
        assert math.isfinite(value)
        assert (value == 0) is (exact == 0)
        assert abs(Fraction(value) - exact) <= abs(exact) / 2**23 + Fraction(2) ** -149


@settings(max_examples=120, deadline=None, derandomize=True)
@given(NUMBERS, st.sampled_from(TYPES))
def test_a_check_takes_what_a_cast_leaves_as_it_is(number: str, kind: str) -> None:
    """Numbers that come through as they are, and only those."""
    text = number.encode()
    if kind in FLOATS and re.fullmatch(r"-?\d+", number):
        assert CHECKS[kind](text) is (cast(kind, text) is not None)  # 5 is a fine float, as 5.0
    elif number not in {"-0", "0", "1"}:
        assert CHECKS[kind](text) is (cast(kind, text) == text)


@pytest.mark.parametrize(
    ("kind", "fine", "wrong"),
    [
        ("string", [b'""', b'"x"', b'"1"'], [b"1", b"true", b"null", b"{}", b"[]"]),
        ("boolean", [b"true", b"false"], [b"0", b"1", b'"true"', b"null", b"[]"]),
        ("int32", [b"0", b"-0", b"-2147483648"], [b"1.0", b"1e2", b"2147483648", b'"1"', b"true"]),
        ("int64", [b"9223372036854775807"], [b"1.0", b"9223372036854775808", b'"1"', b"null"]),
        ("float32", [b"1", b"1.5", b"1e2"], [b"16777217", b"1e39", b"1e400", b'"1.5"', b"true"]),
        ("float64", [b"1", b"1.5", b"-1e-300"], [b"9007199254740993", b"1e400", b'"1"', b"{}"]),
    ],
)
def test_what_is_of_a_type(kind: str, fine: list[bytes], wrong: list[bytes]) -> None:
    """A check never casts: a string is no number, and 1.0 no whole one."""
    assert [text for text in fine if not CHECKS[kind](text)] == []
    assert [text for text in wrong if CHECKS[kind](text)] == []
