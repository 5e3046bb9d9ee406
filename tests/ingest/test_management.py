"""The management port: what balancers, scrapers and operators are told, and who may drain."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp.test_utils import make_mocked_request

from ingest.listening import address_of, bind
from ingest.management import Management
from ingest.status import STUCK_SECONDS, ConfigStatus, Seat, SpoolStatus, WorkerStatus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

READY = WorkerStatus(pid=1, kafka_up=True, inflight_bytes=7, connections={"http": 2})
AWAY = WorkerStatus(pid=1, reasons=["kafka_unreachable"])

FIRST = ConfigStatus(0, "2026-11-23T12:00:00Z")


@dataclass
class World:
    """A service as its management port sees it; change it at will."""

    seats: list[Seat] = field(default_factory=lambda: [Seat(0, 0, 0.0, READY)])
    config: ConfigStatus = FIRST
    sources: list[str] = field(default_factory=lambda: ["orders"])
    draining: bool = False
    now: float = 0.0
    drained: list[str] = field(default_factory=list)


@dataclass
class Port:
    """A management port that can be asked."""

    management: Management
    world: World
    session: aiohttp.ClientSession

    async def json(self, path: str) -> tuple[int, Any]:
        """Status and document of a GET."""
        async with self.session.get(path) as answer:
            assert answer.content_type == "application/json"
            return answer.status, await answer.json()


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[Port]:
    """A port of a service with one worker that is ready."""
    world = World()
    management = Management(
        "svc",
        seats=lambda: world.seats,
        config=lambda: world.config,
        about=lambda: {"listeners": {"http": "127.0.0.1:8080"}, "sources": world.sources},
        is_draining=lambda: world.draining,
        drain=world.drained.append,
        now=lambda: world.now,
        counters=tmp_path,
    )
    (listener,) = bind("127.0.0.1:0", 1)
    async with AsyncExitStack() as stack:
        await management.open(listener)
        stack.push_async_callback(management.close)
        url = f"http://{address_of(listener)}"
        session = await stack.enter_async_context(aiohttp.ClientSession(url))
        yield Port(management, world, session)


async def test_a_service_with_live_workers_is_alive(port: Port) -> None:
    """However long ago, within the limit."""
    port.world.now = STUCK_SECONDS
    assert await port.json("/livez") == (200, {"alive": True, "reasons": []})


async def test_a_silent_worker_makes_the_service_not_alive(port: Port) -> None:
    """So that whoever runs it restarts it."""
    port.world.now = STUCK_SECONDS + 1
    reasons = ["worker 0 has been silent for 16 seconds"]
    assert await port.json("/livez") == (503, {"alive": False, "reasons": reasons})


async def test_kafka_away_does_not_make_the_service_not_alive(port: Port) -> None:
    """A restart would not bring it back."""
    port.world.seats = [Seat(0, 0, 0.0, AWAY)]
    assert (await port.json("/livez"))[0] == 200


async def test_readiness_follows_the_workers(port: Port) -> None:
    """With reasons where there is none."""
    assert await port.json("/readyz") == (200, {"ready": True, "reasons": [], "degraded": {}})
    port.world.seats = [Seat(0, 0, 0.0, AWAY)]
    not_ready = {"ready": False, "reasons": ["kafka_unreachable"], "degraded": {}}
    assert await port.json("/readyz") == (503, not_ready)


async def test_an_unusable_topic_is_named_by_a_service_that_is_ready(port: Port) -> None:
    """The other sources are served."""
    degraded = {"orders": "topic_forbidden"}
    port.world.seats = [Seat(0, 0, 0.0, WorkerStatus(pid=1, degraded=degraded))]
    assert await port.json("/readyz") == (200, {"ready": True, "reasons": [], "degraded": degraded})


async def test_a_failed_reload_is_named_by_a_service_that_is_ready(port: Port) -> None:
    """It serves with the last good configuration, and says so wherever it is asked."""
    port.world.config = ConfigStatus(2, "2026-11-23T12:00:00Z", ("ingest.toml: no",))
    degraded = {"configuration": "the last reload failed: ingest.toml: no"}
    assert await port.json("/readyz") == (200, {"ready": True, "reasons": [], "degraded": degraded})
    status = (await port.json("/status"))[1]
    assert (status["config"]["last_error"], status["degraded"]) == (["ingest.toml: no"], degraded)
    async with port.session.get("/metrics") as answer:
        assert "ingest_config_last_reload_successful 0.0" in (await answer.text()).splitlines()


async def test_the_spool_is_told_of_wherever_it_is_asked_for(port: Port) -> None:
    """Kafka is away and the spool takes its place: ready, with what is in it."""
    spool = SpoolStatus({"orders": 3}, bytes=4096, oldest_seconds=1.5)
    degraded = {"kafka": "unreachable: events go to the spool"}
    port.world.seats = [Seat(0, 0, 0.0, WorkerStatus(pid=1, degraded=degraded, spool=spool))]
    assert await port.json("/readyz") == (200, {"ready": True, "reasons": [], "degraded": degraded})
    assert (await port.json("/status"))[1]["spool"] == {
        "bytes": 4096,
        "events": {"orders": 3},
        "oldest_seconds": 1.5,
        "room": True,
        "problems": [],
    }
    async with port.session.get("/metrics") as answer:
        assert "ingest_spool_events 3.0" in (await answer.text()).splitlines()


async def test_the_status_follows_the_configuration(port: Port) -> None:
    """What a reload brings is said from then on."""
    port.world.sources = ["orders", "clicks"]
    port.world.config = ConfigStatus(1, "2026-11-23T13:00:00Z")
    status = (await port.json("/status"))[1]
    assert status["sources"] == ["orders", "clicks"]
    assert status["config"] == {
        "version": 1,
        "loaded_at": "2026-11-23T13:00:00Z",
        "workers": [0],
        "last_error": None,
    }


async def test_a_draining_service_is_not_ready(port: Port) -> None:
    """From the first moment, so that balancers stop sending."""
    port.world.draining = True
    status, document = await port.json("/readyz")
    assert (status, document["reasons"]) == (503, ["draining"])
    assert (await port.json("/status"))[1]["draining"] is True


async def test_the_status_is_for_people(port: Port) -> None:
    """Kafka, bytes in flight, what is configured, connections, and every worker."""
    status, document = await port.json("/status")
    assert status == 200
    assert document["service"] == "svc"
    assert document["kafka"] == {"up": True}
    assert document["inflight_bytes"] == 7
    assert document["listeners"] == {"http": "127.0.0.1:8080"}
    assert document["sources"] == ["orders"]
    assert [worker["pid"] for worker in document["workers"]] == [1]


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("*/*", "text/plain"),
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text"),
    ],
)
async def test_metrics_are_there_in_the_form_that_is_asked_for(
    port: Port, accept: str, content_type: str
) -> None:
    """The gauges come from the workers' reports, in both forms."""
    async with port.session.get("/metrics", headers={"Accept": accept}) as answer:
        assert (answer.status, answer.content_type) == (200, content_type)
        assert 'ingest_connections{listener="http"} 2.0' in (await answer.text()).splitlines()


async def test_a_drain_can_be_asked_for_on_this_machine(port: Port) -> None:
    """It is answered before it has happened."""
    async with port.session.post("/drain") as answer:
        assert (answer.status, await answer.json()) == (202, {"draining": True})
    assert port.world.drained == ["management port"]


@pytest.mark.parametrize("origin", ["http://127.0.0.1:9090", "https://example.com", "null", ""])
async def test_a_drain_with_an_origin_is_refused(port: Port, origin: str) -> None:
    """A page in somebody's browser is not an operator, whatever page it is."""
    async with port.session.post("/drain", headers={"Origin": origin}) as answer:
        expected = {"draining": False, "code": "forbidden"}
        assert (answer.status, await answer.json()) == (403, expected)
    assert port.world.drained == []


@pytest.mark.parametrize(
    ("peer", "status"),
    [
        ("127.0.0.1", 202),
        ("127.8.9.10", 202),
        ("::1", 202),
        ("::ffff:127.0.0.1", 202),
        ("192.0.2.1", 403),
        ("10.0.0.1", 403),
        ("::ffff:192.0.2.1", 403),
        ("2001:db8::1", 403),
        ("fe80::1%eth0", 403),
        ("0.0.0.0", 403),
        ("", 403),
    ],
)
async def test_a_drain_is_refused_to_other_machines(port: Port, peer: str, status: int) -> None:
    """Only loopback addresses are this machine, in each of their spellings."""
    transport = SimpleNamespace(get_extra_info={"peername": (peer, 4711)}.get)
    request = make_mocked_request(
        "POST", "/drain", headers={"X-Forwarded-For": "127.0.0.1"}, transport=transport
    )
    assert (await port.management._post_drain(request)).status == status
    assert len(port.world.drained) == (status == 202)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/drain", 405),
        ("POST", "/readyz", 405),
        ("GET", "/", 404),
        ("GET", "/v1/events/orders", 404),
    ],
)
async def test_nothing_else_is_served(port: Port, method: str, path: str, status: int) -> None:
    """User traffic least of all, and a link cannot drain."""
    async with port.session.request(method, path) as answer:
        assert answer.status == status
    assert port.world.drained == []


async def test_a_closed_port_answers_nobody(port: Port) -> None:
    """It is closed last of all, and completely."""
    await port.management.close()
    with pytest.raises(aiohttp.ClientConnectionError):
        await port.json("/livez")
