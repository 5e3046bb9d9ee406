"""The configuration of the HTTP front door: its own section, and what does not go together."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from pydantic import ValidationError

from ingest import toml
from ingest.config import dump, load
from ingest.errors import ConfigError
from ingest.settings import FileContent
from ingest_http.config import HttpConfig
from ingest_http.settings import HttpSettings, TlsSettings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CERT = FileContent("a.pem", b"")
DIGEST = "0" * 64
MINIMAL = f'[sources.orders]\n[auth.keys.shop]\nsha256 = ["{DIGEST}"]\nsources = ["*"]\n'
CONTRACT = """
[service]
prestop_seconds = 5              # keeps serving after "not ready", with Connection: close
drain_seconds = 30
log_level = "info"
log_format = "auto"              # json, or readable on a terminal

[kafka]
bootstrap_servers = "localhost:9092"
client_id = "ingest"
compression = "zstd"             # none | snappy | zstd
linger_seconds = 0.002
request_timeout_seconds = 4      # must be smaller than limits.ack_seconds
security_protocol = "PLAINTEXT"  # SSL | SASL_PLAINTEXT | SASL_SSL
# ssl_ca_file, ssl_cert_file, ssl_key_file, sasl_mechanism, sasl_username, sasl_password

[topics]
create = true                    # create configured topics that are missing
partitions = 4
replication_factor = -1          # the broker's default
config = {}

[management]                     # one address for each service
http = "127.0.0.1:9090"
syslog = "127.0.0.1:9091"
forward = "127.0.0.1:9092"
tracer = "127.0.0.1:9093"

[http]
listen = "0.0.0.0:8080"
workers = 1                      # "auto" = one per core
keepalive_seconds = 75
header_seconds = 10
handshake_seconds = 10
max_age_seconds = 300            # connections get Connection: close after this, with jitter
access_log_sample = 0.01
trusted_proxies = []             # networks whose X-Forwarded-For counts
tls = { cert = "…", key = "…", client_ca = "…", client_cert = "optional" }   # optional | required

[limits]
body_bytes = 10_485_760
decoded_bytes = 10_485_760
event_bytes = 921_600
batch_events = 10_000
body_seconds = 10
ack_seconds = 10                 # from the last byte of the body to the answer
inflight_bytes = 268_435_456
connections = 4096
connections_per_address = 1024

[auth]
required = true                  # false only if said so, with a loud warning at start
[auth.keys.shop]
sha256 = ["0000000000000000000000000000000000000000000000000000000000000000"]
sources = ["shop-*"]
events_per_second = 0            # 0 = no quota; also bytes_per_second, concurrent_requests
tracer = false
[auth.certificates.billing]
names = ["billing.example.com"]  # subject alternative names
sources = ["billing"]

[sources.orders]
topic = "orders"                 # default: the source's name
key = "/customer_id"             # JSON Pointer into the event (objects only)
type = "order.created"           # CloudEvents type when the event has no "type"
schema = "schemas/order.json"    # JSON Schema 2020-12; remote references are refused
validate = "enforce"             # off | warn (produced, counted, listed) | enforce
cors_origins = []

[dead_letter]
mode = "on"                      # on | off
topic = "ingest.rejected"

[spool]
mode = "off"                     # off | auto: used while Kafka is unhealthy
path = "/var/lib/ingest/spool"
max_bytes = 10_737_418_240
min_free_bytes = 1_073_741_824
after_seconds = 3

[syslog]
workers = 1

[[syslog.listeners]]
name = "udp"
protocol = "udp"                 # udp | tcp | relp
listen = "0.0.0.0:5514"          # or "unix:/run/ingest/log.sock"
source = "syslog"
allow_from = ["10.0.0.0/8"]      # default: everyone
framing = "auto"                 # tcp: auto | lf | nul | octet
tls = { cert = "…", key = "…", client_ca = "…", allowed_names = ["*.example.com"] }   # tcp, relp
timezone = "UTC"                 # of senders that do not say theirs
frame_bytes = 65_536
oversize = "truncate"            # truncate | dead_letter | close
receive_buffer_bytes = 8_388_608 # udp
tracer_from = []

[[syslog.rules]]                 # first match wins; default: the listener's source
when = { facility = ["auth", "authpriv"], severity_at_least = "warning", listener = "udp" }
source = "auth-logs"

[forward]
group = "ingest-forward"
hash_key = { env = "PII_HASH_KEY" }

[[forward.routes]]
name = "orders-to-warehouse"
from = ["orders", "web-*"]
to = "warehouse.orders"
"""
"""The example that shows every section, as users are promised it."""
EXAMPLE_ONLY = ("tls", "keys", "certificates", "documentation_url")
"""What is in a fixed section of it as an example, and absent by default; and what only we have."""


def problems(path: Path, text: str, **environ: str) -> list[str]:
    """What is wrong with a file of this text, less the file's name."""
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load(path, HttpConfig, environ)
    return [each.removeprefix(f"{path}: ") for each in caught.value.problems]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a configuration can be written."""
    return tmp_path / "ingest.toml"


@pytest.fixture
def read(path: Path) -> Callable[..., HttpConfig]:
    """Reads a file of this text in this environment."""

    def read(text: str, **environ: str) -> HttpConfig:
        path.write_text(text, encoding="utf-8")
        return load(path, HttpConfig, environ)

    return read


# The contract's example.


def test_the_example_has_no_error_but_missing_files_and_sources(path: Path) -> None:
    """Whatever the contract shows is known: nobody's copy of it is called misspelt."""
    assert problems(path, CONTRACT) == [
        "sources.orders.schema: there is no file schemas/order.json",
        "http.tls.cert: there is no file …",
        "http.tls.key: there is no file …",
        "http.tls.client_ca: there is no file …",
        "syslog.listeners[0].source: there is no source 'syslog'",
        "syslog.rules[0].source: there is no source 'auth-logs'",
    ]


def test_the_example_shows_the_defaults(read: Callable[..., HttpConfig]) -> None:
    """Every single value of the fixed sections, and no key that the example does not show."""
    defaults = tomllib.loads(dump(read(MINIMAL)))
    shown = tomllib.loads(CONTRACT)
    for section in defaults.keys() - {"sources"}:
        wanted = {key: each for key, each in shown[section].items() if key not in EXAMPLE_ONLY}
        found = {key: each for key, each in defaults[section].items() if key not in EXAMPLE_ONLY}
        assert (section, found) == (section, wanted)
    assert defaults.keys() == shown.keys() - {"syslog", "forward"}


def test_the_example_works_without_what_is_to_come(read: Callable[..., HttpConfig]) -> None:
    """Once what the errors name is left out, it can be used."""
    shown = tomllib.loads(CONTRACT)
    del shown["http"]["tls"], shown["auth"]["certificates"], shown["sources"]["orders"]["schema"]
    shown["sources"] |= {"syslog": {}, "auth-logs": {}}
    config = read(toml.dumps(shown))
    sources = config.named_sources().values()
    assert {each.name: each.over_http for each in sources} == {
        "orders": True,
        "syslog": False,
        "auth-logs": False,
    }


# The section of this service.


def test_keys_and_defaults_of_tls_are_those_of_the_contract() -> None:
    """Certificates of clients are optional unless they are required."""
    tls = TlsSettings(cert=CERT, key=CERT)
    assert (tls.client_ca, tls.client_cert) == (None, "optional")
    assert TlsSettings.model_fields.keys() == {"cert", "key", "client_ca", "client_cert"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("listen", "8080"),
        ("listen", "unix:/run/ingest.sock"),
        ("workers", 0),
        ("workers", 1.5),
        ("workers", "all"),
        ("workers", True),
        ("keepalive_seconds", 0),
        ("header_seconds", 0),
        ("handshake_seconds", 0),
        ("max_age_seconds", 0),
        ("access_log_sample", -0.1),
        ("access_log_sample", 1.1),
        ("trusted_proxies", "10.0.0.0/8"),
        ("trusted_proxies", ["10.0.0.1/8"]),
        ("trusted_proxies", ["proxy.example.com"]),
        ("documentation_url", ""),
        ("documentation_url", "a b"),
        ("documentation_url", "https://example.com/\r\n"),
        ("tls", {"cert": CERT}),
        ("tls", {"cert": CERT, "key": CERT, "client_cert": "no"}),
        ("tls", {"cert": CERT, "key": CERT, "ca": CERT}),
    ],
)
def test_values_that_mean_nothing_are_refused(key: str, value: Any) -> None:
    """Whatever is wrong with a value is said of its key."""
    with pytest.raises(ValidationError) as caught:
        HttpSettings.model_validate({key: value})
    assert {each["loc"][0] for each in caught.value.errors()} == {key}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("listen", "[::1]:0"),
        ("workers", 16),
        ("workers", "auto"),
        ("access_log_sample", 0),
        ("access_log_sample", 1),
        ("keepalive_seconds", 30),
        ("handshake_seconds", 0.5),
        ("trusted_proxies", ["10.0.0.0/8", "2001:db8::/32", "192.0.2.1"]),
        ("documentation_url", "https://wiki.example.com/ingest"),
    ],
)
def test_values_of_the_contract_are_taken(
    read: Callable[..., HttpConfig], key: str, value: Any
) -> None:
    """Whole numbers too, where a number is meant."""
    config = read(toml.dumps({"http": {key: value}}) + MINIMAL)
    assert getattr(config.http, key) == value


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("listen", "127.0.0.1:0", "127.0.0.1:0"),
        ("workers", "auto", "auto"),
        ("workers", "4", 4),
        ("access_log_sample", "1", 1.0),
        ("max_age_seconds", "60.5", 60.5),
    ],
)
def test_variables_override_the_section(
    read: Callable[..., HttpConfig], name: str, text: str, value: Any
) -> None:
    """``INGEST_HTTP__LISTEN`` and its like."""
    config = read(
        f'[http]\nlisten = "h:1"\nworkers = 2\n{MINIMAL}', **{f"INGEST_HTTP__{name.upper()}": text}
    )
    assert getattr(config.http, name) == value


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("LISTEN", "8080", "expected host:port"),
        ("WORKERS", "all", 'expected a whole number or "auto"'),
        ("WORKERS", "0", 'expected more than 0 or "auto"'),
        ("TLS", "cert", "only single values can be set by the environment"),
        ("TRUSTED_PROXIES", "10.0.0.0/8", "only single values can be set by the environment"),
        ("HANDSHAKE_SECONDS", "0", "expected more than 0"),
        ("LISTENS", "x", 'unknown variable, did you mean "INGEST_HTTP__LISTEN"?'),
    ],
)
def test_an_error_of_a_variable_names_the_variable(
    path: Path, name: str, text: str, problem: str
) -> None:
    """It is found in the environment, not in the file."""
    found = problems(path, MINIMAL, **{f"INGEST_HTTP__{name}": text})
    assert found == [f"environment: INGEST_HTTP__{name}: {problem}"]


# Certificates and schemas.

CERTIFIED = """
[http]
tls = { cert = "cert.pem", key = "key.pem", client_ca = "ca.pem" }
[auth.certificates.billing]
names = ["billing.example.com"]
sources = ["billing"]
"""


TWICE = """sources = ["a"]
[auth.certificates.other]
names = ["billing.example.com"]
sources = ["b"]"""
NO_CA = "auth.certificates: needs http.tls.client_ca: without it nobody can show a certificate"


@pytest.fixture(scope="session")
def pems() -> dict[str, bytes]:
    """A certificate, its key, and who signed it."""
    authority = trustme.CA()
    own = authority.issue_cert("gateway.example.com")
    return {
        "cert.pem": own.cert_chain_pems[0].bytes(),
        "key.pem": own.private_key_pem.bytes(),
        "ca.pem": authority.cert_pem.bytes(),
    }


@pytest.fixture
def files(path: Path, pems: dict[str, bytes]) -> Path:
    """The folder of the configuration, with these files in it."""
    for name, content in pems.items():
        (path.parent / name).write_bytes(content)
    return path.parent


def test_certificates_are_what_their_files_were(
    read: Callable[..., HttpConfig], files: Path, pems: dict[str, bytes]
) -> None:
    """They are read once, and what is printed are their paths."""
    config = read(CERTIFIED + MINIMAL)
    tls = config.http.tls
    assert tls is not None
    assert (tls.cert.content, tls.key.content) == (pems["cert.pem"], pems["key.pem"])
    assert tomllib.loads(dump(config))["http"]["tls"]["key"] == str(files / "key.pem")
    assert "PRIVATE" not in dump(config) + repr(config)


def test_certificates_alone_are_credentials(read: Callable[..., HttpConfig], files: Path) -> None:
    """Where nobody has a key, and one is required."""
    assert files
    config = read(CERTIFIED + "[sources.orders]")
    assert (config.auth.required, config.auth.keys) == (True, {})


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        (
            ', client_ca = "ca.pem"',
            "",
            [
                NO_CA,
            ],
        ),
        (
            ', client_ca = "ca.pem"',
            ', client_cert = "required"',
            [
                NO_CA,
                "http.tls.client_cert: needs client_ca",
            ],
        ),
        (
            'sources = ["billing"]',
            TWICE,
            ["auth.certificates.other.names: shares a name with auth.certificates.billing"],
        ),
        ('"key.pem"', '"none.pem"', ["http.tls.key: there is no file none.pem"]),
        (
            "tls = {",
            "# tls = {",
            [
                NO_CA,
            ],
        ),
    ],
)
def test_certificates_that_could_never_work_are_errors(
    path: Path, files: Path, before: str, after: str, found: list[str]
) -> None:
    """They are said before the service starts."""
    assert files
    assert problems(path, CERTIFIED.replace(before, after) + MINIMAL) == found


@pytest.mark.parametrize("name", ["cert.pem", "key.pem", "ca.pem"])
def test_a_file_that_is_no_certificate_or_key_is_an_error(
    path: Path, files: Path, name: str
) -> None:
    """It is named, and nothing of it is shown."""
    (files / name).write_text("secret")
    (found,) = problems(path, CERTIFIED + MINIMAL)
    assert found.startswith("http.tls: ")
    assert name in found
    assert "secret" not in found


def test_a_key_of_another_certificate_is_an_error(
    path: Path, files: Path, pems: dict[str, bytes]
) -> None:
    """Every client would be turned away."""
    other = trustme.CA().issue_cert("other.example.com").private_key_pem.bytes()
    assert other != pems["key.pem"]
    (files / "key.pem").write_bytes(other)
    (found,) = problems(path, CERTIFIED + MINIMAL)
    assert found.startswith("http.tls: ")


@pytest.mark.parametrize("schema", ["{", "3", '{"type": "nonsense"}', '{"$ref": "https://a/b"}'])
def test_a_schema_that_cannot_be_used_is_an_error(path: Path, schema: str) -> None:
    """It is found at the start, not with the first event."""
    (path.parent / "order.json").write_text(schema)
    text = MINIMAL.replace("[sources.orders]", "[sources.orders]\nschema = 'order.json'")
    (found,) = problems(path, text)
    assert found.startswith("sources.orders.schema: ")
    assert "\n" not in found


def test_topics_are_those_that_this_service_writes_to(read: Callable[..., HttpConfig]) -> None:
    """Not those of syslog; the dead letter topic where it is on."""
    text = MINIMAL + "[sources.a]\ntopic = 'b'\n[sources.logs]\n[[syslog.rules]]\nsource = 'logs'\n"
    assert read(text).topics_written() == {"orders", "b", "ingest.rejected"}
    off = "[dead_letter]\nmode = 'off'"
    assert read(text + off).topics_written() == {"orders", "b"}


# What does not go together.

WITHOUT_KEYS = "[sources.orders]\n"
NO_KEY = "no key is configured, so nobody could send: see `ingest-http new-key NAME`"
TAKEN = "management.http: is taken by http.listen "


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            WITHOUT_KEYS,
            [f"auth.keys: {NO_KEY}"],
        ),
        (
            MINIMAL.replace("[sources.orders]", ""),
            ["sources: no source is configured: add [sources.NAME]"],
        ),
        (
            MINIMAL + "[[syslog.rules]]\nsource = 'orders'",
            ["sources: every source is used by syslog: none is left for HTTP"],
        ),
        (
            MINIMAL + "[http]\nlisten = '127.0.0.1:9090'",
            [TAKEN + "(127.0.0.1:9090)"],
        ),
        (
            MINIMAL + "[http]\nlisten = '0.0.0.0:9090'",
            [TAKEN + "(0.0.0.0:9090)"],
        ),
        (MINIMAL + "[http]\nlisten = ':9090'", [TAKEN + "(:9090)"]),
        (MINIMAL + "[http]\nlisten = '[::]:9090'", [TAKEN + "([::]:9090)"]),
        (
            MINIMAL + "[http]\nlisten = '192.0.2.1:80'\n[management]\nhttp = '0.0.0.0:80'",
            [TAKEN + "(192.0.2.1:80)"],
        ),
        (
            MINIMAL + "[http]\nlisten = 'Front:80'\n[management]\nhttp = 'front:80'",
            [TAKEN + "(Front:80)"],
        ),
        (
            MINIMAL + "[http]\nlisten = 'x'\n[management]\nhttp = '127.0.0.1:8080'",
            ["http.listen: expected host:port"],
        ),
        (
            "[sources.orders]\ntpoic = 'x'\n[auth]\nrequired = 1\n[http]\nlisten = 1",
            [
                "http.listen: expected text",
                "auth.required: expected true or false",
                'sources.orders.tpoic: unknown key, did you mean "topic"?',
            ],
        ),
    ],
)
def test_what_could_never_work_is_an_error(path: Path, text: str, found: list[str]) -> None:
    """It is said before the service starts, by the key to look at."""
    assert sorted(problems(path, text)) == sorted(found)


@pytest.mark.parametrize(
    "text",
    [
        MINIMAL + "[http]\nlisten = '0.0.0.0:0'\n[management]\nhttp = '0.0.0.0:0'",
        MINIMAL + "[http]\nlisten = '192.0.2.1:9090'",
        MINIMAL + "[http]\nlisten = '0.0.0.0:9091'",
        MINIMAL + "[sources.logs]\n[[syslog.rules]]\nsource = 'logs'",
        MINIMAL.replace('"*"', '"covers-no-source-*"'),
        WITHOUT_KEYS + "[auth]\nrequired = false",
    ],
)
def test_what_only_looks_odd_is_fine(read: Callable[..., HttpConfig], text: str) -> None:
    """Two ports of the system's choice differ; keys for sources to come are ready for them."""
    assert read(text).sources


def test_anybody_may_write_only_where_that_is_said(read: Callable[..., HttpConfig]) -> None:
    """A key is required by default, also where keys are missing."""
    assert read(MINIMAL).auth.required is True
    assert read(WITHOUT_KEYS + "[auth]\nrequired = false").auth.required is False
