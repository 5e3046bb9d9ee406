"""The least that writing the messages of the syslog benchmark to Kafka can cost: its unit.

As `loadtest.bare_producer`, with these messages. ``python -m loadtest.syslog_bare`` prints JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from datetime import UTC, datetime
from itertools import cycle, islice

import uvloop
from aiokafka import AIOKafkaProducer

from loadtest.bare_producer import BATCH_BYTES, POOL_EVENTS, WARM_UP_EVENTS, write
from loadtest.syslog_messages import messages


async def measure(bootstrap_servers: str, topic: str, count: int) -> dict[str, float]:
    """CPU time of this process per message over ``count`` messages, and their rate."""
    pool = list(islice(messages("rfc5424", 1, datetime.now(UTC)), POOL_EVENTS))
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
    return {
        "messages": count,
        "cpu_us_per_message": round(used / count * 1e6, 3),
        "messages_per_second": round(count / seconds),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="loadtest.syslog_bare", description=__doc__)
    parser.add_argument("--bootstrap-servers", required=True)
    parser.add_argument("--topic", default="bare", help="should have four partitions")
    parser.add_argument("--messages", type=int, default=1_000_000)
    return parser


async def _main(options: argparse.Namespace) -> None:
    print(json.dumps(await measure(options.bootstrap_servers, options.topic, options.messages)))


if __name__ == "__main__":
    uvloop.run(_main(_parser().parse_args()))
