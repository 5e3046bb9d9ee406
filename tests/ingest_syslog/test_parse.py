"""Whatever comes is a message: what is certain is in its fields, and nothing is lost unseen."""

from __future__ import annotations

import re
import string
import time
import unicodedata
from base64 import b64decode
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingest_syslog.message import REASONS, Clock, Message
from ingest_syslog.parse import parse
from ingest_syslog.seal import sealed, start_of, tail_of
from ingest_syslog.splice import Read
from ingest_syslog.translate import Translator

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import tzinfo

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
CLOCK = Clock(NOW, UTC)
BERLIN, SHANGHAI, NEW_YORK = map(ZoneInfo, ("Europe/Berlin", "Asia/Shanghai", "America/New_York"))
NOON = "2026-11-25T10:00:00Z"
"""The date of most lines here."""
SYNC = {"timeQuality": {"isSynced": "0"}}
BOM = b"\xef\xbb\xbf"


def case(name: str, line: str | bytes, pri: int | None, **members: Any) -> Any:
    """One line of a table: what the members of `Message` are, of RFC 3164 and ok if not said."""
    frame = line.encode() if isinstance(line, str) else line
    known: dict[str, Any] = {"format": "rfc3164", "status": "ok"}
    if pri is not None:
        known |= {"facility": pri // 8, "severity": pri % 8}
    if "reason" in members:
        known["status"] = "raw" if members.get("format") == "raw" else "partial"
        if "raw_base64" not in members:
            known["raw"] = frame.decode()
    return pytest.param(frame, Message(**(known | members)), id=name)


ROW_1_TO_4 = [
    case(
        "row 1: FortiGate over TCP, without PRI",
        'date=2026-11-25 time=10:00:00 devname="FG100" type="traffic"',
        None,
        format="raw",
        message='date=2026-11-25 time=10:00:00 devname="FG100" type="traffic"',
        reason="no_pri",
    ),
    case(
        "row 1: ESXi, without PRI",
        "2026-11-25T10:00:00.123Z esx01.example.com Hostd: info hostd[2099]",
        None,
        timestamp="2026-11-25T10:00:00.123Z",
        hostname="esx01.example.com",
        app_name="Hostd",
        message="info hostd[2099]",
        reason="no_pri",
    ),
    case(
        "row 1: a line of /var/log/messages",
        "Nov 25 10:00:00 db-1 sshd[42]: Accepted publickey for root",
        None,
        timestamp=NOON,
        hostname="db-1",
        app_name="sshd",
        procid="42",
        message="Accepted publickey for root",
        reason="no_pri",
    ),
    case(
        "row 1: RFC 5424 without PRI",
        f"1 {NOON} host app 1 ID - text",
        None,
        format="rfc5424",
        timestamp=NOON,
        hostname="host",
        app_name="app",
        procid="1",
        msgid="ID",
        message="text",
        reason="no_pri",
    ),
    case(
        "row 1: a sentence",
        "1 - first, do no harm",
        None,
        format="raw",
        message="1 - first, do no harm",
        reason="no_pri",
    ),
    *(
        case(
            f"row 2: {bracket} is no PRI",
            f"{bracket}Feb  1 10:00:00 host app: text",
            None,
            format="raw",
            message=f"{bracket}Feb  1 10:00:00 host app: text",
            reason="bad_pri",
        )
        for bracket in ("<189 ", "<>", "<a>", "<12345678901234567890>")
    ),
    *(
        case(
            f"row 2: PRI {number} is too high",
            f"<{number}>Nov 25 10:00:00 host app: text",
            None,
            timestamp=NOON,
            hostname="host",
            app_name="app",
            message="text",
            reason="bad_pri",
        )
        for number in (192, 999, 999_999_999)
    ),
    case(
        "row 2: PRI with leading zeros",
        f"<034>1 {NOON} host app 1 ID - text",
        34,
        format="rfc5424",
        timestamp=NOON,
        hostname="host",
        app_name="app",
        procid="1",
        msgid="ID",
        message="text",
        reason="bad_pri",
    ),
    case(
        "row 3: Aruba ClearPass, which only calls it RFC 5424",
        "<143>1 Nov 25 10:00:00 clearpass 2026-11-25 10:00:00,123 10.1.1.1 Radius 1 2 0 User=x",
        143,
        timestamp=NOON,
        hostname="clearpass",
        message="2026-11-25 10:00:00,123 10.1.1.1 Radius 1 2 0 User=x",
        reason="bad_version",
    ),
    case(
        "row 3: Meraki, which counts seconds",
        "<134>1 1380653443.857790533 MX84 urls src=192.0.2.1:63735 dst=192.0.2.2:80",
        134,
        timestamp="2013-10-01T18:50:43.857790533Z",
        hostname="MX84",
        message="urls src=192.0.2.1:63735 dst=192.0.2.2:80",
        reason="bad_version",
    ),
    *(
        case(
            f"row 4: version {version}",
            f"<142>{version} {NOON} host app 1 ID - text",
            142,
            format="rfc5424",
            timestamp=NOON,
            hostname="host",
            app_name="app",
            procid="1",
            msgid="ID",
            message="text",
            reason="bad_version",
        )
        for version in ("0", "2", "99")
    ),
    case(
        "row 4: version 0 before a BSD date",
        "<142>0 Nov 25 10:00:00 host app: text",
        142,
        timestamp=NOON,
        hostname="host",
        app_name="app",
        message="text",
        reason="bad_version",
    ),
    case(
        "row 4: no version",
        f"<142>{NOON} host app 1 ID - text",
        142,
        timestamp=NOON,
        hostname="host",
        message="app 1 ID - text",
    ),
]
DATES = [
    *(
        case(
            f"row {row}: {date}",
            f"<46>{date} host app: text",
            46,
            timestamp=stamp,
            hostname="host",
            app_name="app",
            message="text",
        )
        for row, date, stamp in (
            (5, "Nov  7 10:00:00", "2026-11-07T10:00:00Z"),
            (5, "Nov 7 10:00:00", "2026-11-07T10:00:00Z"),
            (5, "Nov 07 10:00:00", "2026-11-07T10:00:00Z"),
            (5, "NOV  7 10:00:00", "2026-11-07T10:00:00Z"),
            (5, "nOv  7 10:00:00", "2026-11-07T10:00:00Z"),
            (6, "   Nov 25 10:00:00", NOON),
            (6, "Nov 25 10:00:00:", NOON),
            (7, "Nov 25 2008 10:00:00", "2008-11-25T10:00:00Z"),
            (7, "Nov 25 10:00:00 2009", "2009-11-25T10:00:00Z"),
            (8, "Nov 25 10:00:00.1", "2026-11-25T10:00:00.1Z"),
            (8, "Nov 25 10:00:00,123456789", "2026-11-25T10:00:00.123456789Z"),
            (8, "Nov 25 10:00:00:123", "2026-11-25T10:00:00.123Z"),
            (9, "Nov 25 10:00:00 EST", "2026-11-25T10:00:00-05:00"),
            (9, "Nov 25 10:00:00 UTC:", NOON),
            (9, "Nov 25 10:00:00+02:00", "2026-11-25T10:00:00+02:00"),
            (9, "Nov 25 10:00:00 PM", "2026-11-25T22:00:00Z"),
            (10, "2026-11-25 10:00:00", NOON),
            (10, "2026-11-25T10:00:00.123456+01:00", "2026-11-25T10:00:00.123456+01:00"),
            (10, "2026-11-25T10:00:00.123", "2026-11-25T10:00:00.123Z"),
            (10, "2026-11-25 10:00:00,123 +0100", "2026-11-25T10:00:00.123+01:00"),
        )
    ),
    *(
        case(
            f"row 30: {date}",
            f"<46>{date} host app: text",
            46,
            hostname="host",
            app_name="app",
            message="text",
            reason="bad_timestamp",
        )
        for date in (
            *("Nov 25 10:00:60", "Nov 31 10:00:00", "Nov  0 10:00:00", "Nov 25 24:00:00"),
            *("2026-02-31T10:00:00Z", "2026-11-25T24:00:00Z", "Nov 25 10:00:00.1234567890"),
        )
    ),
    case(
        "row 30: a leap second in RFC 5424",
        "<46>1 2026-12-31T23:59:60Z host app - - - text",
        46,
        format="rfc5424",
        hostname="host",
        app_name="app",
        message="text",
        reason="bad_timestamp",
    ),
    case(
        "row 8: what cannot be a part of the second is no host name either",
        "<46>Nov 25 10:00:00:12 host app: text",
        46,
        message="Nov 25 10:00:00:12 host app: text",
        reason="no_timestamp",
    ),
    case(
        "row 7: LinkSys, the year after the time",
        "<38>Aug 10 22:18:24 2009  netips-p [audit] user=x",
        38,
        timestamp="2009-08-10T22:18:24Z",
        hostname="netips-p",
        message="[audit] user=x",
    ),
    case(
        "row 7: a host whose name is a year",
        "<38>Aug 10 22:18:24 2009 su: text",
        38,
        timestamp="2026-08-10T22:18:24Z",
        hostname="2009",
        app_name="su",
        message="text",
    ),
    case(
        "row 7: Huawei, the year before the time",
        "<188>Oct  3 2024 10:00:00 SW-1 %%01SHELL/4/LOGOUT(l)[12]:The user logged out.",
        188,
        timestamp="2024-10-03T10:00:00Z",
        hostname="SW-1",
        message="%%01SHELL/4/LOGOUT(l)[12]:The user logged out.",
    ),
    case(
        "row 7: Huawei, with a zone",
        "<189>Oct  3 2024 10:00:00+08:00 HW %%01IFNET/4/LINK_STATE(l)[5]:VS=Admin; down",
        189,
        timestamp="2024-10-03T10:00:00+08:00",
        hostname="HW",
        message="%%01IFNET/4/LINK_STATE(l)[5]:VS=Admin; down",
    ),
    case(
        "row 7: H3C Comware, milliseconds and the year after the time",
        "<189>Nov 25 10:00:00:123 2026 H3C %%10IFNET/3/LINK_UPDOWN: down",
        189,
        timestamp="2026-11-25T10:00:00.123Z",
        hostname="H3C",
        message="%%10IFNET/3/LINK_UPDOWN: down",
    ),
    case(
        "row 7: Juniper, time-format year millisecond",
        "<28>Nov 25 10:00:00.123 2026 re0.mx mib2d[1234]: %DAEMON-4-SNMP_TRAP_LINK_DOWN: ifIndex 5",
        28,
        timestamp="2026-11-25T10:00:00.123Z",
        hostname="re0.mx",
        app_name="mib2d",
        procid="1234",
        message="%DAEMON-4-SNMP_TRAP_LINK_DOWN: ifIndex 5",
    ),
    case(
        "row 10: RSYSLOG_ForwardFormat",
        "<86>2026-11-25T10:00:00.123456+01:00 db-1 sshd[42]: Accepted publickey",
        86,
        timestamp="2026-11-25T10:00:00.123456+01:00",
        hostname="db-1",
        app_name="sshd",
        procid="42",
        message="Accepted publickey",
    ),
    case(
        "row 10: VMware ESXi",
        "<166>2026-11-25T10:00:00.123Z esx01.example.com Hostd: info hostd[2099]"
        " [Originator@6876 sub=Vimsvc.TaskManager opID=abc] Task Created : haTask",
        166,
        timestamp="2026-11-25T10:00:00.123Z",
        hostname="esx01.example.com",
        app_name="Hostd",
        message="info hostd[2099]"
        " [Originator@6876 sub=Vimsvc.TaskManager opID=abc] Task Created : haTask",
    ),
    case(
        "row 11: RSYSLOG_TraditionalForwardFormat, the example of RFC 3164",
        "<34>Oct 11 22:14:15 mymachine su: 'su root' failed for lonvick on /dev/pts/8",
        34,
        timestamp="2026-10-11T22:14:15Z",
        hostname="mymachine",
        app_name="su",
        message="'su root' failed for lonvick on /dev/pts/8",
    ),
    case(
        "row 11: Juniper, standard format",
        "<28>Nov 25 10:00:00  router1 mib2d[1234]: SNMP_TRAP_LINK_DOWN: ifIndex 5",
        28,
        timestamp=NOON,
        hostname="router1",
        app_name="mib2d",
        procid="1234",
        message="SNMP_TRAP_LINK_DOWN: ifIndex 5",
    ),
    case(
        "row 11: Juniper, explicit priority, which is text behind a tag",
        "<28>Nov 25 10:00:00 router1 mib2d[1234]: %DAEMON-4-SNMP_TRAP_LINK_DOWN: ifIndex 5",
        28,
        timestamp=NOON,
        hostname="router1",
        app_name="mib2d",
        procid="1234",
        message="%DAEMON-4-SNMP_TRAP_LINK_DOWN: ifIndex 5",
    ),
    case(
        "row 12: xen",
        "<27>xapi: [ info|host|123] text",
        27,
        app_name="xapi",
        message="[ info|host|123] text",
        reason="no_timestamp",
    ),
    case(
        "row 12: program and process, behind a space",
        "<189> program[pid]: message",
        189,
        app_name="program",
        procid="pid",
        message="message",
        reason="no_timestamp",
    ),
    case(
        "row 12: a local program",
        "<30>systemd[1]: Started cron.service",
        30,
        app_name="systemd",
        procid="1",
        message="Started cron.service",
        reason="no_timestamp",
    ),
    case(
        "row 12: Juniper NetScreen",
        b"<134>ns: NetScreen device_id=ns [Root]system-notification-00257(traffic): x\n\0",
        134,
        app_name="ns",
        message="NetScreen device_id=ns [Root]system-notification-00257(traffic): x",
        reason="no_timestamp",
    ),
    case(
        "row 12: no host name where there is no date",
        "<13>some words of text",
        13,
        message="some words of text",
        reason="no_timestamp",
    ),
    case("row 12: nothing but PRI", "<13>", 13, reason="no_timestamp"),
]
CISCO = [
    case(
        "row 9: Cisco ASA, a zone and a colon",
        "<166>:Nov 25 10:00:00 EST: %ASA-session-6-302014: Teardown TCP connection",
        166,
        timestamp="2026-11-25T10:00:00-05:00",
        msgid="%ASA-session-6-302014",
        message="Teardown TCP connection",
    ),
    case(
        "row 9: Cisco IOS, a zone that nobody knows",
        "<189>65: Nov 25 10:00:00 XYZ: %SYS-5-CONFIG_I: Configured",
        189,
        structured_data={"meta": {"sequenceId": "65"}},
        msgid="%SYS-5-CONFIG_I",
        message="Configured",
        reason="bad_timestamp",
    ),
    case(
        "row 7: Cisco ASA, logging timestamp",
        "<189>Nov 25 2026 10:00:00: %ASA-6-302013: Built outbound TCP connection",
        189,
        timestamp=NOON,
        msgid="%ASA-6-302013",
        message="Built outbound TCP connection",
    ),
    case(
        "row 14: Cisco ASA, with its name",
        "<166>Nov 25 2026 10:00:00 asa01 : %ASA-6-302013: Built outbound TCP connection",
        166,
        timestamp=NOON,
        hostname="asa01",
        msgid="%ASA-6-302013",
        message="Built outbound TCP connection",
    ),
    case(
        "row 14: Cisco FTD",
        "<113>2026-11-25T10:00:00Z ftd1 : %FTD-1-430002: EventPriority: Low",
        113,
        timestamp=NOON,
        hostname="ftd1",
        msgid="%FTD-1-430002",
        message="EventPriority: Low",
    ),
    case(
        "row 12: Cisco ASA, without a date",
        "<166>%ASA-6-302013: Built outbound TCP connection",
        166,
        msgid="%ASA-6-302013",
        message="Built outbound TCP connection",
        reason="no_timestamp",
    ),
    case(
        "row 13: Cisco IOS, clock never set",
        "<187>65536: *Nov 25 10:00:00.123: %LINK-3-UPDOWN: Interface Gi0/1, changed state to up",
        187,
        timestamp="2026-11-25T10:00:00.123Z",
        structured_data={"meta": {"sequenceId": "65536"}} | SYNC,
        msgid="%LINK-3-UPDOWN",
        message="Interface Gi0/1, changed state to up",
    ),
    case(
        "row 13: Cisco IOS, clock out of sync",
        "<187>.Nov 25 10:00:00: %LINK-3-UPDOWN: Interface Gi0/1, changed state to up",
        187,
        timestamp=NOON,
        structured_data=SYNC,
        msgid="%LINK-3-UPDOWN",
        message="Interface Gi0/1, changed state to up",
    ),
    *(
        case(
            f"row 13: Cisco IOS, time since boot, {uptime}",
            f"<189>65536: {uptime}: %SYS-5-RESTART: System restarted",
            189,
            structured_data={"meta": {"sequenceId": "65536"}},
            msgid="%SYS-5-RESTART",
            message="System restarted",
            reason="no_timestamp",
        )
        for uptime in ("00:00:12", "1w2d", "2d03h")
    ),
    case(
        "row 14: Cisco IOS, a sequence number",
        "<189>000065: Nov 25 10:00:00: %LINEPROTO-5-UPDOWN: Line protocol on Gi0/1 is up",
        189,
        timestamp=NOON,
        structured_data={"meta": {"sequenceId": "000065"}},
        msgid="%LINEPROTO-5-UPDOWN",
        message="Line protocol on Gi0/1 is up",
    ),
    *(
        case(
            f"row 14: Cisco IOS, {name}",
            f"<189>{labels} Nov 25 10:00:00.123 UTC: %LINK-3-UPDOWN: text",
            189,
            timestamp="2026-11-25T10:00:00.123Z",
            hostname=host,
            structured_data={"meta": {"sequenceId": "65"}} if "65" in labels else None,
            msgid="%LINK-3-UPDOWN",
            message="text",
        )
        for name, labels, host in (
            ("number and origin-id", "65: sw01:", "sw01"),
            ("origin-id and number", "sw01: 65:", "sw01"),
            ("origin-id alone", "192.0.2.7:", "192.0.2.7"),
        )
    ),
    case(
        "row 14: Cisco NX-OS",
        "<189>: 2026 Nov 25 10:00:00 UTC: %ETHPORT-5-IF_UP: Interface Ethernet1/1 is up",
        189,
        timestamp=NOON,
        msgid="%ETHPORT-5-IF_UP",
        message="Interface Ethernet1/1 is up",
    ),
    case(
        "row 14: Cisco NX-OS, with a VDC",
        "<189>: 2026 Nov 25 10:00:00 CET: %$ VDC-1 %$ %ETHPORT-5-IF_UP: Ethernet1/1 is up",
        189,
        timestamp="2026-11-25T10:00:00+01:00",
        message="%$ VDC-1 %$ %ETHPORT-5-IF_UP: Ethernet1/1 is up",
    ),
    case(
        "row 14: Cisco IOS XR, whose date is glued to its node",
        "<189>65: RP/0/RSP0/CPU0:Nov 25 10:00:00.1 UTC: ifmgr[9]: %PKT_INFRA-LINK-3-UPDOWN : down",
        189,
        message="65: RP/0/RSP0/CPU0:Nov 25 10:00:00.1 UTC: ifmgr[9]:"
        " %PKT_INFRA-LINK-3-UPDOWN : down",
        reason="no_timestamp",
    ),
    case(
        "row 14: Cisco IOS through a relay",
        "<187>Nov 25 10:00:00 10.1.1.1 65: *Mar  1 00:00:12.123: %LINK-3-UPDOWN: down",
        187,
        timestamp=NOON,
        hostname="10.1.1.1",
        structured_data={"meta": {"sequenceId": "65"}},
        message="*Mar  1 00:00:12.123: %LINK-3-UPDOWN: down",
    ),
    case(
        "row 14: Cisco IOS through a relay, time since boot",
        "<187>Nov 25 10:00:00 10.1.1.1 65: 1w2d: %LINK-3-UPDOWN: down",
        187,
        timestamp=NOON,
        hostname="10.1.1.1",
        message="65: 1w2d: %LINK-3-UPDOWN: down",
    ),
    case(
        "row 14: another program's number and date",
        "<14>backup: Nov 25 10:00:00 done",
        14,
        app_name="backup",
        message="Nov 25 10:00:00 done",
        reason="no_timestamp",
    ),
]


def dated(name: str, text: str, **members: Any) -> Any:
    """A line with a usual date in it."""
    return case(name, f"<34>Nov 25 10:00:00 {text}", 34, **({"timestamp": NOON} | members))


HOSTS_AND_TAGS = [
    dated(
        "row 15: HAProxy, no host name",
        "haproxy[73411]: 10.0.0.1:1234 [25/Nov/2026:10:00:00.123] fe be/srv",
        app_name="haproxy",
        procid="73411",
        message="10.0.0.1:1234 [25/Nov/2026:10:00:00.123] fe be/srv",
    ),
    dated(
        "row 15: logger on /dev/log",
        "root: text: more",
        app_name="root",
        message="text: more",
    ),
    dated(
        "row 15: sudo on /dev/log",
        "sudo:   user : TTY=pts/0",
        app_name="sudo",
        message="  user : TTY=pts/0",
    ),
    *(
        dated(
            f"row 16: the host is {host}",
            f"{host} app[1]: text",
            hostname=host,
            app_name="app",
            procid="1",
            message="text",
        )
        for host in (
            *("2001:db8::1", "2003:a:b::1", "fe80::1", "::1", "fe80::1%eth0"),
            *("192.0.2.1", "host.example.com", "host.example.com/192.0.2.1", "h\u00f6st"),
        )
    ),
    dated("row 16: IPv6 and no tag", "2001:db8::1 text", hostname="2001:db8::1", message="text"),
    dated(
        "row 16: AIX, whose words of forwarding are in no field",
        "Message forwarded from aix1: su: BAD SU from x",
        hostname="aix1",
        app_name="su",
        message="BAD SU from x",
        reason="unrecognised",
    ),
    dated(
        "row 16: AIX, repeated",
        "Message forwarded from aix1: last message repeated 2 times",
        hostname="aix1",
        message="last message repeated 2 times",
        reason="unrecognised",
    ),
    dated(
        "row 16: sysklogd, repeated",
        "last message repeated 3 times",
        message="last message repeated 3 times",
    ),
    dated(
        "row 16: Juniper, repeated",
        "router last message repeated 3 times",
        hostname="router",
        message="last message repeated 3 times",
    ),
    dated(
        "row 16: macOS, repeated",
        "--- last message repeated 3 times ---",
        message="--- last message repeated 3 times ---",
    ),
    dated(
        "row 16: rsyslog, repeated",
        "host app[1]: message repeated 3 times: [ text]",
        hostname="host",
        app_name="app",
        procid="1",
        message="message repeated 3 times: [ text]",
    ),
    dated("row 17: no colon", "host app some text", hostname="host", message="app some text"),
    dated(
        "row 17: more than 32 characters",
        f"host {'long' * 20}[1]: text",
        hostname="host",
        app_name="long" * 20,
        procid="1",
        message="text",
    ),
    dated(
        "row 17: PAM",
        "host login(pam_unix)[123]: session opened",
        hostname="host",
        app_name="login(pam_unix)",
        procid="123",
        message="session opened",
    ),
    dated("row 17: MARK", "host -- MARK --", hostname="host", message="-- MARK --"),
    dated("row 17: MARK, no host name", "-- MARK --", message="-- MARK --"),
    dated("row 17: spaces", "host my app: text", hostname="host", message="my app: text"),
    dated(
        "row 17: a PROCID that is no number",
        "host app[ab-1]: text",
        hostname="host",
        app_name="app",
        procid="ab-1",
        message="text",
    ),
    dated("row 17: unclosed", "host app[123 text", hostname="host", message="app[123 text"),
    dated(
        "row 17: Solaris",
        "sol sshd[123]: [ID 800047 auth.info] Accepted",
        hostname="sol",
        app_name="sshd",
        procid="123",
        message="[ID 800047 auth.info] Accepted",
    ),
    dated(
        "row 17: a number is no program",
        "switch 00076: port 5 is up",
        hostname="switch",
        message="00076: port 5 is up",
    ),
    dated(
        "row 17: HP ProCurve",
        "10.1.1.1 00076 ports:  port 5 is now on-line",
        hostname="10.1.1.1",
        message="00076 ports:  port 5 is now on-line",
    ),
    dated(
        "row 17: UniFi",
        '("U7PG2,f09fc2000000,v4.0.80") hostapd: ath0: STA',
        message='("U7PG2,f09fc2000000,v4.0.80") hostapd: ath0: STA',
    ),
]


def modern(name: str, rest: str | bytes, **members: Any) -> Any:
    """A line of RFC 5424 from where its PROCID ends."""
    text = rest.encode() if isinstance(rest, str) else rest
    usual = {"timestamp": NOON, "hostname": "host", "app_name": "app", "procid": "1"}
    head = f"<34>1 {NOON} host app 1 ".encode()
    return case(name, head + text, 34, **({"format": "rfc5424"} | usual | members))


RFC5424 = [
    case("row 18: all nil", "<34>1 - - - - - -", 34, format="rfc5424"),
    modern(
        "row 18: no MSGID",
        '[a b="c"] text',
        structured_data={"a": {"b": "c"}},
        message="text",
        reason="unrecognised",
    ),
    modern(
        "row 18: no structured data",
        "ID text",
        msgid="ID",
        message="text",
        reason="bad_structured_data",
    ),
    case(
        "row 18: nothing but a host name",
        f"<34>1 {NOON} host",
        34,
        format="rfc5424",
        timestamp=NOON,
        hostname="host",
        reason="unrecognised",
    ),
    modern(
        "row 19: VMware, values without quotes",
        "- [Originator@6876 sub=Vimsvc.TaskManager opID=abc] Task Created",
        structured_data={"Originator@6876": {"sub": "Vimsvc.TaskManager", "opID": "abc"}},
        message="Task Created",
        reason="bad_structured_data",
    ),
    modern(
        "row 19: Juniper, dots in a name",
        'RT_FLOW [junos@2636.1.1.1.2.28 source-address="192.0.2.1"] session created',
        msgid="RT_FLOW",
        structured_data={"junos@2636.1.1.1.2.28": {"source-address": "192.0.2.1"}},
        message="session created",
    ),
    modern(
        "row 19: a name of more than 32 characters",
        f'ID [{"n" * 40} a="b"] text',
        msgid="ID",
        structured_data={"n" * 40: {"a": "b"}},
        message="text",
    ),
    modern(
        "row 19: an escape that is none",
        r'ID [a b="C:\dir \"q\" \]"] text',
        msgid="ID",
        structured_data={"a": {"b": r'C:\dir "q" ]'}},
        message="text",
    ),
    modern(
        "row 19: a parameter without value, and a space after =",
        'ID [a b c= "d"] text',
        msgid="ID",
        structured_data={"a": {"b": "", "c": "d"}},
        message="text",
        reason="bad_structured_data",
    ),
    modern(
        "row 19: a bracket that is not escaped",
        'ID [a b="x]y"] text',
        msgid="ID",
        structured_data={"a": {"b": "x]y"}},
        message="text",
        reason="bad_structured_data",
    ),
    modern(
        "row 19: one SD-ID twice",
        'ID [a b="c"][a d="e"] text',
        msgid="ID",
        structured_data={"a": {"b": "c", "d": "e"}},
        message="text",
        reason="duplicate_param",
    ),
    modern(
        "row 19: one parameter twice, the last wins",
        'ID [a b="c" b="d"] text',
        msgid="ID",
        structured_data={"a": {"b": "d"}},
        message="text",
        reason="duplicate_param",
    ),
    modern(
        "row 19: unclosed",
        'ID [a b="c"',
        msgid="ID",
        message='[a b="c"',
        reason="bad_structured_data",
    ),
    modern(
        "row 19: Check Point",
        '- [action:"Accept"; flags:"1"]',
        message='[action:"Accept"; flags:"1"]',
        reason="bad_structured_data",
    ),
    modern("row 20: BOM", b"ID - " + BOM + b"text", msgid="ID", message="text"),
    modern("row 20: the word BOM", "ID - BOM'su root'", msgid="ID", message="BOM'su root'"),
    modern(
        "row 20: UTF-8 without BOM", "ID - gr\u00fc\u00dfe", msgid="ID", message="gr\u00fc\u00dfe"
    ),
]


def texted(name: str, text: bytes, **members: Any) -> Any:
    """A usual line with this text."""
    usual = {"timestamp": NOON, "hostname": "host", "app_name": "app"}
    return case(name, b"<34>Nov 25 10:00:00 host app: " + text, 34, **(usual | members))


TEXTS = [
    texted("row 20: BOM in RFC 3164", BOM + b"text", message="text"),
    case(
        "row 20: BOM before all",
        BOM + b"<34>Nov 25 10:00:00 host app: text",
        34,
        timestamp=NOON,
        hostname="host",
        app_name="app",
        message="text",
    ),
    texted(
        "row 21: Latin-1",
        b"caf\xe9",
        message="caf\ufffd",
        reason="invalid_utf8",
        raw_base64="PDM0Pk5vdiAyNSAxMDowMDowMCBob3N0IGFwcDogY2Fm6Q==",
    ),
    texted(
        "row 21: GBK",
        "\u4e2d".encode("gbk"),
        message="\ufffd\ufffd",
        reason="invalid_utf8",
        raw_base64="PDM0Pk5vdiAyNSAxMDowMDowMCBob3N0IGFwcDog1tA=",
    ),
    texted(
        "row 22: NUL inside and behind, ANSI colours",
        b"a\0b \x1b[31mred\x1b[0m\0\n",
        message="a\0b \x1b[31mred\x1b[0m",
    ),
    texted(
        "row 23: a stack trace", b"Error\n\tat x\r\n\tat y\n", message="Error\n\tat x\r\n\tat y"
    ),
    texted(
        "row 24: what was cut is read as far as it goes",
        b"tex",
        message="tex",
        reason="truncated",
        original_bytes=99,
    ),
    texted("row 26: a space at the end", b"text ", message="text "),
    texted("row 26: nothing but a space", b""),
    case(
        "row 25: a count in a datagram",
        "34 <34>Nov 25 10:00:00 host app: text",
        34,
        timestamp=NOON,
        hostname="host",
        app_name="app",
        message="text",
    ),
    case(
        "row 25: a count that includes the line end",
        "35 <34>Nov 25 10:00:00 host app: text\n",
        34,
        timestamp=NOON,
        hostname="host",
        app_name="app",
        message="text",
    ),
    case(
        "row 25: a count that does not fit",
        "36 <34>Nov 25 10:00:00 host app: text",
        None,
        format="raw",
        message="36 <34>Nov 25 10:00:00 host app: text",
        reason="no_pri",
    ),
    *(
        case(
            f"row 27: {name}, without date",
            f"<189>{text}",
            189,
            message=text,
            reason="no_timestamp",
        )
        for name, text in (
            ("FortiGate", "date=2026-11-25 time=10:00:00 devname=FG100 logid=0000000013"),
            ("Sophos", 'device="SFW" date=2026-11-25 time=10:00:00 timezone="CET"'),
            ("SonicWall", 'id=firewall sn=18B1 time="2026-11-25 10:00:00" fw=192.0.2.1'),
            ("CEF", "CEF:0|Vendor|Product|1.0|100|name|5|src=192.0.2.1"),
            ("LEEF", "LEEF:1.0|Microsoft|MSExchange|4.0|15345|src=192.0.2.1"),
            ("JSON", '{"level": "info", "time": "2026-11-25T10:00:00Z"}'),
            ("Citrix NetScaler", "11/25/2026:10:00:00 GMT ns1 0-PPE-0 : default TCP x 1 0 : text"),
            ("Sophos UTM", '2026:11:25-10:00:00 asg ulogd[4711]: id="2001"'),
        )
    ),
    *(
        dated(f"row 27: {name}, behind a host name", f"host {text}", hostname="host", message=text)
        for name, text in (
            ("FortiGate", "date=2026-11-25 time=10:00:00 devname=FG100"),
            ("CEF", "CEF:0|Vendor|Product|1.0|100|name|5|src=192.0.2.1"),
            ("JSON", '{"level": "info"}'),
            ("CEE", '@cee: {"level": "info"}'),
            ("Palo Alto", "1,2026/11/25 10:00:00,007200001056,TRAFFIC,end,2049"),
        )
    ),
    dated(
        "row 27: CEF, no host name",
        "CEF:0|Vendor|Product|1.0|100|name|5|src=192.0.2.1",
        message="CEF:0|Vendor|Product|1.0|100|name|5|src=192.0.2.1",
    ),
    *(
        case(f"row 27: {name}", text, None, format="raw", message=text, reason="no_pri")
        for name, text in (
            ("JSON alone", '{"level": "info"}'),
            ("CEF alone", "CEF:0|Vendor|Product|1.0|100|name|5|src=192.0.2.1"),
            ("HTTP probe", "GET / HTTP/1.1"),
        )
    ),
    case(
        "row 27: TLS hello",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        None,
        format="raw",
        message="\x16\x03\x01\x02\0\x01\0\x01\ufffd",
        reason="invalid_utf8",
        raw_base64="FgMBAgABAAH8",
    ),
    dated(
        "row 28: Snare, tabs",
        "host\tMSWinEventLog\t1\tSecurity\t563440\tWed Nov 25 10:00:00 2026\t4624",
        hostname="host",
        message="MSWinEventLog\t1\tSecurity\t563440\tWed Nov 25 10:00:00 2026\t4624",
    ),
    dated(
        "row 28: Snare, escaped tabs",
        "host MSWinEventLog#0111#011Security#011563440",
        hostname="host",
        message="MSWinEventLog#0111#011Security#011563440",
    ),
    case(
        "row 29: rsyslog, compressed, which is kept as it is",
        b"z\x78\x9c\x01\x02",
        None,
        format="raw",
        message="zx\ufffd\x01\x02",
        reason="invalid_utf8",
        raw_base64="enicAQI=",
    ),
]
CASES = [*ROW_1_TO_4, *DATES, *CISCO, *HOSTS_AND_TAGS, *RFC5424, *TEXTS]
LINES: list[bytes] = [each.values[0] for each in CASES]
OK_LINES: list[bytes] = [each.values[0] for each in CASES if each.values[1].status == "ok"]


@pytest.mark.parametrize(("frame", "expected"), CASES)
def test_real_lines(frame: bytes, expected: Message) -> None:
    """Each member of the message, as its sender meant it; what is not certain stays in the text."""
    assert parse(frame, CLOCK, expected.original_bytes).message == expected


@pytest.mark.parametrize(
    ("frame", "is_rfc3339"),
    [
        (f"<34>1 {NOON} host app - - - text", True),
        ("<34>1 2026-11-25T10:00:00.5+01:00 host app - - - text", True),
        ("<34>1 2026-11-25t10:00:00z host app - - - text", True),
        (f"<34>{NOON} host app: text", True),
        (f"<189>65: sw01: {NOON}: %LINK-3-UPDOWN: text", True),
        ("<34>1 2026-11-25T10:00:00 host app - - - text", False),
        ("<34>2026-11-25T10:00:00 host app: text", False),
        ("<34>2026-11-25 10:00:00Z host app: text", False),
        ("<34>2026-11-25T10:00:00,5Z host app: text", False),
        ("<34>2026-11-25T10:00:00+0100 host app: text", False),
        ("<34>Nov 25 10:00:00 host app: text", False),
        ("<34>1 - host app - - - text", False),
        ("<34>2026-02-31T10:00:00Z host app: text", False),
        ("text", False),
    ],
)
def test_a_date_of_rfc_3339_is_told_from_one_that_was_completed(
    frame: str,
    is_rfc3339: bool,  # noqa: FBT001
) -> None:
    """Only what the sender wrote may be the time of the event."""
    assert parse(frame.encode(), CLOCK).is_rfc3339 is is_rfc3339


REASONS_IN_ORDER = [
    ("<13>1 2026-11-25T10:00:00Z h a 1 - [x y=1 y=2] \xff", 9999, "truncated"),
    ("\xff no pri", 9999, "truncated"),
    ("<34>Nov 25 10:00:00 host app: text", 9999, "truncated"),
    ("\xff no pri", None, "invalid_utf8"),
    ("<999>\xff", None, "invalid_utf8"),
    ("<13>1 2026-11-25T10:00:00Z h a 1 - [x y=1] \xff", None, "invalid_utf8"),
    ("Nov 31 10:00:00 host app: text", None, "no_pri"),
    ("app[1]: text", None, "no_pri"),
    ("2 2026-11-31T10:00:00Z h a 1 - x", None, "no_pri"),
    ("<999>2 2026-11-31T10:00:00Z h a 1 - x", None, "bad_pri"),
    ("<034>app[1]: text", None, "bad_pri"),
    ("<34>2 2026-11-31T10:00:00Z h a 1 - x", None, "bad_version"),
    ("<34>2 Nov 31 10:00:00 host app: text", None, "bad_version"),
    ("<34>65: 1w2d: %LINK-3-UPDOWN: text", None, "no_timestamp"),
    ("<34>1 2026-11-31T10:00:00Z h a 1 - x", None, "bad_timestamp"),
    ("<34>Nov 31 10:00:00 Message forwarded from aix1: text", None, "bad_timestamp"),
    ("<34>1 2026-11-25T10:00:00Z h a 1 [x y=1 y=2] text", None, "bad_structured_data"),
    ('<34>1  2026-11-25T10:00:00Z h a 1 - [x y="1" y="2"] text', None, "duplicate_param"),
    ("<34>1 2026-11-25T10:00:00Z h a 1", None, "unrecognised"),
]


@pytest.mark.parametrize(("line", "original_bytes", "reason"), REASONS_IN_ORDER)
def test_of_the_reasons_that_apply_the_first_is_told(
    line: str, original_bytes: int | None, reason: str
) -> None:
    """In the order of the contract: what was cut, what is not UTF-8, then by position."""
    message = parse(line.encode("latin-1"), CLOCK, original_bytes).message
    assert message.reason == reason
    assert message.original_bytes == original_bytes


def test_each_reason_is_shown_above() -> None:
    """And they are no others."""
    assert [reason for _, _, reason in REASONS_IN_ORDER] == sorted(
        (reason for _, _, reason in REASONS_IN_ORDER), key=REASONS.index
    )
    assert {reason for _, _, reason in REASONS_IN_ORDER} == set(REASONS)


@pytest.mark.parametrize(
    ("now", "zone", "date", "expected"),
    [
        ("2026-12-31T23:59:00Z", UTC, "Jan  1 00:00:01", "2027-01-01T00:00:01Z"),
        ("2026-12-31T23:59:00Z", UTC, "Dec 31 23:58:00", "2026-12-31T23:58:00Z"),
        ("2027-01-01T00:01:00Z", UTC, "Dec 31 23:59:59", "2026-12-31T23:59:59Z"),
        ("2027-01-01T00:01:00Z", UTC, "Jan  1 00:00:30", "2027-01-01T00:00:30Z"),
        ("2026-12-31T23:30:00Z", BERLIN, "Jan  1 00:30:00", "2027-01-01T00:30:00+01:00"),
        ("2026-12-31T16:30:00Z", SHANGHAI, "Jan  1 00:30:00", "2027-01-01T00:30:00+08:00"),
        ("2027-01-01T02:00:00Z", NEW_YORK, "Dec 31 21:00:00", "2026-12-31T21:00:00-05:00"),
        ("2027-01-01T02:00:00Z", UTC, "Dec 31 21:00:00 EST", "2026-12-31T21:00:00-05:00"),
        ("2026-12-31T23:30:00Z", UTC, "Jan  1 00:30:00+01:00", "2027-01-01T00:30:00+01:00"),
        ("2027-01-10T00:00:00Z", UTC, "Aug 20 10:00:00", "2026-08-20T10:00:00Z"),
        ("2026-12-20T00:00:00Z", UTC, "Mar  6 10:00:00", "2027-03-06T10:00:00Z"),
        ("2028-02-29T12:00:00Z", UTC, "Feb 29 10:00:00", "2028-02-29T10:00:00Z"),
        ("2028-03-01T00:00:30Z", UTC, "Feb 29 23:59:59", "2028-02-29T23:59:59Z"),
        ("2028-02-28T23:30:00Z", BERLIN, "Feb 29 00:30:00", "2028-02-29T00:30:00+01:00"),
        ("2027-12-25T12:00:00Z", UTC, "Feb 29 10:00:00", "2028-02-29T10:00:00Z"),
        ("2026-02-28T12:00:00Z", UTC, "Feb 29 10:00:00", None),
        ("2026-12-31T23:59:00Z", UTC, "Dec 31 2020 23:58:00", "2020-12-31T23:58:00Z"),
    ],
)
def test_a_year_that_is_not_told_is_the_closest(
    now: str, zone: tzinfo, date: str, expected: str | None
) -> None:
    """In the sender's zone, on both sides of New Year; no year has a 29 February that it lacks."""
    clock = Clock(datetime.fromisoformat(now), zone)
    message = parse(f"<34>{date} host app: text".encode(), clock).message
    assert (message.timestamp, message.hostname) == (expected, "host")
    assert message.reason == (None if expected else "bad_timestamp")


@given(
    st.datetimes(datetime(2000, 1, 1), datetime(2099, 12, 31)),  # noqa: DTZ001
    st.timedeltas(timedelta(days=-180), timedelta(days=180)),
    st.sampled_from([UTC, BERLIN, SHANGHAI, NEW_YORK]),
)
def test_a_date_of_the_last_or_the_next_months_is_what_it_was(
    now: datetime, ago: timedelta, zone: tzinfo
) -> None:
    """Whatever day it is read on."""
    sent = (now + ago).replace(microsecond=0)
    clock = Clock(now.replace(tzinfo=zone).astimezone(UTC), zone)
    stamp = parse(f"<34>{sent:%b %e %H:%M:%S} host app: text".encode(), clock).message.timestamp
    assert stamp is not None
    assert datetime.fromisoformat(stamp).replace(tzinfo=None) == sent


PIECES = st.sampled_from(
    [
        *(b"<34>", b"<999>", b"<", b">", b"1 ", b"0 ", b"12 ", b" ", b"  ", b"-", b"- ", b":"),
        *(b": ", b"[", b"]", b"[1]: ", b'"', b"=", b"\\", b"%", b"@", b"*", b".", b"/", b"|"),
        *(b"Nov 25 10:00:00", b"2026-11-25T10:00:00Z", b"2026", b" 2001:db8::1 ", b" EST", b"PM"),
        *(b"host", b"app", b"app[1]: ", b"65: ", b"1w2d: ", b"%LINK-3-UPDOWN: ", b'[a b="c"]'),
        *(b"Message forwarded from x: ", b"last message repeated 2 times", b"\0", b"\n", b"\r"),
        *(b"\t", b"\xff", b"\xc3", b"\xc3\xa9", b"\xe2\x82", b"\xf0\x9f\x98\x80", BOM, b"\xc2\x85"),
    ]
)


@st.composite
def mutated(draw: st.DrawFn, lines: Sequence[bytes]) -> bytes:
    """A line in which a few ranges are replaced, removed, doubled, or taken from another."""
    frame = draw(st.sampled_from(lines))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(frame)))
        end = draw(st.integers(at, min(at + 12, len(frame))))
        other = draw(st.sampled_from(lines))
        start = draw(st.integers(0, len(other)))
        part = draw(
            st.lists(PIECES, max_size=2).map(b"".join)
            | st.just(frame[at:end] * 2)
            | st.just(other[start : start + 20])
        )
        frame = frame[:at] + part + frame[end:]
    return frame


FRAMES = mutated(LINES) | st.binary(max_size=80) | st.lists(PIECES, max_size=16).map(b"".join)


def original(message: Message) -> bytes:
    """The bytes of a message that is not ok."""
    assert (message.raw is None) != (message.raw_base64 is None)
    if message.raw_base64 is not None:
        return b64decode(message.raw_base64, validate=True)
    assert message.raw is not None
    return message.raw.encode()


@given(FRAMES)
def test_whatever_comes_is_recoverable_byte_for_byte(frame: bytes) -> None:
    """From its fields if it is ok, else from its raw text, or bytes where it is not UTF-8."""
    message = parse(frame, CLOCK).message
    if message.status == "ok":
        assert (message.reason, message.raw, message.raw_base64) == (None, None, None)
        return
    assert message.reason in REASONS
    assert (message.status == "raw") == (message.format == "raw")
    assert original(message) == frame


@given(FRAMES, st.integers(1, 80))
def test_what_is_cut_is_recoverable_but_for_the_half_of_a_character(frame: bytes, at: int) -> None:
    """Which says nothing; and it is never ok."""
    cut = frame[:at]
    message = parse(cut, CLOCK, len(frame) + 1).message
    assert (message.reason, message.original_bytes) == ("truncated", len(frame) + 1)
    kept = original(message)
    assert cut.startswith(kept)
    rest = cut[len(kept) :]
    assert len(rest) <= 3
    assert not rest or rest.decode("utf-8", "ignore") == ""
    assert not rest or message.raw is not None


@given(FRAMES, st.sampled_from([UTC, BERLIN]))
def test_members_are_what_they_should_be(frame: bytes, zone: tzinfo) -> None:
    """Whatever comes: a stamp is a moment, names are words, PRI is whole or not there."""
    message, is_rfc3339 = parse(frame, Clock(NOW, zone))
    assert (message.facility is None) == (message.severity is None)
    assert message.facility in {None, *range(24)}
    assert message.severity in {None, *range(8)}
    for name in (message.hostname, message.app_name, message.procid, message.msgid):
        assert name is None or (name and " " not in name)
    assert message.message != ""
    if message.timestamp is None:
        assert not is_rfc3339
        assert message.status != "ok" or message.format == "rfc5424"
    else:
        assert datetime.fromisoformat(message.timestamp).tzinfo is not None
    assert msgspec.json.decode(msgspec.json.encode(message), type=Message) == message


_UNSPOKEN = frozenset(string.punctuation + string.whitespace + "\ufeff")
_DATE = re.compile(
    r"\d{8}[Tt]?\d{6,15}(?:[Zz]|[A-Z]{1,5}|\d{2}|\d{4})?"
    r"|(?:\d{4})?[A-Za-z]{3}\d{1,2}(?:\d{4})?\d{5,15}(?:[AaPp][Mm])?(?:Z|[A-Z]{1,5}|\d{2}|\d{4})?"
    r"(?:\d{4})?"
    r"|\d{11,19}"
)
"""A date of which all but letters and digits is gone."""


def spoken(text: str) -> str:
    """What is neither space nor punctuation in it."""
    return "".join(
        char
        for char in text
        if char not in _UNSPOKEN and not char.isspace() and unicodedata.category(char)[0] != "P"
    )


def told(message: Message) -> Iterator[str]:
    """All that is in the fields of a message but its PRI and date."""
    yield from filter(None, (message.hostname, message.app_name, message.procid, message.msgid))
    for element, params in (message.structured_data or {}).items():
        known = {"meta", "timeQuality"} if message.format == "rfc3164" else set()
        if element == "timeQuality" and known:
            continue
        if element not in known:
            yield element
        for name, value in params.items():
            yield value if element in known else name + value
    yield message.message or ""


def untold(frame: bytes, message: Message) -> tuple[Counter[str], str]:
    """What of a frame is in no field, and how its text reads without PRI, framing and version."""
    body = re.sub(r"\A(?:\d+ (?=\ufeff?<))?\ufeff?<\d+>", "", frame.decode().rstrip("\0\r\n"))
    if message.format == "rfc5424":
        body = body.removeprefix("1 ")
    text = spoken(body)
    left = Counter(text)
    left.subtract(chain.from_iterable(map(spoken, told(message))))
    return left, text


@given(mutated(OK_LINES) | mutated(LINES))
@example(b"<34>Nov 25 10:00:00 2001:db8::1 app[1]: text")
@example(b"<34>Nov 25 10:00:00 Message forwarded from aix1: su: text")
@example(b"<34>Nov 25 10:00:00 2025 2001::1 app[1]: text")
def test_nothing_but_a_date_is_in_no_field_of_what_is_ok(frame: bytes) -> None:
    """Each character is told once, but for punctuation, and none is told that was not there."""
    message = parse(frame, CLOCK).message
    if message.status != "ok":
        return
    left, text = untold(frame, message)
    assert min(left.values(), default=0) >= 0
    length = left.total()
    candidates = {text[at : at + length] for at in range(len(text) - length + 1)}
    dates = [each for each in candidates if Counter(each) == +left]
    assert length == 0 or any(map(_DATE.fullmatch, dates))
    assert (length == 0) == (message.timestamp is None)


TAIL, PEER, RECEIVED = tail_of("192.0.2.1", "tcp"), "192.0.2.1", b"2026-11-25T12:00:00.000000Z"
START = start_of("syslog", "syslog.message") + b"base-"


def alone(frame: bytes, at: int, clock: Clock) -> tuple[Any, bytes]:
    """The record that a message makes by the parser alone: its value, decoded, and its key."""
    message, is_rfc3339 = parse(frame, clock)
    stamp = (message.timestamp or "").encode() if is_rfc3339 else RECEIVED
    value = sealed(START, at, stamp, message, TAIL)
    return msgspec.json.decode(value), (message.hostname or PEER).encode()


def together(frames: Sequence[bytes], clock: Clock) -> list[tuple[Any, bytes | None]]:
    """The records that they make as one read."""
    count = len(frames)
    read = Read(frames, [PEER] * count, [TAIL] * count, START, RECEIVED, clock)
    found = Translator().translate(read)
    assert sum(found.parsed.values()) == count
    return list(zip(map(msgspec.json.decode, found.values), found.keys, strict=True))


@pytest.mark.parametrize("zone", [UTC, BERLIN])
def test_real_lines_in_one_read_are_what_they_are_alone(zone: tzinfo) -> None:
    """The quick ways to translate a read know all that the parser knows."""
    clock = Clock(NOW, zone)
    expected = [alone(frame, at, clock) for at, frame in enumerate(LINES)]
    assert together(LINES, clock) == expected
    assert [together([frame], clock)[0][0]["data"] for frame in LINES] == [
        value["data"] for value, _ in expected
    ]


@given(
    st.lists((mutated(LINES) | mutated(OK_LINES)).filter(bool), min_size=1, max_size=4)
    | mutated(OK_LINES).filter(bool).map(lambda frame: [frame] * 3),
    st.sampled_from([UTC, BERLIN]),
)
def test_odd_lines_in_one_read_are_what_they_are_alone(frames: list[bytes], zone: tzinfo) -> None:
    """However little they differ from those of real life."""
    clock = Clock(NOW, zone)
    expected = [alone(frame, at, clock) for at, frame in enumerate(frames)]
    assert together(frames, clock) == expected


LARGE = 900_000
RATIO, FLOOR_SECONDS, MOST_SECONDS = 24, 0.02, 2.0
"""Eight times the text may take three times eight times as long, which no square does."""
HEADS = [
    b"",
    b"<34>",
    b"<34>1 ",
    b"<34>Nov 25 10:00:00 ",
    b"<34>Nov 25 10:00:00 host ",
    b"<34>Nov 25 10:00:00 host app[",
    b"<34>2026-11-25T10:00:00.",
    b"<34>65: ",
    b"<34>1 2026-11-25T10:00:00Z host app 1 ID ",
    b"<34>1 2026-11-25T10:00:00Z host app 1 ID [a b=",
]


def seconds(frame: bytes) -> float:
    """The CPU time that it takes, the least of two, since a machine has other work."""
    times = []
    for _ in range(2):
        started = time.thread_time()
        parse(frame, CLOCK)
        times.append(time.thread_time() - started)
    return min(times)


@pytest.mark.parametrize(
    "piece",
    [
        *(b"[", b"]", b":", b"%", b"1", b" ", b'"', b"<", b"-", b"=", b"\\", b"a", b"\0", b"\n"),
        *(
            b"a: ",
            b"1: ",
            b": ",
            b"[1]",
            b"[a]",
            b"[a b=c",
            b"A-1-",
            b"%A-1-A",
            b"Nov 25 10:00:00 ",
        ),
        *(b"1 ", b"1d", b"00:", b"\xff", BOM),
    ],
)
def test_time_is_linear(piece: bytes) -> None:
    """A frame of anything takes about eight times as long as an eighth of it, and not long."""
    for head in HEADS:
        body = piece * (LARGE // len(piece))
        whole = seconds(head + body)
        assert whole < MOST_SECONDS
        assert seconds(head + body[:65_536]) < MOST_SECONDS
        assert whole < RATIO * seconds(head + body[: LARGE // 8]) + FLOOR_SECONDS
