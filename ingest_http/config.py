"""The whole configuration of the HTTP front door."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ingest.settings import Conflict, SharedSettings, split_address
from ingest_http.settings import HttpSettings

if TYPE_CHECKING:
    from collections.abc import Iterator


class HttpConfig(SharedSettings):
    """The shared sections, and [http]."""

    http: HttpSettings = HttpSettings()

    def conflicts(self) -> Iterator[Conflict]:
        """What is fine by itself but not together."""
        yield from super().conflicts()
        if self.sources and not self.sources.keys() - self.syslog_sources.keys():
            yield Conflict("sources", "every source is used by syslog: none is left for HTTP")
        if self.auth.required and not self.auth.keys:
            text = "no key is configured, so nobody could send: see `ingest-http new-key NAME`"
            yield Conflict("auth.keys", text)
        listen, management = split_address(self.http.listen), split_address(self.management.http)
        if listen == management and listen[1]:
            yield Conflict("management.http", "is the same address as http.listen", ("http",))
