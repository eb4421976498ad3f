"""What should be stored of devices and is not: by their intervals, their numbers and their metrics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import asyncpg

from iot_core.store.levels import Gap

_NOTE: Final = """
INSERT INTO iot.profile (model, class_key, every, metrics, address, topics)
SELECT model, class_key, every, string_to_array(metrics, ','), address, string_to_array(topics, E'\n')
FROM unnest($1::text[], $2::text[], $3::interval[], $4::text[], $5::text[], $6::text[])
    AS noted (model, class_key, every, metrics, address, topics)
ON CONFLICT (model) DO UPDATE SET class_key = excluded.class_key, every = excluded.every, metrics = excluded.metrics,
    address = excluded.address, topics = excluded.topics
WHERE (profile.class_key, profile.every, profile.metrics, profile.address, profile.topics) IS DISTINCT FROM
    (excluded.class_key, excluded.every, excluded.metrics, excluded.address, excluded.topics)
"""
_NOTED: Final = "SELECT model, class_key, every, metrics, address, topics FROM iot.profile WHERE model = ANY($1)"
_COMPLETE: Final = "SELECT * FROM telemetry.completeness($1, $2, $3)"
_MISSED: Final = 3
_UNDECLARED: Final = """
SELECT device_id, split_part(detail, ';', 1) AS metric, count(*) AS times FROM iot.held_uplink
WHERE reason = 'unknown_metric' AND device_id = ANY($1) AND received_at >= $2 AND received_at < $3
GROUP BY 1, 2 ORDER BY 1, 3 DESC, 2
"""
_SAID: Final = """
SELECT s.device_id, m.key FROM iot.device_status s JOIN iot.device d ON d.id = s.device_id
JOIN iot.metric m ON m.class_key = d.class_key AND m.retired_at IS NULL
WHERE s.device_id = ANY($1) AND s.said & (1::bigint << m.bit) <> 0
"""
_NUMBERS: Final = """
SELECT u.device_id, coalesce(u.serial, u.address) AS unit, r.run, lower(missing.numbers) AS first,
    upper(missing.numbers) - 1 AS last
FROM iot.seq_range r JOIN iot.unit u ON u.id = r.unit_id
CROSS JOIN LATERAL unnest(int8multirange(range_merge(r.seqs)) - r.seqs) AS missing (numbers)
WHERE u.device_id = ANY($1) ORDER BY u.device_id, r.unit_id, r.run, first
"""


@dataclass(frozen=True, slots=True)
class Model:
    """What a profile promises: how often it speaks, of which metrics, and where."""

    model: str
    class_key: str
    interval: timedelta | None
    metrics: Sequence[str]
    address: str = ""
    topics: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Complete:
    """What is stored of a device in a span, against what its profile's interval promises (None: nobody knows)."""

    device_id: int
    class_key: str
    interval: timedelta | None
    expected: int | None
    stored: int


@dataclass(frozen=True, slots=True)
class Missing:
    """Numbers of a unit's run that never came, from `first` to `last`."""

    device_id: int
    unit: str
    run: str
    first: int
    last: int


async def note_models(connection: asyncpg.Connection, models: Iterable[Model]) -> None:
    """Tell the database what the profiles promise."""
    rows = sorted(models, key=lambda each: each.model)
    await connection.execute(
        _NOTE,
        [each.model for each in rows],
        [each.class_key for each in rows],
        [each.interval for each in rows],
        [",".join(each.metrics) for each in rows],
        [each.address for each in rows],
        ["\n".join(each.topics) for each in rows],
    )


async def noted_models(connection: asyncpg.Connection, models: Iterable[str]) -> list[Model]:
    """Give what was noted of models when their profiles were last good; those that were never known are left out."""
    return [Model(*row) for row in await connection.fetch(_NOTED, list(models))]


async def complete(
    connection: asyncpg.Connection, device_ids: Sequence[int], *, start: datetime, end: datetime
) -> list[Complete]:
    """Compare what is stored with what was expected. Rollups follow within a minute, and so does this."""
    rows = await connection.fetch(_COMPLETE, start, end, list(device_ids))
    return [Complete(row["device_id"], row["class_key"], row["every"], row["expected"], row["stored"]) for row in rows]


async def gaps_of(
    connection: asyncpg.Connection, class_key: str, intervals: dict[int, timedelta], *, start: datetime, end: datetime
) -> dict[int, list[Gap]]:
    """Find where devices said nothing for three intervals while a unit was mounted, the ends of the span included."""
    rows = await connection.fetch(
        f"""
        WITH wanted AS (
            SELECT * FROM unnest($1::integer[], $2::interval[]) AS w (device_id, allowed)
        ), mounted AS (
            SELECT fed.device_id, range_agg(tstzrange(unit.mounted_from, unit.mounted_to)) AS spans
            FROM (SELECT id AS unit_id, device_id FROM iot.unit UNION SELECT unit_id, device_id FROM iot.channel) fed
            JOIN iot.unit ON unit.id = fed.unit_id
            WHERE fed.device_id = ANY($1) GROUP BY fed.device_id
        ), said AS (
            SELECT t.device_id, t.time FROM telemetry."{class_key}" t
            WHERE t.device_id = ANY($1) AND t.time >= $3 AND t.time < $4
            UNION ALL SELECT device_id, $4 FROM wanted
        ), paired AS (
            SELECT device_id, time, coalesce(lag(time) OVER (PARTITION BY device_id ORDER BY time), $3) AS before
            FROM said
        )
        SELECT p.device_id, lower(gap) AS before, upper(gap) AS time
        FROM paired p JOIN wanted w ON w.device_id = p.device_id JOIN mounted m ON m.device_id = p.device_id
        CROSS JOIN LATERAL unnest(m.spans * tstzmultirange(tstzrange(p.before, p.time))) AS gap
        WHERE p.time - p.before > w.allowed AND upper(gap) - lower(gap) > w.allowed ORDER BY 1, 2
        """,
        list(intervals),
        [interval * _MISSED for interval in intervals.values()],
        start,
        end,
    )
    found: dict[int, list[Gap]] = {}
    for row in rows:
        found.setdefault(row["device_id"], []).append((row["before"], row["time"]))
    return found


async def undeclared(
    connection: asyncpg.Connection, device_ids: Sequence[int], *, start: datetime, end: datetime
) -> dict[int, dict[str, int]]:
    """Name the metrics that devices said and their class does not have, with how often (as far as it is held)."""
    found: dict[int, dict[str, int]] = {}
    for row in await connection.fetch(_UNDECLARED, list(device_ids), start, end):
        found.setdefault(row["device_id"], {})[row["metric"]] = row["times"]
    return found


async def ever_said(connection: asyncpg.Connection, device_ids: Sequence[int]) -> dict[int, set[str]]:
    """Name the metrics that each device ever said."""
    found: dict[int, set[str]] = {}
    for row in await connection.fetch(_SAID, list(device_ids)):
        found.setdefault(row["device_id"], set()).add(row["key"])
    return found


async def missing_numbers(connection: asyncpg.Connection, device_ids: Sequence[int]) -> list[Missing]:
    """List the numbers that units left out, ever: ranges have no times."""
    rows = await connection.fetch(_NUMBERS, list(device_ids))
    return [Missing(**row) for row in rows]
