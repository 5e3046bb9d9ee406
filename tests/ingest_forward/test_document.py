"""A document that is decoded only where somebody looks: pointers into it, and what they change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from ingest_forward.document import (
    find,
    has_twins,
    node_of,
    opened,
    pop,
    pruned,
    put,
    replace,
    text_of,
    tree_of,
    without_twins,
)
from tests.ingest_forward.engine import TOKENS, spelled, texts

if TYPE_CHECKING:
    from ingest_forward.document import Node, Tokens

DATA = b'{"a":{"b":[10,{"c":"x"}],"":1},"a/b":2,"m~n":3,"":{"":4},"0":5,"n":null,"s":"text"}'
MISSING = object()


def root(text: bytes) -> Node:
    """A document, opened so far as an event's data are."""
    return opened(Raw(text))


def found(text: bytes, *tokens: str) -> bytes | None:
    """The JSON text at a pointer."""
    node = find(root(text), tokens)
    return None if node is None else text_of(node)


@pytest.mark.parametrize(
    ("tokens", "wanted"),
    [
        ((), DATA),
        (("a/b",), b"2"),
        (("m~n",), b"3"),
        (("",), b'{"":4}'),
        (("", ""), b"4"),
        (("a", ""), b"1"),
        (("0",), b"5"),
        (("a", "b"), b'[10,{"c":"x"}]'),
        (("a", "b", "0"), b"10"),
        (("a", "b", "1", "c"), b'"x"'),
        (("n",), b"null"),
        (("x",), None),
        (("a", "x"), None),
        (("x", "y"), None),
        (("n", "x"), None),
        (("s", "0"), None),
        (("a", "b", "2"), None),
        (("a", "b", "-"), None),
        (("a", "b", "-1"), None),
        (("a", "b", "01"), None),
        (("a", "b", "00"), None),
        (("a", "b", "+1"), None),
        (("a", "b", " 1"), None),
        (("a", "b", "1.0"), None),
        (("a", "b", "x"), None),
        (("a", "b", ""), None),
        (("a", "b", "\u0661"), None),
        (("a", "b", "1" * 5000), None),
    ],
)
def test_what_is_at_a_pointer(tokens: Tokens, wanted: bytes | None) -> None:
    """Members by name, elements by an index without zeros before it (RFC 6901, section 4)."""
    assert found(DATA, *tokens) == wanted


def test_finding_changes_nothing() -> None:
    """What was opened on the way is not kept: others see the same document."""
    document = root(DATA)
    before = dict(document)
    find(document, ("a", "b", "1", "c"))
    assert document == before


def test_names_are_found_however_they_are_spelled() -> None:
    """Escapes in a name are no other name."""
    assert found(b'{"\\u0061\\/b":{"q\\"":1}}', "a/b", 'q"') == b"1"


def test_of_twins_the_last_counts() -> None:
    """As in every parser that sinks use."""
    assert found(b'{"a":{"b":1},"a":{"b":2,"\\u0062":3}}', "a", "b") == b"3"


def test_values_keep_their_text() -> None:
    """White space around a value is not part of it; inside it is."""
    text = b'{"a" : \t{ "b" : [ 1 ] }\n, "c" : 1.50 }'
    assert found(text, "a") == b'{ "b" : [ 1 ] }'
    assert found(text, "a", "b") == b"[ 1 ]"
    assert found(text, "c") == b"1.50"


@pytest.mark.parametrize("text", [b"null", b"true", b"1", b'"x"'])
def test_a_scalar_has_nothing_in_it(text: bytes) -> None:
    """It stays as it is, and no pointer leads into it."""
    node = root(text)
    assert text_of(node) == text
    assert find(node, ("a",)) is None
    assert pop(node, ("a",)) is None
    assert not replace(node, ("a",), node_of(1))
    assert not put(node, ("a",), node_of(1))
    assert pruned(node, tree_of([("a",)])) is None


def test_nothing_is_in_nothing() -> None:
    """An event may have no data."""
    assert find(None, ("a",)) is None
    assert pop(None, ("a", "b")) is None
    assert not replace(None, ("a",), node_of(1))
    assert not put(None, ("a", "b"), node_of(1))


@pytest.mark.parametrize("text", [b'{"a":"\\q"}', b'{"a":01}', b'{"a":[1,]}', b"[1 2]", b"{"])
def test_what_is_no_json_is_no_document(text: bytes) -> None:
    """Also where only a part of it that nobody asks for is not."""
    with pytest.raises(msgspec.DecodeError):
        root(text)


@pytest.mark.parametrize(
    ("pointers", "tree"),
    [
        ([], {}),
        ([("a",)], {"a": {}}),
        ([("a", "b"), ("a", "c")], {"a": {"b": {}, "c": {}}}),
        ([("a", "b"), ("a",)], {"a": {}}),
        ([("a",), ("a", "b")], {"a": {}}),
        ([("a", "b", "c"), ("a", "b"), ("a", "b")], {"a": {"b": {}}}),
        ([("",)], {"": {}}),
    ],
)
def test_pointers_as_a_tree(pointers: list[Tokens], tree: dict[str, Any]) -> None:
    """One that leads into what another has as a whole adds nothing, in any order."""
    assert tree_of(pointers) == tree


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (b"1", False),
        (b"{}", False),
        (b'{"a":{"a":{"a":1}},"b":[{"a":1},{"a":1}]}', False),
        (b'{"a":"{\\"b\\":1,\\"b\\":1}"}', False),
        (b'{"a":1,"a":1}', True),
        (b'{"a":1,"\\u0061":2}', True),
        (b'{"a":[{"b":{"c":1,"d":2,"c":3}}]}', True),
        (b'{"a":%b,"b":1e999}' % (b"1" * 5000), False),
    ],
)
def test_twins_are_members_of_one_object_with_one_name(text: bytes, wanted: bool) -> None:  # noqa: FBT001
    """However deep, and however their name is spelled."""
    assert has_twins(text) is wanted


def test_twins_can_be_left_out() -> None:
    """All the way down; everything else keeps its text."""
    text = b'{"a":1,"a":{"b":1.50,"b":"\\u0041"},"c":[{"d":1,"d":2}, 3 ]}'
    assert text_of(without_twins(Raw(text))) == b'{"a":{"b":"\\u0041"},"c":[{"d":2},3]}'


# Against a model of Python values.


def value_at(node: Any, tokens: Tokens) -> Any:
    """What is at a pointer; MISSING where nothing is."""
    for token in tokens:
        if isinstance(node, dict):
            node = node.get(token, MISSING)
        elif isinstance(node, list) and token in [str(at) for at in range(len(node))]:
            node = node[int(token)]
        else:
            return MISSING
    return node


def value_of(node: Node) -> Any:
    """A node as a Python value."""
    return MISSING if node is None else spelled(text_of(node))


def set_at(node: Any, tokens: Tokens, value: Any) -> None:
    """Set what is at a pointer whose holder is there."""
    holder = value_at(node, tokens[:-1])
    holder[int(tokens[-1]) if isinstance(holder, list) else tokens[-1]] = value


@settings(max_examples=120, deadline=None, derandomize=True)
@given(texts(twins=True), TOKENS)
def test_find_is_what_the_model_finds(text: bytes, tokens: Tokens) -> None:
    """In any document, for any pointer."""
    assert value_of(find(root(text), tokens)) == value_at(spelled(text), tokens)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(texts(twins=True), TOKENS)
def test_pop_takes_out_what_find_finds(text: bytes, tokens: Tokens) -> None:
    """Nothing else goes with it, and where nothing is, not a byte changes."""
    document, model = root(text), spelled(text)
    before = text_of(document)
    taken = pop(document, tokens)
    assert value_of(taken) == value_at(model, tokens)
    if taken is None:
        assert text_of(document) == before
    else:
        holder = value_at(model, tokens[:-1])
        del holder[int(tokens[-1]) if isinstance(holder, list) else tokens[-1]]
    assert value_of(document) == model


@settings(max_examples=120, deadline=None, derandomize=True)
@given(texts(twins=True), TOKENS)
def test_replace_changes_what_find_finds(text: bytes, tokens: Tokens) -> None:
    """And says whether something was there; where nothing is, not a byte changes."""
    document, model = root(text), spelled(text)
    before, there = text_of(document), value_at(model, tokens) is not MISSING
    assert replace(document, tokens, Raw(b'"new"')) is there
    if there:
        set_at(model, tokens, "new")
    else:
        assert text_of(document) == before
    assert value_of(document) == model


@settings(max_examples=150, deadline=None, derandomize=True)
@given(texts(twins=True), TOKENS)
def test_put_makes_the_objects_that_are_missing(text: bytes, tokens: Tokens) -> None:
    """It overwrites what is there; where it cannot be, it says so, and not a byte changes."""
    document, model = root(text), spelled(text)
    before = text_of(document)
    deepest = max(
        at for at in range(len(tokens) + 1) if value_at(model, tokens[:at]) is not MISSING
    )
    there = deepest == len(tokens)
    possible = there or isinstance(value_at(model, tokens[:deepest]), dict)
    assert put(document, tokens, Raw(b'"new"')) is possible
    if possible:
        value: Any = "new"
        for token in reversed(tokens[deepest + 1 :]):
            value = {token: value}
        set_at(model, tokens[: deepest + (not there)], value)
    else:
        assert text_of(document) == before
    assert value_of(document) == model


@settings(max_examples=120, deadline=None, derandomize=True)
@given(texts(twins=True), st.lists(TOKENS, min_size=1, max_size=3))
def test_pruned_has_what_the_pointers_lead_to(text: bytes, pointers: list[Tokens]) -> None:
    """All of that, and nothing that is on no way to it; the document itself stays as it is."""
    document = root(text)
    before = text_of(document)
    left = pruned(document, tree_of(pointers))
    assert text_of(document) == before
    assert value_of(left) == kept(spelled(text), pointers)


def kept(node: Any, pointers: list[Tokens]) -> Any:
    """What of a Python value is at these pointers."""
    if () in pointers:
        return node
    if not isinstance(node, dict | list):
        return MISSING
    pairs = node.items() if isinstance(node, dict) else enumerate(node)
    inner = [
        (name, kept(each, [tokens[1:] for tokens in pointers if tokens[0] == str(name)]))
        for name, each in pairs
    ]
    left = [(name, each) for name, each in inner if each is not MISSING]
    if not left:
        return MISSING
    return dict(left) if isinstance(node, dict) else [each for _, each in left]
