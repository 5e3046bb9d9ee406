"""A generator of syslog that leaves the processor to the gateway: messages are built before a run.

``python -m loadtest.syslog_generator --address HOST:PORT --messages N`` prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import socket
import time
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from loadtest import syslog_datagrams, syslog_streams
from loadtest.syslog_messages import messages
from loadtest.syslog_numbered import Numbered
from loadtest.syslog_pace import Pace
from loadtest.syslog_relp import WINDOW, RelpStream
from loadtest.syslog_streams import Stream

if TYPE_CHECKING:
    from collections.abc import Sequence

POOL_MESSAGES = 10_000
"""Distinct messages, but for their marks; all senders have the same ones."""
PATIENCE_SECONDS = 60.0


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Send what the options say; returns the figures.

    Times are in seconds: ``started_at`` since the epoch, and ``longest_gap_seconds`` the longest
    that a paced generator was kept from running.
    """
    now = datetime.now(UTC)
    pool = list(islice(messages(options.format, options.seed, now), POOL_MESSAGES))
    framing = options.framing if options.protocol == "tcp" else "bare"
    senders = range(options.first_sender, options.first_sender + options.connections)
    sources = [Numbered(pool, sender, framing) for sender in senders]
    pace = Pace(options.rate, options.messages)
    before = time.process_time()
    send = _send_datagrams if options.protocol == "udp" else _send_streams
    started_at = time.time()
    seconds, answers = send(options, sources, pace)
    sent = options.messages - pace.left
    return {
        "sent": sent,
        "seconds": round(seconds, 4),
        "messages_per_second": round(sent / seconds) if seconds else 0,
        **answers,
        "started_at": started_at,
        "longest_gap_seconds": round(pace.longest_gap, 4),
        "cpu_seconds": round(time.process_time() - before, 3),
    }


def _send_datagrams(
    options: argparse.Namespace, sources: Sequence[Numbered], pace: Pace
) -> tuple[float, dict[str, int]]:
    endpoint = _endpoint(options.address)
    sockets = [syslog_datagrams.connect(*endpoint, options.burst) for _ in sources]
    senders = list(zip(sockets, sources, strict=True))
    started, ended = syslog_datagrams.send(senders, pace, options.burst)
    for sock in sockets:
        sock.close()
    return ended - started, {}


def _send_streams(
    options: argparse.Namespace, sources: Sequence[Numbered], pace: Pace
) -> tuple[float, dict[str, int]]:
    streams = [_stream(options, source) for source in sources]
    started, ended = syslog_streams.send(streams, pace, options.patience)
    for stream in streams:
        stream.close()
    sessions = [stream for stream in streams if isinstance(stream, RelpStream)]
    answers = {
        "acked": sum(session.acked for session in sessions),
        "refused": sum(session.refused for session in sessions),
    }
    return ended - started, answers if sessions else {}


def _stream(options: argparse.Namespace, source: Numbered) -> Stream:
    sock = socket.create_connection(_endpoint(options.address))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if options.protocol == "relp":
        return RelpStream(sock, source, options.window)
    return Stream(sock, source)


def _endpoint(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def parser() -> argparse.ArgumentParser:
    """What the command takes."""
    result = argparse.ArgumentParser(prog="loadtest.syslog_generator", description=__doc__)
    result.add_argument("--address", required=True, help="HOST:PORT of the listener")
    result.add_argument("--messages", type=int, required=True)
    result.add_argument("--protocol", choices=("tcp", "udp", "relp"), default="tcp")
    result.add_argument("--framing", choices=("lf", "octet"), default="lf", help="of tcp")
    result.add_argument("--format", choices=("rfc5424", "rfc3164"), default="rfc5424")
    result.add_argument("--connections", type=int, default=1, help="udp: source ports")
    result.add_argument("--rate", type=float, default=0.0, help="a second in all; 0: no limit")
    result.add_argument("--window", type=int, default=WINDOW, help="relp: unanswered frames")
    result.add_argument(
        "--burst",
        type=int,
        default=syslog_datagrams.BURST,
        help=f"udp: messages of one run, at most {syslog_datagrams.LONGEST_BURST}",
    )
    result.add_argument("--seed", type=int, default=1)
    result.add_argument("--first-sender", type=int, default=0, help="number of the first sender")
    result.add_argument("--patience", type=float, default=PATIENCE_SECONDS, help="seconds")
    return result


if __name__ == "__main__":
    print(json.dumps(run(parser().parse_args())))
