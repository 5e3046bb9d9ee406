"""The result of the loss tool: what was sent, what is in Kafka, what was counted as dropped."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from loadtest.benchmark_table import as_markdown
from loadtest.recording import write
from loadtest.syslog_messages import MESSAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

ASKED_BYTES = 8_388_608
"""``receive_buffer_bytes``, by default; with so much, nothing may be lost at `LOSSLESS_RATE`."""
LOSSLESS_RATE = 100_000
LOSSLESS_WORKERS = 2
HEADING = (
    "rate", "workers", "seconds", "sent", "sent/s", "delivered", "counted as dropped", "difference",
    "duplicated", "buffer MiB", "clamped",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Loss:
    """One run at one rate.

    Attributes:
        rate: messages per second that were asked for.
        workers: of the gateway.
        seconds: how long it was sent.
        sent: datagrams that the kernel took from the generator.
        delivered: records that the run added to the topic.
        dropped: by reason: what the gateway counted as dropped.
        duplicated: second copies, and records that are no message of ours; None: nobody looked.
        kernel_drops: what the kernel itself counted on the sockets of the listener.
        buffer_bytes: the smallest receive buffer of these sockets.
    """

    rate: int
    workers: int
    seconds: float
    sent: int
    delivered: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    duplicated: int | None = None
    kernel_drops: int = 0
    buffer_bytes: int = 0

    @property
    def difference(self) -> int:
        """What nobody can tell of: has to be 0; below 0, more came out than went in."""
        return self.sent - self.delivered - sum(self.dropped.values())

    @property
    def clamped(self) -> bool:
        """Whether the kernel gave less than was asked for."""
        return self.buffer_bytes < ASKED_BYTES

    def broken(self) -> list[str]:
        """The promises that it broke."""
        name = f"{self.rate:,} per second, {self.workers} workers"
        found = []
        if self.difference:
            found.append(f"{name}: {self.difference:,} unaccounted for")
        if self.duplicated:  # a lost message must not make up for it in the difference
            found.append(f"{name}: {self.duplicated:,} duplicated, or not ours")
        counted = self.dropped.get("kernel", 0)
        if counted != self.kernel_drops:
            found.append(f"{name}: the kernel dropped {self.kernel_drops:,}, counted {counted:,}")
        lost = self.sent - self.delivered
        promised = self.workers >= LOSSLESS_WORKERS and self.rate <= LOSSLESS_RATE
        if lost and promised and not self.clamped:
            found.append(f"{name}: {lost:,} lost in spite of a large enough buffer")
        return found


def table(losses: Sequence[Loss]) -> list[list[str]]:
    """Rows of text; the first row is the heading."""
    return [list(HEADING), *map(_row, losses)]


def _row(loss: Loss) -> list[str]:
    reasons = ", ".join(
        f"{name} {count:,}" for name, count in sorted(loss.dropped.items()) if count
    )
    return [
        f"{loss.rate:,}",
        str(loss.workers),
        f"{loss.seconds:.1f}",
        f"{loss.sent:,}",
        f"{loss.sent / loss.seconds:,.0f}",
        f"{loss.delivered:,}",
        reasons or "0",
        str(loss.difference),
        "" if loss.duplicated is None else str(loss.duplicated),
        f"{loss.buffer_bytes / 2**20:.1f}",
        "yes" if loss.clamped else "no",
    ]


def record(losses: Sequence[Loss], broker: str) -> Path:
    """Write the result of today, with a description of the machine."""
    broken = [each for loss in losses for each in loss.broken()]
    verdict = "\n".join(f"- NOT OK: {each}" for each in broken) or "Every message is accounted for."
    text = (
        f"RFC 5424 messages of {MESSAGE_BYTES} bytes from 4 ports. Delivered: records added to\n"
        "the topic. Counted as dropped: `ingest_syslog_dropped_total`, by reason; `kernel` was\n"
        "compared with the kernel's own count of these sockets. Difference: sent - delivered -\n"
        "dropped, has to be 0. Duplicated, where every message was read back: second copies.\n"
        "Buffer: the smallest effective receive buffer of the workers' sockets, word 1 of\n"
        f"SO_MEMINFO; clamped where it is below {ASKED_BYTES / 2**20:g} MiB. With at least that,\n"
        f"{LOSSLESS_WORKERS} workers may not lose anything up to {LOSSLESS_RATE:,} per second.\n\n"
        f"{as_markdown(table(losses))}\n\n{verdict}\n\nMade by `make syslog-loss`.\n"
    )
    return write("syslog-loss", "Loss of syslog over UDP by rate", broker, text)
