"""The original bytes in a record value: what its dead letter has. It depends on who sealed it.

Pure: no I/O, no clock.
"""

from __future__ import annotations

from base64 import b64decode
from typing import TYPE_CHECKING

import msgspec

from ingest.envelope import data_of

if TYPE_CHECKING:
    from collections.abc import Callable


class _Raw(msgspec.Struct):
    raw: str | None = None
    raw_base64: str | None = None


class _Envelope(msgspec.Struct):
    data: _Raw


_envelope = msgspec.json.Decoder(_Envelope).decode


def message_of(value: bytes) -> bytes:
    """What of a syslog record is kept: the original bytes where it has them.

    A message that is ``ok`` has lost nothing, so that its whole envelope is as good.
    """
    data = _envelope(value).data
    if data.raw_base64 is not None:
        return b64decode(data.raw_base64)
    return value if data.raw is None else data.raw.encode()


_OF_SERVICE: dict[str, Callable[[bytes], bytes]] = {
    "ingest-http": data_of,
    "ingest-syslog": message_of,
}


def original_of(service: str) -> Callable[[bytes], bytes]:
    """What gives the original bytes of values that ``service`` sealed.

    All of a value that is no envelope, such as one that is a dead letter already.
    """
    inside = _OF_SERVICE.get(service, bytes)

    def original(value: bytes) -> bytes:
        try:
            return inside(value)
        except ValueError:  # msgspec's and base64's errors are such as well
            return value

    return original
