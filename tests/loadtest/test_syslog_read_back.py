"""A tally of marks finds what is missing, doubled or never sent, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from loadtest.syslog_read_back import Comparison, Tally

if TYPE_CHECKING:
    from collections.abc import Mapping

SENT = {1: 3, 2: 2}
ALL = ((1, 0), (1, 1), (1, 2), (2, 0), (2, 1))


def tally(*marks: tuple[int, int]) -> Tally:
    """A tally of envelopes with these marks."""
    result = Tally()
    for sender, sequence in marks:
        result.note(b'{"client":"%04d","seq":"%09d"}' % (sender, sequence))
    return result


@pytest.mark.parametrize(
    ("marks", "found"),
    [
        (ALL, {}),
        (ALL[::-1], {}),
        (ALL[1:], {"missing": 1}),
        (ALL[:-1], {"missing": 1}),
        ((), {"missing": 5}),
        ((*ALL, (1, 1)), {"duplicated": 1}),
        ((*ALL, (1, 1), (1, 1), (2, 0)), {"duplicated": 2}),
        ((*ALL, *((1, 1),) * 300), {"duplicated": 1}),
        ((*ALL, (1, 3)), {"never_sent": 1}),
        ((*ALL, (3, 0), (1, 1_000)), {"never_sent": 2}),
        ((*ALL[1:], (1, 1)), {"missing": 1, "duplicated": 1}),
    ],
)
def test_each_defect_is_found(marks: tuple[tuple[int, int], ...], found: Mapping[str, int]) -> None:
    """In whatever order the records come."""
    assert tally(*marks).compared(SENT) == Comparison(**found)


def test_a_record_without_a_mark_was_sent_by_nobody() -> None:
    """It is a record all the same."""
    result = tally(*ALL)
    result.note(b"{}")
    assert result.compared(SENT) == Comparison(never_sent=1)
    assert (result.records, result.distinct) == (6, 5)
