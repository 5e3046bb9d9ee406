"""The bounds on the shape of JSON: exact where it is valid, linear in time whatever it is."""

from __future__ import annotations

import json
import time
import tracemalloc
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_http.structure import MAX_DEPTH, TooDeep, TooMany, check, may_be_too_deep

TEXTS = st.text('a"\\[]{},', max_size=6)
VALUES = st.recursive(
    st.none() | st.integers(0, 99) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=10,
)


def depth_of(value: Any) -> int:
    """How deep a value nests; a scalar does not."""
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


@pytest.mark.parametrize(
    ("text", "depth"),
    [
        (b"{}", 1),
        (b'[[],{"a":[]},[]]', 3),
        (b"[],[],[]", 1),
        (b'["[[[[", "]"]', 1),
        (b'["\\"[[[["]', 1),
        (b'["\\\\",["\\\\"]]', 2),
        (b'["\\\n[[",[]]', 2),
        (b'["[[[[', 1),
        (b'["[[[[\\', 1),
        (b"[[", 2),
    ],
)
def test_only_brackets_outside_of_strings_nest(text: bytes, depth: int) -> None:
    """A text passes at its own depth, and is refused at one less."""
    check(text, max_depth=depth)
    with pytest.raises(TooDeep):
        check(text, max_depth=depth - 1)


@pytest.mark.parametrize(
    ("text", "elements"),
    [
        (b"[1,2,3]", 3),
        (b'[[1,2,3],{"a":1,"b":2}]', 2),
        (b'["a,b,c","\\",,"]', 2),
        (b" [ 1 , 2 ]", 2),
    ],
)
def test_only_elements_of_the_outermost_array_count(text: bytes, elements: int) -> None:
    """As many as there are may be there; one fewer may not."""
    check(text, max_depth=9, max_elements=elements)
    with pytest.raises(TooMany):
        check(text, max_depth=9, max_elements=elements - 1)


def test_the_scan_ends_at_the_first_bound_that_is_passed() -> None:
    """What comes behind it costs nothing, whatever it is."""
    with pytest.raises(TooMany):
        check(b"[1,1,1" + b"[" * 50, max_depth=9, max_elements=2)
    with pytest.raises(TooDeep):
        check(b"[" * 50 + b"1,1,1", max_depth=9, max_elements=2)


@given(VALUES)
@settings(deadline=None)
def test_depth_is_that_of_the_decoded_value(value: Any) -> None:
    """The scan and a real JSON decoder agree on every value."""
    text, depth = json.dumps(value).encode(), depth_of(value)
    check(text, max_depth=depth)
    if depth:
        with pytest.raises(TooDeep):
            check(text, max_depth=depth - 1)


@given(st.lists(VALUES, min_size=1, max_size=9))
@settings(deadline=None)
def test_elements_are_those_of_the_decoded_array(values: list[Any]) -> None:
    """The scan and a real JSON decoder agree on every array."""
    text, depth = json.dumps(values).encode(), depth_of(values)
    check(text, max_depth=depth, max_elements=len(values))
    if len(values) > 1:
        with pytest.raises(TooMany):
            check(text, max_depth=depth, max_elements=len(values) - 1)


@given(st.binary() | st.lists(st.sampled_from([*b'[]{},"\\a'])).map(bytes))
@settings(deadline=None)
def test_any_bytes_pass_or_get_a_verdict(text: bytes) -> None:
    """Nothing but the two verdicts is ever raised."""
    with suppress(TooDeep, TooMany):
        check(text, max_depth=3, max_elements=3)


def test_an_event_is_looked_at_from_the_first_length_that_can_be_too_deep() -> None:
    """Each level takes two brackets."""
    deepest = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH
    assert not may_be_too_deep(len(deepest))
    assert may_be_too_deep(len(b"[" + deepest + b"]"))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b'"' + b'\\"' * 32_000, id="no end, and quotes that may all begin a string"),
        pytest.param(b'"' + b"\\\\" * 32_000 + b"\\", id="no end after a backslash"),
        pytest.param(b"\\" * 64_001, id="backslashes outside of strings"),
    ],
)
def test_no_text_costs_more_than_linear_time(text: bytes) -> None:
    """A string without an end is looked at once, not once from each of its characters."""
    begun = time.process_time()
    check(text, max_depth=9)
    assert time.process_time() - begun < 1.0


def test_escapes_cost_no_memory() -> None:
    """A string of nothing but escapes is scanned in place."""
    text = b'"' + b'\\"' * 500_000 + b'"'
    tracemalloc.start()
    try:
        check(text, max_depth=9)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100_000
