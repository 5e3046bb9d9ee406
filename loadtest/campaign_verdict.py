"""The verdict of a campaign: for each way in, what was promised against what is in Kafka.

**The bound of duplicates.** What a client sends again may be there again. Beyond that, an event is
written twice only where a fault comes between Kafka's write and the word of it:

- *The broker was killed, stopped or frozen.* What was on its way just then may have been written,
  and is tried again: what the clients had in flight (HTTP, RELP) or what came in ``after_seconds``
  (TCP, UDP), and what the replay had on its way. Nothing that is tried later reaches a frozen
  broker: a new connection begins with a question that it does not answer. It is counted twice, for
  a broker that needs longer than a request may take to catch up.
- *A process was killed*, and there is a spool. What its replay had on its way is replayed again;
  so is what was spooled while an attempt was still out. Without a spool: none. None either while
  the broker was away, since nothing was written then: that is the broker's fault, counted above.

The replay has `REPLAY_EVENTS` on its way for each worker at most, and never more than there is in
the spool, with what comes in within `BACKLOG_SECONDS`, since what is known of it is a little old.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from ingest.replay import TOPIC_BYTES
from loadtest.book import CERTAINLY_NOT, OK
from loadtest.campaign_plan import HTTP, SYSLOG, WORKERS
from loadtest.campaign_services import AFTER_SECONDS, TCP, UDP
from loadtest.verdict import BROKEN_PROMISES, verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from loadtest.book import Book
    from loadtest.campaign_faults import Happened
    from loadtest.campaign_ledger import Ledger
    from loadtest.campaign_read_back import Copies
    from loadtest.read_back import Record

HOLD_SECONDS = AFTER_SECONDS + 7.0
"""How long a message may be in a gateway, or in the kernel before it, and not yet be safe: up to
``after_seconds``, and as long as a killed worker takes to be replaced."""
REPLAY_EVENTS = TOPIC_BYTES // 300
"""The most that the replay of one worker has on its way to a topic: few of our events are so small
as 300 bytes with their envelope."""
BACKLOG_SECONDS = 1.0
SETTLED_SECONDS = 1.0
"""After which nothing that Kafka has written is without its word of it, unless that was lost."""
ATTEMPTS = 2
EXCESS, ALLOWED = "written twice by the gateway", "allowed by the bound"
UNEXPLAINED = "lost without a kill"
DEAD_LETTERS = "dead letters"
QUARANTINED = "damaged files of the spool"
NEVER_ANSWERED = "never answered"
REFUSED = "answered otherwise than with 200"
OUT_OF_ORDER = "answered ok and out of order"
MUST_BE_ZERO = (
    *(name.replace("_", " ") for name in BROKEN_PROMISES),
    OUT_OF_ORDER, NEVER_ANSWERED, REFUSED, UNEXPLAINED, DEAD_LETTERS, QUARANTINED,
)  # fmt: skip


@dataclass
class Verdict:
    """What became of the events of one way in.

    Attributes:
        way: one of `loadtest.campaign_services.WAYS`.
        counts: by name; those of `MUST_BE_ZERO` break a promise.
        examples: some events for what is wrong.
    """

    way: str
    counts: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    @property
    def broken(self) -> list[str]:
        """The promises that were not kept; one of them is that there was something to judge."""
        names = [name for name in MUST_BE_ZERO if self.counts[name]]
        if self.counts[EXCESS] > self.counts[ALLOWED]:
            names.append(EXCESS)
        return names if self.counts["present"] else [*names, "nothing is present"]

    def add(self, other: Verdict) -> None:
        """Add what became of the events of another round."""
        self.counts.update(other.counts)
        self.examples += other.examples


class Circumstances(NamedTuple):
    """What happened in a round, as far as it excuses something.

    Attributes:
        faults: those that were seen.
        spool: whether there was one.
        rates: way in -> events per second.
        in_flight: way in -> the most that its clients had unanswered, where they wait for answers.
    """

    faults: Sequence[Happened]
    spool: bool
    rates: Mapping[str, float]
    in_flight: Mapping[str, int]

    def allowed(self, way: str) -> int:
        """How many copies the faults may have made; see above."""
        return sum(self._copies(way, fault) for fault in self.faults)

    def _copies(self, way: str, fault: Happened) -> int:
        live = self.in_flight.get(way, math.ceil(self.rates[way] * AFTER_SECONDS))
        if not fault.service:
            return ATTEMPTS * (live + self._replayed(way, fault))
        ours = (fault.service == HTTP) == (way == HTTP)
        if not (ours and self.spool) or self._broker_was_away(fault):
            return 0
        return live + self._replayed(way, fault)

    def _broker_was_away(self, fault: Happened) -> bool:
        """Whether it was so for the whole of this fault, and what was on its way was settled."""
        return any(
            each.away[0] + SETTLED_SECONDS < fault.began and fault.ended < each.away[1]
            for each in self.faults
        )

    def _replayed(self, way: str, fault: Happened) -> int:
        """The most that the replay can have on its way when this fault comes."""
        if not self.spool:
            return 0
        spooled = fault.backlog.get(way, 0) + math.ceil(self.rates[way] * BACKLOG_SECONDS)
        return min(WORKERS * REPLAY_EVENTS, spooled)

    def excuses(self, sent_at: float) -> bool:
        """Whether a datagram sent then may be lost: the syslog service was hit soon after."""
        hold = HOLD_SECONDS if self.spool else math.inf
        return any(
            fault.service == SYSLOG and fault.began - hold <= sent_at <= fault.ended
            for fault in self.faults
        )


def judge_http(book: Book, records: Sequence[Record], circumstances: Circumstances) -> Verdict:
    """The verdict over HTTP: each answer is held against the topic."""
    found = verdict(book, records)
    result = Verdict(HTTP)
    for name in BROKEN_PROMISES:
        result.counts[name.replace("_", " ")] = getattr(found, name)
        result.examples += found.examples.get(name, [])
    copies = Counter(record.id for record in records if record.id in book.events)
    result.counts.update(found.answers)
    result.counts.update(
        {
            "sent": found.sent,
            "acknowledged": found.acknowledged,
            "present": len(copies),
            "records": found.records,
            "lost, not acknowledged": found.lost,
            "first copies out of order": found.reordered,
            OUT_OF_ORDER: _out_of_order(book, records),
            ALLOWED: circumstances.allowed(HTTP),
        }
    )
    for id_, count in copies.items():
        possible = sum(each not in CERTAINLY_NOT for each in book.events[id_ or ""].answers)
        _count_copies(result.counts, count, possible)
    return result


def judge_numbered(
    way: str,
    ledgers: Sequence[Ledger],
    copies: Copies,
    circumstances: Circumstances,
    first_sender: int = 0,
) -> Verdict:
    """The verdict over messages that are numbered by their senders.

    Args:
        way: how they came in.
        ledgers: one for each sender, numbered from ``first_sender`` on.
        copies: what is in the topic.
        circumstances: what happened meanwhile.
        first_sender: the number of the first ledger's sender.
    """
    result = Verdict(way)
    result.counts["records"] = copies.records
    result.counts["altered"] = copies.altered
    result.counts["never sent but present"] = copies.strange
    result.counts[ALLOWED] = circumstances.allowed(way)
    ours = range(first_sender, first_sender + len(ledgers))
    for sender in copies.by_sender.keys() - set(ours):
        result.counts["never sent but present"] += len(copies.by_sender[sender])
    for sender, ledger in zip(ours, ledgers, strict=True):
        known, beyond = copies.of(sender, len(ledger.sends))
        result.counts["never sent but present"] += len(beyond) - beyond.count(0)
        _judge_sender(result, sender, ledger, known, circumstances)
    return result


def _judge_sender(
    result: Verdict, sender: int, ledger: Ledger, copies: bytearray, circumstances: Circumstances
) -> None:
    counts = result.counts
    counts["sent"] += len(ledger.sends)
    counts["acknowledged"] += ledger.acked.count(1)
    counts[REFUSED] += ledger.acked.count(2)
    counts["present"] += len(copies) - copies.count(0)
    for count, sends in zip(copies, ledger.sends, strict=True):
        if count > 1:
            _count_copies(counts, count, sends)
    for number in _absent(copies):
        name = _name_of_loss(result.way, ledger, number, circumstances)
        counts[name] += 1
        if name in MUST_BE_ZERO and len(result.examples) < 5:
            result.examples.append(f"{name}: {result.way} {sender}:{number}")


def _absent(copies: bytearray) -> Iterable[int]:
    at = copies.find(0)
    while at >= 0:
        yield at
        at = copies.find(0, at + 1)


def _name_of_loss(way: str, ledger: Ledger, number: int, circumstances: Circumstances) -> str:
    """What it is called that a message is missing."""
    if ledger.acked[number] == 1:
        return "acknowledged and missing"
    sent_at = ledger.sent_at[number]
    if way == UDP:
        excused = circumstances.excuses(sent_at)
    elif way == TCP:
        hold = HOLD_SECONDS if circumstances.spool else math.inf
        excused = any(
            each.first <= number < each.end and each.at - hold <= sent_at for each in ledger.breaks
        ) and any(fault.service == SYSLOG for fault in circumstances.faults)
    else:
        return NEVER_ANSWERED
    return "lost in a kill" if excused else UNEXPLAINED


def _count_copies(counts: Counter[str], count: int, sends: int) -> None:
    """Note an event that is there ``count`` times and may have been taken ``sends`` times."""
    counts["written twice, as sent twice"] += min(count, max(1, sends)) - 1
    counts[EXCESS] += max(0, count - max(1, sends))


def _out_of_order(book: Book, records: Iterable[Record]) -> int:
    """Events answered ok at once whose first copy comes after that of a later one of their key.

    Whoever waits for each answer before the next request is promised that much: an event that is
    in Kafka is before one that was not sent yet. What was spooled or sent again has no place.
    """
    seen: set[str] = set()
    latest: dict[str, int] = {}
    found = 0
    for record in sorted(records, key=lambda each: (each.partition, each.offset)):
        sent = book.events.get(record.id or "")
        if record.id is None or sent is None or sent.answers != [OK] or record.id in seen:
            continue
        seen.add(record.id)
        found += sent.sequence < latest.get(sent.key, -1)
        latest[sent.key] = max(sent.sequence, latest.get(sent.key, -1))
    return found
