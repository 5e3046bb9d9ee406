"""The syslog gateway as a real process on a real Kafka, whose books are checked."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from typing import TYPE_CHECKING, Any

from loadtest.gateway import balanced, wait_until
from loadtest.syslog_gateway import SyslogGateway

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.memory_producer import Record

BOOKS_SECONDS = 30.0
HEADERS = [("content-type", b"application/cloudevents+json; charset=UTF-8")]


class CheckedGateway(SyslogGateway):
    """A syslog gateway that can be killed, and whose books must add up; see `SyslogGateway`."""

    def port(self, listener: str) -> str:
        """The port of a listener."""
        return self.address(listener).rpartition(":")[2]

    def drops(self) -> Counter[str]:
        """By reason: what all listeners counted as dropped so far."""
        names = self.listeners()
        return sum((self.dropped(name) for name in names if name != "management"), Counter())

    def parsed(self, listener: str) -> Counter[tuple[str, str]]:
        """By format and status: the messages of a listener so far."""
        return Counter(
            {
                (labels["format"], labels["status"]): int(value)
                for name, labels, value, *_ in self.samples()
                if name == "ingest_syslog_parse_total" and labels["listener"] == listener and value
            }
        )

    def restarts(self) -> int:
        """How many workers were started in place of one that died."""
        return sum(int(each.value) for each in self.samples() if "restarts_total" in each.name)

    def kafka_is_up(self) -> bool:
        """What it says of Kafka in its metrics."""
        return all(each.value for each in self.samples() if each.name == "ingest_kafka_up")

    def worker_pids(self) -> list[int]:
        """The processes that do the work."""
        return [worker["pid"] for worker in self.status()["workers"] if worker.get("pid")]

    def kill_all(self) -> None:
        """End every process of it by SIGKILL, at once."""
        workers = self.worker_pids()
        self.good_end = -signal.SIGKILL
        self.process.kill()
        for pid in workers:
            os.kill(pid, signal.SIGKILL)

    def check_books(self) -> None:
        """Wait until all is at rest, and hold what was counted against each other.

        Every event received has one outcome, what the kernel dropped included, and the drops by
        reason are the drops by source.
        """
        self.wait_until_at_rest(BOOKS_SECONDS)
        accounts = self.accounts()
        assert all(map(balanced, accounts.values())), accounts
        dropped = sum(account["dropped"] for account in accounts.values())
        assert dropped == self.drops().total(), (accounts, self.drops())

    def wait_until_received(self, source: str, count: int, seconds: float = 20.0) -> None:
        """Wait until ``count`` messages of a source have their outcomes.

        Raises:
            TimeoutError: there were fewer in time; with the account.
        """

        def there() -> bool:
            account = self.account(source)
            return account["received"] >= count and balanced(account)

        try:
            wait_until(there, seconds, "")
        except TimeoutError:
            told = f"{count} messages were sent: {self.account(source)}, {self.drops()}"
            raise TimeoutError(told) from None


def check_envelope(record: Record, source: str) -> dict[str, Any]:
    """Hold the envelope of a record against the contract; what it has as ``data``."""
    envelope = json.loads(record.value)
    data: dict[str, Any] = envelope["data"]
    subject = {"subject"} if "hostname" in data else set()
    assert set(envelope) == {"specversion", "source", "id", "type", "time", "data"} | subject
    assert envelope["specversion"] == "1.0"
    assert envelope["source"] == f"/sources/{source}"
    assert envelope["type"] == "syslog.message"
    assert envelope.get("subject") == data.get("hostname")
    assert record.key == data.get("hostname", data["peer"]).encode()
    assert record.headers == HEADERS
    return data


def without(data: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """``data`` but for some members."""
    return {name: value for name, value in data.items() if name not in names}
