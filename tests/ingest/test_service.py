"""The life of a service: its start, workers that die, its drain, and the ways it can end."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import resource
import signal
import socket
import tempfile
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from ingest.listening import bind
from ingest.service import MARGIN_SECONDS
from ingest.settings import ServiceSettings
from ingest.slot import Crew, Slot
from ingest.worker import Order, Renewal, framed
from loadtest.gateway import Process, wait_until
from tests.toy_service import ToyConfig, make

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
        file: what it reads on reload, if it is told to be ``reloadable``.
    """

    def __init__(self, *, reloadable: bool = False, **config: Any) -> None:
        self._lines = ExitStack()
        self.folder = Path(self._lines.enter_context(tempfile.TemporaryDirectory()))
        self.file = Path(self._lines.enter_context(tempfile.TemporaryDirectory())) / "toy.json"
        if reloadable:
            config["file"] = str(self.file)
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

    def samples(self) -> dict[tuple[str, ...], float]:
        """Name and values of labels, in the order of the labels' names -> number."""
        families = text_string_to_metric_families(self.manage("/metrics")[1].decode())
        return {
            (sample.name.removeprefix("ingest_"), *dict(sorted(sample.labels.items())).values()): (
                sample.value
            )
            for family in families
            for sample in family.samples
        }

    def counts(self) -> dict[str, float]:
        """What was received, each outcome, restarts."""
        return {
            labels[0] if name == "events_total" else name: value
            for (name, *labels), value in self.samples().items()
        }

    def configure(self, **config: Any) -> None:
        """Write the file that a reload reads."""
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps(config))
        new.rename(self.file)

    def reload(self, **config: Any) -> None:
        """Write the file, and wait until its reload has come to an end, well or not."""
        self.configure(**config)
        before = len(self.reloads())
        self.signal(signal.SIGHUP)
        wait_until(lambda: len(self.reloads()) > before, PATIENCE, "nothing was reloaded")

    def reloads(self) -> list[dict[str, Any]]:
        """What was logged of reloads that came to an end."""
        ends = {"reloaded", "nothing_changed", "reload_failed", "reload_ignored"}
        return [line for line in self.lines if line.get("event") in ends]

    def wait_for_version(self, *versions: int) -> None:
        """Wait until the workers work with these versions of the configuration."""
        holds = lambda: self.document("/status")["config"]["workers"] == [*versions]  # noqa: E731
        wait_until(holds, PATIENCE, "the workers have other versions")

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


# Reload


@pytest.fixture
def reloadable(toys: Callable[..., Toy]) -> Toy:
    """A toy with two workers that can be told to reload."""
    return toys(workers=2, reloadable=True)


def answers(toy: Toy) -> set[str]:
    """What the workers say of their configuration; each of the two is asked."""
    found: dict[str, str] = {}
    wait_until(lambda: found.update([who(toy)]) or len(found) == 2, PATIENCE, "one never answers")
    return set(found.values())


def who(toy: Toy) -> tuple[str, str]:
    """The worker that answers a new client, and its configuration."""
    line = toy.line()
    return line.ask("who").split()[0], line.ask("config")


def test_a_reload_reaches_all_workers(reloadable: Toy) -> None:
    """What changed is in force and logged by its keys; what needs a restart is warned of."""
    toy, begun = reloadable, datetime.now(UTC).replace(microsecond=0)
    toy.reload(greeting="hunter2", source="dolls", listen="127.0.0.1:1")
    toy.wait_for_version(1, 1)
    assert answers(toy) == {"hunter2 0"}
    (reloaded,), (restart,) = toy.logged("reloaded"), toy.logged("restart_needed")
    assert set(reloaded["changed"]) == {"greeting: changed", "source: changed"}
    assert (reloaded["version"], reloaded["level"]) == (1, "info")
    assert (restart["keys"], restart["level"]) == (["listen"], "warning")
    assert not any("hunter2" in json.dumps(line) for line in toy.lines)
    status = toy.document("/status")
    assert (status["sources"], status["config"]["version"]) == (["dolls"], 1)
    assert datetime.fromisoformat(status["config"]["loaded_at"]) >= begun
    assert status["config"]["last_error"] is None


def test_what_appears_by_reload_is_counted(reloadable: Toy) -> None:
    """Under the labels of its own, beside what was counted before."""
    toy = reloadable
    assert toy.ask("take") == "ok"
    toy.reload(source="dolls")
    toy.wait_for_version(1, 1)
    assert {toy.ask("take") for _ in range(5)} == {"ok"}
    samples = toy.samples()
    assert samples["events_total", "acked", "toy", "dolls"] == 5
    assert samples["events_total", "acked", "toy", "toys"] == 1
    assert samples["reloads_total", "ok", "toy"] == 1
    assert samples[("config_version",)] == samples[("config_last_reload_successful",)] == 1


def test_a_bad_file_keeps_the_last_good_one_and_says_why(reloadable: Toy) -> None:
    """In the log, the status, the readiness and the metrics, until there is a good one."""
    toy = reloadable
    toy.reload(greeting="good")
    toy.wait_for_version(1, 1)
    toy.reload(greeting=1)
    (failed,) = toy.logged("reload_failed")
    assert failed["level"] == "error"
    assert failed["problems"][0].startswith("toy: Expected `str`, got `int`")
    assert len(failed["problems"]) == 2
    config = toy.document("/status")["config"]
    assert (config["version"], config["last_error"]) == (1, failed["problems"])
    status, ready = toy.manage("/readyz")
    assert (status, list(json.loads(ready)["degraded"])) == (200, ["configuration"])
    samples = toy.samples()
    assert samples[("config_last_reload_successful",)] == 0
    assert samples["reloads_total", "ok", "toy"] == 1
    assert samples["reloads_total", "failed", "toy"] == 1
    assert answers(toy) == {"good 0"}
    toy.reload(greeting="good")
    assert toy.reloads()[-1]["event"] == "nothing_changed"
    assert toy.document("/status")["config"]["last_error"] is None
    assert toy.document("/readyz")["degraded"] == {}
    assert toy.samples()[("config_last_reload_successful",)] == 1


def test_a_bug_in_the_reading_is_a_failed_reload(reloadable: Toy) -> None:
    """Its traceback is logged, and shown to nobody else; the next reload is none the worse."""
    toy = reloadable
    toy.reload(bug=True)
    (failed,) = toy.logged("reload_failed")
    assert "LookupError" in failed["exception"]
    assert toy.document("/status")["config"]["last_error"] == [
        "the configuration could not be read: see the log"
    ]
    toy.reload(greeting="later")
    toy.wait_for_version(1, 1)


def test_nothing_is_done_when_nothing_changed(reloadable: Toy) -> None:
    """No new version for the workers; it counts as a good reload all the same."""
    toy = reloadable
    toy.reload()
    assert [line["event"] for line in toy.reloads()] == ["nothing_changed"]
    assert toy.document("/status")["config"]["version"] == 0
    assert toy.samples()["reloads_total", "ok", "toy"] == 1


def test_a_worker_that_died_comes_back_with_the_last_good_one(reloadable: Toy) -> None:
    """Not with what it was started with, nor with what was bad."""
    toy = reloadable
    toy.reload(greeting="good")
    toy.reload(greeting=1)
    before = toy.workers()
    for worker in before:
        os.kill(worker, signal.SIGKILL)
    wait_until(lambda: len(set(toy.workers()) - {*before}) == 2, PATIENCE, "not back")
    toy.wait_for_version(1, 1)
    assert answers(toy) == {"good 0"}


def test_workers_that_start_during_a_reload_get_the_newest(reloadable: Toy) -> None:
    """However the death, the start and the reload follow each other."""
    toy = reloadable
    for number in range(1, 4):
        for worker in toy.workers():
            os.kill(worker, signal.SIGKILL)
        toy.reload(greeting=f"greeting-{number}")
        version = toy.document("/status")["config"]["version"]
        toy.wait_for_version(version, version)
        assert answers(toy) == {f"greeting-{number} 0"}


async def test_a_worker_that_is_just_being_started_is_told_as_well(tmp_path: Path) -> None:
    """It was given the old one, and cannot be talked to yet."""
    (listener,) = bind("127.0.0.1:0", 1)
    config = ToyConfig()
    slot = Slot(Crew("toy", make, config, ServiceSettings(), tmp_path), 0, {"toy": [listener]})
    await asyncio.sleep(0)
    assert slot._process is not None
    assert slot._writer is None
    slot.renew(config, 1, framed(Renewal(1, config)))
    try:
        async with asyncio.timeout(PATIENCE):
            while slot.seat.status is None or slot.seat.status.config_version != 1:
                await asyncio.sleep(0.01)
    finally:
        slot.drain(Order(0.0, 1.0))
        assert await slot.ended


def test_a_reload_under_traffic_loses_no_request(reloadable: Toy) -> None:
    """Old connections go on, new ones are taken, every answer is given and every event counted."""
    toy, asked, stop = reloadable, [0, 0], threading.Event()

    def send(client: int) -> None:
        line = toy.line()
        while not stop.is_set():
            one_off = Line(toy.addresses["toy"])
            for each in (line, one_off):
                assert each.ask("take") == "ok"
                asked[client] += 1
            one_off.close()

    with ThreadPoolExecutor() as pool:
        clients = [pool.submit(send, client) for client in range(2)]
        try:
            for number in range(10):
                begun = list(asked)
                toy.reload(greeting=str(number), ballast="x" * 100_000)
                wait_until(lambda: asked > begun, PATIENCE, "no traffic")  # noqa: B023
        finally:
            stop.set()
        for client in clients:
            client.result(PATIENCE)
    toy.wait_for_version(10, 10)
    assert toy.counts()["acked"] == toy.counts()["events_received_total"] == sum(asked)
    assert toy.logged("worker_died") == []


def test_a_hangup_of_the_terminal_reloads_once(reloadable: Toy) -> None:
    """It goes to every process of the service: none of them ends, and only the parent acts."""
    toy = reloadable
    toy.configure(greeting="new")
    family = toy.family()
    assert {toy.pid, *toy.workers()} < {process.pid for process in family}
    for process in family:
        process.send_signal(signal.SIGHUP)
    toy.wait_for_version(1, 1)
    assert len(toy.reloads()) == 1
    assert {process.pid for process in toy.family()} == {process.pid for process in family}
    os.kill(toy.workers()[0], signal.SIGKILL)  # the processes that start others are there as well
    wait_until(lambda: len({*toy.workers()} - {each.pid for each in family}) == 1, PATIENCE, "gone")
    toy.wait_for_version(1, 1)


def test_a_service_that_cannot_reload_goes_on(toy: Toy) -> None:
    """SIGHUP never ends it, and the log tells that it came."""
    workers = toy.workers()
    toy.signal(signal.SIGHUP)
    wait_until(lambda: bool(toy.logged("reload_ignored")), PATIENCE, "not logged")
    assert (toy.workers(), toy.document("/status")["config"]["version"]) == (workers, 0)


def catches_hangups(pid: int) -> bool:
    """Whether SIGHUP has a handler in a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return bool(int(status.partition("SigCgt:")[2].split()[0], 16) & 1)


def test_a_hangup_at_the_very_start_is_not_lost() -> None:
    """Before anything is bound or started: the reload is made up for."""
    with ExitStack() as opened:
        toy = Toy(reloadable=True, workers=2)
        opened.callback(toy.end_everything)
        toy.configure(greeting="early")
        deadline = time.monotonic() + PATIENCE
        while not catches_hangups(toy.pid):  # without a pause: it is a matter of milliseconds
            assert time.monotonic() < deadline
        toy.signal(signal.SIGHUP)
        toy.wait_for_addresses()
        toy.wait_for_version(1, 1)
        assert answers(toy) == {"early 0"}


def test_hangups_cannot_spoil_a_good_end(toys: Callable[..., Toy]) -> None:
    """During a drain they are logged and ignored, whatever the file is, up to the last moment."""
    toy = toys(reloadable=True)
    line = toy.line()
    assert line.ask("hang") == "ok"
    toy.terminate()
    wait_until(lambda: bool(toy.logged("draining")), PATIENCE, "does not drain")
    toy.reload(greeting=1)
    (ignored,) = toy.reloads()
    assert (ignored["event"], ignored["reason"]) == ("reload_ignored", "draining")
    assert line.ask("finish") == "done"
    deadline = time.monotonic() + PATIENCE
    while toy.running and time.monotonic() < deadline:
        toy.signal(signal.SIGHUP)
    assert toy.wait(PATIENCE) == 0
    assert {line["event"] for line in toy.reloads()} == {"reload_ignored"}


def test_a_configuration_of_megabytes_reaches_the_workers(reloadable: Toy) -> None:
    """Those that run, and those that are started with it."""
    toy = reloadable
    toy.reload(ballast="x" * 5_000_000)
    toy.wait_for_version(1, 1)
    assert answers(toy) == {"hello 5000000"}
    os.kill(toy.workers()[0], signal.SIGKILL)
    wait_until(lambda: bool(toy.logged("worker_died")), PATIENCE, "it lives")
    toy.wait_for_version(1, 1)
    assert answers(toy) == {"hello 5000000"}


def try_to_open(pipe: Path) -> BinaryIO | None:
    """A named pipe for writing, if somebody reads it."""
    try:
        return os.fdopen(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK), "wb")
    except OSError:
        return None


def writing(pipe: Path) -> BinaryIO:
    """A named pipe for writing, once somebody reads it, who then waits for its end."""
    opened: list[BinaryIO] = []
    holds = lambda: bool(opened.extend(filter(None, [try_to_open(pipe)])) or opened)  # noqa: E731
    wait_until(holds, PATIENCE, "nobody reads")
    return opened[0]


def test_hangups_during_a_reload_make_one_more(toys: Callable[..., Toy]) -> None:
    """Reloads never overlap, none of the others waits for them, and the last one is not missed."""
    toy = toys(reloadable=True)
    os.mkfifo(toy.file)
    toy.signal(signal.SIGHUP)
    with writing(toy.file) as pipe:
        for _ in range(3):
            toy.signal(signal.SIGHUP)
            assert toy.manage("/livez")[0] == 200
            assert toy.document("/status")["config"]["version"] == 0
        pipe.write(b'{"greeting": "first"}')
    wait_until(lambda: len(toy.logged("reloaded")) == 1, PATIENCE, "the first has no end")
    with writing(toy.file) as pipe:
        pipe.write(b'{"greeting": "second"}')
    toy.wait_for_version(2)
    assert toy.ask("config") == "second 0"
    assert try_to_open(toy.file) is None
    assert len(toy.reloads()) == 2


def test_a_drain_does_not_wait_for_a_reload(toys: Callable[..., Toy]) -> None:
    """Neither for one that is being read, nor for a worker that never gets done with taking it."""
    toy = toys(reloadable=True)
    toy.reload(stalls=True)
    toy.file.unlink()
    os.mkfifo(toy.file)
    toy.signal(signal.SIGHUP)
    with writing(toy.file):
        toy.terminate()
        assert toy.wait(AT_ONCE_SECONDS) == 0


def test_a_reload_that_a_drain_overtakes_is_dropped(toys: Callable[..., Toy]) -> None:
    """Whatever was read: the workers have had their last order."""
    toy = toys(reloadable=True)
    line = toy.line()
    assert line.ask("hang") == "ok"
    os.mkfifo(toy.file)
    toy.signal(signal.SIGHUP)
    with writing(toy.file) as pipe:
        toy.terminate()
        wait_until(lambda: bool(toy.logged("draining")), PATIENCE, "does not drain")
        pipe.write(b'{"greeting": "late"}')
    wait_until(lambda: bool(toy.reloads()), PATIENCE, "not read")
    assert toy.document("/status")["config"]["version"] == 0
    assert line.ask("finish") == "done"
    assert toy.wait(PATIENCE) == 0
    assert [line["event"] for line in toy.reloads()] == ["reload_ignored"]


def test_a_worker_that_cannot_take_it_keeps_what_it_has(reloadable: Toy) -> None:
    """It says so once, and is given it again with the next reload, also of the same file."""
    toy = reloadable
    toy.reload(refused=True, greeting="never")
    wait_until(lambda: len(toy.logged("worker_reload_failed")) == 2, PATIENCE, "it was taken")
    wait_until(lambda: "configuration" in toy.document("/readyz")["degraded"], PATIENCE, "unsaid")
    status = toy.document("/status")
    assert (status["ready"], status["config"]["version"]) == (True, 1)
    assert status["config"]["workers"] == [0, 0]
    assert toy.samples()[("config_last_reload_successful",)] == 0
    assert answers(toy) == {"hello 0"}
    toy.reload(refused=True, greeting="never")
    wait_until(lambda: len(toy.logged("worker_reload_failed")) == 4, PATIENCE, "not given again")
    assert {line["kept"] for line in toy.logged("worker_reload_failed")} == {0}
    toy.reload(greeting="at last")
    toy.wait_for_version(3, 3)
    assert answers(toy) == {"at last 0"}
    assert toy.document("/readyz")["degraded"] == {}
    assert toy.samples()[("config_last_reload_successful",)] == 1


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
