"""Environment variables that override single values."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import Field, PositiveFloat, PositiveInt, SecretStr

from ingest.config_environment import Overlay
from ingest.settings import Address, Settings


class Inner(Settings):
    """A table in a section."""

    cert: str = ""


class Section(Settings):
    """A section with one key of each kind."""

    text: str = ""
    address: Address = "h:1"
    secret: SecretStr | None = None
    whole: PositiveInt = 1
    number: PositiveFloat = 1.0
    flag: bool = True
    word: Literal["on", "off"] = "on"
    workers: PositiveInt | Literal["auto"] = 1
    maybe: str | None = None
    names: list[str] = Field(default_factory=list)
    config: dict[str, str | int] = Field(default_factory=dict)
    inner: Inner | None = None


def overlay(**environ: str) -> Overlay:
    """What these variables make of the section ``part``, next to the foreign section ``other``."""
    return Overlay(environ, {"part": Section}, frozenset({"other"}))


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("text", "x", "x"),
        ("text", "1", "1"),
        ("text", "true", "true"),
        ("text", "", ""),
        ("text", " é ", " é "),
        ("address", "0.0.0.0:80", "0.0.0.0:80"),
        ("secret", "123", "123"),
        ("maybe", "none", "none"),
        ("word", "off", "off"),
        ("whole", "4", 4),
        ("whole", "-4", -4),
        ("whole", "10_485_760", 10_485_760),
        ("number", "4", 4.0),
        ("number", "0.002", 0.002),
        ("flag", "true", True),
        ("flag", "False", False),
        ("workers", "8", 8),
        ("workers", "auto", "auto"),
    ],
)
def test_text_becomes_a_value_of_the_kind_its_key_has(key: str, text: str, value: Any) -> None:
    """Numbers and booleans are read as such only where the key is one."""
    found = overlay(**{f"INGEST_PART__{key.upper()}": text})
    assert found.problems == []
    assert found.values == {("part", key): value}
    assert type(found.values["part", key]) is type(value)
    assert found.names == {("part", key): f"INGEST_PART__{key.upper()}"}


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("whole", "many"),
        ("whole", "1.5"),
        ("whole", ""),
        ("number", "4s"),
        ("flag", "1"),
        ("flag", "yes"),
        ("flag", ""),
    ],
)
def test_text_that_does_not_fit_is_kept_for_validation_to_refuse(key: str, text: str) -> None:
    """It stays text, which no such key takes."""
    assert overlay(**{f"INGEST_PART__{key.upper()}": text}).values == {("part", key): text}


@pytest.mark.parametrize("key", ["names", "config", "inner"])
@pytest.mark.parametrize("text", ["", "x", "[]", "{}"])
def test_lists_and_tables_are_refused(key: str, text: str) -> None:
    """The environment sets single values only."""
    name = f"INGEST_PART__{key.upper()}"
    found = overlay(**{name: text})
    assert found.problems == [(name, "only single values can be set by the environment")]
    assert found.values == {}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("INGEST_PART__WHOL", 'unknown variable, did you mean "INGEST_PART__WHOLE"?'),
        ("INGEST_PRAT__WHOLE", 'unknown variable, did you mean "INGEST_PART__WHOLE"?'),
        ("INGEST_PART_WHOLE", 'unknown variable, did you mean "INGEST_PART__WHOLE"?'),
        ("INGEST_part__whole", 'unknown variable, did you mean "INGEST_PART__WHOLE"?'),
        ("INGEST_PART__INNER__CERT", 'unknown variable, did you mean "INGEST_PART__INNER"?'),
        ("INGEST_XYZ", "unknown variable"),
        ("INGEST_SOURCES__ORDERS", "unknown variable"),
        ("INGEST_PART", "unknown variable"),
        ("INGEST_OTHER", "unknown variable"),
        ("INGEST_", "unknown variable"),
    ],
)
def test_an_unknown_variable_is_a_problem(name: str, text: str) -> None:
    """It is never ignored, and what is close is suggested."""
    found = overlay(**{name: "1"})
    assert found.problems == [(name, text)]
    assert found.values == {}


def test_keys_of_other_services_are_not_looked_at() -> None:
    """They read the same environment, and know their keys themselves."""
    found = overlay(INGEST_OTHER__WORKERS="x", INGEST_OTHER__ANY__THING="y")
    assert found.problems == []
    assert found.values == {}


def test_other_variables_are_nobody_s_business() -> None:
    """Only the prefix in capitals, with its underscore, is ours."""
    found = overlay(PART__WHOLE="x", INGESTION="y", ingest_part__whole="z", MY_INGEST_PART="w")
    assert (found.problems, found.values) == ([], {})


def test_every_problem_is_found_and_in_the_order_of_names() -> None:
    """One bad variable hides neither another nor a good one."""
    found = overlay(INGEST_Z="1", INGEST_PART__WHOLE="3", INGEST_PART__NAMES="x", INGEST_A="1")
    assert [name for name, _ in found.problems] == ["INGEST_A", "INGEST_PART__NAMES", "INGEST_Z"]
    assert found.values == {("part", "whole"): 3}


def test_the_field_of_a_value_can_be_asked_for() -> None:
    """It says what the value means: a secret, a file."""
    found = overlay(INGEST_PART__SECRET="x")
    assert found.field("part", "secret") is Section.model_fields["secret"]
