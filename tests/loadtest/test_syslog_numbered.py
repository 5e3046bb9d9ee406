"""Messages of a sender are numbered without a gap, whatever the frame and the pool."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice

import pytest

from loadtest.syslog_messages import Mark, mark, messages
from loadtest.syslog_numbered import FRAMES, Numbered

POOL = list(islice(messages("rfc5424", 1, datetime(2026, 11, 25, tzinfo=UTC)), 100))


def taken(numbered: Numbered, count: int, most: int) -> list[bytes]:
    """The next ``count`` framed messages, ``most`` at a time."""
    found: list[bytes] = []
    while len(found) < count:
        view = bytes(numbered.take(min(most, count - len(found))))
        width = numbered.width
        found += [view[at : at + width] for at in range(0, len(view), width)]
    return found


@pytest.mark.parametrize("framing", FRAMES)
@pytest.mark.parametrize("most", [1, 7, 1_000])
def test_messages_are_numbered_in_a_row_over_the_end_of_the_pool(framing: str, most: int) -> None:
    """A number that comes twice would look like a duplicate of the gateway's."""
    found = [mark(each) for each in taken(Numbered(POOL, 42, framing), 350, most)]
    assert found == [Mark(42, number) for number in range(350)]


@pytest.mark.parametrize(("framing", "frame"), FRAMES.items())
def test_only_the_mark_of_a_message_changes(framing: str, frame: tuple[bytes, bytes]) -> None:
    """Everything else, frame and all, is that of the pool."""
    before, after = frame
    framed = taken(Numbered(POOL, 0, framing), 200, 50)
    unmarked = [each.replace(b'"%09d"' % at, b'"000000000"') for at, each in enumerate(framed)]
    assert unmarked == [before + message + after for message in POOL] * 2


def test_a_pool_that_digits_cannot_count_is_refused() -> None:
    """Its numbers would have gaps."""
    with pytest.raises(ValueError, match="power of ten"):
        Numbered(POOL[:99], 0)
