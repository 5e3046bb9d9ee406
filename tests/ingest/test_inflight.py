"""The in-flight budget: never over its limit unasked, never negative, and heard at its marks."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from ingest.inflight import Budget, Lease

LIMIT = 1000


def loud_budget() -> tuple[Budget, list[str]]:
    """A budget of 1000 bytes with marks at 900 and 700, and what it called."""
    heard: list[str] = []
    budget = Budget(
        LIMIT,
        high=0.9,
        low=0.7,
        on_pause=lambda: heard.append("pause"),
        on_resume=lambda: heard.append("resume"),
    )
    return budget, heard


def reserved(budget: Budget, size: int) -> Lease:
    """A lease that must be there."""
    lease = budget.reserve(size)
    assert lease is not None
    return lease


@pytest.mark.parametrize(("size", "fits"), [(0, True), (599, True), (600, True), (601, False)])
def test_a_lease_is_given_up_to_the_limit(size: int, fits: bool) -> None:  # noqa: FBT001
    """The last byte counts, and a refusal books nothing."""
    budget = Budget(LIMIT)
    reserved(budget, 400)
    assert (budget.reserve(size) is not None) is fits
    assert budget.used_bytes == 400 + size * fits


def test_a_released_lease_makes_room_once() -> None:
    """A second release does nothing: nobody else's bytes are given away."""
    budget = Budget(LIMIT)
    first, second = reserved(budget, 600), reserved(budget, 300)
    first.release()
    first.release()
    assert budget.used_bytes == 300
    second.release()
    assert budget.used_bytes == 0


@pytest.mark.parametrize(
    ("size", "force", "done", "used"),
    [
        (0, False, True, 500),
        (100, False, True, 600),
        (500, False, True, 1000),
        (501, False, False, 600),
        (501, True, True, 1001),
    ],
)
def test_a_lease_is_resized_within_the_limit_unless_forced(
    size: int,
    force: bool,  # noqa: FBT001
    done: bool,  # noqa: FBT001
    used: int,
) -> None:
    """Shrinking always works; bytes that are held already can be booked beyond the limit."""
    budget = Budget(LIMIT)
    reserved(budget, 500)
    lease = reserved(budget, 100)
    assert lease.resize(size, force=force) is done
    assert budget.used_bytes == used
    lease.release()
    assert budget.used_bytes == 500


def test_a_lease_is_not_forced_unless_it_is_said() -> None:
    """The limit is what holds by default."""
    lease = reserved(Budget(LIMIT), 100)
    assert not lease.resize(LIMIT + 1)
    assert lease.resize(LIMIT)


def test_a_lease_over_the_limit_can_shrink() -> None:
    """Whoever gives back is never refused, even while the budget is overdrawn."""
    budget = Budget(LIMIT)
    lease = reserved(budget, 1000)
    assert lease.resize(3000, force=True)
    assert lease.resize(2000)
    assert budget.used_bytes == 2000
    assert budget.reserve(0) is None


@pytest.mark.parametrize("force", [False, True])
def test_a_released_lease_cannot_be_resized(force: bool) -> None:  # noqa: FBT001
    """What is over is over: no bytes are booked that nobody would give back."""
    budget = Budget(LIMIT)
    lease = reserved(budget, 100)
    lease.release()
    assert not lease.resize(50, force=force)
    assert budget.used_bytes == 0


def test_pause_is_told_at_the_high_mark_and_resume_at_the_low_one() -> None:
    """Each once per crossing, and neither in between."""
    budget, heard = loud_budget()
    lease = reserved(budget, 899)
    assert heard == []
    lease.resize(900)
    lease.resize(1000)
    assert heard == ["pause"]
    lease.resize(701)
    lease.resize(999)
    assert heard == ["pause"]
    lease.resize(700)
    assert heard == ["pause", "resume"]
    lease.resize(899)
    assert heard == ["pause", "resume"]
    lease.resize(900)
    lease.release()
    assert heard == ["pause", "resume"] * 2


def test_the_default_marks_are_nine_and_seven_tenths() -> None:
    """Reading pauses before the limit refuses anybody, and resumes well below."""
    heard: list[str] = []
    budget = Budget(
        LIMIT, on_pause=lambda: heard.append("pause"), on_resume=lambda: heard.append("resume")
    )
    lease = reserved(budget, 899)
    sizes = [900, 701, 700]
    steps = [lease.resize(size) and list(heard) for size in sizes]
    assert steps == [["pause"], ["pause"], ["pause", "resume"]]


def test_whoever_is_told_finds_the_use_up_to_date() -> None:
    """A callable may look at the budget, and reserve from it, while it is called."""
    seen: list[int] = []
    budget = Budget(
        LIMIT,
        on_pause=lambda: seen.append(budget.used_bytes),
        on_resume=lambda: seen.append(reserved(budget, 10) and budget.used_bytes),
    )
    reserved(budget, 950).release()
    assert seen == [950, 10]
    assert budget.used_bytes == 10


class BudgetMachine(RuleBasedStateMachine):
    """Any order of reservations, resizes and releases, against a plain sum."""

    leases = Bundle("leases")
    spent = Bundle("spent")

    def __init__(self) -> None:
        super().__init__()
        self.budget, self.heard = loud_budget()
        self.held: dict[Lease, int] = {}
        self.paused = False

    @rule(target=leases, size=st.integers(0, 1100))
    def reserve(self, size: int) -> Lease | None:
        """A lease is there exactly when it fits."""
        fits = self.budget.used_bytes + size <= LIMIT
        lease = self.budget.reserve(size)
        assert (lease is not None) is fits
        if lease is not None:
            self.held[lease] = size
        return lease

    @rule(lease=leases, size=st.integers(0, 1100), force=st.booleans())
    def resize(self, lease: Lease | None, size: int, force: bool) -> None:  # noqa: FBT001
        """A lease grows where it fits or must, and shrinks always."""
        if lease is None:
            return
        more = size - self.held[lease]
        fits = more <= 0 or force or self.budget.used_bytes + more <= LIMIT
        assert lease.resize(size, force=force) is fits
        if fits:
            self.held[lease] = size

    @rule(target=spent, lease=consumes(leases))
    def release(self, lease: Lease | None) -> Lease | None:
        """Everything is given back."""
        if lease is not None:
            lease.release()
            del self.held[lease]
        return lease

    @rule(lease=spent)
    def release_again(self, lease: Lease | None) -> None:
        """Nothing more is given back."""
        if lease is not None:
            lease.release()

    @invariant()
    def the_use_is_the_sum_of_what_is_held(self) -> None:
        """So it is never negative."""
        assert self.budget.used_bytes == sum(self.held.values()) >= 0

    @invariant()
    def the_calls_alternate_and_tell_the_truth(self) -> None:
        """Paused from the high mark on, until the low one."""
        used = self.budget.used_bytes
        self.paused = used > 700 if self.paused else used >= 900
        assert self.heard == (["pause", "resume"] * len(self.heard))[: len(self.heard)]
        assert (len(self.heard) % 2 == 1) is self.paused


TestBudgetMachine = BudgetMachine.TestCase
