"""Newest rows of many devices as JSON that the database wrote, where a row says all that its device ever said.

To make a row's values Python's, round them and write them again costs three times what the database's own text does.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import asyncpg

from iot_core.model import DeviceClass, Metric, MetricType, Quality
from iot_core.store import read

__all__ = ["newest_json"]

_PLAIN: Final = """
SELECT array_agg(device_id) AS devices, string_agg(COALESCE(said, ''), E'\\n') AS said FROM (
    SELECT s.device_id, CASE WHEN t.time = s.last_time AND t.bad = 0
        AND bit_count((s.said & {known}::bigint)::bit(64)) = num_nonnulls({names})
    THEN concat('"time":', to_json(t.time), ',"quality":"', {quality}, '","bad":[],"values":{{',
        concat_ws(',', {values}), '}},"earlier":[]') END AS said
    FROM iot.device_status s LEFT JOIN LATERAL (
        SELECT time, quality, bad, {names} FROM {relation}
        WHERE device_id = s.device_id AND time >= $2 AND time < $3 ORDER BY time DESC LIMIT 1
    ) t ON true WHERE s.device_id = ANY($1) AND s.last_time IS NOT NULL
) each
"""
"""All of it in one value: ten thousand rows of the protocol would cost the core as much as it costs to find them."""


async def newest_json(
    connection: asyncpg.Connection, device_class: DeviceClass, device_ids: Sequence[int]
) -> tuple[dict[int, str], list[read.Newest]]:
    """Give the newest values of devices of one class that ever said something: most as JSON, the others as rows.

    The JSON is the inside of an object: `"time":..., "quality":..., "bad":[], "values":{...}, "earlier":[]`. Rows are
    those of a device that is silent for long, that has a value out of its range or an older value of another metric.
    """
    if not device_class.metrics:
        return {}, await read.newest(connection, device_class, device_ids)
    reading = await read.Reading.of(connection, device_class)
    names = ", ".join(reading.names)
    statement = _PLAIN.format(
        relation=reading.relation,
        names=names,
        known=sum(reading.bits[metric.key] for metric in reading.metrics),
        quality=_case("quality", {each.value: each.name.lower() for each in Quality}),
        values=", ".join(map(_member, reading.metrics)),
    )
    now = datetime.now(UTC)
    found = await connection.fetchrow(statement, list(device_ids), now - read.FRESH, now + read.AHEAD)
    if found["devices"] is None:
        return {}, []
    # JSON has no newline inside, and this stands nowhere else in it.
    text = found["said"].replace('+00:00","quality"', 'Z","quality"')
    said = dict(zip(found["devices"], text.split("\n"), strict=True))
    others = [device_id for device_id, each in said.items() if not each]
    for device_id in others:
        del said[device_id]
    return said, await read.newest(connection, device_class, others) if others else []


def _member(metric: Metric) -> str:
    """Write one metric as `"key":value`, null where the row does not say it."""
    value = f'"{metric.key}"::text'
    if metric.type is MetricType.ENUM:
        value = f"'\"' || {_case(metric.key, {number: name for name, number in metric.members.items()})} || '\"'"
    return f"'\"{metric.key}\":' || {value}"


def _case(column: str, names: dict[int, str]) -> str:
    """Name a number; one without a name is shown as it is."""
    arms = " ".join("WHEN {} THEN '{}'".format(number, name.replace("'", "''")) for number, name in names.items())
    return f'CASE "{column}" {arms} ELSE "{column}"::text END'
