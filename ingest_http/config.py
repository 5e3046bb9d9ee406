"""The whole configuration of the HTTP front door."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ingest.config_problems import KeyPath, dotted
from ingest.schema import Schema
from ingest.schema_words import SchemaError
from ingest.settings import Conflict, SharedSettings, SourceSettings, overlap
from ingest_http.auth import certificate_name
from ingest_http.settings import HttpSettings
from ingest_http.tls import http_context

if TYPE_CHECKING:
    from collections.abc import Iterator


RELOADABLE: tuple[KeyPath, ...] = (("sources",), ("auth",), ("http", "tls"), ("syslog_sources",))
"""What a SIGHUP takes; the rest needs a restart."""


class HttpConfig(SharedSettings):
    """The shared sections, and [http]."""

    http: HttpSettings = HttpSettings()

    def http_sources(self) -> dict[str, SourceSettings]:
        """The sources that are not syslog's, by name."""
        return {
            name: source for name, source in self.sources.items() if name not in self.syslog_sources
        }

    def topics_written(self) -> set[str]:
        """The topics that this service writes to."""
        topics = {source.topic or name for name, source in self.http_sources().items()}
        letters = self.dead_letter
        return topics | {letters.topic} if letters.mode == "on" else topics

    def conflicts(self) -> Iterator[Conflict]:
        """What is fine by itself but not together."""
        yield from super().conflicts()
        if self.sources and not self.sources.keys() - self.syslog_sources.keys():
            text = "every source is used by syslog: none is left for HTTP"
            yield Conflict(("sources",), text)
        if self.auth.required and not self.auth.keys and not self.auth.certificates:
            text = "no key is configured, so nobody could send: see `ingest-http new-key NAME`"
            yield Conflict(("auth", "keys"), text, (("auth", "required"), ("auth", "certificates")))
        if overlap(self.http.listen, self.management.http):
            text = f"is taken by http.listen ({self.http.listen})"
            yield Conflict(("management", "http"), text, (("http", "listen"),))
        yield from _certificates(self)
        yield from _schemas(self)


def _certificates(config: HttpConfig) -> Iterator[Conflict]:
    tls, where = config.http.tls, ("http", "tls")
    named = config.auth.certificates
    if named and (tls is None or tls.client_ca is None):
        text = "needs http.tls.client_ca: without it nobody can show a certificate"
        yield Conflict(("auth", "certificates"), text, (where,))
    owners: dict[str, str] = {}
    for client, certificate in named.items():
        for name in map(certificate_name, certificate.names):
            owner = owners.setdefault(name, client)
            if owner != client:
                text = f"shares a name with {dotted(('auth', 'certificates', owner))}"
                yield Conflict(("auth", "certificates", client, "names"), text)
    if tls is None:
        return
    if tls.client_cert == "required" and tls.client_ca is None:
        yield Conflict((*where, "client_cert"), "needs client_ca", ((*where, "client_ca"),))
    try:
        http_context(tls)
    except ValueError as error:
        yield Conflict(where, str(error))


def _schemas(config: HttpConfig) -> Iterator[Conflict]:
    for name, source in config.sources.items():
        if source.schema_ is not None:
            try:
                Schema(source.schema_.content)
            except SchemaError as error:
                yield Conflict(("sources", name, "schema"), str(error))
