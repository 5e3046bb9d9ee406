"""What is told at the terminal."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from deploy.local.instructions import (
    BATCH,
    EVENT,
    SOURCE,
    curl,
    introduction,
    log_line,
    logger,
)

HTTP, MANAGEMENT, LOG = "http://127.0.0.1:8080", "http://127.0.0.1:9090", Path("run/gateway.log")
SYSLOG = {"udp": "127.0.0.1:5514", "tcp": "127.0.0.1:5515", "relp": "127.0.0.1:2514"}


@pytest.mark.parametrize("body", [EVENT, BATCH, {"who": 'it\'s "me" $HOME `id` \\'}])
def test_a_shell_reads_the_command_as_it_is_meant(body: Any) -> None:
    """One URL, the key, the type, and the body as it was, in one line."""
    command = curl(HTTP, "k$e'y", body)
    words = shlex.split(command)
    assert "\n" not in command
    assert words[0] == "curl"
    assert f"{HTTP}/v1/events/{SOURCE}" in words
    assert "Authorization: Bearer k$e'y" in words
    assert "Content-Type: application/json" in words
    assert json.loads(words[words.index("-d") + 1]) == body


def test_the_introduction_has_all_there_is_to_know() -> None:
    """What to try, where to look, and how to end it."""
    text = introduction(HTTP, MANAGEMENT, SYSLOG, LOG, "key", older=0)
    for known in (curl(HTTP, "key", EVENT), curl(HTTP, "key", BATCH), MANAGEMENT, str(LOG)):
        assert known in text
    for known in (logger("127.0.0.1:5515", "tcp"), logger("127.0.0.1:5514", "udp"), "2514"):
        assert known in text
    assert "Ctrl-C ends it all" in text
    assert "older" not in text


def test_records_of_earlier_runs_are_counted() -> None:
    """So that nobody wonders about the offsets."""
    text = introduction(HTTP, MANAGEMENT, SYSLOG, LOG, "key", older=17)
    assert "17 older records are there already" in text


ENTRY = {"event": "kafka_unreachable", "timestamp": "now", "service": "ingest-http"}


@pytest.mark.parametrize(
    ("entry", "shown"),
    [
        ({**ENTRY, "level": "info"}, None),
        ({**ENTRY, "level": "debug"}, None),
        ({**ENTRY, "level": "warning"}, "gateway: warning: kafka_unreachable"),
        ({**ENTRY, "level": "error", "reason": "x"}, "gateway: error: kafka_unreachable reason=x"),
        ({**ENTRY, "level": "error", "why": "\x1b[2J\n"}, r" why=\x1b[2J\n"),
        ({"text": "Traceback\x1b"}, r"gateway: Traceback\x1b"),
    ],
)
def test_warnings_of_the_gateway_are_shown_readable(
    entry: dict[str, str], shown: str | None
) -> None:
    """And what is no log entry at all; the rest is in the file for who looks for it."""
    line = log_line(entry, own_broker=True)
    assert line == shown or (line is not None and shown is not None and line.endswith(shown))


def test_a_single_broker_is_no_news_where_it_is_ours() -> None:
    """It is by design; about a named cluster the warning is shown."""
    entry = {"event": "topic_not_replicated", "level": "warning", "topic": "orders"}
    assert log_line(entry, own_broker=True) is None
    assert log_line(entry, own_broker=False) == (
        "gateway: warning: topic_not_replicated topic=orders"
    )
