"""The settings that services share: the contract's defaults, and what is refused."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr, TypeAdapter, ValidationError

from ingest.config_problems import dotted
from ingest.settings import (
    Address,
    AuthSettings,
    Brokers,
    DeadLetterSettings,
    Digest,
    FileContent,
    KafkaSettings,
    KeySettings,
    LimitSettings,
    ManagementSettings,
    Pointer,
    ServiceSettings,
    Settings,
    SharedSettings,
    SourceSettings,
    SpoolSettings,
    TopicName,
    TopicSettings,
    split_address,
)
from ingest.sources import Source

if TYPE_CHECKING:
    from pathlib import Path

DIGEST, OTHER, THIRD = "0" * 64, "1" * 64, "2" * 64
KEY = {"sha256": [DIGEST], "sources": ["*"]}
DEFAULTS: list[tuple[type[Settings], dict[str, Any], dict[str, Any]]] = [
    (
        ServiceSettings,
        {},
        {"prestop_seconds": 5, "drain_seconds": 30, "log_level": "info", "log_format": "auto"},
    ),
    (
        KafkaSettings,
        {},
        {
            "bootstrap_servers": "localhost:9092",
            "client_id": "ingest",
            "compression": "zstd",
            "linger_seconds": 0.002,
            "request_timeout_seconds": 4,
            "security_protocol": "PLAINTEXT",
            "ssl_ca_file": None,
            "ssl_cert_file": None,
            "ssl_key_file": None,
            "sasl_mechanism": None,
            "sasl_username": None,
            "sasl_password": None,
        },
    ),
    (
        TopicSettings,
        {},
        {"create": True, "partitions": 4, "replication_factor": -1, "config": {}},
    ),
    (
        ManagementSettings,
        {},
        {
            "http": "127.0.0.1:9090",
            "syslog": "127.0.0.1:9091",
            "forward": "127.0.0.1:9092",
            "tracer": "127.0.0.1:9093",
        },
    ),
    (
        LimitSettings,
        {},
        {
            "body_bytes": 10_485_760,
            "decoded_bytes": 10_485_760,
            "event_bytes": 921_600,
            "batch_events": 10_000,
            "body_seconds": 10,
            "ack_seconds": 10,
            "inflight_bytes": 268_435_456,
            "connections": 4096,
            "connections_per_address": 1024,
        },
    ),
    (AuthSettings, {}, {"required": True, "keys": {}, "certificates": {}}),
    (
        KeySettings,
        KEY,
        {
            **KEY,
            "events_per_second": 0,
            "bytes_per_second": 0,
            "concurrent_requests": 0,
            "tracer": False,
        },
    ),
    (
        SourceSettings,
        {},
        {
            "topic": None,
            "key": None,
            "type": None,
            "schema": None,
            "validate": "enforce",
            "cors_origins": [],
        },
    ),
    (DeadLetterSettings, {}, {"mode": "on", "topic": "ingest.rejected"}),
    (
        SpoolSettings,
        {},
        {
            "mode": "off",
            "path": "/var/lib/ingest/spool",
            "max_bytes": 10_737_418_240,
            "min_free_bytes": 1_073_741_824,
            "after_seconds": 3,
        },
    ),
]
"""Section, what must be given, and every key of the contract with its default."""


@pytest.mark.parametrize(
    ("section", "given", "keys"), DEFAULTS, ids=[each[0].__name__ for each in DEFAULTS]
)
def test_keys_and_defaults_are_those_of_the_contract(
    section: type[Settings], given: dict[str, Any], keys: dict[str, Any]
) -> None:
    """Every key is there, none is more, and each has the promised default."""
    assert section.model_validate(given).model_dump(by_alias=True) == keys


def test_sections_without_a_table_have_their_defaults() -> None:
    """An empty file means the defaults in every section."""
    shared = SharedSettings()
    found = {
        type(each): each for each in (getattr(shared, name) for name in type(shared).model_fields)
    }
    plain = [kind for kind, given, _ in DEFAULTS if not given and kind is not SourceSettings]
    assert [found[kind] for kind in plain] == [kind() for kind in plain]
    assert shared.sources == {}


@pytest.mark.parametrize(
    ("section", "values"),
    [
        (ServiceSettings, {"prestop_seconds": 0, "drain_seconds": 30}),
        (KafkaSettings, {"linger_seconds": 0, "request_timeout_seconds": 5}),
        (LimitSettings, {"body_seconds": 1, "ack_seconds": 20}),
    ],
)
def test_whole_numbers_are_fine_where_seconds_are_meant(
    section: type[Settings], values: dict[str, int]
) -> None:
    """Nobody has to write ``30.0``."""
    found = section.model_validate(values)
    for key, value in values.items():
        assert getattr(found, key) == value
        assert type(getattr(found, key)) is float


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        (ServiceSettings, "prestop_seconds", -1),
        (ServiceSettings, "drain_seconds", 0),
        (ServiceSettings, "log_level", "trace"),
        (ServiceSettings, "log_format", "xml"),
        (KafkaSettings, "bootstrap_servers", ""),
        (KafkaSettings, "client_id", ""),
        (KafkaSettings, "compression", "lz4"),
        (KafkaSettings, "compression", "gzip"),
        (KafkaSettings, "linger_seconds", -0.001),
        (KafkaSettings, "request_timeout_seconds", 0),
        (KafkaSettings, "security_protocol", "TLS"),
        (KafkaSettings, "sasl_mechanism", "GSSAPI"),
        (TopicSettings, "create", 1),
        (TopicSettings, "partitions", 0),
        (TopicSettings, "replication_factor", 0),
        (TopicSettings, "replication_factor", -2),
        (TopicSettings, "config", {"a": [1]}),
        *((ManagementSettings, key, "9090") for key in ManagementSettings.model_fields),
        *((LimitSettings, key, 0) for key in LimitSettings.model_fields),
        (KeySettings, "sha256", []),
        (KeySettings, "sha256", [DIGEST, OTHER, THIRD]),
        (KeySettings, "sha256", ["A" * 64]),
        (KeySettings, "sha256", DIGEST),
        (KeySettings, "sources", []),
        (KeySettings, "sources", "*"),
        (KeySettings, "events_per_second", -1),
        (KeySettings, "bytes_per_second", -1),
        (KeySettings, "concurrent_requests", -1),
        (SourceSettings, "topic", "a b"),
        (SourceSettings, "key", "customer_id"),
        (SourceSettings, "type", ""),
        (SourceSettings, "validate", "on"),
        (DeadLetterSettings, "mode", "auto"),
        (DeadLetterSettings, "topic", "a b"),
        (SpoolSettings, "mode", "on"),
        (SpoolSettings, "max_bytes", 0),
        (SpoolSettings, "min_free_bytes", -1),
        (SpoolSettings, "after_seconds", 0),
    ],
)
def test_values_that_mean_nothing_are_refused(
    section: type[Settings], key: str, value: Any
) -> None:
    """Whatever is wrong with a value is said of its key."""
    with pytest.raises(ValidationError) as caught:
        section.model_validate({**(KEY if section is KeySettings else {}), key: value})
    assert {each["loc"][0] for each in caught.value.errors()} == {key}


@pytest.mark.parametrize("key", KEY)
def test_a_key_needs_digest_and_sources(key: str) -> None:
    """Nothing is guessed about who may write where."""
    with pytest.raises(ValidationError, match="required"):
        KeySettings.model_validate({name: KEY[name] for name in KEY if name != key})


@pytest.mark.parametrize(
    ("section", "values"),
    [
        (KeySettings, {**KEY, "sha256": [DIGEST, OTHER]}),
        (KeySettings, {**KEY, "sources": ["covers-nothing-*", ""]}),
        (TopicSettings, {"replication_factor": 1}),
        (TopicSettings, {"config": {"a": "x", "b": 1, "c": 0.5, "d": False}}),
        (KafkaSettings, {"compression": "none"}),
        (KafkaSettings, {"compression": "snappy"}),
        (DeadLetterSettings, {"mode": "off"}),
    ],
)
def test_values_of_the_contract_are_taken(section: type[Settings], values: dict[str, Any]) -> None:
    """They are kept as they were given, types included."""
    found = section.model_validate(values).model_dump(include=set(values))
    assert repr(found) == repr(values)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("127.0.0.1:9090", ("127.0.0.1", 9090)),
        ("0.0.0.0:0", ("0.0.0.0", 0)),
        ("localhost:65535", ("localhost", 65535)),
        ("kafka_1.example-2.com:1", ("kafka_1.example-2.com", 1)),
        (":8080", ("0.0.0.0", 8080)),
        ("[::1]:8080", ("::1", 8080)),
        ("[::]:0", ("::", 0)),
        ("[fe80::1%eth0]:80", ("fe80::1%eth0", 80)),
        ("[::ffff:192.0.2.1]:80", ("::ffff:192.0.2.1", 80)),
    ],
)
def test_an_address_has_a_host_and_a_port(value: str, expected: tuple[str, int]) -> None:
    """IPv4, IPv6 in brackets, names; port 0 lets the system choose; no host means every address."""
    assert split_address(value) == expected
    assert TypeAdapter(Address).validate_python(value) == value


@pytest.mark.parametrize(
    "value",
    [
        "",
        "8080",
        "localhost",
        "host:",
        "host:x",
        "host:-1",
        "host:+80",
        "host:65536",
        "host:8080 ",
        " host:8080",
        "ho st:8080",
        "host:\uff18\uff10",
        "hôte:80",
        "host:80/",
        "host:80?x",
        "host:80#x",
        "user@host:80",
        "http://host:80",
        "a,b:80",
        "::1:80",
        "[::1]",
        "[::1",
        "[]:80",
        "[host]:80",
        "[127.0.0.1]:80",
        "x[::1]:80",
        "unix:/run/ingest.sock",
    ],
)
def test_what_is_no_address_is_refused(value: str) -> None:
    """Ports are digits up to 65535, IPv6 needs its brackets, and nothing else may be there."""
    with pytest.raises(ValueError, match=r"^expected "):
        split_address(value)
    with pytest.raises(ValidationError, match="expected "):
        TypeAdapter(Address).validate_python(value)


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (
            Brokers,
            ["kafka:9092", "kafka", "a:1,b:2", "a:1, b:2", "[::1]:9092", "192.0.2.1:9092,[::1]"],
            ["", ",", "a:1,", ":9092", "a:0", "a:b", "a:65536", "a:1;b:2", "a b", "::1", "k://a:1"],
        ),
        (
            TopicName,
            ["orders", "a.b_c-D9", "__own", "_", "...", "x" * 249],
            ["", ".", "..", "a b", "a/b", "é", "a\n", "a*", "x" * 250],
        ),
        (
            Pointer,
            ["/customer_id", "/a/b/0", "/", "//", "/a~0b~1c", "/é ü", "/~01"],
            ["", "customer_id", "a/b", "/a~", "/a~2", "/~", "$.a", "#/a", '/a"', "/a\\", "/\n"],
        ),
        (
            Digest,
            ["0" * 64, "0123456789abcdef" * 4],
            ["", "0" * 63, "0" * 65, "A" * 64, "g" * 64, "0" * 64 + "\n", "\u0660" * 64],
        ),
    ],
    ids=["brokers", "topic", "pointer", "digest"],
)
def test_texts_with_a_form_are_checked_whole(kind: Any, good: list[str], bad: list[str]) -> None:
    """All of the text must have the form, from its first to its last character."""
    adapter: TypeAdapter[str] = TypeAdapter(kind)
    assert [adapter.validate_python(each) for each in good] == good
    for each in bad:
        with pytest.raises(ValidationError, match="expected "):
            adapter.validate_python(each)


# What is fine by itself but not together.


def test_a_folder_for_the_spool_may_be_made_later(tmp_path: Path) -> None:
    """It is not made by looking."""
    path = tmp_path / "not" / "yet"
    assert conflicts(spool={"mode": "auto", "path": f"{path}"}) == []
    assert [*tmp_path.iterdir()] == []


def test_a_folder_that_nobody_may_write_to_is_no_place_for_a_spool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is one inside it; the system is asked, root may write to most."""
    asked: list[tuple[Path, int]] = []

    def access(path: Path, how: int) -> bool:
        asked.append((path, how))
        return False

    monkeypatch.setattr("os.access", access)
    path = tmp_path / "not" / "yet"
    text = f"may not write to the folder {tmp_path}"
    assert conflicts(spool={"mode": "auto", "path": f"{path}"}) == [("spool.path", text)]
    assert asked == [(tmp_path, os.W_OK | os.X_OK)]


SCHEMA = FileContent("y.json", b"{}")


def conflicts(**sections: Any) -> list[tuple[str, str]]:
    """(dotted path, text) of the conflicts in otherwise fine settings."""
    settings = SharedSettings.model_validate({"sources": {"orders": {}}, **sections})
    return [(dotted(each.path), each.text) for each in settings.conflicts()]


SASL = {
    "sasl_mechanism": "PLAIN",
    "sasl_username": "u",
    "sasl_password": SecretStr("p"),
}
OWN = "topics that start with '__' are Kafka's own"
NEEDS_SASL = "needs security_protocol SASL_PLAINTEXT or SASL_SSL, not "
NEEDS_SSL = "needs security_protocol SSL or SASL_SSL, not "
USED = ("syslog", "listeners", 0, "source")


@pytest.mark.parametrize(
    ("sections", "found"),
    [
        ({"kafka": {"request_timeout_seconds": 9.9}}, []),
        (
            {"kafka": {"request_timeout_seconds": 10}},
            [
                (
                    "kafka.request_timeout_seconds",
                    "must be smaller than limits.ack_seconds (10)",
                )
            ],
        ),
        (
            {"limits": {"ack_seconds": 3.5}},
            [
                (
                    "kafka.request_timeout_seconds",
                    "must be smaller than limits.ack_seconds (3.5)",
                )
            ],
        ),
        ({"kafka": {"security_protocol": "SASL_SSL", **SASL}}, []),
        ({"kafka": {"security_protocol": "SASL_PLAINTEXT", **SASL}}, []),
        (
            {"kafka": {"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN"}},
            [
                ("kafka.sasl_username", "is required for SASL_SSL"),
                ("kafka.sasl_password", "is required for SASL_SSL"),
            ],
        ),
        (
            {"kafka": {"security_protocol": "SASL_PLAINTEXT", **SASL, "sasl_mechanism": None}},
            [("kafka.sasl_mechanism", "is required for SASL_PLAINTEXT")],
        ),
        (
            {"kafka": SASL},
            [(f"kafka.{key}", NEEDS_SASL + "PLAINTEXT") for key in SASL],
        ),
        (
            {"kafka": {"security_protocol": "SSL", "sasl_username": "u"}},
            [("kafka.sasl_username", NEEDS_SASL + "SSL")],
        ),
        ({"kafka": {"security_protocol": "SSL"}}, []),
        (
            {"kafka": {"security_protocol": "SSL", "ssl_ca_file": "a", "ssl_cert_file": "b"}},
            [],
        ),
        (
            {"kafka": {"security_protocol": "SASL_SSL", "ssl_ca_file": "a", **SASL}},
            [],
        ),
        (
            {"kafka": {"ssl_ca_file": "a", "ssl_cert_file": "b", "ssl_key_file": "c"}},
            [
                (f"kafka.{key}", NEEDS_SSL + "PLAINTEXT")
                for key in ("ssl_ca_file", "ssl_cert_file", "ssl_key_file")
            ],
        ),
        (
            {"kafka": {"security_protocol": "SASL_PLAINTEXT", "ssl_ca_file": "a", **SASL}},
            [("kafka.ssl_ca_file", NEEDS_SSL + "SASL_PLAINTEXT")],
        ),
        (
            {"kafka": {"security_protocol": "SSL", "ssl_key_file": "a"}},
            [("kafka.ssl_cert_file", "is required for ssl_key_file")],
        ),
        (
            {
                "limits": {
                    "body_bytes": 100,
                    "decoded_bytes": 1_000_000,
                    "inflight_bytes": 1_000_000,
                }
            },
            [],
        ),
        (
            {"limits": {"inflight_bytes": 10_485_759}},
            [
                (
                    "limits.body_bytes",
                    "must not exceed inflight_bytes: no such body could be taken",
                ),
                (
                    "limits.decoded_bytes",
                    "must not exceed inflight_bytes: no such body could be taken",
                ),
            ],
        ),
        ({"spool": {"mode": "off", "max_bytes": 1, "after_seconds": 10, "path": "/dev/null"}}, []),
        ({"spool": {"mode": "auto", "max_bytes": 1 << 24, "path": "."}}, []),
        (
            {"spool": {"mode": "auto", "max_bytes": (1 << 24) - 1, "path": "."}},
            [("spool.max_bytes", "must be at least 16777216 (16 MiB)")],
        ),
        (
            {"spool": {"mode": "auto", "after_seconds": 10, "path": "."}},
            [("spool.after_seconds", "must be smaller than limits.ack_seconds (10)")],
        ),
        (
            {"spool": {"mode": "auto", "path": "/dev/null"}},
            [("spool.path", "/dev/null is not a folder")],
        ),
        (
            {"spool": {"mode": "auto", "path": "/dev/null/spool/deep"}},
            [("spool.path", "/dev/null is not a folder")],
        ),
        ({"limits": {"event_bytes": 10_485_760}}, []),
        (
            {"limits": {"event_bytes": 10_485_761}},
            [("limits.event_bytes", "must not exceed decoded_bytes: no such event could be taken")],
        ),
        (
            {"auth": {"keys": {"a": {**KEY, "sha256": [DIGEST, OTHER]}, "b": {**KEY}}}},
            [("auth.keys.b.sha256", "shares a digest with auth.keys.a")],
        ),
        (
            {"auth": {"keys": {"a": KEY, "b.c": KEY, "d": KEY}}},
            [
                ('auth.keys."b.c".sha256', "shares a digest with auth.keys.a"),
                ("auth.keys.d.sha256", "shares a digest with auth.keys.a"),
            ],
        ),
        ({"auth": {"keys": {"a": KEY, "b": {**KEY, "sha256": [OTHER]}}}}, []),
        ({"sources": {}}, [("sources", "no source is configured: add [sources.NAME]")]),
        ({"dead_letter": {"topic": "__rejects"}}, [("dead_letter.topic", OWN)]),
        ({"sources": {"a": {"topic": "__a"}}}, [("sources.a.topic", OWN)]),
        ({"sources": {"a": {"topic": "_a"}, "b": {"topic": "a__"}, "c": {"topic": "_a"}}}, []),
        (
            {"sources": {"a": {"topic": "ingest.rejected"}}},
            [("sources.a.topic", "'ingest.rejected' is the dead letter topic")],
        ),
        (
            {"sources": {"a": {"topic": "ingest.rejected"}}, "dead_letter": {"topic": "d"}},
            [],
        ),
        (
            {"sources": {"bad": {}}, "dead_letter": {"topic": "bad", "mode": "off"}},
            [("sources.bad.topic", "'bad' is the dead letter topic")],
        ),
        ({"syslog_sources": {"orders": USED}}, []),
        (
            {"syslog_sources": {"logs": USED}},
            [("syslog.listeners[0].source", "there is no source 'logs'")],
        ),
        (
            {"sources": {"a": {"key": "/x", "schema": SCHEMA}}, "syslog_sources": {"a": USED}},
            [
                (
                    "sources.a.key",
                    "syslog.listeners[0].source uses this source: its key is the host",
                ),
                (
                    "sources.a.schema",
                    "syslog.listeners[0].source uses this source: it has no schema",
                ),
            ],
        ),
    ],
)
def test_settings_that_cannot_hold_together_are_conflicts(
    sections: dict[str, Any], found: list[tuple[str, str]]
) -> None:
    """Each names the key to look at; what only looks odd is fine."""
    assert conflicts(**sections) == found


@pytest.mark.parametrize("name", ["a", "9", "A.b_c-D", "orders", "x" * 128])
def test_names_of_the_contract_are_names_of_sources(name: str) -> None:
    """They begin with a letter or digit and have up to 128 characters."""
    shared = SharedSettings.model_validate({"sources": {name: {}}})
    assert [*shared.sources] == [name]


@pytest.mark.parametrize("name", ["", ".a", "_a", "-a", "a b", "a/b", "é", "a\n", "a*", "x" * 129])
def test_other_names_are_refused(name: str) -> None:
    """They could not be in a URL, a topic's name or a pattern."""
    with pytest.raises(ValidationError, match="is no name for a source: "):
        SharedSettings.model_validate({"sources": {name: {"topic": "t"}}})


def test_every_conflict_is_found() -> None:
    """One hides no other."""
    found = conflicts(
        kafka={"request_timeout_seconds": 10, "sasl_username": "u"},
        limits={"inflight_bytes": 1},
        auth={"keys": {"a": KEY, "b": KEY}},
        sources={"a": {"topic": "__a"}, "b": {"topic": "ingest.rejected"}},
        syslog_sources={"c": USED},
    )
    assert [path for path, _ in found] == [
        "kafka.sasl_username",
        "kafka.request_timeout_seconds",
        "limits.body_bytes",
        "limits.decoded_bytes",
        "auth.keys.b.sha256",
        "sources.a.topic",
        "sources.b.topic",
        "syslog.listeners[0].source",
    ]


# What the settings mean.


@pytest.mark.parametrize(
    ("section", "source"),
    [
        ({}, Source("orders", "orders", "orders", None)),
        (
            {"topic": "t", "type": "order.created", "key": "/a/b~1c"},
            Source("orders", "t", "order.created", ("a", "b/c")),
        ),
        ({"topic": "t"}, Source("orders", "t", "orders", None)),
        ({"type": "x"}, Source("orders", "orders", "x", None)),
    ],
)
def test_topic_and_type_are_the_source_s_name_unless_given(
    section: dict[str, str], source: Source
) -> None:
    """A source needs no setting at all."""
    shared = SharedSettings.model_validate({"sources": {"orders": section}})
    assert shared.named_sources() == {"orders": source}


def test_a_source_that_syslog_uses_is_closed_to_http() -> None:
    """The others stay open."""
    sources = {"orders": {}, "logs": {}}
    shared = SharedSettings.model_validate({"sources": sources, "syslog_sources": {"logs": USED}})
    found = {name: source.over_http for name, source in shared.named_sources().items()}
    assert found == {"orders": True, "logs": False}


def test_settings_never_change() -> None:
    """What was validated stays as it was."""
    with pytest.raises(ValidationError, match="frozen"):
        SharedSettings().kafka.client_id = "x"
