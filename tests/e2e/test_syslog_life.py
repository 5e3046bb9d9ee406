"""How the syslog service begins, changes and ends, and what senders and operators see of it."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections import Counter
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from deploy.local.ports import free_ports
from loadtest.gateway import ROOT, wait_until
from loadtest.syslog_gateway import SOURCE
from tests import rsyslog
from tests.syslog_abuse import HEAD, RelpClient, number_of
from tests.syslog_gateway import CheckedGateway

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Kafka

    Start = Callable[..., CheckedGateway]

SETTLE_SECONDS = 15.0
UDP = {"name": "udp", "protocol": "udp"}
TCP = {"name": "tcp", "protocol": "tcp"}
RELP = {"name": "relp", "protocol": "relp"}


def to_topic(kafka: Kafka) -> tuple[str, dict[str, dict[str, Any]]]:
    """A new topic, and the settings that write to it."""
    topic = kafka.new_name("syslog")
    return topic, {f"sources.{SOURCE}": {"topic": topic}}


def numbered(name: str, count: int, start: int = 0) -> list[bytes]:
    """Messages with numbers, by which they are found."""
    return [HEAD + b"n=%b-%d" % (name.encode(), n) for n in range(start, start + count)]


def names_of(messages: list[bytes]) -> Counter[str]:
    """What `number_of` says of their records."""
    return Counter(each.rpartition(b"n=")[2].decode() for each in messages)


def in_kafka(kafka: Kafka, topic: str) -> Counter[str]:
    """How often each message is in a topic."""
    return Counter(map(number_of, kafka.read(topic)))


def require_all(gateway: CheckedGateway, kafka: Kafka, topic: str, sent: list[bytes]) -> None:
    """Every message of these is in Kafka once, nothing else, and the books say so."""
    gateway.wait_until_received(SOURCE, len(sent))
    gateway.check_books()
    assert in_kafka(kafka, topic) == names_of(sent)
    assert gateway.account()["acked"] == len(sent)


def connect(gateway: CheckedGateway, listener: str = "tcp") -> socket.socket:
    """A connection to a listener."""
    return socket.create_connection(("127.0.0.1", int(gateway.port(listener))), SETTLE_SECONDS)


def send_datagrams(gateway: CheckedGateway, messages: list[bytes]) -> None:
    """Send messages by UDP, from one socket."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", int(gateway.port("udp"))))
        for message in messages:
            sock.send(message)


def send_lines(gateway: CheckedGateway, messages: list[bytes]) -> None:
    """Send messages by TCP, over one connection."""
    with connect(gateway) as sock:
        sock.sendall(b"".join(each + b"\n" for each in messages))


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process does nothing for a while."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


# The command line.

FULL = """
[service]
prestop_seconds = 1
drain_seconds = 20
log_level = "warning"
log_format = "json"
[kafka]
bootstrap_servers = "127.0.0.1:9"
security_protocol = "SASL_SSL"
sasl_mechanism = "SCRAM-SHA-512"
sasl_username = "gateway"
sasl_password = "the secret of the gateway"
[topics]
partitions = 6
[management]
syslog = "127.0.0.1:9191"
[limits]
inflight_bytes = 100_000_000
[dead_letter]
topic = "letters"
[sources.devices]
topic = "network-devices"
[sources.auth-logs]
type = "auth.message"
[syslog]
workers = "auto"
[[syslog.listeners]]
name = "udp"
protocol = "udp"
listen = "[::]:5514"
source = "devices"
allow_from = ["10.0.0.0/8", "2001:db8::/32"]
timezone = "Europe/Berlin"
receive_buffer_bytes = 4_194_304
[[syslog.listeners]]
name = "tcp"
protocol = "tcp"
listen = "0.0.0.0:5514"
source = "devices"
framing = "octet"
proxy_from = ["192.0.2.1"]
frame_bytes = 8192
oversize = "close"
idle_seconds = 60
partial_seconds = 5
connections = 500
connections_per_address = 50
[[syslog.listeners]]
name = "tls"
protocol = "tcp"
listen = ":6514"
source = "devices"
tls = {tls}
handshake_seconds = 3
oversize = "dead_letter"
[[syslog.listeners]]
name = "relp"
protocol = "relp"
listen = "127.0.0.1:2514"
source = "devices"
tls = {tls}
unread_ack_bytes = 65_536
[[syslog.listeners]]
name = "socket"
protocol = "udp"
listen = "unix:/run/ingest/log.sock"
source = "devices"
[[syslog.rules]]
when = {{ facility = ["auth", "authpriv"], severity_at_least = "warning", app_name = "sshd", \
host = "db-*", peer = "10.0.0.0/8", listener = ["udp", "tcp"] }}
source = "auth-logs"
[[syslog.rules]]
when = {{ listener = "socket" }}
source = "auth-logs"
"""


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A configuration with every setting that there is."""
    tls = rsyslog.Certificates(tmp_path_factory.mktemp("certificates")).gateway("*.example.com")
    tls["allowed_fingerprints"] = [f"sha256:{'0a' * 32}"]
    table = ", ".join(f"{name} = {json.dumps(value)}" for name, value in tls.items())
    return FULL.format(tls=f"{{ {table} }}")


def run(text: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the command with a configuration to its end."""
    file = folder / "ingest.toml"
    file.write_text(text)
    return subprocess.run(
        [sys.executable, "-m", "ingest_syslog", "--config", str(file), *options],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("INGEST_")},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_full_configuration_is_checked(full: str, tmp_path: Path) -> None:
    """Nothing is bound, and nobody is connected to."""
    done = run(full, tmp_path, "--check")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "configuration is fine, sources: devices, auth-logs\n"


def test_the_effective_configuration_is_printed_without_secrets(full: str, tmp_path: Path) -> None:
    """As TOML: what was given, and the defaults of what was not."""
    done = run(full, tmp_path, "--print-config")
    assert (done.returncode, done.stderr) == (0, "")
    assert "the secret" not in done.stdout
    assert "PRIVATE KEY" not in done.stdout
    given, printed = tomllib.loads(full), tomllib.loads(done.stdout)
    listeners = zip(given["syslog"]["listeners"], printed["syslog"]["listeners"], strict=True)
    for mine, its in listeners:
        wanted = {name: value for name, value in mine.items() if name != "tls"}
        assert {name: its[name] for name in wanted} == wanted
    udp, _, tls, *_ = printed["syslog"]["listeners"]
    assert (udp["frame_bytes"], udp["oversize"]) == (65_536, "truncate")
    assert tls["tls"]["allowed_names"] == ["*.example.com"]
    assert [rule["source"] for rule in printed["syslog"]["rules"]] == ["auth-logs"] * 2


MISTAKES = {
    "syslog.listeners[0].protocol": ('protocol = "udp"', 'protocol = "sctp"'),
    "syslog.listeners[1].oversize": ('oversize = "close"', 'oversize = "shorten"'),
    "syslog.listeners[1].listen": ('listen = "0.0.0.0:5514"', 'listen = "0.0.0.0:99999"'),
    "syslog.listeners[0].timezone": ('"Europe/Berlin"', '"Europe/Bärlin"'),
    "syslog.listeners[0].allow_from[1]": ('"2001:db8::/32"', '"2001:db8::/320"'),
    "syslog.listeners[3].unread_ack_byte": ("unread_ack_bytes", "unread_ack_byte"),
    "syslog.rules[0].when.severity_at_least": ('"warning", app', '"dangerous", app'),
    "syslog.rules[0].when.facility[1]": ('"authpriv"', '"nobody"'),
    "syslog.worker": ('workers = "auto"', 'worker = "auto"'),
    "limits.inflight_bytes": ("100_000_000", "-1"),
}
"""The key that is told of -> what is written instead of what."""
CONFLICTS = {
    "syslog.listeners[0].framing": ('timezone = "Eur', 'framing = "lf"\ntimezone = "Eur'),
    "syslog.listeners[3].oversize": ("unread_ack", 'oversize = "close"\nunread_ack'),
    "syslog.listeners[2].listen": ('listen = ":6514"', 'listen = "127.0.0.1:5514"'),
    "syslog.listeners[4].name": ('name = "socket"', 'name = "relp"'),
    "syslog.listeners[1].frame_bytes": ("frame_bytes = 8192", "frame_bytes = 1_000_000"),
    "syslog.listeners[2].source": ('"devices"\ntls', '"deviced"\ntls'),
    "syslog.rules[1].when.listener": ('listener = "socket"', 'listener = "sockets"'),
    "management.syslog": ("127.0.0.1:9191", "127.0.0.1:2514"),
}


@pytest.mark.parametrize("mistakes", [MISTAKES, CONFLICTS], ids=["mistakes", "conflicts"])
def test_every_error_is_told_with_file_and_key(
    full: str, tmp_path: Path, mistakes: dict[str, tuple[str, str]]
) -> None:
    """All at once, a line for each, and exit status 2, whether it is checked or started."""
    for right, wrong in mistakes.values():
        assert right in full
        full = full.replace(right, wrong, 1)
    for options in ([], ["--check"]):
        done = run(full, tmp_path, *options)
        assert (done.returncode, done.stdout) == (2, "")
        lines = done.stderr.splitlines()
        for key in mistakes:
            assert any(line.startswith(f"{tmp_path}/ingest.toml: {key}: ") for line in lines), key
        assert len(lines) == len(mistakes)


def test_without_a_listener_there_is_nothing_to_start(tmp_path: Path) -> None:
    """It says what to add."""
    done = run("[sources.syslog]\n", tmp_path)
    assert done.returncode == 2
    assert "[[syslog.listeners]]" in done.stderr


# The beginning.


def test_started_before_kafka_it_takes_messages_and_delivers_them_once_kafka_is_there(
    own_kafka: Kafka, start_syslog_gateway: Start
) -> None:
    """Until then it says that it is not ready, and why, and no RELP message is acknowledged."""
    own_kafka.node.kill()
    topic, settings = to_topic(own_kafka)
    gateway = start_syslog_gateway(own_kafka.servers, [UDP, TCP, RELP], settings, wait=False)
    unreachable = (503, ["kafka_unreachable"])
    wait_until(lambda: readiness(gateway) == unreachable, SETTLE_SECONDS, "it says nothing of it")
    assert gateway.manage("/livez")[0] == 200
    udp, tcp, relp = (numbered(name, 10) for name in ("udp", "tcp", "relp"))
    with RelpClient(int(gateway.port("relp"))) as client:
        client.send(client.frames(relp))
        send_datagrams(gateway, udp)
        send_lines(gateway, tcp)
        wait_until(lambda: gateway.account()["received"] == 30, SETTLE_SECONDS, "it takes nothing")
        wait_until(lambda: gateway.status()["inflight_bytes"] > 0, SETTLE_SECONDS, "none in flight")
        time.sleep(1)  # nothing must come
        assert client.is_open()
        assert not client._came, "it was acknowledged"
        own_kafka.node.start()
        client.require_acknowledged(len(relp))
    gateway.wait_until_ready(SETTLE_SECONDS)
    require_all(gateway, own_kafka, topic, udp + tcp + relp)


def readiness(gateway: CheckedGateway) -> tuple[int, list[str]]:
    """Whether it is ready, and why not."""
    status, body = gateway.manage("/readyz")
    return status, json.loads(body)["reasons"]


def test_an_end_while_kafka_is_away_says_what_is_lost(start_syslog_gateway: Start) -> None:
    """What nobody has any more is counted and makes exit status 1; RELP clients keep theirs."""
    (port,) = free_ports(1)
    settings = {"service": {"drain_seconds": 2}}
    gateway = start_syslog_gateway(f"127.0.0.1:{port}", [TCP, RELP], settings, wait=False)
    with RelpClient(int(gateway.port("relp"))) as client:
        client.send(client.frames(numbered("relp", 5)))
        send_lines(gateway, numbered("tcp", 7))
        wait_until(lambda: gateway.account()["received"] == 12, SETTLE_SECONDS, "nothing is taken")
        gateway.good_end = 1
        begun = time.monotonic()
        assert gateway.process.stop() == 1
        assert time.monotonic() - begun < 5
        while client._receive():
            pass
        assert client._came == b"0 serverclose 0\n", "and no acknowledgement"
    (end,) = gateway.process.logged("stopped")
    assert end["nothing_dropped"] is False


@pytest.mark.parametrize("listener", ["udp", "tcp", "relp", "unix-datagram", "unix-stream"])
def test_a_second_service_cannot_have_the_same_address(
    taken: CheckedGateway, tmp_path: Path, listener: str
) -> None:
    """It ends with status 1 and says which; the first one has all that is sent there."""
    address, protocol = taken.address(listener), BOUND[listener]["protocol"]
    text = f"""
[sources.syslog]
[service]
log_format = "json"
[management]
syslog = "127.0.0.1:0"
[[syslog.listeners]]
name = "second"
protocol = "{protocol}"
listen = "{address}"
source = "syslog"
"""
    done = run(text, tmp_path)
    assert done.returncode == 1
    logged = [json.loads(line) for line in done.stderr.splitlines()]
    (line,) = [each for each in logged if each["event"] == "cannot_bind"]
    assert (line["listener"], line["address"]) == ("second", address)
    if listener.startswith("unix"):
        assert Path(address.removeprefix("unix:")).is_socket(), "the file is not taken away"


BOUND = {
    "udp": UDP,
    "tcp": TCP,
    "relp": RELP,
    "unix-datagram": {"name": "unix-datagram", "protocol": "udp"},
    "unix-stream": {"name": "unix-stream", "protocol": "tcp"},
}


def bound_in(folder: str) -> list[dict[str, str]]:
    """Listeners of each kind, with the unix sockets in a folder."""
    return [
        {**each, "listen": f"unix:{folder}/{name}"} if name.startswith("unix") else each
        for name, each in BOUND.items()
    ]


@pytest.fixture
def folder() -> Iterator[str]:
    """For unix sockets, whose paths must be short."""
    with tempfile.TemporaryDirectory(prefix="life-") as folder:
        yield folder


@pytest.fixture(scope="module")
def taken(kafka: Kafka) -> Iterator[CheckedGateway]:
    """A gateway that has some addresses."""
    topic, settings = to_topic(kafka)
    with (
        tempfile.TemporaryDirectory(prefix="life-") as folder,
        CheckedGateway(kafka.servers, bound_in(folder), settings) as gateway,
    ):
        yield gateway
        sent = numbered("taken", 10)
        send_datagrams(gateway, sent[:5])
        send_lines(gateway, sent[5:])
        require_all(gateway, kafka, topic, sent)


def test_socket_files_are_removed_at_the_end_and_replaced_after_a_bad_one(
    kafka: Kafka, start_syslog_gateway: Start, folder: str
) -> None:
    """A service that was killed leaves them behind; the next one takes them over."""
    topic, settings = to_topic(kafka)
    listeners, files = bound_in(folder), ["unix-datagram", "unix-stream"]
    first = start_syslog_gateway(kafka.servers, listeners, settings)
    first.kill_all()
    assert sorted(each.name for each in Path(folder).iterdir()) == files
    second = start_syslog_gateway(kafka.servers, listeners, settings)
    messages = numbered("unix", 2)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(messages[0], f"{folder}/unix-datagram")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(f"{folder}/unix-stream")
        sock.sendall(messages[1] + b"\n")
    require_all(second, kafka, topic, messages)
    assert second.process.stop() == 0
    assert not list(Path(folder).iterdir())


# What it says of itself.


def test_status_and_metrics_name_listeners_and_what_they_do(
    kafka: Kafka, start_syslog_gateway: Start, folder: str
) -> None:
    """Addresses, effective buffers, connections, parse results, drops."""
    _, settings = to_topic(kafka)
    gateway = start_syslog_gateway(kafka.servers, bound_in(folder), settings)
    with connect(gateway) as tcp, RelpClient(int(gateway.port("relp"))):
        tcp.sendall(HEAD + b"x\n<13>Nov 23 12:00:00 host app: x\nodd\n\n")
        send_datagrams(gateway, [HEAD + b"x", b"", b"\n"])
        wait_until(lambda: connections(gateway) == {"tcp": 1, "relp": 1, "unix-stream": 0}, 5, "")
        gateway.wait_until_received(SOURCE, 7)
        status, samples = gateway.status(), gateway.samples()
    assert status["listeners"] == {name: gateway.address(name) for name in BOUND}
    assert status["receive_buffer_bytes"].keys() == {"udp", "unix-datagram"}
    assert status["receive_buffer_bytes"]["udp"] > 100_000
    found = {(each.name, *each.labels.values()): each.value for each in samples}
    assert found["ingest_connections", "tcp"] == found["ingest_connections", "relp"] == 1
    assert gateway.parsed("tcp") == {
        ("rfc5424", "ok"): 1,
        ("rfc3164", "ok"): 1,
        ("raw", "raw"): 1,
    }
    assert gateway.parsed("udp") == {("rfc5424", "ok"): 1}
    assert gateway.dropped("udp") == {"empty": 2}
    assert gateway.dropped("tcp") == {"empty": 1}
    assert +gateway.account() == {"received": 7, "acked": 4, "dropped": 3}


def connections(gateway: CheckedGateway) -> dict[str, int]:
    """By listener."""
    found: dict[str, int] = gateway.status()["connections"]
    return found


# SIGHUP.


def reload(gateway: CheckedGateway, text: str, event: str) -> dict[str, Any]:
    """Rewrite the configuration and send SIGHUP; what is logged of it, once it is in force."""
    known, version = len(gateway.process.logged(event)), gateway.status()["config"]["version"]
    (Path(gateway._directory.name) / "ingest.toml").write_text(text)
    os.kill(gateway.process.pid, signal.SIGHUP)
    wait_until(lambda: len(gateway.process.logged(event)) > known, SETTLE_SECONDS, "no reload")
    if event == "reloaded":
        wait_until(
            lambda: set(gateway.status()["config"]["workers"]) == {version + 1}, SETTLE_SECONDS, ""
        )
    return gateway.process.logged(event)[-1]


def test_sighup_takes_new_rules_or_keeps_the_ones_there_are(
    kafka: Kafka, start_syslog_gateway: Start
) -> None:
    """Connections stay; a broken file is told of by log, /status and /readyz until it is mended."""
    topic, settings = to_topic(kafka)
    auth, other = kafka.new_name("auth"), kafka.new_name("other")
    gateway = start_syslog_gateway(
        kafka.servers, [UDP, TCP], {**settings, "syslog": {"workers": 2}}
    )
    before = gateway.configuration()
    rule = f"""
[sources.auth]
topic = "{auth}"
[[syslog.rules]]
when = {{ app_name = "billing" }}
source = "auth"
"""
    sent = numbered("hup", 8)
    with connect(gateway) as sock:
        sock.sendall(sent[0] + b"\n")
        send_datagrams(gateway, sent[1:2])
        gateway.wait_until_received(SOURCE, 2)

        line = reload(gateway, before + rule, "reloaded")
        assert "sources.auth: added" in line["changed"]
        sock.sendall(sent[2] + b"\n")
        send_datagrams(gateway, sent[3:4])
        gateway.wait_until_received("auth", 2)

        broken = rule.replace(auth, other).replace("app_name", "app") + '[sources.x]\ntopic = ""\n'
        reload(gateway, before + broken, "reload_failed")
        errors = gateway.status()["config"]["last_error"]
        assert any("syslog.rules[0].when.app" in each for each in errors)
        assert any("sources.x.topic" in each for each in errors)
        degraded = json.loads(gateway.manage("/readyz")[1])["degraded"]
        assert "configuration" in degraded
        assert gateway.ready()
        sock.sendall(sent[4] + b"\n")
        send_datagrams(gateway, sent[5:6])
        gateway.wait_until_received("auth", 4)

        reload(gateway, before, "reloaded")
        assert gateway.status()["config"]["last_error"] is None
        sock.sendall(sent[6] + b"\n")
        send_datagrams(gateway, sent[7:8])
        gateway.wait_until_received(SOURCE, 4)
    assert in_kafka(kafka, auth) == names_of(sent[2:6])
    assert in_kafka(kafka, topic) == names_of(sent[:2] + sent[6:])


# UDP, whose senders are told nothing.


def test_datagrams_that_come_while_a_worker_is_dead_are_delivered_by_the_next(
    kafka: Kafka, start_syslog_gateway: Start
) -> None:
    """The socket outlives it; so do TCP connections that nobody had accepted."""
    topic, settings = to_topic(kafka)
    gateway = start_syslog_gateway(kafka.servers, [UDP, TCP], settings)
    sent = numbered("early", 50)
    send_datagrams(gateway, sent)
    gateway.wait_until_received(SOURCE, 50)
    (victim,) = gateway.worker_pids()
    waiting, later, lines = numbered("dead", 500), numbered("later", 200), numbered("line", 10)
    os.kill(victim, signal.SIGSTOP)  # so that it takes nothing with it
    send_datagrams(gateway, waiting)
    send_lines(gateway, lines)
    os.kill(victim, signal.SIGKILL)
    send_datagrams(gateway, later)
    wait_until(lambda: gateway.restarts() == 1, SETTLE_SECONDS, "no successor")
    require_all(gateway, kafka, topic, sent + waiting + later + lines)
    assert gateway.drops().total() == 0
    (death,) = gateway.process.logged("worker_died")
    assert (death["pid"], death["events_lost"]) == (victim, 0)


def test_two_workers_share_the_datagrams_of_one_sender(
    kafka: Kafka, start_syslog_gateway: Start
) -> None:
    """Half of them wait for the one that does nothing for a while, the other half does not."""
    topic, settings = to_topic(kafka)
    gateway = start_syslog_gateway(kafka.servers, [UDP], {**settings, "syslog": {"workers": 2}})
    sent = numbered("spread", 1000)
    with stopped(gateway.worker_pids()[0]):
        send_datagrams(gateway, sent)
        gateway.wait_until_received(SOURCE, 350)
        time.sleep(0.5)  # no more must come
        assert gateway.account()["received"] < 650
    require_all(gateway, kafka, topic, sent)


def test_what_a_small_buffer_cannot_take_is_counted_to_the_last(
    kafka: Kafka, start_syslog_gateway: Start
) -> None:
    """Sent = delivered + dropped by the kernel, which is told of at start and in the metrics."""
    topic, settings = to_topic(kafka)
    small = {**UDP, "receive_buffer_bytes": 65_536}
    gateway = start_syslog_gateway(kafka.servers, [small], settings)
    sent = numbered("burst", 2000)
    (worker,) = gateway.worker_pids()
    with stopped(worker):
        send_datagrams(gateway, sent)
    gateway.wait_until_received(SOURCE, len(sent))
    gateway.check_books()
    account, delivered = +gateway.account(), in_kafka(kafka, topic)
    assert account == {"received": 2000, "acked": len(delivered), "dropped": 2000 - len(delivered)}
    assert gateway.dropped("udp") == {"kernel": account["dropped"]}
    assert 10 < len(delivered) < 1000
    assert delivered <= names_of(sent)


# The end.


class Sender(threading.Thread):
    """Sends numbered lines over one connection, until the gateway ends it.

    Args:
        sock: the connection.
        name: of its messages.
        polite: whether it stops when the gateway says that it closes, or only when it cannot go on.

    Attributes:
        messages: what was sent.
    """

    def __init__(self, sock: socket.socket, name: str, *, polite: bool) -> None:
        super().__init__(name=name, daemon=True)
        self.messages: list[bytes] = []
        self._sock = sock
        self._polite = polite

    def run(self) -> None:
        """Send some at a time."""
        with self._sock:
            while not (self._polite and select.select([self._sock], [], [], 0.002)[0]):
                new = numbered(self.name, 20, len(self.messages))
                self.messages += new
                try:
                    self._sock.sendall(b"".join(each + b"\n" for each in new))
                except OSError:
                    return
                if not self._polite:
                    time.sleep(0.002)


def under_load(gateway: CheckedGateway, *, polite: bool) -> tuple[int, list[Sender]]:
    """Have four connections send, and end the gateway; its exit status, and who sent what."""
    with ExitStack() as stack:
        senders = [
            Sender(stack.enter_context(connect(gateway)), f"sender-{n}", polite=polite)
            for n in range(4)
        ]
        for sender in senders:
            sender.start()
        wait_until(lambda: gateway.account()["acked"] > 1000, SETTLE_SECONDS, "nothing flows")
        status = gateway.process.stop()
        for sender in senders:
            sender.join(SETTLE_SECONDS)
            assert not sender.is_alive()
    return status, senders


def test_an_end_under_load_loses_nothing_of_senders_who_heed_it(
    kafka: Kafka, start_syslog_gateway: Start
) -> None:
    """It says that it closes and reads on to their end: all is in Kafka, and it ends with 0."""
    topic, settings = to_topic(kafka)
    gateway = start_syslog_gateway(kafka.servers, [TCP], {**settings, "syslog": {"workers": 2}})
    status, senders = under_load(gateway, polite=True)
    assert status == 0
    sent = [message for sender in senders for message in sender.messages]
    assert in_kafka(kafka, topic) == names_of(sent)


def test_an_end_under_load_keeps_what_was_read_of_senders_who_do_not(
    kafka: Kafka, start_syslog_gateway: Start
) -> None:
    """They are cut off in time; of each, Kafka has all up to some point, once, and in order."""
    topic, settings = to_topic(kafka)
    settings["service"] = {"drain_seconds": 3}
    gateway = start_syslog_gateway(kafka.servers, [TCP], settings)
    begun = time.monotonic()
    status, senders = under_load(gateway, polite=False)
    assert time.monotonic() - begun < 15
    assert status == 0
    found = in_kafka(kafka, topic)
    for sender in senders:
        count = sum(name.startswith(sender.name) for name in found)
        assert 0 < count <= len(sender.messages)
        assert names_of(sender.messages[:count]) <= found
    assert set(found.values()) == {1}
