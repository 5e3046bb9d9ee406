"""The command line of ``ingest-forward``: exit statuses, and what is printed where."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING

import pytest

from tests.ingest_forward.engine import sealed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Done = subprocess.CompletedProcess[str]
    Run = Callable[..., Done]

GOOD = """
[kafka]
bootstrap_servers = "127.0.0.1:1"
[forward]
hash_key = "hunter2"

[[forward.routes]]
name = "orders-to-warehouse"
from = ["orders", "web-*"]
where = { all = [ { type = "order.created" }, { field = "/total", above = 0 } ] }
steps = [{ lift = { "/event_id" = "id" } }, { drop = ["/card"] }, { cast = { "/total" = "int64" } }]
key = "/customer"
to = "warehouse.orders"
schema = { total = "int64", event_id = { type = "string", optional = true } }
[[forward.routes.examples]]
in = '''{"specversion":"1.0","id":"7","source":"s","type":"order.created","data":{"total":"5"}}'''
skip = true

[[forward.routes]]
name = "archive"
from = ["orders", "strict"]
to = "archive"
format = "cloudevents"
tracers = "include"

[[forward.routes]]
name = "strict"
from = ["strict"]
to = "strict.out"
steps = [{ cast = { "/n" = "int32" } }]
on_error = "stop"
"""
BAD = """
[kafka]
client_id = 3
[forward]
grup = "x"
[[forward.routes]]
name = "a"
from = ["orders"]
to = "out"
steps = [{ dorp = ["/card"] }, { cast = { "total" = "int46" } }]
[[forward.routes]]
name = "b"
from = ["orders"]
to = "out"
where = { field = "/a", equal = 1 }
"""
CONFLICTS = """
[[forward.routes]]
name = "a"
from = ["__x", "orders"]
to = "orders"
steps = [{ hash = ["/email"] }]
[[forward.routes]]
name = "a"
from = ["other"]
to = "ingest.rejected"
[[forward.routes.examples]]
in = '''{"specversion":"1.0","id":"7","source":"s","type":"t","data":{"a":1}}'''
out = '''{"a":2}'''
"""
EXPLAIN = ("explain", "--topic", "orders")
ORDER = sealed(b'{"customer":"c1","total":5.0,"card":"4111"}').decode()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command as a process of its own, where ``ingest.toml`` is `GOOD`."""
    for name in [each for each in os.environ if each.startswith("INGEST_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ingest.toml").write_text(GOOD)

    def run(*arguments: str, stdin: str = "") -> Done:
        command = [sys.executable, "-m", "ingest_forward", *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=30, check=False, input=stdin
        )

    return run


# What all services have.


def test_a_good_configuration_is_checked_with_status_0(run: Run) -> None:
    """Its routes are named, and its examples have been run; nothing is complained of."""
    done = run("--check")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "configuration is fine, routes: orders-to-warehouse, archive, strict; examples run: 1\n"
    )


def test_a_bad_configuration_ends_with_status_2_and_every_error_on_stderr(
    run: Run, tmp_path: Path
) -> None:
    """A line for each, with file, key and a suggestion, and no stack trace."""
    (tmp_path / "bad.toml").write_text(BAD)
    done = run("--config", "bad.toml", "--check")
    assert (done.returncode, done.stdout) == (2, "")
    lines = done.stderr.splitlines()
    assert {line.split(": ")[0] for line in lines} == {"bad.toml"}
    found = {line.split(": ")[1]: line for line in lines}
    suggestions = {
        "kafka.client_id": "expected text",
        "forward.grup": 'did you mean "group"?',
        "forward.routes[0].steps[0].dorp": 'did you mean "drop"?',
        "forward.routes[0].steps[1].cast.total": 'did you mean "/total"?',
        "forward.routes[1].where": "expected",
        "forward.routes[1].where.equal": 'did you mean "equals"?',
    }
    assert found.keys() == suggestions.keys()
    assert [key for key, text in suggestions.items() if text not in found[key]] == []


def test_what_does_not_go_together_is_told_all_at_once(run: Run, tmp_path: Path) -> None:
    """Loops, names, topics, a key that is missing, and examples that come out otherwise."""
    (tmp_path / "bad.toml").write_text(CONFLICTS)
    done = run("--config", "bad.toml", "--check")
    assert (done.returncode, done.stdout) == (2, "")
    found = [line.removeprefix("bad.toml: forward.routes") for line in done.stderr.splitlines()]
    assert sorted(line.split(": ")[0] for line in found) == [
        "[0].from[0]",
        "[0].steps[0].hash",
        "[0].to",
        "[1].examples[0].out",
        "[1].name",
        "[1].to",
    ]
    assert any("orders -> orders" in line for line in found)
    assert any("/a: expected 2, and it comes out as 1" in line for line in found)


def test_no_file_or_no_route_ends_with_status_2(run: Run, tmp_path: Path) -> None:
    """There would be nothing to do."""
    assert (tmp_path / "ingest.toml").exists()
    missing = run("--config", "missing.toml")
    assert (missing.returncode, missing.stderr.startswith("missing.toml: ")) == (2, True)
    (tmp_path / "ingest.toml").write_text("")
    without = run()
    assert (without.returncode, without.stdout) == (2, "")
    assert "forward.routes: no route is configured" in without.stderr


def test_the_configuration_is_printed_with_its_secrets_masked(run: Run) -> None:
    """And is a configuration again, in which a route is as it was written."""
    done = run("--print-config")
    assert (done.returncode, done.stderr) == (0, "")
    assert "hunter2" not in done.stdout
    printed, written = tomllib.loads(done.stdout), tomllib.loads(GOOD)
    assert printed["forward"]["hash_key"] == "***"
    assert printed["forward"]["group"] == "ingest-forward"
    for shown, route in zip(
        printed["forward"]["routes"], written["forward"]["routes"], strict=True
    ):
        for example in shown["examples"]:
            assert example.pop("headers") == {}
        assert {**shown, **route} == shown


# explain.


def test_explain_shows_what_each_step_makes_of_a_record(run: Run) -> None:
    """Of each route that takes it, with the conditions that hold, the key and the value."""
    done = run("explain", "--topic", "orders", "--key", "own", stdin=ORDER + "\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "route orders-to-warehouse: takes it",
        "  all: yes",
        '    type: yes, it is "order.created"',
        "    /total above: yes, it is 5.0",
        '  lift: {"customer":"c1","total":5.0,"card":"4111","event_id":"7"}',
        '  drop: {"customer":"c1","total":5.0,"event_id":"7"}',
        '  cast: {"customer":"c1","total":5,"event_id":"7"}',
        "  to warehouse.orders, format plain, key c1",
        '  {"total":5,"event_id":"7"}',
        "route archive: takes it",
        "  to archive, format cloudevents, key own",
        f"  {ORDER}",
    ]


def test_explain_says_why_a_route_does_not_take_a_record(run: Run) -> None:
    """Which conditions hold and which do not; by a pattern too."""
    free = ORDER.replace("5.0", "0")
    done = run("explain", "--topic", "web-shop", stdin=free)
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "route orders-to-warehouse: does not take it",
        "  all: no",
        '    type: yes, it is "order.created"',
        "    /total above: no, it is 0",
    ]


CONDITIONS = """
[kafka]
bootstrap_servers = "127.0.0.1:1"
[[forward.routes]]
name = "all-kinds"
from = ["orders"]
to = "out"
where.any = [
  { source = "shop" }, { type = "t" }, { key = "k" }, { topic = "t" },
  { header = "h", equals = "v" }, { header = "none", equals = "v" },
  { field = "/list", equals = 1 }, { field = "/list/1/a~1b", prefix = "y" },
  { field = "/short", in = ["x"] }, { field = "/long", in = ["x"] },
  { field = "/none", below = 1 }, { field = "/none", exists = true },
  { field = "/list", exists = false },
  { not = { field = "/list/1", exists = true } },
]
"""


def test_explain_shows_what_each_condition_has_looked_at(run: Run, tmp_path: Path) -> None:
    """On one line, as JSON, and no more of it than one can read; or that nothing is there."""
    (tmp_path / "kinds.toml").write_text(CONDITIONS)
    value = '{\n "list": [1.50, {"a/b": "x  y"}], "short": "%s", "long": "%s" }'
    event = sealed((value % ("s" * 78, "l" * 79)).encode()).decode()
    given = ("--topic", "orders", "--key", "gr\u00fcn", "--header", 'h="')
    done = run("explain", *given, "--config", "kinds.toml", stdin=event)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "route all-kinds: does not take it",
        "  any: no",
        '    source: no, it is "/sources/web"',
        '    type: no, it is "order.created"',
        '    key: no, it is "gr\u00fcn"',
        '    topic: no, it is "orders"',
        '    header h: no, it is "\\""',
        "    header none: no, nothing is there",
        '    /list equals: no, it is [1.50,{"a/b":"x  y"}]',
        '    /list/1/a~1b prefix: no, it is "x  y"',
        f'    /short in: no, it is "{"s" * 78}"',
        f'    /long in: no, it is "{"l" * 79}...',
        "    /none below: no, nothing is there",
        "    /none exists: no, nothing is there",
        '    /list exists = false: no, it is [1.50,{"a/b":"x  y"}]',
        "    not: no",
        '      /list/1 exists: yes, it is {"a/b":"x  y"}',
    ]


def test_explain_takes_keys_and_headers_of_any_bytes(run: Run, tmp_path: Path) -> None:
    """As the shell hands them over; what is no UTF-8 is shown as such."""
    (tmp_path / "kinds.toml").write_text(CONDITIONS)
    given = (
        "--topic",
        "orders",
        "--key",
        os.fsdecode(b"k\xff"),
        "--header",
        os.fsdecode(b"h=\xff"),
    )
    done = run("explain", *given, "--config", "kinds.toml", stdin=sealed(b"{}").decode())
    assert done.returncode == 0
    assert '    key: no, it is "k\N{REPLACEMENT CHARACTER}"' in done.stdout.splitlines()
    assert '    header h: no, it is "\N{REPLACEMENT CHARACTER}"' in done.stdout.splitlines()


@pytest.mark.parametrize(
    ("topic", "value", "line"),
    [
        ("orders", "{", "  to the dead letter topic: invalid_json ("),
        ("orders", '{"a":1}', "  to the dead letter topic: not_cloudevents (without specversion"),
        ("orders", ORDER.replace("5.0", "5.5"), "  to the dead letter topic: cast_failed (/total"),
        ("orders", ORDER.replace('"c1"', "{}"), "  to the dead letter topic: bad_key ("),
        ("strict", ORDER.replace("total", "n").replace("5.0", '"x"'), "  stops there: cast_failed"),
        ("strict", "\xff", "  stops there: invalid_json ("),
    ],
)
def test_explain_says_why_a_record_is_rejected(run: Run, topic: str, value: str, line: str) -> None:
    """With the code, and what becomes of it; the other routes are told of all the same."""
    done = run("explain", "--topic", topic, stdin=value)
    assert (done.returncode, done.stderr) == (0, "")
    assert len([each for each in done.stdout.splitlines() if each.startswith(line)]) == 1
    assert "route archive: takes it" in done.stdout


def test_explain_knows_tracers_by_their_header(run: Run) -> None:
    """Routes that exclude them say so."""
    done = run("explain", "--topic", "orders", "--header", "ingest.tracer=1", stdin=ORDER)
    assert done.stdout.splitlines()[:2] == [
        'route orders-to-warehouse: leaves it out, a tracer (tracers = "exclude")',
        "route archive: takes it",
    ]


def test_explain_says_when_nobody_reads_a_topic(run: Run) -> None:
    """And why not, where a pattern would match it but for a route that writes it."""
    assert run("explain", "--topic", "nobody", stdin=ORDER).stdout == "no route reads nobody\n"
    written = run("explain", "--topic", "warehouse.orders", stdin=ORDER)
    assert (written.returncode, written.stdout.splitlines()) == (
        0,
        [
            "no route reads warehouse.orders",
            "  route orders-to-warehouse writes it, so no pattern matches it",
        ],
    )


def test_the_file_may_be_named_before_or_behind_a_command(run: Run, tmp_path: Path) -> None:
    """With the same result; a file that is bad is told as ever."""
    (tmp_path / "ingest.toml").rename(tmp_path / "other.toml")
    before = run("--config", "other.toml", *EXPLAIN, stdin=ORDER)
    behind = run(*EXPLAIN, "--config", "other.toml", stdin=ORDER)
    assert (before.returncode, before.stdout) == (0, behind.stdout)
    assert before.stdout.startswith("route orders-to-warehouse: takes it\n")
    assert run(*EXPLAIN, stdin=ORDER).returncode == 2
    (tmp_path / "other.toml").write_text(BAD)
    assert run(*EXPLAIN, "--config", "other.toml", stdin=ORDER).returncode == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["explain"], "--topic"),
        (["explain", "--topic"], "--topic"),
        (["explain", "--topic", "a", "--header", "x"], "expected NAME=VALUE"),
        (["schema"], "route"),
        (["--dry-run"], "--dry-run"),
        (["--dry-run", "0"], "expected a number of records, at least 1"),
        (["--dry-run", "many"], "expected a number of records, at least 1"),
        (["--check", *EXPLAIN], "--check and explain exclude each other"),
        (["--print-config", *EXPLAIN], "--print-config and explain exclude each other"),
        (["--dry-run", "1", *EXPLAIN], "--dry-run and explain exclude each other"),
        (["--check", "schema", "archive"], "--check and schema exclude each other"),
        (["--print-config", "schema", "archive"], "--print-config and schema exclude each other"),
        (["--dry-run", "1", "schema", "archive"], "--dry-run and schema exclude each other"),
        (["--check", "--dry-run", "1"], "--check and --dry-run exclude each other"),
        (["--print-config", "--dry-run", "1"], "--print-config and --dry-run exclude each other"),
        (["--check", "--print-config", *EXPLAIN], "--check and explain exclude each other"),
        (["nonsense"], "explain"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_bad_usage_ends_with_status_2(run: Run, arguments: list[str], said: str) -> None:
    """With what is wrong on stderr."""
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr.splitlines()[-1]


# schema.


def test_the_schema_of_a_route_is_one_line_of_json(run: Run) -> None:
    """As a JsonConverter takes it."""
    done = run("schema", "orders-to-warehouse")
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    assert json.loads(line) == {
        "type": "struct",
        "optional": False,
        "fields": [
            {"field": "total", "type": "int64", "optional": False},
            {"field": "event_id", "type": "string", "optional": True},
        ],
    }


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("orders-to-warehuose", 'did you mean "orders-to-warehouse"?'),
        ("zzz", "there is no route 'zzz'"),
        ("archive", "route 'archive' has no schema"),
    ],
)
def test_a_schema_that_there_is_not_ends_with_status_2(run: Run, name: str, said: str) -> None:
    """With a suggestion where the name is close."""
    done = run("schema", name)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


# --dry-run.


def test_a_dry_run_without_kafka_ends_with_status_1(run: Run) -> None:
    """It says where Kafka is not, in one line."""
    done = run("--dry-run", "3")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("cannot read from Kafka at 127.0.0.1:1: ")
