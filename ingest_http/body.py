"""Reads a request's body within its limits: bytes, time, and the in-flight budget."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestPayloadError

from ingest_http import decode
from ingest_http.problem import Problem

if TYPE_CHECKING:
    from ingest.inflight import Budget, Holder, Lease
    from ingest.settings import LimitSettings
    from ingest_http.request import Request

STEP_BYTES = 65_536
"""How much is inflated on the event loop; more is inflated in a thread."""
THREAD_STEP_BYTES = 1 << 20
"""How much is inflated at a time in a thread."""
HELD_PER_BYTE = 4
"""What is held for a byte of a body, until its events are sealed and their real price is known:
the body, its slices, and twice its share of the record values."""


class BodyReader:
    """Reads bodies for one worker."""

    def __init__(self, limits: LimitSettings, budget: Budget) -> None:
        self._limits = limits
        self._budget = budget
        self._small = min(STEP_BYTES, limits.body_bytes, limits.decoded_bytes)

    def declared(self, request: Request) -> int | None:
        """How long the body is by its header; None: it does not say.

        Raises:
            Problem: 413; or 400, for a transfer coding that is not undone here.
        """
        length = request.content_length
        if length is None:
            _require_chunked(request)
        if length is not None and length > self._limits.body_bytes:
            raise self._too_large()
        return length

    def reserve(self, length: int | None, holder: Holder) -> Lease:
        """Take room for a body, by what its header says, before any of it is read.

        Args:
            length: see `declared`.
            holder: whose share of the budget it is.

        Raises:
            Problem: 503 where the budget, or the holder's share, is full.
        """
        price = self._price(length if length is not None else STEP_BYTES)
        lease = self._budget.reserve(price, holder)
        if lease is None:
            raise overloaded()
        return lease

    def pay(self, lease: Lease, size: int) -> None:
        """Have room for ``size`` bytes, now that they are known.

        Raises:
            Problem: 503 where the budget is full.
        """
        if not lease.resize(min(size, self._budget.limit_bytes)):
            raise overloaded()

    def _price(self, size: int) -> int:
        """The room for a body of ``size`` bytes; one alone always fits."""
        return min(HELD_PER_BYTE * size, self._budget.limit_bytes)

    def at_hand(self, request: Request, encoding: str) -> bytes | None:
        """The usual small body, which came whole with its header; None: it must be read."""
        content = request.content
        if content.is_eof() and content.total_bytes <= self._small and encoding == "identity":
            return content.read_nowait()
        return None

    async def read(self, request: Request, encoding: str, lease: Lease) -> bytes:
        """The decoded body.

        Raises:
            Problem: 400, 408, 413 or 503, as the contract has it.
        """
        body = await self._receive(request, lease)
        if encoding == "identity":
            if len(body) > self._limits.decoded_bytes:
                raise Problem("body_too_large", self._says(self._limits.decoded_bytes))
            return body
        return await self._inflate(body, encoding, lease)

    async def _receive(self, request: Request, lease: Lease) -> bytes:
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                return await self._receive_slowly(request, lease)
        except TimeoutError:
            detail = f"the body did not arrive within {self._limits.body_seconds:g} seconds"
            raise Problem("body_timeout", detail) from None
        except (RequestPayloadError, HttpProcessingError):
            raise Problem("bad_body", "the body is cut off or its chunks are broken") from None

    async def _receive_slowly(self, request: Request, lease: Lease) -> bytes:
        pieces, size, reserved = [], 0, request.content_length or STEP_BYTES
        async for piece in request.content.iter_any():
            size += len(piece)
            if size > self._limits.body_bytes:
                raise self._too_large()
            if size > reserved:
                reserved = 2 * size
                self.pay(lease, self._price(reserved))
            pieces.append(piece)
        return b"".join(pieces)

    async def _inflate(self, body: bytes, encoding: str, lease: Lease) -> bytes:
        """Decode in bounded steps, each paid for before it is taken."""
        loop = asyncio.get_running_loop()
        decoder = decode.decoder(encoding, self._limits.decoded_bytes)
        pieces, size = [], 0
        try:
            decoder.feed(body)
            piece = decoder.read(STEP_BYTES)
            while piece:
                size += len(piece)
                pieces.append(piece)
                self.pay(lease, len(body) + size + THREAD_STEP_BYTES)
                if size < STEP_BYTES:
                    piece = decoder.read(STEP_BYTES)
                else:
                    piece = await loop.run_in_executor(None, decoder.read, THREAD_STEP_BYTES)
            decoder.finish()
        except decode.DecodeError as error:
            raise Problem(error.code, error.detail) from None
        return b"".join(pieces)

    def _too_large(self) -> Problem:
        return Problem("body_too_large", self._says(self._limits.body_bytes))

    @staticmethod
    def _says(limit: int) -> str:
        return f"the body is larger than {limit} bytes"


def _require_chunked(request: Request) -> None:
    """The parser undoes no other transfer coding, and says nothing (RFC 9112, section 6.1)."""
    codings = request.headers.getall("Transfer-Encoding", ())
    if codings and [each.strip().lower() for each in codings] != ["chunked"]:
        raise Problem("bad_request", "the only transfer coding is chunked")


def overloaded() -> Problem:
    """The in-flight budget is full: nothing was taken."""
    return Problem("overloaded", "too much is in flight; try again")
