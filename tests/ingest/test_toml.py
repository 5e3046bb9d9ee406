"""TOML text: what is written is what the standard library reads."""

from __future__ import annotations

import math
import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest import toml

NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
SCALARS = st.text() | st.booleans() | NUMBERS
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=12
)


def typed(value: Any) -> Any:
    """``value`` so that true, 1 and 1.0 differ."""
    if isinstance(value, dict):
        return {name: typed(each) for name, each in value.items()}
    if isinstance(value, list):
        return [typed(each) for each in value]
    return type(value), value


@settings(max_examples=60, deadline=None)  # the machine may be busy
@given(st.dictionaries(st.text(), VALUES))
def test_what_is_written_reads_back_the_same(table: dict[str, Any]) -> None:
    """Values, types, names and nesting survive, whatever characters they are made of."""
    assert typed(tomllib.loads(toml.dumps(table))) == typed(table)


def test_a_number_that_is_none_stays_none() -> None:
    """NaN, which equals nothing, has a spelling in TOML as well."""
    assert math.isnan(tomllib.loads(toml.dumps({"a": math.nan}))["a"])


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({}, "\n"),
        ({"a": 1}, "a = 1\n"),
        ({"a": {"b": "x", "c": True}}, '[a]\nb = "x"\nc = true\n'),
        ({"a": {"b": 1}, "c": {"d": 0.5}}, "[a]\nb = 1\n\n[c]\nd = 0.5\n"),
        ({"a": {"b": {"c": 1}}}, "[a.b]\nc = 1\n"),
        ({"a": {"b": {"c": 1}, "d": 2}}, "[a]\nd = 2\n\n[a.b]\nc = 1\n"),
        ({"a": {}}, "[a]\n"),
        ({"a": {"x y": {"b": 1}}}, '[a."x y"]\nb = 1\n'),
        ({"a": ["x", 1, False, []]}, 'a = ["x", 1, false, []]\n'),
        ({"a": [{"b": 1, "c d": "x"}, {}]}, '[[a]]\nb = 1\n"c d" = "x"\n\n[[a]]\n'),
        ({"a": {"b": [{"c": {"d": 1}}], "e": 2}}, "[a]\ne = 2\n\n[[a.b]]\n\n[a.b.c]\nd = 1\n"),
        ({"a": [[{"b": 1}], {"c": 2}]}, "a = [[{ b = 1 }], { c = 2 }]\n"),
        ({"a": "é\t\x7f"}, 'a = "é\\t\\u007f"\n'),
    ],
)
def test_tables_are_laid_out_for_people(table: dict[str, Any], text: str) -> None:
    """Tables with values have a header; values come first; only what must be is escaped."""
    assert toml.dumps(table) == text


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("shop-1_B", "shop-1_B"),
        ("", '""'),
        ("a.b", '"a.b"'),
        ("a b", '"a b"'),
        ("é", '"é"'),
        ('"', '"\\""'),
        ("a\n", '"a\\n"'),
    ],
)
def test_a_key_is_quoted_only_where_it_has_to_be(name: str, key: str) -> None:
    """Bare keys are ASCII letters, digits, ``_`` and ``-``, and not empty."""
    assert toml.key(name) == key
