"""The gateway most people would write in an afternoon, as a yardstick.

It parses every event, builds an envelope for each, and asks the Kafka client for one future per
event. ``python -m loadtest.naive_gateway --bootstrap-servers …`` prints its address on stderr.
"""

from __future__ import annotations

import argparse
import asyncio
import hmac
import json
import sys
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import uvloop
from aiohttp import web
from aiokafka import AIOKafkaProducer

BODY_BYTES = 10_485_760


class NaiveGateway:
    """One handler: parse, wrap, send, wait."""

    def __init__(self, producer: AIOKafkaProducer, topic: str, key: str) -> None:
        self._producer = producer
        self._topic = topic
        self._credentials = f"Bearer {key}"

    async def post(self, request: web.Request) -> web.Response:
        """Answer when Kafka has acked every event of the request."""
        if not hmac.compare_digest(request.headers.get("Authorization", ""), self._credentials):
            raise web.HTTPUnauthorized
        events = await request.json()
        if isinstance(events, dict):
            events = [events]
        source = request.match_info["source"]
        values = [json.dumps(_envelope(source, event)).encode() for event in events]
        sends = [self._producer.send(self._topic, value) for value in values]
        await asyncio.gather(*await asyncio.gather(*sends))
        return web.json_response({"request_id": str(uuid4()), "accepted": len(values)})


def _envelope(source: str, event: dict[str, Any]) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": event.get("id") or str(uuid4()),
        "source": f"/sources/{source}",
        "type": event.get("type", source),
        "time": datetime.now(UTC).isoformat(),
        "data": event,
    }


async def _serve(options: argparse.Namespace) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=options.bootstrap_servers, acks="all", compression_type="zstd"
    )
    await producer.start()
    application = web.Application(client_max_size=BODY_BYTES)
    gateway = NaiveGateway(producer, options.topic, options.key)
    application.router.add_post("/v1/events/{source}", gateway.post)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    line = {"event": "listening", "listener": "http", "address": f"{host}:{port}"}
    print(json.dumps(line), file=sys.stderr, flush=True)
    await asyncio.Event().wait()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="loadtest.naive_gateway", description=__doc__)
    parser.add_argument("--bootstrap-servers", required=True)
    parser.add_argument("--topic", default="naive")
    parser.add_argument("--key", required=True)
    return parser


if __name__ == "__main__":
    uvloop.run(_serve(_parser().parse_args()))
