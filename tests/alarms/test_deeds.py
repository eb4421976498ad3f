"""What people do with alarms, and what ends by itself."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from iot_core.alarms.alarm import AlarmRow, AlarmState
from iot_core.alarms.deeds import Asked, Deed, act
from iot_core.alarms.figures import handover, kpis
from iot_core.alarms.flood import Part, flooded
from iot_core.alarms.lifecycle import acknowledge, list_alarms
from iot_core.errors import ConflictError, RequestError
from iot_core.push.receipts import prove
from iot_core.push.targets import add
from iot_core.registry.windows import Kind, Window
from tests.alarms.city import MINUTE, SECOND, T0, City, seen, smoke

if TYPE_CHECKING:
    from collections.abc import Awaitable

HOUR = timedelta(hours=1)


async def do(city: City, alarm_id: int, deed: Deed, **more: Any) -> AlarmRow:
    asked = Asked(**{"deed": deed, "by": "lan", "now": city.now, **more})
    async with city.pool.acquire() as connection:
        return await act(connection, alarm_id, asked)


async def take(city: City, alarm_id: int, **more: Any) -> AlarmRow:
    async with city.pool.acquire() as connection:
        return await acknowledge(connection, alarm_id, by="lan", now=city.now, **more)


async def pushed(city: City) -> list[str]:
    return [row["type"] for row in await city.pool.fetch("SELECT body->>'type' AS type FROM iot.outbox ORDER BY id")]


async def look(city: City, at: datetime) -> None:
    city.now = at
    await city.timers().look(healthy=True)


async def raised(city: City) -> int:
    async with city.pool.acquire() as connection:
        await add(connection, "ioc", "http://127.0.0.1:9/", allow_private=True)
    await city.flush(seen(await city.device("tank-1"), 0, level=90))
    (alarm,) = await city.alarms()
    return alarm.id


async def test_wrong_click_is_undone_and_rings_for_the_next_person(city: City) -> None:
    alarm = await raised(city)
    await take(city, alarm)
    back = await do(city, alarm, Deed.UNDO)
    assert (back.state, back.acknowledged_by) == (AlarmState.UNACKNOWLEDGED, None)
    with pytest.raises(ConflictError):
        await do(city, alarm, Deed.UNDO)
    assert await pushed(city) == ["alarm.raised", "alarm.acknowledged", "alarm.reopened"]


async def test_undone_acknowledgement_of_a_latched_alarm_makes_it_active_again(city: City) -> None:
    detector = await city.device("fire-1", "detector")
    await city.flush(smoke(detector, 0), smoke(detector, 60, smoke=False))
    (alarm,) = await city.alarms()
    await take(city, alarm.id)
    assert (await do(city, alarm.id, Deed.UNDO)).state is AlarmState.UNACKNOWLEDGED


async def test_word_about_an_old_alarm_leaves_the_new_one_shelved(city: City) -> None:
    old = await raised(city)
    await take(city, old)
    await city.flush(seen(1, 60, level=10), seen(1, 120, level=95))
    await do(city, old + 1, Deed.OUT_OF_SERVICE, note="tower is rebuilt")
    await do(city, old, Deed.COMMENT, note="it was the pump")
    assert await city.pool.fetchval("SELECT count(*) FROM iot.shelf") == 1


async def test_each_assignment_is_undone_to_the_one_before_it_and_tells_nobody_outside(city: City) -> None:
    alarm = await raised(city)
    for before, name in ((None, "an"), (None, "binh"), ("an", None)):
        if before is not None:
            await do(city, alarm, Deed.ASSIGN, to=before)
        assert (await do(city, alarm, Deed.ASSIGN, to=name)).assigned_to == name
        assert (await do(city, alarm, Deed.UNDO)).assigned_to == before
    assert await pushed(city) == ["alarm.raised"]


async def test_undone_shelving_rings_as_one_that_is_over(city: City) -> None:
    alarm = await raised(city)
    await do(city, alarm, Deed.SHELVE, note="pump is out", until=city.now + HOUR)
    assert (await do(city, alarm, Deed.UNDO)).shelved_until is None
    assert await pushed(city) == ["alarm.raised", "alarm.shelved", "alarm.raised"]


async def test_shelving_that_has_ended_is_not_undone_and_rings_once(city: City) -> None:
    alarm = await raised(city)
    await do(city, alarm, Deed.SHELVE, note="pump is out", until=city.now + HOUR)
    await do(city, alarm, Deed.UNSHELVE)
    with pytest.raises(ConflictError):
        await do(city, alarm, Deed.UNDO)
    assert await pushed(city) == ["alarm.raised", "alarm.shelved", "alarm.raised"]


async def test_first_acknowledgement_counts_also_after_the_alarm_was_opened_again(city: City) -> None:
    alarm = await raised(city)
    city.now = T0 + SECOND
    await take(city, alarm)
    await do(city, alarm, Deed.UNDO)
    assert await first_taken(city) is None
    city.now = T0 + MINUTE
    await take(city, alarm)
    await city.flush(seen(1, 60, level=10))
    await do(city, alarm, Deed.REOPEN)
    assert await first_taken(city) == T0 + MINUTE
    city.now = T0 + HOUR
    await take(city, alarm)
    assert await first_taken(city) == T0 + MINUTE
    (took,) = await city.pool.fetch("SELECT acknowledged_by, took FROM iot.alarm_kpi_answer")
    assert took["acknowledged_by"] == "lan"
    recorded = "SELECT recorded_at FROM iot.alarm_event WHERE kind = 'raised'"
    assert took["took"] == T0 + MINUTE - await city.pool.fetchval(recorded)


async def first_taken(city: City) -> datetime | None:
    async with city.pool.acquire() as connection:
        made = await connection.fetchval("SELECT recorded_at FROM iot.alarm")
        (row,) = await prove(connection, made.date(), "UTC")
    found: datetime | None = row["acknowledged_at"]
    return found


async def test_two_operators_at_once_change_an_alarm_once(city: City) -> None:
    alarm = await raised(city)
    each: list[Awaitable[AlarmRow]] = [do(city, alarm, Deed.ASSIGN, to=name, version=1) for name in ("an", "binh")]
    said = await asyncio.gather(*each, return_exceptions=True)
    assert sorted(type(one).__name__ for one in said) == ["AlarmRow", "ConflictError"]


async def test_alarm_closes_with_its_cause_only_when_its_condition_is_gone(city: City) -> None:
    alarm = await raised(city)
    with pytest.raises(RequestError, match=r"alarm\.say_cause"):
        await do(city, alarm, Deed.CLOSE)
    with pytest.raises(ConflictError):
        await do(city, alarm, Deed.CLOSE, note="pump")
    await city.flush(seen(1, 60, level=10))
    closed = await do(city, alarm, Deed.CLOSE, note="pump")
    assert (closed.state, closed.cause) == (AlarmState.CLOSED, "pump")
    assert (await do(city, alarm, Deed.REOPEN)).state is AlarmState.RETURNED
    assert (await do(city, alarm, Deed.CLOSE, note="valve")).cause == "valve"
    await city.flush(seen(1, 120, level=95))
    with pytest.raises(ConflictError):
        await do(city, alarm, Deed.REOPEN)


async def test_empty_comment_is_refused_with_a_sentence_of_its_own(city: City) -> None:
    tank = await city.device("tank-1")
    await city.flush(seen(tank, 0, level=91))
    [alarm] = await city.alarms()
    async with city.pool.acquire() as connection:
        with pytest.raises(RequestError, match=r"alarm\.say_comment"):
            await act(connection, alarm.id, Asked(deed=Deed.COMMENT, by="lan", now=T0, note=" "))


async def test_alarm_that_comes_back_after_it_was_acknowledged_rings_again(city: City) -> None:
    alarm = await raised(city)
    await take(city, alarm)
    await city.flush(seen(1, 60, level=10))
    await city.flush(seen(1, 120, level=95))
    assert await pushed(city) == ["alarm.raised", "alarm.acknowledged", "alarm.cleared", "alarm.raised"]


async def test_shelved_alarm_is_off_the_list_and_rings_when_the_time_is_over(city: City) -> None:
    alarm = await raised(city)
    with pytest.raises(RequestError):
        await do(city, alarm, Deed.SHELVE, note="pump is out")
    until = datetime.now(T0.tzinfo) + HOUR
    await do(city, alarm, Deed.SHELVE, note="pump is out", until=until)
    async with city.pool.acquire() as connection:
        assert await list_alarms(connection) == []
        assert [each.id for each in await list_alarms(connection, quiet=True)] == [alarm]
    await city.flush(seen(1, 60, level=10))
    await city.flush(seen(1, 120, level=95))
    assert await pushed(city) == ["alarm.raised", "alarm.shelved", "alarm.cleared"]
    await look(city, until + MINUTE)
    assert (await pushed(city))[3:] == ["alarm.raised"]
    await do(city, alarm, Deed.OUT_OF_SERVICE, note="tower is rebuilt")
    await look(city, until + timedelta(days=4000))
    assert len(await pushed(city)) == 5


async def test_maintenance_keeps_quiet_and_what_still_stands_at_its_end_rings(city: City) -> None:
    work = Window(7, Kind.MAINTENANCE, T0, T0 + HOUR)
    city.evaluator.window = lambda _, at: work if work.covers(at) else None
    alarm = await raised(city)
    await city.flush(seen(await city.device("tank-2"), 0, level=90))
    await city.flush(seen(2, 60, level=10))
    assert await pushed(city) == []
    await look(city, T0 + HOUR + SECOND)
    assert await pushed(city) == ["alarm.raised"]
    assert [(each.id, each.state) for each in await city.alarms()] == [
        (alarm, AlarmState.UNACKNOWLEDGED),
        (alarm + 1, AlarmState.CLOSED),
    ]


async def test_test_alarm_is_marked_and_ends_with_the_test(city: City) -> None:
    work = Window(7, Kind.TEST, T0, T0 + HOUR)
    city.evaluator.window = lambda _, at: work if work.covers(at) else None
    await city.flush(smoke(await city.device("smoke-1", "detector"), 0))
    assert [each.test for each in await city.alarms()] == [True]
    await city.flush(smoke(1, 60, smoke=False))
    await look(city, T0 + HOUR + SECOND)
    assert [each.state for each in await city.alarms()] == [AlarmState.CLOSED]


async def test_a_fire_right_after_a_walk_test_is_no_test(city: City) -> None:
    work = Window(7, Kind.TEST, T0, T0 + HOUR)
    city.evaluator.window = lambda _, at: work if work.covers(at) else None
    async with city.pool.acquire() as connection:
        await add(connection, "ioc", "http://127.0.0.1:9/", allow_private=True)
    await city.flush(smoke(await city.device("smoke-1", "detector"), 0))
    await city.flush(smoke(1, 60, smoke=False))
    await city.flush(smoke(1, 3601))  # before anybody looked whether the test is over
    tests = await city.pool.fetch("SELECT body->'data'->'alarm'->'test' AS test FROM iot.outbox ORDER BY id")
    assert [row["test"] for row in tests] == [False], "only the fire is told"
    assert [each.test for each in await city.alarms()] == [False]


@pytest.mark.parametrize("kind", [Kind.MAINTENANCE, Kind.TEST])
async def test_a_fire_that_nobody_took_is_not_taken_back_by_work_that_begins_later(city: City, kind: Kind) -> None:
    work = Window(7, kind, T0 + HOUR, T0 + 2 * HOUR)
    city.evaluator.window = lambda _, at: work if work.covers(at) else None
    async with city.pool.acquire() as connection:
        await add(connection, "ioc", "http://127.0.0.1:9/", allow_private=True)
    await city.flush(smoke(await city.device("smoke-1", "detector"), 0))
    await city.flush(smoke(1, 60, smoke=False))  # latched: it stands until somebody takes it
    await city.flush(smoke(1, 3700))
    await city.flush(smoke(1, 3800, smoke=False))
    await look(city, T0 + 2 * HOUR + SECOND)
    (alarm,) = await city.alarms()
    assert (alarm.state, alarm.suppressed_by, alarm.test) == (AlarmState.UNACKNOWLEDGED, None, False)
    assert await pushed(city) == ["alarm.raised", "alarm.raised"]


async def flood(city: City, many: int) -> list[int]:
    async with city.pool.acquire() as connection:
        await add(connection, "ioc", "http://127.0.0.1:9/", allow_private=True)
        await add(connection, "tanks", "http://127.0.0.1:9/", allow_private=True, classes=["tank"])
    area = await city.pool.fetchval("INSERT INTO iot.area (key, name) VALUES ('district', 'District') RETURNING id")
    tanks = [await city.device(f"tank-{number}") for number in range(many)]
    fire = await city.device("smoke-1", "detector")
    await city.pool.execute("UPDATE iot.device SET area_id = $1", area)
    readings = [seen(tank, 0, level=90) for tank in tanks]
    await city.flush(*readings[: many // 2])
    await city.flush(*readings[many // 2 :], smoke(fire, 0))
    return tanks


TOLD = """
SELECT t.key, o.body->'data'->'alarm'->>'rule' AS rule, o.body->'data'->'device'->>'area' AS area,
    o.body->'data'->'alarm'->'runbook'->>'en' AS runbook
FROM iot.outbox o JOIN iot.push_target t ON t.id = o.target_id WHERE o.body->>'type' = 'alarm.raised' ORDER BY 1, 2
"""


async def test_storm_becomes_one_incident_and_a_fire_stays_outside(city: City) -> None:
    tanks = await flood(city, 60)
    async with city.pool.acquire() as connection:
        shown = await list_alarms(connection)
        incident = next(each for each in shown if each.rule.startswith("incident."))
        inside = await list_alarms(connection, incident=incident.id)
    assert {each.rule for each in shown} == {"incident.tank.high", "detector.smoke"}
    assert (len(inside), incident.members, incident.area_key) == (60, 60, "district")
    told = await city.pool.fetch(TOLD)
    assert [(row["key"], row["rule"]) for row in told] == [
        ("ioc", "detector.smoke"), ("ioc", "incident.tank.high"), ("tanks", "incident.tank.high"),
    ]  # fmt: skip
    assert {row["area"] for row in told} == {"district"}
    assert [row["runbook"] for row in told] == [None, "Shut the valve", "Shut the valve"]
    await take(city, incident.id)
    await city.flush(*(seen(tank, 60, level=10) for tank in tanks))
    await look(city, T0 + 5 * MINUTE)
    left = {each.rule for each in await city.alarms(open_only=True)}
    assert left == {"detector.smoke"}


async def test_storm_over_many_communes_is_one_incident_of_their_province(city: City) -> None:
    insert = "INSERT INTO iot.area (key, name, kind, parent_id) VALUES ($1, $1, $2, $3) RETURNING id"
    province = await city.pool.fetchval(insert, "p", "province", None)
    tanks = [await city.device(f"tank-{number}") for number in range(6 * 18)]
    for commune in range(6):
        area = await city.pool.fetchval(insert, f"c{commune}", "commune", province)
        await city.pool.execute("UPDATE iot.device SET area_id = $1 WHERE id = ANY($2)", area, tanks[commune::6])
    await city.flush(*(seen(tank, 0, level=90) for tank in tanks))
    async with city.pool.acquire() as connection:
        (incident,) = await list_alarms(connection)
    assert (incident.rule, incident.area_key, incident.members) == ("incident.tank.high", "p", 108)


def test_cause_is_of_its_part_of_the_city_until_it_reaches_many_parts() -> None:
    near = {device: Part(1 + device % 3, 9) for device in range(300)}
    far = {device: Part(1 + device % 100, 9) for device in range(300)}
    assert flooded(near) == {device: part.id for device, part in near.items()}, "three parts, three causes"
    assert flooded(far) == dict.fromkeys(far, 9), "a hundred parts, one cause"
    assert flooded({device: far[device] for device in range(100)}) == {}, "a hundred single ones are no storm yet"
    alone = {device: Part(device % 100, None) for device in range(300)}
    assert flooded(alone) == {}, "nothing is around them"
    one = {1000 + device: Part(50, 9) for device in range(30)}
    some = {device: far[device] for device in range(60)}
    assert flooded(some | one) == dict.fromkeys([*one, *(d for d, part in some.items() if part.id == 50)], 50)


async def test_what_was_raised_while_it_was_kept_quiet_is_counted_once_it_rings(city: City) -> None:
    alarm = await raised(city)
    told = "INSERT INTO iot.alarm_event (alarm_id, kind, at) VALUES ($1, $2, $3)"
    rang = "SELECT at FROM iot.alarm_rang ORDER BY at"
    steps = (
        "unsuppressed",
        "raised",
        "suppressed",
        "raised",
        "unsuppressed",
        "raised",
        "shelved",
        "raised",
        "unshelved",
    )
    for minute, kind in enumerate(steps, 1):
        await city.pool.execute(told, alarm, kind, T0 + minute * MINUTE)
    # Raised in maintenance, rung at its end, raised inside an incident, rung at its end, raised while shelved.
    assert [row["at"] for row in await city.pool.fetch(rang)] == [T0 + 2 * MINUTE, T0 + 6 * MINUTE]


async def test_shift_is_handed_over_with_who_saw_what(city: City) -> None:
    alarm = await raised(city)
    await city.pool.execute("INSERT INTO iot.alarm_seen (alarm_id, by) VALUES ($1, 'minh')", alarm)
    await do(city, alarm, Deed.ASSIGN, to="binh")
    async with city.pool.acquire() as connection:
        report = await handover(connection, by="lan", to="minh", since=None, note=None)
        figures = await kpis(connection, T0 - HOUR, T0 + HOUR)
    assert [(each["seen_by"], each["assigned_to"]) for each in report["open"]] == [(["minh"], "binh")]
    assert (report["unseen"], report["deeds"]) == ([], {"lan": 1})
    assert (figures["alarms"], figures["by_severity"], figures["standing"]) == (1, {"high": 1}, 1)
    assert await city.pool.fetchval("SELECT report->>'by' FROM iot.handover") == "lan"
