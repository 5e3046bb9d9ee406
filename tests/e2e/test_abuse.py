"""What abusers send, and what the others notice: nothing.

Every attack goes through a real socket to the real service. Beside it a witness, from another
address and with a key of its own, must get 200 for all that it sends, soon; see `Watch.attacked`
for what else must hold during an attack and after it.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import math
import statistics
import time
import zlib
from contextlib import ExitStack
from functools import cache
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import pytest
import zstandard

from tests.abuse import (
    ABUSER,
    BURST,
    WITNESS_KEY,
    WITNESS_SOURCE,
    Crowd,
    LoggedGateway,
    RawClient,
    Watch,
    many_open_files,
    outcome,
)
from tests.held import HELD_SECONDS, timed_callbacks
from tests.http_door import KEY, chunked, open_door, request
from tests.producer_contract import by_place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from tests.conftest import Kafka

GOOD = b'{"a":1}'
CHUNKED = "Transfer-Encoding: chunked"
HEADER_SECONDS, BODY_SECONDS, KEEPALIVE_SECONDS = 1, 1, 3
LINGER_SECONDS = 5.0
"""How long the gateway reads the rest of a body that it has refused."""
SLACK_SECONDS = 5.0
"""By how much everything may be late on a machine that others use as well."""
P99_SECONDS = 0.5
STUCK_SECONDS = 1.0
"""A server that takes no byte for so long has stopped to read."""


def digest(key: str) -> list[str]:
    """What the configuration has of a key."""
    return [hashlib.sha256(key.encode()).hexdigest()]


def settings(kafka: Kafka, **sections: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Short times, every request logged, and keys and sources for abusers and witness."""
    usual: dict[str, dict[str, Any]] = {
        "http": {
            "access_log_sample": 1.0,
            "header_seconds": HEADER_SECONDS,
            "keepalive_seconds": KEEPALIVE_SECONDS,
        },
        "limits": {"body_seconds": BODY_SECONDS},
        "dead_letter": {"topic": kafka.new_name("letters")},
        "auth.keys.shop": {"sha256": digest(KEY), "sources": ["orders"]},
        "auth.keys.witness": {"sha256": digest(WITNESS_KEY), "sources": [WITNESS_SOURCE]},
        "sources.orders": {"topic": kafka.new_name("orders")},
        f"sources.{WITNESS_SOURCE}": {"topic": kafka.new_name("witness")},
    }
    return {name: usual.get(name, {}) | sections.get(name, {}) for name in {**usual, **sections}}


@pytest.fixture(scope="module")
def watch(kafka: Kafka) -> Iterator[Watch]:
    """The gateway that most attacks share; in the end Kafka has each event of the witness once."""
    wanted = settings(kafka)
    with LoggedGateway(kafka.servers, wanted, "json") as gateway:
        watch = Watch(gateway)
        yield watch
        records = kafka.read(wanted[f"sources.{WITNESS_SOURCE}"]["topic"])
    assert sorted(json.loads(each.value)["id"] for each in records) == sorted(watch.ids)
    if len(watch.waits) >= 1000:  # else a hundredth is hardly anything
        assert statistics.quantiles(watch.waits, n=100)[98] < P99_SECONDS


# Bytes that cost more than they look.


@cache
def gigabyte_in_gzip() -> bytes:
    """A gigabyte of zeros in a megabyte: one deflated megabyte again and again."""
    zeros, repeats, checksum = bytes(1 << 20), 1 << 10, 0
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    piece, end = packer.compress(zeros) + packer.flush(zlib.Z_FULL_FLUSH), packer.flush()
    for _ in range(repeats):
        checksum = zlib.crc32(zeros, checksum)
    header = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
    sizes = checksum.to_bytes(4, "little") + (repeats << 20).to_bytes(4, "little")
    return header + piece * repeats + end + sizes


@cache
def gigabyte_in_zstd() -> bytes:
    """A gigabyte of zeros in 32 KB."""
    packer, zeros = zstandard.ZstdCompressor().compressobj(), bytes(1 << 20)
    return b"".join([packer.compress(zeros) for _ in range(1 << 10)] + [packer.flush()])


def zstd_frame(descriptor: bytes) -> bytes:
    """A frame of one raw block, with such a descriptor (RFC 8878, section 3.1.1.1)."""
    block = (len(GOOD) << 3 | 1).to_bytes(3, "little") + GOOD
    return b"\x28\xb5\x2f\xfd" + descriptor + block


def encoded(body: bytes, *codings: str) -> bytes:
    """A request that says its body is encoded so."""
    return request(body, *(f"Content-Encoding: {coding}" for coding in codings))


def in_chunks(body: bytes) -> bytes:
    """A request with a body that was chunked already."""
    return request(body, CHUNKED)


def numbered(count: int) -> list[str]:
    """Header fields, one as small as the other."""
    return [f"x-{number}: 1" for number in range(count)]


TWICE = gzip.compress(gzip.compress(GOOD))
EMPTY_MEMBER = gzip.compress(b"")
ONE_CHUNK = b"7\r\n" + GOOD + b"\r\n"
MEGABYTE = b"x" * 1_000_000
NO_HTTP = ["400", "closed"]
"""The bare answer to what is not HTTP."""
OPEN_BODY = "and the rest of the body is waited for"


class Attack(NamedTuple):
    """What is sent, and what comes back.

    Attributes:
        sends: makes it.
        expected: the answers as `outcome` has them, and then ``closed`` or `OPEN_BODY`; where there
            is neither, a good request gets 200 on the same connection.
    """

    sends: Callable[[], bytes]
    expected: list[str]


ATTACKS: dict[str, Attack] = {
    # Compression.
    "a gigabyte in gzip": Attack(
        lambda: encoded(gigabyte_in_gzip(), "gzip"), ["413 decoded_too_large"]
    ),
    "a gigabyte in zstd": Attack(
        lambda: encoded(gigabyte_in_zstd(), "zstd"), ["413 decoded_too_large"]
    ),
    "a zstd window of 128 MB": Attack(
        lambda: encoded(zstd_frame(b"\0\x88"), "zstd"), ["400 bad_compression"]
    ),
    "a zstd window of 2 TB": Attack(
        lambda: encoded(zstd_frame(b"\0\xf8"), "zstd"), ["400 bad_compression"]
    ),
    "zstd that claims 4 EB": Attack(
        lambda: encoded(zstd_frame(b"\xe0" + (1 << 62).to_bytes(8, "little")), "zstd"),
        ["400 bad_compression"],
    ),
    "nested codings": Attack(lambda: encoded(TWICE, "gzip, gzip"), ["415 unsupported_encoding"]),
    "codings in two fields": Attack(
        lambda: encoded(TWICE, "gzip", "gzip"), ["415 unsupported_encoding"]
    ),
    "compressed twice": Attack(lambda: encoded(TWICE, "gzip"), ["400 invalid_utf8"]),
    "200,000 empty members": Attack(
        lambda: encoded(EMPTY_MEMBER * 200_000, "gzip"), ["400 bad_compression"]
    ),
    "200,000 members": Attack(
        lambda: encoded(gzip.compress(b" ") * 200_000, "gzip"), ["400 bad_compression"]
    ),
    "200,000 frames": Attack(
        lambda: encoded(zstandard.compress(b" ") * 200_000, "zstd"), ["400 bad_compression"]
    ),
    # Lengths.
    "both lengths": Attack(lambda: request(chunked(GOOD), CHUNKED, "Content-Length: 7"), NO_HTTP),
    "both lengths, the other way round": Attack(
        lambda: request(chunked(GOOD), "Content-Length: 7", CHUNKED), NO_HTTP
    ),
    "two lengths": Attack(lambda: request(GOOD, "Content-Length: 7", "Content-Length: 8"), NO_HTTP),
    "a negative length": Attack(lambda: request(GOOD, "Content-Length: -7"), NO_HTTP),
    "a length of 400 digits": Attack(
        lambda: request(GOOD, f"Content-Length: {'7' * 400}"), NO_HTTP
    ),
    "a length of 5,000 digits": Attack(
        lambda: request(GOOD, f"Content-Length: {'7' * 5000}"), NO_HTTP
    ),
    "a length of an exabyte": Attack(
        lambda: request(GOOD, f"Content-Length: {10**18}"), ["413 body_too_large", OPEN_BODY]
    ),
    "a length that is never reached": Attack(
        lambda: request(GOOD, "Content-Length: 8"), ["408 body_timeout", OPEN_BODY]
    ),
    "an unknown transfer coding": Attack(
        lambda: request(chunked(GOOD), "Transfer-Encoding: xchunked"), NO_HTTP
    ),
    # Chunks.
    "a chunk extension of 10 MB": Attack(
        lambda: in_chunks(b"7;" + MEGABYTE * 10 + ONE_CHUNK[1:] + b"0\r\n\r\n"), ["200"]
    ),
    "chunk extensions of 10 MB": Attack(
        lambda: in_chunks((b"1;" + b"x" * 1000 + b"\r\n \r\n") * 10_000 + b"0\r\n\r\n"),
        ["400 empty_body"],
    ),
    "chunk extensions without end": Attack(
        lambda: in_chunks(b"7;" + MEGABYTE * 10), ["408 body_timeout", OPEN_BODY]
    ),
    "trailers without end": Attack(
        lambda: in_chunks(ONE_CHUNK + b"0\r\n" + b"a: b\r\n" * 1_000_000), NO_HTTP
    ),
    "a trailer of 10 MB": Attack(
        lambda: in_chunks(ONE_CHUNK + b"0\r\na: " + MEGABYTE * 10), NO_HTTP
    ),
    "200,000 chunks": Attack(
        lambda: in_chunks(chunked(b'{"a":"', *[b"x"] * 200_000, b'"}')), ["200"]
    ),
    "a chunk of an exabyte": Attack(
        lambda: in_chunks(b"f" * 15 + b"\r\n"), ["408 body_timeout", OPEN_BODY]
    ),
    "a chunk size of 400 digits": Attack(lambda: in_chunks(b"f" * 400 + b"\r\n"), NO_HTTP),
    # Headers.
    "200 fields": Attack(lambda: request(GOOD, *numbered(200)), NO_HTTP),
    "100,000 fields": Attack(lambda: request(GOOD, *numbered(100_000)), NO_HTTP),
    "a field of 5 MB": Attack(lambda: request(GOOD, f"x: {'y' * 5_000_000}"), NO_HTTP),
    "a field name of 5 MB": Attack(lambda: request(GOOD, f"{'y' * 5_000_000}: x"), NO_HTTP),
    "a target of 5 MB": Attack(lambda: request(GOOD, target="/" + "y" * 5_000_000), NO_HTTP),
    "a method of 5 MB": Attack(lambda: request(GOOD, method="Y" * 5_000_000), NO_HTTP),
    "blank lines without end": Attack(lambda: b"\r\n" * 1_000_000, ["closed"]),
    "a hundred keys": Attack(
        lambda: request(GOOD, *(f"X-API-Key: {n}" for n in range(100))), ["401 unauthenticated"]
    ),
    "a megabyte of zeros": Attack(lambda: bytes(1_000_000), NO_HTTP),
    "TLS": Attack(lambda: b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + bytes(500), NO_HTTP),
    # Expectations.
    "Expect without a key": Attack(
        lambda: request(b"", "Expect: 100-continue", "Content-Length: 7", key=None),
        ["401 unauthenticated", OPEN_BODY],
    ),
    "Expect with too large a body": Attack(
        lambda: request(b"", "Expect: 100-continue", "Content-Length: 10485761"),
        ["413 body_too_large", OPEN_BODY],
    ),
    # Documents.
    "10 MB of brackets": Attack(lambda: request(b"[" * 10_000_000), ["400 too_deep"]),
    "10 MB of objects": Attack(lambda: request(b'{"a":' * 2_000_000), ["400 too_deep"]),
    "a number of 9 MB": Attack(
        lambda: request(b'{"n":%b}' % (b"7" * 9_000_000)), ["422 no_usable_event"]
    ),
    "100,000 times the same name": Attack(
        lambda: request(b"{%b}" % b",".join([b'"id":"x"'] * 100_000)), ["200"]
    ),
    # Many at once.
    "3,000 pipelined requests": Attack(
        lambda: request(GOOD, key="wrong") * 3000, ["401 unauthenticated"] * 3000
    ),
    "3,000 pipelined batches": Attack(lambda: request(b"[]") * 3000, ["200"] * 3000),
}


def outcome_of(client: RawClient, sends: bytes) -> str:
    """The answer to a request, in short."""
    client.send(sends)
    return outcome(client, 1)[0]


def carry_out(client: RawClient, sends: bytes, expected: list[str]) -> list[str]:
    """What came of an attack, in the words of `Attack`."""
    client.send(sends)
    answers = [word for word in expected if word != OPEN_BODY]
    heard = outcome(client, len(answers))
    if OPEN_BODY in expected:
        heard.append(OPEN_BODY)
    elif heard[-1] != "closed":
        assert outcome_of(client, request(GOOD)) == "200"
    return heard


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_has_its_answer_soon_and_harms_nobody(watch: Watch, name: str) -> None:
    """The contract's status or the end of the connection, and the witness notices nothing."""
    sends, expected = ATTACKS[name].sends(), ATTACKS[name].expected
    with watch.attacked(), watch.client() as client:
        begun = time.monotonic()
        assert carry_out(client, sends, expected) == expected
        assert time.monotonic() - begun < BODY_SECONDS + SLACK_SECONDS


async def longest_callback(sends: bytes, expected: list[str]) -> tuple[float, str]:
    """The callback that took most CPU time during an attack on a door in this process."""
    sections = {
        "http": {"access_log_sample": 1.0, "header_seconds": HEADER_SECONDS},
        "limits": {"body_seconds": BODY_SECONDS},
    }

    def attack(port: int) -> list[str]:
        with RawClient(port) as client:
            return carry_out(client, sends, expected)

    async with open_door(**sections) as opened:
        with timed_callbacks() as times:
            assert await asyncio.to_thread(attack, opened.port) == expected
        assert any("Connection" in name for _, name in times)
        return max(times)


@pytest.mark.parametrize("name", ATTACKS)
def test_no_attack_holds_the_event_loop(name: str) -> None:
    """No callback takes more than 50 ms of CPU time; the least of three measurements counts."""
    sends, expected = ATTACKS[name].sends(), ATTACKS[name].expected
    least = (math.inf, "")
    for _ in range(3):
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            least = min(least, runner.run(longest_callback(sends, expected)))
        if least[0] < HELD_SECONDS:
            break
    assert least < (HELD_SECONDS, "")


# A body that is not as long as its header says.


def test_what_is_behind_the_declared_length_is_the_next_request(watch: Watch) -> None:
    """The body ends where its header says; garbage behind it spoils only itself."""
    with watch.attacked(), watch.client() as client:
        client.send(request(GOOD, "Content-Length: 7"))
        assert outcome(client, 1) == ["200"]
        client.send(b"garbage" + request(GOOD))
        assert outcome(client, 2) == NO_HTTP


def test_a_body_that_is_cut_off_is_not_taken(watch: Watch) -> None:
    """Whether its sender says that it ends, or breaks the connection."""
    before = watch.gateway.accounts().get("orders", {})
    with watch.attacked():
        for leave in (RawClient.finish, RawClient.reset):
            with watch.client() as client:
                client.send(request(b"[{},{}]", "Content-Length: 8"))
                leave(client)
                if leave is RawClient.finish:
                    assert outcome(client, 1) == ["closed"]
    assert watch.gateway.accounts().get("orders", {}) == before


# Slow and silent clients.

CROWD = 100


SILENT = [(b"", b"")]
SLOW_HEADERS = [
    (b"POST /v1/events/", b""),
    (b"POST /v1/events/", b"x"),
    (request(b"")[:-2] + b"x: ", b"x"),
]
SLOW_BODIES = [
    (request(b"", "Content-Length: 100000"), b""),
    (request(b"", "Content-Length: 100000"), b"x"),
    (request(b"", CHUNKED), b"1\r\nx\r\n"),
]


@pytest.mark.parametrize(
    ("kinds", "expected", "seconds"),
    [
        (SILENT, ["closed"], KEEPALIVE_SECONDS),
        (SLOW_HEADERS, ["closed"], HEADER_SECONDS),
        (SLOW_BODIES, ["408 body_timeout", "closed"], BODY_SECONDS + LINGER_SECONDS),
    ],
    ids=["silent", "header", "body"],
)
def test_who_is_slow_is_closed_in_time(
    watch: Watch, kinds: list[tuple[bytes, bytes]], expected: list[str], seconds: float
) -> None:
    """A hundred at once; however steadily something trickles, it is not waited for longer."""
    with watch.attacked(), ExitStack() as stack:
        clients = [
            (stack.enter_context(watch.client()), *kinds[n % len(kinds)]) for n in range(CROWD)
        ]
        begun = time.monotonic()
        for client, begin, _ in clients:
            client.send(begin)
        left = clients
        while left := [each for each in left if each[0].is_open()]:
            assert time.monotonic() - begun < seconds + SLACK_SECONDS
            time.sleep(0.05)  # how fast it trickles
            for client, _, piece in left:
                client.send(piece)
        assert time.monotonic() - begun > 0.9 * seconds
        assert all(outcome(client, len(expected)) == expected for client, *_ in clients)


@pytest.mark.parametrize("leave", [RawClient.vanish, RawClient.reset, RawClient.close])
def test_who_disappears_leaves_nothing_behind(
    watch: Watch, leave: Callable[[RawClient], None]
) -> None:
    """Without a word, by RST or by FIN; before, in and after a request: nothing is left open."""
    begun = [
        b"",
        request()[:20],
        request(b"{", "Content-Length: 2"),
        in_chunks(b"5\r\n{"),
        request(),
        request() * 50,
    ]
    with watch.attacked(), ExitStack() as stack:
        for sends in begun * 10:
            client = stack.enter_context(watch.client())
            client.send(sends)
            leave(client)


# Clients that do not read.


def test_who_never_reads_is_not_served_on(watch: Watch) -> None:
    """What is kept for it is bounded; what it sends beyond that is not even looked at."""
    refused, sends = {"source": "unknown", "status": "401"}, request(GOOD, key="wrong")
    before, handled = watch.requests(**refused), -1
    with watch.attacked() as witness, watch.client(receive_buffer=4096) as client:
        assert not client.send(sends * 400_000, STUCK_SECONDS)
        while handled != (handled := watch.requests(**refused) - before):
            witness.wait_for(20)
        assert 32 < handled < client.sent_bytes / len(sends) - 1000
        client.reset()


# Numbers and names.


@pytest.mark.parametrize(
    "event",
    [
        b'{"n":%b}' % (b"7" * 400),
        b'{"n":-%b.%be%b}' % (b"7" * 400, b"3" * 400, b"9" * 400),
        b'{"a":1,"a":2}',
        b'{"id":"first","id":"%b","id":3}' % (b"second" * 9),
    ],
    ids=["400 digits", "1,200 digits", "twice the same name", "three ids"],
)
def test_odd_events_are_in_kafka_as_they_were_sent(
    watch: Watch, kafka: Kafka, event: bytes
) -> None:
    """Byte by byte."""
    with watch.attacked(), watch.client() as client:
        target = "/v1/events/orders?results=all"
        answer = client.ask(request(event, target=target))
        assert answer is not None
        assert (answer.status, answer.counts) == (200, {"accepted": 1})
        (result,) = answer.results
        found = by_place(kafka.read(result["topic"]))[result["partition"], result["offset"]]
        assert found.value.endswith(b'"data":%b}' % event)


# What is quoted: answers and logs.

INJECTIONS = {
    "CR LF": b"a\r\nForged: yes",
    "the end of a header": b"a\r\n\r\nHTTP/1.1 200 Forged\r\n\r\n",
    "LF": b'a\n{"event":"forged","level":"info"}',
    "CR": b"a\rforged",
    "NUL": b"a\0forged",
    "ESC": b"\x1b[31mforged\x1b[2J",
    "DEL": b"a\x7fforged",
    "C1 in UTF-8": "\x9b31m\x85forged".encode(),
    "C1 as bytes": b"\x9b31m\x85forged",
    "line separators": "a\u2028forged\u2029".encode(),
    "the other direction": "a\u202eforged".encode(),
    "a surrogate": b"a\xed\xa0\x80forged",
    "a quote": b"a'\"\\forged",
    "percent": b"%0d%0aForged:%20yes%1b[31m%00%c2%9b%e2%80%a8%ff",
}
FIELDS = [
    "X-Request-Id: {}",
    "Authorization: Bearer {}",
    "Authorization: {}",
    "X-API-Key: {}",
    "User-Agent: {}",
    "Content-Type: {}",
    "Content-Type: application/json; charset={}",
    "Content-Encoding: {}",
    "Expect: {}",
    "Origin: {}",
    "Idempotency-Key: {}",
    "traceparent: {}",
    "X-Forwarded-For: {}",
    "X-Forwarded-For: {}, 192.0.2.1",
    "{}: x",
]
LINES = [
    "{} /v1/events/orders HTTP/1.1",
    "POST /v1/events/{} HTTP/1.1",
    "POST /v1/events/orders?{}=1 HTTP/1.1",
    "POST /v1/events/orders?results={} HTTP/1.1",
    "POST http://{}/v1/events/orders HTTP/1.1",
    "GET /v1/events/{} HTTP/1.1",
    "GET /v1/events/orders HTTP/1.1\r\nHost: {}",
    "GET /v1/events/orders HTTP/1.1\r\nX-Forwarded-Host: {}",
    "GET /openapi.json HTTP/1.1\r\nX-Forwarded-Host: {}",
    "OPTIONS /v1/events/orders HTTP/1.1\r\nAccess-Control-Request-Headers: {}",
]


def injected(place: str, payload: bytes) -> bytes:
    """A request that has ``payload`` at a place: in its first line, or in a field."""
    written = place.encode().replace(b"{}", payload)
    key = None if place.startswith(("Auth", "X-API")) else KEY
    media = None if place.startswith("Content-Type") else "application/json"
    line, _, rest = request(GOOD, key=key, media=media).partition(b"\r\n")
    first = [written] if place in LINES else [line, written]
    return b"\r\n".join([*first, rest])


@pytest.fixture(scope="module", params=["json", "text"])
def logged(kafka: Kafka, request: pytest.FixtureRequest) -> Iterator[Watch]:
    """A gateway that logs every request, in one of the formats, and believes its abuser."""
    wanted = settings(kafka, http={"trusted_proxies": [ABUSER]})
    with LoggedGateway(kafka.servers, wanted, request.param) as gateway:
        yield Watch(gateway)


@pytest.mark.parametrize("places", [LINES, FIELDS], ids=["first line", "fields"])
def test_nothing_is_injected_into_answers_or_logs(logged: Watch, places: list[str]) -> None:
    """No control character passes, and neither a field nor a line is forged."""
    with logged.attacked():
        for place, name in product(places, INJECTIONS):
            with logged.client() as client:
                answer = client.ask(injected(place, INJECTIONS[name]))
            assert answer is not None, (place, name)
            assert answer.status in {200, 204, 400, 401, 403, 404, 405, 415, 417}, (place, name)
            assert "forged" not in f"{answer.headers}{answer.body!r}".lower(), (place, name)


# Many connections.

IDLE, CONNECTIONS, PER_ADDRESS = 10_000, 12_000, 1200
IDLE_BYTES = 10_000
"""What a connection that says nothing may cost in memory; it was measured as 5,700."""
SAME_TIME = 200
"""So many may have come within a tick of the gateway's clock: who of them goes first is open."""
DEARER = 30
"""How much more a newcomer may cost that another one is closed for: to find the longest idle one
has a price as well, but not that of a look at every connection for every newcomer."""


@pytest.fixture(scope="module")
def wide(kafka: Kafka) -> Iterator[Watch]:
    """A gateway for many connections, which may rest for long."""
    http = {"keepalive_seconds": 75, "header_seconds": 10}
    limits = {"connections": CONNECTIONS, "connections_per_address": PER_ADDRESS}
    wanted = settings(kafka, http=http, limits=limits)
    with many_open_files(), LoggedGateway(kafka.servers, wanted, "json") as gateway:
        yield Watch(gateway)


def refused(watch: Watch, limit: str) -> int:
    """How many connections were closed for a limit."""
    return watch.counted("ingest_connections_refused_total", listener="http", limit=limit)


def crowd_at(watch: Watch) -> Crowd:
    """A crowd; whoever is answered was in the queue behind them."""

    def let_in(_: int) -> None:
        with watch.client() as last:
            assert outcome_of(last, request(GOOD)) == "200"

    return Crowd(watch.client, let_in)


def grown(watch: Watch, crowd: Crowd, count: int) -> float:
    """Have ``count`` more of them; the worker's CPU seconds for each."""
    begun = watch.worker.cpu_times()
    crowd.grow(count)
    now = watch.worker.cpu_times()
    return float(now.user + now.system - begun.user - begun.system) / count


def test_ten_thousand_idle_connections_are_held_and_others_are_served(wide: Watch) -> None:
    """Each for a few kilobytes; any of them may speak at last."""
    with wide.attacked(IDLE * IDLE_BYTES) as witness, crowd_at(wide) as crowd:
        crowd.grow(IDLE)
        witness.wait_for(50)
        assert all(client.is_open() for client in crowd.clients)
        for client in crowd.clients[:: IDLE // 20]:
            assert outcome_of(client, request(GOOD)) == "200"


def test_past_the_cap_the_longest_idle_makes_room_at_little_cost(wide: Watch) -> None:
    """A thousand newcomers at once are let in for those who came first; nobody waits for it."""
    before = refused(wide, "connections")
    with wide.attacked(CONNECTIONS * IDLE_BYTES), crowd_at(wide) as crowd:
        usual = grown(wide, crowd, IDLE)
        crowd.grow(CONNECTIONS - IDLE)
        assert grown(wide, crowd, BURST) < DEARER * usual
        closed = refused(wide, "connections") - before
        assert closed >= BURST
        assert not any(client.is_open() for client in crowd.clients[: closed - SAME_TIME])
        assert all(client.is_open() for client in crowd.clients[closed + SAME_TIME :])
        assert outcome_of(crowd.clients[-1], request(GOOD)) == "200"


def test_past_the_cap_of_an_address_only_its_own_newcomers_are_closed(wide: Watch) -> None:
    """Those who are there stay, and others are let in."""
    before = refused(wide, "connections_per_address")
    with wide.attacked(), ExitStack() as stack:
        clients = [stack.enter_context(wide.client()) for _ in range(PER_ADDRESS)]
        for _ in range(50):
            with wide.client() as newcomer:
                assert newcomer.hangs_up()
        assert refused(wide, "connections_per_address") - before == 50
        assert all(client.is_open() for client in clients)
        assert outcome_of(clients[0], request(GOOD)) == "200"
