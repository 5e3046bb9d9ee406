"""A topic is another one when its id is, whatever its name says."""

from __future__ import annotations

import pytest

from ingest_forward.identities import Described, Identities

AT = ("orders", 0)
TELLS = {"orders": Described("new", 2)}
TOLD = {"orders": Described("old", 2)}


def committed(topic_id: str) -> str:
    """What is committed with an offset, by one who knew the topic's id."""
    known = Identities()
    known.begin(AT, "", {"orders": Described(topic_id, 1)})
    return known.metadata(AT)


@pytest.mark.parametrize(
    ("metadata", "described", "former"),
    [
        pytest.param(committed("old"), TELLS, True, id="another"),
        pytest.param(committed("new"), TELLS, False, id="the-same"),
        pytest.param(committed("old"), {}, False, id="the-cluster-does-not-say"),
        pytest.param("topic-id=", TELLS, False, id="nobody-knew-it"),
        pytest.param("", TELLS, False, id="nothing"),
        pytest.param("of somebody else", TELLS, False, id="not-ours"),
        pytest.param(None, TELLS, False, id="not-known-yet"),
    ],
)
def test_what_is_committed_may_be_of_a_former_topic(
    metadata: str | None,
    described: dict[str, Described],
    former: bool,  # noqa: FBT001 - pytest gives it by name
) -> None:
    """Where both ids are known, and differ."""
    assert Identities().begin(AT, metadata, described) is former


def test_what_is_committed_names_the_topic() -> None:
    """By the cluster's word; else by that of whoever committed before."""
    known = Identities()
    known.begin(AT, committed("old"), TELLS)
    assert known.metadata(AT) == committed("new")
    known.begin(AT, committed("old"), {})
    assert known.metadata(AT) == committed("old")
    assert known.metadata(("unheard", 0)) == committed("")


def test_a_topic_that_is_made_anew_is_noticed_once() -> None:
    """In each of its partitions."""
    known = Identities()
    for number in range(2):
        known.begin(("orders", number), "", TOLD)
    assert known.recreated(TOLD) == []
    assert known.recreated(TELLS) == [("orders", 0), ("orders", 1)]
    assert known.recreated(TELLS) == []
    assert known.metadata(AT) == committed("new")


def test_what_the_cluster_did_not_say_at_first_is_noticed_later() -> None:
    """What was committed is remembered until it does."""
    known = Identities()
    known.begin(AT, committed("old"), {})
    assert known.recreated({}) == []
    assert known.recreated(TELLS) == [AT]


def test_an_id_that_becomes_known_is_not_another() -> None:
    """Nothing was known before."""
    known = Identities()
    known.begin(AT, "", {})
    assert known.recreated(TOLD) == []
    assert known.recreated(TELLS) == [AT]


def test_what_nobody_could_say_at_first_is_learned_later() -> None:
    """Until then nothing is to be committed."""
    known = Identities()
    known.begin(AT, None, TELLS)
    assert known.unsure == {AT}
    known.learn(AT, committed("old"))
    assert (known.unsure, known.recreated(TELLS)) == (set(), [AT])
    known.begin(AT, None, TELLS)
    known.learn(AT, "")
    assert (known.unsure, known.recreated(TELLS)) == (set(), [])


def test_brokers_that_lag_behind_are_not_believed() -> None:
    """A topic that was left does not come back."""
    known = Identities()
    known.begin(AT, "", TOLD)
    told = [known.recreated(each) for each in (TELLS, TOLD, TELLS, TOLD, TELLS)]
    assert told == [[AT], [], [], [], []]
    assert not known.begin(AT, committed("new"), TOLD)
    assert known.metadata(AT) == committed("new")


def test_a_partition_that_is_no_more_is_not_read_anew() -> None:
    """The topic that has its name now has fewer."""
    known = Identities()
    known.begin(("orders", 1), "", TOLD)
    assert known.recreated({"orders": Described("new", 1)}) == []


def test_what_is_not_read_any_more_is_forgotten() -> None:
    """And does not count when it is read again."""
    known = Identities()
    known.begin(AT, None, TOLD)
    known.forget([AT])
    known.learn(AT, committed("old"))
    assert (known.unsure, known.recreated(TELLS)) == (set(), [])
    assert not known.begin(AT, "", TELLS)
