"""What is wrong with a configuration, in words for people."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, TypeAdapter, ValidationError

from ingest.config_problems import KeyPath, dotted, leave_out, of_validation, suggestion
from ingest.settings import Settings


def refuse(value: str) -> str:
    """Refuse with words of our own."""
    raise ValueError("expected 'something' else")


class Inner(Settings):
    """A table that has a key which must be there."""

    needed: str
    names: list[str] = Field(default_factory=list)


class Section(Settings):
    """A section with one key of each kind."""

    text: str = Field(default="x", min_length=1)
    whole: PositiveInt = 1
    number: PositiveFloat = 1.0
    share: Annotated[float, Field(ge=0, le=1)] = 0.5
    at_least: Annotated[int, Field(ge=-1)] = 0
    flag: bool = True
    names: list[str] = Field(default_factory=list, min_length=1, max_length=2)
    word: Literal["on", "off"] = "on"
    workers: PositiveInt | Literal["auto"] = 1
    twice: PositiveInt | Annotated[int, Field(ge=-9)] = 1
    own: Annotated[str, AfterValidator(refuse)] = ""
    schema_: str | None = Field(default=None, alias="schema")
    tables: dict[str, Inner] = Field(default_factory=dict)


KNOWN: dict[KeyPath, list[str]] = {
    ("part",): ["text", "whole", "schema"],
    ("part", "tables", "*"): ["needed", "names"],
}


def problems(data: Any) -> dict[str, str]:
    """Dotted path -> text, of what is wrong with a section of this content."""
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(Section).validate_python(data)
    found = of_validation(caught.value, {"part": data}, KNOWN, ("part",))
    return {dotted(path): text for path, text in found}


@pytest.mark.parametrize(
    ("data", "where", "text"),
    [
        (3, "part", "expected a table"),
        ({"text": 3}, "part.text", "expected text"),
        ({"text": ""}, "part.text", "expected some text"),
        ({"text": "\udcff"}, "part.text", "expected UTF-8"),
        ({"whole": "1"}, "part.whole", "expected a whole number"),
        ({"whole": True}, "part.whole", "expected a whole number"),
        ({"whole": 1.5}, "part.whole", "expected a whole number"),
        ({"whole": 0}, "part.whole", "expected more than 0"),
        ({"number": "1"}, "part.number", "expected a number"),
        ({"number": False}, "part.number", "expected a number"),
        ({"number": float("nan")}, "part.number", "expected a finite number"),
        ({"number": float("inf")}, "part.number", "expected a finite number"),
        ({"number": 0}, "part.number", "expected more than 0"),
        ({"share": 1.1}, "part.share", "expected at most 1"),
        ({"at_least": -2}, "part.at_least", "expected at least -1"),
        ({"flag": 1}, "part.flag", "expected true or false"),
        ({"flag": "true"}, "part.flag", "expected true or false"),
        ({"names": "x"}, "part.names", "expected a list"),
        ({"names": []}, "part.names", "expected at least 1 of them"),
        ({"names": ["a", "b", "c"]}, "part.names", "expected at most 2 of them"),
        ({"names": ["a", 2]}, "part.names[1]", "expected text"),
        ({"word": "no"}, "part.word", 'expected "on" or "off"'),
        ({"workers": "all"}, "part.workers", 'expected a whole number or "auto"'),
        ({"workers": 0}, "part.workers", 'expected more than 0 or "auto"'),
        ({"workers": {"int": 1}}, "part.workers", 'expected a whole number or "auto"'),
        ({"twice": "x"}, "part.twice", "expected a whole number"),
        ({"own": "x"}, "part.own", "expected 'something' else"),
        ({"txt": "x"}, "part.txt", 'unknown key, did you mean "text"?'),
        ({"schema_": "x"}, "part.schema_", 'unknown key, did you mean "schema"?'),
        ({"far_away": "x"}, "part.far_away", "unknown key"),
        ({"tables": []}, "part.tables", "expected a table"),
        ({"tables": {"a": 1}}, "part.tables.a", "expected a table"),
        ({"tables": {"a": {}}}, "part.tables.a.needed", "is required"),
        (
            {"tables": {"a.b": {"needed": "x", "name": 1}}},
            'part.tables."a.b".name',
            'unknown key, did you mean "names"?',
        ),
    ],
)
def test_each_error_says_where_and_what_is_expected(data: Any, where: str, text: str) -> None:
    """One error has one line, without pydantic's words or the value."""
    assert problems(data) == {where: text}


def test_every_error_is_found() -> None:
    """Those of all tables, in one go."""
    data = {"text": 1, "word": "no", "tables": {"a": {"x": 1, "names": [1, "b", 2]}}}
    assert list(problems(data)) == [
        "part.text",
        "part.word",
        "part.tables.a.needed",
        "part.tables.a.names[0]",
        "part.tables.a.names[2]",
        "part.tables.a.x",
    ]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((), ""),
        (("kafka",), "kafka"),
        (("kafka", "client_id"), "kafka.client_id"),
        (("syslog", "rules", 0, "source"), "syslog.rules[0].source"),
        (("sources", "web.clicks", "key"), 'sources."web.clicks".key'),
        (("a", 1, 2), "a[1][2]"),
    ],
)
def test_a_path_is_written_as_in_toml(path: KeyPath, text: str) -> None:
    """Names that TOML would quote are quoted, so that their dots are no steps."""
    assert dotted(path) == text


@pytest.mark.parametrize(
    ("name", "known", "text"),
    [
        ("kafak", ["http", "kafka"], ', did you mean "kafka"?'),
        ("client", ["client_id", "linger_seconds"], ', did you mean "client_id"?'),
        ("zzz", ["http", "kafka"], ""),
        ("kafka", [], ""),
    ],
)
def test_what_is_close_is_suggested(name: str, known: list[str], text: str) -> None:
    """Only what is close, and only one."""
    assert suggestion(name, known) == text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("INGEST_KAFKA__CLIENTID", ', did you mean "INGEST_KAFKA__CLIENT_ID"?'),
        ("INGEST_XYZ", ""),
    ],
)
def test_a_common_beginning_makes_nothing_close(name: str, text: str) -> None:
    """What all names begin with is not compared, but is shown."""
    assert suggestion(name, ["INGEST_KAFKA__CLIENT_ID", "INGEST_ZZ"], "INGEST_") == text


@pytest.mark.parametrize(
    ("paths", "left"),
    [
        ([("a", "b", "c")], {"a": {"b": {"list": [1, 2]}, "d": 1}}),
        ([("a", "b", "list", 1)], {"a": {"b": {"c": 1}, "d": 1}}),
        ([("a", "b", "list", 0), ("a", "b", "list", 1)], {"a": {"b": {"c": 1}, "d": 1}}),
        ([("a", "b")], {"a": {"d": 1}}),
        ([("a", "b", "missing")], {"a": {"d": 1}}),
        ([("a", "b", "missing"), ("a", "b", "other")], {"a": {"d": 1}}),
        ([("a", "b", "missing"), ("a", "b", "c")], {"a": {"d": 1}}),
        ([("a", "missing")], {}),
        ([("missing",)], {"a": {"b": {"c": 1, "list": [1, 2]}, "d": 1}}),
        ([("a",)], {}),
    ],
)
def test_what_is_wrong_is_left_out_and_nothing_else(
    paths: list[KeyPath], left: dict[str, Any]
) -> None:
    """A bad key goes alone; where one is missing, its table cannot stay."""
    root = {"a": {"b": {"c": 1, "list": [1, 2]}, "d": 1}}
    leave_out(root, paths)
    assert root == left
