"""A body becomes exactly its events, each as it was sent, or one refusal of the contract."""

from __future__ import annotations

import json
import re
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_http.batch import Batch, BodyError, Splitter
from ingest_http.problem import STATUS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

EVENT_BYTES = 921_600
SPLITTER = Splitter(None, 10_000, EVENT_BYTES)
SMALL = Splitter(None, 3, 20)
BOM = b"\xef\xbb\xbf"
MANY_NUMBERS = (b"1," * 600_000)[:-1]
"""More commas than are decoded unseen."""
DETAIL = re.compile(
    r"not valid JSON: (at byte \d+|the text ends too early)|not UTF-8 at byte \d+"
    r"|nested deeper than 500|an event is a JSON object|larger than \d+ bytes"
    r"|more than \d+ events in one request|the body is empty; a JSON document is expected"
)
"""Everything that is ever said; none of it is a value."""


def fates(batch: Batch) -> list[bytes | str]:
    """Each event as it is usable, or the code of its rejection; every position exactly once."""
    usable = zip(batch.indices, map(bytes, batch.events), strict=True)
    found = [*usable, *((reject.index, reject.code) for reject in batch.rejects)]
    assert sorted(position for position, _ in found) == list(range(batch.count))
    assert len(batch.heads) == len(batch.events)
    assert all(DETAIL.fullmatch(reject.detail) for reject in batch.rejects)
    return [fate for _, fate in sorted(found, key=lambda pair: pair[0])]


def refusal(split: Callable[[bytes], Batch], body: bytes) -> str:
    """The code of the refusal of ``body``."""
    with pytest.raises(BodyError) as refused:
        split(body)
    assert DETAIL.fullmatch(refused.value.detail)
    return refused.value.code


def nested(depth: int) -> bytes:
    """An object that nests so deep, objects and arrays mixed."""
    pairs = [(b'{"a":', b"}"), (b"[", b"]")]
    left, right = zip(*(pairs[level % 2] for level in range(depth - 1)), strict=True)
    innermost = b"{}" if depth % 2 else b"[]"
    return b"".join(left) + innermost + b"".join(reversed(right))


def outcome(split: Callable[[bytes], Batch], body: bytes) -> Batch | BodyError:
    """What comes of ``body``; any other error is one of ours."""
    try:
        return split(body)
    except BodyError as refused:
        return refused


def peak_bytes(split: Callable[[bytes], Batch], body: bytes) -> int:
    """The most memory that is taken to split ``body``, whatever comes of it."""
    tracemalloc.start()
    try:
        outcome(split, body)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# JSON documents.


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"a":1}', [b'{"a":1}']),
        (b' \t\r\n{"a":1}\n ', [b'{"a":1}']),
        (b"[]", []),
        (b" [ \n] ", []),
        (b'[ {"a": 1} ,\n{ } ]', [b'{"a": 1}', b"{ }"]),
        (BOM + b"{}", [b"{}"]),
        (BOM + b"\n[{}]", [b"{}"]),
        (b"1", ["not_an_object"]),
        (b' "x" ', ["not_an_object"]),
        (b"null", ["not_an_object"]),
        (b"true", ["not_an_object"]),
        (b"-1e999", ["not_an_object"]),
        (b"[1]", ["not_an_object"]),
        (
            b'[0,{"a":1},null,"{}",[{}],{"b":2},true]',
            [
                "not_an_object",
                b'{"a":1}',
                "not_an_object",
                "not_an_object",
                "not_an_object",
                b'{"b":2}',
                "not_an_object",
            ],
        ),
    ],
)
def test_a_document_becomes_its_events(body: bytes, expected: list[bytes | str]) -> None:
    """An object is one event, an array a batch, anything else one event that is no object."""
    assert fates(SPLITTER.json(body)) == expected


@pytest.mark.parametrize(
    "event",
    [
        b'{"a":1,"a":2}',
        b'{"id":"a","id":{}}',
        b'{"a":' + b"9" * 400 + b"}",
        b'{"a":-0,"b":0.1e-400,"c":1e999,"d":1E+2}',
        b'{"\\u0061":"\\u0000\\/\\ud83d\\ude00"}',
        '{"ä":"\u2028😀\ufeff\x7f"}'.encode(),
        b'{\t"a"\r\n:\n[ ] }',
        b'{"":{}}',
    ],
)
@pytest.mark.parametrize("form", [b"%b", b"[%b]", b"[1,%b]"])
def test_odd_events_pass_as_they_were_sent(event: bytes, form: bytes) -> None:
    """Duplicate keys, long numbers, escapes and white space are the client's own business."""
    assert fates(SPLITTER.json(form % event))[-1] == event


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "empty_body"),
        (b" \r\n\t", "empty_body"),
        (BOM, "empty_body"),
        (BOM + b"\n", "empty_body"),
        (b"{", "invalid_json"),
        (b"[{}", "invalid_json"),
        (b'[{"secret":', "invalid_json"),
        (b"[{},]", "invalid_json"),
        (b"[,{}]", "invalid_json"),
        (b"[{}{}]", "invalid_json"),
        (b"[{}] x", "invalid_json"),
        (b"[{}][{}]", "invalid_json"),
        (b"{} {}", "invalid_json"),
        (b"{},{}", "invalid_json"),
        (b"{}]", "invalid_json"),
        (b"1 2", "invalid_json"),
        (b"null,", "invalid_json"),
        (b'"secret" x', "invalid_json"),
        (b'"secret', "invalid_json"),
        (b"nul", "invalid_json"),
        (b"secret", "invalid_json"),
        (b"{secret:1}", "invalid_json"),
        (b"{'secret':1}", "invalid_json"),
        (b'{"a":01}', "invalid_json"),
        (b'{"a":.5}', "invalid_json"),
        (b'{"a":+1}', "invalid_json"),
        (b'{"a":NaN}', "invalid_json"),
        (b'[{"a":[NaN]}]', "invalid_json"),
        (b'{"a":Infinity}', "invalid_json"),
        (b'[{"a":-Infinity}]', "invalid_json"),
        (b"NaN", "invalid_json"),
        (b'{"a":"\t"}', "invalid_json"),
        (b'{"a":"\x00"}', "invalid_json"),
        (b'{"a":"\\x41"}', "invalid_json"),
        (b'{"a":"\\ud83d and no more of it"}', "invalid_json"),
        (b"// no comments\n{}", "invalid_json"),
        (b"{}\x00", "invalid_json"),
        (b"\x0b{}", "invalid_json"),
        (BOM + BOM + b"{}", "invalid_json"),
        (b'{"a":"\xff"}', "invalid_utf8"),
        (b'[{},{"a":"\xc0\x80"}]', "invalid_utf8"),
        (b'[{"a":"\xed\xa0\xbd"}]', "invalid_utf8"),
        (b'{"a":"\xf0\x9f\x98"}', "invalid_utf8"),
        ("{}".encode("utf-16"), "invalid_utf8"),
    ],
)
def test_a_broken_document_is_refused_whole(body: bytes, code: str) -> None:
    """Half of a document is no batch: nothing of it is taken, and nothing of it is quoted."""
    assert refusal(SPLITTER.json, body) == code


def test_a_document_that_is_too_large_for_an_event_must_be_json_all_the_same() -> None:
    """Only what is JSON can be a rejected event."""
    assert refusal(SMALL.json, b'{"a":"' + b"x" * 50) == "invalid_json"


# NDJSON.


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", []),
        (b"\n \r\n\t\n", []),
        (BOM, []),
        (b'{"a":1}', [b'{"a":1}']),
        (b'{"a":1}\n{"b":2}', [b'{"a":1}', b'{"b":2}']),
        (b'{"a":1}\r\n{"b":2}\r\n', [b'{"a":1}', b'{"b":2}']),
        (b'\n\n{"a":1}\n\n \t\n{"b":2}\n\n', [b'{"a":1}', b'{"b":2}']),
        (b' {"a":1}\t\n\t{"b":2} ', [b'{"a":1}', b'{"b":2}']),
        (BOM + b'{"a":1}\n{"b":2}', [b'{"a":1}', b'{"b":2}']),
        (b'{"a":1}\r{"b":2}', ["invalid_json"]),
        (b"1\n[{}]\n{}\nnull", ["not_an_object", "not_an_object", b"{}", "not_an_object"]),
        (b"{}]\n[{}", ["invalid_json", "invalid_json"]),
        (b"[{}\n{}]", ["invalid_json", "invalid_json"]),
        (b'{"a":1\n"b":2}', ["invalid_json", "invalid_json"]),
        (b'{"a":[1\n2]}', ["invalid_json", "invalid_json"]),
        (b'"a\nb"', ["invalid_json", "invalid_json"]),
        (b'{"a":"\nb"}', ["invalid_json", "invalid_json"]),
        (b"{},{}\n{}]\n[{}", ["invalid_json", "invalid_json", "invalid_json"]),
        (b'{},{}\n{"a":1\n"b":2}', ["invalid_json", "invalid_json", "invalid_json"]),
    ],
)
def test_a_line_is_an_event(body: bytes, expected: list[bytes | str]) -> None:
    """Blank lines are none, an end of line is not needed at the end, and no event has two lines."""
    assert fates(SPLITTER.ndjson(body)) == expected


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"{},{}", "invalid_json"),
        (b'{"a":1},{"b":2}', "invalid_json"),
        (b"{}]", "invalid_json"),
        (b"[{}", "invalid_json"),
        (b"],[", "invalid_json"),
        (b",", "invalid_json"),
        (b"{},", "invalid_json"),
        (b"{} {}", "invalid_json"),
        (b"1,1", "invalid_json"),
        (b"// comment", "invalid_json"),
        (b"# comment", "invalid_json"),
        (b"/* {} */", "invalid_json"),
        (b'{"a":1', "invalid_json"),
        (b'{"a":"', "invalid_json"),
        (b'{"a":NaN}', "invalid_json"),
        (b'{"a":"\xff"}', "invalid_json"),
        (b"\xff", "invalid_json"),
        (BOM + b"{}", "invalid_json"),
        (b"\x0b", "invalid_json"),
        (b'{"a":"\\ud83d and no more of it"}', "invalid_json"),
        pytest.param(nested(501), "invalid_json", id="501 deep"),
        pytest.param(b"[" * 1000, "invalid_json", id="1000 brackets"),
        pytest.param(b"[" * 100_000, "invalid_json", id="100,000 brackets"),
        pytest.param(b'{"a":' * 9999 + b"1" + b"}" * 9999, "invalid_json", id="9999 deep"),
        (b"17", "not_an_object"),
        (b"[{},{}]", "not_an_object"),
        pytest.param(b'{"a":"%b"}' % (b"x" * EVENT_BYTES), "event_too_large", id="large"),
    ],
)
def test_a_bad_line_is_rejected_alone(line: bytes, code: str) -> None:
    """Its neighbours are usable, and its bytes are kept for the dead letter."""
    batch = SPLITTER.ndjson(b'{"a":1}\n%b\r\n{"b":"\xc3\xa4"}\n' % line)
    assert fates(batch) == [b'{"a":1}', code, b'{"b":"\xc3\xa4"}']
    assert [reject.event for reject in batch.rejects] == [line]


# Nesting.


@pytest.mark.parametrize("form", [b"%b", b"[%b]", b"[{}, %b]", b"[1,%b]"])
def test_a_document_may_nest_500_deep_and_no_deeper(form: bytes) -> None:
    """The array around a batch does not count."""
    deepest = nested(500)
    assert fates(SPLITTER.json(form % deepest))[-1] == deepest
    assert refusal(SPLITTER.json, form % nested(501)) == "too_deep"


def test_a_line_may_nest_500_deep_and_no_deeper() -> None:
    """The line that is too deep is rejected alone."""
    lines = [nested(500), nested(501), nested(500)]
    assert fates(SPLITTER.ndjson(b"\n".join(lines))) == [lines[0], "invalid_json", lines[2]]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"[" * 100_000, id="arrays without ends"),
        pytest.param(b"[" * 100_000 + b"]" * 100_000, id="arrays"),
        pytest.param(b'{"a":' * 100_000, id="objects without ends"),
        pytest.param(b'{"a":' * 100_000 + b"1" + b"}" * 100_000, id="objects"),
        pytest.param(b'[{},{"a":%b%b}]' % (b"[" * 9999, b"]" * 9999), id="within a batch"),
        pytest.param(b'{"a":%b%b}' % (b"[" * 700, b"]" * 700), id="700 arrays"),
        pytest.param(b"[%b%b]" % (b"[" * 501, b"]" * 501), id="an array that is no object"),
        pytest.param(b'[{"a":[%b]},%b' % (MANY_NUMBERS, b"[" * 9999), id="behind many numbers"),
    ],
)
def test_deep_nesting_is_told_as_such(body: bytes) -> None:
    """Whatever finds it: the decoder's own limit, or ours."""
    assert refusal(SPLITTER.json, body) == "too_deep"


def test_a_large_document_may_nest_as_deep_as_a_small_one() -> None:
    """What is scanned before it is decoded has the same bound."""
    split = Splitter(None, 2, 2 * len(MANY_NUMBERS)).json
    form = b'[{"a":[%b]},%%b]' % MANY_NUMBERS
    assert fates(split(form % nested(500)))[1] == nested(500)
    assert refusal(split, form % nested(501)) == "too_deep"


@pytest.mark.parametrize("text", [b"[", b'\\"[{', b"[\\\\", b'\\\\\\"{'])
@pytest.mark.parametrize("form", [b"%b", b"[%b]"])
def test_brackets_inside_of_strings_do_not_nest(text: bytes, form: bytes) -> None:
    """Escaped quotes do not end a string, escaped backslashes do not escape quotes."""
    event = b'{"a":"%b","b":[]}' % (1000 * text)
    assert fates(SPLITTER.json(form % event)) == [event]
    assert fates(SPLITTER.ndjson(event)) == [event]


def test_many_brackets_that_do_not_nest_are_fine() -> None:
    """Depth is what counts."""
    event = b'{"a":[%b[]]}' % (b"[],{}," * 2000)
    assert fates(SPLITTER.json(event)) == [event]


# Limits.


@pytest.mark.parametrize(
    ("split", "three", "four"),
    [
        (SMALL.json, b"[{},{},{}]", b"[{},{},{},{}]"),
        (SMALL.json, b"[{},1,2]", b"[{},1,2,3]"),
        (SMALL.ndjson, b"{}\n{}\n{}", b"{}\n{}\n{}\n{}"),
        (SMALL.ndjson, b"{}\nx\n1\n", b"{}\nx\n1\n\xff\n"),
        (SMALL.ndjson, b"\n\n\n\n {} \r\n{}\n\t\n{}\n\n", b"\n{}\n\n{}\n{}\n{}\n"),
    ],
)
def test_a_batch_may_have_just_so_many_events(
    split: Callable[[bytes], Batch], three: bytes, four: bytes
) -> None:
    """Usable or not, every event counts, and blank lines are none."""
    assert split(three).count == 3
    assert refusal(split, four) == "too_many_events"


def test_lines_are_the_same_whether_they_are_many_or_few() -> None:
    """More line ends than events may be are read another way, to the same end."""
    body = b' {"a":1} \r\n\t\r\n{},{}\r\n\x0b\r\n'
    assert fates(SPLITTER.ndjson(body)) == [b'{"a":1}', "invalid_json", "invalid_json"]
    assert fates(SMALL.ndjson(body)) == [b'{"a":1}', "invalid_json", "invalid_json"]


LARGEST, TOO_LARGE = b'{"id":"x","b":12345}', b'{"id":"x","b":123456}'


@pytest.mark.parametrize(
    ("split", "form"),
    [
        (SMALL.json, b" %b "),
        (SMALL.json, b"[ %b ]"),
        (SMALL.json, b"[%b,{},1]"),
        (SMALL.ndjson, b" %b\r\n"),
        (SMALL.ndjson, b"%b\n{}\nnull"),
    ],
)
def test_an_event_may_have_just_so_many_bytes(split: Callable[[bytes], Batch], form: bytes) -> None:
    """White space around it does not count; the larger one is rejected alone, with its id."""
    assert fates(split(form % LARGEST))[0] == LARGEST
    batch = split(form % TOO_LARGE)
    assert fates(batch)[0] == "event_too_large"
    assert (batch.rejects[0].event, batch.rejects[0].own_id) == (TOO_LARGE, b'"x"')
    assert b"{}" not in form or b"{}" in fates(batch)


def test_what_is_too_large_and_no_object_is_no_object() -> None:
    """Its size is not what is wrong with it first of all."""
    assert fates(SMALL.json(b'"' + b"x" * 50 + b'"')) == ["not_an_object"]


@pytest.mark.parametrize(
    ("split", "body"),
    [
        pytest.param(SPLITTER.json, b"[%b]" % MANY_NUMBERS, id="an array of numbers"),
        pytest.param(SPLITTER.json, b"[" + MANY_NUMBERS, id="one without an end"),
        pytest.param(SPLITTER.ndjson, MANY_NUMBERS, id="a line of numbers"),
        pytest.param(SPLITTER.ndjson, b"\n" * 2_000_000, id="empty lines"),
        pytest.param(SPLITTER.ndjson, b"  \n" * 700_000, id="blank lines"),
        pytest.param(SPLITTER.ndjson, b"\x0b\x0b\n" * 700_000, id="lines that look blank"),
        pytest.param(SPLITTER.ndjson, b"{}\n" * 700_000, id="small events"),
    ],
)
def test_small_elements_do_not_multiply_memory(
    split: Callable[[bytes], Batch], body: bytes
) -> None:
    """A few copies of the body is all that may be taken, however many pieces it has."""
    assert peak_bytes(split, body) < 5 * len(body)


def test_what_is_decoded_unseen_is_bounded() -> None:
    """Up to half a million elements are cheaper to decode than to look for."""
    body = b"[%b]" % MANY_NUMBERS[:999_999]
    assert body.count(b",") == 499_999
    assert peak_bytes(SPLITTER.json, body) < 40_000_000


# What goes with the events.


@pytest.mark.parametrize("form", [b"[%b]", b"[%b,1]"])
def test_heads_are_what_the_events_say_of_themselves(form: bytes) -> None:
    """Each field as it was sent, whatever its type; the record key is one of them."""
    event = b'{"id": 1e5, "x":{"id":0}, "type":["t"],"time":null,"who":{"a":"b"}}'
    batch = Splitter(("who", "a"), 9, 999).json(form % event)
    head: Any = batch.heads[0]
    found = [bytes(field) for field in (head.id, head.type, head.time, head.key)]
    assert found == [b"1e5", b'["t"]', b"null", b'{"a":"b"}']


def test_batches_share_nothing() -> None:
    """What is rejected of one is not rejected of the next."""
    first, second = SPLITTER.json(b"{}"), SPLITTER.json(b"[{}]")
    first.rejects += SPLITTER.json(b"1").rejects
    assert second.rejects == []
    assert Batch(0).rejects == []


# Any input at all.

TEXTS = st.text('ä😀\u2028"\\[]{},\n\ra1')
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXTS, inner, max_size=5),
    max_leaves=8,
)  # fmt: skip
SPACES = st.text(" \t\r\n", max_size=2).map(str.encode)
STYLES = st.fixed_dictionaries(
    {
        "ensure_ascii": st.booleans(),
        "indent": st.sampled_from([None, 1]),
        "sort_keys": st.booleans(),
    }
)
TOKENS = st.sampled_from([
    b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b" ", b"\r", b"\n", b"\x0b", b"\x00", b"\xff",
    BOM, b"null", b"-1.5e3", b"NaN", b'"x"', b'"\xc3\xa4"', b'"\\ud800"', b'{"id":',
    b'{"a":{"b":[]}}', b"{}", b"{},{}", b"{}]", b"[{}", b"\n{}\n",
])  # fmt: skip
BODIES = st.binary(max_size=40) | st.lists(TOKENS, max_size=12).map(b"".join)


class Pairs(list[Any]):
    """A JSON object with all its members."""


def value_of(text: bytes) -> Any:
    """What another decoder makes of JSON text, in which only text that is text may be.

    Raises:
        ValueError: it is none.
    """

    def no_constant(_: str) -> Any:
        raise ValueError

    value = json.loads(
        text.decode(), object_pairs_hook=Pairs, parse_constant=no_constant, parse_float=str
    )
    json.dumps(value, ensure_ascii=False).encode()
    return value


def fate_of_line(line: bytes) -> bytes | str:
    """What must become of a line by itself."""
    try:
        value = value_of(line)
    except ValueError:
        return "invalid_json"
    return line if isinstance(value, Pairs) else "not_an_object"


def styled(value: Any, style: dict[str, Any]) -> bytes:
    """JSON text, spelt in one of many ways."""
    return json.dumps(value, **style).encode()


@given(st.lists(st.tuples(VALUES, STYLES, SPACES, SPACES)), SPACES)
@settings(deadline=None)
def test_every_array_of_values_becomes_its_events(
    items: Sequence[tuple[Any, dict[str, Any], bytes, bytes]], space: bytes
) -> None:
    """Objects keep their bytes, exactly the others are rejected, with theirs."""
    texts = [styled(value, style) for value, style, _, _ in items]
    spaced = [
        before + text + after for text, (_, _, before, after) in zip(texts, items, strict=True)
    ]
    batch = SPLITTER.json(space + b"[" + space + b",".join(spaced) + b"]" + space)
    objects = [isinstance(value, dict) for value, *_ in items]
    assert fates(batch) == [
        text if usable else "not_an_object" for text, usable in zip(texts, objects, strict=True)
    ]
    kept = [reject.event for reject in batch.rejects]
    assert kept == [text for text, usable in zip(texts, objects, strict=True) if not usable]


@given(BODIES, st.sampled_from([SPLITTER, SMALL]))
@settings(deadline=None, max_examples=500)
def test_any_bytes_are_a_batch_or_a_refusal(body: bytes, splitter: Splitter) -> None:
    """Nothing else ever comes of a body, and no refusal quotes it."""
    for split in (splitter.json, splitter.ndjson):
        found = outcome(split, body)
        if isinstance(found, Batch):
            fates(found)
        else:
            assert found.code in STATUS
            assert DETAIL.fullmatch(found.detail)


@given(BODIES)
@settings(deadline=None, max_examples=500)
def test_lines_fare_as_they_would_alone(body: bytes) -> None:
    """Decoding many lines at once gives what another decoder says of each."""
    lines = [line.strip(b" \t\r") for line in body.removeprefix(BOM).split(b"\n")]
    assert fates(SPLITTER.ndjson(body)) == [fate_of_line(line) for line in lines if line]


@given(BODIES)
@settings(deadline=None, max_examples=500)
def test_what_is_a_document_is_what_another_decoder_says(body: bytes) -> None:
    """The same bodies are refused, and of the others the same elements are objects."""
    try:
        value = value_of(body.removeprefix(BOM))
    except ValueError:
        assert STATUS[refusal(SPLITTER.json, body)] == 400
        return
    events = value if isinstance(value, list) and not isinstance(value, Pairs) else [value]
    found = [fate == "not_an_object" for fate in fates(SPLITTER.json(body))]
    assert found == [not isinstance(event, Pairs) for event in events]
