"""Calls are made in one thread, in their order, and never hold up the event loop or the end."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from ingest_forward.call_thread import CallThread


async def test_calls_are_made_in_their_order_in_one_thread() -> None:
    """What was asked for first is done first."""
    thread, order = CallThread("calls"), []

    def note(number: int) -> int:
        order.append(number)
        return threading.get_ident()

    threads = await asyncio.gather(*(thread.call(lambda n=n: note(n)) for n in range(50)))
    thread.end()
    assert order == list(range(50))
    assert len(set(threads)) == 1
    assert threads[0] != threading.get_ident()


async def test_what_a_call_raises_is_raised_where_it_is_waited_for() -> None:
    """The thread goes on with the next call."""
    thread = CallThread("calls")

    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await thread.call(fail)
    assert await thread.call(lambda: 5) == 5
    thread.end()


async def test_a_call_that_nobody_waits_for_any_more_is_not_made() -> None:
    """One that was cancelled before its turn."""
    thread, turn, made = CallThread("calls"), threading.Event(), []
    first = asyncio.ensure_future(thread.call(turn.wait))
    second = asyncio.ensure_future(thread.call(lambda: made.append(2)))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    turn.set()
    assert await first
    await thread.call(lambda: made.append(3))
    thread.end()
    assert made == [3]


def test_a_call_that_hangs_does_not_keep_the_process_from_ending() -> None:
    """The thread dies with it."""
    program = """
import asyncio, threading
from ingest_forward.call_thread import CallThread
async def main():
    task = asyncio.ensure_future(CallThread("calls").call(threading.Event().wait))
    await asyncio.sleep(0)
    task.cancel()
asyncio.run(main())
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=20)
