"""Kafka's jars."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from deploy.local import jars
from deploy.local.errors import Unavailable
from deploy.local.jars import kafka_jars

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FETCH = """
for each in "$@"; do case $each in -DoutputDirectory=*) out=${each#*=};; esac; done
echo run >> "$LOG"; sleep 0.2; mkdir -p "$out"; touch "$out/kafka.jar"
"""


@pytest.fixture
def maven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Puts a script in the place of Maven; the runs it logs are in the file that is returned."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setattr(jars, "CACHE", tmp_path / "cache")
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")

    def put(script: str) -> Path:
        program = tmp_path / "bin" / "mvn"
        program.write_text(f"#!/bin/sh\n{script}")
        program.chmod(0o755)
        return tmp_path / "log"

    return put


def test_jars_are_downloaded_once_even_by_several_at_a_time(
    maven: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """The others wait for the first, which says what takes so long."""
    log = maven(FETCH)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(kafka_jars, ["4.3.1"] * 4))
    assert len(set(found)) == 1
    assert [each.name for each in found[0].iterdir()] == ["kafka.jar"]
    assert log.read_text() == "run\n"
    assert capsys.readouterr().err == "kafka: downloading Apache Kafka 4.3.1, once\n"


def test_each_version_has_its_jars(maven: Callable[[str], Path]) -> None:
    """Two versions can be used side by side."""
    log = maven(FETCH)
    assert kafka_jars("4.3.1") != kafka_jars("4.2.0")
    assert log.read_text() == "run\n" * 2


def test_half_a_download_is_not_taken_for_a_whole_one(maven: Callable[[str], Path]) -> None:
    """A Maven that fails leaves nothing that the next start would use."""
    maven(FETCH + "echo 'no such host'; exit 1")
    with pytest.raises(Unavailable, match="Maven failed: no such host"):
        kafka_jars("4.3.1")
    log = maven(FETCH)
    assert [each.name for each in kafka_jars("4.3.1").iterdir()] == ["kafka.jar"]
    assert log.read_text() == "run\n" * 2


def test_a_missing_maven_matters_only_where_jars_are_missing(
    tmp_path: Path, maven: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was downloaded is used without it."""
    maven(FETCH)
    found = kafka_jars("4.3.1")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert kafka_jars("4.3.1") == found
    with pytest.raises(Unavailable, match="there is no mvn on the path"):
        kafka_jars("4.2.0")
