"""Certificates of a gateway for tests, and how its clients talk TLS."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import trustme

from ingest.settings import FileContent

if TYPE_CHECKING:
    from typing import Any


class Authority:
    """Signs the certificate of one gateway.

    Attributes:
        tls: the setting ``tls`` of its listener.
    """

    def __init__(self) -> None:
        self._ca = trustme.CA()
        own = self._ca.issue_cert("localhost")
        chain = b"".join(each.bytes() for each in own.cert_chain_pems)
        self.tls: dict[str, Any] = {
            "cert": FileContent("cert.pem", chain),
            "key": FileContent("key.pem", own.private_key_pem.bytes()),
        }

    def context(self, certificate: trustme.LeafCert | None = None) -> ssl.SSLContext:
        """How a client talks TLS, who may have a certificate of its own."""
        made = ssl.create_default_context(cadata=self._ca.cert_pem.bytes().decode())
        if certificate is not None:
            certificate.configure_cert(made)
        return made
