"""Messages -> Kafka or the spool -> one outcome for each, without a deadline: it is tried on."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from structlog import get_logger

from ingest import metrics
from ingest.dead_letter import common_headers
from ingest.envelope import CONTENT_TYPE
from ingest.original import message_of
from ingest.receipt import Status
from ingest_syslog.seal import EVENT_TYPE, start_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ingest.dead_letter import DeadLetters
    from ingest.envelope import Received
    from ingest.inflight import Lease
    from ingest.producer import Producer
    from ingest.receipt import Receipt, Run
    from ingest.settings import SourceSettings
    from ingest_syslog.pressure import Pressure, Reader

log = get_logger(__name__)

SERVICE = "ingest-syslog"
HEADERS = [CONTENT_TYPE]
LOST = frozenset({Status.RETRY, Status.UNKNOWN})
REASONS = {"no_room": "backpressure"}
"""Code of what was neither written nor kept -> the reason for which it is dropped."""
_SHUTTING_DOWN = "shutting_down"
_DETAILS = {
    "event_too_large": "larger than its topic takes",
    "refused_by_kafka": "Kafka refused the record",
}


class Reject(NamedTuple):
    """A message that can never succeed; see `ingest.dead_letter.Rejection`."""

    event: bytes
    code: str
    detail: str
    original_bytes: int | None = None


class Road:
    """What is known of a source before any of its messages arrives.

    Args:
        name: of the source.
        source: its settings.
        pressure: what its messages weigh on.

    Attributes:
        start: how its record values begin, see `ingest_syslog.seal.start_of`.
        holder: what its messages hold of the budget.
    """

    def __init__(self, name: str, source: SourceSettings, pressure: Pressure) -> None:
        self.name = name
        self.topic = source.topic or name
        self.start = start_of(name, source.type or EVENT_TYPE)
        self.holder = pressure.budget.holder(name)
        self.received = metrics.adder(metrics.EVENTS_RECEIVED.labels(SERVICE, name))
        self.received_bytes = metrics.adder(metrics.RECEIVED_BYTES.labels(SERVICE, name))
        self.acked = metrics.adder(metrics.EVENTS.labels(SERVICE, name, "acked"))
        self.spooled = metrics.adder(metrics.EVENTS.labels(SERVICE, name, "spooled"))
        self.rejected = metrics.adder(metrics.EVENTS.labels(SERVICE, name, "rejected"))
        self.failed = metrics.adder(metrics.EVENTS.labels(SERVICE, name, "failed"))
        self.dropped = metrics.adder(metrics.EVENTS.labels(SERVICE, name, "dropped"))


class Origin(NamedTuple):
    """What messages came by.

    Attributes:
        listener: its name.
        reader: what read them, and has to stop when there is too much; None: it cannot.
        resends: whether their sender still has what is not acknowledged: RELP.
    """

    listener: str
    reader: Reader | None = None
    resends: bool = False


class Countdown:
    """Calls back when all parts of something are done.

    Args:
        done: what to call.
    """

    __slots__ = ("_done", "_open")

    def __init__(self, done: Callable[[], None]) -> None:
        self._done = done
        self._open = 1

    def one_more(self) -> None:
        """There is one more part."""
        self._open += 1

    def one_less(self) -> None:
        """A part is done."""
        self._open -= 1
        if self._open == 0:
            self._done()


class Publisher:
    """Publishes what one worker reads.

    Args:
        producer: writes to Kafka.
        dead_letters: where rejects go; None: nowhere.
        pressure: what is booked until it is acked.
    """

    def __init__(
        self, producer: Producer, dead_letters: DeadLetters | None, pressure: Pressure
    ) -> None:
        self.producer = producer
        self.dead_letters = dead_letters
        self.pressure = pressure
        self.open = 0  # deliveries that are not done
        self.dropped = 0  # messages that nobody has, for want of time or by a defect

    def publish(
        self,
        road: Road,
        values: list[bytes],
        keys: list[bytes | None],
        received: Received,
        origin: Origin,
        done: Countdown | None = None,
        *,
        overflow: bool = False,
    ) -> None:
        """Write records, and account for each of them by one outcome.

        Args:
            road: their source.
            values: the record values, received and counted as such by the caller.
            keys: the record keys.
            received: when they came.
            origin: what they came by.
            done: is told when every one of them is durable, as record or as dead letter, in Kafka
                or in the spool.
            overflow: there is no memory for more: the spool takes them, or they are dropped.
        """
        delivery = Delivery(self, road, received, origin, done)
        if not overflow:  # which the spool alone holds, and bounds
            delivery.hold(2 * sum(map(len, values)))
            if origin.reader is not None:
                self.pressure.brought(origin.reader, road.holder)
        try:
            receipt = self.producer.submit(
                road.topic,
                values,
                timestamp_ms=received.timestamp_ms,
                keys=keys,
                headers=HEADERS,
                on_settled=delivery.settled,
                overflow=overflow,
            )
        except Exception:  # its cause is told by the event loop
            delivery.fail(len(values))
            raise
        delivery.has(receipt)

    def reject(
        self,
        road: Road,
        rejects: Sequence[Reject],
        received: Received,
        origin: Origin,
        done: Countdown | None = None,
    ) -> None:
        """Keep messages as dead letters; see `publish`."""
        delivery = Delivery(self, road, received, origin, done)
        overflow = origin.reader is None and self.pressure.budget.exceeds_share(road.holder)
        if not overflow:  # as in `publish`
            delivery.hold(2 * sum(len(each.event) for each in rejects))
            if origin.reader is not None:
                self.pressure.brought(origin.reader, road.holder)
        try:
            delivery.bury(rejects, overflow=overflow)
        except Exception:  # as above
            delivery.fail(len(rejects))
            raise


class Delivery:
    """Records of one read for one source, until each has its outcome."""

    __slots__ = (
        "_done",
        "_lease",
        "_origin",
        "_publisher",
        "_receipt",
        "_received",
        "_road",
    )

    def __init__(
        self,
        publisher: Publisher,
        road: Road,
        received: Received,
        origin: Origin,
        done: Countdown | None,
    ) -> None:
        self._publisher = publisher
        self._road = road
        self._received = received
        self._origin = origin
        self._done = done
        self._receipt: Receipt | None = None
        self._lease: Lease | None = None
        publisher.open += 1
        if done is not None:
            done.one_more()

    def hold(self, size: int) -> None:
        """Book what is held until the end."""
        self._lease = self._publisher.pressure.budget.book(size, self._road.holder)

    def has(self, receipt: Receipt) -> None:
        """What tells the fate of the records; it may have done so already."""
        self._receipt = receipt
        if receipt.settled:
            self.settled()

    def settled(self) -> None:
        """Every record has its fate; called before `has` it is too early to tell."""
        receipt = self._receipt
        if receipt is None:
            return
        self._receipt = None
        runs = receipt.runs
        if len(runs) == 1 and runs[0].status is Status.ACKED:  # the usual end
            self._road.acked(receipt.count)
            self._end(durable=True)
        else:
            self._tell(runs)

    def _tell(self, runs: Sequence[Run]) -> None:
        rejects: list[Reject] = []
        lost = 0
        for run in runs:
            count = len(run.indices)
            if run.status is Status.ACKED:
                self._road.acked(count)
            elif run.status is Status.SPOOLED:
                self._road.spooled(count)
            elif run.status is Status.REFUSED:
                detail = _DETAILS.get(run.code, "")
                rejects += (Reject(message_of(value), run.code, detail) for value in run.values)
            else:
                lost += count
                self._lose(count, REASONS.get(run.code, _SHUTTING_DOWN))
        if rejects:
            self.bury(rejects, durable=not lost)
        else:
            self._end(durable=not lost)

    def fail(self, count: int) -> None:
        """A defect of our own: nobody will ever tell the fate of the records."""
        self._lose(count, "internal_error")
        self._end(durable=False)

    def bury(
        self, rejects: Sequence[Reject], *, durable: bool = True, overflow: bool = False
    ) -> None:
        """Keep ``rejects`` as dead letters, and end with them; see `Publisher.publish`."""
        letters = self._publisher.dead_letters
        if letters is None:
            metrics.DEAD_LETTERS_LOST.labels(self._road.name).inc(len(rejects))
            self._rejected(rejects)
            self._end(durable=durable)
            return
        burial = _Burial(self, rejects, durable=durable)
        road, received = self._road, self._received
        burial.has(
            letters.submit(
                rejects,
                common_headers(road.topic, road.name, received.time, ""),
                timestamp_ms=received.timestamp_ms,
                deadline=None,
                on_settled=burial.settled,
                overflow=overflow,
            )
        )

    def buried(self, rejects: Sequence[Reject], receipt: Receipt, *, durable: bool) -> None:
        """The dead letters have their fate."""
        counts = Counter[Status]()
        for run in receipt.runs:
            counts[run.status] += len(run.indices)
        if refused := counts[Status.REFUSED]:
            metrics.DEAD_LETTERS_LOST.labels(self._road.name).inc(refused)
        lost = counts[Status.RETRY] + counts[Status.UNKNOWN]
        if lost:
            code = next(run.code for run in receipt.runs if run.status in LOST)
            self._lose(lost, REASONS.get(code, _SHUTTING_DOWN))
        self._rejected(rejects[: len(rejects) - lost])
        self._end(durable=durable and not lost)

    def _rejected(self, rejects: Sequence[Reject]) -> None:
        self._road.rejected(len(rejects))
        for code in {each.code for each in rejects}:
            count = sum(each.code == code for each in rejects)
            metrics.REJECTS.labels(self._road.name, code).inc(count)

    def _lose(self, count: int, reason: str) -> None:
        """Neither Kafka nor the spool has them: their sender does, or nobody."""
        if self._origin.resends:
            self._road.failed(count)
        else:
            self._road.dropped(count)
            if reason != "backpressure":
                self._publisher.dropped += count
            metrics.SYSLOG_DROPPED.labels(self._origin.listener, reason).inc(count)

    def _end(self, *, durable: bool) -> None:
        lease, publisher, road = self._lease, self._publisher, self._road
        publisher.open -= 1
        if lease is not None:
            lease.release()
            publisher.pressure.settled(road.holder)
        if self._done is not None and durable:
            self._done.one_less()


class _Burial:
    """The dead letters of a delivery, until they have their fate."""

    __slots__ = ("_delivery", "_durable", "_receipt", "_rejects")

    def __init__(self, delivery: Delivery, rejects: Sequence[Reject], *, durable: bool) -> None:
        self._delivery = delivery
        self._rejects = rejects
        self._durable = durable
        self._receipt: Receipt | None = None

    def has(self, receipt: Receipt) -> None:
        self._receipt = receipt
        if receipt.settled:
            self.settled()

    def settled(self) -> None:
        receipt, self._receipt = self._receipt, None
        if receipt is not None:
            self._delivery.buried(self._rejects, receipt, durable=self._durable)
