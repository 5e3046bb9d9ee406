"""Why there is no broker."""

from __future__ import annotations


class Unavailable(Exception):  # noqa: N818 - a state of this machine, not a failure
    """This kind of cluster cannot be had here; the message says why."""


class NoRealKafka(RuntimeError):  # noqa: N818 - read in a traceback as a sentence
    """A real Kafka is required and there is none; the message says why, for each kind."""

    def __init__(self, reasons: list[str]) -> None:
        super().__init__("; ".join(["no real Kafka to be had", *reasons]))


class BrokerFailed(RuntimeError):  # noqa: N818 - read in a traceback as a sentence
    """A broker that should run does not; the message has the end of its log."""
