"""What `make run` tells the person at the terminal."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

from deploy.local.tail import printable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SOURCE = "orders"
"""A source of deploy/examples/ingest.toml."""
EVENT = {"customer_id": "c-17", "total": 12.5}
BATCH = [{"customer_id": "c-18", "total": 3}, "no object", {"customer_id": "c-17", "total": 40}]
TOLD_ALREADY = frozenset({"topic_not_replicated"})
"""Warnings about what is so by design: a broker of our own is a single one."""
SHOWN = frozenset({"warning", "error", "critical"})
NOT_FOR_PEOPLE = frozenset({"event", "level", "timestamp", "service"})


def introduction(
    http: str, management: str, syslog: Mapping[str, str], log: Path, key: str, *, older: int
) -> str:
    """What there is, and what to try.

    Args:
        http: the URL of the public port.
        management: the URL of the management port.
        syslog: listener of the syslog gateway -> address.
        log: where the gateway's log is.
        key: the API key to send with.
        older: how many records are in Kafka already.
    """
    already = f"; {older} older records are there already" if older else ""
    return f"""
gateway     {http}   log: {log}
management  {management}   /status  /metrics  /readyz  /livez
syslog      udp and tcp {syslog["udp"]}, relp {syslog["relp"]}   log: {log.with_name("syslog.log")}

Send one event:

  {curl(http, key, EVENT)}

Send a batch with one bad event:

  {curl(http, key, BATCH)}

Send syslog:

  {logger(syslog["tcp"], "tcp")}
  {logger(syslog["udp"], "udp")}

Arriving in Kafka (Ctrl-C ends it all{already}):
"""


def curl(http: str, key: str, body: Any) -> str:
    """The command that posts ``body``."""
    return " ".join(
        [
            f"curl -sS {http}/v1/events/{SOURCE}",
            f"-H {shlex.quote(f'Authorization: Bearer {key}')}",
            "-H 'Content-Type: application/json'",
            f"-d {shlex.quote(json.dumps(body, separators=(',', ':')))}",
        ]
    )


def logger(address: str, protocol: str) -> str:
    """The command that sends a line of syslog."""
    host, _, port = address.rpartition(":")
    return f"logger --{protocol} --server {host} --port {port} --tag shop 'hello by {protocol}'"


def log_line(entry: Mapping[str, Any], *, own_broker: bool) -> str | None:
    """An entry of the gateway's log for people; None if it is none of their business now."""
    if "text" in entry:
        return f"gateway: {printable(entry['text'])}"
    event = str(entry.get("event"))
    if entry.get("level") not in SHOWN or (own_broker and event in TOLD_ALREADY):
        return None
    details = [f"{name}={value}" for name, value in entry.items() if name not in NOT_FOR_PEOPLE]
    return printable(" ".join([f"gateway: {entry['level']}: {event}", *details]))
