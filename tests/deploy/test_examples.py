"""Every configuration file in deploy/."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from ingest.config import load
from ingest_forward.__main__ import main as forward_main
from ingest_forward.config import ForwardConfig
from ingest_http.__main__ import main
from ingest_http.config import HttpConfig
from ingest_syslog.__main__ import main as syslog_main
from ingest_syslog.config import SyslogConfig

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


def test_the_example_is_right_for_syslog_too(capsys: pytest.CaptureFixture[str]) -> None:
    """`ingest-syslog --check` finds nothing, and there is a listener of each protocol."""
    assert syslog_main(["--config", str(DEPLOY / NAMES[0]), "--check"]) == 0
    assert "configuration is fine" in capsys.readouterr().out
    listeners = load(DEPLOY / NAMES[0], SyslogConfig, {}).syslog.listeners
    assert {each.protocol for each in listeners} == {"udp", "tcp", "relp"}


def test_the_example_is_right_for_the_forwarder_too(capsys: pytest.CaptureFixture[str]) -> None:
    """`ingest-forward --check` finds nothing, and its examples come out as they say."""
    assert forward_main(["--config", str(DEPLOY / NAMES[0]), "--check"]) == 0
    assert "orders-to-warehouse; examples run: 1" in capsys.readouterr().out


@pytest.mark.parametrize("kind", [HttpConfig, SyslogConfig, ForwardConfig])
@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_what_is_commented_out_is_the_default(
    file: Path, kind: type[HttpConfig | SyslogConfig | ForwardConfig], tmp_path: Path
) -> None:
    """As its head says: with all of it in effect nothing changes."""
    needed = {SyslogConfig: "[[syslog.listeners]]", ForwardConfig: "[[forward.routes]]"}
    if needed.get(kind, "") not in file.read_text(encoding="utf-8"):
        return
    text, count = COMMENTED_OUT.subn(r"\1", file.read_text(encoding="utf-8"))
    folder = tmp_path / "examples"
    shutil.copytree(file.parent, folder)
    before = load(folder / file.name, kind, {})
    (folder / file.name).write_text(text, encoding="utf-8")
    assert count > 0
    assert load(folder / file.name, kind, {}) == before


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
