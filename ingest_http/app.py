"""The HTTP door's handler: from a request's headers to its answer, checked in a fixed order."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import msgspec
from structlog import get_logger

from ingest import metrics
from ingest.reception import Receptions
from ingest_http import negotiation
from ingest_http.auth import NoCredentials
from ingest_http.batch import BodyError
from ingest_http.body import BodyReader, overloaded
from ingest_http.discovery import Discovery
from ingest_http.forwarded import Proxies
from ingest_http.problem import Problem
from ingest_http.publish import Publisher, Ticket
from ingest_http.quota import whole_seconds
from ingest_http.reply import NO_CONTENT, Reply
from ingest_http.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ingest.envelope import Received
    from ingest.inflight import Budget, Holder
    from ingest_http.auth import Caller
    from ingest_http.batch import Batch
    from ingest_http.config import HttpConfig
    from ingest_http.negotiation import Asked
    from ingest_http.publish import Road
    from ingest_http.quota import Quota
    from ingest_http.request import Request
    from ingest_http.results import Results
    from ingest_http.rules import Rules

log = get_logger(__name__)

THREAD_BYTES = 1 << 17
"""Bodies larger than this are split in a thread: there are shapes of JSON that take 0.2 us a byte,
and the event loop is never held for long."""
OPENAPI_PATH = "/openapi.json"
READS = frozenset({"GET", "HEAD"})
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="ingest"'}


class Visit:
    """One request on its way to its answer.

    Attributes:
        request: itself.
        rules: those that were in force when it came.
        received: when it came.
        request_id: the client's own, or a made one.
        caller: who sent it, once that is known.
        road: the way of its events, once that is known.
        counted: whether its answer is counted.
    """

    __slots__ = ("caller", "counted", "received", "request", "request_id", "road", "rules")

    def __init__(self, request: Request, rules: Rules, received: Received) -> None:
        self.request = request
        self.rules = rules
        self.received = received
        self.request_id = negotiation.request_id(request, received)
        self.caller: Caller | None = None
        self.road: Road | None = None
        self.counted = True


class App:
    """Answers requests.

    Args:
        config: the configuration of the service, of which only `rules` are ever exchanged.
        rules: what is in force.
        publisher: takes batches to Kafka.
        budget: the in-flight bytes of this worker.
    """

    def __init__(
        self, config: HttpConfig, rules: Rules, publisher: Publisher, budget: Budget
    ) -> None:
        self.rules = rules
        self._loop = asyncio.get_running_loop()
        self._publisher = publisher
        self._budget = budget
        self._bodies = BodyReader(config.limits, budget)
        self._proxies = Proxies(config.http.trusted_proxies)
        self._discovery = Discovery(config, self._proxies)
        self._turns = Turns()
        self._ack_seconds = config.limits.ack_seconds
        self._sample = config.http.access_log_sample
        self._documentation = config.http.documentation_url
        self._receptions = Receptions()
        self._unknown = metrics.Requests("unknown")

    async def handle(self, request: Request) -> Reply:
        """Answer one request; errors of ours included, nothing is raised."""
        begun = self._loop.time()
        visit = Visit(request, self.rules, self._receptions.now())
        try:
            reply = await self._route(visit)
        except Problem as problem:
            reply = problem.reply(visit.request_id, self._documentation)
        except ConnectionError:
            raise  # the client is gone: its connection knows what to do
        except Exception:
            log.exception("request_failed", request_id=visit.request_id)
            ours = Problem("internal_error")
            reply = ours.reply(visit.request_id, self._documentation, close=True)
        self._complete(visit, reply, begun)
        return reply

    def _complete(self, visit: Visit, reply: Reply, begun: float) -> None:
        """What is to be said and noted with every answer."""
        now = self._loop.time()
        if visit.caller is not None and visit.caller.quota is not None:
            reply.add(visit.caller.quota.headers(now))
        if visit.rules.cors and "Origin" in visit.request.headers:
            reply.add(self._discovery.origin_headers(visit.request, visit.rules))
        seconds = now - begun
        if visit.counted:
            observed = visit.road.requests if visit.road is not None else self._unknown
            observed.answered(reply.status, seconds)
        if self._sample and random.random() < self._sample:  # noqa: S311 - a sample, no secret
            self._log_access(visit, reply.status, seconds)

    def _log_access(self, visit: Visit, status: int, seconds: float) -> None:
        log.info(
            "request",
            source=visit.road.source.name if visit.road is not None else "unknown",
            status=status,
            milliseconds=round(seconds * 1000, 1),
            request_id=visit.request_id,
            caller=visit.caller.name if visit.caller is not None else None,
            address=self._address(visit.request),
        )

    def _address(self, request: Request) -> str:
        """Where the client is, as far as proxies can be trusted."""
        forwarded = request.headers.getall("X-Forwarded-For", ())
        return self._proxies.client_address(request.connection.address, forwarded)

    # Before anything of the body is looked at.

    def _route(self, visit: Visit) -> Awaitable[Reply]:
        """The answer to come: no coroutine of its own, each costs something with every step."""
        request = visit.request
        path = negotiation.path(request)
        name = negotiation.source_name(path)
        if name is None:
            return self._openapi(visit, path)
        if request.method == "POST":
            return self._post(visit, *self._admit(visit, name))
        if request.method in READS:
            road, caller = self._admit(visit, name)
            if caller.quota is not None:
                self._require_quota(caller, caller.quota)
            return self._discovery.describe(visit, caller, road)
        return self._preflight(visit, name)

    async def _preflight(self, visit: Visit, name: str) -> Reply:
        allowed = self._discovery.preflight(visit.request, visit.rules, name)
        if allowed is None:
            detail = "events are sent by POST, and described by GET"
            raise Problem("method_not_allowed", detail, {"Allow": "GET, HEAD, POST"})
        return Reply(NO_CONTENT, b"", visit.request_id, headers=allowed)

    async def _openapi(self, visit: Visit, path: str) -> Reply:
        if path != OPENAPI_PATH:
            raise Problem("not_found", f"the paths are /v1/events/{{source}} and {OPENAPI_PATH}")
        if visit.request.method not in READS:
            raise Problem("method_not_allowed", "it is read by GET", {"Allow": "GET, HEAD"})
        return await self._discovery.openapi(visit, self._identify(visit))

    def _identify(self, visit: Visit) -> Caller:
        """The caller, by the credentials that the request shows."""
        request = visit.request
        try:
            caller = visit.rules.auth.identify(
                request.headers, request.connection.certificate_names
            )
        except NoCredentials:
            raise Problem("unauthenticated", "a valid API key is needed", CHALLENGE) from None
        visit.caller = caller
        return caller

    def _admit(self, visit: Visit, name: str) -> tuple[Road, Caller]:
        """The road of the source, and the caller who may use it."""
        caller = self._identify(visit)
        if not caller.covers(name):
            raise Problem("forbidden", "this key may not write to this source")
        road = visit.road = visit.rules.roads.get(name)
        if road is not None:
            return road, caller
        if name in visit.rules.sources:
            raise Problem("source_is_syslog", "this source takes syslog, not HTTP")
        raise Problem("unknown_source", "no such source is configured")

    # The request itself.

    def _post(self, visit: Visit, road: Road, caller: Caller) -> Awaitable[Reply]:
        asked = negotiation.asked(visit.request)
        visit.counted = not asked.dry_run
        length = self._bodies.declared(visit.request)
        quota = caller.quota
        if quota is None:
            return self._take(visit, road, asked, length)
        self._require_quota(caller, quota)
        return self._take_within(quota, visit, road, asked, length)

    async def _take_within(
        self, quota: Quota, visit: Visit, road: Road, asked: Asked, length: int | None
    ) -> Reply:
        quota.enter()
        quota.charge(self._loop.time(), size=length or 0)
        try:
            return await self._take(visit, road, asked, length)
        finally:
            undeclared = visit.request.content.total_bytes if length is None else 0
            quota.charge(self._loop.time(), size=undeclared)
            quota.leave()

    def _require_quota(self, caller: Caller, quota: Quota) -> None:
        exceeded = quota.exceeded(self._loop.time())
        if exceeded is None:
            return
        metrics.QUOTA_REFUSALS.labels(caller.name, exceeded.quota).inc()
        raise Problem(
            "quota_exceeded",
            f"the quota {exceeded.quota} of this key is used up",
            {"Retry-After": str(max(1, whole_seconds(exceeded.retry_after)))},
            {"quota": exceeded.quota},
        )

    async def _take(self, visit: Visit, road: Road, asked: Asked, length: int | None) -> Reply:
        request = visit.request
        if self._publisher.refuses(road):
            raise Problem("kafka_unavailable", "Kafka is away, and the spool is full")
        holder = self._holder(visit)
        lease = self._bodies.reserve(length, holder)
        try:
            received = negotiation.received_as(request, visit.received)
            negotiation.expect(request)
            body = self._bodies.at_hand(request, asked.encoding)
            if body is None:
                body = await self._bodies.read(request, asked.encoding, lease)
            deadline = self._loop.time() + self._ack_seconds
            if not asked.dry_run:
                road.received_bytes(request.content.total_bytes)
            split = road.splitter.json if asked.kind == "json" else road.splitter.ndjson
            if len(body) <= THREAD_BYTES:
                batch = split(body)
            else:
                batch = await self._split(split, body, holder, deadline)
            self._bodies.pay(lease, road.price(len(body), batch.count))
        except BodyError as error:
            lease.release()
            raise Problem(error.code, error.detail) from None
        except BaseException:
            lease.release()
            raise
        del body
        if visit.caller is not None and visit.caller.quota is not None:
            visit.caller.quota.charge(self._loop.time(), events=batch.count)
        ticket = Ticket(visit.request_id, received, deadline, lease, asked.full)
        publish = self._publisher.preview if asked.dry_run else self._publisher.publish
        try:
            results = await publish(road, batch, ticket)
        except TimeoutError:
            raise overloaded() from None
        return _answer(results, visit.request_id, full=asked.full, dry_run=asked.dry_run)

    def _holder(self, visit: Visit) -> Holder:
        """Whose share of the budget a request uses: that of its caller, or of its address."""
        holder = visit.caller.holder if visit.caller is not None else None
        if holder is not None:
            return holder
        return self._budget.holder(f"address {self._address(visit.request)}")

    async def _split(
        self, split: Callable[[bytes], Batch], body: bytes, holder: Holder, deadline: float
    ) -> Batch:
        """The events of a large body, in time."""
        try:
            async with asyncio.timeout_at(deadline):
                return await self._turns.run(holder, split, body)
        except TimeoutError:
            raise overloaded() from None


def _answer(results: Results, request_id: str, *, full: bool, dry_run: bool = False) -> Reply:
    if not results.entries and not dry_run:  # all is well, and nothing is to be said of any event
        return Reply(200, _SHORT % (request_id.encode(), results.accepted), request_id)
    members = results.members(full=full)
    if dry_run:
        members = {"dry_run": True, **members}
    status = results.status
    if status in {200, 202, 207}:
        body = msgspec.json.encode({"request_id": request_id, **members})
        return Reply(status, body + b"\n", request_id)
    raise Problem(results.code, _DETAILS[results.code], members=members)


_SHORT = (
    b'{"request_id":"%b","accepted":%d,"spooled":0,"rejected":0,"retry":0,"unknown":0,'
    b'"results":[]}\n'
)
_DETAILS = {
    "ack_timeout": "Kafka did not answer in time: send what is retry or unknown again",
    "kafka_unavailable": "Kafka did not take everything: send what is retry again",
    "no_usable_event": "no event of the batch was usable",
}
