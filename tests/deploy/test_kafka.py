"""Real brokers as child processes."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest

from deploy.local.errors import BrokerFailed
from deploy.local.kafka import KafkaCluster
from tests.deploy.processes import Program, clean_environment, gone, wait_for_the_end_of
from tests.deploy.records import answers, append, read, write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from deploy.local.cluster import Cluster, Node
    from deploy.local.java import KafkaPrograms

pytestmark = pytest.mark.real_kafka
STARTER = """
import sys, time
from deploy.local.cluster import Wanted, start_maven
print(*(node.pid for node in start_maven(Wanted()).nodes), flush=True)
time.sleep(60)
"""


@pytest.fixture(scope="module")
def one(programs: KafkaPrograms) -> Iterator[Cluster]:
    """A cluster of one broker; it runs when a test begins and when it ends."""
    with KafkaCluster(programs) as cluster:
        yield cluster


def _kill_and_start(node: Node) -> None:
    node.kill()
    assert not node.running
    node.start()


def _restart(node: Node) -> None:
    node.restart()


@pytest.mark.parametrize("disturb", [_kill_and_start, _restart])
def test_a_broker_comes_back_with_its_port_and_its_data(
    one: Cluster, disturb: Callable[[Node], None]
) -> None:
    """As another process, at the address that clients know, with what it had acknowledged."""
    (node,) = one.nodes
    topic, port, pid = write(one.bootstrap_servers, "before"), node.port, node.pid
    disturb(node)
    assert node.running
    assert (node.port, one.bootstrap_servers) == (port, f"127.0.0.1:{port}")
    assert node.pid not in {pid, None}
    append(one.bootstrap_servers, topic, "after")
    assert read(one.bootstrap_servers, topic, 2) == ["before", "after"]


def test_a_broker_that_is_down_does_not_answer_and_has_no_process(one: Cluster) -> None:
    """Clients are refused, and nothing is left of it in memory."""
    (node,) = one.nodes
    pid = node.pid
    node.stop()
    try:
        assert pid is not None
        assert gone([pid])
        assert (node.running, node.pid) == (False, None)
        assert not answers(one.bootstrap_servers, 0.5)
    finally:
        node.start()


def test_starting_a_broker_that_runs_changes_nothing(one: Cluster) -> None:
    """It stays the same process."""
    (node,) = one.nodes
    pid = node.pid
    node.start()
    assert node.pid == pid


def test_a_paused_broker_is_silent_until_it_goes_on(one: Cluster) -> None:
    """Its process is there all the time."""
    (node,) = one.nodes
    pid = node.pid
    node.pause()
    try:
        assert not answers(one.bootstrap_servers, 0.5)
        assert (node.running, node.pid) == (True, pid)
    finally:
        node.resume()
    assert answers(one.bootstrap_servers)
    assert node.pid == pid


def test_a_paused_broker_can_be_stopped(one: Cluster) -> None:
    """It is woken up for that, and need not be killed after half a minute."""
    (node,) = one.nodes
    node.pause()
    begun = time.monotonic()
    node.stop()
    assert time.monotonic() - begun < 15
    assert not node.running
    node.start()


def test_ports_are_below_those_that_linux_hands_out(one: Cluster) -> None:
    """So that no outgoing connection takes the port of a broker that is down."""
    assert all(node.port < 32768 for node in one.nodes)


def test_three_brokers_survive_the_loss_of_one(programs: KafkaPrograms) -> None:
    """What two have is acknowledged; all three end with the cluster."""
    with KafkaCluster(programs, 3) as cluster:
        assert [node.id for node in cluster.nodes] == [1, 2, 3]
        pids = [node.pid for node in cluster.nodes if node.pid is not None]
        assert len(set(pids)) == len({node.port for node in cluster.nodes}) == 3
        topic = write(cluster.bootstrap_servers, "with three")
        cluster.nodes[0].kill()
        append(cluster.bootstrap_servers, topic, "with two")
        assert read(cluster.bootstrap_servers, topic, 2) == ["with three", "with two"]
    assert gone(pids)


def test_named_data_stays_for_the_next_cluster(programs: KafkaPrograms, tmp_path: Path) -> None:
    """At other ports; and the description says where it is."""
    data = tmp_path / "data"
    with KafkaCluster(programs, data_dir=data) as first:
        topic = write(first.bootstrap_servers, "of the first")
        assert str(data) in first.description
    with KafkaCluster(programs, data_dir=data) as second:
        assert read(second.bootstrap_servers, topic) == ["of the first"]


def test_other_data_is_deleted(
    programs: KafkaPrograms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left in the folder for temporary files."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with KafkaCluster(programs) as cluster:
        assert len(list(tmp_path.iterdir())) == 1
        assert "in a temporary folder" in cluster.description
    assert not list(tmp_path.iterdir())


def test_a_broker_that_refuses_its_settings_is_an_error_with_its_words(
    programs: KafkaPrograms, tmp_path: Path
) -> None:
    """The end of its log says more than its exit status."""
    with pytest.raises(BrokerFailed, match=r"log\.segment\.bytes"):
        KafkaCluster(programs, config={"log.segment.bytes": "1"}, data_dir=tmp_path)


def test_brokers_end_with_a_process_that_is_killed(programs: KafkaPrograms, tmp_path: Path) -> None:
    """A test run that is killed leaves no broker behind."""
    with Program(["-c", STARTER], clean_environment(TMPDIR=str(tmp_path))) as starter:
        pids = [int(starter.line(str.isdigit))]
        assert not gone(pids)
        starter.signal(signal.SIGKILL)
        wait_for_the_end_of(pids)
