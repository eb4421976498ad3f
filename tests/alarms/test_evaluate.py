from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest

from iot_core.alarms.alarm import AlarmState
from iot_core.alarms.evaluate import Evaluator
from iot_core.alarms.lifecycle import acknowledge
from iot_core.model import Quality, Severity
from iot_core.push.targets import add
from tests.alarms.city import T0, City, Knowledge, at, seen, smoke

if TYPE_CHECKING:
    import asyncpg

NO_DATABASE = cast("Any", object())
"""A connection that fails at the first statement."""


async def take(city: City, alarm_id: int) -> None:
    async with city.pool.acquire() as connection:
        await acknowledge(connection, alarm_id, by="lan", now=city.now)


async def test_reading_raises_an_alarm_with_its_event_and_its_message(city: City) -> None:
    tank = await city.device("tank-1")
    async with city.pool.acquire() as connection:
        await add(connection, "ioc", "http://127.0.0.1:9/alarms", allow_private=True)
    await city.flush(seen(tank, 0, level=91.5))
    (alarm,) = await city.alarms()
    assert (alarm.rule, alarm.severity, alarm.state) == ("tank.high", Severity.HIGH, AlarmState.UNACKNOWLEDGED)
    assert (alarm.metric, alarm.value, alarm.threshold, alarm.raised_at) == ("level", 91.5, 80.0, T0)
    assert (alarm.device_key, alarm.class_key, alarm.title.vi, alarm.late) == (
        "tank-1",
        "tank",
        "Level high (vi)",
        False,
    )
    assert await city.events() == ["raised"]
    (body,) = [row["body"] for row in await city.pool.fetch("SELECT body FROM iot.outbox")]
    assert body["type"] == "alarm.raised"
    assert body["data"]["device"] == {
        "key": "tank-1",
        "name": "tank-1",
        "class": "tank",
        "area": None,
        "area_name": None,
        "area_code": None,
        "latitude": 20.95,
        "longitude": 107.07,
    }
    assert body["data"]["alarm"]["id"] == alarm.id
    assert body["data"]["alarm"]["state"] == "unacknowledged"


async def test_nothing_is_asked_of_the_database_when_no_rule_wants_a_change() -> None:
    evaluator = Evaluator(Knowledge())
    quiet = [seen(1, 0, level=80.0, pressure=5.0, valve="open"), smoke(2, 0, smoke=False, temperature=20.0)]
    assert (await evaluator.evaluate(NO_DATABASE, quiet, now=T0)).happenings == ()
    with pytest.raises(AttributeError):
        await evaluator.evaluate(NO_DATABASE, [seen(1, 0, level=80.1)], now=T0)


async def test_rolled_back_batch_leaves_nothing_and_raises_when_it_comes_again(city: City) -> None:
    tank = await city.device("tank-1")

    async def fail() -> None:
        async with city.pool.acquire() as connection, connection.transaction():
            await city.write(connection, [seen(tank, 0, level=91)])
            raise OSError("the batch is bisected")

    with pytest.raises(OSError, match="bisected"):
        await fail()
    assert (await city.alarms(), await city.events()) == ([], [])
    await city.flush(seen(tank, 0, level=91))
    assert await city.events() == ["raised"]


async def test_alarm_returns_past_hysteresis_and_waits_for_a_person(city: City) -> None:
    tank = await city.device("tank-1")
    await city.flush(seen(tank, 0, level=91))
    await city.flush(seen(tank, 60, level=78))
    assert [alarm.state for alarm in await city.alarms()] == ["unacknowledged"]
    await city.flush(seen(tank, 120, level=75))
    (alarm,) = await city.alarms()
    assert (alarm.state, alarm.cleared_at) == (AlarmState.RETURNED, T0 + timedelta(seconds=120))
    assert await city.events() == ["raised", "cleared"]
    after = await city.evaluator.evaluate(NO_DATABASE, [seen(tank, 180, level=70)], now=T0)
    assert after.happenings == (), "the cache has let go of it"


async def test_alarm_that_comes_back_before_anyone_took_it_is_the_same_alarm(city: City) -> None:
    tank = await city.device("tank-1")
    await city.flush(seen(tank, 0, level=91), seen(tank, 60, level=50), seen(tank, 120, level=95))
    (alarm,) = await city.alarms()
    assert (alarm.state, alarm.value, alarm.cleared_at) == (AlarmState.UNACKNOWLEDGED, 95.0, None)
    assert alarm.raised_at == T0 + timedelta(seconds=120)
    assert await city.events() == ["raised", "cleared", "raised"]


async def test_acknowledged_alarm_closes_when_it_returns_and_the_next_is_a_new_one(city: City) -> None:
    tank = await city.device("tank-1")
    await city.flush(seen(tank, 0, level=91))
    await take(city, (await city.alarms())[0].id)
    await city.flush(seen(tank, 60, level=50), seen(tank, 120, level=95), seen(tank, 180, level=50))
    assert [alarm.state for alarm in await city.alarms()] == ["closed", "returned"]
    assert await city.events() == ["raised", "acknowledged", "cleared", "closed", "raised", "cleared"]


async def test_batch_in_disorder_is_judged_in_time_order(city: City) -> None:
    tank = await city.device("tank-1")
    await city.flush(seen(tank, 120, level=50), seen(tank, 0, level=50), seen(tank, 60, level=91))
    assert await city.events() == ["raised", "cleared"]


async def test_redelivered_batch_makes_no_second_event(city: City) -> None:
    tank, detector = await city.device("tank-1"), await city.device("fire-1", "detector")
    batch = [seen(tank, 0, level=91), seen(tank, 60, level=50)]
    batch += [smoke(detector, 0), smoke(detector, 30), smoke(detector, 60, smoke=False)]
    await city.flush(*batch)
    before = await city.events()
    await city.flush(*batch)
    await city.restart()
    await city.flush(*batch)
    assert await city.events() == before
    for alarm in await city.alarms():
        await take(city, alarm.id)
    closed = await city.events()
    await city.flush(*batch)
    assert await city.events() == closed
    assert [alarm.state for alarm in await city.alarms()] == ["closed", "closed"]


async def test_late_reading_changes_nothing(city: City) -> None:
    tank = await city.device("tank-1")
    await city.flush(seen(tank, 600, level=50))
    await city.flush(at(tank, 540, 660, level=95))
    assert await city.alarms() == []
    await city.flush(seen(tank, 700, level=95))
    await city.flush(at(tank, 650, 720, level=10))
    assert [alarm.state for alarm in await city.alarms()] == ["unacknowledged"]


async def test_late_fire_raises_once_marked_late(city: City) -> None:
    detector = await city.device("fire-1", "detector")
    await city.flush(smoke(detector, 600, smoke=False))
    await city.flush(smoke(detector, 540, 660))
    await city.flush(smoke(detector, 540, 720), smoke(detector, 530, 720))
    (alarm,) = await city.alarms()
    assert (alarm.late, alarm.state, alarm.raised_at) == (True, AlarmState.UNACKNOWLEDGED, T0 + timedelta(seconds=540))
    await take(city, alarm.id)
    assert [alarm.state for alarm in await city.alarms()] == ["closed"], "its condition was over when it came"
    await city.flush(smoke(detector, 540, 900))
    assert await city.events() == ["raised", "acknowledged", "cleared", "closed"]


async def test_late_conflicting_fire_raises_once(city: City) -> None:
    detector = await city.device("fire-1", "detector")
    await city.flush(smoke(detector, 0, smoke=False))
    for _ in range(2):
        await city.flush(smoke(detector, 0))
        for alarm in await city.alarms(open_only=True):
            assert alarm.late
            await take(city, alarm.id)
    assert len(await city.alarms()) == 1


async def test_correction_to_fire_raises_late(city: City) -> None:
    detector = await city.device("fire-1", "detector")
    await city.flush(smoke(detector, 0, smoke=False))
    await city.flush(smoke(detector, 0, correction=True))
    assert [(alarm.late, alarm.state) for alarm in await city.alarms()] == [(True, "unacknowledged")]


async def test_device_whose_clock_is_fast_is_judged_by_arrival(city: City) -> None:
    tank = await city.device("tank-1")
    fast = 300
    for second, level in ((0, 50), (60, 91), (120, 50)):
        await city.flush(at(tank, second + fast, second, level=level))
    assert await city.events() == ["raised", "cleared"]
    await city.flush(at(tank, 60 + fast, 180, level=91))
    assert await city.events() == ["raised", "cleared"], "a redelivery keeps its first arrival"


@pytest.mark.parametrize("quality", [Quality.CALIBRATION, Quality.BAD])
async def test_rows_of_calibration_and_bad_quality_are_not_judged(city: City, quality: Quality) -> None:
    tank = await city.device("tank-1")
    await city.flush(at(tank, 0, 0, level=95, quality=quality))
    assert await city.alarms() == []
    await city.flush(at(tank, 60, 60, level=95, quality=Quality.UNCERTAIN))
    await city.flush(at(tank, 120, 120, level=5, quality=quality))
    assert [alarm.state for alarm in await city.alarms()] == ["unacknowledged"]


async def test_value_out_of_range_is_not_judged(city: City) -> None:
    tank = await city.device("tank-1")
    await city.flush(at(tank, 0, 0, level=999.0, valve="stuck", bad=city.bit("tank", "level")))
    assert [alarm.rule for alarm in await city.alarms()] == ["tank.stuck"]


async def test_implausible_value_of_a_detector_is_a_fault(city: City) -> None:
    detector = await city.device("fire-1", "detector")
    hot, co = city.bit("detector", "temperature"), city.bit("detector", "co")
    await city.flush(smoke(detector, 0, smoke=False, temperature=900.0, bad=hot))
    (alarm,) = await city.alarms()
    assert (alarm.rule, alarm.severity, alarm.metric, alarm.value) == (
        "detector.implausible",
        Severity.HIGH,
        "temperature",
        900.0,
    )
    assert alarm.title.en == "Detector fault: implausible value"
    await city.flush(smoke(detector, 60, smoke=False))
    await city.flush(smoke(detector, 120, smoke=False, temperature=20.0, co=-5.0, bad=co))
    assert (await city.alarms())[0].state == "unacknowledged", "nothing, or still nonsense"
    await city.flush(smoke(detector, 180, smoke=False, temperature=20.0))
    assert [alarm.state for alarm in await city.alarms()] == ["returned"]


async def test_enum_is_compared_by_name_and_shown_as_its_number(city: City) -> None:
    tank = await city.device("tank-1")
    await city.flush(seen(tank, 0, valve="stuck"))
    await city.flush(seen(tank, 0, valve="stuck"))
    assert [(alarm.value, alarm.threshold) for alarm in await city.alarms()] == [(2.0, None)]
    await city.flush(seen(tank, 60, valve="open"))
    assert await city.events() == ["raised", "cleared"]


async def test_simulated_device_gives_a_simulated_alarm(city: City) -> None:
    detector = await city.device("fire-1", "detector", simulated=True)
    await city.flush(smoke(detector, 0, simulated=True))
    assert [alarm.simulated for alarm in await city.alarms()] == [True]


async def test_latched_alarm_stays_until_acknowledged_and_normal(city: City) -> None:
    first, second = await city.device("fire-1", "detector"), await city.device("fire-2", "detector")
    await city.flush(smoke(first, 0), smoke(second, 0))
    await city.flush(smoke(first, 60, smoke=False))
    assert [(alarm.state, alarm.cleared_at) for alarm in await city.alarms()] == [("unacknowledged", None)] * 2
    for alarm in await city.alarms():
        await take(city, alarm.id)
    assert [alarm.state for alarm in await city.alarms()] == ["closed", "acknowledged"]
    await city.flush(smoke(second, 120, smoke=False))
    assert [alarm.state for alarm in await city.alarms()] == ["closed", "closed"]


async def test_fire_seen_again_tells_again_while_nobody_took_it(city: City) -> None:
    detector = await city.device("fire-1", "detector")
    await city.flush(smoke(detector, 0), smoke(detector, 60, smoke=False), smoke(detector, 120))
    assert await city.events() == ["raised", "returned", "raised"]
    assert len(await city.alarms()) == 1


@pytest.mark.parametrize("before", ["nothing", "an earlier alarm", "this alarm"])
async def test_two_workers_at_the_same_source_make_one_change(city: City, before: str) -> None:
    tank, other = await city.device("tank-1"), City(city.pool, city.tables)
    if before != "nothing":
        await city.flush(seen(tank, -60, level=91))
    if before == "an earlier alarm":
        await take(city, (await city.alarms())[0].id)
        await city.flush(seen(tank, -30, level=10))
    await other.restart()
    events = await city.events()
    level = 10 if before == "this alarm" else 91
    async with city.pool.acquire() as first, city.pool.acquire() as second:
        transaction = first.transaction()
        await transaction.start()
        pending = await city.evaluator.evaluate(first, [seen(tank, 0, level=level)], now=T0)
        assert len(pending.happenings) == 1
        waiting = asyncio.create_task(other.flush(seen(tank, 1, level=level), on=second))
        await until_blocked(city.pool)
        await transaction.commit()
        city.evaluator.committed(pending)
        assert not (await waiting).happenings
    assert await city.events() == [*events, "cleared" if before == "this alarm" else "raised"]


BLOCKED = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0
"""


async def until_blocked(pool: asyncpg.Pool) -> None:
    """Wait until a statement waits for another transaction."""
    async with asyncio.timeout(20):
        while not await pool.fetchval(BLOCKED):
            await asyncio.sleep(0.01)


async def test_many_workers_in_any_order_neither_double_nor_deadlock(city: City) -> None:
    detectors = [await city.device(f"fire-{number}", "detector") for number in range(20)]
    workers = [City(city.pool, city.tables) for _ in range(4)]

    async def work(number: int, worker: City) -> None:
        mine = detectors if number % 2 else detectors[::-1]
        for second in range(3):
            async with city.pool.acquire() as connection, connection.transaction():
                await worker.evaluator.evaluate(
                    connection, [smoke(each, second + number / 10) for each in mine], now=T0
                )

    await asyncio.gather(*(work(number, worker) for number, worker in enumerate(workers)))
    assert await city.events() == ["raised"] * 20


async def test_worker_learns_what_others_opened(city: City) -> None:
    tank = await city.device("tank-1")
    other = City(city.pool, city.tables)
    await other.flush(seen(tank, 0, level=91))
    async with city.pool.acquire() as connection:
        await city.evaluator.refresh(connection)
    await city.flush(seen(tank, 60, level=50))
    assert [alarm.state for alarm in await city.alarms()] == ["returned"]


async def test_pending_rule_is_raised_by_the_reading_after_its_delay(city: City) -> None:
    tank = await city.device("tank-1")
    await city.flush(seen(tank, 0, pressure=0.5))
    assert (await city.state(tank, "tank.dry"), await city.alarms()) == ("pending", [])
    await city.restart()
    await city.flush(seen(tank, 400, pressure=3.0))
    (alarm,) = await city.alarms()
    assert (alarm.raised_at, alarm.value, alarm.state) == (T0 + timedelta(seconds=300), 0.5, "returned")


async def test_pending_rule_is_dropped_when_the_condition_goes(city: City) -> None:
    tank = await city.device("tank-1")
    await city.flush(seen(tank, 0, pressure=0.5), seen(tank, 60, pressure=3.0))
    await city.flush(seen(tank, 400, pressure=0.9))
    assert (await city.state(tank, "tank.dry"), await city.alarms()) == ("pending", [])


async def test_device_that_is_gone_from_the_registry_harms_nobody(city: City) -> None:
    tank = await city.device("tank-1")
    await city.flush(seen(tank, 0, level=91), seen(tank + 1000, 0, level=91))
    assert [alarm.device_id for alarm in await city.alarms()] == [tank]
