"""A campaign's rounds summed up, for people and for ``loadtest/results/``."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from loadtest.campaign_services import INFLIGHT_BYTES
from loadtest.campaign_verdict import ALLOWED, EXCESS, MUST_BE_ZERO, Verdict
from loadtest.frozen import ALLOWANCE_BYTES, MB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loadtest.campaign_round import Outcome

LIMIT_BYTES = 2 * INFLIGHT_BYTES + ALLOWANCE_BYTES
"""The most memory that a process of a service may have."""
FIRST = ("sent", "acknowledged", "present", "records")


@dataclass
class Report:
    """What all rounds so far have shown.

    Attributes:
        rounds: how many there were.
        seconds: how long they took, from the first event to rest.
        rest_seconds: the longest that one took to come to rest.
        faults: how often each was seen.
        verdicts: by way in.
        peak_bytes: by service.
        broken: what was not kept, by round.
    """

    rounds: int = 0
    seconds: float = 0.0
    rest_seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    peak_bytes: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether there was a round, and every promise was kept in all of them."""
        return self.rounds > 0 and not self.broken

    def add(self, seed: str, outcome: Outcome) -> list[str]:
        """Add a round; returns the promises that were not kept in it."""
        self.rounds += 1
        self.seconds += outcome.seconds
        self.rest_seconds = max(self.rest_seconds, outcome.rest_seconds)
        self.faults.update(_names(outcome))
        broken = []
        for verdict in outcome.verdicts:
            self.verdicts.setdefault(verdict.way, Verdict(verdict.way)).add(verdict)
            broken += [
                f"round {seed}, {verdict.way}: {name} {verdict.counts[name] or ''}"
                for name in verdict.broken
            ]
        for service, peak in outcome.peak_bytes.items():
            self.peak_bytes[service] = max(self.peak_bytes[service], peak)
            if peak > LIMIT_BYTES:
                broken.append(f"round {seed}, {service}: a process of {peak // MB} MB")
        self.broken += broken
        return broken

    def fail(self, seed: str, error: BaseException) -> list[str]:
        """Note a round that could not be judged; returns why."""
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        self.rounds += 1
        broken = [f"round {seed}: not judged: {error!r}"]
        self.broken += broken
        return broken

    def __str__(self) -> str:
        """All of it, in Markdown."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"**{'ok' if self.ok else 'NOT OK'}**: {self.rounds} rounds, {self.seconds:.0f} s"
        yield ""
        yield from _table([("fault", "times"), *sorted(self.faults.items())])
        yield ""
        yield from _table(self._rows())
        yield ""
        peaks = ", ".join(f"{name} {peak // MB} MB" for name, peak in self.peak_bytes.items())
        yield f"Most memory of a process: {peaks} (allowed: {LIMIT_BYTES // MB} MB)."
        yield f"At rest {self.rest_seconds:.0f} s after the last answer, at most."
        yield from (f"- BROKEN: {each}" for each in self.broken)
        for verdict in self.verdicts.values():
            yield from (f"- {verdict.way}: {each}" for each in verdict.examples)

    def _rows(self) -> list[tuple[object, ...]]:
        verdicts = list(self.verdicts.values())
        found = dict.fromkeys(name for verdict in verdicts for name in verdict.counts)
        must = dict.fromkeys(MUST_BE_ZERO)
        last = [EXCESS, ALLOWED]
        others = [name for name in found if name not in {*FIRST, *must, *last}]
        return [
            ("events", *(verdict.way for verdict in verdicts)),
            *(
                (
                    name + (" (must be 0)" if name in must else ""),
                    *(v.counts[name] for v in verdicts),
                )
                for name in (*FIRST, *must, *others, *last)
            ),
        ]


def _label(name: str) -> str:
    return f"{name} (must be 0)" if name in MUST_BE_ZERO else name


def _names(outcome: Outcome) -> Iterator[str]:
    """The faults, and how many kills there were while the broker was away."""
    away = [each for each in outcome.happened if not each.service]
    for each in outcome.happened:
        yield each.name
        if each.service and any(it.began <= each.began <= it.ended for it in away):
            yield "of all kills: while the broker was away"


def _table(rows: list[tuple[object, ...]]) -> Iterator[str]:
    head, *others = rows
    yield _row(head)
    yield "|---" + "|--:" * (len(head) - 1) + "|"
    yield from map(_row, others)


def _row(cells: tuple[object, ...]) -> str:
    shown = (f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in cells)
    return f"| {' | '.join(shown)} |"
