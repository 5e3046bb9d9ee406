"""Sources: who may write to which, and where their events go."""

from __future__ import annotations

from time import thread_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.sources import Client, Source, name_pattern, pointer_tokens


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


def covers(glob: str, name: str) -> bool:
    """The same by the definition: a star stands for any text, the rest for itself."""
    if not glob:
        return not name
    if glob[0] == "*":
        return any(covers(glob[1:], name[at:]) for at in range(len(name) + 1))
    return name[:1] == glob[0] and covers(glob[1:], name[1:])


@given(st.text("ab*", min_size=1, max_size=6), st.text("ab", max_size=8))
def test_a_star_stands_for_any_text(glob: str, name: str) -> None:
    """However many there are, and whatever is between them."""
    assert bool(name_pattern([glob]).fullmatch(name)) == covers(glob, name)


def test_no_name_takes_long() -> None:
    """Whatever globs a key has: names come from clients."""
    pattern, name = name_pattern(["*-*-*-*-prod", "*-a*-b*-c"]), "-" * 8000
    begun = thread_time()
    assert pattern.fullmatch(name) is None
    assert thread_time() - begun < 0.05


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


def test_a_source_is_taken_over_http_and_has_no_key_unless_it_is_said() -> None:
    """Only sources of syslog are not."""
    source = Source("orders", "orders", "orders")
    assert (source.over_http, source.key) == (True, None)
