"""The result of a benchmark: cases, their measures, and how they are shown and recorded."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Protocol

from loadtest.events import MEAN_BYTES
from loadtest.recording import write

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

BARE = "bare producer"
HEADING = (
    "case", "µs CPU/event", "(from-to)", "ratio", "at most", "goal", "events/s", "p50 ms", "p99 ms",
)  # fmt: skip


class Judged(Protocol):
    """A case, as far as the table is concerned; see `Case`."""

    @property
    def name(self) -> str:
        """How the table calls it."""

    @property
    def most(self) -> float | None:
        """The highest ratio to the bare producer that is acceptable."""

    @property
    def goal(self) -> float | None:
        """The ratio that is aimed at."""


@dataclass(frozen=True, slots=True)
class Case:
    """One load on one server.

    Attributes:
        name: how the table calls it.
        server: ``gateway`` or ``naive``.
        batch: events in a request.
        connections: connections of the generator, each with one request on the way.
        events: events of one round.
        most: the highest ratio to the bare producer that is acceptable; None: only for comparison.
        goal: the ratio that is aimed at.
    """

    name: str
    server: str
    batch: int
    connections: int
    events: int
    most: float | None = None
    goal: float | None = None


@dataclass(frozen=True, slots=True)
class Measure:
    """One round of one case; CPU time is user and system of the server's processes together."""

    cpu_us_per_event: float
    events_per_second: float
    p50_seconds: float | None = None
    p99_seconds: float | None = None


def table(
    cases: Sequence[Judged],
    measures: Mapping[str, Sequence[Measure]],
    heading: Sequence[str] = HEADING,
) -> list[list[str]]:
    """The result as rows of text, medians over the rounds; the first row is the heading.

    Args:
        cases: in the order of the rows.
        measures: of the bare producer and of each case.
        heading: `HEADING`, or as many of its columns, from the left, as there are to be.
    """
    bare = measures[BARE]
    rows = [
        list(heading),
        [BARE, *_cells(bare, bare, None, None)],
        *([each.name, *_cells(measures[each.name], bare, each.most, each.goal)] for each in cases),
    ]
    return [row[: len(heading)] for row in rows]


def ratio(measures: Sequence[Measure], bare: Sequence[Measure]) -> float:
    """The median over the rounds of CPU time per event, in bare producers of the same round."""
    pairs = zip(measures, bare, strict=True)
    return median(each.cpu_us_per_event / unit.cpu_us_per_event for each, unit in pairs)


def missed(cases: Sequence[Judged], measures: Mapping[str, Sequence[Measure]]) -> list[str]:
    """The names of the cases above their limit."""
    return [
        case.name
        for case in cases
        if case.most is not None and ratio(measures[case.name], measures[BARE]) > case.most
    ]


def _cells(
    measures: Sequence[Measure], bare: Sequence[Measure], most: float | None, goal: float | None
) -> list[str]:
    costs = [each.cpu_us_per_event for each in measures]
    return [
        f"{median(costs):.2f}",
        f"{min(costs):.2f}-{max(costs):.2f}",
        f"{ratio(measures, bare):.2f}",
        "" if most is None else f"{most:g}",
        "" if goal is None else f"{goal:g}",
        f"{median(each.events_per_second for each in measures):,.0f}",
        _milliseconds(each.p50_seconds for each in measures),
        _milliseconds(each.p99_seconds for each in measures),
    ]


def _milliseconds(seconds: Iterable[float | None]) -> str:
    known = [each for each in seconds if each is not None]
    return f"{median(known) * 1e3:.1f}" if known else ""


def as_text(rows: Sequence[Sequence[str]]) -> str:
    """Rows as aligned columns, the first one to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if at else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def as_markdown(rows: Sequence[Sequence[str]]) -> str:
    """Rows as a Markdown table."""
    heading, *others = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join((heading, "|---" + "|---:" * (len(rows[0]) - 1) + "|", *others))


def record(rows: Sequence[Sequence[str]], rounds: int, broker: str) -> Path:
    """Write the result of today, with a description of the machine."""
    text = (
        f"Medians of {rounds} interleaved rounds; events of {MEAN_BYTES} bytes on average.\n"
        "CPU time is user and system time of the server's processes, parent and workers;\n"
        "generator and broker are not in it. Ratio: to the bare producer of the same round.\n\n"
        f"{as_markdown(rows)}\n\nMade by `make bench`.\n"
    )
    return write("benchmark", "CPU time per event", broker, text)
