"""The small HTTP client reads answers however the network cuts them."""

from __future__ import annotations

import pytest

from loadtest.answers import Connection, UnreadableAnswerError

ANSWER = b"HTTP/1.1 503 Service Unavailable\r\nX: y\r\nContent-Length: 5\r\n\r\nhello"


class Collector(Connection):
    """Keeps every answer."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[tuple[int, bytes]] = []

    def answered(self, status: int, body: bytes) -> None:
        """Keep it."""
        self.answers.append((status, body))

    def broken(self) -> None:
        """Nothing to do."""


@pytest.mark.parametrize("cut", range(1, len(ANSWER)))
def test_an_answer_in_two_pieces_is_one_answer(cut: int) -> None:
    """TCP knows no messages."""
    connection = Collector()
    connection.data_received(ANSWER[:cut])
    assert connection.answers == []
    connection.data_received(ANSWER[cut:])
    assert connection.answers == [(503, b"hello")]


def test_answers_byte_by_byte_are_read_one_after_the_other() -> None:
    """What is left of one answer never leaks into the next."""
    connection = Collector()
    for byte in ANSWER * 2:
        connection.data_received(bytes([byte]))
    assert connection.answers == [(503, b"hello")] * 2


def test_connection_close_is_noticed() -> None:
    """The gateway ends connections that are old, and when it drains."""
    connection = Collector()
    connection.data_received(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    assert not connection.keep


def test_an_answer_without_a_length_is_an_error() -> None:
    """Guessing would give wrong latencies."""
    with pytest.raises(UnreadableAnswerError):
        Collector().data_received(b"HTTP/1.1 200 OK\r\n\r\n")
