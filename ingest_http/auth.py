"""Credentials -> the client they belong to."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from typing import TYPE_CHECKING

from ingest.sources import Client, name_pattern

if TYPE_CHECKING:
    from multidict import CIMultiDictProxy

    from ingest.settings import AuthSettings

_SHORT = 16
ANYBODY = Client("anonymous", name_pattern(["*"]))


class NoCredentials(Exception):  # noqa: N818 - a verdict
    """No key, an unknown key, or several different ones."""


class Auth:
    """Knows the clients by the SHA-256 of their keys.

    A key is found by the first bytes of its digest, which nobody can choose, and then compared
    whole, in constant time.
    """

    def __init__(self, settings: AuthSettings) -> None:
        self._required = settings.required
        self._clients = {}
        for name, key in settings.keys.items():
            client = Client(name, name_pattern(key.sources))
            for digest in map(bytes.fromhex, key.sha256):
                self._clients[digest[:_SHORT]] = (digest, client)

    def identify(self, headers: CIMultiDictProxy[str]) -> Client:
        """The client whose key the headers show.

        Raises:
            NoCredentials: none of our keys, or different ones at once.
        """
        key = self._key(headers)
        if key is None:
            if self._required:
                raise NoCredentials
            return ANYBODY
        digest = hashlib.sha256(key).digest()
        known = self._clients.get(digest[:_SHORT])
        if known is None or not hmac.compare_digest(known[0], digest):
            raise NoCredentials
        return known[1]

    @staticmethod
    def _key(headers: CIMultiDictProxy[str]) -> bytes | None:
        keys = [_from_authorization(value) for value in headers.getall("Authorization", ())]
        keys += [_from_own(value) for value in headers.getall("X-API-Key", ())]
        for other in keys[1:]:
            if not hmac.compare_digest(keys[0], other):
                raise NoCredentials
        return keys[0] if keys else None


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
