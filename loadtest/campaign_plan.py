"""The faults of a campaign, drawn from a seed: what is killed or frozen, when, and for how long."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, fields, replace
from typing import Final, Literal, NamedTuple

HTTP, SYSLOG = "http", "syslog"
SERVICES = (HTTP, SYSLOG)
WORKERS = 2
"""Worker processes of each service."""
WHOLE_SHARE = 0.2
"""Share of the gateway kills that end a service with all its processes."""
LONGEST_AWAY_SECONDS = 0.5
"""How long a service is away at most before it is started again."""
CALM_SECONDS = (1.0, 4.0)
"""Between two faults of the broker."""
START_SECONDS = 5.0
"""About how long a broker takes to start; only rounds are cut by this."""
KILL: Final = "broker killed"
BOUNCE: Final = "broker bounced"
FREEZE: Final = "broker frozen"
Kind = Literal["broker killed", "broker bounced", "broker frozen"]


class GatewayKill(NamedTuple):
    """SIGKILL of a worker, or of a whole service.

    Attributes:
        at: seconds after the beginning of the round.
        service: one of `SERVICES`.
        slot: which worker; None: all processes of the service.
        away: how many seconds pass before a killed service is started again.
    """

    at: float
    service: str
    slot: int | None
    away: float


class BrokerFault(NamedTuple):
    """What happens to the broker.

    Attributes:
        calm: seconds without a fault before.
        kind: SIGKILL and start, stop and start, or SIGSTOP and SIGCONT.
        seconds: how long it is away or frozen.
    """

    calm: float
    kind: Kind
    seconds: float

    @property
    def name(self) -> str:
        """Its kind; of a freeze also how long."""
        return f"{self.kind} {self.seconds:g} s" if self.kind == FREEZE else self.kind

    @property
    def about_seconds(self) -> float:
        """About how long it takes, from the calm before to the first answer after."""
        return self.calm + self.seconds + (0 if self.kind == FREEZE else START_SECONDS)


class Round(NamedTuple):
    """What happens between a fresh start of both services and a verdict."""

    seed: str
    kills: list[GatewayKill]
    faults: list[BrokerFault]

    @property
    def about_seconds(self) -> float:
        """About how long it takes."""
        return max(
            sum(fault.about_seconds for fault in self.faults),
            self.kills[-1].at if self.kills else 0.0,
        )


@dataclass(frozen=True)
class Counts:
    """How many faults of each kind; ``freezes5`` are SIGSTOPs of five seconds, and so on."""

    kills: int = 0
    broker_kills: int = 0
    broker_bounces: int = 0
    freezes5: int = 0
    freezes30: int = 0
    freezes90: int = 0

    def faults(self, chance: random.Random) -> list[BrokerFault]:
        """The broker's, the longest first."""
        frozen = {5.0: self.freezes5, 30.0: self.freezes30, 90.0: self.freezes90}
        made = [
            *(_fault(KILL, chance.uniform(0, 3), chance) for _ in range(self.broker_kills)),
            *(_fault(BOUNCE, chance.uniform(0, 1), chance) for _ in range(self.broker_bounces)),
            *(_fault(FREEZE, long, chance) for long in frozen for _ in range(frozen[long])),
        ]
        return sorted(made, key=lambda fault: fault.about_seconds, reverse=True)


ISSUED = Counts(1000, 60, 40, 80, 15, 5)
"""What a recorded campaign adds up to; also the proportions of a drawn one."""
NAMES = tuple(field.name for field in fields(Counts))


def planned(seed: int, counts: Counts, kill_every: float, round_seconds: float) -> list[Round]:
    """Rounds of about ``round_seconds`` that add up to ``counts``.

    Args:
        seed: the same one gives the same faults.
        counts: how many of each kind.
        kill_every: mean seconds between two gateway kills; more where a round's broker faults take
            longer than its kills, so that kills go on meanwhile.
        round_seconds: about how long a round shall be.
    """
    faults = counts.faults(random.Random(seed))
    needed = max(counts.kills * kill_every, sum(each.about_seconds for each in faults))
    number = max(1, math.ceil(needed / round_seconds))
    return [
        _round(f"{seed}-{at}", len(range(at, counts.kills, number)), faults[at::number], kill_every)
        for at in range(number)
    ]


def drawn(seed: int, seconds: float, kill_every: float, round_seconds: float) -> list[Round]:
    """Rounds of about ``round_seconds`` that fill ``seconds``, with the proportions of `ISSUED`."""
    number = max(1, math.ceil(seconds / round_seconds))
    each = seconds / number
    return [
        _round(f"{seed}-{at}", int(each / kill_every), _fill(f"{seed}-{at}", each), kill_every)
        for at in range(number)
    ]


def _fill(seed: str, seconds: float) -> list[BrokerFault]:
    chance = random.Random(f"{seed} broker")
    names = NAMES[1:]
    weights = [getattr(ISSUED, name) for name in names]
    faults: list[BrokerFault] = []
    while seconds > 0:
        (name,) = chance.choices(names, weights)
        (fault,) = replace(Counts(), **{name: 1}).faults(chance)
        if fault.about_seconds <= seconds or not faults:
            faults.append(fault)
        seconds -= fault.about_seconds  # what does not fit ends the row too
    return faults


def _round(seed: str, kills: int, faults: list[BrokerFault], kill_every: float) -> Round:
    chance = random.Random(seed)
    chance.shuffle(faults)
    about = sum(fault.about_seconds for fault in faults)
    gap = max(kill_every, about / kills) if kills else kill_every
    at, made = 0.0, []
    for _ in range(kills):
        at += chance.uniform(0.5, 1.5) * gap
        made.append(_kill(at, chance))
    return Round(seed, made, faults)


def _kill(at: float, chance: random.Random) -> GatewayKill:
    whole = chance.random() < WHOLE_SHARE
    slot = None if whole else chance.randrange(WORKERS)
    return GatewayKill(at, chance.choice(SERVICES), slot, chance.uniform(0, LONGEST_AWAY_SECONDS))


def _fault(kind: Kind, seconds: float, chance: random.Random) -> BrokerFault:
    return BrokerFault(chance.uniform(*CALM_SECONDS), kind, seconds)
