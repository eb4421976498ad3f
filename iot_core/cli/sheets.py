"""Tables as people keep them: .xlsx, and CSV as Excel writes it, in Vietnam too.

    ; or , or tab    UTF-8 with or without a mark, UTF-16, Windows-1258    decimal comma    dd/mm/yyyy

What was found out about a file is said (`Sheet.dialect`), so that a person can see when it was guessed wrong.
"""

from __future__ import annotations

import csv
import io
import unicodedata
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Final

from iot_core.cli.endings import reason
from iot_core.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = ["Row", "Sheet", "content", "read", "text_of"]

_DELIMITERS: Final = ",;\t"
_MOST_BYTES: Final = 64 * 1024 * 1024
_MOST_UNPACKED: Final = 512 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Row:
    """A row by its number in the file (the heading is row 1), its cells by heading; empty cells are left out."""

    number: int
    cells: dict[str, str]


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table with one heading row; `dialect` is what a person is told of how it was read."""

    headings: tuple[str, ...]
    rows: tuple[Row, ...]
    dialect: str


def read(path: Path) -> Sheet:
    """Read a table. Raises RequestError naming the file and what is wrong with it."""
    data = content(path)
    lines, dialect = _workbook(path, data) if data.startswith(b"PK") else _csv(path, data)
    return _sheet(path, lines, dialect)


def content(path: Path) -> bytes:
    """Read a file that is not too large. Raises RequestError."""
    try:
        size = path.stat().st_size
        if size > _MOST_BYTES:
            raise RequestError("sheet.too_large", file=path, size=size, most=_MOST_BYTES)
        return path.read_bytes()
    except OSError as exc:
        raise RequestError("sheet.unreadable", file=path, detail=reason(exc)) from exc


def text_of(data: bytes) -> tuple[str, str]:
    """Decode a text file and name its encoding: by its mark, else UTF-8, else what Excel used before in Vietnam."""
    for mark, encoding in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if data.startswith(mark):
            return data.decode(encoding, "replace"), encoding
    try:
        return data.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        # Windows-1258 writes tones as combining marks, so its text is not composed.
        return unicodedata.normalize("NFC", data.decode("cp1258", "replace")), "windows-1258"


def _csv(path: Path, data: bytes) -> tuple[Iterator[Sequence[Any]], str]:
    said, encoding = text_of(data)
    if "\0" in said:
        raise RequestError("sheet.not_a_table", file=path)
    first = said.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=first.count)
    shown = "TAB" if delimiter == "\t" else delimiter
    return csv.reader(io.StringIO(said, newline=""), delimiter=delimiter), f"CSV, {encoding}, {shown}"


def _workbook(path: Path, data: bytes) -> tuple[Iterator[Sequence[Any]], str]:
    from zipfile import BadZipFile, ZipFile

    import openpyxl

    try:
        with ZipFile(io.BytesIO(data)) as packed:  # zipfile itself holds a part to the size that it says here
            size = sum(each.file_size for each in packed.infolist())
        if size > _MOST_UNPACKED:
            raise RequestError("sheet.too_large", file=path, size=size, most=_MOST_UNPACKED)
        book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
        sheet = book.worksheets[0]
    except (BadZipFile, KeyError, ValueError, IndexError, OSError) as exc:
        raise RequestError("sheet.not_a_workbook", file=path) from exc
    return sheet.iter_rows(values_only=True), f"XLSX, {sheet.title}"


def _sheet(path: Path, lines: Iterator[Sequence[Any]], dialect: str) -> Sheet:
    try:
        headings = tuple(_cell(cell).strip().lower() for cell in next(lines, ()))
        if not any(headings):
            raise RequestError("sheet.no_heading", file=path)
        rows = [Row(number, _cells(headings, line)) for number, line in enumerate(lines, 2)]
    except csv.Error as exc:
        raise RequestError("sheet.not_a_table", file=path) from exc
    return Sheet(headings, tuple(row for row in rows if row.cells), dialect)


def _cells(headings: Sequence[str], line: Sequence[Any]) -> dict[str, str]:
    said = ((heading, _cell(cell).strip()) for heading, cell in zip(headings, line, strict=False))
    return {heading: cell for heading, cell in said if heading and cell}


def _cell(cell: Any) -> str:
    """Write a cell of a workbook as a person would type it: whole numbers without `.0`, times as ISO 8601."""
    if cell is None:
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return cell.isoformat() if isinstance(cell, datetime | date) else str(cell)
