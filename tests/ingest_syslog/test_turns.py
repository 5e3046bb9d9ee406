"""Turns: one piece of work at each round of the event loop, and nobody is forgotten."""

from __future__ import annotations

import asyncio

import pytest

from ingest_syslog.turns import Turns
from tests.syslog_door import lines, message, messages, on_uvloop, open_door, until

FLOOD_MESSAGES = 20_000


async def rounds_of(turns: Turns) -> int:
    """How many rounds of the loop it takes until nothing waits."""
    rounds = 0
    while turns.busy:
        await asyncio.sleep(0)
        rounds += 1
    return rounds


@on_uvloop
async def test_one_piece_is_done_at_each_round() -> None:
    """However many wait."""
    turns, done = Turns(), []
    for number in range(5):
        turns.add("a", lambda number=number: done.append(number))  # type: ignore[misc]
    assert (turns.busy, done) == (True, [])
    assert await rounds_of(turns) == 5
    assert done == [0, 1, 2, 3, 4]


@on_uvloop
async def test_who_has_much_is_not_served_more_often() -> None:
    """Senders take turns; each one's pieces stay in order."""
    turns, done = Turns(), []
    for name, count in (("a", 3), ("b", 1), ("c", 2)):
        for number in range(count):
            turns.add(name, lambda text=f"{name}{number}": done.append(text))  # type: ignore[misc]
    await rounds_of(turns)
    assert done == ["a0", "b0", "c0", "a1", "c1", "a2"]


@on_uvloop
async def test_a_piece_may_bring_another() -> None:
    """It comes after those of all other senders."""
    turns, done = Turns(), []

    def again() -> None:
        done.append("a")
        if done.count("a") < 3:
            turns.add("a", again)

    turns.add("a", again)
    turns.add("b", lambda: done.append("b"))
    assert await rounds_of(turns) == 4
    assert done == ["a", "b", "a", "a"]


@on_uvloop
async def test_a_piece_that_fails_stops_nobody() -> None:
    """The loop is told, and the next one has its turn."""
    loop, told, done = asyncio.get_running_loop(), [], []
    loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
    turns = Turns()
    turns.add("a", lambda: 1 // 0)  # type: ignore[arg-type, return-value]
    turns.add("b", lambda: done.append("b"))
    await rounds_of(turns)
    assert ([type(each) for each in told], done) == ([ZeroDivisionError], ["b"])


@pytest.mark.parametrize("protocol", ["tcp", "relp"])
@on_uvloop
async def test_a_crowd_from_one_address_does_not_starve_another_one(protocol: str) -> None:
    """Somebody else's message is there long before what the crowd has sent."""
    crowd_listener = {"name": "crowd", "protocol": "tcp", "source": "other"}
    async with open_door(crowd_listener, {"protocol": protocol}) as door:
        crowd = [await door.connect("crowd") for _ in range(20)]
        flood = lines(messages(FLOOD_MESSAGES // 20))
        sending = [asyncio.create_task(client.send(flood)) for client in crowd for _ in range(5)]
        await until(lambda: door.front._turns.busy)
        if protocol == "relp":
            session = await door.relp(host="127.0.0.9")
            await session.acked(await session.deliver(message("good")))
        else:
            good = await door.connect(host="127.0.0.9")
            await good.send(lines([message("good")]))
            await door.written(1)
        assert len(door.records("other")) < FLOOD_MESSAGES
        await asyncio.gather(*sending)
        await door.written(5 * FLOOD_MESSAGES, "other")
