"""Addresses have one spelling, and are in a network whatever theirs was."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.networks import NO_ADDRESS, Networks, normalised

NETWORKS = Networks(["10.0.0.0/8", "192.0.2.7", "2001:db8:1::/48", "::ffff:198.51.100.0/120"])


@pytest.mark.parametrize(
    ("address", "covered"),
    [
        ("10.255.255.255", True),
        ("11.0.0.0", False),
        ("192.0.2.7", True),
        ("192.0.2.8", False),
        ("2001:db8:1::5", True),
        ("2001:db8:2::5", False),
        ("::ffff:10.0.0.1", True),
        ("::ffff:11.0.0.1", False),
        ("198.51.100.9", True),
        ("198.51.101.9", False),
        (NO_ADDRESS, False),
        ("", False),
        ("localhost", False),
        ("1" * 10_000, False),
    ],
)
def test_only_addresses_of_the_networks_are_covered(address: str, *, covered: bool) -> None:
    """Of both families; an IPv4-mapped address or network is one of IPv4."""
    assert NETWORKS.covers(address) is covered
    assert not Networks([]).covers(address)


@pytest.mark.parametrize("name", ["0.0.0.0/0", "::/0"])
def test_everything_of_one_family_is_nothing_of_the_other(name: str) -> None:
    """A peer without an address is in neither."""
    found = [Networks([name]).covers(each) for each in ("192.0.2.1", "2001:db8::1", NO_ADDRESS)]
    assert found == [name == "0.0.0.0/0", name == "::/0", False]


@pytest.mark.parametrize("name", ["", "10.0.0.1/8", "10.0.0.0/33", "localhost", NO_ADDRESS])
def test_what_is_no_network_is_refused(name: str) -> None:
    """Host bits must be zero."""
    with pytest.raises(ValueError, match=r"network|address|host bits"):
        Networks([name])


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("203.0.113.5", "203.0.113.5"),
        ("203.0.113.5:4711", "203.0.113.5"),
        ("2001:DB8:0::7", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("[2001:db8::7]:4711", "2001:db8::7"),
        ('"[2001:db8::7]:4711"', "2001:db8::7"),
        ('"203.0.113.5"', "203.0.113.5"),
        ("::ffff:203.0.113.5", "203.0.113.5"),
        ("[::FFFF:cb00:7105]:1", "203.0.113.5"),
        ("fe80::1%eth0", "fe80::1"),
        ("[fe80::1%25eth0]:1", "fe80::1"),
    ],
)
def test_an_address_is_read_in_every_spelling_and_told_in_one(text: str, address: str) -> None:
    """With a port, brackets, quotes, a scope, in capitals, and IPv4 inside of IPv6."""
    assert normalised(text) == address
    assert normalised(address) == address


@pytest.mark.parametrize(
    "junk",
    [
        "",
        NO_ADDRESS,
        "203.0.113",
        "203.0.113.05",
        "203.0.113.5:",
        "203.0.113.5:port",
        "203.0.113.5:123456",
        "203.0.113.5%eth0",
        "[2001:db8::7",
        "[2001:db8::7]x",
        "2001:db8::7]:1",
        "[]",
        "::ffff:",
        "203.0.113.5 10.0.0.9",
        "203.0.113.5\x00",
        "\u0661.2.3.4",
        "3405803781",
        "0xcb007105",
        "a" * 8000,
    ],
)
def test_junk_is_no_address(junk: str) -> None:
    """However long it is."""
    assert normalised(junk) is None


@given(st.one_of(st.text(max_size=80), st.text('0123456789abcdef.:,[]%" ', max_size=40)))
def test_what_is_told_is_an_address_or_nothing(text: str) -> None:
    """Never a client's text."""
    told = normalised(text)
    assert told is None or (str(ip_address(told)) == told and "%" not in told)


ADDRESSES = st.one_of(
    st.ip_addresses(v=4),
    st.ip_addresses(v=6).filter(lambda each: each.ipv4_mapped is None),
)


@given(ADDRESSES, st.integers(0, 32))
def test_an_address_is_in_its_own_networks_of_every_size(address: object, bits: int) -> None:
    """From everything of its family on."""
    network = ip_network(f"{address}/{bits}", strict=False)
    assert Networks([str(network)]).covers(normalised(str(address)) or "") is True


def test_what_is_remembered_is_bounded() -> None:
    """Clients choose what is asked for."""
    networks = Networks(["10.0.0.0/8"])
    for number in range(6000):
        networks.covers(f"10.{number // 256}.{number % 256}.1")
    assert 0 < networks.covers.cache_info().currsize <= 4096
