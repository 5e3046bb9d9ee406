"""One round of a campaign: fresh services and topics, load on all ways in, faults, verdict."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from loadtest.book import Book
from loadtest.campaign_faults import disturb_broker, kill_gateways
from loadtest.campaign_http import BATCH, CONNECTIONS, senders
from loadtest.campaign_ledger import Ledger
from loadtest.campaign_plan import HTTP, SYSLOG
from loadtest.campaign_read_back import Copies, read_values
from loadtest.campaign_relp import RelpClient
from loadtest.campaign_services import RELP, SOURCES, TCP, UDP, Service, services, topics
from loadtest.campaign_streams import Address, Messages, Stop, TcpClient, UdpClient
from loadtest.campaign_verdict import (
    DEAD_LETTERS,
    QUARANTINED,
    Circumstances,
    judge_http,
    judge_numbered,
)
from loadtest.read_back import read_back
from loadtest.sender import Amount
from loadtest.syslog_messages import messages
from loadtest.syslog_relp import WINDOW

if TYPE_CHECKING:
    from collections.abc import Collection, Coroutine, Iterator, Mapping

    from loadtest.campaign_faults import Broker, Happened
    from loadtest.campaign_plan import Round
    from loadtest.campaign_verdict import Verdict
    from loadtest.sender import Sender

RATES = {HTTP: 1500.0, TCP: 500.0, UDP: 500.0, RELP: 1000.0}
"""Events per second."""
SENDERS = {TCP: 2, UDP: 2, RELP: 2}
CLIENTS: dict[str, type[TcpClient | UdpClient | RelpClient]] = {
    TCP: TcpClient,
    UDP: UdpClient,
    RELP: RelpClient,
}
IN_FLIGHT = {HTTP: CONNECTIONS * BATCH, RELP: SENDERS[RELP] * WINDOW}
"""See `Circumstances`."""
POOL = 1000
"""Different messages of syslog; a power of ten."""
FLOW_SECONDS = 3.0
"""How long all is well before the first fault, and after the last one."""
READY_SECONDS = 60.0
REST_SECONDS = 120.0
"""How long the services may take until nothing is on its way any more."""
STABLE_SECONDS = 3.0
POLL_SECONDS = 0.25
LOOK_SECONDS = 1.0


class Outcome(NamedTuple):
    """What a round has shown.

    Attributes:
        verdicts: one for each way in.
        happened: the faults that were seen.
        seconds: from the first event to rest.
        rest_seconds: of that, from the last answer on.
        peak_bytes: by service: the most memory that one of its processes had.
    """

    verdicts: list[Verdict]
    happened: list[Happened]
    seconds: float
    rest_seconds: float
    peak_bytes: dict[str, int]


async def run_round(
    plan: Round, broker: Broker, *, spool: bool, keep: Path | None = None
) -> Outcome:
    """Run a round, from starting the services to ending them.

    Args:
        plan: what shall happen.
        broker: the only one of its cluster.
        spool: whether the services have one.
        keep: a folder for what the clients noted, what the services logged, and the spools; None:
            it is thrown away.

    Raises:
        FaultMissing: a fault did not happen.
        TimeoutError: the services did not come to rest.
        RuntimeError: a service ended with another status than 0.
    """
    with ExitStack() as stack:
        temporary = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="campaign-")))
        # A killed service leaves its temporary files.
        stack.enter_context(_temporary_files_in(temporary))
        folder = keep or temporary
        spools = folder / "spool"
        shutil.rmtree(spools, ignore_errors=True)  # of an earlier run: it would be replayed
        names = topics(plan.seed)
        site = services(broker.bootstrap_servers, spools if spool else None, names)
        for name, service in site.items():
            stack.callback(service.write_log, folder / f"{name}.log")
            stack.callback(service.give_up)
            await asyncio.to_thread(service.start)
        load = Load(site, plan.seed, folder)
        outcome = await _disturbed(plan, site, broker, load)
        await asyncio.to_thread(_end, site.values())
        circumstances = Circumstances(outcome.happened, spool, RATES, IN_FLIGHT)
        verdicts = await _verdicts(load, names, broker.bootstrap_servers, circumstances)
        verdicts[0].counts[QUARANTINED] = _quarantined(spools)
        await asyncio.to_thread(broker.delete, names.values())
        return outcome._replace(verdicts=verdicts)


class Load:
    """The clients of a round, and what they note.

    Args:
        site: both services, running.
        run: begins the ids of HTTP events.
        folder: where the clients note what happens.

    Attributes:
        book: of HTTP.
        ledgers: of the other ways in, one for each sender.
        pool: the messages that senders of syslog repeat.
    """

    def __init__(self, site: Mapping[str, Service], run: str, folder: Path) -> None:
        self.book = Book(folder / f"{HTTP}.jsonl")
        self.ledgers = {
            way: [Ledger(folder / f"{way}-{sender}.jsonl") for sender in range(count)]
            for way, count in SENDERS.items()
        }
        self.pool = list(itertools.islice(messages("rfc5424", 1, datetime.now(UTC)), POOL))
        self._amount = Amount(float("inf"), float("inf"))
        self._stop = Stop()
        self._http = senders(self.book, self._amount, RATES[HTTP], run)
        self._site = site

    async def run(self) -> None:
        """Send until told to stop, and until all is answered that will be."""
        async with asyncio.TaskGroup() as group:
            for sender in self._http:
                group.create_task(self._post(sender))
            for client in self._numbered():
                group.create_task(client)

    def stop(self) -> None:
        """Send nothing new."""
        self._stop.asked = True
        self._amount.events = 0
        self._amount.until = asyncio.get_running_loop().time()

    def close(self) -> None:
        """End the books."""
        self.book.close()
        for ledgers in self.ledgers.values():
            for ledger in ledgers:
                ledger.close()

    async def _post(self, sender: Sender) -> None:
        gateway = self._site[HTTP].gateway
        await sender.run(gateway.url, gateway.key, SOURCES[HTTP], BATCH)

    def _numbered(self) -> list[Coroutine[None, None, None]]:
        addresses = self._site[SYSLOG].gateway.process.addresses
        clients = []
        for way, ledgers in self.ledgers.items():
            host, _, port = addresses[way].rpartition(":")
            for sender, ledger in enumerate(ledgers):
                source = Messages(self.pool, sender)
                client = CLIENTS[way](Address(host, int(port)), source, ledger)
                clients.append(client.run(RATES[way] / len(ledgers), self._stop))
        return clients


async def _disturbed(
    plan: Round, site: Mapping[str, Service], broker: Broker, load: Load
) -> Outcome:
    """Load, faults meanwhile, and rest."""
    happened: list[Happened] = []
    for service in site.values():
        await asyncio.to_thread(service.gateway.wait_until_ready, READY_SECONDS)
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(_watch(site.values()))
        flowing = group.create_task(load.run())
        await asyncio.sleep(FLOW_SECONDS)
        await asyncio.gather(
            disturb_broker(broker, site, plan.faults, happened),
            kill_gateways(site, plan.kills, happened),
        )
        await asyncio.sleep(FLOW_SECONDS)
        load.stop()
        await flowing
        load.close()
        stopped = time.monotonic()
        for name, service in site.items():
            await asyncio.to_thread(_wait_for_rest, name, service)
        watching.cancel()
    now = time.monotonic()
    peaks = {name: service.peak_bytes for name, service in site.items()}
    return Outcome([], happened, now - began, now - stopped, peaks)


async def _watch(site: Collection[Service]) -> None:
    """Look at the memory of the services again and again."""
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        for service in site:
            await asyncio.to_thread(service.look)


def _wait_for_rest(name: str, service: Service) -> None:
    """Wait until it says for some time that nothing is on its way: what it says is a little old."""
    give_up = time.monotonic() + REST_SECONDS
    since = time.monotonic()
    while time.monotonic() - since < STABLE_SECONDS:
        time.sleep(POLL_SECONDS)
        if not service.at_rest():
            since = time.monotonic()
        if time.monotonic() > give_up:
            gateway = service.gateway
            state = f"{service.spooled()} events spooled, {gateway.status()}, {gateway.accounts()}"
            raise TimeoutError(f"{name} is not at rest: {state}")


def _end(site: Collection[Service]) -> None:
    for service in site:
        service.end()


def _quarantined(spools: Path) -> int:
    """Files of the spools that were found to be damaged; a crash damages none."""
    return sum(1 for _ in spools.rglob("*.quarantine*"))


async def _verdicts(
    load: Load, names: Mapping[str, str], servers: str, circumstances: Circumstances
) -> list[Verdict]:
    records = await read_back(servers, names[HTTP])
    verdicts = [judge_http(load.book, records, circumstances)]
    for way, ledgers in load.ledgers.items():
        copies = Copies(load.pool)
        await read_values(servers, names[way], copies.note)
        verdicts.append(judge_numbered(way, ledgers, copies, circumstances))
    dead: list[bytes] = []
    await read_values(servers, names["rejected"], dead.append)
    verdicts[0].counts[DEAD_LETTERS] = len(dead)  # whichever way they came: nobody sent a bad one
    return verdicts


@contextlib.contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = before
