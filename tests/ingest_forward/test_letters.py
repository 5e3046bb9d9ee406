"""Dead letters: the record as it was read, why it cannot be forwarded, and what is left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ingest.receipt import Status
from ingest_forward.letters import SHARE, Letters
from ingest_forward.shape import Reject
from tests.ingest_forward.polled import Polled, batch
from tests.memory_producer import MemoryProducer, MemoryTopic

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ingest_forward.batch import Batch
    from tests.memory_producer import Record

TOPIC = "letters"
LIMIT_BYTES = 4000


async def letters(of: Batch, *rejects: Reject, limit: int = LIMIT_BYTES) -> Sequence[Record]:
    """The dead letters of some records, in their order; all must have been taken."""
    topic = MemoryTopic(partitions=1, max_message_bytes=limit)
    writer = Letters(MemoryProducer({TOPIC: topic}), TOPIC)
    settled: list[bool] = []
    receipt = await writer.submit(of, "r", rejects, writer.limit, lambda: settled.append(True))
    assert [run.status for run in receipt.runs] == [Status.ACKED]
    assert settled == [True]
    return topic.records


def headers(record: Record) -> dict[str, bytes | None]:
    """The headers of a dead letter."""
    return dict(record.headers)


async def test_a_letter_is_the_record_with_its_headers_and_connects_before_them() -> None:
    """Value, key and timestamp too."""
    own = [("a", b"1"), ("a", None), ("content-type", b"x")]
    of = batch(Polled(b"other"), Polled(b"no json\xff", b"k", own, 7, 1_700_000_000_000))
    (letter,) = await letters(of, Reject(1, "invalid_json", "the value is no JSON"))
    assert (letter.value, letter.key) == (b"no json\xff", b"k")
    assert letter.timestamp_ms == 1_700_000_000_000
    assert letter.headers == [
        ("__connect.errors.topic", b"orders"),
        ("__connect.errors.partition", b"3"),
        ("__connect.errors.offset", b"7"),
        ("__connect.errors.connector.name", b"r"),
        ("__connect.errors.stage", b"VALUE_CONVERTER"),
        ("__connect.errors.exception.class.name", b"invalid_json"),
        ("__connect.errors.exception.message", b"the value is no JSON"),
        ("ingest.route", b"r"),
        *own,
        ("ingest.from.topic", b"orders"),
        ("ingest.from.partition", b"3"),
        ("ingest.from.offset", b"7"),
    ]


@pytest.mark.parametrize(
    ("code", "stage"),
    [
        ("invalid_json", b"VALUE_CONVERTER"),
        ("not_cloudevents", b"VALUE_CONVERTER"),
        ("cast_failed", b"TRANSFORMATION"),
        ("schema_mismatch", b"TRANSFORMATION"),
        ("bad_key", b"TRANSFORMATION"),
        ("internal_error", b"TRANSFORMATION"),
        ("event_too_large", b"KAFKA_PRODUCE"),
        ("refused_by_kafka", b"KAFKA_PRODUCE"),
    ],
)
async def test_each_code_has_a_stage_of_connect(code: str, stage: bytes) -> None:
    """Where it came up."""
    (letter,) = await letters(batch(Polled(b"v")), Reject(0, code))
    assert headers(letter)["__connect.errors.stage"] == stage
    assert headers(letter)["__connect.errors.exception.class.name"] == code.encode()


async def test_letters_keep_the_order_of_the_rejects_and_each_its_own_headers() -> None:
    """They go in one batch."""
    of = batch(*(Polled(b"%d" % at, b"k%d" % at, [("n", b"%d" % at)], at) for at in range(5)))
    found = await letters(of, *(Reject(at, "bad_key") for at in (1, 2, 4)))
    assert [(each.value, each.key) for each in found] == [
        (b"1", b"k1"),
        (b"2", b"k2"),
        (b"4", b"k4"),
    ]
    assert [headers(each)["n"] for each in found] == [b"1", b"2", b"4"]
    assert [headers(each)["__connect.errors.offset"] for each in found] == [b"1", b"2", b"4"]


async def test_a_value_that_is_too_large_is_cut_and_says_so() -> None:
    """To what the topic takes, not much less; other letters beside it are whole."""
    large = bytes(range(256)) * 40
    of = batch(Polled(b"small"), Polled(large, b"k", [("own", b"1")]))
    small, cut = await letters(of, Reject(0, "bad_key"), Reject(1, "event_too_large"))
    assert small.value == b"small"
    assert "ingest.truncated" not in headers(small)
    assert large.startswith(cut.value)
    assert LIMIT_BYTES // 2 < len(cut.value) < LIMIT_BYTES
    assert (cut.key, headers(cut)["own"]) == (b"k", b"1")
    assert headers(cut)["ingest.truncated"] == b"true"
    assert headers(cut)["ingest.original_bytes"] == b"%d" % len(large)


@pytest.mark.parametrize("size", range(2900, 4100, 7))
async def test_a_letter_of_any_size_is_taken(size: int) -> None:
    """Also one that just fits, or just does not."""
    (letter,) = await letters(batch(Polled(b"v" * size, b"k" * 50)), Reject(0, "bad_key"))
    cut = "ingest.truncated" in headers(letter)
    assert (len(letter.value) < size) == cut


async def test_huge_headers_are_left_out() -> None:
    """Those of the record; why it is here and where it was read is there, and its value whole."""
    own = [("small", b"1"), ("huge", b"x" * LIMIT_BYTES)]
    (letter,) = await letters(batch(Polled(b"value", b"k", own, 9)), Reject(0, "bad_key"))
    assert (letter.value, letter.key) == (b"value", b"k")
    assert not headers(letter).keys() & {"small", "huge"}
    assert headers(letter)["ingest.from.offset"] == b"9"
    assert headers(letter)["__connect.errors.exception.class.name"] == b"bad_key"


async def test_a_huge_key_is_left_out() -> None:
    """It could not be written with it; a key of a modest size stays."""
    modest, huge = b"k" * (LIMIT_BYTES // SHARE // 2), b"k" * LIMIT_BYTES
    of = batch(Polled(b"value", modest), Polled(b"value", huge))
    kept, without = await letters(of, Reject(0, "bad_key"), Reject(1, "bad_key"))
    assert (kept.key, kept.value) == (modest, b"value")
    assert (without.key, without.value) == (None, b"value")


async def test_everything_huge_at_once_is_taken() -> None:
    """The value is cut, the rest is left out."""
    huge = b"x" * (10 * LIMIT_BYTES)
    (letter,) = await letters(batch(Polled(huge, huge, [("h", huge)])), Reject(0, "bad_key"))
    assert letter.key is None
    assert huge.startswith(letter.value)
    assert headers(letter)["ingest.original_bytes"] == b"%d" % len(huge)


async def test_headers_with_odd_names_and_no_values_are_kept() -> None:
    """As they are."""
    own = [("größe", b"\xff"), ("", b""), ("none", None)]
    (letter,) = await letters(batch(Polled(b"v", None, own)), Reject(0, "bad_key"))
    assert [each for each in letter.headers if each in own] == own


async def test_a_null_value_stays_null() -> None:
    """A record that Kafka refused may have one."""
    (letter,) = await letters(batch(Polled(None, b"k")), Reject(0, "refused_by_kafka"))
    assert (letter.value, letter.key) == (None, b"k")
