"""Settings of a broker for tests: small, quick, and as durable as the number of brokers allows."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CLUSTER_ID = "bG9jYWwta2Fma2EtMDAwMQ"
"""22 characters of base64, as Kafka wants: the same for all, data is told apart by its folder."""


def broker_properties(number: int, port: int, controllers: Sequence[int]) -> dict[str, str]:
    """The settings of node ``number`` that listens at 127.0.0.1:``port``.

    Args:
        number: the node id, counted from 1.
        port: where clients connect.
        controllers: the controller's port of every node, by number.
    """
    voters = ",".join(f"{n}@127.0.0.1:{port}" for n, port in enumerate(controllers, start=1))
    listen = f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controllers[number - 1]}"
    return {
        "process.roles": "broker,controller",
        "node.id": str(number),
        "controller.quorum.voters": voters,
        "controller.listener.names": "CONTROLLER",
        "listeners": listen,
        **common_properties(len(controllers)),
    }


def common_properties(brokers: int) -> dict[str, str]:
    """The settings that all brokers of a cluster share, wherever it runs."""
    replicas, in_sync = str(min(3, brokers)), "2" if brokers >= 3 else "1"
    return {
        "auto.create.topics.enable": "false",
        "default.replication.factor": replicas,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": replicas,
        "offsets.topic.num.partitions": "1",  # fifty make the first consumer wait
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": in_sync,
        "transaction.state.log.num.partitions": "1",
        "share.coordinator.state.topic.replication.factor": replicas,
        "share.coordinator.state.topic.min.isr": in_sync,
        "share.coordinator.state.topic.num.partitions": "1",
        "group.initial.rebalance.delay.ms": "0",
        # A killed broker may not come back before its old session is over: 9 s by default.
        "broker.session.timeout.ms": "2000",
        "broker.heartbeat.interval.ms": "250",
        "log.cleaner.dedupe.buffer.size": "4194304",  # else a quarter of our heap
    }


def as_properties(settings: Mapping[str, str]) -> str:
    """The text of a Java properties file."""
    return "".join(f"{name}={value}\n" for name, value in settings.items())
