"""The life of a service: its start, workers that die, its drain, and the ways it can end."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import socket
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, suppress
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from ingest.service import MARGIN_SECONDS
from loadtest.gateway import Process, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE = 10.0
RESTART_SECONDS = 2.0
"""Within which a worker that was killed is back."""
AT_ONCE_SECONDS = 3.0
"""Far below the drains of these tests, with room for a machine that is busy."""
MAIN = "import sys; from tests.toy_service import main; sys.exit(main())"


class Line:
    """A client's connection to a toy."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), PATIENCE)
        self._answers = self._socket.makefile("rb")

    def say(self, word: str) -> None:
        """Send a line."""
        self._socket.sendall(f"{word}\n".encode())

    def hear(self) -> str:
        """The next answer; empty at the end."""
        return self._answers.readline().decode().strip()

    def ask(self, word: str) -> str:
        """Send a line and wait for its answer."""
        self.say(word)
        return self.hear()

    def close(self) -> None:
        """Hang up."""
        self._answers.close()
        self._socket.close()


class Toy(Process):
    """A toy service as a process, and its clients.

    Attributes:
        folder: where it has its temporary files.
    """

    def __init__(self, **config: Any) -> None:
        self._lines = ExitStack()
        self.folder = Path(self._lines.enter_context(tempfile.TemporaryDirectory()))
        environment = os.environ | {"TMPDIR": str(self.folder)}
        command = ["-c", MAIN, json.dumps(config)]
        super().__init__(command, ["toy", "management"], environment)

    def line(self) -> Line:
        """A new client."""
        line = Line(self.addresses["toy"])
        self._lines.callback(line.close)
        return line

    def ask(self, word: str) -> str:
        """What a new client is answered."""
        return self.line().ask(word)

    def worker(self) -> int:
        """The process that answers a new client."""
        return int(self.ask("who").split()[0])

    def manage(self, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes]:
        """Status and body of an answer of the management port."""
        url = f"http://{self.addresses['management']}{path}"
        request = urllib.request.Request(url, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310 - http
                return answer.status, answer.read()
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, refusal.read()

    def document(self, path: str) -> dict[str, Any]:
        """A JSON document of the management port."""
        document: dict[str, Any] = json.loads(self.manage(path)[1])
        return document

    def workers(self) -> list[int]:
        """The processes of the workers that have reported, by slot."""
        seats = self.document("/status")["workers"]
        return [seat["pid"] for seat in seats if "pid" in seat]

    def counts(self) -> dict[str, float]:
        """What was received, each outcome, restarts."""
        families = text_string_to_metric_families(self.manage("/metrics")[1].decode())
        return {
            sample.labels.get("outcome", sample.name.removeprefix("ingest_")): sample.value
            for family in families
            for sample in family.samples
        }

    def deaths(self, workers: set[int]) -> list[dict[str, Any]]:
        """What was logged of the deaths of ``workers``."""
        return [line for line in self.logged("worker_died") if line["pid"] in workers]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the parent."""
        self._process.send_signal(number)

    def family(self) -> list[psutil.Process]:
        """Every process of it, also those whose parents are gone."""
        return [each for each in psutil.process_iter() if _folder_of(each) == str(self.folder)]

    def end_everything(self) -> None:
        """Leave nothing of it behind, whatever state it is in."""
        for process in self.family():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.kill()
        self._reader.join(PATIENCE)
        self._lines.close()


def _folder_of(process: psutil.Process) -> str | None:
    try:
        return process.environ().get("TMPDIR")
    except psutil.Error:  # it has ended, or is none of ours
        return None


def gone(process: psutil.Process) -> bool:
    """Whether a process has ended, its parent may not have noticed."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def start(opened: ExitStack, *, workers: int = 1, reporting: int | None = None, **more: Any) -> Toy:
    """A toy of which as many workers as told are there; default: all of them."""
    toy = Toy(workers=workers, **more)
    opened.callback(toy.end_everything)
    toy.wait_for_addresses()
    expected = workers if reporting is None else reporting
    wait_until(lambda: len(toy.workers()) == expected, PATIENCE, "workers did not report")
    return toy


@pytest.fixture
def toys() -> Iterator[Callable[..., Toy]]:
    """Starts toys."""
    with ExitStack() as opened:
        yield lambda **config: start(opened, **config)


@pytest.fixture(scope="module")
def shared() -> Iterator[Toy]:
    """One toy with two workers for the tests after which it is as it was."""
    with ExitStack() as opened:
        yield start(opened, workers=2)


@pytest.fixture
def toy(shared: Toy) -> Toy:
    """The shared toy, once its workers are there."""
    wait_until(lambda: len(shared.workers()) == 2, PATIENCE, "workers did not come back")
    return shared


# At work


def test_every_bound_address_is_logged(toy: Toy) -> None:
    """With the port that was picked for port 0; each answers there."""
    lines = {line["listener"]: line["address"] for line in toy.logged("listening")}
    assert lines.keys() == {"toy", "management"}
    assert all(int(address.rpartition(":")[2]) > 0 for address in lines.values())
    assert toy.ask("take") == "ok"
    assert toy.manage("/livez")[0] == 200


def test_warnings_are_given_at_the_start(toy: Toy) -> None:
    """Each with what to do about it."""
    (warning,) = toy.logged("only_a_toy")
    assert (warning["level"], warning["advice"]) == ("warning", "do not rely on it")


def test_the_management_port_speaks_for_all_workers(toy: Toy) -> None:
    """It is alive and ready, and says what it consists of."""
    assert toy.manage("/livez")[0] == 200
    assert toy.manage("/readyz")[0] == 200
    status = toy.document("/status")
    assert (status["service"], status["sources"]) == ("toy", ["toys"])
    assert status["listeners"] == {"toy": toy.addresses["toy"]}
    assert [seat["slot"] for seat in status["workers"]] == [0, 1]
    assert len({seat["pid"] for seat in status["workers"]} | {toy.pid}) == 3
    assert toy.counts()["kafka_up"] == 1


def test_a_web_page_cannot_drain_a_service(toy: Toy) -> None:
    """It goes on as before."""
    assert toy.manage("/drain", "POST", Origin="http://127.0.0.1")[0] == 403
    assert toy.manage("/drain")[0] == 405
    assert toy.ask("who").endswith("serving")
    assert toy.manage("/readyz")[0] == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_workers_obey_their_parent_only(toy: Toy, number: signal.Signals) -> None:
    """Ctrl-C and process managers signal them too; the parent has the say."""
    line = toy.line()
    worker = int(line.ask("who").split()[0])
    os.kill(worker, number)
    assert line.ask("who") == f"{worker} serving"
    assert worker in toy.workers()


def test_a_killed_worker_is_back_at_once(toy: Toy) -> None:
    """Whoever connects in between waits, and is not refused."""
    before, restarts = set(toy.workers()), toy.counts()["worker_restarts_total"]
    for worker in before:
        os.kill(worker, signal.SIGKILL)
    begun = time.monotonic()
    assert toy.worker() not in before
    wait_until(lambda: len(set(toy.workers()) - before) == 2, RESTART_SECONDS, "not both are back")
    assert time.monotonic() - begun < RESTART_SECONDS
    assert toy.counts()["worker_restarts_total"] == restarts + 2
    wait_until(lambda: len(toy.deaths(before)) == 2, PATIENCE, "not logged")
    assert sorted(line["slot"] for line in toy.deaths(before)) == [0, 1]
    assert {line["exit_status"] for line in toy.deaths(before)} == {-signal.SIGKILL}


def test_what_a_killed_worker_leaves_unaccounted_is_booked_as_failed(toy: Toy) -> None:
    """Received is the sum of the outcomes again, and no count is lost with the worker."""
    before = toy.counts()
    lines = [toy.line() for _ in range(20)]
    assert {line.ask("take") for line in lines} == {"ok"}
    assert {line.ask("lose") for line in lines[:3]} == {"ok"}
    workers = set(toy.workers())
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    lost = before.get("failed", 0.0) + 3
    wait_until(lambda: toy.counts().get("failed") == lost, PATIENCE, "not booked")
    after = toy.counts()
    assert after["events_received_total"] - before.get("events_received_total", 0.0) == 23
    assert after["acked"] - before.get("acked", 0.0) == 20
    assert after["events_received_total"] == after["acked"] + after["failed"]
    wait_until(lambda: len(toy.deaths(workers)) == 2, PATIENCE, "not logged")
    assert sum(line["events_lost"] for line in toy.deaths(workers)) == 3


# Starting


@pytest.mark.parametrize("listener", ["toy", "management"])
def test_an_address_in_use_ends_the_start(listener: str) -> None:
    """With exit status 1 and the listener that could not be bound; no worker was started."""
    with ExitStack() as opened, socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        toy = Toy(**{"listen" if listener == "toy" else "management": address})
        opened.callback(toy.end_everything)
        assert toy.wait(PATIENCE) == 1
    (line,) = toy.logged("cannot_bind")
    assert (line["listener"], line["address"]) == (listener, address)
    assert [line["reason"] for line in toy.logged("cannot_start")] == ["Address already in use"]


def test_workers_may_open_as_many_files_as_the_system_allows(toys: Callable[..., Toy]) -> None:
    """Every connection is one; a shell's low default is raised to the hard limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    try:
        toy = toys()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert psutil.Process(toy.worker()).rlimit(psutil.RLIMIT_NOFILE) == (hard, hard)


def test_workers_that_cannot_start_are_tried_again_ever_more_slowly(
    toys: Callable[..., Toy],
) -> None:
    """The service is alive but not ready meanwhile, and a drain does not wait for the next try."""
    toy = toys(fails=True, reporting=0)
    wait_until(lambda: len(toy.logged("worker_died")) == 4, PATIENCE, "not tried again")
    assert toy.manage("/livez")[0] == 200
    assert toy.document("/readyz") == {"ready": False, "reasons": ["starting"], "degraded": {}}
    begun = time.monotonic()
    toy.terminate()
    assert toy.wait(PATIENCE) == 1
    assert time.monotonic() - begun < AT_ONCE_SECONDS
    deaths = [datetime.fromisoformat(line["timestamp"]) for line in toy.logged("worker_died")]
    gaps = [(later - earlier).total_seconds() for earlier, later in pairwise(deaths)]
    assert len(gaps) == 3
    assert gaps[1] >= 0.5
    assert gaps[2] >= 1.5


def test_a_worker_is_replaced_once_the_system_has_room_again(toys: Callable[..., Toy]) -> None:
    """With no file to be had the service goes on trying."""
    toy = toys()
    parent, worker = psutil.Process(toy.pid), toy.worker()
    limits = parent.rlimit(psutil.RLIMIT_NOFILE)
    parent.rlimit(psutil.RLIMIT_NOFILE, (3, limits[1]))
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: bool(toy.logged("cannot_keep_worker")), PATIENCE, "it was started")
    parent.rlimit(psutil.RLIMIT_NOFILE, limits)
    assert toy.worker() != worker
    toy.terminate()
    assert toy.wait(PATIENCE) == 0


def test_reports_of_any_length_are_taken_also_when_one_is_cut_short(
    toys: Callable[..., Toy],
) -> None:
    """A thousand unusable topics are all named; a worker killed in mid-report is replaced."""
    toy = toys(degraded=5000)
    assert len(toy.document("/readyz")["degraded"]) == 5000
    line, worker = toy.line(), toy.worker()
    toy.signal(signal.SIGSTOP)  # from now on a report stays half written
    reports = int(line.ask("reports"))
    wait_until(lambda: int(line.ask("reports")) >= reports + 2, PATIENCE, "it does not report")
    os.kill(worker, signal.SIGKILL)
    toy.signal(signal.SIGCONT)
    assert toy.worker() != worker


# Ending


def by_drain(toy: Toy) -> None:
    """Ask for the end on the management port."""
    assert toy.manage("/drain", "POST") == (202, b'{"draining":true}\n')


@pytest.mark.parametrize(
    ("ask", "reason"),
    [
        (lambda toy: toy.signal(signal.SIGTERM), "SIGTERM"),
        (lambda toy: toy.signal(signal.SIGINT), "SIGINT"),
        (by_drain, "management port"),
    ],
)
def test_a_service_that_is_asked_to_end_leaves_nothing(
    toys: Callable[..., Toy], ask: Callable[[Toy], None], reason: str
) -> None:
    """Whoever asks: no listener, no file, no process, and a good end."""
    toy = toys(workers=2)
    family = toy.family()
    ask(toy)
    assert toy.wait(PATIENCE) == 0
    for address in toy.addresses.values():
        with pytest.raises(ConnectionRefusedError):
            Line(address)
    (draining,), (stopped,) = toy.logged("draining"), toy.logged("stopped")
    assert (draining["reason"], stopped["nothing_dropped"]) == (reason, True)
    assert toy.lines[-1] == stopped
    assert list(toy.folder.iterdir()) == []
    wait_until(lambda: all(map(gone, family)), PATIENCE, "something is left")


def test_a_drain_is_told_before_anything_is_closed(toys: Callable[..., Toy]) -> None:
    """Not ready, while old and new clients are still served, with a goodbye."""
    toy = toys(workers=2, prestop_seconds=2.0)
    before = toy.line()
    assert before.ask("who").endswith("serving")
    begun = time.monotonic()
    toy.terminate()
    wait_until(lambda: toy.manage("/readyz")[0] == 503, PATIENCE, "still ready")
    assert toy.document("/readyz")["reasons"] == ["draining"]
    assert toy.manage("/livez")[0] == 200
    for line in (before, toy.line()):
        wait_until(lambda line=line: line.ask("who").endswith("draining"), PATIENCE, "not told")
        assert line.hear() == ""
    assert toy.wait(PATIENCE) == 0
    assert time.monotonic() - begun >= 2.0


def test_a_drain_finishes_what_is_in_flight(toys: Callable[..., Toy]) -> None:
    """It waits for it, while nobody new can connect, and ends when it is done."""
    toy = toys(drain_seconds=30.0)
    line = toy.line()
    assert line.ask("hang") == "ok"
    toy.terminate()
    wait_until(lambda: refused(toy), PATIENCE, "still listening")
    assert toy.running
    assert line.ask("finish") == "done"
    assert toy.wait(AT_ONCE_SECONDS) == 0


def refused(toy: Toy) -> bool:
    """Whether nobody can connect any more."""
    with socket.socket() as newcomer:
        host, _, port = toy.addresses["toy"].rpartition(":")
        newcomer.settimeout(0.1)
        return newcomer.connect_ex((host, int(port))) == errno.ECONNREFUSED


def test_what_is_cut_off_at_the_deadline_makes_a_bad_end(toys: Callable[..., Toy]) -> None:
    """Exit status 1, and in time."""
    toy = toys(workers=2, drain_seconds=0.3)
    line = toy.line()
    assert line.ask("hang") == "ok"
    toy.terminate()
    assert toy.wait(AT_ONCE_SECONDS) == 1
    assert [line["nothing_dropped"] for line in toy.logged("stopped")] == [False]


@pytest.mark.parametrize(
    ("config", "second"),
    [({"prestop_seconds": 30.0}, signal.SIGTERM), ({"drain_seconds": 30.0}, signal.SIGINT)],
)
def test_a_second_signal_ends_at_once(
    toys: Callable[..., Toy], config: dict[str, float], second: signal.Signals
) -> None:
    """Before or while things are finished; what was in flight is lost, and the status says so."""
    toy = toys(**config)
    assert toy.line().ask("hang") == "ok"
    workers = toy.family()
    toy.terminate()
    wait_until(lambda: bool(toy.logged("draining")), PATIENCE, "does not drain")
    toy.signal(second)
    assert toy.wait(AT_ONCE_SECONDS) == 1
    wait_until(lambda: all(map(gone, workers)), AT_ONCE_SECONDS, "something is left")


def test_a_drain_that_was_asked_for_takes_one_signal_more(toys: Callable[..., Toy]) -> None:
    """The first signal after ``/drain`` is not the second one."""
    toy = toys(drain_seconds=30.0)
    line = toy.line()
    assert line.ask("hang") == "ok"
    by_drain(toy)
    by_drain(toy)
    toy.terminate()
    wait_until(lambda: refused(toy), PATIENCE, "still listening")
    assert line.ask("finish") == "done"
    assert toy.wait(AT_ONCE_SECONDS) == 0
    assert len(toy.logged("draining")) == 1


def test_a_worker_that_does_not_keep_to_its_deadline_is_killed(toys: Callable[..., Toy]) -> None:
    """A deadline bounds all of it, whatever hangs."""
    toy = toys(drain_seconds=0.1, overruns=True)
    toy.terminate()
    begun = time.monotonic()
    assert toy.wait(MARGIN_SECONDS + AT_ONCE_SECONDS) == 1
    assert time.monotonic() - begun > MARGIN_SECONDS / 2


def test_nobody_who_waits_to_be_accepted_is_reset_by_a_drain(toys: Callable[..., Toy]) -> None:
    """Connections that the kernel made while the workers were busy are served to the end."""
    toy = toys(workers=2)
    workers = [psutil.Process(pid) for pid in toy.workers()]
    for worker in workers:
        worker.suspend()
    lines = [toy.line() for _ in range(30)]
    for line in lines:
        line.say("who")
    toy.terminate()
    wait_until(lambda: bool(toy.logged("draining")), PATIENCE, "does not drain")
    for worker in workers:
        worker.resume()
    assert all(line.hear() for line in lines)
    assert [line.hear() for line in lines] == [""] * 30
    assert toy.wait(PATIENCE) == 0


def test_a_drain_right_after_a_death_ends(toys: Callable[..., Toy]) -> None:
    """Whether the replacement has been started or not."""
    toy = toys(workers=2)
    for worker in toy.workers():
        os.kill(worker, signal.SIGKILL)
    toy.terminate()
    assert toy.wait(PATIENCE) in {0, 1}
    assert len(toy.logged("stopped")) == 1


def test_workers_end_by_themselves_when_their_parent_is_gone(toys: Callable[..., Toy]) -> None:
    """They finish what is in flight first, without a pause for balancers, and leave nothing."""
    toy = toys(workers=2, prestop_seconds=30.0, drain_seconds=30.0)
    line = toy.line()
    assert line.ask("hang") == "ok"
    family = toy.family()
    assert set(toy.workers()) < {process.pid for process in family}
    toy.kill()
    wait_until(lambda: refused(toy), PATIENCE, "still listening")
    assert line.ask("finish") == "done"
    wait_until(lambda: all(map(gone, family)), PATIENCE, "something is left")
    wait_until(lambda: len(toy.logged("parent_lost")) == 2, PATIENCE, "it was not noticed")
