"""Real senders, rsyslogd and util-linux ``logger``: all they send is in Kafka, as they meant it."""

from __future__ import annotations

import subprocess
import tempfile
import time
import uuid
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from loadtest.gateway import wait_until
from tests import journald, rsyslog
from tests.syslog_gateway import CheckedGateway, check_envelope, without

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.conftest import Kafka
    from tests.memory_producer import Record
    from tests.rsyslog import Certificates, Rsyslogd

    StartRsyslogd = Callable[..., Rsyslogd]

COUNT = 500
PER_SECOND = 2000.0
"""UDP has room for so many where the kernel clamps its buffer."""
CLIENT_NAME, OTHER_NAME = "client.test", "other.test"
SENT_AT = "2026-11-23T12:00:00"


class Mark(NamedTuple):
    """How far a listener had come: messages received, and the places of its records."""

    received: int
    places: set[tuple[int, int]]


class Station:
    """A gateway with a listener of each kind, and what arrived in the topic of each.

    Args:
        kafka: where it writes to.
        folder: for its unix sockets.
        certificates: sign its own.

    Attributes:
        gateway: the gateway.
        certificates: see above.
    """

    def __init__(self, kafka: Kafka, folder: Path, certificates: Certificates) -> None:
        tls = certificates.gateway(CLIENT_NAME)
        listeners: dict[str, dict[str, Any]] = {
            "udp": {"protocol": "udp"},
            "tcp": {"protocol": "tcp"},
            "tls": {"protocol": "tcp", "tls": tls},
            "relp": {"protocol": "relp"},
            "relp-tls": {"protocol": "relp", "tls": tls},
            "unix-datagram": {"protocol": "udp", "listen": f"unix:{folder}/datagram"},
            "unix-stream": {"protocol": "tcp", "listen": f"unix:{folder}/stream"},
        }
        self.certificates = certificates
        self._kafka = kafka
        self._topics = {name: kafka.new_name(name) for name in listeners}
        settings: dict[str, dict[str, Any]] = {"syslog": {"workers": 2}}
        for name, topic in self._topics.items():
            settings[f"sources.{name}"] = {"topic": topic}
        named = [{"name": name, "source": name, **each} for name, each in listeners.items()]
        self.gateway = CheckedGateway(kafka.servers, named, settings)

    def path(self, listener: str) -> str:
        """Where a unix socket is."""
        return self.gateway.address(listener).removeprefix("unix:")

    def mark(self, listener: str) -> Mark:
        """How far it has come."""
        received = self.gateway.account(listener)["received"]
        records = self._kafka.read(self._topics[listener]) if received else []
        return Mark(received, {(record.partition, record.offset) for record in records})

    def records(self, listener: str, count: int, since: Mark) -> list[Record]:
        """The records of the ``count`` messages that have come, which must be no more.

        Args:
            listener: where they came.
            count: how many were sent.
            since: how far it was before.
        """
        self.gateway.wait_until_received(listener, since.received + count)
        account = self.gateway.account(listener)
        assert account["received"] - since.received == count, account
        records = self._kafka.read(self._topics[listener])
        assert len(records) == account["acked"], account
        return [each for each in records if (each.partition, each.offset) not in since.places]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """One authority for all tests: keys take their time."""
    return rsyslog.Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def station(kafka: Kafka, certificates: Certificates) -> Iterator[Station]:
    """A gateway of two workers that the module shares."""
    with tempfile.TemporaryDirectory(prefix="station-") as folder:
        station = Station(kafka, Path(folder), certificates)
        with station.gateway:
            yield station


@pytest.fixture(autouse=True)
def books(station: Station) -> Iterator[None]:
    """After every test the books add up."""
    yield
    station.gateway.check_books()


# rsyslogd.


def forwarded_by(way: str, station: Station, template: str, name: str = CLIENT_NAME) -> str:
    """The action of rsyslog for one way in."""
    gateway, certificates = station.gateway, station.certificates
    listener = LISTENERS[way]
    port, ca = gateway.port(listener), certificates.server_ca
    identity = certificates.client(name)
    if way in {"udp", "tcp"}:
        return rsyslog.omfwd(port, way, template=template)
    if way == "tcp, octet-counted":
        return rsyslog.omfwd(port, "tcp", 'TCP_Framing="octet-counted"', template=template)
    if way == "tcp, tls":
        return rsyslog.omfwd(port, "tcp", rsyslog.over_tls(ca, identity), template=template)
    if way == "tcp, tls, octet-counted":
        framing = 'TCP_Framing="octet-counted"'
        return rsyslog.omfwd(
            port, "tcp", framing, rsyslog.over_tls(ca, identity), template=template
        )
    settings = [rsyslog.RESEND_FOR_EVER]
    if way == "relp, tls":
        settings.append(rsyslog.relp_over_tls(ca, identity))
    return rsyslog.omrelp(port, *settings, template=template)


LISTENERS = {
    "udp": "udp",
    "tcp": "tcp",
    "tcp, octet-counted": "tcp",
    "tcp, tls": "tls",
    "tcp, tls, octet-counted": "tls",
    "relp": "relp",
    "relp, tls": "relp-tls",
}
"""Way in -> the listener of the gateway."""
TEXT = 'paid "in full" \\ für 3 € run={run} n={n}'


def forwarded(template: str, run: str, n: int) -> tuple[bytes, dict[str, Any]]:
    """A message as rsyslogd gets it, and ``data`` that must be in Kafka, but for peer and time."""
    pri, text = n % 192, TEXT.format(run=run, n=n)
    said = {
        "facility": pri // 8,
        "severity": pri % 8,
        "hostname": f"shop-{n % 3}.example.com",
        "app_name": "billing",
        "procid": str(1000 + n),
        "message": text,
        "status": "ok",
    }
    moment = f"{SENT_AT}.{n:06d}"
    if template == "RSYSLOG_ForwardFormat":
        head = f"<{pri}>{moment}+01:00 {said['hostname']} billing[{said['procid']}]: "
        return (head + text).encode(), {**said, "format": "rfc3164"}
    head = f"<{pri}>1 {moment}+01:00 {said['hostname']} billing {said['procid']} ID{n} "
    element = r'[meta@32473 quoted="C:\\ \"q\" \]" n="{}"][empty@32473] '.replace("{}", str(n))
    parameters = {"meta@32473": {"quoted": 'C:\\ "q" ]', "n": str(n)}, "empty@32473": {}}
    more = {"msgid": f"ID{n}", "structured_data": parameters, "format": "rfc5424"}
    return (head + element + text).encode(), {**said, **more}


@pytest.mark.parametrize("way", LISTENERS)
@pytest.mark.parametrize("template", ["RSYSLOG_ForwardFormat", "RSYSLOG_SyslogProtocol23Format"])
def test_all_that_rsyslog_forwards_is_in_kafka_once_and_parsed(
    station: Station, start_rsyslogd: StartRsyslogd, way: str, template: str
) -> None:
    """Every field is as it was sent, whichever way it came."""
    listener, run = LISTENERS[way], uuid.uuid4().hex
    since = station.mark(listener)
    pairs = [forwarded(template, run, n) for n in range(COUNT)]
    with start_rsyslogd(forwarded_by(way, station, template)) as client:
        client.feed_paced([sent for sent, _ in pairs], PER_SECOND).wait()
        records = station.records(listener, COUNT, since)
    arrived = {number(record): check_envelope(record, listener) for record in records}
    assert sorted(arrived) == list(range(COUNT))
    for n, (_, expected) in enumerate(pairs):
        data = arrived[n]
        assert moment(data) == datetime.fromisoformat(f"{SENT_AT}.{n:06d}+01:00")
        assert (data["peer"], data["listener"]) == ("127.0.0.1", listener)
        assert without(data, "timestamp", "peer", "listener") == expected


def number(record: Record) -> int:
    """Which message it is, by the end of it."""
    return int(record.value.rpartition(b"n=")[2].partition(b'"')[0])


def moment(data: dict[str, Any]) -> datetime:
    """The time that the message tells."""
    return datetime.fromisoformat(data["timestamp"])


@pytest.mark.parametrize("way", ["tcp, tls", "relp, tls"])
def test_a_certificate_of_another_name_gets_nothing_in(
    station: Station, start_rsyslogd: StartRsyslogd, way: str
) -> None:
    """The gateway says whom it refused; the same client is served once its name is right."""
    listener, template = LISTENERS[way], "RSYSLOG_ForwardFormat"
    since, refused = station.mark(listener), len(refusals(station, listener))
    messages = [forwarded(template, "refused", n)[0] for n in range(10)]
    with start_rsyslogd(forwarded_by(way, station, template, OTHER_NAME)) as client:
        client.feed(messages)
        wait_until(lambda: len(refusals(station, listener)) > refused, 10, "nobody was refused")
    assert station.mark(listener) == since
    with start_rsyslogd(forwarded_by(way, station, template)) as client:
        client.feed(messages)
        station.records(listener, len(messages), since)


def refusals(station: Station, listener: str) -> list[dict[str, Any]]:
    """What the gateway logged of clients whose certificates are not allowed."""
    logged = station.gateway.process.logged("client_not_allowed")
    return [line for line in logged if line["listener"] == listener]


# logger.


def logger(*options: str, text: str | None = None, lines: str | None = None) -> None:
    """Run util-linux ``logger``, as somebody at a terminal would; it must not complain."""
    usual = ("-t", "shop", "--id=77", "-p", "auth.warning")
    words = () if text is None else (text,)
    command = ("logger", *usual, *options, *words)
    done = subprocess.run(command, input=lines, check=True, capture_output=True, text=True)
    assert not done.stderr


WARNING = {"facility": 4, "severity": 4, "app_name": "shop", "procid": "77", "status": "ok"}
"""What all messages of `logger` here have."""
TIME_QUALITY = {"timeQuality": {"tzKnown": "1", "isSynced": "0"}}


def network(station: Station, listener: str, *options: str) -> tuple[str, ...]:
    """Options of ``logger`` for a listener on a port."""
    return ("-n", "127.0.0.1", "-P", station.gateway.port(listener), *options)


def sent_by_logger(
    station: Station, listener: str, *options: str, text: str = "text", lines: str | None = None
) -> dict[str, Any]:
    """``data`` of one message of ``logger``; what is the same in all is checked and left out."""
    since = station.mark(listener)
    logger(*options, text=None if lines else text, lines=lines)
    (record,) = station.records(listener, 1, since)
    data = check_envelope(record, listener)
    told = moment(data) if "timestamp" in data else datetime.now(UTC)
    assert abs(told.timestamp() - time.time()) < 60
    assert data["listener"] == listener
    assert data["peer"] == ("unix" if listener.startswith("unix") else "127.0.0.1")
    return without(data, "timestamp", "listener", "peer")


@pytest.fixture(scope="module")
def host() -> str:
    """What ``logger`` says of itself."""
    done = subprocess.run(["uname", "-n"], check=True, capture_output=True, text=True)
    return done.stdout.strip()


RFC5424 = {**WARNING, "format": "rfc5424", "message": "text"}
RFC3164 = {**WARNING, "format": "rfc3164", "message": "text"}


@pytest.mark.usefixtures("logger_program")
@pytest.mark.parametrize(
    ("listener", "options"),
    [("udp", ("--udp",)), ("tcp", ("--tcp",)), ("tcp", ("--tcp", "--octet-count"))],
    ids=["udp", "tcp", "tcp octet-counted"],
)
def test_logger_in_both_formats(
    station: Station, host: str, listener: str, options: Sequence[str]
) -> None:
    """The newer one with an id of the message and structured data of the user's."""
    way = network(station, listener, *options)
    found = sent_by_logger(station, listener, *way, "--rfc3164")
    assert found == {**RFC3164, "hostname": host}
    found = sent_by_logger(station, listener, *way, "--rfc5424", "--msgid", "ID47")
    assert set(found.pop("structured_data")) == {"timeQuality"}
    assert found == {**RFC5424, "hostname": host, "msgid": "ID47"}
    elements = ("--sd-id", "meta@32473", "--sd-param", 'a="1"', "--sd-param", 'b="2 3"')
    found = sent_by_logger(station, listener, *way, "--rfc5424=notq", *elements)
    parameters = {"meta@32473": {"a": "1", "b": "2 3"}}
    assert found == {**RFC5424, "hostname": host, "structured_data": parameters}


@pytest.mark.usefixtures("logger_program")
def test_logger_without_time_and_host(station: Station) -> None:
    """What the sender leaves out is left out; the sender's address is the record's key."""
    way = network(station, "udp", "--udp", "--rfc5424=notime,notq,nohost")
    assert sent_by_logger(station, "udp", *way) == RFC5424


@pytest.mark.usefixtures("logger_program")
@pytest.mark.parametrize(
    ("listener", "options"),
    [("unix-datagram", ()), ("unix-stream", ("--tcp",)), ("unix-stream", ())],
    ids=["datagram", "stream", "stream found out"],
)
def test_logger_on_a_unix_socket(
    station: Station, host: str, listener: str, options: Sequence[str]
) -> None:
    """As it writes to /dev/log: without a host name; or in the formats that it is told."""
    way = ("-u", station.path(listener), "--socket-errors=on", *options)
    assert sent_by_logger(station, listener, *way) == RFC3164
    found = sent_by_logger(station, listener, *way, "--rfc3164")
    assert found == {**RFC3164, "hostname": host}
    found = sent_by_logger(station, listener, *way, "--rfc5424=notq")
    assert found == {**RFC5424, "hostname": host}


@pytest.mark.usefixtures("logger_program")
@pytest.mark.parametrize(
    ("listener", "options"),
    [("udp", ("--udp",)), ("tcp", ("--tcp", "--octet-count"))],
    ids=["udp", "tcp octet-counted"],
)
def test_logger_with_a_text_of_two_lines(
    station: Station, listener: str, options: Sequence[str]
) -> None:
    """Where the frame has a length, it is one message, and the LF in it is kept."""
    way = network(station, listener, *options)
    assert sent_by_logger(station, listener, *way, text="two\nlines")["message"] == "two\nlines"


@pytest.mark.usefixtures("logger_program")
def test_the_second_line_of_a_text_is_a_message_where_an_lf_ends_the_frame(
    station: Station, host: str
) -> None:
    """It is no syslog message, so it is kept as it came, and says so."""
    since = station.mark("tcp")
    logger(*network(station, "tcp", "--tcp", "--rfc5424=notq"), text="two\nlines")
    found = [check_envelope(record, "tcp") for record in station.records("tcp", 2, since)]
    by_status = {data["status"]: data for data in found}
    assert by_status["ok"]["message"] == "two"
    rest = without(by_status["raw"], "listener", "peer")
    assert (rest["format"], rest["reason"], rest["raw"]) == ("raw", "no_pri", "lines")


@pytest.mark.usefixtures("logger_program")
def test_lines_on_standard_input_are_messages(station: Station) -> None:
    """One for each, over one connection."""
    since = station.mark("tcp")
    lines = [f"line {number}" for number in range(100)]
    logger(*network(station, "tcp", "--tcp"), lines="\n".join(lines))
    found = [check_envelope(record, "tcp") for record in station.records("tcp", 100, since)]
    assert Counter(data["message"] for data in found) == Counter(lines)
    assert {data["status"] for data in found} == {"ok"}


# journald.


@pytest.mark.usefixtures("journald_program", "logger_program")
def test_journald_forwards_to_a_unix_socket(station: Station) -> None:
    """What its programs log, by their standard output or as ever: the gateway is its syslog."""
    since = station.mark("unix-datagram")
    with journald.Journald(station.path("unix-datagram")) as system:
        system.run("systemd-cat", "-t", "shop", "-p", "warning", text="by standard output")
        logger = ("logger", "-u", "/run/systemd/journal/dev-log", "-t", "shop", "-p", "auth.err")
        system.run(*logger, "--id=77", "as ever")
        records = station.records("unix-datagram", 2, since)
    found = {
        data["message"]: data for data in (check_envelope(r, "unix-datagram") for r in records)
    }
    usual = {"app_name": "shop", "format": "rfc3164", "status": "ok"}
    printed, logged = found["by standard output"], found["as ever"]
    assert printed.pop("procid").isdigit()
    assert abs(moment(printed).timestamp() - time.time()) < 60
    own = ("message", "timestamp", "listener", "peer")
    assert without(printed, *own) == {**usual, "facility": 1, "severity": 4}
    assert without(logged, *own) == {**usual, "facility": 4, "severity": 3, "procid": "77"}
