"""Starts the forwarder under test, and reads what it counted."""

from __future__ import annotations

import os
import signal
import uuid
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingest import toml
from loadtest.campaign_services import alive
from loadtest.cpu import descendants
from loadtest.gateway import READY_SECONDS, Gateway, wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from prometheus_client.samples import Sample

DEATH_SECONDS = 10.0


class Forwarder(Gateway):
    """The forwarder; a context manager that starts and ends it.

    Args:
        bootstrap_servers: where Kafka is; it need not be there yet.
        routes: ``[[forward.routes]]`` as tables of Python values.
        settings: by section: values that differ from `template`. The group in it is a new one for
            each forwarder: name one in ``{"forward": {"group": ...}}`` to share it.
        wait: whether entering waits until it is ready, which needs Kafka.

    Attributes:
        routes: what it was given; see `configuration`.
        process: the running program, once it was entered.
    """

    program = "ingest_forward"

    def __init__(
        self,
        bootstrap_servers: str,
        routes: Sequence[Mapping[str, Any]],
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        wait: bool = True,
    ) -> None:
        super().__init__(bootstrap_servers, settings, wait=wait)
        self.routes = list(routes)

    def template(self, bootstrap_servers: str) -> dict[str, dict[str, Any]]:
        """The configuration by section, without routes: one worker, a group of its own."""
        return {
            "service": {"prestop_seconds": 0, "log_format": "json"},
            "kafka": {"bootstrap_servers": bootstrap_servers, "request_timeout_seconds": 4},
            "topics": {"partitions": 4},
            "management": {"forward": "127.0.0.1:0"},
            "forward": {"group": f"forward-{uuid.uuid4().hex[:12]}", "workers": 1},
        }

    def configuration(self) -> str:
        """The text of the configuration file, with the routes as they are now."""
        forward = {**self._settings["forward"], "routes": [dict(each) for each in self.routes]}
        return toml.dumps({**self._settings, "forward": forward})

    def listeners(self) -> Sequence[str]:
        """What it will say that it listens on."""
        return ("management",)

    @property
    def config(self) -> Path:
        """The configuration file, while it is entered."""
        return Path(self._directory.name) / "ingest.toml"

    @property
    def group(self) -> str:
        """The consumer group that it reads in."""
        group: str = self._settings["forward"]["group"]
        return group

    def stop(self) -> int:
        """End it by SIGTERM; returns its exit status.

        Raises:
            subprocess.TimeoutExpired: it did not end in time and was killed.
        """
        return self.process.stop()

    def kill(self) -> None:
        """End all its processes by SIGKILL; that is then a good end.

        Raises:
            TimeoutError: one of them is still there.
        """
        parent = self.process.pid
        victims = [parent, *descendants(parent)]
        self.good_end = -signal.SIGKILL
        for pid in victims:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not any(map(alive, victims)), DEATH_SECONDS, f"{victims} live")

    def restart(self) -> None:
        """Start it again, with the routes as they are now; ends it before if it still runs.

        Raises:
            RuntimeError: it had ended badly, or does not start.
        """
        self.__exit__(None)
        self.good_end = 0
        self.__enter__()

    def reroute(self, routes: Sequence[Mapping[str, Any]]) -> None:
        """Have it take other routes by SIGHUP; it may take a moment."""
        self.routes = list(routes)
        self.config.write_text(self.configuration(), encoding="utf-8")
        os.kill(self.process.pid, signal.SIGHUP)

    def wait_until_ready(self, seconds: float = READY_SECONDS) -> None:
        """Wait until it can take data.

        Raises:
            TimeoutError: it could not within ``seconds``; the text has the end of its log.
        """
        try:
            wait_until(self.ready, seconds, "")
        except TimeoutError:
            raise TimeoutError(f"the forwarder is not ready: {self.process.lines[-20:]}") from None

    def metrics(self) -> list[Sample]:
        """What ``/metrics`` shows now."""
        return self.samples()

    def outcomes(self, route: str) -> Counter[str]:
        """By outcome: how many events of a route had it so far."""
        return Counter(
            {
                sample.labels["outcome"]: int(sample.value)
                for sample in self.metrics()
                if sample.name == "ingest_forward_events_total" and sample.labels["route"] == route
            }
        )

    def lag(self) -> dict[tuple[str, int], int]:
        """By topic and partition: how many records are there that it has not done yet."""
        return {
            (sample.labels["topic"], int(sample.labels["partition"])): int(sample.value)
            for sample in self.metrics()
            if sample.name == "ingest_forward_lag"
        }

    def wait_for(
        self, route: str, outcomes: Mapping[str, int], seconds: float = READY_SECONDS
    ) -> None:
        """Wait until a route has at least these outcomes.

        Raises:
            TimeoutError: it had not within ``seconds``; the text has what it had.
        """
        wanted = Counter(outcomes)
        try:
            wait_until(lambda: self.outcomes(route) >= wanted, seconds, "")
        except TimeoutError:
            found = dict(self.outcomes(route))
            raise TimeoutError(f"{route}: {found}, not {dict(wanted)}") from None
