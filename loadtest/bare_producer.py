"""The least that writing these events to Kafka with aiokafka can cost: the unit of the benchmark.

The client's bytes are the record values, without envelope or HTTP: batches of about a megabyte, one
on the way per partition, zstd, ``acks=all``. ``python -m loadtest.bare_producer`` prints JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from itertools import cycle, islice
from typing import TYPE_CHECKING

import uvloop
from aiokafka import AIOKafkaProducer

from loadtest.events import events

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BATCH_BYTES = 1_000_000
POOL_EVENTS = 20_000
WARM_UP_EVENTS = 50_000


async def write(producer: AIOKafkaProducer, topic: str, values: Iterator[bytes]) -> None:
    """Write all ``values``, one batch on the way per partition."""
    partitions = await producer.partitions_for(topic)
    await asyncio.gather(*(_fly(producer, topic, number, values) for number in partitions))


async def _fly(
    producer: AIOKafkaProducer, topic: str, partition: int, values: Iterator[bytes]
) -> None:
    value = next(values, None)
    while value is not None:
        batch = producer.create_batch()
        append, now = batch.append, int(time.time() * 1000)
        while value is not None and append(key=None, value=value, timestamp=now) is not None:
            value = next(values, None)
        await (await producer.send_batch(batch, topic, partition=partition))


async def measure(bootstrap_servers: str, topic: str, count: int) -> dict[str, float]:
    """CPU time of this process per event over ``count`` events, and their rate."""
    pool = list(islice(events(1), POOL_EVENTS))
    cost_us, rate = await measure_values(bootstrap_servers, topic, pool, count)
    return {"events": count, "cpu_us_per_event": cost_us, "events_per_second": rate}


async def measure_values(
    bootstrap_servers: str, topic: str, pool: Sequence[bytes], count: int
) -> tuple[float, int]:
    """Microseconds of CPU time for a value of ``pool``, and values per second, over ``count``."""
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers,
        acks="all",
        compression_type="zstd",
        max_batch_size=BATCH_BYTES,
        max_request_size=2 * BATCH_BYTES,
        linger_ms=0,
    )
    async with producer:
        await write(producer, topic, islice(cycle(pool), min(count, WARM_UP_EVENTS)))
        started, used = time.perf_counter(), time.process_time()
        await write(producer, topic, islice(cycle(pool), count))
        used, seconds = time.process_time() - used, time.perf_counter() - started
    return round(used / count * 1e6, 3), round(count / seconds)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="loadtest.bare_producer", description=__doc__)
    parser.add_argument("--bootstrap-servers", required=True)
    parser.add_argument("--topic", default="bare", help="should have four partitions")
    parser.add_argument("--events", type=int, default=1_000_000)
    return parser


async def _main(options: argparse.Namespace) -> None:
    print(json.dumps(await measure(options.bootstrap_servers, options.topic, options.events)))


if __name__ == "__main__":
    uvloop.run(_main(_parser().parse_args()))
