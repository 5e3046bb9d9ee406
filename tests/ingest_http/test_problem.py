"""Problem documents: every refusal has a status of the contract, a stable code, and no secrets."""

from __future__ import annotations

import ast
import json
import re
from http import HTTPStatus
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

import ingest_http
from ingest_http.problem import MEDIA_TYPE, STATUS, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

CODES = {
    400: {
        "bad_request",
        "bad_body",
        "bad_compression",
        "bad_idempotency_key",
        "empty_body",
        "invalid_json",
        "invalid_utf8",
        "too_deep",
    },
    401: {"unauthenticated"},
    403: {"forbidden", "source_is_syslog"},
    404: {"not_found", "unknown_source"},
    405: {"method_not_allowed"},
    408: {"body_timeout"},
    413: {"body_too_large", "decoded_too_large", "too_many_events"},
    415: {"unsupported_encoding", "unsupported_media_type"},
    417: {"expectation_failed"},
    422: {"no_usable_event"},
    429: {"quota_exceeded"},
    500: {"internal_error"},
    503: {"overloaded", "kafka_unavailable"},
    504: {"ack_timeout"},
}
each_code = pytest.mark.parametrize("code", STATUS)


def sent(problem: Problem) -> tuple[dict[str, str], dict[str, Any]]:
    """The header fields of its answer, names in small letters, and the document."""
    wire = BytesIO()
    connection = SimpleNamespace(wants_to_close=lambda: False, transport=wire)
    request: Any = SimpleNamespace(
        method="POST", keep_alive=True, minor_version=1, connection=connection
    )
    problem.reply("request-1", "README.md").write(request)
    head, _, body = wire.getvalue().partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    assert status == f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}"
    fields = (line.partition(": ") for line in lines)
    return {name.lower(): value for name, _, value in fields}, json.loads(body)


def raised_codes() -> Iterator[str]:
    """The codes with which the package raises its refusals, as they are written there."""
    refusals = {"Problem", "BodyError", "DecodeError"}
    for file in Path(ingest_http.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                code = node.args[0] if node.args else None
                if node.func.id in refusals and isinstance(code, ast.Constant):
                    yield code.value


def test_codes_and_their_statuses_are_those_that_clients_know() -> None:
    """A code never changes its status, and goes only with the clients that know it."""
    assert {code: status for status, codes in CODES.items() for code in codes} == STATUS


def test_every_code_that_is_raised_has_a_status() -> None:
    """A refusal without one would be an error of ours."""
    found = set(raised_codes())
    assert {"too_deep", "bad_compression", "overloaded"} <= found
    assert found <= STATUS.keys()


@each_code
def test_a_problem_is_a_document_of_rfc_9457(code: str) -> None:
    """Its members say the same as the status line, and more than it could."""
    headers, document = sent(Problem(code, "what is wrong", members={"accepted": 3}))
    assert headers["content-type"] == MEDIA_TYPE == "application/problem+json"
    assert document == {
        "type": "README.md#" + code,
        "title": HTTPStatus(STATUS[code]).phrase,
        "status": STATUS[code],
        "code": code,
        "detail": "what is wrong",
        "request_id": "request-1",
        "accepted": 3,
    }
    assert headers["x-request-id"] == "request-1"


@each_code
def test_only_our_own_trouble_says_when_to_come_back(code: str) -> None:
    """Nobody is told to send again what can never succeed."""
    headers, _ = sent(Problem(code, headers={"Allow": "POST"}))
    assert headers["allow"] == "POST"
    assert ("retry-after" in headers) is (STATUS[code] in {503, 504})


@pytest.mark.parametrize("code", ["overloaded", "kafka_unavailable", "ack_timeout"])
def test_not_everybody_is_told_to_come_back_at_once(code: str) -> None:
    """Some seconds, spread."""
    seconds = {int(Problem(code).headers["Retry-After"]) for _ in range(200)}
    assert len(seconds) > 1
    assert all(1 <= second <= 10 for second in seconds)


def test_headers_that_are_shared_stay_as_they_are() -> None:
    """What one answer adds to them is not seen by the next."""
    shared = {"Allow": "POST"}
    Problem("overloaded", headers=shared)
    assert shared == {"Allow": "POST"}


@pytest.mark.parametrize(("length", "kept"), [(0, 0), (200, 200), (201, 200), (10_000, 200)])
def test_details_are_short(length: int, kept: int) -> None:
    """At most 200 characters, whatever they are."""
    _, document = sent(Problem("bad_request", "ä" * length))
    assert document["detail"] == "ä" * kept


def test_an_error_of_ours_says_nothing_about_us() -> None:
    """No trace, no class name."""
    _, document = sent(Problem("internal_error"))
    assert document["detail"] == ""


def sections() -> dict[str, str]:
    """Code -> what its section in the README says."""
    text = (Path(ingest_http.__file__).parents[1] / "README.md").read_text()
    found = re.split(r"^#### `(\w+)`$", text.partition("\n## Codes\n")[2], flags=re.MULTILINE)
    return dict(zip(found[1::2], found[2::2], strict=True))


def test_every_code_has_a_section_in_the_readme() -> None:
    """Where the type of its problem document points to; each says its status."""
    found = sections()
    of_events = {"bad_key", "not_an_object", "event_too_large", "schema_mismatch"}
    of_events |= {"refused_by_kafka", "topic_unavailable", "shutting_down"}
    assert found.keys() == STATUS.keys() | of_events
    assert list(found) == sorted(found)
    assert {code: found[code].strip()[:3] for code in STATUS} == {
        code: str(status) for code, status in STATUS.items()
    }
