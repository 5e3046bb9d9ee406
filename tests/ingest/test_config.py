"""A TOML file and the environment become settings, or every error at once."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any, Protocol, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from ingest import toml
from ingest.config import KNOWN_SECTIONS, dump, load
from ingest.errors import ConfigError
from ingest.settings import FileContent, KafkaSettings, NotYet, SharedSettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ORDERS = "[sources.orders]\n"
SASL = '[kafka]\nsecurity_protocol = "SASL_SSL"\nsasl_mechanism = "PLAIN"\nsasl_username = "u"\n'
NOT_YET = "not_supported_yet: leave it out for now"
NO_ORIGIN = 'expected an origin such as "https://shop.example.com", or "*"'
NO_BODY = "must not exceed inflight_bytes: no such body could be taken"
NO_DIGEST = "expected 64 lower-case hexadecimal digits (SHA-256 of the key)"
NO_NAME = "is no name for a source: letters, digits, '.', '_' and '-', at most 128"
PROTOCOLS = 'kafka.security_protocol: expected "PLAINTEXT", "SSL", "SASL_PLAINTEXT" or "SASL_SSL"'
DIGEST = "0" * 64
KEY = f'[auth.keys.shop]\nsha256 = ["{DIGEST}"]\nsources = ["*"]\n'


class Read(Protocol):
    """Reads a file of this text in this environment."""

    def __call__(self, text: str, **environ: str) -> SharedSettings:
        """The settings."""


class Problems(Protocol):
    """Says what is wrong with such a file, by its name in its folder."""

    def __call__(self, text: str, **environ: str) -> list[str]:
        """The problems, in their order."""


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Reads ``ingest.toml`` in a folder of its own."""
    path = tmp_path / "ingest.toml"

    def read(text: str, **environ: str) -> SharedSettings:
        path.write_text(text, encoding="utf-8")
        return load(path, SharedSettings, environ)

    return read


@pytest.fixture
def problems(read: Read, tmp_path: Path) -> Problems:
    """What is wrong with ``ingest.toml``."""

    def problems(text: str, **environ: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            read(text, **environ)
        return [each.replace(f"{tmp_path}/", "") for each in caught.value.problems]

    return problems


# All errors at once.


def test_every_error_is_listed_at_once_with_file_and_key(problems: Problems) -> None:
    """Errors of every kind, in every section; the only ones hidden are echoes of others."""
    text = """
        serivce = 1
        tracer = 3
        [kafka]
        client_id = 3
        linger = 0.1
        sasl_password = { env = "PASSWORD" }
        request_timeout_seconds = 30
        [topics]
        replication_factor = 0
        [limits]
        batch_events = 0
        inflight_bytes = 1000
        [spool]
        mode = "auto"
        path = "/dev/null"
        max_bytes = 1
        after_seconds = -1
        [auth.keys.a]
        sha256 = ["x", "y"]
        [auth.keys.b]
        sources = ["*"]
        [sources.a]
        topic = "__a"
        [sources.b]
        schema = "b.json"
        tpoic = "c"
        [sources._c]
        key = "x"
        [[syslog.rules]]
        source = "d"
    """
    found = problems(text, INGEST_SERVICE__DRAIN_SECONDS="0", INGEST_ZZZ="x")
    assert [each.removeprefix("ingest.toml: ") for each in found] == [
        "environment: INGEST_ZZZ: unknown variable",
        'serivce: unknown section, did you mean "service"?',
        "tracer: expected a table",
        "environment: INGEST_SERVICE__DRAIN_SECONDS: expected more than 0",
        "kafka.sasl_password: the variable PASSWORD is not set",
        "kafka.client_id: expected text",
        'kafka.linger: unknown key, did you mean "linger_seconds"?',
        "topics.replication_factor: expected at least 1, or -1 for the broker's default",
        "limits.batch_events: expected more than 0",
        f"auth.keys.a.sha256[0]: {NO_DIGEST}",
        f"auth.keys.a.sha256[1]: {NO_DIGEST}",
        "auth.keys.a.sources: is required",
        "auth.keys.b.sha256: is required",
        "sources.b.schema: there is no file b.json",
        'sources.b.tpoic: unknown key, did you mean "topic"?',
        f"sources._c: {NO_NAME}",
        'sources._c.key: expected a JSON Pointer such as "/customer_id" (RFC 6901)',
        "spool.after_seconds: expected more than 0",
        "kafka.sasl_password: needs security_protocol SASL_PLAINTEXT or SASL_SSL, not PLAINTEXT",
        "kafka.request_timeout_seconds: must be smaller than limits.ack_seconds (10)",
        f"limits.body_bytes: {NO_BODY}",
        f"limits.decoded_bytes: {NO_BODY}",
        "spool.max_bytes: must be at least 16777216 (16 MiB)",
        "spool.path: /dev/null is not a folder",
        "sources.a.topic: topics that start with '__' are Kafka's own",
        "syslog.rules[0].source: there is no source 'd'",
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            ORDERS + "[kafka]\nrequest_timeout_seconds = 30\n[limits]\nack_seconds = -1",
            ["limits.ack_seconds: expected more than 0"],
        ),
        ("[sources.orders]\ntopic = 3", ["sources.orders.topic: expected text"]),
        (
            "[sources.orders]\ntopic = 'ingest.rejected'\n[dead_letter]\ntopic = 3",
            ["dead_letter.topic: expected text"],
        ),
        (
            ORDERS + KEY.replace(DIGEST, "x"),
            [f"auth.keys.shop.sha256[0]: {NO_DIGEST}"],
        ),
        ("sources = 3", ["sources: expected a table"]),
        ("[sources]\norders = 3", ["sources.orders: expected a table"]),
        (
            "[sources.logs]\nkey = 3\n[syslog]\nrules = [{ source = 'logs' }]",
            ["sources.logs.key: expected text"],
        ),
        (
            "[sources]\nlogs = 3\n[syslog]\nrules = [{ source = 'logs' }]",
            ["sources.logs: expected a table"],
        ),
        (
            ORDERS + SASL.replace("SASL_SSL", "SALS_SSL"),
            [PROTOCOLS],
        ),
    ],
)
def test_an_error_has_no_echo(problems: Problems, text: str, found: list[str]) -> None:
    """What follows from an error that is listed is not listed itself."""
    assert problems(text) == [f"ingest.toml: {each}" for each in found]


# What a file may have.


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[kafak]", 'kafak: unknown section, did you mean "kafka"?'),
        ("[source.orders]", 'source: unknown section, did you mean "sources"?'),
        ("[sylsog]\nworkers = 1", 'sylsog: unknown section, did you mean "syslog"?'),
        ("[elsewhere]", "elsewhere: unknown section"),
        (
            "[syslog_sources]\norders = 'x'",
            'syslog_sources: unknown section, did you mean "sources"?',
        ),
        ("workers = 1", "workers: unknown section"),
        ("kafka = 3", "kafka: expected a table"),
        ("[[kafka]]", "kafka: expected a table"),
        ("[[forward]]", "forward: expected a table"),
        ("source_dir = 'x'", 'source_dir: unknown section, did you mean "sources_dir"?'),
        ("[service]\nname = 'x'", "service.name: unknown key"),
        ("[limits]\nbody_byte = 1", 'limits.body_byte: unknown key, did you mean "body_bytes"?'),
        ("[sources.a.b]", "sources.a.b: unknown key"),
        ("[sources.a]\nschema_ = 'x'", 'sources.a.schema_: unknown key, did you mean "schema"?'),
        (
            "[sources.'web.clicks']\nkye = '/x'",
            'sources."web.clicks".kye: unknown key, did you mean "key"?',
        ),
        (
            KEY + "source = ['*']",
            'auth.keys.shop.source: unknown key, did you mean "sources"?',
        ),
        (
            KEY.replace("shop", "'a.b'") + "topic = 1",
            'auth.keys."a.b".topic: unknown key',
        ),
        ("[spool]\nmax_byte = 1", 'spool.max_byte: unknown key, did you mean "max_bytes"?'),
    ],
)
def test_what_is_unknown_is_an_error(problems: Problems, text: str, problem: str) -> None:
    """A misspelt setting is never ignored, and what is close is suggested."""
    assert problems(f"{text}\n{ORDERS}") == [f"ingest.toml: {problem}"]


def test_sections_of_other_services_are_only_known(read: Read) -> None:
    """Their keys are not looked at, whatever they are."""
    text = "[http]\nlisten = 3\nx = 1\n[syslog]\nx = 1\n[forward]\nx = []\n[tracer.x.y]\n"
    assert read(ORDERS + text) == read(ORDERS)


@pytest.mark.parametrize("section", KNOWN_SECTIONS)
def test_every_section_of_the_contract_is_known(read: Read, section: str) -> None:
    """An empty one changes nothing."""
    text = f"[{section}]\n" if section != "sources" else ""
    assert read(text + ORDERS) == read(ORDERS)


@pytest.mark.parametrize(
    ("syslog", "used"),
    [
        ("[[syslog.listeners]]\nsource = 'logs'", ["logs"]),
        ("[[syslog.rules]]\nsource = 'logs'", ["logs"]),
        (
            "[syslog]\nlisteners = [{}, { source = 'logs' }]\nrules = [{ source = 'auth' }]",
            ["auth", "logs"],
        ),
        ("[syslog]\nworkers = 'x'", []),
        ("[syslog]\nlisteners = 3\nrules = [3, { source = 4 }, { name = 'x' }]", []),
        ("[[syslog.filters]]\nsource = 'logs'", []),
    ],
)
def test_sources_that_syslog_uses_are_read(read: Read, syslog: str, used: list[str]) -> None:
    """Listeners and rules name them; nothing else of that section matters here."""
    config = read(f"{ORDERS}[sources.logs]\n[sources.auth]\n{syslog}")
    closed = [name for name, source in config.named_sources().items() if not source.over_http]
    assert sorted(closed) == used


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            "[[syslog.listeners]]\nsource = 'logs'\n[[syslog.rules]]\nsource = 'auth'",
            [
                "syslog.listeners[0].source: there is no source 'logs'",
                "syslog.rules[0].source: there is no source 'auth'",
            ],
        ),
        (
            "[[syslog.rules]]\n[[syslog.rules]]\nsource = 'logs'\n[sources.logs]\nkey = '/host'",
            ["sources.logs.key: syslog.rules[1].source uses this source: its key is the host"],
        ),
        (
            "[[syslog.rules]]\nsource = 'logs'\n[sources.logs]\nschema = 'x.json'",
            [
                "sources.logs.schema: there is no file x.json",
            ],
        ),
        (
            "[[syslog.rules]]\nsource = 'logs'\n[sources.logs]\nschema = 'ingest.toml'",
            ["sources.logs.schema: syslog.rules[0].source uses this source: it has no schema"],
        ),
        (
            "[[syslog.rules]]\nsource = 'logs'\n[sources.logs]\ncors_origins = ['https://a']",
            ["sources.logs.cors_origins: syslog.rules[0].source uses this source: no web page can"],
        ),
    ],
)
def test_a_source_that_syslog_uses_exists_and_has_neither_key_nor_schema(
    problems: Problems, text: str, found: list[str]
) -> None:
    """Its key is the host name, and its data are ours."""
    assert problems(ORDERS + text) == [f"ingest.toml: {each}" for each in found]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("validate = 'warn'", ["sources.a.validate: needs a schema to warn of"]),
        ("schema = 3", ["sources.a.schema: expected a path"]),
        ("schema = { file = 'x' }", ["sources.a.schema: expected a path"]),
        ("schema = '.'", ["sources.a.schema: there is no file ."]),
        (
            "cors_origins = ['https://a', 'https://b/']",
            ["sources.a.cors_origins[1]: " + NO_ORIGIN],
        ),
        ("cors_origins = ['null']", ["sources.a.cors_origins[0]: " + NO_ORIGIN]),
        ("cors_origins = ['HTTPS://A']", ["sources.a.cors_origins[0]: " + NO_ORIGIN]),
    ],
)
def test_what_a_source_cannot_use_is_an_error(
    problems: Problems, text: str, found: list[str]
) -> None:
    """A schema is a file, an origin what browsers send."""
    assert problems("[sources.a]\n" + text) == [f"ingest.toml: {each}" for each in found]


# A file that is read once.


def test_a_schema_is_what_its_file_was_when_it_was_read(read: Read, tmp_path: Path) -> None:
    """Every worker has what was checked, whatever the file becomes."""
    (tmp_path / "order.json").write_bytes(b"{}")
    schema = read(ORDERS + "schema = 'order.json'").sources["orders"].schema_
    assert schema == FileContent(str(tmp_path / "order.json"), b"{}")
    assert "content" not in repr(schema)


# A file for each source.


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for the files of sources."""
    folder = tmp_path / "sources.d"
    folder.mkdir()
    return folder


def test_each_file_of_the_folder_is_a_source(read: Read, folder: Path) -> None:
    """It has the name of its file, next to those of the main file."""
    (folder / "clicks.toml").write_text("topic = 'web.clicks'\nkey = '/user'")
    (folder / "web.views.toml").write_text("")
    config = read("sources_dir = 'sources.d'\n" + ORDERS)
    assert config.named_sources().keys() == {"clicks", "web.views", "orders"}
    assert config.named_sources()["clicks"].topic == "web.clicks"
    assert read("sources_dir = 'sources.d'").sources.keys() == {"clicks", "web.views"}


def test_what_is_no_file_of_a_source_is_left_alone(read: Read, folder: Path) -> None:
    """Editors, humans and Kubernetes keep other things there."""
    for name in (".hidden.toml", "README.md", "old.toml.bak", "orders.json", ".toml"):
        (folder / name).write_text("no source")
    (folder / "folder.toml").mkdir()
    (folder / "..data").mkdir()
    (folder / "..data" / "clicks.toml").write_text("")
    (folder / "clicks.toml").symlink_to("..data/clicks.toml")
    assert read("sources_dir = 'sources.d'").sources.keys() == {"clicks"}


def test_a_path_starts_at_the_file_that_names_it(read: Read, folder: Path) -> None:
    """A schema lies next to its source, or where its file says."""
    (folder / "clicks.json").write_bytes(b"{}")
    (folder / "clicks.toml").write_text("schema = 'clicks.json'")
    schema = read("sources_dir = 'sources.d'").sources["clicks"].schema_
    assert schema is not None
    assert schema.path == str(folder / "clicks.json")


def test_an_error_names_the_file_of_its_source(problems: Problems, folder: Path) -> None:
    """And the key as it is there; every error at once, as everywhere."""
    (folder / "a.toml").write_text("tpoic = 'x'\nkey = 'y'\nschema = 'none.json'")
    (folder / "_b.toml").write_text("")
    (folder / "c.toml").write_text("topic = '__c'")
    (folder / "d.toml").write_text("= 3")
    (folder / "e.toml").write_bytes(b"\xff")
    (folder / "orders.toml").write_text("key = '/x'")
    found = problems("sources_dir = 'sources.d'\n" + ORDERS)
    assert sorted(found) == [
        "ingest.toml: sources.orders: is in sources.d/orders.toml as well",
        f"sources.d/_b.toml: {NO_NAME}",
        'sources.d/a.toml: key: expected a JSON Pointer such as "/customer_id" (RFC 6901)',
        "sources.d/a.toml: schema: there is no file none.json",
        'sources.d/a.toml: tpoic: unknown key, did you mean "topic"?',
        "sources.d/c.toml: topic: topics that start with '__' are Kafka's own",
        "sources.d/d.toml: is not valid TOML: Invalid statement (at line 1, column 1)",
        "sources.d/e.toml: is not UTF-8",
    ]


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("'none'", "cannot read the folder none: No such file or directory"),
        ("'ingest.toml'", "cannot read the folder ingest.toml: Not a directory"),
        ("3", "expected the path of a folder"),
        ("''", "expected the path of a folder"),
        ("['a']", "expected the path of a folder"),
    ],
)
def test_a_folder_that_is_none_is_the_only_error(
    problems: Problems, value: str, found: str
) -> None:
    """That no source is left is its echo."""
    assert problems(f"sources_dir = {value}") == [f"ingest.toml: sources_dir: {found}"]


# Features that are still to come.

SETTINGS_OF_FEATURES_TO_COME = {
    ("auth", "keys", "shop", "tracer"): True,
}


def table(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """A configuration that sets one thing."""
    found: dict[str, Any] = tomllib.loads(ORDERS + KEY)
    inner = found
    for name in path[:-1]:
        inner = inner.setdefault(name, {})
    inner[path[-1]] = value
    return found


@pytest.mark.parametrize(("path", "value"), SETTINGS_OF_FEATURES_TO_COME.items())
def test_a_setting_of_a_feature_to_come_says_so(
    problems: Problems, path: tuple[str, ...], value: Any
) -> None:
    """It is never accepted and ignored."""
    text = toml.dumps(table(path, value))
    assert problems(text) == [f"ingest.toml: {'.'.join(path)}: {NOT_YET}"]


@pytest.mark.parametrize(
    ("path", "default"),
    [
        (("auth", "keys", "shop", "tracer"), False),
    ],
)
def test_its_default_may_be_written_down(read: Read, path: tuple[str, ...], default: Any) -> None:
    """It means what happens anyway."""
    assert read(toml.dumps(table(path, default))) == read(ORDERS + KEY)


def marked(model: type[BaseModel]) -> Iterator[str]:
    """The keys, at any depth, of features to come."""
    for name, field in model.model_fields.items():
        if NotYet in field.metadata:
            yield field.alias or name
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from marked(kind)


def test_every_setting_of_a_feature_to_come_is_among_them() -> None:
    """No marked setting is left out above."""
    assert {path[-1] for path in SETTINGS_OF_FEATURES_TO_COME} == {*marked(SharedSettings)}


# The spool.


def test_the_spool_is_as_the_file_says(read: Read, tmp_path: Path) -> None:
    """Its folder starts at that of the file, and is not made by reading it."""
    text = '[spool]\nmode = "auto"\npath = "spool/here"\nmax_bytes = 20_000_000\n'
    config = read(ORDERS + text, INGEST_SPOOL__AFTER_SECONDS="2.5")
    assert config.spool.path == str(tmp_path / "spool" / "here")
    assert (config.spool.mode, config.spool.max_bytes) == ("auto", 20_000_000)
    assert config.spool.after_seconds == 2.5
    assert not (tmp_path / "spool").exists()


@pytest.mark.parametrize(
    ("setting", "found"),
    [
        ({"path": "ingest.toml"}, "path: ingest.toml is not a folder"),
        ({"path": "ingest.toml/spool"}, "path: ingest.toml is not a folder"),
        ({"after_seconds": 10}, "after_seconds: must be smaller than limits.ack_seconds (10)"),
        ({"max_bytes": 1_000_000}, "max_bytes: must be at least 16777216 (16 MiB)"),
    ],
)
def test_a_spool_that_cannot_work_is_an_error(
    problems: Problems, read: Read, setting: dict[str, Any], found: str
) -> None:
    """Only where there is to be one."""
    spool = {"mode": "auto", "path": "spool", **setting}
    text = toml.dumps({"sources": {"orders": {}}, "spool": spool})
    assert problems(text) == [f"ingest.toml: spool.{found}"]
    assert read(text, INGEST_SPOOL__MODE="off").spool.mode == "off"


# The environment.


def test_variables_override_the_file(read: Read) -> None:
    """Of each section with fixed keys, single values of every kind."""
    config = read(
        ORDERS + '[kafka]\nclient_id = "file"\ncompression = "snappy"\n[limits]\nack_seconds = 9',
        INGEST_KAFKA__BOOTSTRAP_SERVERS="a:1,b:2",
        INGEST_KAFKA__CLIENT_ID="5",
        INGEST_LIMITS__ACK_SECONDS="20",
        INGEST_LIMITS__BATCH_EVENTS="7",
        INGEST_TOPICS__CREATE="false",
        INGEST_MANAGEMENT__HTTP="[::1]:0",
        INGEST_AUTH__REQUIRED="False",
        INGEST_DEAD_LETTER__TOPIC="rejects",
        INGEST_SERVICE__LOG_LEVEL="debug",
    )
    assert (config.kafka.bootstrap_servers, config.kafka.client_id) == ("a:1,b:2", "5")
    assert config.kafka.compression == "snappy"  # what is not overridden stays
    assert (config.limits.ack_seconds, config.limits.batch_events) == (20.0, 7)
    assert config.topics.create is False
    assert config.management.http == "[::1]:0"
    assert config.auth.required is False
    assert config.dead_letter.topic == "rejects"
    assert config.service.log_level == "debug"


def test_what_a_variable_overrides_is_not_looked_at(read: Read) -> None:
    """A file that is right but for what is overridden is right."""
    text = '[kafka]\nclient_id = 3\nsasl_password = { file = "gone" }\nssl_ca_file = "gone"\n'
    config = read(
        ORDERS + text.replace("[kafka]", SASL),
        INGEST_KAFKA__CLIENT_ID="x",
        INGEST_KAFKA__SASL_PASSWORD="secret",
        INGEST_KAFKA__SSL_CA_FILE=__file__,
    )
    assert config.kafka.sasl_password is not None
    assert config.kafka.sasl_password.get_secret_value() == "secret"
    assert config.kafka.ssl_ca_file == __file__


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("INGEST_KAFKA__CLIENT_ID", "", "expected some text"),
        (
            "INGEST_KAFKA__BOOTSTRAP_SERVERS",
            "a:b",
            "expected host:port, or [address]:port for IPv6",
        ),
        ("INGEST_KAFKA__COMPRESSION", "lz4", 'expected "none", "snappy" or "zstd"'),
        ("INGEST_TOPICS__PARTITIONS", "many", "expected a whole number"),
        ("INGEST_TOPICS__PARTITIONS", "1.5", "expected a whole number"),
        ("INGEST_TOPICS__PARTITIONS", "0", "expected more than 0"),
        ("INGEST_TOPICS__CREATE", "1", "expected true or false"),
        ("INGEST_LIMITS__BODY_SECONDS", "4s", "expected a number"),
        ("INGEST_LIMITS__BODY_SECONDS", "nan", "expected a finite number"),
        ("INGEST_MANAGEMENT__HTTP", "9090", "expected host:port"),
        ("INGEST_DEAD_LETTER__TOPIC", "__x", "topics that start with '__' are Kafka's own"),
        ("INGEST_SPOOL__MODE", "on", 'expected "off" or "auto"'),
        ("INGEST_SPOOL__AFTER_SECONDS", "0", "expected more than 0"),
        ("INGEST_KAFKA__SSL_CA_FILE", "/gone", "there is no file /gone"),
        (
            "INGEST_KAFKA__REQUEST_TIMEOUT_SECONDS",
            "10",
            "must be smaller than limits.ack_seconds (10)",
        ),
        ("INGEST_TOPICS__CONFIG", "{}", "only single values can be set by the environment"),
        ("INGEST_AUTH__KEYS", "x", "only single values can be set by the environment"),
        ("INGEST_SOURCES__ORDERS", "x", "unknown variable"),
        (
            "INGEST_LIMITS__BODY_BYTE",
            "1",
            'unknown variable, did you mean "INGEST_LIMITS__BODY_BYTES"?',
        ),
    ],
)
def test_an_error_of_a_variable_names_the_variable(
    problems: Problems, name: str, value: str, text: str
) -> None:
    """The file is not blamed for what it does not say."""
    found = problems(ORDERS + '[kafka]\nsecurity_protocol = "SSL"', **{name: value})
    assert found == [f"environment: {name}: {text}"]


def test_variables_of_other_services_sections_are_not_checked(read: Read) -> None:
    """The services share one environment as they share the file."""
    assert read(ORDERS, INGEST_SYSLOG__WORKERS="x", INGEST_HTTP__LISTEN="y") == read(ORDERS)


def test_the_environment_is_that_of_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless another one is handed in."""
    path = tmp_path / "ingest.toml"
    path.write_text(ORDERS)
    monkeypatch.setenv("INGEST_KAFKA__CLIENT_ID", "from the process")
    assert load(path, SharedSettings).kafka.client_id == "from the process"
    assert load(path, SharedSettings, {}).kafka.client_id == "ingest"


# Secrets and paths.


@pytest.mark.parametrize(
    ("value", "secret"),
    [
        ('"plain"', "plain"),
        ('{ env = "PASSWORD" }', " from a variable "),
        ('{ file = "secrets/kafka" }', " from a file "),
        ('{ file = "secrets/two-lines" }', "one\ntwo"),
        ('{ file = "secrets/empty" }', ""),
    ],
)
def test_a_secret_comes_from_where_the_file_says(
    read: Read, tmp_path: Path, value: str, secret: str
) -> None:
    """As text, from a variable, or from a file, whose last line ends are no part of it."""
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "kafka").write_text(" from a file \r\n\n")
    (tmp_path / "secrets" / "two-lines").write_text("one\ntwo\n")
    (tmp_path / "secrets" / "empty").write_text("\n")
    config = read(f"{ORDERS}{SASL}sasl_password = {value}", PASSWORD=" from a variable ")
    assert config.kafka.sasl_password is not None
    assert config.kafka.sasl_password.get_secret_value() == secret


WRONG_FORM = 'expected text, { file = "…" } or { env = "…" }'


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ('{ file = "gone" }', "cannot read the file gone"),
        ('{ file = "." }', "cannot read the file ."),
        ('{ file = "latin1" }', "cannot read the file latin1"),
        ('{ file = "a\\u0000b" }', "cannot read the file a\0b"),
        ('{ env = "PASSWORD" }', "the variable PASSWORD is not set"),
        ('{ file = "a", env = "b" }', WRONG_FORM),
        ('{ env = "a", x = 1 }', WRONG_FORM),
        ("{ file = 3 }", WRONG_FORM),
        ("{}", WRONG_FORM),
        ("12345", WRONG_FORM),
        ('["s3cret"]', WRONG_FORM),
    ],
)
def test_a_secret_that_is_not_there_is_an_error_without_the_secret(
    problems: Problems, tmp_path: Path, value: str, text: str
) -> None:
    """It says where it was looked for, and never what was found."""
    (tmp_path / "latin1").write_bytes(b"s3cr\xe9t")
    found = problems(f"{ORDERS}{SASL}sasl_password = {value}")
    assert found == [f"ingest.toml: kafka.sasl_password: {text}"]


def test_relative_paths_start_at_the_file_that_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the service is started, and whether the file is named by a relative path or not."""
    folder = tmp_path / "etc"
    folder.mkdir()
    (folder / "ca.pem").touch()
    (tmp_path / "key.pem").touch()
    text = (
        '[kafka]\nsecurity_protocol = "SSL"\nssl_ca_file = "ca.pem"\nssl_cert_file = "../key.pem"\n'
    )
    (folder / "ingest.toml").write_text(ORDERS + text)
    monkeypatch.chdir(tmp_path)
    expected = (str(folder / "ca.pem"), str(tmp_path / "key.pem"))
    for path in (folder / "ingest.toml", (folder / "ingest.toml").relative_to(tmp_path)):
        kafka = load(path, SharedSettings, {}).kafka
        assert (kafka.ssl_ca_file, kafka.ssl_cert_file) == expected


def test_relative_paths_of_variables_start_at_the_working_directory(
    read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is where whoever sets them is."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "ca.pem").touch()
    monkeypatch.chdir(tmp_path / "here")
    text = f'{ORDERS}[kafka]\nsecurity_protocol = "SSL"\n'
    config = read(text, INGEST_KAFKA__SSL_CA_FILE="ca.pem")
    assert config.kafka.ssl_ca_file == str(tmp_path / "here" / "ca.pem")


def test_links_stay_as_they_are(read: Read, tmp_path: Path) -> None:
    """What is mounted may be switched to another file later."""
    (tmp_path / "2026.pem").touch()
    (tmp_path / "ca.pem").symlink_to("2026.pem")
    text = f'{ORDERS}[kafka]\nsecurity_protocol = "SSL"\nssl_ca_file = "ca.pem"\n'
    assert read(text).kafka.ssl_ca_file == str(tmp_path / "ca.pem")


@pytest.mark.parametrize("key", ["ssl_ca_file", "ssl_cert_file", "ssl_key_file"])
@pytest.mark.parametrize("name", ["gone.pem", "."])
def test_a_file_that_is_named_must_be_there(problems: Problems, key: str, name: str) -> None:
    """A folder is no file."""
    text = f'{ORDERS}[kafka]\nsecurity_protocol = "SSL"\n{key} = "{name}"\n'
    assert f"ingest.toml: kafka.{key}: there is no file {name}" in problems(text)


# Which file.


def test_without_a_name_the_file_is_the_one_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``ingest.toml``; its problems are told with that name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ingest.toml").write_text(ORDERS + '[kafka]\nclient_id = "x"')
    assert load(None, SharedSettings, {}).kafka.client_id == "x"
    (tmp_path / "ingest.toml").write_text(ORDERS + "x = 1")
    with pytest.raises(ConfigError, match=r"^ingest\.toml: sources\.orders\.x: unknown key$"):
        load(None, SharedSettings, {})


def test_without_any_file_there_are_the_defaults_and_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They have no source, which is the only problem with them."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        load(None, SharedSettings, {"INGEST_KAFKA__CLIENT_ID": "x"})
    text = "defaults: sources: no source is configured: add [sources.NAME]"
    assert caught.value.problems == (text,)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"a = ", "is not valid TOML: "),
        (b"[a]\n[a]", "is not valid TOML: "),
        (b"a = 1\na = 2", "is not valid TOML: "),
        (b"a = " + b"1" * 5000, "is not valid TOML: "),
        (b"a = " + b"[" * 100_000, "is not valid TOML: "),
        (b'a = "\xff"', "is not UTF-8"),
    ],
)
def test_a_file_that_is_no_toml_is_one_error(tmp_path: Path, content: bytes, text: str) -> None:
    """The error names the file, and says why."""
    path = tmp_path / "x.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(path, SharedSettings, {})
    (problem,) = caught.value.problems
    assert problem.startswith(f"{path}: {text}")


@pytest.mark.parametrize(
    ("name", "reason"), [("gone.toml", "No such file or directory"), (".", "Is a directory")]
)
def test_a_file_that_cannot_be_read_is_one_error(tmp_path: Path, name: str, reason: str) -> None:
    """A named file must be there."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / name, SharedSettings, {})
    assert caught.value.problems == (f"{tmp_path / name}: cannot be read: {reason}",)


# The effective configuration.

TOPICS = st.from_regex(r"[a-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
SCALARS = (
    st.text() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
)
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters='"\\'))
POINTERS = st.lists(
    NAMES.map(lambda token: "/" + token.replace("~", "~0").replace("/", "~1")), min_size=1
).map("".join)
SOURCES = st.fixed_dictionaries(
    {}, optional={"topic": TOPICS, "key": POINTERS, "type": st.text(min_size=1)}
)


def keys(sources: dict[str, list[str]]) -> dict[str, Any]:
    """Keys of these names for these sources, each with a digest of its own."""
    return {
        name: {"sha256": [f"{number:064x}"], "sources": globs}
        for number, (name, globs) in enumerate(sources.items())
    }


KEYS = st.dictionaries(st.text(), st.lists(st.text(), min_size=1, max_size=3), max_size=3)
CONFIGURATIONS = st.fixed_dictionaries(
    {
        "sources": st.dictionaries(TOPICS, SOURCES, min_size=1, max_size=3),
        "auth": st.fixed_dictionaries({"required": st.booleans(), "keys": KEYS.map(keys)}),
        "dead_letter": st.just({"topic": "Rejects"}),
    },
    optional={
        "topics": st.fixed_dictionaries({"config": st.dictionaries(st.text(), SCALARS)}),
        "kafka": st.fixed_dictionaries({"client_id": st.text(min_size=1)}),
        "service": st.fixed_dictionaries({"prestop_seconds": st.floats(0, 1e300) | st.integers(0)}),
    },
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that is written again and again."""
    return tmp_path_factory.mktemp("config") / "ingest.toml"


@settings(max_examples=40, deadline=None)  # the machine may be busy
@given(CONFIGURATIONS)
def test_what_is_printed_loads_back_to_the_same(path: Path, data: dict[str, Any]) -> None:
    """Every configuration survives, whatever its names and texts are made of."""
    path.write_text(toml.dumps(data), encoding="utf-8")
    config = load(path, SharedSettings, {})
    path.write_text(dump(config), encoding="utf-8")
    again = load(path, SharedSettings, {})
    assert again == config
    assert repr(again) == repr(config)  # in which true, 1 and 1.0 differ
    assert dump(again) == dump(config)


def test_what_is_printed_is_complete(read: Read) -> None:
    """Every section that the service reads, with every key that has a value, under its own name."""
    printed = tomllib.loads(dump(read(ORDERS + KEY)))
    assert [*printed] == [name for name in KNOWN_SECTIONS if name in SharedSettings.model_fields]
    assert printed["sources"] == {"orders": {"validate": "enforce", "cors_origins": []}}
    assert printed["limits"]["event_bytes"] == 921_600
    with_value = {name for name, value in KafkaSettings() if value is not None}
    assert printed["kafka"].keys() == with_value
    assert printed["auth"]["keys"]["shop"]["sha256"] == [DIGEST]


@pytest.mark.parametrize("value", ['"s3cret"', '{ env = "PASSWORD" }', '{ file = "secret" }'])
def test_secrets_are_masked(read: Read, tmp_path: Path, value: str) -> None:
    """Wherever they come from; the rest loads back as it was."""
    (tmp_path / "secret").write_text("s3cret")
    config = read(f"{ORDERS}{SASL}sasl_password = {value}", PASSWORD="s3cret")
    printed = dump(config)
    assert "s3cret" not in printed + repr(config) + str(config)
    assert tomllib.loads(printed)["kafka"]["sasl_password"] == "***"
    again = read(printed)
    unmasked = again.kafka.model_copy(update={"sasl_password": config.kafka.sasl_password})
    assert again.model_copy(update={"kafka": unmasked}) == config
