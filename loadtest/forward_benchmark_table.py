"""The cases of the forwarder's benchmark, and how its result is shown, judged and recorded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loadtest.benchmark_table import HEADING, as_markdown
from loadtest.events import MEAN_BYTES
from loadtest.forward_load import TYPE
from loadtest.recording import write

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


COLUMNS = HEADING[:7]
"""There are no clients here that wait for answers."""
STEPS = (
    {"lift": {"/event_id": "id"}},
    {"rename": {"/customer_id": "/customer"}},
    {"cast": {"/total": "float64"}},
)
SCHEMA = {
    "event_id": "string",
    "customer": "string",
    "placed": "string",
    "total": "float64",
    "currency": "string",
    "paid": "boolean",
    "note": {"type": "string", "optional": True},
}


@dataclass(frozen=True, slots=True)
class ForwardCase:
    """Routes that all read the same topic, and each take every event.

    Attributes:
        name: how the table calls it.
        routes: what of ``[[forward.routes]]`` makes each of them special.
        events: events of one round.
        most: the highest ratio to the bare producer that is acceptable; None: only for comparison.
        goal: the ratio that is aimed at.
    """

    name: str
    routes: tuple[Mapping[str, Any], ...]
    events: int = 600_000
    most: float | None = None
    goal: float | None = None

    def tables(self, source: str, targets: Sequence[str]) -> list[dict[str, Any]]:
        """The routes as in a configuration, from the topic ``source``, each to one of ``targets``.

        Their names are those of their targets.
        """
        pairs = zip(self.routes, targets, strict=True)
        return [{"name": to, "from": [source], "to": to, **route} for route, to in pairs]


UNCHANGED = {"format": "cloudevents"}
THREE_STEPS = {"where": {"type": TYPE}, "steps": [*STEPS], "format": "plain"}
CASES = (
    ForwardCase("nothing changed", (UNCHANGED,), most=4, goal=2.7),
    ForwardCase("three steps, plain", (THREE_STEPS,), most=10, goal=6),
    ForwardCase(
        "three steps, connect-envelope",
        ({**THREE_STEPS, "format": "connect-envelope", "schema": SCHEMA},),
        events=300_000,
    ),
    ForwardCase("two routes: both of the first", (UNCHANGED, THREE_STEPS), events=300_000),
)


def record(rows: Sequence[Sequence[str]], rounds: int, broker: str) -> Path:
    """Write the result of today, with a description of the machine."""
    text = (
        f"Medians of {rounds} interleaved rounds; events of {MEAN_BYTES} bytes on average, in\n"
        "envelopes and with keys as the gateway writes them, in a topic of four partitions. CPU\n"
        "time is user and system time of the forwarder's processes, parent and one worker, per\n"
        "event read, from rest until every event is in the topic of every route; reading and\n"
        "writing are in it, the broker is not. Ratio: to the bare producer of the same round,\n"
        "which writes the events without envelopes and reads nothing.\n\n"
        f"{as_markdown(rows)}\n\nMade by `make forward-bench`.\n"
    )
    return write("forward-benchmark", "CPU time per event forwarded", broker, text)
