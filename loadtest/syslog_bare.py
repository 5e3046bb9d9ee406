"""The least that writing the messages of the syslog benchmark to Kafka can cost: its unit.

As `loadtest.bare_producer`, with these messages. ``python -m loadtest.syslog_bare`` prints JSON.
"""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from itertools import islice

import uvloop

from loadtest.bare_producer import POOL_EVENTS, measure_values
from loadtest.syslog_messages import messages


async def measure(bootstrap_servers: str, topic: str, count: int) -> dict[str, float]:
    """CPU time of this process per message over ``count`` messages, and their rate."""
    pool = list(islice(messages("rfc5424", 1, datetime.now(UTC)), POOL_EVENTS))
    cost_us, rate = await measure_values(bootstrap_servers, topic, pool, count)
    return {"messages": count, "cpu_us_per_message": cost_us, "messages_per_second": rate}


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
