"""The load tools do their work on the real gateway, as they are started by hand."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

from loadtest.gateway import NAMED_BROKER, ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from loadtest.gateway import Gateway
    from tests.conftest import Kafka


def run(kafka: Kafka, *command: str) -> str:
    """Run a module on the cluster of the tests; its output."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env={**os.environ, NAMED_BROKER: kafka.servers},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        timeout=100,
    )
    return done.stdout


def test_the_ledger_judges_a_gateway_of_its_own(kafka: Kafka, tmp_path: Path) -> None:
    """It starts one, sends, reads back, and finds every promise kept."""
    topic = kafka.new_name("ledger")
    book = tmp_path / "book"
    options = ("--events", "5000", "--connections", "4", "--topic", topic, "--file", str(book))
    report = run(kafka, "loadtest.ledger", *options)
    assert "\nok: 5000 events sent\n" in report
    assert re.search(r"^ +5000  acknowledged$", report, re.MULTILINE)
    assert re.search(r"^ +50  HTTP 200$", report, re.MULTILINE)
    assert len(kafka.read(topic)) == 5000
    assert len(book.read_text().splitlines()) == 100


def test_the_ledger_judges_a_gateway_that_is_running(kafka: Kafka, gateway: Gateway) -> None:
    """By its address, and whatever was in the topic before."""
    options = ("--url", gateway.url, "--key", gateway.key, "--bootstrap-servers", kafka.servers)
    topic = gateway.status()["sources"]["orders"]["topic"]
    options = (*options, "--source", "orders", "--topic", topic, "--events", "500")
    before = gateway.accounts()["orders"]["acked"]
    for _ in range(2):
        report = run(kafka, "loadtest.ledger", *options)
        assert report.startswith("ok: 500 events sent\n")
    assert gateway.accounts()["orders"]["acked"] - before == 1000


def test_the_benchmark_measures_every_case(kafka: Kafka) -> None:
    """Gateway and naive gateway next to the bare producer, in batches and single events."""
    report = run(kafka, "loadtest.benchmark", "--quick", "--rounds", "1")
    rows = dict(re.findall(r"^(.+?) {2,}(\d+\.\d+)", report, re.MULTILINE))
    assert set(rows) >= {
        "bare producer",
        "gateway, batches of 100",
        "gateway, single events",
        "naive gateway, batches of 100",
        "naive gateway, single events",
    }
    assert all(float(cost) > 0 for cost in rows.values())


def test_locust_posts_batches_and_single_events(
    kafka: Kafka, gateway: Gateway, tmp_path: Path
) -> None:
    """Both kinds of users, for a few seconds, without a failure."""
    before = gateway.accounts()["load"]["acked"]
    report = run(
        kafka,
        *("locust", "-f", "loadtest/locustfile.py", "--headless", "--json", "--only-summary"),
        *("--users", "4", "--spawn-rate", "4", "--run-time", "3s", "--batch-size", "50"),
        *("--host", gateway.url, "--key", gateway.key, "--source", "load"),
    )
    rows = {row["name"]: row for row in json.loads(report)}
    assert rows.keys() == {"batch", "single"}
    assert sum(row["num_failures"] for row in rows.values()) == 0
    sent = 50 * rows["batch"]["num_requests"] + rows["single"]["num_requests"]
    assert gateway.accounts()["load"]["acked"] - before >= sent > 0
