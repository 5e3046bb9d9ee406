"""A batch of events -> Kafka or the spool -> the fate of each, by the one deadline of a request."""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from ingest import metrics
from ingest.dead_letter import DeadLetters, common_headers
from ingest.envelope import (
    CONTENT_TYPE,
    BadKey,
    Envelope,
    Received,
    data_of,
    event_id,
    id_of,
    made_id,
)
from ingest.receipt import Run, Status
from ingest_http.batch import Batch, Reject, Splitter
from ingest_http.cors import Origins
from ingest_http.results import LISTED, SCHEMA_MISMATCH, Results
from ingest_http.validation import mismatches

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ingest.inflight import Lease
    from ingest.producer import Producer
    from ingest.receipt import Receipt
    from ingest.schema import Schema
    from ingest.settings import LimitSettings
    from ingest_http.description import Offer

Item = TypeVar("Item")

SERVICE = "ingest-http"
ENVELOPE_BYTES = 200
"""What the envelope adds to an event, and an object in memory to its bytes."""
SEAL_EVENTS = 1000
"""So many events are worked on before others get their turn on the event loop."""
HEADERS = [CONTENT_TYPE]
SPOOLED = "spooled"
FINAL = frozenset({Status.ACKED, Status.SPOOLED, Status.REFUSED})
"""The fates of a dead letter after which its event need not be sent again."""
_REFUSALS = {
    "event_too_large": "larger than its topic takes",
    "refused_by_kafka": "Kafka refused the record",
}


class Road:
    """What is known of a source before any of its events arrives."""

    def __init__(self, offer: Offer, limits: LimitSettings) -> None:
        source = offer.source
        name = source.name
        self.offer = offer
        self.source = source
        self.schema = offer.checked
        self.enforced = offer.validate == "enforce"
        self.origins = Origins(frozenset(offer.cors_origins))
        self.keyed = source.key is not None
        self.splitter = Splitter(source.key, limits.batch_events, limits.event_bytes)
        self.envelope = Envelope(name, source.event_type, source.key)
        self._envelope_bytes = ENVELOPE_BYTES + len(name) + len(source.event_type)
        self.requests = metrics.Requests(name)
        self.received = metrics.adder(metrics.EVENTS_RECEIVED.labels(SERVICE, name))
        self.received_bytes = metrics.adder(metrics.RECEIVED_BYTES.labels(SERVICE, name))
        self.acked = metrics.adder(metrics.EVENTS.labels(SERVICE, name, "acked"))
        self.spooled = metrics.adder(metrics.EVENTS.labels(SERVICE, name, "spooled"))
        self.rejected = metrics.adder(metrics.EVENTS.labels(SERVICE, name, "rejected"))
        self.failed = metrics.adder(metrics.EVENTS.labels(SERVICE, name, "failed"))

    def price(self, body_bytes: int, events: int) -> int:
        """What a body occupies until its events are acked, at most: twice its sealed events."""
        return 2 * (body_bytes + events * self._envelope_bytes)


class Ticket(msgspec.Struct):
    """What belongs to one request on its way to Kafka.

    Attributes:
        request_id: for dead letters.
        received: what its events share.
        deadline: when it must be answered, on the event loop's clock.
        lease: its share of the in-flight budget.
        full: whether every event is to be listed.
    """

    request_id: str
    received: Received
    deadline: float
    lease: Lease
    full: bool = False


class _Holders:
    """Gives the lease back when the last of those who hold bytes for it lets go."""

    __slots__ = ("_count", "_lease")

    def __init__(self, lease: Lease) -> None:
        self._count = 1
        self._lease = lease

    def one_more(self) -> _Holders:
        self._count += 1
        return self

    def let_go(self) -> None:
        self._count -= 1
        if self._count == 0:
            self._lease.release()


class Publisher:
    """Publishes the batches of one worker.

    Args:
        producer: writes to Kafka.
        dead_letters: where rejects go; None: nowhere.
    """

    def __init__(self, producer: Producer, dead_letters: DeadLetters | None) -> None:
        self._producer = producer
        self._dead_letters = dead_letters

    async def publish(self, road: Road, batch: Batch, ticket: Ticket) -> Results:
        """Write the usable events, keep the others as dead letters, tell the fate of each.

        Every event is accounted for by exactly one outcome, also when this is cancelled.

        Raises:
            TimeoutError: the schema could not be checked in time; nothing was taken.
        """
        count, results = batch.count, Results()
        holders = _Holders(ticket.lease)
        if road.schema is not None:
            await _validate(road, road.schema, batch, ticket, results)
        road.received(count)
        try:
            await self._publish(road, batch, ticket, holders, results)
        finally:
            holders.let_go()
            _account(road, count, results)
        return results

    def refuses(self, road: Road) -> bool:
        """Whether it is of no use to read a request for ``road`` now: Kafka away, spool full."""
        return self._producer.refuses(road.source.topic)

    async def preview(self, road: Road, batch: Batch, ticket: Ticket) -> Results:
        """What `publish` would tell now; nothing is written and nothing counted."""
        results = Results()
        try:
            if road.schema is not None:
                await _validate(road, road.schema, batch, ticket, results)
            await self._preview(road, batch, ticket, results)
        finally:
            ticket.lease.release()
        return results

    async def _preview(self, road: Road, batch: Batch, ticket: Ticket, results: Results) -> None:
        keys = _keys(road, batch) if road.keyed else None
        values = await _seal_in_turns(road, batch, ticket)
        topic = road.source.topic
        for start in range(0, len(values), SEAL_EVENTS):
            part = slice(start, start + SEAL_EVENTS)
            codes = self._producer.preview(
                topic, values[part], keys=keys[part] if keys else None, headers=HEADERS
            )
            for position, code in enumerate(codes, start):
                index = batch.indices[position]
                if code:
                    self._foretell(index, values[position], code, results)
                    continue
                results.accepted += 1
                if ticket.full or index in results.warnings:
                    results.add(index, id_of(values[position]), "ok", topic=topic)
            await asyncio.sleep(0)
        fate = Status.REFUSED if self._dead_letters is None else Status.ACKED
        for rejects in _slices(batch.rejects):
            self._tell_slice(rejects, [fate] * len(rejects), ticket, results)
            await asyncio.sleep(0)

    def _foretell(self, index: int, value: bytes, code: str, results: Results) -> None:
        """What would become of a record that cannot be written."""
        if code in _REFUSALS:
            results.reject(code)
            more: dict[str, Any] = {"code": code, "detail": _REFUSALS[code]}
            if self._dead_letters is None:
                results.lost += 1
                more["kept"] = False
            results.add(index, id_of(value), "rejected", **more)
        elif code == SPOOLED:
            results.accepted += 1
            results.spooled += 1
            results.add(index, id_of(value), SPOOLED)
        else:
            results.retry += 1
            results.add(index, id_of(value), "retry", code=code)

    async def _publish(
        self, road: Road, batch: Batch, ticket: Ticket, holders: _Holders, results: Results
    ) -> None:
        large = batch.count > SEAL_EVENTS
        if large:
            await asyncio.sleep(0)
        keys = _keys(road, batch) if road.keyed else None
        values = await _seal_in_turns(road, batch, ticket) if large else _seal(road, batch, ticket)
        rejects, indices = batch.rejects, batch.indices
        listed = _to_list(values, indices, ticket, results)
        size = sum(map(len, values))
        if rejects:
            size += sum(len(reject.event) for reject in rejects)
        ticket.lease.resize(2 * size, force=True)
        batch.heads = batch.events = ()  # the producer alone keeps the values from here on
        letters = await self._bury(road, rejects, ticket, holders) if rejects else []
        receipt = self._producer.submit(
            road.source.topic,
            values,
            timestamp_ms=ticket.received.timestamp_ms,
            keys=keys,
            headers=HEADERS,
            deadline=ticket.deadline,
            on_settled=holders.one_more().let_go,
        )
        del values
        await receipt
        for run in receipt.runs:
            self._tell_run(road, run, indices, listed, results)
            if large:
                await asyncio.sleep(0)
        if rejects:
            await self._tell_rejects(rejects, letters, ticket, results)
        if results.accepted == len(indices):  # the usual end
            return
        refused: list[Reject] = []
        for part in _slices(_refused(receipt.runs, indices)):
            refused += part
            await asyncio.sleep(0)
        if refused:
            letters = await self._bury(road, refused, ticket, holders)
            await self._tell_rejects(refused, letters, ticket, results)

    async def _bury(
        self, road: Road, rejects: Sequence[Reject], ticket: Ticket, holders: _Holders
    ) -> list[Receipt]:
        """Submit the dead letters of ``rejects``: a receipt for each slice of them."""
        if self._dead_letters is None:
            return []
        source = road.source
        common = common_headers(source.topic, source.name, ticket.received.time, ticket.request_id)
        receipts: list[Receipt] = []
        for part in _slices(rejects):
            if receipts:
                await asyncio.sleep(0)
            receipt = self._dead_letters.submit(
                part,
                common,
                timestamp_ms=ticket.received.timestamp_ms,
                deadline=ticket.deadline,
                on_settled=holders.one_more().let_go,
            )
            receipts.append(receipt)
        return receipts

    @staticmethod
    def _tell_run(
        road: Road, run: Run, indices: Sequence[int], listed: Mapping[int, str], results: Results
    ) -> None:
        """The fate of events that were submitted; refused ones are told with the rejects."""
        if run.status is Status.ACKED:
            results.accepted += len(run.indices)
            if listed:
                place = {"topic": road.source.topic, "partition": run.partition}
                for offset, position in enumerate(run.indices, run.offset):
                    own = listed.get(position)
                    if own is not None:
                        results.add(indices[position], own, "ok", **place, offset=offset)
        elif run.status is Status.SPOOLED:
            _tell_spooled(road, run, indices, listed, results)
        elif run.status is not Status.REFUSED:
            status = run.status.value
            setattr(results, status, getattr(results, status) + len(run.indices))
            for position, value in zip(run.indices, run.values, strict=True):
                results.add(indices[position], id_of(value), status, code=run.code)

    async def _tell_rejects(
        self,
        rejects: Sequence[Reject],
        letters: Sequence[Receipt],
        ticket: Ticket,
        results: Results,
    ) -> None:
        for number, part in enumerate(_slices(rejects)):
            if number:
                await asyncio.sleep(0)
            fates = [Status.REFUSED] * len(part)
            if letters:
                for run in (await letters[number]).runs:
                    for position in run.indices:
                        fates[position] = run.status
            self._tell_slice(part, fates, ticket, results)

    @staticmethod
    def _tell_slice(
        rejects: Sequence[Reject],
        fates: Sequence[Status],
        ticket: Ticket,
        results: Results,
    ) -> None:
        """A reject counts as such when its dead letter is kept, or can never be."""
        for reject, fate in zip(rejects, fates, strict=True):
            event = _reject_id(reject, ticket.received)
            more: dict[str, Any] = {"code": reject.code, "detail": reject.detail}
            if fate not in FINAL:
                results.retry += 1
                results.add(reject.index, event, "retry", code="kafka_unavailable")
                continue
            results.reject(reject.code)
            if fate is Status.REFUSED:
                results.lost += 1
                more["kept"] = False
            elif fate is Status.SPOOLED:
                results.letters_spooled += 1
            results.add(reject.index, event, "rejected", **more)


def _slices(items: Iterable[Item]) -> Iterator[list[Item]]:
    """``items``, `SEAL_EVENTS` at a time: in between, others get their turn on the event loop."""
    left = iter(items)
    while part := list(islice(left, SEAL_EVENTS)):
        yield part


def _seal(road: Road, batch: Batch, ticket: Ticket, start: int = 0) -> list[bytes]:
    """The record values of at most `SEAL_EVENTS` events, from position ``start`` on."""
    heads, events, indices = batch.heads, batch.events, batch.indices
    if len(heads) > SEAL_EVENTS:
        part = slice(start, start + SEAL_EVENTS)
        heads, events, indices = heads[part], events[part], indices[part]
    return road.envelope.seal(heads, events, indices, ticket.received)


async def _seal_in_turns(road: Road, batch: Batch, ticket: Ticket) -> list[bytes]:
    """The record values of a large batch; others get their turn on the event loop in between."""
    values: list[bytes] = []
    for start in range(0, len(batch.heads), SEAL_EVENTS):
        values += _seal(road, batch, ticket, start)
        await asyncio.sleep(0)
    return values


def _keys(road: Road, batch: Batch) -> list[bytes | None]:
    """The record keys; events whose key cannot be one become rejects."""
    keys = road.envelope.keys(batch.heads)
    verdict = ("bad_key", "an object or an array cannot be a record key")
    bad = {position: verdict for position, key in enumerate(keys) if isinstance(key, BadKey)}
    if bad:
        batch.reject(bad)
    return [key for key in keys if not isinstance(key, BadKey)]


async def _validate(
    road: Road, schema: Schema, batch: Batch, ticket: Ticket, results: Results
) -> None:
    """Reject, or warn of, the events that the source's schema does not allow."""
    try:
        found = await mismatches(schema, batch.events, ticket.deadline)
    except BaseException:
        ticket.lease.release()
        raise
    if found and road.enforced:
        batch.reject({position: (SCHEMA_MISMATCH, detail) for position, detail in found.items()})
    elif found:
        results.warnings = {batch.indices[at]: detail for at, detail in found.items()}


def _to_list(
    values: Sequence[bytes], indices: Sequence[int], ticket: Ticket, results: Results
) -> dict[int, str]:
    """Position -> id of the events that the answer lists also when they are ``ok``."""
    if ticket.full:
        return {position: id_of(value) for position, value in enumerate(values)}
    if not results.warnings:
        return {}
    warned = results.warnings
    return {at: id_of(values[at]) for at, index in enumerate(indices) if index in warned}


def _tell_spooled(
    road: Road, run: Run, indices: Sequence[int], listed: Mapping[int, str], results: Results
) -> None:
    """No more of them are looked at than an answer lists."""
    count = len(run.indices)
    results.accepted += count
    results.spooled += count
    most = count if len(listed) == len(indices) else LISTED
    results.unlisted += max(0, count - most)
    for position, value in islice(zip(run.indices, run.values, strict=True), most):
        own = listed.get(position)
        if own is None:
            results.add(indices[position], id_of(value), SPOOLED)
        else:
            results.add(indices[position], own, SPOOLED, topic=road.source.topic)


def _refused(runs: Sequence[Run], indices: Sequence[int]) -> Iterator[Reject]:
    """The events that Kafka, or the limits of their topic, refused."""
    for run in runs:
        if run.status is Status.REFUSED:
            for position, value in zip(run.indices, run.values, strict=True):
                own = msgspec.json.encode(id_of(value))
                detail = _REFUSALS.get(run.code, "")
                yield Reject(indices[position], run.code, detail, data_of(value), own)


def _reject_id(reject: Reject, received: Received) -> str:
    own = event_id(reject.own_id) or made_id(received.base_id, reject.index)
    return str(msgspec.json.decode(own))


def _account(road: Road, count: int, results: Results) -> None:
    """Book every event of the request under exactly one outcome."""
    failed = count - results.accepted - results.rejected
    if results.accepted != results.spooled:
        road.acked(results.accepted - results.spooled)
    if results.spooled:
        road.spooled(results.spooled)
    if results.rejected:
        road.rejected(results.rejected)
    if failed:
        road.failed(failed)
    for code, number in results.codes.items():
        metrics.REJECTS.labels(road.source.name, code).inc(number)
    if results.warnings:
        metrics.SCHEMA_WARNINGS.labels(road.source.name).inc(len(results.warnings))
    if results.lost:
        metrics.DEAD_LETTERS_LOST.labels(road.source.name).inc(results.lost)
