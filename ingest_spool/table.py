"""Tables for people, of text that may come from anywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

GAP = "  "


def printable(text: str) -> str:
    """``text`` with escapes for what could drive a terminal, or look like other text."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode("ascii")
        for each in text
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str | int]]) -> str:
    """Lines with aligned columns, numbers at the right of theirs; empty where there is no row."""
    if not rows:
        return ""
    cells = [[printable(str(each)) for each in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    numeric = [isinstance(each, int) for each in rows[0]]
    lines = (
        GAP.join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in cells
    )
    return "".join(f"{line}\n" for line in lines)
