"""Files for others: open data as CSV and GeoJSON, households only in groups; the environmental authority's ledger."""

import csv
import io
from datetime import UTC, datetime, time, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import asyncpg
import msgspec
from aiohttp import web

from iot_core.api import shapes
from iot_core.api.roles import Action
from iot_core.api.routes import Call, NoQuery, Reach, get, post
from iot_core.cells import disarmed
from iot_core.errors import NotFoundError, RequestError
from iot_core.model import DeviceClass, MetricType
from iot_core.push import reporting
from iot_core.registry.audit import Change, record

SINGLE: Final = """
SELECT d.key, d.name, r.name AS area, d.latitude, d.longitude, h.* FROM telemetry."{class_key}_1h" h
JOIN iot.device d ON d.id = h.device_id LEFT JOIN iot.area r ON r.id = d.area_id
WHERE h.time >= $1 AND h.time < $2 AND NOT d.simulated AND d.retired_at IS NULL AND (NOT $3 OR 'public' = ANY(d.labels))
    AND ($4::integer[] IS NULL OR d.area_id = ANY($4))
ORDER BY d.key, h.time LIMIT 200000
"""
# A group is told only where it has enough homes: a smaller one tells of one of them.
GROUPED: Final = """
SELECT r.key, r.name, r.name AS area, r.latitude, r.longitude, count(*) AS meters, {sums}
FROM telemetry."{class_key}_1d" h JOIN iot.device d ON d.id = h.device_id JOIN iot.area r ON r.id = d.area_id
WHERE h.time >= $1 AND h.time < $2 AND NOT d.simulated AND NOT 'public' = ANY(d.labels)
    AND ($4::integer[] IS NULL OR d.area_id = ANY($4))
GROUP BY r.id HAVING count(DISTINCT d.id) >= $3 ORDER BY r.key
"""


async def export(call: Call[shapes.OpenDataQuery]) -> web.StreamResponse:
    """Give a class's hourly means of a civil day by station; of households only the day's sums of groups."""
    asked = call.query
    classes = call.services.profiles.classes
    device_class = classes.get(asked.class_key)
    if device_class is None:
        raise NotFoundError("api.no_class", key=asked.class_key, choices=", ".join(sorted(classes)))
    zone = ZoneInfo(call.services.settings.timezone)
    start, end = (datetime.combine(day, time(), zone) for day in (asked.day, asked.day + timedelta(days=1)))
    if start > datetime.now(UTC):
        raise RequestError("report.day_to_come", day=asked.day.isoformat())
    async with call.reader() as connection:
        smallest = call.services.settings.reports.smallest_group
        areas = None if call.areas is None else list(call.areas)
        rows = await _rows(connection, device_class, (start, end), smallest, areas)
    return _geojson(rows) if asked.format == "geojson" else _csv(rows)


async def _rows(
    connection: asyncpg.Connection,
    device_class: DeviceClass,
    span: tuple[datetime, datetime],
    group: int,
    areas: list[int] | None,
) -> list[dict[str, Any]]:
    numbers = [each for each in device_class.metrics if each.type in (MetricType.FLOAT, MetricType.INT)]
    sql = SINGLE.format(class_key=device_class.key)
    singles = [_single(row, numbers) for row in await connection.fetch(sql, *span, device_class.household, areas)]
    counters = [each.key for each in numbers if each.counter]
    if not device_class.household or not counters:
        return singles
    sums = ", ".join(f'sum(h."{key}_max" - h."{key}_min") AS "{key}"' for key in counters)
    groups = await connection.fetch(GROUPED.format(class_key=device_class.key, sums=sums), *span, group, areas)
    return singles + [
        {
            **{name: row[name] for name in ("key", "name", "area", "latitude", "longitude")},
            "time": span[0].astimezone(UTC).isoformat(),
            "meters": row["meters"],
            **{key: None if row[key] is None else round(row[key], 3) for key in counters},
        }
        for row in groups
    ]


def _single(row: asyncpg.Record, numbers: Any) -> dict[str, Any]:
    fixed = {name: row[name] for name in ("key", "name", "area", "latitude", "longitude")}
    values = {each.key: row.get(f"{each.key}_last" if each.counter else f"{each.key}_avg") for each in numbers}
    rounded = {key: None if value is None else round(float(value), 3) for key, value in values.items()}
    return {**fixed, "time": row["time"].astimezone(UTC).isoformat(), **rounded}


def _csv(rows: list[dict[str, Any]]) -> web.Response:
    out = io.StringIO()
    heads = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(out, heads or ["key", "time"], lineterminator="\r\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: disarmed(value) for name, value in row.items()})
    return web.Response(text=out.getvalue(), content_type="text/csv", charset="utf-8")


def _geojson(rows: list[dict[str, Any]]) -> web.Response:
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Point", "coordinates": [row["longitude"], row["latitude"]]}
            if row["latitude"] is not None and row["longitude"] is not None
            else None,
            "properties": {name: value for name, value in row.items() if name not in ("latitude", "longitude")},
        }
        for row in rows
    ]
    body = msgspec.json.encode({"type": "FeatureCollection", "features": features})
    return web.Response(body=body, content_type="application/geo+json")


async def reports(call: Call[shapes.ReportQuery]) -> shapes.ReportFiles:
    """List the files for the environmental authority with what became of them, the newest first."""
    asked = call.query
    async with call.connection() as connection:
        rows = await reporting.ledger(connection, asked.device, waiting=asked.waiting, limit=asked.limit)
    return shapes.ReportFiles(items=tuple(shapes.ReportFile(**row) for row in rows))


async def again(call: Call[NoQuery], body: shapes.ReportAgain) -> shapes.ReportsAgain:
    """Have the files of a span made anew from what is stored now, and sent again."""
    if body.device not in call.services.settings.reports.stations:
        raise NotFoundError("report.no_station", device=body.device)
    async with call.connection() as connection, connection.transaction():
        count, first = await reporting.again(connection, body.device, body.since, body.until)
        change = Change(f"device/{body.device}", after={"since": body.since, "until": body.until, "files": count})
        await record(connection, call.who.name, "report.again", change)
    return shapes.ReportsAgain(files=count, first=first)


routes = (
    get("/open-data", export, reach=Reach.OWN),
    get("/reports", reports, action=Action.PUSH),
    post("/reports/again", again, Action.PUSH),
)
