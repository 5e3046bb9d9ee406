"""Compares what a client was told with what is in the topic."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from loadtest.book import CERTAINLY_NOT, PROMISED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from loadtest.book import Book, Sent
    from loadtest.read_back import Record

EXAMPLES = 5


@dataclass(slots=True)
class Verdict:
    """What became of the events of one run; all are counts of events.

    The first group breaks a promise and must be 0. The second is allowed, and worth knowing.

    Attributes:
        acknowledged_and_missing: answered ok or spooled, and not in the topic.
        answered_not_but_present: every answer said "certainly not in Kafka", and yet it is there.
        never_sent_but_present: records with an id that nobody sent, or with none.
        altered: present with other bytes than were sent.
        contradictions: answers whose counts and results do not fit together.
        lost: never acknowledged, and not in the topic.
        duplicated: in the topic more than once.
        reordered: first copies of acknowledged events that come after a later one of their key.
        scattered: keys whose events are in more than one partition.
        sent: different events.
        acknowledged: answered ok or spooled at least once.
        records: records read back.
        answers: how often each status was answered.
        http: how often each HTTP status came; 0 for a connection that broke.
        examples: a few ids for each defect.
    """

    acknowledged_and_missing: int = 0
    answered_not_but_present: int = 0
    never_sent_but_present: int = 0
    altered: int = 0
    contradictions: int = 0

    lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    scattered: int = 0

    sent: int = 0
    acknowledged: int = 0
    records: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    http: Counter[int] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether every promise was kept, and there was one to keep."""
        return self.acknowledged > 0 and not any(getattr(self, name) for name in BROKEN_PROMISES)

    def __str__(self) -> str:
        """The verdict for people, one count a line."""
        lines = [f"{'ok' if self.ok else 'NOT OK'}: {self.sent} events sent"]
        names = ("acknowledged", "records", *BROKEN_PROMISES, *ALLOWED)
        lines += [self._line(name) for name in names]
        lines += [f"{count:>10}  answered {status}" for status, count in self.answers.most_common()]
        lines += [f"{count:>10}  HTTP {status or 'broken'}" for status, count in self.http.items()]
        return "\n".join(lines)

    def note(self, name: str, what: str) -> None:
        """Count one case of ``name``, and keep its id as an example."""
        setattr(self, name, getattr(self, name) + 1)
        kept = self.examples.setdefault(name, [])
        if len(kept) < EXAMPLES:
            kept.append(what)

    def _line(self, name: str) -> str:
        count = getattr(self, name)
        must = " (must be 0)" if name in BROKEN_PROMISES else ""
        some = f": {', '.join(self.examples[name])}" if name in self.examples else ""
        return f"{count:>10}  {name.replace('_', ' ')}{must}{some}"


BROKEN_PROMISES = (
    "acknowledged_and_missing",
    "answered_not_but_present",
    "never_sent_but_present",
    "altered",
    "contradictions",
)
ALLOWED = ("lost", "duplicated", "reordered", "scattered")


def verdict(book: Book, records: Iterable[Record]) -> Verdict:
    """Hold ``book`` against the ``records`` of the topic.

    Records that come later than the reading back are not seen: read when the gateway has stopped or
    is at rest.
    """
    result = Verdict(sent=len(book.events), http=Counter(book.http))
    for contradiction in book.contradictions:
        result.note("contradictions", contradiction)
    copies = _copies(book, records, result)
    for id_, sent in book.events.items():
        _judge(result, id_, sent, copies.get(id_, 0))
    return result


def _copies(book: Book, records: Iterable[Record], result: Verdict) -> Counter[str]:
    """How often each id is present; judges the records on the way."""
    copies: Counter[str] = Counter()
    latest: dict[str, int] = {}  # by key: the highest sequence number so far
    places: dict[str, set[int]] = defaultdict(set)
    for record in sorted(records, key=lambda each: (each.partition, each.offset)):
        result.records += 1
        sent = book.events.get(record.id or "")
        if record.id is None or sent is None:
            result.note("never_sent_but_present", f"{record.id}@{record.partition}:{record.offset}")
            continue
        copies[record.id] += 1
        if record.crc != sent.crc:
            result.note("altered", record.id)
        if copies[record.id] == 1 and not PROMISED.isdisjoint(sent.answers):
            if sent.sequence < latest.get(sent.key, -1):
                result.note("reordered", record.id)
            latest[sent.key] = max(sent.sequence, latest.get(sent.key, -1))
        places[sent.key].add(record.partition)
    for key, partitions in places.items():
        if len(partitions) > 1:
            result.note("scattered", key)
    return copies


def _judge(result: Verdict, id_: str, sent: Sent, copies: int) -> None:
    result.answers.update(sent.answers)
    promised = not PROMISED.isdisjoint(sent.answers)
    result.acknowledged += promised
    if copies == 0:
        result.note("acknowledged_and_missing" if promised else "lost", id_)
    elif sent.answers and CERTAINLY_NOT.issuperset(sent.answers):
        result.note("answered_not_but_present", id_)
    if copies > 1:
        result.note("duplicated", id_)
