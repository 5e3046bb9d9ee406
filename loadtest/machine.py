"""What a recorded result must say about where it was measured; no names, no paths."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

LIBRARIES = ("aiohttp", "aiokafka", "uvloop", "msgspec", "cramjam", "zstandard")


def describe(broker: str) -> list[tuple[str, str]]:
    """Name and value of each property; ``broker`` is the cluster's own description."""
    return [
        ("CPU", f"{_cpu_model()}, {len(os.sched_getaffinity(0))} cores"),
        ("memory", f"{_memory_bytes() / 2**30:.1f} GiB"),
        ("system", f"{platform.system()} {platform.release().split('-')[0]}"),
        ("Python", f"{platform.python_implementation()} {platform.python_version()}"),
        ("libraries", ", ".join(f"{name} {version(name)}" for name in LIBRARIES)),
        ("Kafka", broker),
        ("load", "generator, gateway and broker on the same machine"),
    ]


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
