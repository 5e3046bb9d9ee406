"""One sender's messages, framed and in one buffer, numbered a whole buffer at a time.

What is sent at 200,000 messages per second cannot be made message by message in Python. All
messages have one size, so that one digit of all their numbers is one strided assignment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from loadtest.syslog_messages import MESSAGE_BYTES, SENDERS, SEQUENCES, mark_places

if TYPE_CHECKING:
    from collections.abc import Sequence

FRAMES = {
    "lf": (b"", b"\n"),
    "octet": (b"%d " % MESSAGE_BYTES, b""),
    "bare": (b"", b""),
}
"""What stands before and after each message; ``bare`` for datagrams and what frames by itself."""


class Numbered:
    """An endless row of messages with consecutive numbers from 0.

    Args:
        pool: the messages that are repeated, a power of ten of them.
        sender: whose they are.
        framing: a key of `FRAMES`.

    Attributes:
        width: bytes of one message with its frame.
    """

    def __init__(self, pool: Sequence[bytes], sender: int, framing: str = "bare") -> None:
        before, after = FRAMES[framing]
        self.width = len(before) + MESSAGE_BYTES + len(after)
        self._count = len(pool)
        self._buffer = bytearray(b"".join(before + message + after for message in pool))
        self._view = memoryview(self._buffer)
        sender_at, self._number_at = (len(before) + at for at in mark_places(pool[0]))
        self._number_all(sender_at, b"%04d" % (sender % SENDERS))
        self._low_digits = len(str(self._count)) - 1
        if 10**self._low_digits != self._count:
            raise ValueError(f"{self._count} messages: not a power of ten")
        self._number_each()
        self._next = 0
        self._round = 0

    def take(self, most: int) -> memoryview:
        """The next messages: ``most`` of them, or fewer where the buffer ends; at least one.

        What was taken before must have been sent: its bytes may change.
        """
        if self._next == self._count:
            self._begin_round()
        end = min(self._count, self._next + most)
        taken = self._view[self._next * self.width : end * self.width]
        self._next = end
        return taken

    def _begin_round(self) -> None:
        self._next = 0
        self._round += 1
        high = self._round % (SEQUENCES // self._count)
        digits = 9 - self._low_digits
        self._number_all(self._number_at, b"%0*d" % (digits, high))

    def _number_all(self, at: int, digits: bytes) -> None:
        for place, digit in enumerate(digits, start=at):
            self._buffer[place :: self.width] = bytes((digit,)) * self._count

    def _number_each(self) -> None:
        low = [b"%0*d" % (self._low_digits, number) for number in range(self._count)]
        first = self._number_at + 9 - self._low_digits
        for place, column in enumerate(zip(*low, strict=True), start=first):
            self._buffer[place :: self.width] = bytes(column)
