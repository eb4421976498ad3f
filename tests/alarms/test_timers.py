from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from iot_core.alarms.computed import Look
from iot_core.alarms.deeds import Asked, Deed, act
from iot_core.alarms.lifecycle import acknowledge
from iot_core.alarms.timers import QUIET, SILENCE, Pace, run_timers
from iot_core.errors import ConflictError
from iot_core.model import Severity
from tests.alarms.city import MINUTE, SECOND, T0, City, at, seen, smoke
from tests.alarms.test_language import have

FIVE = timedelta(minutes=5)
CONFIGURED = "INSERT INTO iot.twin (device_id, reported) VALUES ($1, jsonb_build_object('interval', $2::integer))"
KILL = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


@dataclass
class OneConnection:
    """A pool of one connection, which somebody else holds; it notes what is asked."""

    connection: asyncpg.Connection
    asked: list[str] = field(default_factory=list)
    arguments: dict[str, Sequence[Any]] = field(default_factory=dict)

    async def fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        self.asked.append(query)
        self.arguments[query] = arguments
        rows: list[asyncpg.Record] = await self.connection.fetch(query, *arguments)
        return rows

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[asyncpg.Connection]:
        yield self.connection


async def test_timer_survives_a_restart_and_fires_at_its_own_time(city: City) -> None:
    tank = await city.device("tank-1", profile="slow")
    await city.flush(seen(tank, 0, pressure=0.5))
    await city.restart()
    timers = city.timers()
    city.now = T0 + FIVE - SECOND
    await timers.look(healthy=True)
    assert await city.alarms() == []
    city.now = T0 + FIVE + MINUTE
    await timers.look(healthy=True)
    (alarm,) = await city.alarms()
    assert (alarm.rule, alarm.raised_at, alarm.value, alarm.metric) == ("tank.dry", T0 + FIVE, 0.5, "pressure")
    await timers.look(healthy=True)
    await city.flush(seen(tank, 600, pressure=2.0))
    assert await city.events() == ["raised", "cleared"]


async def test_a_long_look_at_what_is_stored_holds_up_no_timer(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = asyncio.Event()

    async def long(*_: object) -> list[Look]:
        begun.set()
        await asyncio.Event().wait()
        return []

    monkeypatch.setattr("iot_core.alarms.timers.looks", long)
    tank = await city.device("tank-1")
    city.now = T0 + 2 * FIVE
    pace = Pace(timers=timedelta(milliseconds=20), grace=timedelta(0), grace_intervals=0)
    running = asyncio.create_task(
        run_timers(city.pool, city.evaluator, lambda: True, clock=lambda: city.now, pace=pace)
    )
    try:
        async with asyncio.timeout(20):
            await begun.wait()
            await city.flush(seen(tank, 0, pressure=0.5))
            while await city.state(tank, "tank.dry") != "active":
                await asyncio.sleep(0.01)
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def test_two_workers_fire_a_timer_once(city: City) -> None:
    tank = await city.device("tank-1")
    await city.flush(seen(tank, 0, pressure=0.5))
    other = City(city.pool, city.tables, now=T0 + 2 * FIVE)
    city.now = other.now
    await asyncio.gather(city.timers().look(healthy=True), other.timers().look(healthy=True))
    assert await city.events() == ["raised"]


async def test_timer_waits_for_a_device_that_hands_in_what_it_kept(city: City) -> None:
    tank = await city.device("tank-1")
    await city.flush(at(tank, 0, 7200, pressure=0.5))
    city.now = T0 + 7201 * SECOND
    timers = city.timers()
    await timers.fire_due(city.now)
    assert await city.alarms() == []
    await city.flush(at(tank, 60, 7202, pressure=3.0))
    city.now += MINUTE
    await timers.fire_due(city.now)
    assert await city.alarms() == []


async def test_timers_and_silence_pause_while_ingest_lags(city: City) -> None:
    tank = await city.device("tank-1")
    await city.flush(seen(tank, 0, pressure=0.5))
    city.now = T0 + timedelta(hours=1)
    timers = city.timers(Pace(grace=30 * SECOND))
    await timers.look(healthy=False)
    assert await city.alarms() == []
    await timers.look(healthy=True)
    assert await city.alarms() == [], "after our absence everyone gets the time to speak"
    city.now += 29 * SECOND
    await timers.look(healthy=True)
    assert await city.alarms() == []
    city.now += SECOND
    await timers.look(healthy=True)
    assert [alarm.rule for alarm in await city.alarms()] == ["tank.dry"]
    city.now += 2 * MINUTE
    await timers.look(healthy=True)
    assert [alarm.rule for alarm in await city.alarms()] == ["tank.dry", "tank.silent"]


async def test_restart_does_not_report_a_dead_city(city: City) -> None:
    for number in range(5):
        await city.flush(seen(await city.device(f"tank-{number}"), 0, level=10))
    await city.restart()
    city.now = T0 + timedelta(hours=8)
    timers = city.timers(Pace())
    await timers.look(healthy=True)
    await city.flush(*(seen(number, 8 * 3600 + 50, level=10) for number in range(1, 5)))
    city.now += 2 * MINUTE + SECOND
    await timers.look(healthy=True)
    assert [(alarm.rule, alarm.device_key) for alarm in await city.alarms()] == [("tank.silent", "tank-4")]


async def test_silence_is_raised_after_its_intervals_and_cleared_by_the_next_reading(city: City) -> None:
    tank, slow = await city.device("tank-1"), await city.device("tank-2", profile="slow")
    await city.flush(seen(tank, 0, level=10), seen(slow, 0, level=10))
    timers = city.timers()
    for seconds in (0, 180):
        city.now = T0 + seconds * SECOND
        await timers.look(healthy=True)
    assert await city.alarms() == []
    city.now = T0 + 186 * SECOND
    await timers.look(healthy=True)
    (alarm,) = await city.alarms()
    assert (alarm.rule, alarm.severity, alarm.device_key) == ("tank.silent", Severity.LOW, "tank-1")
    assert (alarm.raised_at, alarm.threshold) == (T0 + 3 * MINUTE, None)
    assert await city.pool.fetchval("SELECT silent_since FROM iot.device_status WHERE device_id = $1", tank)
    await city.flush(at(tank, 100, 200, level=10))
    (alarm,) = await city.alarms()
    assert (alarm.state, alarm.cleared_at) == ("returned", T0 + 200 * SECOND)
    city.now = T0 + 380 * SECOND
    await timers.look(healthy=True)
    city.now = T0 + 385 * SECOND
    await timers.look(healthy=True)
    assert await city.events() == ["raised", "cleared", "raised"], "silent again, and nobody had taken the first"


async def test_silence_is_raised_after_the_intervals_that_hold_at_the_device(city: City) -> None:
    patient, hasty, other = [await city.device(f"tank-{number}") for number in range(3)]
    await have(city, "tank.silent", {"silent_for": 10}, device_id=patient)
    await have(city, "tank.silent", {"silent_for": 1.5}, device_id=hasty)
    await city.flush(*(seen(tank, 0, level=10) for tank in (patient, hasty, other)))
    timers = city.timers()
    await timers.look(healthy=True)
    silent_at: dict[int, int] = {}
    for minute in range(1, 13):
        city.now = T0 + minute * MINUTE
        await timers.watch_silence(city.now)
        for tank in (patient, hasty, other):
            if await city.state(tank, "tank.silent") == "active":
                silent_at.setdefault(tank, minute)
    assert silent_at == {hasty: 2, other: 4, patient: 11}


async def test_silence_is_raised_after_the_intervals_that_a_device_was_set_to(city: City) -> None:
    seldom, often, other = [await city.device(f"tank-{number}") for number in range(3)]
    for tank, seconds in ((seldom, 600), (often, 30)):
        await city.pool.execute(CONFIGURED, tank, seconds)
    await city.flush(*(seen(tank, 0, level=10) for tank in (seldom, often, other)))
    timers = city.timers()
    await timers.look(healthy=True)
    silent_at: dict[int, int] = {}
    for minute in (1, 2, 4, 30, 31):
        city.now = T0 + minute * MINUTE
        await timers.watch_silence(city.now)
        for tank in (seldom, often, other):
            if await city.state(tank, "tank.silent") == "active":
                silent_at.setdefault(tank, minute)
    assert silent_at == {often: 2, other: 4, seldom: 31}


async def test_what_is_silent_and_stays_so_is_asked_for_once_a_minute_only(city: City) -> None:
    await have(city, "tank.gone", {"silent_for": 10})
    gateway, tank = await city.device("gw-1"), await city.device("tank-1")
    child = await city.device("tank-2", gateway_id=gateway)
    await city.flush(*(seen(each, 0, level=10) for each in (gateway, tank, child)))
    timers = city.timers()
    await timers.look(healthy=True)
    city.now = T0 + 4 * MINUTE
    await timers.watch_silence(city.now)
    timers.pace = Pace(grace=timedelta(0), grace_intervals=0, everyone=timedelta(hours=1))
    async with city.pool.acquire() as connection:
        timers.pool = asked = OneConnection(connection)
        city.now += SECOND
        await timers.watch_silence(city.now)  # all are asked for, for the last time in this hour
        city.now += SECOND
        asked.arguments.clear()
        await timers.watch_silence(city.now)
        assert sorted(asked.arguments[SILENCE][10]) == [gateway, tank], "they may fall silent for longer yet"
        city.now = T0 + 11 * MINUTE
        await timers.watch_silence(city.now)
        gone = "SELECT source_id FROM iot.rule_state WHERE rule = 'tank.gone' AND state = 'active' ORDER BY 1"
        assert [row["source_id"] for row in await city.pool.fetch(gone)] == [gateway, tank]
        asked.arguments.clear()
        await timers.watch_silence(city.now)
        assert SILENCE not in asked.arguments, "nothing new is known of any of them"
        await city.flush(seen(tank, 700, level=10))
        await city.pool.execute(CONFIGURED, gateway, 86_400)
        city.now = T0 + 12 * MINUTE
        await timers.watch_silence(city.now)
        silent = "SELECT DISTINCT source_id FROM iot.rule_state WHERE state = 'active' ORDER BY 1"
        assert [row["source_id"] for row in await city.pool.fetch(silent)] == [gateway]
        city.now = T0 + 72 * MINUTE
        await timers.watch_silence(city.now)
        assert gateway not in [row["source_id"] for row in await city.pool.fetch(silent)], "its interval was changed"


async def test_grace_after_our_absence_is_of_the_interval_that_a_device_was_set_to(city: City) -> None:
    tank, other = await city.device("tank-1"), await city.device("tank-2")
    await city.pool.execute(CONFIGURED, tank, 600)
    await city.flush(seen(tank, 0, level=10), seen(other, 0, level=10))
    timers = city.timers(Pace(grace_intervals=2.0))
    timers.watching_since = T0 + timedelta(hours=2)
    city.now = T0 + timedelta(hours=2, minutes=15)
    await timers.watch_silence(city.now)
    assert [alarm.device_key for alarm in await city.alarms()] == ["tank-2"]
    city.now += FIVE + SECOND
    await timers.watch_silence(city.now)
    assert {alarm.device_key for alarm in await city.alarms()} == {"tank-1", "tank-2"}


async def test_silence_is_cleared_by_anything_that_was_heard(city: City) -> None:
    tank = await city.device("tank-1")
    await city.flush(seen(tank, 0, level=10))
    timers = city.timers()
    timers.watching_since = T0
    city.now = T0 + 200 * SECOND
    await timers.watch_silence(city.now)
    await city.pool.execute("UPDATE iot.device_status SET last_received_at = $1", T0 + 201 * SECOND)
    city.now = T0 + 202 * SECOND
    await timers.watch_silence(city.now)
    assert [(alarm.state, alarm.cleared_at) for alarm in await city.alarms()] == [("returned", T0 + 201 * SECOND)]


async def test_device_that_never_spoke_or_is_in_maintenance_is_not_silent(city: City) -> None:
    await city.device("tank-1")
    kept = await city.device("tank-2", lifecycle="maintenance")
    await city.flush(seen(kept, 0, level=10))
    timers = city.timers()
    city.now = T0
    await timers.look(healthy=True)
    city.now = T0 + timedelta(days=1)
    await timers.look(healthy=True)
    assert await city.alarms() == []


async def test_silent_gateway_answers_for_the_devices_behind_it(city: City) -> None:
    gateway = await city.device("gateway-1")
    children = [await city.device(f"tank-{number}", gateway_id=gateway) for number in range(3)]
    await city.flush(*(seen(each, 0, level=10) for each in (gateway, *children)))
    timers = city.timers()
    timers.watching_since = T0
    city.now = T0 + FIVE
    await timers.watch_silence(city.now)
    assert [alarm.device_key for alarm in await city.alarms()] == ["gateway-1"]

    # One has another way: its gateway's silence, perhaps taken long ago, does not stand for its own.
    await city.flush(seen(children[1], 301, level=10))
    for now in (T0 + 9 * MINUTE, T0 + 9 * MINUTE + SECOND):
        city.now = now
        await timers.watch_silence(city.now)
    assert [alarm.device_key for alarm in await city.alarms()] == ["gateway-1", "tank-1"]


async def test_gateway_that_died_with_its_devices_is_waited_for(city: City) -> None:
    gateway = await city.device("gateway-1")
    children = [await city.device(f"tank-{number}", gateway_id=gateway) for number in range(3)]
    await city.flush(*(seen(each, number * 10, level=10) for number, each in enumerate((*children, gateway))))
    timers = city.timers()
    timers.watching_since = T0
    for second in range(170, 260, 5):  # all overdue, the gateway last
        city.now = T0 + second * SECOND
        await timers.watch_silence(city.now)
    assert [alarm.device_key for alarm in await city.alarms()] == ["gateway-1"]


async def test_device_behind_a_gateway_that_lives_is_silent_at_once_and_behind_a_slow_one_later(city: City) -> None:
    lively, slow = await city.device("gateway-1"), await city.device("gateway-2")
    await city.pool.execute(CONFIGURED, slow, 86_400)
    tanks = [await city.device(f"tank-{number}", gateway_id=each) for number, each in enumerate((lively, slow))]
    await city.flush(*(seen(each, 0, level=10) for each in tanks), seen(slow, 10, level=10), seen(lively, 61, level=10))
    timers = city.timers()
    timers.watching_since = T0
    rang = []
    for second in (185, 355, 365):
        city.now = T0 + second * SECOND
        await timers.watch_silence(city.now)
        rang.append([alarm.device_key for alarm in await city.alarms() if (alarm.device_key or "").startswith("tank")])
    assert rang == [["tank-0"], ["tank-0"], ["tank-0", "tank-1"]]


async def test_device_fed_by_a_channel_falls_silent_with_its_unit(city: City) -> None:
    panel, door = await city.device("panel-1"), await city.device("door-1")
    await city.pool.execute("UPDATE iot.unit SET mounted_to = now() WHERE device_id = $1", door)
    feeds = "INSERT INTO iot.channel SELECT id, '1', $2 FROM iot.unit WHERE device_id = $1"
    await city.pool.execute(feeds, panel, door)
    await city.pool.execute(CONFIGURED, panel, 120)
    await city.flush(seen(panel, 0, level=10), seen(door, 0, level=10))
    timers = city.timers()
    timers.watching_since = T0
    city.now = T0 + FIVE
    await timers.watch_silence(city.now)
    assert await city.alarms() == [], "the panel speaks for the door, and it was set to two minutes"
    city.now = T0 + 6 * MINUTE + SECOND
    await timers.watch_silence(city.now)
    assert {alarm.device_key for alarm in await city.alarms()} == {"panel-1", "door-1"}


async def test_nobody_is_looked_at_closely_while_the_whole_city_speaks(city: City) -> None:
    tank = await city.device("tank-1")
    await city.flush(seen(tank, 0, level=10))
    timers = city.timers()
    timers.watching_since = T0
    async with city.pool.acquire() as connection:
        timers.pool = pool = OneConnection(connection)
        await timers.watch_silence(T0 + 2 * MINUTE)
        assert pool.asked == [QUIET]
        await timers.watch_silence(T0 + FIVE)
        assert SILENCE in pool.asked
    assert [alarm.device_key for alarm in await city.alarms()] == ["tank-1"]


async def test_device_that_speaks_seldom_is_not_looked_at_closely_for_the_sake_of_a_quick_one(city: City) -> None:
    quick, slow = await city.device("tank-1"), await city.device("tank-2", profile="slow")
    await city.flush(seen(quick, 600, level=10), seen(slow, 0, level=10))
    timers = city.timers()
    timers.watching_since = T0
    async with city.pool.acquire() as connection:
        timers.pool = pool = OneConnection(connection)
        await timers.watch_silence(T0 + 11 * MINUTE)
        assert pool.asked == [QUIET]
        await timers.watch_silence(T0 + 31 * MINUTE)
    assert {alarm.device_key for alarm in await city.alarms()} == {"tank-1", "tank-2"}


async def test_retired_device_and_vanished_rule_return_to_normal(city: City) -> None:
    tank, detector = await city.device("tank-1"), await city.device("fire-1", "detector")
    await city.flush(seen(tank, 0, level=91), smoke(detector, 0))
    await city.pool.execute("UPDATE iot.device SET lifecycle = 'retired' WHERE id = $1", detector)
    await city.pool.execute("UPDATE iot.rule_state SET rule = 'tank.gone' WHERE source_id = $1", tank)
    await city.pool.execute("UPDATE iot.alarm SET rule = 'tank.gone' WHERE source_id = $1", tank)
    city.now = T0 + MINUTE
    await city.timers().look(healthy=True)
    assert [(alarm.rule, alarm.state) for alarm in await city.alarms()] == [
        ("tank.gone", "returned"),
        ("detector.smoke", "unacknowledged"),
    ]
    why = "SELECT kind, note FROM iot.alarm_event WHERE note IS NOT NULL ORDER BY alarm_id"
    assert [tuple(row) for row in await city.pool.fetch(why)] == [("cleared", "rule"), ("returned", "retired")]
    async with city.pool.acquire() as connection:
        for alarm in await city.alarms():
            await acknowledge(connection, alarm.id, by="lan")
    assert [alarm.state for alarm in await city.alarms()] == ["closed", "closed"]
    await city.pool.execute("UPDATE iot.device SET lifecycle = 'active' WHERE id = $1", detector)
    await city.flush(smoke(detector, 90))
    assert [alarm.rule for alarm in await city.alarms(open_only=True)] == ["detector.smoke"], "back, and it rings anew"


async def test_alarm_of_a_device_just_retired_can_be_closed_at_once(city: City) -> None:
    tank, other = await city.device("tank-1"), await city.device("tank-2")
    await city.flush(seen(tank, 0, level=91), seen(other, 0, level=91))
    await city.pool.execute("UPDATE iot.device SET lifecycle = 'retired', retired_at = now() WHERE id = $1", tank)
    gone, stands = await city.alarms()
    async with city.pool.acquire() as connection:
        asked = Asked(deed=Deed.CLOSE, by="lan", now=T0 + SECOND, note="taken down")
        with pytest.raises(ConflictError, match=r"alarm\.still_active"):
            await act(connection, stands.id, asked)
        assert (await act(connection, gone.id, asked)).state == "closed"
    assert await city.state(tank, "tank.high") == "normal"
    await city.pool.execute("UPDATE iot.device SET lifecycle = 'active', retired_at = NULL WHERE id = $1", tank)
    await city.flush(seen(tank, 60, level=92))
    assert {alarm.device_key for alarm in await city.alarms(open_only=True)} == {"tank-1", "tank-2"}


async def test_lost_connections_stop_nothing_and_grant_grace(city: City, tables_dsn: str) -> None:
    tank = await city.device("tank-1", profile="slow")
    await city.flush(seen(tank, 0, pressure=0.5))
    pace = Pace(timers=timedelta(milliseconds=5), grace=timedelta(0), settle=timedelta(0))
    outside = await asyncpg.connect(tables_dsn)
    running = asyncio.create_task(
        run_timers(city.pool, city.evaluator, lambda: True, clock=lambda: city.now, pace=pace)
    )
    try:
        async with asyncio.timeout(30):
            for _ in range(20):
                await outside.execute(KILL)
                await asyncio.sleep(0.01)
            assert not running.done()
            city.now = T0 + FIVE
            while not await outside.fetchval("SELECT count(*) FROM iot.alarm"):
                await asyncio.sleep(0.01)
    finally:
        running.cancel()
        await outside.close()


async def test_lost_store_starts_the_grace_time_anew(city: City) -> None:
    timers = city.timers()
    await timers.look(healthy=True)
    timers.away(asyncpg.DeadlockDetectedError())
    assert timers.watching_since == T0, "two workers met; nobody was away"
    timers.away(ConnectionError())
    assert timers.watching_since is None
