"""The water formulas of iot_core/derived/water.py over the stored hours of all meters, in SQL where there are many.

A hundred thousand meters have 2.4 million hours a day: they are told apart where they lie. The districts are few: their
nights come here, and the pure function has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import asyncpg

from iot_core.alarms.watch import ClassWatch
from iot_core.derived import water

__all__ = ["burst_flow", "continuous_flow", "dma_night_flow", "night_flow_ratio"]

_HOUR: Final = timedelta(hours=1)
_ZONE: Final = 7 * _HOUR
"""Vietnam's clocks (UTC+7, without summer time): nights are civil."""
_ONLY: Final = "($1::integer[] IS NULL OR h.device_id = ANY($1))"
# No house: in half of the hours before a burst it draws more than a house's meter can.
_IS_HOUSE: Final = f"percentile_cont(0.5) WITHIN GROUP (ORDER BY h.flow_max) <= {water.HOUSE_Q4}"
_BEFORE: Final = """
FROM telemetry."{table}_1h" h WHERE h.device_id = l.device_id AND h.time >= $2 AND h.time < $4
"""
# Few meters never stand still: only of those is it asked whether they are a house's.
CONTINUOUS: Final = f"""
SELECT l.device_id, l.flow FROM (
    SELECT h.device_id, min(h.flow_min) AS flow FROM telemetry."{{table}}_1h" h
    WHERE {_ONLY} AND h.time >= $2 AND h.time < $3 GROUP BY h.device_id HAVING count(h.flow_min) >= {water.LEAST_HOURS}
) l WHERE CASE WHEN l.flow = 0 THEN true ELSE (SELECT {_IS_HOUSE} {_BEFORE}) END
"""
BURST: Final = f"""
SELECT l.device_id, l.flow FROM (
    SELECT h.device_id, min(h.flow_min) AS flow FROM telemetry."{{table}}_1h" h
    WHERE {_ONLY} AND h.time >= $4 AND h.time < $3 GROUP BY h.device_id HAVING count(h.flow_min) >= {water.BURST_HOURS}
) l WHERE CASE WHEN l.flow = 0 THEN true ELSE (SELECT bool_or(h.flow_min = 0) AND {_IS_HOUSE} {_BEFORE}) END
"""
NIGHTS: Final = f"""
WITH night AS (
    SELECT h.device_id, date_bin('1 day', h.time, $2) AS night, min(h.flow_avg) AS flow, count(h.flow_avg) AS hours
    FROM telemetry."{{table}}_1h" h WHERE {_ONLY} AND h.time = ANY($3::timestamptz[]) GROUP BY 1, 2
), usual AS (
    SELECT device_id, percentile_cont(0.5) WITHIN GROUP (ORDER BY flow) AS flow FROM night WHERE night < $2
    GROUP BY device_id HAVING count(flow) >= {water.LEAST_NIGHTS}
)
SELECT n.device_id, n.flow / u.flow AS flow FROM night n JOIN usual u USING (device_id)
WHERE n.night = $2 AND n.hours = {len(water.NIGHT_HOURS)} AND u.flow >= {water.LEAST_FLOW}
"""
# What flows into a district: its meters labelled `inlet` less those labelled `outlet`, in hours that all of them told.
DISTRICTS: Final = """
WITH meter AS (
    SELECT d.id, d.area_id, CASE WHEN 'outlet' = ANY(d.labels) THEN -1 ELSE 1 END AS sign
    FROM iot.device d JOIN iot.area a ON a.id = d.area_id AND a.kind = 'dma'
    WHERE d.class_key = $3 AND d.retired_at IS NULL AND d.labels && ARRAY['inlet', 'outlet']
), district AS (
    SELECT area_id, count(*) AS meters, min(id) FILTER (WHERE sign > 0) AS first FROM meter GROUP BY area_id
)
SELECT d.first, h.time, sum(h.flow_avg * m.sign) AS flow
FROM district d JOIN meter m USING (area_id)
JOIN telemetry."{table}_1h" h ON h.device_id = m.id AND h.time = ANY($2::timestamptz[]) AND h.flow_avg IS NOT NULL
WHERE d.first IS NOT NULL AND ($1::integer[] IS NULL OR d.first = ANY($1))
GROUP BY d.first, d.meters, h.time HAVING count(*) = d.meters
"""

Only = Sequence[int] | None
"""Some devices of a class; None: all."""


async def continuous_flow(
    connection: asyncpg.Connection, watched: ClassWatch, now: datetime, only: Only
) -> dict[int, float]:
    """Give the lowest flow of each house's last 24 whole hours, m3/h."""
    return await _by_meter(connection, watched, CONTINUOUS, now, only)


async def burst_flow(
    connection: asyncpg.Connection, watched: ClassWatch, now: datetime, only: Only
) -> dict[int, float]:
    """Give the lowest flow of each house's last two whole hours, m3/h."""
    return await _by_meter(connection, watched, BURST, now, only)


async def night_flow_ratio(
    connection: asyncpg.Connection, watched: ClassWatch, now: datetime, only: Only
) -> dict[int, float]:
    """Give each meter's last whole night's minimum against its nights before."""
    nights = _nights(now)
    if not _has_flow(watched):
        return {}
    sql = NIGHTS.format(table=watched.device_class.key)
    return _found(await connection.fetch(sql, only, nights[0], [hour for night in nights for hour in _hours(night)]))


async def dma_night_flow(
    connection: asyncpg.Connection, watched: ClassWatch, now: datetime, only: Only
) -> dict[int, float]:
    """Give each district's last whole night's minimum inflow against its nights before, by its first inlet's id."""
    nights = _nights(now)
    if not _has_flow(watched):
        return {}
    sql = DISTRICTS.format(table=watched.device_class.key)
    times = [hour for night in nights for hour in _hours(night)]
    said: dict[int, dict[datetime, float]] = {}
    for row in await connection.fetch(sql, only, times, watched.device_class.key):
        said.setdefault(row["first"], {})[row["time"]] = row["flow"]
    found: dict[int, float] = {}
    for device_id, hours in said.items():
        ratio = water.night_flow_ratio([[hours.get(hour) for hour in _hours(night)] for night in nights])
        if ratio is not None:
            found[device_id] = ratio
    return found


async def _by_meter(
    connection: asyncpg.Connection, watched: ClassWatch, sql: str, now: datetime, only: Only
) -> dict[int, float]:
    if not _has_flow(watched):
        return {}
    end = now.replace(minute=0, second=0, microsecond=0)
    asked = sql.format(table=watched.device_class.key)
    return _found(
        await connection.fetch(asked, only, end - water.DAY * _HOUR, end, end - water.BURST_HOURS * _HOUR)
    )  # fmt: skip


def _found(rows: Sequence[asyncpg.Record]) -> dict[int, float]:
    return {row["device_id"]: row["flow"] for row in rows}


def _has_flow(watched: ClassWatch) -> bool:
    return watched.device_class.metric("flow") is not None


def _nights(now: datetime) -> list[datetime]:
    """Give the midnights before the nights that count, the last whole one first."""
    midnight = (now + _ZONE).replace(hour=0, minute=0, second=0, microsecond=0) - _ZONE
    if now < midnight + (water.NIGHT_HOURS[-1] + 1) * _HOUR:
        midnight -= 24 * _HOUR
    return [midnight - age * 24 * _HOUR for age in range(water.NIGHTS + 1)]


def _hours(night: datetime) -> list[datetime]:
    return [night + hour * _HOUR for hour in water.NIGHT_HOURS]
