"""What abusers send to the syslog door, and what the others notice: nothing.

Every attack goes through a real socket to the real service. Beside it a good sender, from another
address, must have all its messages in Kafka, soon; see `Watch.attacked` for what else must hold
during an attack and after it.
"""

from __future__ import annotations

import random
import resource
import socket
import ssl
import threading
import time
import uuid
from base64 import b64decode
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from loadtest.gateway import wait_until
from tests import rsyslog
from tests.abuse import ABUSER, PATIENCE, Crowd, RawClient, many_open_files
from tests.syslog_abuse import (
    GOOD,
    GOOD_SOURCE,
    HEAD,
    INFLIGHT_BYTES,
    OFFERS,
    RelpClient,
    Watch,
)
from tests.syslog_gateway import CheckedGateway, check_envelope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Kafka
    from tests.memory_producer import Record

FRAME_BYTES = 65_536
"""The default of ``frame_bytes``."""
PARTIAL_SECONDS, HANDSHAKE_SECONDS = 1.0, 1.0
UNREAD_ACK_BYTES, UNREAD = 65_536, 400_000
"""So many answers are far more than that, and more than the 4 MB that the kernel takes beside."""
SLACK_SECONDS = 5.0
"""By how much everything may be late on a machine that others use as well."""
STUCK_SECONDS = 1.0
"""A gateway that takes no byte for so long has stopped to read."""
GIGABYTE = 1 << 30
LONG_BYTES = 256 << 20
"""Enough where the gigabyte has been shown: nothing is kept of a frame after its first 64 KiB."""
IDLE = min(10_000, resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 1000)
"""Ten thousand, or as many as the open-file limit of this machine leaves room for."""
IDLE_BYTES = 10_000
"""What a connection that says nothing may cost in memory."""
SAME_TIME = 200
"""So many may have come within a tick of the gateway's clock: who of them goes first is open."""
LISTENERS: dict[str, dict[str, Any]] = {
    "tcp": {"protocol": "tcp"},
    "octet": {"protocol": "tcp", "framing": "octet"},
    "relp": {"protocol": "relp"},
    "unread": {"protocol": "relp", "unread_ack_bytes": UNREAD_ACK_BYTES},
    "udp": {"protocol": "udp"},
    "tls": {"protocol": "tcp", "handshake_seconds": HANDSHAKE_SECONDS},
    "slow-tcp": {"protocol": "tcp", "partial_seconds": PARTIAL_SECONDS},
    "slow-relp": {"protocol": "relp", "partial_seconds": PARTIAL_SECONDS},
    "flood": {"protocol": "tcp"},
    "crowd": {"protocol": "tcp", "connections": IDLE},
}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> rsyslog.Certificates:
    """The gateway's certificate, and who signed it."""
    return rsyslog.Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def watch(kafka: Kafka, certificates: rsyslog.Certificates) -> Iterator[Watch]:
    """The gateway that all attacks share; in the end Kafka has each good message once."""
    issued = certificates.gateway()
    tls = {"tls": {name: issued[name] for name in ("cert", "key")}}
    topics = {name: kafka.new_name(name) for name in [*LISTENERS, GOOD_SOURCE]}
    settings: dict[str, dict[str, Any]] = {
        f"sources.{name}": {"topic": topic} for name, topic in topics.items()
    }
    settings["limits"] = {"inflight_bytes": INFLIGHT_BYTES}
    settings["[syslog.rules]"] = {"when.peer": GOOD, "source": GOOD_SOURCE}
    named = [
        {"name": name, "source": name, **each, **(tls if name == "tls" else {})}
        for name, each in LISTENERS.items()
    ]
    with many_open_files(), CheckedGateway(kafka.servers, named, settings) as gateway:
        watch = Watch(gateway, kafka, topics)
        yield watch
        gateway.check_books()
        watch.check_good_senders()


def arrived(watch: Watch, source: str, mark: bytes, count: int = 1) -> list[dict[str, Any]]:
    """``data`` of the messages of a source that have a mark in them, in order of arrival."""

    def marked() -> list[Record]:
        return [each for each in watch.records(source) if mark in each.value]

    wait_until(lambda: len(marked()) >= count, PATIENCE, f"{mark!r} is not in Kafka")
    found = [check_envelope(each, source) for each in marked()]
    assert len(found) == count, found
    return found


def new_mark() -> bytes:
    """Bytes by which a message is found."""
    return uuid.uuid4().hex.encode()


def require_in_step(watch: Watch, client: RawClient, listener: str) -> None:
    """What a client sends now arrives as it was meant."""
    mark = new_mark()
    message = HEAD + mark
    counted = LISTENERS[listener].get("framing") == "octet"
    assert client.send(b"%d %b" % (len(message), message) if counted else message + b"\n")
    (data,) = arrived(watch, listener, mark)
    assert (data["message"], data["status"]) == (mark.decode(), "ok")


def ends(client: RawClient) -> bool:
    """Whether the gateway hangs up, whatever it has to say before that."""
    while client._receive():
        pass
    return True


# Frames without an end.


class Endless(NamedTuple):
    """A frame of x, so many bytes long, with what is before it and behind it."""

    listener: str
    size: int
    begin: bytes
    end: bytes


ENDLESS = {
    "no LF": Endless("tcp", GIGABYTE, b"", b"\n"),
    "an octet count": Endless("tcp", LONG_BYTES, b"%d <13>" % (LONG_BYTES + 4), b""),
    "an octet count, forced": Endless("octet", LONG_BYTES, b"%d " % LONG_BYTES, b""),
    "a DATALEN": Endless("relp", LONG_BYTES, b"2 syslog %d " % LONG_BYTES, b"\n"),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_a_frame_without_end_is_followed_to_its_end_at_no_cost(watch: Watch, name: str) -> None:
    """What is kept of it is bounded; it is cut, flagged, and what follows it is intact."""
    listener, size, begin, end = ENDLESS[name]
    with watch.attacked(), connected(watch, listener) as client:
        mark = send_endless(client, size, begin, end)
        if isinstance(client, RelpClient):
            client.frame(b"syslog", b"")  # which was sent by hand
            assert client.response() == b"200 OK"
            client.deliver(HEAD + b"next")
        else:
            require_in_step(watch, client, listener)
        (data,) = arrived(watch, listener, mark)
    has_pri = 4 * (b"<" in begin)
    assert (data["reason"], data["original_bytes"]) == ("truncated", size + has_pri)
    assert len(data["raw"]) == FRAME_BYTES


def send_endless(client: RawClient, size: int, begin: bytes, end: bytes) -> bytes:
    """Send such a frame; a mark that is at its beginning."""
    mark, piece = new_mark(), b"x" * (1 << 20)
    assert client.send(begin + mark)
    left = size - len(mark)
    while left:
        assert client.send(piece[:left])
        left -= min(left, len(piece))
    assert client.send(end)
    return mark


def connected(watch: Watch, listener: str) -> RawClient:
    """A new connection to a listener; of RELP, an open session."""
    return watch.relp() if listener == "relp" else watch.client(listener)


# Bytes that are no frames.

MEGABYTE = 1_000_000
TEXTS = {
    "an octet count of 400 digits": b"9" * 400 + b" <13>x",
    "an octet count of a megabyte": b"9" * MEGABYTE,
    "an octet count of 0": b"0 <13>x",
    "an octet count below its PRI": b"1 <13>x",
    "an octet count with zeros before it": b"000000005 <13>x",
    "a megabyte of <": b"<" * MEGABYTE,
    "a megabyte of [": HEAD.replace(b"- - ", b"- [") + b"[" * MEGABYTE,
    "a megabyte of quotes": HEAD.replace(b"- - ", b'- [a b="') + b'\\"' * (MEGABYTE // 2),
    "a megabyte of parameters": HEAD.replace(b"- - ", b"- [a") + b' b="c"' * (MEGABYTE // 6),
    "a megabyte of elements": HEAD.replace(b"- - ", b"- ") + b"[a]" * (MEGABYTE // 3),
    "a megabyte of spaces": b"<13>" + b" " * MEGABYTE + b"x",
    "a megabyte of colons": b"<13>" + b":" * MEGABYTE,
    "a megabyte of a date": b"<13>" + b"Jan 1 " * (MEGABYTE // 6),
    "a megabyte of noise": random.Random(5).randbytes(MEGABYTE).translate(None, b"\n\0"),
}


def test_what_is_no_frame_is_a_text_that_runs_to_the_next_lf(watch: Watch) -> None:
    """It is kept as it came, as far as it is not too long, and framing stays in step."""
    before = watch.gateway.account("tcp")["acked"]
    with watch.attacked(), watch.client("tcp") as client:
        for text in TEXTS.values():
            assert client.send(text + b"\n")
            require_in_step(watch, client, "tcp")
    assert watch.gateway.account("tcp")["acked"] - before == 2 * len(TEXTS)


BAD_COUNTS = {
    "ten digits": b"1234567890 <13>x",
    "a megabyte of digits": b"9" * MEGABYTE,
    "none": b"<13>x\n",
    "a letter": b"12x <13>",
    "a sign": b"-5 <13>x",
    "noise": random.Random(6).randbytes(MEGABYTE),
}


def test_where_octet_counts_are_forced_what_is_none_ends_the_connection(watch: Watch) -> None:
    """What came before it counts; a count of 0 is an empty frame."""
    with watch.attacked():
        for bad in BAD_COUNTS.values():
            with watch.client("octet") as client:
                assert client.send(b"0 ")
                require_in_step(watch, client, "octet")
                client.send(bad)
                assert ends(client)
    assert watch.gateway.dropped("octet")["empty"] >= len(BAD_COUNTS)


# RELP.

OPENED = b"1 open %d %b\n" % (len(OFFERS), OFFERS)
BROKEN = {
    "a number too high": b"4 syslog 1 a\n",
    "the same number again": b"2 syslog 1 a\n",
    "the number 0": b"0 syslog 1 a\n",
    "a number of ten digits": b"1000000000 syslog 1 a\n",
    "a number of a megabyte": b"9" * MEGABYTE,
    "a DATALEN of ten digits": b"3 syslog 1234567890 a\n",
    "a DATALEN of a megabyte": b"3 syslog " + b"9" * MEGABYTE,
    "a negative DATALEN": b"3 syslog -1 a\n",
    "a DATALEN that is too short": b"3 syslog 1 ab\n",
    "an unknown command": b"3 starttls 0\n",
    "a command of a megabyte": b"3 " + b"s" * MEGABYTE,
    "open again": b"3 open %d %b\n" % (len(OFFERS), OFFERS),
    "a close of 999,999,999 bytes": b"3 close 999999999 x",
    "noise": random.Random(7).randbytes(MEGABYTE),
    "syslog without RELP": HEAD + b"x\n",
}
"""What follows `OPENED` and one message, so that 3 is the next number."""
UNOPENED = {
    "syslog before open": b"1 syslog 1 a\n",
    "65 offers": b"1 open %d " % (65 * 4) + b"a=b\n" * 65 + b"\n",
    "an offer of 999,999,999 bytes": b"1 open 999999999 x",
    "TLS": b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + bytes(500),
    "HTTP": b"GET / HTTP/1.1\r\n\r\n",
}


def test_who_does_not_keep_to_relp_is_closed(watch: Watch) -> None:
    """At once; what it had sent before that is in Kafka, and nothing of the rest."""
    before = watch.gateway.account("relp")
    with watch.attacked():
        for bad in BROKEN.values():
            with watch.relp() as client:
                client.deliver(HEAD + b"before")
                client.send(bad)
                assert ends(client)
        for bad in UNOPENED.values():
            with watch.client("relp") as stranger:
                stranger.send(bad)
                assert ends(stranger)
    assert watch.gateway.account("relp") - before == {
        "received": len(BROKEN),
        "acked": len(BROKEN),
    }


def test_a_relp_client_that_never_reads_is_paused_and_no_more(watch: Watch) -> None:
    """What waits for it is bounded; once it reads, it is answered in order, to the last."""
    handled = -1
    with watch.attacked() as good, watch.relp(receive_buffer=4096, listener="unread") as client:
        frames = client.frames([HEAD + b"x"] * UNREAD)
        at = client.sent_bytes
        assert not client.send(frames, STUCK_SECONDS), "it was never paused"
        while handled != (handled := watch.gateway.account("unread")["received"]):
            good.wait_for(10)
        taken = client.sent_bytes - at
        assert 0 < handled < UNREAD * 3 // 4
        rest = threading.Thread(target=client.send, args=(frames[taken:],))
        rest.start()
        client.require_acknowledged(UNREAD)
        rest.join()
    assert watch.gateway.account("unread")["received"] == UNREAD


# Slow senders.

CROWD, TRICKLE_SECONDS = 100, 0.1
SLOW = {
    "slow-tcp": [(b"", b"x" * 100), (b"<13>", b"x" * 100), (b"999999999 <13>", b"x" * 100)],
    "slow-relp": [
        (b"", OPENED),
        (OPENED, b"2 " + b"s" * 32),
        (OPENED + b"2 syslog 999999999 ", b"x" * 100),
    ],
}
"""By listener: what is sent at once, and what byte by byte."""


@pytest.mark.parametrize("listener", SLOW)
def test_who_sends_a_byte_at_a_time_is_closed_in_time(watch: Watch, listener: str) -> None:
    """A hundred at once; however steadily a frame trickles, it is not waited for longer."""
    kinds = SLOW[listener]
    with watch.attacked(), ExitStack() as stack:
        clients = [
            (stack.enter_context(watch.client(listener)), *kinds[n % len(kinds)])
            for n in range(CROWD)
        ]
        begun = time.monotonic()
        for client, begin, _ in clients:
            client.send(begin)
        left, at = clients, 0
        while left := [each for each in left if is_open(each[0])]:
            assert time.monotonic() - begun < PARTIAL_SECONDS + SLACK_SECONDS
            time.sleep(TRICKLE_SECONDS)
            for client, _, trickling in left:
                client.send(trickling[at : at + 1])
            at += 1
        assert time.monotonic() - begun > 0.9 * PARTIAL_SECONDS
    labels = {"listener": listener, "reason": "partial_seconds"}
    assert watch.counted("ingest_connections_closed_total", **labels) == CROWD


def is_open(client: RawClient) -> bool:
    """Whether the gateway has not hung up, whatever it has said before."""
    while client.is_open():
        if not client._came:
            return True
        client._came = b""
    return False


def test_who_is_slow_but_sends_whole_frames_is_kept(watch: Watch) -> None:
    """The limit is for one frame, not for a connection."""
    with watch.attacked(), watch.client("slow-tcp") as client:
        until = time.monotonic() + PARTIAL_SECONDS + 1.5
        while time.monotonic() < until:
            for piece in (b"<13>", b"x", b"\n", b"<13>y"):
                assert client.send(piece)
                time.sleep(0.02)
            assert client.send(b"\n")
        assert client.is_open()


# Many at once.


def crowd_at(watch: Watch) -> Crowd:
    """A crowd at the listener of that name."""

    def let_in(count: int) -> None:
        wait_until(
            lambda: watch.connections("crowd") >= count, PATIENCE, "newcomers are not let in"
        )

    return Crowd(lambda address: watch.client("crowd", address), let_in)


def test_ten_thousand_idle_connections_keep_nobody_out(
    watch: Watch, request: pytest.FixtureRequest
) -> None:
    """At the limit the one that was idle longest makes room; the others stay, and may speak."""
    if IDLE < 10_000:
        reporter: Any = request.config.pluginmanager.get_plugin("terminalreporter")
        reporter.write_line(f"only {IDLE} idle connections: the open-file limit allows no more")
    refused = {"listener": "crowd", "limit": "connections"}
    with watch.attacked(IDLE * IDLE_BYTES) as good, crowd_at(watch) as crowd:
        crowd.grow(IDLE)
        assert watch.counted("ingest_connections_refused_total", **refused) == 0
        with watch.client("crowd", "127.0.0.4") as newcomer:
            require_in_step(watch, newcomer, "crowd")
        assert watch.counted("ingest_connections_refused_total", **refused) == 1
        (closed,) = [n for n, client in enumerate(crowd.clients) if not client.is_open()]
        assert closed < SAME_TIME
        for client in crowd.clients[SAME_TIME :: IDLE // 20]:
            require_in_step(watch, client, "crowd")
        good.wait_for(20)


FLOODERS, TINY = 20, 20_000
"""Connections, and frames of each. A million take more time, and no more memory."""


@pytest.mark.parametrize("frame", [b"a\n", b"\n", b"5 <13>a"], ids=repr)
def test_a_flood_of_tiny_frames_holds_nobody_up(watch: Watch, frame: bytes) -> None:
    """They are worked on in turns with what others send, and wait while there is too much."""
    before = watch.gateway.account("flood")["received"]
    with watch.attacked() as good, ExitStack() as stack:
        clients = [stack.enter_context(watch.client("flood")) for _ in range(FLOODERS)]
        for client in clients:
            assert client.send(frame * TINY)
        good.wait_for(10)
    assert watch.gateway.account("flood")["received"] - before == FLOODERS * TINY


def test_tls_handshakes_that_never_finish_keep_nobody_out(
    watch: Watch, certificates: rsyslog.Certificates
) -> None:
    """They are closed in time, whether nothing came, a part, or what is no handshake."""
    hello = b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"
    kinds = [b"", hello, hello + bytes(600), b"x" * 100]
    context = ssl.create_default_context(cafile=certificates.server_ca)
    mark = new_mark()
    with watch.attacked(), ExitStack() as stack:
        begun = time.monotonic()
        clients = [stack.enter_context(watch.client("tls")) for _ in range(300)]
        for number, client in enumerate(clients):
            client.send(kinds[number % len(kinds)])
        with (
            socket.create_connection(("127.0.0.1", watch.port("tls")), PATIENCE) as plain,
            context.wrap_socket(plain, server_hostname=rsyslog.GATEWAY_NAME) as newcomer,
        ):
            newcomer.sendall(HEAD + mark + b"\n")
            assert time.monotonic() - begun < HANDSHAKE_SECONDS + SLACK_SECONDS
            arrived(watch, "tls", mark)
        for client in clients:
            assert ends(client)
        assert time.monotonic() - begun < HANDSHAKE_SECONDS + SLACK_SECONDS
    refused = {"listener": "tls", "limit": "handshake_seconds"}
    assert watch.counted("ingest_connections_refused_total", **refused) >= 75


# Odd bytes.

LARGEST = 65_507
"""What one UDP datagram over IPv4 can carry."""
MARK_BYTES = 32


class Odd(NamedTuple):
    """A message that follows a mark, and how it is flagged."""

    filling: bytes
    head: bytes
    flags: tuple[str, str | None]
    kept_in: str


ODD = {
    "text": Odd(b"x", HEAD, ("ok", None), "message"),
    "three bytes a character": Odd("€".encode(), HEAD, ("ok", None), "message"),
    "NULs": Odd(b"\0x", HEAD, ("ok", None), "message"),
    "not UTF-8": Odd(b"\xff", HEAD, ("partial", "invalid_utf8"), "raw_base64"),
    "half of a character": Odd(b"\xe2\x82", HEAD, ("partial", "invalid_utf8"), "raw_base64"),
    "a surrogate": Odd(b"\xed\xa0\x80", HEAD, ("partial", "invalid_utf8"), "raw_base64"),
    "NULs without a PRI": Odd(b"\0x", b"", ("raw", "no_pri"), "raw"),
    "control characters": Odd(b"\x01", b"", ("raw", "no_pri"), "raw"),
    "LF and CR": Odd(b"\r\nx", b"", ("raw", "no_pri"), "raw"),
    "all bytes": Odd(bytes(range(256)), b"", ("raw", "invalid_utf8"), "raw_base64"),
}


def odd_message(odd: Odd, mark: bytes, size: int) -> bytes:
    """A message of so many bytes, or a little less, without padding at its end."""
    room = size - len(odd.head) - len(mark)
    return odd.head + mark + odd.filling * (room // len(odd.filling))


def require_recoverable(data: dict[str, Any], odd: Odd, message: bytes) -> None:
    """It is flagged, and what was sent can be had of it, byte for byte."""
    assert (data["status"], data.get("reason")) == odd.flags
    kept = data[odd.kept_in]
    original = b64decode(kept) if odd.kept_in == "raw_base64" else kept.encode()
    assert (odd.head if odd.kept_in == "message" else b"") + original == message
    assert {"raw", "raw_base64"} & data.keys() == {odd.kept_in} - {"message"}


@pytest.mark.parametrize("way", ["udp", "relp"])
def test_odd_bytes_are_in_kafka_as_they_were_sent(watch: Watch, way: str) -> None:
    """Also in the largest datagrams; what is not as it should be says so."""
    marks = {name: new_mark() for name in ODD}
    sent = {name: odd_message(odd, marks[name], LARGEST) for name, odd in ODD.items()}
    with watch.attacked(), datagrams() as udp, watch.relp() as relp:
        for name, message in sent.items():
            if way == "udp":
                udp.sendto(message, ("127.0.0.1", watch.port("udp")))
            else:
                relp.deliver(message)
            (data,) = arrived(watch, way, marks[name])
            require_recoverable(data, ODD[name], message)
            assert data["peer"] == ABUSER


def datagrams() -> socket.socket:
    """Sends datagrams from the abuser's address."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((ABUSER, 0))
    return sock


def test_empty_datagrams_and_frames_are_counted_as_dropped(watch: Watch) -> None:
    """Also those of nothing but padding; RELP clients are answered all the same."""
    before = {name: watch.gateway.dropped(name)["empty"] for name in ("udp", "tcp", "relp")}
    empty = [b"", b"\n", b"\0", b"\r\n\0\0"]
    with watch.attacked(), datagrams() as udp, watch.client("tcp") as tcp, watch.relp() as relp:
        for each in empty:
            udp.sendto(each, ("127.0.0.1", watch.port("udp")))
        tcp.send(b"\n\n\r\n\n")
        relp.deliver(*empty)
        wait_until(
            lambda: all(
                watch.gateway.dropped(name)["empty"] - before[name] == len(empty) for name in before
            ),
            PATIENCE,
            "they are not counted",
        )


def counted(message: bytes) -> bytes:
    """A message with its octet count."""
    return b"%d %b" % (len(message), message)


WAYS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "LF": ("tcp", lambda message: message + b"\n"),
    "NUL": ("tcp", lambda message: message + b"\0"),
    "octet-counted": ("tcp", counted),
    "octet-counted, forced": ("octet", counted),
    "RELP": ("relp", lambda message: message),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_frame_over_the_limit_is_cut_and_flagged_and_the_next_is_intact(
    watch: Watch, way: str
) -> None:
    """By a byte or by a megabyte; what is kept is its beginning, no half of a character."""
    listener, framed = WAYS[way]
    with watch.attacked(), connected(watch, listener) as client:
        for size in (FRAME_BYTES, FRAME_BYTES + 1, FRAME_BYTES + 2, MEGABYTE):
            mark = new_mark()
            begin = HEAD + mark + b"x" * ((size - len(HEAD) - len(mark)) % 3)
            message, after = begin + "€".encode() * ((size - len(begin)) // 3), HEAD + mark + b"z"
            if isinstance(client, RelpClient):
                client.deliver(message, after)
            else:
                assert client.send(framed(message) + framed(after))
            found = {len(each["message"]): each for each in arrived(watch, listener, mark, 2)}
            require_cut(found.pop(max(found)), message)
            (data,) = found.values()
            assert (data["message"], data["status"]) == (mark.decode() + "z", "ok")


def require_cut(data: dict[str, Any], message: bytes) -> None:
    """It is cut to the limit where it was longer, and says how long it was."""
    if len(message) == FRAME_BYTES:
        assert data["status"] == "ok"
        return
    assert (data["status"], data["reason"]) == ("partial", "truncated")
    assert data["original_bytes"] == len(message)
    assert data["raw"] == message[:FRAME_BYTES].decode(errors="ignore")
