"""The sending end of RELP: a bounded window of unanswered frames, and a count of the answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loadtest.syslog_messages import MESSAGE_BYTES
from loadtest.syslog_streams import CHUNK_BYTES, CLOSE_SECONDS, Stream

if TYPE_CHECKING:
    import socket

    from loadtest.syslog_numbered import Numbered

WINDOW = 128
"""Of librelp, unless told otherwise."""
OFFERS = b"relp_version=0\nrelp_software=loadtest\ncommands=syslog"
_LAST_NUMBER = 999_999_999


class RelpError(Exception):
    """The server said something that RELP does not allow, or hung up."""


class RelpStream(Stream):
    """One session.

    Args:
        sock: connected and blocking.
        source: messages without a frame.
        window: how many frames may be unanswered.

    Attributes:
        acked: frames answered with 200.
        refused: frames answered otherwise.

    Raises:
        RelpError: the session could not be opened.
    """

    def __init__(self, sock: socket.socket, source: Numbered, window: int = WINDOW) -> None:
        self.acked = 0
        self.refused = 0
        self._window = window
        self._number = 1
        self._unread = b""
        _open(sock)
        super().__init__(sock, source)

    @property
    def reading(self) -> bool:
        """Whether a frame is unanswered."""
        return self.acked + self.refused < self.sent

    @property
    def finished(self) -> bool:
        """Whether every frame is answered."""
        return super().finished and not self.reading

    def pump(self, allowed: int) -> int:
        """Count the answers that are there; then send as much as the window lets pass."""
        self._read()
        unanswered = self.sent - self.acked - self.refused
        return super().pump(min(allowed, self._window - unanswered))

    def _take(self, most: int) -> tuple[memoryview, int]:
        data = bytes(self._source.take(most))
        count = len(data) // MESSAGE_BYTES
        if self._number + count >= _LAST_NUMBER:
            raise RelpError("too many frames for one session")
        frames = [
            b"%d syslog %d %b\n" % (number, MESSAGE_BYTES, data[at : at + MESSAGE_BYTES])
            for number, at in enumerate(range(0, len(data), MESSAGE_BYTES), self._number + 1)
        ]
        self._number += count
        return memoryview(b"".join(frames)), count

    def _read(self) -> None:
        try:
            data = self.sock.recv(CHUNK_BYTES)
        except BlockingIOError:
            return
        if not data:
            raise RelpError("the server hung up")
        answers, _, self._unread = (self._unread + data).rpartition(b"\n")
        if answers:
            self._count(answers + b"\n")

    def _count(self, answers: bytes) -> None:
        """Note whole answers, one a line: they carry no data, and come in the order of frames."""
        count = answers.count(b"\n")
        expected = b"%d rsp " % (1 + self.acked + self.refused + count)
        last = answers[answers.rfind(b"\n", 0, -1) + 1 :]
        if not last.startswith(expected):
            raise RelpError(f"expected {expected!r}, got {last[:20]!r}")
        good = answers.count(b" 200 ")
        self.acked += good
        self.refused += count - good

    def _say_goodbye(self) -> None:
        self.sock.sendall(b"%d close 0\n" % (self._number + 1))


def _open(sock: socket.socket) -> None:
    sock.settimeout(CLOSE_SECONDS)
    sock.sendall(b"1 open %d %b\n" % (len(OFFERS), OFFERS))
    answer = b""
    while not _is_whole(answer):
        data = sock.recv(CHUNK_BYTES)
        if not data:
            raise RelpError("the server hung up instead of an answer to open")
        answer += data
    if not answer.startswith(b"1 rsp ") or b" 200 " not in answer:
        raise RelpError(f"open was answered by {answer[:40]!r}")


def _is_whole(answer: bytes) -> bool:
    """Whether a frame, with data of the length that it states, has come to its end."""
    words = answer.split(b" ", 3)
    if len(words) < 4:
        return False
    return len(words[3]) > int(words[2])
