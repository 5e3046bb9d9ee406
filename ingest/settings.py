"""The settings that the services share, one frozen model for each section of the file.

Names, defaults and units are those of the contract. Each service adds the models of its own
sections. A field marked `NotYet` takes nothing but its default: a setting is never accepted and
ignored.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    SecretStr,
)

from ingest.config_problems import KeyPath, dotted
from ingest.sources import Source, pointer_tokens

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
TOPIC_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")
POINTER = re.compile(r"(/([^/~]|~[01])*)+")
HOST_AND_PORT = re.compile(r"(?:\[([^\]]*)\]|([A-Za-z0-9._-]*))(?::([0-9]{1,5}))?")
ORIGIN = re.compile(r"https?://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")
"""As browsers write it: in small letters, without a path (RFC 6454, section 6.1)."""
EVERY_ADDRESS = ("0.0.0.0", "::")
"""IPv4's and IPv6's; the latter takes IPv4 as well."""
LEAST_SPOOL_BYTES = 16 << 20
"""Less is filled by a few batches, and files have to be large to be worth it."""
SASL_KEYS = ("sasl_mechanism", "sasl_username", "sasl_password")
SSL_KEYS = ("ssl_ca_file", "ssl_cert_file", "ssl_key_file")


class NotYet:
    """Marks a field whose feature is not there yet."""


class File:
    """Marks a path that starts at the folder of the file that names it, and must be a file."""


@dataclass(frozen=True, slots=True)
class FileContent:
    """A file that was read once: what was checked is what every worker uses.

    In the configuration it is a path, which starts at the folder of the file that names it.
    """

    path: str
    content: bytes = field(repr=False)


class Folder:
    """Marks a path that starts at the folder of the file that names it, and may be made later."""


class Settings(BaseModel):
    """What every section has in common: frozen, and unknown keys are errors."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, hide_input_in_errors=True, allow_inf_nan=False
    )


def _is_address(value: str) -> str:
    split_address(value)
    return value


def split_address(value: str) -> tuple[str, int]:
    """Host and port of ``host:port``, ``[v6]:port``, or ``:port`` for every address.

    Raises:
        ValueError: it is none of them.
    """
    host, port = _host_and_port(value)
    if port is None:
        raise ValueError("expected host:port")
    return host or EVERY_ADDRESS[0], port


def overlap(one: str, other: str) -> bool:
    """Whether only one of two ``host:port`` could be listened on."""
    (host, port), (other_host, other_port) = split_address(one), split_address(other)
    if port == 0 or port != other_port:
        return False
    return host.lower() == other_host.lower() or bool({host, other_host} & {*EVERY_ADDRESS})


def _host_and_port(value: str) -> tuple[str, int | None]:
    found = HOST_AND_PORT.fullmatch(value)
    if found is None:
        raise ValueError("expected host:port, or [address]:port for IPv6")
    v6, host, port = found.groups()
    if v6 is not None:
        _check_v6(v6)
    if port is not None and int(port) > 65535:
        raise ValueError("expected a port from 0 to 65535")
    return v6 or host, None if port is None else int(port)


def _check_v6(value: str) -> None:
    try:
        IPv6Address(value)
    except ValueError:
        raise ValueError("expected an IPv6 address between the brackets") from None


def _are_brokers(value: str) -> str:
    for each in value.split(","):
        host, port = _host_and_port(each.strip())
        if not host or port == 0:
            raise ValueError("expected host:port, several by commas")
    return value


def _is_source_name(value: str) -> str:
    if not SOURCE_NAME.fullmatch(value):
        raise ValueError("is no name for a source: letters, digits, '.', '_' and '-', at most 128")
    return value


def _is_pointer(value: str) -> str:
    if not POINTER.fullmatch(value):
        raise ValueError('expected a JSON Pointer such as "/customer_id" (RFC 6901)')
    if any(character in '"\\' or character < " " for character in pointer_tokens(value)[0]):
        raise ValueError("expected a first name without quotes, backslashes and control characters")
    return value


def _is_replication(value: int) -> int:
    if value < 1 and value != -1:
        raise ValueError("expected at least 1, or -1 for the broker's default")
    return value


def _is_topic(value: str) -> str:
    if not TOPIC_NAME.fullmatch(value) or value in {".", ".."}:
        raise ValueError("expected up to 249 letters, digits, '.', '_' or '-'")
    return value


def _is_digest(value: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", value):
        raise ValueError("expected 64 lower-case hexadecimal digits (SHA-256 of the key)")
    return value


def _is_network(value: str) -> str:
    try:
        ip_network(value)
    except ValueError:
        text = 'expected an address or a network such as "10.0.0.0/8", its host bits zero'
        raise ValueError(text) from None
    return value


def _is_origin(value: str) -> str:
    if value != "*" and not ORIGIN.fullmatch(value):
        raise ValueError('expected an origin such as "https://shop.example.com", or "*"')
    return value


Address = Annotated[str, AfterValidator(_is_address)]
Network = Annotated[str, AfterValidator(_is_network)]
Origin = Annotated[str, AfterValidator(_is_origin)]
Brokers = Annotated[str, AfterValidator(_are_brokers)]
Replication = Annotated[int, AfterValidator(_is_replication)]
SourceName = Annotated[str, AfterValidator(_is_source_name)]
Pointer = Annotated[str, AfterValidator(_is_pointer)]
TopicName = Annotated[str, AfterValidator(_is_topic)]
Digest = Annotated[str, AfterValidator(_is_digest)]
Seconds = Annotated[float, Field(ge=0)]


class ServiceSettings(Settings):
    """The section [service]."""

    prestop_seconds: Seconds = 5.0
    drain_seconds: PositiveFloat = 30.0
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "text"] = "auto"


class KafkaSettings(Settings):
    """The section [kafka]."""

    bootstrap_servers: Brokers = "localhost:9092"
    client_id: str = Field(default="ingest", min_length=1)
    compression: Literal["none", "snappy", "zstd"] = "zstd"
    linger_seconds: Seconds = 0.002
    request_timeout_seconds: PositiveFloat = 4.0
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    ssl_ca_file: Annotated[str | None, File] = None
    ssl_cert_file: Annotated[str | None, File] = None
    ssl_key_file: Annotated[str | None, File] = None
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None


class TopicSettings(Settings):
    """The section [topics]."""

    create: bool = True
    partitions: PositiveInt = 4
    replication_factor: Replication = -1
    config: dict[str, str | int | float | bool] = Field(default_factory=dict)


class ManagementSettings(Settings):
    """The section [management]: one address for each service."""

    http: Address = "127.0.0.1:9090"
    syslog: Address = "127.0.0.1:9091"
    forward: Address = "127.0.0.1:9092"
    tracer: Address = "127.0.0.1:9093"


class LimitSettings(Settings):
    """The section [limits]; every one holds for each worker process."""

    body_bytes: PositiveInt = 10_485_760
    decoded_bytes: PositiveInt = 10_485_760
    event_bytes: PositiveInt = 921_600
    batch_events: PositiveInt = 10_000
    body_seconds: PositiveFloat = 10.0
    ack_seconds: PositiveFloat = 10.0
    inflight_bytes: PositiveInt = 268_435_456
    connections: PositiveInt = 4096
    connections_per_address: PositiveInt = 1024


class KeySettings(Settings):
    """The section [auth.keys.*]."""

    sha256: list[Digest] = Field(min_length=1, max_length=2)
    sources: list[str] = Field(min_length=1)
    events_per_second: int = Field(default=0, ge=0)
    bytes_per_second: int = Field(default=0, ge=0)
    concurrent_requests: int = Field(default=0, ge=0)
    tracer: Annotated[bool, NotYet] = False


class CertificateSettings(Settings):
    """The section [auth.certificates.*]."""

    names: list[str] = Field(min_length=1)
    sources: list[str] = Field(min_length=1)


class AuthSettings(Settings):
    """The section [auth]."""

    required: bool = True
    keys: dict[str, KeySettings] = Field(default_factory=dict)
    certificates: dict[str, CertificateSettings] = Field(default_factory=dict)


class SourceSettings(Settings):
    """The section [sources.*]."""

    topic: TopicName | None = None
    key: Pointer | None = None
    type: str | None = Field(default=None, min_length=1)
    schema_: FileContent | None = Field(default=None, alias="schema")
    validate_: Literal["off", "warn", "enforce"] = Field(default="enforce", alias="validate")
    cors_origins: list[Origin] = Field(default_factory=list)

    def named(self, name: str, *, over_http: bool = True) -> Source:
        """The source of this name."""
        return Source(
            name=name,
            topic=self.topic or name,
            event_type=self.type or name,
            key=pointer_tokens(self.key) if self.key is not None else None,
            over_http=over_http,
        )


class DeadLetterSettings(Settings):
    """The section [dead_letter]."""

    mode: Literal["on", "off"] = "on"
    topic: TopicName = "ingest.rejected"


class SpoolSettings(Settings):
    """The section [spool]."""

    mode: Literal["off", "auto"] = "off"
    path: Annotated[str, Folder] = "/var/lib/ingest/spool"
    max_bytes: PositiveInt = 10_737_418_240
    min_free_bytes: Annotated[int, Field(ge=0)] = 1_073_741_824
    after_seconds: PositiveFloat = 3.0


class SharedSettings(Settings):
    """The sections that every service reads, and the names that other services' sections use.

    Attributes:
        needs_sources: without any source the service could not do anything.
        syslog_sources: source -> where in the file syslog is told to use it.
    """

    needs_sources: ClassVar[bool] = True
    service: ServiceSettings = ServiceSettings()
    kafka: KafkaSettings = KafkaSettings()
    topics: TopicSettings = TopicSettings()
    management: ManagementSettings = ManagementSettings()
    limits: LimitSettings = LimitSettings()
    auth: AuthSettings = AuthSettings()
    sources: dict[SourceName, SourceSettings] = Field(default_factory=dict)
    dead_letter: DeadLetterSettings = DeadLetterSettings()
    spool: SpoolSettings = SpoolSettings()
    syslog_sources: dict[str, KeyPath] = Field(default_factory=dict)

    def named_sources(self) -> dict[str, Source]:
        """Every source, by name."""
        return {
            name: source.named(name, over_http=name not in self.syslog_sources)
            for name, source in self.sources.items()
        }

    def conflicts(self) -> Iterator[Conflict]:
        """What is fine by itself but not together."""
        yield from _kafka(self.kafka)
        yield from _limits(self)
        yield from _spool(self)
        yield from _digests(self.auth)
        if self.needs_sources and not self.sources:
            yield Conflict(("sources",), "no source is configured: add [sources.NAME]")
        yield from _topics(self)
        yield from _schemas(self)
        yield from _syslog(self)


class Conflict(NamedTuple):
    """A conflict between settings.

    Attributes:
        path: where to look.
        text: what is wrong, for people.
        others: the other settings that are involved.
    """

    path: KeyPath
    text: str
    others: tuple[KeyPath, ...] = ()


def _kafka(kafka: KafkaSettings) -> Iterator[Conflict]:
    protocol = kafka.security_protocol
    involved = (("kafka", "security_protocol"),)
    given = {key for key in (*SASL_KEYS, *SSL_KEYS) if getattr(kafka, key) is not None}
    for key in SASL_KEYS:
        if protocol.startswith("SASL_") and key not in given:
            yield Conflict(("kafka", key), f"is required for {protocol}", involved)
        if not protocol.startswith("SASL_") and key in given:
            text = f"needs security_protocol SASL_PLAINTEXT or SASL_SSL, not {protocol}"
            yield Conflict(("kafka", key), text, involved)
    for key in SSL_KEYS:
        if not protocol.endswith("SSL") and key in given:
            text = f"needs security_protocol SSL or SASL_SSL, not {protocol}"
            yield Conflict(("kafka", key), text, involved)
    if kafka.ssl_key_file is not None and kafka.ssl_cert_file is None:
        yield Conflict(("kafka", "ssl_cert_file"), "is required for ssl_key_file")


def _limits(settings: SharedSettings) -> Iterator[Conflict]:
    limits = settings.limits
    if settings.kafka.request_timeout_seconds >= limits.ack_seconds:
        text = f"must be smaller than limits.ack_seconds ({limits.ack_seconds:g})"
        yield Conflict(("kafka", "request_timeout_seconds"), text, (("limits", "ack_seconds"),))
    for small, large, what in (
        ("body_bytes", "inflight_bytes", "body"),
        ("decoded_bytes", "inflight_bytes", "body"),
        ("event_bytes", "decoded_bytes", "event"),
    ):
        if getattr(limits, small) > getattr(limits, large):
            text = f"must not exceed {large}: no such {what} could be taken"
            yield Conflict(("limits", small), text, (("limits", large),))


def _spool(settings: SharedSettings) -> Iterator[Conflict]:
    spool, ack_seconds = settings.spool, settings.limits.ack_seconds
    if spool.mode == "off":
        return
    mode = ("spool", "mode")
    if spool.after_seconds >= ack_seconds:
        text = f"must be smaller than limits.ack_seconds ({ack_seconds:g})"
        yield Conflict(("spool", "after_seconds"), text, (mode, ("limits", "ack_seconds")))
    if spool.max_bytes < LEAST_SPOOL_BYTES:
        text = f"must be at least {LEAST_SPOOL_BYTES} (16 MiB)"
        yield Conflict(("spool", "max_bytes"), text, (mode,))
    if trouble := _not_writable(spool.path):
        yield Conflict(("spool", "path"), trouble, (mode,))


def _not_writable(folder: str) -> str:
    """Why nothing could be written to ``folder``, which may be made later; empty when it could."""
    path = Path(folder)
    there = next((each for each in (path, *path.parents) if os.path.lexists(each)), path)
    if not there.is_dir():
        return f"{there} is not a folder"
    if not os.access(there, os.W_OK | os.X_OK):
        return f"may not write to the folder {there}"
    return ""


def _digests(auth: AuthSettings) -> Iterator[Conflict]:
    owners: dict[str, str] = {}
    for name, key in auth.keys.items():
        for digest in key.sha256:
            owner = owners.setdefault(digest, name)
            if owner != name:
                text = f"shares a digest with {dotted(('auth', 'keys', owner))}"
                yield Conflict(("auth", "keys", name, "sha256"), text)


def _topics(settings: SharedSettings) -> Iterator[Conflict]:
    letters, where = settings.dead_letter.topic, ("dead_letter", "topic")
    if letters.startswith("__"):
        yield Conflict(where, "topics that start with '__' are Kafka's own")
    for name, source in settings.sources.items():
        topic, path = source.topic or name, ("sources", name, "topic")
        if topic.startswith("__"):
            yield Conflict(path, "topics that start with '__' are Kafka's own")
        if topic == letters:
            yield Conflict(path, f"{topic!r} is the dead letter topic", (where,))


def _schemas(settings: SharedSettings) -> Iterator[Conflict]:
    for name, source in settings.sources.items():
        if source.validate_ == "warn" and source.schema_ is None:
            others = (("sources", name, "schema"),)
            yield Conflict(("sources", name, "validate"), "needs a schema to warn of", others)


def _syslog(settings: SharedSettings) -> Iterator[Conflict]:
    for name, user in settings.syslog_sources.items():
        source = settings.sources.get(name)
        if source is None:
            yield Conflict(user, f"there is no source {name!r}", (("sources", name),))
            continue
        if source.key is not None:
            text = f"{dotted(user)} uses this source: its key is the host"
            yield Conflict(("sources", name, "key"), text)
        if source.schema_ is not None:
            text = f"{dotted(user)} uses this source: it has no schema"
            yield Conflict(("sources", name, "schema"), text)
        if source.cors_origins:
            text = f"{dotted(user)} uses this source: no web page can"
            yield Conflict(("sources", name, "cors_origins"), text)
