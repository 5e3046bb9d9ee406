"""Long work is done one piece at a time, and no caller is served more often than another."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from ingest_http.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 5.0


class Works:
    """Pieces of work that wait until they may end, and what was begun.

    Attributes:
        begun: the names, in order.
        together: the most that were under way at the same time.
    """

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.together = 0
        self._running = 0
        self._may_end = threading.Semaphore(0)

    def __call__(self, name: str) -> str:
        """Work."""
        self.begun.append(name)
        self._running += 1
        self.together = max(self.together, self._running)
        assert self._may_end.acquire(timeout=PATIENCE)
        self._running -= 1
        if name == "fails":
            raise ValueError(name)
        return name

    def end(self, count: int = 1) -> None:
        """Let so many more end."""
        self._may_end.release(count)


async def until(condition: Callable[[], bool]) -> None:
    """Wait until it holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.001)


async def test_callers_have_their_turns_whatever_they_have_to_do() -> None:
    """One that comes with its first piece does not wait for all of another's."""
    turns, works = Turns(), Works()
    names = ["a1", "a2", "a3", "a4", "b1", "c1", "b2"]
    tasks = [asyncio.create_task(turns.run(name[0], works, name)) for name in names]
    works.end(len(names))
    assert await asyncio.gather(*tasks) == names
    assert works.begun == ["a1", "a2", "b1", "c1", "a3", "b2", "a4"]
    assert works.together == 1


async def test_an_error_is_its_callers_and_the_next_one_goes_on() -> None:
    """It is raised where the work was asked for."""
    turns, works = Turns(), Works()
    failing = asyncio.create_task(turns.run("a", works, "fails"))
    other = asyncio.create_task(turns.run("b", works, "fine"))
    works.end(2)
    with pytest.raises(ValueError, match="fails"):
        await failing
    assert await other == "fine"


async def test_what_was_given_up_before_its_turn_is_never_done() -> None:
    """And those behind it do not wait for it."""
    turns, works = Turns(), Works()
    tasks = [asyncio.create_task(turns.run("a", works, name)) for name in ("1", "2", "3")]
    await until(lambda: works.begun == ["1"])
    tasks[1].cancel()
    works.end(2)
    assert await asyncio.gather(tasks[0], tasks[2]) == ["1", "3"]
    assert works.begun == ["1", "3"]


async def test_what_was_given_up_while_it_is_done_goes_on_alone() -> None:
    """The next one begins when it has ended: there are never two at the same time."""
    turns, works = Turns(), Works()
    first = asyncio.create_task(turns.run("a", works, "fails"))
    await until(lambda: works.begun == ["fails"])
    second = asyncio.create_task(turns.run("b", works, "2"))
    first.cancel()
    await asyncio.wait([first])
    assert works.begun == ["fails"]
    works.end(2)
    assert await second == "2"
    assert works.together == 1


async def test_a_turn_that_comes_too_late_is_passed_on() -> None:
    """Its request was given up in the same moment."""
    turns, works = Turns(), Works()
    turns._busy = True
    late, third = (asyncio.create_task(turns.run(name, works, name)) for name in ("late", "3"))
    await until(lambda: len(turns._waiting) == 2)
    turns._give_away()
    late.cancel()
    works.end()
    assert await third == "3"
    assert works.begun == ["3"]
