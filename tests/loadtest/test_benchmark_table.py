"""The benchmark's table says what its measures say."""

from __future__ import annotations

from loadtest.benchmark_table import BARE, Case, Measure, as_markdown, as_text, missed, ratio, table

CASE = Case("batches", "gateway", 100, 16, 1000, most=2.8, goal=2.0)
FREE = Case("naive", "naive", 100, 16, 1000)


def measures(*costs: float) -> list[Measure]:
    """One measure for each round's cost."""
    return [Measure(cost, 1000, 0.001, 0.002) for cost in costs]


def test_the_ratio_is_taken_within_each_round() -> None:
    """A slow round is slow for all cases, and says nothing."""
    assert ratio(measures(2, 20, 2), measures(1, 10, 1)) == 2


def test_only_cases_above_their_limit_are_missed() -> None:
    """A case without a limit is there for comparison."""
    result = {BARE: measures(1), "batches": measures(2.81), "naive": measures(50)}
    assert missed((CASE, FREE), result) == ["batches"]
    assert missed((CASE, FREE), {**result, "batches": measures(2.8)}) == []


def test_the_table_has_a_row_for_each_case_and_medians_in_it() -> None:
    """Both ways to show it have the same cells."""
    rows = table((CASE,), {BARE: measures(1, 1, 1), "batches": measures(2, 9, 3)})
    assert rows[2] == ["batches", "3.00", "2.00-9.00", "3.00", "2.8", "2", "1,000", "1.0", "2.0"]
    assert as_text(rows).count("\n") == 2
    assert as_markdown(rows).count("\n") == 3
