"""Schedules that lamps keep, and what holds instead for a time: who is told what, at moments that the test names."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from iot_core.commanding.orders import Wanted
from iot_core.commanding.scheduler import Scheduler
from iot_core.commanding.twins import Twins
from iot_core.profiles import load
from iot_core.registry import schedules, twin
from iot_core.settings import Store
from iot_core.store.connection import open_pool

PROFILES = load()
EVENING = datetime(2026, 3, 2, tzinfo=ZoneInfo("Asia/Ho_Chi_Minh"))
NEXT = EVENING + timedelta(days=1)
BOTH = ["lamp-1", "lamp-2"]


class City:
    """Two lamps, of which the first keeps its schedule; their scheduler, and what it ordered."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self.pool = pool
        self.ordered: list[tuple[object, list[str]]] = []
        commanding: Any = SimpleNamespace(reach=None, order=self._order)
        self._scheduler = Scheduler(pool, commanding, Twins(pool, commanding, PROFILES), PROFILES, "Asia/Ho_Chi_Minh")

    async def _order(self, asked: Wanted, keys: list[str]) -> None:
        self.ordered.append((asked.params["level"], keys))

    async def at(self, now: datetime) -> list[tuple[object, list[str]]]:
        """Let it look; lamp-1 takes what it is told. Give what was ordered."""
        self.ordered.clear()
        async with self.pool.acquire() as connection:
            schedule = await schedules.get(connection, "evening")
        await self._scheduler.step(schedule, frozenset(), now)
        async with self.pool.acquire() as connection:
            (told,) = await twin.list_twins(connection, differing=False, limit=9)
            await twin.report(connection, "lamp-1", told.desired, told.version, at=now, refused={})
        return list(self.ordered)

    async def override(self, point: str | None, begins: datetime, hours: int = 4) -> None:
        """Let something hold from a moment on."""
        async with self.pool.acquire() as connection:
            await schedules.override(connection, "evening", point, begins, begins + timedelta(hours=hours), by="test")

    async def kept(self) -> list[datetime]:
        """Give the first moments that lamp-1 says it keeps."""
        said = await self.pool.fetchval("SELECT reported -> 'schedule' -> 'points' FROM iot.twin")
        return [datetime.fromisoformat(each["time"]) for each in said[:2]]


@pytest.fixture
async def city(migrated_dsn: str) -> AsyncIterator[City]:
    """Give the city at 19:00, when lamp-1 took its schedule."""
    async with open_pool(migrated_dsn, Store()) as pool:
        await pool.execute(
            "INSERT INTO iot.device (key, name, class_key, latitude, longitude)"
            " SELECT key, '', 'streetlight', 20.95, 107.07 FROM unnest($1::text[]) key",
            BOTH,
        )
        await pool.execute(
            "INSERT INTO iot.unit (device_id, profile, address) SELECT id, 'native-streetlight', 'iot:lamp-1'"
            " FROM iot.device WHERE key = 'lamp-1'"
        )
        async with pool.acquire() as connection:
            points = ["18:00 dim level=100", "23:00 dim level=60", "06:00 dim level=0"]
            await schedules.add(connection, "evening", "class=streetlight", points, by="test")
        await pool.execute("UPDATE iot.schedule SET done_until = $1", EVENING.replace(hour=19))
        made = City(pool)
        assert await made.at(EVENING.replace(hour=19)) == []
        assert await made.kept() == [EVENING.replace(hour=23), NEXT.replace(hour=6)]
        yield made


async def test_a_lamp_that_keeps_its_schedule_does_not_break_an_override_by_itself(city: City) -> None:
    await city.override("00:00 dim level=77", EVENING.replace(hour=20))
    assert await city.at(EVENING.replace(hour=20, minute=1)) == [(77, BOTH)]
    assert await city.kept() == [NEXT.replace(hour=6), NEXT.replace(hour=18)], "nothing in its time"
    assert await city.at(EVENING.replace(hour=23, minute=1)) == []
    assert await city.at(NEXT.replace(minute=1)) == [(60, BOTH)], "what the schedule says at its end"
    assert await city.at(NEXT.replace(hour=6, minute=1)) == [(0, ["lamp-2"])], "lamp-1 does that by itself again"


async def test_an_override_that_is_ended_is_over_as_if_its_time_were_up(city: City) -> None:
    await city.override(None, EVENING.replace(hour=19, minute=30))
    assert await city.at(EVENING.replace(hour=19, minute=31)) == [], "there was none"
    await city.override("00:00 dim level=77", EVENING.replace(hour=20))
    assert await city.at(EVENING.replace(hour=20, minute=1)) == [(77, BOTH)]
    await city.override(None, EVENING.replace(hour=21))
    assert await city.at(EVENING.replace(hour=21, minute=1)) == [(100, BOTH)]
    assert await city.kept() == [EVENING.replace(hour=23), NEXT.replace(hour=6)]
    assert await city.at(EVENING.replace(hour=23, minute=1)) == [(60, ["lamp-2"])]


async def test_what_was_given_out_before_an_override_came_is_given_out_anew(city: City) -> None:
    async with city.pool.acquire() as connection:
        before = await schedules.get(connection, "evening")
        await city.override("00:00 dim level=77", EVENING.replace(hour=20))
        await schedules.stored(connection, before, datetime(2026, 3, 9, tzinfo=UTC))
        assert (await schedules.get(connection, "evening")).stored_until is None
