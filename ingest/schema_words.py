"""Words about schemas for people: on one line, of bounded length, without control characters."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

_MAX_ERROR, MAX_SHOWN = 500, 70
"""Characters of an error, and of something of a schema that is shown in one."""


class SchemaError(ValueError):
    """A schema that cannot be used; its text is one line for operators."""


def count(number: Any, noun: str) -> str:
    """``1 item``, ``2 items``."""
    plural = noun.removesuffix("y") + "ies" if noun.endswith("y") else f"{noun}s"
    return f"{shown(number)} {noun if number == 1 else plural}"


def shown(value: Any) -> str:
    """Something of the schema, as JSON text of bounded length."""
    if isinstance(value, Decimal):
        return cut(str(value), MAX_SHOWN)
    return cut(json.dumps(value, ensure_ascii=False, default=float), MAX_SHOWN)


def cut(text: str, length: int) -> str:
    """The text, at most ``length`` characters of it."""
    return text if len(text) <= length else text[: length - 1] + "…"


def escaped(name: str) -> str:
    """RFC 6901, section 3."""
    return name.replace("~", "~0").replace("/", "~1")


def line(text: object) -> str:
    """The text on one line, without control characters, of bounded length."""
    words = re.sub(r"\s+", " ", str(text)).strip()
    return cut("".join(each if each.isprintable() else "?" for each in words), _MAX_ERROR)
