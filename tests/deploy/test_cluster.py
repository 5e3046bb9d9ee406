"""Which cluster is taken, and that it is said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from deploy.local import cluster, start_cluster
from deploy.local.errors import BrokerFailed, NoRealKafka, Unavailable
from deploy.local.mock import MockCluster

if TYPE_CHECKING:
    from deploy.local.cluster import Wanted

NAMED = "INGEST_KAFKA__BOOTSTRAP_SERVERS"
pytestmark = pytest.mark.usefixtures("nothing_there")


def test_a_named_cluster_comes_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is real, nobody may disturb it, and it is told by the variable that named it."""
    monkeypatch.setenv(NAMED, "kafka.example:9092")
    monkeypatch.setenv("CI", "true")
    with start_cluster() as found:
        assert (found.kind, found.real, list(found.nodes)) == ("external", True, [])
        assert found.bootstrap_servers == "kafka.example:9092"
    said = f"kafka: the Kafka that {NAMED} names, kafka.example:9092\n"
    assert capsys.readouterr().err == said


def test_who_disturbs_brokers_gets_others_than_the_named_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever the variable says."""
    monkeypatch.setenv(NAMED, "kafka.example:9092")
    with start_cluster(own=True) as found:
        assert found.kind == "mock"


def test_the_mock_is_the_last_resort_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """That its data lives in memory, and why there is nothing better, each reason in one line."""
    with start_cluster() as found:
        assert (found.kind, found.real) == ("mock", False)
    said = capsys.readouterr().err
    assert said.startswith(f"kafka: a mock in this process, {found.bootstrap_servers};")
    assert "its data lives in memory and is gone at the end" in said
    docker, maven = said.index("Docker: no engine answers"), said.index("Maven: there is no java")
    assert docker < maven
    assert said.count("\n") == 1


@pytest.mark.parametrize(("ci", "wanted"), [("true", {}), ("", {"real": True})])
def test_no_real_kafka_is_a_failure_where_one_is_required(
    monkeypatch: pytest.MonkeyPatch, ci: str, wanted: dict[str, bool]
) -> None:
    """Under CI=true always; the error has the reason for every kind."""
    monkeypatch.setenv("CI", ci)
    with pytest.raises(NoRealKafka, match=r"no real Kafka to be had; Docker: .*; Maven: "):
        start_cluster(**wanted)


def test_a_mock_that_is_asked_for_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even under CI=true, or where a real cluster is named."""
    monkeypatch.setenv("CI", "true")
    monkeypatch.setenv(NAMED, "kafka.example:9092")
    with start_cluster(mock=True) as found:
        assert found.kind == "mock"


def _start(kind: str, asked: list[str]) -> object:
    def start(wanted: Wanted) -> MockCluster:
        asked.append(kind)
        if kind in wanted.config:
            raise Unavailable(wanted.config[kind])
        return MockCluster(wanted.brokers)

    return start


@pytest.mark.parametrize(
    ("missing", "expected"),
    [({}, ["docker"]), ({"docker": "no"}, ["docker", "maven"])],
    ids=["both", "Maven alone"],
)
def test_docker_comes_before_maven(
    monkeypatch: pytest.MonkeyPatch, missing: dict[str, str], expected: list[str]
) -> None:
    """What comes later is not even asked once something is there."""
    asked: list[str] = []
    for kind in ("docker", "maven"):
        monkeypatch.setattr(cluster, f"start_{kind}", _start(kind, asked))
    with start_cluster(real=True, config=missing):
        assert asked == expected


def test_a_broker_that_fails_is_no_reason_for_something_less(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Kafka that is there and does not run is told, not replaced by a mock."""

    def fail(_: Wanted) -> None:
        raise BrokerFailed("ended with 1")

    monkeypatch.setattr(cluster, "start_maven", fail)
    with pytest.raises(BrokerFailed, match="ended with 1"):
        start_cluster()
