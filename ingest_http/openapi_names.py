"""Names in an OpenAPI document, unique also where generators lose case and punctuation."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class Names:
    """Gives names that stay different where case and punctuation are lost.

    Args:
        taken: names that are in use.
    """

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(map(_folded, taken))
        self._last: dict[str, int] = {}

    def unique(self, wanted: str) -> str:
        """``wanted``, or that with a number."""
        name, number = wanted, self._last.get(_folded(wanted), 1)
        while _folded(name) in self._taken:
            number += 1
            name = f"{wanted}_{number}"
        self._last[_folded(wanted)] = number
        self._taken.add(_folded(name))
        return name


def _folded(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
