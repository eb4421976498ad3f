"""Cells that a spreadsheet would take for formulas: written with an apostrophe before them, and read back without."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["disarmed", "restored"]

# Blanks before it are no help: a spreadsheet trims them. The wide ones are formulas to East Asian settings of Excel. An
# apostrophe of the text's own gets another one, so that only ours is taken off again.
_FORMULA: Final = re.compile(r"'*(?:[\t\r\n]|\s*[=+\-@＝＋－＠])")


def disarmed(cell: object) -> object:
    """Give a cell as it may stand in a file that a spreadsheet opens; numbers stay numbers."""
    return f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) else cell


def restored(cell: str) -> str:
    """Take off the apostrophe that `disarmed` put before a text."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell, 1) else cell
