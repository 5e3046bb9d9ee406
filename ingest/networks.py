"""IP addresses in one spelling, and whether one is in some network."""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from ipaddress import IPv4Address

NO_ADDRESS = "unix"
"""What stands for the address of a peer that has none."""
_CACHED = 4096
_LONGEST = 64
_MAPPED = IPv6Network("::ffff:0:0/96")
_BRACKETED = re.compile(r"\[([^\[\]]*)\](?::[0-9]{1,5})?")
_WITH_PORT = re.compile(r"([0-9.]+):[0-9]{1,5}")


class Networks:
    """Some networks, of both families.

    An IPv4-mapped network is one of IPv4 (RFC 4291, section 2.5.5.2).

    Args:
        names: such as ``10.0.0.0/8``, or single addresses.

    Attributes:
        covers: whether an IP address is in one of them; ``unix`` never is. What it has told lately
            is remembered.

    Raises:
        ValueError: one of them is no network.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._networks = [_unmapped_network(ip_network(each)) for each in names]
        self.covers = lru_cache(_CACHED)(self._covers)

    def _covers(self, address: str) -> bool:
        found = _parsed(address)
        return found is not None and any(found in network for network in self._networks)


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
