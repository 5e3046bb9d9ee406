"""The gateway under locust: ``locust -f loadtest/locustfile.py --host http://127.0.0.1:8080``.

``--key`` and ``--source`` (or ``LOADTEST_KEY`` and ``LOADTEST_SOURCE``) say what to post and as
whom; ``--batch-size`` how many events a batch has. A user class may be named to run it alone:
``BatchUser`` or ``SingleUser``. For CPU figures use ``loadtest.benchmark``: locust itself needs
more CPU time than the gateway.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from locust import FastHttpUser, constant, events, task

from loadtest.events import batch
from loadtest.events import events as realistic

if TYPE_CHECKING:
    from locust.argument_parser import LocustArgumentParser

_seeds = itertools.count()


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def add_options(parser: LocustArgumentParser) -> None:
    """The options of this file."""
    group = parser.add_argument_group("gateway")
    group.add_argument("--key", env_var="LOADTEST_KEY", default="", help="an API key")
    group.add_argument("--source", env_var="LOADTEST_SOURCE", default="demo")
    group.add_argument("--batch-size", env_var="LOADTEST_BATCH_SIZE", type=int, default=100)


class GatewayUser(FastHttpUser):
    """Posts events and checks that all of them were accepted."""

    abstract = True
    wait_time = constant(0)

    def on_start(self) -> None:
        """Have events of one's own."""
        self._events = realistic(next(_seeds))

    def send(self, size: int, name: str) -> None:
        """Post ``size`` events; anything but all of them accepted is a failure."""
        options = self.environment.parsed_options
        with self.client.post(
            f"/v1/events/{options.source}",
            data=batch(self._events, size),  # type: ignore[arg-type]
            headers={
                "Authorization": f"Bearer {options.key}",
                "Content-Type": "application/json",
            },
            name=name,
            catch_response=True,
        ) as response:
            if response.status_code != 200:
                response.failure(f"HTTP {response.status_code}")
            elif response.json()["accepted"] != size:
                response.failure(f"accepted {response.json()['accepted']} of {size}")


class BatchUser(GatewayUser):
    """Collects events and posts them together, as other services do."""

    @task
    def post_a_batch(self) -> None:
        """Post one batch."""
        self.send(self.environment.parsed_options.batch_size, "batch")


class SingleUser(GatewayUser):
    """Posts each event as it happens, as browsers do."""

    @task
    def post_one_event(self) -> None:
        """Post one event."""
        self.send(1, "single")
