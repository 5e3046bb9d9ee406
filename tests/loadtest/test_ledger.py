"""The ledger finds what it is there to find: each defect, planted alone, and no other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from loadtest.book import NO_ANSWER, OK, REFUSED, REJECTED, RETRY, SPOOLED, UNKNOWN, Book, Sent
from loadtest.read_back import Record
from loadtest.verdict import ALLOWED, BROKEN_PROMISES, Verdict, verdict

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def book(*answers: str, path: Path | None = None) -> Book:
    """A book with one request: event ``e0``, ``e1``, … of one key, answered in that order."""
    result = Book(path)
    number = result.sending({f"e{at}": Sent("k", at, crc=at) for at in range(len(answers))})
    indices: dict[str, list[int]] = {}
    for index, answer in enumerate(answers):
        indices.setdefault(answer, []).append(index)
    result.answered(number, 200, indices)
    return result


def records(*numbers: int) -> list[Record]:
    """The records of these events, one after the other in one partition."""
    return [Record(0, offset, f"e{at}", crc=at) for offset, at in enumerate(numbers)]


def found(result: Verdict) -> dict[str, int]:
    """The counts that are not zero."""
    counts = {name: getattr(result, name) for name in (*BROKEN_PROMISES, *ALLOWED)}
    return {name: count for name, count in counts.items() if count}


def test_a_clean_run_is_ok() -> None:
    """Everything acknowledged once, everything there once."""
    result = verdict(book(OK, OK, OK), records(0, 1, 2))
    assert result.ok
    assert found(result) == {}


@pytest.mark.parametrize("answer", [OK, SPOOLED])
def test_an_acknowledged_event_that_is_missing_is_found(answer: str) -> None:
    """The one thing a gateway must never do."""
    result = verdict(book(OK, answer), records(0))
    assert found(result) == {"acknowledged_and_missing": 1}
    assert not result.ok


@pytest.mark.parametrize("answer", [RETRY, REJECTED, REFUSED])
def test_an_event_answered_as_certainly_not_there_is_found_when_present(answer: str) -> None:
    """A client that sends it again would double it."""
    result = verdict(book(OK, answer), records(0, 1))
    assert found(result) == {"answered_not_but_present": 1}
    assert not result.ok


@pytest.mark.parametrize("answer", [UNKNOWN, NO_ANSWER])
@pytest.mark.parametrize("present", [(0,), (0, 1)])
def test_an_open_event_may_be_there_or_not(answer: str, present: Sequence[int]) -> None:
    """Nothing was promised for it."""
    assert verdict(book(OK, answer), records(*present)).ok


def test_a_record_that_nobody_sent_is_found() -> None:
    """A gateway must not invent events."""
    result = verdict(book(OK), [*records(0), Record(1, 0, "stranger", crc=0)])
    assert found(result) == {"never_sent_but_present": 1}
    assert not result.ok


def test_a_record_without_an_envelope_is_found() -> None:
    """Nobody sent that either."""
    assert not verdict(book(OK), [*records(0), Record(1, 0, None, crc=0)]).ok


def test_altered_bytes_are_found() -> None:
    """The client's bytes pass unchanged."""
    result = verdict(book(OK), [Record(0, 0, "e0", crc=99)])
    assert found(result) == {"altered": 1}
    assert not result.ok


def test_a_lost_event_is_counted_and_allowed() -> None:
    """It was never acknowledged."""
    result = verdict(book(OK, RETRY, UNKNOWN, NO_ANSWER), records(0))
    assert found(result) == {"lost": 3}
    assert result.ok


def test_duplicates_are_counted_as_events_not_as_copies() -> None:
    """Three copies are one duplicated event."""
    result = verdict(book(OK, OK), records(0, 0, 1, 0))
    assert found(result) == {"duplicated": 1}
    assert result.ok


def test_an_acknowledged_event_behind_a_later_one_is_reordered() -> None:
    """Order per key is judged by first copies."""
    result = verdict(book(OK, OK, OK), records(0, 2, 1))
    assert found(result) == {"reordered": 1}


def test_a_second_copy_is_not_reordered() -> None:
    """Readers drop it by its id."""
    assert verdict(book(OK, OK), records(0, 1, 0)).reordered == 0


def test_an_event_without_acknowledgement_is_not_reordered() -> None:
    """Its client may have sent it again later."""
    assert verdict(book(UNKNOWN, OK), records(1, 0)).reordered == 0


def test_records_are_judged_by_offset_in_whatever_order_they_were_read() -> None:
    """Consumers hand out partitions in turn."""
    assert found(verdict(book(OK, OK, OK), reversed(records(0, 1, 2)))) == {}


def test_a_key_in_two_partitions_is_scattered() -> None:
    """Its order is gone."""
    result = verdict(book(OK, OK), [Record(0, 0, "e0", crc=0), Record(1, 0, "e1", crc=1)])
    assert found(result) == {"scattered": 1}


def test_a_resend_that_was_acknowledged_settles_the_first_refusal() -> None:
    """Retry, then ok under the same id: it has to be there, once."""
    ledger = book(RETRY, OK)
    number = ledger.sending({"e0": ledger.events["e0"]})
    ledger.answered(number, 200, {OK: [0]})
    assert found(verdict(ledger, records(1, 0))) == {"reordered": 1}
    assert found(verdict(ledger, records(1))) == {"acknowledged_and_missing": 1}


def test_contradictions_of_an_answer_are_not_ok() -> None:
    """Counts are exact."""
    ledger = book(OK)
    ledger.contradictions.append("HTTP 200 says 2 accepted and lists 1")
    assert not verdict(ledger, records(0)).ok


def test_a_run_in_which_nothing_was_acknowledged_is_not_ok() -> None:
    """A gateway that refuses everything keeps every promise, and is useless."""
    assert not verdict(book(RETRY), []).ok


def test_the_report_names_the_defect_and_an_example() -> None:
    """People need an id to look for in the topic."""
    text = str(verdict(book(OK), []))
    assert text.startswith("NOT OK")
    assert "1  acknowledged and missing (must be 0): e0" in text


def test_the_file_holds_the_same_book(tmp_path: Path) -> None:
    """A verdict can be given later, by another process."""
    written = book(OK, RETRY, UNKNOWN, path=tmp_path / "book")
    written.no_answer(written.sending({"e9": Sent("k", 9, crc=9)}))
    written.close()
    read = Book.load(tmp_path / "book")
    assert (read.events, read.http) == (written.events, written.http)


def test_a_file_that_was_cut_off_leaves_the_last_request_without_answer(tmp_path: Path) -> None:
    """The client was killed: what it sent last is open."""
    path = tmp_path / "book"
    book(OK, path=path).close()
    whole = path.read_text()
    path.write_text(whole[:-5])
    assert Book.load(path).events["e0"].answers == [NO_ANSWER]
