"""Queued records: oldest first, each exactly once, never more than a Kafka batch can hold."""

from __future__ import annotations

from itertools import accumulate
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from aiokafka.producer.message_accumulator import BatchBuilder
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.accumulator import BATCH_OVERHEAD_BYTES, PartitionQueue, Segment, cut
from ingest.receipt import Receipt, Run, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ingest.producer import Header

TIME_MS = 1_700_000_000_123
LARGE = 1_000_000


def segment(
    *values: bytes,
    keys: list[bytes | None] | None = None,
    headers: list[Header] | None = None,
    headers_each: list[list[Header]] | None = None,
    timestamp_ms: int = TIME_MS,
) -> Segment:
    """The only part of a submission of ``values``."""
    receipt = Receipt(len(values))
    made = Segment(
        receipt,
        range(len(values)),
        list(values),
        keys,
        headers or [],
        headers_each,
        timestamp_ms,
    )
    receipt.parts.append(made)
    return made


def numbered(first: int, count: int) -> Segment:
    """A segment of ``count`` records whose values go on from ``first``."""
    return segment(*(b"%04d" % number for number in range(first, first + count)))


def queue_of(*segments: Segment) -> PartitionQueue:
    """A queue of ``segments``."""
    queue = PartitionQueue()
    for each in segments:
        queue.append(each)
    return queue


def values_of(segments: Sequence[Segment]) -> list[bytes]:
    """The values of ``segments``, in order."""
    return [value for each in segments for value in each.values]


def batch_limit(*sizes: int) -> int:
    """The limit that a batch of records of these sizes just fits."""
    return sum(sizes) + BATCH_OVERHEAD_BYTES


def real_size(segments: Sequence[Segment]) -> int:
    """The bytes of an uncompressed Kafka batch of ``segments``, as aiokafka builds it."""
    builder = BatchBuilder(1 << 30, 0)
    for each in segments:
        keys = each.keys or [None] * len(each)
        headers = each.headers_each or [each.headers] * len(each)
        for value, key, own in zip(each.values, keys, headers, strict=True):
            builder.append(timestamp=each.timestamp_ms, key=key, value=value, headers=own)
    return len(builder._build())


# Sizes


header_lists = st.lists(st.tuples(st.text(max_size=5), st.binary(max_size=200)), max_size=3)


@st.composite
def segments(draw: st.DrawFn) -> Segment:
    """Any small segment."""
    values = draw(st.lists(st.binary(max_size=300), min_size=1, max_size=8))
    size = len(values)
    keys = draw(
        st.none() | st.lists(st.none() | st.binary(max_size=200), min_size=size, max_size=size)
    )
    each = draw(st.none() | st.lists(header_lists, min_size=size, max_size=size))
    time = TIME_MS + draw(st.integers(-(10**9), 10**9))
    headers = draw(header_lists)
    return segment(*values, keys=keys, headers=headers, headers_each=each, timestamp_ms=time)


@given(st.lists(segments(), min_size=1, max_size=4))
def test_sizes_are_never_below_those_of_a_real_batch(parts: list[Segment]) -> None:
    """What fits by our count fits for Kafka, in one batch and record by record."""
    assert real_size(parts) <= BATCH_OVERHEAD_BYTES + sum(part.size for part in parts)
    for part in parts:
        sizes = part.record_sizes()
        assert sum(sizes) == part.size
        for position, size in enumerate(sizes):
            assert real_size([part.select([position])]) <= BATCH_OVERHEAD_BYTES + size


@pytest.mark.parametrize(
    ("count", "value", "key"),
    [(20_000, 0, None), (20_000, 1, b"k"), (1, 1_000_000, None), (1, 70_000_000, b"k" * 20_000)],
)
def test_extreme_batches_are_counted_high_enough(count: int, value: int, key: bytes | None) -> None:
    """Lengths and offsets take more bytes as they grow; the allowance covers that."""
    part = segment(*[b"v" * value] * count, keys=[key] * count)
    assert real_size([part]) <= BATCH_OVERHEAD_BYTES + part.size


def test_header_names_of_any_language_are_counted_high_enough() -> None:
    """A character takes up to four bytes."""
    part = segment(b"v", headers=[("😀" * 100, b"")])
    assert real_size([part]) <= BATCH_OVERHEAD_BYTES + part.size


# Taking


def test_segments_are_taken_oldest_first() -> None:
    """Up to the limit, whole ones as they are."""
    first, second, third = numbered(0, 2), numbered(2, 2), numbered(4, 2)
    queue = queue_of(first, second, third)
    assert queue.take(batch_limit(first.size, second.size)) == [first, second]
    assert queue.take(LARGE) == [third]
    assert queue.take(LARGE) == []
    assert (bool(queue), queue.size) == (False, 0)


@pytest.mark.parametrize(("spare", "taken"), [(-1, 1), (0, 2), (1, 2)])
def test_a_segment_that_does_not_fit_is_split_at_the_last_record_that_does(
    spare: int, taken: int
) -> None:
    """To the byte; the rest stays at the front of the queue."""
    whole, behind = numbered(0, 3), numbered(3, 1)
    queue = queue_of(whole, behind)
    one = whole.size // 3
    assert values_of(queue.take(batch_limit(one, one) + spare)) == [b"0000", b"0001"][:taken]
    assert queue.size == 4 * one - taken * one
    assert values_of(queue.take(LARGE)) == [b"0000", b"0001", b"0002", b"0003"][taken:]


def test_the_deadline_reaches_both_parts_of_a_segment_that_was_split() -> None:
    """The taken part is in flight, the rest still waits: each gets the answer that is its own."""
    whole = numbered(0, 3)
    queue = queue_of(whole)
    (taken,) = queue.take(batch_limit(whole.size // 3))
    taken.in_flight = True
    whole.receipt.expire()
    assert [(run.status, list(run.indices)) for run in whole.receipt.runs] == [
        (Status.UNKNOWN, [0]),
        (Status.RETRY, [1, 2]),
    ]
    assert queue.take(LARGE) == []


def test_a_full_batch_leaves_the_next_segment_whole() -> None:
    """Where not even one record fits, nothing is split."""
    first, second = numbered(0, 2), numbered(2, 2)
    queue = queue_of(first, second)
    assert queue.take(batch_limit(first.size, second.size // 2 - 1)) == [first]
    assert queue.take(LARGE) == [second]


@pytest.mark.parametrize("count", [1, 2])
def test_a_record_that_is_too_large_is_taken_alone(count: int) -> None:
    """Kafka has the last word on it; the queue never stops."""
    queue = queue_of(segment(*[b"x" * 1000] * count), numbered(0, 1))
    for _ in range(count):
        assert values_of(queue.take(100)) == [b"x" * 1000]
    assert values_of(queue.take(100)) == [b"0000"]


def test_a_withdrawn_segment_is_skipped() -> None:
    """Also between others, and none of its bytes count."""
    parts = [numbered(number, 1) for number in range(5)]
    queue = queue_of(*parts)
    for number in (0, 2, 4):
        parts[number].expire()
    assert queue.take(batch_limit(parts[1].size, parts[3].size)) == [parts[1], parts[3]]
    assert queue.take(LARGE) == []
    assert queue.size == 0


def test_withdrawn_segments_at_the_front_are_forgotten() -> None:
    """In an outage nothing piles up, and nobody who waits is forgotten."""
    parts = [numbered(number, 1) for number in range(4)]
    queue = queue_of(*parts)
    for number in (0, 1, 3):
        parts[number].expire()
    queue.discard_done()
    assert list(queue.segments) == [parts[2], parts[3]]
    assert queue.size == parts[2].size + parts[3].size
    parts[2].expire()
    queue.discard_done()
    assert (list(queue.segments), queue.size) == ([], 0)


def replayed(segment: Segment) -> Segment:
    """The same, as it comes from the spool."""
    segment.replayed = True
    return segment


def test_what_is_replayed_waits_behind_what_comes_in() -> None:
    """It fills what room there is, and sees to it that it is not for ever."""
    size = numbered(0, 1).size
    limit = BATCH_OVERHEAD_BYTES + 2 * size
    queue = queue_of(*(replayed(numbered(number, 1)) for number in range(10)))
    live = [numbered(100 + number, 1) for number in range(100)]
    queue.append(live[0])
    assert [part.replayed for part in queue.take(limit)] == [False, True]
    for part in live[1:]:
        queue.append(part)
    takes = [[part.replayed for part in queue.take(limit)] for _ in range(16)]
    assert takes.count([False, False]) == 12
    assert takes.count([True, True]) == 4
    assert queue.size == size * len(list(queue))


def test_what_is_copied_is_not_taken() -> None:
    """Whoever copies it tells its fate, or queues it afresh."""
    copied, other = numbered(0, 1), numbered(1, 1)
    copied.copy = SimpleNamespace(landed=lambda _: None, over=lambda: None)
    queue = queue_of(copied, other)
    assert queue.take(LARGE) == [other]
    assert not queue
    fresh = copied.afresh()
    assert copied.done
    assert fresh.waits
    assert not fresh.receipt.answered
    fresh.acked(0, 0)
    assert fresh.receipt.answered


def test_everything_can_be_taken_at_once() -> None:
    """Except what was withdrawn; the queue is empty and usable then."""
    first, gone, last = numbered(0, 1), numbered(1, 1), numbered(2, 1)
    queue = queue_of(first, gone, last)
    gone.expire()
    assert queue.take_all() == [first, last]
    assert (bool(queue), queue.size) == (False, 0)
    queue.append(last)
    assert (queue.take(LARGE), queue.size) == ([last], 0)


def test_what_is_put_back_comes_first_in_its_order() -> None:
    """Order per key survives a retry."""
    first, second, third = numbered(0, 1), numbered(1, 1), numbered(2, 1)
    queue = queue_of(third)
    queue.put_back([first, second])
    assert queue.size == first.size + second.size + third.size
    assert queue.take(LARGE) == [first, second, third]


submissions = st.lists(
    st.tuples(st.lists(st.integers(0, 60), min_size=1, max_size=6), st.booleans()), max_size=8
)


@settings(max_examples=200)
@given(submissions=submissions, limits=st.lists(st.integers(0, 400), min_size=1, max_size=5))
def test_every_record_is_taken_exactly_once_in_order(
    submissions: list[tuple[list[int], bool]], limits: list[int]
) -> None:
    """Whatever the limits: none lost, none doubled, none too many, none that was withdrawn."""
    parts = []
    for number, (sizes, withdrawn) in enumerate(submissions):
        parts.append(segment(*(b"%d." % number + b"x" * size for size in sizes)))
        if withdrawn:
            parts[-1].expire()
    wanted = values_of([part for part in parts if not part.done])
    receipts = [part.receipt for part in parts]
    queue, taken = queue_of(*parts), list[bytes]()
    offset = 0
    while queue:
        limit = limits[offset % len(limits)]
        batch = queue.take(limit)
        records = [size for part in batch for size in part.record_sizes()]
        assert len(records) <= 1 or batch_limit(*records) <= limit
        taken += values_of(batch)
        if following := next((part for part in queue.segments if not part.done), None):
            assert batch_limit(*records, following.record_sizes()[0]) > limit
        for part in batch:
            assert part.acked(0, offset) == 0
            offset += len(part)
    assert taken == wanted
    assert queue.size == 0
    for receipt in receipts:
        indices = [index for run in receipt.runs for index in run.indices]
        assert indices == list(range(receipt.count))
        assert receipt.settled


# Splitting


def rich_segment() -> Segment:
    """A segment of four records in which everything is different for each."""
    return segment(
        b"v0",
        b"v1",
        b"v2",
        b"v3",
        keys=[b"k0", None, b"k2", b""],
        headers_each=[[("h", b"0")], [], [("h", b"2")], [("h", b"3"), ("i", b"3")]],
    )


def rows(part: Segment) -> list[tuple[int, bytes, bytes | None, list[Header]]]:
    """What belongs to each record of a rich segment."""
    assert part.keys is not None
    assert part.headers_each is not None
    return list(zip(part.indices, part.values, part.keys, part.headers_each, strict=True))


@pytest.mark.parametrize("count", [0, 1, 3, 4])
def test_a_split_keeps_everything_with_its_record(count: int) -> None:
    """Index, value, key and headers; the sizes add up."""
    whole = rich_segment()
    first, rest = whole.split_at(count)
    assert rows(first) == rows(whole)[:count]
    assert rows(rest) == rows(whole)[count:]
    assert first.size + rest.size == whole.size
    assert (first.timestamp_ms, rest.timestamp_ms) == (TIME_MS, TIME_MS)


def test_a_selection_is_by_position_and_may_be_repeated() -> None:
    """Positions are those of the segment that is selected from, indices stay the submission's."""
    whole = rich_segment()
    odd = whole.select([1, 3])
    assert rows(odd) == [rows(whole)[1], rows(whole)[3]]
    assert rows(odd.select([1])) == [rows(whole)[3]]


@pytest.mark.parametrize("state", ["done", "held", "handed_over"])
def test_parts_inherit_what_happened_to_the_whole(state: str) -> None:
    """A record that may be in Kafka stays so, however often its segment is split."""
    whole = rich_segment()
    setattr(whole, state, True)
    for part in (*whole.split_at(2), whole.select([0])):
        found = {name: getattr(part, name) for name in ("done", "held", "handed_over")}
        assert found == {"done": False, "held": False, "handed_over": False} | {state: True}


def test_headers_that_all_share_are_kept_by_every_part() -> None:
    """They count for every record."""
    shared: list[Header] = [("name", b"value")]
    whole, bare = segment(b"a", b"b", headers=shared), segment(b"a", b"b")
    first, rest = whole.split_at(1)
    assert first.headers == rest.headers == shared
    assert first.size == rest.size == whole.size // 2 > bare.size // 2


@pytest.mark.parametrize("count", range(12))
def test_a_cut_is_at_the_record_and_keeps_the_order(count: int) -> None:
    """Within a segment, between two, before the first and behind the last."""
    parts = [numbered(0, 3), numbered(3, 2), numbered(5, 4)]
    everything = values_of(parts)
    first, rest = cut(parts, count)
    assert values_of(first) == everything[:count]
    assert values_of(rest) == everything[count:]
    assert all(map(len, first + rest))
    inside = count not in {0, 3, 5, *range(9, 12)}
    assert len(first) + len(rest) == len(parts) + inside


def test_the_parts_of_a_cut_are_answered_instead_of_the_whole() -> None:
    """The receipt follows both of them, and is complete when both are."""
    whole = numbered(0, 4)
    (first,), (rest,) = cut([whole], 1)
    assert whole.receipt.parts == [first, rest]
    first.failed(Status.REFUSED, "refused_by_kafka")
    assert not whole.receipt.answered
    rest.acked(2, 40)
    assert whole.receipt.runs == [
        Run(Status.REFUSED, range(1), code="refused_by_kafka", values=[b"0000"]),
        Run(Status.ACKED, range(1, 4), 2, 40),
    ]


# Fates


def test_an_ack_gives_place_and_lets_the_bytes_go() -> None:
    """The first offset stands for all, since the records are next to each other."""
    part = numbered(0, 3)
    assert part.acked(2, 40) == 0
    assert part.receipt.runs == [Run(Status.ACKED, range(3), 2, 40)]
    assert part.receipt.settled
    assert part.values == []


def test_a_failure_gives_the_values_back() -> None:
    """Whoever submitted them need not have kept them."""
    part = numbered(0, 2)
    part.failed(Status.REFUSED, "event_too_large")
    values = [b"0000", b"0001"]
    assert part.receipt.runs == [
        Run(Status.REFUSED, range(2), code="event_too_large", values=values)
    ]
    assert part.receipt.settled
    assert part.values == []


@pytest.mark.parametrize(
    ("handed_over", "in_flight", "status", "code", "held"),
    [
        (False, False, Status.RETRY, "kafka_unavailable", False),
        (True, False, Status.UNKNOWN, "ack_timeout", False),
        (False, True, Status.UNKNOWN, "ack_timeout", True),
        (True, True, Status.UNKNOWN, "ack_timeout", True),
    ],
)
def test_the_deadline_tells_what_is_known(
    handed_over: bool,  # noqa: FBT001
    in_flight: bool,  # noqa: FBT001
    status: Status,
    code: str,
    held: bool,  # noqa: FBT001
) -> None:
    """What never left is certainly not in Kafka; what the client still has is held on to."""
    part = numbered(0, 1)
    part.handed_over, part.in_flight = handed_over, in_flight
    part.receipt.expire()
    assert part.receipt.runs == [Run(status, range(1), code=code, values=[b"0000"])]
    assert part.receipt.answered
    assert part.receipt.settled is not held
    assert part.values == [b"0000"] * held


def test_an_ack_after_the_deadline_is_counted_and_lets_go_once() -> None:
    """The answer stays, the bytes are free."""
    settled: list[bool] = []
    receipt = Receipt(2, lambda: settled.append(True))
    part = Segment(receipt, range(2), [b"a", b"b"], None, [], None, TIME_MS)
    receipt.parts.append(part)
    part.in_flight = True
    receipt.expire()
    assert settled == []
    assert part.acked(0, 7) == 2
    assert part.acked(0, 7) == 2
    assert settled == [True]
    assert [run.status for run in receipt.runs] == [Status.UNKNOWN]
    assert part.values == []


def test_a_failure_after_the_deadline_lets_go_once() -> None:
    """The same without an ack."""
    part = numbered(0, 2)
    part.in_flight = True
    part.receipt.expire()
    assert not part.receipt.settled
    part.failed(Status.RETRY, "topic_unavailable")
    part.failed(Status.RETRY, "topic_unavailable")
    assert part.receipt.settled
    assert [run.status for run in part.receipt.runs] == [Status.UNKNOWN]


def test_what_has_its_status_keeps_it() -> None:
    """Neither the deadline nor another answer changes it, and nothing is settled twice."""
    acked, refused = numbered(0, 1), numbered(1, 1)
    acked.acked(0, 0)
    refused.failed(Status.REFUSED, "refused_by_kafka")
    for part in (acked, refused):
        part.expire()
        part.failed(Status.RETRY, "topic_unavailable")
        part.acked(0, 0)
    assert [run.status for run in acked.receipt.runs] == [Status.ACKED]
    assert [run.status for run in refused.receipt.runs] == [Status.REFUSED]
    assert acked.receipt.settled
    assert refused.receipt.settled


@given(st.lists(st.integers(1, 5), min_size=2, max_size=4), st.data())
def test_parts_that_are_held_let_go_of_their_own_share(
    sizes: list[int], data: st.DataObject
) -> None:
    """A batch that is cut after its deadline settles with the last of its parts."""
    whole = numbered(0, sum(sizes))
    whole.in_flight = True
    whole.receipt.expire()
    rest, parts = [whole], list[Segment]()
    for size in sizes:
        first, rest = cut(rest, size)
        parts += first
    assert [len(part) for part in parts] == sizes
    order = data.draw(st.permutations(parts))
    for part, left in zip(order, accumulate(reversed(sizes)), strict=True):
        assert left
        assert not whole.receipt.settled
        part.acked(0, 0)
    assert whole.receipt.settled
