"""TLS of a front door: its context, and what a client certificate names.

A context is made once and never changed: the listener exchanges it as a whole, which forgets the
client authorities that were removed and the session tickets that were given.
"""

from __future__ import annotations

import os
import ssl
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from time import time
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ingest.settings import FileContent

NAMES = ("DNS", "URI", "email", "IP Address")
"""The kinds of subject alternative names (RFC 5280, section 4.2.1.6) that identify a client."""
_NOT_ITS_KEY = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")
_WEAK = {
    "EE_KEY_TOO_SMALL": "the key of its certificate is too small",
    "CA_KEY_TOO_SMALL": "the key of an authority in it is too small",
    "CA_MD_TOO_WEAK": "an authority in it is signed with a digest that is too weak",
}


def server_context(
    cert: FileContent,
    key: FileContent,
    client_ca: FileContent | None = None,
    *,
    client_cert_required: bool = False,
    alpn: Sequence[str] = (),
) -> ssl.SSLContext:
    """TLS 1.2 or newer, with client certificates where ``client_ca`` is given.

    Args:
        cert: the certificate, followed by those that lead to its authority.
        key: its private key, without a password.
        client_ca: the authorities of clients; None: clients are not asked for certificates.
        client_cert_required: whether a client without a certificate is turned away.
        alpn: the protocols that are spoken (RFC 7301), the best first; empty: nothing is said.

    Raises:
        ValueError: one of the files cannot be used; which one and why, in one line.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    if alpn:
        context.set_alpn_protocols(alpn)
    _check_certificates(cert, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    _load_chain(context, cert, key)
    if client_ca is not None:
        _check_certificates(client_ca, context)
        _ask_for_certificates(context, required=client_cert_required)
    return context


def _check_certificates(file: FileContent, context: ssl.SSLContext) -> None:
    """Have ``context`` trust what is in ``file``, which must be certificates and nothing else."""
    with _name_of(file) as name:
        try:
            context.load_verify_locations(cafile=name)
        except ssl.SSLError:
            raise ValueError(f"{file.path}: expected certificates in PEM") from None
    if context.cert_store_stats()["crl"]:
        raise ValueError(f"{file.path}: holds a revocation list, which is not supported")


def _load_chain(context: ssl.SSLContext, cert: FileContent, key: FileContent) -> None:
    def refuse() -> NoReturn:
        raise ValueError(f"{key.path}: the key is encrypted; give it without a password")

    with _name_of(cert) as chain, _name_of(key) as private:
        try:
            context.load_cert_chain(chain, private, password=refuse)
        except ssl.SSLError as error:
            raise ValueError(_fault(error.reason, cert, key)) from None


def _fault(reason: str | None, cert: FileContent, key: FileContent) -> str:
    """What is wrong with a chain that is readable; ``reason`` is OpenSSL's word."""
    if reason in _NOT_ITS_KEY:
        return f"{key.path}: is not the key of the first certificate in {cert.path}"
    if reason in _WEAK:
        return f"{cert.path}: {_WEAK[reason]}"
    return f"{key.path}: expected a private key in PEM"


def _ask_for_certificates(context: ssl.SSLContext, *, required: bool) -> None:
    context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # an intermediate authority will do
    # Who comes back with a ticket is not verified again, its certificate may have expired.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0


@contextmanager
def _name_of(file: FileContent) -> Iterator[str]:
    """A name for bytes in memory: OpenSSL reads chains and keys only from files."""
    descriptor = os.memfd_create("tls")
    try:
        with os.fdopen(os.dup(descriptor), "wb") as stream:
            stream.write(file.content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def names_in(certificate: Mapping[str, Any] | None) -> tuple[str, ...]:
    """The names in a verified certificate, as `ssl.SSLSocket.getpeercert` tells them.

    DNS names are in lower case, since case does not count in them; IP addresses in their usual
    spelling. One that has expired has none: a session of before may be resumed with it.
    """
    if not certificate or ssl.cert_time_to_seconds(certificate["notAfter"]) < time():
        return ()
    names = certificate.get("subjectAltName", ())
    return tuple(_spelled(kind, name) for kind, name in names if kind in NAMES)


def _spelled(kind: str, name: str) -> str:
    if kind == "IP Address":
        with suppress(ValueError):  # no certificate of a sane authority
            return str(ip_address(name.strip()))
    return name.lower() if kind == "DNS" else name
