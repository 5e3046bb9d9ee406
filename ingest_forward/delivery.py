"""Brings what routes make of a batch to Kafka, and tells when all of it is where it belongs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

from ingest import metrics
from ingest.receipt import Status
from ingest_forward.shape import Reject

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

    from ingest.inflight import Lease
    from ingest.producer import Producer
    from ingest.receipt import Receipt
    from ingest_forward.batch import Batch
    from ingest_forward.letters import Letters
    from ingest_forward.progress import Chunk, Progress
    from ingest_forward.route import Route
    from ingest_forward.shape import Shaped


LEAST_LETTER_BYTES = 2048
"""A dead letter that is refused is not made smaller than that."""


class Parcel:
    """A batch on its way through all routes.

    Args:
        batch: the records.
        progress: of their partition.
        lease: on the memory that they occupy.
        among: all that are under way, while it is one of them.

    Attributes:
        stopped: at some record that a route must not go past: the batch is never done.
        withdrawn: it is read again, so nothing more of it is to be written.
    """

    __slots__ = (
        "_among",
        "_chunk",
        "_lease",
        "_open",
        "_receipts",
        "batch",
        "progress",
        "stopped",
        "withdrawn",
    )

    def __init__(self, batch: Batch, progress: Progress, lease: Lease, among: set[Parcel]) -> None:
        self.batch = batch
        self.progress = progress
        self.stopped = self.withdrawn = False
        self._chunk: Chunk = progress.begin(batch.offsets[-1] + 1)
        self._lease = lease
        self._open = 1
        self._among = among
        self._receipts: list[tuple[str, Receipt]] = []  # each with its topic
        among.add(self)

    def withdraw(self) -> None:
        """Have nothing of it written that is not on its way to Kafka yet: it is read again."""
        self.stopped = self.withdrawn = True
        for _, receipt in tuple(self._receipts):
            receipt.expire()

    def waits_beyond(self, topics: Container[str]) -> bool:
        """Whether something of it is on its way to a topic that is none of these."""
        return any(to not in topics and not each.settled for to, each in self._receipts)

    def expect(self, topic: str, receipt: Receipt) -> None:
        """Something of it is on its way to a topic."""
        self._receipts.append((topic, receipt))

    def hold(self) -> None:
        """Something of it is about to be."""
        self._open += 1

    def let_go(self) -> None:
        """Something of it has arrived, or will not."""
        self._open -= 1
        if self._open:
            return
        self._among.discard(self)
        self._lease.release()
        if not self.stopped:
            self.progress.finish(self._chunk)


class Delivery:
    """Writes what routes make of batches.

    Args:
        producer: writes it.
        letters: writes what can never be forwarded; None: nobody does.
        stop: called with a parcel, the position in its batch, the route and a code where reading
            must not go past a record.
        back: called with a parcel of which something came back unwritten: it must be read again.
    """

    def __init__(
        self,
        producer: Producer,
        letters: Letters | None,
        stop: Callable[[Parcel, int, str, str], None],
        back: Callable[[Parcel], None],
    ) -> None:
        self._producer = producer
        self._letters = letters
        self._stop = stop
        self._back = back

    def send(self, parcel: Parcel, shaped: Shaped) -> None:
        """Write what a route made of a batch, and its rejects."""
        batch, route = parcel.batch, shaped.route
        _count(route.name, "skipped", shaped.skipped)
        _count(route.name, "excluded", shaped.excluded)
        if shaped.rejects:
            self._reject(parcel, route, shaped.rejects)
        positions = shaped.positions
        if not positions:
            return
        each, sizes = batch.with_origin(as_json=route.format != "cloudevents")
        timestamps = batch.timestamps
        if len(positions) != len(batch):
            each = [each[at] for at in positions]
            sizes = None if sizes is None else sizes[: len(each)]  # they are all the same
            timestamps = [timestamps[at] for at in positions]
        parcel.hold()
        settled = _Settled()
        receipt = self._producer.submit(
            route.to,
            cast("list[bytes]", shaped.values),
            keys=shaped.keys,
            headers_each=each,
            header_sizes=sizes,
            timestamps=timestamps,
            timestamp_ms=0,
            on_settled=settled,
        )
        parcel.expect(route.to, receipt)
        settled.then(lambda: self._arrived(parcel, shaped, receipt))

    def _arrived(self, parcel: Parcel, shaped: Shaped, receipt: Receipt) -> None:
        acked, refused = 0, []
        for run in receipt.runs:
            if run.status is Status.ACKED:
                acked += len(run.indices)
            elif run.status is Status.REFUSED:
                refused += [Reject(shaped.positions[at], run.code) for at in run.indices]
            else:
                self._unwritten(parcel)
        _count(shaped.route.name, "acked", acked)
        if refused:
            self._reject(parcel, shaped.route, refused)
        parcel.let_go()

    def _unwritten(self, parcel: Parcel) -> None:
        """Part of it is not in Kafka, or nobody knows: whoever goes on reads it again."""
        parcel.stopped = True
        self._back(parcel)

    def _reject(self, parcel: Parcel, route: Route, rejects: Sequence[Reject]) -> None:
        """Write dead letters, or have reading stop."""
        if route.stops or self._letters is None:
            first = min(rejects)
            parcel.stopped = True
            self._stop(parcel, first.position, route.name, first.code)
            return
        self._bury(_Burial(parcel, route, rejects, self._letters, self._letters.limit))

    def _bury(self, burial: _Burial) -> None:
        """Write dead letters."""
        parcel, route, rejects, letters, limit = burial
        if parcel.withdrawn:
            return
        parcel.hold()
        settled = _Settled()
        receipt = letters.submit(parcel.batch, route.name, rejects, limit, settled)
        parcel.expect(letters.topic, receipt)
        settled.then(lambda: self._buried(burial, receipt))

    def _buried(self, burial: _Burial, receipt: Receipt) -> None:
        parcel, name = burial.parcel, burial.route.name
        for run in receipt.runs:
            rejects = [burial.rejects[at] for at in run.indices]
            if run.status is Status.ACKED:
                _count(name, "rejected", len(rejects))
                for reject in rejects:
                    metrics.FORWARD_REJECTS.labels(name, reject.code).inc()
            elif run.status is not Status.REFUSED:
                self._unwritten(parcel)
            elif run.code == "event_too_large" and burial.limit > LEAST_LETTER_BYTES:
                self._bury(burial.smaller(rejects))
            else:
                parcel.stopped = True
                self._stop(parcel, min(rejects).position, name, "dead_letter_refused")
        parcel.let_go()


class _Burial(NamedTuple):
    """Dead letters on their way.

    Attributes:
        parcel: what the records are part of.
        route: which cannot forward them.
        rejects: which ones they are, and why.
        letters: where to write them.
        limit: the bytes of each, at most.
    """

    parcel: Parcel
    route: Route
    rejects: Sequence[Reject]
    letters: Letters
    limit: int

    def smaller(self, rejects: Sequence[Reject]) -> _Burial:
        """Those of the letters that were refused as too large, made smaller.

        What is known of the topic's limit may be newer by now; or old still, or nothing at all.
        """
        known = self.letters.limit
        return self._replace(
            rejects=rejects, limit=known if known < self.limit else self.limit // 2
        )


class _Settled:
    """Calls what comes after a batch is settled, which may be before anybody could say what."""

    __slots__ = ("_done", "_work")

    def __init__(self) -> None:
        self._done = False
        self._work: Callable[[], None] | None = None

    def __call__(self) -> None:
        self._done = True
        if self._work is not None:
            self._work()

    def then(self, work: Callable[[], None]) -> None:
        if self._done:
            work()
        else:
            self._work = work


def _count(route: str, outcome: str, count: int) -> None:
    if count:
        metrics.FORWARD_EVENTS.labels(route, outcome).inc(count)
