"""Freed blocks are used again without a page fault, and the largest ones are given back."""

from __future__ import annotations

import json
import subprocess
import sys

BLOCK_BYTES = 2 << 20
BLOCKS = 8
"""Held at once, and then freed: what bodies and Kafka batches do in an event loop."""
ROUNDS = 50
PAGES = BLOCKS * BLOCK_BYTES // 4096
"""Of one round."""
PROGRAM = f"""
import json, resource, sys
from pathlib import Path
from ingest.memory import MAPPED_BYTES, keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

if sys.argv[1] == "kept":
    keep_freed_memory()
before = faults()
for _ in range({ROUNDS}):
    blocks = [bytearray(b"x") * {BLOCK_BYTES} for _ in range({BLOCKS})]
    del blocks
used = faults() - before
low = resident()
large = bytearray(b"x") * (16 * MAPPED_BYTES)
del large
print(json.dumps({{"faults": used, "left": resident() - low}}))
"""


def figures(mode: str) -> dict[str, int]:
    """What a fresh process measures of itself."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, mode], capture_output=True, text=True, check=True
    )
    return dict(json.loads(done.stdout))


def test_freed_blocks_are_used_again_without_page_faults() -> None:
    """A body or a batch costs its page faults once, not each time."""
    assert figures("as it is")["faults"] > ROUNDS / 2 * PAGES
    assert figures("kept")["faults"] < 4 * PAGES


def test_the_largest_blocks_are_given_back() -> None:
    """No body leaves its size behind in the heap."""
    assert figures("kept")["left"] < 8 << 20
