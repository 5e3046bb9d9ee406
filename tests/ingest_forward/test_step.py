"""Steps: what each does to the data, held against a model that knows Python values only."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import date
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.errors import Rejected
from ingest.sources import pointer_tokens
from ingest_forward.cast import CASTS, CastFailed
from ingest_forward.document import OBJECT
from ingest_forward.event import Event, Reading
from ingest_forward.problems import Problems
from ingest_forward.step import STEPS, Work, compile_step
from tests.ingest_forward.engine import (
    ATTRIBUTES,
    HASH_KEY,
    HEAD,
    POINTERS,
    Spelled,
    about,
    after,
    complaints,
    event,
    outcome,
    route,
    sealed,
    spelled,
    texts,
)
from tests.ingest_forward.engine import STEPS as ANY_STEP

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Tokens = tuple[str, ...]


def hashed(text: str) -> bytes:
    """HMAC-SHA-256 under the key of the tests, as a JSON string."""
    return b'"%b"' % hmac.new(HASH_KEY, text.encode(), hashlib.sha256).hexdigest().encode()


# One after the other, by hand.


@pytest.mark.parametrize(
    ("step", "data", "wanted"),
    [
        # select
        ({"select": ["/a"]}, b'{"a":1,"b":2}', b'{"a":1}'),
        ({"select": ["/b", "/a"]}, b'{"a":1,"x":0,"b":2}', b'{"a":1,"b":2}'),
        ({"select": ["/a/b"]}, b'{"a":{"b":1,"c":2},"d":3}', b'{"a":{"b":1}}'),
        ({"select": ["/a/b", "/a"]}, b'{"a":{"b":1,"c":2},"d":3}', b'{"a":{"b":1,"c":2}}'),
        ({"select": ["/a/b"]}, b'{"a":{"c":2}}', b"{}"),
        ({"select": ["/a/b"]}, b'{"a":5}', b"{}"),
        ({"select": ["/x"]}, b'{"a":5}', b"{}"),
        ({"select": ["/l/1"]}, b'{"l":[1,2,3],"a":0}', b'{"l":[2]}'),
        ({"select": ["/l/2", "/l/0"]}, b'{"l":[1,2,3]}', b'{"l":[1,3]}'),
        ({"select": ["/l/0/a"]}, b'{"l":[{"a":1,"b":2},{"a":3}]}', b'{"l":[{"a":1}]}'),
        ({"select": ["/0"]}, b"[1,2]", b"[1]"),
        ({"select": ["/a"]}, b"[1,2]", b"[]"),
        ({"select": ["/a"]}, b'"secret"', b"null"),
        ({"select": ["/a"]}, b"5", b"null"),
        # drop
        ({"drop": ["/a"]}, b'{"a":1,"b":2}', b'{"b":2}'),
        ({"drop": ["/a", "/b", "/c"]}, b'{"a":1,"b":2,"d":3}', b'{"d":3}'),
        ({"drop": ["/a/b"]}, b'{"a":{"b":1,"c":2}}', b'{"a":{"c":2}}'),
        ({"drop": ["/a/b"]}, b'{"a":{"b":1}}', b'{"a":{}}'),
        ({"drop": ["/a"]}, b'{"a":null}', b"{}"),
        ({"drop": ["/l/0", "/l/1"]}, b'{"l":[1,2,3]}', b'{"l":[3]}'),
        ({"drop": ["/l/2", "/l/10"]}, b'{"l":[0,1,2,3,4,5,6,7,8,9,10,11]}',
         b'{"l":[0,1,3,4,5,6,7,8,9,11]}'),
        ({"drop": ["/l/0", "/l/0"]}, b'{"l":[1,2,3]}', b'{"l":[2,3]}'),
        ({"drop": ["/l/0", "/l/0/a"]}, b'{"l":[{"a":1},{"a":2}]}', b'{"l":[{"a":2}]}'),
        ({"drop": ["/l/0/a", "/l/1/a"]}, b'{"l":[{"a":1},{"a":2,"b":3}]}', b'{"l":[{},{"b":3}]}'),
        ({"drop": ["/0"]}, b"[1,2]", b"[2]"),
        ({"drop": ["/0"]}, b'{"0":1,"1":2}', b'{"1":2}'),
        ({"drop": ["/" + "1" * 5000]}, b"[1,2]", b"[1,2]"),
        ({"drop": ["/"]}, b'{"":1,"a":2}', b'{"a":2}'),
        ({"drop": ["/a~1b", "/m~0n"]}, b'{"a/b":1,"m~n":2,"c":3}', b'{"c":3}'),
        ({"drop": ["/secret"]}, b'{"s\\u0065cret":1,"a":2}', b'{"a":2}'),
        # rename
        ({"rename": {"/a": "/z"}}, b'{"a":1,"b":2}', b'{"b":2,"z":1}'),
        ({"rename": {"/a": "/b"}}, b'{"a":1,"b":2}', b'{"b":1}'),
        ({"rename": {"/a": "/b/c"}}, b'{"a":1}', b'{"b":{"c":1}}'),
        ({"rename": {"/a": "/b/c"}}, b'{"a":1,"b":{"d":2}}', b'{"b":{"d":2,"c":1}}'),
        ({"rename": {"/a/b": "/a"}}, b'{"a":{"b":1,"c":2}}', b'{"a":1}'),
        ({"rename": {"/a/b/c": "/a"}}, b'{"a":{"b":{"c":1}}}', b'{"a":1}'),
        ({"rename": {"/a/b": "/b"}}, b'{"a":{"b":1,"c":2}}', b'{"a":{"c":2},"b":1}'),
        ({"rename": {"/a": "/b", "/b": "/c"}}, b'{"a":1,"b":2}', b'{"c":1}'),
        ({"rename": {"/b": "/c", "/a": "/b"}}, b'{"a":1,"b":2}', b'{"c":2,"b":1}'),
        ({"rename": {"/a": "/b"}}, b'{"a":null}', b'{"b":null}'),
        ({"rename": {"/l/0": "/first"}}, b'{"l":[1,2]}', b'{"l":[2],"first":1}'),
        ({"rename": {"/l/0": "/l/1"}}, b'{"l":[1,2,3]}', b'{"l":[1,3]}'),
        ({"rename": {"/l/0": "/l/1"}}, b'{"l":[1,2]}', b'{"l":[1]}'),
        ({"rename": {"/a": "/l/1"}}, b'{"a":9,"l":[1,2]}', b'{"l":[1,9]}'),
        # set
        ({"set": {"/a": "x"}}, b'{"a":1,"b":2}', b'{"a":"x","b":2}'),
        ({"set": {"/c": 1}}, b'{"a":1}', b'{"a":1,"c":1}'),
        ({"set": {"/c": 1.5}}, b"{}", b'{"c":1.5}'),
        ({"set": {"/c": True}}, b"{}", b'{"c":true}'),
        ({"set": {"/c": ["x", {"y": 1}]}}, b"{}", b'{"c":["x",{"y":1}]}'),
        ({"set": {"/c": {}}}, b"{}", b'{"c":{}}'),
        ({"set": {"/c": 10**30}}, b"{}", b'{"c":1%b}' % (b"0" * 30)),
        ({"set": {"/a/b/c": 1}}, b"{}", b'{"a":{"b":{"c":1}}}'),
        ({"set": {"/l/0": 9}}, b'{"l":[1,2]}', b'{"l":[9,2]}'),
        ({"set": {"/l/0/a": 9}}, b'{"l":[{}]}', b'{"l":[{"a":9}]}'),
        ({"set": {"/a/0": 1}}, b"{}", b'{"a":{"0":1}}'),
        # lift
        ({"lift": {"/event": "id"}}, b'{"a":1}', b'{"a":1,"event":"7"}'),
        ({"lift": {"/a": "type"}}, b'{"a":1}', b'{"a":"order.created"}'),
        ({"lift": {"/s": "source", "/v": "specversion"}}, b"{}", b'{"s":"/sources/web","v":"1.0"}'),
        ({"lift": {"/meta/id": "id"}}, b"{}", b'{"meta":{"id":"7"}}'),
        # cast
        ({"cast": {"/a": "int32"}}, b'{"a":"5"}', b'{"a":5}'),
        ({"cast": {"/a": "string", "/b": "float64"}}, b'{"a":5,"b":1}', b'{"a":"5","b":1.0}'),
        ({"cast": {"/a/b": "boolean"}}, b'{"a":{"b":1}}', b'{"a":{"b":true}}'),
        ({"cast": {"/l/1": "string"}}, b'{"l":[1,2]}', b'{"l":[1,"2"]}'),
        ({"cast": {"/a": "string"}}, b'{"a":{"x":[1, 2]}}', b'{"a":"{\\"x\\":[1, 2]}"}'),
        ({"cast": {"/a": "int32"}}, b'{"a":null}', b'{"a":null}'),
        # flatten
        ({"flatten": "_"}, b'{"a":{"b":1,"c":{"d":2}},"e":3}', b'{"a_b":1,"a_c_d":2,"e":3}'),
        ({"flatten": "."}, b'{"a":{"b":[{"c":1}]}}', b'{"a.b":[{"c":1}]}'),
        ({"flatten": "_"}, b'{"a":{},"b":1}', b'{"b":1}'),
        ({"flatten": "_"}, b'{"a":{"b":1},"a_b":2}', b'{"a_b":2}'),
        ({"flatten": "__"}, b'{"a":{"":1}}', b'{"a__":1}'),
        ({"flatten": "_"}, b'[{"a":{"b":1}}]', b'[{"a":{"b":1}}]'),
        # mask
        ({"mask": ["/a"]}, b'{"a":"1234","b":1}', b'{"a":"***","b":1}'),
        ({"mask": ["/a", "/b"]}, b'{"a":null,"b":{"c":1}}', b'{"a":"***","b":"***"}'),
        ({"mask": ["/a/b", "/l/0"]}, b'{"a":{"b":1},"l":[1]}', b'{"a":{"b":"***"},"l":["***"]}'),
        # hash
        ({"hash": ["/a"]}, b'{"a":"me@x.org"}', b'{"a":%b}' % hashed("me@x.org")),
        ({"hash": ["/a"]}, b'{"a":"m\\u0065@x.org"}', b'{"a":%b}' % hashed("me@x.org")),
        ({"hash": ["/a"]}, '{"a":"grün"}'.encode(), b'{"a":%b}' % hashed("grün")),
        ({"hash": ["/a"]}, b'{"a":""}', b'{"a":%b}' % hashed("")),
        ({"hash": ["/a"]}, b'{"a":1.50}', b'{"a":%b}' % hashed("1.50")),
        ({"hash": ["/a"]}, b'{"a":{ "b" : 1 }}', b'{"a":%b}' % hashed('{ "b" : 1 }')),
        ({"hash": ["/a"]}, b'{"a":null}', b'{"a":%b}' % hashed("null")),
        # truncate
        ({"truncate": {"/a": 2}}, b'{"a":"abc"}', b'{"a":"ab"}'),
        ({"truncate": {"/a": 3}}, b'{"a":"abc"}', b'{"a":"abc"}'),
        ({"truncate": {"/a": 0}}, b'{"a":"abc"}', b'{"a":""}'),
        ({"truncate": {"/a": 2}}, '{"a":"grün"}'.encode(), b'{"a":"gr"}'),
        ({"truncate": {"/a": 3}}, '{"a":"grün"}'.encode(), '{"a":"grü"}'.encode()),
        ({"truncate": {"/a": 1}}, b'{"a":"\\ud83d\\ude00x"}', '{"a":"😀"}'.encode()),
        ({"truncate": {"/a": 1}}, b'{"a":"\\u0041"}', b'{"a":"\\u0041"}'),
        ({"truncate": {"/a": 1}}, b'{"a":12345}', b'{"a":12345}'),
        ({"truncate": {"/a": 1}}, b'{"a":["abc"]}', b'{"a":["abc"]}'),
    ],
)  # fmt: skip
def test_what_a_step_does(step: dict[str, Any], data: bytes, wanted: bytes) -> None:
    """Each step, by pointers into objects and arrays; `rename` and `lift` overwrite."""
    assert after(data, step) == wanted


@pytest.mark.parametrize(
    "step",
    [
        {"drop": ["/x", "/a/x", "/l/9", "/l/-", "/l/01", "/l/x", "/s/x"]},
        {"rename": {"/x": "/y", "/a/x": "/y", "/l/9": "/y", "/s/x": "/y"}},
        {"rename": {"/a": "/s/x", "/l/0": "/s/x/y", "/l": "/n/x"}},
        {"rename": {"/s": "/l/9", "/n": "/l/-", "/a": "/l/x/y"}},
        {"set": {"/s/x": 1, "/n/x/y": 1, "/l/9": 1, "/l/-": 1, "/l/x/y": 1}},
        {"lift": {"/x": "subject", "/y": "ext1", "/s/x": "id"}},
        {"cast": {"/x": "int32", "/a/x": "int32", "/l/9": "int32", "/s/x": "int32"}},
        {"mask": ["/x", "/a/x", "/l/9", "/s/x"]},
        {"hash": ["/x", "/a/x", "/l/9", "/s/x"]},
        {"truncate": {"/x": 1, "/a/x": 1, "/l/9": 1, "/s/x": 1}},
    ],
)
def test_a_step_on_what_is_missing_does_nothing(step: dict[str, Any]) -> None:
    """Nor does one to a place that cannot be; the data come out byte by byte."""
    data = b'{ "a" : { "b":1 } , "l":[ 1, 2 ],"s":"text","n":null }'
    assert after(data, step) == data


@pytest.mark.parametrize("step", [{"flatten": "_"}, {"select": ["/a", "/b"]}])
def test_a_step_that_finds_all_done_passes_the_bytes(step: dict[str, Any]) -> None:
    """What is flat already, or has nothing but what is selected, comes out byte by byte."""
    data = b'{ "a":1.0 , "b" : "x" }'
    assert after(data, step) == data


def test_what_is_missing_leaves_its_surroundings_as_they_are() -> None:
    """Though another step has changed something, and the data are written anew."""
    data = b'{"a": { "b" : 1 },"c":1,"l": [ { } ]}'
    missing = [
        {"drop": ["/a/x", "/l/0/x"]},
        {"rename": {"/a/x": "/y", "/c": "/a/b/x"}},
        {"set": {"/a/b/x": 1, "/l/1/x": 1}},
        {"mask": ["/a/x"]},
        {"cast": {"/a/x/y": "int32"}},
    ]
    wanted = b'{"a":{ "b" : 1 },"c":2,"l":[ { } ]}'
    assert after(data, {"set": {"/c": 2}}, *missing) == wanted


def test_untouched_fields_stay_as_they_were_sent() -> None:
    """Odd numbers, escapes, white space and twins in a value included."""
    values = {
        "number": b"1.500E+02",
        "long": b"9" * 400,
        "tiny": b"-0.0e-999",
        "text": b'"\\u0041\\/\\ud83d\\ude00"',
        "inner": b'{ "x" :\t[ 1 , 2 ] , "x" : 3 }',
        "plain": '"grün\x7f"'.encode(),
    }
    rest = b",".join(b'"%b" : %b' % (name.encode(), text) for name, text in values.items())
    steps = [{"drop": ["/secret"]}, {"set": {"/new": 1}}, {"mask": ["/card"]}]
    found = after(b'{"card":1, "secret":2, ' + rest + b"}", *steps)
    assert isinstance(found, bytes)
    members = msgspec.json.decode(found, type=dict[str, msgspec.Raw])
    assert {name: bytes(members[name]) for name in values} == values


def test_steps_are_done_in_the_order_written() -> None:
    """Each sees what those before it have made."""
    steps = [
        {"rename": {"/a": "/b"}},
        {"cast": {"/b": "string"}},
        {"truncate": {"/b": 2}},
        {"set": {"/c/d": 1}},
        {"flatten": "_"},
        {"mask": ["/c_d"]},
        {"drop": ["/a"]},
    ]
    assert after(b'{"a":12345}', *steps) == b'{"b":"12","c_d":"***"}'
    assert after(b'{"a":12345,"b":123}', *reversed(steps)) == b'{"b":"123","c":{"d":1}}'


def test_attributes_are_lifted_as_they_were_sent() -> None:
    """Those of every event, and others; one that is null is unset (JSON Event Format, 2.2)."""
    head = b'{"subject":"a\\/b","ext1":5,"time":null,' + HEAD[1:]
    lift = {"lift": {"/s": "subject", "/e": "ext1", "/t": "time"}}
    made = route(steps=[lift])
    reading = Reading(made.attributes)
    found = made.run(Event("orders", None, head + b"{}}", [], reading)).value
    assert found == b'{"s":"a\\/b","e":5}'


def test_of_attributes_with_the_same_name_the_last_is_lifted() -> None:
    """As in every parser."""
    head = b'{"id":"other","subject":1,"subject":2,' + HEAD[1:]
    found = outcome(route(steps=[{"lift": {"/id": "id", "/s": "subject"}}]), event(head + b"{}}"))
    assert found == (None, b'{"id":"7","s":2}')


@pytest.mark.parametrize(
    ("pointer", "kind", "data"),
    [
        ("/a", "int32", b'{"a":"x"}'),
        ("/a", "int32", b'{"a":2147483648}'),
        ("/a/b", "boolean", b'{"a":{"b":2}}'),
        ("/a", "float64", b'{"a":[]}'),
        ("/a", "float32", b'{"a":{"b":1}}'),
        ("/a", "float32", b'{"a":1e400}'),
    ],
)
def test_a_cast_that_would_lose_the_value_is_rejected(pointer: str, kind: str, data: bytes) -> None:
    """With the code ``cast_failed``, and a detail that names the field but not the value."""
    made = route(steps=[{"cast": {pointer: kind}}])
    with pytest.raises(Rejected) as caught:
        made.run(about(data))
    assert (caught.value.code, caught.value.detail) == ("cast_failed", f"{pointer}: is no {kind}")


# Twins: members with the same name in one object.


HIDING = [
    {"drop": ["/secret", "/a/secret", "/l/0/secret"]},
    {"drop": ["/secret", "/a"]},
    {"mask": ["/secret", "/a/secret", "/l/0/secret"]},
    {"hash": ["/secret", "/a/secret", "/l/0/secret"]},
    {"select": ["/other", "/a/other"]},
]


@pytest.mark.parametrize("made_of", ["cloudevents", "plain"])
@pytest.mark.parametrize("step", HIDING)
@pytest.mark.parametrize(
    "data",
    [
        b'{"secret":"hide me","secret":"hide me"}',
        b'{"secret":"hide me","s\\u0065cret":"hide me","other":1}',
        b'{"a":{"secret":"hide me"},"a":{"other":1}}',
        b'{"a":{"secret":"hide me"},"a":{"other":1},"secret":"hide me"}',
        b'{"a":{"secret":"hide me","secret":"hide me"},"other":2}',
        b'{"a":{"secret":"hide me"},"a":{"other":1},"a":null}',
        b'{"a":{"s\\u0065cret":"hide me"},"\\u0061":{"other":1}}',
        b'{"secret":"hide me"},"data":{"other":1}',
        b'{"secret":"hide me"},"d\\u0061ta":{"a":{"other":1}}',
    ],
)
def test_a_twin_does_not_let_through_what_is_hidden(
    data: bytes, step: dict[str, Any], made_of: str
) -> None:
    """Neither one before that another hides, nor one of an object around it, nor of the data."""
    found = outcome(route(steps=[step], format=made_of), about(data))
    assert isinstance(found, tuple)
    assert b"hide me" not in (found.value or b"")


@pytest.mark.parametrize(
    ("steps", "data"),
    [
        ([{"rename": {"/a/card": "/pan"}}, {"drop": ["/pan"]}], b'{"a":{"card":"me"},"a":{}}'),
        ([{"flatten": "_"}, {"drop": ["/a_card"]}], b'{"a":{"card":"me"},"a":5}'),
        ([{"set": {"/x": 1}}, {"mask": ["/b/a/card"]}], b'{"b":{"a":{"card":"me"},"a":5}}'),
        ([{"drop": ["/a~1b/c"]}], b'{"a\\/b":{"c":"me"},"a/b":{}}'),
        ([{"drop": ['/a/q"']}], b'{"a":{"q\\"":"me"},"a":{}}'),
        ([{"drop": ["/l/1"]}], b'{"l":[1,"me"],"l":[]}'),
    ],
)
def test_a_twin_hides_from_no_step_before(steps: list[dict[str, Any]], data: bytes) -> None:
    """What steps would move to where it is hidden is found as well."""
    found = outcome(route(steps=steps, format="cloudevents"), about(data))
    assert isinstance(found, tuple)
    assert b'"me"' not in (found.value or b"")


MOVING = {"select", "drop", "rename", "cast", "flatten"}
"""Steps that make something else of what is at a pointer, or have it somewhere else."""


class Members(list[tuple[str, Any]]):
    """An object with all its members, twins included."""


def with_twins(text: bytes) -> Any:
    """A JSON value that forgets no twin."""
    return json.loads(text, object_pairs_hook=Members, parse_int=Spelled, parse_float=Spelled)


def marked(node: Any, tokens: Sequence[str]) -> Any:
    """With a mark at all that is at a pointer, whichever twins a parser takes."""
    if not tokens:
        return "hide me"
    if isinstance(node, Members):
        return Members(
            (name, marked(each, tokens[1:]) if name == tokens[0] else each) for name, each in node
        )
    if isinstance(node, list):
        return [
            marked(each, tokens[1:]) if str(at) == tokens[0] else each
            for at, each in enumerate(node)
        ]
    return node


def written(node: Any) -> bytes:
    """The JSON text of a value with twins."""
    if isinstance(node, Members):
        return b"{%b}" % b",".join(b"%b:%b" % (written(name), written(each)) for name, each in node)
    if isinstance(node, list):
        return b"[%b]" % b",".join(map(written, node))
    return node.encode() if isinstance(node, Spelled) else json.dumps(node).encode()


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.lists(texts(twins=True), min_size=1, max_size=2),
    st.lists(st.sampled_from(["drop", "mask", "hash"]), min_size=1, max_size=2),
    POINTERS,
    st.lists(ANY_STEP.filter(lambda step: not step.keys() & MOVING), max_size=1),
    st.sampled_from(["cloudevents", "plain"]),
)
def test_no_twin_survives_that_could_be_what_was_hidden(
    data: list[bytes], names: list[str], at: str, before: list[dict[str, Any]], made_of: str
) -> None:
    """Whichever twins a parser takes, of the data themselves as well, it finds no hidden field."""
    hidden = [written(marked(with_twins(each), pointer_tokens(at))) for each in data]
    steps = [*before, *({name: [at]} for name in names)]
    found = outcome(route(steps=steps, format=made_of), about(b',"data":'.join(hidden)))
    assert found == "cast_failed" or b"hide me" not in found[1]


# Against a model.


MISSING = object()


class Lost(Exception):  # noqa: N818 - a verdict
    """A cast would lose the value."""


def within(node: Any, token: str) -> Any:
    """What is in an object or array under a token."""
    if isinstance(node, dict):
        return node.get(token, MISSING)
    if isinstance(node, list) and token in map(str, range(len(node))):
        return node[int(token)]
    return MISSING


def look(node: Any, tokens: Tokens) -> Any:
    """What is at a pointer."""
    for token in tokens:
        node = within(node, token)
    return node


def write(node: Any, tokens: Tokens, value: Any) -> Any:
    """``node`` with ``value`` at a pointer; MISSING where that cannot be."""
    if not tokens:
        return value
    inner = within(node, tokens[0])
    if inner is MISSING and isinstance(node, dict):
        inner = {}
    if inner is MISSING or (written := write(inner, tokens[1:], value)) is MISSING:
        return MISSING
    if isinstance(node, dict):
        return {**node, tokens[0]: written}
    return [written if str(at) == tokens[0] else each for at, each in enumerate(node)]


def without(node: Any, pointers: list[Tokens]) -> Any:
    """``node`` without what is at these pointers."""
    if isinstance(node, dict):
        return {
            name: without(each, below(pointers, name))
            for name, each in node.items()
            if (name,) not in pointers
        }
    if isinstance(node, list):
        return [
            without(each, below(pointers, str(at)))
            for at, each in enumerate(node)
            if (str(at),) not in pointers
        ]
    return node


def below(pointers: list[Tokens], token: str) -> list[Tokens]:
    """The rest of the pointers that begin with a token."""
    return [tokens[1:] for tokens in pointers if tokens[:1] == (token,)]


def only(node: Any, pointers: list[Tokens]) -> Any:
    """What of ``node`` is at these pointers; MISSING: nothing."""
    if () in pointers:
        return node
    if isinstance(node, dict):
        kept = {name: only(each, below(pointers, name)) for name, each in node.items()}
        return {name: each for name, each in kept.items() if each is not MISSING} or MISSING
    if isinstance(node, list):
        left = [only(each, below(pointers, str(at))) for at, each in enumerate(node)]
        return [each for each in left if each is not MISSING] or MISSING
    return MISSING


def flat(node: dict[str, Any], separator: str, prefix: str = "") -> dict[str, Any]:
    """The members of an object and of all objects in it."""
    found: dict[str, Any] = {}
    for name, each in node.items():
        if isinstance(each, dict):
            found |= flat(each, separator, prefix + name + separator)
        else:
            found[prefix + name] = each
    return found


def digest(value: Any) -> str:
    """What `hash` makes of a value without white space."""
    plain = isinstance(value, str) and not isinstance(value, Spelled)
    return hashed(value if plain else dumped(value)).decode()[1:-1]


def dumped(value: Any) -> str:
    """The JSON text of a value without white space."""
    if isinstance(value, dict):
        return (
            "{" + ",".join(f"{dumped(name)}:{dumped(each)}" for name, each in value.items()) + "}"
        )
    if isinstance(value, list):
        return "[" + ",".join(map(dumped, value)) + "]"
    return str(value) if isinstance(value, Spelled) else json.dumps(value, ensure_ascii=False)


def model(data: Any, step: dict[str, Any]) -> Any:
    """What a step makes of a Python value."""
    ((name, arguments),) = step.items()
    if name == "select":
        kept = only(data, [pointer_tokens(each) for each in arguments])
        empty = type(data)() if isinstance(data, dict | list) else None
        return empty if kept is MISSING else kept
    if name == "drop":
        return without(data, [pointer_tokens(each) for each in arguments])
    if name == "flatten":
        return flat(data, arguments) if isinstance(data, dict) else data
    pairs = (
        arguments.items() if isinstance(arguments, dict) else [(each, None) for each in arguments]
    )
    for at, argument in pairs:
        data = MODELS[name](data, pointer_tokens(at), argument)
    return data


def changing(change: Callable[[Any, Any], Any]) -> Callable[[Any, Tokens, Any], Any]:
    """A step that changes a value where it is."""

    def step(data: Any, tokens: Tokens, argument: Any) -> Any:
        value = look(data, tokens)
        return data if value is MISSING else write(data, tokens, change(value, argument))

    return step


def renamed(data: Any, tokens: Tokens, target: str) -> Any:
    """With what is at one pointer at another."""
    value, to = look(data, tokens), pointer_tokens(target)
    found = MISSING if value is MISSING else write(data, to, value)
    if found is MISSING:
        return data
    return found if tokens[: len(to)] == to else without(found, [tokens])


def placed(data: Any, tokens: Tokens, value: Any) -> Any:
    """With a value at a pointer, where that can be."""
    found = write(data, tokens, value)
    return data if found is MISSING else found


def lifted(data: Any, tokens: Tokens, name: str) -> Any:
    """With an attribute at a pointer."""
    return placed(data, tokens, {"id": "7", "type": "order.created"}[name])


def cast(value: Any, kind: str) -> Any:
    """As another type; tests/ingest_forward/test_cast.py holds the casts against an oracle."""
    if value is None:
        return None
    try:
        return spelled(CASTS[kind](dumped(value).encode()))
    except CastFailed:
        raise Lost from None


MODELS: dict[str, Callable[[Any, Tokens, Any], Any]] = {
    "rename": renamed,
    "set": lambda data, tokens, value: placed(data, tokens, spelled(json.dumps(value).encode())),
    "lift": lifted,
    "cast": changing(cast),
    "mask": changing(lambda _value, _: "***"),
    "hash": changing(lambda value, _: digest(value)),
    "truncate": changing(
        lambda value, length: (
            value[:length] if isinstance(value, str) and not isinstance(value, Spelled) else value
        )
    ),
}
MODELLED = ANY_STEP.filter(lambda step: not set(step.get("lift", {}).values()) & {*ATTRIBUTES})


@settings(max_examples=300, deadline=None, derandomize=True)
@given(texts().map(lambda text: dumped(spelled(text)).encode()), st.lists(MODELLED, max_size=3))
def test_steps_do_what_the_model_does(data: bytes, steps: list[dict[str, Any]]) -> None:
    """For any JSON value and any steps: every number as spelled, every member where it was."""
    found = after(data, *steps)
    try:
        wanted = spelled(data)
        for step in steps:
            wanted = model(wanted, step)
    except Lost:
        assert found == "cast_failed"
        return
    assert isinstance(found, bytes)
    assert spelled(found) == wanted
    if not any(step.keys() & {"flatten"} for step in steps) and found != data:
        assert found.decode() == dumped(wanted)  # the order of members as well


def touched(step: dict[str, Any]) -> set[str]:
    """The first tokens of all pointers of a step."""
    ((name, arguments),) = step.items()
    targets = arguments.values() if name == "rename" else ()
    return {pointer_tokens(each)[0] for each in (*arguments, *targets)}


@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    texts().filter(lambda text: text.startswith(b"{")),
    st.lists(ANY_STEP.filter(lambda step: not step.keys() & {"flatten", "select"}), max_size=3),
    st.sampled_from(["cloudevents", "plain"]),
)
def test_fields_that_no_step_names_stay_as_they_were_sent(
    data: bytes, steps: list[dict[str, Any]], made_of: str
) -> None:
    """Byte by byte: white space, escapes and odd numbers; of an event, its attributes as well."""
    found = outcome(route(steps=steps, format=made_of), about(data))
    if found == "cast_failed":
        return
    assert isinstance(found, tuple)
    assert found.value is not None
    named = set().union(*map(touched, steps))
    before, now = OBJECT.decode(data), OBJECT.decode(found.value)
    if made_of == "cloudevents":
        attributes = OBJECT.decode(sealed(b"0"))
        assert now.items() >= {**attributes, "data": now["data"]}.items()
        now = OBJECT.decode(bytes(now["data"]))
    assert {name: bytes(now[name]) for name in before if name not in named} == {
        name: bytes(text) for name, text in before.items() if name not in named
    }


@settings(max_examples=120, deadline=None, derandomize=True)
@given(texts(), st.lists(ANY_STEP, max_size=3), st.sampled_from(["cloudevents", "plain"]))
def test_steps_that_find_nothing_pass_all_bytes(
    data: bytes, steps: list[dict[str, Any]], made_of: str
) -> None:
    """Whatever their pointers are, where none leads to anything and nothing is made."""
    elsewhere = [
        away(step) for step in steps if not step.keys() & {"flatten", "select", "set", "lift"}
    ]
    record = about(data)
    found = outcome(route(steps=elsewhere, format=made_of), record)
    assert found == (None, record.value if made_of == "cloudevents" else data)


def away(step: dict[str, Any]) -> dict[str, Any]:
    """The step, with pointers that lead to nothing in data whose names are drawn here."""
    ((name, arguments),) = step.items()
    if isinstance(arguments, list):
        return {name: [f"{each}/nowhere" for each in arguments]}
    return {name: {f"{each}/nowhere": argument for each, argument in arguments.items()}}


# The configuration.


STEP_NAMES = "select, drop, rename, set, lift, cast, flatten, mask, hash, truncate"
A_POINTER = 'expected a JSON Pointer such as "/customer_id" (RFC 6901)'
POINTER_LIST = 'expected a list of JSON Pointers such as ["/customer_id"] (RFC 6901)'
JSON_VALUE = "expected a JSON value: text, a number, true, false, a list or a table"
AN_ATTRIBUTE = 'expected the name of a CloudEvents attribute such as "id": a to z and digits'
A_LENGTH = "expected a whole number of characters"
NOT_INTO_ITSELF = "cannot be moved to where it is, or into itself"
ONE_OF = 'expected one of "string", "boolean", "int32", "int64", "float32", "float64"'


def test_these_are_the_steps_of_the_contract() -> None:
    """All of them, and no other."""
    assert ", ".join(STEPS) == STEP_NAMES


@pytest.mark.parametrize(
    ("step", "wanted"),
    [
        ("drop", {"": "expected a table"}),
        ({}, {"": "expected a table with something in it"}),
        ({"dorp": ["/a"]}, {"dorp": 'unknown step, did you mean "drop"?'}),
        ({"python": "a > 1"}, {"python": "unknown step"}),
        (
            {"drop": ["/a"], "mask": ["/b"]},
            {"": "one step for each table, since their order counts; not drop, mask"},
        ),
        *(
            ({name: value}, {name: POINTER_LIST})
            for name in ("select", "drop", "mask", "hash")
            for value in ("/a", [], {}, 5)
        ),
        *(
            ({name: ["/a", "b", "/~2", 5, ""]}, {
                f"{name}[1]": A_POINTER + ', did you mean "/b"?',
                f"{name}[2]": A_POINTER,
                f"{name}[3]": A_POINTER,
                f"{name}[4]": A_POINTER,
            })
            for name in ("select", "drop", "mask", "hash")
        ),
        *(
            ({name: value}, {name: "expected a table" + " with something in it" * (value == {})})
            for name in ("rename", "set", "lift", "cast", "truncate")
            for value in ("/a", [], {}, 5)
        ),
        ({"rename": {"a": "/b"}}, {"rename.a": A_POINTER + ', did you mean "/a"?'}),
        ({"rename": {"/a": "b"}}, {'rename."/a"': A_POINTER + ', did you mean "/b"?'}),
        ({"rename": {"/a": "/a"}}, {'rename."/a"': NOT_INTO_ITSELF}),
        ({"rename": {"/a": "/a/b"}}, {'rename."/a"': NOT_INTO_ITSELF}),
        ({"set": {"a": 1}}, {"set.a": A_POINTER + ', did you mean "/a"?'}),
        ({"set": {"/a": date(2026, 1, 1)}}, {'set."/a"': JSON_VALUE}),
        ({"set": {"/a": [{"b": float("inf")}]}}, {'set."/a"': JSON_VALUE}),
        ({"set": {"/a": float("nan")}}, {'set."/a"': JSON_VALUE}),
        ({"lift": {"a": "id"}}, {"lift.a": A_POINTER + ', did you mean "/a"?'}),
        ({"lift": {"/a": 5, "/b": "Id", "/c": ""}}, dict.fromkeys(
            ('lift."/a"', 'lift."/b"', 'lift."/c"'), AN_ATTRIBUTE
        )),
        ({"lift": {"/a": "data"}}, {'lift."/a"': "is no attribute: the steps work on the data"}),
        ({"cast": {"a": "int32"}}, {"cast.a": A_POINTER + ', did you mean "/a"?'}),
        ({"cast": {"/a": "float46", "/b": 5}}, {
            'cast."/a"': ONE_OF + ', did you mean "float64"?', 'cast."/b"': ONE_OF,
        }),
        ({"flatten": ""}, {"flatten": "expected some text"}),
        ({"flatten": True}, {"flatten": "expected some text"}),
        ({"truncate": {"a": 1}}, {"truncate.a": A_POINTER + ', did you mean "/a"?'}),
        *(({"truncate": {"/a": n}}, {'truncate."/a"': A_LENGTH}) for n in (-1, 1.0, "1", True)),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_step_is_said(step: Any, wanted: dict[str, str]) -> None:
    """All at once, each with its key, and with what was meant where that is clear."""
    assert complaints(lambda found: compile_step(step, (), found, HASH_KEY)) == wanted


@pytest.mark.parametrize("key", [None, b""])
def test_hash_needs_a_key(key: bytes | None) -> None:
    """A hash without one could be undone by trying."""
    wanted = {"hash": 'needs forward.hash_key, such as { env = "PII_HASH_KEY" }'}
    assert complaints(lambda found: compile_step({"hash": ["/a"]}, (), found, key)) == wanted


def test_a_step_says_what_it_reads() -> None:
    """By its name, and the attributes that it lifts."""
    step = compile_step({"lift": {"/a": "id", "/b": "subject"}}, (), Problems(), None)
    assert step is not None
    assert (step.name, step.attributes) == ("lift", ("id", "subject"))


def test_a_step_says_whether_it_changed_something() -> None:
    """Only then the data are written anew."""
    step = compile_step({"drop": ["/a"]}, (), Problems(), None)
    assert step is not None
    work = Work(about(b'{"a":1}'))
    assert (step.apply(work), step.apply(work), work.root) == (True, False, {})
