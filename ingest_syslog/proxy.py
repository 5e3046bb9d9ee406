"""The header of the PROXY protocol, versions 1 and 2: who a proxy forwards a connection for.

Source: ``doc/proxy-protocol.txt`` of HAProxy, sections 2.1 and 2.2.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from ingest.networks import NO_ADDRESS

MAX_V1_BYTES = 107
"""The longest line of version 1, its CRLF included."""
MAX_V2_BYTES = 2048
"""The longest header of version 2 that is taken: its length field would allow 65,551 bytes.

Addresses take at most 216 bytes; the rest are TLVs, which are skipped.
"""

_V1_START = b"PROXY "
_V1_UNKNOWN = re.compile(rb"PROXY UNKNOWN(?: .*)?\r\n", re.DOTALL)
_PORT = rb"(0|[1-9][0-9]{0,4})"
_V1_TCP = re.compile(
    rb"PROXY TCP([46]) ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+) " + _PORT + rb" " + _PORT + rb"\r\n"
)
_ADDRESS_OF: dict[bytes, type[IPv4Address | IPv6Address]] = {b"4": IPv4Address, b"6": IPv6Address}

_V2_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_V2_FIXED_BYTES = 16
_LOCAL, _PROXY = 0x20, 0x21
"""Version 2 in the high four bits, the command in the low four."""
_INET, _INET6, _UNIX = 1, 2, 3
_BLOCK_BYTES = {_INET: 12, _INET6: 36, _UNIX: 216}
"""Family -> how long the addresses and ports of both ends are."""
_DGRAM = 2


class ProxyError(ValueError):
    """What a connection begins with is no PROXY header that can be used.

    Args:
        code: ``no_proxy_header``, ``bad_proxy_header``, ``proxy_header_too_large`` or
            ``incomplete_proxy_header``.
        detail: for people; holds nothing of what was received.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail


class Proxied(NamedTuple):
    """A complete header.

    Attributes:
        address: the client's IP address in its usual spelling (an IPv4-mapped one is IPv4), or
            ``unix``; None where the proxy speaks for itself or does not know (LOCAL, UNKNOWN,
            UNSPEC): the connection's own address counts then.
        length: of the header, in bytes.
    """

    address: str | None
    length: int


def read_proxy_header(data: bytes) -> Proxied | None:
    """The header that ``data``, the first bytes of a connection, begins with.

    Returns:
        None where it is not complete yet; every byte of ``data`` belongs to it then.

    Raises:
        ProxyError: it is none, or one that is refused; told as soon as that is certain.
    """
    if data.startswith(_V2_SIGNATURE):
        return _version_2(data)
    if data.startswith(_V1_START):
        return _version_1(data)
    if _V1_START.startswith(data) or _V2_SIGNATURE.startswith(data):
        return None
    raise ProxyError("no_proxy_header", "expected a header of the PROXY protocol")


def _version_1(data: bytes) -> Proxied | None:
    length = data.find(b"\n", 0, MAX_V1_BYTES) + 1
    if length == 0:
        if len(data) >= MAX_V1_BYTES:
            raise _too_large(MAX_V1_BYTES)
        return None
    line = data[:length]
    if _V1_UNKNOWN.fullmatch(line):
        return Proxied(None, length)
    found = _V1_TCP.fullmatch(line)
    if found is None:
        raise _bad("expected PROXY, TCP4, TCP6 or UNKNOWN, two addresses, two ports and CRLF")
    family, source, destination, *ports = found.groups()
    if any(int(port) > 65535 for port in ports):
        raise _bad("expected ports up to 65535")
    try:
        addresses = [_ADDRESS_OF[family](each.decode()) for each in (source, destination)]
    except ValueError:
        raise _bad("expected two addresses of the family that it names") from None
    return Proxied(_spelled(addresses[0]), length)


def _version_2(data: bytes) -> Proxied | None:
    if len(data) > len(_V2_SIGNATURE) and data[12] not in {_LOCAL, _PROXY}:
        raise _bad("expected version 2 with the command LOCAL or PROXY")
    if len(data) < _V2_FIXED_BYTES:
        return None
    length = _V2_FIXED_BYTES + int.from_bytes(data[14:16], "big")
    if length > MAX_V2_BYTES:
        raise _too_large(MAX_V2_BYTES)
    family = _family(data[13]) if data[12] == _PROXY else None
    if family is not None and length < _V2_FIXED_BYTES + _BLOCK_BYTES[family]:
        raise _bad("is too short for addresses of its family")
    if len(data) < length:
        return None
    return Proxied(_source(family, data), length)


def _family(protocol: int) -> int | None:
    """The address family of the 14th byte; None where it or the transport is UNSPEC."""
    family, transport = protocol >> 4, protocol & 0x0F
    if family > _UNIX or transport > _DGRAM:
        raise _bad("names an unknown address family or transport")
    if transport == _DGRAM:
        raise _bad("forwards datagrams over a stream")
    return family if family and transport else None


def _source(family: int | None, data: bytes) -> str | None:
    if family is None:
        return None
    if family == _INET:
        return str(IPv4Address(data[16:20]))
    return _spelled(IPv6Address(data[16:32])) if family == _INET6 else NO_ADDRESS


def _spelled(address: IPv4Address | IPv6Address) -> str:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def _bad(detail: str) -> ProxyError:
    return ProxyError("bad_proxy_header", detail)


def _too_large(limit: int) -> ProxyError:
    return ProxyError("proxy_header_too_large", f"is longer than {limit} bytes")
