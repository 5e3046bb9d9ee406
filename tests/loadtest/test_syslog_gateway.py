"""The configuration that the load tools write is the one that was meant."""

from __future__ import annotations

import tomllib

from loadtest.syslog_gateway import SOURCE, SyslogGateway

TLS = {"cert": "a.pem", "key": "b.pem", "allowed_names": ["*.example.com"]}


def test_listeners_and_sections_end_up_in_the_file() -> None:
    """Also those with tables in them."""
    listeners = (
        {"name": "one", "protocol": "udp"},
        {"name": "two", "protocol": "tcp", "source": "other", "tls": TLS},
    )
    settings = {"syslog": {"workers": 2}, "sources.other": {}}
    gateway = SyslogGateway("127.0.0.1:1", listeners, settings)
    found = tomllib.loads(gateway.configuration())
    usual = {"listen": "127.0.0.1:0", "source": SOURCE}
    assert found["syslog"] == {
        "workers": 2,
        "listeners": [
            {**usual, "name": "one", "protocol": "udp"},
            {**usual, "name": "two", "protocol": "tcp", "source": "other", "tls": TLS},
        ],
    }
    assert set(found["sources"]) == {SOURCE, "other"}
    assert gateway.listeners() == ("one", "two", "management")
