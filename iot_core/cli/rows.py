"""Rows of telemetry as CSV and lines of JSON, both ways. Pure.

CSV opens in a spreadsheet: UTF-8 with a mark, a cell that would be a formula is quoted with an apostrophe, metrics are
columns. Both forms hold everything that is stored, so that a row comes back as it was.
"""

from __future__ import annotations

import csv
import json
import re
from math import isfinite
from typing import TYPE_CHECKING, Any, NoReturn

from iot_core.cells import disarmed
from iot_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

__all__ = ["ASIDE", "FIXED", "FORMATS", "csv_cells", "read_csv", "read_ndjson"]

FORMATS = ("csv", "ndjson")
FIXED = ("device", "name", "class", "time", "received_at", "quality", "bad", "extra")
ASIDE = ("line", "why")
"""Columns that a kept-aside row has more; ignored when it is read again."""
_NEEDED = ("device", "time")
_SEPARATORS = ",;\t"
_LONGEST_CELL = 16 * 1024 * 1024
"""Python's own limit is half of what `extra` may be."""
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def csv_cells(row: Mapping[str, Any], metrics: Sequence[str]) -> list[object]:
    """Give a row's cells: FIXED, then the metrics."""
    extra = row.get("extra")
    fixed = [
        row["device"],
        disarmed(str(row.get("name") or "")),
        row.get("class", ""),
        row["time"],
        row.get("received_at", ""),
        row.get("quality", ""),
        " ".join(row.get("bad") or ()),
        "" if extra is None else json.dumps(extra, ensure_ascii=False),
    ]
    values = row["values"]
    return [*fixed, *(_plain(values.get(metric)) for metric in metrics)]


def read_csv(lines: Iterable[str]) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Read rows with their line numbers; a row that cannot be one comes as the reason (a code).

    A file of what was kept aside has a heading for each kind of row. Raises ConfigError for a heading that is none.
    """
    csv.field_size_limit(_LONGEST_CELL)
    source = iter(lines)
    head = next(source, "").lstrip("\ufeff").rstrip("\r\n")
    separator = max(_SEPARATORS, key=head.count)
    names = _heading(next(csv.reader([head], delimiter=separator), []))
    reader = csv.reader(source, delimiter=separator)
    for cells in reader:
        if tuple(cells[: len(ASIDE)]) == ASIDE:
            names = _heading(cells)
        elif cells:
            yield reader.line_num + 1, _row_of(names, cells)


def _heading(cells: Sequence[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    if missing := [name for name in _NEEDED if name not in names]:
        raise ConfigError("load.no_heading", missing=", ".join(missing))
    if twice := sorted({name for name in names if name and names.count(name) > 1}):
        raise ConfigError("load.twice", columns=", ".join(twice))
    return names


def _row_of(names: Sequence[str], cells: Sequence[str]) -> dict[str, Any] | str:
    if len(cells) > len(names):
        return "load.cells"
    said = {name: cell for name, cell in zip(names, cells, strict=False) if cell and name not in ASIDE and name}
    row: dict[str, Any] = {name: said.pop(name) for name in FIXED if name in said}
    if "bad" in names:
        row["bad"] = row.get("bad", "").split()
    if "extra" in row:
        try:
            row["extra"] = json.loads(row["extra"])
        except ValueError:
            return "load.extra"
    row["values"] = {name: _typed(cell.strip()) for name, cell in said.items()}
    return row


def read_ndjson(lines: Iterable[str]) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Read rows with their line numbers; a line that is no object comes as the reason (a code)."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.lstrip("\ufeff"), parse_constant=_refused)
        except ValueError:
            yield number, "load.not_json"
            continue
        if isinstance(row, dict):
            yield number, {key: value for key, value in row.items() if key not in ASIDE}
        else:
            yield number, "load.not_json"


def _refused(name: str) -> NoReturn:
    """Refuse NaN and Infinity: no JSON has them, and on the way to the core they would turn into nothing."""
    raise ValueError(name)


def _plain(value: object) -> object:
    if value is None:
        return ""
    return json.dumps(value) if isinstance(value, bool) else repr(value) if isinstance(value, float) else value


def _typed(cell: str) -> object:
    """Read a cell: truth and numbers as JSON writes them, else a name."""
    if cell in {"true", "false", "TRUE", "FALSE"}:
        return cell.lower() == "true"
    if not _NUMBER.fullmatch(cell):
        return cell  # also what only Python takes for a number: nan, 1_000
    try:
        return int(cell)
    except ValueError:
        number = float(cell)
        return number if isfinite(number) else cell
