"""The address of a client, seen through proxies that are trusted to tell it (X-Forwarded-For)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ingest.networks import NO_ADDRESS, Networks, normalised

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAX_HOPS = 32
"""How many proxies are looked through, so that a long field costs no more than a short one."""


class Proxies:
    """The networks of the proxies whose X-Forwarded-For counts.

    Args:
        networks: such as ``10.0.0.0/8``, or single addresses.

    Attributes:
        trusts: whether an IP address is that of a trusted proxy.
    """

    def __init__(self, networks: Sequence[str]) -> None:
        self.trusts = Networks(networks).covers

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
