"""A cluster that somebody else runs."""

from __future__ import annotations

from typing import Any, Self

VARIABLE = "INGEST_KAFKA__BOOTSTRAP_SERVERS"
"""The gateway's own variable, so that both surely use the same cluster."""


class ExternalCluster:
    """The cluster at ``bootstrap_servers``: used as it is, never stopped, and not asked for here.

    Whether it answers is not tried: it may want the gateway's TLS and SASL settings.
    """

    kind = "external"
    real = True

    def __init__(self, bootstrap_servers: str) -> None:
        self.nodes: list[Any] = []
        self.bootstrap_servers = bootstrap_servers
        self.description = f"the Kafka that {VARIABLE} names, {bootstrap_servers}"

    def close(self) -> None:
        """Leave it running."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
