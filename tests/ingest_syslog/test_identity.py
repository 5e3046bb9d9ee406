"""Which TLS clients may send."""

from __future__ import annotations

import hashlib
import ssl
import time
from datetime import UTC, datetime, timedelta
from tempfile import NamedTemporaryFile
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ingest.settings import FileContent
from ingest.tls import server_context
from ingest_syslog.identity import Identity, check_fingerprint, check_name

DER = b"a certificate"
DIGEST = hashlib.sha256(DER).hexdigest()
COLONS = ":".join(DIGEST[start : start + 2] for start in range(0, 64, 2))
FINGERPRINT = f"sha256:{DIGEST}"
OTHER = f"sha256:{hashlib.sha256(b'another').hexdigest()}"


def certificate(*names: tuple[str, str], days: float = 1) -> dict[str, Any]:
    """A certificate as Python's ssl tells it; its common name is one that looks allowed."""
    end = time.gmtime(time.time() + days * 86_400)
    return {
        "subject": ((("commonName", "web.example.com"),),),
        "notAfter": time.strftime("%b %d %H:%M:%S %Y GMT", end),
        "subjectAltName": names,
    }


# Names.


@pytest.mark.parametrize(
    ("allowed", "kind", "name", "admitted"),
    [
        ("web.example.com", "DNS", "web.example.com", True),
        ("Web.Example.com", "DNS", "wEB.example.COM", True),
        ("web.example.com", "DNS", "xweb.example.com", False),
        ("web.example.com", "DNS", "web.example.com.evil.org", False),
        ("web.example.com", "DNS", "web.example.com\x00.evil.org", False),
        ("web.example.com", "DNS", "*.example.com", False),
        ("*.example.com", "DNS", "web.example.com", True),
        ("*.EXAMPLE.com", "DNS", "WEB.example.com", True),
        ("*.example.com", "DNS", "web_1-a.example.com", True),
        ("*.example.com", "DNS", "*.example.com", True),
        ("*.example.com", "DNS", "a.b.example.com", False),
        ("*.example.com", "DNS", "example.com", False),
        ("*.example.com", "DNS", ".example.com", False),
        ("*.example.com", "DNS", "evilexample.com", False),
        ("*.example.com", "DNS", "w*.example.com", False),
        ("*.example.com", "DNS", "web\x00.example.com", False),
        ("*.example.com", "email", "somebody@mail.example.com", False),
        ("*.example.com", "URI", "spiffe://web.example.com", False),
        ("*.example.com", "URI", "spiffe://evil.example.com", False),
        ("*.internal", "DNS", "web.internal", True),
        ("spiffe://Prod/Web", "URI", "spiffe://Prod/Web", True),
        ("spiffe://Prod/Web", "URI", "spiffe://prod/web", False),
        ("ops@example.com", "email", "ops@example.com", True),
        ("ops@example.com", "email", "Ops@example.com", False),
        ("192.0.2.1", "IP Address", "192.0.2.1", True),
        ("2001:DB8:0::1", "IP Address", "2001:DB8:0:0:0:0:0:1\n", True),
        ("192.0.2.1", "IP Address", "192.0.2.10", False),
        ("web.example.com", "DirName", "web.example.com", False),
        ("web.example.com", "Registered ID", "web.example.com", False),
    ],
)
def test_a_client_is_known_by_an_alternative_name(
    allowed: str, kind: str, name: str, *, admitted: bool
) -> None:
    """Its whole name, or one label for the star."""
    identity = Identity([allowed], [])
    assert identity.restricts
    assert identity.admits(certificate((kind, name)), None) is admitted
    both = certificate(("DNS", "nobody.example.org"), (kind, name))
    assert identity.admits(both, DER) is admitted


def test_the_common_name_never_counts() -> None:
    """With alternative names or without."""
    identity = Identity(["web.example.com", "*.example.com"], [])
    assert not identity.admits(certificate(), DER)
    assert not identity.admits(certificate(("DNS", "db.example.org")), DER)
    bare = certificate()
    del bare["subjectAltName"]
    assert not identity.admits(bare, DER)


@pytest.mark.parametrize(
    "name",
    [
        "*",
        "*.",
        "w*.example.com",
        "a.*.com",
        "*.*.com",
        "**.com",
        "*.a@b.com",
        "x://*",
        "*a",
        "*.0.2.1",
    ],
)
def test_a_star_elsewhere_is_refused(name: str) -> None:
    """It would match nothing, or too much."""
    with pytest.raises(ValueError, match=r'expected "\*" as the whole leftmost label only'):
        check_name(name)
    with pytest.raises(ValueError, match="leftmost"):
        Identity([name], [])


@pytest.mark.parametrize("name", ["", "b\u00fccher.example"])
def test_a_name_that_no_certificate_has_is_refused(name: str) -> None:
    """Certificates have international names in ASCII."""
    with pytest.raises(ValueError, match="expected a name in ASCII"):
        check_name(name)


# Fingerprints.


@pytest.mark.parametrize(
    "text", [FINGERPRINT, FINGERPRINT.upper(), f"sha256:{COLONS}", f"SHA256:{COLONS.upper()}"]
)
def test_a_client_is_known_by_its_fingerprint(text: str) -> None:
    """In every usual spelling; the names in the certificate do not matter then."""
    assert check_fingerprint(text) == FINGERPRINT
    identity = Identity([], [OTHER, text])
    assert identity.restricts
    assert identity.admits(certificate(), DER)
    assert not identity.admits(certificate(), DER + b"!")
    assert not identity.admits(certificate(("DNS", "web.example.com")), None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sha1:" + "ab" * 20, "SHA-1 can be forged"),
        ("SHA1:" + ":".join(["AB"] * 20), "SHA-1 can be forged"),
        ("ab" * 20, "SHA-1 can be forged"),
        (":".join(["AB"] * 20), "SHA-1 can be forged"),
        ("sha1:", "SHA-1 can be forged"),
        (DIGEST, "sha256"),
        ("sha512:" + "ab" * 64, "sha256"),
        (FINGERPRINT[:-1], "sha256"),
        (FINGERPRINT + "0", "sha256"),
        (FINGERPRINT + "\n", "sha256"),
        (FINGERPRINT + ":", "sha256"),
        (f"sha256:{COLONS[:-3]}{COLONS[-2:]}", "sha256"),
        (f"sha256::{COLONS}", "sha256"),
        (f"sha256:{'g' * 64}", "sha256"),
        (f"sha256: {DIGEST}", "sha256"),
        (f"sha256:{chr(0x0661) * 64}", "sha256"),
        ("", "sha256"),
        ("a" * 100_000, "sha256"),
    ],
)
def test_what_is_no_fingerprint_is_refused(text: str, words: str) -> None:
    """SHA-1 with its reason."""
    with pytest.raises(ValueError, match=words):
        check_fingerprint(text)
    with pytest.raises(ValueError, match=words):
        Identity([], [text])


# Both, and neither.


def test_either_list_is_enough() -> None:
    """A client needs its name or its fingerprint in them."""
    identity = Identity(["web.example.com"], [FINGERPRINT])
    assert identity.admits(certificate(("DNS", "web.example.com")), b"unknown")
    assert identity.admits(certificate(("DNS", "db.example.com")), DER)
    assert not identity.admits(certificate(("DNS", "db.example.com")), b"unknown")


def test_without_lists_every_verified_certificate_will_do() -> None:
    """But there must be one."""
    identity = Identity([], [])
    assert not identity.restricts
    assert identity.admits(certificate(), DER)
    assert not identity.admits({}, DER)
    assert not identity.admits(None, None)


@pytest.mark.parametrize(
    "identity",
    [Identity([], []), Identity(["web.example.com"], []), Identity([], [FINGERPRINT])],
)
def test_an_expired_certificate_admits_nobody(identity: Identity) -> None:
    """It may have been valid in the handshake."""
    assert identity.admits(certificate(("DNS", "web.example.com")), DER)
    assert not identity.admits(certificate(("DNS", "web.example.com"), days=-1), DER)


# Through TLS.

CA = trustme.CA()
SERVER = CA.issue_cert("localhost")


def self_signed() -> tuple[bytes, bytes]:
    """A certificate that is its own authority, as rsyslog's users make them, and its key; PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sender")])
    now = datetime.now(UTC)
    built = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    built = built.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return built.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM), private


def handshake(client: ssl.SSLContext, server: ssl.SSLContext) -> ssl.SSLObject:
    """The server's side, after a handshake in memory.

    Raises:
        ssl.SSLError: it failed.
    """
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(there, back, server_side=True)
    sides = [client.wrap_bio(back, there, server_hostname="localhost"), ours]
    for _ in range(10):
        for side in list(sides):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            sides.remove(side)
    assert not sides
    return ours


def server_for(client_ca: bytes) -> ssl.SSLContext:
    """A server that wants a certificate that leads to one of these."""
    chain = b"".join(blob.bytes() for blob in SERVER.cert_chain_pems)
    return server_context(
        FileContent("cert.pem", chain),
        FileContent("key.pem", SERVER.private_key_pem.bytes()),
        FileContent("ca.pem", client_ca),
        client_cert_required=True,
    )


def test_a_self_signed_certificate_is_verified_by_being_its_own_authority() -> None:
    """With it in ``client_ca``, TLS lets it in, and its fingerprint is the usual one."""
    known, stranger = self_signed(), self_signed()
    server = server_for(known[0] + CA.cert_pem.bytes())
    ours = handshake(client_with(*known), server)
    whole = ssl.PEM_cert_to_DER_cert(known[0].decode())
    fingerprint = "sha256:" + hashlib.sha256(whole).hexdigest()
    peer, der = ours.getpeercert(), ours.getpeercert(binary_form=True)
    assert Identity([], [fingerprint]).admits(peer, der)
    assert not Identity([], [OTHER]).admits(peer, der)
    with pytest.raises(ssl.SSLError):
        handshake(client_with(*stranger), server)


def test_names_are_read_from_real_certificates() -> None:
    """Those of an authority's client, of all kinds."""
    leaf = CA.issue_cert("web.example.com", "192.0.2.1", "2001:db8::1", "ops@example.com")
    chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
    client = client_with(chain, leaf.private_key_pem.bytes())
    ours = handshake(client, server_for(CA.cert_pem.bytes()))
    peer, der = ours.getpeercert(), ours.getpeercert(binary_form=True)
    for name in ("*.example.com", "192.0.2.1", "2001:DB8::1", "ops@example.com"):
        assert Identity([name], []).admits(peer, der), name
    assert not Identity(["*.com"], []).admits(peer, der)


def client_with(cert: bytes, key: bytes) -> ssl.SSLContext:
    """A client with this certificate."""
    context = ssl.create_default_context(cadata=CA.cert_pem.bytes().decode())
    with NamedTemporaryFile() as file:
        file.write(cert + key)
        file.flush()
        context.load_cert_chain(file.name)
    return context
