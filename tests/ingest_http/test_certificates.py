"""A client certificate is a credential where the configuration knows one of its names."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from ingest.settings import FileContent
from tests.http_door import BILLING_KEY, KEY, LETTERS, on_uvloop, open_door, request

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from tests.http_door import Answer, OpenDoor

CERTIFICATES = {
    "billing": {"names": ["Billing.Example.com", "10.1.2.3"], "sources": ["billing-*"]},
    "robot": {"names": ["urn:robot:7", "robot@example.com"], "sources": ["orders"]},
}


class Authority:
    """Signs the door's certificate and those of its clients."""

    def __init__(self) -> None:
        self._server, self._clients = trustme.CA(), trustme.CA()
        self._own = self._server.issue_cert("localhost")

    def settings(self, **more: Any) -> dict[str, Any]:
        """``http.tls`` of the door."""
        return {
            "cert": FileContent("cert.pem", self._own.cert_chain_pems[0].bytes()),
            "key": FileContent("key.pem", self._own.private_key_pem.bytes()),
            "client_ca": FileContent("ca.pem", self._clients.cert_pem.bytes()),
            **more,
        }

    def client(self, *names: str) -> ssl.SSLContext:
        """What a client connects with: with a certificate of these names, or without one."""
        context = ssl.create_default_context()
        self._server.configure_trust(context)
        if names:
            self._clients.issue_cert(*names).configure_cert(context)
        return context


@pytest.fixture(scope="module")
def authority() -> Authority:
    """One for all tests: keys take their time."""
    return Authority()


def opened(authority: Authority) -> AbstractAsyncContextManager[OpenDoor]:
    """A door at which certificates are optional."""
    return open_door(
        http={"tls": authority.settings()},
        auth={"certificates": CERTIFICATES},
        sources={"orders": {}, "billing-in": {}},
    )


async def post(
    door: OpenDoor, context: ssl.SSLContext, source: str, key: str | None = None
) -> Answer:
    """The answer to an event on a connection of its own."""
    client = await door.connect(ssl=context, server_hostname="localhost")
    answer = await client.ask(request(source=source, key=key))
    client.abort()
    return answer


@pytest.mark.parametrize(
    ("name", "source", "status"),
    [
        ("billing.example.com", "billing-in", 200),
        ("10.1.2.3", "billing-in", 200),
        ("billing.example.com", "orders", 403),
        ("billing.example.com", "billing-none", 404),
        ("robot@example.com", "orders", 200),
        ("sub.billing.example.com", "billing-in", 401),
        ("nobody.example.com", "billing-in", 401),
    ],
)
@on_uvloop
async def test_a_name_in_a_certificate_opens_its_sources(
    authority: Authority, name: str, source: str, status: int
) -> None:
    """Whole names only; one that nobody knows is no credential."""
    async with opened(authority) as door:
        assert (await post(door, authority.client(name), source)).status == status


@on_uvloop
async def test_names_of_different_clients_are_no_credential(authority: Authority) -> None:
    """As different keys at once are none."""
    context = authority.client("billing.example.com", "robot@example.com")
    async with opened(authority) as door:
        assert (await post(door, context, "billing-in")).status == 401


@pytest.mark.parametrize(
    ("names", "key", "source", "status"),
    [
        ((), None, "orders", 401),
        ((), KEY, "orders", 200),
        (("billing.example.com",), KEY, "orders", 200),
        (("billing.example.com",), BILLING_KEY, "billing-in", 200),
        (("nobody.example.com",), KEY, "orders", 200),
        (("billing.example.com",), "wrong", "billing-in", 401),
    ],
)
@on_uvloop
async def test_where_a_key_is_shown_the_key_counts(
    authority: Authority,
    names: tuple[str, ...],
    key: str | None,
    source: str,
    status: int,
) -> None:
    """A wrong one is refused whatever the certificate says."""
    async with opened(authority) as door:
        assert (await post(door, authority.client(*names), source, key)).status == status


@on_uvloop
async def test_required_certificates_need_no_key(authority: Authority) -> None:
    """Where nobody has one; who shows no certificate does not get as far as HTTP."""
    http = {"tls": authority.settings(client_cert="required")}
    auth = {"keys": {}, "certificates": CERTIFICATES}
    async with open_door(http=http, auth=auth) as door:
        answer = await post(door, authority.client("robot@example.com"), "orders")
        assert answer.status == 200
        assert len(door.records()) == 1
        assert not door.records(LETTERS)
        with pytest.raises((OSError, EOFError)):
            await post(door, authority.client(), "orders")


@on_uvloop
async def test_the_url_of_a_door_with_tls_is_https(authority: Authority) -> None:
    """In what a source tells of itself, and over the connection that asks."""
    async with opened(authority) as door:
        client = await door.connect(ssl=authority.client(), server_hostname="localhost")
        answer = await client.ask(request(b"", method="GET", media=None))
        assert answer.document["url"] == "https://gateway/v1/events/orders"
