"""The messages of the syslog load tools are what their measurements assume."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from itertools import islice
from typing import get_args

import pytest
import zstandard

from loadtest.syslog_messages import (
    MESSAGE_BYTES,
    Format,
    Mark,
    mark,
    mark_places,
    messages,
)

NOW = datetime(2026, 11, 5, 23, 59, 59, 990_000, tzinfo=UTC)
FORMS: tuple[Format, ...] = get_args(Format)
RFC5424 = re.compile(
    rb"<\d{1,3}>1 2026-11-0\dT\d\d:\d\d:\d\d\.\d{6}Z \S+ \S+ \d+ ID\d+ "
    rb'\[meta@32473 req="[0-9a-f]+" client="\d{4}" seq="\d{9}"\] [^\n]+'
)
RFC3164 = re.compile(rb"<\d{1,3}>Nov  \d \d\d:\d\d:\d\d [a-z0-9-]+ [a-z-]+\[\d+\]: [^\n]+")
PATTERNS = {"rfc5424": RFC5424, "rfc3164": RFC3164}


def some(form: Format, count: int, seed: int = 1) -> list[bytes]:
    """The first ``count`` messages."""
    return list(islice(messages(form, seed, NOW), count))


@pytest.mark.parametrize("form", FORMS)
def test_every_message_has_the_stated_size_and_spelling(form: Format) -> None:
    """Costs per message compare only at the same size, and parsing is most of them."""
    for message in some(form, 5_000):
        assert len(message) == MESSAGE_BYTES
        assert PATTERNS[form].fullmatch(message)
        assert int(message[1 : message.index(b">")]) < 192


@pytest.mark.parametrize("form", FORMS)
def test_the_mark_is_at_the_same_place_in_all_messages(form: Format) -> None:
    """They are numbered by strided assignments."""
    assert len({mark_places(message) for message in some(form, 5_000)}) == 1


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b'{"meta@32473":{"req":"ab","client":"0007","seq":"000000123"}}', Mark(7, 123)),
        (b'[meta@32473 req="ab" client="0007" seq="000000123"] text', Mark(7, 123)),
        (b'{"raw":"[meta client=\\"0007\\" seq=\\"000000123\\"]"}', Mark(7, 123)),
        (b"text. client=0007 seq=000000123", Mark(7, 123)),
        (b"client=0007 seq=123", None),
        (b"", None),
    ],
)
def test_a_mark_is_found_in_a_message_and_in_an_envelope(value: bytes, found: Mark | None) -> None:
    """What is in Kafka is compared with what was sent."""
    assert mark(value) == found


@pytest.mark.parametrize("form", FORMS)
def test_a_seed_gives_the_same_messages_again(form: Format) -> None:
    """A run can be repeated, and another seed gives others."""
    assert some(form, 100) == some(form, 100)
    assert some(form, 100) != some(form, 100, seed=2)


@pytest.mark.parametrize("form", FORMS)
def test_they_compress_like_text_not_like_constants_or_noise(form: Format) -> None:
    """A batch of a megabyte shrinks three to eight times under zstd."""
    raw = b"".join(some(form, 3_500))
    assert 3 < len(raw) / len(zstandard.compress(raw)) < 8


def test_a_few_messages_need_escapes_in_json() -> None:
    """A parser with a slow path for them has to pay for it, as often as it would elsewhere."""
    texts = [message.partition(b"] ")[2] for message in some("rfc5424", 5_000)]
    assert 0.02 < sum(b'"' in text for text in texts) / len(texts) < 0.1
