"""Quotas: a second's worth at once, the rate in the long run, and every debt paid."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ingest_http.quota import Bucket, Exceeded, Quota, whole_seconds

if TYPE_CHECKING:
    from collections.abc import Iterator

RATES = ("events_per_second", "bytes_per_second")
UPTIME = 1_234_567.891
"""Seconds of a clock that has run for two weeks, and that no binary fraction meets."""

# Powers of two: every time, level and wait that comes of them is exact.
exact_rates = st.sampled_from([1, 2, 8, 64, 1024])
exact_delays = st.integers(0, 3 * 1024).map(lambda ticks: ticks / 1024)
traces = st.lists(st.tuples(exact_delays, st.integers(0, 3000)), max_size=40)


def quota_of(kind: str, limit: int) -> Quota:
    """A quota with one limit."""
    return Quota(**{kind: limit})


def charge(quota: Quota, kind: str, now: float, amount: int) -> None:
    """Charge what counts for that kind."""
    if kind == "events_per_second":
        quota.charge(now, events=amount)
    else:
        quota.charge(now, size=amount)


def fields(quota: Quota, now: float) -> tuple[int, int, int]:
    """Limit, Remaining and Reset."""
    headers = quota.headers(now)
    limit, remaining, reset = (
        int(headers[f"RateLimit-{name}"]) for name in ("Limit", "Remaining", "Reset")
    )
    return limit, remaining, reset


def admitted(
    rate: int, trace: list[tuple[float, int]]
) -> Iterator[tuple[Exceeded | None, float, int]]:
    """What a bucket says to each request, of which those let in are charged; with time and size."""
    quota, now = Quota(events_per_second=rate), 0.0
    for delay, events in trace:
        now += delay
        verdict = quota.exceeded(now)
        if verdict is None:
            quota.charge(now, events=events)
        yield verdict, now, events


@pytest.mark.parametrize("kind", RATES)
@pytest.mark.parametrize(
    ("rate", "amount", "later", "wait"),
    [
        (10, 0, 0.0, 0.0),
        (10, 9, 0.0, 0.0),
        (10, 10, 0.0, 0.1),
        (10, 10, 0.05, 0.05),
        (10, 10, 0.1, 0.0),
        (10, 25, 0.0, 1.6),
        (10, 25, 1.5, 0.1),
        (10, 25, 1.6, 0.0),
        (1, 1, 0.0, 1.0),
        (1, 1, 1.0, 0.0),
        (1, 10**6, 0.0, 1e6),
        (10**9, 10**12, 0.0, 999.0),
    ],
)
def test_a_batch_passes_whole_and_its_debt_delays_the_next(
    kind: str, rate: int, amount: int, later: float, wait: float
) -> None:
    """However large it is; and then until one whole unit is in the bucket."""
    quota = quota_of(kind, rate)
    assert quota.exceeded(UPTIME) is None
    charge(quota, kind, UPTIME, amount)
    verdict = quota.exceeded(UPTIME + later)
    assert verdict == (Exceeded(kind, pytest.approx(wait, abs=1e-6)) if wait else None)


def test_debts_add_up_without_any_time_between() -> None:
    """A clock that stands still gives nothing back."""
    quota = Quota(events_per_second=10)
    for _ in range(3):
        quota.charge(UPTIME, events=10)
    assert quota.exceeded(UPTIME) == Exceeded("events_per_second", pytest.approx(2.1))


def test_an_idle_hour_saves_no_more_than_a_second() -> None:
    """The bucket is full after a second, and never fuller."""
    bucket = Bucket(10)
    assert bucket.level(UPTIME) == 10
    bucket.charge(UPTIME, 30)
    assert bucket.level(UPTIME) == -20
    assert bucket.level(UPTIME + 3) == 10
    assert bucket.level(UPTIME + 3600) == 10
    bucket.charge(UPTIME + 3600, 10)
    assert bucket.level(UPTIME + 3600) == 0


@pytest.mark.parametrize("now", [-1e6, 0.0, UPTIME])
def test_a_fresh_bucket_is_full(now: float) -> None:
    """Wherever the clock has its zero."""
    bucket = Bucket(10)
    assert (bucket.level(now), bucket.wait(now), bucket.refill(now)) == (10, 0, 0)


def test_fractions_of_units_are_kept() -> None:
    """Amounts and rates need not be whole; less than one a second still lets somebody in."""
    bucket = Bucket(0.5)
    assert bucket.wait(UPTIME) == 0
    bucket.charge(UPTIME, 0.25)
    assert bucket.level(UPTIME) == 0.25
    assert bucket.wait(UPTIME) == pytest.approx(0.5)
    assert bucket.wait(UPTIME + 0.5) == 0


def test_a_huge_debt_is_counted() -> None:
    """A million millions of events at one a second are that many seconds."""
    quota = Quota(events_per_second=1)
    quota.charge(UPTIME, events=10**12)
    verdict = quota.exceeded(UPTIME)
    assert verdict is not None
    assert verdict.retry_after == pytest.approx(10**12)
    assert fields(quota, UPTIME) == (1, 0, 10**12)


@pytest.mark.parametrize("kind", RATES)
def test_what_has_no_quota_is_not_counted(kind: str) -> None:
    """A quota on events says nothing on bytes, nor on requests at once, and the other way round."""
    quota = quota_of(kind, 10)
    other = RATES[1 - RATES.index(kind)]
    charge(quota, other, UPTIME, 10**12)
    for _ in range(1000):
        quota.enter()
    assert quota.exceeded(UPTIME) is None


def test_requests_at_once_are_counted_from_enter_to_leave() -> None:
    """The last allowed one passes, the next does not, until one has left."""
    quota = Quota(concurrent_requests=2)
    quota.charge(UPTIME, events=10**12, size=10**12)
    quota.enter()
    assert quota.exceeded(UPTIME) is None
    quota.enter()
    assert quota.exceeded(UPTIME) == Exceeded("concurrent_requests", 1.0)
    assert quota.exceeded(UPTIME + 3600) == Exceeded("concurrent_requests", 1.0)
    quota.leave()
    assert quota.exceeded(UPTIME) is None


def test_being_asked_charges_nothing() -> None:
    """A refused request does not push the next one further away."""
    quota = Quota(events_per_second=10, concurrent_requests=1)
    quota.charge(UPTIME, events=10)
    quota.enter()
    quota.leave()
    verdicts = {quota.exceeded(UPTIME) for _ in range(100)}
    quota.headers(UPTIME)
    assert verdicts == {quota.exceeded(UPTIME)}
    assert quota.exceeded(UPTIME + 0.1) is None


@pytest.mark.parametrize(
    ("events", "size", "running", "named"),
    [
        (9, 99, 0, None),
        (20, 99, 0, "events_per_second"),
        (9, 200, 0, "bytes_per_second"),
        (30, 200, 0, "events_per_second"),
        (20, 300, 0, "bytes_per_second"),
        (10, 100, 1, "concurrent_requests"),
        (20, 100, 1, "events_per_second"),
        (10, 200, 1, "bytes_per_second"),
    ],
)
def test_the_quota_that_forbids_longest_is_named(
    events: int, size: int, running: int, named: str | None
) -> None:
    """So that whoever waits for it does not meet the next one."""
    quota = Quota(events_per_second=10, bytes_per_second=100, concurrent_requests=1)
    quota.charge(UPTIME, events=events, size=size)
    for _ in range(running):
        quota.enter()
    verdict = quota.exceeded(UPTIME)
    assert (verdict and verdict.quota) == named


@settings(deadline=None)  # the machine may be busy
@given(
    rate=st.integers(1, 10**9),
    now=st.floats(0, 1e7),
    charges=st.lists(
        st.tuples(st.floats(0, 5), st.floats(0, 1e5, exclude_min=True)), min_size=1, max_size=20
    ),
)
def test_a_refusal_says_when_a_request_passes(
    rate: int, now: float, charges: list[tuple[float, float]]
) -> None:
    """At that time it does, and shortly before it does not."""
    quota = Quota(bytes_per_second=rate)
    for delay, seconds in charges:
        now += delay
        quota.charge(now, size=round(seconds * rate))
    verdict = quota.exceeded(now)
    if verdict is not None:
        assert quota.exceeded(now + verdict.retry_after) is None
        early = now + verdict.retry_after - 2e-6
        if early >= now:
            assert quota.exceeded(early) is not None


@settings(deadline=None)  # the machine may be busy
@given(rate=exact_rates, trace=traces)
def test_a_request_is_refused_exactly_where_some_window_is_used_up(
    rate: int, trace: list[tuple[float, int]]
) -> None:
    """From any earlier request until now: the rate, and a second's worth on top, less one unit."""
    taken: list[tuple[float, int]] = []
    for verdict, now, events in admitted(rate, trace):
        used_up = any(
            sum(amount for _, amount in taken[first:])
            > rate * (1 + Fraction(now) - Fraction(taken[first][0])) - 1
            for first in range(len(taken))
        )
        assert (verdict is not None) is used_up
        if verdict is None:
            taken.append((now, events))


@settings(deadline=None)  # the machine may be busy
@given(rate=exact_rates, trace=traces)
def test_any_window_admits_the_rate_and_one_batch_over_it(
    rate: int, trace: list[tuple[float, int]]
) -> None:
    """In T seconds at most ``rate * (T + 1)`` and the largest batch, however hard one tries."""
    taken = [(now, events) for verdict, now, events in admitted(rate, trace) if verdict is None]
    largest = max((events for _, events in taken), default=0)
    for first, (begin, _) in enumerate(taken):
        total = 0
        for end, events in taken[first:]:
            total += events
            assert total <= rate * (end - begin + 1) + largest


@settings(deadline=None)  # the machine may be busy
@given(
    rate=st.integers(1, 10**9),
    now=st.floats(0, 1e7),
    batches=st.lists(st.tuples(st.integers(1, 10**10), st.floats(0, 2)), max_size=40),
)
@example(rate=3, now=UPTIME, batches=[(1, 0.0)] * 10_000)
@example(rate=1, now=UPTIME, batches=[(1, 0.0)] * 10_000)
def test_a_caller_within_the_rate_is_never_refused(
    rate: int, now: float, batches: list[tuple[int, float]]
) -> None:
    """Who sends a batch and then waits for as long as it takes at that rate always passes."""
    quota = Quota(events_per_second=rate)
    for events, pause in batches:
        assert quota.exceeded(now) is None
        quota.charge(now, events=events)
        now += events / rate + pause


@pytest.mark.parametrize(
    ("charged", "later", "expected"),
    [
        (0, 0.0, (10, 10, 0)),
        (3, 0.0, (10, 7, 1)),
        (3, 0.1, (10, 8, 1)),
        (3, 0.3, (10, 10, 0)),
        (9, 0.0, (10, 1, 1)),
        (10, 0.0, (10, 0, 1)),
        (10, 0.05, (10, 0, 1)),
        (10, 0.1, (10, 1, 1)),
        (29, 0.0, (10, 0, 2)),
        (30, 0.0, (10, 0, 3)),
        (30, 2.1, (10, 1, 1)),
    ],
)
def test_the_fields_tell_the_bucket(
    charged: int, later: float, expected: tuple[int, int, int]
) -> None:
    """Remaining is never negative; Reset is the full bucket, or the next request where none is."""
    quota = Quota(events_per_second=10)
    quota.charge(UPTIME, events=charged)
    assert fields(quota, UPTIME + later) == expected


@pytest.mark.parametrize(
    ("rate", "charged", "later", "remaining"),
    [(1, 1, 0.9997, 0), (1, 1, 1.0, 1), (10**9, 2 * 10**9, 1.0 - 5e-7, 1)],
)
def test_rounding_never_hides_whether_a_request_passes(
    rate: int, charged: int, later: float, remaining: int
) -> None:
    """Nearly a unit is none, and whoever comes within the slack is let in and told so."""
    quota = Quota(bytes_per_second=rate)
    quota.charge(UPTIME, size=charged)
    assert (quota.exceeded(UPTIME + later) is None) is (remaining > 0)
    assert fields(quota, UPTIME + later)[1] == remaining


@pytest.mark.parametrize(
    ("events", "size", "running", "expected"),
    [
        (0, 0, 0, (10, 10, 0)),
        (3, 200, 0, (10, 7, 1)),
        (2, 300, 0, (1000, 700, 1)),
        (2, 300, 2, (4, 2, 0)),
        (2, 300, 4, (4, 0, 1)),
        (30, 300, 4, (10, 0, 3)),
        (30, 5000, 4, (1000, 0, 5)),
        (9, 1000, 0, (1000, 0, 1)),
        (10, 1050, 0, (10, 0, 1)),
    ],
)
def test_the_fields_are_of_the_quota_that_is_closest_to_its_end(
    events: int, size: int, running: int, expected: tuple[int, int, int]
) -> None:
    """By share, not by number; of exhausted ones the one with the longest wait."""
    quota = Quota(events_per_second=10, bytes_per_second=1000, concurrent_requests=4)
    quota.charge(UPTIME, events=events, size=size)
    for _ in range(running):
        quota.enter()
    assert fields(quota, UPTIME) == expected


@pytest.mark.parametrize(
    ("limits", "policy"),
    [
        ({"events_per_second": 10}, "10;w=1;ingest-unit=events"),
        ({"bytes_per_second": 1000}, "1000;w=1;ingest-unit=bytes"),
        ({"concurrent_requests": 4}, "4;w=0;ingest-unit=requests"),
        (
            {"events_per_second": 10, "bytes_per_second": 1000, "concurrent_requests": 4},
            "10;w=1;ingest-unit=events, 1000;w=1;ingest-unit=bytes, 4;w=0;ingest-unit=requests",
        ),
        ({"events_per_second": 10, "concurrent_requests": 10}, "10;w=1;ingest-unit=events"),
    ],
)
def test_every_quota_is_a_policy(limits: dict[str, int], policy: str) -> None:
    """Named whatever the state is, except a second one of the same number, which is forbidden."""
    quota = Quota(**limits)
    quota.charge(UPTIME, events=50, size=50_000)
    assert quota.headers(UPTIME)["RateLimit-Policy"] == policy


@settings(deadline=None)  # the machine may be busy
@given(
    limits=st.tuples(*[st.integers(0, 10**9)] * 3).filter(any),
    charges=st.lists(
        st.tuples(st.floats(0, 3), st.integers(0, 10**7), st.integers(0, 10**7)), max_size=10
    ),
    running=st.integers(0, 5),
)
def test_nothing_remains_exactly_where_a_request_is_refused(
    limits: tuple[int, int, int], charges: list[tuple[float, int, int]], running: int
) -> None:
    """And then Reset is Retry-After: a client that keeps to either is served."""
    events_per_second, bytes_per_second, concurrent_requests = limits
    quota, now = (
        Quota(
            events_per_second=events_per_second,
            bytes_per_second=bytes_per_second,
            concurrent_requests=concurrent_requests,
        ),
        UPTIME,
    )
    for _ in range(running):
        quota.enter()
    for delay, events, size in charges:
        now += delay
        quota.charge(now, events=events, size=size)
    limit, remaining, reset = fields(quota, now)
    verdict = quota.exceeded(now)
    assert limit in limits
    assert 0 <= remaining <= limit
    assert (remaining == 0) is (verdict is not None)
    if verdict is None:
        assert reset in {0, 1}
    else:
        assert limit == limits[(*RATES, "concurrent_requests").index(verdict.quota)]
        assert reset == whole_seconds(verdict.retry_after) >= 1


@pytest.mark.parametrize(
    ("seconds", "whole"),
    [(0.0, 0), (1e-9, 0), (1e-3, 1), (0.999, 1), (1.0, 1), (1.0 + 1e-9, 1), (1.001, 2), (60.5, 61)],
)
def test_whole_seconds_are_never_too_few(seconds: float, whole: int) -> None:
    """A rounding error is not a second."""
    assert whole_seconds(seconds) == whole
