"""The water formulas in SQL say the same as the pure functions, of hundreds of meters at once."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import asyncpg
import pytest

from iot_core.alarms import water_flows
from iot_core.alarms.watch import ClassWatch, watch_class
from iot_core.derived import water
from iot_core.profiles import load

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

HOUR = timedelta(hours=1)
NOW = datetime(2026, 11, 20, 0, 10, tzinfo=UTC)
"""07:10 in Vietnam: the night is over."""
MIDNIGHT = datetime(2026, 11, 19, 17, tzinfo=UTC)
METERS = 400
TABLE = """
CREATE TABLE telemetry.some_1h (device_id integer, time timestamptz, flow_min real, flow_max real, flow_avg float8)
"""
Row = tuple[int, datetime, float | None, float | None, float | None]


@pytest.fixture
async def connection(migrated_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    made = await asyncpg.connect(migrated_dsn)
    await made.execute(TABLE)
    yield made
    await made.close()


def watched() -> ClassWatch:
    found = watch_class(load().classes["water_meter"], {})
    return replace(found, device_class=replace(found.device_class, key="some"))


async def keep(connection: asyncpg.Connection, rows: Sequence[Row]) -> Mapping[tuple[int, datetime], Row]:
    await connection.copy_records_to_table("some_1h", schema_name="telemetry", records=rows)
    return {(row[0], row[1]): row for row in rows}


def day(dice: random.Random, device_id: int) -> list[Row]:
    """Make the last 26 hours of a meter: a house, a leak, a burst, a main; with hours missing, or without flow."""
    low = dice.choice([[0.0], [0.0, 0.0, 0.25], [0.004, 0.25], [1.5, 5.5], [40.0], [-0.25, 0.0]])
    high = dice.choice([0.25, 3.0, 3.125, 4.5, 60.0])
    rows: list[Row] = []
    for age in range(1, 27):
        if dice.random() < dice.choice([0.0, 0.0, 0.3]):
            continue
        least = None if dice.random() < 0.05 else dice.choice(low if age > 2 else [*low, 1.5, 0.0])
        rows.append((device_id, NOW.replace(minute=0) - age * HOUR, least, high + dice.choice([0.0, 2.0]), None))
    return rows


async def test_flows_of_houses_are_alike_in_sql_and_in_the_pure_functions(connection: asyncpg.Connection) -> None:
    dice = random.Random(7)
    known = await keep(connection, [row for meter in range(METERS) for row in day(dice, meter)])
    back = [NOW.replace(minute=0) - age * HOUR for age in range(1, water.DAY + 1)]
    seen: set[bool] = set()
    for formula, pure in (
        (water_flows.continuous_flow, water.continuous_flow), (water_flows.burst_flow, water.burst_flow),
    ):  # fmt: skip
        found = await formula(connection, watched(), NOW, None)
        for meter in range(METERS):
            said = [known.get((meter, at)) for at in back]
            lowest = [None if row is None else row[2] for row in said]
            expected = pure(lowest, [None if row is None else row[3] for row in said])
            assert found.get(meter) == (None if expected is None else pytest.approx(expected)), (lowest, said)
            seen.add(bool(expected))
        assert set(await formula(connection, watched(), NOW, [3, 4])) <= {3, 4}
    assert seen == {True, False}


async def test_nights_of_meters_are_alike_in_sql_and_in_the_pure_function(connection: asyncpg.Connection) -> None:
    dice = random.Random(11)
    rows: list[Row] = []
    for meter in range(METERS):
        usual, gaps = dice.choice([0.0, 0.02, 0.05, 10.0]), dice.choice([0.0, 0.1, 0.5])
        rows += [
            (meter, MIDNIGHT - night * 24 * HOUR + hour * HOUR, 0.0, 0.0, usual * dice.choice([0.9, 1.0, 1.3]))
            for night in range(17) for hour in (1, *water.NIGHT_HOURS, 4) if dice.random() >= gaps
        ]  # fmt: skip
    known = await keep(connection, rows)
    found = await water_flows.night_flow_ratio(connection, watched(), NOW, None)
    for meter in range(METERS):
        nights = [
            [
                None if (row := known.get((meter, MIDNIGHT - night * 24 * HOUR + hour * HOUR))) is None else row[4]
                for hour in water.NIGHT_HOURS
            ]
            for night in range(water.NIGHTS + 1)
        ]
        expected = water.night_flow_ratio(nights)
        assert found.get(meter) == (None if expected is None else pytest.approx(expected)), nights
    assert found
