"""Sources: who may write to which, and where their events go."""

from __future__ import annotations

import pytest

from ingest.sources import Client, Source, Sources, name_pattern, pointer_tokens


@pytest.mark.parametrize(
    ("globs", "covered", "others"),
    [
        (["orders"], ["orders"], ["order", "orders2", "Orders", "xorders", "orders\n", ""]),
        (["shop-*"], ["shop-", "shop-1", "shop-a-b"], ["shop", "shops-1", "xshop-1"]),
        (["*"], ["", "a", "any.thing_at-all"], []),
        (["*-log"], ["web-log", "-log"], ["web-logs", "log"]),
        (["a*c"], ["ac", "abc", "abcc"], ["a", "ab", "xabc"]),
        (["a*b*c"], ["abc", "a1b2c"], ["acb"]),
        (["a", "b-*"], ["a", "b-1"], ["ab-1", "a|b-", "b"]),
        (["a.b"], ["a.b"], ["axb"]),
        (["a?", "[ab]", "a{1,2}", "a+"], ["a?", "[ab]", "a+"], ["ax", "a", "b", "aa"]),
        ([], [], ["", "a"]),
    ],
)
def test_patterns_cover_whole_names_and_only_the_star_is_special(
    globs: list[str], covered: list[str], others: list[str]
) -> None:
    """What looks like a regular expression or another glob is taken as it is written."""
    client = Client("shop", name_pattern(globs))
    assert [name for name in [*covered, *others] if client.covers(name)] == covered


@pytest.mark.parametrize(
    ("pointer", "tokens"),
    [
        ("/customer_id", ("customer_id",)),
        ("/a/b/0", ("a", "b", "0")),
        ("/", ("",)),
        ("/a/", ("a", "")),
        ("/a~1b/m~0n", ("a/b", "m~n")),
        ("/~01", ("~1",)),
        ("/~10", ("/0",)),
        ("/é~0~1", ("é~/",)),
    ],
)
def test_a_pointer_is_cut_and_unescaped_as_rfc_6901_says(
    pointer: str, tokens: tuple[str, ...]
) -> None:
    """``~1`` is undone before ``~0``, so that ``~01`` means ``~1``."""
    assert pointer_tokens(pointer) == tokens


def test_sources_are_found_by_their_exact_name() -> None:
    """Unknown names give None, and nothing is case-insensitive."""
    orders, logs = Source("orders", "t1", "order.created"), Source("logs", "t2", "logs")
    sources = Sources([orders, logs])
    assert [sources.get(name) for name in ("orders", "logs", "Orders", "")] == [
        orders,
        logs,
        None,
        None,
    ]
    assert list(sources) == [orders, logs]


def test_a_source_is_taken_over_http_and_has_no_key_unless_it_is_said() -> None:
    """Only sources of syslog are not."""
    source = Source("orders", "orders", "orders")
    assert (source.over_http, source.key) == (True, None)


def test_a_shared_topic_is_listed_once() -> None:
    """Topics are prepared once each, however many sources write to them."""
    names = [("a", "shared"), ("b", "alone"), ("c", "shared")]
    sources = Sources([Source(name, topic, name) for name, topic in names])
    assert sources.topics == ["alone", "shared"]
