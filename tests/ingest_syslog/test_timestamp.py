"""Dates of syslog headers are read however they are written; what is missing is completed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingest_syslog.message import Clock
from ingest_syslog.timestamp import Stamp, read_timestamp

if TYPE_CHECKING:
    from datetime import tzinfo

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
CLOCK = Clock(NOW, UTC)
BERLIN, SHANGHAI = ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Shanghai")
LONDON, NEW_YORK = ZoneInfo("Europe/London"), ZoneInfo("America/New_York")
REST = " host tag: text"


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        ("2026-11-25T10:00:00Z", "2026-11-25T10:00:00Z"),
        ("2026-11-25T10:00:00.123456+01:00", "2026-11-25T10:00:00.123456+01:00"),
        ("2026-11-25T10:00:00.123456789-08:00", "2026-11-25T10:00:00.123456789-08:00"),
        ("2026-11-25T10:00:00-00:00", "2026-11-25T10:00:00-00:00"),
        ("2026-11-25t10:00:00z", "2026-11-25T10:00:00Z"),
        ("2026-11-25T10:00:00+0100", "2026-11-25T10:00:00+01:00"),
        ("2026-11-25T10:00:00,5Z", "2026-11-25T10:00:00.5Z"),
        ("2026-11-25T10:00:00", "2026-11-25T10:00:00Z"),
        ("2026-11-25T10:00:00.25", "2026-11-25T10:00:00.25Z"),
        ("2026-11-25T10:00:00Z:", "2026-11-25T10:00:00Z"),
        ("2026-11-25 10:00:00", "2026-11-25T10:00:00Z"),
        ("2026-11-25 10:00:00,123", "2026-11-25T10:00:00.123Z"),
        ("2026-11-25 10:00:00 +0530", "2026-11-25T10:00:00+05:30"),
        ("2026-11-25 10:00:00 CET", "2026-11-25T10:00:00+01:00"),
        ("2026/11/25 10:00:00", "2026-11-25T10:00:00Z"),
        ("  2026-11-25T10:00:00Z", "2026-11-25T10:00:00Z"),
    ],
)
def test_iso_dates(date: str, expected: str) -> None:
    """RFC 3339 in full, and what is nearly so: rsyslog's forward format, ESXi, application logs."""
    assert read_timestamp(date + REST, 0, CLOCK) == Stamp(expected, len(date))


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        ("Oct 11 22:14:15", "2026-10-11T22:14:15Z"),
        ("Nov  7 10:00:00", "2026-11-07T10:00:00Z"),
        ("Nov 7 10:00:00", "2026-11-07T10:00:00Z"),
        ("Nov 07 10:00:00", "2026-11-07T10:00:00Z"),
        ("NOV  7 10:00:00", "2026-11-07T10:00:00Z"),
        ("noV  7 10:00:00", "2026-11-07T10:00:00Z"),
        (" Nov  7 10:00:00", "2026-11-07T10:00:00Z"),
        ("   Nov  7 10:00:00", "2026-11-07T10:00:00Z"),
        ("Nov  7 10:00:00:", "2026-11-07T10:00:00Z"),
        ("Nov  7 9:06:53", "2026-11-07T09:06:53Z"),
        ("Mar 7 2008 19:06:53", "2008-03-07T19:06:53Z"),
        ("Mar 7 2008 19:06:53:", "2008-03-07T19:06:53Z"),
        ("Mar 7 2008, 19:06:53", "2008-03-07T19:06:53Z"),
        ("Oct  3 2024 10:00:00+08:00", "2024-10-03T10:00:00+08:00"),
        ("2026 Nov 25 10:00:00.123 UTC:", "2026-11-25T10:00:00.123Z"),
        ("Nov 25 10:00:00.1", "2026-11-25T10:00:00.1Z"),
        ("Nov 25 10:00:00,123456789", "2026-11-25T10:00:00.123456789Z"),
        ("Nov 25 10:00:00 UTC:", "2026-11-25T10:00:00Z"),
        ("Nov 25 10:00:00 EST", "2026-11-25T10:00:00-05:00"),
        ("Nov 25 10:00:00.5 CET:", "2026-11-25T10:00:00.5+01:00"),
        ("Nov 25 10:00:00 ACDT", "2026-11-25T10:00:00+10:30"),
        ("Nov 25 10:00:00 +02:00", "2026-11-25T10:00:00+02:00"),
        ("Nov 25 10:00:00 -0330", "2026-11-25T10:00:00-03:30"),
        ("Nov 25 10:00:00+02", "2026-11-25T10:00:00+02:00"),
        ("Nov 25 10:00:00Z", "2026-11-25T10:00:00Z"),
        ("Nov 25 10:00:00 AM", "2026-11-25T10:00:00Z"),
        ("Nov 25 10:00:00 pm", "2026-11-25T22:00:00Z"),
        ("Nov 25 12:00:00 AM", "2026-11-25T00:00:00Z"),
        ("Nov 25 12:00:00 PM EST:", "2026-11-25T12:00:00-05:00"),
        ("1380653443.857790533", "2013-10-01T18:50:43.857790533Z"),
    ],
)
def test_bsd_dates(date: str, expected: str) -> None:
    """RFC 3164, section 4.1.2, with all that senders add to it; Meraki counts seconds."""
    assert read_timestamp(date + REST, 0, CLOCK) == Stamp(expected, len(date))


@pytest.mark.parametrize(
    ("text", "year", "rest"),
    [
        ("Aug 10 22:18:24 2009  netips-p [audit] user=x", 2009, "  netips-p [audit] user=x"),
        ("Aug 10 22:18:24 2009 host tag: x", 2009, " host tag: x"),
        ("Aug 10 22:18:24 UTC 2009 host tag: x", 2009, " host tag: x"),
        ("Aug 10 22:18:24 2009: tag: x", 2009, " tag: x"),
        ("Aug 10 22:18:24 2009", 2009, ""),
        ("Aug 10 22:18:24 2009 tag: x", 2026, " 2009 tag: x"),
        ("Aug 10 22:18:24 2009 tag[1]: x", 2026, " 2009 tag[1]: x"),
        ("Aug 10 22:18:24 2025 tag: x", 2025, " tag: x"),
        ("Aug 10 22:18:24 2026 tag: x", 2026, " tag: x"),
        ("Aug 10 22:18:24 1234 host tag: x", 2026, " 1234 host tag: x"),
        ("Aug 10 22:18:24 20090 host tag: x", 2026, " 20090 host tag: x"),
        ("Aug 10 2008 22:18:24 2009 tag: x", 2008, " 2009 tag: x"),
    ],
)
def test_a_year_behind_the_time_is_told_from_a_host_name(text: str, year: int, rest: str) -> None:
    """LinkSys writes the year last; a host may be called 2009 as well."""
    stamp = read_timestamp(text, 0, CLOCK)
    assert (stamp.text, text[stamp.end :]) == (f"{year}-08-10T22:18:24Z", rest)


@pytest.mark.parametrize(
    "date",
    [
        "Feb 31 10:00:00",
        "Nov  0 10:00:00",
        "Nov 25 24:00:00",
        "Nov 25 10:60:00",
        "Nov 25 10:00:60",
        "Nov 25 13:00:00 PM",
        "Nov 25 00:00:00 AM",
        "Nov 25 10:00:00.1234567890",
        "Nov 25 10:00:00 +24:00",
        "Feb 29 2025 10:00:00",
        "Nov 25 0000 10:00:00",
        "2026-02-30T10:00:00Z",
        "2026-11-25T24:00:00Z",
        "2026-11-25T23:59:60Z",
        "2026-11-25T10:00:00+24:00",
        "2026-11-25T10:00:00+01:60",
        "2026-11-25T10:00:00.1234567890Z",
        "0000-01-01T00:00:00Z",
    ],
)
def test_a_date_that_does_not_exist_is_bad(date: str) -> None:
    """It is passed over, so that what follows it is still read."""
    assert read_timestamp(date + REST, 0, CLOCK) == Stamp(None, len(date), "bad_timestamp")


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "tag: text",
        "Foo 25 10:00:00 host",
        "Nov 25 10:00 host",
        "Nov 25 10:00:00x host",
        "November 25 10:00:00 host",
        "2026-11-25T10:00:00.Z host",
        "2026-11-25X10:00:00Z host",
        "1380653443 host",
        "65536: Nov 25 10:00:00: text",
        "\u0661\u0662: text",
        "Nov \u0662\u0665 10:00:00 host",
    ],
)
def test_what_is_no_date_is_left(text: str) -> None:
    """Nothing is read, not even digits of other scripts."""
    assert read_timestamp(text, 0, CLOCK) == Stamp(None, 0, "no_timestamp")


@pytest.mark.parametrize(
    "uptime", ["00:00:12:", "123:10:01:", "1w2d:", "2d03h:", "1y2w:", "3w0d.5:"]
)
def test_a_time_since_boot_is_skipped(uptime: str) -> None:
    """Cisco sends it where no clock is set; it is no date."""
    stamp = read_timestamp(f"{uptime} %SYS-5-RESTART: x", 0, CLOCK)
    assert stamp == Stamp(None, len(uptime), "no_timestamp")


@pytest.mark.parametrize(("mark", "is_synced"), [("*", False), (".", False), ("", True)])
def test_marks_of_clocks_that_are_not_synchronised(mark: str, is_synced: bool) -> None:  # noqa: FBT001
    """Cisco's ``*`` says that the clock was never set, ``.`` that it lost its source."""
    date = f"{mark}Nov  1 18:46:11.123"
    expected = Stamp("2026-11-01T18:46:11.123Z", len(date) + 1, "", is_synced)
    assert read_timestamp(f"{date}: %LINK-3-UPDOWN: x", 0, CLOCK) == expected


def test_a_word_that_is_no_zone_is_left_for_the_host_name() -> None:
    """It may be one, in capitals."""
    assert read_timestamp("Nov 25 10:00:00 DBX tag: x", 0, CLOCK).end == len("Nov 25 10:00:00")


def test_a_zone_that_is_not_known_is_bad_where_it_can_be_nothing_else() -> None:
    """Cisco's users name their zones as they like."""
    date = "Nov 25 10:00:00 XYZ:"
    stamp = read_timestamp(f"{date} %LINK-3-UPDOWN: x", 0, CLOCK)
    assert stamp == Stamp(None, len(date), "bad_timestamp")


@pytest.mark.parametrize(
    ("zone", "date", "expected"),
    [
        (UTC, "Nov 25 10:00:00 CST", "2026-11-25T10:00:00-06:00"),
        (SHANGHAI, "Nov 25 10:00:00 CST", "2026-11-25T10:00:00+08:00"),
        (LONDON, "Aug  1 10:00:00 BST", "2026-08-01T10:00:00+01:00"),
        (LONDON, "Nov 25 10:00:00 BST", "2026-11-25T10:00:00+01:00"),
        (LONDON, "Nov 25 10:00:00 GMT", "2026-11-25T10:00:00Z"),
        (BERLIN, "Nov 25 10:00:00 UTC", "2026-11-25T10:00:00Z"),
        (BERLIN, "Oct 25 02:30:00 CEST", "2026-10-25T02:30:00+02:00"),
        (BERLIN, "Oct 25 02:30:00 CET", "2026-10-25T02:30:00+01:00"),
    ],
)
def test_the_names_of_the_configured_zone_come_first(
    zone: tzinfo, date: str, expected: str
) -> None:
    """Three countries have a CST; the second of two hours of one name can be told by its zone."""
    assert read_timestamp(f"{date} host tag: x", 0, Clock(NOW, zone)).text == expected


@pytest.mark.parametrize(
    ("zone", "date", "expected"),
    [
        (UTC, "Nov 25 10:00:00", "2026-11-25T10:00:00Z"),
        (BERLIN, "Nov 25 10:00:00", "2026-11-25T10:00:00+01:00"),
        (BERLIN, "Jul 25 10:00:00", "2026-07-25T10:00:00+02:00"),
        (BERLIN, "2026-07-25 10:00:00", "2026-07-25T10:00:00+02:00"),
        (BERLIN, "2026-07-25T10:00:00Z", "2026-07-25T10:00:00Z"),
        (BERLIN, "Oct 25 02:30:00", "2026-10-25T02:30:00+02:00"),
        (BERLIN, "Mar 29 2026 02:30:00", "2026-03-29T02:30:00+01:00"),
        (NEW_YORK, "Nov  1 01:30:00", "2026-11-01T01:30:00-04:00"),
        (LONDON, "Nov 25 10:00:00", "2026-11-25T10:00:00Z"),
        (
            timezone(timedelta(hours=-3, minutes=-30)),
            "Nov 25 10:00:00",
            "2026-11-25T10:00:00-03:30",
        ),
        (BERLIN, "Nov 25 1800 10:00:00", None),
    ],
)
def test_a_date_without_zone_is_in_the_configured_one(
    zone: tzinfo, date: str, expected: str | None
) -> None:
    """The earlier of two where clocks go back; no RFC 3339 for local time of before railways."""
    assert read_timestamp(date + REST, 0, Clock(NOW, zone)).text == expected


@pytest.mark.parametrize(
    ("now", "zone", "date", "expected"),
    [
        ("2026-12-31T23:59:00Z", UTC, "Jan  1 00:00:01", "2027-01-01T00:00:01Z"),
        ("2026-12-31T23:59:00Z", UTC, "Dec 31 23:58:00", "2026-12-31T23:58:00Z"),
        ("2027-01-01T00:01:00Z", UTC, "Dec 31 23:59:59", "2026-12-31T23:59:59Z"),
        ("2027-01-01T00:01:00Z", UTC, "Jan  1 00:00:00", "2027-01-01T00:00:00Z"),
        ("2026-12-31T23:30:00Z", BERLIN, "Jan  1 00:30:00", "2027-01-01T00:30:00+01:00"),
        ("2027-01-01T02:00:00Z", NEW_YORK, "Dec 31 21:00:00", "2026-12-31T21:00:00-05:00"),
        ("2026-12-31T16:30:00Z", SHANGHAI, "Jan  1 00:30:00", "2027-01-01T00:30:00+08:00"),
        ("2027-01-15T00:00:00Z", UTC, "Aug 20 10:00:00", "2026-08-20T10:00:00Z"),
        ("2026-11-25T12:00:00Z", UTC, "Mar  6 10:00:00", "2027-03-06T10:00:00Z"),
        ("2026-11-25T12:00:00Z", UTC, "Jun 25 10:00:00", "2026-06-25T10:00:00Z"),
        ("2026-07-02T12:00:00Z", UTC, "Jan  2 10:00:00", "2026-01-02T10:00:00Z"),
        ("2026-07-02T12:00:00Z", UTC, "Dec 31 10:00:00", "2026-12-31T10:00:00Z"),
        ("2028-02-29T12:00:00Z", UTC, "Feb 29 10:00:00", "2028-02-29T10:00:00Z"),
        ("2028-03-01T00:00:00Z", UTC, "Feb 29 23:59:00", "2028-02-29T23:59:00Z"),
        ("2027-11-25T12:00:00Z", UTC, "Feb 29 10:00:00", "2028-02-29T10:00:00Z"),
        ("2025-01-05T12:00:00Z", UTC, "Feb 29 10:00:00", "2024-02-29T10:00:00Z"),
        ("2026-02-28T12:00:00Z", UTC, "Feb 29 10:00:00", None),
        ("0001-01-01T12:00:00Z", UTC, "Dec 31 10:00:00", "0001-12-31T10:00:00Z"),
        ("9999-12-31T12:00:00Z", UTC, "Jan  1 10:00:00", "9999-01-01T10:00:00Z"),
    ],
)
def test_a_date_without_year_is_the_closest_to_now(
    now: str, zone: tzinfo, date: str, expected: str | None
) -> None:
    """In the sender's zone, over New Year both ways; 29 February in years that have one."""
    clock = Clock(datetime.fromisoformat(now), zone)
    assert read_timestamp(date + REST, 0, clock).text == expected


@given(
    st.datetimes(datetime(2000, 1, 1), datetime(2099, 12, 31)),  # noqa: DTZ001
    st.timedeltas(timedelta(days=-180), timedelta(days=180)),
    st.sampled_from([UTC, BERLIN, SHANGHAI, NEW_YORK]),
)
def test_dates_of_half_a_year_around_now_are_completed_as_they_were(
    now: datetime, ago: timedelta, zone: tzinfo
) -> None:
    """Whatever day it is, the year that the sender left out comes back."""
    sent = (now + ago).replace(microsecond=0)
    clock = Clock(now.replace(tzinfo=zone).astimezone(UTC), zone)
    stamp = read_timestamp(sent.strftime("%b %e %H:%M:%S host"), 0, clock)
    assert stamp.text is not None
    assert datetime.fromisoformat(stamp.text).replace(tzinfo=None) == sent


_PIECES = st.sampled_from(
    [
        *("Nov", " ", "  ", "25", "10:00:00", "2026", "2026-11-25", "T", "Z", "+01:00", ".", "*"),
        *(":", " EST", " PM", "AM", "1w2d:", "Feb", "29", "00:00:12:", " %SYS-5-X: ", "0000"),
        "24:00:60",
    ]
)


@given(st.text() | st.lists(_PIECES, max_size=12).map("".join), st.sampled_from([UTC, BERLIN]))
@example("Feb 29 10:00:00 2026", UTC)
def test_whatever_is_read_a_stamp_is_whole(text: str, zone: tzinfo) -> None:
    """Text or a reason, never both; the text is a moment with a zone."""
    stamp = read_timestamp(text, 0, Clock(NOW, zone))
    assert 0 <= stamp.end <= len(text)
    assert (stamp.text is None) == (stamp.reason in ("no_timestamp", "bad_timestamp"))
    if stamp.text is not None:
        assert stamp.reason == ""
        assert datetime.fromisoformat(stamp.text).tzinfo is not None
