"""Faults of brokers: how they are made, seen to have happened, and mended."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from loadtest.gateway import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from deploy.local.cluster import Node
    from tests.conftest import Kafka


class Fault(NamedTuple):
    """A way in which a broker can fail.

    Attributes:
        strike: makes it happen.
        mend: ends it; returns when the broker answers.
        leaves_unknown: whether what it was sent may or may not have arrived.
    """

    strike: Callable[[Node], None]
    mend: Callable[[Node], None]
    leaves_unknown: bool

    async def strikes(self, kafka: Kafka) -> None:
        """Make it happen to the only broker, and see that it has."""
        self.strike(kafka.node)
        assert await asyncio.to_thread(kafka.falls_silent), "Kafka still answers"

    async def is_mended(self, kafka: Kafka) -> None:
        """End it, and see that it is over."""
        await asyncio.to_thread(self.mend, kafka.node)
        await asyncio.to_thread(wait_until, kafka.answers, 20, "Kafka does not answer")


KILLED = Fault(lambda node: node.kill(), lambda node: node.start(), leaves_unknown=False)
FROZEN = Fault(lambda node: node.pause(), lambda node: node.resume(), leaves_unknown=True)


@pytest.fixture(params=[pytest.param(KILLED, id="killed"), pytest.param(FROZEN, id="frozen")])
def fault(request: pytest.FixtureRequest) -> Fault:
    """Each way in turn."""
    return request.param


@pytest.fixture
def say(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Writes a line to the terminal, also where all goes well."""
    reporter: Any = request.config.pluginmanager.get_plugin("terminalreporter")

    def write(line: str) -> None:
        reporter.ensure_newline()
        reporter.write_line(line)

    return write
