"""Web pages send to the sources that are open to their origin, and to no others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ingest_http.cors import EXPOSED, REQUEST_HEADERS
from tests.http_door import BILLING_KEY, KEY, Answer, array, open_door, request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.http_door import OpenDoor

SHOP, EVIL = "https://shop.example.com", "https://evil.example.com"
SOURCES = {
    "orders": {"cors_origins": [SHOP, "https://m.example.com:8443"]},
    "open": {"cors_origins": ["*"]},
    "closed": {},
    "logs": {},
}
PREFLIGHT = ("Access-Control-Request-Method: POST", "Access-Control-Request-Headers: x-api-key")
ALLOW = "access-control-allow-origin"


@pytest.fixture
async def door() -> AsyncIterator[OpenDoor]:
    """A door with a source for one shop, one for everybody's pages, and one for none."""
    async with open_door(sources=SOURCES) as opened:
        yield opened


async def head_of(door: OpenDoor, *headers: str, **parts: Any) -> tuple[int, dict[str, str]]:
    """Status and header fields of the answer to a request without a body."""
    client = await door.connect()
    await client.send(request(b"", *headers, media=None, **parts))
    return await client.head()


def access_control(headers: dict[str, str]) -> set[str]:
    """The names of the CORS fields."""
    return {name for name in headers if name.startswith("access-control-")}


@pytest.mark.parametrize(
    ("source", "origin"),
    [("orders", SHOP), ("orders", "https://m.example.com:8443"), ("open", EVIL), ("open", "null")],
)
async def test_a_preflight_says_what_a_page_may_do(
    door: OpenDoor, source: str, origin: str
) -> None:
    """It needs no key: browsers send none with it."""
    asked = (f"Origin: {origin}", *PREFLIGHT)
    status, headers = await head_of(door, *asked, source=source, method="OPTIONS", key=None)
    assert status == 204
    assert headers[ALLOW] == origin
    assert headers["access-control-allow-methods"] == "GET, HEAD, POST"
    assert headers["access-control-allow-headers"] == REQUEST_HEADERS
    assert int(headers["access-control-max-age"]) > 0
    assert headers["vary"] == "Origin"
    assert not {"content-length", "content-type"} & headers.keys()


async def test_a_connection_goes_on_after_a_preflight(door: OpenDoor) -> None:
    """The answer without a body ends where it ends."""
    client = await door.connect()
    await client.send(request(b"", f"Origin: {SHOP}", *PREFLIGHT, method="OPTIONS", key=None))
    assert (await client.head())[0] == 204
    assert (await client.ask(request())).status == 200


@pytest.mark.parametrize(
    ("source", "headers"),
    [
        ("orders", (f"Origin: {EVIL}", *PREFLIGHT)),
        ("orders", (f"Origin: {SHOP}.evil.com", *PREFLIGHT)),
        ("orders", ("Origin: http://shop.example.com", *PREFLIGHT)),
        ("orders", (f"Origin: {EVIL}",)),
        ("orders", PREFLIGHT),
        ("orders", ("Origin: *", *PREFLIGHT)),
        ("open", ("Origin: a b", *PREFLIGHT)),
        ("closed", (f"Origin: {SHOP}", *PREFLIGHT)),
        ("nowhere", (f"Origin: {SHOP}", *PREFLIGHT)),
        ("logs", (f"Origin: {SHOP}", *PREFLIGHT)),
    ],
)
async def test_what_is_not_allowed_is_405_whatever_the_source(
    door: OpenDoor, source: str, headers: tuple[str, ...]
) -> None:
    """Who has no key does not learn which sources there are."""
    status, found = await head_of(door, *headers, source=source, method="OPTIONS", key=None)
    assert (status, access_control(found)) == (405, set())


@pytest.mark.parametrize(
    ("status", "body", "parts"),
    [
        (200, b"{}", {}),
        (200, array(b"{}", b"1"), {}),
        (422, b"1", {}),
        (400, b"{", {}),
        (401, b"{}", {"key": None}),
        (403, b"{}", {"key": BILLING_KEY}),
        (405, b"{}", {"method": "PUT"}),
        (415, b"{}", {"media": "text/plain"}),
    ],
)
async def test_a_page_can_read_every_answer(
    door: OpenDoor, status: int, body: bytes, parts: dict[str, Any]
) -> None:
    """Also the ones that say what is wrong, and the fields that say when to come again."""
    answer = await door.post(body, f"Origin: {SHOP}", **parts)
    assert answer.status == status
    assert answer.headers[ALLOW] == SHOP
    assert answer.headers["access-control-expose-headers"] == EXPOSED
    assert answer.headers["vary"] == "Origin"


ROUTES: list[tuple[str, dict[str, Any], int]] = [
    ("post", {"source": "closed"}, 200),
    ("describe", {"source": "closed", "method": "GET", "body": b""}, 200),
    ("openapi", {"target": "/openapi.json", "method": "GET", "body": b""}, 200),
    ("syslog", {"source": "logs"}, 403),
    ("unknown source", {"source": "nowhere"}, 404),
    ("unknown path", {"target": "/"}, 404),
    ("method", {"source": "closed", "method": "DELETE"}, 405),
    ("dry run", {"target": "/v1/events/closed?dry_run=1"}, 200),
    ("another origin", {"source": "orders"}, 200),
]


@pytest.mark.parametrize(("parts", "status"), [each[1:] for each in ROUTES], ids=lambda _: "")
@pytest.mark.parametrize("origin", [EVIL, "null", "*"])
async def test_an_origin_changes_nothing_where_no_page_is_allowed(
    door: OpenDoor, parts: dict[str, Any], status: int, origin: str
) -> None:
    """Every route answers a request with an Origin as it answers any other, off by default."""
    plain: Answer = await door.ask(request(**parts))
    answer = await door.ask(request(parts.get("body", b"{}"), f"Origin: {origin}", **_less(parts)))
    assert answer.status == plain.status == status
    assert access_control(answer.headers) == set()


def _less(parts: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parts.items() if name != "body"}


async def test_who_may_not_write_does_not_learn_which_sources_are_open(door: OpenDoor) -> None:
    """The fields of an answer are the same for one that is not there."""
    names = [
        {name for name in answer.headers if name in {"vary", ALLOW}}
        for answer in [
            await door.post(b"{}", f"Origin: {EVIL}", key=BILLING_KEY, source=source)
            for source in ("orders", "open-to-nobody", "closed")
        ]
    ]
    assert names[0] == names[1] == names[2]


async def test_by_default_nothing_is_said_of_origins() -> None:
    """A door without any open source has no CORS field in any answer."""
    async with open_door() as door:
        for headers in (("Origin: null",), ()):
            answer = await door.post(b"{}", *headers, key=KEY)
            assert not access_control(answer.headers) | {"vary"} & answer.headers.keys()
