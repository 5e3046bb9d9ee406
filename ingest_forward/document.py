"""A JSON document that is decoded only where somebody looks, so that the rest stays as it was sent.

A node is what is known of a value: `msgspec.Raw`, its JSON text; a dict or a list of nodes, once it
was opened. Of members with the same name in an opened object the last counts, as in every parser
that sinks use: what was dropped or masked cannot hide behind a twin. Pure.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Raw

if TYPE_CHECKING:
    from collections.abc import Sequence

Node = Any
"""``Raw | dict[str, Node] | list[Node]``."""
Tokens = tuple[str, ...]
"""The reference tokens of a JSON Pointer (RFC 6901)."""

OBJECT = msgspec.json.Decoder(dict[str, Raw])
ARRAY = msgspec.json.Decoder(list[Raw])
STRING = msgspec.json.Decoder(str)
ENCODER = msgspec.json.Encoder()
BAD_JSON = (msgspec.MsgspecError, UnicodeError, RecursionError)
"""What opening a node raises where its text is no JSON after all, or too deep."""

INDEX = re.compile(r"0|[1-9][0-9]{0,8}")
"""The tokens that point to an element of an array."""


def opened(node: Node) -> Node:
    """An object as a dict, an array as a list, one level deep; everything else as it is."""
    if type(node) is not Raw:
        return node
    text = bytes(node)
    if text.startswith(b"{"):
        return OBJECT.decode(text)
    if text.startswith(b"["):
        return ARRAY.decode(text)
    return node


def text_of(node: Node) -> bytes:
    """The JSON text of a node."""
    return bytes(node) if type(node) is Raw else ENCODER.encode(node)


def node_of(value: Any) -> Raw:
    """The node of a Python value."""
    return Raw(ENCODER.encode(value))


def find(node: Node, tokens: Sequence[str]) -> Node | None:
    """What is at a pointer, None where nothing is; opens nothing for good."""
    if len(tokens) == 1 and type(node) is dict:  # the usual case
        return node.get(tokens[0])
    for token in tokens:
        node = _member(opened(node), token)
        if node is None:
            return None
    return node


def _member(container: Node, token: str) -> Node | None:
    if type(container) is dict:
        return container.get(token)
    if type(container) is list and (index := _index(container, token)) is not None:
        return container[index]
    return None


def _index(container: Sequence[Node], token: str) -> int | None:
    """The position of an element that is there (RFC 6901, section 4)."""
    if INDEX.fullmatch(token) is None or int(token) >= len(container):
        return None
    return int(token)


Way = list[tuple[Node, str, Node]]
"""From the root down: a container, a token, and what is there, opened."""


def _opened_for_good(way: Way) -> None:
    """Have everything on a way opened where it is: what is in the last is about to change."""
    for container, token, within in way:
        container[_place(container, token)] = within


def _place(container: Node, token: str) -> str | int:
    return token if type(container) is dict else int(token)


def _holder(root: Node, tokens: Tokens) -> Node | None:
    """The object or array that holds what is at a pointer; None where nothing is.

    Only then it is opened for good, with all on the way: what is opened is written anew.
    """
    way: Way = []
    for token in tokens[:-1]:
        within = opened(_member(root, token))
        way.append((root, token, within))
        root = within
    if _member(root, tokens[-1]) is None:
        return None
    _opened_for_good(way)
    return root


def pop(root: Node, tokens: Tokens) -> Node | None:
    """Take out what is at a pointer; None where nothing is."""
    holder = _holder(root, tokens)
    return None if holder is None else holder.pop(_place(holder, tokens[-1]))


def replace(root: Node, tokens: Tokens, node: Node) -> bool:
    """Put ``node`` in the place of what is at a pointer; whether something was."""
    if len(tokens) == 1 and type(root) is dict and tokens[0] in root:  # the usual case
        root[tokens[0]] = node
        return True
    holder = _holder(root, tokens)
    if holder is None:
        return False
    holder[_place(holder, tokens[-1])] = node
    return True


def put(root: Node, tokens: Tokens, node: Node) -> bool:
    """Set what is at a pointer, and make the objects on the way that are missing.

    Returns:
        False, and nothing was changed, where something on the way is no object, or an array
        without this element.
    """
    if len(tokens) == 1 and type(root) is dict:  # the usual case
        root[tokens[0]] = node
        return True
    way: Way = []
    last = tokens[-1]
    for depth, token in enumerate(tokens[:-1], start=1):
        found = _member(root, token)
        if found is None and type(root) is dict:
            for name in reversed(tokens[depth:]):
                node = {name: node}
            last = token
            break
        within = opened(found)
        way.append((root, token, within))
        root = within
    if type(root) is not dict and _member(root, last) is None:
        return False
    _opened_for_good(way)
    root[_place(root, last)] = node
    return True


def has_twins(text: bytes) -> bool:
    """Whether two members of some object in a JSON text have the same name."""
    found = False

    def look(members: list[tuple[str, Any]]) -> None:
        nonlocal found
        found = found or len(members) != len({name for name, _ in members})

    json.loads(text, object_pairs_hook=look, parse_int=str, parse_float=str)
    return found


def without_twins(node: Node) -> Node:
    """``node`` opened all the way down: of members with the same name only the last is left."""
    node = opened(node)
    if type(node) is dict:
        return {name: without_twins(each) for name, each in node.items()}
    return [without_twins(each) for each in node] if type(node) is list else node


Tree = dict[str, Any]
"""Pointers by their tokens: token -> the tree below it, which is empty where a pointer ends."""


def tree_of(pointers: Sequence[Tokens]) -> Tree:
    """Pointers as a tree; one that leads into what another has as a whole adds nothing."""
    tree: Tree = {}
    for tokens in sorted(pointers, key=len):
        below = tree
        for token in tokens:
            if token in below and not below[token]:
                break  # all of it is there already
            below = below.setdefault(token, {})
    return tree


def pruned(node: Node, tree: Tree) -> Node | None:
    """What of ``node`` the pointers of ``tree`` lead to, in its order; None: nothing."""
    if not tree:
        return node
    node = opened(node)
    if type(node) is dict:
        members = {name: pruned(node[name], tree[name]) for name in node if name in tree}
        left = {name: each for name, each in members.items() if each is not None}
        return left or None
    if type(node) is list:
        chosen = sorted({at for token in tree if (at := _index(node, token)) is not None})
        elements = [pruned(node[at], tree[str(at)]) for at in chosen]
        return [each for each in elements if each is not None] or None
    return None
