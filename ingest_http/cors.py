"""Cross-origin requests of browsers: what a source allows to which origin.

Source: the Fetch standard, section 3.3 (CORS protocol).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from multidict import CIMultiDictProxy

METHODS = "GET, HEAD, POST"
REQUEST_HEADERS = (
    "Authorization, Content-Encoding, Content-Type, Idempotency-Key, traceparent, X-API-Key, "
    "X-Request-Id"
)
EXPOSED = (
    "RateLimit-Limit, RateLimit-Policy, RateLimit-Remaining, RateLimit-Reset, Retry-After, "
    "X-Request-Id"
)
MAX_AGE_SECONDS = 3600
"""How long a browser may remember a preflight."""
ANY = "*"
VARY = {"Vary": "Origin"}


class Origins:
    """The origins of one source.

    Args:
        origins: as browsers write them; ``*`` allows every one.
    """

    def __init__(self, origins: frozenset[str]) -> None:
        self._origins = origins

    def __bool__(self) -> bool:
        return bool(self._origins)

    def headers(self, origin: str) -> Mapping[str, str]:
        """The fields of an answer to a page of ``origin``, which may not be allowed."""
        if not self._allow(origin):
            return VARY
        return {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Expose-Headers": EXPOSED,
            **VARY,
        }

    def preflight(self, headers: CIMultiDictProxy[str]) -> Mapping[str, str] | None:
        """The fields of the answer to a preflight; None: it is none, or not allowed."""
        origin = headers.get("Origin")
        if origin is None or "Access-Control-Request-Method" not in headers:
            return None
        if not self._allow(origin):
            return None
        return {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Methods": METHODS,
            "Access-Control-Allow-Headers": REQUEST_HEADERS,
            "Access-Control-Max-Age": str(MAX_AGE_SECONDS),
            **VARY,
        }

    def _allow(self, origin: str) -> bool:
        return origin in self._origins or (ANY in self._origins and _is_plain(origin))


def _is_plain(origin: str) -> bool:
    """Whether it can be repeated in a header field: whatever it is, it comes from the client."""
    return origin.isascii() and origin.isprintable() and " " not in origin
