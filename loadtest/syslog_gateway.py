"""Starts the syslog gateway under test, and reads its books."""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from loadtest.gateway import ROOT, Gateway, balanced

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

SOURCE = "syslog"
"""The source of every listener unless it names another one; its topic has the same name."""
POLL_SECONDS = 0.25
"""Reading the metrics costs the gateway CPU time, which is what is measured."""
STABLE_SECONDS = 5.0
"""How long nothing has to change to say that nothing more will; the kernel is asked less often."""
LISTENERS: tuple[Mapping[str, Any], ...] = (
    {"name": "tcp", "protocol": "tcp"},
    {"name": "udp", "protocol": "udp"},
    {"name": "relp", "protocol": "relp"},
)


class SyslogGateway(Gateway):
    """The syslog gateway; a context manager that starts and ends it.

    Args:
        bootstrap_servers: where Kafka is; it need not be there yet.
        listeners: what differs from a listener on a port of 127.0.0.1 with the source `SOURCE`;
            each has a name and a protocol.
        settings: by section: values that differ from `template`.
        wait: whether entering waits until it is ready, which needs Kafka.
        root: the tree whose gateway it is.
    """

    program = "ingest_syslog"

    def __init__(
        self,
        bootstrap_servers: str,
        listeners: Sequence[Mapping[str, Any]] = LISTENERS,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        wait: bool = True,
        root: Path = ROOT,
    ) -> None:
        super().__init__(bootstrap_servers, settings, wait=wait, root=root)
        usual = {"listen": "127.0.0.1:0", "source": SOURCE}
        self._listeners = [{**usual, **each} for each in listeners]

    def template(self, bootstrap_servers: str) -> dict[str, dict[str, Any]]:
        """The configuration by section, without listeners: one worker, one source."""
        return {
            "service": {"prestop_seconds": 0, "log_format": "json"},
            "kafka": {"bootstrap_servers": bootstrap_servers, "request_timeout_seconds": 4},
            "topics": {"partitions": 4},
            "management": {"syslog": "127.0.0.1:0"},
            "syslog": {"workers": 1},
            f"sources.{SOURCE}": {},
        }

    def configuration(self) -> str:
        """The text of the configuration file."""
        return super().configuration() + "".join(map(as_listener, self._listeners))

    def listeners(self) -> Sequence[str]:
        """What it will say that it listens on."""
        return (*(each["name"] for each in self._listeners), "management")

    def address(self, listener: str) -> str:
        """``host:port`` of a listener."""
        return self.process.addresses[listener]

    def account(self, source: str = SOURCE) -> Counter[str]:
        """What was ``received`` for a source so far, and what became of it by outcome."""
        return self.accounts().get(source, Counter())

    def dropped(self, listener: str) -> Counter[str]:
        """By reason: what a listener counted as dropped so far."""
        return Counter(
            {
                sample.labels["reason"]: int(sample.value)
                for sample in self.samples()
                if sample.name == "ingest_syslog_dropped_total"
                and sample.labels["listener"] == listener
            }
        )

    def wait_until_settled(
        self, since: Mapping[str, int], count: int, stable_seconds: float = STABLE_SECONDS
    ) -> Counter[str]:
        """Wait until ``count`` more messages have their outcomes, or nothing changes any more.

        Args:
            since: the account before.
            count: how many messages were sent.
            stable_seconds: how long nothing has to change to give up.

        Returns:
            What has been added to the account.
        """
        added, changed_at = Counter[str](), time.monotonic()
        while True:
            account = self.account()
            account.subtract(since)
            if account["received"] >= count and balanced(account):
                return account
            if account != added:
                added, changed_at = account, time.monotonic()
            elif time.monotonic() - changed_at > stable_seconds:
                return account
            time.sleep(POLL_SECONDS)


def as_listener(settings: Mapping[str, Any]) -> str:
    """One of ``[[syslog.listeners]]`` in TOML."""
    lines = [f"{name} = {_value(value)}\n" for name, value in settings.items()]
    return "[[syslog.listeners]]\n" + "".join(lines)


def _value(value: Any) -> str:
    """A value in TOML: that of JSON, but for tables."""
    if not isinstance(value, dict):
        return json.dumps(value)
    return "{ " + ", ".join(f"{name} = {_value(each)}" for name, each in value.items()) + " }"
