"""The envelope: CloudEvents around bytes that stay as they were sent, and what it takes of them."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from ingest.envelope import (
    CONTENT_TYPE,
    MADE_ENDS,
    BadKey,
    Envelope,
    Received,
    data_of,
    event_id,
    head_type,
    id_of,
    is_date_time,
    made_id,
    record_key,
)
from ingest.sources import pointer_tokens

TIME = "2026-11-23T12:00:00.000000Z"
RECEIVED = Received(TIME.encode(), 1_795_435_200_000, b"base")


def seal(*events: bytes, indices: list[int] | None = None) -> list[bytes]:
    """The record values of ``events`` of the source ``orders``, whose type is ``order.created``."""
    heads = [msgspec.json.decode(event, type=head_type(None)) for event in events]
    positions = range(len(events)) if indices is None else indices
    return Envelope("orders", "order.created").seal(heads, events, positions, RECEIVED)


def attributes(event: bytes) -> dict[str, Any]:
    """What is around ``event`` once it is sealed."""
    (value,) = seal(event)
    sealed = json.loads(value)
    del sealed["data"]
    return sealed


def keys(pointer: str, *events: bytes) -> list[bytes | BadKey | None]:
    """The record keys of ``events`` of a source whose key is at ``pointer``."""
    tokens = pointer_tokens(pointer)
    kind = head_type(tokens)
    heads = [msgspec.json.decode(event, type=kind) for event in events]
    return Envelope("orders", "order.created", tokens).keys(heads)


def test_a_plain_event_gets_every_attribute_and_no_other() -> None:
    """Without fields of its own, the source and the request say everything."""
    assert attributes(b'{"total":1}') == {
        "specversion": "1.0",
        "source": "/sources/orders",
        "type": "order.created",
        "time": TIME,
        "id": "base-0",
    }


def test_constants_come_first_and_data_last() -> None:
    """Batches compress better when records begin alike, and data ends one byte before the value."""
    (value,) = seal(b'{"total":1}')
    assert value.startswith(b'{"specversion":"1.0","source":"/sources/orders","type":')
    assert value.endswith(b',"data":{"total":1}}')


def test_the_content_type_is_that_of_structured_json() -> None:
    """The header of every record, as the Kafka binding of CloudEvents has it."""
    assert CONTENT_TYPE == ("content-type", b"application/cloudevents+json; charset=UTF-8")


@pytest.mark.parametrize(
    "event",
    [
        b'{"a":1,"a":2}',
        b'{"n":' + b"7" * 400 + b"}",
        b'{"f":1.10000000000000000000000001e+400}',
        b'{ "spaced" :\t[1 , 2]\r\n}',
        b'{"\\u0061":"\\/\\u00e9"}',
        '{"é":"€😀"}'.encode(),
        b'{"data":{"x":1},"specversion":"0.3","source":"/elsewhere"}',
        b'{"s":",\\"data\\":","t":"}}"}',
        b"{}",
    ],
)
def test_data_is_what_the_client_sent_byte_by_byte(event: bytes) -> None:
    """Duplicate keys, long numbers, spaces and escapes pass; nothing of it is read as ours."""
    (value,) = seal(event)
    assert value.endswith(b',"data":' + event + b"}")
    assert data_of(value) == event
    assert id_of(value) == "base-0"


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (b'"x"', "x"),
        (b'"%b"' % (b"x" * 256), "x" * 256),
        (b'"%b"' % (b"x" * 257), None),
        (b'"%b"' % ("é" * 128).encode(), "é" * 128),
        (b'"%b"' % ("é" * 129).encode(), None),
        (b'"%b"' % (b"\\u00e9" * 128), "é" * 128),
        (b'"%b"' % (b"\\u00e9" * 129), None),
        (b'"%b"' % (b"\\u0000" * 256), "\0" * 256),
        (b'"%b"' % (b"\\u0000" * 257), None),
        (b'"%b"' % (b"\\ud83d\\ude00" * 64), "😀" * 64),
        (b'"%b"' % (b"\\ud83d\\ude00" * 65), None),
        (b'"a\\"b\\\\"', 'a"b\\'),
        (b'",\\"data\\":"', ',"data":'),
        (b'"1"', "1"),
        (b'""', None),
        (b"0", "0"),
        (b"-12.50", "-12.50"),
        (b"1E+05", "1E+05"),
        (b"9" * 256, "9" * 256),
        (b"9" * 257, None),
        (b"12345678901234567890123", "12345678901234567890123"),
        (b"null", None),
        (b"true", None),
        (b'{"id":"x"}', None),
        (b'["x"]', None),
    ],
)
def test_an_id_of_its_own_is_a_string_or_a_number_of_1_to_256_bytes(
    own: bytes, expected: str | None
) -> None:
    """A number keeps its JSON text; what is not fit gets an id that is made."""
    (value,) = seal(b'{"id":%b}' % own)
    wanted = "base-0" if expected is None else expected
    assert json.loads(value)["id"] == id_of(value) == wanted
    assert data_of(value) == b'{"id":%b}' % own
    found = event_id(own)
    assert (None if found is None else json.loads(found)) == expected


def test_an_id_next_to_a_type_or_time_is_kept_as_well() -> None:
    """An event that brings all three keeps all three, one that brings none of them fit, none."""
    own = attributes(b'{"id":"i","type":"t","time":"2026-01-02T03:04:05Z"}')
    assert (own["id"], own["type"], own["time"]) == ("i", "t", "2026-01-02T03:04:05Z")
    made = attributes(b'{"id":null,"type":7,"time":"yesterday"}')
    assert (made["id"], made["type"], made["time"]) == ("base-0", "order.created", TIME)


@pytest.mark.parametrize("index", [0, 7, MADE_ENDS - 1, MADE_ENDS, MADE_ENDS + 12_345])
@pytest.mark.parametrize("event", [b"{}", b'{"type":"t"}', b'{"id":false}'])
def test_made_ids_end_with_the_position_in_the_request(event: bytes, index: int) -> None:
    """On every way through: base, a dash, and the index, whatever else the event brings."""
    (value,) = seal(event, indices=[index])
    assert id_of(value) == f"base-{index}"
    assert json.loads(made_id(b"base", index)) == f"base-{index}"


def test_each_event_of_a_batch_keeps_its_own_attributes() -> None:
    """Values come in the order of the events, and nobody inherits a neighbour's fields."""
    values = seal(b'{"id":"a","type":"t"}', b"{}", b'{"id":"c"}', b"{}", indices=[0, 2, 3, 9])
    assert [id_of(value) for value in values] == ["a", "base-2", "c", "base-9"]
    assert [json.loads(value)["type"] for value in values] == ["t", *["order.created"] * 3]


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (b'"refund"', "refund"),
        (b'"\\u00e9\\"x"', 'é"x'),
        (b'",\\"data\\":"', ',"data":'),
        (b'""', "order.created"),
        (b"1", "order.created"),
        (b"null", "order.created"),
        (b'["refund"]', "order.created"),
    ],
)
def test_a_type_of_its_own_is_a_string_that_is_not_empty(own: bytes, expected: str) -> None:
    """CloudEvents has no empty types; anything else falls back to the source's."""
    assert attributes(b'{"type":%b}' % own)["type"] == expected


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("2026-11-23T12:00:00Z", True),
        ("2026-11-23t12:00:00z", True),
        ("2026-11-23T12:00:00.1Z", True),
        ("2026-11-23T12:00:00.123456789012+05:30", True),
        ("2026-11-23T12:00:00-00:00", True),
        ("2016-12-31T23:59:60Z", True),
        ("2024-02-29T00:00:00Z", True),
        ("2000-02-29T00:00:00Z", True),
        ("0000-01-01T00:00:00Z", True),
        ("2023-02-29T00:00:00Z", False),
        ("1900-02-29T00:00:00Z", False),
        ("2024-02-30T00:00:00Z", False),
        ("2026-04-30T00:00:00Z", True),
        ("2026-04-31T00:00:00Z", False),
        ("2026-06-31T00:00:00Z", False),
        ("2026-09-31T00:00:00Z", False),
        ("2026-11-31T00:00:00Z", False),
        ("2026-12-31T00:00:00Z", True),
        ("2026-00-10T00:00:00Z", False),
        ("2026-13-10T00:00:00Z", False),
        ("2026-01-00T00:00:00Z", False),
        ("2026-01-32T00:00:00Z", False),
        ("2026-11-23T24:00:00Z", False),
        ("2026-11-23T23:60:00Z", False),
        ("2026-11-23T23:59:61Z", False),
        ("2026-11-23T12:00:00+24:00", False),
        ("2026-11-23T12:00:00+01:60", False),
        ("2026-11-23T12:00:00+0100", False),
        ("2026-11-23T12:00:00.Z", False),
        ("2026-11-23T12:00:00", False),
        ("2026-11-23 12:00:00Z", False),
        ("2026-11-23T12:00Z", False),
        ("26-11-23T12:00:00Z", False),
        ("2026-11-23", False),
        ("٢٠٢٦-11-23T12:00:00Z", False),
        ("2026-11-23T12:00:00Z ", False),
        ("", False),
    ],
)
def test_a_time_of_its_own_is_a_date_time_of_rfc_3339(text: str, fits: bool) -> None:  # noqa: FBT001
    """Passed on as it was sent; anything else becomes the time of receipt."""
    own = json.dumps(text, ensure_ascii=False).encode()
    assert is_date_time(own) is fits
    assert attributes(b'{"time":%b}' % own)["time"] == (text if fits else TIME)


@pytest.mark.parametrize("own", [b"null", b"1795435200", b'["2026-11-23T12:00:00Z"]', b"{}"])
def test_a_time_that_is_no_string_becomes_the_time_of_receipt(own: bytes) -> None:
    """Whatever its type, it never fails the event."""
    assert not is_date_time(own)
    assert attributes(b'{"time":%b}' % own)["time"] == TIME


@pytest.mark.parametrize(
    ("pointer", "event", "key"),
    [
        ("/k", b'{"k":"customer-1"}', b"customer-1"),
        ("/k", '{"k":"é"}'.encode(), "é".encode()),
        ("/k", b'{"k":"\\u00e9\\n\\"\\/"}', 'é\n"/'.encode()),
        ("/k", b'{"k":""}', b""),
        ("/k", b'{"k":12.50}', b"12.50"),
        ("/k", b'{"k":-1E5}', b"-1E5"),
        ("/k", b'{"k":123456789012345678901234567890}', b"123456789012345678901234567890"),
        ("/k", b'{"k":true}', b"true"),
        ("/k", b'{"k":false}', b"false"),
        ("/k", b'{"k":null}', None),
        ("/k", b'{"other":1}', None),
        ("/k", b'{ "k" :\n "spaced" }', b"spaced"),
        ("/k", b'{"k":1,"k":"last"}', b"last"),
        ("/a/b/c", b'{"a":{"x":0,"b":{"c":"deep"}}}', b"deep"),
        ("/a/b", b'{"a":{"b":null}}', None),
        ("/a/b", b'{"a":{}}', None),
        ("/a/b", b'{"a":null}', None),
        ("/a/b", b'{"a":"b"}', None),
        ("/a/b", b'{"a":7}', None),
        ("/a/0", b'{"a":["first"]}', None),
        ("/a/0", b'{"a":{"0":"zero"}}', b"zero"),
        ("/a~1b", b'{"a/b":"slash"}', b"slash"),
        ("/a~0b", b'{"a~b":"tilde"}', b"tilde"),
        ("/~01", b'{"~1":"tilde one","/":"slash"}', b"tilde one"),
        ("/a/~1~0", b'{"a":{"/~":"nested"}}', b"nested"),
        ("/", b'{"":"empty name"}', b"empty name"),
        ("//", b'{"":{"":"twice"}}', b"twice"),
        ("/é", b'{"\\u00e9":"escaped name"}', b"escaped name"),
        ("/a/é", b'{"a":{"\\u00e9":"escaped name"}}', b"escaped name"),
        ("/key", b'{"key":"k"}', b"k"),
        ("/id", b'{"id":"own"}', b"own"),
        ("/id", b'{"id":7}', b"7"),
        ("/type", b'{"type":"t"}', b"t"),
        ("/time/zone", b'{"time":{"zone":"utc"}}', b"utc"),
        ("/id/x", b'{"id":{"x":"y"}}', b"y"),
    ],
)
def test_the_key_is_the_text_of_the_value_at_the_pointer(
    pointer: str, event: bytes, key: bytes | None
) -> None:
    """Strings as UTF-8, numbers and booleans as sent, nothing for null and absent, objects only."""
    assert keys(pointer, event) == [key]


@pytest.mark.parametrize(
    ("pointer", "event"),
    [
        ("/k", b'{"k":{}}'),
        ("/k", b'{"k":[]}'),
        ("/k", b'{"k":["x"]}'),
        ("/a/b", b'{"a":{"b":{"c":1}}}'),
        ("/id", b'{"id":[1]}'),
    ],
)
def test_an_object_or_array_is_a_bad_key(pointer: str, event: bytes) -> None:
    """It is told for its own event, between neighbours that have theirs."""
    before, bad, after = keys(pointer, b"{}", event, b"{}")
    assert (before, after) == (None, None)
    assert isinstance(bad, BadKey)


def test_a_source_without_a_key_has_none() -> None:
    """Nothing of an event is taken for a key unless the source says so."""
    heads = [msgspec.json.decode(b'{"key":"k","id":"i"}', type=head_type(None))]
    assert Envelope("orders", "t").keys([*heads, *heads]) == [None, None]
    assert record_key(b"") is None


def test_a_keyed_event_is_sealed_like_any_other() -> None:
    """The field for the key changes neither the attributes nor the data."""
    tokens = ("customer",)
    event = b'{"customer":"c","id":"i","type":"t"}'
    head = msgspec.json.decode(event, type=head_type(tokens))
    (value,) = Envelope("orders", "order.created", tokens).seal([head], [event], [0], RECEIVED)
    assert [value] == seal(event)


def test_events_may_come_as_slices_of_a_body() -> None:
    """`msgspec.Raw` and bytes are sealed to the same value."""
    body = b'[ {"id":"a"} , {"n":1} ]'
    slices = msgspec.json.decode(body, type=list[Raw])
    heads = msgspec.json.decode(body, type=list[head_type(None)])
    values = Envelope("orders", "order.created").seal(heads, slices, range(2), RECEIVED)
    assert values == seal(b'{"id":"a"}', b'{"n":1}')


def test_a_configured_type_is_escaped() -> None:
    """The source's own type may hold quotes and letters of any language."""
    (value,) = Envelope("s", 'caf\u00e9 "x"\\').seal([head_type(None)()], [b"{}"], [0], RECEIVED)
    assert json.loads(value)["type"] == 'caf\u00e9 "x"\\'


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
own_fields = st.fixed_dictionaries(
    {},
    optional={
        "id": json_values | st.text(min_size=120, max_size=300),
        "type": json_values,
        "time": json_values | st.datetimes().map(lambda moment: f"{moment.isoformat()}Z"),
    },
)
events = st.builds(
    lambda own, other: {**other, **own},
    own_fields,
    st.dictionaries(st.text(), json_values, max_size=4),
)


@given(
    batch=st.lists(events, max_size=4),
    ascii_only=st.booleans(),
    separators=st.sampled_from([(",", ":"), (", ", ": ")]),
)
def test_any_json_object_comes_out_whole(
    batch: list[dict[str, Any]],
    ascii_only: bool,  # noqa: FBT001
    separators: tuple[str, str],
) -> None:
    """Both parsers read the value; data equals the event, and the attributes are CloudEvents'."""
    texts = [
        json.dumps(event, ensure_ascii=ascii_only, separators=separators).encode("utf-8")
        for event in batch
    ]
    for value, text, event in zip(seal(*texts), texts, batch, strict=True):
        sealed = json.loads(value)
        assert list(sealed) == ["specversion", "source", "type", "time", "id", "data"]
        assert sealed["data"] == event
        assert data_of(value) == text
        assert (sealed["specversion"], sealed["source"]) == ("1.0", "/sources/orders")
        assert all(isinstance(sealed[name], str) and sealed[name] for name in ("id", "type"))
        assert is_date_time(json.dumps(sealed["time"]).encode())
        assert id_of(value) == sealed["id"]
        assert len(sealed["id"].encode()) <= 256
        assert orjson.loads(value)["id"] == sealed["id"]
