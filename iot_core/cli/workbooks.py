"""Workbooks of strangers: looked through before openpyxl opens them, so that none takes the memory or the day.

zip: few parts, no more unpacked than fits -> each XML part: no DOCTYPE (entities) -> the sheet: rows, columns,
merged cells, formulas that were never worked out -> openpyxl: values only

Macros and links to other files are parts that nobody opens; formulas are never worked out here, their last values are
read.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from xml.parsers import expat
from zipfile import ZipFile

from iot_core.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from typing import IO
    from zipfile import ZipInfo

__all__ = ["MOST_COLUMNS", "MOST_ROWS", "Book", "open_book"]

MOST_ROWS: Final = 100_000
MOST_COLUMNS: Final = 256
_MOST_UNPACKED: Final = 128 * 1024 * 1024
_MOST_STRINGS: Final = 32 * 1024 * 1024
"""Of the part that holds the texts of all cells, which has to stand in memory as a whole."""
_MOST_PARTS: Final = 2_000
_MOST_MERGED: Final = 10_000
_DIGITS: Final = 9
_SHEETS: Final = "xl/worksheets/"
_PIECE: Final = 64 * 1024
_ENCRYPTED: Final = 0x1
_ERRORS: Final = frozenset({"#N/A", "#REF!", "#VALUE!", "#NAME?", "#DIV/0!", "#NULL!", "#NUM!"})


@dataclass(frozen=True, slots=True)
class Book:
    """The first sheet of a workbook that a person sees.

    `merged` are ranges of cells (`C2:C9`), of which only the first holds a value.
    """

    title: str
    lines: Iterator[Sequence[Any]]
    merged: tuple[str, ...]
    more: tuple[str, ...]
    """What stands in the file and is not looked at: `macros`, `links`."""


def open_book(path: Path, data: bytes) -> Book:
    """Open a workbook. Raises RequestError naming what is wrong with it, also while its lines are read."""
    import openpyxl

    more, seen = _look_through(path, data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of decoration that openpyxl does not know
        try:
            book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True, keep_links=False)
            shown = [each for each in book.worksheets if each.sheet_state == "visible"]
            sheet: Any = (shown or book.worksheets)[0]
        except Exception as exc:  # it trusts files, and raises whatever a hostile one makes it stumble over
            raise RequestError("sheet.not_a_workbook", file=path) from exc
    looked = seen.get(sheet._worksheet_path)  # noqa: SLF001 - nothing else says which part the sheet is
    if looked is None:
        raise RequestError("sheet.not_a_workbook", file=path)
    if looked.unsolved:
        raise RequestError("sheet.formula", file=path, cell=looked.unsolved)
    return Book(sheet.title, _lines(path, sheet), tuple(looked.merged), more)


def _look_through(path: Path, data: bytes) -> tuple[tuple[str, ...], dict[str, _Sheet]]:
    """Hold a zip against what a workbook may be; say what of it is not looked at, and what stands in its sheets."""
    seen: dict[str, _Sheet] = {}
    try:
        with ZipFile(io.BytesIO(data)) as packed:  # zipfile itself holds a part to the size that it says here
            parts = packed.infolist()
            _refuse_parts(path, parts)
            for each in parts:
                if each.filename.lower().endswith((".xml", ".rels")):
                    with packed.open(each) as part:
                        _Prolog(path).read(part)
                if each.filename.lower().startswith(_SHEETS) and each.filename.lower().endswith(".xml"):
                    seen[each.filename] = _Sheet(path)
                    with packed.open(each) as part:
                        seen[each.filename].read(part)
    except RequestError:
        raise
    except Exception as exc:  # broken, cut off, in a method that is not known, named twice, ...
        raise RequestError("sheet.not_a_workbook", file=path) from exc
    names = {each.filename.lower() for each in parts}
    found = {"macros": "vbaproject.bin", "links": "externallinks/"}
    return tuple(what for what, sign in found.items() if any(sign in name for name in names)), seen


def _refuse_parts(path: Path, parts: Sequence[ZipInfo]) -> None:
    size = sum(each.file_size for each in parts)
    if size > _MOST_UNPACKED or len(parts) > _MOST_PARTS:
        raise RequestError("sheet.too_large", file=path, size=size, most=_MOST_UNPACKED)
    if any(each.flag_bits & _ENCRYPTED for each in parts):
        raise RequestError("sheet.old_or_locked", file=path)
    texts = max((each.file_size for each in parts if each.filename.lower().endswith("sharedstrings.xml")), default=0)
    if texts > _MOST_STRINGS:
        raise RequestError("sheet.too_large", file=path, size=texts, most=_MOST_STRINGS)


def _lines(path: Path, sheet: Any) -> Iterator[Sequence[Any]]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            lines = sheet.iter_rows(max_col=MOST_COLUMNS, max_row=MOST_ROWS, values_only=True)
            for number, line in enumerate(lines, 1):
                _refuse_errors(path, number, line)
                yield line
    except RequestError:
        raise
    except Exception as exc:
        raise RequestError("sheet.not_a_workbook", file=path) from exc


def _refuse_errors(path: Path, number: int, line: Sequence[Any]) -> None:
    for cell in line:
        if isinstance(cell, str) and cell in _ERRORS:
            raise RequestError("sheet.error_value", file=path, row=number, value=cell)


class _Prolog:
    """Reads a part of XML up to its root: entities are declared before that, and workbooks have none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._begun = False

    def read(self, part: IO[bytes]) -> None:
        parser = expat.ParserCreate()
        parser.StartDoctypeDeclHandler = self._refuse
        parser.StartElementHandler = self._begin
        while not self._begun and (piece := part.read(_PIECE)):
            parser.Parse(piece, False)

    def _refuse(self, *_: object) -> None:
        raise RequestError("sheet.doctype", file=self._path)

    def _begin(self, *_: object) -> None:
        self._begun = True


@dataclass
class _Sheet:
    """Reads a sheet's XML once, and counts."""

    path: Path
    parser: Any = None
    merged: list[str] = field(default_factory=list)
    rows: int = 0
    number: int = 0
    """What the row says of itself: rows in between may be left out."""
    cells: int = 0
    cell: str = ""
    formula: bool = False
    value: bool = False
    in_value: bool = False
    unsolved: str = ""
    """The first cell with a formula that was never worked out."""

    def read(self, part: IO[bytes]) -> None:
        """Raise RequestError for what cannot be a list."""
        self.parser = parser = expat.ParserCreate()
        parser.StartElementHandler = self._begin
        parser.EndElementHandler = self._end
        parser.ParseFile(part)

    def _begin(self, name: str, attributes: dict[str, str]) -> None:
        match name.rpartition(":")[2]:
            case "c":
                self.cells += 1
                self.cell = attributes.get("r", "")
                self.formula = self.value = False
                if self.cells > MOST_COLUMNS:
                    raise RequestError("sheet.too_wide", file=self.path, row=self.rows, most=MOST_COLUMNS)
            case "row":
                self.rows += 1
                self.cells = 0
                said = attributes.get("r", "")
                self.number = int(said) if said.isdecimal() and len(said) <= _DIGITS else self.number + 1
                self._count()
            case "f":
                self.formula = True
                self.parser.CharacterDataHandler = self._text
            case "v":
                self.in_value = True
                self._count(self.number)
            case "mergeCell" if len(self.merged) < _MOST_MERGED:
                self.merged.append(attributes.get("ref", ""))

    def _count(self, number: int = 0) -> None:
        if max(self.rows, number) > MOST_ROWS:
            raise RequestError("sheet.too_many_rows", file=self.path, most=MOST_ROWS)

    def _text(self, said: str) -> None:
        self.value = self.value or (self.in_value and bool(said.strip()))

    def _end(self, name: str) -> None:
        match name.rpartition(":")[2]:
            case "v":
                self.in_value = False
            case "c" if self.formula:
                self.parser.CharacterDataHandler = None
                if not self.value:
                    self.unsolved = self.unsolved or self.cell or str(self.rows)
