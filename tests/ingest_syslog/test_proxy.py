"""Who a connection is for, by the header of the PROXY protocol."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_syslog.proxy import MAX_V1_BYTES, MAX_V2_BYTES, Proxied, ProxyError, read_proxy_header

SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")
V4_BLOCK = bytes([192, 0, 2, 1, 198, 51, 100, 1]) + struct.pack(">HH", 56324, 514)
V6_BLOCK = ip_address("2001:db8::1").packed + ip_address("2001:db8::2").packed + V4_BLOCK[8:]
MAPPED_BLOCK = ip_address("::ffff:192.0.2.1").packed + V6_BLOCK[16:]
UNIX_BLOCK = b"/run/client.sock".ljust(108, b"\x00") * 2
TLV = b"\x05\x00\x03abc"
LONGEST_V6 = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
TLS_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
CODES = {"no_proxy_header", "bad_proxy_header", "proxy_header_too_large"}


def v2(command: int = 0x21, protocol: int = 0x11, block: bytes = V4_BLOCK) -> bytes:
    """A header of version 2."""
    return SIGNATURE + bytes([command, protocol]) + struct.pack(">H", len(block)) + block


HEADERS = [
    (b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", "192.168.0.1"),
    (b"PROXY TCP4 255.255.255.255 0.0.0.0 65535 0\r\n", "255.255.255.255"),
    (b"PROXY TCP6 2001:DB8::1 2001:db8:0:0:0:0:0:2 1 2\r\n", "2001:db8::1"),
    (b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", "192.0.2.1"),
    (b"PROXY TCP6 ::FFFF:C000:201 ::1 1 2\r\n", "192.0.2.1"),
    (f"PROXY TCP6 {LONGEST_V6} {LONGEST_V6} 65535 65535\r\n".encode(), LONGEST_V6),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN \r\n", None),
    (b"PROXY UNKNOWN what ever \xff\x00\r is here\r\n", None),
    (f"PROXY UNKNOWN {LONGEST_V6} {LONGEST_V6} 65535 65535\r\n".encode(), None),
    (v2(), "192.0.2.1"),
    (v2(protocol=0x21, block=V6_BLOCK), "2001:db8::1"),
    (v2(protocol=0x21, block=MAPPED_BLOCK), "192.0.2.1"),
    (v2(protocol=0x31, block=UNIX_BLOCK), "unix"),
    (v2(block=V4_BLOCK + TLV * 5), "192.0.2.1"),
    (v2(block=V4_BLOCK + b"\x04\xff"), "192.0.2.1"),
    (v2(block=V4_BLOCK.ljust(MAX_V2_BYTES - 16, b"\x04")), "192.0.2.1"),
    (v2(0x20, 0x00, b""), None),
    (v2(0x20, 0x00, TLV), None),
    (v2(0x20, 0x11), None),
    (v2(0x20, 0xFF, b"\xff"), None),
    (v2(protocol=0x00, block=b""), None),
    (v2(protocol=0x00, block=TLV), None),
    (v2(protocol=0x01), None),
    (v2(protocol=0x10), None),
    (v2(protocol=0x20, block=b""), None),
]

REFUSED = [
    (b"<34>1 2026-11-25T20:00:00Z host app - - - hi\n", "no_proxy_header"),
    (TLS_HELLO, "no_proxy_header"),
    (b"\n", "no_proxy_header"),
    (b"\r\n\r\n\x00\r\nQUIT\r", "no_proxy_header"),
    (b"proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n", "no_proxy_header"),
    (b"PROXY\tTCP4 192.0.2.1 192.0.2.2 1 2\r\n", "no_proxy_header"),
    (b"PROXY\r\n", "no_proxy_header"),
    (b"PROXY \r\n", "bad_proxy_header"),
    (b"PROXY UNKNOWN\n", "bad_proxy_header"),
    (b"PROXY UNKNOWN some\nthing\r\n", "bad_proxy_header"),
    (b"PROXY UNKNOWNS\r\n", "bad_proxy_header"),
    (b"PROXY unknown\r\n", "bad_proxy_header"),
    (b"PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n", "bad_proxy_header"),
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n", "bad_proxy_header"),
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\r\n", "bad_proxy_header"),
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n", "bad_proxy_header"),
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n", "bad_proxy_header"),
    (b"PROXY TCP4 192.0.2.1  192.0.2.2 1 2\r\n", "bad_proxy_header"),
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n", "bad_proxy_header"),
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n", "bad_proxy_header"),
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 99999 1\r\n", "bad_proxy_header"),
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n", "bad_proxy_header"),
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n", "bad_proxy_header"),
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 -1 2\r\n", "bad_proxy_header"),
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 1_0 2\r\n", "bad_proxy_header"),
    ("PROXY TCP4 192.0.2.1 192.0.2.2 \u0661 2\r\n".encode(), "bad_proxy_header"),
    (b"PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n", "bad_proxy_header"),
    (b"PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n", "bad_proxy_header"),
    (b"PROXY TCP4 192.0.2 192.0.2.2 1 2\r\n", "bad_proxy_header"),
    (b"PROXY TCP4 192.0.2.1 here 1 2\r\n", "bad_proxy_header"),
    (b"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n", "bad_proxy_header"),
    (b"PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n", "bad_proxy_header"),
    (b"PROXY TCP6 2001:db8::1%eth0 2001:db8::2 1 2\r\n", "bad_proxy_header"),
    (b"PROXY TCP6 2001:db8:::1 2001:db8::2 1 2\r\n", "bad_proxy_header"),
    (b"PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n", "bad_proxy_header"),
    (b"PROXY UNKNOWN".ljust(MAX_V1_BYTES - 1) + b"\r\n", "proxy_header_too_large"),
    (b"PROXY TCP4 " + b"1" * MAX_V1_BYTES, "proxy_header_too_large"),
    (v2(0x11), "bad_proxy_header"),
    (v2(0x22), "bad_proxy_header"),
    (v2(0x01), "bad_proxy_header"),
    (v2(protocol=0x41), "bad_proxy_header"),
    (v2(protocol=0x13), "bad_proxy_header"),
    (v2(protocol=0x12), "bad_proxy_header"),
    (v2(protocol=0x22, block=V6_BLOCK), "bad_proxy_header"),
    (v2(protocol=0x32, block=UNIX_BLOCK), "bad_proxy_header"),
    (v2(protocol=0x02, block=b""), "bad_proxy_header"),
    (v2(block=V4_BLOCK[:-1]), "bad_proxy_header"),
    (v2(protocol=0x21, block=V6_BLOCK[:-1]), "bad_proxy_header"),
    (v2(protocol=0x31, block=UNIX_BLOCK[:-1]), "bad_proxy_header"),
    (v2(block=V4_BLOCK.ljust(MAX_V2_BYTES - 15)), "proxy_header_too_large"),
    (v2(0x20, 0x00, bytes(65_535)), "proxy_header_too_large"),
]


@pytest.mark.parametrize(("header", "address"), HEADERS)
def test_a_header_tells_the_client_and_its_own_length(header: bytes, address: str | None) -> None:
    """The client's address in one spelling, or none where the proxy speaks for itself."""
    assert read_proxy_header(header) == Proxied(address, len(header))


@pytest.mark.parametrize(("header", "address"), HEADERS)
@pytest.mark.parametrize("behind", [b"\x00", b"\r\n", b"<34>1 - -\n", TLS_HELLO, b"PROXY "])
def test_what_is_behind_a_header_is_left_alone(
    header: bytes, address: str | None, behind: bytes
) -> None:
    """However much has come with it."""
    assert read_proxy_header(header + behind) == Proxied(address, len(header))


@pytest.mark.parametrize("header", [header for header, _ in HEADERS])
def test_no_part_of_a_header_is_taken_for_one(header: bytes) -> None:
    """At every split, the first part asks for more."""
    assert all(read_proxy_header(header[:end]) is None for end in range(len(header)))


@pytest.mark.parametrize(("data", "code"), REFUSED)
def test_what_does_not_match_the_protocol_is_refused(data: bytes, code: str) -> None:
    """The code says whether it is no header, a bad one or one that is too large."""
    with pytest.raises(ProxyError) as refused:
        read_proxy_header(data)
    assert refused.value.code == code
    assert refused.value.detail


@pytest.mark.parametrize(("data", "code"), REFUSED)
def test_byte_by_byte_the_refusal_is_the_same(data: bytes, code: str) -> None:
    """And comes with the first byte that makes it certain, not at the end of a long wait."""
    codes = [verdict(data[:end]) for end in range(len(data) + 1)]
    assert set(codes) == {None, code}
    assert codes == sorted(codes, key=lambda each: each is not None)


@pytest.mark.parametrize(
    ("data", "needed"),
    [
        (TLS_HELLO, 1),
        (b"PROXY\r\n", 6),
        (v2(0x11), 13),
        (v2(protocol=0x12), 16),
        (v2(0x20, 0x00, bytes(65_535)), 16),
    ],
)
def test_nobody_waits_for_what_cannot_become_a_header(data: bytes, needed: int) -> None:
    """A refusal needs the byte that is wrong, not the rest of the header."""
    assert verdict(data[: needed - 1]) is None
    assert verdict(data[:needed]) in CODES


def test_a_line_of_version_1_may_take_all_that_the_protocol_allows() -> None:
    """107 bytes with its CRLF, and not one more."""
    line = b"PROXY UNKNOWN".ljust(MAX_V1_BYTES - 2) + b"\r\n"
    assert read_proxy_header(line) == Proxied(None, MAX_V1_BYTES)
    assert verdict(line[:-2] + b" " + line[-2:]) == "proxy_header_too_large"


def verdict(data: bytes) -> str | None:
    """The code of the refusal, or None."""
    try:
        read_proxy_header(data)
    except ProxyError as error:
        return error.code
    return None


STARTS = st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", b"PROXY TCP6 ", SIGNATURE, v2()[:15]])
ANY_BYTES = st.one_of(
    st.binary(max_size=300),
    st.text("0123456789abcdef:. \r\n", max_size=120).map(str.encode),
    st.lists(st.sampled_from([v2(), HEADERS[0][0], b"\r\n", b" ", b"1"])).map(b"".join),
)


@settings(max_examples=500, derandomize=True)
@given(STARTS, ANY_BYTES, st.integers(0, 300))
def test_any_bytes_give_a_header_or_a_documented_refusal(
    start: bytes, rest: bytes, split: int
) -> None:
    """And more bytes never change what is known already."""
    data = start + rest
    early, late = outcome(data[:split]), outcome(data)
    if early is not None:
        assert early == late
    if isinstance(late, Proxied):
        assert 15 <= late.length <= len(data)
        assert late.address in {None, "unix"} or str(ip_address(str(late.address))) == late.address
    else:
        assert late is None or late in CODES


def outcome(data: bytes) -> Proxied | str | None:
    """The header, the code of the refusal, or None."""
    try:
        return read_proxy_header(data)
    except ProxyError as error:
        return error.code


@settings(max_examples=300, derandomize=True)
@given(st.ip_addresses(), st.integers(0, 65_535), st.integers(0, 65_535))
def test_both_versions_tell_every_address(address: object, source: int, target: int) -> None:
    """As the proxy wrote it, whichever the family."""
    client = ip_address(str(address))
    line = f"PROXY TCP{client.version} {client} {client} {source} {target}\r\n".encode()
    block = client.packed * 2 + struct.pack(">HH", source, target)
    binary = v2(protocol=0x11 if client.version == 4 else 0x21, block=block)
    expected = str(getattr(client, "ipv4_mapped", None) or client)
    assert read_proxy_header(line) == Proxied(expected, len(line))
    assert read_proxy_header(binary) == Proxied(expected, len(binary))
