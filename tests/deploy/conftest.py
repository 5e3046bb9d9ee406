"""What tests of the local brokers share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from deploy.local.cluster import KAFKA_VERSION
from deploy.local.errors import Unavailable
from deploy.local.java import KafkaPrograms

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def programs() -> KafkaPrograms:
    """Kafka on this machine's Java; without that nothing can be shown here (CI=true forbids it)."""
    try:
        return KafkaPrograms.find(KAFKA_VERSION)
    except Unavailable as missing:
        pytest.skip(f"no real Kafka: {missing}")


@pytest.fixture
def nothing_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a named cluster, nor Docker, Java or Maven."""
    for name in ("INGEST_KAFKA__BOOTSTRAP_SERVERS", "CI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    monkeypatch.setenv("PATH", str(tmp_path))
