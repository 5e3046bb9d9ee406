"""Receptions: one time in two spellings, and ids that nobody makes twice."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from ingest import reception
from ingest.envelope import is_date_time
from ingest.reception import Receptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

    from ingest.envelope import Received


MOMENTS = {
    0: ("1970-01-01T00:00:00.000000Z", 0),
    1_795_435_199_999_999_999: ("2026-11-23T11:59:59.999999Z", 1_795_435_199_999),
    1_795_435_200_000_000_000: ("2026-11-23T12:00:00.000000Z", 1_795_435_200_000),
    1_795_435_200_000_001_999: ("2026-11-23T12:00:00.000001Z", 1_795_435_200_000),
    1_795_435_200_012_345_678: ("2026-11-23T12:00:00.012345Z", 1_795_435_200_012),
    1_795_438_800_000_000_000: ("2026-11-23T13:00:00.000000Z", 1_795_438_800_000),
    1_795_435_199_500_000_000: ("2026-11-23T11:59:59.500000Z", 1_795_435_199_500),
}
"""Nanoseconds since the epoch, in the order in which they come -> text, milliseconds."""


def microseconds(received: Received) -> int:
    """Since the epoch, as its text says."""
    text = datetime.fromisoformat(received.time.decode())
    assert text.tzinfo == UTC
    return round((text - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1_000_000)


def test_a_reception_has_the_time_of_now() -> None:
    """To the microsecond, in UTC, as the envelope has it; in milliseconds for the record."""
    receptions = Receptions()
    for _ in range(1000):
        before = time.time_ns() // 1000
        received = receptions.now()
        after = time.time_ns() // 1000
        assert re.fullmatch(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", received.time)
        assert is_date_time(b'"%b"' % received.time)
        assert before <= microseconds(received) <= after
        assert received.timestamp_ms == microseconds(received) // 1000


def test_every_moment_has_its_own_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the second changes, however many pass, and when the clock is set back."""
    clock: Iterator[int] = iter(MOMENTS)
    monkeypatch.setattr(reception, "time_ns", partial(next, clock))
    receptions = Receptions()
    found = [receptions.now() for _ in MOMENTS]
    assert [(each.time.decode(), each.timestamp_ms) for each in found] == [*MOMENTS.values()]


def test_ids_are_unique_within_a_process_and_over_processes() -> None:
    """At the same moment too."""
    ids = [each.now().base_id for each in [Receptions() for _ in range(50)] for _ in range(100)]
    assert len(set(ids)) == 5000


def test_an_id_is_fit_for_a_header_and_for_an_envelope() -> None:
    """It is echoed as the request id, and made ids begin with it."""
    received = Receptions().now()
    assert re.fullmatch(rb"[A-Za-z0-9._-]{1,128}", received.base_id)
    assert received.base_id.startswith(b"%012x-" % received.timestamp_ms)
