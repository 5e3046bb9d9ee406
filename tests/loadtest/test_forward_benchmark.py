"""The forwarder's benchmark says what its measures say, and its cases can be run."""

from __future__ import annotations

from itertools import islice

import msgspec
import pytest

from ingest.envelope import data_of, id_of
from ingest_forward.config import ForwardConfig
from loadtest.benchmark_table import BARE, Measure, table
from loadtest.events import events
from loadtest.forward_benchmark_table import CASES, COLUMNS, ForwardCase
from loadtest.forward_load import TYPE, numbered_events, sealed_events

CASE = ForwardCase("unchanged", ({"format": "cloudevents"},), most=4, goal=2.7)


def measures(*costs: float) -> list[Measure]:
    """One measure for each round's cost."""
    return [Measure(cost, 1_000) for cost in costs]


def test_the_table_has_a_row_for_each_case_and_medians_in_it() -> None:
    """The bare producer comes first, with a ratio of one and no limit."""
    result = {BARE: measures(1, 1, 1), "unchanged": measures(2, 9, 3)}
    heading, bare, row = table((CASE,), result, COLUMNS)
    assert row == ["unchanged", "3.00", "2.00-9.00", "3.00", "4", "2.7", "1,000"]
    assert bare == [BARE, "1.00", "1.00-1.00", "1.00", "", "", "1,000"]
    assert len(heading) == len(row)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_forwarder_understands_every_case(case: ForwardCase) -> None:
    """A mistake in a route would be noticed after minutes only."""
    targets = [f"to-{number}" for number in range(len(case.routes))]
    routes = case.tables("from", targets)
    config = ForwardConfig.model_validate({"forward": {"routes": routes}})
    assert not list(config.conflicts())
    assert [route.to for route in config.table().of("from")] == targets


def test_events_are_sealed_as_the_gateway_does_it() -> None:
    """Data and type are the event's, the key is the customer, and every id is another one."""
    records = sealed_events(250)
    sent = list(islice(events(1), 250))
    assert [data_of(record.value) for record in records] == sent
    assert [record.key for record in records] == [
        msgspec.json.decode(event)["customer_id"].encode() for event in sent
    ]
    assert {msgspec.json.decode(record.value)["type"] for record in records} == {TYPE}
    assert len({id_of(record.value) for record in records}) == 250


def test_numbered_events_have_their_number_in_the_id_and_keys_in_turn() -> None:
    """So a test knows what must be there, and in which order."""
    found = [msgspec.json.decode(event) for event in islice(numbered_events("run", keys=2), 3)]
    assert [event["id"] for event in found] == ["run-0", "run-1", "run-2"]
    assert [event["customer_id"] for event in found] == ["c-0", "c-1", "c-0"]
