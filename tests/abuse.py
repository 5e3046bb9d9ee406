"""Who abuses the HTTP door, on raw sockets, and who looks on: the witness, and the memory.

Abusers and the witness come from different addresses of 127.0.0.0/8: a limit for one address must
hit only those whom it is meant for.
"""

from __future__ import annotations

import json
import re
import resource
import socket
import statistics
import struct
import threading
import time
import unicodedata
import uuid
from collections import Counter
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Self

import psutil
import pytest

from loadtest.gateway import Gateway, Process, wait_until
from tests.http_door import Answer, array, request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Settings = Mapping[str, Mapping[str, Any]]

ABUSER, WITNESS = "127.0.0.2", "127.0.0.9"
WITNESS_KEY = "key of the witness"
WITNESS_SOURCE = "witness"
PATIENCE = 20.0
"""Seconds after which a test gives up; nothing in here is meant to take so long."""
GROW_BYTES = 60 << 20
"""What an attack may cost in memory: four times a body of the largest size, which is what is booked
for it (its pieces, the body, what it decodes to, and its events), and half as much for what the C
library keeps of it."""
MEDIAN_SECONDS, MAX_SECONDS = 0.25, 2.0
"""How long the witness may wait for an answer. Alone it takes 5 ms; the machine is shared with the
abusers, Kafka and other tests, so the median has room for that, and the longest for a long pause of
the machine, but neither for a gateway that serves one client after the other."""
REST_SECONDS = 20.0
"""How long all connections may take to be gone: more than the 5 s that the rest of a body has."""

TCP_REPAIR = 19  # of Linux; not in the module socket
EVENTS = {
    "request",
    "kafka_connected",
    "using_brokers_default",
    "topic_created",
    "topic_not_replicated",
}
"""What a gateway logs that has no other trouble than abuse; topics are looked after at any time."""
UNPRINTABLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Unicode's categories of what drives terminals, ends lines, or hides."""

_TEXT_LINE = re.compile(r"timestamp='[^']+' level='(\w+)' event='(\w+)'( \w+=.+)*")
_FIELD = re.compile(r"[A-Za-z-]+: [\x20-\x7e]*")


class RawClient:
    """One connection on a blocking socket; sends what it is told to.

    Args:
        port: of the gateway.
        source: the address that it comes from.
        receive_buffer: bytes that the kernel keeps of answers; default: the system's.

    Attributes:
        sent_bytes: what the system has taken.
    """

    def __init__(self, port: int, source: str = ABUSER, receive_buffer: int | None = None) -> None:
        self.sent_bytes = 0
        self._came = b""
        self._socket = socket.socket()
        try:
            if receive_buffer is not None:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.settimeout(PATIENCE)
            self._socket.bind((source, 0))
            self._socket.connect(("127.0.0.1", port))
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, data: bytes, stuck_seconds: float = PATIENCE) -> bool:
        """Send; whether the server took it all, and neither hung up nor stopped to read."""
        left = memoryview(data)
        self._socket.settimeout(stuck_seconds)
        try:
            while left:
                taken = self._socket.send(left)
                self.sent_bytes += taken
                left = left[taken:]
        except (ConnectionError, TimeoutError):
            return False
        finally:
            self._socket.settimeout(PATIENCE)
        return True

    def answer(self) -> Answer | None:
        """The next answer, held against the contract; None once the server has hung up."""
        head = self._read_until(b"\r\n\r\n")
        if head is None:
            return None
        first, *lines = head.decode("latin-1").split("\r\n")
        assert re.fullmatch(r"HTTP/1\.1 \d{3} [A-Za-z ]+", first), first
        assert all(map(_FIELD.fullmatch, lines)), lines
        fields = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = self._read(int(fields.get("content-length", "0")))
        answer = Answer(int(first.split(" ", 2)[1]), fields, body)
        if not (answer.bare or answer.status == 100):
            answer.require_contract()
        return answer

    def ask(self, data: bytes) -> Answer | None:
        """Send a request and read its answer."""
        self.send(data)
        return self.answer()

    def hangs_up(self) -> bool:
        """Wait until the server hangs up; False where more comes instead.

        Raises:
            TimeoutError: neither happens.
        """
        return not self._came and not self._receive()

    def finish(self) -> None:
        """Send no more (FIN), but read on."""
        self._socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Hang up by RST: what is on the way is lost."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def _read_until(self, end: bytes) -> bytes | None:
        while end not in self._came:
            if not self._receive():
                assert not self._came, f"hung up in the middle of an answer: {self._came!r}"
                return None
        found, _, self._came = self._came.partition(end)
        return found

    def _read(self, size: int) -> bytes:
        while len(self._came) < size:
            assert self._receive(), "hung up in the middle of an answer"
        found, self._came = self._came[:size], self._came[size:]
        return found

    def _receive(self) -> bool:
        try:
            piece = self._socket.recv(1 << 16)
        except ConnectionError:
            return False
        self._came += piece
        return bool(piece)

    def is_open(self) -> bool:
        """Whether the server has not hung up, as far as is known here; does not wait."""
        self._socket.setblocking(False)
        try:
            return self._receive()
        except BlockingIOError:
            return True
        finally:
            self._socket.settimeout(PATIENCE)

    def vanish(self) -> None:
        """Be gone without FIN or RST; where the system does not let us, stay and say nothing."""
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
        except OSError:  # needs CAP_NET_ADMIN
            return
        self._socket.close()


def outcome(client: RawClient, answers: int) -> list[str]:
    """The next answers in short: status and code, and ``closed`` where the server hung up."""
    heard: list[str] = []
    while len(heard) < answers and heard[-1:] != ["closed"]:
        answer = client.answer()
        if answer is None:
            heard.append("closed")
        elif answer.status < 400 or answer.bare:
            heard.append(str(answer.status))
        else:
            heard.append(f"{answer.status} {answer.code}")
    return heard


class Beside(threading.Thread):
    """Runs beside a test, from the beginning of a ``with`` to its end."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._end = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Begin nothing new, and wait for what is under way."""
        self._end.set()
        self.join()


class Witness(Beside):
    """A steady client: a small batch every `PAUSE_SECONDS`, each tenth on a connection of its own.

    Attributes:
        waits: the seconds that each answer took.
        outcomes: how often each status came back; ``closed`` and errors included.
        ids: of the events that were sent.
    """

    PAUSE_SECONDS = 0.02
    EVENTS = 3

    def __init__(self, port: int) -> None:
        super().__init__()
        self.waits: list[float] = []
        self.outcomes: Counter[str] = Counter()
        self.ids: list[str] = []
        self._port = port

    def run(self) -> None:
        """Post until told to end."""
        with RawClient(self._port, WITNESS) as steady:
            while not self._end.wait(self.PAUSE_SECONDS):
                begun = time.perf_counter()
                self.outcomes[self._post(steady)] += 1
                self.waits.append(time.perf_counter() - begun)

    def _post(self, steady: RawClient) -> str:
        with ExitStack() as stack:
            try:
                client = steady
                if len(self.waits) % 10 == 9:
                    client = stack.enter_context(RawClient(self._port, WITNESS))
                client.send(self._request())
                return outcome(client, 1)[0]
            except (OSError, AssertionError) as error:
                return repr(error)

    def _request(self) -> bytes:
        ids = [uuid.uuid4().hex for _ in range(self.EVENTS)]
        self.ids += ids
        body = array(*(b'{"id":"%b"}' % each.encode() for each in ids))
        return request(body, source=WITNESS_SOURCE, key=WITNESS_KEY)

    def wait_for(self, answers: int) -> None:
        """Wait until so many more answers have come."""
        wanted = len(self.waits) + answers
        wait_until(lambda: len(self.waits) >= wanted, PATIENCE, "the witness is not answered")


class Memory(Beside):
    """Samples the resident memory of a process and its children."""

    SAMPLE_SECONDS = 0.01

    def __init__(self, processes: Sequence[psutil.Process]) -> None:
        super().__init__()
        self._processes = processes
        self._before = self._now()
        self._most = self._before

    def _now(self) -> list[int]:
        return [each.memory_info().rss for each in self._processes]

    @property
    def growth_bytes(self) -> int:
        """By how much the process that grew most was larger than at the beginning, at its peak."""
        return max(most - before for most, before in zip(self._most, self._before, strict=True))

    def run(self) -> None:
        """Sample until told to end."""
        while not self._end.wait(self.SAMPLE_SECONDS):
            self._most = list(map(max, self._most, self._now()))


PER_ADDRESS = 1000
"""The default of ``connections_per_address``."""
BURST = 1000
"""Newcomers at once; fewer than the queue of a listener takes."""


class Crowd:
    """Clients that connect and say nothing, `PER_ADDRESS` from each address.

    Args:
        connect: makes one that comes from an address.
        let_in: waits until the gateway has let in so many of them.

    Attributes:
        clients: in the order in which they came.
    """

    def __init__(self, connect: Callable[[str], RawClient], let_in: Callable[[int], None]) -> None:
        self.clients: list[RawClient] = []
        self._connect = connect
        self._let_in = let_in

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for client in self.clients:
            client.reset()  # else the system remembers each for a minute

    def grow(self, count: int) -> None:
        """Have ``count`` more of them, a `BURST` at a time."""
        for number in range(1, count + 1):
            self.clients.append(self._connect(f"127.1.0.{1 + len(self.clients) // PER_ADDRESS}"))
            if number % BURST == 0 or number == count:
                self._let_in(len(self.clients))


class LoggedProcess(Process):
    """A service whose log is kept as it came, in either format.

    Attributes:
        raw: the lines, without their ends.
    """

    _LISTENING = re.compile(r"event='listening'.* listener='(\w+)' address='([^']+)'")

    def __init__(self, *arguments: Any) -> None:
        self.raw: list[str] = []
        super().__init__(*arguments)

    def _note(self, line: str) -> None:
        self.raw.append(line.removesuffix("\n"))
        super()._note(line)
        if found := self._LISTENING.search(line):
            self.addresses[found[1]] = found[2]
            self._heard.put(True)


class LoggedGateway(Gateway):
    """A gateway whose log is kept as it came; see `LoggedProcess`.

    Args:
        log_format: ``json`` or ``text``.
    """

    process: LoggedProcess

    def __init__(self, servers: str, settings: Settings, log_format: str) -> None:
        super().__init__(servers, {**settings, "service": {"log_format": log_format}})
        self.log_format = log_format

    def __enter__(self) -> Self:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("loadtest.gateway.Process", LoggedProcess)
            return super().__enter__()


def _entry_of_json(line: str) -> tuple[str, str]:
    """Level and event of a line."""
    entry = json.loads(line)
    return entry["level"], entry["event"]


def _entry_of_text(line: str) -> tuple[str, str]:
    """The same of a line for people."""
    found = _TEXT_LINE.fullmatch(line)
    assert found, line
    return found[1], found[2]


class Watch:
    """A gateway that is attacked again and again, and what must hold of it whenever it is.

    Args:
        gateway: has one worker, a source and key for the witness, and logs every request.

    Attributes:
        waits: the seconds that each answer to any witness took.
        ids: of all events of all witnesses.
    """

    ANSWERS = 10
    """So many answers of the witness belong to each attack at least."""

    def __init__(self, gateway: LoggedGateway) -> None:
        self.gateway = gateway
        self.port = int(gateway.process.addresses["http"].rpartition(":")[2])
        self.waits: list[float] = []
        self.ids: list[str] = []
        parent = psutil.Process(gateway.process.pid)
        (self._pid,) = [each["pid"] for each in gateway.status()["workers"]]
        self.worker = psutil.Process(self._pid)
        self._processes = [parent, *parent.children(recursive=True)]

    def client(self, source: str = ABUSER, receive_buffer: int | None = None) -> RawClient:
        """A new connection to it."""
        return RawClient(self.port, source, receive_buffer)

    def connections(self) -> int:
        """How many connections it says it has."""
        found: dict[str, int] = self.gateway.status()["connections"]
        return found.get("http", 0)

    def requests(self, **labels: str) -> int:
        """How many requests it says it has answered."""
        return self.counted("ingest_requests_total", **labels)

    def counted(self, name: str, **labels: str) -> int:
        """The sum of a counter over all labels but those that are given."""
        samples = self.gateway.samples()
        found = [each for each in samples if each.name == name]
        return int(sum(each.value for each in found if labels.items() <= each.labels.items()))

    @contextmanager
    def attacked(self, grow_bytes: int = GROW_BYTES) -> Iterator[Witness]:
        """Have the witness beside an attack, and afterwards check everything that must hold."""
        self._check_rest()
        lines = len(self.gateway.process.raw)
        accounts = self.gateway.accounts()
        with Memory(self._processes) as memory, Witness(self.port) as witness:
            try:
                yield witness
                witness.wait_for(self.ANSWERS)
            finally:
                witness.stop()
                self.waits += witness.waits
                self.ids += witness.ids
        self._check_rest()
        self._check_witness(witness, accounts.get(WITNESS_SOURCE, Counter()))
        assert memory.growth_bytes < grow_bytes
        self._check_process()
        self._check_log(lines)

    def _check_rest(self) -> None:
        """Nobody is connected, nothing in flight, and every event has its one outcome."""
        wait_until(lambda: not self.connections(), REST_SECONDS, "somebody is connected")
        self.gateway.wait_until_at_rest(REST_SECONDS)

    def _check_witness(self, witness: Witness, before: Counter[str]) -> None:
        assert witness.outcomes == {"200": len(witness.waits)}
        after = self.gateway.accounts()[WITNESS_SOURCE]
        assert after - before == {"received": len(witness.ids), "acked": len(witness.ids)}
        assert statistics.median(witness.waits) < MEDIAN_SECONDS
        assert max(witness.waits) < MAX_SECONDS

    def _check_process(self) -> None:
        """Nothing went wrong behind the scenes, and it is still the same worker."""
        assert self.requests(status="500") == 0
        (worker,) = self.gateway.status()["workers"]
        assert (worker["pid"], worker["restarts"]) == (self._pid, 0)

    def _check_log(self, first: int) -> None:
        """It is written up to now: no error, no traceback, nothing that a client has made up."""
        mark = f"mark-{uuid.uuid4().hex}"
        with self.client() as client:
            assert client.ask(request(b"", f"X-Request-Id: {mark}"))
        raw, text = self.gateway.process.raw, self.gateway.log_format == "text"
        wait_until(lambda: any(mark in line for line in raw[first:]), PATIENCE, "it is not logged")
        for line in raw[first:]:
            level, event = _entry_of_text(line) if text else _entry_of_json(line)
            assert level in {"debug", "info", "warning"}, line
            assert event in EVENTS, line
            assert "Traceback" not in line, line
            assert not UNPRINTABLE & set(map(unicodedata.category, line)), line


@contextmanager
def many_open_files() -> Iterator[None]:
    """Have as many open files as the system allows without asking."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
