"""Whose address a request has that came through proxies."""

from __future__ import annotations

import time
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_http.forwarded import MAX_HOPS, Proxies

PROXIES = Proxies(["10.0.0.0/8", "2001:db8:1::/48"])
PEER = "10.0.0.1"


@pytest.mark.parametrize(
    ("fields", "client"),
    [
        ([], PEER),
        (["203.0.113.5"], "203.0.113.5"),
        (["203.0.113.5, 10.0.0.9"], "203.0.113.5"),
        (["203.0.113.5", "10.0.0.9"], "203.0.113.5"),
        (["1.2.3.4, 203.0.113.5", "10.0.0.9,10.0.0.8"], "203.0.113.5"),
        (["203.0.113.5\t ,  10.0.0.9 "], "203.0.113.5"),
        (["10.0.0.7, 10.0.0.9"], "10.0.0.7"),
        (["203.0.113.5, unknown, 10.0.0.9"], "10.0.0.9"),
        (["203.0.113.5, "], PEER),
        (["203.0.113.5, , 10.0.0.9"], "10.0.0.9"),
        (["203.0.113.5,"], PEER),
        ([""], PEER),
        (["unknown"], PEER),
        (["<script>, 10.0.0.9"], "10.0.0.9"),
        (["203.0.113.5, 2001:db8:1::9"], "203.0.113.5"),
    ],
)
def test_the_client_is_the_last_one_whom_a_trusted_proxy_names(
    fields: list[str], client: str
) -> None:
    """What stands left of an untrusted or unreadable one was written by nobody we trust."""
    assert PROXIES.client_address(PEER, fields) == client


@pytest.mark.parametrize(
    ("element", "address"),
    [
        ("203.0.113.5:4711", "203.0.113.5"),
        ('"[2001:DB8::7]:4711"', "2001:db8::7"),
        ("::ffff:203.0.113.5", "203.0.113.5"),
    ],
)
def test_an_address_is_read_in_every_spelling_and_told_in_one(element: str, address: str) -> None:
    """Proxies write it in several."""
    assert PROXIES.client_address(PEER, [element]) == address


@pytest.mark.parametrize("junk", ["203.0.113", "_hidden", "for=203.0.113.5", "a" * 8000])
def test_junk_is_no_address(junk: str) -> None:
    """Then the client is the proxy that sent it."""
    assert PROXIES.client_address(PEER, [junk]) == PEER


@pytest.mark.parametrize("peer", ["203.0.113.9", "2001:db8:2::1"])
def test_an_untrusted_peer_is_the_client_whatever_it_says(peer: str) -> None:
    """Anybody can send the field."""
    assert PROXIES.client_address(peer, ["192.0.2.1"]) == peer
    assert Proxies([]).client_address(PEER, ["192.0.2.1"]) == PEER


@pytest.mark.parametrize(
    ("peer", "told"),
    [("::ffff:203.0.113.9", "203.0.113.9"), ("fe80::1%lo", "fe80::1"), ("unix", "unix")],
)
def test_a_peer_is_told_in_the_usual_spelling(peer: str, told: str) -> None:
    """One client has one name; a peer without an address is ``unix``."""
    assert PROXIES.client_address(peer, []) == told


def test_a_mapped_peer_is_trusted_like_its_ipv4_address() -> None:
    """That is how peers look on a listener for both families."""
    assert PROXIES.client_address("::ffff:10.0.0.1", ["203.0.113.5"]) == "203.0.113.5"


def test_a_long_field_is_not_read_to_its_end() -> None:
    """Nobody has that many proxies, and reading them all takes time."""
    fields = [",".join(["203.0.113.5"] + ["10.0.0.9"] * (MAX_HOPS - 2)), "10.0.0.8"]
    assert PROXIES.client_address(PEER, fields[:1]) == "203.0.113.5"
    assert PROXIES.client_address(PEER, ["203.0.113.5", *["10.0.0.9"] * MAX_HOPS]) == "10.0.0.9"
    endless = [",".join(f"10.0.{number // 256}.{number % 256}" for number in range(600))] * 128
    begun = time.thread_time()
    assert PROXIES.trusts(PROXIES.client_address(PEER, endless))
    assert time.thread_time() - begun < 0.02


@given(
    peer=st.sampled_from([PEER, "203.0.113.9", "::ffff:10.0.0.1", "unix"]),
    fields=st.lists(
        st.one_of(
            st.text(max_size=80),
            st.text('0123456789abcdef.:,[]%" ', max_size=40),
            st.ip_addresses().map(str),
            st.lists(st.ip_addresses().map(lambda each: f"10.0.0.1, {each}")).map(",".join),
        ),
        max_size=4,
    ),
)
def test_the_answer_is_an_address_whatever_was_sent(peer: str, fields: list[str]) -> None:
    """In its usual spelling, or ``unix``: never a client's text."""
    told = PROXIES.client_address(peer, fields)
    assert told == "unix" or str(ip_address(told)) == told
    assert "%" not in told
