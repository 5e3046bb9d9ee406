"""The three errors of the system carry what answers are made of, and no more."""

from __future__ import annotations

import pytest

from ingest.errors import ConfigError, IngestError, Rejected, Unavailable


@pytest.mark.parametrize(
    "error", [Rejected("bad_key"), Unavailable("overloaded"), ConfigError(["a: wrong"])]
)
def test_every_error_on_purpose_has_one_root(error: IngestError) -> None:
    """Whatever is not an ``IngestError`` is a defect, so shells need to know no other."""
    with pytest.raises(IngestError):
        raise error


@pytest.mark.parametrize("kind", [Rejected, Unavailable])
def test_details_are_cut_to_200_characters(kind: type[Rejected | Unavailable]) -> None:
    """The contract bounds what an answer says; the code is left as it is."""
    error = kind("code", "é" * 201)
    assert (error.code, error.detail) == ("code", "é" * 200)
    assert kind("code", "x" * 200).detail == "x" * 200
    assert kind("code").detail == ""


def test_unavailable_says_when_to_try_again() -> None:
    """A second where nobody knows better."""
    assert Unavailable("overloaded").retry_after == 1.0
    assert Unavailable("overloaded", retry_after=2.5).retry_after == 2.5


def test_a_configuration_error_tells_every_problem() -> None:
    """One line for each, in the order found."""
    error = ConfigError(["a.toml: x: wrong", "b.toml: y: wrong"])
    assert error.problems == ("a.toml: x: wrong", "b.toml: y: wrong")
    assert str(error) == "a.toml: x: wrong\nb.toml: y: wrong"
