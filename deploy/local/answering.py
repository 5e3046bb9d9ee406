"""Wait until brokers answer."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

START_SECONDS = 60.0


def await_answer(servers: str, ids: Collection[int], check: Callable[[], None]) -> None:
    """Block until a broker of ``servers`` answers, and names all brokers ``ids`` as alive.

    confluent-kafka's client is used because it needs no event loop: the caller may be in one.

    Args:
        servers: host:port, comma-separated.
        ids: the brokers' numbers.
        check: called several times a second; what it raises ends the waiting.

    Raises:
        TimeoutError: not within 60 seconds.
    """
    admin = AdminClient(
        {
            "bootstrap.servers": servers,
            "reconnect.backoff.ms": 20,
            "reconnect.backoff.max.ms": 50,
            "log_level": 0,  # that nobody listens yet is no news
        }
    )
    give_up = time.monotonic() + START_SECONDS
    while time.monotonic() < give_up:
        check()
        with contextlib.suppress(KafkaException):
            if set(ids) <= admin.list_topics(timeout=0.25).brokers.keys():
                return
    raise TimeoutError(f"no answer from {servers} within {START_SECONDS:.0f} s")
