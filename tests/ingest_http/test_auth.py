"""Credentials: who a key belongs to, however it is shown, and nothing for any other."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from ingest.inflight import Budget
from ingest.settings import AuthSettings, KeySettings
from ingest_http.auth import Auth, NoCredentials, new_key

KEYS = {"shop": ["alpha", "beta"], "till": ["gamma"], "café": ["Schlüssel-鍵"]}


def digest(key: str) -> str:
    """What the configuration keeps of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def auth(*, required: bool = True, sources: tuple[str, ...] = ("*",)) -> Auth:
    """Knows the clients of `KEYS`."""
    keys = {
        name: KeySettings(sha256=[*map(digest, keys)], sources=[*sources])
        for name, keys in KEYS.items()
    }
    return Auth(AuthSettings(required=required, keys=keys), Budget(1))


def headers(*fields: tuple[str, str]) -> CIMultiDictProxy[str]:
    """Header fields as aiohttp hands them over: bytes that are not UTF-8 become surrogates."""
    return CIMultiDictProxy(CIMultiDict(fields))


def bearer(key: str) -> tuple[str, str]:
    """The key as RFC 6750 has it."""
    return "Authorization", f"Bearer {key}"


def basic(text: str) -> tuple[str, str]:
    """User name and password as RFC 7617 has them."""
    return "Authorization", "Basic " + base64.b64encode(text.encode()).decode()


def own(key: str) -> tuple[str, str]:
    """The key in a header field of its own."""
    return "X-API-Key", key


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ([bearer("alpha")], "shop"),
        ([bearer("beta")], "shop"),
        ([bearer("gamma")], "till"),
        ([own("alpha")], "shop"),
        ([basic("alpha:")], "shop"),
        ([basic("alpha")], "shop"),
        ([basic("alpha:and:a:password")], "shop"),
        ([("authorization", "bearer alpha")], "shop"),
        ([("AUTHORIZATION", "BEARER alpha")], "shop"),
        ([("authorization", basic("gamma:")[1].replace("Basic", "bASIC"))], "till"),
        ([("x-api-key", "gamma")], "till"),
        ([("Authorization", "Bearer   alpha")], "shop"),
        ([own("Schlüssel-鍵")], "café"),
        ([bearer("Schlüssel-鍵")], "café"),
        ([basic("Schlüssel-鍵:")], "café"),
        ([bearer("alpha"), own("alpha")], "shop"),
        ([basic("alpha:"), own("alpha")], "shop"),
        ([own("Schlüssel-鍵"), basic("Schlüssel-鍵:x")], "café"),
        ([own("alpha"), own("alpha")], "shop"),
        ([bearer("alpha"), bearer("alpha")], "shop"),
    ],
)
@pytest.mark.parametrize("required", [True, False])
def test_a_key_tells_its_client(
    *, fields: list[tuple[str, str]], name: str, required: bool
) -> None:
    """As Bearer, in X-API-Key, as Basic's user name, or twice the same."""
    assert auth(required=required).identify(headers(*fields)).name == name


@pytest.mark.parametrize(
    "fields",
    [
        [bearer("unknown")],
        [bearer("Alpha")],
        [bearer("alph")],
        [bearer("alpha x")],
        [bearer("")],
        [("Authorization", "Bearer")],
        [("Authorization", "alpha")],
        [("Authorization", "")],
        [("Authorization", "Digest alpha")],
        [("Authorization", "Token alpha")],
        [own("unknown")],
        [own("")],
        [own("Bearer alpha")],
        [own(digest("alpha"))],
        [own("Schl\udcfcssel-\udce9")],
        [basic("unknown:")],
        [basic(":alpha")],
        [basic("")],
        [("Authorization", "Basic alpha")],
        [("Authorization", "Basic alpha:")],
        [("Authorization", "Basic Schlüssel")],
        [("Authorization", basic("alpha:")[1] + "*")],
        [bearer("alpha"), own("beta")],
        [bearer("alpha"), own("unknown")],
        [bearer("alpha"), own("")],
        [bearer("unknown"), own("alpha")],
        [basic("alpha:"), own("gamma")],
        [("Authorization", "Digest alpha"), own("alpha")],
    ],
)
@pytest.mark.parametrize("required", [True, False])
def test_anything_else_is_refused(*, fields: list[tuple[str, str]], required: bool) -> None:
    """Also where no key is needed: whoever shows one means it. Different ones at once are none."""
    with pytest.raises(NoCredentials):
        auth(required=required).identify(headers(*fields))


@pytest.mark.parametrize(
    "fields",
    [
        [own("alpha"), own("gamma")],
        [own("alpha"), own("unknown")],
        [bearer("alpha"), bearer("gamma")],
        [bearer("alpha"), basic("gamma:")],
        [bearer("alpha"), own("alpha"), own("gamma")],
    ],
)
def test_different_keys_in_fields_of_one_name_are_refused(fields: list[tuple[str, str]]) -> None:
    """Which of them is meant is not for us to choose."""
    with pytest.raises(NoCredentials):
        auth().identify(headers(*fields))


@pytest.mark.parametrize("field", [bearer(""), basic(""), basic(":x"), own("")])
def test_nothing_is_no_key(field: tuple[str, str]) -> None:
    """Not even where the digest of an unset variable got into the configuration."""
    keys = {"shop": KeySettings(sha256=[digest("")], sources=["*"])}
    with pytest.raises(NoCredentials):
        Auth(AuthSettings(keys=keys), Budget(1)).identify(headers(field))


def test_without_any_key_it_depends() -> None:
    """Somebody unknown may write everything, but only where the configuration says so."""
    with pytest.raises(NoCredentials):
        auth().identify(headers(("Host", "x")))
    client = auth(required=False, sources=("shop-1",)).identify(headers(("Host", "x")))
    assert client.covers("anything")


@pytest.mark.parametrize(
    ("globs", "source", "covered"),
    [
        (("shop-*",), "shop-1", True),
        (("shop-*",), "shop-", True),
        (("shop-*",), "shop", False),
        (("shop-*",), "my-shop-1", False),
        (("shop-*",), "Shop-1", False),
        (("shop",), "shop-1", False),
        (("a.c",), "abc", False),
        (("a?c",), "abc", False),
        (("[ab]",), "a", False),
        (("a*c*e",), "abcde", True),
        (("a*c*e",), "abcdef", False),
        (("one", "two"), "two", True),
        (("one", "two"), "one-two", False),
        (("a|b",), "b", False),
        (("*",), "whatever", True),
    ],
)
def test_a_client_may_write_to_what_its_globs_cover(
    *, globs: tuple[str, ...], source: str, covered: bool
) -> None:
    """Only the star is special, and a glob covers a name as a whole."""
    client = auth(sources=globs).identify(headers(own("alpha")))
    assert client.covers(source) is covered


def test_a_digest_is_compared_whole() -> None:
    """It is not enough that a digest begins like a known one."""
    alike = digest("alpha")[:32] + "0" * 32
    keys = {"shop": KeySettings(sha256=[alike], sources=["*"])}
    with pytest.raises(NoCredentials):
        Auth(AuthSettings(keys=keys), Budget(1)).identify(headers(own("alpha")))


def test_secrets_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both the digest with a known one, and two keys that came together."""
    compared, compare = [], hmac.compare_digest

    def recording(one: bytes, other: bytes) -> bool:
        compared.append({one, other})
        return compare(one, other)

    monkeypatch.setattr(hmac, "compare_digest", recording)
    auth().identify(headers(bearer("alpha"), own("alpha")))
    assert compared == [{b"alpha"}, {bytes.fromhex(digest("alpha"))}]


def test_new_keys_are_fit_for_headers_and_never_the_same() -> None:
    """What is printed once is what the digest beside it is of."""
    made = [new_key() for _ in range(100)]
    assert len({key for key, _ in made}) == 100
    for key, sha256 in made:
        assert re.fullmatch(r"ing_[A-Za-z0-9_-]{43}", key)
        assert sha256 == digest(key)


WIRE_TEXT = st.text(
    st.characters(codec="utf-8")
    | st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF, categories=["Cs"])
)


@given(
    WIRE_TEXT,
    st.sampled_from(["Authorization", "X-API-Key"]),
    st.sampled_from(["", "Bearer ", "Basic "]),
)
@settings(deadline=None)
def test_no_header_gets_anything_but_a_client_or_a_refusal(
    text: str, name: str, scheme: str
) -> None:
    """Whatever it says, bytes that are not UTF-8 included."""
    with suppress(NoCredentials):
        auth().identify(headers((name, scheme + text)))
