"""The service refuses to run on the pure-Python twins of the libraries' C code."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = "[auth]\nrequired = false\n[sources.demo]\n"


@pytest.mark.parametrize(
    ("variable", "words"),
    [
        ("AIOHTTP_NO_EXTENSIONS", "aiohttp's C parser is missing"),
        ("AIOKAFKA_NO_EXTENSIONS", "aiokafka's C extension is missing"),
    ],
)
def test_a_missing_extension_is_an_error_at_start(
    variable: str, words: str, tmp_path: Path
) -> None:
    """Slower by a multiple, and home of smuggling bugs, they must not be used unnoticed."""
    config = tmp_path / "ingest.toml"
    config.write_text(CONFIG)
    done = subprocess.run(
        [sys.executable, "-m", "ingest_http", "--config", config, "--check"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, variable: "1"},
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
