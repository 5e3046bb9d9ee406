"""The worked example of the README, with its very words: from a POST to a line in a sink's file."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from loadtest.gateway import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

    from loadtest.forwarder import Forwarder
    from tests.conftest import Kafka
    from tests.connect_sink import FileSink
    from tests.e2e.conftest import Client

EXAMPLE = re.compile(r"<!-- example: ([a-z.]+) -->\n```\w*\n(.*?)```\n", re.DOTALL)


def examples() -> dict[str, str]:
    """Name -> text of each marked block of the README."""
    return dict(EXAMPLE.findall((Path(ROOT) / "README.md").read_text(encoding="utf-8")))


def printed(tmp_path: Path, *arguments: str, stdin: str = "") -> str:
    """What `ingest-forward` prints with the README's configuration."""
    config = tmp_path / "ingest.toml"
    config.write_text(examples()["ingest.toml"], encoding="utf-8")
    command = [sys.executable, "-m", "ingest_forward", "--config", str(config), *arguments]
    done = subprocess.run(
        command, cwd=ROOT, check=True, capture_output=True, text=True, input=stdin, timeout=30
    )
    return done.stdout


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("check", ["--check"]), ("schema", ["schema", "orders-to-warehouse"])],
)
def test_commands_print_what_the_readme_says(
    name: str, arguments: list[str], tmp_path: Path
) -> None:
    """With its configuration."""
    assert printed(tmp_path, *arguments) == examples()[name]


def test_an_event_is_explained_as_the_readme_says(tmp_path: Path) -> None:
    """The posted event, in its envelope."""
    event = {"specversion": "1.0", "id": "o-1", "source": "/sources/orders"}
    event |= {"type": "order.created", "data": json.loads(examples()["post"])}
    value = json.dumps(event, separators=(",", ":"))
    assert printed(tmp_path, "explain", "--topic", "orders", stdin=value) == examples()["explain"]


async def test_a_post_becomes_a_line_in_the_file_of_a_sink(
    kafka: Kafka,
    start_client: Callable[..., Client],
    start_forwarder: Callable[..., Forwarder],
    start_sink: Callable[..., FileSink],
    tmp_path: Path,
) -> None:
    """Through gateway, forwarder and Kafka Connect, with the README's source, route and sink."""
    readme = examples()
    config = tomllib.loads(readme["ingest.toml"])
    (route,) = config["forward"]["routes"]
    connector = json.loads(readme["connector"])
    assert connector["topics"] == route["to"]
    # The topics have names of their own, since others use this broker too.
    source, target = (kafka.create(kafka.new_name(stem), 1) for stem in ("orders", "warehouse"))
    client = start_client({"sources.orders": {**config["sources"]["orders"], "topic": source}})
    start_forwarder([{**route, "from": source, "to": target}])
    prefix = "value.converter"
    converter = {
        key.removeprefix(prefix).removeprefix("."): value
        for key, value in connector.items()
        if key.startswith(prefix)
    }
    converter["schema.content"] = printed(tmp_path, "schema", route["name"])
    sink = start_sink(target, converter)
    answer = await client.post("orders", readme["post"].encode())
    assert answer.status == 200
    assert sink.lines(1) == readme["line"].splitlines()
