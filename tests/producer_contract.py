"""What every `ingest.producer.Producer` promises; each implementation runs this suite.

A test class inherits from these and brings the fixture ``world``.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Protocol

from ingest.receipt import Receipt, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ingest.producer import Producer
    from tests.memory_producer import Record

TIME_MS = 1_700_000_000_123
PATIENCE = 20.0


class World(Protocol):
    """An implementation and its surroundings.

    Attributes:
        producer: the implementation.
        plain: a topic with four partitions.
    """

    producer: Producer
    plain: str

    async def read(self, topic: str) -> list[Record]:
        """Every record of ``topic``."""


class LimitedWorld(World, Protocol):
    """A world whose topics have limits.

    Attributes:
        small: a topic that takes batches of up to 10,000 bytes.
        compacted: a topic whose records need a key.
    """

    small: str
    compacted: str


class SpoolingWorld(World, Protocol):
    """A world whose producer has a spool with room."""

    async def spooled(self) -> int:
        """How many events are in the spool."""

    def fill(self) -> None:
        """Have no room in the spool from now on."""


def deadline(seconds: float = PATIENCE) -> float:
    """A deadline so many seconds from now."""
    return asyncio.get_running_loop().time() + seconds


def places(receipt: Receipt) -> dict[int, tuple[int, int]]:
    """Index -> (partition, offset) of what was acked."""
    return {
        index: (run.partition, run.offset + step)
        for run in receipt.runs
        if run.status is Status.ACKED
        for step, index in enumerate(run.indices)
    }


def statuses(receipt: Receipt, count: int) -> list[tuple[Status, str]]:
    """(status, code) of each record, by index."""
    found = {i: (run.status, run.code) for run in receipt.runs for i in run.indices}
    assert sorted(found) == list(range(count)), "every record has exactly one status"
    return [found[i] for i in range(count)]


def by_place(records: Sequence[Record]) -> dict[tuple[int, int], Record]:
    """(partition, offset) -> record."""
    return {(record.partition, record.offset): record for record in records}


class ProducerContract:
    """Promises that need no limits of topics."""

    async def test_an_ack_tells_where_each_record_is(self, world: World) -> None:
        """Partition and offset of every acked record are those a reader finds it at."""
        values = [b"value %d" % i for i in range(50)]
        keys = [b"key %d" % (i % 7) for i in range(50)]
        receipt = await world.producer.submit(
            world.plain, list(values), timestamp_ms=TIME_MS, keys=keys, deadline=deadline()
        )
        found = by_place(await world.read(world.plain))
        assert {i: found[place].value for i, place in places(receipt).items()} == dict(
            enumerate(values)
        )

    async def test_key_headers_and_timestamp_are_written(self, world: World) -> None:
        """A record has the key, the headers and the timestamp that it was submitted with."""
        receipt = await world.producer.submit(
            world.plain,
            [b"v"],
            timestamp_ms=TIME_MS,
            keys=[b"k"],
            headers=[("a", b"1"), ("b", b"2")],
            deadline=deadline(),
        )
        record = by_place(await world.read(world.plain))[places(receipt)[0]]
        assert (record.key, record.headers, record.timestamp_ms) == (
            b"k",
            [("a", b"1"), ("b", b"2")],
            TIME_MS,
        )

    async def test_each_record_may_have_headers_of_its_own(self, world: World) -> None:
        """With ``headers_each`` every record has its own headers behind those of all."""
        each = [[("n", b"0")], [], [("n", b"2"), ("m", b"x")]]
        receipt = await world.producer.submit(
            world.plain,
            [b"0", b"1", b"2"],
            timestamp_ms=TIME_MS,
            headers=[("all", b"a")],
            headers_each=each,
            deadline=deadline(),
        )
        found = by_place(await world.read(world.plain))
        headers = [found[place].headers for _, place in sorted(places(receipt).items())]
        assert headers == [[("all", b"a"), *own] for own in each]

    async def test_each_record_may_have_a_timestamp_of_its_own(self, world: World) -> None:
        """With ``timestamps`` every record has its own, wherever its key takes it."""
        times = [TIME_MS + 1000 * number for number in range(20)]
        receipt = await world.producer.submit(
            world.plain,
            [b"%d" % number for number in range(20)],
            timestamp_ms=0,
            keys=[b"key %d" % (number % 7) for number in range(20)],
            timestamps=times,
            deadline=deadline(),
        )
        found = by_place(await world.read(world.plain))
        assert [found[place].timestamp_ms for _, place in sorted(places(receipt).items())] == times

    async def test_a_value_may_be_null(self, world: World) -> None:
        """A record without a value is one that deletes its key, and no empty one."""
        values: Any = [b"", None, b"v"]
        receipt = await world.producer.submit(
            world.plain, values, timestamp_ms=TIME_MS, keys=[b"a", b"b", b"c"], deadline=deadline()
        )
        found = by_place(await world.read(world.plain))
        read = [found[place].value for _, place in sorted(places(receipt).items())]
        assert read == [b"", None, b"v"]

    async def test_a_batch_without_keys_stays_together(self, world: World) -> None:
        """Records without keys are in one partition, one after the other."""
        receipt = await world.producer.submit(
            world.plain, [b"%d" % i for i in range(20)], timestamp_ms=TIME_MS, deadline=deadline()
        )
        found = places(receipt)
        assert len({partition for partition, _ in found.values()}) == 1
        offsets = [found[i][1] for i in range(20)]
        assert offsets == list(range(offsets[0], offsets[0] + 20))

    async def test_records_with_the_same_key_keep_their_order(self, world: World) -> None:
        """One key means one partition, and the order of submission over many batches."""
        receipts = [
            world.producer.submit(
                world.plain,
                [b"%d" % number, b"other %d" % number],
                timestamp_ms=TIME_MS,
                keys=[b"same", None],
                deadline=deadline(),
            )
            for number in range(30)
        ]
        found = [places(await receipt)[0] for receipt in receipts]
        assert len({partition for partition, _ in found}) == 1
        assert found == sorted(found)

    async def test_keys_choose_partitions_as_java_does(self, world: World) -> None:
        """Known keys land where Kafka's Java client puts them."""
        expected = {key: (JAVA_MURMUR2[key] & 0x7FFFFFFF) % 4 for key in JAVA_MURMUR2}
        receipt = await world.producer.submit(
            world.plain,
            [b"v"] * len(expected),
            timestamp_ms=TIME_MS,
            keys=list(expected),
            deadline=deadline(),
        )
        found = places(receipt)
        assert [found[i][0] for i in range(len(expected))] == list(expected.values())

    async def test_many_submissions_at_once_are_each_written_once(self, world: World) -> None:
        """Of concurrent batches every record is there exactly once, wherever it went."""
        batches = [[b"%d-%d" % (batch, i) for i in range(40)] for batch in range(60)]
        receipts = [
            world.producer.submit(
                world.plain, list(batch), timestamp_ms=TIME_MS, deadline=deadline()
            )
            for batch in batches
        ]
        for receipt in receipts:
            assert (await receipt).acked
        count: defaultdict[bytes, int] = defaultdict(int)
        for record in await world.read(world.plain):
            count[record.value] += 1
        assert all(count[value] == 1 for batch in batches for value in batch)

    async def test_a_batch_larger_than_a_kafka_batch_is_written_whole(self, world: World) -> None:
        """Megabytes in one submission go in several Kafka batches, in order."""
        values = [b"%d " % i + b"x" * 1000 for i in range(3000)]
        receipt = await world.producer.submit(
            world.plain, list(values), timestamp_ms=TIME_MS, deadline=deadline()
        )
        found, where = by_place(await world.read(world.plain)), places(receipt)
        assert [found[where[i]].value for i in range(3000)] == values

    async def test_an_empty_batch_is_answered_at_once(self, world: World) -> None:
        """No records means nothing to wait for, and it is settled."""
        settled: list[bool] = []
        receipt = world.producer.submit(
            world.plain, [], timestamp_ms=TIME_MS, on_settled=lambda: settled.append(True)
        )
        assert receipt.answered
        assert settled == [True]

    async def test_settling_is_told_once(self, world: World) -> None:
        """``on_settled`` is called once for a batch, however many partitions it went to."""
        settled: list[bool] = []
        receipt = world.producer.submit(
            world.plain,
            [b"%d" % i for i in range(20)],
            timestamp_ms=TIME_MS,
            keys=[b"%d" % i for i in range(20)],
            deadline=deadline(),
            on_settled=lambda: settled.append(True),
        )
        await receipt
        assert receipt.settled
        assert settled == [True]

    async def test_a_preview_writes_nothing(self, world: World) -> None:
        """It says what would become of each record, and that is all."""
        values = [b"previewed", b"this too"]
        keys: list[bytes | None] = [b"k", None]
        headers = [("n", b"v")]
        assert world.producer.preview(world.plain, values) == ["", ""]
        assert world.producer.preview(world.plain, values, keys=keys, headers=headers) == ["", ""]
        assert world.producer.preview(world.plain, []) == []
        assert values == [b"previewed", b"this too"]
        receipt = await world.producer.submit(
            world.plain, [b"v"], timestamp_ms=TIME_MS, deadline=deadline()
        )
        assert receipt.acked
        assert [record.value for record in await world.read(world.plain)] == [b"v"]

    async def test_a_topic_that_is_followed_later_is_written_to(self, world: World) -> None:
        """What is submitted at once waits until the topic is ready; others are not disturbed."""
        late = f"{world.plain}-late"
        world.producer.follow([world.plain, late])
        receipts = [
            world.producer.submit(topic, [b"v"], timestamp_ms=TIME_MS, deadline=deadline())
            for topic in (late, world.plain)
        ]
        assert [(await receipt).acked for receipt in receipts] == [True, True]
        assert [record.value for record in await world.read(late)] == [b"v"]

    async def test_requests_under_way_may_write_to_a_topic_that_is_followed_no_more(
        self, world: World
    ) -> None:
        """Before it is let go, and before it is followed again, as after."""
        for names in ([], [world.plain]):
            world.producer.follow(names)
            assert world.producer.preview(world.plain, [b"v"]) == [""]
            receipt = await world.producer.submit(
                world.plain, [b"v"], timestamp_ms=TIME_MS, deadline=deadline()
            )
            assert receipt.acked

    async def test_a_topic_that_nobody_knows_is_no_error(self, world: World) -> None:
        """Every question about it, and every record for it, gets an answer."""
        unknown = f"{world.plain}-unknown"
        assert world.producer.value_limit(unknown) > 1_000_000
        assert len(world.producer.preview(unknown, [b"v"])) == 1
        receipt = await world.producer.submit(
            unknown, [b"v"], timestamp_ms=TIME_MS, deadline=deadline(5.0)
        )
        assert len(statuses(receipt, 1)) == 1

    async def test_after_stop_nothing_is_taken(self, world: World) -> None:
        """A batch that comes too late is certainly not in Kafka."""
        await world.producer.stop(5.0)
        receipt = await world.producer.submit(
            world.plain, [b"late"], timestamp_ms=TIME_MS, deadline=deadline()
        )
        assert statuses(receipt, 1) == [(Status.RETRY, "shutting_down")]

    async def test_overflow_without_a_spool_comes_back_at_once(self, world: World) -> None:
        """There is no memory for it, and no disk: nothing is written, and nothing is held."""
        settled: list[bool] = []
        receipt = world.producer.submit(
            world.plain,
            [b"a", b"b"],
            timestamp_ms=TIME_MS,
            on_settled=lambda: settled.append(True),
            overflow=True,
        )
        assert statuses(receipt, 2) == [(Status.RETRY, "no_room")] * 2
        assert receipt.settled
        assert settled == [True]
        assert await world.read(world.plain) == []


class SpoolContract:
    """Promises of those that have a spool, by the only way into it while Kafka is well."""

    async def test_overflow_is_kept_in_the_spool(self, world: SpoolingWorld) -> None:
        """It is answered when it is durable there, with its values, and nothing is held."""
        settled: list[bool] = []
        receipt = await world.producer.submit(
            world.plain,
            [b"a", b"b"],
            timestamp_ms=TIME_MS,
            keys=[b"k", None],
            on_settled=lambda: settled.append(True),
            overflow=True,
        )
        assert statuses(receipt, 2) == [(Status.SPOOLED, "")] * 2
        values = {
            i: v for run in receipt.runs for i, v in zip(run.indices, run.values, strict=True)
        }
        assert values == {0: b"a", 1: b"b"}
        assert receipt.settled
        assert settled == [True]

    async def test_what_is_no_overflow_stays_out_of_the_spool(self, world: SpoolingWorld) -> None:
        """Kafka is well: it acks, as without a spool."""
        receipt = await world.producer.submit(
            world.plain, [b"a"], timestamp_ms=TIME_MS, deadline=deadline()
        )
        assert receipt.acked
        assert await world.spooled() == 0

    async def test_overflow_without_room_comes_back_at_once(self, world: SpoolingWorld) -> None:
        """As without a spool."""
        world.fill()
        receipt = world.producer.submit(world.plain, [b"a"], timestamp_ms=TIME_MS, overflow=True)
        assert statuses(receipt, 1) == [(Status.RETRY, "no_room")]
        assert receipt.settled


class LimitsContract:
    """Promises about limits and refusals: one event's poison is nobody else's."""

    async def test_a_record_that_is_too_large_is_refused_alone(self, world: LimitedWorld) -> None:
        """The others of its batch are written."""
        values = [b"small", b"x" * 20_000, b"small too"]
        receipt = await world.producer.submit(
            world.small, values, timestamp_ms=TIME_MS, deadline=deadline()
        )
        ok = (Status.ACKED, "")
        assert statuses(receipt, 3) == [ok, (Status.REFUSED, "event_too_large"), ok]

    async def test_a_preview_knows_the_limits(self, world: LimitedWorld) -> None:
        """For each record on its own the code that submitting it would bring."""
        preview = world.producer.preview
        values = [b"small", b"x" * 20_000, b"small too"]
        assert preview(world.small, values) == ["", "event_too_large", ""]
        keys: list[bytes | None] = [b"key", b"x" * 20_000, None]
        assert preview(world.small, [b"v"] * 3, keys=keys) == ["", "event_too_large", ""]
        assert preview(world.small, [b"v"], headers=[("n", b"x" * 20_000)]) == ["event_too_large"]
        assert preview(world.compacted, [b"v"] * 3, keys=keys) == ["", "", "refused_by_kafka"]
        assert preview(world.compacted, [b"v"] * 2) == ["refused_by_kafka"] * 2

    async def test_a_preview_agrees_at_the_very_limit(self, world: LimitedWorld) -> None:
        """To the byte, as ``value_limit`` says."""
        limit = world.producer.value_limit(world.small)
        values = [b"x" * limit, b"x" * (limit + 1)]
        assert world.producer.preview(world.small, values) == ["", "event_too_large"]

    async def test_refused_records_come_back_with_their_values(self, world: LimitedWorld) -> None:
        """Whoever submitted them need not have kept them."""
        receipt = await world.producer.submit(
            world.small, [b"x" * 20_000, b"y"], timestamp_ms=TIME_MS, deadline=deadline()
        )
        refused = [run for run in receipt.runs if run.status is Status.REFUSED]
        assert [list(run.values) for run in refused] == [[b"x" * 20_000]]

    async def test_a_record_of_just_the_limit_is_taken(self, world: LimitedWorld) -> None:
        """``value_limit`` is what the topic really takes, and one byte more is refused."""
        limit = world.producer.value_limit(world.small)
        receipt = await world.producer.submit(
            world.small,
            [_incompressible(limit), _incompressible(limit + 1)],
            timestamp_ms=TIME_MS,
            deadline=deadline(),
        )
        assert [status for status, _ in statuses(receipt, 2)] == [Status.ACKED, Status.REFUSED]

    async def test_a_compacted_topic_refuses_records_without_key_alone(
        self, world: LimitedWorld
    ) -> None:
        """A record without key can never be in a compacted topic; its neighbours can."""
        receipt = await world.producer.submit(
            world.compacted,
            [b"with", b"without"],
            timestamp_ms=TIME_MS,
            keys=[b"key", None],
            deadline=deadline(),
        )
        assert statuses(receipt, 2) == [(Status.ACKED, ""), (Status.REFUSED, "refused_by_kafka")]


def _incompressible(size: int) -> bytes:
    return random.Random(size).randbytes(size)


JAVA_MURMUR2 = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}
"""Keys and their hashes from the tests of Kafka's Java client (UtilsTest)."""
