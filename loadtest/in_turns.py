"""Compares what an event costs two gateways, fairly.

A gateway is started afresh for each round, and who is first changes from round to round: where a
process's memory happens to lie is worth some 5 % of CPU time for as long as it lives, and a noisy
neighbour comes and goes.
"""

from __future__ import annotations

import sys
from statistics import median
from typing import TYPE_CHECKING

from loadtest.benchmark import Server, measure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from loadtest.benchmark_table import Case
    from loadtest.gateway import Gateway

SHARE = 0.3
"""Of the benchmark's events, in each measurement."""
MEASUREMENTS = 2
"""In each round, of which the least counts: what disturbs only ever adds."""


def costs_in_turns(
    gateways: Mapping[str, Callable[[], Gateway]], cases: Sequence[Case], rounds: int
) -> dict[str, dict[str, list[float]]]:
    """CPU time of an event in microseconds: case -> gateway -> round."""
    costs: dict[str, dict[str, list[float]]] = {
        case.name: {name: [] for name in gateways} for case in cases
    }
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        for name in turn(tuple(gateways), number):
            with gateways[name]() as gateway:
                server = Server(gateway.process, gateway.key)
                for case in cases:
                    costs[case.name][name].append(_least(case, server))
    return costs


def turn(names: Sequence[str], number: int) -> list[str]:
    """Who comes after whom in a round: everybody is first, and last, equally often."""
    first = number // 2 % len(names)
    turned = [*names[first:], *names[:first]]
    return turned[::-1] if number % 2 else turned


def ratio(costs: Mapping[str, Sequence[float]], of: str, to: str) -> float:
    """The median over the rounds of what one gateway costs next to another one."""
    return median(one / other for one, other in zip(costs[of], costs[to], strict=True))


def _least(case: Case, server: Server) -> float:
    return min(measure(case, server, SHARE).cpu_us_per_event for _ in range(MEASUREMENTS))
