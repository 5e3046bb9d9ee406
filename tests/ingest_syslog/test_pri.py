"""The PRI is read where it is one, skipped where it is a wrong one, else part of the message."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_syslog.pri import Pri, read_pri

RESTS = ["", ">", "1 2003-10-11T22:14:15Z host", "Oct 11 22:14:15 host"]


@pytest.mark.parametrize("rest", RESTS)
def test_each_of_the_192_is_read(rest: str) -> None:
    """Eight times the facility, plus the severity (RFC 5424, section 6.2.1)."""
    for number in range(192):
        pri = read_pri(f"<{number}>{rest}")
        assert pri == Pri(number // 8, number % 8, len(f"<{number}>"), "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Pri(None, None, 0, "no_pri")),
        ("13>hello", Pri(None, None, 0, "no_pri")),
        (" <13>hello", Pri(None, None, 0, "no_pri")),
        ("hello <13>", Pri(None, None, 0, "no_pri")),
        ("1 2003-10-11T22:14:15Z host", Pri(None, None, 0, "no_pri")),
        ("<013>hello", Pri(1, 5, 5, "bad_pri")),
        ("<00>hello", Pri(0, 0, 4, "bad_pri")),
        ("<000000191>", Pri(23, 7, 11, "bad_pri")),
        ("<192>hello", Pri(None, None, 5, "bad_pri")),
        ("<999>hello", Pri(None, None, 5, "bad_pri")),
        ("<123456789>hello", Pri(None, None, 11, "bad_pri")),
        ("<1234567890>hello", Pri(None, None, 0, "bad_pri")),
        ("<12345678901234567890>hello", Pri(None, None, 0, "bad_pri")),
        ("<>hello", Pri(None, None, 0, "bad_pri")),
        ("<", Pri(None, None, 0, "bad_pri")),
        ("<1", Pri(None, None, 0, "bad_pri")),
        ("<189 Feb  3 01:02:03", Pri(None, None, 0, "bad_pri")),
        ("<abc>hello", Pri(None, None, 0, "bad_pri")),
        ("<-1>hello", Pri(None, None, 0, "bad_pri")),
        ("<+13>hello", Pri(None, None, 0, "bad_pri")),
        ("< 13>hello", Pri(None, None, 0, "bad_pri")),
        ("<13 >hello", Pri(None, None, 0, "bad_pri")),
        ("<1_3>hello", Pri(None, None, 0, "bad_pri")),
        ("<1\n>hello", Pri(None, None, 0, "bad_pri")),
        ("<١٣>hello", Pri(None, None, 0, "bad_pri")),  # which int() would take
        ("<<13>>hello", Pri(None, None, 0, "bad_pri")),
        ("<" + "1" * 1_000_000, Pri(None, None, 0, "bad_pri")),
        ("<" * 1_000_000, Pri(None, None, 0, "bad_pri")),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_deviations(text: str, expected: Pri) -> None:
    """What is not a number in brackets is left in the message."""
    assert read_pri(text) == expected


@given(st.text(max_size=20) | st.text("<>0123456789 -", max_size=14))
def test_any_text_has_an_answer(text: str) -> None:
    """What is skipped is a bracket, and a severity comes with a facility."""
    pri = read_pri(text)
    assert not pri.end or (text[0] == "<" and text[1 : pri.end - 1].isdecimal())
    assert not pri.end or text[pri.end - 1] == ">"
    assert (pri.facility is None) == (pri.severity is None)
    assert pri.facility is None or (pri.end and 0 <= pri.facility <= 23)
    assert pri.severity is None or 0 <= pri.severity <= 7
    assert pri.reason in ("", "no_pri", "bad_pri")
