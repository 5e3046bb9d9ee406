"""TLS at the door: who is let in, what is known of them, and how a handshake may fail.

On uvloop, whose TLS the service uses.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import ssl
import warnings
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import trustme

from ingest import accepting
from ingest.settings import FileContent
from ingest_http import connection
from ingest_http import door as door_module
from ingest_http.settings import TlsSettings
from ingest_http.tls import http_context
from tests.http_door import KEY, Client, array, counted, on_uvloop, open_door, request, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.http_door import OpenDoor

CA, FOREIGN_CA = trustme.CA(), trustme.CA()
SERVER = CA.issue_cert("localhost", "127.0.0.1")
BILLING = CA.issue_cert("billing.example.com")
FOREIGN = FOREIGN_CA.issue_cert("billing.example.com")
EXPIRED = CA.issue_cert("billing.example.com", not_after=datetime.now(UTC) - timedelta(days=1))
V2, V3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
WITNESS = ("127.0.0.2", 0)
"""Where others come from than who misbehaves."""


# What a door and its clients are made of.


def chain_of(leaf: trustme.LeafCert) -> bytes:
    """The certificates of a leaf, in PEM."""
    return b"".join(blob.bytes() for blob in leaf.cert_chain_pems)


def tls(
    cert: bytes = chain_of(SERVER),
    key: bytes = SERVER.private_key_pem.bytes(),
    client_ca: bytes | None = None,
    client_cert: str = "optional",
) -> dict[str, Any]:
    """The setting ``http.tls`` with these files."""
    files = {"cert": FileContent("cert.pem", cert), "key": FileContent("key.pem", key)}
    if client_ca is not None:
        files["client_ca"] = FileContent("ca.pem", client_ca)
    return {**files, "client_cert": client_cert}


def context_of(**files: Any) -> ssl.SSLContext:
    """The context of these files; see `tls`."""
    return http_context(TlsSettings.model_validate(tls(**files)))


OURS = {"client_ca": CA.cert_pem.bytes()}
REQUIRED = {**OURS, "client_cert": "required"}


@asynccontextmanager
async def tls_door(
    files: dict[str, Any] | None = None, **sections: dict[str, Any]
) -> AsyncIterator[OpenDoor]:
    """A door with TLS; see `tests.http_door.open_door`."""
    http = {"tls": tls(**(files or {})), **sections.pop("http", {})}
    async with open_door(http=http, **sections) as door:
        yield door


def client_context(
    cert: trustme.LeafCert | None = None,
    version: ssl.TLSVersion | None = None,
    server_ca: trustme.CA = CA,
) -> ssl.SSLContext:
    """How a client talks TLS."""
    context = ssl.create_default_context(cadata=server_ca.cert_pem.bytes().decode())
    if cert is not None:
        cert.configure_cert(context)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


async def connect(door: OpenDoor, context: ssl.SSLContext | None = None, **more: Any) -> Client:
    """A client whose side of the handshake is done."""
    return await door.connect(ssl=context or client_context(), server_hostname="localhost", **more)


async def served(door: OpenDoor, context: ssl.SSLContext | None = None, **more: Any) -> Client:
    """A client that has been answered."""
    client = await connect(door, context, **more)
    assert (await client.ask(request())).status == 200
    return client


async def is_refused(door: OpenDoor, context: ssl.SSLContext) -> bool:
    """Whether a client is turned away in the handshake, which counts as one that failed."""
    before = refused("handshake")
    with suppress(OSError):  # before TLS 1.3 the client itself sees that it fails
        client = await connect(door, context)
        client.writer.write(request())
        assert await client.rest() == b""
    with suppress(TimeoutError):
        await until(lambda: refused("handshake") - before == 1 and not len(door.door), seconds=1)
    return refused("handshake") - before == 1 and door.is_untouched()


def refused(limit: str) -> float:
    """How many connections were closed for ``limit``, ever."""
    return counted("ingest_connections_refused_total", listener="http", limit=limit)


def now() -> float:
    """The clock of the event loop."""
    return asyncio.get_running_loop().time()


def connection_of(door: OpenDoor) -> Any:
    """The only connection, as the door has it."""
    (found,) = door.door._acceptor.connections
    return found


def open_files() -> int:
    """How many file descriptors this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))


# What is talked.


@pytest.mark.parametrize("version", [V2, V3])
@on_uvloop
async def test_requests_are_answered_over_tls(version: ssl.TLSVersion) -> None:
    """One after the other on a connection; HTTP/1.1 is agreed on where it is offered."""
    async with tls_door() as door:
        context = client_context(version=version)
        context.set_alpn_protocols(["h2", "http/1.1"])
        client = await served(door, context)
        assert (await client.ask(request())).status == 200
        agreed = client.writer.get_extra_info("ssl_object")
        assert agreed.selected_alpn_protocol() == "http/1.1"
        assert agreed.version() == version.name.replace("_", ".")
        assert agreed.compression() is None
        found = connection_of(door)
        assert (found.is_tls, found.certificate_names, found.address) == (True, (), "127.0.0.1")


@on_uvloop
async def test_a_plain_connection_is_none_of_tls() -> None:
    """And nobody has a certificate on it."""
    async with open_door() as door:
        client = await door.connect()
        assert (await client.ask(request())).status == 200
        assert (connection_of(door).is_tls, connection_of(door).certificate_names) == (False, ())


@on_uvloop
async def test_older_versions_are_refused() -> None:
    """TLS 1.1 is (RFC 8996)."""
    async with tls_door() as door:
        context = client_context()
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
        assert await is_refused(door, context)


@on_uvloop
async def test_curl_and_aiohttp_are_served_with_their_certificates(tmp_path: Path) -> None:
    """As people would do it."""
    CA.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    BILLING.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "billing.pem"))
    async with tls_door(REQUIRED) as door:
        url = f"https://localhost:{door.port}/v1/events/orders"
        curl = await asyncio.create_subprocess_exec(
            *("curl", "-sS", "--cacert", tmp_path / "ca.pem", "--cert", tmp_path / "billing.pem"),
            *("-H", f"X-API-Key: {KEY}", "--json", "{}", url),
            stdout=asyncio.subprocess.PIPE,
        )
        printed, _ = await curl.communicate()
        assert b'"accepted":1' in printed
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                url, json={}, headers={"X-API-Key": KEY}, ssl=client_context(BILLING)
            ) as answer,
        ):
            assert answer.status == 200
    assert len(door.records()) == 2


# Client certificates.


@pytest.mark.parametrize("version", [V2, V3])
@pytest.mark.parametrize(
    ("files", "cert", "names"),
    [
        ({}, None, ()),
        ({}, BILLING, ()),
        ({}, FOREIGN, ()),
        (OURS, None, ()),
        (OURS, BILLING, ("billing.example.com",)),
        (OURS, FOREIGN, None),
        (OURS, EXPIRED, None),
        (REQUIRED, None, None),
        (REQUIRED, BILLING, ("billing.example.com",)),
        (REQUIRED, FOREIGN, None),
        (REQUIRED, EXPIRED, None),
    ],
)
@on_uvloop
async def test_a_certificate_is_verified_where_it_is_asked_for(
    files: dict[str, Any],
    cert: trustme.LeafCert | None,
    names: tuple[str, ...] | None,
    version: ssl.TLSVersion,
) -> None:
    """A wrong one is refused even where none is needed; names come of a verified one alone."""
    async with tls_door(files) as door:
        context = client_context(cert, version)
        if names is None:
            assert await is_refused(door, context)
        else:
            await served(door, context)
            assert connection_of(door).certificate_names == names


@on_uvloop
async def test_all_names_of_a_certificate_are_read() -> None:
    """DNS names in small letters, addresses in their usual spelling."""
    several = CA.issue_cert("Billing.Example.com", "10.0.0.5", "2001:db8::5", "b@example.com")
    async with tls_door(OURS) as door:
        await served(door, client_context(several))
        names = {"billing.example.com", "10.0.0.5", "2001:db8::5", "b@example.com"}
        assert set(connection_of(door).certificate_names) == names


@on_uvloop
async def test_an_intermediate_authority_can_be_the_one_that_is_trusted() -> None:
    """Then only its own certificates are good, not all of the authority above it."""
    between = CA.create_child_ca()
    async with tls_door({"client_ca": between.cert_pem.bytes()}) as door:
        client = await served(door, client_context(between.issue_cert("a.example.com")))
        client.abort()
        await until(lambda: not len(door.door))
        context = client_context(BILLING)
        before = refused("handshake")
        with suppress(OSError):
            assert await (await connect(door, context)).rest() == b""
        await until(lambda: refused("handshake") - before == 1)


# Another context for the same door.


@on_uvloop
async def test_a_new_certificate_is_for_newcomers() -> None:
    """Who is there already goes on as before."""
    other_ca = trustme.CA()
    other = other_ca.issue_cert("localhost")
    files = {"cert": chain_of(other), "key": other.private_key_pem.bytes()}
    async with tls_door() as door:
        old = await served(door)
        door.door.use(context_of(**files))
        await served(door, client_context(server_ca=other_ca))
        assert (await old.ask(request())).status == 200
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect(door)


@pytest.mark.parametrize("version", [V2, V3])
@on_uvloop
async def test_an_authority_that_was_removed_is_forgotten(version: ssl.TLSVersion) -> None:
    """For newcomers, and for who comes back with a session of before."""
    context = client_context(BILLING, version)
    async with tls_door(OURS) as door:
        session = await asyncio.to_thread(session_of, door.port, context, None)
        assert await asyncio.to_thread(session_of, door.port, context, session)
        await until(lambda: not len(door.door))
        door.door.use(context_of(client_ca=FOREIGN_CA.cert_pem.bytes()))
        before = refused("handshake")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.to_thread(session_of, door.port, context, session)
        await until(lambda: refused("handshake") - before == 1)
        await served(door, client_context(FOREIGN, version))


def session_of(port: int, context: ssl.SSLContext, session: Any) -> Any:
    """The session of a client that was answered; it began with another ``session``."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=5)
    with context.wrap_socket(sock, server_hostname="localhost", session=session) as client:
        client.sendall(request())
        if not client.recv(1000).startswith(b"HTTP/1.1 200 "):
            raise ConnectionResetError("not answered")
        if client.version() == "TLSv1.3":
            assert not client.session_reused, "its certificate was not looked at again"
        return client.session


# Handshakes that fail.


async def send_and_read(door: OpenDoor, data: bytes) -> bytes:
    """What comes back on a connection that is not the server's TLS."""
    client = await door.connect()
    with suppress(OSError):
        await client.send(data)
        return await client.rest()
    return b""


HELLO = ssl.MemoryBIO()
with suppress(ssl.SSLWantReadError):
    ssl.create_default_context().wrap_bio(
        ssl.MemoryBIO(), HELLO, server_hostname="localhost"
    ).do_handshake()
CLIENT_HELLO = HELLO.read()


@pytest.mark.parametrize(
    "data",
    [
        request(),
        bytes(range(256)) * 100,
        b"\x16\x03\x01\xff\xff" + b"\x01" * 70_000,
        b"\x80" * 1_000_000,
        CLIENT_HELLO + bytes(1000),
        CLIENT_HELLO[:11] + b"\xff" * (len(CLIENT_HELLO) - 11),
    ],
    ids=["HTTP", "bytes", "a long record", "a lot", "after the hello", "a broken hello"],
)
@on_uvloop
async def test_what_is_no_tls_is_closed_and_counted(data: bytes) -> None:
    """Quietly: the door checks that nothing is logged and no handler of the loop is called."""
    async with tls_door() as door:
        before = refused("handshake")
        await send_and_read(door, data)
        await until(lambda: not len(door.door))
        assert refused("handshake") - before == 1
        await served(door, local_addr=WITNESS)


@pytest.mark.parametrize(
    "part", [b"", CLIENT_HELLO[:50], CLIENT_HELLO], ids=["nothing", "half a hello", "a hello"]
)
@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@on_uvloop
async def test_who_leaves_in_the_handshake_is_forgotten(part: bytes, *, reset: bool) -> None:
    """However they leave."""
    async with tls_door() as door:
        before, client = refused("handshake"), await door.connect()
        client.writer.write(part)
        await until(lambda: len(door.door) == 1)
        if reset:
            linger = b"\x01\0\0\0\0\0\0\0"
            sock = client.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        client.abort()
        await until(lambda: not len(door.door))
        assert not door.door._acceptor._by_address
        assert refused("handshake") - before == 1


@on_uvloop
async def test_tls_to_a_plain_door_is_a_bad_request() -> None:
    """And nothing else."""
    async with open_door() as door:
        answer = await send_and_read(door, CLIENT_HELLO)
        assert answer.startswith(b"HTTP/1.1 400 ")


@on_uvloop
async def test_garbage_after_the_handshake_ends_the_connection() -> None:
    """No more of it is kept than a record may be long, however much comes."""
    async with tls_door() as door:
        client = await served(door)
        raw = socket.socket(fileno=os.dup(client.writer.get_extra_info("socket").fileno()))
        with raw:
            raw.setblocking(False)
            await asyncio.get_running_loop().sock_sendall(raw, b"\x17\x03\x03\x40\x00" + bytes(9))
            await asyncio.sleep(0.02)
            assert len(door.door) == 1
            transport = connection_of(door).transport
            with suppress(OSError):
                await asyncio.get_running_loop().sock_sendall(raw, bytes(1 << 20))
        await until(lambda: not len(door.door))
        assert transport.get_read_buffer_size() < 300_000, "one read, and a record"


@pytest.mark.parametrize("trickle", [False, True], ids=["silent", "trickling"])
@on_uvloop
async def test_a_handshake_has_a_limited_time(*, trickle: bool) -> None:
    """From the connection to its end, however steadily it goes on; others are served meanwhile."""
    async with tls_door(http={"handshake_seconds": 0.4}) as door:
        before, begun, client = refused("handshake_seconds"), now(), await door.connect()
        rest = iter(CLIENT_HELLO)
        await served(door, local_addr=WITNESS)
        while client.is_open():
            assert len(door.door) == 2, "it counts as a connection"
            assert now() - begun < 2
            if trickle:
                client.writer.write(bytes([next(rest)]))
            await asyncio.sleep(0.02)
        assert now() - begun > 0.39
        await until(lambda: len(door.door) == 1)
        assert refused("handshake_seconds") - before == 1


@on_uvloop
async def test_the_time_of_a_handshake_ends_with_it() -> None:
    """What comes after it has other limits."""
    async with tls_door(http={"handshake_seconds": 0.2}) as door:
        client = await served(door)
        await asyncio.sleep(0.4)  # longer than a handshake may take
        assert (await client.ask(request())).status == 200


@on_uvloop
async def test_handshakes_leave_nothing_behind() -> None:
    """Neither descriptors nor connections, whether they succeed, fail or are given up."""
    async with tls_door(OURS, limits={"connections": 50}) as door:
        good, bad = client_context(BILLING), client_context(FOREIGN)
        (await served(door)).abort()
        await until(lambda: not len(door.door))
        gc.collect()
        before = open_files()
        for number in range(500):
            with suppress(OSError):
                if number % 4 == 0:
                    client = await door.connect()
                    client.writer.write(CLIENT_HELLO[: number // 2])
                else:
                    client = await connect(door, good if number % 4 < 3 else bad)
                if number % 3:
                    client.abort()
        for client in door._clients:
            client.abort()
        door._clients.clear()
        await until(lambda: not len(door.door))
        assert not door.door._acceptor._by_address
        await until(lambda: open_files() <= before)


# Limits.


@on_uvloop
async def test_silent_connections_do_not_lock_others_out() -> None:
    """At the limit, whoever has been shaking hands longest makes room, and is not served."""
    async with tls_door(limits={"connections": 3}) as door:
        before, failed = refused("connections"), refused("handshake")
        silent = []
        for number in range(3):
            silent.append(await door.connect())
            await until(lambda number=number: len(door.door) == number + 1)
            await asyncio.sleep(0.005)
        first = await served(door, local_addr=WITNESS)
        await silent[0].closed()
        assert [each.is_open() for each in silent] == [False, True, True]
        second = await served(door, local_addr=WITNESS)
        await silent[1].closed()
        assert first.is_open()
        assert second.is_open()
        assert silent[2].is_open()
        assert refused("connections") - before == 2
        assert refused("handshake") == failed
        assert len(door.door) == 3


@on_uvloop
async def test_a_flood_of_silent_connections_does_not_lock_others_out() -> None:
    """Hundreds at once, again and again."""
    async with tls_door(limits={"connections": 20}) as door:
        flood: list[socket.socket] = []
        try:
            for _ in range(5):
                flood += [socket.create_connection(("127.0.0.1", door.port)) for _ in range(60)]
                client = await served(door, local_addr=WITNESS)
                assert (await client.ask(request())).status == 200
                assert len(door.door) <= 20
        finally:
            for sock in flood:
                sock.close()


@on_uvloop
async def test_connections_of_one_address_are_counted_before_the_handshake() -> None:
    """The newcomer is closed without one."""
    async with tls_door(limits={"connections_per_address": 2}) as door:
        before = refused("connections_per_address")
        for _ in range(2):
            await door.connect()
        await until(lambda: len(door.door) == 2)
        with pytest.raises(ConnectionError):
            await connect(door)
        assert refused("connections_per_address") - before == 1
        await served(door, local_addr=WITNESS)


@on_uvloop
async def test_trusted_proxies_may_have_more_connections() -> None:
    """Behind one of them are many clients."""
    trusted = {"trusted_proxies": ["127.0.0.2/32"]}
    async with tls_door(http=trusted, limits={"connections_per_address": 2}) as door:
        for _ in range(4):
            await served(door, local_addr=WITNESS)
        for _ in range(2):
            await served(door)
        with pytest.raises(ConnectionError):
            await connect(door)
        assert len(door.door) == 6


# What holds for plain connections.


async def header_time(door: OpenDoor, client: Client) -> None:
    """Take too long for a header."""
    await client.send(request()[:20])


async def nothing(door: OpenDoor, client: Client) -> None:
    """Rest."""


@pytest.mark.parametrize(
    ("http", "act"),
    [({"header_seconds": 0.2}, header_time), ({"keepalive_seconds": 0.2}, nothing)],
    ids=["header", "rest"],
)
@pytest.mark.parametrize("silent", [False, True], ids=["says goodbye", "says nothing"])
@on_uvloop
async def test_time_limits_hold_over_tls(
    http: dict[str, Any],
    act: Callable[[OpenDoor, Client], Any],
    monkeypatch: pytest.MonkeyPatch,
    *,
    silent: bool,
) -> None:
    """Also for a client that does not answer the server's goodbye (close_notify)."""
    monkeypatch.setattr(accepting, "SHUTDOWN_SECONDS", 0.2)
    async with tls_door(http=http) as door:
        client = await served(door)
        if silent:
            client.writer.transport.pause_reading()
        begun = now()
        await act(door, client)
        await until(lambda: not len(door.door), seconds=2)
        assert (0.35 if silent else 0.15) < now() - begun


@on_uvloop
async def test_an_old_connection_is_told_to_end() -> None:
    """Counted from when it came."""
    async with tls_door(http={"max_age_seconds": 0.3}) as door:
        client = await connect(door)
        await asyncio.sleep(0.31)
        answer = await client.ask(request())
        assert answer.closes
        assert await client.rest() == b""


async def unread(door: OpenDoor, requests: int, *headers: str) -> Client:
    """A client that sends so many requests with large answers and reads none of them."""
    door.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)  # connections inherit it
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", door.port))
    context = client_context()
    found = await asyncio.open_connection(
        sock=sock, ssl=context, server_hostname="localhost", limit=1024
    )
    client = door.adopt(Client(*found))
    client.writer.transport.set_read_buffer_limits(1)
    client.writer.transport.pause_reading()
    await ask_for_large_answers(client, requests, *headers)
    return client


async def ask_for_large_answers(client: Client, requests: int, *headers: str) -> None:
    """Send requests and read nothing."""
    body = array(*[b"{}"] * 200)
    for number in range(requests):
        target = "/v1/events/orders?results=all"
        client.writer.write(request(body, f"X-Request-Id: {number}", *headers, target=target))


@on_uvloop
async def test_a_client_that_does_not_read_is_not_served_on() -> None:
    """A bounded number of its requests is handled until it reads; then all are answered."""

    def received() -> float:
        return counted("ingest_events_received_total", source="orders") / 200

    async with tls_door() as door:
        before, requests = received(), 100
        client = await unread(door, requests)
        await until(lambda: len(door.door) and connection_of(door).writing_paused)
        handled = received() - before
        await asyncio.sleep(0.1)  # nothing more happens
        assert received() - before == handled < requests - 32
        assert connection_of(door).transport.get_write_buffer_size() < 1 << 18
        client.writer.transport.resume_reading()
        client.reader._limit = 1 << 20
        answers = [await client.answer() for _ in range(requests)]
        found = [answer.headers["x-request-id"] for answer in answers]
        assert found == [str(number) for number in range(requests)]


@on_uvloop
async def test_a_client_that_never_reads_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it did not read is given up with it."""
    monkeypatch.setattr(connection, "SLOW_READER_SECONDS", 0.3)
    async with tls_door() as door:
        await unread(door, 100)
        await until(lambda: len(door.door) and connection_of(door).writing_paused)
        await until(lambda: not len(door.door), seconds=2)


@on_uvloop
async def test_a_last_answer_has_the_time_that_others_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To close is not to cut off who reads slowly."""
    monkeypatch.setattr(accepting, "SHUTDOWN_SECONDS", 0.2)
    async with tls_door() as door:
        client, requests = await unread(door, 1), 1
        await until(lambda: len(door.door) and connection_of(door)._request_count == 1)
        found = connection_of(door)
        await until(found.is_idle)
        while not found.transport.get_write_buffer_size():
            await ask_for_large_answers(client, 1)
            requests += 1
            await until(lambda wanted=requests: found._request_count == wanted and found.is_idle())
        assert not found.writing_paused
        client.writer.write(request(b"{}", "Connection: close"))
        await asyncio.sleep(0.5)  # longer than a goodbye may take
        assert len(door.door) == 1
        client.reader._limit = 1 << 20
        client.writer.transport.resume_reading()
        answers = [await client.answer() for _ in range(requests + 1)]
        assert answers[-1].closes
        assert await client.rest() == b""


# The end.


@on_uvloop
async def test_who_is_in_the_queue_when_the_listener_closes_is_served() -> None:
    """With a handshake that only begins then."""
    async with tls_door() as door:
        queued = socket.create_connection(("127.0.0.1", door.port))  # nobody accepts meanwhile
        door.door.draining = True
        await door.door.close()
        queued.setblocking(False)
        client = door.adopt(
            Client(
                *await asyncio.open_connection(
                    sock=queued, ssl=client_context(), server_hostname="localhost"
                )
            )
        )
        answer = await client.ask(request())
        assert (answer.status, answer.closes) == (200, True)
        assert await client.rest() == b""


@on_uvloop
async def test_the_drain_answers_what_is_due_and_waits_for_no_handshake(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nor for goodbyes; only requests count as cut off."""
    monkeypatch.setattr(door_module, "GRACE_SECONDS", 0.2)
    monkeypatch.setattr(accepting, "SHUTDOWN_SECONDS", 0.3)
    async with tls_door() as door:
        resting, deaf, waiting = await served(door), await served(door), await served(door)
        deaf.writer.transport.pause_reading()
        door.producer.reachable.clear()
        await waiting.send(request())
        await until(
            lambda: sum(each.owes_an_answer() for each in door.door._acceptor.connections) == 1
        )
        shaking = await door.connect()
        await until(lambda: len(door.door) == 4)
        door.door.draining = True
        await door.door.close()
        finishing = asyncio.create_task(door.door.finish(now() + 5))
        await shaking.closed()
        assert await resting.rest() == b""
        assert not finishing.done()
        door.producer.reachable.set()
        answer = await waiting.answer()
        assert (answer.status, answer.closes) == (200, True)
        assert await waiting.rest() == b""
        assert await asyncio.wait_for(finishing, 2) == 0
        assert len(door.door) == 0


@on_uvloop
async def test_who_does_not_say_goodbye_by_the_deadline_is_not_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It had its answer, or had not asked."""
    monkeypatch.setattr(door_module, "GRACE_SECONDS", 0.1)
    async with tls_door() as door:
        deaf, last, shaking = await served(door), await served(door), await door.connect()
        await until(lambda: len(door.door) == 3)
        for client in (deaf, last):
            client.writer.transport.pause_reading()
        await door.door.close()
        begun, finishing = now(), asyncio.create_task(door.door.finish(now() + 0.4))
        await last.send(request(b"{}", "Connection: close"))
        await shaking.closed()
        await until(lambda: len(door.door) == 2)
        assert await finishing == 0
        assert now() - begun > 0.39


# Settings.


def test_the_settings_do_not_show_what_is_in_the_files() -> None:
    """Wherever they are printed."""
    settings = TlsSettings.model_validate(tls())
    assert "PRIVATE" not in repr(settings)
