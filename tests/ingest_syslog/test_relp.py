"""RELP sessions: however the bytes are cut, answers come in order, and only for what is done."""

from __future__ import annotations

import re
import tracemalloc
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_syslog import relp
from ingest_syslog.relp import MAX_TXNR, RelpError, Session

LIBRELP = (
    b"1 open 86 relp_version=0\n"
    b"relp_software=librelp,1.11.0,http://librelp.adiscon.com\n"
    b"commands=syslog\n"
)
"""The first bytes of librelp 1.11, as rsyslog 8.2302 sends them."""
OFFERS = b"relp_version=0\ncommands=syslog"
ACCEPTED = b"200 OK\nrelp_version=0\nrelp_software=test,1\ncommands=syslog"
OPENED = b"1 rsp 58 " + ACCEPTED + b"\n"
SERVERCLOSE = b"0 serverclose 0\n"
FRAME_BYTES = 40
MANY = 300


def frame(txnr: int, command: bytes, data: bytes = b"") -> bytes:
    """A frame as librelp writes it."""
    return b"%d %s %d%s\n" % (txnr, command, len(data), b" " + data if data else b"")


def syslog(first: int, *messages: bytes) -> bytes:
    """Syslog frames with consecutive numbers."""
    return b"".join(frame(first + i, b"syslog", message) for i, message in enumerate(messages))


def acks(*txnrs: int) -> bytes:
    """The acknowledgements of frames."""
    return b"".join(b"%d rsp 6 200 OK\n" % txnr for txnr in txnrs)


def new_session(frame_bytes: int = FRAME_BYTES) -> Session:
    """A session before its first byte."""
    return Session(frame_bytes, software="test,1")


def open_session(next_txnr: int = 2, frame_bytes: int = FRAME_BYTES) -> Session:
    """A session that has been opened, its answer written."""
    session = new_session(frame_bytes)
    assert session.feed(frame(1, b"open", OFFERS)) is None
    assert session.take_output() == OPENED
    session._txnr = next_txnr
    return session


class Heard(NamedTuple):
    """All that came of some bytes."""

    frames: list[bytes]
    cuts: list[tuple[int, int]]
    empty: int
    code: str | None
    written: bytes


def hear(pieces: list[bytes], session: Session | None = None) -> Heard:
    """Feed the pieces up to the first error, with every batch done at once."""
    session = session or new_session()
    frames: list[bytes] = []
    cuts: list[tuple[int, int]] = []
    code: str | None = None
    empty, written = 0, b""
    for piece in pieces:
        try:
            batch = session.feed(piece)
        except RelpError as error:
            batch, code = error.batch, error.code
        if batch:
            cuts += [(len(frames) + position, length) for position, length in batch.cuts]
            frames += batch.frames
            empty += batch.empty
            session.done(batch)
        written += session.take_output()
        if code:
            break
    return Heard(frames, cuts, empty, code, written)


CONVERSATION = (
    LIBRELP
    + syslog(2, b"<13>a", b"", b"<13>one\ntwo\0 5 syslog 3 \n6 close 0\n", b"\n\0\r\n", b"x" * 99)
    + b"000000007 syslog 000000001 y\n8 syslog 0 \n9 close 0\n"
)
TRAILING = {
    b"": None,
    b"1": "after_close",
    b"\n": "after_close",
    b"10 syslog 1 x\n": "after_close",
}


@pytest.mark.parametrize(("trailing", "code"), TRAILING.items())
def test_a_conversation_means_the_same_however_it_is_cut(trailing: bytes, code: str | None) -> None:
    """Whole, byte by byte and at every split; what comes after the close is an error."""
    expected = Heard(
        frames=[b"<13>a", b"<13>one\ntwo\0 5 syslog 3 \n6 close 0\n", b"x" * 40, b"y"],
        cuts=[(2, 99)],
        empty=3,
        code=code,
        written=OPENED + acks(2, 3, 4, 5, 6, 7, 8, 9) + SERVERCLOSE,
    )
    text = CONVERSATION + trailing
    assert hear([text]) == expected
    assert hear([text[i : i + 1] for i in range(len(text))]) == expected
    for cut in range(1, len(text)):
        assert hear([text[:cut], text[cut:]]) == expected


def test_librelp_is_answered_as_it_reads_it() -> None:
    """The first line is the status, then come the offers; the length counts all but the trailer."""
    session = Session(100, software="data-highway-ingest,0.1.0,https://example.com")
    before = session.is_open
    assert session.feed(LIBRELP) is None
    assert (before, session.is_open) == (False, True)
    answer = session.take_output()
    header, _, rest = answer.partition(b"\n")
    length = re.fullmatch(rb"1 rsp (\d+) 200 OK", header)
    assert length
    assert len(b"200 OK\n" + rest) == int(length[1]) + 1
    assert rest == (
        b"relp_version=0\n"
        b"relp_software=data-highway-ingest,0.1.0,https://example.com\n"
        b"commands=syslog\n"
    )


@pytest.mark.parametrize(
    "offers",
    [
        b"\nrelp_version=1\nrelp_software=relppy\ncommands=syslog",
        b"commands=syslog\nrelp_version=0\n",
        b"relp_version=999999999\ncommands=other,syslog\n",
        b"relp_version=0\ncommands=other\ncommands=syslog",
        b"relp_version=0\nunheard\nof=\n\ncommands=syslog",
        b"relp_version=0\n" + b"n" * 32 + b"=" + b",".join([b"v" * 255] * 4) + b"\ncommands=syslog",
        b"relp_version=0\nmany=" + b",".join([b"v"] * 64) + b"\ncommands=syslog",
        OFFERS.ljust(4096, b"\n"),
    ],
)
def test_offers_within_limits_are_answered_with_version_0(offers: bytes) -> None:
    """A higher version, unknown offers and their order do not matter."""
    assert hear([frame(1, b"open", offers)]).written == OPENED


BAD_OFFERS = [
    b"",
    b"commands=syslog",
    b"relp_version\ncommands=syslog",
    b"relp_version=\ncommands=syslog",
    b"relp_version=-1\ncommands=syslog",
    b"relp_version=0x\ncommands=syslog",
    b"relp_version=0,\ncommands=syslog",
    b"relp_version=1_0\ncommands=syslog",
    b"relp_version=" + b"1" * 10 + b"\ncommands=syslog",
    b"relp_version=0",
    b"relp_version=0\ncommands=",
    b"relp_version=0\ncommands=Syslog",
    OFFERS + b"\n=nameless",
    OFFERS + b"\n" + b"n" * 33,
    OFFERS + b"\nlong=" + b"v" * 256,
    OFFERS + b"\nmany=" + b",".join([b"v"] * 65),
    OFFERS.ljust(4097, b"\n"),
]
BAD_OFFER = b"1 rsp 52 500 relp_version and commands=syslog must be offered\n"
NOT_OPEN = b"1 rsp 26 500 open the session first\n"
SECOND_OPEN = b"3 rsp 31 500 the session is open already\n"
ONE, OPEN_AND_ONE = syslog(2, b"m"), frame(1, b"open", OFFERS) + syslog(2, b"m")
VIOLATIONS = [
    # what is sent, the code, how many syslog frames are delivered before it, the last answer
    *((frame(1, b"open", offers), "bad_offer", 0, BAD_OFFER) for offers in BAD_OFFERS),
    (syslog(1, b"m"), "not_open", 0, NOT_OPEN),
    (frame(1, b"close"), "not_open", 0, NOT_OPEN),
    (OPEN_AND_ONE + frame(3, b"open", OFFERS), "second_open", 1, SECOND_OPEN),
    (frame(2, b"open", OFFERS), "bad_txnr", 0, b""),
    (frame(0, b"open", OFFERS), "bad_txnr", 0, b""),
    (OPEN_AND_ONE + syslog(2, b"m"), "bad_txnr", 1, b""),
    (OPEN_AND_ONE + syslog(4, b"m"), "bad_txnr", 1, b""),
    (OPEN_AND_ONE + syslog(0, b"m"), "bad_txnr", 1, b""),
    (OPEN_AND_ONE + frame(0, b"serverclose"), "bad_txnr", 1, b""),
    (OPEN_AND_ONE + frame(3, b"rsp", b"200 OK"), "unknown_command", 1, b""),
    (OPEN_AND_ONE + frame(3, b"starttls"), "unknown_command", 1, b""),
    (OPEN_AND_ONE + frame(3, b"SYSLOG", b"m"), "unknown_command", 1, b""),
    (OPEN_AND_ONE + frame(3, b"syslogd", b"m"), "unknown_command", 1, b""),
    (OPEN_AND_ONE + frame(3, b"c" * 32, b"m"), "unknown_command", 1, b""),
    (OPEN_AND_ONE + frame(3, b"c" * 33, b"m"), "bad_frame", 1, b""),
    (OPEN_AND_ONE + frame(3, b"sys-log", b"m"), "bad_frame", 1, b""),
    (OPEN_AND_ONE + b"3 sysl\xc3\xb6g 1 m\n", "bad_frame", 1, b""),
    (OPEN_AND_ONE + b"3  syslog 1 m\n", "bad_frame", 1, b""),
    (OPEN_AND_ONE + b"3 syslog  1 m\n", "bad_frame", 1, b""),
    (OPEN_AND_ONE + b"3 syslog 1\n", "bad_frame", 1, b""),
    (OPEN_AND_ONE + b"3 syslog 1 mm", "bad_frame", 1, b""),
    (OPEN_AND_ONE + b"3 syslog 1 m\r\n", "bad_frame", 1, b""),
    (OPEN_AND_ONE + b"3 syslog 0 m", "bad_frame", 1, b""),
    (OPEN_AND_ONE + b"3 syslog 0m", "bad_frame", 1, b""),
    (OPEN_AND_ONE + b"3 syslog \n", "bad_frame", 1, b""),
    (OPEN_AND_ONE + b"3 syslog +1 m\n", "bad_frame", 1, b""),
    (OPEN_AND_ONE + b"3 syslog 1_0 mmmmmmmmmm\n", "bad_frame", 1, b""),
    (OPEN_AND_ONE + b"3 syslog -1 m\n", "bad_frame", 1, b""),
    (OPEN_AND_ONE + b"3 syslog " + b"1" * 10, "bad_frame", 1, b""),
    (OPEN_AND_ONE + b"1" * 10, "bad_frame", 1, b""),
    (OPEN_AND_ONE + b" 3 syslog 1 m\n", "bad_frame", 1, b""),
    (OPEN_AND_ONE + b"\n", "bad_frame", 1, b""),
    (OPEN_AND_ONE + frame(3, b"close", b"x" * 4097), "bad_frame", 1, b""),
    (b"GET / HTTP/1.1\r\n", "bad_frame", 0, b""),
    (b"\x16\x03\x01\x02", "bad_frame", 0, b""),
    (b"<13>Oct 11 22:14:15 host app: text\n", "bad_frame", 0, b""),
]


@pytest.mark.parametrize(("text", "code", "frames", "answer"), VIOLATIONS)
def test_a_violation_is_named_and_loses_nothing_before_it(
    text: bytes, code: str, frames: int, answer: bytes
) -> None:
    """The same however it is cut: code, delivered frames and answers; a refusal is answered 500."""
    heard = hear([text])
    assert (heard.code, len(heard.frames)) == (code, frames)
    assert heard.written == (OPENED + acks(2)) * frames + answer
    assert hear([text[i : i + 1] for i in range(len(text))]) == heard
    for cut in range(1, len(text)):
        assert hear([text[:cut], text[cut:]]) == heard


def test_a_session_that_failed_stays_failed() -> None:
    """Later bytes raise the same again, and deliver nothing twice."""
    session = open_session()
    with pytest.raises(RelpError) as first:
        session.feed(ONE + b"x")
    assert first.value.batch
    with pytest.raises(RelpError) as second:
        session.feed(syslog(3, b"m"))
    assert (second.value.code, second.value.batch) == ("bad_frame", None)
    assert (session.has_partial, session.held_bytes) == (False, 0)


def test_a_refusal_waits_for_the_frames_before_it() -> None:
    """Answers keep the order of receipt also where the last of them is a 500."""
    session = open_session()
    with pytest.raises(RelpError) as error:
        session.feed(ONE + frame(3, b"open", OFFERS))
    assert session.take_output() == b""
    assert error.value.batch
    session.done(error.value.batch)
    assert session.take_output() == acks(2) + SECOND_OPEN


@pytest.mark.parametrize("text", relp._REFUSALS.values())
def test_refusals_are_no_longer_than_librelp_reads(text: bytes) -> None:
    """Status and text fit into 80 characters of one line."""
    assert re.fullmatch(rb"500 [ -~]{1,76}", text)


@pytest.mark.parametrize("software", ["x" * 256, "two\nlines", "caf\xe9"])
def test_a_software_name_that_breaks_the_answer_is_refused(software: str) -> None:
    """It is checked where it comes in, not when a client connects."""
    with pytest.raises(ValueError, match="software"):
        Session(100, software=software)


def test_nothing_is_answered_before_it_is_done() -> None:
    """Batches done early wait for the ones before them, and the counts say so."""
    session = open_session()
    batches = [session.feed(syslog(first, b"m", b"", b"m")) for first in (2, 5, 8)]
    first, second, third = [batch for batch in batches if batch]
    assert (session.unacked_frames, session.take_output()) == (9, b"")
    session.done(third)
    session.done(second)
    assert (session.unacked_frames, session.take_output()) == (9, b"")
    session.done(first)
    assert (session.unacked_frames, session.take_output()) == (0, acks(*range(2, 11)))
    session.done(first)
    assert (session.unacked_frames, session.take_output()) == (0, b"")


def test_only_the_done_prefix_is_answered() -> None:
    """What is behind a hole waits, what is before it does not."""
    session = open_session()
    first, second, third = [session.feed(syslog(txnr, b"m")) for txnr in (2, 3, 4)]
    assert first
    assert second
    assert third
    session.done(first)
    session.done(third)
    assert session.take_output() == acks(2)
    assert session.unacked_frames == 2
    session.done(second)
    assert session.take_output() == acks(3, 4)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_answers_leave_in_the_order_of_receipt(data: st.DataObject) -> None:
    """For any cut of the stream and any order in which its batches are done, with a close last."""
    messages = data.draw(st.lists(st.binary(max_size=60), min_size=1, max_size=12))
    start = data.draw(st.sampled_from([2, 99, MAX_TXNR - 3]))
    txnrs = [(start + i - 1) % MAX_TXNR + 1 for i in range(len(messages) + 1)]
    text = b"".join(frame(t, b"syslog", m) for t, m in zip(txnrs, messages, strict=False))
    text += frame(txnrs[-1], b"close")
    cuts = sorted(data.draw(st.sets(st.integers(1, len(text) - 1), max_size=8)))
    pieces = [text[i:j] for i, j in zip([0, *cuts], [*cuts, len(text)], strict=True)]

    session = open_session(start)
    batches = [batch for piece in pieces if (batch := session.feed(piece))]
    assert session.take_output() == (b"" if batches else acks(*txnrs) + SERVERCLOSE)
    written, waiting = b"", {batch.turn.first: batch for batch in batches}
    for batch in data.draw(st.permutations(batches)):
        session.done(waiting.pop(batch.turn.first))
        written += session.take_output()
        due = next((i for i, txnr in enumerate(txnrs) if txnr in waiting), len(txnrs))
        assert written == acks(*txnrs[:due]) + SERVERCLOSE * (not waiting)
    assert (session.unacked_frames, session.closing) == (0, True)


ANY_FRAME = st.one_of(
    st.builds(frame, st.integers(0, 6), st.sampled_from([b"syslog", b"close", b"open", b"rsp"])),
    st.builds(frame, st.integers(2, 6), st.just(b"syslog"), st.binary(max_size=60)),
    st.binary(max_size=20),
    st.text("0123456789 syslogcen\n", max_size=20).map(str.encode),
)


@settings(max_examples=300, deadline=None)
@given(st.booleans(), st.lists(ANY_FRAME, max_size=6), st.data())
def test_any_bytes_give_frames_or_a_documented_error(
    opened: bool,  # noqa: FBT001 - hypothesis draws it
    parts: list[bytes],
    data: st.DataObject,
) -> None:
    """And the same ones if they come in two pieces."""
    text = LIBRELP * opened + b"".join(parts)
    heard = hear([text])
    codes = {"bad_frame", "bad_txnr", "unknown_command", "after_close", *relp._REFUSALS}
    assert heard.code is None or heard.code in codes
    cut = data.draw(st.integers(0, len(text)))
    assert hear([text[:cut], text[cut:]]) == heard


def test_a_close_is_answered_after_everything_before_it() -> None:
    """Only then does the session say that it may be closed."""
    session = open_session()
    batch = session.feed(ONE + frame(3, b"close"))
    assert batch
    assert session.take_output() == b""
    assert (session.is_open, session.closing) == (True, False)
    session.done(batch)
    assert (session.is_open, session.closing) == (False, True)
    assert session.take_output() == acks(2, 3) + SERVERCLOSE


def test_a_close_with_data_is_a_close() -> None:
    """It has no meaning, and librelp does not look at it either."""
    assert hear([frame(2, b"close", b"bye")], open_session()).written == acks(2) + SERVERCLOSE


def test_drain_answers_what_is_due_and_nothing_later() -> None:
    """Frames that are fed after it, and answers that come too late, leave no trace on the wire."""
    session = open_session()
    first, second = session.feed(syslog(2, b"m", b"m")), session.feed(syslog(4, b"m") + b"5 sys")
    assert first
    assert second
    session.done(first)
    session.drain()
    assert (session.closing, session.is_open, session.has_partial) == (True, False, False)
    assert session.take_output() == acks(2, 3) + SERVERCLOSE
    assert session.feed(b"log 1 m\n no frame") is None
    assert session.unacked_frames == 1
    session.done(second)
    session.drain()
    assert (session.unacked_frames, session.take_output()) == (0, b"")


def test_drain_overtakes_a_close_that_waits() -> None:
    """The client sends again what had no answer; its close needs none."""
    session = open_session()
    batch = session.feed(ONE + frame(3, b"close"))
    assert batch
    session.drain()
    assert session.take_output() == SERVERCLOSE
    session.done(batch)
    assert (session.closing, session.take_output()) == (True, b"")


def test_drain_after_the_end_says_nothing_twice() -> None:
    """A session that the client closed, or that failed, has had its last word."""
    session = open_session()
    session.feed(frame(2, b"close"))
    session.drain()
    assert session.take_output() == acks(2) + SERVERCLOSE
    session = open_session()
    with pytest.raises(RelpError):
        session.feed(b"x")
    session.drain()
    assert session.take_output() == b""


def test_drain_before_open_says_serverclose() -> None:
    """A client that has just connected learns that it should try elsewhere."""
    session = new_session()
    session.drain()
    assert (session.take_output(), session.closing) == (SERVERCLOSE, True)


@pytest.mark.parametrize("start", range(MAX_TXNR - 4, MAX_TXNR + 1))
def test_numbers_start_again_at_1(start: int) -> None:
    """After 999999999, within a batch and between batches, for frames and for close."""
    txnrs = [*range(start, MAX_TXNR + 1), 1, 2, 3]
    text = b"".join(frame(txnr, b"syslog", b"m") for txnr in txnrs)
    expected = acks(*txnrs, 4) + SERVERCLOSE
    for pieces in [[text, b"4 close 0\n"], [bytes([byte]) for byte in text + b"4 close 0\n"]]:
        heard = hear(pieces, open_session(start))
        assert (heard.code, heard.written) == (None, expected)
    heard = hear([text[: -len(syslog(1, b"m", b"m", b"m"))] + syslog(MAX_TXNR + 1, b"m")])
    assert heard.code


def test_empty_frames_are_counted_and_answered_in_their_turn() -> None:
    """Also a batch of nothing else, which has to be done like any other."""
    session = open_session()
    first = session.feed(syslog(2, b"m"))
    second = session.feed(syslog(3, b"", b"\n", b"\r\n\0\0", b" ", b"\0x"))
    third = session.feed(syslog(8, b"\0" * 10, b""))
    assert first
    assert second
    assert third
    assert (second.frames, second.empty) == ([b" ", b"\0x"], 3)
    assert (third.frames, third.empty) == ([], 2)
    session.done(third)
    session.done(second)
    assert session.take_output() == b""
    session.done(first)
    assert session.take_output() == acks(*range(2, 10))


@pytest.mark.parametrize("length", [1, 9, 10, 39, 40, 41, 99, 100, 999, 2048, 2049, 9999, 70_000])
@pytest.mark.parametrize("frame_bytes", [40, 2048, 65_536])
def test_frames_of_every_size_keep_in_step(length: int, frame_bytes: int) -> None:
    """Those over the limit are cut and told with their length, whole or over many feeds."""
    message = b"<13>"[:length].ljust(length, b"m")
    text = syslog(2, b"before", message, b"between", message, b"after")
    expected = [b"before", message[:frame_bytes], b"between", message[:frame_bytes], b"after"]
    cuts = [(1, length), (3, length)] * (length > frame_bytes)
    for size in (len(text), 4096, 1000):
        pieces = [text[i : i + size] for i in range(0, len(text), size)]
        heard = hear(pieces, open_session(frame_bytes=frame_bytes))
        assert (heard.frames, heard.cuts, heard.empty) == (expected, cuts, 0)
        assert heard.written == acks(*range(2, 7))


def test_a_frame_of_padding_that_is_cut_is_not_empty() -> None:
    """What was thrown away may have been more than padding."""
    heard = hear([syslog(2, b"\0" * 41)], open_session())
    assert (heard.frames, heard.cuts, heard.empty) == ([b"\0" * 40], [(0, 41)], 0)


def test_an_absurd_length_holds_no_more_than_a_frame() -> None:
    """A gigabyte is announced, and 16 MiB of it come; the session stays within its limit."""
    session = open_session(frame_bytes=65_536)
    piece = b"m" * 65_536
    tracemalloc.start()
    try:
        session.feed(b"2 syslog 999999999 ")
        for _ in range(256):
            assert session.feed(piece) is None
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 300_000
    assert (session.has_partial, session.held_bytes) == (True, 65_536)


def test_a_session_without_answers_keeps_counts_only() -> None:
    """Megabytes of frames that wait for Kafka are not kept a second time."""
    session = open_session(frame_bytes=65_536)
    message = b"m" * 1000
    tracemalloc.start()
    try:
        for round_ in range(MANY):
            first = 2 + round_ * 100
            assert session.feed(syslog(first, *[message] * 100))
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert session.unacked_frames == MANY * 100
    assert held < MANY * 1000


def test_a_session_is_full_at_its_bound() -> None:
    """The shell stops reading then; what has been read is still taken."""
    session = Session(100, max_unacked_frames=3)
    session.feed(LIBRELP)
    first, second = session.feed(syslog(2, b"m", b"m")), session.feed(syslog(4, b"", b"m"))
    assert first
    assert second
    assert (session.unacked_frames, session.is_full) == (4, True)
    session.done(first)
    assert (session.unacked_frames, session.is_full) == (2, False)


@pytest.mark.parametrize(
    ("fed", "held"),
    [(b"", 0), (b"2", 1), (b"2 syslog 1", 10), (b"2 syslog 5 ", 0), (b"2 syslog 5 abc", 3)],
)
def test_a_partial_frame_is_told(fed: bytes, held: int) -> None:
    """From its first byte, also while there is nothing to hold."""
    session = open_session()
    session.feed(fed)
    assert (session.has_partial, session.held_bytes) == (bool(fed), held)


def test_cost_does_not_grow_with_the_pieces() -> None:
    """A large frame byte by byte copies each byte once: memory blocks stay, calls are linear."""
    session = open_session(frame_bytes=1 << 20)
    session.feed(b"2 syslog 200000 ")
    data = session._data
    for _ in range(200_000):
        session.feed(b"m")
    assert session._data is data
    batch = session.feed(b"\n")
    assert batch
    assert batch.frames == [b"m" * 200_000]
