"""The address of a client, seen through proxies that are trusted to tell it (X-Forwarded-For)."""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from ipaddress import IPv4Address

NO_ADDRESS = "unix"
"""What stands for the address of a peer that has none."""
MAX_HOPS = 32
"""How many proxies are looked through, so that a long field costs no more than a short one."""
_CACHED = 4096
_LONGEST = 64
_MAPPED = IPv6Network("::ffff:0:0/96")
_BRACKETED = re.compile(r"\[([^\[\]]*)\](?::[0-9]{1,5})?")
_WITH_PORT = re.compile(r"([0-9.]+):[0-9]{1,5}")


class Proxies:
    """The networks of the proxies whose X-Forwarded-For counts.

    Args:
        networks: such as ``10.0.0.0/8``, or single addresses.
    """

    def __init__(self, networks: Sequence[str]) -> None:
        self._networks = [_unmapped_network(ip_network(each)) for each in networks]
        self.trusts = lru_cache(_CACHED)(self._trusts)

    def _trusts(self, address: str) -> bool:
        """Whether an IP address is that of a trusted proxy."""
        found = _parsed(address)
        return found is not None and any(found in network for network in self._networks)

    def client_address(self, peer: str, forwarded: Sequence[str]) -> str:
        """The address of who sent a request, as an IP address or ``unix``; never client text.

        Args:
            peer: the address of the connection.
            forwarded: the values of all X-Forwarded-For fields, in order.
        """
        address = normalised(peer) or NO_ADDRESS
        hops = _from_the_right(forwarded)
        for _ in range(MAX_HOPS):
            if not self.trusts(address):
                return address
            told = normalised(next(hops, ""))
            if told is None:  # whoever wrote it is the last one that is known
                return address
            address = told
        return address


def _from_the_right(fields: Sequence[str]) -> Iterator[str]:
    for field in reversed(fields):
        rest, comma = field, ","
        while comma:
            rest, comma, last = rest.rpartition(",")
            yield last.strip(" \t")


def normalised(text: str) -> str | None:
    """The usual spelling of an IP address, or None.

    Quotes, brackets, a port and the scope of an address are left out; an IPv4-mapped IPv6 address
    is the IPv4 address.
    """
    return _normalised(text) if len(text) <= _LONGEST else None


@lru_cache(_CACHED)
def _normalised(text: str) -> str | None:
    found = _parsed(text)
    return None if found is None else str(found)


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    bare = text.removeprefix('"').removesuffix('"')
    found = _BRACKETED.fullmatch(bare) or _WITH_PORT.fullmatch(bare)
    try:
        address = ip_address(found[1] if found else bare)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        return address.ipv4_mapped or IPv6Address(int(address))
    return address


def _unmapped_network(network: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network:
    if isinstance(network, IPv4Network) or not network.subnet_of(_MAPPED):
        return network
    return IPv4Network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - 96))
