"""Steps: what changes the data of an event, in the order written. Pure.

A step on what is missing does nothing. Each says whether it changed something, since what nobody
changed is passed on byte by byte.
"""

from __future__ import annotations

import hmac
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec import Raw

from ingest.errors import Rejected
from ingest_forward.cast import CASTS, CastFailed
from ingest_forward.condition import is_json
from ingest_forward.document import (
    ENCODER,
    INDEX,
    STRING,
    Node,
    Tokens,
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

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ingest.config_problems import KeyPath
    from ingest_forward.event import Event
    from ingest_forward.problems import Problems

MASK = Raw(b'"***"')
NULL = b"null"
_ATTRIBUTE = re.compile(r"[a-z0-9]{1,64}")


class Work:
    """The data of one event on its way through the steps.

    Attributes:
        event: as it was read.
        root: the data as they are by now, opened; None where the event has none.
    """

    __slots__ = ("event", "root")

    def __init__(self, event: Event) -> None:
        data: Any = event.data
        self.event = event
        kind = type(data)
        self.root: Node = data.copy() if kind is dict or kind is list else data

    def leave_out_twins(self) -> bool:
        """Leave out the members that later ones of the same name hide; whether there were any."""
        if self.root is None or not has_twins(self.event.value or b""):
            return False
        self.root = without_twins(self.root)
        return True


class Step(NamedTuple):
    """A step that can be done.

    Attributes:
        name: of the step.
        apply: does it, and returns whether it changed something; raises `Rejected`.
        attributes: the CloudEvents attributes that it reads.
    """

    name: str
    apply: Callable[[Work], bool]
    attributes: tuple[str, ...] = ()


def compile_step(
    value: Any, path: KeyPath, problems: Problems, hash_key: bytes | None
) -> Step | None:
    """The step of a table; None, and what is wrong in ``problems``.

    Args:
        value: the table, which has one key: the name of the step.
        path: where it is in the file.
        problems: takes what is wrong.
        hash_key: for ``hash``; None: there is none.
    """
    table = problems.table(value, path)
    for name in table:
        if name not in STEPS:
            problems.unknown((*path, name), STEPS, "unknown step")
    if len(table) > 1:
        names = ", ".join(table)
        problems.add(path, f"one step for each table, since their order counts; not {names}")
    if len(table) != 1 or not table.keys() <= STEPS.keys():
        return None
    ((name, arguments),) = table.items()
    before = len(problems.found)
    step = STEPS[name](name, arguments, (*path, name), problems, hash_key)
    return step if len(problems.found) == before else None


def _select(name: str, value: Any, path: KeyPath, problems: Problems, _: bytes | None) -> Step:
    tree = tree_of(problems.pointers(value, path))

    def apply(work: Work) -> bool:
        before = work.root
        if before is None:
            return False
        work.root = pruned(before, tree)
        if work.root is None:
            work.root = type(before)() if type(before) in {dict, list} else Raw(NULL)
        if work.root != before:
            return True
        value: Any = work.event.value
        twice = value.count(b'"data"') > 1 or b"\\u" in value  # the first data may hold anything
        return twice and work.leave_out_twins()

    return Step(name, apply)


def _twins_of(name: str) -> Callable[[Work], bool]:
    """What leaves out twins where ``name`` was not found, and whether there were any.

    Of members with the same name the last counts, but what is to be hidden may be in another one:
    passed on byte by byte, it would be there to be read. A name that is not written in the value,
    and not with escapes, has no such twin; that is quick to see.
    """
    written = b"" if INDEX.fullmatch(name) else text_of(node_of(name))
    escape = b"\\u" if set(name).isdisjoint('"\\/\b\f\n\r\t') else b"\\"

    def leave_out(work: Work) -> bool:
        value: Any = work.event.value
        escaped = b"\\" in value and escape in value  # the first is quicker, and mostly enough
        return (escaped or value.find(written) >= 0) and work.leave_out_twins()

    return leave_out


def _drop(name: str, value: Any, path: KeyPath, problems: Problems, _: bytes | None) -> Step:
    pointers = sorted(set(problems.pointers(value, path)), key=_from_behind)
    drops = [(tokens, tokens[-1], _twins_of(tokens[-1])) for tokens in pointers]
    flat = all(len(tokens) == 1 for tokens in pointers)

    def apply(work: Work) -> bool:
        changed = False
        of_root = flat and type(work.root) is dict  # the usual case, without a call for each
        for tokens, last, twins in drops:
            found = work.root.pop(last, None) if of_root else pop(work.root, tokens)
            changed |= found is not None or twins(work)
        return changed

    return Step(name, apply)


def _from_behind(tokens: Tokens) -> list[tuple[int, str]]:
    """The last elements of an array go first, as the others move up, and what is in one before it.

    Order of keys: an index by its number, a name, the end of a pointer.
    """
    places = [(-int(token), "") if INDEX.fullmatch(token) else (0, token) for token in tokens]
    return [*places, (1, "")]


def _rename(name: str, value: Any, path: KeyPath, problems: Problems, _: bytes | None) -> Step:
    pairs = []
    for old, new in problems.table(value, path).items():
        source = problems.pointer(old, (*path, old))
        target = problems.pointer(new, (*path, old))
        if source is None or target is None:
            continue
        if target[: len(source)] == source:
            problems.add((*path, old), "cannot be moved to where it is, or into itself")
        pairs.append((source, target, _twins_of(source[-1])))

    def apply(work: Work) -> bool:
        changed = False
        for source, target, twins in pairs:
            if find(work.root, source) is None:
                changed |= twins(work)
            else:
                changed |= _moved(work.root, source, target)
        return changed

    return Step(name, apply)


def _moved(root: Node, source: Tokens, target: Tokens) -> bool:
    """Move what is there; whether it can be where it is to go."""
    if type(root) is dict and len(source) == len(target) == 1:
        root[target[0]] = root.pop(source[0])
        return True
    if not put(root, target, find(root, source)):
        return False
    if source[: len(target)] != target:  # else it was in what it took the place of
        pop(root, source)
    return True


def _set(name: str, value: Any, path: KeyPath, problems: Problems, _: bytes | None) -> Step:
    constants = []
    for pointer, constant in problems.table(value, path).items():
        tokens = problems.pointer(pointer, (*path, pointer))
        if not is_json(constant):
            text = "expected a JSON value: text, a number, true, false, a list or a table"
            problems.add((*path, pointer), text)
        elif tokens is not None:
            constants.append((tokens, node_of(constant)))

    def apply(work: Work) -> bool:
        root, changed = work.root, False
        for tokens, node in constants:
            changed |= put(root, tokens, node)
        return changed

    return Step(name, apply)


def _lift(name: str, value: Any, path: KeyPath, problems: Problems, _: bytes | None) -> Step:
    pairs = []
    for pointer, attribute in problems.table(value, path).items():
        tokens = problems.pointer(pointer, (*path, pointer))
        if not isinstance(attribute, str) or not _ATTRIBUTE.fullmatch(attribute):
            text = 'expected the name of a CloudEvents attribute such as "id": a to z and digits'
            problems.add((*path, pointer), text)
        elif attribute in {"data", "data_base64"}:
            problems.add((*path, pointer), "is no attribute: the steps work on the data")
        elif tokens is not None:
            pairs.append((tokens, attribute))

    def apply(work: Work) -> bool:
        changed = False
        for tokens, attribute in pairs:
            node = work.event.attribute(attribute)
            if node is not None:
                changed |= put(work.root, tokens, node)
        return changed

    return Step(name, apply, tuple(attribute for _, attribute in pairs))


def _cast(name: str, value: Any, path: KeyPath, problems: Problems, _: bytes | None) -> Step:
    casts = []
    for pointer, kind in problems.table(value, path).items():
        tokens = problems.pointer(pointer, (*path, pointer))
        known = problems.one_of(kind, CASTS, (*path, pointer))
        if tokens is not None and known is not None:
            casts.append((tokens, CASTS[known], f"{pointer}: is no {known}"))

    def apply(work: Work) -> bool:
        root, changed = work.root, False
        for tokens, cast, failure in casts:
            node = find(root, tokens)
            if node is None or (before := text_of(node)) == NULL:
                continue
            try:
                after = cast(before)
            except CastFailed:
                raise Rejected("cast_failed", failure) from None
            if after != before:
                changed |= replace(root, tokens, Raw(after))
        return changed

    return Step(name, apply)


def _flatten(name: str, value: Any, path: KeyPath, problems: Problems, _: bytes | None) -> Step:
    separator = problems.text(value, path) or ""

    def apply(work: Work) -> bool:
        root = work.root
        if type(root) is not dict:
            return False
        flat: dict[str, Node] = {}
        changed = _flatten_into(flat, root, "", separator)
        work.root = flat
        if changed or (work.event.value or b"").count(b"{") <= 2:
            return changed
        return work.leave_out_twins()  # an object that is flattened may be hidden by a twin

    return Step(name, apply)


def _flatten_into(
    flat: dict[str, Node], members: Mapping[str, Node], prefix: str, separator: str
) -> bool:
    """Whether there was something to flatten."""
    changed = False
    for name, node in members.items():
        within = opened(node)
        if type(within) is dict:
            _flatten_into(flat, within, f"{prefix}{name}{separator}", separator)
            changed = True
        else:
            flat[prefix + name] = node
    return changed


def _each(name: str, pointers: Sequence[Tokens], change: Callable[[Node], Raw | None]) -> Step:
    """A step that changes some values where they are; ``change`` gives None for what may stay."""
    places = [(tokens, _twins_of(tokens[-1])) for tokens in pointers]

    def apply(work: Work) -> bool:
        changed = False
        for tokens, twins in places:
            node = find(work.root, tokens)
            if node is None:
                changed |= twins(work)
            elif (after := change(node)) is not None:
                changed |= replace(work.root, tokens, after)
        return changed

    return Step(name, apply)


def _mask(name: str, value: Any, path: KeyPath, problems: Problems, _: bytes | None) -> Step:
    return _each(name, problems.pointers(value, path), lambda _: MASK)


def _hash(name: str, value: Any, path: KeyPath, problems: Problems, hash_key: bytes | None) -> Step:
    pointers = problems.pointers(value, path)
    if not hash_key:
        problems.add(path, 'needs forward.hash_key, such as { env = "PII_HASH_KEY" }')
    key = hash_key or b""

    def hashed(node: Node) -> Raw:
        text = text_of(node)
        if text.startswith(b'"'):
            text = STRING.decode(text).encode()
        return Raw(b'"%b"' % hmac.digest(key, text, "sha256").hex().encode())

    return _each(name, pointers, hashed)


def _truncate(name: str, value: Any, path: KeyPath, problems: Problems, _: bytes | None) -> Step:
    lengths = []
    for pointer, length in problems.table(value, path).items():
        tokens = problems.pointer(pointer, (*path, pointer))
        if isinstance(length, bool) or not isinstance(length, int) or length < 0:
            problems.add((*path, pointer), "expected a whole number of characters")
        elif tokens is not None:
            lengths.append(_each(name, [tokens], _shortened(length)).apply)

    def apply(work: Work) -> bool:
        changed = False
        for shorten in lengths:
            changed |= shorten(work)
        return changed

    return Step(name, apply)


def _shortened(length: int) -> Callable[[Node], Raw | None]:
    def change(node: Node) -> Raw | None:
        text = text_of(node)
        if not text.startswith(b'"') or len(text) - 2 <= length:
            return None
        string = STRING.decode(text)
        return None if len(string) <= length else Raw(ENCODER.encode(string[:length]))

    return change


STEPS: dict[str, Callable[[str, Any, KeyPath, Problems, bytes | None], Step]] = {
    "select": _select,
    "drop": _drop,
    "rename": _rename,
    "set": _set,
    "lift": _lift,
    "cast": _cast,
    "flatten": _flatten,
    "mask": _mask,
    "hash": _hash,
    "truncate": _truncate,
}
"""Name -> makes the step of its arguments."""
