"""The command line of ``ingest-spool``: exit statuses, and what is printed where."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING

import pytest

from ingest import __version__
from ingest_spool.__main__ import main

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from tests.ingest_spool.conftest import Done, Left

    Run = Callable[..., Done]

COMMANDS = ("list", "verify", "drain")
BAD = "[kafka]\nclient_id = 3\n[spool]\npth = 'x'\n"
BAD_LINES = [
    "ingest.toml: kafka.client_id: expected text",
    'ingest.toml: spool.pth: unknown key, did you mean "path"?',
]


def test_the_installed_command_is_the_same() -> None:
    """``ingest-spool`` and ``python -m ingest_spool`` do not differ."""
    (command,) = entry_points(group="console_scripts", name="ingest-spool")
    assert command.load() is main


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["bogus"],
        ["list", "--config"],
        ["list", "--jsno"],
        ["list", "extra"],
        ["list", "--seconds", "1"],
        ["verify", "--json"],
        ["verify", "--folder", "x"],
        ["verify", "--folder", "-1"],
        ["list", "--service", "../x"],
        ["list", "--service", ""],
        ["drain", "--seconds", "0"],
        ["drain", "--seconds", "nan"],
        ["drain", "--seconds", "inf"],
        ["drain", "--seconds", "x"],
    ],
)
def test_wrong_usage_is_status_2(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    """Nothing is done by half; the usage goes to stderr."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    printed = capsys.readouterr()
    assert caught.value.code == 2
    assert printed.out == ""
    assert "usage: ingest-spool" in printed.err


@pytest.mark.parametrize(
    ("arguments", "texts"),
    [
        (["--version"], [__version__]),
        (["--help"], ["list", "verify", "drain", "locked", "Exit status: 0 "]),
        (["list", "--help"], ["--config", "--service", "--folder", "--json", "Exit status: 0 "]),
        (["verify", "--help"], ["--config", "--service", "--folder", "write-ahead log"]),
        (["drain", "--help"], ["--config", "--service", "--folder", "--seconds", "dead letter"]),
    ],
)
def test_who_asks_learns_what_there_is(
    capsys: pytest.CaptureFixture[str], arguments: list[str], texts: list[str]
) -> None:
    """Version and help go to stdout, with status 0, and name every option."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    assert [text for text in texts if text not in printed] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_a_bad_configuration_is_status_2_with_every_error_on_stderr(
    folder: Path, run: Run, command: str
) -> None:
    """A line for each, and no stack trace."""
    (folder / "ingest.toml").write_text(BAD)
    done = run(command)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == BAD_LINES


def test_a_named_file_that_is_not_there_is_a_bad_configuration(run: Run) -> None:
    """Defaults do not stand in for it."""
    done = run("list", "--config", "gone.toml")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "gone.toml: cannot be read: No such file or directory\n"


def test_certificates_that_are_none_are_a_bad_configuration(folder: Path, run: Run) -> None:
    """What could never reach Kafka does not begin to drain."""
    (folder / "x.pem").write_text("no certificate")
    text = '[kafka]\nsecurity_protocol = "SSL"\nssl_ca_file = "x.pem"\n'
    (folder / "ingest.toml").write_text(text)
    done = run("drain")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("ingest.toml: kafka.ssl_ca_file, ")


@pytest.mark.parametrize("mode", ["off", "auto"])
@pytest.mark.parametrize("command", COMMANDS)
def test_neither_a_source_nor_the_mode_is_needed(
    folder: Path, left: Left, run: Run, command: str, mode: str
) -> None:
    """A spool may have been switched off with something in it."""
    left.root.mkdir()
    text = f'[spool]\nmode = "{mode}"\npath = "spool"\n[http]\nanything = "goes"\n'
    (folder / "ingest.toml").write_text(text)
    done = run(command)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_path_that_is_not_there_is_told_of_and_no_error(
    left: Left, run: Run, command: str
) -> None:
    """Nothing was ever spooled, or the configuration is another one: people can tell."""
    done = run(command)
    assert done.returncode == 0
    assert done.stderr == f"{left.root}: there is no such folder\n"
    assert not left.root.exists()


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("named", [("--service", "ingest-htpp"), ("--folder", "7")])
def test_what_was_asked_for_by_name_must_be_there(
    left: Left, run: Run, command: str, named: tuple[str, str]
) -> None:
    """A slip of the pen does not look like an empty spool."""
    left.file([("orders", [b"x"])])
    before = left.names()
    done = run(command, *named)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"{left.root}: there is no such service or number\n"
    assert left.names() == before


def test_it_ends_as_a_process_ends(left: Left, start: Callable[..., subprocess.Popen[str]]) -> None:
    """Status, stdout and stderr are those that were told above."""
    left.file([("orders", [b"x"])])
    process = start("verify")
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (0, "")
    assert "1 batches with 1 events are good" in stdout
