"""The client of a ledger run: sends events with known ids and books every answer."""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import zlib
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loadtest.answers import Exchange, endpoint, head
from loadtest.book import OK, PROMISED, REFUSED, REJECTED, RETRY, SPOOLED, UNKNOWN, Book, Sent
from loadtest.events import encode, orders

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

KEYS = 10
"""Record keys of each connection; no two connections share one, so that order can be judged."""
PAUSE_SECONDS = 0.05
"""How long a connection rests after a refusal or a broken connection."""
ANSWER_SECONDS = 30.0
"""How long an answer is waited for; longer than any ``limits.ack_seconds`` in use."""
PATIENCE_SECONDS = 60.0
"""How long a gateway may be away, and how long open events are sent again after the end."""

TRY_AGAIN = frozenset({408, 429, 503, 504})
STATUSES = (OK, SPOOLED, REJECTED, RETRY, UNKNOWN)


@dataclass(slots=True)
class Amount:
    """How much all connections together have yet to send.

    Attributes:
        events: how many events are left.
        until: when to stop, on the clock of the loop.
    """

    events: float
    until: float

    def take(self, most: int) -> int:
        """How many events to send next, 0 at the end."""
        if asyncio.get_running_loop().time() >= self.until:
            return 0
        taken = int(min(most, self.events))
        self.events -= taken
        return taken


async def send(  # noqa: PLR0913 - the options of one run, all by name
    url: str,
    key: str,
    source: str,
    *,
    connections: int = 4,
    batch: int = 100,
    events: int | None = None,
    seconds: float | None = None,
    path: Path | None = None,
    resend: bool = False,
    run: str | None = None,
) -> Book:
    """Send ``events`` events, or for ``seconds``, and book what was answered.

    Every connection has one request on the way and its own record keys (field ``customer_id``).
    An id is ``<run>-<connection>-<number>``.

    Args:
        url: where the gateway is, ``http://host:port``; it may go away and come back.
        key: the API key.
        source: the source to post to.
        connections: how many connections to use.
        batch: events in a request.
        events: how many events to send, over all connections.
        seconds: how long to send; the sooner of the two when both are given.
        path: the file of the book, JSON lines; default: memory only.
        resend: send what is neither acknowledged nor rejected again under the same ids.
        run: the first part of the ids; default: random.

    Raises:
        ConnectionError: the gateway was away for `PATIENCE_SECONDS`.
    """
    loop = asyncio.get_running_loop()
    amount = Amount(
        float("inf") if events is None else events,
        float("inf") if seconds is None else loop.time() + seconds,
    )
    run = run or secrets.token_hex(4)
    book = Book(path)
    try:
        async with asyncio.TaskGroup() as group:
            for number in range(connections):
                sender = Sender(f"{run}-{number}", book, amount, resend=resend)
                group.create_task(sender.run(url, key, source, batch))
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None  # all connections met the same fate
    finally:
        book.close()
    return book


class Sender:
    """One connection of a run.

    Args:
        name: the first part of its ids and keys.
        book: where to note what was sent and answered.
        amount: what all connections have yet to send.
        resend: whether open events are sent again.
    """

    def __init__(self, name: str, book: Book, amount: Amount, *, resend: bool) -> None:
        self._name = name
        self._book = book
        self._amount = amount
        self._resend = resend
        self._number = 0
        self._sequences: dict[str, int] = defaultdict(int)
        self._chance = random.Random(name)
        self._orders = orders(zlib.crc32(name.encode()))
        self._open: dict[str, bytes] = {}  # what has to be sent again, by id
        self._exchange: Exchange | None = None

    async def run(self, url: str, key: str, source: str, size: int) -> None:
        """Send until the amount is used up and nothing is open."""
        give_up = float("inf")
        loop = asyncio.get_running_loop()
        while loop.time() < give_up:
            batch = self._open or self._new(self._amount.take(size))
            if not batch:
                break
            if self._open and give_up == float("inf") and loop.time() >= self._amount.until:
                give_up = loop.time() + PATIENCE_SECONDS
            self._open = await self._post(url, key, source, batch)
        if self._exchange is not None:
            self._exchange.close()

    def _new(self, count: int) -> dict[str, bytes]:
        """``count`` new events by id, noted in the book."""
        batch: dict[str, bytes] = {}
        for _ in range(count):
            id_ = f"{self._name}-{self._number}"
            self._number += 1
            key = f"{self._name}-k{self._chance.randrange(KEYS)}"
            sequence = self._sequences[key]
            self._sequences[key] += 1
            order = next(self._orders)
            event = encode({"id": id_, **order, "customer_id": key, "sequence": sequence})
            batch[id_] = event
            self._book.events[id_] = Sent(key, sequence, zlib.crc32(event))
        return batch

    async def _post(
        self, url: str, key: str, source: str, batch: dict[str, bytes]
    ) -> dict[str, bytes]:
        """Send ``batch`` and book the answer; returns what has to be sent again."""
        exchange = await self._connection(url)
        body = b"[" + b",".join(batch.values()) + b"]"
        number = self._book.sending({id_: self._book.events[id_] for id_ in batch})
        try:
            status, answer = await exchange.ask(
                (head(url, key, source, len(body)), body), ANSWER_SECONDS
            )
        except (ConnectionError, TimeoutError):
            self._book.no_answer(number)
            await asyncio.sleep(PAUSE_SECONDS)
            return batch if self._resend else {}
        answers, contradictions = read_answer(status, answer, len(batch))
        self._book.answered(number, status, answers, contradictions)
        if status in TRY_AGAIN:
            await asyncio.sleep(PAUSE_SECONDS)
        return self._unsettled(batch) if self._resend else {}

    def _unsettled(self, batch: dict[str, bytes]) -> dict[str, bytes]:
        final = PROMISED | {REJECTED, REFUSED}
        events = self._book.events
        return {id_: event for id_, event in batch.items() if events[id_].answers[-1] not in final}

    async def _connection(self, url: str) -> Exchange:
        """The open connection, or a new one as soon as the gateway takes it."""
        if self._exchange is not None and self._exchange.transport is not None:
            return self._exchange
        loop = asyncio.get_running_loop()
        give_up = loop.time() + PATIENCE_SECONDS
        while True:
            try:
                _, self._exchange = await loop.create_connection(Exchange, *endpoint(url))
            except OSError:
                if loop.time() >= give_up:
                    raise ConnectionError(f"{url} was away for {PATIENCE_SECONDS} s") from None
                await asyncio.sleep(PAUSE_SECONDS)
            else:
                return self._exchange


def read_answer(status: int, body: bytes, count: int) -> tuple[dict[str, list[int]], list[str]]:
    """What an answer says of each of ``count`` events.

    Returns:
        The indices by status, and what in the answer contradicts itself. An answer without results
        says that nothing was taken: `RETRY` where trying again helps, else `REFUSED`.
    """
    try:
        answer = json.loads(body)
    except ValueError:
        return {REFUSED: list(range(count))}, [f"HTTP {status} whose body is not JSON"]
    if not isinstance(answer, dict) or "results" not in answer:
        problem = [f"HTTP {status} without results"] if status < 300 else []
        return {RETRY if status in TRY_AGAIN else REFUSED: list(range(count))}, problem
    answers = _by_status(answer["results"], count)
    return answers, _contradictions(status, answer, answers)


def _by_status(results: list[dict[str, Any]], count: int) -> dict[str, list[int]]:
    listed = {result["index"]: result["status"] for result in results}
    answers: dict[str, list[int]] = defaultdict(list)
    for index in range(count):
        answers[listed.get(index, OK)].append(index)
    return dict(answers)


def _contradictions(
    status: int, answer: Mapping[str, Any], answers: Mapping[str, list[int]]
) -> list[str]:
    counts = {each: len(answers.get(each, ())) for each in STATUSES}
    counts["accepted"] = counts.pop(OK) + counts[SPOOLED]
    found = [
        f"HTTP {status} says {answer.get(name)} {name} and lists {count}"
        for name, count in counts.items()
        if answer.get(name) != count and not answer.get("truncated")
    ]
    if not counts[REJECTED] and status != expected_status(counts):
        found.append(f"HTTP {status} for {counts}")
    return found


def expected_status(counts: Mapping[str, int]) -> int:
    """The HTTP status for these counts, when nothing was rejected: the highest that applies."""
    if counts[UNKNOWN]:
        return 504
    if counts[RETRY]:
        return 503
    return 202 if counts[SPOOLED] else 200
