"""RFC 3164: what is certain becomes a field, everything else stays in the message."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from ingest_syslog.message import Clock, Message
from ingest_syslog.rfc3164 import parse_rfc3164

CLOCK = Clock(datetime(2026, 11, 25, 12, tzinfo=UTC), UTC)
DATE, NOON = "Nov 25 10:00:00", "2026-11-25T10:00:00Z"
HOST = {"hostname": "host"}
HOSTILE_CHARACTERS = 200_000
HOSTILE_SECONDS = 1.0
"""Of CPU time: some milliseconds are usual, anything quadratic would take minutes."""


def parse(text: str) -> Message:
    """Parse as a caller does."""
    return parse_rfc3164(text, 0, CLOCK)


def expected(timestamp: str | None = NOON, **members: Any) -> Message:
    """Return what the parser fills in, all in order if not said else."""
    status = "partial" if "reason" in members else "ok"
    return Message(format="rfc3164", timestamp=timestamp, **({"status": status} | members))


def undated(**members: Any) -> Message:
    """Return the same without a date."""
    return expected(None, **({"reason": "no_timestamp"} | members))


@pytest.mark.parametrize(
    ("text", "members"),
    [
        ("app: text", {"app_name": "app", "message": "text"}),
        ("app[1]: text", {"app_name": "app", "procid": "1", "message": "text"}),
        ("app[1] text", {"app_name": "app", "procid": "1", "message": "text"}),
        ("app[1]:text", {"app_name": "app", "procid": "1", "message": "text"}),
        ("app[]: text", {"app_name": "app", "message": "text"}),
        ("app:", {"app_name": "app"}),
        ("app: ", {"app_name": "app"}),
        ("app:  text", {"app_name": "app", "message": " text"}),
        ("app:\ttext", {"app_name": "app", "message": "\ttext"}),
        ("app: \ufefftext", {"app_name": "app", "message": "text"}),
        ("app: [1]: text", {"app_name": "app", "message": "[1]: text"}),
        ("app: more: text", {"app_name": "app", "message": "more: text"}),
        ('app:{"a":1}', {"app_name": "app", "message": '{"a":1}'}),
        ("app:[info] text", {"app_name": "app", "message": "[info] text"}),
        ("app:@cee:{}", {"app_name": "app", "message": "@cee:{}"}),
        ("postfix/smtpd[1]: text", {"app_name": "postfix/smtpd", "procid": "1", "message": "text"}),
        ("/usr/sbin/cron[1]: x", {"app_name": "/usr/sbin/cron", "procid": "1", "message": "x"}),
        ("sshd(pam_unix)[1]: x", {"app_name": "sshd(pam_unix)", "procid": "1", "message": "x"}),
        ("docker/1f2e[1]: x", {"app_name": "docker/1f2e", "procid": "1", "message": "x"}),
        ("app[tid-1.2]: text", {"app_name": "app", "procid": "tid-1.2", "message": "text"}),
        ("12[3]: text", {"app_name": "12", "procid": "3", "message": "text"}),
        ("7zip: text", {"app_name": "7zip", "message": "text"}),
        ("\u00e4pp: text", {"app_name": "\u00e4pp", "message": "text"}),
        (f"{'a' * 128}: text", {"app_name": "a" * 128, "message": "text"}),
        (f"app[{'1' * 128}]: text", {"app_name": "app", "procid": "1" * 128, "message": "text"}),
    ],
)
@pytest.mark.parametrize(
    ("before", "told"),
    [
        (f"{DATE} host ", expected(**HOST)),
        (f"{DATE}  host  ", expected(**HOST)),
        (f"{DATE} ", expected()),
        (f"{DATE} - ", expected()),
        ("", undated()),
        ("  ", undated()),
    ],
)
def test_a_tag_is_a_word_that_a_colon_or_a_process_ends(
    text: str, members: dict[str, Any], before: str, told: Message
) -> None:
    """Wherever a tag may stand (section 4.1.3); one space behind it is no text (section 5.3)."""
    assert parse(before + text) == structs.replace(told, **members)


@pytest.mark.parametrize(
    "text",
    [
        *("text", "some text", "app text: more", "app : text", "app:text", "app::sub: text"),
        *("std::map: text", "CEF:0|Vendor|Product", "http://example.com/ text", "C:\\dir: text"),
        *("key=value", "a=b: text", "date=2026-11-25 time=10:00:00", "1,2026/11/25: text"),
        *('{"a": 1}', '"app": text', "<app>: text", "[app]: text", "[1]: text", "|app: text"),
        *("@cee: {}", "%%01SHELL/4/LOGOUT(l)[12]:text", "%LINK-9-UPDOWN: text", "%link: text"),
        *("app[1", "app[1 text", "app[1: text", "app[a b]: text", "app[1][2]: text", "app]: text"),
        *("app [1]: text", "12345: text", "00076 ports: text", "2026-11-25 10:00:00,1 text"),
        *("-- MARK --", "--- text ---", "*** text", ": text", ":", "a" * 129 + ": text"),
        f"app[{'1' * 129}]: text",
        *("\tapp: text", "MSWinEventLog\t1\tSecurity"),
    ],
)
def test_a_word_that_may_be_no_tag_is_text(text: str) -> None:
    """A wrong name of a program is worse than none."""
    assert parse(f"{DATE} host {text}") == expected(**HOST, message=text)


@pytest.mark.parametrize(
    "host",
    [
        *("host", "host-1.example.com", "host_1", "192.0.2.1", "2001:db8::1", "fe80::1%eth0"),
        *("::ffff:192.0.2.1", "host/192.0.2.1", "2009x", "a", "h\u00f6st", "\u4e3b\u673a"),
        *("node@1", "host#1", "a" * 255),
    ],
)
def test_hosts(host: str) -> None:
    """Section 4.1.2 wants a name or an address; devices have other names too."""
    assert parse(f"{DATE} {host} app: text") == expected(
        hostname=host, app_name="app", message="text"
    )
    assert parse(f"{DATE} {host} some text") == expected(hostname=host, message="some text")
    assert parse(f"{DATE} {host}") == expected(hostname=host)
    assert parse(f"{DATE} {host}\ttext") == expected(hostname=host, message="text")


@pytest.mark.parametrize(
    "text",
    [
        *('{"a": 1}', "[info] text", "<b> text", '"quoted" text', "key=value text", "a,b c"),
        *("(root) CMD", "a;b c", "a|b c", "* text", "-text more", ".text more", "@cee: {}"),
        *("CEF:0|Vendor|Product", "app[1 text", "word\x01 text", "a" * 256 + " text"),
        *("last message repeated 3 times", "last message repeated 12 times", "%% text"),
    ],
)
def test_what_is_no_host_is_text(text: str) -> None:
    """Where a date has neither host name nor tag behind it."""
    assert parse(f"{DATE} {text}") == expected(message=text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (DATE, expected()),
        (f"{DATE} ", expected()),
        (f"{DATE} -", expected(message="-")),
        (f"{DATE} - text", expected(message="text")),
        (f"{DATE} - host app: text", expected(message="host app: text")),
        (f"{DATE} host ", expected(**HOST)),
        (f"{DATE} host  text", expected(**HOST, message=" text")),
        (f"{DATE} host text ", expected(**HOST, message="text ")),
        (f"{DATE} host - app: text", expected(**HOST, message="- app: text")),
        (f"{DATE} host: app: text", expected(app_name="host", message="app: text")),
        (f"{DATE}: host app: text", expected(**HOST, app_name="app", message="text")),
        (f"{DATE} last one: text", expected(hostname="last", app_name="one", message="text")),
        (
            f"{DATE} host last message repeated 3 times",
            expected(**HOST, message="last message repeated 3 times"),
        ),
        ("", undated()),
        (" ", undated(message=" ")),
        ("text", undated(message="text")),
        ("  text", undated(message="  text")),
        ("host app: text", undated(message="host app: text")),
        ("1 2", undated(message="1 2")),
        ("Nov 25 10:00:00x host app: x", undated(message="Nov 25 10:00:00x host app: x")),
        (
            "Nov 31 10:00:00 host app: text",
            expected(None, **HOST, app_name="app", message="text", reason="bad_timestamp"),
        ),
        ("Nov 31 10:00:00", expected(None, reason="bad_timestamp")),
    ],
)
def test_each_part_may_be_missing(text: str, message: Message) -> None:
    """Section 4.3 has examples that lack them, and networks have more."""
    assert parse(text) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            f"{DATE} Message forwarded from other: app[1]: text",
            expected(
                hostname="other",
                app_name="app",
                procid="1",
                message="text",
                reason="unrecognised",
            ),
        ),
        (
            f"{DATE} Message forwarded from other: some text",
            expected(hostname="other", message="some text", reason="unrecognised"),
        ),
        (
            f"{DATE} Message forwarded from a b: text",
            expected(hostname="Message", message="forwarded from a b: text"),
        ),
        (
            f"{DATE} host Message forwarded from other: text",
            expected(**HOST, message="Message forwarded from other: text"),
        ),
    ],
)
def test_who_forwarded_is_not_who_sent(text: str, message: Message) -> None:
    """AIX tells the sender in words, which are in no field: that is flagged."""
    assert parse(text) == message


LINK = {"msgid": "%LINK-3-UPDOWN", "message": "text"}
META = {"meta": {"sequenceId": "65"}}
UNSYNCED = {"timeQuality": {"isSynced": "0"}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("%LINK-3-UPDOWN: text", undated(**LINK)),
        ("%LINK-3-UPDOWN : text", undated(**LINK)),
        (": %LINK-3-UPDOWN: text", undated(**LINK)),
        (f": {DATE}: %LINK-3-UPDOWN: text", expected(**LINK)),
        (f":{DATE}: %LINK-3-UPDOWN: text", expected(**LINK)),
        (f"{DATE}: %LINK-3-UPDOWN: text", expected(**LINK)),
        (f"{DATE} %LINK-3-UPDOWN: text", expected(**LINK)),
        (f"{DATE} host %LINK-3-UPDOWN: text", expected(**HOST, **LINK)),
        (f"{DATE} host: %LINK-3-UPDOWN: text", expected(**HOST, **LINK)),
        (f"{DATE} host : %LINK-3-UPDOWN: text", expected(**HOST, **LINK)),
        (f"*{DATE}: %LINK-3-UPDOWN: text", expected(**LINK, structured_data=UNSYNCED)),
        (f".{DATE}: %LINK-3-UPDOWN: text", expected(**LINK, structured_data=UNSYNCED)),
        (f"65: {DATE}: %LINK-3-UPDOWN: text", expected(**LINK, structured_data=META)),
        (f"65: *{DATE}: text", expected(message="text", structured_data=META | UNSYNCED)),
        (f"65: {DATE}: text", expected(message="text", structured_data=META)),
        ("65: %LINK-3-UPDOWN: text", undated(**LINK, structured_data=META)),
        ("65: 1w2d: %LINK-3-UPDOWN: text", undated(**LINK, structured_data=META)),
        (f"host: {DATE}: %LINK-3-UPDOWN: text", expected(**HOST, **LINK)),
        (f"host: *{DATE}: text", expected(**HOST, message="text", structured_data=UNSYNCED)),
        ("host: %LINK-3-UPDOWN: text", undated(**HOST, **LINK)),
        (f"host: 65: {DATE}: text", expected(**HOST, message="text", structured_data=META)),
        (f"65: host: {DATE}: text", expected(**HOST, message="text", structured_data=META)),
        (
            f"2001:db8::1: 65: {DATE}: text",
            expected(hostname="2001:db8::1", message="text", structured_data=META),
        ),
        (
            f"{DATE} host 65: *{DATE}: text",
            expected(**HOST, message=f"*{DATE}: text", structured_data=META),
        ),
        (
            f"{DATE} host 65: %LINK-3-UPDOWN: text",
            expected(**HOST, **LINK, structured_data=META),
        ),
    ],
)
def test_cisco_labels(text: str, message: Message) -> None:
    """Numbers, host names, marks of clocks and mnemonics, in the orders that devices have them."""
    assert parse(text) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"backup: {DATE} done", undated(app_name="backup", message=f"{DATE} done")),
        (f"a: b: {DATE}: text", undated(app_name="a", message=f"b: {DATE}: text")),
        (f"a b: {DATE}: text", undated(message=f"a b: {DATE}: text")),
        ("65: text", undated(message="65: text")),
        ("65: 66: text", undated(message="65: 66: text")),
        (f"65: 66: 67: {DATE}: text", undated(message=f"65: 66: 67: {DATE}: text")),
        (f"{'1' * 21}: {DATE} x", undated(message=f"{'1' * 21}: {DATE} x")),
        ("%link-3-updown: text", undated(message="%link-3-updown: text")),
        ("%LINK-3-UPDOWN text", undated(message="%LINK-3-UPDOWN text")),
        ("%LINK-8-UPDOWN: text", undated(message="%LINK-8-UPDOWN: text")),
        (
            f"{DATE} host app[1]: %LINK-3-UPDOWN: text",
            expected(**HOST, app_name="app", procid="1", message="%LINK-3-UPDOWN: text"),
        ),
        (f"{DATE} host text %LINK-3-X: y", expected(**HOST, message="text %LINK-3-X: y")),
        (f"{DATE} host 65: text", expected(**HOST, message="65: text")),
    ],
)
def test_what_only_looks_like_cisco_is_text(text: str, message: Message) -> None:
    """Other programs write words, numbers, colons and dates as well."""
    assert parse(text) == message


def test_reading_begins_where_it_is_told() -> None:
    """What comes before belongs to the caller."""
    text = "<34>65: Nov 25 10:00:00: text"
    assert parse_rfc3164(text, 4, CLOCK) == expected(message="text", structured_data=META)


PIECES = st.sampled_from(
    [
        *(DATE, f"{DATE} ", "host ", "app: ", "app[1]: ", "65: ", ": ", ":", " ", "  ", "-", "- "),
        *("[", "]", "%LINK-3-UPDOWN: ", "*", ".", "Message forwarded from x: ", "1w2d: ", "text"),
        *("\ufeff", "\n", "\t", "\0", "é", "=", '"', "Nov 31 10:00:00", "2026-11-25T10:00:00Z"),
    ]
)


@given(st.text(max_size=60) | st.lists(PIECES, max_size=12).map("".join))
def test_any_text_has_an_answer(text: str) -> None:
    """It is ok without a reason or partial with one; each part is in the text, in this order."""
    message = parse(text)
    assert message.format == "rfc3164"
    assert (message.status, message.reason) == ("ok", None) or (
        message.status == "partial"
        and message.reason in ("no_timestamp", "bad_timestamp", "unrecognised")
    )
    position = 0
    for part in (message.hostname, message.app_name, message.procid, message.msgid):
        if part is not None:
            position = text.index(part, position) + len(part)
    assert text.endswith(message.message or "", position)


@pytest.mark.parametrize(
    "head",
    ["", " ", "65: ", f"{DATE} ", f"{DATE} host", f"{DATE} host ", f"{DATE} host app[", "%A-1-"],
)
@pytest.mark.parametrize(
    "piece",
    [" ", ":", ": ", "a: ", "1: ", "[", "]", "[1]", "%", "%A-1-B", "A-1-", "1", "a", "-", "\ufeff"],
)
def test_time_is_linear(head: str, piece: str) -> None:
    """More than a datagram or a frame of anything is a matter of milliseconds."""
    text = head + piece * (HOSTILE_CHARACTERS // len(piece))
    started = time.thread_time()
    parse(text)
    assert time.thread_time() - started < HOSTILE_SECONDS
