"""The whole configuration of the syslog front door."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

from ingest.settings import Conflict, SharedSettings, overlap
from ingest.tls import server_context
from ingest_syslog.settings import ListenerSettings, SyslogSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingest.config_problems import KeyPath

RELOADABLE: tuple[KeyPath, ...] = (
    ("sources",),
    ("syslog", "rules"),
    ("syslog", "listeners", "*", "tls"),
    ("syslog", "listeners", "*", "source"),
    ("syslog_sources",),
)
"""What a SIGHUP takes; the rest needs a restart."""
ONLY_OF: dict[str, tuple[str, ...]] = {
    "framing": ("tcp",),
    "tls": ("tcp", "relp"),
    "proxy_from": ("tcp", "relp"),
    "idle_seconds": ("tcp", "relp"),
    "partial_seconds": ("tcp", "relp"),
    "connections": ("tcp", "relp"),
    "connections_per_address": ("tcp", "relp"),
    "handshake_seconds": ("tcp", "relp"),
    "receive_buffer_bytes": ("udp",),
    "unread_ack_bytes": ("relp",),
}
"""Setting of a listener -> the protocols that it means something for."""
NOT_OF_UNIX = ("allow_from", "tls", "proxy_from", "connections_per_address")
"""What is about addresses, which peers on a unix socket do not have."""


class SyslogConfig(SharedSettings):
    """The shared sections, and [syslog]."""

    syslog: SyslogSettings = SyslogSettings()

    def used_sources(self) -> set[str]:
        """The sources that listeners and rules name."""
        listeners, rules = self.syslog.listeners, self.syslog.rules
        return {each.source for each in listeners} | {each.source for each in rules}

    def topics_written(self) -> set[str]:
        """The topics that this service writes to."""
        topics = {self.sources[name].topic or name for name in self.used_sources()}
        letters = self.dead_letter
        return topics | {letters.topic} if letters.mode == "on" else topics

    def conflicts(self) -> Iterator[Conflict]:
        """What is fine by itself but not together."""
        yield from super().conflicts()
        if not self.syslog.listeners:
            text = "no listener is configured: add [[syslog.listeners]]"
            yield Conflict(("syslog", "listeners"), text)
        for number, listener in enumerate(self.syslog.listeners):
            path: KeyPath = ("syslog", "listeners", number)
            yield from _inapplicable(listener, path)
            yield from _oversize(self, listener, path)
            yield from _tls(listener, path)
        yield from _twins(self)
        yield from _rules(self)


def _inapplicable(listener: ListenerSettings, path: KeyPath) -> Iterator[Conflict]:
    """Settings that mean nothing for this listener must not look as if they did."""
    given = _given(listener)
    for key in sorted(given & ONLY_OF.keys()):
        if listener.protocol not in ONLY_OF[key]:
            text = f"means nothing for protocol {listener.protocol!r}"
            yield Conflict((*path, key), text, ((*path, "protocol"),))
    if not listener.is_unix:
        return
    if listener.protocol == "relp":
        text = "a unix socket is for protocol 'udp' (datagrams) or 'tcp' (a stream)"
        yield Conflict((*path, "listen"), text, ((*path, "protocol"),))
    for key in sorted(given & {*NOT_OF_UNIX}):
        text = "means nothing for a unix socket: its peers have no address"
        yield Conflict((*path, key), text, ((*path, "listen"),))


def _given(listener: ListenerSettings) -> set[str]:
    """The keys with another value than their default's."""
    fields = type(listener).model_fields
    return {
        key
        for key, field in fields.items()
        if not field.is_required()
        and getattr(listener, key) != field.get_default(call_default_factory=True)
    }


def _oversize(
    config: SyslogConfig, listener: ListenerSettings, path: KeyPath
) -> Iterator[Conflict]:
    where, involved = (*path, "oversize"), ((*path, "protocol"),)
    if listener.oversize == "close" and listener.protocol == "relp":
        text = "the client would send the same frame again for ever: truncate it or dead_letter it"
        yield Conflict(where, text, involved)
    if listener.oversize == "close" and listener.protocol == "udp":
        text = "a datagram has no connection to close: truncate it or dead_letter it"
        yield Conflict(where, text, involved)
    if listener.oversize == "dead_letter" and config.dead_letter.mode == "off":
        yield Conflict(where, "needs dead_letter.mode = 'on'", (("dead_letter", "mode"),))
    if listener.frame_bytes > config.limits.event_bytes:
        text = f"must not exceed limits.event_bytes ({config.limits.event_bytes})"
        yield Conflict((*path, "frame_bytes"), text, (("limits", "event_bytes"),))


def _tls(listener: ListenerSettings, path: KeyPath) -> Iterator[Conflict]:
    tls, where = listener.tls, (*path, "tls")
    if tls is None:
        return
    for key in ("allowed_names", "allowed_fingerprints"):
        if getattr(tls, key) and tls.client_ca is None:
            text = "needs client_ca: without it nobody is asked for a certificate"
            yield Conflict((*where, key), text, ((*where, "client_ca"),))
    try:
        server_context(tls.cert, tls.key, tls.client_ca, client_cert_required=True)
    except ValueError as error:
        yield Conflict(where, str(error))


def _twins(config: SyslogConfig) -> Iterator[Conflict]:
    """Listeners of one name, or on one address."""
    management, where = config.management.syslog, ("management", "syslog")
    for (at, one), (other_at, other) in combinations(enumerate(config.syslog.listeners), 2):
        path: KeyPath = ("syslog", "listeners", other_at)
        others: tuple[KeyPath, ...] = (("syslog", "listeners", at),)
        if one.name == other.name:
            yield Conflict((*path, "name"), f"{one.name!r} is taken by another listener", others)
        if _collide(one, other):
            yield Conflict((*path, "listen"), f"is taken by listener {one.name!r}", others)
    for at, listener in enumerate(config.syslog.listeners):
        if (
            listener.protocol != "udp"
            and not listener.is_unix
            and overlap(listener.listen, management)
        ):
            text = f"is taken by listener {listener.name!r} ({listener.listen})"
            yield Conflict(where, text, (("syslog", "listeners", at, "listen"),))


def _collide(one: ListenerSettings, other: ListenerSettings) -> bool:
    if one.is_unix or other.is_unix:
        return one.listen == other.listen
    same_kind = (one.protocol == "udp") == (other.protocol == "udp")
    return same_kind and overlap(one.listen, other.listen)


def _rules(config: SyslogConfig) -> Iterator[Conflict]:
    known = {listener.name for listener in config.syslog.listeners}
    for number, rule in enumerate(config.syslog.rules):
        for name in rule.when.listener or ():
            if name not in known:
                path = ("syslog", "rules", number, "when", "listener")
                yield Conflict(path, f"there is no listener {name!r}", (("syslog", "listeners"),))
