"""What a service promises when the disk of its spool is full, fails, or gives back rubbish."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import subprocess
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, NamedTuple

import pytest

from deploy.local.ports import free_ports
from loadtest.cpu import rss_bytes
from loadtest.frozen import Memory
from loadtest.gateway import wait_until
from loadtest.ledger import end_offsets
from tests.spooling import (
    ACK_SECONDS,
    LEAST_BYTES,
    Client,
    Sections,
    damaged,
    files,
    replayed,
    spooled_to,
    wait_until_drained,
    waiting,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from loadtest.gateway import Gateway
    from tests.conftest import Kafka

    Start = Callable[..., Gateway]

MIB = 1 << 20
SETTLE_SECONDS = 20.0
EVENT_BYTES = 300_000
SOON_SECONDS = 1.0
LARGE_SPOOL_BYTES = 200 * MIB
MORE_SECONDS = 3.0
MORE_MEMORY_BYTES = 64 * MIB
"""What a start and a worker may need more for a large spool than for none."""


def settings(topic: str, path: Path, **spool: int) -> Sections:
    """A gateway with a spool in ``path``."""
    return {**spooled_to(path, **spool), "sources.load": {"topic": topic}}


def is_away(kafka: Kafka) -> None:
    """End the only broker as a crash would, and see that it has ended."""
    kafka.node.kill()
    assert kafka.falls_silent(), "Kafka still answers"


def the_worker(gateway: Gateway) -> int:
    """The process that does the work."""
    (worker,) = gateway.status()["workers"]
    pid: int = worker["pid"]
    return pid


def logged(gateway: Gateway, *events: str) -> list[dict[str, object]]:
    """What it logged of these kinds of events."""
    return [line for event in events for line in gateway.process.logged(event)]


# Disks.


class Disk(NamedTuple):
    """A small disk of the test's own.

    Attributes:
        path: where it is mounted.
        fills: has it take nothing more.
        frees: has it take something again.
    """

    path: Path
    fills: Callable[[], None]
    frees: Callable[[], None]


@pytest.fixture
def mounts(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mounts a file system at a new folder: options of mount(8), and what to mount."""
    with ExitStack() as stack:

        def mount(name: str, *options: str) -> Path:
            path = tmp_path / name
            path.mkdir()
            mounting = ("mount", *options, str(path))
            done = subprocess.run(mounting, capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"needs root and CAP_SYS_ADMIN to mount a disk: {done.stderr.strip()}")
            stack.callback(subprocess.run, ("umount", "--lazy", str(path)), check=True)
            return path

        yield mount


@pytest.fixture
def small_disk(mounts: Callable[..., Path]) -> Disk:
    """Memory as a disk, which can be filled to the last byte."""
    path = mounts("disk", "-t", "tmpfs", "-o", f"size={64 * MIB}", "tmpfs")
    ballast = path / "ballast"
    return Disk(path, lambda: fill(ballast), ballast.unlink)


@pytest.fixture
def failing_disk(mounts: Callable[..., Path]) -> Disk:
    """A disk whose writes go to one that can be filled: it then has space, and fsync fails."""
    if shutil.which("mkfs.ext2") is None:
        pytest.skip("needs mkfs.ext2: apt-get install e2fsprogs")
    behind = mounts("behind", "-t", "tmpfs", "-o", f"size={96 * MIB}", "tmpfs")
    image, ballast = behind / "image", behind / "ballast"
    with image.open("wb") as file:
        file.truncate(256 * MIB)
    subprocess.run(("mkfs.ext2", "-q", "-F", str(image)), check=True)
    path = mounts("disk", "-o", "loop,errors=continue", str(image))
    return Disk(path, lambda: fill(ballast), ballast.unlink)


def fill(ballast: Path) -> None:
    """Write until there is no space left."""
    with ballast.open("wb", buffering=0) as file:
        for size in (MIB, 4096):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                pass


@contextmanager
def file_size_limit(pid: int, size: int) -> Iterator[None]:
    """Have a process fail to make files larger than ``size``; see RLIMIT_FSIZE in setrlimit(2)."""
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


def test_a_full_disk_ends_the_promises_and_its_space_brings_them_back(
    spare_kafka: Kafka, start_gateway: Start, small_disk: Disk
) -> None:
    """Not ready, 503, and a line in the log; when there is space again, all is well by itself."""
    topic = spare_kafka.new_name()
    gateway = start_gateway(spare_kafka.servers, settings(topic, small_disk.path / "spool"))
    pid, client = the_worker(gateway), Client(gateway)
    is_away(spare_kafka)
    client.post_until(202, size=EVENT_BYTES)
    small_disk.fills()
    assert shutil.disk_usage(small_disk.path).free == 0
    client.post_until(503, size=EVENT_BYTES)
    wait_until(lambda: not gateway.ready(), SETTLE_SECONDS, "it is still ready")
    assert gateway.status()["reasons"][0] == "kafka_unreachable"
    assert gateway.status()["reasons"][1] in {"spool_full", "spool_failed"}
    assert logged(gateway, "spool_full", "spool_failed")
    assert client.post(size=EVENT_BYTES).status == 503
    small_disk.frees()
    wait_until(gateway.ready, SETTLE_SECONDS, "not ready again")
    assert client.post_until(202, size=EVENT_BYTES).status == 202
    spare_kafka.node.start()
    client.post_until(200)
    wait_until_drained(gateway)
    client.check(spare_kafka, topic)
    assert the_worker(gateway) == pid
    assert not damaged(gateway)


def test_a_failed_fsync_is_no_promise(
    spare_kafka: Kafka, start_gateway: Start, failing_disk: Disk
) -> None:
    """Nothing is answered 202 that the disk may not have; what it had before is sent later."""
    topic = spare_kafka.new_name()
    gateway = start_gateway(spare_kafka.servers, settings(topic, failing_disk.path / "spool"))
    pid, client = the_worker(gateway), Client(gateway)
    is_away(spare_kafka)
    client.post_until(202, size=EVENT_BYTES)
    failing_disk.fills()
    answer = client.post_until(503, 504, size=EVENT_BYTES)
    assert answer.seconds < ACK_SECONDS + SOON_SECONDS
    assert shutil.disk_usage(failing_disk.path).free > 64 * MIB, "it is only full"
    wait_until(lambda: bool(logged(gateway, "spool_failed")), SETTLE_SECONDS, "nothing is logged")
    wait_until(lambda: not gateway.ready(), SETTLE_SECONDS, "it is still ready")
    assert gateway.status()["reasons"] == ["kafka_unreachable", "spool_failed"]
    failing_disk.frees()
    wait_until(gateway.ready, SETTLE_SECONDS, "not ready again")
    client.post_until(202, size=EVENT_BYTES)
    spare_kafka.node.start()
    client.post_until(200)
    wait_until_drained(gateway)
    client.check(spare_kafka, topic)
    assert the_worker(gateway) == pid


def test_a_failed_write_is_no_promise(
    spare_kafka: Kafka, start_gateway: Start, tmp_path: Path
) -> None:
    """What could not be written is refused in time; what was written before is sent later."""
    topic = spare_kafka.new_name()
    gateway = start_gateway(spare_kafka.servers, settings(topic, tmp_path))
    pid, client = the_worker(gateway), Client(gateway)
    is_away(spare_kafka)
    client.post_until(202, size=EVENT_BYTES)
    with file_size_limit(pid, 4096):
        answer = client.post_until(503, 504, size=EVENT_BYTES)
        assert answer.seconds < ACK_SECONDS + SOON_SECONDS
        wait_until(lambda: not gateway.ready(), SETTLE_SECONDS, "it is still ready")
        assert gateway.status()["reasons"] == ["kafka_unreachable", "spool_failed"]
        assert logged(gateway, "spool_failed")
        assert client.post().status in {503, 504}
    wait_until(gateway.ready, SETTLE_SECONDS, "not ready again")
    client.post_until(202, size=EVENT_BYTES)
    spare_kafka.node.start()
    client.post_until(200)
    wait_until_drained(gateway)
    client.check(spare_kafka, topic)
    assert the_worker(gateway) == pid


def test_a_disk_that_cannot_be_written_is_told_before_it_is_needed(
    spare_kafka: Kafka, start_gateway: Start, mounts: Callable[..., Path]
) -> None:
    """Read-only: Kafka takes all, ``degraded`` names the spool, and an outage is answered 503."""
    topic = spare_kafka.new_name()
    path = mounts("disk", "-t", "tmpfs", "-o", f"size={64 * MIB}", "tmpfs")
    gateway = start_gateway(spare_kafka.servers, settings(topic, path / "spool"))
    client = Client(gateway)
    assert client.post().status == 200
    subprocess.run(("mount", "-o", "remount,ro", str(path)), check=True)
    is_away(spare_kafka)
    client.post_until(503)
    wait_until(lambda: not gateway.ready(), SETTLE_SECONDS, "it is still ready")
    assert gateway.status()["reasons"] == ["kafka_unreachable", "spool_failed"]
    subprocess.run(("mount", "-o", "remount,rw", str(path)), check=True)
    wait_until(gateway.ready, SETTLE_SECONDS, "not ready again")
    client.post_until(202)
    spare_kafka.node.start()
    client.post_until(200)
    wait_until_drained(gateway)
    client.check(spare_kafka, topic)


# Damage.


def flip_bytes(path: Path) -> None:
    """Change some of what is stored in the middle of a file."""
    with path.open("r+b") as file:
        for place in range(path.stat().st_size // 3, path.stat().st_size // 2, 40_000):
            file.seek(place)
            found = file.read(64)
            file.seek(place)
            file.write(bytes(each ^ 0xFF for each in found))


def flip_header(path: Path) -> None:
    """Change the first page of a file."""
    with path.open("r+b") as file:
        file.write(bytes(100))


def cut_short(path: Path) -> None:
    """Cut the second half off."""
    os.truncate(path, path.stat().st_size // 2)


def write_rubbish(path: Path) -> None:
    """Replace a file by another one as large."""
    path.write_bytes(os.urandom(path.stat().st_size))


def empty(path: Path) -> None:
    """Leave nothing but a name."""
    os.truncate(path, 0)


def delete(path: Path) -> None:
    """Leave nothing at all."""
    path.unlink()


@pytest.mark.parametrize(
    "damage", [flip_bytes, flip_header, cut_short, write_rubbish, empty, delete]
)
def test_damage_to_a_file_costs_no_more_than_that_file(
    kafka: Kafka, start_gateway: Start, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    """It starts, sends the rest, sets the file aside, counts and logs that, and goes on."""
    topic = kafka.new_name()
    sections = settings(topic, tmp_path, max_bytes=LEAST_BYTES)
    with unreachable(start_gateway, sections) as gateway:
        client = Client(gateway)
        for _ in range(16):
            client.post_until(202, size=EVENT_BYTES)
    stored = files(tmp_path)
    assert len(stored) >= 4
    held = most_in_a_file(stored)
    damage(stored[1])
    again = start_gateway(kafka.servers, sections)
    pid = the_worker(again)
    client.gateway = again
    wait_until_drained(again)
    client.post_until(200)
    found = client.check(kafka, topic, lost=held)
    assert len(found) >= len(client.promised) - held
    told = damaged(again)
    assert told["files"] == 1, told
    assert logged(again, "spool_file_quarantined", "spool_file_missing")
    aside = [each.name for each in tmp_path.glob("*/*/*.quarantine")]
    assert aside == ([] if damage is delete else [f"{stored[1].name}.quarantine"])
    assert replayed(again, topic)["acked"] == len(found) - 1
    assert the_worker(again) == pid
    assert again.ready()
    assert again.process.stop() == 0
    once_more = start_gateway(kafka.servers, sections)
    assert not damaged(once_more), "it is told again"
    client.gateway = once_more
    client.post_until(200)


@contextmanager
def unreachable(start_gateway: Start, sections: Sections) -> Iterator[Gateway]:
    """A gateway for which there is no Kafka; it ends in good order."""
    (port,) = free_ports(1)
    gateway = start_gateway(f"127.0.0.1:{port}", sections)
    yield gateway
    assert gateway.process.stop() == 0


def most_in_a_file(stored: list[Path]) -> int:
    """How many events of about `EVENT_BYTES` are in a file at most."""
    return max(each.stat().st_size for each in stored) // (EVENT_BYTES * 2 // 3) + 1


# Restarts.


def test_a_large_spool_delays_no_start_and_takes_no_memory(
    kafka: Kafka, start_gateway: Start, tmp_path: Path
) -> None:
    """200 MiB: ready as soon as without, in as much memory; also while it is replayed."""
    topic = kafka.new_name()
    sections = settings(topic, tmp_path)
    with unreachable(start_gateway, sections) as gateway:
        client = Client(gateway)
        while stored_bytes(tmp_path) < LARGE_SPOOL_BYTES:
            client.post_until(202, count=10, size=EVENT_BYTES)
    assert len(client.promised) > 500
    begun = time.monotonic()
    with unreachable(start_gateway, settings(topic, tmp_path / "other")) as gateway:
        limit_seconds = time.monotonic() - begun + MORE_SECONDS
        empty_bytes = rss_bytes(the_worker(gateway))
    begun = time.monotonic()
    with unreachable(start_gateway, sections) as gateway:
        assert time.monotonic() - begun < limit_seconds
        assert sum(waiting(gateway).values()) == len(client.promised)
        assert rss_bytes(the_worker(gateway)) < empty_bytes + MORE_MEMORY_BYTES
    again = start_gateway(kafka.servers, sections)
    with Memory(again.process.pid) as memory:
        wait_until_drained(again)
    assert memory.peaks[the_worker(again)] < empty_bytes + 2 * MORE_MEMORY_BYTES
    written = asyncio.run(end_offsets(kafka.servers, topic))
    assert sum(written.values()) == len(client.promised)


def stored_bytes(path: Path) -> int:
    """What the files in a folder have."""
    return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
