"""A running gateway takes new sources, keys, schemas and certificates, or keeps the ones it has."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import ssl
import urllib.request
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import trustme

from ingest import toml
from loadtest.gateway import Process, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import Kafka

SECONDS = 15.0
SCHEMA = {"type": "object", "required": ["total"], "properties": {"total": {"minimum": 0}}}


def digest(key: str) -> str:
    """What the configuration has of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


class Running:
    """A gateway of two workers with a configuration that can be rewritten.

    Attributes:
        folder: where its files are.
        settings: its configuration, as it was last written.
    """

    def __init__(self, folder: Path, kafka: Kafka, stack: ExitStack) -> None:
        self.folder = folder
        self.settings: dict[str, Any] = {
            "sources_dir": "sources.d",
            "http": {"listen": "127.0.0.1:0", "workers": 2},
            "management": {"http": "127.0.0.1:0"},
            "service": {"prestop_seconds": 0},
            "kafka": {"bootstrap_servers": kafka.servers},
            "dead_letter": {"topic": kafka.new_name("rejected")},
            "auth": {"keys": {"shop": {"sha256": [digest("one")], "sources": ["*"]}}},
            "sources": {"orders": {"topic": kafka.new_name("orders")}},
        }
        (folder / "sources.d").mkdir()
        self._stack = stack
        self.process: Process

    def write(self) -> None:
        """Write the configuration."""
        (self.folder / "ingest.toml").write_text(toml.dumps(self.settings))

    def start(self) -> None:
        """Write the configuration, and start."""
        self.write()
        command = ("-m", "ingest_http", "--config", str(self.folder / "ingest.toml"))
        self.process = Process(command, ("http", "management"))
        self._stack.callback(self.process.stop)
        self.process.wait_for_addresses()
        until(self._ready)

    def reload(self, *, event: str = "reloaded") -> dict[str, Any]:
        """Send SIGHUP; what is logged of it, once it is in force everywhere."""
        known, version = len(self.process.logged(event)), self.status()["config"]["version"]
        os.kill(self.process.pid, signal.SIGHUP)
        until(lambda: len(self.process.logged(event)) > known)
        if event == "reloaded":
            until(lambda: set(self.status()["config"]["workers"]) == {version + 1})
        return self.process.logged(event)[-1]

    def status(self) -> dict[str, Any]:
        """The document of the management port."""
        return self._ask("/status")

    def degraded(self) -> dict[str, str]:
        """What ``/readyz`` says is wrong although it is ready."""
        return self._ask("/readyz")["degraded"]

    def _ready(self) -> bool:
        return self.status()["ready"]

    def _ask(self, path: str) -> dict[str, Any]:
        url = f"http://{self.process.addresses['management']}{path}"
        with urllib.request.urlopen(url, timeout=5) as answer:
            return json.load(answer)

    async def post(
        self, source: str = "orders", event: bytes = b"{}", *, key: str = "one", **options: Any
    ) -> tuple[int, dict[str, Any]]:
        """Status and document of the answer to an event, on a connection of its own."""
        scheme = "https" if options else "http"
        url = f"{scheme}://{self.process.addresses['http']}/v1/events/{source}"
        headers = {"X-API-Key": key, "Content-Type": "application/json"}
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, data=event, headers=headers, **options) as answer,
        ):
            return answer.status, await answer.json(content_type=None)

    async def each_answers(self, status: int, *arguments: Any, **options: Any) -> bool:
        """Whether ten connections, which reach every worker but by a bad chance, all get this."""
        found = [await self.post(*arguments, **options) for _ in range(10)]
        return {each[0] for each in found} == {status}


def until(condition: Callable[[], Any]) -> None:
    """Wait until ``condition()`` holds."""
    wait_until(condition, SECONDS, "it does not hold in time")


@pytest.fixture
def running(tmp_path: Path, kafka: Kafka) -> Iterator[Running]:
    """A gateway that is about to start."""
    with ExitStack() as stack:
        yield Running(tmp_path, kafka, stack)


async def test_sources_and_keys_are_taken_together(running: Running, kafka: Kafka) -> None:
    """A new source has its topic, a removed one is gone, and so it is with keys."""
    running.start()
    assert await running.each_answers(200)
    topic = kafka.new_name("clicks")
    (running.folder / "sources.d" / "clicks.toml").write_text(f"topic = {topic!r}\nkey = '/user'")
    running.settings["sources"] = {"payments": running.settings["sources"]["orders"]}
    running.settings["auth"]["keys"]["shop"]["sha256"] = [digest("two")]
    running.write()
    told = running.reload()
    assert set(told["changed"]) == {
        "auth.keys.shop.sha256: changed",
        "sources.clicks: added",
        "sources.orders: removed",
        "sources.payments: added",
    }
    assert await running.each_answers(401)
    assert await running.each_answers(404, key="two")
    assert await running.each_answers(200, "payments", key="two")
    status, answer = await running.post("clicks", b'{"user":"u"}', key="two")
    assert (status, answer["accepted"]) == (200, 1)
    (record,) = kafka.read(topic)
    assert record.key == b"u"
    assert set(running.status()["sources"]) == {"payments", "clicks"}


async def test_a_key_is_rotated_without_a_gap(running: Running) -> None:
    """Old and new one work at the same time, and every request in between is served."""
    running.start()
    statuses, stop = [], asyncio.Event()

    async def send() -> None:
        while not stop.is_set():
            statuses.append((await running.post())[0])

    sending = asyncio.create_task(send())
    running.settings["auth"]["keys"]["shop"]["sha256"] = [digest("one"), digest("two")]
    running.write()
    await asyncio.to_thread(running.reload)
    assert await running.each_answers(200, key="one")
    assert await running.each_answers(200, key="two")
    stop.set()
    await sending
    assert len(statuses) > 3
    assert set(statuses) == {200}
    del running.settings["auth"]["keys"]["shop"]["sha256"][0]
    running.write()
    await asyncio.to_thread(running.reload)
    assert await running.each_answers(401, key="one")
    assert await running.each_answers(200, key="two")


async def test_a_schema_is_taken_when_it_is_fine(running: Running) -> None:
    """One that is not changes nothing, and neither does what stands next to it."""
    schema = running.folder / "order.json"
    schema.write_text("{}")
    running.settings["sources"]["orders"]["schema"] = "order.json"
    running.start()
    assert await running.each_answers(200)
    schema.write_text('{"type": "nonsense"}')
    running.settings["sources"]["more"] = {}
    running.write()
    failed = running.reload(event="reload_failed")
    assert "sources.orders.schema" in failed["problems"][0]
    assert await running.each_answers(200)
    assert await running.each_answers(404, "more")
    assert "configuration" in running.degraded()
    assert running.status()["config"]["last_error"]
    schema.write_text(json.dumps(SCHEMA))
    assert running.reload()["changed"] == ["sources.orders.schema: changed", "sources.more: added"]
    assert await running.each_answers(422)
    assert running.degraded() == {}
    assert running.status()["config"]["last_error"] is None


async def test_what_needs_a_restart_is_named_and_left_as_it_is(running: Running) -> None:
    """It is never half in force."""
    running.start()
    running.settings["limits"] = {"batch_events": 1}
    running.write()
    assert running.reload(event="restart_needed")["keys"] == ["limits.batch_events"]
    assert await running.each_answers(200, event=b"[{},{}]")


async def test_what_is_dangerous_is_warned_of_when_it_takes_effect(running: Running) -> None:
    """Not only at the start."""
    running.start()
    assert not running.process.logged("authentication_is_off")
    running.settings["auth"]["required"] = False
    running.write()
    running.reload()
    until(lambda: running.process.logged("authentication_is_off"))
    assert await running.each_answers(401, key="wrong")


async def test_a_worker_that_is_replaced_has_what_was_taken_not_what_is_there(
    running: Running,
) -> None:
    """Files that became bad after the last good reload harm nobody."""
    schema = running.folder / "order.json"
    schema.write_text("{}")
    running.start()
    running.settings["sources"]["orders"]["schema"] = "order.json"
    running.write()
    running.reload()
    schema.write_text("{")
    for worker in running.status()["workers"]:
        os.kill(worker["pid"], signal.SIGKILL)
    until(lambda: [each["restarts"] for each in running.status()["workers"]] == [1, 1])
    until(lambda: running.status()["ready"])
    assert await running.each_answers(200)
    assert running.status()["config"]["workers"] == [1, 1]


async def test_certificates_are_exchanged_under_traffic(running: Running) -> None:
    """New connections get the new one; old ones go on."""
    old, new = trustme.CA(), trustme.CA()
    tls = {"cert": "cert.pem", "key": "key.pem"}

    def issue(authority: trustme.CA) -> None:
        issued = authority.issue_cert("127.0.0.1")
        issued.cert_chain_pems[0].write_to_path(str(running.folder / "cert.pem"))
        issued.private_key_pem.write_to_path(str(running.folder / "key.pem"))

    def trust(authority: trustme.CA) -> ssl.SSLContext:
        context = ssl.create_default_context()
        authority.configure_trust(context)
        return context

    issue(old)
    running.settings["http"]["tls"] = tls
    running.start()
    url = f"https://{running.process.addresses['http']}/v1/events/orders"
    headers = {"X-API-Key": "one", "Content-Type": "application/json"}
    connector = aiohttp.TCPConnector(limit=1, ssl=trust(old))
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        assert (await session.post(url, data=b"{}")).status == 200
        issue(new)
        told = await asyncio.to_thread(running.reload)
        assert set(told["changed"]) == {"http.tls.cert: changed", "http.tls.key: changed"}
        assert (await session.post(url, data=b"{}")).status == 200
    assert await running.each_answers(200, ssl=trust(new))
    with pytest.raises(aiohttp.ClientConnectorCertificateError):
        await running.post(ssl=trust(old))
    (running.folder / "key.pem").write_text("no key")
    assert await asyncio.to_thread(running.reload, event="reload_failed")
    assert await running.each_answers(200, ssl=trust(new))
