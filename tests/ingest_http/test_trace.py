"""A valid traceparent becomes an attribute; what is none is as if it were not there."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_http.trace import attribute

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
VALID = f"00-{TRACE}-{PARENT}-01"


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (VALID, VALID),
        (f" {VALID}\t", VALID),
        (f"00-{TRACE}-{PARENT}-00", f"00-{TRACE}-{PARENT}-00"),
        (f"cc-{TRACE}-{PARENT}-01", f"cc-{TRACE}-{PARENT}-01"),
        (f"cc-{TRACE}-{PARENT}-01-what-the-future-brings", f"cc-{TRACE}-{PARENT}-01"),
    ],
)
def test_a_valid_trace_is_an_attribute(value: str, found: str) -> None:
    """Of a later version only what this one knows is taken (Trace Context, section 3.2.4)."""
    assert attribute([value]) == f',"traceparent":"{found}"'.encode()


@pytest.mark.parametrize(
    "values",
    [
        [],
        [""],
        [VALID, VALID],
        [VALID.upper()],
        [VALID[:-1]],
        [VALID + "-more"],
        [VALID + "0"],
        [f"ff-{TRACE}-{PARENT}-01"],
        [f"00-{'0' * 32}-{PARENT}-01"],
        [f"00-{TRACE}-{'0' * 16}-01"],
        [f"cc-{TRACE}-{PARENT}-01-a b"],
        [f"cc-{TRACE}-{PARENT}-01x"],
        [f'00-{TRACE}-{PARENT}-0"'],
    ],
)
def test_what_is_no_trace_is_left_out(values: list[str]) -> None:
    """Wrong in its version, its length, its digits, or there more than once."""
    assert attribute(values) == b""


@given(st.lists(st.text() | st.just(VALID) | st.from_regex(r"[0-9a-f-]{55}.*"), max_size=2))
def test_whatever_comes_the_envelope_stays_json(values: list[str]) -> None:
    """What a client sends cannot break out of its attribute."""
    found = json.loads(b'{"id":1%b}' % attribute(values))
    assert found.keys() <= {"id", "traceparent"}
