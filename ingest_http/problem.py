"""Refusals: the one table of error code -> HTTP status, and the problem documents (RFC 9457)."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import msgspec

from ingest_http.reply import REASONS, Reply

if TYPE_CHECKING:
    from collections.abc import Mapping

MEDIA_TYPE = "application/problem+json"

STATUS = {
    "bad_request": 400,
    "bad_body": 400,
    "bad_compression": 400,
    "bad_idempotency_key": 400,
    "empty_body": 400,
    "invalid_json": 400,
    "invalid_utf8": 400,
    "too_deep": 400,
    "unauthenticated": 401,
    "forbidden": 403,
    "source_is_syslog": 403,
    "not_found": 404,
    "unknown_source": 404,
    "method_not_allowed": 405,
    "body_timeout": 408,
    "body_too_large": 413,
    "decoded_too_large": 413,
    "too_many_events": 413,
    "unsupported_encoding": 415,
    "unsupported_media_type": 415,
    "expectation_failed": 417,
    "no_usable_event": 422,
    "quota_exceeded": 429,
    "internal_error": 500,
    "overloaded": 503,
    "kafka_unavailable": 503,
    "ack_timeout": 504,
}
_RETRY_AFTER = frozenset({503, 504})


class Problem(Exception):  # noqa: N818 - named as RFC 9457 does
    """An answer that says what is wrong (RFC 9457).

    Args:
        code: a stable word, a key of `STATUS`.
        detail: for people, at most 200 characters; never values, class names or secrets.
        headers: further header fields.
        members: extension members of the document.
    """

    def __init__(
        self,
        code: str,
        detail: str = "",
        headers: Mapping[str, str] | None = None,
        members: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(code)
        self.status = STATUS[code]
        self.code = code
        self.detail = detail[:200]
        self.headers = dict(headers or {})
        if self.status in _RETRY_AFTER:  # with jitter, so that not everybody comes back at once
            self.headers["Retry-After"] = str(random.randint(1, 4))  # noqa: S311 - no secret
        self.members = members or {}

    def reply(self, request_id: str, documentation: str, *, close: bool = False) -> Reply:
        """The answer with this problem document.

        Args:
            request_id: of the request.
            documentation: the page that has a section for each code.
            close: whether the connection ends with it.
        """
        document = {
            "type": f"{documentation}#{self.code}",
            "title": REASONS[self.status],
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
            "request_id": request_id,
            **self.members,
        }
        body = msgspec.json.encode(document) + b"\n"
        return Reply(self.status, body, request_id, MEDIA_TYPE, self.headers, close=close)
