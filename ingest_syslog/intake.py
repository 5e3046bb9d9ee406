"""What a listener does with the messages it reads: sort, translate, publish, account for each."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo

from ingest import metrics
from ingest_syslog.message import Clock
from ingest_syslog.publish import Origin, Reject
from ingest_syslog.seal import tail_of
from ingest_syslog.splice import INDICES, Read

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ingest.envelope import Received
    from ingest.reception import Receptions
    from ingest_syslog.publish import Countdown, Publisher, Road
    from ingest_syslog.rules import ListenerRules
    from ingest_syslog.settings import ListenerSettings
    from ingest_syslog.translate import Translator

REMEMBERED = 65_536
"""So many senders' names are remembered as JSON."""


class Taken(NamedTuple):
    """Messages as a transport delivers them.

    Attributes:
        frames: the messages, without framing, none empty.
        peers: who sent each: an IP address, or ``unix``.
        cuts: (position, how long it was) of those that were cut to the limit.
        empty: empty ones that came with them.
        plain: see `Read`.
    """

    frames: Sequence[bytes]
    peers: Sequence[str]
    cuts: Sequence[tuple[int, int]] = ()
    empty: int = 0
    plain: bool = False


class Routes(NamedTuple):
    """Where the messages of a listener go.

    Attributes:
        roads: every source that is used, by name.
        rules: which of them a message belongs to.
    """

    roads: Mapping[str, Road]
    rules: ListenerRules


class Intake:
    """Takes what one listener reads.

    Args:
        settings: of the listener.
        routes: where messages go; `use` exchanges them.
        translator: makes records of messages.
        publisher: writes them.
        receptions: tells time, and makes ids.
    """

    def __init__(
        self,
        settings: ListenerSettings,
        routes: Routes,
        translator: Translator,
        publisher: Publisher,
        receptions: Receptions,
    ) -> None:
        self.settings = settings
        self.publisher = publisher
        self._name = settings.name
        self._zone = UTC if settings.timezone == "UTC" else ZoneInfo(settings.timezone)
        self._translator = translator
        self._receptions = receptions
        self._tails: dict[str, bytes] = {}
        self._parsed: dict[tuple[str, str], Callable[[float], None]] = {}
        self.use(routes)

    def use(self, routes: Routes) -> None:
        """Send messages elsewhere from now on."""
        self._roads = routes.roads
        self._rules = routes.rules
        self._default = routes.roads[routes.rules.default]

    @property
    def sorts(self) -> bool:
        """Whether its messages may go to several sources."""
        return bool(self._rules)

    def take(self, taken: Taken, origin: Origin, done: Countdown | None = None) -> None:
        """Take messages; every one is accounted for from now on.

        Args:
            taken: the messages.
            origin: what they came by.
            done: is told when every one of them is durable.
        """
        if taken.empty:
            self.drop("empty", taken.empty)
        cuts: Mapping[int, int] = {}
        if taken.cuts:
            taken, cuts = self._oversize(taken, origin, done)
        frames, peers = taken.frames, taken.peers
        if len(frames) <= INDICES:
            if frames:
                self._take(frames, peers, cuts, origin, done, plain=taken.plain)
            return
        for start in range(0, len(frames), INDICES):
            end = start + INDICES
            own = {at - start: length for at, length in cuts.items() if start <= at < end}
            self._take(frames[start:end], peers[start:end], own, origin, done)

    def _take(
        self,
        frames: Sequence[bytes],
        peers: Sequence[str],
        cuts: Mapping[int, int],
        origin: Origin,
        done: Countdown | None,
        *,
        plain: bool = False,
    ) -> None:
        received = self._receptions.now()
        ids = received.base_id + b"-"
        sorting = _Sorting(self._roads, self._rules, peers, ids) if self._rules else None
        read = Read(
            frames,
            peers,
            self._tails_of(peers),
            self._default.start + ids,
            received.time,
            Clock(datetime.now(UTC), self._zone),
            plain,
            sorting.route if sorting is not None else None,
        )
        values, keys, parsed = self._translator.translate(read, cuts)
        for kind, count in parsed.items():
            self._count_parsed(kind, count)
        if sorting is None:
            self._publish(self._default, frames, values, keys, received, origin, done)
            return
        for road, positions in sorting.by_road():
            own = [frames[at] for at in positions], [values[at] for at in positions]
            self._publish(road, *own, [keys[at] for at in positions], received, origin, done)

    def _publish(
        self,
        road: Road,
        frames: Sequence[bytes],
        values: list[bytes],
        keys: list[bytes | None],
        received: Received,
        origin: Origin,
        done: Countdown | None,
    ) -> None:
        road.received(len(values))
        road.received_bytes(sum(map(len, frames)))
        budget = self.publisher.pressure.budget
        overflow = origin.reader is None and budget.exceeds_share(road.holder)
        self.publisher.publish(road, values, keys, received, origin, done, overflow=overflow)

    def _oversize(
        self, taken: Taken, origin: Origin, done: Countdown | None
    ) -> tuple[Taken, Mapping[int, int]]:
        """Treat messages over the limit as configured; what is left, and what of it was cut."""
        cuts = dict(taken.cuts)
        if self.settings.oversize == "truncate":
            return taken, cuts
        road = self._default
        if self.settings.oversize == "close":
            self.drop("oversize", len(cuts))
        else:
            detail = f"longer than {self.settings.frame_bytes} bytes"
            rejects = [
                Reject(taken.frames[at], "event_too_large", detail, length)
                for at, length in cuts.items()
            ]
            road.received(len(rejects))
            road.received_bytes(sum(len(each.event) for each in rejects))
            self.publisher.reject(road, rejects, self._receptions.now(), origin, done)
        kept = [at for at in range(len(taken.frames)) if at not in cuts]
        frames, peers = taken.frames, taken.peers
        return Taken([frames[at] for at in kept], [peers[at] for at in kept]), {}

    def drop(self, reason: str, count: int) -> None:
        """Count messages that are not even looked at."""
        self._default.received(count)
        self._dropped(self._default, reason, count)

    def lose(self, count: int, empty: int = 0) -> None:
        """Count messages that nobody has, since the service ends, and empty ones among them."""
        if empty:
            self.drop("empty", empty)
        self.drop("shutting_down", count)
        self.publisher.dropped += count

    def _dropped(self, road: Road, reason: str, count: int) -> None:
        road.dropped(count)
        metrics.SYSLOG_DROPPED.labels(self._name, reason).inc(count)

    def _tails_of(self, peers: Sequence[str]) -> Sequence[bytes]:
        tails = self._tails
        try:
            if peers.count(peers[0]) == len(peers):
                return [tails[peers[0]]] * len(peers)
            return [tails[peer] for peer in peers]
        except KeyError:
            return [tails.get(peer) or self._tail_of(peer) for peer in peers]

    def _tail_of(self, peer: str) -> bytes:
        if len(self._tails) >= REMEMBERED:
            for old in list(islice(self._tails, REMEMBERED // 2)):
                del self._tails[old]
        tail = self._tails[peer] = tail_of(peer, self._name)
        return tail

    def _count_parsed(self, kind: tuple[str, str], count: int) -> None:
        add = self._parsed.get(kind)
        if add is None:
            add = metrics.adder(metrics.SYSLOG_PARSE.labels(self._name, *kind))
            self._parsed[kind] = add
        add(count)


class _Sorting:
    """Sorts the messages of one read by their sources."""

    def __init__(
        self, roads: Mapping[str, Road], rules: ListenerRules, peers: Sequence[str], ids: bytes
    ) -> None:
        self._roads = roads
        self._rules = rules
        self._peers = peers
        self._ids = ids
        self._starts: dict[str, bytes] = {}
        self._names: dict[int, str] = {}

    def route(self, pri: bytes, app_name: bytes, host: bytes, at: int) -> bytes:
        """How the value of the message at this position begins; see `Read`."""
        name = self._rules.source(pri or None, app_name or None, host or None, self._peers[at])
        start = self._starts.get(name)
        if start is None:
            start = self._starts[name] = self._roads[name].start + self._ids
        self._names[at] = name  # the last word counts, where a message is looked at twice
        return start

    def by_road(self) -> list[tuple[Road, list[int]]]:
        """Each source, and where its messages are, in order."""
        positions: dict[str, list[int]] = {}
        for at, name in sorted(self._names.items()):
            positions.setdefault(name, []).append(at)
        return [(self._roads[name], found) for name, found in positions.items()]
