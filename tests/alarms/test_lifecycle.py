from __future__ import annotations

import pytest

from iot_core.alarms.lifecycle import acknowledge, get_alarm, list_alarms
from iot_core.errors import ConflictError, NotFoundError
from iot_core.messages import said
from iot_core.push.targets import add
from tests.alarms.city import MINUTE, T0, City, seen, smoke


async def test_alarm_shows_who_took_it_and_when_with_its_history_and_pushes(city: City) -> None:
    detector = await city.device("fire-1", "detector")
    async with city.pool.acquire() as connection:
        await add(connection, "ioc", "http://127.0.0.1:9/alarms", allow_private=True)
    await city.flush(smoke(detector, 0))
    await city.flush(smoke(detector, 60, smoke=False))
    (alarm,) = await city.alarms()
    async with city.pool.acquire() as connection:
        taken = await acknowledge(connection, alarm.id, by="lan", now=T0 + 2 * MINUTE)
        assert (taken.acknowledged_by, taken.acknowledged_at, taken.state) == ("lan", T0 + 2 * MINUTE, "closed")
        detail = await get_alarm(connection, alarm.id)
    assert [(event.kind, event.at - T0, event.by, event.value) for event in detail.events] == [
        ("raised", 0 * MINUTE, None, 1.0),
        ("returned", MINUTE, None, 0.0),
        ("acknowledged", 2 * MINUTE, "lan", None),
        ("cleared", 2 * MINUTE, None, None),
        ("closed", 2 * MINUTE, None, None),
    ]
    assert [(push.target, push.type) for push in detail.pushes] == [
        ("ioc", "alarm.raised"),
        ("ioc", "alarm.acknowledged"),
        ("ioc", "alarm.cleared"),
    ]
    bodies = [row["body"]["data"]["alarm"]["state"] for row in await city.pool.fetch("SELECT body FROM iot.outbox")]
    assert bodies == ["unacknowledged", "acknowledged", "closed"]


async def test_acknowledging_twice_changes_nothing(city: City) -> None:
    await city.flush(seen(await city.device("tank-1"), 0, level=91))
    (alarm,) = await city.alarms()
    async with city.pool.acquire() as connection:
        first = await acknowledge(connection, alarm.id, by="lan", version=1)
        assert await acknowledge(connection, alarm.id, by="minh", version=1) == first
    assert await city.events() == ["raised", "acknowledged"]


async def test_alarm_that_changed_since_the_person_looked_is_a_conflict(city: City) -> None:
    tank = await city.device("tank-1")
    await city.flush(seen(tank, 0, level=91), seen(tank, 60, level=10))
    (alarm,) = await city.alarms()
    async with city.pool.acquire() as connection:
        with pytest.raises(ConflictError) as caught:
            await acknowledge(connection, alarm.id, by="lan", version=1)
        assert "version 2" in said(caught.value, "en")
        await acknowledge(connection, alarm.id, by="lan", version=2)
    assert [alarm.state for alarm in await city.alarms()] == ["closed"]


async def test_unknown_alarm_is_not_found(city: City) -> None:
    async with city.pool.acquire() as connection:
        with pytest.raises(NotFoundError):
            await get_alarm(connection, 404)
        with pytest.raises(NotFoundError):
            await acknowledge(connection, 404, by="lan")


async def test_urgent_alarms_that_nobody_took_come_first(city: City) -> None:
    tank, detector = await city.device("tank-1"), await city.device("fire-1", "detector")
    await city.flush(smoke(detector, 0))
    await city.flush(seen(tank, 60, level=91, valve="stuck"))
    async with city.pool.acquire() as connection:
        listed = await list_alarms(connection)
        assert [alarm.rule for alarm in listed] == ["detector.smoke", "tank.high", "tank.stuck"]
        await acknowledge(connection, listed[0].id, by="lan")
        assert [alarm.rule for alarm in await list_alarms(connection)] == ["tank.high", "tank.stuck", "detector.smoke"]
        await city.flush(smoke(detector, 120, smoke=False))
        assert [alarm.rule for alarm in await list_alarms(connection)] == ["tank.high", "tank.stuck"]
        assert len(await list_alarms(connection, open_only=False)) == 3
        assert [alarm.rule for alarm in await list_alarms(connection, open_only=False, device_key="fire-1")] == [
            "detector.smoke"
        ]
        assert len(await list_alarms(connection, limit=1)) == 1
