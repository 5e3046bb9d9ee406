r"""STRUCTURED-DATA of RFC 5424, section 6.3, and what senders make of it.

Sans-IO. Elements are read by the RFC's grammar, except that length and characters of names are not
limited, which loses nothing. What does not follow it is read by a lenient grammar, and flagged:
spaces more or less, parameters without quotes, without value, or with a ``]`` that is not escaped.

The expressions are possessive, and none of them looks at a character more than a few times: time is
linear whatever the text.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class StructuredData(NamedTuple):
    """What a message carries as structured data.

    Attributes:
        elements: SD-ID -> name -> value, escapes undone; None if there is none (``-``), or none
            that could be read. A parameter without value has an empty one.
        end: index of what follows, which is where it started if it could not be read.
        reason: empty, or why the message is not ``ok``: ``bad_structured_data`` or, if that does
            not apply, ``duplicate_param``.
    """

    elements: dict[str, dict[str, str]] | None
    end: int
    reason: str


class _Element(NamedTuple):
    name: str
    params: list[tuple[str, str]]
    end: int
    strict: bool


_MOST = 1_000
"""Elements of a message, and parameters of one that does not follow the grammar: real ones have
some ten, and many thousands would hold up the event loop."""
_NAME = r'[^ =\]"]++'
_VALUE = r'[^"\\\]]*+(?:\\.[^"\\\]]*+)*+'
_ELEMENT = re.compile(rf'\[({_NAME})((?: {_NAME}="{_VALUE}")*+)\]', re.DOTALL)
_PARAM = re.compile(rf' ({_NAME})="({_VALUE})"', re.DOTALL)

_LENIENT_ID = re.compile(rf"\[ *+({_NAME})")
_LENIENT_PARAM = re.compile(
    rf"""
    [ ]*+ (?P<name>{_NAME})
    (?: [ ]*+ = [ ]*+ " (?P<quoted> [^"\\]*+ (?: \\. [^"\\]*+ )*+ ) "
      | [ ]*+ = [ ]*+ (?P<spaced> [^ "=\]] [^ =\]]*+ ) (?=[ \]])  # not the next one's name
      | = (?P<plain> [^ "\]] [^ \]]*+ )
      | =
    )?
    """,
    re.DOTALL | re.VERBOSE,
)
_LENIENT_END = re.compile(r" *+\]")
_ESCAPE = re.compile(r'\\(["\\\]])')
_NIL = re.compile(r"-(?= |\Z)")


def read_structured_data(text: str, start: int) -> StructuredData:
    """Read what is at ``start`` of ``text``; what follows it may be anything.

    Parameters of elements with the same SD-ID are merged; of those with the same name, the last
    wins. Nothing is taken from elements of which one cannot be read.
    """
    if _NIL.match(text, start):
        return StructuredData(None, start + 1, "")
    elements: dict[str, dict[str, str]] = {}
    end, strict, unique, count = start, True, True, 0
    while text.startswith("[", end):
        count += 1
        element = _read_strictly(text, end) or _read_leniently(text, end)
        if element is None or count > _MOST:
            return StructuredData(None, start, "bad_structured_data")
        unique = _add(elements, element) and unique
        end, strict = element.end, strict and element.strict
    if not strict or not elements or text[end : end + 1] not in ("", " "):
        return StructuredData(elements or None, end, "bad_structured_data")
    return StructuredData(elements, end, "" if unique else "duplicate_param")


def _add(elements: dict[str, dict[str, str]], element: _Element) -> bool:
    """Add an element, and say whether nothing is lost by that."""
    params = dict(element.params)
    known = elements.setdefault(element.name, params)
    if known is not params:
        known.update(params)
        return False
    return len(params) == len(element.params)


def _read_strictly(text: str, start: int) -> _Element | None:
    """Read an element that follows the grammar of the RFC."""
    element = _ELEMENT.match(text, start)
    if element is None:
        return None
    name, body = element.groups()
    params: list[tuple[str, str]] = _PARAM.findall(body)
    if "\\" in body:
        params = [(param, _unescape(value)) for param, value in params]
    return _Element(name, params, element.end(), strict=True)


def _read_leniently(text: str, start: int) -> _Element | None:
    """Read an element that does not follow it, or return None if it makes no sense at all."""
    element = _LENIENT_ID.match(text, start)
    if element is None:
        return None
    params: list[tuple[str, str]] = []
    at = element.end()
    while len(params) <= _MOST and (param := _LENIENT_PARAM.match(text, at)):
        name, quoted, spaced, plain = param.groups()
        params.append((name, spaced or plain or "" if quoted is None else _unescape(quoted)))
        at = param.end()
    end = _LENIENT_END.match(text, at)
    return _Element(element[1], params, end.end(), strict=False) if end else None


def _unescape(value: str) -> str:
    r"""Undo the three escapes there are; any other backslash is a character like others."""
    return _ESCAPE.sub(r"\1", value) if "\\" in value else value
