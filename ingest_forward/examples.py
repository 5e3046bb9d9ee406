"""Examples of a route, which are run wherever its configuration is read. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from ingest.errors import Rejected
from ingest.sources import pointer
from ingest_forward.condition import same
from ingest_forward.event import Event, Reading

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingest.config_problems import KeyPath
    from ingest_forward.route import Route
    from ingest_forward.settings import ExampleSettings, RouteSettings

SHOWN_CHARACTERS = 200
"""How much of a value is shown."""


class Outcome(NamedTuple):
    """What became of an example: its record value, the code of its reject, or nothing."""

    value: bytes | None = None
    code: str = ""
    detail: str = ""

    def __str__(self) -> str:
        if self.code:
            return f'reject = "{self.code}"' + (f" ({self.detail})" if self.detail else "")
        return "skip = true" if self.value is None else _short(self.value.decode())


def failures(settings: RouteSettings, route: Route, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    """(path, text) of each example that does not come out as it says, or says nothing.

    Args:
        settings: of the route.
        route: itself.
        path: where its settings are in the file.
    """
    reading = Reading(route.attributes)
    for number, example in enumerate(settings.examples):
        where = (*path, "examples", number)
        given = [name for name in ("out", "reject", "skip") if getattr(example, name) is not None]
        if len(given) != 1:
            yield where, "expected one of out, reject, skip = true next to in"
        elif example.skip is False:
            yield (*where, "skip"), "expected true"
        elif difference := _difference(example, _outcome(example, settings, route, reading)):
            yield (*where, given[0]), difference


def _outcome(
    example: ExampleSettings, settings: RouteSettings, route: Route, reading: Reading
) -> Outcome:
    topic = example.topic or settings.from_[0].replace("*", "")
    key = None if example.key is None else example.key.encode()
    headers = [(name, value.encode()) for name, value in example.headers.items()]
    event = Event(topic, key, example.in_.encode(), headers, reading)
    if route.excludes(event):
        return Outcome()
    try:
        return Outcome(route.run(event).value) if route.takes(event) else Outcome()
    except Rejected as error:
        return Outcome(code=error.code, detail=error.detail)


def _difference(example: ExampleSettings, found: Outcome) -> str:
    """What is not as the example says; empty where all is."""
    if example.skip:
        return "" if not found.code and found.value is None else f"it is not skipped: {found}"
    if example.reject is not None:
        as_said = found.code != "" and found.code == example.reject
        return "" if as_said else f"it comes out as {found}"
    try:
        wanted = json.loads(example.out or "")
    except (ValueError, RecursionError) as error:
        return f"is no JSON: {error}"
    if found.value is None:
        return f"it comes out as {found}"
    try:
        value = json.loads(found.value)
    except (ValueError, RecursionError):  # it was passed on without a look into it
        return f"it comes out as {found}"
    return _first_difference(wanted, value, "")


def _first_difference(wanted: Any, found: Any, at: str) -> str:
    """Where two JSON values differ first, and how."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        names = dict.fromkeys([*wanted, *found])
        return next(filter(None, (_of_member(wanted, found, name, at) for name in names)), "")
    if isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        pairs = enumerate(zip(wanted, found, strict=True))
        differences = (_first_difference(one, other, f"{at}/{n}") for n, (one, other) in pairs)
        return next(filter(None, differences), "")
    if same(wanted, found):
        return ""
    return f"{at or 'the value'}: expected {_json(wanted)}, and it comes out as {_json(found)}"


def _of_member(wanted: dict[str, Any], found: dict[str, Any], name: str, at: str) -> str:
    below = at + pointer([name])
    if name not in found:
        return f"{below}: expected {_json(wanted[name])}, and it is missing"
    if name not in wanted:
        return f"{below}: it comes out as {_json(found[name])}, and is not expected"
    return _first_difference(wanted[name], found[name], below)


def _json(value: Any) -> str:
    return _short(json.dumps(value, ensure_ascii=False))


def _short(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"
