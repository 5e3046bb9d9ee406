"""What is committed: never more than is done, and all that is."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from ingest_forward.progress import Progress


def test_nothing_is_committed_before_something_is_done() -> None:
    """Without a committed offset there is none to commit; with one there is no other."""
    assert Progress().to_commit is None
    assert Progress(7).to_commit is None


def test_what_is_done_is_committed_up_to_what_is_not() -> None:
    """A chunk that is done waits for those before it, and is then committed with them."""
    progress = Progress(10)
    first, second, third = (progress.begin(end) for end in (20, 35, 36))
    progress.finish(second)
    assert progress.to_commit is None
    progress.finish(first)
    assert progress.to_commit == 35
    progress.finish(third)
    assert progress.to_commit == 36


def test_what_was_committed_is_not_committed_again() -> None:
    """There is nothing to commit until more is done."""
    progress = Progress(0)
    progress.finish(progress.begin(5))
    progress.committed = 5
    assert progress.to_commit is None
    progress.finish(progress.begin(6))
    assert progress.to_commit == 6


def test_an_offset_that_goes_back_is_committed() -> None:
    """A topic that was made anew begins with 0 again, whatever was committed before."""
    progress = Progress(1000)
    progress.finish(progress.begin(3))
    assert progress.to_commit == 3


@given(st.integers(1, 30), st.integers(0, 2**32))
def test_the_offset_is_that_of_the_first_chunk_that_is_open(count: int, seed: int) -> None:
    """In whatever order chunks are done."""
    progress, chance = Progress(0), random.Random(seed)
    ends = sorted(chance.sample(range(1, 1000), count))
    chunks = [progress.begin(end) for end in ends]
    left = list(chunks)
    for chunk in chance.sample(chunks, count):
        progress.finish(chunk)
        left.remove(chunk)
        before = [each.end for each in chunks if not left or each.end < left[0].end]
        assert progress.done == max(before, default=0)
