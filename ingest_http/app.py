"""The HTTP door's handler: from a request's headers to its answer, checked in a fixed order."""

from __future__ import annotations

import asyncio
import random
import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec
from structlog import get_logger

from ingest import metrics
from ingest_http.auth import Auth, NoCredentials
from ingest_http.batch import BodyError
from ingest_http.body import BodyReader
from ingest_http.decode import SUPPORTED
from ingest_http.problem import Problem
from ingest_http.publish import Publisher, Road, Ticket
from ingest_http.reception import Receptions
from ingest_http.reply import Reply

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ingest.envelope import Received
    from ingest.inflight import Budget
    from ingest.sources import Source
    from ingest_http.config import HttpConfig
    from ingest_http.request import Request
    from ingest_http.results import Results

log = get_logger(__name__)

EVENTS_PATH = "/v1/events/"
MEDIA_TYPES = {
    "application/json": "json",
    "application/x-ndjson": "ndjson",
    "application/jsonl": "ndjson",
}
THREAD_BYTES = 1 << 17
"""Bodies larger than this are split in a thread: there are shapes of JSON that take 0.2 us a byte,
and the event loop is never held for long."""

_CHARSETS = frozenset({"utf-8", "utf8", "us-ascii"})
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_FULL = frozenset({"all"})
_ACCEPTED = ", ".join(MEDIA_TYPES)


class App:
    """Answers requests.

    Args:
        config: the whole configuration of the service.
        sources: what may be written to, by name.
        publisher: takes batches to Kafka.
        budget: the in-flight bytes of this worker.
    """

    def __init__(
        self,
        config: HttpConfig,
        sources: Mapping[str, Source],
        publisher: Publisher,
        budget: Budget,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._auth = Auth(config.auth)
        self._publisher = publisher
        self._bodies = BodyReader(config.limits, budget)
        self._ack_seconds = config.limits.ack_seconds
        self._sample = config.http.access_log_sample
        self._sources = sources
        self._roads = {
            name: Road(source, config.limits)
            for name, source in sources.items()
            if source.over_http
        }
        self._receptions = Receptions()
        self._unknown = metrics.Requests("unknown")

    async def handle(self, request: Request) -> Reply:
        """Answer one request; errors of ours included, nothing is raised."""
        begun = self._loop.time()
        received = self._receptions.now()
        request_id = _request_id(request, received)
        observed = self._unknown
        try:
            road = self._admit(request)
            observed = road.requests
            reply = await self._post(request, road, received, request_id)
        except Problem as problem:
            reply = problem.reply(request_id)
        except ConnectionError:
            raise  # the client is gone: its connection knows what to do
        except Exception:
            log.exception("request_failed", request_id=request_id)
            reply = Problem("internal_error").reply(request_id, close=True)
        seconds = self._loop.time() - begun
        observed.answered(reply.status, seconds)
        if self._sample and random.random() < self._sample:  # noqa: S311 - a sample, no secret
            _log_access(observed.source, reply.status, seconds, request_id)
        return reply

    # Before anything of the body is looked at.

    def _admit(self, request: Request) -> Road:
        """The source that the request may write to, by its path, method and credentials."""
        name = _source_name(request)
        if request.method != "POST":
            raise Problem("method_not_allowed", "events are sent by POST", {"Allow": "POST"})
        try:
            client = self._auth.identify(request.headers)
        except NoCredentials:
            challenge = {"WWW-Authenticate": 'Bearer realm="ingest"'}
            raise Problem("unauthenticated", "a valid API key is needed", challenge) from None
        if not client.covers(name):
            raise Problem("forbidden", "this key may not write to this source")
        road = self._roads.get(name)
        if road is not None:
            return road
        if name in self._sources:
            raise Problem("source_is_syslog", "this source takes syslog, not HTTP")
        raise Problem("unknown_source", "no such source is configured")

    # The request itself.

    async def _post(
        self, request: Request, road: Road, received: Received, request_id: str
    ) -> Reply:
        full = _wants_all(request)
        kind = _media_type(request)
        encoding = _encoding(request)
        lease = self._bodies.reserve(request)
        try:
            _expect(request)
            body = self._bodies.at_hand(request, encoding)
            if body is None:
                body = await self._bodies.read(request, encoding, lease)
            deadline = self._loop.time() + self._ack_seconds
            road.received_bytes(request.content.total_bytes)
            split = road.splitter.json if kind == "json" else road.splitter.ndjson
            if len(body) <= THREAD_BYTES:
                batch = split(body)
            else:
                batch = await self._loop.run_in_executor(None, split, body)
            self._bodies.pay(lease, road.price(len(body), batch.count))
        except BodyError as error:
            lease.release()
            raise Problem(error.code, error.detail) from None
        except BaseException:
            lease.release()
            raise
        del body
        ticket = Ticket(request_id, received, deadline, lease, full)
        results = await self._publisher.publish(road, batch, ticket)
        return _answer(results, request_id, full=full)


def _request_id(request: Request, received: Received) -> str:
    own = request.headers.get("X-Request-Id")
    if own is not None and _REQUEST_ID.fullmatch(own):
        return own
    return received.base_id.decode()


def _log_access(source: str, status: int, seconds: float, request_id: str) -> None:
    log.info(
        "request",
        source=source,
        status=status,
        milliseconds=round(seconds * 1000, 1),
        request_id=request_id,
    )


def _source_name(request: Request) -> str:
    """The source in the path ``/v1/events/{source}``."""
    path = request.target.partition("?")[0]
    if not path.startswith("/"):  # absolute form (RFC 9112, section 3.2.2)
        path = urlsplit(path).path
    name = path.removeprefix(EVENTS_PATH)
    if name == path or not name or "/" in name:
        raise Problem("not_found", "the path is /v1/events/{source}")
    return unquote(name) if "%" in name else name


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


def _encoding(request: Request) -> str:
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


def _expect(request: Request) -> None:
    """Ask for the body, now that its headers are fine (RFC 9110, section 10.1.1)."""
    expected = request.headers.get("Expect")
    if expected is None or request.minor_version == 0:  # which knows no such thing
        return
    if expected.strip().lower() != "100-continue":
        raise Problem("expectation_failed", "only 100-continue can be expected")
    if request.transport is not None and not request.content.is_eof():
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


def _wants_all(request: Request) -> bool:
    """Whether every event is to be listed.

    Raises:
        Problem: the query asks for what would be worse to ignore than to refuse.
    """
    query = request.target.partition("?")[2]
    if not query:
        return False
    wanted = parse_qs(query, keep_blank_values=True)
    if "dry_run" in wanted:
        raise Problem("not_supported_yet", "dry_run is not supported yet: nothing was done")
    return not _FULL.isdisjoint(wanted.get("results", ()))


def _answer(results: Results, request_id: str, *, full: bool) -> Reply:
    if not results.entries:  # all is well, and nothing is to be said of any event
        return Reply(200, _SHORT % (request_id.encode(), results.accepted), request_id)
    members = results.members(full=full)
    status = results.status
    if status in {200, 202, 207}:
        body = msgspec.json.encode({"request_id": request_id, **members})
        return Reply(status, body + b"\n", request_id)
    return Problem(results.code, _DETAILS[results.code], members=members).reply(request_id)


_SHORT = (
    b'{"request_id":"%b","accepted":%d,"spooled":0,"rejected":0,"retry":0,"unknown":0,'
    b'"results":[]}\n'
)
_DETAILS = {
    "ack_timeout": "Kafka did not answer in time: send what is retry or unknown again",
    "kafka_unavailable": "Kafka did not take everything: send what is retry again",
    "no_usable_event": "no event of the batch was usable",
}
