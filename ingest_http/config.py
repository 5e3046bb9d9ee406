"""The whole configuration of the HTTP front door."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ingest.settings import EVERY_ADDRESS, Conflict, SharedSettings, split_address
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
            text = "every source is used by syslog: none is left for HTTP"
            yield Conflict(("sources",), text)
        if self.auth.required and not self.auth.keys:
            text = "no key is configured, so nobody could send: see `ingest-http new-key NAME`"
            yield Conflict(("auth", "keys"), text, (("auth", "required"),))
        if _overlap(self.http.listen, self.management.http):
            text = f"is taken by http.listen ({self.http.listen})"
            yield Conflict(("management", "http"), text, (("http", "listen"),))


def _overlap(one: str, other: str) -> bool:
    """Whether only one of the addresses could be listened on."""
    (host, port), (other_host, other_port) = split_address(one), split_address(other)
    if port == 0 or port != other_port:
        return False
    return host.lower() == other_host.lower() or bool({host, other_host} & {*EVERY_ADDRESS})
