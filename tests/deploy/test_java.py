"""The Java that runs a broker."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from deploy.local.errors import Unavailable
from deploy.local.java import KafkaPrograms, java_version

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Puts shell scripts on the path, where nothing else is."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def put(name: str, script: str) -> None:
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)

    return put


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15', "17.0.15"),
        ('java version "21" 2023-09-19 LTS', "21"),
        ('openjdk version "25-ea" 2025-09-16', "25-ea"),
    ],
)
def test_new_enough_versions_are_told(
    path: Callable[[str, str], None], said: str, version: str
) -> None:
    """Whole, because an archive of classes fits one version only."""
    path("java", f"echo '{said}' >&2")
    assert java_version() == version


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("""echo 'openjdk version "11.0.2" 2019-01-15' >&2""", "java is 11.0.2, Kafka needs 17"),
        ("""echo 'java version "1.8.0_452"' >&2""", r"java is 1\.8\.0_452, Kafka needs 17"),
        ("echo 'no Java here' >&2; exit 1", "does not tell its version: no Java here"),
    ],
)
def test_what_does_not_suit_is_unavailable_with_the_reason(
    path: Callable[[str, str], None], script: str, why: str
) -> None:
    """Kafka 4 runs on Java 17 and newer."""
    path("java", script)
    with pytest.raises(Unavailable, match=why):
        java_version()


def test_a_missing_java_is_unavailable_with_the_reason(path: Callable[[str, str], None]) -> None:
    """It is named as people call it."""
    with pytest.raises(Unavailable, match="there is no java on the path"):
        java_version()


def test_a_broker_starts_from_the_archive_once_there_is_one(tmp_path: Path) -> None:
    """The first broker makes it, as it is told; what runs before that does without."""
    programs = KafkaPrograms("4.3.1", tmp_path / "libs", tmp_path / "classes.jsa")
    assert not any("Archive" in word for word in programs.command("Main"))
    recording = programs.command("Main", record=tmp_path / "new")
    assert f"-XX:ArchiveClassesAtExit={tmp_path / 'new'}" in recording
    programs.archive.touch()
    assert f"-XX:SharedArchiveFile={programs.archive}" in programs.command("Main", "argument")
    assert programs.command("Main", "argument")[-2:] == ["Main", "argument"]
