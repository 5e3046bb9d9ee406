"""Whether a TLS client may send: by the names in its certificate, or by the fingerprint of it.

The certificate has been verified by TLS before: its chain leads to a certificate of ``client_ca``.
A self-signed certificate is its own authority: where senders are known by their fingerprints only,
``client_ca`` holds their certificates. Their fingerprints are to be listed too, since what
``openssl req -x509`` makes may also sign certificates for others, with any names.
"""

from __future__ import annotations

import re
import ssl
from hashlib import sha256
from hmac import compare_digest
from ipaddress import ip_address
from time import time
from typing import TYPE_CHECKING, Any

from ingest.tls import names_in

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_HEX = r"[0-9a-f]{2}(?::[0-9a-f]{2}){31}|[0-9a-f]{64}"
_FINGERPRINT = re.compile(rf"sha256:({_HEX})")
_SHA1 = re.compile(r"sha1:.*|(?:[0-9a-f]{2}:?){19}[0-9a-f]{2}", re.DOTALL)
_LABEL = re.compile(r"[a-z0-9_-]+")
_NOT_DNS = frozenset(":/@")
"""What makes a name one of the other kinds: an IPv6 address, a URI, or the address of a mailbox."""


def check_fingerprint(text: str) -> str:
    """``sha256:`` and 64 lower-case hexadecimal digits: the fingerprint in its usual spelling.

    Args:
        text: the same with letters of any case, or with a colon between each two digits, which
            is how ``openssl x509 -fingerprint -sha256`` has it.

    Raises:
        ValueError: it is none, or one by SHA-1, which can be forged.
    """
    lower = text.lower()
    found = _FINGERPRINT.fullmatch(lower)
    if found:
        return "sha256:" + found[1].replace(":", "")
    if _SHA1.fullmatch(lower):
        raise ValueError("SHA-1 can be forged: give the fingerprint by SHA-256")
    raise ValueError('expected "sha256:" and 64 hexadecimal digits')


def check_name(text: str) -> str:
    """A name that certificates may have, in the spelling that `names_in` has.

    Args:
        text: the whole name; of a DNS name the leftmost label may be ``*``.

    Raises:
        ValueError: a ``*`` stands elsewhere, or the name is empty or not ASCII.
    """
    if not text or not text.isascii():
        raise ValueError("expected a name in ASCII, an international one as xn--…")
    if "*" in text and not _is_wildcard(text):
        raise ValueError('expected "*" as the whole leftmost label only, as in "*.example.com"')
    if _NOT_DNS.isdisjoint(text):
        text = text.lower()
    try:
        return str(ip_address(text))
    except ValueError:
        return text


def _is_wildcard(text: str) -> bool:
    label, *parents = text.lower().split(".")
    if label != "*" or not parents or parents[-1].isdigit():  # an IP address has no labels
        return False
    return all(map(_LABEL.fullmatch, parents))


class Identity:
    """Who is allowed. Either list is enough; without any, whoever has a verified certificate.

    Only subject alternative names count (RFC 5280, section 4.2.1.6), never the common name. A
    ``*`` stands for one label (RFC 6125, section 6.4.3). A certificate for ``*.example.com`` is
    allowed where that very text is, and not as one of the names that it covers.

    Args:
        names: see `check_name`.
        fingerprints: see `check_fingerprint`.

    Raises:
        ValueError: some name or fingerprint is none.
    """

    def __init__(self, names: Sequence[str], fingerprints: Sequence[str]) -> None:
        self._names = frozenset(map(check_name, names))
        checked = map(check_fingerprint, fingerprints)
        self._digests = [bytes.fromhex(each.removeprefix("sha256:")) for each in checked]

    @property
    def restricts(self) -> bool:
        """Whether a verified certificate alone is not enough."""
        return bool(self._names or self._digests)

    def admits(self, certificate: Mapping[str, Any] | None, der: bytes | None) -> bool:
        """Whether the client with this certificate may send.

        Args:
            certificate: as `ssl.SSLSocket.getpeercert` tells it; None or empty without one.
            der: the same certificate in DER.
        """
        if not certificate or _has_expired(certificate):
            return False
        if not self.restricts:
            return True
        return self._has_name(certificate) or self._has_digest(der)

    def _has_name(self, certificate: Mapping[str, Any]) -> bool:
        return any(
            name in self._names or _any_sibling(name) in self._names
            for name in names_in(certificate)
        )

    def _has_digest(self, der: bytes | None) -> bool:
        if der is None:
            return False
        digest = sha256(der).digest()
        same = [compare_digest(digest, each) for each in self._digests]
        return any(same)


def _any_sibling(name: str) -> str | None:
    """A DNS name with ``*`` for its leftmost label; None for other names."""
    label, dot, parent = name.partition(".")
    return f"*.{parent}" if dot and _LABEL.fullmatch(label) else None


def _has_expired(certificate: Mapping[str, Any]) -> bool:
    """Whether it has since it was verified, which may have been long ago."""
    return ssl.cert_time_to_seconds(certificate["notAfter"]) < time()
