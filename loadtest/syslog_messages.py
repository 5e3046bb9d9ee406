"""Syslog messages as a site's servers would send them: varied, repeatable, of one size, numbered.

Every message says which sender it comes from and which of that sender's messages it is, at a place
that is the same in all of them: a sender can number thousands of ready-made ones at once, and who
reads the topic can tell what was lost and what is there twice.
"""

from __future__ import annotations

import random
import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Format = Literal["rfc5424", "rfc3164"]

MESSAGE_BYTES = 280
"""The size of every message."""
SENDERS = 10_000
"""Senders are numbered below this."""
SEQUENCES = 1_000_000_000
"""A sender's messages are numbered below this."""
QUOTED_SHARE = 0.05
"""Share of the messages whose text needs escapes in JSON."""

_SITES = ("web", "db", "mail", "cache")
HOSTS = tuple(
    f"{site}-{number:02d}.{'example.com' if number % 2 else 'dc1.example.net'}"
    for site in _SITES
    for number in range(1, 6)
)
APPS = (
    "sshd", "nginx", "postgres", "postfix", "cron", "haproxy", "kernel", "systemd", "shop-api",
    "billing", "auth", "imgproxy",
)  # fmt: skip
METHODS = ("GET", "GET", "GET", "POST", "PUT", "DELETE")
PATHS = ("/v1/orders", "/v1/customers", "/static/app.js", "/health", "/login", "/v2/items/search")
STATUSES = (200, 200, 200, 200, 204, 301, 304, 404, 500)
WORDS = (
    "connection", "from", "closed", "by", "peer", "accepted", "publickey", "session", "opened",
    "for", "user", "root", "timeout", "while", "reading", "upstream", "retrying", "after", "cache",
    "miss", "checkpoint", "complete", "wrote", "buffers", "queue", "flushed", "worker", "started",
    "with", "status", "limit", "exceeded", "certificate", "renewed", "disk", "usage", "at",
)  # fmt: skip
MONTHS = (
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
)  # fmt: skip

_MARK = re.compile(rb"client\W{1,3}(\d{4})\W{1,3}seq\W{1,3}(\d{9})")
_MARK_ENDS_AT = 132
"""Where the last digit of the number ends in RFC 5424; the request's id is as long as it takes."""


class Mark(NamedTuple):
    """Which message it is: ``sequence`` counts the messages of ``sender``."""

    sender: int
    sequence: int


def mark(value: bytes) -> Mark | None:
    """The mark in a message, or in an envelope around it; None where there is none."""
    found = _MARK.search(value)
    return None if found is None else Mark(int(found[1]), int(found[2]))


def mark_places(message: bytes) -> tuple[int, int]:
    """Where the digits of the sender and of the sequence number begin in ``message``.

    Raises:
        ValueError: it carries no mark.
    """
    found = _MARK.search(message)
    if found is None:
        raise ValueError("a message without a mark")
    return found.start(1), found.start(2)


def messages(form: Format, seed: int, now: datetime) -> Iterator[bytes]:
    """Endless messages of `MESSAGE_BYTES` each, all marked ``Mark(0, 0)``.

    Args:
        form: how they are spelt.
        seed: the same one gives the same messages.
        now: the time of the first one, in UTC; each is some milliseconds later than the one before.
    """
    chance, make = random.Random(seed), _MAKERS[form]
    while True:
        now += timedelta(microseconds=chance.randrange(4_000))
        yield make(chance, now)


def rfc5424(chance: random.Random, now: datetime) -> bytes:
    """One message of RFC 5424, with one structured data element of three parameters."""
    head = (
        f"<{_priority(chance)}>1 {now:%Y-%m-%dT%H:%M:%S.%f}Z {chance.choice(HOSTS)} "
        f"{chance.choice(APPS)} {chance.randrange(100, 65_536)} ID{chance.randrange(100)} "
        '[meta@32473 req="'
    )
    tail = '" client="0000" seq="000000000"] '
    digits = _MARK_ENDS_AT - len(head) - tail.index('"] ')
    start = f"{head}{chance.getrandbits(4 * digits):0{digits}x}{tail}"
    return (start + _text(chance, MESSAGE_BYTES - len(start))).encode()


def rfc3164(chance: random.Random, now: datetime) -> bytes:
    """One message in the way of RFC 3164, with the day in two columns; its mark is at the end."""
    start = (
        f"<{_priority(chance)}>{MONTHS[now.month - 1]} {now.day:2d} {now:%H:%M:%S} "
        f"{chance.choice(HOSTS).partition('.')[0]} "
        f"{chance.choice(APPS)}[{chance.randrange(100, 65_536)}]: "
    )
    end = " client=0000 seq=000000000"
    return (start + _text(chance, MESSAGE_BYTES - len(start) - len(end)) + end).encode()


_MAKERS: dict[Format, Callable[[random.Random, datetime], bytes]] = {
    "rfc5424": rfc5424,
    "rfc3164": rfc3164,
}


def _priority(chance: random.Random) -> int:
    facility = chance.choice((0, 3, 4, 10, 16, 17, 23))
    return 8 * facility + chance.choice((2, 3, 4, 5, 6, 6, 6, 7))


def _text(chance: random.Random, length: int) -> str:
    text = (
        f"{chance.choice(METHODS)} {chance.choice(PATHS)}/{chance.randrange(50_000)} "
        f"{chance.choice(STATUSES)} {chance.randrange(100, 20_000)}b {chance.randrange(900)}ms "
        f"10.0.{chance.randrange(8)}.{chance.randrange(256)} "
    )
    if chance.random() < QUOTED_SHARE:
        text += f'"{chance.choice(WORDS)}" '
    while len(text) < length:
        text += " ".join(chance.choices(WORDS, k=6)) + " "
    return text[: length - 1] + "."
