"""The settings that the services share, one frozen model for each section of the file.

Names, defaults and units are those of the contract. Each service adds the models of its own
sections. A field marked `NotYet` takes nothing but its default: a setting is never accepted and
ignored.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    model_validator,
)

from ingest.sources import Source, pointer_tokens

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
TOPIC_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")
POINTER = re.compile(r"(/([^/~]|~[01])*)+")


class NotYet:
    """Marks a field whose feature is not there yet."""


class File:
    """Marks a path that starts at the folder of the file that names it, and must be a file."""


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
    """Host and port of ``host:port`` or ``[v6]:port``.

    Raises:
        ValueError: it is neither.
    """
    parts = urlsplit(f"//{value}")
    if parts.path or parts.query or parts.username is not None or not value.rpartition(":")[2]:
        raise ValueError("expected host:port")
    try:
        port = parts.port
    except ValueError:
        raise ValueError("expected a port from 0 to 65535") from None
    if port is None:
        raise ValueError("expected host:port")
    return parts.hostname or "0.0.0.0", port


def _is_pointer(value: str) -> str:
    if not POINTER.fullmatch(value):
        raise ValueError('expected a JSON Pointer such as "/customer_id" (RFC 6901)')
    return value


def _is_topic(value: str) -> str:
    if not TOPIC_NAME.fullmatch(value) or value in {".", ".."}:
        raise ValueError("expected up to 249 letters, digits, '.', '_' or '-'")
    return value


def _is_digest(value: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", value):
        raise ValueError("expected 64 lower-case hexadecimal digits (SHA-256 of the key)")
    return value


Address = Annotated[str, AfterValidator(_is_address)]
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

    bootstrap_servers: str = Field(default="localhost:9092", min_length=1)
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

    @model_validator(mode="after")
    def _sasl_is_complete(self) -> Self:
        wanted = self.security_protocol.startswith("SASL_")
        given = (self.sasl_mechanism, self.sasl_username, self.sasl_password)
        if wanted and None in given:
            raise ValueError(
                f"{self.security_protocol} needs sasl_mechanism, sasl_username and sasl_password"
            )
        if not wanted and given != (None, None, None):
            raise ValueError(
                f"sasl_* settings need a SASL security_protocol, not {self.security_protocol}"
            )
        return self


class TopicSettings(Settings):
    """The section [topics]."""

    create: bool = True
    partitions: PositiveInt = 4
    replication_factor: int = Field(default=-1, ge=-1)
    config: dict[str, str | int | float | bool] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _replication_is_possible(self) -> Self:
        if self.replication_factor == 0:
            raise ValueError("replication_factor is at least 1, or -1 for the broker's default")
        return self


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

    @model_validator(mode="after")
    def _an_allowed_body_fits(self) -> Self:
        if self.body_bytes > self.inflight_bytes:
            raise ValueError(
                "body_bytes must not exceed inflight_bytes: no such body could be taken"
            )
        if self.decoded_bytes > self.inflight_bytes:
            raise ValueError("decoded_bytes must not exceed inflight_bytes")
        return self


class KeySettings(Settings):
    """The section [auth.keys.*]."""

    sha256: list[Digest] = Field(min_length=1, max_length=2)
    sources: list[str] = Field(min_length=1)
    events_per_second: Annotated[int, NotYet] = Field(default=0, ge=0)
    bytes_per_second: Annotated[int, NotYet] = Field(default=0, ge=0)
    concurrent_requests: Annotated[int, NotYet] = Field(default=0, ge=0)
    tracer: Annotated[bool, NotYet] = False


class CertificateSettings(Settings):
    """The section [auth.certificates.*]."""

    names: list[str] = Field(min_length=1)
    sources: list[str] = Field(min_length=1)


class AuthSettings(Settings):
    """The section [auth]."""

    required: bool = True
    keys: dict[str, KeySettings] = Field(default_factory=dict)
    certificates: Annotated[dict[str, CertificateSettings], NotYet] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _digests_are_unique(self) -> Self:
        owners: dict[str, str] = {}
        for name, key in self.keys.items():
            for digest in key.sha256:
                if owners.setdefault(digest, name) != name:
                    raise ValueError(f"keys {owners[digest]} and {name} share a digest")
        return self


class SourceSettings(Settings):
    """The section [sources.*]."""

    topic: TopicName | None = None
    key: Pointer | None = None
    type: str | None = Field(default=None, min_length=1)
    schema_: Annotated[str | None, NotYet] = Field(default=None, alias="schema")
    validate_: Annotated[Literal["off", "warn", "enforce"], NotYet] = Field(
        default="enforce", alias="validate"
    )
    cors_origins: Annotated[list[str], NotYet] = Field(default_factory=list)

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

    mode: Annotated[Literal["off", "auto"], NotYet] = "off"
    path: Annotated[str, Folder] = "/var/lib/ingest/spool"
    max_bytes: PositiveInt = 10_737_418_240
    min_free_bytes: Annotated[int, Field(ge=0)] = 1_073_741_824
    after_seconds: PositiveFloat = 3.0


class SharedSettings(Settings):
    """The sections that every service reads, and the names that other services' sections use.

    Attributes:
        syslog_sources: source -> the key that makes it a source of syslog.
    """

    service: ServiceSettings = ServiceSettings()
    kafka: KafkaSettings = KafkaSettings()
    topics: TopicSettings = TopicSettings()
    management: ManagementSettings = ManagementSettings()
    limits: LimitSettings = LimitSettings()
    auth: AuthSettings = AuthSettings()
    sources: dict[str, SourceSettings] = Field(default_factory=dict)
    dead_letter: DeadLetterSettings = DeadLetterSettings()
    spool: SpoolSettings = SpoolSettings()
    syslog_sources: dict[str, str] = Field(default_factory=dict)

    def named_sources(self) -> dict[str, Source]:
        """Every source, by name."""
        return {
            name: source.named(name, over_http=name not in self.syslog_sources)
            for name, source in self.sources.items()
        }

    def conflicts(self) -> Iterator[Conflict]:
        """What is fine by itself but not together."""
        yield from _timing(self)
        yield from _source_names(self)
        yield from _topics(self)
        yield from _syslog(self)
        if self.limits.event_bytes > self.limits.decoded_bytes:
            text = "must not exceed decoded_bytes: no such event could be taken"
            yield Conflict("limits.event_bytes", text)


class Conflict(NamedTuple):
    """A conflict between settings.

    Attributes:
        key: where to look, dotted.
        text: what is wrong, for people.
        sections: other sections that are involved.
    """

    key: str
    text: str
    sections: tuple[str, ...] = ()


def _timing(settings: SharedSettings) -> Iterator[Conflict]:
    if settings.kafka.request_timeout_seconds >= settings.limits.ack_seconds:
        text = f"must be smaller than limits.ack_seconds ({settings.limits.ack_seconds:g})"
        yield Conflict("kafka.request_timeout_seconds", text, ("limits",))


def _source_names(settings: SharedSettings) -> Iterator[Conflict]:
    if not settings.sources:
        yield Conflict("sources", "no source is configured: add [sources.NAME]")
    for name in settings.sources:
        if not SOURCE_NAME.fullmatch(name):
            text = "is no name for a source: letters, digits, '.', '_' and '-', at most 128"
            yield Conflict(f"sources.{name}", text)


def _topics(settings: SharedSettings) -> Iterator[Conflict]:
    letters = settings.dead_letter.topic
    if letters.startswith("__"):
        yield Conflict("dead_letter.topic", "topics that start with '__' are Kafka's own")
    for name, source in settings.sources.items():
        topic = source.topic or name
        if topic.startswith("__"):
            yield Conflict(f"sources.{name}.topic", "topics that start with '__' are Kafka's own")
        if topic == letters:
            text = f"{topic!r} is the dead letter topic"
            yield Conflict(f"sources.{name}.topic", text, ("dead_letter",))


def _syslog(settings: SharedSettings) -> Iterator[Conflict]:
    for name, user in settings.syslog_sources.items():
        source = settings.sources.get(name)
        if source is None:
            yield Conflict(user, f"there is no source {name!r}", ("sources",))
            continue
        if source.key is not None:
            yield Conflict(f"sources.{name}.key", f"{user} uses this source: its key is the host")
        if source.schema_ is not None:
            yield Conflict(f"sources.{name}.schema", f"{user} uses this source: it has no schema")
