"""The syslog benchmark's table and verdict say what its measures say."""

from __future__ import annotations

import pytest

from loadtest.benchmark_table import BARE
from loadtest.syslog_benchmark_table import (
    BARE_JSON,
    CASES,
    SyslogCase,
    SyslogMeasure,
    missed,
    table,
)
from loadtest.syslog_generator import parser

CASE = SyslogCase("udp", "udp", 1_000, 4, most=7, goal=4.7)
FREE = SyslogCase("free", "relp", 1_000, 1)


def measures(*costs: float, delivered: float = 1.0) -> list[SyslogMeasure]:
    """One measure for each round's cost."""
    return [SyslogMeasure(cost, 1_000, delivered=delivered) for cost in costs]


def test_only_cases_above_their_limit_are_missed() -> None:
    """The ratio is taken within each round; a case without a limit is there for comparison."""
    result = {BARE: measures(1, 2), "udp": measures(7.2, 14), "free": measures(50, 50)}
    assert missed((CASE, FREE), result) == ["udp"]
    assert missed((CASE, FREE), {**result, "udp": measures(7, 14)}) == []


def test_a_row_has_medians_and_the_smallest_share_delivered() -> None:
    """What was lost in one round is not hidden by the others."""
    lossy = [*measures(2, 9), *measures(3, delivered=0.98765)]
    bare = {BARE: measures(1, 1, 1), BARE_JSON: measures(2, 2, 2)}
    rows = table((CASE,), {**bare, "udp": lossy})
    assert rows[3] == ["udp", "3.00", "2.00-9.00", "3.00", "7", "4.7", "1.50", "1,000", "98.77%"]
    assert [len(row) for row in rows] == [len(rows[0])] * 4


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_generator_understands_every_case(case: SyslogCase) -> None:
    """An option that it does not know would be noticed after minutes only."""
    command = ("--address", "127.0.0.1:1", "--messages", "1", *case.arguments())
    options = parser().parse_args(command)
    assert (options.protocol, options.framing) == (case.listener, case.framing)
    assert (options.format, options.window, options.rate) == (case.form, case.window, case.rate)
