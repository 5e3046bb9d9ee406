"""Events and routes for the tests of what routes do, and JSON as odd as clients may write it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from ingest.config_problems import dotted
from ingest.errors import Rejected
from ingest_forward.event import Event, Reading
from ingest_forward.problems import Problems
from ingest_forward.route import Output, Route, compile_route
from ingest_forward.settings import RouteSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HASH_KEY = b"the key of the tests"
CODES = {"invalid_json", "not_cloudevents", "cast_failed", "schema_mismatch", "bad_key"}
"""What a route may reject by itself; the contract's other codes come from Kafka and its limits."""
HEAD = b'{"specversion":"1.0","source":"/sources/web","type":"order.created","id":"7","data":'
ATTRIBUTES = ("subject", "ext1", "time")


def sealed(data: bytes) -> bytes:
    """A record value with these data, as the gateway writes it."""
    return HEAD + data + b"}"


def event(
    value: bytes | None,
    topic: str = "orders",
    key: bytes | None = None,
    headers: Sequence[tuple[str, bytes | None]] = (),
) -> Event:
    """A record as routes see it."""
    return Event(topic, key, value, headers, Reading(ATTRIBUTES))


def about(data: bytes) -> Event:
    """A record with these data."""
    return event(sealed(data))


def route(**settings: Any) -> Route:
    """A route that reads and writes something, with these settings as in the file."""
    table = {"name": "r", "from": "orders", "to": "out", **settings}
    problems = Problems()
    made = compile_route(RouteSettings.model_validate(table), (), problems, HASH_KEY)
    assert made is not None, problems.found
    return made


def outcome(made: Route, record: Event) -> Output | str | None:
    """What becomes of a record: what is written, the code of its reject, or None: not taken."""
    try:
        return made.run(record) if made.takes(record) else None
    except Rejected as error:
        return error.code


def after(data: bytes, *steps: dict[str, Any], **settings: Any) -> bytes | str | None:
    """The value that a plain route with these steps writes, or the code of its reject."""
    found = outcome(route(steps=list(steps), **settings), about(data))
    return found.value if isinstance(found, Output) else found


def complaints(look: Callable[[Problems], object]) -> dict[str, str]:
    """Dotted path -> text, of all that is found wrong."""
    problems = Problems()
    look(problems)
    return {dotted(path): text for path, text in problems.found}


class Spelled(str):
    """A JSON number as it was written, which equals no other spelling of it, and no string."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spelled) and str.__eq__(self, other)

    __hash__ = str.__hash__


def spelled(text: bytes) -> Any:
    """A JSON value with its numbers as they were written; of twins the last counts."""
    return json.loads(text, parse_int=Spelled, parse_float=Spelled)


# What hypothesis draws.

NAMES = ["a", "b", "c", "", "0", "1", "~/", "é", 'q"']
ODD_SCALARS = [
    b"null", b"true", b"false", b"0", b"-0", b"1", b"1.0", b"1.50", b"1E3", b"1e-2", b"-7",
    b"2147483647", b"2147483648", b"-2147483648", b"-2147483649", b"9007199254740993",
    b"9223372036854775807", b"9223372036854775808", b"18446744073709551616", b"1" * 400,
    b"9" * 5000, b"1e400", b"-1e400", b"1e-400", b"0e400", b"3.5e38", b"1e-46", b"16777217",
    b'""', b'"1"', b'"1.0"', b'"01"', b'" 1"', b'"true"', b'"null"', b'"***"', b'"\\u0041\\/"',
    b'"\\ud83d\\ude00\\n"', '"grün"'.encode(), b'"{"', b'"\\"data\\":"', b'"a b  c"',
]  # fmt: skip


def _escaped(name: str) -> str:
    return '"' + "".join(f"\\u{ord(each):04x}" for each in name) + '"'


_PLAIN = [(name, json.dumps(name, ensure_ascii=False)) for name in NAMES]
_SPELT = st.sampled_from([*_PLAIN, *_PLAIN, *((name, _escaped(name)) for name in NAMES)])
"""(name, its spelling)."""
_WHITE = st.sampled_from(["", "", "", " ", "\n\t"])
_SCALARS = st.sampled_from([each.decode() for each in ODD_SCALARS])


def _array(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    def spell(elements: list[str], white: str) -> str:
        return f"[{white}{f',{white}'.join(elements)}]"

    return st.builds(spell, st.lists(inner, max_size=3), _WHITE)


def _object(inner: st.SearchStrategy[str], *, twins: bool) -> st.SearchStrategy[str]:
    def spell(members: list[tuple[tuple[str, str], str]], white: str) -> str:
        spelt = (f"{name}{white}:{white}{value}" for (_, name), value in members)
        return f"{{{white}{f'{white},'.join(spelt)}{white}}}"

    unique = None if twins else lambda member: member[0][0]
    pairs = st.lists(st.tuples(_SPELT, inner), max_size=4, unique_by=unique)
    return st.builds(spell, pairs, _WHITE)


def texts(*, twins: bool = False) -> st.SearchStrategy[bytes]:
    """JSON texts of any kind; with ``twins``, members of an object may have the same name."""

    def deeper(below: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        return _array(below) | _object(below, twins=twins)

    inner = st.recursive(_SCALARS, deeper, max_leaves=6)
    return (_object(inner, twins=twins) | _object(inner, twins=twins) | inner).map(str.encode)


TOKENS = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map(tuple)


def pointer(tokens: Sequence[str]) -> str:
    """A JSON Pointer (RFC 6901)."""
    return "".join("/" + token.replace("~", "~0").replace("/", "~1") for token in tokens)


POINTERS = TOKENS.map(pointer)
CONSTANTS = st.recursive(
    st.sampled_from(["x", "1", "", "***", True, False, 0, 1, 1.0, 2.5, -7, 10**20]),
    lambda below: (
        st.lists(below, max_size=2) | st.dictionaries(st.sampled_from(NAMES), below, max_size=2)
    ),
    max_leaves=3,
)
TYPES = ["string", "boolean", "int32", "int64", "float32", "float64"]


def _table(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(POINTERS, values, min_size=1, max_size=2)


def _moves(pairs: dict[str, str]) -> bool:
    return all(new != old and not new.startswith(old + "/") for old, new in pairs.items())


_LISTS = st.lists(POINTERS, min_size=1, max_size=3)
STEPS = st.one_of(
    *(st.fixed_dictionaries({name: _LISTS}) for name in ("select", "drop", "mask", "hash")),
    st.fixed_dictionaries({"rename": _table(POINTERS).filter(_moves)}),
    st.fixed_dictionaries({"set": _table(CONSTANTS)}),
    st.fixed_dictionaries({"lift": _table(st.sampled_from(["id", "type", *ATTRIBUTES]))}),
    st.fixed_dictionaries({"cast": _table(st.sampled_from(TYPES))}),
    st.fixed_dictionaries({"flatten": st.sampled_from(["_", ".", "/"])}),
    st.fixed_dictionaries({"truncate": _table(st.integers(0, 3))}),
)
_FIELDS = st.one_of(
    st.fixed_dictionaries({"field": POINTERS, "equals": CONSTANTS}),
    st.fixed_dictionaries({"field": POINTERS, "in": st.lists(CONSTANTS, min_size=1, max_size=3)}),
    st.fixed_dictionaries({"field": POINTERS, "prefix": st.sampled_from(["1", "t", "gr", "A"])}),
    st.fixed_dictionaries({"field": POINTERS, "exists": st.booleans()}),
    st.fixed_dictionaries({"field": POINTERS, "above": st.sampled_from([-1, 0, 0.5, 1, 10**30])}),
    st.fixed_dictionaries({"field": POINTERS, "below": st.sampled_from([-1, 0, 0.5, 1, 10**30])}),
)
_SUBJECTS = st.one_of(
    st.fixed_dictionaries({"source": st.sampled_from(["web", "/sources/web", "other"])}),
    st.fixed_dictionaries({"type": st.sampled_from(["order.created", "order"])}),
    st.fixed_dictionaries({"key": st.sampled_from(["k", "other"])}),
    st.fixed_dictionaries({"topic": st.sampled_from(["orders", "other"])}),
    st.fixed_dictionaries({"header": st.just("h"), "equals": st.sampled_from(["", "v"])}),
)
CONDITIONS = st.recursive(
    _FIELDS | _FIELDS | _SUBJECTS,
    lambda below: st.one_of(
        st.fixed_dictionaries({"all": st.lists(below, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"any": st.lists(below, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"not": below}),
    ),
    max_leaves=4,
)
_SCALAR_KINDS = st.sampled_from(TYPES)
_KINDS = st.recursive(
    st.fixed_dictionaries({"type": _SCALAR_KINDS, "optional": st.booleans()}) | _SCALAR_KINDS,
    lambda below: st.one_of(
        st.fixed_dictionaries({"type": st.just("array"), "items": below}),
        st.fixed_dictionaries(
            {
                "type": st.just("struct"),
                "fields": st.dictionaries(st.sampled_from(NAMES), below, min_size=1, max_size=2),
                "optional": st.booleans(),
            }
        ),
    ),
    max_leaves=3,
)
SCHEMAS = st.dictionaries(st.sampled_from(NAMES), _KINDS, min_size=1, max_size=3)
ROUTES = st.one_of(
    st.fixed_dictionaries(
        {"format": st.just("cloudevents"), "steps": st.lists(STEPS, max_size=3)},
        optional={"where": CONDITIONS, "key": POINTERS},
    ),
    st.fixed_dictionaries(
        {"format": st.just("plain"), "steps": st.lists(STEPS, max_size=3)},
        optional={"where": CONDITIONS, "key": POINTERS, "schema": SCHEMAS},
    ),
    st.fixed_dictionaries(
        {
            "format": st.just("connect-envelope"),
            "steps": st.lists(STEPS, max_size=3),
            "schema": SCHEMAS,
        },
        optional={"where": CONDITIONS, "key": POINTERS},
    ),
)
"""The settings of routes of all kinds."""
