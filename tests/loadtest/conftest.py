"""A stand-in for the gateway that gives the answers it is told to give."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence


@asynccontextmanager
async def _serve_answers(
    usual: tuple[int, bytes], first: Sequence[tuple[int, bytes]] = ()
) -> AsyncIterator[str]:
    """A server that gives the answers of ``first`` once, and the ``usual`` one from then on."""
    script = list(first)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                header = await reader.readuntil(b"\r\n\r\n")
                length = int(header.lower().partition(b"content-length:")[2].split()[0])
                await reader.readexactly(length)
                status, body = script.pop(0) if script else usual
                if not status:
                    return
                line = b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
                writer.write(line + body)
        except asyncio.IncompleteReadError:
            return
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.fixture
def gateway() -> Callable[..., AbstractAsyncContextManager[str]]:
    """Starts a stand-in; a status of 0 hangs up. Gives its URL."""
    return _serve_answers
