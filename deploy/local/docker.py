"""Apache Kafka in containers, through testcontainers.

testcontainers' own ``KafkaContainer`` is for Confluent's image only, and a port that Docker chooses
changes with every restart; so the plain container is used, with ports that are chosen here.
"""

from __future__ import annotations

import contextlib
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

import docker
from docker.errors import DockerException
from requests.exceptions import RequestException
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network

from deploy.local.answering import await_answer
from deploy.local.errors import BrokerFailed, Unavailable
from deploy.local.ports import free_ports
from deploy.local.properties import CLUSTER_ID, common_properties

if TYPE_CHECKING:
    from collections.abc import Mapping

PING_SECONDS = 3
STOP_SECONDS = 30
ERRORS = (DockerException, RequestException, OSError, BrokerFailed)


def require_engine() -> None:
    """See that a Docker engine answers on this machine.

    Raises:
        Unavailable: none does, or it is elsewhere: its containers are not at 127.0.0.1.
    """
    try:
        with contextlib.closing(docker.from_env(timeout=PING_SECONDS)) as client:
            client.ping()
            address = str(client.api.base_url)
    except (DockerException, RequestException, OSError) as error:
        raise Unavailable(f"no engine answers ({type(error).__name__})") from error
    if "127.0.0.1" not in address and "localhost" not in address and "docker" not in address:
        raise Unavailable(f"the engine is not on this machine but at {address}")


def variable(setting: str) -> str:
    """The name of the image's environment variable for a broker setting."""
    return "KAFKA_" + setting.replace("_", "___").replace("-", "__").replace(".", "_").upper()


class DockerNode:
    """One broker in its container. Every method blocks."""

    def __init__(self, number: int, port: int, container: DockerContainer) -> None:
        self.id = number
        self.port = port
        self._container = container

    @property
    def _handle(self) -> Any:
        handle = self._container.get_wrapped_container()
        handle.reload()
        return handle

    @property
    def running(self) -> bool:
        """Whether the container runs, paused or not."""
        return self._handle.status in {"running", "paused"}

    @property
    def pid(self) -> int | None:
        """The broker's process id as the engine's machine sees it; None while it does not run."""
        return self._handle.attrs["State"]["Pid"] or None

    def start(self) -> None:
        """Start the broker and wait until it answers.

        Raises:
            BrokerFailed: it ended or did not answer within 60 s.
        """
        self._handle.start()
        self.await_answer({self.id})

    def await_answer(self, ids: set[int]) -> None:
        """Wait until this broker answers and names the brokers ``ids`` as alive.

        Raises:
            BrokerFailed: it ended or did not answer within 60 s.
        """
        try:
            await_answer(f"127.0.0.1:{self.port}", ids, self._check)
        except TimeoutError as error:
            raise BrokerFailed(f"{error}; its log ends:\n{self._tail()}") from error

    def stop(self) -> None:
        """End the broker in good order."""
        self.resume()
        self._handle.stop(timeout=STOP_SECONDS)

    def kill(self) -> None:
        """End the broker at once, as a crash would."""
        if self.running:
            self._handle.kill()
            self._handle.wait()

    def pause(self) -> None:
        """Freeze the broker: connections stay, nothing is answered."""
        self._handle.pause()

    def resume(self) -> None:
        """Let a paused broker go on."""
        if self._handle.status == "paused":
            self._handle.unpause()

    def restart(self) -> None:
        """Stop and start."""
        self.stop()
        self.start()

    def _check(self) -> None:
        if not self.running:
            raise BrokerFailed(f"broker {self.id} ended; its log ends:\n{self._tail()}")

    def _tail(self) -> str:
        return bytes(self._handle.logs(tail=30)).decode(errors="replace")


class DockerCluster:
    """A started cluster of ``apache/kafka`` containers; their data ends with them.

    Raises:
        Unavailable: no engine answers, or the image cannot be had or does not run.
    """

    kind = "docker"
    real = True

    def __init__(self, version: str, brokers: int, config: Mapping[str, str]) -> None:
        require_engine()
        self._started = ExitStack()
        self.nodes: list[DockerNode] = []
        try:
            self._start(f"apache/kafka:{version}", free_ports(brokers), config)
        except ERRORS as error:
            self.close()
            raise Unavailable(f"apache/kafka:{version} does not run: {error}") from error
        except BaseException:
            self.close()
            raise
        self.bootstrap_servers = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        self.description = (
            f"Apache Kafka {version} in Docker, {self.bootstrap_servers},"
            " data in the container and gone at the end"
        )

    def close(self) -> None:
        """Remove the containers, with their data."""
        self._started.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _start(self, image: str, ports: list[int], config: Mapping[str, str]) -> None:
        network = self._started.enter_context(Network())
        for number, port in enumerate(ports, start=1):
            container = _container(image, number, port, len(ports), config)
            container.with_network(network).with_network_aliases(f"kafka-{number}")
            self._started.enter_context(container)
            self.nodes.append(DockerNode(number, port, container))
        for node in self.nodes:
            node.await_answer({each.id for each in self.nodes})


def _container(
    image: str, number: int, port: int, brokers: int, config: Mapping[str, str]
) -> DockerContainer:
    settings = {
        "process.roles": "broker,controller",
        "node.id": str(number),
        "controller.quorum.voters": ",".join(f"{n}@kafka-{n}:9094" for n in range(1, brokers + 1)),
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "INSIDE",
        "listeners": "PLAINTEXT://:9092,INSIDE://:9093,CONTROLLER://:9094",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port},INSIDE://kafka-{number}:9093",
        "listener.security.protocol.map": (
            "PLAINTEXT:PLAINTEXT,INSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT"
        ),
        **common_properties(brokers),
        **config,
    }
    container = DockerContainer(image).with_env("CLUSTER_ID", CLUSTER_ID)
    container.with_envs(**{variable(name): value for name, value in settings.items()})
    container.with_bind_ports(9092, port)
    return container
