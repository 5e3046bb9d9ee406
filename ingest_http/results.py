"""The outcome of a request: exact counts, the events worth listing, and the status they add up to.

Sans-IO. The one rule behind the statuses: a naive client that sends a request again until it gets a
2xx never loses an event, and a smart one that sends again only what is ``retry`` or ``unknown``
duplicates only what was answered ``unknown``.
"""

from __future__ import annotations

from typing import Any

import msgspec

SCHEMA_MISMATCH = "schema_mismatch"
"""The code of an event that its source's schema does not allow."""

LISTED = 1000
"""Events other than ``retry`` and ``unknown`` that an answer lists, at most."""

MUST_LIST = frozenset({"retry", "unknown"})


class Results(msgspec.Struct):
    """Collects the fates of the events of one request.

    Attributes:
        accepted, spooled, rejected, retry, unknown: counts of events; accepted includes spooled.
        lost: rejected events of which no copy could be kept.
        codes: reject code -> how many events.
        warnings: index -> why the event does not match the schema; produced all the same.
        entries: (index, what the answer says of the event).
        letters_spooled: rejected events whose copy is only in the spool.
        unlisted: spooled events that are not among the entries: the answer lists enough of them.
    """

    accepted: int = 0
    spooled: int = 0
    rejected: int = 0
    retry: int = 0
    unknown: int = 0
    lost: int = 0
    codes: dict[str, int] = {}
    warnings: dict[int, str] = {}
    entries: list[tuple[int, dict[str, Any]]] = []
    letters_spooled: int = 0
    unlisted: int = 0

    def add(self, index: int, event_id: str, status: str, **more: Any) -> None:
        """List one event."""
        entry = {"index": index, "id": event_id, "status": status, **more}
        if index in self.warnings:
            entry["warning"] = {"code": SCHEMA_MISMATCH, "detail": self.warnings[index]}
        self.entries.append((index, entry))

    def reject(self, code: str) -> None:
        """Count one rejected event."""
        self.rejected += 1
        self.codes[code] = self.codes.get(code, 0) + 1

    @property
    def status(self) -> int:
        """The HTTP status: the highest of the contract's table that applies."""
        if self.unknown:
            return 504
        if self.retry:
            return 503
        if self.rejected and not self.accepted:
            return 422
        if self.spooled or self.letters_spooled:
            return 202
        return 207 if self.lost else 200

    @property
    def code(self) -> str:
        """The stable word for an answer that is a problem."""
        if self.unknown:
            return "ack_timeout"
        return "kafka_unavailable" if self.retry else "no_usable_event"

    def members(self, *, full: bool) -> dict[str, Any]:
        """The members of the answer: counts, and the listed events in the order of the request."""
        listed, truncated = self._listed(full=full)
        members: dict[str, Any] = {
            "accepted": self.accepted,
            "spooled": self.spooled,
            "rejected": self.rejected,
            "retry": self.retry,
            "unknown": self.unknown,
            "results": listed,
        }
        if self.warnings:
            members["warned"] = len(self.warnings)
        return members | {"truncated": True} if truncated else members

    def _listed(self, *, full: bool) -> tuple[list[dict[str, Any]], bool]:
        self.entries.sort(key=lambda entry: entry[0])
        entries = [entry for _, entry in self.entries]
        if full:
            return entries, False
        listed, room = [], LISTED
        for entry in entries:
            if entry["status"] in MUST_LIST:
                listed.append(entry)
            elif room:
                room -= 1
                listed.append(entry)
        return listed, len(listed) < len(entries) + self.unlisted
