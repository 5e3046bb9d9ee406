"""Logs: one line for each event, in which nothing that a client sends can do any harm."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import sys
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from ingest import log
from ingest.settings import ServiceSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HOSTILE = [
    "line\nfeed",
    'forged\r\n{"event":"listening","listener":"http","address":"192.0.2.1:1"}',
    "forged\ntimestamp='2026-01-01T00:00:00Z' level='info' event='listening'",
    "\x1b[31mred\x1b]0;title\x07",
    "\x9b31m\x85\x90",
    "\0\b\t\v\f\x7f",
    "\u2028\u2029\u202e\u200b\ufeff",
    "\ud800",
    "quote'quote\"back\\slash",
    "plain é€😀",
]
ours = structlog.get_logger()
theirs = logging.getLogger("some.library")


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """What is configured here ends with the test."""
    root = logging.getLogger()
    levels = {name: logging.getLogger(name).level for name in ("", *log.SILENCED)}
    handlers, configured = list(root.handlers), structlog.get_config()
    yield
    structlog.configure(**configured)
    root.handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """What is written to standard error, configured as told, while something is done."""

    def capture(work: Callable[[], Any], log_format: str = "json", level: str = "info") -> str:
        stderr = io.StringIO()
        monkeypatch.setattr(sys, "stderr", stderr)
        log.configure(ServiceSettings(log_format=log_format, log_level=level), "ingest-http")
        work()
        return stderr.getvalue()

    return capture


def entries(text: str) -> list[dict[str, Any]]:
    """The entries of JSON lines."""
    return [json.loads(line) for line in text.split("\n")[:-1]]


def failure(text: str) -> ValueError:
    """An error with this text and a traceback."""
    try:
        int(f"{text} is no number")
    except ValueError as error:
        error.args = (text,)
        return error
    raise AssertionError


def test_a_line_says_when_what_who_and_how_bad(logged: Callable[..., str]) -> None:
    """As JSON, with whatever else belongs to the event."""
    (entry,) = entries(logged(lambda: ours.warning("topic_missing", topic="orders", count=3)))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", entry.pop("timestamp"))
    assert entry == {
        "event": "topic_missing",
        "level": "warning",
        "service": "ingest-http",
        "topic": "orders",
        "count": 3,
    }


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize(("log_format", "start"), [("json", "{"), ("text", "timestamp=")])
def test_nothing_in_a_value_can_forge_a_line_or_drive_a_terminal(
    logged: Callable[..., str], log_format: str, start: str, value: str
) -> None:
    """Control characters, and whatever else does not print, are escaped: also in tracebacks."""

    def work() -> None:
        ours.info("event", value=value)
        ours.info("event", value=[value], more={"k": value}, raw=value.encode("utf-8", "replace"))
        ours.error("event", exc_info=failure(value))
        theirs.warning("library %s", value)
        theirs.warning("library", exc_info=failure(value))

    text = logged(work, log_format)
    lines = text.split("\n")[:-1]
    assert len(lines) == len(text.splitlines()) == 5
    assert all(line.isprintable() and line.startswith(start) for line in lines)


@pytest.mark.parametrize("value", HOSTILE)
def test_a_value_can_be_read_back_from_json(logged: Callable[..., str], value: str) -> None:
    """Escaped, not changed."""
    (entry,) = entries(logged(lambda: ours.info("event", value=value)))
    assert entry["value"] == value


@pytest.mark.parametrize("logger", [ours, theirs])
def test_an_exception_is_part_of_its_line(logged: Callable[..., str], logger: Any) -> None:
    """With its traceback, whoever logged it."""
    (entry,) = entries(logged(lambda: logger.error("bad", exc_info=failure("why"))))
    assert entry["event"] == "bad"
    assert entry["exception"].startswith("Traceback ")
    assert entry["exception"].endswith("ValueError: why")


def test_libraries_log_in_the_same_form(logged: Callable[..., str]) -> None:
    """With time, level and service."""
    (entry,) = entries(logged(lambda: theirs.warning("%s is odd", "it")))
    assert entry.pop("timestamp").endswith("Z")
    assert entry == {"event": "it is odd", "level": "warning", "service": "ingest-http"}


@pytest.mark.parametrize(
    "name",
    ["aiokafka", "aiokafka.producer.sender", "kafka.conn", "aiohttp.server", "aiohttp.access"],
)
def test_libraries_that_log_every_attempt_or_what_clients_sent_are_silent(
    logged: Callable[..., str], name: str
) -> None:
    """Even their worst."""
    assert logged(lambda: logging.getLogger(name).critical("secret payload")) == ""


@pytest.mark.parametrize(
    ("level", "from_us", "from_them"),
    [
        ("debug", ["debug", "info", "warning", "error"], ["warning", "error"]),
        ("info", ["info", "warning", "error"], ["warning", "error"]),
        ("warning", ["warning", "error"], ["warning", "error"]),
        ("error", ["error"], ["error"]),
    ],
)
def test_what_is_below_the_level_is_left_out(
    logged: Callable[..., str], level: str, from_us: list[str], from_them: list[str]
) -> None:
    """For us and for libraries, whose chatter is left out in any case."""

    def work() -> None:
        for each in ("debug", "info", "warning", "error"):
            getattr(ours, each)("ours")
            getattr(theirs, each)("theirs")

    found = [(entry["event"], entry["level"]) for entry in entries(logged(work, level=level))]
    assert [each for who, each in found if who == "ours"] == from_us
    assert [each for who, each in found if who == "theirs"] == from_them


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """What is logged, configured as told, where standard error is a terminal."""

    def capture(work: Callable[[], Any], log_format: Any) -> str:
        screen, keyboard = os.openpty()
        with (
            os.fdopen(keyboard, "w", encoding="utf-8") as stderr,
            os.fdopen(screen, "rb", buffering=0) as out,
        ):
            monkeypatch.setattr(sys, "stderr", stderr)
            log.configure(ServiceSettings(log_format=log_format), "ingest-http")
            work()
            stderr.write("\n")
            return out.read(4096).decode()

    return capture


@pytest.mark.parametrize("log_format", ["auto", "text"])
def test_a_person_at_a_terminal_gets_text(shown: Callable[..., str], log_format: str) -> None:
    """Time, level and event come first, and there are no colours."""
    text = shown(lambda: ours.info("listening", address="127.0.0.1:8080"), log_format)
    start = r"timestamp='[^'\x1b]+Z' level='info' event='listening' "
    assert re.fullmatch(start + r"address='127.0.0.1:8080' service='ingest-http'\s+", text)


def test_json_is_json_at_a_terminal_too(shown: Callable[..., str]) -> None:
    """What was asked for is what comes."""
    assert json.loads(shown(lambda: ours.info("listening"), "json"))["event"] == "listening"


def test_auto_is_json_where_nobody_looks(logged: Callable[..., str]) -> None:
    """A file or a pipe is read by programs."""
    (entry,) = entries(logged(lambda: ours.info("listening"), "auto"))
    assert entry["event"] == "listening"
