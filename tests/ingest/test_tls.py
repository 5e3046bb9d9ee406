"""Contexts of TLS: which files make one, what is talked with it, and what certificates name."""

from __future__ import annotations

import ssl
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from ingest.settings import FileContent
from ingest.tls import names_in, server_context

CA, FOREIGN_CA = trustme.CA(), trustme.CA()
SERVER = CA.issue_cert("localhost", "127.0.0.1")
BILLING = CA.issue_cert("billing.example.com")
V2, V3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


def chain_of(leaf: trustme.LeafCert) -> bytes:
    """The certificates of a leaf, in PEM."""
    return b"".join(blob.bytes() for blob in leaf.cert_chain_pems)


CHAIN, SECRET = chain_of(SERVER), SERVER.private_key_pem.bytes()


def context_of(
    cert: bytes = CHAIN, key: bytes = SECRET, client_ca: bytes | None = None, **more: Any
) -> ssl.SSLContext:
    """The context of files with these contents."""
    return server_context(
        FileContent("cert.pem", cert),
        FileContent("key.pem", key),
        None if client_ca is None else FileContent("ca.pem", client_ca),
        **more,
    )


def open_files() -> int:
    """How many file descriptors this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))


# What is talked.


def client_context(
    cert: trustme.LeafCert | None = None, version: ssl.TLSVersion = V3
) -> ssl.SSLContext:
    """How a client talks TLS."""
    context = ssl.create_default_context(cadata=CA.cert_pem.bytes().decode())
    context.minimum_version = context.maximum_version = version
    if cert is not None:
        cert.configure_cert(context)
    return context


def shaken(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both sides after a handshake in memory.

    Raises:
        ssl.SSLError: the handshake failed.
    """
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = (
        server.wrap_bio(up, down, server_side=True),
        client.wrap_bio(down, up, server_hostname="localhost"),
    )
    for _ in range(3):
        for side in sides[::-1]:
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
    return sides


@pytest.mark.parametrize("version", [V2, V3])
@pytest.mark.parametrize(
    ("alpn", "agreed"), [((), None), (("http/1.1",), "http/1.1"), (("other",), None)]
)
def test_only_the_protocols_that_are_named_are_agreed_on(
    alpn: tuple[str, ...], agreed: str | None, version: ssl.TLSVersion
) -> None:
    """And whoever offers others is served all the same."""
    client = client_context(version=version)
    client.set_alpn_protocols(["h2", "http/1.1"])
    side, other = shaken(context_of(alpn=alpn), client)
    assert (side.selected_alpn_protocol(), side.compression()) == (agreed, None)
    assert other.version() == version.name.replace("_", ".")


def test_older_versions_are_refused() -> None:
    """TLS 1.1 is (RFC 8996)."""
    client = client_context()
    client.set_ciphers("DEFAULT:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError, match=r"(?i)unsupported protocol|protocol version"):
        shaken(context_of(), client)


@pytest.mark.parametrize("version", [V2, V3])
@pytest.mark.parametrize("cert", [None, BILLING, FOREIGN_CA.issue_cert("billing.example.com")])
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"client_ca": CA.cert_pem.bytes()},
        {"client_ca": CA.cert_pem.bytes(), "client_cert_required": True},
    ],
    ids=["not asked", "optional", "required"],
)
def test_a_certificate_is_verified_where_it_is_asked_for(
    more: dict[str, Any], cert: trustme.LeafCert | None, version: ssl.TLSVersion
) -> None:
    """A wrong one is refused even where none is needed; names come of a verified one alone."""
    contexts = context_of(**more), client_context(cert, version)
    is_missed = cert is None and "client_cert_required" in more
    is_wrong = cert not in {None, BILLING} and "client_ca" in more
    if is_missed or is_wrong:
        with pytest.raises(ssl.SSLError, match=r"(?i)certificate"):
            shaken(*contexts)
        return
    side, _ = shaken(*contexts)
    is_seen = cert is BILLING and "client_ca" in more
    assert names_in(side.getpeercert()) == (("billing.example.com",) if is_seen else ())


# What a certificate names.


@pytest.mark.parametrize(
    ("certificate", "names"),
    [
        (None, ()),
        ({}, ()),
        ({"subject": ((("commonName", "billing"),),)}, ()),
        ({"subjectAltName": (("URI", "spiffe://A/b"),)}, ("spiffe://A/b",)),
        ({"subjectAltName": (("IP Address", "2001:DB8:0:0:0:0:0:1\n"),)}, ("2001:db8::1",)),
        ({"subjectAltName": (("IP Address", "<invalid>"),)}, ("<invalid>",)),
        ({"subjectAltName": (("DirName", ((("commonName", "x"),),)), ("DNS", "a"))}, ("a",)),
    ],
)
def test_names_are_only_those_that_identify(
    certificate: dict[str, Any] | None, names: tuple[str, ...]
) -> None:
    """Neither the subject nor names of other kinds."""
    if certificate:
        certificate["notAfter"] = "Jan  1 00:00:00 2100 GMT"
    assert names_in(certificate) == names


def test_a_certificate_that_has_expired_identifies_nobody() -> None:
    """A TLS session that began with it can be resumed."""
    expired = {"subjectAltName": (("DNS", "a"),), "notAfter": "Nov 24 00:00:00 2026 GMT"}
    assert names_in(expired) == ()


# Files that cannot be used.


def encrypted(kind: PrivateFormat) -> bytes:
    """The key of the server behind a password."""
    key = load_pem_private_key(SERVER.private_key_pem.bytes(), None)
    return key.private_bytes(Encoding.PEM, kind, BestAvailableEncryption(b"x"))


RSA = trustme.CA(key_type=trustme.KeyType.RSA).issue_cert("localhost")
DAMAGED = CHAIN.replace(b"MII", b"MIJ", 1)
SMALL_CERT = b"""-----BEGIN CERTIFICATE-----
MIIB/jCCAWegAwIBAgIUU8xdMYNj87IeEjadbprP2iuku1gwDQYJKoZIhvcNAQEL
BQAwEDEOMAwGA1UEAwwFc21hbGwwIBcNMjYxMTI0MjE1ODUyWhgPMjEyNjEwMzEy
MTU4NTJaMBAxDjAMBgNVBAMMBXNtYWxsMIGfMA0GCSqGSIb3DQEBAQUAA4GNADCB
iQKBgQDKyLSbO2+82GhRBrvZFIp8R96BaBpdpGARlTt+J6mn/IrCj+JW+P49OH/O
QlXFfNKdA6pr8dJXdX7hIhUOz7XzGsZAWDWldhrLyRKreAxE+Zx7GOD7GsE+jowA
LteIKpUR93RdSVhssLvSKA9GXehth2RlxVBuqQOV+wBcqQNn1QIDAQABo1MwUTAd
BgNVHQ4EFgQUriRShbhATqTMxy+guFBkQ1DptFcwHwYDVR0jBBgwFoAUriRShbhA
TqTMxy+guFBkQ1DptFcwDwYDVR0TAQH/BAUwAwEB/zANBgkqhkiG9w0BAQsFAAOB
gQA/T7rSnPY2EtV3Ri9VDHaX8Dxv3nsz0mBqg9ydGhYAFZ5TIzUy8VNmqrvG9THL
GRlM5fj3GKwiWtRsoUhnlWYWlmTwH6b9a9rnTTqtw3PfpWKhntE050vbxiC9GeZq
InfERxknugz+3dBc1AWKmXFDRLUdwnA38TUgCpR63063pA==
-----END CERTIFICATE-----
"""
SMALL_KEY = b"""-----BEGIN PRIVATE KEY-----
MIICdgIBADANBgkqhkiG9w0BAQEFAASCAmAwggJcAgEAAoGBAMrItJs7b7zYaFEG
u9kUinxH3oFoGl2kYBGVO34nqaf8isKP4lb4/j04f85CVcV80p0Dqmvx0ld1fuEi
FQ7PtfMaxkBYNaV2GsvJEqt4DET5nHsY4PsawT6OjAAu14gqlRH3dF1JWGywu9Io
D0Zd6G2HZGXFUG6pA5X7AFypA2fVAgMBAAECgYADOvdFkcjR5VCkGctcRet+11ZA
EXx6CWhOX2Y3OEKHnopHVytv3z+NkhzXGE9tefOQ9MH+PjfvlLuUsopLVhu74Gkt
YAyZoKNE/QtF+Eo0BPRtnukjABiq3qDJdIAK6ynP1U7XwvoFlPd6Eiy5VOuebx3H
WgWrs2CoQTmazn4VcQJBAO4OBnR+retE0iBOgYUyINjNxjSdRzft5j+T0fyG8HQ+
aNhMDved0CU1BVciGP+xb6qbRPNs8pBb5lNq4pyQYGsCQQDaEgaVvmcODIDwTblC
Qgje+zGe7eaWZrmVrKKZ6ro8iO3/HUEfRMX9C3MniUCU6K65bFLkRiCe8Vbqzlue
YGi/AkA22F5eWo1BRgLPVKb8g/cTXB1NI+szlIjWnvzjHEer0HEhXCyame5JlDSd
xYpS5pNekBVLrA8aeUHQeDCrd4vvAkEAwfrQ4rkpQMT8mUX6KqdE7tzxqdcji9w6
75pOVa4IFjsTwiCKwj7SA6MAv0WHLi7A5e4m2ipLcDdsQphnxT0rTwJAYMZXneZ2
KJKh+9sYvO016qdOtTCRwtdUKjy6ApGhIdIyv7a8Lx8/oU4Hq3+WAGDC7tTbwo/h
6/L8xehDVMvTwg==
-----END PRIVATE KEY-----
"""
REVOCATIONS = b"""-----BEGIN X509 CRL-----
MIGlME0CAQEwCgYIKoZIzj0EAwIwDDEKMAgGA1UEAwwBchcNMjYxMTI0MjE1ODUy
WhgPMjEyNjEwMzEyMTU4NTJaoA4wDDAKBgNVHRQEAwIBATAKBggqhkjOPQQDAgNI
ADBFAiB2RVPvFUNzjBPGYthyhiUQmLOOVB/23eQvZmOM+OKZuwIhAMfyWxStT2+5
AYcPP3QCeMoa8O5ku268+PREaLnRPBuj
-----END X509 CRL-----
"""
NO_CERTIFICATES = "expected certificates in PEM"
NO_KEY = "key.pem: expected a private key in PEM"
ENCRYPTED = "key.pem: the key is encrypted; give it without a password"
NOT_ITS_KEY = "key.pem: is not the key of the first certificate in cert.pem"


@pytest.mark.parametrize(
    ("files", "fault"),
    [
        ({"cert": b""}, f"cert.pem: {NO_CERTIFICATES}"),
        ({"cert": b"hello"}, f"cert.pem: {NO_CERTIFICATES}"),
        ({"cert": SECRET}, f"cert.pem: {NO_CERTIFICATES}"),
        ({"cert": DAMAGED}, f"cert.pem: {NO_CERTIFICATES}"),
        ({"cert": CHAIN + DAMAGED}, f"cert.pem: {NO_CERTIFICATES}"),
        ({"cert": CHAIN[:300]}, f"cert.pem: {NO_CERTIFICATES}"),
        ({"cert": ssl.PEM_cert_to_DER_cert(CHAIN.decode())}, f"cert.pem: {NO_CERTIFICATES}"),
        ({"key": b""}, NO_KEY),
        ({"key": b"\xff\x00"}, NO_KEY),
        ({"key": CHAIN}, NO_KEY),
        ({"key": SECRET[:100]}, NO_KEY),
        ({"key": encrypted(PrivateFormat.PKCS8)}, ENCRYPTED),
        ({"key": encrypted(PrivateFormat.TraditionalOpenSSL)}, ENCRYPTED),
        ({"key": BILLING.private_key_pem.bytes()}, NOT_ITS_KEY),
        ({"key": RSA.private_key_pem.bytes()}, NOT_ITS_KEY),
        ({"cert": CA.cert_pem.bytes() + CHAIN}, NOT_ITS_KEY),
        (
            {"cert": SMALL_CERT, "key": SMALL_KEY},
            "cert.pem: the key of its certificate is too small",
        ),
        ({"cert": CHAIN + SMALL_CERT}, "cert.pem: the key of an authority in it is too small"),
        ({"client_ca": b""}, f"ca.pem: {NO_CERTIFICATES}"),
        ({"client_ca": SECRET}, f"ca.pem: {NO_CERTIFICATES}"),
        ({"client_ca": CA.cert_pem.bytes() + DAMAGED}, f"ca.pem: {NO_CERTIFICATES}"),
        (
            {"client_ca": CA.cert_pem.bytes() + REVOCATIONS},
            "ca.pem: holds a revocation list, which is not supported",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_named(files: dict[str, bytes], fault: str) -> None:
    """In one line for people, and nobody is asked for a password."""
    before = open_files()
    with pytest.raises(ValueError, match=r".") as caught:
        context_of(**files)
    assert str(caught.value) == fault
    assert open_files() == before


@pytest.mark.parametrize(
    "files",
    [
        {"cert": CHAIN + SECRET, "key": CHAIN + SECRET},
        {"cert": b"# by \xc3\x9c\r\n" + CHAIN.replace(b"\n", b"\r\n")},
        {"cert": CHAIN + CA.cert_pem.bytes()},
        {"cert": chain_of(RSA), "key": RSA.private_key_pem.bytes()},
        {"client_ca": CA.cert_pem.bytes() + b"\n# foreign\n" + FOREIGN_CA.cert_pem.bytes()},
    ],
    ids=["one file for both", "comments", "a chain", "RSA", "two authorities"],
)
def test_usual_files_can_be_used(files: dict[str, bytes]) -> None:
    """As tools write them; nothing of them stays open."""
    before = open_files()
    context = context_of(**files)
    assert open_files() == before
    assert context.minimum_version == V2
    assert context.options & ssl.OP_NO_RENEGOTIATION
