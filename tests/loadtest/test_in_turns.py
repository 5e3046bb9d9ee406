"""Gateways are compared fairly."""

from __future__ import annotations

from collections import Counter

import pytest

from loadtest.in_turns import ratio, turn


@pytest.mark.parametrize("names", ["ab", "abc", "abcd"])
def test_everybody_is_first_and_last_equally_often(names: str) -> None:
    """In as many rounds as it takes to have each order."""
    rounds = [turn(names, number) for number in range(2 * len(names))]
    assert all(sorted(each) == sorted(names) for each in rounds)
    assert Counter(each[0] for each in rounds) == Counter(names * 2)
    assert Counter(each[-1] for each in rounds) == Counter(names * 2)


def test_a_ratio_is_that_of_the_same_round() -> None:
    """A slow hour is slow for both: only what differs within a round counts."""
    costs = {"one": [2.0, 20.0, 3.0], "other": [1.0, 10.0, 4.0]}
    assert ratio(costs, of="one", to="other") == 2.0
