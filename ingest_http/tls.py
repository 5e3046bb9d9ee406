"""TLS as it is spoken at the HTTP front door."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ingest.tls import server_context

if TYPE_CHECKING:
    import ssl

    from ingest_http.settings import TlsSettings

ALPN = ("http/1.1",)
"""The names of what is spoken (RFC 7301, section 6)."""


def http_context(tls: TlsSettings) -> ssl.SSLContext:
    """The context that ``http.tls`` asks for.

    Raises:
        ValueError: one of its files cannot be used; which one and why, in one line.
    """
    required = tls.client_cert == "required"
    return server_context(
        tls.cert, tls.key, tls.client_ca, client_cert_required=required, alpn=ALPN
    )
