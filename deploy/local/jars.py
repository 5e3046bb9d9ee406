"""Kafka's jars, fetched by Maven once for each version."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.local.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

CACHE = Path(__file__).resolve().parents[2] / ".cache"
POM = Path(__file__).with_name("pom.xml")
DOWNLOAD_SECONDS = 600.0


def kafka_jars(version: str) -> Path:
    """The folder with the jars of Kafka ``version``; about 54 MB are downloaded the first time.

    Raises:
        Unavailable: they are not there yet and Maven cannot get them.
    """
    libs = CACHE / f"kafka-{version}" / "libs"
    if not libs.is_dir():
        libs.parent.mkdir(parents=True, exist_ok=True)
        with _alone(libs.with_name("lock")):
            if not libs.is_dir():
                _download(version, libs)
    return libs


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # given back when the file is closed
        yield


def _download(version: str, libs: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise Unavailable("there is no mvn on the path to download Kafka's jars")
    print(f"kafka: downloading Apache Kafka {version}, once", file=sys.stderr, flush=True)
    part = libs.with_name("libs.part")  # an aborted download is never taken for a complete one
    shutil.rmtree(part, ignore_errors=True)
    _copy_dependencies(maven, version, part)
    part.rename(libs)


def _copy_dependencies(maven: str, version: str, folder: Path) -> None:
    command = [maven, "-B", "-q", "-f", str(POM), f"-Dkafka.version={version}"]
    command += ["dependency:copy-dependencies", f"-DoutputDirectory={folder}"]
    try:
        subprocess.run(
            command,
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DOWNLOAD_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"Maven took longer than {DOWNLOAD_SECONDS:.0f} s") from error
    except subprocess.CalledProcessError as error:
        raise Unavailable(f"Maven failed: {error.stdout.strip()[-500:]}") from error
