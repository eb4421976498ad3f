"""Areas out of files: a table (CSV, .xlsx) or GeoJSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from iot_core.api import shapes
from iot_core.cli import sheets
from iot_core.errors import RequestError
from iot_core.messages import text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

__all__ = ["read"]

_COLUMNS: Final = {
    "key": ("key",),
    "code": ("code", "ma", "ma khu vuc", "ma phuong", "ma xa", "ma don vi"),
    "name": ("name", "name vi", "ten", "ten khu vuc", "ten don vi"),
    "name_en": ("name en", "ten tieng anh"),
    "kind": ("kind", "type", "cap", "loai", "loai khu vuc"),
    "parent": ("parent", "parent code", "parent key", "thuoc", "thuoc khu vuc", "cap tren", "ma cap tren"),
    "latitude": ("latitude", "lat", "vi do"),
    "longitude": ("longitude", "lon", "lng", "kinh do"),
}
"""By headings as `sheets.plain` gives them."""
_HEADINGS: Final = frozenset(name for names in _COLUMNS.values() for name in names)


def read(path: Path) -> tuple[tuple[shapes.AreaNew, ...], str, tuple[str, ...]]:
    """Read the areas in a file; say how it was read, and which headings name no column of ours.

    Raises RequestError naming file, row and column.
    """
    if path.suffix.lower() in {".geojson", ".json"}:
        return _geojson(path)
    sheet = sheets.read(path, lambda heading: sheets.plain(heading) in {*_COLUMNS["code"], *_COLUMNS["key"]})
    for row in sheet.rows:
        for heading, code in row.doubtful.items():
            if sheets.plain(heading) in _HEADINGS:
                raise RequestError("sheet.bad_row", file=path, row=row.number, detail=f"{heading}: {text(code)}")
    areas = tuple(_area(path, row.number, _known(row.cells), {}) for row in sheet.rows)
    return areas, sheet.dialect, _ignored(sheet.headings)


def _geojson(path: Path) -> tuple[tuple[shapes.AreaNew, ...], str, tuple[str, ...]]:
    """Read a FeatureCollection: a polygon becomes the outline, a point the centre (RFC 7946: longitude first)."""
    try:
        collection = json.loads(sheets.content(path).decode("utf-8-sig"))
        features = collection["features"]
        areas = tuple(_feature(path, number, each) for number, each in enumerate(features, 1))
        return areas, "GeoJSON", _ignored(name for each in features for name in each["properties"] or {})
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise RequestError("sheet.not_geojson", file=path, detail=type(exc).__name__) from exc


def _feature(path: Path, number: int, feature: Mapping[str, Any]) -> shapes.AreaNew:
    said = {key.lower(): str(value) for key, value in (feature["properties"] or {}).items() if value is not None}
    geometry = feature["geometry"]
    if geometry is None:
        return _area(path, number, _known(said), {})
    if geometry["type"] == "Point":
        longitude, latitude = geometry["coordinates"][:2]
        return _area(path, number, _known(said), {"latitude": float(latitude), "longitude": float(longitude)})
    return _area(path, number, _known(said), {"outline": geometry})


def _known(cells: Mapping[str, str]) -> dict[str, str]:
    """Rename the columns to ours; what is none of ours is left out."""
    cells = {sheets.plain(heading): value for heading, value in cells.items()}
    found = ((ours, next((cells[name] for name in names if name in cells), None)) for ours, names in _COLUMNS.items())
    return {ours: value for ours, value in found if value is not None}


def _ignored(headings: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(each for each in headings if each and sheets.plain(each) not in _HEADINGS))


def _area(path: Path, number: int, said: Mapping[str, str], more: Mapping[str, Any]) -> shapes.AreaNew:
    import msgspec

    values: dict[str, Any] = {**said, **more}
    values.setdefault("key", values.get("code", "").lower())
    for column in ("latitude", "longitude"):
        if isinstance(values.get(column), str):
            values[column] = values[column].replace(",", ".")
    try:
        return msgspec.convert(values, shapes.AreaNew, strict=False)
    except msgspec.ValidationError as exc:
        raise RequestError("sheet.bad_row", file=path, row=number, detail=str(exc)) from exc
