"""What a request asks for by its target and its header fields."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from ingest.envelope import Received
from ingest_http import trace
from ingest_http.decode import SUPPORTED
from ingest_http.problem import Problem

if TYPE_CHECKING:
    from ingest_http.request import Request

EVENTS_PATH = "/v1/events/"
MEDIA_TYPES = {
    "application/json": "json",
    "application/x-ndjson": "ndjson",
    "application/jsonl": "ndjson",
}
_CHARSETS = frozenset({"utf-8", "utf8", "us-ascii"})
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_IDEMPOTENCY_KEY = re.compile(r'"([!#-\[\]-~]{1,240})"|([!#-\[\]-~]{1,240})')
"""A string of printable ASCII (RFC 9651, section 3.3.3), also as people write it, without quotes;
its longest leaves an id room for an index."""
_FULL = frozenset({"all"})
_YES = frozenset({"", "1", "true", "yes"})
_ACCEPTED = ", ".join(MEDIA_TYPES)


class Asked(NamedTuple):
    """How a body is to be read, and its events to be answered.

    Attributes:
        kind: ``json`` or ``ndjson``.
        encoding: the one content coding.
        full: every event is to be listed.
        dry_run: nothing is to be written.
    """

    kind: str
    encoding: str
    full: bool
    dry_run: bool


_USUAL = Asked("json", "identity", full=False, dry_run=False)


def path(request: Request) -> str:
    """The path of the target; of its absolute form as well (RFC 9112, section 3.2.2)."""
    found = request.target.partition("?")[0]
    return found if found.startswith("/") else urlsplit(found).path


def source_name(found: str) -> str | None:
    """The source in the path ``/v1/events/{source}``; None: it is another one."""
    name = found.removeprefix(EVENTS_PATH)
    if name == found or not name or "/" in name:
        return None
    return unquote(name) if "%" in name else name


def asked(request: Request) -> Asked:
    """See `Asked`.

    Raises:
        Problem: 415.
    """
    full = dry_run = False
    headers, query = request.headers, request.target.partition("?")[2]
    is_json = headers.get("Content-Type") == "application/json"
    if is_json and not query and "Content-Encoding" not in headers:
        return _USUAL
    if query:
        wanted = parse_qs(query, keep_blank_values=True)
        full = not _FULL.isdisjoint(wanted.get("results", ()))
        dry_run = not _YES.isdisjoint(wanted.get("dry_run", ()))
    return Asked(_media_type(request), _content_coding(request), full, dry_run)


def request_id(request: Request, received: Received) -> str:
    """The client's own id of the request, or the one that is made of its reception."""
    own = request.headers.get("X-Request-Id")
    if own is not None and _REQUEST_ID.fullmatch(own):
        return own
    return received.base_id.decode()


def received_as(request: Request, received: Received) -> Received:
    """``received`` with the base of ids, and the trace, that the request brings.

    Raises:
        Problem: the idempotency key is none.
    """
    headers = request.headers
    if "Idempotency-Key" not in headers and "traceparent" not in headers:
        return received
    base_id = received.base_id
    keys = headers.getall("Idempotency-Key", ())
    if keys:
        found = _IDEMPOTENCY_KEY.fullmatch(keys[0].strip(" \t"))
        if found is None or len(keys) > 1:
            detail = "an idempotency key is one text of 1 to 240 printable ASCII characters"
            raise Problem("bad_idempotency_key", detail)
        base_id = (found[1] or found[2]).encode()
    attributes = trace.attribute(headers.getall("traceparent", ()))
    return Received(received.time, received.timestamp_ms, base_id, attributes)


def expect(request: Request) -> None:
    """Ask for the body, now that its headers are fine (RFC 9110, section 10.1.1).

    Raises:
        Problem: 417.
    """
    expected = request.headers.get("Expect")
    if expected is None or request.minor_version == 0:  # which knows no such thing
        return
    if expected.strip().lower() != "100-continue":
        raise Problem("expectation_failed", "only 100-continue can be expected")
    if request.transport is not None and not request.content.is_eof():
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


def _media_type(request: Request) -> str:
    """``json`` or ``ndjson``."""
    declared = request.headers.get("Content-Type", "")
    if declared == "application/json":
        return "json"
    essence, _, parameters = declared.partition(";")
    essence = essence.strip().lower()
    kind = MEDIA_TYPES.get(essence)
    if kind is None or not _charset_is_fine(parameters):
        detail = f"accepted are {_ACCEPTED}, in UTF-8"
        if essence == "application/x-www-form-urlencoded":
            detail += "; with curl, add -H 'Content-Type: application/json'"
        raise Problem("unsupported_media_type", detail, {"Accept-Post": _ACCEPTED})
    return kind


def _charset_is_fine(parameters: str) -> bool:
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset" and value.strip().strip('"').lower() not in _CHARSETS:
            return False
    return True


def _content_coding(request: Request) -> str:
    """The one content coding of the body."""
    declared = request.headers.getall("Content-Encoding", ())
    if not declared:
        return "identity"
    encoding = declared[0].strip().lower() or "identity"
    if len(declared) > 1 or encoding not in SUPPORTED:
        accepted = ", ".join(sorted(SUPPORTED))
        detail = f"accepted is one of {accepted}"
        raise Problem("unsupported_encoding", detail, {"Accept-Encoding": accepted})
    return encoding
