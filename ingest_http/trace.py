"""The trace that a request belongs to, as a CloudEvents attribute.

Source: W3C Trace Context, section 3.2; CloudEvents Distributed Tracing extension.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_TRACEPARENT = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-[!-~]*)?"
)


def attribute(values: Sequence[str]) -> bytes:
    """The member ``traceparent`` with a comma before it; nothing where there is no valid one.

    Args:
        values: the header fields of this name; several are none.
    """
    if len(values) != 1:
        return b""
    found = _TRACEPARENT.fullmatch(values[0].strip(" \t"))
    if found is None or (found[1] == "00" and found[2] is not None):
        return b""
    known = found[0].removesuffix(found[2] or "")  # of later versions, what this one knows
    return b',"traceparent":"%b"' % known.encode()
