"""The original bytes in record values, by the service that sealed them."""

from __future__ import annotations

import pytest

from ingest.original import original_of
from ingest_http.publish import SERVICE as HTTP
from ingest_syslog.publish import SERVICE as SYSLOG

START = b'{"specversion":"1.0","source":"/sources/s","type":"t","time":"x","id":"1","data":'
NO_ENVELOPES = (b"", b"no envelope", b"\xff", b"{}")


@pytest.mark.parametrize(
    ("service", "data", "original"),
    [
        (HTTP, b'{"a": 1}', b'{"a": 1}'),
        (HTTP, b'{"raw": "a", "raw_base64": "b"}', b'{"raw": "a", "raw_base64": "b"}'),
        (HTTP, b'{"data":{"data":2}}', b'{"data":{"data":2}}'),
        (SYSLOG, b'{"raw":"<13>\\u00e9","peer":"p"}', "<13>é".encode()),
        (SYSLOG, b'{"raw_base64":"/wA=","peer":"p"}', b"\xff\x00"),
    ],
)
def test_it_is_what_the_client_sent(service: str, data: bytes, original: bytes) -> None:
    """An event of HTTP stays one, whatever its members are called."""
    assert original_of(service)(b"%b%b}" % (START, data)) == original


def test_a_message_that_was_understood_is_kept_as_its_envelope() -> None:
    """It has lost nothing."""
    value = b'%b{"parse":"ok","peer":"p"}}' % START
    assert original_of(SYSLOG)(value) == value


@pytest.mark.parametrize(
    ("service", "value"),
    [
        *((service, value) for service in (HTTP, SYSLOG, "ingest-x") for value in NO_ENVELOPES),
        (SYSLOG, b'{"data":1}'),
        (SYSLOG, b'{"data":{"raw_base64":"x"}}'),
    ],
)
def test_what_is_no_envelope_is_kept_as_it_is(service: str, value: bytes) -> None:
    """Dead letters that had been spooled are none, and nothing may be lost for that."""
    assert original_of(service)(value) == value
