"""A Kafka cluster on this machine, for `make run`, the tests and the load tests.

`start_cluster` takes the best cluster it can get: a named one, Docker, Maven's jars, a mock.
"""

from __future__ import annotations

from deploy.local.cluster import Cluster, start_cluster

__all__ = ["Cluster", "start_cluster"]
