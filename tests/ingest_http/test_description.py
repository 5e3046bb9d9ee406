"""What a source accepts is told so that it works when it is done, as it was told."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.schema import Schema
from ingest.settings import LimitSettings
from ingest.sources import Source, pointer, pointer_tokens
from ingest_http import description as description_module
from ingest_http.auth import QUOTAS
from ingest_http.decode import SUPPORTED
from ingest_http.description import (
    PASTED_BYTES,
    Offer,
    base_url,
    curl,
    description,
    example,
)
from ingest_http.negotiation import MEDIA_TYPES

if TYPE_CHECKING:
    from pathlib import Path

LIMITS = LimitSettings()
URL = "https://ingest.example.com/v1/events/orders"
KEY = "ing_secret-key"


def offer(key: str | None = None, schema: Any = None, validate: str = "enforce") -> Offer:
    """Of the source ``orders``."""
    tokens = None if key is None else pointer_tokens(key)
    compiled = None if schema is None else Schema(json.dumps(schema).encode())
    return Offer(Source("orders", "orders.v1", "order.created", tokens), compiled, validate, ())


def described(what: Offer, limits: LimitSettings = LIMITS, **changes: Any) -> dict[str, Any]:
    """Its description, for a caller without quotas."""
    arguments = {
        "base_url": "https://ingest.example.com",
        "credential": "key",
        "quota": None,
        "dead_letter_topic": "ingest.rejected",
    }
    return description(what, limits, **(arguments | changes))


def at(event: Any, key: str) -> Any:
    """The value at a JSON Pointer."""
    for token in pointer_tokens(key):
        event = event[token]
    return event


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a ``curl`` that prints its arguments as JSON."""
    folder = tmp_path_factory.mktemp("bin")
    program = folder / "curl"
    program.write_text(f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n")
    program.chmod(0o755)
    return folder


def arguments_of(line: str, shell: Path) -> list[str]:
    """With what a shell starts ``curl`` when the line is pasted into it."""
    environment = {"PATH": f"{shell}:/usr/bin:/bin", "API_KEY": KEY, "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        ["bash", "-c", line], env=environment, capture_output=True, check=True, cwd=shell
    )
    assert done.stderr == b""
    arguments: list[str] = json.loads(done.stdout)
    return arguments


def test_a_description_says_everything_that_a_client_needs() -> None:
    """Names and numbers are those of the configuration."""
    schema = {"type": "object", "properties": {"customer_id": {"type": "string"}}}
    limits = LimitSettings(
        body_bytes=1, decoded_bytes=2, event_bytes=300, batch_events=4, ack_seconds=5.5
    )
    what = offer("/customer_id", schema, "warn")
    found = described(what, limits, quota={"events_per_second": 7})
    line, event = found.pop("curl"), found.pop("example")
    optional = found.pop("optional")
    assert found == {
        "source": "orders",
        "url": URL,
        "topic": "orders.v1",
        "type": "order.created",
        "key": "/customer_id",
        "media_types": list(MEDIA_TYPES),
        "content_codings": sorted(SUPPORTED),
        "schema": schema,
        "validate": "warn",
        "limits": {
            "body_bytes": 1,
            "decoded_bytes": 2,
            "event_bytes": 300,
            "batch_events": 4,
            "ack_seconds": 5.5,
        },
        "quotas": {"events_per_second": 7},
        "dead_letter_topic": "ingest.rejected",
        "cors_origins": [],
    }
    assert isinstance(event["customer_id"], str)
    assert line.startswith("curl ")
    assert optional.keys() == {
        "Content-Encoding",
        "Idempotency-Key",
        "X-Request-Id",
        "traceparent",
        "?dry_run=1",
        "?results=all",
    }


def test_what_is_not_configured_is_said_to_be_absent() -> None:
    """No member is missing, whatever the source is like."""
    bare = described(offer(), dead_letter_topic=None)
    full = described(offer("/a", {"type": "object"}), quota=dict.fromkeys(QUOTAS, 1))
    assert bare.keys() == full.keys()
    absent = ("key", "schema", "validate", "quotas", "dead_letter_topic")
    assert [bare[name] for name in absent] == [None, None, "off", {}, None]


def test_a_description_is_fit_for_json() -> None:
    """It says the same after a round trip."""
    found = described(offer("/a/b", {"type": "object"}), quota={"bytes_per_second": 1})
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize(
    ("key", "schema"),
    [
        ("/customer_id", None),
        ("/customer/id", None),
        ("/a~1b/~0/ü/it's", None),
        ("/", None),
        ("/customer_id", {"type": "object"}),
        ("/customer/id", {"type": "object", "additionalProperties": {"type": "object"}}),
        ("/n", {"properties": {"n": {"type": "integer", "minimum": 3}}}),
        (
            "/customer/id",
            {
                "type": "object",
                "required": ["total", "customer"],
                "properties": {
                    "total": {"type": "number", "minimum": 0},
                    "customer": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {"name": {"type": "string"}, "id": {"type": "integer"}},
                        "additionalProperties": False,
                    },
                },
                "additionalProperties": False,
            },
        ),
    ],
)
def test_an_example_has_a_record_key_and_matches_the_schema(key: str, schema: Any) -> None:
    """Nested keys and odd names as well."""
    what = offer(key, schema)
    event = example(what, LIMITS)
    assert event is not None
    assert isinstance(at(json.loads(event), key), str | int)
    assert what.schema is None or what.schema.check(event) is None


def test_an_example_goes_without_a_key_where_the_schema_forbids_one() -> None:
    """It is an event that is accepted before it is anything else."""
    schema = {"properties": {"a": {}}, "required": ["a"], "additionalProperties": False}
    what = offer("/b", schema)
    event = example(what, LIMITS)
    assert event is not None
    assert json.loads(event).keys() == {"a"}


@pytest.mark.parametrize(
    ("event", "keyed"),
    [
        ({"n": 1, "customer": {"name": "x"}}, {"n": 1, "customer": {"name": "x", "id": "i-17"}}),
        ({"customer": {"id": 5, "name": "x"}}, {"customer": {"id": 5, "name": "x"}}),
        ({"customer": {"id": None}}, {"customer": {"id": "i-17"}}),
        ({"customer": {"id": []}}, {"customer": {"id": "i-17"}}),
        ({"customer": 1}, {"customer": {"id": "i-17"}}),
        ({"closed": 1}, {"closed": 1}),
    ],
)
def test_a_key_is_added_where_it_may_be(event: Any, keyed: Any) -> None:
    """What else the event has stays, and so does a key of its own."""
    schema = Schema(b'{"not": {"required": ["closed", "customer"]}}')
    found = description_module._keyed(json.dumps(event).encode(), ("customer", "id"), schema)
    assert json.loads(found) == keyed


def test_a_schema_that_is_off_is_no_matter() -> None:
    """Any event is accepted then."""
    assert example(offer("/a", False, "off"), LIMITS) == b'{"a":"a-17"}'
    assert example(offer("/a", False), LIMITS) is None


@pytest.mark.parametrize(
    ("what", "limits"),
    [
        (offer("/a", False), LIMITS),
        (offer("/a"), LimitSettings(event_bytes=11)),
    ],
)
def test_where_there_is_no_example_the_line_sends_a_file(
    what: Offer, limits: LimitSettings, shell: Path
) -> None:
    """No event that is refused is ever told as an example."""
    found = described(what, limits)
    assert found["example"] is None
    assert arguments_of(found["curl"], shell)[-2:] == ["-d", "@event.json"]
    assert example(what, LimitSettings(event_bytes=12)) == (
        b'{"a":"a-17"}' if not what.schema else None
    )


@pytest.mark.parametrize("size", [PASTED_BYTES, PASTED_BYTES + 1])
def test_large_examples_are_not_pasted(size: int) -> None:
    """Terminals cut long lines."""
    event = b'{"a":"' + b"x" * (size - 8) + b'"}'
    assert len(event) == size
    data = shlex.split(curl(URL, event, "key"))[-1]
    assert data == (event.decode() if size <= PASTED_BYTES else "@event.json")
    assert len(curl(URL, event, "key")) < 4096


@pytest.mark.parametrize(
    "event",
    [
        {"customer_id": "c-17"},
        {"it's": "'; rm -rf / #'", "": "''"},
        {"$HOME": '$(id) `id` ${PATH} \\ \\n !! " * ~ ? [a] {b,c}'},
        {"ü": "日本 😀", "line": "a\nb\ttab\r\0"},
        {},
    ],
)
def test_the_line_works_in_a_shell(event: dict[str, str], shell: Path) -> None:
    """The program gets what it should, and the key from the environment."""
    body = json.dumps(event, ensure_ascii=False)
    line = curl("https://[2001:db8::1]:8443/v1/events/a.b_c-d", body.encode(), "key")
    assert arguments_of(line, shell) == [
        "-sS",
        "https://[2001:db8::1]:8443/v1/events/a.b_c-d",
        "-H",
        f"Authorization: Bearer {KEY}",
        "-H",
        "Content-Type: application/json",
        "-d",
        body,
    ]
    assert "\n" not in line
    assert KEY not in line


def test_the_line_of_a_description_sends_its_example(shell: Path) -> None:
    """What is shown is what is sent."""
    found = described(offer('/it\'s/a "key"'))
    arguments = arguments_of(found["curl"], shell)
    assert arguments[1] == URL
    assert json.loads(arguments[-1]) == found["example"]


@given(st.dictionaries(st.text(), st.text() | st.integers(), max_size=5))
def test_any_event_comes_through_the_quotes(event: dict[str, Any]) -> None:
    """Whatever characters it has."""
    body = json.dumps(event, ensure_ascii=True)
    *_, option, data = shlex.split(curl(URL, body.encode(), "key"))
    assert option == "-d"
    assert data == (body if len(body) <= PASTED_BYTES else "@event.json")


@given(st.lists(st.text("~/01aü", max_size=5), min_size=1, max_size=4))
def test_a_pointer_leads_back_to_its_tokens(tokens: list[str]) -> None:
    """RFC 6901, section 3: the inverse of reading it."""
    assert pointer_tokens(pointer(tokens)) == tuple(tokens)


FALLBACK = "gateway:8080"


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8080",
        "ingest.example.com",
        "INGEST.example.com.:443",
        "my_service-1:1",
        "192.0.2.1:65535",
        "[::1]",
        "[2001:db8::1]:8443",
        "[::ffff:192.0.2.1]:80",
    ],
)
def test_a_sane_host_is_where_the_client_came_from(host: str) -> None:
    """It is what works for the client, whatever the door calls itself."""
    assert base_url(host, tls=False, fallback=FALLBACK) == f"http://{host}"
    assert base_url(host, tls=True, fallback=FALLBACK) == f"https://{host}"


@pytest.mark.parametrize(
    "host",
    [
        None,
        "",
        " ",
        "localhost:",
        "localhost:0",
        "localhost:65536",
        "localhost:123456",
        "localhost:8x",
        "localhost:٣",
        "-rf",
        ".",
        "a/b",
        "a b",
        "a,b",
        "a@b",
        "a'b",
        "a\nb",
        "localhost\n",
        "a;id",
        "$(id)",
        "ümlaut.example",
        "::1",
        "[]",
        "[1.2.3.4]",
        "[::1%25eth0]",
        "[::1",
        "[:::]:80",
        "x" * 254,
    ],
)
def test_any_other_host_is_not_repeated(host: str | None) -> None:
    """A header field says anything: what looks odd never gets into a line for a shell."""
    assert base_url(host, tls=True, fallback=FALLBACK) == f"https://{FALLBACK}"


@given(st.text(max_size=30))
def test_no_host_gets_out_of_the_quotes(host: str) -> None:
    """The line stays the same words, whatever the header field says."""
    url = base_url(host, tls=False, fallback=FALLBACK)
    assert shlex.split(curl(url, b"{}", "key"))[:3] == ["curl", "-sS", url]
    assert url.isascii()
    assert not set(url) & set("'\"\\$` \n")


@pytest.mark.parametrize(
    ("credential", "shown"),
    [
        ("key", ["-H", "Authorization: Bearer $API_KEY"]),
        ("certificate", ["--cert", "$CERT", "--key", "$KEY"]),
        ("none", []),
    ],
)
def test_a_line_shows_the_credential_that_its_caller_has(credential: str, shown: list[str]) -> None:
    """Who has a certificate has no key to put into it."""
    words = shlex.split(curl(URL, b"{}", credential))
    assert words[3 : 3 + len(shown)] == shown
    assert words[3 + len(shown)] == "-H"
