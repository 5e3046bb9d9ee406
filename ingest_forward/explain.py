"""What the routes make of one record, step by step, in words. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ingest.errors import Rejected
from ingest_forward.document import BAD_JSON, text_of
from ingest_forward.step import Work

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingest_forward.condition import Condition
    from ingest_forward.event import Event
    from ingest_forward.route import Route
    from ingest_forward.table import Table

INDENT = "  "
LONGEST = 80
"""So many characters of a value that a condition has looked at are shown."""


def explained(table: Table, event: Event) -> Iterator[str]:
    """Lines for people: which routes take the record and why, and what each step makes of it."""
    routes = table.of(event.topic)
    if not routes:
        yield f"no route reads {event.topic}"
        for route in table.routes:
            if event.topic == route.to:
                yield f"{INDENT}route {route.name} writes it, so no pattern matches it"
    for route in routes:
        yield from _route(route, event)


def _route(route: Route, event: Event) -> Iterator[str]:
    if route.excludes(event):
        yield f'route {route.name}: leaves it out, a tracer (tracers = "exclude")'
        return
    try:
        takes = route.takes(event)
    except Rejected as error:
        yield f"route {route.name}: cannot tell whether it takes it"
        yield from _rejected(route, error)
        return
    yield f"route {route.name}: {'takes it' if takes else 'does not take it'}"
    try:
        if route.where is not None:
            yield from _condition(route.where, event, 1)
        if takes:
            yield from _made(route, event)
    except Rejected as error:
        yield from _rejected(route, error)
    except BAD_JSON:
        yield from _rejected(route, Rejected("invalid_json"))


def _rejected(route: Route, error: Rejected) -> Iterator[str]:
    what = "stops there" if route.stops else "to the dead letter topic"
    yield f"{INDENT}{what}: {error.code}" + (f" ({error.detail})" if error.detail else "")


def _condition(condition: Condition, event: Event, depth: int) -> Iterator[str]:
    there = event.value is not None or not condition.reads_value
    holds = there and condition.test(event)
    seen = "" if condition.sees is None else _seen(condition.sees(event) if there else None)
    yield f"{INDENT * depth}{condition.text}: {'yes' if holds else 'no'}{seen}"
    for part in condition.parts:
        yield from _condition(part, event, depth + 1)


def _seen(text: bytes | None) -> str:
    """What a condition has looked at: it may have been sent over several lines."""
    if text is None:
        return ", nothing is there"
    value = msgspec.json.format(text, indent=-1).decode()
    return f", it is {value[:LONGEST]}{'...' if len(value) > LONGEST else ''}"


def _made(route: Route, event: Event) -> Iterator[str]:
    if event.value is None:
        yield f"{INDENT}the value is null: it passes as it is"
    elif not route.passes_bytes:
        work = Work(event)
        for step in route.steps:
            changed = step.apply(work)
            yield f"{INDENT}{step.name}: {_text(work) if changed else 'changes nothing'}"
    output = route.run(event)
    key = "none" if output.key is None else output.key.decode(errors="replace")
    yield f"{INDENT}to {route.to}, format {route.format}, key {key}"
    value = "null" if output.value is None else output.value.decode(errors="replace")
    yield f"{INDENT}{value}"


def _text(work: Work) -> str:
    return text_of(work.root).decode(errors="replace")
