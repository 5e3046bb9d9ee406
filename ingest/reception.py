"""When a request was received, and the unique id that its own ids are made from."""

from __future__ import annotations

import secrets
from itertools import count
from time import gmtime, strftime, time_ns

from ingest.envelope import Received


class Receptions:
    """Made once for each process: ids are unique over processes by a random part."""

    def __init__(self) -> None:
        self._process = secrets.token_hex(8).encode()
        self._numbers = count()
        self._second = -1
        self._text = b""

    def now(self) -> Received:
        """The reception of a request that is there now."""
        microseconds = time_ns() // 1000
        second, fraction = divmod(microseconds, 1_000_000)
        if second != self._second:  # formatted once a second
            self._second = second
            self._text = strftime("%Y-%m-%dT%H:%M:%S", gmtime(second)).encode()
        milliseconds = microseconds // 1000
        return Received(
            b"%b.%06dZ" % (self._text, fraction),
            milliseconds,
            b"%012x-%b-%x" % (milliseconds, self._process, next(self._numbers)),
        )
