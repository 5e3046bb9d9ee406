"""The forwarder's benchmark does its work, as it is started by hand."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from loadtest.benchmark_table import BARE
from loadtest.forward_benchmark_table import CASES
from tests.e2e.test_loadtools import run

if TYPE_CHECKING:
    from tests.conftest import Kafka


def test_the_benchmark_measures_every_case(kafka: Kafka) -> None:
    """The forwarder with each set of routes, next to the bare producer."""
    report = run(kafka, "loadtest.forward_benchmark", "--quick", "--rounds", "1")
    rows = dict(re.findall(r"^(.+?) {2,}(\d+\.\d+)", report, re.MULTILINE))
    assert rows.keys() == {BARE, *(case.name for case in CASES)}
    assert all(float(cost) > 0 for cost in rows.values())
