"""The campaign's verdict finds what it is there to find: each defect, planted alone."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice

import pytest

from loadtest.book import NO_ANSWER, OK, RETRY, SPOOLED, UNKNOWN, Book, Sent
from loadtest.campaign_faults import Happened
from loadtest.campaign_ledger import Ledger
from loadtest.campaign_plan import HTTP, SYSLOG
from loadtest.campaign_read_back import Copies
from loadtest.campaign_verdict import (
    ALLOWED,
    EXCESS,
    NEVER_ANSWERED,
    OUT_OF_ORDER,
    REFUSED,
    REPLAY_EVENTS,
    UNEXPLAINED,
    Circumstances,
    Verdict,
    judge_http,
    judge_numbered,
)
from loadtest.read_back import Record
from loadtest.syslog_messages import MESSAGE_BYTES, Mark, mark, messages

RATES = {"http": 10.0, "tcp": 10.0, "udp": 10.0, "relp": 10.0}
IN_FLIGHT = {"http": 2, "relp": 2}
POOL = list(islice(messages("rfc5424", 1, datetime(2026, 11, 26, tzinfo=UTC)), 10))
CALM = Circumstances([], spool=True, rates=RATES, in_flight=IN_FLIGHT)


def after(*faults: Happened, spool: bool = True) -> Circumstances:
    """What is excused after these faults."""
    return Circumstances(faults, spool=spool, rates=RATES, in_flight=IN_FLIGHT)


def kill(service: str, at: float) -> Happened:
    """A worker of ``service`` that was killed."""
    return Happened("worker killed", service, at, at + 0.1)


def book(*answers: str) -> Book:
    """Event ``e0``, ``e1``, … of one key, each sent once, answered in that order."""
    result = Book()
    number = result.sending({f"e{at}": Sent("k", at, crc=at) for at in range(len(answers))})
    indices: dict[str, list[int]] = {}
    for index, answer in enumerate(answers):
        indices.setdefault(answer, []).append(index)
    result.answered(number, 200, indices)
    return result


def records(*numbers: int) -> list[Record]:
    """The records of these events, one after the other in one partition."""
    return [Record(0, offset, f"e{at}", crc=at) for offset, at in enumerate(numbers)]


def ledger(count: int, *, acked: bool = False) -> Ledger:
    """A sender of ``count`` messages, one a second from 100 on."""
    result = Ledger()
    for number in range(count):
        result.sending(1, 100.0 + number)
        if acked:
            result.acknowledged(number)
    return result


def numbered(message: bytes, sender: int, sequence: int) -> bytes:
    """The message with these numbers in it."""
    return message.replace(b'client="0000"', b'client="%04d"' % sender).replace(
        b'seq="000000000"', b'seq="%09d"' % sequence
    )


def envelope(sender: int, sequence: int, text: bytes | None = None) -> bytes:
    """What the gateway makes of a message; ``text`` instead of its own."""
    header, _, own = numbered(POOL[sequence % 10], sender, sequence).partition(b'"] ')
    _, _, host, app, *_ = header.split(b" ")
    message = (own if text is None else text).replace(b'"', b'\\"')
    return (
        b'{"id":"x","data":{"hostname":"%b","app_name":"%b","status":"ok","structured_data":'
        b'{"meta":{"client":"%04d","seq":"%09d"}},"message":"%b"}}'
        % (host, app, sender, sequence, message)
    )


def copies(*numbers: int, sender: int = 0) -> Copies:
    """A topic with these messages of one sender."""
    result = Copies(POOL)
    for number in numbers:
        result.note(envelope(sender, number))
    return result


def broken(result: Verdict) -> dict[str, int]:
    """The promises that were not kept, and how often."""
    return {name: result.counts[name] for name in result.broken}


def test_a_clean_round_is_ok() -> None:
    """Everything is there once, whichever way it came."""
    assert not judge_http(book(OK, OK, SPOOLED), records(0, 1, 2), CALM).broken
    for way in ("tcp", "udp", "relp"):
        assert not judge_numbered(way, [ledger(3, acked=True)], copies(0, 1, 2), CALM).broken


def test_a_round_that_shows_nothing_is_not_ok() -> None:
    """A verdict over nothing would be good for ever."""
    assert judge_http(book(NO_ANSWER), [], CALM).broken == ["nothing is present"]
    assert judge_numbered("udp", [ledger(0)], copies(), CALM).broken == ["nothing is present"]


@pytest.mark.parametrize("answer", [OK, SPOOLED])
def test_a_loss_over_http_is_found(answer: str) -> None:
    """However much was killed."""
    circumstances = after(kill(HTTP, 100), kill(SYSLOG, 100))
    result = judge_http(book(OK, answer), records(0), circumstances)
    assert broken(result) == {"acknowledged and missing": 1}


def test_a_loss_over_relp_is_found() -> None:
    """A kill is no excuse for what was acknowledged."""
    result = judge_numbered("relp", [ledger(3, acked=True)], copies(0, 2), after(kill(SYSLOG, 102)))
    assert broken(result) == {"acknowledged and missing": 1}


def test_a_message_over_relp_that_is_never_answered_is_found() -> None:
    """Its client waits, and everything is mended: it must be answered in the end."""
    result = judge_numbered("relp", [ledger(3)], copies(0, 2), after(kill(SYSLOG, 102)))
    assert broken(result) == {NEVER_ANSWERED: 1}


def test_a_refusal_over_relp_is_found() -> None:
    """Librelp throws such a message away: the gateway must not answer like that."""
    sender = ledger(3, acked=True)
    sender.refused(1)
    assert broken(judge_numbered("relp", [sender], copies(0, 1, 2), CALM)) == {REFUSED: 1}


def test_what_was_answered_as_not_taken_must_not_be_there() -> None:
    """A client that sends it again would double it."""
    assert broken(judge_http(book(OK, RETRY), records(0, 1), CALM)) == {
        "answered not but present": 1
    }


def test_a_record_that_nobody_sent_is_found() -> None:
    """Of a number that was not reached, of an unknown sender, or without a number."""
    over_http = judge_http(book(OK), [*records(0), Record(1, 0, "stranger", crc=0)], CALM)
    assert broken(over_http) == {"never sent but present": 1}
    beyond = judge_numbered("tcp", [ledger(2)], copies(0, 1, 2), CALM)
    assert broken(beyond) == {"never sent but present": 1}
    stranger = copies(0, 1)
    stranger.note(envelope(7, 0))
    stranger.note(b"{}")
    result = judge_numbered("tcp", [ledger(2)], stranger, CALM)
    assert broken(result) == {"never sent but present": 2}


def test_a_message_that_was_altered_is_found() -> None:
    """What stands in the envelope is what was sent."""
    changed = copies(0)
    changed.note(envelope(0, 1, b"something else"))
    assert broken(judge_numbered("tcp", [ledger(2)], changed, CALM)) == {"altered": 1}


def test_copies_beyond_the_bound_are_found() -> None:
    """In calm none may be there; after a fault, as many as it may have made."""
    assert broken(judge_http(book(OK, OK), records(0, 1, 1), CALM)) == {EXCESS: 1}
    result = judge_numbered("tcp", [ledger(2)], copies(0, 0, 0, 1), CALM)
    assert broken(result) == {EXCESS: 2}
    fault = after(Happened("broker killed", "", 100, 105), spool=False)
    allowed = fault.allowed("http")
    assert allowed == 2 * IN_FLIGHT["http"]
    for more, found in ((0, {}), (1, {EXCESS: allowed + 1})):
        doubled = records(0, *[1] * (1 + allowed + more))
        assert broken(judge_http(book(OK, OK), doubled, fault)) == found


def test_copies_that_the_client_may_have_made_do_not_count() -> None:
    """What was sent again after an open answer may be there as often as it was sent."""
    twice = book(UNKNOWN)
    number = twice.sending({"e0": twice.events["e0"]})
    twice.answered(number, 200, {OK: [0]})
    result = judge_http(twice, records(0, 0), CALM)
    assert not result.broken
    assert result.counts["written twice, as sent twice"] == 1
    resent = ledger(2, acked=True)
    resent.again(0, 2)
    assert not judge_numbered("relp", [resent], copies(0, 1, 1), CALM).broken
    assert broken(judge_numbered("relp", [resent], copies(0, 1, 1, 1), CALM)) == {EXCESS: 1}


def test_what_was_certainly_not_taken_makes_no_copy() -> None:
    """After ``retry`` the second time is the first one."""
    again = book(RETRY)
    number = again.sending({"e0": again.events["e0"]})
    again.answered(number, 200, {OK: [0]})
    assert not judge_http(again, records(0), CALM).broken
    assert broken(judge_http(again, records(0, 0), CALM)) == {EXCESS: 1}


FROZEN = Happened("broker frozen", "", 100, 110.2, {"tcp": 25}, (100.1, 110))


@pytest.mark.parametrize(
    ("circumstances", "copies_made"),
    [
        (CALM, 0),
        (after(kill(HTTP, 100)), 0),
        (after(kill(SYSLOG, 100)), 30 + 10),
        (after(kill(SYSLOG, 100)._replace(backlog={"tcp": 25})), 30 + 10 + 25),
        (after(kill(SYSLOG, 100)._replace(backlog={"tcp": 10**9})), 30 + 2 * REPLAY_EVENTS),
        (after(kill(SYSLOG, 100), spool=False), 0),
        (after(FROZEN), 2 * (30 + 10 + 25)),
        (after(FROZEN, spool=False), 2 * 30),
        (after(FROZEN, kill(SYSLOG, 105)), 2 * (30 + 10 + 25)),
        (after(FROZEN, kill(SYSLOG, 110)), 2 * (30 + 10 + 25) + 30 + 10),
    ],
)
def test_the_bound_is_what_was_on_its_way(circumstances: Circumstances, copies_made: int) -> None:
    """What comes in three seconds, and what the replay can have taken of what was spooled."""
    assert circumstances.allowed("tcp") == copies_made


def test_a_loss_over_tcp_is_excused_by_a_connection_that_broke_in_a_kill() -> None:
    """Only on that connection, and only shortly before."""
    sender = ledger(40)
    sender.broke(139.5)
    sender.sending(1, 141.0)
    present = copies(*range(39))
    result = judge_numbered("tcp", [sender], present, after(kill(SYSLOG, 139.4)))
    assert broken(result) == {UNEXPLAINED: 1}, "the last one went over a connection that held"
    assert result.counts["lost in a kill"] == 1
    assert broken(judge_numbered("tcp", [sender], present, after(kill(HTTP, 139.4)))) == {
        UNEXPLAINED: 2
    }
    early = copies(*range(1, 41))
    result = judge_numbered("tcp", [sender], early, after(kill(SYSLOG, 139.4)))
    assert broken(result) == {UNEXPLAINED: 1}, "it had been safe for a long time"


def test_a_loss_over_udp_is_excused_by_a_kill_soon_after() -> None:
    """Not by one of the other service, and not by one before."""
    sender = ledger(3)
    for fault, found in (
        (kill(SYSLOG, 101.5), {}),
        (kill(HTTP, 101.5), {UNEXPLAINED: 1}),
        (kill(SYSLOG, 100.5), {UNEXPLAINED: 1}),
        (kill(SYSLOG, 150.0), {UNEXPLAINED: 1}),
    ):
        assert broken(judge_numbered("udp", [sender], copies(0, 2), after(fault))) == found


def test_what_was_answered_ok_is_in_order() -> None:
    """Not so what was spooled, or sent again: it comes when it comes."""
    assert broken(judge_http(book(OK, OK, OK), records(0, 2, 1), CALM)) == {OUT_OF_ORDER: 1}
    assert not judge_http(book(OK, SPOOLED, OK), records(0, 2, 1), CALM).broken


def test_rounds_add_up() -> None:
    """A loss in one of them is a loss of the campaign; so are copies, and what was allowed."""
    result = Verdict(HTTP)
    result.add(judge_http(book(OK, OK), records(0), CALM))
    result.add(judge_http(book(OK, OK), records(0, 1), after(kill(HTTP, 100))))
    assert broken(result) == {"acknowledged and missing": 1}
    assert (result.counts["sent"], result.counts["present"]) == (4, 3)
    assert result.counts[ALLOWED] == IN_FLIGHT[HTTP] + RATES[HTTP]


def test_the_messages_of_these_tests_are_those_of_the_senders() -> None:
    """Numbers and length are where a sender puts them."""
    message = numbered(POOL[3], 7, 13)
    assert (len(message), mark(message)) == (MESSAGE_BYTES, Mark(7, 13))
    assert mark(envelope(7, 13)) == Mark(7, 13)
