"""Every configuration file in deploy/."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from ingest.config import load
from ingest_http.__main__ import main
from ingest_http.config import HttpConfig

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
FILES = sorted(each for each in DEPLOY.rglob("*.toml") if each.parent.name != "sources.d")
NAMES = [str(file.relative_to(DEPLOY)) for file in FILES]
COMMENTED_OUT = re.compile(r"^# ([a-z_]+ = )", re.MULTILINE)


@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_it_is_right(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`ingest-http --check` finds nothing."""
    monkeypatch.delenv("INGEST_KAFKA__BOOTSTRAP_SERVERS", raising=False)
    assert main(["--config", str(file), "--check"]) == 0
    assert "configuration is fine" in capsys.readouterr().out


@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_what_is_commented_out_is_the_default(file: Path, tmp_path: Path) -> None:
    """As its head says: with all of it in effect nothing changes."""
    text, count = COMMENTED_OUT.subn(r"\1", file.read_text(encoding="utf-8"))
    folder = tmp_path / "examples"
    shutil.copytree(file.parent, folder)
    before = load(folder / file.name, HttpConfig, {})
    (folder / file.name).write_text(text, encoding="utf-8")
    assert count > 0
    assert load(folder / file.name, HttpConfig, {}) == before


@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_no_key_in_it_opens_anything(file: Path) -> None:
    """Digests are zeros, of which nobody knows a key: no secret could be taken over from here."""
    keys = load(file, HttpConfig, {}).auth.keys.values()
    assert {digest for key in keys for digest in key.sha256} <= {"0" * 64}


def test_there_are_examples() -> None:
    """The one that `make run` uses, and one of a door that is open to a company."""
    assert NAMES == ["examples/ingest.toml", "examples/secured/ingest.toml"]


def test_every_source_file_is_used() -> None:
    """Also the ones in folders of their own."""
    config = load(DEPLOY / "examples/secured/ingest.toml", HttpConfig, {})
    files = DEPLOY.rglob("sources.d/*.toml")
    assert config.sources.keys() == {file.stem for file in files} == {"orders", "web-clicks"}
