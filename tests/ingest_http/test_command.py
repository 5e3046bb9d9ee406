"""The command line of ``ingest-http``: exit statuses, and what is printed where."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

import pytest

from ingest import __version__
from ingest.config import load
from ingest_http.__main__ import main
from ingest_http.config import HttpConfig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DIGEST = "0" * 64
GOOD = f'[sources.orders]\n[auth.keys.shop]\nsha256 = ["{DIGEST}"]\nsources = ["*"]\n'
SASL = (
    '[kafka]\nsecurity_protocol = "SASL_PLAINTEXT"\nsasl_mechanism = "PLAIN"\n'
    'sasl_username = "u"\nsasl_password = { env = "KAFKA_PASSWORD" }\n'
)
BAD = '[sources.orders]\ntpoic = "x"\n[auth]\nrequired = false\n[kafka]\nclient_id = 3\n'
BAD_LINES = [
    "ingest.toml: kafka.client_id: expected text",
    'ingest.toml: sources.orders.tpoic: unknown key, did you mean "topic"?',
]
NO_SOURCE = "sources: no source is configured: add [sources.NAME]"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, empty; no variable overrides a setting."""
    for name in [each for each in os.environ if each.startswith("INGEST_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(folder: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command as a process of its own."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "ingest_http", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    return run


# As a process.


def test_a_good_configuration_is_checked_with_status_0(
    run: Callable[..., subprocess.CompletedProcess[str]], folder: Path
) -> None:
    """``ingest.toml`` of the working directory is the default, and nothing is complained of."""
    (folder / "ingest.toml").write_text(GOOD)
    done = run("--check")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "configuration is fine, sources: orders\n"


def test_a_bad_configuration_ends_with_status_2_and_every_error_on_stderr(
    run: Callable[..., subprocess.CompletedProcess[str]], folder: Path
) -> None:
    """A line for each, and no stack trace."""
    (folder / "ingest.toml").write_text(BAD)
    done = run("--check")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == BAD_LINES


def test_a_service_without_a_source_ends_with_status_2(
    run: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """Built-in defaults have none: the command alone does not start, and says what is missing."""
    done = run()
    assert (done.returncode, done.stdout) == (2, "")
    assert f"defaults: {NO_SOURCE}" in done.stderr.splitlines()


def test_a_usage_error_ends_with_status_2(
    run: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """The usage goes to stderr, as logs do."""
    done = run("--chekc")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: ingest-http ")


def test_a_new_key_is_printed_as_a_process_prints_it(
    run: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """No configuration is needed for it."""
    done = run("new-key", "shop")
    assert (done.returncode, done.stderr) == (0, "")
    assert "[auth.keys.shop]" in done.stdout.splitlines()


def test_the_installed_command_is_the_same() -> None:
    """``ingest-http`` and ``python -m ingest_http`` do not differ."""
    (command,) = entry_points(group="console_scripts", name="ingest-http")
    assert command.load() is main


# The rest.


@pytest.mark.parametrize(
    "arguments",
    [
        ["--config"],
        ["--chekc"],
        ["bogus"],
        ["new-key"],
        ["new-key", "a", "b"],
        ["--check", "--config"],
        ["ingest.toml"],
    ],
)
def test_wrong_usage_is_status_2(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    """Nothing is done by half."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    printed = capsys.readouterr()
    assert caught.value.code == 2
    assert printed.out == ""
    assert "usage: ingest-http" in printed.err


@pytest.mark.parametrize(
    ("argument", "text"), [("--version", __version__), ("--help", "usage: ingest-http")]
)
def test_version_and_help_are_a_good_end(
    capsys: pytest.CaptureFixture[str], argument: str, text: str
) -> None:
    """They go to stdout, with status 0."""
    with pytest.raises(SystemExit) as caught:
        main([argument])
    assert caught.value.code == 0
    assert text in capsys.readouterr().out


def test_help_names_every_option_of_the_contract(capsys: pytest.CaptureFixture[str]) -> None:
    """Who asks learns what there is."""
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert [
        each for each in ("--config", "--check", "--print-config", "new-key") if each not in text
    ] == []


@pytest.mark.parametrize(
    "arguments", [["--check"], ["--print-config"], ["--check", "--print-config"], []]
)
def test_a_bad_configuration_is_refused_whatever_is_asked(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    """Nothing goes to stdout, every error to stderr."""
    (folder / "ingest.toml").write_text(BAD)
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == BAD_LINES


def test_the_named_file_is_read_and_named_in_its_errors(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The one in the working directory does not matter then."""
    (folder / "ingest.toml").write_text(BAD)
    (folder / "other").mkdir()
    (folder / "other" / "my.toml").write_text(GOOD)
    assert main(["--config", "other/my.toml", "--check"]) == 0
    (folder / "other" / "my.toml").write_text(BAD)
    assert main(["--config", "other/my.toml", "--check"]) == 2
    expected = [line.replace("ingest.toml", "other/my.toml") for line in BAD_LINES]
    assert capsys.readouterr().err.splitlines() == expected


def test_a_named_file_that_is_not_there_is_a_bad_configuration(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Defaults do not stand in for it."""
    assert main(["--config", "gone.toml", "--check"]) == 2
    assert capsys.readouterr().err == "gone.toml: cannot be read: No such file or directory\n"


def test_variables_of_the_process_count(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They override the file, and misspelt ones are errors."""
    (folder / "ingest.toml").write_text(GOOD)
    monkeypatch.setenv("INGEST_HTTP__LISTEN", "127.0.0.1:0")
    assert main(["--print-config"]) == 0
    assert tomllib.loads(capsys.readouterr().out)["http"]["listen"] == "127.0.0.1:0"
    monkeypatch.setenv("INGEST_HTTP__LISTENS", "127.0.0.1:0")
    assert main(["--check"]) == 2
    text = 'unknown variable, did you mean "INGEST_HTTP__LISTEN"?'
    assert capsys.readouterr().err == f"environment: INGEST_HTTP__LISTENS: {text}\n"


@pytest.mark.parametrize("key", ["ssl_ca_file", "ssl_cert_file"])
def test_certificates_that_are_none_are_a_bad_configuration(
    folder: Path, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    """A service that could never reach Kafka does not start; the file's content is not shown."""
    (folder / "x.pem").write_text("no certificate")
    text = f'[kafka]\nsecurity_protocol = "SSL"\n{key} = "x.pem"\n'
    (folder / "ingest.toml").write_text(GOOD + text)
    assert main(["--check"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("ingest.toml: kafka.ssl_ca_file, kafka.ssl_cert_file, ")
    assert "no certificate" not in line


# The effective configuration.


def test_what_is_printed_is_the_configuration_with_secrets_masked(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Valid TOML, defaults included, and nothing else on stdout."""
    monkeypatch.setenv("KAFKA_PASSWORD", "s3cret")
    (folder / "ingest.toml").write_text(GOOD + SASL)
    assert main(["--print-config"]) == 0
    printed = capsys.readouterr()
    table = tomllib.loads(printed.out)
    assert "s3cret" not in printed.out + printed.err
    assert table["kafka"]["sasl_password"] == "***"
    assert (table["kafka"]["sasl_username"], table["http"]["listen"]) == ("u", "0.0.0.0:8080")
    assert table["auth"]["keys"]["shop"] == {
        "sha256": [DIGEST],
        "sources": ["*"],
        "events_per_second": 0,
        "bytes_per_second": 0,
        "concurrent_requests": 0,
        "tracer": False,
    }


def test_what_is_printed_loads_back_to_the_same(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From another folder too: relative paths were made absolute."""
    (folder / "ingest.toml").write_text(
        '[topics.config]\n"retention.ms" = 5\nx = true\n[http]\nworkers = "auto"\n'
        '[sources.orders]\nkey = "/a~1b"\ntype = "é\\n"\n[sources."web.clicks"]\n'
        "[auth]\nrequired = false\n[service]\ndrain_seconds = 7\n"
    )
    config = load(folder / "ingest.toml", HttpConfig, {})
    assert main(["--print-config"]) == 0
    (folder / "elsewhere").mkdir()
    again = folder / "elsewhere" / "printed.toml"
    again.write_text(capsys.readouterr().out, encoding="utf-8")
    assert load(again, HttpConfig, {}) == config


# Keys.


@pytest.mark.parametrize("name", ["shop", "shop-1", "a b", "web.clicks", 'é"\\', ""])
def test_a_new_key_is_shown_once_with_the_lines_for_its_hash(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """The lines are TOML; the digest in them is that of the key's UTF-8 bytes."""
    assert main(["new-key", name]) == 0
    first, _, rest = capsys.readouterr().out.partition("\n")
    key = first.rpartition(" ")[2]
    (entry,) = tomllib.loads(rest)["auth"]["keys"].items()
    digest = hashlib.sha256(key.encode()).hexdigest()
    assert entry == (name, {"sha256": [digest], "sources": ["*"]})
    assert key not in rest


def test_new_keys_are_long_and_never_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    """256 random bits, written so that they fit into a header as they are."""
    for _ in range(20):
        main(["new-key", "shop"])
    lines = capsys.readouterr().out.splitlines()
    keys = {line.rpartition(" ")[2] for line in lines if line.startswith("key")}
    assert len(keys) == 20
    assert all(len(key) == len("ing_") + 43 and key.isascii() for key in keys)
    assert {character for key in keys for character in key} <= {
        *"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
    }


def test_the_printed_lines_make_a_configuration_that_works(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pasted below a source they are all that is missing."""
    main(["new-key", "shop"])
    lines = capsys.readouterr().out.partition("\n")[2]
    (folder / "ingest.toml").write_text(f"[sources.orders]\n{lines}")
    assert main(["--check"]) == 0
