"""Tables as people keep them: .xlsx, and CSV as Excel writes it, in Vietnam too.

    ; or , or tab    UTF-8 with or without a mark, UTF-16, Windows-1258    decimal comma    dd/mm/yyyy

What was found out about a file is said (`Sheet.dialect`), so that a person can see when it was guessed wrong. A file
may come from anybody: it is bounded before it is taken apart (workbooks.py), and what cannot be meant is refused.
"""

from __future__ import annotations

import csv
import io
import itertools
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any, Final

from iot_core.cells import restored
from iot_core.cli.endings import reason
from iot_core.cli.workbooks import MOST_COLUMNS, MOST_ROWS, open_book
from iot_core.errors import RequestError
from iot_core.folding import fold
from iot_core.messages import text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

__all__ = ["Row", "Sheet", "content", "plain", "read", "text_of"]

_DELIMITERS: Final = ",;\t"
_MOST_BYTES: Final = 64 * 1024 * 1024
_MOST_TABLE: Final = 32 * 1024 * 1024
_OLD_EXCEL: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
"""How .xls begins, and .xlsx with a password."""
_WORKBOOKS: Final = frozenset({".xlsx", ".xlsm"})
_MOST_TITLE: Final = 20
_MOST_LOOK: Final = 64 * 1024
"""Letters in which the delimiter is looked for."""
_EXACT: Final = 10**15
"""Excel keeps 15 digits of a number, and makes the rest zeros."""
_SCIENTIFIC: Final = re.compile(r"\d[.,]\d+E\+\d+", re.IGNORECASE)
_WORD: Final = re.compile(r"[^\W_]+")
_ASIDE: Final = re.compile(r"\([^()]*\)")
_RANGE: Final = re.compile(r"\$?([A-Z]{1,3})\$?(\d{1,7})(?::\$?([A-Z]{1,3})\$?(\d{1,7}))?")


@dataclass(frozen=True, slots=True)
class Row:
    """A row by its number in the file, its cells by heading; empty cells are left out."""

    number: int
    cells: dict[str, str]
    doubtful: Mapping[str, str] = field(default_factory=dict)
    """Heading -> the code of the sentence that says why Excel has changed what was typed."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table with one heading row; `dialect` is what a person is told of how it was read."""

    headings: tuple[str, ...]
    rows: tuple[Row, ...]
    dialect: str
    heading_row: int = 1


def read(path: Path, is_heading: Callable[[str], bool] = bool) -> Sheet:
    """Read a table. Raises RequestError naming the file and what is wrong with it.

    Above its headings a title may stand: the first of its first rows in which one is known counts, else row 1.
    """
    data = content(path, _MOST_TABLE)
    if data.startswith(_OLD_EXCEL):
        raise RequestError("sheet.old_or_locked", file=path)
    if not data.startswith(b"PK"):
        if path.suffix.lower() in _WORKBOOKS:
            raise RequestError("sheet.not_a_workbook", file=path)
        return _sheet(path, *_csv(path, data, is_heading), is_heading)
    book = open_book(path, data)
    more = "".join(f"; {text(f'sheet.not_looked_at_{each}')}" for each in book.more)
    sheet = _sheet(path, book.lines, f"XLSX, {book.title}{more}", is_heading)
    _refuse_merged(path, sheet, book.merged)
    return sheet


def plain(heading: str) -> str:
    """Give the words of a heading, to be compared: `Vĩ độ (độ)` is `vi do`, `Mã thiết bị *` is `ma thiet bi`."""
    return " ".join(_WORD.findall(fold(_ASIDE.sub(" ", heading))))


def content(path: Path, most: int = _MOST_BYTES) -> bytes:
    """Read a file that is not too large. Raises RequestError."""
    most = min(most, _MOST_BYTES)
    try:
        if not path.is_file() and path.exists():
            raise RequestError("sheet.no_file", file=path)
        size = path.stat().st_size
        if size > most:
            raise RequestError("sheet.too_large", file=path, size=size, most=most)
        with path.open("rb") as file:
            return file.read(size)  # one that grows meanwhile is read no further
    except OSError as exc:
        raise RequestError("sheet.unreadable", file=path, detail=reason(exc)) from exc


def text_of(path: Path, data: bytes) -> tuple[str, str]:
    """Decode a text file and name its encoding: by its mark, else UTF-8, else what Excel used before in Vietnam.

    Raises RequestError naming the line that is in another encoding than the rest.
    """
    for mark, encoding in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if data.startswith(mark):
            return _decoded(path, data, encoding), encoding
    try:
        return data.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        if _is_mostly_utf8(data):
            _decoded(path, data, "utf-8")
        # Windows-1258 writes tones as combining marks, so its text is not composed.
        return unicodedata.normalize("NFC", _decoded(path, data, "cp1258")), "windows-1258"


def _decoded(path: Path, data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise RequestError("sheet.bad_bytes", file=path, line=line, encoding=encoding) from exc


def _is_mostly_utf8(data: bytes) -> bool:
    """Say whether most letters beyond ASCII make sense as UTF-8: then a few bytes are wrong, not the guess."""
    said = data.decode("utf-8", "replace")
    wrong = said.count("\ufffd")
    return len(said) - len(said.encode("ascii", "ignore")) > 2 * wrong


def _csv(path: Path, data: bytes, is_heading: Callable[[str], bool]) -> tuple[Iterator[Sequence[Any]], str]:
    said, encoding = text_of(path, data)
    if "\0" in said:
        raise RequestError("sheet.nul", file=path, line=said.count("\n", 0, said.index("\0")) + 1)
    delimiter = _delimiter(said[:_MOST_LOOK].splitlines()[:_MOST_TITLE], is_heading)
    shown = "TAB" if delimiter == "\t" else delimiter
    return csv.reader(io.StringIO(said, newline=""), delimiter=delimiter), f"CSV, {encoding}, {shown}"


def _delimiter(first: Sequence[str], is_heading: Callable[[str], bool]) -> str:
    """Find what parts the first known heading from others, whatever a title above it says; else guess by row 1."""
    for line in first:
        likely = _most_frequent(line)
        if any(is_heading(heading) for heading in _headings(next(csv.reader([line], delimiter=likely), []))):
            return likely
    return _most_frequent("".join(first[:1]))


def _most_frequent(line: str) -> str:
    return max(_DELIMITERS, key=line.count)


def _sheet(path: Path, lines: Iterator[Sequence[Any]], dialect: str, is_heading: Callable[[str], bool]) -> Sheet:
    headings: tuple[str, ...] = ()
    rows: list[Row] = []
    number = 0
    try:
        above, at = _title(path, lines, is_heading)
        for number, line in enumerate(itertools.chain(above, lines), at):
            if len(line) > MOST_COLUMNS:
                raise RequestError("sheet.too_wide", file=path, row=number, most=MOST_COLUMNS)
            if number > MOST_ROWS:
                raise RequestError("sheet.too_many_rows", file=path, most=MOST_ROWS)
            if number == at:
                headings = _headings(line)
                continue
            if not any(headings):
                break
            row = _row(number, headings, line)
            if row.cells:
                rows.append(row)
    except csv.Error as exc:  # a cell without end: a quotation mark that nobody closed
        raise RequestError("sheet.long_cell", file=path, row=number + 1) from exc
    if not any(headings):
        raise RequestError("sheet.no_heading", file=path)
    return Sheet(headings, tuple(rows), dialect, at)


def _title(
    path: Path, lines: Iterator[Sequence[Any]], is_heading: Callable[[str], bool]
) -> tuple[list[Sequence[Any]], int]:
    """Pass over what stands above the headings; give what was read of the rest, and the number of its first row."""
    read: list[Sequence[Any]] = []
    try:
        for number, line in enumerate(itertools.islice(lines, _MOST_TITLE), 1):
            if len(line) > MOST_COLUMNS or any(is_heading(heading) for heading in _headings(line)):
                return [line], number
            read.append(line)
    except csv.Error as exc:
        raise RequestError("sheet.long_cell", file=path, row=len(read) + 1) from exc
    return read, 1


def _headings(line: Sequence[Any]) -> tuple[str, ...]:
    said = [_cell(cell).strip().lower() for cell in line]
    while said and not said[-1]:  # a merged title makes all rows as wide as it is
        said.pop()
    return tuple(said)


def _row(number: int, headings: Sequence[str], line: Sequence[Any]) -> Row:
    said = [(heading, cell) for heading, cell in zip(headings, line, strict=False) if heading and cell is not None]
    cells = {heading: written for heading, cell in said if (written := restored(_cell(cell).strip()))}
    return Row(number, cells, {heading: code for heading, cell in said if (code := _doubt(cell))})


def _cell(cell: Any) -> str:
    """Write a cell of a workbook as a person would type it: whole numbers without `.0`, times as ISO 8601."""
    if cell is None:
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return cell.isoformat() if isinstance(cell, datetime | date) else str(cell)


def _doubt(cell: Any) -> str:
    """Say what Excel made of something else; '' for what stands there as it was typed."""
    if isinstance(cell, datetime | date | time | timedelta):
        return "sheet.a_date"
    if isinstance(cell, int | float) and abs(cell) >= _EXACT:
        return "sheet.long_number"
    return "sheet.long_number" if isinstance(cell, str) and _SCIENTIFIC.fullmatch(cell.strip()) else ""


def _refuse_merged(path: Path, sheet: Sheet, merged: Sequence[str]) -> None:
    """Refuse cells that were merged below a heading: all but the first are empty to us, and look full to a person."""
    for each in merged:
        found = _RANGE.fullmatch(each)
        if found is None or int(found[4] or found[2]) <= sheet.heading_row:
            continue
        first, last = _column(found[1]), _column(found[3] or found[1])
        if any(sheet.headings[first : last + 1]):
            raise RequestError("sheet.merged", file=path, cells=each)


def _column(letters: str) -> int:
    """Count columns from 0: A, B, ..., Z, AA."""
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - 64
    return number - 1
