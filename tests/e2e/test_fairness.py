"""One client that floods takes nothing from another: neither answers nor their speed."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from asyncio.subprocess import PIPE, create_subprocess_exec
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp

from loadtest.gateway import ROOT, more_clients

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from loadtest.gateway import Gateway
    from tests.conftest import Kafka

QUOTA, BATCH = 2000, 100
"""The flooder's, in events per second and in events of a request."""
SECONDS = 8.0
INTERVAL_SECONDS = 0.01
FLOODER = "the flooder's key"


class Witness:
    """A client with a key of its own that sends a small batch again and again.

    Attributes:
        statuses: of its answers.
        waits: the seconds that each took.
    """

    def __init__(self, url: str, key: str) -> None:
        self.statuses: Counter[int] = Counter()
        self.waits: list[float] = []
        self._url = f"{url}/v1/events/load"
        self._headers = {"X-API-Key": key, "Content-Type": "application/json"}

    async def watch(self, seconds: float) -> float:
        """Send for so long; the 99th percentile of the waits, in seconds."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        async with aiohttp.ClientSession(headers=self._headers) as session:
            while loop.time() < until:
                begun = loop.time()
                async with session.post(self._url, data=b"[{},{},{}]") as answer:
                    await answer.read()
                self.statuses[answer.status] += 1
                self.waits.append(loop.time() - begun)
                await asyncio.sleep(INTERVAL_SECONDS)
        return sorted(self.waits)[int(len(self.waits) * 0.99)]


@asynccontextmanager
async def at_its_quota(url: str) -> AsyncIterator[None]:
    """A flooder that keeps to its quota: as many events a second as it may send."""

    async def send() -> None:
        headers = {"X-API-Key": FLOODER, "Content-Type": "application/json"}
        body = b"[%b]" % b",".join([b"{}"] * BATCH)
        async with aiohttp.ClientSession(headers=headers) as session:
            while True:
                async with session.post(f"{url}/v1/events/load", data=body) as answer:
                    await answer.read()
                await asyncio.sleep(BATCH / QUOTA)

    sending = asyncio.create_task(send())
    yield
    sending.cancel()
    await asyncio.wait([sending])


@asynccontextmanager
async def flooding(url: str, figures: dict[str, Any]) -> AsyncIterator[None]:
    """A flooder that sends as fast as it can, and takes no notice of refusals."""
    options = ("--url", url, "--key", FLOODER, "--batch", str(BATCH), "--connections", "32")
    command = ("-m", "loadtest.generator", *options, "--seconds", str(SECONDS), "--pause", "0")
    flooder = await create_subprocess_exec(sys.executable, *command, stdout=PIPE, cwd=ROOT)
    yield
    printed, _ = await flooder.communicate()
    figures |= json.loads(printed)


async def test_a_flood_takes_nothing_from_another_key(
    kafka: Kafka, start_gateway: Callable[..., Gateway]
) -> None:
    """None of its requests is refused, and they take at most twice the time, or 100 ms."""
    quota = {
        "sha256": [hashlib.sha256(FLOODER.encode()).hexdigest()],
        "sources": ["*"],
        "events_per_second": QUOTA,
    }
    topic = {"topic": kafka.create(kafka.new_name())}
    settings = {"auth.keys.flooder": quota, "sources.load": topic}
    gateway = start_gateway(kafka.servers, settings)
    calm, flooded, figures = (
        Witness(gateway.url, gateway.key),
        Witness(gateway.url, gateway.key),
        {},
    )
    async with at_its_quota(gateway.url):
        before = await calm.watch(SECONDS)
    async with flooding(gateway.url, figures):
        during = await flooded.watch(SECONDS)
    assert calm.statuses.keys() == flooded.statuses.keys() == {200}
    assert figures["statuses"]["429"] > 1000, "there was a flood"
    allowed = QUOTA * (figures["seconds"] + 1) + 32 * BATCH
    assert figures["events_acked"] <= allowed
    assert during <= max(2 * before, 0.1)


async def test_bodies_that_are_hard_to_read_keep_nobody_waiting(
    kafka: Kafka, start_gateway: Callable[..., Gateway]
) -> None:
    """They are read one at a time, elsewhere; others wait for some of its steps at most."""
    clients, (flooder,) = more_clients(1)
    topic = {"topic": kafka.create(kafka.new_name())}
    gateway = start_gateway(kafka.servers, {**clients, "sources.load": topic})
    calm, flooded = Witness(gateway.url, gateway.key), Witness(gateway.url, gateway.key)
    before = await calm.watch(2)
    body = b'{"a":[%b[]]}' % (b"[]," * 290_000)
    statuses: Counter[int] = Counter()

    async def flood() -> None:
        headers = {"X-API-Key": flooder, "Content-Type": "application/json"}
        async with aiohttp.ClientSession(headers=headers) as session:
            while True:
                async with session.post(f"{gateway.url}/v1/events/load", data=body) as answer:
                    await answer.read()
                    statuses[answer.status] += 1

    floods = [asyncio.create_task(flood()) for _ in range(20)]
    await asyncio.sleep(0.5)
    during = await flooded.watch(SECONDS)
    for each in floods:
        each.cancel()
    await asyncio.wait(floods)
    assert flooded.statuses.keys() == {200}
    assert sum(statuses.values()) > 20, "there was a flood"
    assert during <= max(2 * before, 0.25)  # which this process, that floods as well, adds to
