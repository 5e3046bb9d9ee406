"""The in-flight budget: never over its limit unasked, never negative, heard at its marks, fair."""

from __future__ import annotations

from itertools import cycle, islice
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from ingest.inflight import Budget, Holder, Lease

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


def reserved(budget: Budget, size: int, holder: Holder | None = None) -> Lease:
    """A lease that must be there."""
    lease = budget.reserve(size, holder)
    assert lease is not None
    return lease


def filled(budget: Budget, holder: Holder, size: int = 1) -> list[Lease]:
    """As many leases as a greedy client gets."""
    leases = []
    while (lease := budget.reserve(size, holder)) is not None:
        leases.append(lease)
    return leases


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


def test_marks_between_two_bytes_are_kept() -> None:
    """Of 15 bytes, 13.5 are reached with 14, and 10.5 are undercut with 10."""
    heard: list[str] = []
    budget = Budget(
        15, on_pause=lambda: heard.append("pause"), on_resume=lambda: heard.append("resume")
    )
    lease = reserved(budget, 13)
    assert heard == []
    steps = [lease.resize(size) and list(heard) for size in (14, 11, 10)]
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


# Shares: one client cannot use up the budget.


@pytest.mark.parametrize(
    ("others", "held", "size", "fits"),
    [
        (0, None, 1000, True),
        (0, None, 1001, False),
        (600, None, 400, True),
        (600, None, 401, False),
        (0, 0, 500, True),
        (0, 0, 501, False),
        (0, 100, 400, True),
        (0, 100, 401, False),
        (0, 500, 0, True),
        (0, 500, 1, False),
        (0, 501, 0, False),
        (400, 100, 200, True),
        (400, 100, 201, False),
        (900, 50, 0, True),
        (900, 51, 0, False),
    ],
)
def test_a_client_grows_to_what_is_left_free_afterwards(
    others: int,
    held: int | None,
    size: int,
    fits: bool,  # noqa: FBT001
) -> None:
    """Whoever holds nothing gets what fits; a refusal books nothing."""
    budget = Budget(LIMIT)
    holder = budget.holder("client")
    if held is not None:
        reserved(budget, held, holder)
    reserved(budget, others)
    before = (budget.used_bytes, holder.held_bytes, holder.leases)
    assert before == (others + (held or 0), held or 0, int(held is not None))
    assert (budget.reserve(size, holder) is not None) is fits
    used, own, leases = before
    after = (budget.used_bytes, holder.held_bytes, holder.leases)
    assert after == ((used + size, own + size, leases + 1) if fits else before)


@pytest.mark.parametrize(
    ("others", "second", "size", "force", "fits"),
    [
        (0, None, 1000, False, True),
        (0, None, 1001, False, False),
        (0, None, 1001, True, True),
        (700, None, 300, False, True),
        (700, None, 301, False, False),
        (0, 100, 400, False, True),
        (0, 100, 401, False, False),
        (0, 100, 401, True, True),
        (0, 0, 500, False, True),
        (0, 0, 501, False, False),
        (400, 100, 200, False, True),
        (400, 100, 201, False, False),
        (0, 400, 50, False, True),
        (850, 50, 100, False, True),
        (850, 50, 101, False, False),
    ],
)
def test_only_a_clients_single_lease_grows_to_all_that_fits(
    others: int,
    second: int | None,
    size: int,
    force: bool,  # noqa: FBT001
    fits: bool,  # noqa: FBT001
) -> None:
    """With further leases the sum is bound as if it asked for another; shrinking is free."""
    budget = Budget(LIMIT)
    holder = budget.holder("client")
    lease = reserved(budget, 100, holder)
    rest = 0 if second is None else second
    if second is not None:
        reserved(budget, second, holder)
    reserved(budget, others)
    assert lease.resize(size, force=force) is fits
    held = size if fits else 100
    assert holder.held_bytes == held + rest
    assert budget.used_bytes == held + rest + others
    lease.release()
    assert holder.held_bytes == rest
    assert holder.leases == (second is not None)


def test_a_client_over_its_share_can_shrink_and_give_back() -> None:
    """What others took meanwhile does not hold fast what it has."""
    budget = Budget(LIMIT)
    holder = budget.holder("client")
    first, second = reserved(budget, 250, holder), reserved(budget, 250, holder)
    reserved(budget, 500)
    assert first.resize(250)
    assert first.resize(249)
    assert not first.resize(250)
    first.release()
    first.release()
    assert (holder.held_bytes, holder.leases, budget.used_bytes) == (250, 1, 750)
    assert second.resize(500)
    assert not second.resize(501)


def test_a_forced_resize_is_booked_on_its_holder() -> None:
    """Bytes that are held count against the next request, whatever the rule says."""
    budget = Budget(LIMIT)
    holder = budget.holder("client")
    lease = reserved(budget, 1, holder)
    assert lease.resize(2000, force=True)
    assert (holder.held_bytes, budget.used_bytes) == (2000, 2000)
    assert budget.reserve(0, holder) is None
    lease.release()
    assert (holder.held_bytes, budget.used_bytes) == (0, 0)
    reserved(budget, LIMIT, holder)


def test_a_holder_is_the_same_while_it_is_kept() -> None:
    """Two connections of one client share one share, also before it holds anything."""
    budget = Budget(LIMIT)
    kept = budget.holder("client")
    assert budget.holder("client") is kept
    assert budget.holder("other") is not kept
    assert (kept.name, kept.held_bytes, kept.leases) == ("client", 0, 0)


def test_a_holder_is_the_same_while_it_holds_anything() -> None:
    """A client that comes back on another connection meets what it has in flight."""
    budget = Budget(LIMIT)
    lease = reserved(budget, 400, budget.holder("client"))
    assert budget.holder("client").held_bytes == 400
    assert budget.reserve(101, budget.holder("client")) is None
    lease.release()
    assert budget.holder("client").held_bytes == 0


def test_holders_that_nobody_needs_are_forgotten() -> None:
    """Not even leases that are kept after their release remember an address."""
    budget = Budget(LIMIT)
    spent = []
    for number in range(1000):
        budget.holder(f"looked up {number}")
        spent.append(reserved(budget, 1, budget.holder(f"held {number}")))
        spent[-1].release()
    assert len(budget._holders) == 0


@pytest.mark.parametrize("clients", [1, 2, 3, 4, 9])
def test_greedy_clients_share_alike_and_leave_as_much(clients: int) -> None:
    """One has at most half, n have limit / (n + 1) each, and a newcomer finds the same free."""
    budget = Budget(10_000)
    holders = [budget.holder(str(number)) for number in range(clients)]
    leases = [budget.reserve(1, holder) for holder in islice(cycle(holders), 30_000)]
    share = 10_000 / (clients + 1)
    assert all(abs(holder.held_bytes - share) <= clients for holder in holders)
    free = budget.limit_bytes - budget.used_bytes
    assert abs(free - share) <= clients
    assert budget.reserve(free, budget.holder("newcomer")) is not None
    assert len(leases) == 30_000


def test_an_early_greedy_client_falls_back_to_its_share() -> None:
    """As its requests end, a second one gets as much as it has, though both ask all the time."""
    budget, random = Budget(1000), Random(1)
    first, second = budget.holder("first"), budget.holder("second")
    held = filled(budget, first)
    assert first.held_bytes == 500
    held += filled(budget, second)
    assert second.held_bytes == 250
    for _ in range(10_000):
        held.pop(random.randrange(len(held))).release()
        for holder in (first, second):
            lease = budget.reserve(1, holder)
            if lease is not None:
                held.append(lease)
    assert first.held_bytes == pytest.approx(333, abs=2)
    assert second.held_bytes == pytest.approx(333, abs=2)


@settings(deadline=None)  # the machine may be busy
@given(
    steps=st.lists(
        st.tuples(st.integers(0, 4), st.sampled_from(["fill", "free"]), st.integers(1, 500)),
        max_size=40,
    )
)
def test_a_newcomer_finds_room_however_greedy_others_are(
    steps: list[tuple[int, str, int]],
) -> None:
    """With n of them, in any order of filling and freeing, at least limit / 2**n is left.

    Whoever grew last left as much free as it has; who grew before that, as much as it has less what
    was taken since; and so on.
    """
    budget = Budget(1024)
    holders = [budget.holder(str(number)) for number in range(5)]
    held: list[list[Lease]] = [[] for _ in holders]
    for who, what, count in steps:
        for _ in range(count):
            if what == "free" and held[who]:
                held[who].pop().release()
            elif what == "fill" and (lease := budget.reserve(1, holders[who])) is not None:
                held[who].append(lease)
        active = sum(1 for leases in held if leases)
        newcomer = reserved(budget, 1024 >> active, budget.holder("newcomer"))
        newcomer.release()


class SharesMachine(RuleBasedStateMachine):
    """Any order of reservations by some clients and nobody, against plain sums."""

    leases = Bundle("leases")
    names = st.sampled_from([None, "a", "b", "c"])
    sizes = st.one_of(st.integers(0, 100), st.integers(0, 1100))

    def __init__(self) -> None:
        super().__init__()
        self.budget = Budget(LIMIT)
        self.held: dict[Lease, tuple[str | None, int]] = {}
        self.forced = False

    def of(self, name: str | None) -> list[int]:
        """The sizes of a client's leases."""
        return [size for owner, size in self.held.values() if owner == name]

    def allows(self, name: str | None, more: int, *, others: bool) -> bool:
        """The rule: room for all, and for a client with other leases no more than is left."""
        free = LIMIT - sum(size for _, size in self.held.values()) - more
        bound = name is not None and others
        return free >= 0 and not (bound and sum(self.of(name)) + more > free)

    @rule(target=leases, name=names, size=sizes)
    def reserve(self, name: str | None, size: int) -> Lease | None:
        """A lease is there exactly where the rule gives it."""
        allowed = self.allows(name, size, others=bool(self.of(name)))
        holder = None if name is None else self.budget.holder(name)
        lease = self.budget.reserve(size, holder)
        assert (lease is not None) is allowed
        if lease is not None:
            self.held[lease] = (name, size)
        return lease

    @rule(lease=leases, size=sizes, force=st.sampled_from([False, False, False, True]))
    def resize(self, lease: Lease | None, size: int, force: bool) -> None:  # noqa: FBT001
        """It grows where the rule allows it or it must, and shrinks always."""
        if lease is None:
            return
        name, before = self.held[lease]
        more = size - before
        allowed = more <= 0 or self.allows(name, more, others=len(self.of(name)) > 1)
        assert lease.resize(size, force=force) is (allowed or force)
        if allowed or force:
            self.held[lease] = (name, size)
        self.forced |= force and not allowed

    @rule(lease=consumes(leases))
    def release(self, lease: Lease | None) -> None:
        """Everything is given back, once."""
        if lease is not None:
            lease.release()
            lease.release()
            del self.held[lease]

    @invariant()
    def the_shares_add_up(self) -> None:
        """Every byte in use is some holder's or nobody's."""
        for name in ("a", "b", "c"):
            holder = self.budget.holder(name)
            assert holder.held_bytes == sum(self.of(name))
            assert holder.leases == len(self.of(name))
        named = sum(holder.held_bytes for holder in self.budget._holders.values())
        assert named + sum(self.of(None)) == self.budget.used_bytes

    @invariant()
    def nobody_is_over_the_limit_or_half_of_it(self) -> None:
        """Unless bytes were forced; half is for those with more than one lease."""
        if self.forced:
            return
        assert self.budget.used_bytes <= LIMIT
        for name in ("a", "b", "c"):
            assert len(self.of(name)) < 2 or 2 * sum(self.of(name)) <= LIMIT

    def teardown(self) -> None:
        """When all is released, nothing is used, and nobody is remembered."""
        for lease in self.held:
            lease.release()
        assert self.budget.used_bytes == 0
        assert len(self.budget._holders) == 0


TestSharesMachine = SharesMachine.TestCase


# Bytes that are here already.


def test_what_is_here_already_is_booked_whatever_the_limit_says() -> None:
    """It counts for its holder and at the marks, and is given back like any lease."""
    budget, heard = loud_budget()
    holder = budget.holder("logs")
    leases = [budget.book(800, holder), budget.book(800, holder)]
    assert (budget.used_bytes, holder.held_bytes, holder.leases) == (1600, 1600, 2)
    assert (heard, budget.paused) == (["pause"], True)
    for lease in leases:
        lease.release()
    assert (budget.used_bytes, holder.held_bytes, holder.leases) == (0, 0, 0)
    assert (heard, budget.paused) == (["pause", "resume"], False)


def test_a_holder_exceeds_its_share_with_more_than_is_left() -> None:
    """So that one holder alone stops at half, and each of two at a third."""
    budget, _ = loud_budget()
    one, other = budget.holder("one"), budget.holder("other")
    budget.book(500, one)
    assert not budget.exceeds_share(one)
    budget.book(1, one)
    assert budget.exceeds_share(one)
    assert not budget.exceeds_share(other)
    budget.book(250, other)
    assert budget.exceeds_share(other)
