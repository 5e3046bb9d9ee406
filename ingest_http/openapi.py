"""The OpenAPI 3.1 document of what a client may send, made from the live configuration.

Pure. Generators differ in what they understand, so the document keeps to what all of them do: every
operation and schema has a name of its own, also where case and punctuation are lost, and every
reference leads to a component.

Source: OpenAPI 3.1.0.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from ingest.sources import pointer
from ingest_http.auth import QUOTAS
from ingest_http.description import CODINGS, LINES, OPTIONAL, example
from ingest_http.openapi_names import Names
from ingest_http.openapi_schema import Json, component_schemas
from ingest_http.problem import MEDIA_TYPE, STATUS
from ingest_http.reply import JSON, REASONS
from ingest_http.results import LISTED, SCHEMA_MISMATCH

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ingest.settings import LimitSettings
    from ingest_http.description import Offer

DIALECT = "https://json-schema.org/draft/2020-12/schema"
TAKEN = (200, 202, 207)
"""The statuses of a result document; all others have a problem document."""
WHEN = {
    200: "Every usable event is in Kafka, and every reject in the dead letter topic.",
    202: "Some event, or the dead letter of some reject, is only in the durable spool.",
    207: "Some reject could not be kept: the dead letter topic is off, or refused it.",
    400: "The body as a whole cannot be read; nothing was taken.",
    401: "No valid credential, or different ones at once.",
    403: "The credential does not cover this source, or the source takes syslog only.",
    404: "No such path, or no such source.",
    405: "The path knows no such method.",
    408: "The body did not arrive in time; send it again.",
    413: "The body, the decoded body or the number of events is over its limit.",
    415: "The media type, its charset or the content coding is not taken.",
    417: "Another expectation than 100-continue.",
    422: "No event of the batch was usable.",
    429: "The caller's own quota is used up; send it again later.",
    503: "Some event is certainly not in Kafka, or nothing was taken; send it again later.",
    504: "Some event may or may not be in Kafka; send it again with the same ids.",
}
"""What a status says. An error of ours (500) is nothing that a client should be made for."""
LOOKED_AT = frozenset({422, 503, 504})
"""The problems that carry counts and results when the events were looked at."""
OUTCOMES = {
    "ok": "in Kafka",
    "spooled": "in the durable spool, on its way",
    "rejected": "can never succeed",
    "retry": "certainly not in Kafka: send it again",
    "unknown": "may or may not be in Kafka: send it again with the same id",
}
EVENT_CODES = (
    "ack_timeout",
    "bad_key",
    "event_too_large",
    "invalid_json",
    "kafka_unavailable",
    "not_an_object",
    "refused_by_kafka",
    SCHEMA_MISMATCH,
    "shutting_down",
    "topic_unavailable",
)
"""Why an event is not ``ok``."""

_SUMMARY = "Takes events over HTTP and acknowledges what is durable in Kafka."
_TAGS = [
    {"name": "events", "description": "Sending events."},
    {"name": "documents", "description": "What is accepted, for people and for generators."},
]
_TEXT: Json = {"type": "string"}
_DETAIL: Json = {"type": "string", "maxLength": 200, "description": "For people, not for programs."}
_COUNT: Json = {"type": "integer", "minimum": 0}


def document(
    offers: Sequence[Offer],
    limits: LimitSettings,
    *,
    base_url: str,
    version: str,
    certificates: bool,
    required: bool,
) -> Json:
    """The document for exactly these sources, fit for JSON; its parts are shared: do not edit.

    Args:
        offers: the sources that the caller may see.
        limits: of a request.
        base_url: scheme and authority of the door.
        version: of the service.
        certificates: whether a client certificate can be a credential.
        required: whether there must be a credential.
    """
    schemas = _common_schemas()
    components, slugs = Names(schemas), Names()
    parameters, answers = _parameters(), _answers(WHEN)
    wanted = [_reference("parameters", name) for name in parameters]
    paths: dict[str, Json] = {}
    for offer in sorted(offers, key=lambda each: each.source.name):
        slug = slugs.unique(re.sub(r"[^A-Za-z0-9]+", "_", offer.source.name).strip("_"))
        event, placed = _event(offer, components)
        schemas |= placed
        paths[offer.path] = {
            "post": {
                "operationId": f"send_{slug}",
                "tags": ["events"],
                "summary": f"Send events to {offer.source.name}",
                "description": _about(offer, limits),
                "parameters": wanted,
                "requestBody": _request_body(event, example(offer, limits), limits),
                "responses": answers,
            },
            "get": _get(f"describe_{slug}", f"What {offer.source.name} accepts", "SourceOffer"),
        }
    paths["/openapi.json"] = {"get": _get("get_openapi", "This document", "OpenApi")}
    security = _security_schemes(certificates=certificates)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Data Highway ingest", "description": _SUMMARY, "version": version},
        "jsonSchemaDialect": DIALECT,
        "servers": [{"url": base_url}],
        "security": [*({name: []} for name in security), *([] if required else [{}])],
        "tags": _TAGS,
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {_name_of(status): _answer(status) for status in WHEN},
            "headers": _headers(),
            "parameters": parameters,
            "securitySchemes": security,
        },
    }


# What is sent.


def _event(offer: Offer, names: Names) -> tuple[Json, Json]:
    """The schema of one event, and the components that it needs."""
    if offer.checked is None:
        return _reference("schemas", "Event"), {}
    name = names.unique(offer.source.name)
    placed = component_schemas(name, offer.checked.document, names)
    reference = _reference("schemas", name)
    if placed[name].get("type") != "object":  # whatever a schema allows, an event is an object
        reference = {"type": "object", **reference}
    return reference, placed


def _request_body(event: Json, sample: bytes | None, limits: LimitSettings) -> Json:
    array = {"type": "array", "items": event, "maxItems": limits.batch_events}
    content: dict[str, Json] = {JSON: {"schema": {"oneOf": [event, array]}}}
    content |= {lines: {"schema": _TEXT} for lines in LINES}
    if sample is not None:
        value, line = json.loads(sample), sample.decode()
        examples = {"event": {"value": value}, "batch": {"value": [value, value]}}
        content[JSON]["examples"] = examples
        for lines in LINES:
            content[lines] = {"schema": _TEXT, "example": f"{line}\n{line}\n"}
    return {"required": True, "content": content}


_CONSEQUENCES = {
    "enforce": "Events that do not match the schema are rejected.",
    "warn": "Events that do not match the schema are taken, and listed with a warning.",
    "off": "An event is any JSON object.",
}


def _about(offer: Offer, limits: LimitSettings) -> str:
    source = offer.source
    key = "" if source.key is None else f", with the value at `{pointer(source.key)}` as record key"
    return (
        f"Events go to the topic `{source.topic}`{key}. "
        f"{_CONSEQUENCES['off' if offer.checked is None else offer.validate]} "
        f"At most {limits.batch_events} events a request and {limits.event_bytes} bytes an event; "
        f"{limits.body_bytes} bytes a body, {limits.decoded_bytes} when decoded."
    )


def _parameters() -> Json:
    key = r'^("[!#-\[\]-~]{1,240}"|[!#-\[\]-~]{1,240})$'
    trace = r"^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}"
    return {
        "ContentEncoding": _field("Content-Encoding", _reference("schemas", "ContentCoding")),
        "IdempotencyKey": _field("Idempotency-Key", _TEXT | {"pattern": key}),
        "RequestId": _field("X-Request-Id", _TEXT | {"pattern": r"^[A-Za-z0-9._-]{1,128}$"}),
        "TraceParent": _field("traceparent", _TEXT | {"pattern": trace}),
        "DryRun": _option("dry_run", "1", "DryRun"),
        "Results": _option("results", "all", "ListResults"),
    }


def _field(name: str, schema: Json) -> Json:
    return {"name": name, "in": "header", "description": OPTIONAL[name], "schema": schema}


def _option(name: str, value: str, schema: str) -> Json:
    return {
        "name": name,
        "in": "query",
        "description": OPTIONAL[f"?{name}={value}"],
        "schema": _reference("schemas", schema),
    }


# What is answered.


def _common_schemas() -> Json:
    return {
        "Event": {"type": "object", "description": "Any JSON object."},
        "ContentCoding": _TEXT | {"enum": list(CODINGS)},
        "DryRun": _TEXT | {"enum": ["1"]},
        "ListResults": _TEXT | {"enum": ["all"]},
        "Result": _object(
            {"request_id": _TEXT} | _results(),
            "What became of the events of a request.",
            optional={"warned", "truncated", "dry_run"},
        ),
        "EventResult": _event_result(),
        "SourceOffer": _source_offer(),
        "OpenApi": {"type": "object", "description": "An OpenAPI 3.1 document."},
        **{_name_of(status): _problem(status) for status in WHEN if status not in TAKEN},
    }


def _object(properties: Json, text: str, optional: Iterable[str] = ()) -> Json:
    required = [name for name in properties if name not in set(optional)]
    return {
        "type": "object",
        "description": text,
        "required": required,
        "properties": properties,
    }


def _results() -> Json:
    return {
        "accepted": _COUNT | {"description": "Events in Kafka or in the spool."},
        "spooled": _COUNT | {"description": "Of the accepted ones, those only in the spool."},
        "rejected": _COUNT,
        "retry": _COUNT,
        "unknown": _COUNT,
        "results": {
            "type": "array",
            "description": "In the order of the events: all that are retry or unknown, and at most "
            f"{LISTED} of the others that are not ok; every event with ?results=all.",
            "items": _reference("schemas", "EventResult"),
        },
        "warned": _COUNT | {"description": "Events that were listed with a warning."},
        "truncated": {"type": "boolean", "description": "More could have been listed."},
        "dry_run": {"type": "boolean", "description": "true: nothing was done."},
    }


def _event_result() -> Json:
    outcomes = "; ".join(f"{status}: {meaning}" for status, meaning in OUTCOMES.items())
    always = {
        "index": _COUNT | {"description": "The position of the event in the request."},
        "id": _TEXT | {"description": "Of the event, its own or a made one."},
        "status": _TEXT | {"enum": list(OUTCOMES), "description": outcomes},
    }
    sometimes = {
        "code": _TEXT | {"enum": list(EVENT_CODES), "description": "Why it is not ok."},
        "detail": _DETAIL,
        "kept": {"type": "boolean", "description": "false: no dead letter could be kept."},
        "warning": _object(
            {"code": _TEXT | {"const": SCHEMA_MISMATCH}, "detail": _DETAIL},
            "Why the event does not match the schema; it was taken all the same.",
        ),
        "topic": _TEXT,
        "partition": _COUNT,
        "offset": _COUNT,
    }
    return _object(always | sometimes, "What became of one event.", optional=sometimes)


def _source_offer() -> Json:
    number, texts = {"type": "number"}, {"type": "array", "items": _TEXT}
    limits = ("body_bytes", "decoded_bytes", "event_bytes", "batch_events")
    either_text = {"type": ["string", "null"]}
    properties = {
        "source": _TEXT,
        "url": _TEXT,
        "topic": _TEXT,
        "type": _TEXT | {"description": "CloudEvents type of events that bring none."},
        "key": either_text | {"description": "JSON Pointer to the record key."},
        "media_types": texts,
        "content_codings": texts,
        "schema": {"description": "JSON Schema 2020-12 of an event, or null."},
        "validate": _TEXT | {"enum": sorted(_CONSEQUENCES)},
        "limits": _object(
            dict.fromkeys(limits, _COUNT) | {"ack_seconds": number}, "Of one request."
        ),
        "quotas": {"type": "object", "additionalProperties": {"type": "integer"}},
        "dead_letter_topic": either_text,
        "cors_origins": texts,
        "optional": {"type": "object", "additionalProperties": _TEXT},
        "example": {"type": ["object", "null"], "description": "An event that is accepted."},
        "curl": _TEXT | {"description": "A line for a shell that sends the example."},
    }
    return _object(properties, "What a source accepts.")


def codes_of(status: int) -> list[str]:
    """The stable words that come with a status."""
    return sorted(code for code, its in STATUS.items() if its == status)


def _problem(status: int) -> Json:
    properties: Json = {
        "type": {"type": "string", "format": "uri-reference"},
        "title": _TEXT,
        "status": {"type": "integer", "const": status},
        "code": {"type": "string", "enum": codes_of(status)},
        "detail": _DETAIL,
        "request_id": _TEXT,
    }
    more = _results() if status in LOOKED_AT else {}
    if status == STATUS["quota_exceeded"]:
        more = {"quota": _TEXT | {"enum": list(QUOTAS)}}
    return _object(properties | more, f"RFC 9457. {WHEN[status]}", optional=more)


def _answer(status: int) -> Json:
    media_type, schema = (JSON, "Result") if status in TAKEN else (MEDIA_TYPE, _name_of(status))
    content = {"schema": _reference("schemas", schema), "example": _sample(status)}
    fields = [*_FIELDS.get(status, ()), *RATE_LIMITS, "X-Request-Id"]
    return {
        "description": WHEN[status],
        "headers": {field: _reference("headers", field) for field in fields},
        "content": {media_type: content},
    }


_FIELDS = {
    401: ("WWW-Authenticate",),
    405: ("Allow",),
    415: ("Accept-Encoding", "Accept-Post"),
    429: ("Retry-After",),
    503: ("Retry-After",),
    504: ("Retry-After",),
}
RATE_LIMITS = ("RateLimit-Limit", "RateLimit-Policy", "RateLimit-Remaining", "RateLimit-Reset")


def _headers() -> Json:
    quota = "Of the caller's quota that is closest to its end; absent where there is none."
    texts = {
        "Accept-Encoding": "The content codings that are taken.",
        "Accept-Post": "The media types that are taken.",
        "Allow": "The methods of the path.",
        "RateLimit-Policy": "All quotas of the caller.",
        "WWW-Authenticate": "How to show a key.",
        "X-Request-Id": "The request's own, or a made one.",
    }
    numbers = {"Retry-After": "Seconds after which it is worth trying again."}
    numbers |= {name: quota for name in RATE_LIMITS if name not in texts}
    described = [(name, text, _TEXT) for name, text in texts.items()]
    described += [(name, text, _COUNT) for name, text in numbers.items()]
    return {name: {"description": text, "schema": kind} for name, text, kind in described}


def _sample(status: int) -> Json:
    """An answer that one of 100 events has made what it is."""
    document: Json = {"request_id": "0f1c9a2e"}
    if status not in TAKEN:
        code = codes_of(status)[0]
        document |= {
            "type": f"README.md#{code}",
            "title": REASONS[status],
            "status": status,
            "code": code,
            "detail": WHEN[status],
        }
    entry = _LISTED.get(status)
    if entry is not None:
        counts = dict.fromkeys(("accepted", "spooled", "rejected", "retry", "unknown"), 0)
        counts["accepted"] = 0 if status == 422 else 99 + (entry["status"] == "spooled")
        counts[entry["status"]] = 1
        document |= counts | {"results": [{"index": 3, "id": "0f1c9a2e-3", **entry}]}
    return document


_REJECT: Json = {"status": "rejected", "code": "not_an_object", "detail": "an event is an object"}
_LISTED: dict[int, Json] = {
    200: _REJECT,
    202: {"status": "spooled"},
    207: {**_REJECT, "kept": False},
    422: _REJECT,
    503: {"status": "retry", "code": "kafka_unavailable"},
    504: {"status": "unknown", "code": "ack_timeout"},
}


def _get(operation: str, summary: str, schema: str) -> Json:
    """The operation of a document about the door; its credentials are those of a POST."""
    content = {JSON: {"schema": _reference("schemas", schema)}}
    return {
        "operationId": operation,
        "tags": ["documents"],
        "summary": summary,
        "responses": {
            "200": {
                "description": "The document.",
                "headers": {"X-Request-Id": _reference("headers", "X-Request-Id")},
                "content": content,
            },
            **_answers(_OF_DOCUMENTS),
        },
    }


_OF_DOCUMENTS = (401, 403, 404)


def _answers(statuses: Iterable[int]) -> Json:
    return {str(status): _reference("responses", _name_of(status)) for status in statuses}


def _name_of(status: int) -> str:
    return f"Result{status}" if status in TAKEN else f"Problem{status}"


def _reference(kind: str, name: str) -> Json:
    return {"$ref": f"#/components/{kind}/{name}"}


def _security_schemes(*, certificates: bool) -> Json:
    schemes: Json = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "The API key."},
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        "basic": {
            "type": "http",
            "scheme": "basic",
            "description": "The API key as user name, any password.",
        },
    }
    if certificates:
        schemes["certificate"] = {"type": "mutualTLS"}
    return schemes
