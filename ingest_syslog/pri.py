"""The PRI part, which says facility and severity (RFC 5424, section 6.2.1; RFC 3164, 4.1.1).

Sans-IO.
"""

from __future__ import annotations

import re
from typing import NamedTuple

MAX_PRI = 191
"""The highest PRI: facility 23, severity 7."""


class Pri(NamedTuple):
    """What the start of a message says of its facility and severity.

    Attributes:
        facility: 0 to 23, or None if it is not told.
        severity: 0 (emergency) to 7 (debug), or None if it is not told.
        end: index of what follows; 0 if all of the text is the message.
        reason: empty, or why the message is not ``ok``: ``no_pri`` or ``bad_pri``.
    """

    facility: int | None
    severity: int | None
    end: int
    reason: str


_NO_PRI = Pri(None, None, 0, "no_pri")
_UNCLOSED = Pri(None, None, 0, "bad_pri")
_BY_TEXT = {
    text: Pri(number >> 3, number & 7, len(text), "")
    for number, text in ((number, f"<{number}>") for number in range(MAX_PRI + 1))
}
_BRACKET = re.compile("<([0-9]{1,9})>")
"""More digits are no number that anyone meant."""


def read_pri(text: str) -> Pri:
    """Read the PRI at the start of ``text``.

    A number with leading zeros is taken, and flagged. A number that is too high is skipped, and
    flagged. Any other bracket belongs to the message.
    """
    known = _BY_TEXT.get(text[: text.find(">", 0, 5) + 1])
    return known or _read_odd_pri(text)


def _read_odd_pri(text: str) -> Pri:
    if not text.startswith("<"):
        return _NO_PRI
    bracket = _BRACKET.match(text)
    if bracket is None:
        return _UNCLOSED
    number = int(bracket[1])
    if number > MAX_PRI:
        return Pri(None, None, bracket.end(), "bad_pri")
    return Pri(number >> 3, number & 7, bracket.end(), "bad_pri")
