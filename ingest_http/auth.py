"""Credentials -> the caller they belong to."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from ipaddress import ip_address
from typing import TYPE_CHECKING

from ingest.sources import Client, name_pattern
from ingest_http.quota import Quota

if TYPE_CHECKING:
    from collections.abc import Sequence

    from multidict import CIMultiDictProxy

    from ingest.inflight import Budget, Holder
    from ingest.settings import AuthSettings, KeySettings

_SHORT = 16
QUOTAS = ("events_per_second", "bytes_per_second", "concurrent_requests")


class Caller:
    """A client and what it may use of a worker.

    Attributes:
        name: as in the configuration; fit for logs.
        credential: what it shows: ``key``, ``certificate`` or ``none``.
        covers: whether some pattern of it covers a name, whether the source exists or not.
        limits: its quotas by name; only those that it has.
        quota: what is left of them; None: it has none.
        holder: its share of the in-flight budget; None: that of its address.
    """

    __slots__ = ("covers", "credential", "holder", "limits", "name", "quota")

    def __init__(
        self,
        client: Client,
        credential: str,
        holder: Holder | None = None,
        limits: dict[str, int] | None = None,
        quota: Quota | None = None,
    ) -> None:
        self.name = client.name
        self.covers = client.covers
        self.credential = credential
        self.holder = holder
        self.limits = limits or {}
        self.quota = quota


ANYBODY = Caller(Client("anonymous", name_pattern(["*"])), "none")


class NoCredentials(Exception):  # noqa: N818 - a verdict
    """No key, an unknown key, or several different ones."""


class Auth:
    """Knows the callers by the SHA-256 of their keys, and by the names in their certificates.

    A key is found by the first bytes of its digest, which nobody can choose, and then compared
    whole, in constant time.

    Args:
        settings: the section [auth].
        budget: what callers have their shares of.
        before: what was in force before: quotas that stay the same go on.

    Attributes:
        settings: the section [auth].
    """

    def __init__(self, settings: AuthSettings, budget: Budget, before: Auth | None = None) -> None:
        self.settings = settings
        self._required = settings.required
        self._callers: dict[bytes, tuple[bytes, Caller]] = {}
        self._certified: dict[str, Caller] = {}
        self._keys: dict[str, Caller] = {}
        for name, key in settings.keys.items():
            caller = self._keys[name] = _caller(name, key, budget, before)
            for digest in map(bytes.fromhex, key.sha256):
                self._callers[digest[:_SHORT]] = (digest, caller)
        for name, certificate in settings.certificates.items():
            client = Client(name, name_pattern(certificate.sources))
            caller = Caller(client, "certificate", budget.holder(f"certificate {name}"))
            self._certified |= dict.fromkeys(map(certificate_name, certificate.names), caller)

    def key(self, name: str) -> Caller | None:
        """The caller of this configured name."""
        return self._keys.get(name)

    def identify(
        self, headers: CIMultiDictProxy[str], certificate_names: Sequence[str] = ()
    ) -> Caller:
        """The caller whose key the headers show, else the one that the certificate names.

        Args:
            headers: of the request.
            certificate_names: the subject alternative names of the connection's certificate.

        Raises:
            NoCredentials: none of ours, or different ones at once.
        """
        key = self._key(headers)
        if key is None:
            return self._certificate(certificate_names)
        digest = hashlib.sha256(key).digest()
        known = self._callers.get(digest[:_SHORT])
        if known is None or not hmac.compare_digest(known[0], digest):
            raise NoCredentials
        return known[1]

    def _certificate(self, names: Sequence[str]) -> Caller:
        found = {name: self._certified[name] for name in names if name in self._certified}
        callers = set(found.values())
        if len(callers) == 1:
            return callers.pop()
        if callers or self._required:
            raise NoCredentials
        return ANYBODY

    @staticmethod
    def _key(headers: CIMultiDictProxy[str]) -> bytes | None:
        keys = [_from_authorization(value) for value in headers.getall("Authorization", ())]
        keys += [_from_own(value) for value in headers.getall("X-API-Key", ())]
        for other in keys[1:]:
            if not hmac.compare_digest(keys[0], other):
                raise NoCredentials
        return keys[0] if keys else None


def certificate_name(name: str) -> str:
    """A subject alternative name as connections tell it: of host names, case is no matter."""
    try:
        return str(ip_address(name))
    except ValueError:
        return name if ":" in name or "@" in name else name.lower()


def _caller(name: str, key: KeySettings, budget: Budget, before: Auth | None) -> Caller:
    known = before.key(name) if before is not None else None
    if before is not None and known is not None and before.settings.keys[name] == key:
        return known
    limits = {quota: getattr(key, quota) for quota in QUOTAS if getattr(key, quota)}
    if known is not None and known.limits == limits:
        quota = known.quota
    else:
        quota = Quota(**limits) if limits else None
    client = Client(name, name_pattern(key.sources))
    return Caller(client, "key", budget.holder(f"key {name}"), limits, quota)


def _from_own(value: str) -> bytes:
    """The key in a header of our own; an empty one is a variable that somebody forgot to set."""
    if not value:
        raise NoCredentials
    return value.encode("utf-8", "surrogateescape")


def _from_authorization(value: str) -> bytes:
    """The key in a Bearer (RFC 6750) or Basic (RFC 7617, as user name) credential."""
    scheme, _, credential = value.strip(" \t").partition(" ")
    credential = credential.strip(" \t")
    if scheme.lower() == "bearer" and credential:
        return credential.encode("utf-8", "surrogateescape")
    if scheme.lower() == "basic":
        try:
            user = base64.b64decode(credential, validate=True).partition(b":")[0]
        except (binascii.Error, ValueError):
            raise NoCredentials from None
        if user:
            return user
    raise NoCredentials


def new_key() -> tuple[str, str]:
    """A fresh API key of 256 random bits, and the digest that the configuration keeps of it."""
    key = "ing_" + secrets.token_urlsafe(32)
    return key, hashlib.sha256(key.encode()).hexdigest()
