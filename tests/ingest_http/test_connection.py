"""Connections: how many, how long, and how they end."""

from __future__ import annotations

import asyncio
import resource
import socket
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from ingest import accepting
from ingest_http import connection
from tests import http_door
from tests.http_door import Client, array, counted, open_door, request, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.http_door import OpenDoor

door = http_door.door


def received() -> float:
    """How many events of the source ``orders`` have been received, ever."""
    return counted("ingest_events_received_total", source="orders")


def refused(limit: str) -> float:
    """How many connections were closed for ``limit``, ever."""
    return counted("ingest_connections_refused_total", listener="http", limit=limit)


def now() -> float:
    """The clock of the event loop."""
    return asyncio.get_running_loop().time()


async def later() -> None:
    """Let the clock go on, which counts milliseconds only on some event loops."""
    begun = now()
    await until(lambda: now() > begun)


async def busy(opened: OpenDoor) -> Client:
    """A connection whose request waits for Kafka."""
    opened.producer.reachable.clear()
    client, before = await opened.connect(), received()
    await client.send(request())
    await until(lambda: received() > before)
    return client


def connection_of(opened: OpenDoor) -> Any:
    """The only connection, as the door has it."""
    (found,) = opened.door._acceptor.connections
    return found


# Time.


@pytest.mark.parametrize("drip", [False, True], ids=["stalled", "dripping"])
@pytest.mark.parametrize("part", [b"POST /", request(b"")[:-2]], ids=["its first line", "its last"])
async def test_a_header_that_does_not_come_in_time_ends_the_connection(
    part: bytes, *, drip: bool
) -> None:
    """From its first byte on, however steadily the rest drips."""
    async with open_door(http={"header_seconds": 0.2}) as door:
        before, begun, client = refused("header_seconds"), now(), await door.connect()
        await client.send(part)
        while client.is_open():
            assert now() - begun < 2
            await asyncio.sleep(0.01)
            if drip:
                client.writer.write(b"x")
        assert now() - begun >= 0.19
        assert refused("header_seconds") - before == 1


async def test_the_header_of_a_later_request_has_no_more_time() -> None:
    """It is measured anew for each."""
    async with open_door(http={"header_seconds": 0.2}) as door:
        client = await door.connect()
        assert (await client.ask(request())).status == 200
        await client.send(request()[:20])
        await client.closed(2.0)


async def test_a_header_that_began_with_the_request_before_has_no_more_time() -> None:
    """Pipelining buys none."""
    async with open_door(http={"header_seconds": 0.2}) as door:
        client = await door.connect()
        assert (await client.ask(request() + request()[:20])).status == 200
        await client.closed(2.0)


async def test_the_time_of_a_header_ends_with_it() -> None:
    """A body has its own time, and so has a connection that rests."""
    async with open_door(http={"header_seconds": 0.1}) as door:
        client, data = await door.connect(), request()
        for _ in range(2):
            await client.send(data[:20])
            await until(lambda: connection_of(door)._header_timer)
            await client.send(data[20:-1])
            await asyncio.sleep(0.2)  # longer than a header may take
            assert (await client.ask(data[-1:])).status == 200
            await asyncio.sleep(0.2)
        assert client.is_open()


async def test_a_connection_that_rests_is_closed() -> None:
    """After an answer, or without ever a request; each after ``keepalive_seconds``."""
    async with open_door(http={"keepalive_seconds": 0.3}) as door:
        begun, silent, used = now(), await door.connect(), await door.connect()
        await asyncio.sleep(0.15)
        assert (await used.ask(request())).status == 200
        await silent.closed()
        assert 0.28 < now() - begun < 2
        assert used.is_open()
        await used.closed()
        assert 0.43 < now() - begun < 2


async def test_a_connection_that_waits_for_kafka_does_not_rest() -> None:
    """However long that takes."""
    async with open_door(http={"keepalive_seconds": 0.1}) as door:
        client = await busy(door)
        await asyncio.sleep(0.3)  # longer than a connection may rest
        door.producer.reachable.set()
        assert (await client.answer()).status == 200
        await client.closed()


async def test_an_old_connection_is_told_to_end() -> None:
    """An answer says so, a little before ``max_age_seconds`` or at it."""
    async with open_door(http={"max_age_seconds": 0.5}) as door:
        begun, client, answers = now(), await door.connect(), []
        while not (answers and answers[-1].closes):
            answers.append(await client.ask(request()))
            await asyncio.sleep(0.005)
        assert 0.39 < now() - begun < 1
        assert len(answers) > 10
        assert {answer.status for answer in answers} == {200}
        assert await client.rest() == b""


async def test_old_connections_do_not_all_end_at_once() -> None:
    """There is jitter in their age."""
    async with open_door(http={"max_age_seconds": 300.0}) as door:
        for _ in range(20):
            await door.connect()
        await until(lambda: len(door.door) == 20)  # all within less than a second
        ages = [each._closes_at - now() for each in door.door._acceptor.connections]
        assert max(ages) - min(ages) > 5


async def test_the_rest_of_a_refused_body_is_not_waited_for_long(
    door: OpenDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is there at once, and some time later the connection ends."""
    monkeypatch.setattr(connection, "LINGER_SECONDS", 0.1)
    client = await door.connect()
    await client.send(request(b"", "Content-Length: 1000", key="wrong"))
    assert (await client.answer()).status == 401
    await client.closed()


# How many.


async def test_the_longest_idle_connection_makes_room_for_a_newcomer() -> None:
    """At the limit, whoever has rested longest is closed, and the newcomer is served."""
    async with open_door(limits={"connections": 3}) as door:
        before = refused("connections")
        clients = [await door.connect() for _ in range(3)]
        for client in (clients[1], clients[2], clients[0]):
            await later()
            await client.ask(request())
        newcomer = await door.connect()
        await clients[1].closed()
        assert (await newcomer.ask(request())).status == 200
        assert (await clients[0].ask(request())).status == 200
        assert [client.is_open() for client in clients] == [True, False, True]
        assert refused("connections") - before == 1
        assert len(door.door) == 3


async def test_a_connection_without_any_request_is_idle_since_it_came() -> None:
    """It goes before one that has been used since."""
    async with open_door(limits={"connections": 2}) as door:
        silent, used = await door.connect(), await door.connect()
        await until(lambda: len(door.door) == 2)
        await later()
        await used.ask(request())
        newcomer = await door.connect()
        await silent.closed()
        assert (await newcomer.ask(request())).status == 200
        assert used.is_open()


@pytest.mark.parametrize(
    "part",
    [request()[:10], request(b"", "Content-Length: 9"), request() + request()[:10]],
    ids=["of a header", "of a body", "of the next header"],
)
async def test_only_an_idle_connection_is_closed_for_a_newcomer(part: bytes) -> None:
    """One with a part of a request, or that waits for Kafka, stays; then the newcomer goes."""
    async with open_door(limits={"connections": 2}) as door:
        partial = await door.connect()
        await partial.send(part)
        if part.startswith(request()):
            assert (await partial.answer()).status == 200
        waiting = await busy(door)
        newcomer = await door.connect()
        await newcomer.closed()
        door.producer.reachable.set()
        assert (await waiting.answer()).status == 200
        assert partial.is_open()
        newcomer = await door.connect()
        assert (await newcomer.ask(request())).status == 200
        await waiting.closed()


async def test_one_address_has_a_limit_of_its_own() -> None:
    """The newcomer is closed, idle ones stay; another address has its own number."""
    async with open_door(limits={"connections_per_address": 2}) as door:
        before = refused("connections_per_address")
        first, second = await door.connect(), await door.connect()
        newcomer = await door.connect()
        await newcomer.closed()
        assert refused("connections_per_address") - before == 1
        other = await door.connect(local_addr=("127.0.0.2", 0))
        for client in (first, second, other):
            assert (await client.ask(request())).status == 200
        second.abort()
        await until(lambda: len(door.door) == 2)
        assert (await (await door.connect()).ask(request())).status == 200


async def test_connections_that_come_and_go_leave_nothing(door: OpenDoor) -> None:
    """Neither in the number of all nor in that of an address."""
    for number in range(100):
        client = await door.connect()
        if number % 3:
            await client.send(request()[: 20 * (number % 7)])
        client.abort()
    await until(lambda: not len(door.door))
    assert not door.door._acceptor._by_address


async def test_trusted_proxies_may_have_more_connections_than_others() -> None:
    """Behind one of them are many clients; the limit for all holds for them too."""
    limits = {"connections_per_address": 1, "connections": 3}
    async with open_door(http={"trusted_proxies": ["127.0.0.0/31"]}, limits=limits) as door:
        clients = [await door.connect() for _ in range(3)]
        for client in clients:
            assert (await client.ask(request())).status == 200
        newcomer = await door.connect()
        assert (await newcomer.ask(request())).status == 200
        await clients[0].closed()
        assert len(door.door) == 3


async def test_newcomers_at_the_limit_are_all_served_while_there_are_idle_ones() -> None:
    """However many come one after the other; each time another one goes, the longest idle first."""
    async with open_door(limits={"connections": 40}) as door:
        clients = []
        for number in range(120):
            clients.append(await door.connect())
            assert (await clients[-1].ask(request())).status == 200
            assert len(door.door) == min(number + 1, 40)
            await later()
        await until(lambda: not any(client.is_open() for client in clients[:80]))
        assert all(client.is_open() for client in clients[80:])


async def test_who_was_the_longest_idle_one_and_has_asked_since_stays() -> None:
    """What was found when there was no room before is looked at anew."""
    async with open_door(limits={"connections": 3}) as door:
        clients = []
        for _ in range(4):
            clients.append(await door.connect())
            assert (await clients[-1].ask(request())).status == 200
            await later()
        await clients[0].closed()
        assert (await clients[1].ask(request())).status == 200
        newcomer = await door.connect()
        await clients[2].closed()
        assert (await newcomer.ask(request())).status == 200
        assert clients[1].is_open()


async def test_who_makes_room_before_it_was_served_is_gone_too() -> None:
    """Of many who come in the same turn of the event loop, the last ones stay."""
    async with open_door(limits={"connections": 2}) as door:
        before, came = refused("connections"), []
        for _ in range(6):
            sock = socket.create_connection(("127.0.0.1", door.port))
            sock.setblocking(False)
            came.append(sock)
        clients = [door.adopt(Client(*await asyncio.open_connection(sock=sock))) for sock in came]
        await until(lambda: sum(client.is_open() for client in clients) == 2)
        assert refused("connections") - before == 4
        assert len(door.door) == 2


async def test_an_ipv4_client_on_an_ipv6_listener_has_its_ipv4_address() -> None:
    """So that it is the same client everywhere."""
    async with open_door() as door:
        both = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        door.door.open([both])
        port = both.getsockname()[1]
        found = await asyncio.open_connection("127.0.0.1", port)
        client = door.adopt(Client(*found))
        assert (await client.ask(request())).status == 200
        assert connection_of(door).address == "127.0.0.1"
        assert set(door.door._acceptor._by_address) == {"127.0.0.1"}
        await door.door.close()


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    """Nobody in this process can open anything."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    spare = [socket.socket()]
    resource.setrlimit(resource.RLIMIT_NOFILE, (spare[0].fileno() + 1, limits[1]))
    try:
        with suppress(OSError):
            while True:
                spare.append(socket.socket())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for sock in spare:
            sock.close()


async def test_without_file_descriptors_newcomers_wait_and_nothing_spins(
    door: OpenDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are served when there are some again; it is logged once; who is here goes on."""
    monkeypatch.setattr(accepting, "PAUSE_SECONDS", 0.1)
    old = await door.connect()
    newcomers = [socket.socket() for _ in range(3)]
    with capture_logs() as logs, no_descriptor_left():
        for sock in newcomers:
            sock.connect(("127.0.0.1", door.port))
        await until(lambda: logs)
        begun = time.thread_time()
        await asyncio.sleep(0.5)  # several pauses
        assert time.thread_time() - begun < 0.1
        assert (await old.ask(request())).status == 200
        assert len(door.door) == 1
    assert [each["error"] for each in logs] == ["Too many open files"]
    for sock in newcomers:
        sock.setblocking(False)
        client = door.adopt(Client(*await asyncio.open_connection(sock=sock)))
        assert (await client.ask(request())).status == 200


# Clients that do not read.


async def unread(opened: OpenDoor, requests: int) -> Client:
    """A client that sends so many requests with large answers and reads none of them."""
    opened.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)  # connections inherit it
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", opened.port))
    client = opened.adopt(Client(*await asyncio.open_connection(sock=sock, limit=1024)))
    body = array(*[b"{}"] * 200)
    for number in range(requests):
        target = "/v1/events/orders?results=all"
        client.writer.write(request(body, f"X-Request-Id: {number}", target=target))
    return client


async def test_a_client_that_does_not_read_is_not_served_on(door: OpenDoor) -> None:
    """A bounded number of its requests is handled until it reads; then all are answered."""
    before, requests = received(), 100
    client = await unread(door, requests)
    await until(lambda: len(door.door) and connection_of(door).writing_paused)
    handled = (received() - before) / 200
    await asyncio.sleep(0.1)  # nothing more happens
    assert (received() - before) / 200 == handled < requests - 32
    assert len(connection_of(door)._messages) <= 32
    assert connection_of(door).transport.get_write_buffer_size() < 1 << 20
    client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    client.reader._limit = 1 << 20
    answers = [await client.answer() for _ in range(requests)]
    assert [answer.headers["x-request-id"] for answer in answers] == [
        str(number) for number in range(requests)
    ]
    assert {len(answer.results) for answer in answers} == {200}


async def test_a_client_that_never_reads_is_closed(
    door: OpenDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it did not read is given up with it."""
    monkeypatch.setattr(connection, "SLOW_READER_SECONDS", 0.2)
    await unread(door, 100)
    await until(lambda: len(door.door) and connection_of(door).writing_paused)
    await until(lambda: not len(door.door), seconds=2)


@pytest.mark.parametrize("by_us", [False, True], ids=["asked for", "by us"])
async def test_a_connection_that_is_closed_is_not_kept_for_who_does_not_read(
    door: OpenDoor, monkeypatch: pytest.MonkeyPatch, *, by_us: bool
) -> None:
    """What is left of an answer, however little, has the same time as a whole one."""
    monkeypatch.setattr(connection, "SLOW_READER_SECONDS", 0.2)
    client = await unread(door, 0)
    target, body = "/v1/events/orders?results=all", array(*[b"{}"] * 100)
    await until(lambda: len(door.door) and connection_of(door).transport)
    transport = connection_of(door).transport
    while not transport.get_write_buffer_size():
        wanted = received() + 100
        client.writer.write(request(body, target=target))
        await until(lambda wanted=wanted: received() == wanted and connection_of(door).is_idle())
    assert not connection_of(door).writing_paused
    if by_us:
        connection_of(door).force_close()
    else:
        client.writer.write(request(b"{}", "Connection: close"))
    await until(lambda: not len(door.door), seconds=2)


# The end.


async def test_while_draining_every_answer_is_the_last_on_its_connection(door: OpenDoor) -> None:
    """Newcomers are served all the same."""
    client, waiting = await door.connect(), await busy(door)
    door.producer.reachable.set()
    assert not (await waiting.answer()).closes
    door.door.draining = True
    for each in (client, waiting, await door.connect()):
        answer = await each.ask(request())
        assert (answer.status, answer.closes) == (200, True)
        assert await each.rest() == b""


async def test_who_is_in_the_queue_when_the_listener_closes_is_served(door: OpenDoor) -> None:
    """Nobody who was let in is reset; who comes later is not let in."""
    queued = socket.create_connection(("127.0.0.1", door.port))  # blocks: nobody accepts meanwhile
    door.door.draining = True
    closing = asyncio.create_task(door.door.close())
    queued.setblocking(False)
    client = door.adopt(Client(*await asyncio.open_connection(sock=queued)))
    await closing
    answer = await client.ask(request())
    assert (answer.status, answer.closes) == (200, True)
    with pytest.raises(ConnectionRefusedError):
        await door.connect()


async def test_many_in_the_queue_when_the_listener_closes_are_all_served(
    door: OpenDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those whom the last turn of the event loop did not let in."""
    monkeypatch.setattr(accepting, "HANDSHAKE_SECONDS", 0.0)
    queued = [socket.create_connection(("127.0.0.1", door.port)) for _ in range(50)]
    await door.door.close()
    for sock in queued:
        sock.setblocking(False)
        client = door.adopt(Client(*await asyncio.open_connection(sock=sock)))
        assert (await client.ask(request())).status == 200


async def test_who_is_idle_when_the_door_closes_is_still_served_for_a_while(
    door: OpenDoor,
) -> None:
    """Its request may be on the way; then the connection is closed, and nobody is cut off."""
    quick, silent = await door.connect(), await door.connect()
    await quick.ask(request())
    door.door.draining = True
    await door.door.close()
    finishing = asyncio.create_task(door.door.finish(now() + 5))
    answer = await quick.ask(request())
    assert (answer.status, answer.closes) == (200, True)
    assert await silent.rest() == b""
    assert await finishing == 0


async def test_closing_waits_for_the_answers_that_are_due(door: OpenDoor) -> None:
    """A request that waits for Kafka has its answer before the end."""
    client = await busy(door)
    door.door.draining = True
    await door.door.close()
    finishing = asyncio.create_task(door.door.finish(now() + 5))
    await asyncio.sleep(0.05)
    assert not finishing.done()
    door.producer.reachable.set()
    answer = await client.answer()
    assert (answer.status, answer.closes) == (200, True)
    assert await finishing == 0


async def test_who_has_no_answer_at_the_deadline_is_cut_off_and_counted(door: OpenDoor) -> None:
    """Its events are ``failed``, once."""
    before = counted("ingest_events_total", source="orders", outcome="failed")
    client = await busy(door)
    await door.door.close()
    assert await door.door.finish(now() + 0.1) == 1
    await client.closed()
    await until(
        lambda: counted("ingest_events_total", source="orders", outcome="failed") - before == 1
    )
