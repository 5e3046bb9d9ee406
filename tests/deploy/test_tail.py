"""Records as lines on a terminal."""

from __future__ import annotations

import pytest
from aiokafka import AIOKafkaProducer

from deploy.local.mock import MockCluster
from deploy.local.tail import HEADINGS, Row, cut, printable, row, tail
from ingest.settings import KafkaSettings


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('{"total":12.5}', '{"total":12.5}'),
        ("Grüße, 東京", "Grüße, 東京"),
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("\x1b[2J\x07", r"\x1b[2J\x07"),
        ("\x9b2J", r"\x9b2J"),
        ("user\u202etxt.exe", r"user\u202etxt.exe"),
        ("\u2028", r"\u2028"),
    ],
)
def test_nothing_that_drives_a_terminal_is_shown_as_it_is(text: str, shown: str) -> None:
    """Control characters, also those of Unicode, are escaped; what can be read is not."""
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("data", "limit", "shown"),
    [
        (None, 5, "-"),
        (b"", 5, ""),
        (b"12345", 5, "12345"),
        (b"123456", 5, "12345..."),
        (b"\xff\xfe", 20, r"\xff\xfe"),
        (b"\n" * 3, 5, r"\n\n\..."),
        ("東京東京東".encode(), 5, "東京東京東"),
        ("東京東京東京".encode(), 5, "東京東京東..."),
        (b"\xf0\x9f\x92\xa9" * 5 + b"x", 5, "\U0001f4a9" * 5 + "..."),
        (b"x" * 10_000_000, 5, "xxxxx..."),
    ],
)
def test_long_data_is_cut_and_says_so(data: bytes | None, limit: int, shown: str) -> None:
    """By characters as shown; nothing at all is a dash."""
    assert cut(data, limit) == shown


def test_a_row_stands_under_its_headings() -> None:
    """However wide the names of topics are."""
    heading = HEADINGS.line(12)
    line = row(("shop.orders", 3, 1207), b"c-17", b'{"total":12.5}').line(12)
    assert line == 'shop.orders           3    1207  c-17      {"total":12.5}'
    assert line.index("c-17") == heading.index("KEY")
    assert line.index("{") == heading.index("VALUE")


def test_a_dead_letter_is_shown_with_its_reason() -> None:
    """After its value, and as harmless."""
    found = row(("ingest.rejected", 0, 1), None, b'"x"', b"not_an_object\x1b")
    assert found == Row("ingest.rejected", "0", "1", "-", r'"x"  <- not_an_object\x1b')


@pytest.mark.kafka
async def test_what_arrives_later_is_shown_and_what_was_there_is_counted() -> None:
    """In every partition of every topic."""
    with MockCluster() as cluster:
        kafka = KafkaSettings(bootstrap_servers=cluster.bootstrap_servers)
        async with AIOKafkaProducer(bootstrap_servers=cluster.bootstrap_servers) as producer:
            for partition in range(3):
                await producer.send_and_wait("a", b"old", partition=partition)
            async with tail(kafka, ["a", "b"]) as found:
                assert found.older == 3
                rows = aiter(found.rows())
                await producer.send_and_wait("a", b"new", key=b"k", partition=2)
                assert await anext(rows) == Row("a", "2", "1", "k", "new")
                reason = [("__connect.errors.exception.class.name", b"bad_key")]
                await producer.send_and_wait("b", b"bad", partition=0, headers=reason)
                assert await anext(rows) == Row("b", "0", "0", "-", "bad  <- bad_key")
