"""The cases of the syslog benchmark, and how its result is shown, judged and recorded."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Literal

from loadtest.benchmark_table import BARE, Measure, as_markdown, ratio
from loadtest.recording import write
from loadtest.syslog_messages import MESSAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from loadtest.syslog_messages import Format

BARE_JSON = "bare producer, JSON events"
"""The unit of `loadtest.benchmark`: what it writes is other text, and compresses otherwise."""
HEADING = (
    "case", "µs CPU/message", "(from-to)", "ratio", "at most", "goal", "ratio to JSON",
    "messages/s", "delivered",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SyslogCase:
    """One load on one listener.

    Attributes:
        name: how the table calls it.
        listener: ``tcp``, ``udp`` or ``relp``: its protocol, and its name.
        messages: messages of one round.
        connections: connections, sessions or source ports.
        framing: of ``tcp``.
        form: how messages are spelt.
        rate: messages per second; 0: as fast as they are taken.
        window: unanswered frames of a RELP session.
        most: the highest ratio to the bare producer that is acceptable; None: only for comparison.
        goal: the ratio that is aimed at.
    """

    name: str
    listener: str
    messages: int
    connections: int
    framing: Literal["lf", "octet"] = "lf"
    form: Format = "rfc5424"
    rate: int = 0
    window: int = 128
    most: float | None = None
    goal: float | None = None

    def arguments(self) -> tuple[str, ...]:
        """What `loadtest.syslog_generator` is told, but for address and amount."""
        return (
            *("--protocol", self.listener, "--framing", self.framing, "--format", self.form),
            *("--connections", str(self.connections), "--rate", str(self.rate)),
            *("--window", str(self.window)),
        )


CASES = (
    SyslogCase("TCP, LF, RFC 5424", "tcp", 1_000_000, 4, most=3.9, goal=2.6),
    SyslogCase("TCP, octet-counted, RFC 5424", "tcp", 1_000_000, 4, "octet", most=3.9, goal=2.6),
    SyslogCase("TCP, LF, RFC 3164", "tcp", 1_000_000, 4, form="rfc3164", most=3.9),
    SyslogCase("UDP, 50,000/s", "udp", 500_000, 4, rate=50_000, most=7, goal=4.7),
    SyslogCase("UDP, 200,000/s", "udp", 1_000_000, 4, rate=200_000, most=5),
    SyslogCase("RELP, 16 sessions, window 128", "relp", 500_000, 16, most=7, goal=4.3),
    SyslogCase("RELP, 4 sessions, window 1000", "relp", 500_000, 4, window=1000, most=7, goal=4.3),
    SyslogCase("RELP, 1 session, window 128", "relp", 100_000, 1),
)


@dataclass(frozen=True, slots=True)
class SyslogMeasure(Measure):
    """One round of one case; costs are per message that is in Kafka.

    Attributes:
        delivered: share of the messages sent; the others were counted as dropped.
    """

    delivered: float = 1.0


def table(
    cases: Sequence[SyslogCase], measures: Mapping[str, Sequence[SyslogMeasure]]
) -> list[list[str]]:
    """The result as rows of text, medians over the rounds; the first row is the heading."""
    units = (measures[BARE], measures[BARE_JSON])
    return [
        list(HEADING),
        *([name, *_cells(measures[name], units, None, None)] for name in (BARE, BARE_JSON)),
        *([each.name, *_cells(measures[each.name], units, each.most, each.goal)] for each in cases),
    ]


def missed(
    cases: Sequence[SyslogCase], measures: Mapping[str, Sequence[SyslogMeasure]]
) -> list[str]:
    """The names of the cases above their limit."""
    return [
        case.name
        for case in cases
        if case.most is not None and ratio(measures[case.name], measures[BARE]) > case.most
    ]


def _cells(
    measures: Sequence[SyslogMeasure],
    units: tuple[Sequence[SyslogMeasure], Sequence[SyslogMeasure]],
    most: float | None,
    goal: float | None,
) -> list[str]:
    costs = [each.cpu_us_per_event for each in measures]
    return [
        f"{median(costs):.2f}",
        f"{min(costs):.2f}-{max(costs):.2f}",
        f"{ratio(measures, units[0]):.2f}",
        "" if most is None else f"{most:g}",
        "" if goal is None else f"{goal:g}",
        f"{ratio(measures, units[1]):.2f}",
        f"{median(each.events_per_second for each in measures):,.0f}",
        f"{min(each.delivered for each in measures):.2%}",
    ]


def record(rows: Sequence[Sequence[str]], rounds: int, broker: str) -> Path:
    """Write the result of today, with a description of the machine."""
    text = (
        f"Medians of {rounds} interleaved rounds; messages of {MESSAGE_BYTES} bytes, those of RFC\n"
        "5424 with a structured data element of three parameters. CPU time is user and system\n"
        "time of the gateway's processes, parent and one worker, from the first message until all\n"
        "are in Kafka, per message in Kafka; generator and broker are not in it. Ratio: to the\n"
        "bare producer of the same round, which writes the same messages as they are;\n"
        "ratio to JSON: to the one of `make bench`, which writes JSON events.\n"
        "TCP: 4 connections. UDP: paced, from 4 ports; the lowest share delivered of all rounds,\n"
        "the others were counted as dropped.\n\n"
        f"{as_markdown(rows)}\n\nMade by `make syslog-bench`.\n"
    )
    return write("syslog-benchmark", "CPU time per syslog message", broker, text)
