"""Both services of a campaign: started, killed, started again on the same ports and spool."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections import Counter
from http.client import HTTPException
from typing import TYPE_CHECKING, Any

from deploy.local.ports import free_ports
from loadtest.campaign_plan import HTTP, SYSLOG, WORKERS
from loadtest.cpu import descendants, rss_bytes
from loadtest.gateway import Gateway, wait_until
from loadtest.syslog_gateway import SyslogGateway

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

TCP, UDP, RELP = WAYS_OF_SYSLOG = ("tcp", "udp", "relp")
WAYS = (HTTP, *WAYS_OF_SYSLOG)
"""The ways in; each has a topic of its own."""
SOURCES = {HTTP: "load", TCP: "tcp", UDP: "udp", RELP: "relp"}
INFLIGHT_BYTES = 64_000_000
AFTER_SECONDS = 3.0
REQUEST_SECONDS = 4.0
DEATH_SECONDS = 10.0
REPLACEMENT_SECONDS = 30.0
"""A worker that dies young is replaced after five seconds at most, on a machine with much to do."""


RECENT_SECONDS = 5.0
RECENT_LOOKS = 20
_GONE = (OSError, HTTPException, ValueError, KeyError)
"""How asking a service ends that is killed meanwhile, or does not say yet where it listens."""


class FaultMissing(Exception):  # noqa: N818 - it says what is wrong
    """A fault was made and cannot be seen: the run proves nothing."""


class Service:
    """One service over all its lives.

    Args:
        gateway: how to start it; its ports are fixed.
        ways: topic -> way in, of what comes in here.

    Attributes:
        gateway: as it runs now.
        peak_bytes: the most memory that one of its processes had when `look` was called.
    """

    def __init__(self, gateway: Gateway, ways: Mapping[str, str]) -> None:
        self.gateway = gateway
        self._ways = ways
        self._seen: list[tuple[float, Counter[str]]] = []
        self.peak_bytes = 0
        self._logged: list[dict[str, Any]] = []
        self._started = False
        self._given_up = False
        self._life = threading.Lock()  # who kills it and who gives it up are in different threads

    def start(self) -> None:
        """Start it; also again. Returns as soon as it listens.

        Raises:
            RuntimeError: it did not start, or was given up.
        """
        with self._life:
            if self._given_up:
                raise RuntimeError("the round is over")
            self.gateway.good_end = 0
            self.gateway.__enter__()
            self._started = True

    def give_up(self) -> None:
        """End what is left of it, whatever went wrong; it is not started again."""
        with self._life:
            self._given_up = True
            if self._started and self.gateway.process.running:
                self._kill_all()

    def end(self) -> None:
        """End it by SIGTERM.

        Raises:
            RuntimeError: its exit status says that something was dropped.
        """
        try:
            self.gateway.__exit__(None)
        finally:
            self._keep_log()

    def write_log(self, path: Path) -> None:
        """Write what it logged in all its lives, JSON lines."""
        path.write_text("".join(json.dumps(line) + "\n" for line in self._logged))

    def kill(self) -> None:
        """End all its processes by SIGKILL.

        Raises:
            FaultMissing: one of them is still there.
        """
        with self._life:
            self._kill_all()

    def worker(self, slot: int) -> int:
        """The process id of the worker in this slot, as soon as there is one.

        Raises:
            FaultMissing: there is none.
        """
        found: list[int] = []

        def look() -> bool:
            found[:] = self._workers(slot)
            return bool(found)

        try:
            wait_until(look, REPLACEMENT_SECONDS, "")
        except TimeoutError:
            raise FaultMissing(f"no worker in slot {slot}") from None
        return found[0]

    def kill_worker(self, pid: int) -> None:
        """End a worker by SIGKILL.

        Raises:
            FaultMissing: it is still there.
        """
        self._kill([pid])

    def look(self) -> None:
        """Note how much memory its processes have now, and what is in their spools."""
        for pid in descendants(self.gateway.process.pid):
            self.peak_bytes = max(self.peak_bytes, rss_bytes(pid))
        self._note_spools()

    def backlog(self) -> Counter[str]:
        """Way in -> the most events that its spools had in the last seconds.

        In the last seconds, since a worker that has just begun does not say yet what it found.
        """
        self._note_spools()
        highest: Counter[str] = Counter()
        for at, events in self._seen:
            if at > time.monotonic() - RECENT_SECONDS:
                highest |= events
        return highest

    def spooled(self) -> int:
        """Events in its spools."""
        return sum(
            int(sample.value)
            for sample in self.gateway.samples()
            if sample.name == "ingest_spool_events"
        )

    def at_rest(self) -> bool:
        """Whether nothing is on its way, on the disk either, and its books add up."""
        try:
            return not self.spooled() and self.gateway.at_rest()
        except _GONE:
            return False

    def _kill_all(self) -> None:
        parent = self.gateway.process.pid
        self._kill([parent, *descendants(parent)])
        self.gateway.good_end = -signal.SIGKILL
        self.gateway.__exit__(None)
        self._keep_log()

    def _keep_log(self) -> None:
        self._logged += self.gateway.process.lines

    def _note_spools(self) -> None:
        try:
            workers = self.gateway.status()["workers"]
        except _GONE:
            return
        events: Counter[str] = Counter()
        for worker in workers:
            for topic, count in ((worker.get("spool") or {}).get("events") or {}).items():
                events[self._ways.get(topic, "rejected")] += count
        self._seen = [*self._seen[-RECENT_LOOKS:], (time.monotonic(), events)]

    def _workers(self, slot: int) -> list[int]:
        """The process in this slot: what ``/status`` says may be dead already."""
        try:
            pid = self.gateway.status()["workers"][slot].get("pid")
        except _GONE:
            return []
        ours = descendants(self.gateway.process.pid)
        return [pid] if pid in ours and alive(pid) else []

    @staticmethod
    def _kill(pids: list[int]) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            wait_until(lambda: not any(map(alive, pids)), DEATH_SECONDS, "")
        except TimeoutError:
            raise FaultMissing(f"{pids} survived SIGKILL") from None


def state(pid: int) -> str:
    """The letter of proc(5) for what a process does; empty when there is none."""
    try:
        with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123 - a Path costs more than the reading
            return stat.read().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def alive(pid: int) -> bool:
    """Whether a process runs, paused or not; one that nobody has waited for yet is dead."""
    return state(pid) not in {"", "Z", "X"}


def topics(round_name: str) -> dict[str, str]:
    """Way in -> its topic, and ``rejected`` -> that of dead letters; fresh ones for each round."""
    return {way: f"{way}-{round_name}" for way in (*WAYS, "rejected")}


def http_service(servers: str, spool: Path | None, names: Mapping[str, str]) -> Service:
    """The HTTP service, with keys for its events; ``names`` are its topics."""
    port, management = free_ports(2)
    settings = {
        **_common(spool, names),
        "http": {"listen": f"127.0.0.1:{port}", "workers": WORKERS},
        "management": {"http": f"127.0.0.1:{management}"},
        f"sources.{SOURCES[HTTP]}": {"topic": names[HTTP], "key": "/customer_id"},
    }
    return Service(Gateway(servers, settings, wait=False), {names[HTTP]: HTTP})


def syslog_service(servers: str, spool: Path | None, names: Mapping[str, str]) -> Service:
    """The syslog service, with a listener for each protocol."""
    *ports, management = free_ports(4)
    listeners = [
        {"name": way, "protocol": way, "listen": f"127.0.0.1:{port}", "source": SOURCES[way]}
        for way, port in zip(WAYS_OF_SYSLOG, ports, strict=True)
    ]
    settings = {
        **_common(spool, names),
        "syslog": {"workers": WORKERS},
        "management": {"syslog": f"127.0.0.1:{management}"},
        **{f"sources.{SOURCES[way]}": {"topic": names[way]} for way in WAYS_OF_SYSLOG},
    }
    ways = {names[way]: way for way in WAYS_OF_SYSLOG}
    return Service(SyslogGateway(servers, listeners, settings, wait=False), ways)


def services(servers: str, spool: Path | None, names: Mapping[str, str]) -> dict[str, Service]:
    """Both of them, not started; ``spool`` is a folder, None: without one."""
    return {
        HTTP: http_service(servers, spool, names),
        SYSLOG: syslog_service(servers, spool, names),
    }


def _common(spool: Path | None, names: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    mode = {"mode": "off"} if spool is None else {"mode": "auto", "path": str(spool)}
    return {
        "kafka": {"request_timeout_seconds": REQUEST_SECONDS},
        "limits": {"inflight_bytes": INFLIGHT_BYTES},
        "dead_letter": {"topic": names["rejected"]},
        "spool": {**mode, "after_seconds": AFTER_SECONDS},
    }
