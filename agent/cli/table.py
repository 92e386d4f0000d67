"""
Aligned tables of plain text, and numbers for people.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def table(head: Sequence[str], rows: Iterable[Sequence[object]], *, right: str = "") -> str:
    """
    Return a table; columns whose number is a digit in *right* are aligned to the right.
    """
    cells = [list(head), *[["-" if cell is None else str(cell) for cell in row] for row in rows]]
    widths = [max(len(row[index]) for row in cells) for index in range(len(head))]
    lines = []
    for row in cells:
        parts = [
            cell.rjust(width) if str(index) in right else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(parts).rstrip() + "\n")
    return "".join(lines)


def size_text(size: int | None) -> str:
    """
    Return *size* bytes in the unit that reads best.
    """
    if size is None:
        return "-"
    value, unit = float(size), _UNITS[0]
    for unit in _UNITS:  # noqa: B007  # The unit that the loop stops at.
        if abs(value) < 1024:
            break
        value /= 1024
    else:
        value *= 1024
    return f"{size} B" if unit == "B" else f"{value:.1f} {unit}"


def age_text(seconds: float | None) -> str:
    """
    Return a stretch of time in its two largest units.
    """
    if seconds is None:
        return "never"
    left = max(0, int(seconds))
    parts = []
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, length)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"


def printable(text: str) -> str:
    """
    Return *text* with what a terminal must not see escaped: names of files can hold anything.
    """
    clean = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
    return clean.encode("utf-8", "backslashreplace").decode()
