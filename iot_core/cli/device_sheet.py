"""Lists of devices: columns under their Vietnamese and English names, cells as people type them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Final

from iot_core.api import shapes
from iot_core.cells import disarmed
from iot_core.cli import sheets
from iot_core.errors import RequestError
from iot_core.messages import text
from iot_core.model import is_key

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["COLUMNS", "DeviceList", "read", "write"]

COLUMNS: Final = (
    "key", "name", "profile", "class", "area", "latitude", "longitude", "address", "serial", "gateway", "labels",
    "notes", "warranty_until", "calibrated_at", "calibration_due",
)  # fmt: skip
_ALIASES: Final = {
    "key": ("ma thiet bi", "ma", "id"),
    "name": ("ten", "ten thiet bi"),
    "profile": ("model", "mau thiet bi", "kieu may"),  # not "mau", which is a colour too
    "class": ("loai", "nhom"),
    "area": ("khu vuc", "ma khu vuc", "phuong", "xa", "phuong xa"),
    "latitude": ("lat", "vi do"),
    "longitude": ("lon", "lng", "long", "kinh do"),
    "address": ("dia chi",),
    "serial": ("seri", "se ri", "so seri", "so se ri", "serial number", "so may"),
    "gateway": ("bo tap trung",),
    "labels": ("nhan", "label"),
    "notes": ("ghi chu", "note"),
    "warranty_until": ("warranty", "bao hanh", "bao hanh den", "bao hanh den ngay", "han bao hanh"),
    "calibrated_at": ("calibrated", "ngay hieu chuan", "ngay kiem dinh"),
    "calibration_due": ("han hieu chuan", "han kiem dinh"),
}
_DAYS: Final = ("warranty_until", "calibrated_at", "calibration_due")
_DAY: Final = re.compile(r"(\d{1,2})[/.-](\d{1,2})[/.-](\d{4})")
_ISO: Final = re.compile(r"(\d{4}-\d\d-\d\d)(T00:00:00)?")
_COUNTED: Final = re.compile(r"\d{5}")
"""A day as Excel keeps it, in a cell that shows it as the number it is: days since 1899-12-30."""
_NUMBERS: Final = ("latitude", "longitude")
_NUMBER: Final = re.compile(r"[+-]?\d+([.,]\d+)?")
_SEPARATOR: Final = re.compile(r"[,;|]")


@dataclass(frozen=True, slots=True)
class DeviceList:
    """The rows of a file, what is wrong with others, and how it was read."""

    rows: tuple[shapes.DeviceRow, ...]
    problems: tuple[shapes.RowProblem, ...]
    dialect: str
    ignored: tuple[str, ...]
    """Headings that name no column of ours."""


def read(path: Path) -> DeviceList:
    """Read a list of devices. Raises RequestError when it is no table, or has no column for the key."""
    if path.suffix.lower() == ".json":
        return _job(path)
    sheet = sheets.read(path, lambda heading: _column(heading) == "key")
    names = {heading: ours for heading in sheet.headings if (ours := _column(heading)) is not None}
    if "key" not in names.values():
        raise RequestError("sheet.no_column", file=path, column="key", headings=", ".join(sheet.headings))
    rows: list[shapes.DeviceRow] = []
    problems: list[shapes.RowProblem] = []
    for line in sheet.rows:
        try:
            said = {names[heading]: cell for heading, cell in line.cells.items() if heading in names}
            _refuse_doubtful({names[heading]: code for heading, code in line.doubtful.items() if heading in names})
            rows.append(_row(line.number, said))
        except _Bad as bad:
            problems.append(
                shapes.RowProblem(row=line.number, column=bad.column, code="sheet.bad_cell", detail=bad.detail)
            )
    ignored = tuple(heading for heading in sheet.headings if heading and heading not in names)
    return DeviceList(tuple(rows), tuple(problems), sheet.dialect, ignored)


def _refuse_doubtful(columns: Mapping[str, str]) -> None:
    for column, code in columns.items():
        if not (column in _DAYS and code == "sheet.a_date"):
            raise _Bad(column, text(code))


def _job(path: Path) -> DeviceList:
    """Read the `devices` of a job file that was written on site (`iot modbus scan --save`)."""
    import msgspec

    try:
        said = msgspec.json.decode(sheets.content(path))
        rows = said["devices"]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError, TypeError) as exc:
        raise RequestError("sheet.no_job", file=path) from exc
    good: list[shapes.DeviceRow] = []
    problems: list[shapes.RowProblem] = []
    for number, row in enumerate(rows if isinstance(rows, list) else [], 1):
        try:
            good.append(msgspec.convert({**row, "row": number}, shapes.DeviceRow))
        except (msgspec.ValidationError, TypeError) as exc:
            detail = re.sub(r" - at `.*`$", "", str(exc))
            problems.append(shapes.RowProblem(row=number, column="key", code="sheet.bad_cell", detail=detail))
    return DeviceList(tuple(good), tuple(problems), "JSON", ())


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write a list that `read` reads: .xlsx, or CSV with a mark, so that Excel shows its diacritics."""
    lines: list[list[object]] = [list(COLUMNS), *([_cell(row.get(column)) for column in COLUMNS] for row in rows)]
    if path.suffix.lower() == ".xlsx":
        from openpyxl import Workbook

        book = Workbook(write_only=True)
        sheet = book.create_sheet("devices")
        for line in lines:
            sheet.append(line)
        book.save(path)
        return
    import csv

    with path.open("w", encoding="utf-8-sig", newline="") as out:
        csv.writer(out).writerows(lines)


class _Bad(Exception):
    def __init__(self, column: str, detail: str) -> None:
        self.column = column
        self.detail = detail


def _column(heading: str) -> str | None:
    """Find the column that a heading means: `Vĩ độ (độ)`, `Mã thiết bị *`, `Số sê-ri` too."""
    plain = sheets.plain(heading)
    return next((ours for ours in COLUMNS if plain in {ours.replace("_", " "), *_ALIASES[ours]}), None)


def _row(number: int, said: Mapping[str, str]) -> shapes.DeviceRow:
    import msgspec

    values: dict[str, Any] = {**said, "row": number}
    for column in _NUMBERS:
        if column in said:
            if _NUMBER.fullmatch(said[column]) is None:
                raise _Bad(column, text("sheet.no_degrees", said=said[column]))
            values[column] = float(said[column].replace(",", "."))
    if not is_key(said.get("key", "x")):
        raise _Bad("key", text("sheet.no_key", said=said["key"], form=text("cli.expect_key")))
    for column in _DAYS:
        if column in said:
            values[column] = _day(column, said[column])
    if "labels" in said:
        values["labels"] = [label.strip() for label in _SEPARATOR.split(said["labels"]) if label.strip()]
    try:
        return msgspec.convert(values, shapes.DeviceRow)
    except msgspec.ValidationError as exc:
        at = re.search(r"`\$\.(\w+)", str(exc)) or re.search(r"field `(\w+)`", str(exc))
        raise _Bad(at[1] if at else "key", re.sub(r" - at `.*`$", "", str(exc))) from exc


def _day(column: str, said: str) -> str:
    """Write a day as ISO 8601: from `31/12/2027` (the day first, always), ISO, or the number that Excel keeps."""
    try:
        if iso := _ISO.fullmatch(said):
            return date.fromisoformat(iso[1]).isoformat()
        if written := _DAY.fullmatch(said):
            return date(int(written[3]), int(written[2]), int(written[1])).isoformat()
        if _COUNTED.fullmatch(said):
            return (date(1899, 12, 30) + timedelta(days=int(said))).isoformat()
    except ValueError:
        pass
    raise _Bad(column, text("sheet.no_day", said=said))


def _cell(value: object) -> object:
    if isinstance(value, tuple | list):
        value = ", ".join(str(each) for each in value)
    return disarmed(value)
