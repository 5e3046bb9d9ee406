"""Reads the dates of syslog headers, in the many ways that senders write them.

Sans-IO: what is missing, a year or a zone, comes from the caller's clock.

Sources: RFC 3164, section 4.1.2 (``Mmm dd hh:mm:ss``); RFC 3339; Cisco's ``service timestamps``.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from datetime import tzinfo

    from ingest_syslog.message import Clock

_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTHS = {name: number for number, name in enumerate(_NAMES, 1)}
_ZONES = {
    word: offset
    for offset, words in {
        "Z": "Z UTC UT GMT WET",
        "+01:00": "CET MET WEST",
        "+02:00": "CEST MEST EET SAST",
        "+03:00": "EEST MSK",
        "+08:00": "AWST HKT SGT",
        "+09:00": "JST KST",
        "+09:30": "ACST",
        "+10:00": "AEST",
        "+10:30": "ACDT",
        "+11:00": "AEDT",
        "+12:00": "NZST",
        "+13:00": "NZDT",
        "-04:00": "EDT",
        "-05:00": "EST CDT",
        "-06:00": "CST MDT",
        "-07:00": "MST PDT",
        "-08:00": "PST AKDT",
        "-09:00": "AKST",
        "-10:00": "HST",
    }.items()
    for word in words.split()
}
"""Zone words with one meaning; CST and its like have that of RFC 5322, section 4.3."""

_ISO = re.compile(
    r" *+(\d{4}(?:-\d\d-\d\d|/\d\d/\d\d))[Tt ](\d\d:\d\d:\d\d)([.,]\d++)?([Zz]|[+-]\d\d:?\d\d)?",
    re.ASCII,
)
_BSD = re.compile(
    r" *+(?P<mark>[*.]?)(?:(?P<before>\d{4}) )?(?P<month>[A-Za-z]{3}) {1,2}(?P<day>\d{1,2})"
    r"(?: (?P<year>\d{4}))?,? {1,2}"
    r"(?P<hour>\d{1,2}):(?P<minute>\d\d):(?P<second>\d\d)"
    r"(?P<fraction>[.,]\d++|:\d{3}(?= ))?",
    re.ASCII,
)
_HALF = re.compile(r" ?([AaPp])[Mm](?![^ :])")
_ZONE = re.compile(r" ?(?:([+-]\d\d(?::?\d\d)?)|([A-Z]{1,5}))(?![^ :])", re.ASCII)
_YEAR = re.compile(r" {1,2}((?:19[7-9]|20\d)\d)(?![^ :]|:[^ %])", re.ASCII)
_TAG_FOLLOWS = re.compile(r" ++[^\s\[]{0,255}(?:\[|(?<=:)(?!\S))", re.ASCII)
_CLOSED = re.compile(r":(?!\d)|(?![^ ])", re.ASCII)
_CISCO_FOLLOWS = re.compile(r": ?%")
_EPOCH = re.compile(r" *+(\d{10})(\.\d{1,9})(?![^ ])", re.ASCII)
_UPTIME = re.compile(
    r" *+(?:\d{1,3}:\d\d:\d\d|(?:\d{1,5}[ywdhm]){1,5})(?:\.\d{1,9})?:(?= )", re.ASCII
)

_FRACTION_CHARACTERS = 10
"""A separator and nine digits: no clock tells more than nanoseconds."""
_NEAR_MONTHS = 4
"""Two dates of one year, at most so many months apart, are closest to each other in that year."""


class Stamp(NamedTuple):
    """A date in a header.

    Attributes:
        text: as RFC 3339, with its zone; None when there is no date, or none that exists.
        end: index after the date, its zone and a colon that closes it; where the reading began
            when there is nothing like a date.
        reason: empty, ``no_timestamp`` or ``bad_timestamp``.
        is_synced: False when the sender marks its clock as not synchronised.
    """

    text: str | None
    end: int
    reason: str = ""
    is_synced: bool = True


def read_timestamp(text: str, start: int, clock: Clock) -> Stamp:
    """Read the date that starts at index ``start``, after any spaces.

    A date without a year gets the one that brings it closest to now. One without a zone is in the
    zone of the clock, and the earlier of two where that zone turns its clocks back. Fractions stay
    as they are sent. A time since boot is skipped, but it is no date: ``no_timestamp``.
    """
    if iso := _ISO.match(text, start):
        stamp = _read_iso(text, iso, clock)
    elif (bsd := _BSD.match(text, start)) and bsd["month"].lower() in _MONTHS:
        stamp = _read_bsd(text, bsd, clock)
    else:
        return _read_count(text, start)
    closed = _CLOSED.match(text, stamp.end)
    return stamp._replace(end=closed.end()) if closed else Stamp(None, start, "no_timestamp")


def _read_count(text: str, start: int) -> Stamp:
    """Read seconds since 1970, as Meraki sends them, or skip a time since boot, as Cisco does."""
    if epoch := _EPOCH.match(text, start):
        moment = datetime.fromtimestamp(int(epoch[1]), UTC).replace(tzinfo=None)
        return Stamp(f"{moment.isoformat()}{epoch[2]}Z", epoch.end())
    uptime = _UPTIME.match(text, start)
    return Stamp(None, uptime.end() if uptime else start, "no_timestamp")


def _read_iso(text: str, iso: re.Match[str], clock: Clock) -> Stamp:
    """Take a date of RFC 3339, or one that nearly is."""
    date, time, fraction, zone = iso.groups()
    end = iso.end()
    if zone is None:
        zone, end = _read_zone(text, end, clock)
    try:
        local = datetime.fromisoformat(f"{date.replace('/', '-')}T{time}")
    except ValueError:
        return Stamp(None, end, "bad_timestamp")
    return _stamp(local if time < "24" else None, fraction, zone, clock, end)


def _read_bsd(text: str, bsd: re.Match[str], clock: Clock) -> Stamp:
    """Take a date of RFC 3164, with what senders put around it."""
    mark, before, name, day, year, hour, minute, second, fraction = bsd.groups()
    half = _HALF.match(text, bsd.end())
    hours = _hour_of_day(int(hour), half[1]) if half else int(hour)
    zone, end = _read_zone(text, half.end() if half else bsd.end(), clock)
    year = year or before
    if year is None:
        year, end = _read_year(text, end, clock)
    parts = _MONTHS[name.lower()], int(day), hours, int(minute), int(second)
    local = _moment(int(year), *parts) if year else _closest(parts, clock)
    stamp = _stamp(local, fraction, zone, clock, end)
    return stamp._replace(is_synced=False) if mark else stamp


def _hour_of_day(hour: int, half: str) -> int:
    """Return the hour of 24; one that no clock with AM and PM shows becomes one that no day has."""
    if not 1 <= hour <= 12:
        return 24
    return hour % 12 + (12 if half in "Pp" else 0)


def _read_zone(text: str, end: int, clock: Clock) -> tuple[str | None, int]:
    """Read an offset or a zone word behind a time.

    A word that names no zone is left where it is, since it may be the host name; but between a
    time and what only Cisco writes, it is a zone whose offset is not known.
    """
    zone = _ZONE.match(text, end)
    if zone is None:
        return None, end
    offset, word = zone.groups()
    if offset is None and not (
        word in _ZONES
        or _CISCO_FOLLOWS.match(text, zone.end())
        or _offset_of_word(word, clock.now.replace(tzinfo=None), clock)
    ):
        return None, end
    return offset or word, zone.end()


def _read_year(text: str, end: int, clock: Clock) -> tuple[str | None, int]:
    """Read a year behind a time, as LinkSys writes it.

    Four digits may begin an IPv6 address, or be a host name: they are if a tag follows them, and
    the year is not about the one that it should be.
    """
    year = _YEAR.match(text, end)
    if year is None:
        return None, end
    if abs(int(year[1]) - clock.now.year) > 1 and _TAG_FOLLOWS.match(text, year.end()):
        return None, end
    return year[1], year.end()


def _moment(
    year: int, month: int, day: int, hour: int, minute: int, second: int
) -> datetime | None:
    """Return a date and time without zone; None if no calendar and clock show it."""
    try:
        return datetime(year, month, day, hour, minute, second)  # noqa: DTZ001 - zones come later
    except ValueError:
        return None


def _closest(parts: tuple[int, int, int, int, int], clock: Clock) -> datetime | None:
    """Return the closest moment to now that has this month, day and time.

    It is in this year, the last or the next; None if neither has it (29 February).
    """
    now = clock.now
    if abs(parts[0] - now.month) <= _NEAR_MONTHS and (near := _moment(now.year, *parts)):
        return near
    there = now.astimezone(clock.zone).replace(tzinfo=None)
    years = there.year, there.year - 1, there.year + 1
    moments = [moment for year in years if (moment := _moment(year, *parts))]
    return min(moments, key=lambda moment: abs(moment - there), default=None)


def _stamp(
    local: datetime | None, fraction: str | None, zone: str | None, clock: Clock, end: int
) -> Stamp:
    offset = _offset(local, zone, clock) if local else None
    if local is None or offset is None or (fraction and len(fraction) > _FRACTION_CHARACTERS):
        return Stamp(None, end, "bad_timestamp")
    dot = f".{fraction[1:]}" if fraction else ""
    return Stamp(f"{local.isoformat()}{dot}{offset}", end)


def _offset(local: datetime, zone: str | None, clock: Clock) -> str | None:
    """Return the offset of RFC 3339 for what a sender says of its zone; None if it has none."""
    if zone is None:
        return "Z" if clock.zone is UTC else _offset_at(local, clock.zone)
    if zone in ("Z", "z", "UTC"):
        return "Z"
    if zone[0] not in "+-":
        return _offset_of_word(zone, local, clock)
    hours, minutes = zone[1:3], zone[3:].removeprefix(":") or "00"
    return f"{zone[0]}{hours}:{minutes}" if hours < "24" and minutes < "60" else None


def _offset_of_word(word: str, local: datetime, clock: Clock) -> str | None:
    """Return what a zone word means; the clock's zone is asked first: many have a CST."""
    for moment in (local, local.replace(fold=1), local.replace(month=1), local.replace(month=7)):
        if moment.replace(tzinfo=clock.zone).tzname() == word:
            return _offset_at(moment, clock.zone)
    return _ZONES.get(word)


def _offset_at(local: datetime, zone: tzinfo) -> str | None:
    """Return a zone's offset at a local time; None for one with seconds, of before 1900 or so."""
    offset = local.replace(tzinfo=zone, microsecond=0).isoformat()[len("2000-01-01T00:00:00") :]
    if offset == "+00:00":
        return "Z"
    return offset if len(offset) == len("+00:00") else None
