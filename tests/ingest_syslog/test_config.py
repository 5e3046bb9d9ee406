"""The configuration of the syslog front door as a whole: what does not go together, and why."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from ingest import toml
from ingest.config import dump, load
from ingest.config_change import change
from ingest.errors import ConfigError
from ingest_syslog.__main__ import _endpoint, main
from ingest_syslog.config import NOT_OF_UNIX, ONLY_OF, RELOADABLE, SyslogConfig
from ingest_syslog.settings import ListenerSettings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

UDP = {"name": "udp", "protocol": "udp", "listen": "127.0.0.1:5514", "source": "logs"}
TCP = {"name": "tcp", "protocol": "tcp", "listen": "127.0.0.1:6514", "source": "logs"}
RELP = {"name": "relp", "protocol": "relp", "listen": "127.0.0.1:2514", "source": "logs"}
UNIX = {**TCP, "listen": "unix:/run/ingest/log.sock"}
TLS = {"cert": "cert.pem", "key": "key.pem"}
ASKING = {**TLS, "client_ca": "ca.pem"}
DIGEST = "sha256:" + "0" * 64
CONTRACT = """
[sources.syslog]
[sources.auth-logs]

[syslog]
workers = 1

[[syslog.listeners]]
name = "udp"
protocol = "udp"                 # udp | tcp | relp
listen = "0.0.0.0:5514"          # or "unix:/run/ingest/log.sock"
source = "syslog"
allow_from = ["10.0.0.0/8"]      # default: everyone
framing = "auto"                 # tcp: auto | lf | nul | octet
timezone = "UTC"                 # of senders that do not say theirs
frame_bytes = 65_536
oversize = "truncate"            # truncate | dead_letter | close
idle_seconds = 3600
partial_seconds = 30
connections = 10_000
connections_per_address = 1_000
handshake_seconds = 10
receive_buffer_bytes = 8_388_608 # udp
unread_ack_bytes = 1_048_576     # relp: a client that does not read its answers is paused here
tracer_from = []

[[syslog.rules]]                 # first match wins; default: the listener's source
when = { facility = ["auth", "authpriv"], severity_at_least = "warning", app_name = "sshd", host = "db-*", peer = "10.0.0.0/8", listener = "udp" }
source = "auth-logs"
"""  # noqa: E501 - as it is in the contract
"""The section of the contract, without the files and the examples of other protocols."""
OTHERS: dict[str, Any] = {
    "framing": "lf",
    "tls": TLS,
    "proxy_from": ["10.0.0.0/8"],
    "idle_seconds": 60,
    "partial_seconds": 5,
    "connections": 5,
    "connections_per_address": 5,
    "handshake_seconds": 5,
    "receive_buffer_bytes": 1_000_000,
    "unread_ack_bytes": 5,
}
"""Another value than the default's, of each setting that not every protocol has."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a configuration can be written, beside some certificates."""
    authority = trustme.CA()
    own = authority.issue_cert("gateway.example.com")
    own.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    own.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return tmp_path / "ingest.toml"


def text_of(*listeners: Any, rules: Any = (), **sections: Any) -> str:
    """A configuration as TOML."""
    syslog = {"listeners": list(listeners), "rules": list(rules)}
    return toml.dumps({"sources": {"logs": {}, "auth": {}}, "syslog": syslog} | sections)


@pytest.fixture
def read(path: Path) -> Callable[..., SyslogConfig]:
    """Reads a configuration; see `text_of`."""

    def read(*listeners: Any, **more: Any) -> SyslogConfig:
        path.write_text(text_of(*listeners, **more), encoding="utf-8")
        return load(path, SyslogConfig, {})

    return read


@pytest.fixture
def problems(path: Path) -> Callable[..., list[str]]:
    """What is wrong with a configuration, less the file's name; see `text_of`."""

    def problems(*listeners: Any, **more: Any) -> list[str]:
        path.write_text(text_of(*listeners, **more), encoding="utf-8")
        with pytest.raises(ConfigError) as caught:
            load(path, SyslogConfig, {})
        return [each.removeprefix(f"{path}: ") for each in caught.value.problems]

    return problems


def test_the_example_of_the_contract_is_right(path: Path) -> None:
    """Whatever it shows is known; whatever it says is the default is."""
    path.write_text(CONTRACT, encoding="utf-8")
    config = load(path, SyslogConfig, {})
    (listener,) = config.syslog.listeners
    shown = tomllib.loads(CONTRACT)["syslog"]["listeners"][0]
    for key, field in ListenerSettings.model_fields.items():
        if not field.is_required() and key not in {"tls", "allow_from", "proxy_from"}:
            assert (key, shown[key]) == (key, field.get_default(call_default_factory=True))
    assert listener.allow_from == ["10.0.0.0/8"]
    assert config.used_sources() == {"syslog", "auth-logs"}


# What does not go together.


@pytest.mark.parametrize(
    ("listeners", "sections", "found"),
    [
        ([], {}, ["syslog.listeners: no listener is configured: add [[syslog.listeners]]"]),
        (
            [UDP],
            {"sources": {}},
            [
                "sources: no source is configured: add [sources.NAME]",
                "syslog.listeners[0].source: there is no source 'logs'",
            ],
        ),
        (
            [{**UDP, "source": "x"}],
            {},
            ["syslog.listeners[0].source: there is no source 'x'"],
        ),
        (
            [UDP],
            {"rules": [{"source": "x"}]},
            ["syslog.rules[0].source: there is no source 'x'"],
        ),
        (
            [UDP],
            {"sources": {"logs": {"key": "/host"}}},
            ["sources.logs.key: syslog.listeners[0].source uses this source: its key is the host"],
        ),
        (
            [{**RELP, "listen": "unix:/run/log.sock"}],
            {},
            [
                (
                    "syslog.listeners[0].listen: a unix socket is for protocol 'udp' (datagrams) "
                    "or 'tcp' (a stream)"
                )
            ],
        ),
        (
            [{**RELP, "oversize": "close"}],
            {},
            [
                (
                    "syslog.listeners[0].oversize: the client would send the same frame again for "
                    "ever: truncate it or dead_letter it"
                )
            ],
        ),
        (
            [{**UDP, "oversize": "close"}],
            {},
            [
                (
                    "syslog.listeners[0].oversize: a datagram has no connection to close: truncate "
                    "it or dead_letter it"
                )
            ],
        ),
        (
            [{**TCP, "oversize": "dead_letter"}],
            {"dead_letter": {"mode": "off"}},
            ["syslog.listeners[0].oversize: needs dead_letter.mode = 'on'"],
        ),
        (
            [{**TCP, "frame_bytes": 921_601}],
            {},
            ["syslog.listeners[0].frame_bytes: must not exceed limits.event_bytes (921600)"],
        ),
        (
            [TCP],
            {"limits": {"event_bytes": 1000}},
            ["syslog.listeners[0].frame_bytes: must not exceed limits.event_bytes (1000)"],
        ),
        (
            [{**TCP, "tls": {**TLS, "allowed_names": ["a"]}}],
            {},
            [
                (
                    "syslog.listeners[0].tls.allowed_names: needs client_ca: without it nobody is "
                    "asked for a certificate"
                )
            ],
        ),
        (
            [{**TCP, "tls": {**TLS, "allowed_fingerprints": [DIGEST]}}],
            {},
            [
                (
                    "syslog.listeners[0].tls.allowed_fingerprints: needs client_ca: without it "
                    "nobody is asked for a certificate"
                )
            ],
        ),
        (
            [{**TCP, "tls": {**TLS, "key": "none.pem"}}],
            {},
            ["syslog.listeners[0].tls.key: there is no file none.pem"],
        ),
        (
            [UDP, {**TCP, "name": "udp"}],
            {},
            ["syslog.listeners[1].name: 'udp' is taken by another listener"],
        ),
        (
            [TCP, {**RELP, "listen": "0.0.0.0:6514"}],
            {},
            ["syslog.listeners[1].listen: is taken by listener 'tcp'"],
        ),
        (
            [UDP, {**UDP, "name": "other"}],
            {},
            ["syslog.listeners[1].listen: is taken by listener 'udp'"],
        ),
        (
            [UNIX, {**UDP, "listen": UNIX["listen"]}],
            {},
            ["syslog.listeners[1].listen: is taken by listener 'tcp'"],
        ),
        (
            [{**TCP, "listen": "0.0.0.0:9091"}],
            {},
            ["management.syslog: is taken by listener 'tcp' (0.0.0.0:9091)"],
        ),
        (
            [UDP],
            {"rules": [{"when": {"listener": ["udp", "tpc"]}, "source": "logs"}]},
            ["syslog.rules[0].when.listener: there is no listener 'tpc'"],
        ),
        (
            [UDP],
            {"rules": [{"when": {"listener": "tcp"}, "source": "logs"}]},
            ["syslog.rules[0].when.listener: there is no listener 'tcp'"],
        ),
        (
            [UDP],
            {"sources": {"logs": {"topic": "ingest.rejected"}}},
            ["sources.logs.topic: 'ingest.rejected' is the dead letter topic"],
        ),
    ],
)
def test_what_could_never_work_is_an_error(
    problems: Callable[..., list[str]],
    listeners: list[Any],
    sections: dict[str, Any],
    found: list[str],
) -> None:
    """It is said before the service starts, by the key to look at."""
    assert problems(*listeners, **sections) == found


@pytest.mark.parametrize("key", sorted(ONLY_OF))
@pytest.mark.parametrize("listener", [UDP, TCP, RELP], ids=["udp", "tcp", "relp"])
def test_what_means_nothing_for_a_protocol_is_an_error(
    read: Callable[..., SyslogConfig],
    problems: Callable[..., list[str]],
    listener: dict[str, Any],
    key: str,
) -> None:
    """Such a setting must not look as if it did something."""
    protocol, changed = listener["protocol"], {**listener, key: OTHERS[key]}
    if protocol in ONLY_OF[key]:
        assert read(changed).syslog.listeners[0].protocol == protocol
    else:
        assert problems(changed) == [
            f"syslog.listeners[0].{key}: means nothing for protocol '{protocol}'"
        ]


@pytest.mark.parametrize("key", sorted(NOT_OF_UNIX))
def test_what_is_about_addresses_means_nothing_for_a_unix_socket(
    problems: Callable[..., list[str]], key: str
) -> None:
    """Its peers have none."""
    value = {**OTHERS, "allow_from": ["10.0.0.0/8"]}[key]
    assert problems({**UNIX, key: value}) == [
        f"syslog.listeners[0].{key}: means nothing for a unix socket: its peers have no address"
    ]


@pytest.mark.parametrize("name", ["cert.pem", "key.pem", "ca.pem"])
def test_files_that_cannot_be_used_are_an_error(
    path: Path, problems: Callable[..., list[str]], name: str
) -> None:
    """They are named, and nothing of them is shown."""
    (path.parent / name).write_text("secret")
    (found,) = problems({**TCP, "tls": ASKING})
    assert found.startswith("syslog.listeners[0].tls: ")
    assert name in found
    assert "secret" not in found


@pytest.mark.parametrize(
    "listeners",
    [
        [UDP, {**TCP, "listen": UDP["listen"]}],
        [{**UDP, "listen": "0.0.0.0:9091"}],
        [TCP, {**RELP, "listen": "127.0.0.2:6514"}],
        [{**TCP, "listen": ":0"}, {**RELP, "listen": ":0"}],
        [{**UNIX, "framing": "octet", "connections": 5}],
        [{**UDP, "oversize": "dead_letter", "frame_bytes": 480}],
        [{**TCP, "oversize": "close"}],
        [{**TCP, "tls": {**ASKING, "allowed_names": ["*.example.com"]}}],
        [{**UDP, "framing": "auto", "idle_seconds": 3600}],
    ],
)
def test_what_only_looks_odd_is_fine(
    read: Callable[..., SyslogConfig], listeners: list[Any]
) -> None:
    """TCP and UDP have ports of their own; so has the system's choice; defaults do no harm."""
    assert len(read(*listeners).syslog.listeners) == len(listeners)


# What is misspelt, or not there yet.


@pytest.mark.parametrize(
    ("listener", "found"),
    [
        ({**UDP, "protocl": "x"}, 'protocl: unknown key, did you mean "protocol"?'),
        ({**UDP, "allow_form": []}, 'allow_form: unknown key, did you mean "allow_from"?'),
        ({**UDP, "zzz": 1}, "zzz: unknown key"),
        (
            {**TCP, "tls": {**TLS, "allowed_name": ["a"]}},
            'tls.allowed_name: unknown key, did you mean "allowed_names"?',
        ),
        ({**UDP, "frame_bytes": 3}, "frame_bytes: expected at least 480"),
        ({**UDP, "protocol": "tls"}, 'protocol: expected "udp", "tcp" or "relp"'),
        ({**UDP, "listen": 514}, "listen: expected text"),
        ({**UDP, "allow_from": "x"}, "allow_from: expected a list"),
        ({k: v for k, v in UDP.items() if k != "name"}, "name: is required"),
    ],
)
def test_errors_in_a_listener_name_the_listener_and_the_key(
    problems: Callable[..., list[str]], listener: dict[str, Any], found: str
) -> None:
    """With a suggestion where a name is close."""
    assert problems(TCP if listener["protocol"] != "tcp" else UDP, listener) == [
        f"syslog.listeners[1].{found}"
    ]


@pytest.mark.parametrize(
    ("rule", "found"),
    [
        ({"soruce": "logs", "source": "logs"}, 'soruce: unknown key, did you mean "source"?'),
        (
            {"when": {"facilty": "auth"}, "source": "logs"},
            'when.facilty: unknown key, did you mean "facility"?',
        ),
        (
            {"when": {"severity_at_least": "wraning"}, "source": "logs"},
            'when.severity_at_least: unknown severity, did you mean "warning"?',
        ),
        ({}, "source: is required"),
    ],
)
def test_errors_in_a_rule_name_the_rule_and_the_key(
    problems: Callable[..., list[str]], rule: dict[str, Any], found: str
) -> None:
    """With a suggestion where a name is close."""
    assert problems(UDP, rules=[rule]) == [f"syslog.rules[0].{found}"]


def test_all_errors_are_told_at_once(problems: Callable[..., list[str]]) -> None:
    """One for each key; what follows from another is not told."""
    found = problems({**UDP, "frame_bytes": 3, "x": 1}, {**TCP, "listen": "x"}, rules=[{"a": 1}])
    assert sorted(each.partition(": ")[0] for each in found) == [
        "syslog.listeners[0].frame_bytes",
        "syslog.listeners[0].x",
        "syslog.listeners[1].listen",
        "syslog.rules[0].a",
        "syslog.rules[0].source",
    ]


def test_what_is_not_there_yet_is_an_error(problems: Callable[..., list[str]]) -> None:
    """A setting is never accepted and ignored."""
    (found,) = problems({**UDP, "tracer_from": ["10.0.0.0/8"]})
    assert found.startswith("syslog.listeners[0].tracer_from: not_supported_yet")


def test_defaults_of_what_is_not_there_yet_are_fine(read: Callable[..., SyslogConfig]) -> None:
    """As the example of the contract has them."""
    assert read({**UDP, "tracer_from": []}).syslog.listeners[0].tracer_from == []


def test_the_spool_is_for_syslog_as_well(
    problems: Callable[..., list[str]], read: Callable[..., SyslogConfig]
) -> None:
    """And what is wrong with it is told here too."""
    spool = {"mode": "auto", "path": "spool"}
    assert read(UDP, spool=spool).spool.mode == "auto"
    (found,) = problems(UDP, spool={**spool, "after_seconds": 11})
    assert found == "spool.after_seconds: must be smaller than limits.ack_seconds (10)"


def test_another_spool_needs_a_restart(read: Callable[..., SyslogConfig]) -> None:
    """Whatever of it is changed: its files are open."""
    current = read(UDP, spool={"mode": "auto", "path": "spool"})
    spool = {"path": "b", "max_bytes": 1 << 30, "min_free_bytes": 0, "after_seconds": 2}
    result = change(current, read(UDP, spool=spool), RELOADABLE)
    assert (result.config, result.changed) == (current, [])
    assert result.needs_restart == ["spool.mode", *(f"spool.{key}" for key in spool)]


# What it says.


def test_the_printed_configuration_loads_again(
    path: Path, read: Callable[..., SyslogConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    """And is the same: listeners of every protocol, rules, certificates by their paths."""
    rules = [
        {"when": {"facility": ["auth", "4"], "peer": "10.0.0.0/8"}, "source": "auth"},
        {"source": "logs"},
    ]
    tls = {**ASKING, "allowed_names": ["*.a.b"], "allowed_fingerprints": [DIGEST]}
    config = read(UDP, {**TCP, "tls": tls}, RELP, rules=rules)
    assert main(["--config", str(path), "--print-config"]) == 0
    printed = capsys.readouterr().out
    assert printed == dump(config)
    assert "PRIVATE" not in printed
    path.write_text(printed, encoding="utf-8")
    assert load(path, SyslogConfig, {}) == config


def test_the_command_refuses_a_bad_configuration(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With exit status 2, every error, the file and the key."""
    path.write_text(text_of({**UDP, "x": 1}), encoding="utf-8")
    assert main(["--config", str(path), "--check"]) == 2
    assert capsys.readouterr().err == f"{path}: syslog.listeners[0].x: unknown key\n"


def test_the_command_says_that_a_configuration_is_fine(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And starts nothing."""
    path.write_text(text_of(UDP), encoding="utf-8")
    assert main(["--config", str(path), "--check"]) == 0
    assert "configuration is fine" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "text", "value"), [("WORKERS", "4", 4), ("WORKERS", "auto", "auto")]
)
def test_variables_override_the_section(path: Path, name: str, text: str, value: Any) -> None:
    """Single values only: not listeners."""
    path.write_text(text_of(UDP), encoding="utf-8")
    config = load(path, SyslogConfig, {f"INGEST_SYSLOG__{name}": text})
    assert config.syslog.workers == value
    with pytest.raises(ConfigError, match="only single values"):
        load(path, SyslogConfig, {"INGEST_SYSLOG__LISTENERS": text})


def test_topics_are_those_that_this_service_writes_to(read: Callable[..., SyslogConfig]) -> None:
    """Of the sources that listeners and rules name; the dead letter topic where it is on."""
    sources = {"logs": {"topic": "a"}, "auth": {}, "http-only": {}}
    rules = [{"source": "auth"}]
    assert read(UDP, rules=rules, sources=sources).topics_written() == {
        "a",
        "auth",
        "ingest.rejected",
    }
    off = read(UDP, sources=sources, dead_letter={"mode": "off"})
    assert off.topics_written() == {"a"}


@pytest.mark.parametrize(("listener", "buffer"), [(UDP, 8_388_608), (TCP, 0), (RELP, 0), (UNIX, 0)])
def test_only_datagrams_have_a_receive_buffer(listener: dict[str, Any], buffer: int) -> None:
    """It says how a socket is bound."""
    endpoint = _endpoint(ListenerSettings.model_validate(listener))
    assert (endpoint.address, endpoint.receive_buffer_bytes) == (listener["listen"], buffer)


# What a reload takes.


@pytest.mark.parametrize(
    ("listener", "more", "changed", "needs_restart"),
    [
        (TCP, {"rules": [{"source": "auth"}]}, ["syslog.rules: changed"], []),
        ({**TCP, "source": "auth"}, {}, ["syslog.listeners.tcp.source: changed"], []),
        ({**TCP, "tls": TLS}, {}, ["syslog.listeners.tcp.tls: added"], []),
        ({**TCP, "connections": 5}, {}, [], ["syslog.listeners.tcp.connections"]),
        ({**TCP, "listen": "127.0.0.1:7"}, {}, [], ["syslog.listeners.tcp.listen"]),
        ({**TCP, "name": "new"}, {}, [], ["syslog.listeners.tcp", "syslog.listeners.new"]),
        (TCP, {"syslog_workers": 2}, [], ["syslog.workers"]),
    ],
)
def test_a_reload_takes_rules_sources_and_certificates(
    path: Path,
    read: Callable[..., SyslogConfig],
    listener: dict[str, Any],
    more: dict[str, Any],
    changed: list[str],
    needs_restart: list[str],
) -> None:
    """The rest needs a restart, and is named."""
    current = read(TCP)
    workers = more.pop("syslog_workers", 1)
    text = text_of(listener, **more).replace("[syslog]", f"[syslog]\nworkers = {workers}", 1)
    if "[syslog]" not in text:
        text += f"\n[syslog]\nworkers = {workers}\n"
    path.write_text(text, encoding="utf-8")
    found = change(current, load(path, SyslogConfig, {}), RELOADABLE)
    taken = [each for each in found.changed if not each.startswith("sources.")]
    assert (taken, found.needs_restart) == (changed, needs_restart)
