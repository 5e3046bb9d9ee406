"""RFC 5424 is read whole, what deviates from it as far as it is clear, and that is flagged."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_syslog.message import REASONS, Message
from ingest_syslog.pri import read_pri
from ingest_syslog.rfc5424 import parse_rfc5424

if TYPE_CHECKING:
    from datetime import tzinfo

NOON = "2003-10-11T12:00:00Z"
HEADER = f"<13>1 {NOON} host app 42 id"
"""Up to where structured data is due."""
FIELDS = {"hostname": "host", "app_name": "app", "procid": "42", "msgid": "id"}
HOSTILE_CHARACTERS = 200_000
HOSTILE_SECONDS = 5.0
"""Of CPU time: some hundredths are usual, anything quadratic would take minutes."""


def parse(text: str, zone: tzinfo | None = None) -> Message | None:
    """Parse as a caller does."""
    return parse_rfc5424(text, read_pri(text), zone)


def expected(**members: Any) -> Message:
    """Return what the parser fills in of a message with PRI 13, all in order if not said else."""
    status = "partial" if "reason" in members else "ok"
    known: dict[str, Any] = {"facility": 1, "severity": 5, "timestamp": NOON, "status": status}
    return Message(format="rfc5424", **(known | members))


RFC_EXAMPLES = [
    (
        (
            "<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 -"
            " \ufeff'su root' failed for lonvick on /dev/pts/8"
        ),
        expected(
            facility=4,
            severity=2,
            timestamp="2003-10-11T22:14:15.003Z",
            hostname="mymachine.example.com",
            app_name="su",
            msgid="ID47",
            message="'su root' failed for lonvick on /dev/pts/8",
        ),
    ),
    (
        (
            "<165>1 2003-08-24T05:14:15.000003-07:00 192.0.2.1 myproc 8710 - -"
            " %% It's time to make the do-nuts."
        ),
        expected(
            facility=20,
            severity=5,
            timestamp="2003-08-24T05:14:15.000003-07:00",
            hostname="192.0.2.1",
            app_name="myproc",
            procid="8710",
            message="%% It's time to make the do-nuts.",
        ),
    ),
    (
        (
            "<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47"
            ' [exampleSDID@32473 iut="3" eventSource="Application" eventID="1011"]'
            " \ufeffAn application event log entry..."
        ),
        expected(
            facility=20,
            severity=5,
            timestamp="2003-10-11T22:14:15.003Z",
            hostname="mymachine.example.com",
            app_name="evntslog",
            msgid="ID47",
            structured_data={
                "exampleSDID@32473": {
                    "iut": "3",
                    "eventSource": "Application",
                    "eventID": "1011",
                }
            },
            message="An application event log entry...",
        ),
    ),
    (
        (
            "<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47"
            ' [exampleSDID@32473 iut="3" eventSource="Application" eventID="1011"]'
            '[examplePriority@32473 class="high"]'
        ),
        expected(
            facility=20,
            severity=5,
            timestamp="2003-10-11T22:14:15.003Z",
            hostname="mymachine.example.com",
            app_name="evntslog",
            msgid="ID47",
            structured_data={
                "exampleSDID@32473": {
                    "iut": "3",
                    "eventSource": "Application",
                    "eventID": "1011",
                },
                "examplePriority@32473": {"class": "high"},
            },
        ),
    ),
]
"""Section 6.5; what it writes as BOM is U+FEFF."""
IN_ORDER = [
    ("<13>1 - - - - - -", expected(timestamp=None)),
    ("<13>1 - - - - - - ", expected(timestamp=None)),
    ("<13>1 - - - - - - -", expected(timestamp=None, message="-")),
    (f"<0>1 {NOON} - - - - -", expected(facility=0, severity=0)),
    (f"<191>1 {NOON} - - - - -", expected(facility=23, severity=7)),
    (f"{HEADER} -", expected(**FIELDS)),
    (f"{HEADER} - ", expected(**FIELDS)),
    (f"{HEADER} - \ufeff", expected(**FIELDS)),
    (f"{HEADER} - text", expected(**FIELDS, message="text")),
    (f"{HEADER} -  text ", expected(**FIELDS, message=" text ")),
    (f"{HEADER} - text  \t", expected(**FIELDS, message="text  \t")),
    (f"{HEADER} - BOMtext", expected(**FIELDS, message="BOMtext")),
    (f"{HEADER} - \ufeff\ufefftext\ufeff", expected(**FIELDS, message="\ufefftext\ufeff")),
    (f"{HEADER} -  \ufefftext", expected(**FIELDS, message=" \ufefftext")),
    (f"{HEADER} - a\0b\nc\x1b[0m\r\n", expected(**FIELDS, message="a\0b\nc\x1b[0m\r\n")),
    (f"{HEADER} - [a]", expected(**FIELDS, message="[a]")),
    (f"{HEADER} - {NOON} <13>1", expected(**FIELDS, message=f"{NOON} <13>1")),
    (f"{HEADER} [a]", expected(**FIELDS, structured_data={"a": {}})),
    (f"{HEADER} [a] ", expected(**FIELDS, structured_data={"a": {}})),
    (f"{HEADER} [a] [b]", expected(**FIELDS, structured_data={"a": {}}, message="[b]")),
    (
        rf'{HEADER} [a b="\"\\\]" c="\n"][d e="f"] text',
        expected(
            **FIELDS,
            structured_data={"a": {"b": '"\\]', "c": "\\n"}, "d": {"e": "f"}},
            message="text",
        ),
    ),
    (
        f"<13>1 {NOON} {'h' * 300} {'a' * 100} {'p' * 200} {'m' * 50} -",
        expected(hostname="h" * 300, app_name="a" * 100, procid="p" * 200, msgid="m" * 50),
    ),
    (
        f"<13>1 {NOON} hôst äpp 42\t\0 --- -",
        expected(hostname="hôst", app_name="äpp", procid="42\t\0", msgid="---"),
    ),
    (
        f"<13>1 {NOON} [h] [a] [p] [m] -",
        expected(hostname="[h]", app_name="[a]", procid="[p]", msgid="[m]"),
    ),
]
"""Nothing is lost, so nothing is flagged."""
DEVIATIONS = [
    (f"<013>1 {NOON} - - - - -", expected(reason="bad_pri")),
    (f"<999>1 {NOON} - - - - -", expected(facility=None, severity=None, reason="bad_pri")),
    (f"1 {NOON} - - - - -", expected(facility=None, severity=None, reason="no_pri")),
    (f"<13>0 {NOON} - - - - -", expected(reason="bad_version")),
    (f"<13>2 {NOON} - - - - -", expected(reason="bad_version")),
    (f"<13>12 {NOON} - - - - -", expected(reason="bad_version")),
    (f"<13>01 {NOON} - - - - -", expected(reason="bad_version")),
    ("<13>2 - - - - - -", expected(timestamp=None, reason="bad_version")),
    (f"<999>2 {NOON} [", expected(facility=None, severity=None, hostname="[", reason="bad_pri")),
    (f"<13>2 {NOON} - - - - [", expected(reason="bad_version", message="[")),
    # fields that are missing
    (f"<13>1 {NOON}", expected(reason="unrecognised")),
    (f"<13>1 {NOON} ", expected(reason="unrecognised")),
    ("<13>1 -", expected(timestamp=None, reason="unrecognised")),
    ("<13>1 - ", expected(timestamp=None, reason="unrecognised")),
    (f"<13>1 {NOON} host", expected(hostname="host", reason="unrecognised")),
    (f"<13>1 {NOON} host ", expected(hostname="host", reason="unrecognised")),
    (f"<13>1 {NOON} host app", expected(hostname="host", app_name="app", reason="unrecognised")),
    (f"<13>1 {NOON} - - -", expected(reason="unrecognised")),
    (HEADER, expected(**FIELDS, reason="bad_structured_data")),
    (f"{HEADER} ", expected(**FIELDS, reason="bad_structured_data")),
    (f"{HEADER} text", expected(**FIELDS, message="text", reason="bad_structured_data")),
    (f"{HEADER}  text", expected(**FIELDS, message=" text", reason="bad_structured_data")),
    (f"{HEADER} -text", expected(**FIELDS, message="-text", reason="bad_structured_data")),
    (f"{HEADER} \ufefftext", expected(**FIELDS, message="text", reason="bad_structured_data")),
    (
        f"<13>1 {NOON} host app 42 this is  text",
        expected(**(FIELDS | {"msgid": "this"}), message="is  text", reason="bad_structured_data"),
    ),
    (
        f"<13>1 {NOON} host app 42 - text",
        expected(
            hostname="host",
            app_name="app",
            procid="42",
            message="text",
            reason="bad_structured_data",
        ),
    ),
    (
        f'<13>1 {NOON} host app 42 [a b="c"] text',
        expected(
            hostname="host",
            app_name="app",
            procid="42",
            structured_data={"a": {"b": "c"}},
            message="text",
            reason="unrecognised",
        ),
    ),
    (
        f"<13>1 {NOON} host app 42 [a b",
        expected(
            hostname="host",
            app_name="app",
            procid="42",
            message="[a b",
            reason="bad_structured_data",
        ),
    ),
    # spaces
    (f"<13>1  {NOON} - - - - -", expected(reason="unrecognised")),
    (f"<13>1 {NOON}  host app 42 id -", expected(**FIELDS, reason="unrecognised")),
    (f"<13>1 {NOON} host  app 42 id -", expected(**FIELDS, reason="unrecognised")),
    (f"<13>1 {NOON} host app  42   id -", expected(**FIELDS, reason="unrecognised")),
    (f"{HEADER}  -", expected(**FIELDS, reason="unrecognised")),
    (f"{HEADER}  - text", expected(**FIELDS, message="text", reason="unrecognised")),
    (
        f"{HEADER}   [a]  text",
        expected(**FIELDS, structured_data={"a": {}}, message=" text", reason="unrecognised"),
    ),
    (
        f"<13>1 {NOON} host app 42  - text",
        expected(
            hostname="host", app_name="app", procid="42", message="text", reason="unrecognised"
        ),
    ),
    (
        f"<13>1 {NOON} host  42 id [a] text",
        expected(
            hostname="host",
            procid="42",
            msgid="id",
            structured_data={"a": {}},
            message="text",
            reason="unrecognised",
        ),
    ),
    (f"<13>1 {NOON}     -", expected(reason="unrecognised")),
    (
        f"<13>1 {NOON} host  42 id text",
        expected(
            hostname="host", procid="42", msgid="id", message="text", reason="bad_structured_data"
        ),
    ),
    # structured data
    (
        f"{HEADER} [Originator@6876 sub=Vimsvc opID=x] text",
        expected(
            **FIELDS,
            structured_data={"Originator@6876": {"sub": "Vimsvc", "opID": "x"}},
            message="text",
            reason="bad_structured_data",
        ),
    ),
    (
        f'{HEADER} [a b="c"]text',
        expected(
            **FIELDS,
            structured_data={"a": {"b": "c"}},
            message="text",
            reason="bad_structured_data",
        ),
    ),
    (
        f'{HEADER} [a b="c"][d e="f text',
        expected(**FIELDS, message='[a b="c"][d e="f text', reason="bad_structured_data"),
    ),
    (
        f'{HEADER} [a b="c" b="d"] text',
        expected(
            **FIELDS,
            structured_data={"a": {"b": "d"}},
            message="text",
            reason="duplicate_param",
        ),
    ),
    (
        f'<13>1 {NOON} host  42 id [a b="c"][a b="d"]',
        expected(
            hostname="host",
            procid="42",
            msgid="id",
            structured_data={"a": {"b": "d"}},
            reason="duplicate_param",
        ),
    ),
]
OTHERS = [
    "",
    "<13>",
    "<13>1",
    "<13>1 ",
    "<13>text",
    "<13>1 text",
    "<13>1 -text",
    "<13>1-",
    "<13>- - - - - - -",
    "<13>v1 - - - - - -",
    "<13>123 - - - - - -",
    "<13>1\t- - - - - -",
    "<13>1 Oct 11 22:14:15 host app: text",
    "<13>1 Oct 11 2003 22:14:15 host app: text",
    "<13>Oct 11 22:14:15 host app: text",
    f"<13>{NOON} host app: text",
    f"<13> 1 {NOON} host app 42 id -",
    f"<13>1{NOON} host app 42 id -",
    f"<13>1 {NOON}host app 42 id -",
    f"<13>1 {NOON}\thost app 42 id -",
    f"<13>1 {NOON}\n",
    "<13>1 -\n",
    "<13>1 20031011T120000Z host app 42 id -",
    "<13>1 2003-10-11 host app 42 id -",
    "<13>1 2003-10-1T12:00:00Z host app 42 id -",
    "<13>1 2003-10-11T12:00Z host app 42 id -",
    "<13>1 2003-10-11T12:00:00CEST host app 42 id -",
    "<13>1 ٢٠٠٣-10-11T12:00:00Z host app 42 id -",
    f"<>1 {NOON} host app 42 id -",
    f"<12345678901234567890>1 {NOON} host app 42 id -",
    f" <13>1 {NOON} host app 42 id -",
    "1 - first, do no harm",
    "1 - - - - - - text",
    "{}",
]
TIMESTAMPS = [
    ("1985-04-12T23:20:50.52Z", "1985-04-12T23:20:50.52Z"),
    ("1985-04-12T19:20:50.52-04:00", "1985-04-12T19:20:50.52-04:00"),
    ("2003-10-11T22:14:15.003Z", "2003-10-11T22:14:15.003Z"),
    ("2003-08-24T05:14:15.000003-07:00", "2003-08-24T05:14:15.000003-07:00"),
    ("2003-08-24T05:14:15.000000003-07:00", "2003-08-24T05:14:15.000000003-07:00"),
    ("2003-08-24T05:14:15Z", "2003-08-24T05:14:15Z"),
    ("2003-08-24T05:14:15.0Z", "2003-08-24T05:14:15.0Z"),
    ("2003-08-24T05:14:15.Z", "2003-08-24T05:14:15Z"),
    ("2003-08-24T05:14:15,123Z", "2003-08-24T05:14:15.123Z"),
    ("2003-08-24t05:14:15z", "2003-08-24T05:14:15Z"),
    ("2003-08-24 05:14:15Z", "2003-08-24T05:14:15Z"),
    ("2003-08-24 05:14:15.5 +02:00", "2003-08-24T05:14:15.5+02:00"),
    ("2003-08-24T05:14:15+0530", "2003-08-24T05:14:15+05:30"),
    ("2003-08-24T05:14:15-03", "2003-08-24T05:14:15-03:00"),
    ("2003-08-24T05:14:15-00:00", "2003-08-24T05:14:15-00:00"),
    ("2003-08-24T05:14:15+23:59", "2003-08-24T05:14:15+23:59"),
    ("2004-02-29T23:59:59Z", "2004-02-29T23:59:59Z"),
    ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
    ("9999-12-31T23:59:59.999999999-12:00", "9999-12-31T23:59:59.999999999-12:00"),
]
BAD_TIMESTAMPS = [
    ("2003-08-24T05:14:15.1234567891Z", "2003-08-24T05:14:15.123456789Z"),
    ("2003-08-24T05:14:15.0000000000+0100", "2003-08-24T05:14:15.000000000+01:00"),
    ("2003-02-31T05:14:15Z", None),
    ("2003-02-29T05:14:15Z", None),
    ("2003-04-31T05:14:15Z", None),
    ("2003-13-01T05:14:15Z", None),
    ("2003-00-01T05:14:15Z", None),
    ("2003-01-00T05:14:15Z", None),
    ("2003-01-32T05:14:15Z", None),
    ("0000-01-01T05:14:15Z", None),
    ("2003-08-24T24:00:00Z", None),
    ("2003-08-24T25:00:00Z", None),
    ("2003-08-24T05:60:15Z", None),
    ("2016-12-31T23:59:60Z", None),
    ("2003-08-24T05:14:61.5Z", None),
    ("2003-08-24T05:14:15+24:00", None),
    ("2003-08-24T05:14:15-05:60", None),
    ("2003-08-24T05:14:15", None),
    ("2003-08-24 05:14:15.5", None),
]
LOCAL_TIMES = [
    ("2003-08-24T05:14:15", UTC, "2003-08-24T05:14:15+00:00"),
    ("2003-08-24T05:14:15.25", ZoneInfo("Europe/Berlin"), "2003-08-24T05:14:15.25+02:00"),
    ("2003-01-24 05:14:15", ZoneInfo("Europe/Berlin"), "2003-01-24T05:14:15+01:00"),
    ("2003-01-24T05:14:15", ZoneInfo("America/St_Johns"), "2003-01-24T05:14:15-03:30"),
    ("2003-01-24T05:14:15Z", ZoneInfo("Europe/Berlin"), "2003-01-24T05:14:15Z"),
]


@pytest.mark.parametrize(("text", "message"), RFC_EXAMPLES)
def test_the_examples_of_the_rfc(text: str, message: Message) -> None:
    """Section 6.5."""
    assert parse(text) == message


@pytest.mark.parametrize(("text", "message"), IN_ORDER)
def test_what_loses_nothing_is_ok(text: str, message: Message) -> None:
    """Nil values, names of any length and alphabet, and any text as the message."""
    assert parse(text) == message


@pytest.mark.parametrize(("text", "message"), DEVIATIONS)
def test_deviations_are_taken_and_flagged(text: str, message: Message) -> None:
    """As far as it is clear what is meant; the rest is the message."""
    assert parse(text) == message


@pytest.mark.parametrize("text", OTHERS)
def test_what_is_something_else_is_left_to_others(text: str) -> None:
    """Version and time are what tells it from RFC 3164."""
    assert parse(text) is None


@pytest.mark.parametrize(("text", "timestamp"), TIMESTAMPS)
def test_timestamps_are_spelled_as_rfc_3339_does(text: str, timestamp: str) -> None:
    """Another spelling of the same moment is no loss."""
    assert parse(f"<13>1 {text} host app 42 id - text") == expected(
        **FIELDS, timestamp=timestamp, message="text"
    )


@pytest.mark.parametrize(("text", "timestamp"), BAD_TIMESTAMPS)
def test_bad_timestamps_are_flagged(text: str, timestamp: str | None) -> None:
    """A fraction loses its last digits, what is no moment is left out, and all else is read."""
    assert parse(f"<13>1 {text} host app 42 id - text") == expected(
        **FIELDS, timestamp=timestamp, message="text", reason="bad_timestamp"
    )


@pytest.mark.parametrize(("text", "zone", "timestamp"), LOCAL_TIMES)
def test_local_times_get_the_zone_that_is_configured(
    text: str, zone: tzinfo, timestamp: str
) -> None:
    """With the offset of that day, and only where the sender tells none."""
    assert parse(f"<13>1 {text} host app 42 id -", zone) == expected(**FIELDS, timestamp=timestamp)


@pytest.mark.parametrize("text", ["1800-01-01T00:00:00", "2003-02-31T00:00:00"])
def test_local_times_that_rfc_3339_cannot_tell_are_flagged(text: str) -> None:
    """Offsets with seconds, of the time before time zones, and days that do not exist."""
    message = parse(f"<13>1 {text} host app 42 id -", ZoneInfo("Europe/Paris"))
    assert message == expected(**FIELDS, timestamp=None, reason="bad_timestamp")


PRINTABLE = st.characters(min_codepoint=33, max_codepoint=126)
ESCAPED = str.maketrans({"\\": r"\\", '"': r"\"", "]": r"\]"})


def names(most: int) -> st.SearchStrategy[str]:
    """Return header fields of up to ``most`` characters, or nil."""
    return st.just("-") | st.text(PRINTABLE, min_size=1, max_size=most)


SD_NAMES = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters='=]"'),
    min_size=1,
    max_size=32,
)
PARAMS = st.dictionaries(SD_NAMES, st.text(max_size=20) | st.text('\\"] '), max_size=4)
MOMENTS = st.datetimes(
    timezones=st.integers(-23 * 60 - 59, 23 * 60 + 59).map(
        lambda minutes: timezone(timedelta(minutes=minutes))
    )
)


@given(
    number=st.integers(0, 191),
    moment=st.none() | MOMENTS,
    fields=st.tuples(names(255), names(48), names(128), names(32)),
    elements=st.dictionaries(SD_NAMES, PARAMS, max_size=3),
    bom=st.sampled_from(["", "\ufeff"]),
    text=st.none() | st.text(max_size=40).filter(lambda text: not text.startswith("\ufeff")),
)
def test_what_is_written_by_the_rfc_is_read_back(
    number: int,
    moment: datetime | None,
    fields: tuple[str, ...],
    elements: dict[str, dict[str, str]],
    bom: str,
    text: str | None,
) -> None:
    """Every part of it, whatever it is, and nothing is flagged."""
    timestamp = None if moment is None else moment.isoformat()
    structured_data = "".join(
        f"[{name}"
        + "".join(f' {key}="{value.translate(ESCAPED)}"' for key, value in params.items())
        + "]"
        for name, params in elements.items()
    )
    parts = [f"<{number}>1", timestamp or "-", *fields, structured_data or "-"]
    written = " ".join(parts) + ("" if text is None else f" {bom}{text}")
    hostname, app_name, procid, msgid = (None if field == "-" else field for field in fields)
    assert parse(written) == Message(
        facility=number // 8,
        severity=number % 8,
        timestamp=timestamp,
        hostname=hostname,
        app_name=app_name,
        procid=procid,
        msgid=msgid,
        structured_data=elements or None,
        message=text or None,
        format="rfc5424",
        status="ok",
    )


PIECES = st.sampled_from(
    [
        *'1- []"\\=aT.\n\0\ufeffé',
        "<13>",
        "<999>",
        "12",
        "  ",
        "+02",
        "[a",
        '[a b="c"]',
        NOON,
        "2003-02-31T05:14:15",
    ]
)


@given(
    st.text(max_size=40)
    | st.lists(PIECES, max_size=20).map("".join)
    | st.lists(PIECES, max_size=20).map(lambda pieces: f"<13>1 {NOON} " + "".join(pieces)),
    st.none() | st.just(UTC),
)
def test_any_text_has_an_answer(text: str, zone: tzinfo | None) -> None:
    """It is ok without a reason or partial with one, and invents no text."""
    message = parse(text, zone)
    if message is None:
        return
    assert message.format == "rfc5424"
    assert (message.status, message.reason) == ("ok", None) or (
        message.status == "partial" and message.reason in REASONS
    )
    for part in (message.hostname, message.app_name, message.procid, message.msgid):
        assert part is None or (part and " " not in part and part in text)
    assert message.message is None or text.endswith(message.message)
    assert message.timestamp is None or datetime.fromisoformat(message.timestamp).tzinfo


@given(st.text('<13> -[]="\\:TZ0a\ufeff', max_size=60))
def test_a_whole_message_is_read_the_same_whatever_its_text(text: str) -> None:
    """The message is what follows structured data, exactly."""
    assert parse(f"{HEADER} [a] x{text}") == expected(
        **FIELDS, structured_data={"a": {}}, message=f"x{text}"
    )


@pytest.mark.parametrize(
    "head", ["", "<", "<13>", "<13>1", "<13>1 ", f"<13>1 {NOON}", f"<13>1 {NOON} ", f"{HEADER} "]
)
@pytest.mark.parametrize(
    "piece", [" ", "-", "- ", " -", "1", "[", '"', "\\", "=", "[a] ", "\ufeff"]
)
def test_time_is_linear(head: str, piece: str) -> None:
    """More than a datagram or a frame of anything is a matter of milliseconds."""
    text = head + piece * (HOSTILE_CHARACTERS // len(piece))
    started = time.thread_time()
    parse(text)
    assert time.thread_time() - started < HOSTILE_SECONDS


def test_time_is_linear_in_a_fraction() -> None:
    """Nor do digits without end take longer, and they are cut."""
    digits = "1" * HOSTILE_CHARACTERS
    started = time.thread_time()
    message = parse(f"<13>1 2003-10-11T12:00:00.{digits}Z host app 42 id -")
    assert time.thread_time() - started < HOSTILE_SECONDS
    assert message == expected(
        **FIELDS, timestamp="2003-10-11T12:00:00.111111111Z", reason="bad_timestamp"
    )
