"""Cells that a spreadsheet would take for formulas: written with an apostrophe before them, and read back without."""

from __future__ import annotations

from typing import Final

__all__ = ["disarmed", "restored"]

# The wide ones are formulas to East Asian settings of Excel.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_QUOTED: Final = tuple(f"'{each}" for each in _FORMULA)


def disarmed(cell: object) -> object:
    """Give a cell as it may stand in a file that a spreadsheet opens; numbers stay numbers."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell


def restored(cell: str) -> str:
    """Take off the apostrophe that `disarmed` put before a text."""
    return cell[1:] if cell.startswith(_QUOTED) else cell
