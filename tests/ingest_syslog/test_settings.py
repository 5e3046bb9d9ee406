"""[syslog] alone: its defaults, what is taken, and what is refused by which words."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from ingest.settings import FileContent
from ingest_syslog.settings import (
    ListenerSettings,
    RuleSettings,
    SyslogSettings,
    TlsSettings,
    WhenSettings,
)

LISTENER = {"name": "udp", "protocol": "udp", "listen": "0.0.0.0:5514", "source": "syslog"}
CERT = FileContent("a.pem", b"")
DIGEST = "sha256:" + "0" * 64
NAME = "is no name for a listener: letters, digits, '.', '_' and '-', at most 64"
PATH = "expected unix: and an absolute path of at most 107 bytes"
ZONE = 'expected a time zone such as "Europe/Berlin" or "UTC"'
NETWORK = 'expected an address or a network such as "10.0.0.0/8", its host bits zero'


def refusal(error: ValidationError) -> tuple[str, str]:
    """The first key that is wrong, and why."""
    first = error.errors()[0]
    return str(first["loc"][0]), first["msg"].removeprefix("Value error, ")


def test_defaults_are_those_of_the_contract() -> None:
    """Every key of a listener that may be left out, and no other."""
    listener = ListenerSettings.model_validate(LISTENER)
    left = {key: getattr(listener, key) for key in ListenerSettings.model_fields.keys() - LISTENER}
    assert left == {
        "allow_from": None,
        "framing": "auto",
        "tls": None,
        "proxy_from": [],
        "timezone": "UTC",
        "frame_bytes": 65_536,
        "oversize": "truncate",
        "idle_seconds": 3600,
        "partial_seconds": 30,
        "connections": 10_000,
        "connections_per_address": 1_000,
        "handshake_seconds": 10,
        "receive_buffer_bytes": 8_388_608,
        "unread_ack_bytes": 1_048_576,
        "tracer_from": [],
    }
    syslog = SyslogSettings()
    assert (syslog.workers, syslog.listeners, syslog.rules) == (1, [], [])


def test_keys_of_tls_are_those_of_the_contract() -> None:
    """Whoever has a verified certificate may send, unless lists say otherwise."""
    tls = TlsSettings(cert=CERT, key=CERT)
    assert (tls.client_ca, tls.allowed_names, tls.allowed_fingerprints) == (None, [], [])
    assert len(TlsSettings.model_fields) == 5


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("name", "", NAME),
        ("name", "a b", NAME),
        ("name", "-a", NAME),
        ("name", 'a"b', NAME),
        ("name", "a" * 65, NAME),
        ("protocol", "tls", "Input should be 'udp', 'tcp' or 'relp'"),
        ("listen", "5514", "expected host:port"),
        ("listen", "h:99999", "expected a port from 0 to 65535"),
        ("listen", "unix:", PATH),
        ("listen", "unix:log.sock", PATH),
        ("listen", "unix:/" + "x" * 107, PATH),
        ("listen", "unix:/a\0b", PATH),
        (
            "source",
            "a/b",
            "is no name for a source: letters, digits, '.', '_' and '-', at most 128",
        ),
        ("allow_from", "10.0.0.0/8", "Input should be a valid list"),
        ("allow_from", ["10.0.0.1/8"], NETWORK),
        ("proxy_from", ["proxy.example.com"], NETWORK),
        ("tracer_from", ["x"], NETWORK),
        ("framing", "crlf", "Input should be 'auto', 'lf', 'nul' or 'octet'"),
        ("oversize", "drop", "Input should be 'truncate', 'dead_letter' or 'close'"),
        ("timezone", "Europe/Nowhere", ZONE),
        ("timezone", "", ZONE),
        ("timezone", "../etc/passwd", ZONE),
        ("frame_bytes", 479, "Input should be greater than or equal to 480"),
        ("idle_seconds", 0, "Input should be greater than 0"),
        ("partial_seconds", 0, "Input should be greater than 0"),
        ("handshake_seconds", -1, "Input should be greater than 0"),
        ("idle_seconds", float("inf"), "Input should be a finite number"),
        ("connections", 0, "Input should be greater than 0"),
        ("connections_per_address", 0, "Input should be greater than 0"),
        ("receive_buffer_bytes", 0, "Input should be greater than 0"),
        ("unread_ack_bytes", 0, "Input should be greater than 0"),
        ("tls", {"cert": CERT}, "Field required"),
        ("conections", 3, "Extra inputs are not permitted"),
    ],
)
def test_values_that_mean_nothing_are_refused(key: str, value: Any, text: str) -> None:
    """By the key to look at, in words that help."""
    with pytest.raises(ValidationError) as caught:
        ListenerSettings.model_validate(LISTENER | {key: value})
    assert refusal(caught.value) == (key, text)


@pytest.mark.parametrize("key", sorted(LISTENER))
def test_a_listener_needs_name_protocol_address_and_source(key: str) -> None:
    """There is no default that would be right."""
    with pytest.raises(ValidationError) as caught:
        ListenerSettings.model_validate({**LISTENER, key: None} | {key: None})
    assert refusal(caught.value)[0] == key
    with pytest.raises(ValidationError) as missing:
        ListenerSettings.model_validate({k: v for k, v in LISTENER.items() if k != key})
    assert refusal(missing.value) == (key, "Field required")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "a"),
        ("name", "9.TLS_lan-2"),
        ("name", "a" * 64),
        ("listen", ":0"),
        ("listen", "[::]:5514"),
        ("listen", "unix:/run/ingest/log.sock"),
        ("listen", "unix:/" + "x" * 106),
        ("timezone", "Europe/Berlin"),
        ("allow_from", []),
        ("allow_from", ["192.0.2.1", "2001:db8::/32"]),
        ("frame_bytes", 480),
        ("idle_seconds", 0.5),
    ],
)
def test_values_of_the_contract_are_taken(key: str, value: Any) -> None:
    """The smallest and the largest ones."""
    assert getattr(ListenerSettings.model_validate(LISTENER | {key: value}), key) == value


@pytest.mark.parametrize(
    ("listen", "is_unix"), [("unix:/a", True), ("unix:1", False), (":514", False)]
)
def test_a_unix_socket_is_known_by_its_path(listen: str, *, is_unix: bool) -> None:
    """A host may have any name."""
    if listen == "unix:1":
        with pytest.raises(ValidationError):
            ListenerSettings.model_validate(LISTENER | {"listen": listen})
    else:
        assert ListenerSettings.model_validate(LISTENER | {"listen": listen}).is_unix is is_unix


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (DIGEST, DIGEST),
        ("SHA256:" + "AB" * 32, "sha256:" + "ab" * 32),
        ("sha256:" + ":".join(["ab"] * 32), "sha256:" + "ab" * 32),
    ],
)
def test_fingerprints_are_kept_in_one_spelling(given: str, kept: str) -> None:
    """That of openssl is taken too."""
    tls = TlsSettings(cert=CERT, key=CERT, allowed_fingerprints=[given])
    assert tls.allowed_fingerprints == [kept]


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        (
            "allowed_fingerprints",
            ["sha1:" + "0" * 40],
            "SHA-1 can be forged: give the fingerprint by SHA-256",
        ),
        ("allowed_fingerprints", ["x"], 'expected "sha256:" and 64 hexadecimal digits'),
        ("allowed_names", [""], "expected a name in ASCII, an international one as xn--…"),
        (
            "allowed_names",
            ["web*.example.com"],
            'expected "*" as the whole leftmost label only, as in "*.example.com"',
        ),
        (
            "allowed_names",
            ["münchen.example"],
            "expected a name in ASCII, an international one as xn--…",
        ),
    ],
)
def test_names_and_fingerprints_that_admit_nobody_are_refused(
    key: str, value: Any, text: str
) -> None:
    """At the start, not when the first client comes."""
    with pytest.raises(ValidationError) as caught:
        TlsSettings.model_validate({"cert": CERT, "key": CERT, key: value})
    assert refusal(caught.value) == (key, text)


# Rules.


@pytest.mark.parametrize(
    "when",
    [
        {},
        {"facility": "auth"},
        {"facility": ["auth", "authpriv", "10"]},
        {"severity_at_least": "warning"},
        {"severity_at_least": "warn"},
        {"app_name": "sshd", "host": ["db-*", "web-1"]},
        {"peer": "10.0.0.0/8"},
        {"peer": ["10.0.0.0/8", "::1"], "listener": ["udp", "tcp"]},
    ],
)
def test_conditions_are_one_value_or_several(when: dict[str, Any]) -> None:
    """What is left out is no condition."""
    rule = RuleSettings.model_validate({"when": when, "source": "auth-logs"})
    found = rule.when.model_dump(exclude_none=True)
    listed = {key: [value] if isinstance(value, str) else value for key, value in when.items()}
    if "severity_at_least" in when:
        listed |= when  # there can be only one
    assert found == listed


def test_a_rule_without_conditions_matches_everything() -> None:
    """It is a default of its own."""
    assert RuleSettings(source="rest").when == WhenSettings()


@pytest.mark.parametrize(
    ("when", "text"),
    [
        ({"facility": "atuh"}, 'unknown facility, did you mean "auth"?'),
        ({"severity_at_least": "wraning"}, 'unknown severity, did you mean "warning"?'),
        ({"app_name": ""}, "String should have at least 1 character"),
        ({"host": [""]}, "String should have at least 1 character"),
        ({"host": []}, "Value should have at least 1 item after validation, not 0"),
        ({"listener": []}, "Value should have at least 1 item after validation, not 0"),
        ({"peer": "10.0.0.1/8"}, NETWORK),
        ({"listener": "a b"}, NAME),
        ({"facilities": "auth"}, "Extra inputs are not permitted"),
        ({"severity_at_least": ["warning", "err"]}, "Input should be a valid string"),
    ],
)
def test_conditions_that_never_hold_are_refused(when: dict[str, Any], text: str) -> None:
    """With what was probably meant."""
    with pytest.raises(ValidationError) as caught:
        WhenSettings.model_validate(when)
    assert refusal(caught.value) == (next(iter(when)), text)


@pytest.mark.parametrize("workers", [0, -1, "all", 1.5, True])
def test_workers_are_a_number_or_auto(workers: Any) -> None:
    """Nothing else."""
    with pytest.raises(ValidationError):
        SyslogSettings(workers=workers)
