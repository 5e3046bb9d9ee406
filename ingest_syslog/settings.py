"""[syslog]: the settings of the syslog front door alone."""

from __future__ import annotations

import re
from typing import Annotated, Literal, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, Field, PositiveFloat, PositiveInt

from ingest.settings import (
    FileContent,
    Network,
    NotYet,
    Settings,
    SourceName,
    split_address,
)
from ingest_syslog.identity import check_fingerprint, check_name
from ingest_syslog.rules import facility_number, severity_number

UNIX = "unix:"
LISTENER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
UNIX_PATH_BYTES = 107
"""The longest path that a socket can be bound to (unix(7))."""


def _is_listener_name(value: str) -> str:
    if not LISTENER_NAME.fullmatch(value):
        raise ValueError("is no name for a listener: letters, digits, '.', '_' and '-', at most 64")
    return value


def _is_listen(value: str) -> str:
    if not value.startswith(UNIX):
        split_address(value)
        return value
    path = value.removeprefix(UNIX)
    if not path.startswith("/") or "\0" in path or len(path.encode()) > UNIX_PATH_BYTES:
        raise ValueError(f"expected unix: and an absolute path of at most {UNIX_PATH_BYTES} bytes")
    return value


def _is_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError('expected a time zone such as "Europe/Berlin" or "UTC"') from None
    return value


def _is_facility(value: str) -> str:
    facility_number(value)
    return value


def _is_severity(value: str) -> str:
    severity_number(value)
    return value


ListenerName = Annotated[str, AfterValidator(_is_listener_name)]
Listen = Annotated[str, AfterValidator(_is_listen)]
Zone = Annotated[str, AfterValidator(_is_zone)]
Facility = Annotated[str, AfterValidator(_is_facility)]
Severity = Annotated[str, AfterValidator(_is_severity)]
Fingerprint = Annotated[str, AfterValidator(check_fingerprint)]
Text = Annotated[str, Field(min_length=1)]
CertificateName = Annotated[str, AfterValidator(check_name)]
Item = TypeVar("Item")
OneOrMore = Annotated[
    list[Item], BeforeValidator(lambda v: [v] if isinstance(v, str) else v), Field(min_length=1)
]
"""One value is as good as a list of it."""


class TlsSettings(Settings):
    """``tls`` of a listener."""

    cert: FileContent
    key: FileContent
    client_ca: FileContent | None = None
    allowed_names: list[CertificateName] = Field(default_factory=list)
    allowed_fingerprints: list[Fingerprint] = Field(default_factory=list)


class ListenerSettings(Settings):
    """One of [[syslog.listeners]]."""

    name: ListenerName
    protocol: Literal["udp", "tcp", "relp"]
    listen: Listen
    source: SourceName
    allow_from: list[Network] | None = None
    framing: Literal["auto", "lf", "nul", "octet"] = "auto"
    tls: TlsSettings | None = None
    proxy_from: list[Network] = Field(default_factory=list)
    timezone: Zone = "UTC"
    frame_bytes: int = Field(default=65_536, ge=480)
    oversize: Literal["truncate", "dead_letter", "close"] = "truncate"
    idle_seconds: PositiveFloat = 3600.0
    partial_seconds: PositiveFloat = 30.0
    connections: PositiveInt = 10_000
    connections_per_address: PositiveInt = 1_000
    handshake_seconds: PositiveFloat = 10.0
    receive_buffer_bytes: PositiveInt = 8_388_608
    unread_ack_bytes: PositiveInt = 1_048_576
    tracer_from: Annotated[list[Network], NotYet] = Field(default_factory=list)

    @property
    def is_unix(self) -> bool:
        """Whether it listens on a unix socket."""
        return self.listen.startswith(UNIX)


class WhenSettings(Settings):
    """``when`` of a rule: all that is given must hold; of a list, any one."""

    facility: OneOrMore[Facility] | None = None
    severity_at_least: Severity | None = None
    app_name: OneOrMore[Text] | None = None
    host: OneOrMore[Text] | None = None
    peer: OneOrMore[Network] | None = None
    listener: OneOrMore[ListenerName] | None = None


class RuleSettings(Settings):
    """One of [[syslog.rules]]."""

    when: WhenSettings = WhenSettings()
    source: SourceName


class SyslogSettings(Settings):
    """The section [syslog]."""

    workers: PositiveInt | Literal["auto"] = 1
    listeners: list[ListenerSettings] = Field(default_factory=list)
    rules: list[RuleSettings] = Field(default_factory=list)
