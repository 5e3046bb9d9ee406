"""Choose the best Kafka cluster that can be had here, and say which it is."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, Self

from deploy.local.errors import NoRealKafka, Unavailable
from deploy.local.external import VARIABLE, ExternalCluster
from deploy.local.java import KafkaPrograms
from deploy.local.kafka import KafkaCluster
from deploy.local.mock import MockCluster

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

KAFKA_VERSION = "4.3.1"


class Node(Protocol):
    """One broker that can be disturbed. Every method blocks until it is done."""

    @property
    def id(self) -> int:
        """The node id, counted from 1."""

    @property
    def port(self) -> int:
        """Where clients connect; stays the same."""

    @property
    def pid(self) -> int | None:
        """The broker's process id; None while it does not run."""

    @property
    def running(self) -> bool:
        """Whether there is a process, paused or not."""

    def start(self) -> None:
        """Start the broker and wait until it answers."""

    def stop(self) -> None:
        """End the broker in good order."""

    def kill(self) -> None:
        """End the broker as a crash would."""

    def pause(self) -> None:
        """Freeze the broker: connections stay, nothing is answered."""

    def resume(self) -> None:
        """Let a paused broker go on."""

    def restart(self) -> None:
        """Stop and start."""


class Cluster(Protocol):
    """A running Kafka cluster; a context manager that closes it."""

    @property
    def kind(self) -> str:
        """One of external, docker, maven, mock."""

    @property
    def real(self) -> bool:
        """Whether it is Apache Kafka."""

    @property
    def bootstrap_servers(self) -> str:
        """Comma-separated host:port."""

    @property
    def nodes(self) -> Sequence[Node]:
        """The brokers that may be disturbed; none of an external or a mock cluster."""

    @property
    def description(self) -> str:
        """What it is and what becomes of its data, for people."""

    def close(self) -> None:
        """End what was started."""

    def __enter__(self) -> Self:
        """The cluster itself."""

    def __exit__(self, *exc: object) -> None:
        """Close it."""


@dataclass(frozen=True)
class Wanted:
    """What a cluster of our own shall be like; see `start_cluster`."""

    brokers: int = 1
    config: dict[str, str] = field(default_factory=dict)
    data_dir: Path | None = None
    kafka_version: str = KAFKA_VERSION


def start_cluster(
    *,
    brokers: int = 1,
    own: bool = False,
    real: bool = False,
    mock: bool = False,
    config: dict[str, str] | None = None,
    data_dir: Path | None = None,
    kafka_version: str = KAFKA_VERSION,
) -> Cluster:
    """Start or find a cluster, in this order: the named one, Docker, Java with Maven, a mock.

    Which one it is goes to standard error in one line.

    Args:
        brokers: how many; not heeded by a named cluster.
        own: not the named one: for whoever disturbs the brokers.
        real: not the mock. Also so where the variable ``CI`` is ``true``.
        mock: the mock, whatever else there is.
        config: broker settings by their names in Kafka; only for brokers that we start.
        data_dir: where the data stays; by default it is deleted at the end. A container keeps its
            data inside, and loses it at the end.
        kafka_version: of the brokers that we start.

    Raises:
        NoRealKafka: a real one is required, and there is none.
        BrokerFailed: a broker was started and does not run.
    """
    wanted = Wanted(brokers, config or {}, data_dir, kafka_version)
    named = os.environ.get(VARIABLE)
    if mock:
        cluster: Cluster = MockCluster(brokers)
    elif named and not own:
        cluster = ExternalCluster(named)
    else:
        cluster = _start_own(wanted, real=real or os.environ.get("CI") == "true")
    print(f"kafka: {cluster.description}", file=sys.stderr, flush=True)
    return cluster


def _start_own(wanted: Wanted, *, real: bool) -> Cluster:
    reasons = []
    for kind, start in (("Docker", start_docker), ("Maven", start_maven)):
        try:
            return start(wanted)
        except Unavailable as reason:
            reasons.append(f"{kind}: {reason}")
    if real:
        raise NoRealKafka(reasons)
    return MockCluster(wanted.brokers, reasons)


def start_docker(wanted: Wanted) -> Cluster:
    """Brokers in containers.

    Raises:
        Unavailable: no Docker engine answers, or it cannot run the image.
    """
    from deploy.local.docker import DockerCluster  # noqa: PLC0415 - slow to import, seldom there

    return DockerCluster(wanted.kafka_version, wanted.brokers, wanted.config)


def start_maven(wanted: Wanted) -> Cluster:
    """Brokers as child processes, from the jars that Maven downloads.

    Raises:
        Unavailable: Java 17 or Maven is missing.
        BrokerFailed: a broker does not run.
    """
    programs = KafkaPrograms.find(wanted.kafka_version)
    return KafkaCluster(programs, wanted.brokers, wanted.config, wanted.data_dir)
