"""Rollups as continuous aggregates of TimescaleDB's community licence: hours over raw, civil days over hours.

They cannot take a column more, so a new metric opens a new generation: made empty at the start, filled beside the one
in use, then taken in one transaction. Buckets whose raw rows are gone cannot be filled: they move to the kept tables,
which are the same relations that the other tiers use, and no aggregate is ever refreshed before them.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg

from iot_core.store.calendar import HOUR
from iot_core.store.kept import ensure_views
from iot_core.store.rollups import SCHEMA, Rollup
from iot_core.store.tier import Tier

LOCK: Final = 0x696F742D616767  # "iot-agg"
NEVER: Final = datetime(2000, 1, 1, tzinfo=UTC)
_MOST_S: Final = 3600.0
_STATE: Final = "SELECT raw_from, kept_before, kept_days_before FROM iot.rollup_state WHERE class_key = $1"
_GENERATIONS: Final = "SELECT number, columns, used FROM iot.rollup_generation WHERE class_key = $1 ORDER BY number"
_ADD: Final = "INSERT INTO iot.rollup_generation VALUES ($1, $2, $3, $4)"


async def read_sources(connection: asyncpg.Connection, rollup: Rollup, tier: Tier) -> tuple[str, str]:
    """Give hours and days, with the columns as they are kept, as SQL to stand after FROM."""
    if tier is not Tier.COMMUNITY:
        return rollup.hours, rollup.days
    number = await connection.fetchval(
        "SELECT max(number) FROM iot.rollup_generation WHERE class_key = $1 AND used", rollup.class_key
    )
    if number is None:
        return rollup.hours, rollup.days
    state = await connection.fetchrow(_STATE, rollup.class_key)
    return _sources(rollup, number, state["kept_before"], state["kept_days_before"])


async def ensure_aggregates(connection: asyncpg.Connection, rollup: Rollup) -> bool:
    """Make the generation that a class needs, empty, in the caller's transaction; say whether the one in use is it."""
    generations = await connection.fetch(_GENERATIONS, rollup.class_key)
    for each in generations:
        if not each["used"] and each["columns"] != rollup.names():
            await _drop(connection, rollup, each["number"])
    wanted = [each for each in generations if each["columns"] == rollup.names()]
    if wanted:
        return any(each["used"] for each in wanted)
    number = max([each["number"] for each in generations], default=0) + 1
    hours, days = _names(rollup, number)
    live = "WITH (timescaledb.continuous, timescaledb.materialized_only = false)"
    await connection.execute(f"CREATE MATERIALIZED VIEW {hours} {live} AS {rollup.aggregate_of_raw()} WITH NO DATA")
    if rollup.days_are_aggregated:
        await connection.execute(
            f"CREATE MATERIALIZED VIEW {days} {live} AS {rollup.aggregate_of_hours(hours)} WITH NO DATA"
        )
    await connection.execute(_ADD, rollup.class_key, number, rollup.names(), False)
    if first := not generations and await _is_empty(connection, rollup):
        await _take(connection, rollup, number)
    return first


async def refresh_aggregates(connection: asyncpg.Connection, rollup: Rollup) -> None:
    """Bring a class's aggregates up to the last full hour; fill a new generation and take it. Outside a transaction."""
    if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK):
        return
    # Not unlocked where this fails: the connection goes back to its pool then, which takes all its locks off.
    generations = await connection.fetch(_GENERATIONS, rollup.class_key)
    state = await connection.fetchrow(_STATE, rollup.class_key)
    for each in generations:
        first = state if each["used"] else cut_at(rollup, state["raw_from"])
        await _refresh(connection, rollup, each["number"], state["raw_from"], first["kept_days_before"])
        if not each["used"]:
            async with connection.transaction():
                await _take(connection, rollup, each["number"])
    await connection.execute("SELECT pg_advisory_unlock($1)", LOCK)


async def refresh_again(connection: asyncpg.Connection, rollup: Rollup, first: datetime, end: datetime) -> None:
    """Work a range of the aggregate in use out anew, whether TimescaleDB thinks it needs it or not."""
    for each in await connection.fetch(_GENERATIONS, rollup.class_key):
        hours, days = _names(rollup, each["number"])
        calendar = rollup.calendar
        await _call(connection, hours, first, end, force=True)
        if rollup.days_are_aggregated:
            await _call(connection, days, calendar.day_of(first), calendar.day_after(end - HOUR), force=True)


def first_whole_hour(rollup: Rollup, raw_from: datetime) -> datetime:
    """Give the first hour whose raw rows are all there, when nothing before `raw_from` is."""
    return cut_at(rollup, raw_from)["kept_before"]


def _sources(rollup: Rollup, number: int, kept_before: datetime, kept_days_before: datetime) -> tuple[str, str]:
    names = ", ".join(["time", "device_id", *(f'"{name}"' for name in rollup.names())])
    hours, days = _names(rollup, number)
    return (
        _joined(names, rollup.hours, hours, kept_before),
        _joined(names, rollup.days, days, kept_days_before) if rollup.days_are_aggregated else rollup.days,
    )


def _joined(names: str, kept: str, aggregate: str, before: datetime) -> str:
    if before <= NEVER:
        return aggregate
    at = f"timestamptz '{before.isoformat()}'"
    return (
        f"(SELECT {names} FROM {kept} WHERE time < {at} UNION ALL SELECT {names} FROM {aggregate} WHERE time >= {at})"
    )


def _names(rollup: Rollup, number: int) -> tuple[str, str]:
    return f'{SCHEMA}."{rollup.class_key}_1h_g{number}"', f'{SCHEMA}."{rollup.class_key}_1d_g{number}"'


def cut_at(rollup: Rollup, raw_from: datetime) -> dict[str, datetime]:
    """Give the first hour and the first civil day whose raw rows are all there."""
    if raw_from <= NEVER:
        return {"kept_before": NEVER, "kept_days_before": NEVER}
    hour = _at_or_after(rollup.calendar.hour_of(raw_from), raw_from, HOUR)
    day = rollup.calendar.day_of(hour)
    return {"kept_before": hour, "kept_days_before": day if day == hour else rollup.calendar.day_after(hour)}


def _at_or_after(start: datetime, time: datetime, width: timedelta) -> datetime:
    return start if start >= time else start + width


async def _take(connection: asyncpg.Connection, rollup: Rollup, number: int) -> None:
    """Use a generation: move what only the one before has to the kept tables, turn the views, drop the one before."""
    state = await connection.fetchrow(_STATE + " FOR UPDATE", rollup.class_key)
    cut = cut_at(rollup, state["raw_from"])
    before = [each for each in await connection.fetch(_GENERATIONS, rollup.class_key) if each["used"]]
    for each in before:
        await _keep(connection, rollup, each, state, cut)
    await connection.execute(
        "UPDATE iot.rollup_state SET kept_before = $2, kept_days_before = $3 WHERE class_key = $1",
        rollup.class_key,
        cut["kept_before"],
        cut["kept_days_before"],
    )
    await connection.execute(
        "UPDATE iot.rollup_generation SET used = true WHERE class_key = $1 AND number = $2", rollup.class_key, number
    )
    await ensure_views(connection, rollup, *_sources(rollup, number, cut["kept_before"], cut["kept_days_before"]))
    for each in before:
        await _drop(connection, rollup, each["number"])


async def _keep(
    connection: asyncpg.Connection, rollup: Rollup, generation: Any, state: Any, cut: dict[str, datetime]
) -> None:
    """Move the buckets of a generation that the next one cannot have."""
    names = ", ".join(f'"{name}"' for name in ("time", "device_id", *generation["columns"]))
    hours, days = _names(rollup, generation["number"])
    moved = [(hours, rollup.hours, "kept_before"), (days, rollup.days, "kept_days_before")]
    for source, kept, edge in moved if rollup.days_are_aggregated else moved[:1]:
        await connection.execute(
            f"INSERT INTO {kept} ({names}) SELECT {names} FROM {source} WHERE time >= $1 AND time < $2"
            " ON CONFLICT DO NOTHING",
            state[edge],
            cut[edge],
            timeout=_MOST_S,
        )


async def _refresh(
    connection: asyncpg.Connection, rollup: Rollup, number: int, raw_from: datetime, first_day: datetime
) -> None:
    now = datetime.now(UTC)
    hours, days = _names(rollup, number)
    first_hour = cut_at(rollup, raw_from)["kept_before"]
    await _call(connection, hours, first_hour, rollup.calendar.hour_of(now))
    if rollup.days_are_aggregated:
        await _call(connection, days, first_day, rollup.calendar.day_of(now))


async def _call(
    connection: asyncpg.Connection, aggregate: str, first: datetime, end: datetime, *, force: bool = False
) -> None:
    if first < end:
        start = "NULL" if first <= NEVER else f"'{first.isoformat()}'"
        forced = ", force => true" if force else ""
        await connection.execute(
            f"CALL refresh_continuous_aggregate('{aggregate}', {start}, '{end.isoformat()}'{forced})", timeout=_MOST_S
        )


async def _drop(connection: asyncpg.Connection, rollup: Rollup, number: int) -> None:
    hours, days = _names(rollup, number)
    await connection.execute(f"DROP MATERIALIZED VIEW IF EXISTS {days}")
    await connection.execute(f"DROP MATERIALIZED VIEW {hours}")
    await connection.execute(
        "DELETE FROM iot.rollup_generation WHERE class_key = $1 AND number = $2", rollup.class_key, number
    )


async def _is_empty(connection: asyncpg.Connection, rollup: Rollup) -> bool:
    empty: bool = await connection.fetchval(
        f"SELECT NOT EXISTS (SELECT FROM {rollup.raw}) AND NOT EXISTS (SELECT FROM {rollup.hours})"
    )
    return empty
