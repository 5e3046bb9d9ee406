"""Backpressure: who stops reading and when, and that nothing is lost by it uncounted."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from ingest.datagrams import kernel_drops
from ingest_syslog.pressure import AHEAD_BYTES, LOW_SHARE, Pressure
from tests.syslog_door import lines, message, messages, on_uvloop, open_door, until
from tests.syslog_tls import Authority

if TYPE_CHECKING:
    import ssl

    from ingest.inflight import Holder, Lease

TCP: dict[str, Any] = {"protocol": "tcp", "frame_bytes": 8_192}
RELP: dict[str, Any] = {"protocol": "relp", "frame_bytes": 8_192}
UDP: dict[str, Any] = {"protocol": "udp", "frame_bytes": 8_192}
LIMITS = {
    "inflight_bytes": 200_000,
    "decoded_bytes": 10_000,
    "body_bytes": 10_000,
    "event_bytes": 10_000,
}
"""A budget that some hundred messages fill."""
MOST_BYTES = 4 << 20
"""What may come of one read of the largest size, 256 KiB."""


class Reader:
    """Counts by how many it is held."""

    def __init__(self, *, can_wait: bool = True) -> None:
        self.can_wait = can_wait
        self.holds = 0

    def hold(self) -> None:
        """Read no more."""
        self.holds += 1

    def release(self) -> None:
        """Take one `hold` back."""
        self.holds -= 1
        assert self.holds >= 0


class Way:
    """A pressure on 100 bytes, and readers of it."""

    def __init__(self, readers: int = 2) -> None:
        self.pressure = Pressure(100)
        self.readers = [Reader() for _ in range(readers)]
        for each in self.readers:
            self.pressure.enter(each)
        self.holders = [self.pressure.budget.holder("one"), self.pressure.budget.holder("two")]

    @property
    def holds(self) -> list[int]:
        """By how many each reader is held."""
        return [each.holds for each in self.readers]

    def bring(self, reader: Reader, holder: Holder, size: int) -> Lease:
        """Have a reader bring something for a source."""
        lease = self.pressure.budget.book(size, holder)
        self.pressure.brought(reader, holder)
        return lease

    def settle(self, lease: Lease, holder: Holder) -> None:
        """It is in Kafka."""
        lease.release()
        self.pressure.settled(holder)


async def turns(count: int = 50) -> None:
    """Let the loop turn: whatever is ready has happened then."""
    for _ in range(count):
        await asyncio.sleep(0)


# The one number.


def test_everybody_stops_at_the_high_mark_and_goes_on_at_the_low_one() -> None:
    """Also who had nothing to do with it."""
    way = Way()
    one, two = way.holders
    parts = [way.pressure.budget.book(30, one), way.pressure.budget.book(30, two)]
    assert way.holds == [0, 0]
    parts.append(way.pressure.budget.book(30, two))
    assert way.holds == [1, 1]
    way.settle(parts.pop(), two)
    assert way.holds == [0, 0]


def test_whoever_waits_goes_on_when_all_is_settled() -> None:
    """Also where its source had nothing left at a time when there was nothing free."""
    way = Way()
    one, two = way.holders
    first = way.bring(way.readers[0], one, 60)
    others = [way.pressure.budget.book(50, two), way.pressure.budget.book(60, two)]
    way.settle(first, one)
    for lease in others:
        way.settle(lease, two)
    assert way.holds == [0, 0]


def test_who_can_wait_is_read_ahead_only_as_far_as_is_of_use() -> None:
    """Who cannot goes on as far as the budget does."""
    pressure = Pressure(100 * AHEAD_BYTES)
    patient, other = Reader(), Reader(can_wait=False)
    one, two = pressure.budget.holder("one"), pressure.budget.holder("two")
    for each in (patient, other):
        pressure.enter(each)
    leases = [pressure.budget.book(size, one) for size in (AHEAD_BYTES, 1)]
    for each in (patient, other):
        pressure.brought(each, one)
        pressure.brought(each, two)
    assert (patient.holds, other.holds) == (1, 0)
    leases.append(pressure.budget.book(AHEAD_BYTES // 2, one))
    leases[0].release()
    pressure.settled(one)
    assert patient.holds == 0


def test_newcomers_stop_with_the_others() -> None:
    """And go on with them."""
    way = Way(0)
    lease = way.pressure.budget.book(95, way.holders[0])
    newcomer = Reader()
    way.pressure.enter(newcomer)
    assert newcomer.holds == 1
    lease.release()
    assert newcomer.holds == 0


def test_a_source_that_holds_more_than_is_free_stops_who_brings_for_it() -> None:
    """And nobody else."""
    way = Way()
    way.bring(way.readers[0], way.holders[0], 60)
    way.bring(way.readers[1], way.holders[1], 10)
    assert way.holds == [1, 0]


def test_a_reader_is_held_once_for_a_source() -> None:
    """However much it brings, and released as often."""
    way = Way()
    reader, holder = way.readers[0], way.holders[0]
    leases = [way.bring(reader, holder, 55), way.bring(reader, holder, 5)]
    assert reader.holds == 1
    for each in leases:
        way.settle(each, holder)
    assert reader.holds == 0


def test_who_waits_goes_on_when_there_is_room_again() -> None:
    """With some distance from where it stopped."""
    way = Way()
    reader, holder = way.readers[0], way.holders[0]
    leases = [way.bring(reader, holder, 5) for _ in range(12)]
    assert reader.holds == 1
    while reader.holds:
        way.settle(leases.pop(), holder)
    held = 5 * len(leases)
    assert held <= LOW_SHARE * (100 - held)
    assert held + 5 > LOW_SHARE * (100 - held - 5)


def test_a_reader_may_wait_for_several_sources() -> None:
    """It goes on when all of them have room."""
    way = Way(1)
    (reader,), (one, two) = way.readers, way.holders
    first, second = way.bring(reader, one, 51), way.bring(reader, two, 35)
    assert way.holds == [2]
    way.settle(second, two)
    assert way.holds == [1]
    way.settle(first, one)
    assert way.holds == [0]


@pytest.mark.parametrize("size", [60, 95])
def test_who_has_left_is_not_called_any_more(size: int) -> None:
    """Its connection is gone."""
    way = Way(1)
    (reader,), (holder, _) = way.readers, way.holders
    lease = way.bring(reader, holder, size)
    before = reader.holds
    assert before > 0
    way.pressure.leave(reader)
    way.settle(lease, holder)
    way.bring(reader, holder, 95)
    assert reader.holds == before


# What the door shows of it.


@pytest.mark.parametrize("tls", [False, True])
@on_uvloop
async def test_at_the_high_watermark_a_tcp_client_blocks(*, tls: bool) -> None:
    """It goes on at the low one, and nothing is lost."""
    texts = [f"{number} ".ljust(4_000, "x") for number in range(3_000)]
    options, settings = tls_of() if tls else ({}, {})
    async with open_door({**TCP, **settings}, limits=LIMITS) as door:
        door.producer.reachable.clear()
        send = asyncio.to_thread(send_all, door.address("tcp"), lines(map(message, texts)), options)
        sending = asyncio.create_task(send)
        await until(lambda: [each.held for each in door.connections()] == [True])
        used = door.used_bytes
        await turns()
        assert door.used_bytes == used < MOST_BYTES
        assert not sending.done()  # the buffers of the kernel are full
        door.producer.reachable.set()
        await sending
        assert await door.written(len(texts)) == texts
        assert door.outcomes() == {"acked": len(texts)}


@pytest.mark.parametrize("tls", [False, True])
@on_uvloop
async def test_who_leaves_at_the_high_watermark_has_sent_everything(*, tls: bool) -> None:
    """It has closed before it was read to its end, which is no reason to forget the rest."""
    texts = [f"{number} ".ljust(4_000, "x") for number in range(300)]
    options, settings = tls_of() if tls else ({}, {})
    async with open_door({**TCP, **settings}, limits=LIMITS) as door:
        door.producer.reachable.clear()
        data = lines(map(message, texts))
        await asyncio.to_thread(send_all, door.address("tcp"), data, options)
        await until(lambda: [each.held for each in door.connections()] == [True])
        await turns()
        assert door.counted("ingest_events_received_total") < len(texts)
        door.producer.reachable.set()
        assert await door.written(len(texts)) == texts


def send_all(address: Any, data: bytes, options: dict[str, Any]) -> None:
    """What a simple client does: it waits as long as it has to."""
    with ExitStack() as stack:
        sock = stack.enter_context(socket.create_connection(address))
        if options:
            context: ssl.SSLContext = options["ssl"]
            name = options["server_hostname"]
            sock = stack.enter_context(context.wrap_socket(sock, server_hostname=name))
        sock.sendall(data)


def tls_of() -> tuple[dict[str, Any], dict[str, Any]]:
    """What a client and a listener need for TLS."""
    authority = Authority()
    return {"ssl": authority.context(), "server_hostname": "localhost"}, {"tls": authority.tls}


@pytest.mark.parametrize("tls", [False, True])
@on_uvloop
async def test_newcomers_are_not_read_at_the_high_watermark(*, tls: bool) -> None:
    """They are accepted, and wait like the others."""
    options, settings = tls_of() if tls else ({}, {})
    async with open_door(TCP, {**TCP, **settings, "name": "new"}, limits=LIMITS) as door:
        first = await door.connect()
        door.producer.reachable.clear()
        await first.send(lines(messages(1_000)))
        await until(lambda: door.front._pressure.budget.paused)
        newcomer = await door.connect("new", **options)
        await door.connected(1, "new")
        await turns()
        used = door.used_bytes
        await newcomer.send(lines([message("newcomer")]))
        await turns()
        assert door.used_bytes == used
        door.producer.reachable.set()
        await until(lambda: "newcomer" in door.texts())


@on_uvloop
async def test_newcomers_who_send_at_once_are_read_once_at_most() -> None:
    """One read of what is there already cannot be helped with uvloop."""
    async with open_door(TCP, limits=LIMITS) as door:
        first = await door.connect()
        door.producer.reachable.clear()
        await first.send(lines(messages(1_000)))
        await until(lambda: door.front._pressure.budget.paused)
        used, newcomer = door.used_bytes, await door.connect()
        text = "x" * 4_000
        sending = asyncio.create_task(newcomer.send(lines([message(text)] * 3_000)))
        await door.connected(2)
        await turns()
        assert door.used_bytes < used + MOST_BYTES
        assert not sending.done()
        door.producer.reachable.set()
        await sending
        await until(lambda: door.texts().count(text) == 3_000)


@on_uvloop
async def test_a_stuck_topic_stops_those_who_send_to_it_only() -> None:
    """Of two listeners with a source each, the other one goes on, over TCP too."""
    other = {**TCP, "name": "other", "source": "other"}
    async with open_door(TCP, other, limits={**LIMITS, "inflight_bytes": 4 << 20}) as door:
        stuck, free = await door.connect(), await door.connect("other")
        door.topics["logs"].moving.clear()
        sending = asyncio.create_task(stuck.send(lines(messages(20_000))))
        await until(lambda: [each.held for each in door.connections()] == [True])
        for number in range(10):
            await free.send(lines(messages(20, 20 * number)))
            await door.written(20 * (number + 1), "other")
        assert not door.front._pressure.budget.paused
        assert door.records() == []
        door.topics["logs"].moving.set()
        await sending
        assert len(await door.written(20_000)) == 20_000


@on_uvloop
async def test_datagrams_wait_in_the_kernel_which_counts_what_it_drops() -> None:
    """At the high watermark nobody reads; every datagram is delivered or counted."""
    settings = {**UDP, "receive_buffer_bytes": 65_536}
    async with open_door(settings, limits=LIMITS) as door:
        door.producer.reachable.clear()
        sent, listener = 0, door.front._listeners["udp"]
        while not listener._holds:  # type: ignore[union-attr]
            door.datagrams(*messages(50, sent))
            sent += 50
            await asyncio.sleep(0.002)
        waiting = door.counted("ingest_events_received_total")
        door.datagrams(*messages(2_000, sent))
        sent += 2_000
        assert door.counted("ingest_events_received_total") == waiting
        lost = kernel_drops(door.bound["udp"])
        assert lost > 0
        door.producer.reachable.set()
        await door.written(sent - lost)
        door.book_kernel_drops()
        door.book_kernel_drops()  # each is booked once
        assert door.dropped("kernel", listener="udp") == lost
        assert door.outcomes(source="logs") == {"acked": sent - lost, "dropped": lost}
        assert door.counted("ingest_events_received_total") == sent


@on_uvloop
async def test_datagrams_for_a_stuck_topic_are_dropped_where_rules_sort_them() -> None:
    """One socket has those of every source: the others must go on. It is counted."""
    rules = [{"when": {"app_name": "stuck"}, "source": "other"}]
    async with open_door(UDP, rules=rules, limits=LIMITS) as door:
        door.topics["other"].moving.clear()
        sent = 0
        while not door.dropped("backpressure"):
            door.datagrams(*messages(50, app="stuck"))
            sent += 50
            await asyncio.sleep(0.002)
        door.datagrams(message("free"))
        assert await door.written(1) == ["free"]
        door.topics["other"].moving.set()
        await until(lambda: sum(door.outcomes(source="other").values()) == sent)
        assert door.outcomes(source="other")["dropped"] == door.dropped("backpressure")
