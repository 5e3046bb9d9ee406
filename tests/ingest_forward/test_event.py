"""A record as routes see it: what is an event, what is in it, and how it is written anew."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.errors import Rejected
from ingest_forward.document import text_of
from ingest_forward.event import Event, Reading
from tests.ingest_forward.engine import HEAD, about, event, sealed, texts

HEADERS = [("a", b"1"), ("b", b"2"), ("a", b"3"), ("n", None), ("a", None), ("a", b""), ("n", b"x")]


def code_of(value: bytes | None) -> tuple[str, str]:
    """How a value is rejected: code and detail."""
    with pytest.raises(Rejected) as caught:
        _ = event(value).envelope
    return caught.value.code, caught.value.detail


@pytest.mark.parametrize(
    "value",
    [
        sealed(b"{}"),
        b' { "specversion" : "1.0", "id":"1", "source":"s", "type":"t" } ',
        b'{"specversion":"1.0","id":"1","source":"s","type":"t","data_base64":"eA=="}',
        b'{"specversion":"\\u0031.0","id":"1","source":"s","type":"t","x":[{}]}',
        sealed(b"9" * 5000),
    ],
)
def test_what_is_an_event(value: bytes) -> None:
    """JSON with the attributes that CloudEvents 1.0 requires, whatever else there is."""
    assert event(value).envelope.specversion == "1.0"


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        (b"5", "the value is no JSON object"),
        (b"[]", "the value is no JSON object"),
        (b'"text"', "the value is no JSON object"),
        (b"null", "the value is no JSON object"),
        (b"{}", "without specversion, id, source, type"),
        (b'{"total":5}', "without specversion, id, source, type"),
        (sealed(b"1").replace(b'"id":"7",', b""), "without id"),
        (sealed(b"1").replace(b'"1.0"', b'"0.3"'), "specversion is not 1.0"),
        (sealed(b"1").replace(b'"1.0"', b"1.0"), "specversion is not 1.0"),
        (sealed(b"1").replace(b'"7"', b"7"), "an attribute is no text, or empty"),
        (sealed(b"1").replace(b'"7"', b'""'), "an attribute is no text, or empty"),
        (sealed(b"1").replace(b'"7"', b"null"), "an attribute is no text, or empty"),
        (sealed(b"1").replace(b'"order.created"', b"{}"), "an attribute is no text, or empty"),
        (None, "the value is null"),
    ],
)
def test_what_is_no_event(value: bytes | None, detail: str) -> None:
    """JSON that is none is ``not_cloudevents``, with what is missing by its name, and no values."""
    assert code_of(value) == ("not_cloudevents", detail)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b" ",
        b"{",
        b"nul",
        b"[1,",
        b"\xef\xbb\xbf{}",
        b"{} x",
        b'{"id":5,',
        b'{"specversion":"0.3", bad}',
        b'{"a":"\xff"}',
        b'{"a":"\xed\xa0\x80"}',
        sealed(b'"\xff"'),
        sealed(b'{"\xc3":1}'),
        sealed(b'"\\ud800"'),
        sealed(b'"\\q"'),
        sealed(b'"\x01"'),
        sealed(b"01"),
        sealed(b"NaN"),
        sealed(b"[1,]"),
        sealed(b"") + b"{}",
        sealed(b"[" * 100_000 + b"]" * 100_000),
    ],
)
def test_what_is_no_json(value: bytes) -> None:
    """It is ``invalid_json``, also where its beginning alone is enough to be no event."""
    assert code_of(value)[0] == "invalid_json"


@settings(max_examples=120, deadline=None, derandomize=True)
@given(st.binary(max_size=40), st.integers(0, 120), st.integers(0, 40))
def test_any_bytes_are_an_event_or_rejected(noise: bytes, at: int, cut: int) -> None:
    """With one of two codes, and nothing else is ever raised."""
    value = sealed(b'{"a":1}')
    for each in (noise, value[:at] + noise + value[at + cut :]):
        try:
            found = event(each).envelope
        except Rejected as error:
            assert error.code in {"invalid_json", "not_cloudevents"}  # noqa: PT017 - or no error
        else:
            assert json.loads(each)["id"] == found.id


def test_a_bad_value_is_rejected_each_time() -> None:
    """Each route that looks into it is told."""
    record = event(b"{")
    for _ in range(2):
        with pytest.raises(Rejected):
            _ = record.data


@settings(max_examples=100, deadline=None, derandomize=True)
@given(texts(twins=True))
def test_data_are_as_they_were_sent(data: bytes) -> None:
    """Byte by byte, whether somebody looked at them or not."""
    record = about(data)
    assert record.raw_data == data
    assert json.loads(text_of(record.data), parse_int=str) == json.loads(data, parse_int=str)
    assert record.raw_data == data


def test_an_event_may_have_no_data() -> None:
    """Or binary ones, which are as good as none to a route."""
    record = event(b'{"data_base64":"eA==",' + HEAD[1 : -len(b',"data":')] + b"}")
    assert (record.data, record.raw_data) == (None, None)


def test_null_is_data() -> None:
    """It is not as if there were none."""
    record = about(b"null")
    assert (text_of(record.data), record.raw_data) == (b"null", b"null")


@pytest.mark.parametrize(
    ("members", "wanted"),
    [
        (b'"subject":"a\\/b"', b'"a\\/b"'),
        (b'"subject":5.0', b"5.0"),
        (b'"subject":{ "x" : 1 }', b'{ "x" : 1 }'),
        (b'"subject":1,"subject":2', b"2"),
        (b'"s\\u0075bject":"x"', b'"x"'),
        (b'"subject":null', None),
        (b'"other":1', None),
    ],
)
def test_attributes_are_read_as_they_were_sent(members: bytes, wanted: bytes | None) -> None:
    """One that is null is unset (CloudEvents JSON Event Format 1.0.2, section 2.2)."""
    found = event(b"{" + members + b"," + HEAD[1:] + b"1}").attribute("subject")
    assert (None if found is None else bytes(found)) == wanted


def test_required_attributes_are_always_there() -> None:
    """As JSON."""
    found = {name: bytes(about(b"1").attribute(name) or b"") for name in ("id", "source", "type")}
    assert found == {"id": b'"7"', "source": b'"/sources/web"', "type": b'"order.created"'}


def test_attributes_of_any_name_can_be_read() -> None:
    """Also one that is called like a word of Python, or like what we call things here."""
    names = ["class", "attribute0", "gc", "time"]
    members = b"".join(b'"%b":"%b",' % (name.encode(), name.encode()) for name in names)
    value = b"{" + members + HEAD[1:] + b"1}"
    record = Event("t", None, value, [], Reading(names))
    assert [bytes(record.attribute(name) or b"") for name in names] == [
        b'"%b"' % name.encode() for name in names
    ]


def test_with_other_data_all_else_stays_as_it_was_sent() -> None:
    """In its order and spelling, also members that nobody knows; of twins the last is left."""
    value = (
        b' {"specversion" : "1.0","id":"\\u0041","data":{"a":1},"source":"s", "x" :{ "y":1.50 },'
        b'"type":"t","time":"a","time":"b"}'
    )
    assert event(value).with_data({"b": 2}) == (
        b'{"specversion":"1.0","id":"\\u0041","data":{"b":2},"source":"s","x":{ "y":1.50 },'
        b'"type":"t","time":"b"}'
    )


@pytest.mark.parametrize(("name", "value"), [("a", b""), ("b", b"2"), ("n", b"x"), ("x", None)])
def test_the_last_header_of_a_name_counts(name: str, value: bytes | None) -> None:
    """Whatever those before it are."""
    assert event(b"", headers=HEADERS).header(name) == value


@pytest.mark.parametrize("value", [None, b"", b"{", b"\xff"])
def test_what_is_around_the_value_needs_no_look_into_it(value: bytes | None) -> None:
    """Topic, key and headers are there for any value."""
    record: Any = event(value, "t", b"k", HEADERS)
    assert (record.topic, record.key, record.header("b"), record.value) == ("t", b"k", b"2", value)
