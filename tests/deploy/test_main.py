"""`make run`, as a process, with what a person at the terminal would do."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from deploy.local.demo import alone
from deploy.local.instructions import BATCH, EVENT
from deploy.local.mock import MockCluster
from tests.deploy.processes import ROOT, Program, clean_environment, wait_for_the_end_of, wait_until
from tests.deploy.records import answers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

NO_DOCKER = {"DOCKER_HOST": "tcp://127.0.0.1:1"}
NAMED = "INGEST_KAFKA__BOOTSTRAP_SERVERS"


def make_run(folder: Path, environ: Mapping[str, str]) -> Program:
    """The program behind `make run`, with its data in ``folder``."""
    return Program(["-m", "deploy.local", "--folder", str(folder)], environ)


def started(running: Program) -> list[str]:
    """The commands to try, once all is there."""
    running.line(lambda line: line.startswith("TOPIC"))
    return [line.strip() for line in running.lines if line.startswith("  curl ")]


def in_a_shell(command: str) -> dict[str, Any]:
    """What the answer to a printed command says."""
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=True, timeout=20)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def shown(running: Program, topic: str, text: str) -> str:
    """The line that shows a record, once it has arrived."""
    return running.line(lambda line: line.startswith(f"{topic} ") and text in line)


def try_all(running: Program) -> None:
    """Run the printed commands, and see their events arrive."""
    one, batch = started(running)
    answer = in_a_shell(one)
    assert (answer["accepted"], answer["rejected"]) == (1, 0)
    line = shown(running, "shop.orders", json.dumps(EVENT, separators=(",", ":")))
    assert line.split()[3] == EVENT["customer_id"]
    assert f'"{answer["request_id"]}-0"' in line
    answer = in_a_shell(batch)
    assert (answer["accepted"], answer["rejected"]) == (2, 1)
    for event in BATCH:
        topic = "shop.orders" if isinstance(event, dict) else "ingest.rejected"
        shown(running, topic, json.dumps(event, separators=(",", ":")))
    assert running.text.count("<- not_an_object") == 1
    for command in [line.strip() for line in running.lines if line.startswith("  logger ")]:
        subprocess.run(["bash", "-c", command], check=True, timeout=20)
        shown(running, "syslog", command.split("'")[1])


def ends(running: Program, number: signal.Signals) -> None:
    """End it by a signal: well, with a word, and with all that it started."""
    pids = running.pids
    running.signal(number)
    assert running.ended() == 0, running.text
    assert running.lines[-1] == "stopped"
    wait_for_the_end_of(pids)


@pytest.mark.real_kafka
@pytest.mark.usefixtures("programs")
def test_a_stranger_tries_what_it_says_and_finds_it_there_the_next_day(tmp_path: Path) -> None:
    """Commands work as printed, and yesterday's too; a kill leaves no process behind either."""
    environ = clean_environment(**NO_DOCKER)  # a container's data would be gone
    with make_run(tmp_path, environ) as first:
        try_all(first)
        assert re.search(r"^kafka: Apache Kafka [0-9.]+ ", first.text, re.MULTILINE)
        assert "gateway: " not in first.text
        ends(first, signal.SIGINT)
    with make_run(tmp_path, environ) as second:
        in_a_shell(_with_address_of(started(second)[0], started(first)[0]))
        assert "6 older records are there already" in second.text
        pids = second.pids
        assert len(pids) > 3
        second.signal(signal.SIGKILL)
        wait_for_the_end_of(pids)


def _with_address_of(new: str, old: str) -> str:
    """The old command, with its key, for the port of the new one."""
    url = re.compile(r"http://\S+")
    address = url.search(new)
    assert address is not None
    return url.sub(address[0], old)


@pytest.mark.real_kafka
@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_early_signal_ends_it_as_well(tmp_path: Path, number: signal.Signals) -> None:
    """While the broker starts."""
    with make_run(tmp_path, clean_environment(**NO_DOCKER)) as running:
        wait_until((tmp_path / "kafka" / "node-1" / "kafka.log").exists)
        pids = running.pids
        running.signal(number)
        assert running.ended() == 0, running.text
        wait_for_the_end_of(pids)
        assert "Traceback" not in running.text


@pytest.fixture
def port_taken() -> Iterator[None]:
    """Somebody listens where the gateway usually does."""
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):  # then somebody does already
            held.enter_context(socket.create_server(("127.0.0.1", 8080)))
        yield


@pytest.fixture
def nothing_real(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine without Docker, Java and Maven."""
    return clean_environment(**NO_DOCKER, PATH=str(tmp_path), CI="")


@pytest.mark.kafka
@pytest.mark.usefixtures("port_taken")
def test_a_named_cluster_is_used_and_left_running(tmp_path: Path) -> None:
    """And so is a port that somebody else has: there are others."""
    with MockCluster() as named:
        environ = clean_environment(**{NAMED: named.bootstrap_servers})
        with make_run(tmp_path, environ) as running:
            try_all(running)
            assert f"kafka: the Kafka that {NAMED} names" in running.text
            assert "port 8080 is taken: " in running.text
            ends(running, signal.SIGINT)
        assert answers(named.bootstrap_servers)


@pytest.mark.kafka
def test_without_any_kafka_it_works_with_a_mock_and_says_so(
    tmp_path: Path, nothing_real: dict[str, str]
) -> None:
    """The events arrive, in memory."""
    with make_run(tmp_path, nothing_real) as running:
        try_all(running)
        assert "its data lives in memory" in running.text
        ends(running, signal.SIGTERM)


def test_a_folder_in_use_is_refused(tmp_path: Path, nothing_real: dict[str, str]) -> None:
    """Two would spoil each other's data."""
    with alone(tmp_path), make_run(tmp_path, nothing_real) as running:
        assert running.ended() == 1
        assert running.lines == [f"cannot start: it runs already, with its data in {tmp_path}"]


def test_a_gateway_that_dies_ends_it_with_a_word(tmp_path: Path) -> None:
    """And the place of its log."""
    with make_run(tmp_path, clean_environment(**{NAMED: "127.0.0.1:1"})) as running:
        wait_until(lambda: len(running.children) == 2)
        os.kill(min(running.children), signal.SIGKILL)  # the one that was started first
        assert running.ended() == 1
        assert running.lines[-1] == f"the gateway ended with -9: see {tmp_path / 'gateway.log'}"


@pytest.mark.parametrize(
    ("environ", "status", "said"),
    [
        ({"CI": "true"}, 1, r"^cannot start: no real Kafka to be had; Docker: .*; Maven: "),
        ({"INGEST_HTTP__PORT": "1"}, 2, r"^environment: INGEST_HTTP__PORT: unknown variable"),
    ],
)
def test_what_keeps_it_from_starting_is_told(
    tmp_path: Path, nothing_real: dict[str, str], environ: dict[str, str], status: int, said: str
) -> None:
    """In a line, not by a traceback."""
    with make_run(tmp_path, {**nothing_real, **environ}) as running:
        assert running.ended() == status
        assert re.search(said, running.text, re.MULTILINE)
        assert "Traceback" not in running.text


def test_a_kafka_that_does_not_answer_is_waited_for(tmp_path: Path) -> None:
    """That is said after a while; Ctrl-C ends the waiting."""
    with make_run(tmp_path, clean_environment(**{NAMED: "127.0.0.1:1"})) as running:
        running.line(lambda line: line.startswith("waiting for Kafka at 127.0.0.1:1: "))
        ends(running, signal.SIGINT)


def test_make_run_is_that_program() -> None:
    """With what it needs installed before."""
    command = ["make", "--no-print-directory", "--dry-run", "run"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said.splitlines()[-1].endswith("python -m deploy.local")
