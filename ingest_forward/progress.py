"""How far a partition has been forwarded: the offset up to which all is done. Pure."""

from __future__ import annotations

from collections import deque


class Chunk:
    """Records of one partition that were read together.

    Attributes:
        end: the offset behind its last record.
        done: each of its records is where it belongs.
    """

    __slots__ = ("done", "end")

    def __init__(self, end: int) -> None:
        self.end = end
        self.done = False


class Progress:
    """The progress of one partition.

    Args:
        start: the offset that reading began at; None: not known, for nothing was committed.
        committed: what was committed last, where that is another one.

    Attributes:
        done: the offset to commit: all before it is done. None: nothing is known to be.
        committed: what was committed last.
    """

    __slots__ = ("_chunks", "committed", "done")

    def __init__(self, start: int | None = None, committed: int | None = None) -> None:
        self._chunks: deque[Chunk] = deque()
        self.done = start
        self.committed = start if committed is None else committed

    @property
    def to_commit(self) -> int | None:
        """The offset to commit where it differs from what was committed."""
        return None if self.done == self.committed else self.done

    def begin(self, end: int) -> Chunk:
        """Records were read, up to the offset ``end``, which is not among them."""
        chunk = Chunk(end)
        self._chunks.append(chunk)
        return chunk

    def finish(self, chunk: Chunk) -> None:
        """All records of ``chunk`` are done; what was begun before may not be."""
        chunk.done = True
        chunks = self._chunks
        while chunks and chunks[0].done:
            self.done = chunks.popleft().end
