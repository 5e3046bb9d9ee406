"""Reads the topics of a campaign back, value by value."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from loadtest.read_back import POLL_MS, end_offsets
from loadtest.syslog_messages import mark

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


async def read_values(bootstrap_servers: str, topic: str, note: Callable[[bytes], None]) -> None:
    """Give ``note`` the value of every record that is in ``topic`` now."""
    found = await end_offsets(bootstrap_servers, topic)
    ends = {TopicPartition(topic, number): end for number, end in found.items() if end}
    if not ends:
        return
    async with AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        enable_auto_commit=False,
        max_partition_fetch_bytes=8_388_608,
    ) as consumer:
        consumer.assign(list(ends))
        for partition in ends:
            consumer.seek(partition, 0)
        while [each for each in ends if await consumer.position(each) < ends[each]]:
            for partition, records in (await consumer.getmany(timeout_ms=POLL_MS)).items():
                for record in records:
                    if record.offset < ends[partition]:
                        note(record.value or b"")


class _Data(msgspec.Struct):
    message: str = ""
    hostname: str = ""
    app_name: str = ""
    status: str = ""


class _Envelope(msgspec.Struct):
    data: _Data


_decode = msgspec.json.Decoder(_Envelope).decode
_MOST = 255


class Copies:
    """Counts the messages of a topic by sender and number, a byte for each.

    Args:
        pool: the messages that all senders repeat, in RFC 5424.

    Attributes:
        records: values noted.
        strange: values that carry no number: nobody has sent them.
        altered: values in which something else stands than was sent.
        by_sender: how often each message is there, 255 at most.
    """

    def __init__(self, pool: Sequence[bytes]) -> None:
        self.records = 0
        self.strange = 0
        self.altered = 0
        self.by_sender: dict[int, bytearray] = {}
        self._expected = [_expected(message) for message in pool]

    def note(self, value: bytes) -> None:
        """Count one record."""
        self.records += 1
        found = mark(value)
        if found is None:
            self.strange += 1
            return
        copies = self.by_sender.setdefault(found.sender, bytearray())
        if found.sequence >= len(copies):
            copies.extend(bytes(max(len(copies), found.sequence + 1 - len(copies))))
        copies[found.sequence] = min(_MOST, copies[found.sequence] + 1)
        self.altered += not self._intact(value, found.sequence)

    def of(self, sender: int, count: int) -> tuple[bytearray, bytearray]:
        """Copies of a sender's messages: of the first ``count``, and of those beyond."""
        copies = self.by_sender.get(sender, bytearray())
        return copies[:count] + bytes(max(0, count - len(copies))), copies[count:]

    def _intact(self, value: bytes, sequence: int) -> bool:
        try:
            data = _decode(value).data
        except msgspec.MsgspecError:
            return False
        return data == self._expected[sequence % len(self._expected)]


def _expected(message: bytes) -> _Data:
    """What is found in the envelope of a message of `loadtest.syslog_messages.rfc5424`."""
    header, _, text = message.decode().partition('"] ')
    _, _, host, app, *_ = header.split(" ")
    return _Data(text, host, app, "ok")
