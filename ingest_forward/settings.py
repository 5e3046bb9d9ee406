"""[forward]: the settings of the forwarder alone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PositiveInt, SecretStr

from ingest.config_problems import problems_within
from ingest.settings import Settings, TopicName
from ingest_forward.condition import compile_condition
from ingest_forward.connect_schema import compile_schema
from ingest_forward.problems import Problems
from ingest_forward.step import compile_step

if TYPE_CHECKING:
    from collections.abc import Callable

ROUTE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
TOPIC_PATTERN = re.compile(r"[A-Za-z0-9._*-]{1,249}")


def _is_route_name(value: str) -> str:
    if not ROUTE_NAME.fullmatch(value):
        raise ValueError("is no name for a route: letters, digits, '.', '_' and '-', at most 128")
    return value


def _is_topic_pattern(value: str) -> str:
    if not TOPIC_PATTERN.fullmatch(value) or value in {".", ".."}:
        raise ValueError("expected a topic, or a pattern of topics with '*', such as \"web-*\"")
    return value


def _checked(look: Callable[[Any, Problems], object]) -> Callable[[Any], Any]:
    """A validator that takes a value as it is, once ``look`` has found nothing wrong in it."""

    def validate(value: Any) -> Any:
        problems = Problems()
        look(value, problems)
        if problems.found:
            raise problems_within(problems.found)
        return value

    return validate


_SOME_KEY = b"some key"
"""Whether there is one is seen where all settings are together."""
Where = Annotated[
    dict[str, Any], AfterValidator(_checked(lambda v, found: compile_condition(v, (), found)))
]
StepTable = Annotated[
    Any, AfterValidator(_checked(lambda v, found: compile_step(v, (), found, _SOME_KEY)))
]
Schema = Annotated[
    dict[str, Any], AfterValidator(_checked(lambda v, found: compile_schema(v, (), found)))
]
KeyPointer = Annotated[str, AfterValidator(_checked(lambda v, found: found.pointer(v, ())))]


def _one_is_a_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


RouteName = Annotated[str, AfterValidator(_is_route_name)]
TopicPattern = Annotated[str, AfterValidator(_is_topic_pattern)]


class ExampleSettings(Settings):
    """One of [[forward.routes.examples]]: a record value, and what becomes of it."""

    in_: str = Field(alias="in")
    out: str | None = None
    reject: str | None = None
    skip: bool | None = None
    key: str | None = None
    topic: TopicName | None = None
    headers: dict[str, str] = Field(default_factory=dict)


class RouteSettings(Settings):
    """One of [[forward.routes]].

    Attributes:
        where, steps, schema_: as in the file; `ingest_forward.route` makes something of them.
    """

    name: RouteName
    from_: Annotated[list[TopicPattern], BeforeValidator(_one_is_a_list)] = Field(
        alias="from", min_length=1
    )
    where: Where | None = None
    steps: list[StepTable] = Field(default_factory=list)
    key: KeyPointer | None = None
    to: TopicName
    format: Literal["cloudevents", "plain", "connect-envelope"] = "plain"
    schema_: Schema | None = Field(default=None, alias="schema")
    on_error: Literal["dead_letter", "stop"] = "dead_letter"
    tracers: Literal["exclude", "include"] = "exclude"
    examples: list[ExampleSettings] = Field(default_factory=list)


class ForwardSettings(Settings):
    """The section [forward]."""

    group: str = Field(default="ingest-forward", min_length=1)
    workers: PositiveInt | Literal["auto"] = 1
    hash_key: SecretStr | None = None
    routes: list[RouteSettings] = Field(default_factory=list)
