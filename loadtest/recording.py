"""Keeps the result of a run under ``loadtest/results/``, with the machine it was measured on."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from loadtest.machine import describe

RESULTS = Path(__file__).parent / "results"


def write(name: str, title: str, broker: str, text: str) -> Path:
    """Write the result of today.

    Args:
        name: the first part of the file's name; a result of the same day is replaced.
        title: what was measured.
        broker: the cluster's own description.
        text: Markdown.

    Returns:
        The file.
    """
    date = datetime.now(UTC).date().isoformat()
    machine = "\n".join(f"- {name}: {value}" for name, value in describe(broker))
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}-{date}.md"
    path.write_text(f"# {title}, {date}\n\n{machine}\n\n{text.rstrip()}\n")
    return path
