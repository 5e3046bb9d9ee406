"""How the C library keeps freed memory, which a process that moves megabytes a second should know.

By default glibc gives large blocks back to the kernel as soon as they are freed, so that every
request body and every Kafka batch is paid for again in page faults: a fifth of the CPU time of a
batch of a hundred events.
"""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # see mallopt(3)
KEPT_BYTES = 32 << 20
"""Free memory at the end of the heap that is kept."""
STEP_BYTES = 1 << 20
"""By how much the heap grows at least."""
MAPPED_BYTES = 4 << 20
"""Blocks from this size on are mapped alone and given back at once: no body of the largest size
leaves a hole in the heap."""


def keep_freed_memory() -> None:
    """Reuse freed blocks up to `MAPPED_BYTES` instead of giving them back; needs glibc."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library, with ways of its own
        return
    mallopt(_MMAP_THRESHOLD, MAPPED_BYTES)
    mallopt(_TRIM_THRESHOLD, KEPT_BYTES)
    mallopt(_TOP_PAD, STEP_BYTES)
