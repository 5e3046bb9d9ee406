"""[http]: the settings of the HTTP front door alone."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from ingest.settings import Address, FileContent, Network, Settings


class TlsSettings(Settings):
    """``tls`` of the section [http]."""

    cert: FileContent
    key: FileContent
    client_ca: FileContent | None = None
    client_cert: Literal["optional", "required"] = "optional"


class HttpSettings(Settings):
    """The section [http]."""

    listen: Address = "0.0.0.0:8080"
    workers: PositiveInt | Literal["auto"] = 1
    keepalive_seconds: PositiveFloat = 75.0
    header_seconds: PositiveFloat = 10.0
    handshake_seconds: PositiveFloat = 10.0
    max_age_seconds: PositiveFloat = 300.0
    access_log_sample: Annotated[float, Field(ge=0, le=1)] = 0.01
    documentation_url: str = Field(default="README.md", pattern=r"^[!-~]+$")
    trusted_proxies: list[Network] = Field(default_factory=list)
    tls: TlsSettings | None = None
