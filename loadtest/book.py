"""The book of a ledger run: every event that was sent, and every answer that came for it.

The file is JSON lines: ``{"request": n, "events": [[id, key, sequence, crc], …]}`` before a request
is sent, ``{"request": n, "http": status, "answers": {status: [indices], …}}`` after its answer.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

OK = "ok"
SPOOLED = "spooled"
REJECTED = "rejected"
RETRY = "retry"
UNKNOWN = "unknown"
NO_ANSWER = "no answer"
REFUSED = "refused"
"""Not in the gateway's answers: the whole request was refused, and nothing of it was taken."""

PROMISED = frozenset({OK, SPOOLED})
"""Answers after which an event must be in Kafka."""
CERTAINLY_NOT = frozenset({RETRY, REJECTED, REFUSED})
"""Answers after which an event must not be in Kafka."""


@dataclass(slots=True)
class Sent:
    """One event, and what was answered for it.

    Attributes:
        key: its record key; events of one key are sent one request at a time.
        sequence: its position among the events of its key.
        crc: CRC-32 of its bytes.
        answers: one for each time it was sent.
    """

    key: str
    sequence: int
    crc: int
    answers: list[str] = field(default_factory=list)


class Book:
    """What was sent and answered, in memory and, with ``path``, in a file as it happens.

    Attributes:
        events: by id, in the order in which they were first sent.
        http: how often each HTTP status came.
        contradictions: answers whose counts and results do not fit together.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.events: dict[str, Sent] = {}
        self.http: Counter[int] = Counter()
        self.contradictions: list[str] = []
        self._open: dict[int, list[str]] = {}  # ids of the requests without an answer
        self._requests = 0
        self._file: TextIO | None = None if path is None else path.open("w", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Book:
        """The book that an earlier run wrote, also one that was cut off."""
        book = cls()
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                if not line.endswith("\n"):  # the run was killed in the middle of this line
                    break
                entry = json.loads(line)
                if "events" in entry:
                    book.sending({id_: Sent(*rest) for id_, *rest in entry["events"]})
                else:
                    book.answered(entry["request"], entry["http"], entry["answers"])
                    book.contradictions.extend(entry.get("contradictions", ()))
        book.close()
        return book

    def sending(self, events: Mapping[str, Sent]) -> int:
        """Note a request that is about to be sent; returns its number."""
        number = self._requests
        self._requests += 1
        self._open[number] = list(events)
        for id_, sent in events.items():
            self.events.setdefault(id_, sent)
        if self._file is not None:
            rows = [[id_, sent.key, sent.sequence, sent.crc] for id_, sent in events.items()]
            self._write({"request": number, "events": rows})
        return number

    def answered(
        self,
        number: int,
        http: int,
        answers: Mapping[str, Sequence[int]],
        contradictions: Sequence[str] = (),
    ) -> None:
        """Note the answer to request ``number``: for each status, the indices of its events."""
        ids = self._open.pop(number)
        self.http[http] += 1
        self.contradictions.extend(contradictions)
        for status, indices in answers.items():
            for index in indices:
                self.events[ids[index]].answers.append(status)
        if self._file is not None:
            entry = {"request": number, "http": http, "answers": answers}
            self._write({**entry, "contradictions": contradictions} if contradictions else entry)

    def no_answer(self, number: int) -> None:
        """Note that the connection of request ``number`` broke before its answer."""
        self.answered(number, 0, {NO_ANSWER: range(len(self._open[number]))})

    def close(self) -> None:
        """End the run: what has no answer by now gets none."""
        for number in list(self._open):
            self.no_answer(number)
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, entry: dict[str, Any]) -> None:
        if self._file is not None:
            self._file.write(json.dumps(entry, separators=(",", ":"), default=list) + "\n")
            self._file.flush()
