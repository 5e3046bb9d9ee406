"""Reads a topic back: every record between two moments, with the id of the event in it."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from aiokafka import ConsumerRecord

POLL_MS = 500


class Record(NamedTuple):
    """A record of the topic, reduced to what the ledger compares.

    Attributes:
        partition: where it is.
        offset: its position there.
        id: the CloudEvents id, None when the value is no envelope.
        crc: CRC-32 of the bytes of ``data``.
    """

    partition: int
    offset: int
    id: str | None
    crc: int


class _Envelope(msgspec.Struct):
    id: str
    data: msgspec.Raw = msgspec.Raw(b"")


_decode = msgspec.json.Decoder(_Envelope).decode


async def end_offsets(bootstrap_servers: str, topic: str) -> dict[int, int]:
    """The next offset of every partition; empty when there is no such topic."""
    partitions = await _partitions(bootstrap_servers, topic)
    if not partitions:
        return {}
    async with _consumer(bootstrap_servers) as consumer:
        ends = await consumer.end_offsets(partitions)
    return {partition.partition: offset for partition, offset in ends.items()}


async def read_back(
    bootstrap_servers: str, topic: str, since: Mapping[int, int] | None = None
) -> list[Record]:
    """The records of ``topic`` that are there now, in the order of each partition.

    Args:
        bootstrap_servers: where Kafka is.
        topic: what to read; a topic that does not exist has no records.
        since: the first offset of each partition, as `end_offsets` gave them; else the earliest.
    """
    partitions = await _partitions(bootstrap_servers, topic)
    if not partitions:
        return []
    async with _consumer(bootstrap_servers) as consumer:
        consumer.assign(partitions)
        await _seek(consumer, partitions, since or {})
        return await _read(consumer, await consumer.end_offsets(partitions))


def _consumer(bootstrap_servers: str) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        auto_offset_reset="earliest",  # else a late reset to the end undoes a seek to the beginning
        enable_auto_commit=False,
        max_partition_fetch_bytes=8_388_608,
    )


async def _partitions(bootstrap_servers: str, topic: str) -> list[TopicPartition]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        # All topics are asked for: asking by name would create it on brokers that do so.
        described = {each["topic"]: each["partitions"] for each in await admin.describe_topics()}
    finally:
        await admin.close()
    numbers = sorted(each["partition"] for each in described.get(topic, ()))
    return [TopicPartition(topic, number) for number in numbers]


async def _seek(
    consumer: AIOKafkaConsumer, partitions: Iterable[TopicPartition], since: Mapping[int, int]
) -> None:
    for partition in partitions:
        if partition.partition in since:
            consumer.seek(partition, since[partition.partition])
        else:
            await consumer.seek_to_beginning(partition)


async def _read(consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int]) -> list[Record]:
    records: list[Record] = []
    unfinished = set(ends)
    while unfinished:
        for partition in list(unfinished):
            if await consumer.position(partition) >= ends[partition]:
                unfinished.discard(partition)
                consumer.pause(partition)
        for partition, batch in (await consumer.getmany(timeout_ms=POLL_MS)).items():
            records += [_record(each) for each in batch if each.offset < ends[partition]]
    return records


def _record(record: ConsumerRecord[bytes, bytes]) -> Record:
    try:
        envelope = _decode(record.value or b"")
    except msgspec.DecodeError:
        return Record(record.partition, record.offset, None, 0)
    return Record(record.partition, record.offset, envelope.id, zlib.crc32(envelope.data))
