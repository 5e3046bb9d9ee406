"""Makes the faults of a round happen, sees that they did, and notes when."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from loadtest.campaign_plan import BOUNCE, FREEZE, KILL
from loadtest.campaign_services import FaultMissing, alive, state

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from deploy.local.cluster import Node
    from loadtest.campaign_plan import BrokerFault, GatewayKill
    from loadtest.campaign_services import Service

SETTLE_SECONDS = 30.0


class Happened(NamedTuple):
    """A fault that was seen; times are of `time.monotonic`.

    Attributes:
        name: its kind.
        service: whose processes were killed; empty for the broker.
        began: just before it was made.
        ended: when it was seen to be over; of a killed worker: to be dead.
        backlog: way in -> events in the spools just before.
        away: of the broker: from when until when it certainly took nothing.
    """

    name: str
    service: str
    began: float
    ended: float
    backlog: Mapping[str, int] = {}
    away: tuple[float, float] = (0.0, 0.0)


class Broker:
    """A broker that is disturbed, as somebody sees it who asks it now and then.

    Args:
        node: the only broker of its cluster.
        bootstrap_servers: where it is.
    """

    def __init__(self, node: Node, bootstrap_servers: str) -> None:
        self.bootstrap_servers = bootstrap_servers
        self._node = node
        settings: dict[str, str | int | float | bool] = {
            "bootstrap.servers": bootstrap_servers,
            "reconnect.backoff.max.ms": 500,
            "log_level": 0,
        }
        self._admin = AdminClient(settings)  # has patience with one that has much to do
        self._look = AdminClient({**settings, "socket.timeout.ms": 1000})

    def suffer(self, fault: BrokerFault) -> tuple[float, float]:
        """Have ``fault``, whole; returns when the broker answers again.

        Returns:
            From when until when it took nothing.

        Raises:
            FaultMissing: it went on answering, or its process lived on.
        """
        node = self._node
        strike, mend = _WAYS[fault.kind]
        pid = node.pid or 0
        strike(node)
        struck = time.monotonic()
        try:
            frozen = fault.kind == FREEZE
            if (state(pid) != "T") if frozen else alive(pid):
                raise FaultMissing(f"{fault.name}: process {pid} is in state {state(pid)}")
            if not self._falls_silent():
                raise FaultMissing(f"{fault.name}: Kafka still answers")
            time.sleep(max(0.0, struck + fault.seconds - time.monotonic()))
        finally:
            mending = time.monotonic()
            mend(node)
        try:
            self._admin.list_topics(timeout=SETTLE_SECONDS)
        except KafkaException:
            raise TimeoutError(f"{fault.name}: Kafka does not answer again") from None
        return struck, mending

    def delete(self, topics: Collection[str]) -> None:
        """Delete topics: a broker that was killed reads all it has when it starts."""
        known = set(self._admin.list_topics(timeout=SETTLE_SECONDS).topics)
        for deleted in self._admin.delete_topics(sorted(known.intersection(topics))).values():
            deleted.result(SETTLE_SECONDS)

    def _answers(self) -> bool:
        try:
            self._look.list_topics(timeout=1)
        except KafkaException:
            return False
        return True

    def _falls_silent(self) -> bool:
        """What it said before may still be on its way."""
        give_up = time.monotonic() + SETTLE_SECONDS
        while self._answers():
            if time.monotonic() > give_up:
                return False
        return True


def _kill(node: Node) -> None:
    node.kill()


def _stop(node: Node) -> None:
    node.stop()


def _start(node: Node) -> None:
    node.start()


def _pause(node: Node) -> None:
    node.pause()


def _resume(node: Node) -> None:
    node.resume()


_WAYS = {KILL: (_kill, _start), BOUNCE: (_stop, _start), FREEZE: (_pause, _resume)}


async def disturb_broker(
    broker: Broker,
    services: Mapping[str, Service],
    faults: Sequence[BrokerFault],
    happened: list[Happened],
) -> None:
    """Have all ``faults``, one after the other, with some calm before each."""
    for fault in faults:
        await asyncio.sleep(fault.calm)
        happened.append(await asyncio.to_thread(_disturb, broker, services, fault))
        _tell(happened[-1])


async def kill_gateways(
    services: Mapping[str, Service], kills: Sequence[GatewayKill], happened: list[Happened]
) -> None:
    """Have all ``kills``, each at its time, or as soon as there is something to kill."""
    begun = time.monotonic()
    for kill in kills:
        await asyncio.sleep(max(0.0, begun + kill.at - time.monotonic()))
        service = services[kill.service]
        if kill.slot is not None:
            happened.append(await asyncio.to_thread(_kill_worker, service, kill))
        else:
            happened.append(await asyncio.to_thread(_kill_service, service, kill))
        _tell(happened[-1])


def _disturb(broker: Broker, services: Mapping[str, Service], fault: BrokerFault) -> Happened:
    backlog = {way: n for each in services.values() for way, n in each.backlog().items()}
    began = time.monotonic()
    away = broker.suffer(fault)
    return Happened(fault.name, "", began, time.monotonic(), backlog, away)


def _kill_worker(service: Service, kill: GatewayKill) -> Happened:
    pid = service.worker(kill.slot or 0)
    backlog, began = service.backlog(), time.monotonic()
    service.kill_worker(pid)
    return Happened("worker killed", kill.service, began, time.monotonic(), backlog)


def _kill_service(service: Service, kill: GatewayKill) -> Happened:
    backlog, began = service.backlog(), time.monotonic()
    service.kill()
    time.sleep(kill.away)
    service.start()
    return Happened("service killed", kill.service, began, time.monotonic(), backlog)


def _tell(fault: Happened) -> None:
    seconds = fault.ended - fault.began
    print(f"  {fault.name} {fault.service} ({seconds:.1f} s)", file=sys.stderr, flush=True)
