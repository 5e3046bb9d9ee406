"""Runs an rsyslogd of our own as a client: its configuration, its input and its end.

No system service: each has a folder of its own, reads from a unix socket in it, and forwards what
it reads by the actions that the test gives.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Self

import trustme

from loadtest.gateway import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable

PROGRAM = "/usr/sbin/rsyslogd"
MODULES = ("imptcp.so", "omrelp.so", "lmnsd_gtls.so")
PACKAGES = "rsyslog rsyslog-relp rsyslog-gnutls"
START_SECONDS = 10.0
STOP_SECONDS = 5.0
FEED_SECONDS = 0.02
"""How often messages are fed while they are paced."""
GATEWAY_NAME = "gateway.test"
"""The name in the gateway's certificate."""
RESEND_FOR_EVER = (
    'action.resumeRetryCount="-1" action.resumeInterval="1" '
    'queue.type="LinkedList" queue.size="500000" queue.timeoutEnqueue="600000"'
)
"""Settings of an action that keeps what it could not send, with room for all that a test sends."""

_CONFIGURATION = """\
global(workDirectory="{folder}" maxMessageSize="64k")
module(load="imptcp")
module(load="omrelp")
input(type="imptcp" path="{folder}/in.sock" ruleset="forward")
ruleset(name="forward") {{
{actions}
}}
action(type="omfile" file="{folder}/own.log")
"""


def missing() -> str | None:
    """What must be installed before an rsyslogd can run; None when all is there."""
    libraries = [path for path in Path("/usr/lib").glob("*/rsyslog") if path.is_dir()]
    found = {path.name for folder in libraries for path in folder.glob("*.so")}
    if Path(PROGRAM).exists() and found.issuperset(MODULES):
        return None
    return f"needs a real rsyslogd: apt-get install {PACKAGES}"


class Rsyslogd:
    """An rsyslogd; a context manager that starts and ends it.

    Args:
        actions: what it does with each message it reads, in RainerScript.

    Attributes:
        process: the running program.
    """

    def __init__(self, *actions: str) -> None:
        self.process: subprocess.Popen[bytes]
        self._actions = actions
        self._folder: Path

    def __enter__(self) -> Self:
        """Start it."""
        self._folder = Path(tempfile.mkdtemp(prefix="rsyslog-"))
        try:
            self._start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End it, also with messages that it could not send."""
        self._end()

    def own_log(self) -> str:
        """What it logged about itself."""
        texts = [self._folder / "own.log", self._folder / "stderr"]
        return "".join(path.read_text(errors="replace") for path in texts if path.exists())

    def feed(self, messages: Iterable[bytes]) -> int:
        """Hand messages without an LF in them over; blocks while it does not read.

        Returns:
            How many there were.
        """
        frames = [message + b"\n" for message in messages]
        with self._connected() as feeder:
            feeder.sendall(b"".join(frames))
        return len(frames)

    def feed_paced(self, messages: Iterable[bytes], per_second: float) -> Feed:
        """Begin to hand messages over in a thread of its own, so many per second."""
        return Feed(self._connected(), messages, per_second)

    def _connected(self) -> socket.socket:
        feeder = socket.socket(socket.AF_UNIX)
        feeder.settimeout(60)
        try:
            feeder.connect(str(self._folder / "in.sock"))
        except OSError:
            feeder.close()
            raise
        return feeder

    def _start(self) -> None:
        config = self._folder / "rsyslog.conf"
        actions = "\n".join(self._actions)
        config.write_text(_CONFIGURATION.format(folder=self._folder, actions=actions))
        pidfile = self._folder / "pid"
        with (self._folder / "stderr").open("wb") as stderr:
            self.process = subprocess.Popen(
                (PROGRAM, "-n", "-f", str(config), "-i", str(pidfile)), stderr=stderr
            )
        try:
            wait_until(self._reads_or_ended, START_SECONDS, "")
        except TimeoutError:
            raise TimeoutError(f"rsyslogd does not read: {self.own_log()}") from None
        if self.process.poll() is not None:
            raise RuntimeError(f"rsyslogd ended: {self.own_log()}")

    def _reads_or_ended(self) -> bool:
        if self.process.poll() is not None:
            return True
        with suppress(OSError), self._connected():
            return True
        return False

    def _end(self) -> None:
        if hasattr(self, "process") and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:  # it waits for answers that will not come
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


class Feed:
    """Messages that are handed over at a steady pace until it is told to finish.

    Args:
        feeder: where they are written to, each with an LF behind it.
        messages: what to write, in this order; it may be endless.
        per_second: how many.

    Attributes:
        count: how many have been handed over.
    """

    def __init__(self, feeder: socket.socket, messages: Iterable[bytes], per_second: float) -> None:
        self.count = 0
        self._feeder = feeder
        self._messages = iter(messages)
        self._per_second = per_second
        self._finishing = threading.Event()
        self._failure: OSError | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def finish(self) -> int:
        """Hand over nothing more; how many there were in all.

        Raises:
            OSError: rsyslogd did not take them.
        """
        self._finishing.set()
        return self.wait()

    def wait(self, seconds: float = 60.0) -> int:
        """Wait for the end of the messages; how many there were in all.

        Raises:
            OSError: rsyslogd did not take them.
            TimeoutError: the end does not come in time.
        """
        self._thread.join(seconds)
        if self._thread.is_alive():
            raise TimeoutError("rsyslogd does not read its input")
        if self._failure is not None:
            raise self._failure
        return self.count

    def _run(self) -> None:
        begun = time.monotonic()
        with self._feeder:
            try:
                while not self._finishing.wait(FEED_SECONDS):
                    due = int((time.monotonic() - begun) * self._per_second) - self.count
                    frames = [each + b"\n" for each in islice(self._messages, due)]
                    self._feeder.sendall(b"".join(frames))
                    self.count += len(frames)
                    if len(frames) < due:
                        return
            except OSError as failure:
                self._failure = failure


class Certificates:
    """Signs the certificates of the gateway and of its clients, by two authorities.

    Args:
        folder: where the files are put.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._clients, self._server = trustme.CA(), trustme.CA()
        self.client_ca = self._write("client-ca.pem", self._clients.cert_pem)
        self.server_ca = self._write("server-ca.pem", self._server.cert_pem)

    def gateway(self, *allowed_names: str) -> dict[str, str | list[str]]:
        """``tls`` of a listener that wants a certificate with one of these names."""
        cert, key = self._issue(self._server, GATEWAY_NAME)
        allowed = list(allowed_names)
        return {"cert": cert, "key": key, "client_ca": self.client_ca, "allowed_names": allowed}

    def client(self, name: str) -> tuple[str, str]:
        """Certificate and key of a client with this name, as files."""
        return self._issue(self._clients, name)

    def stranger(self, name: str) -> tuple[str, str]:
        """The same, signed by an authority that the gateway does not know."""
        return self._issue(trustme.CA(), name)

    def _issue(self, authority: trustme.CA, name: str) -> tuple[str, str]:
        leaf = authority.issue_cert(name)
        stem = f"{leaf.cert_chain_pems[0].bytes().__hash__() & 0xFFFFFFFF:x}"
        return (
            self._write(f"{stem}-cert.pem", *leaf.cert_chain_pems),
            self._write(f"{stem}-key.pem", leaf.private_key_pem),
        )

    def _write(self, name: str, *blobs: trustme.Blob) -> str:
        path = self._folder / name
        path.write_bytes(b"".join(blob.bytes() for blob in blobs))
        return str(path)


# Actions.


def omfwd(port: str, protocol: str, *settings: str, template: str = "") -> str:
    """Forward to 127.0.0.1: ``udp`` or ``tcp``."""
    usual = f'type="omfwd" target="127.0.0.1" port="{port}" protocol="{protocol}"'
    return _action(usual, *settings, template=template)


def omrelp(port: str, *settings: str, template: str = "") -> str:
    """Forward to 127.0.0.1 by RELP."""
    return _action(f'type="omrelp" target="127.0.0.1" port="{port}"', *settings, template=template)


def _action(*settings: str, template: str) -> str:
    chosen = (f'template="{template}"',) if template else ()
    return f"action({' '.join([*settings, *chosen])})"


def over_tls(ca: str, identity: tuple[str, str]) -> str:
    """Settings of omfwd: TLS, with both ends known by their names."""
    cert, key = identity
    return (
        'StreamDriver="gtls" StreamDriverMode="1" StreamDriverAuthMode="x509/name" '
        f'StreamDriverPermittedPeers="{GATEWAY_NAME}" StreamDriver.CAFile="{ca}" '
        f'StreamDriver.CertFile="{cert}" StreamDriver.KeyFile="{key}"'
    )


def relp_over_tls(ca: str, identity: tuple[str, str]) -> str:
    """Settings of omrelp: TLS, with both ends known by their names."""
    cert, key = identity
    return (
        f'tls="on" tls.authMode="name" tls.permittedPeer=["{GATEWAY_NAME}"] '
        f'tls.caCert="{ca}" tls.myCert="{cert}" tls.myPrivKey="{key}"'
    )
