"""The Java that runs the broker, and how it is made to start fast."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy.local.errors import Unavailable
from deploy.local.jars import kafka_jars

if TYPE_CHECKING:
    from pathlib import Path

OLDEST = 17
OPTIONS = (
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",  # the second compiler pays off after minutes only
    "-Xlog:cds=off",
    "-Xlog:cds+dynamic=off",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
)


def java_version() -> str:
    """The version of the ``java`` on the path, such as 17.0.15.

    Raises:
        Unavailable: there is none, or it is older than Kafka 4's brokers need (17).
    """
    java = shutil.which("java")
    if java is None:
        raise Unavailable("there is no java on the path")
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "((\d+)[^"]*)"', said)
    if found is None:
        raise Unavailable(f"java does not tell its version: {said.strip()[:100]}")
    if int(found[2]) < OLDEST:
        raise Unavailable(f"java is {found[1]}, Kafka needs {OLDEST} or newer")
    return found[1]


@dataclass(frozen=True)
class KafkaPrograms:
    """Apache Kafka's programs, to be run by Java.

    Attributes:
        version: Kafka's.
        libs: the folder with the jars.
        archive: a class data sharing archive (JEP 350), which takes a broker's start from 3 s to
            1 s. The first broker that ends in good order makes it.
    """

    version: str
    libs: Path
    archive: Path

    @classmethod
    def find(cls, version: str) -> KafkaPrograms:
        """Kafka ``version`` on this machine's Java.

        Raises:
            Unavailable: Java is missing or too old, or Maven is needed and cannot get the jars.
        """
        java = java_version()
        libs = kafka_jars(version)
        return cls(version, libs, libs.with_name(f"classes-java-{java}.jsa"))

    def command(self, main: str, *arguments: str, record: Path | None = None) -> list[str]:
        """The command line that runs the class ``main``; ``record`` is the archive to make."""
        sharing = [f"-XX:SharedArchiveFile={self.archive}"] if self.archive.exists() else []
        if record is not None:
            sharing = [f"-XX:ArchiveClassesAtExit={record}"]
        return ["java", *OPTIONS, *sharing, "-cp", f"{self.libs}/*", main, *arguments]
