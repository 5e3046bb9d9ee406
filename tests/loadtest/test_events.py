"""The events of the load tools are what their measurements assume."""

from __future__ import annotations

import json
from itertools import islice

import zstandard

from loadtest.events import MEAN_BYTES, batch, events

COUNT = 20_000


def test_the_mean_size_is_as_stated() -> None:
    """Costs per event compare only at the same size."""
    mean = sum(map(len, islice(events(1), COUNT))) / COUNT
    assert abs(mean - MEAN_BYTES) <= 0.05 * MEAN_BYTES


def test_every_event_is_a_json_object_with_a_key() -> None:
    """The gateway takes objects only, and finds its record key in them."""
    for event in islice(events(2), 2_000):
        assert isinstance(json.loads(event)["customer_id"], str)


def test_a_seed_gives_the_same_events_again() -> None:
    """A run can be repeated."""
    assert list(islice(events(3), 100)) == list(islice(events(3), 100))


def test_seeds_differ() -> None:
    """Two connections do not send the same."""
    assert list(islice(events(3), 100)) != list(islice(events(4), 100))


def test_they_compress_like_text_not_like_constants_or_noise() -> None:
    """A batch of a megabyte shrinks three to eight times under zstd."""
    raw = b"".join(islice(events(5), 3_500))
    assert 3 < len(raw) / len(zstandard.compress(raw)) < 8


def test_a_batch_is_a_json_array_of_that_many_events() -> None:
    """The load tools count events by the size of the batches they build."""
    assert len(json.loads(batch(events(6), 100))) == 100


def test_a_batch_of_one_is_the_event_itself() -> None:
    """Single events are sent without an array around them."""
    assert batch(events(7), 1) == next(events(7))
