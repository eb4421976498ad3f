"""What happens inside incidents and after them: nothing that stands is told to nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iot_core.alarms.escalation import walk
from iot_core.alarms.lifecycle import list_alarms
from iot_core.model import Severity
from iot_core.push import chains
from iot_core.push.chain import Chain, Step
from iot_core.push.targets import add
from iot_core.registry.windows import Kind, Window
from tests.alarms.city import MINUTE, SECOND, T0, City, seen
from tests.alarms.test_deeds import look, take

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iot_core.alarms.alarm import AlarmRow

TOLD = """
SELECT o.body->>'type' AS type, o.body->'data'->'alarm'->>'rule' AS rule, o.body->'data'->'device'->>'key' AS device
FROM iot.outbox o JOIN iot.push_target t ON t.id = o.target_id WHERE t.key = 'ioc' ORDER BY o.id
"""
MANY = 25


async def district(city: City, many: int = MANY, *, simulated: bool = False) -> list[int]:
    """Let so many tanks stand in the one district, and a center hear of it."""
    async with city.pool.acquire() as connection:
        if not await connection.fetchval("SELECT EXISTS (SELECT FROM iot.push_target)"):
            await add(connection, "ioc", "http://127.0.0.1:9/", allow_private=True)
            await connection.execute("INSERT INTO iot.area (key, name) VALUES ('district', 'District')")
    first = await city.pool.fetchval("SELECT count(*) FROM iot.device")
    tanks = [await city.device(f"tank-{first + number}", simulated=simulated) for number in range(many)]
    await city.pool.execute("UPDATE iot.device SET area_id = (SELECT id FROM iot.area)")
    return tanks


async def high(city: City, tanks: Sequence[int], second: int, level: float = 90, *, simulated: bool = False) -> None:
    city.now = T0 + second * SECOND
    await city.flush(*(seen(tank, second, level=level, simulated=simulated) for tank in tanks))


async def told(city: City) -> list[tuple[str, str, str | None]]:
    """Give what the center was told since this was asked last."""
    rows = [tuple(row) for row in await city.pool.fetch(TOLD)]
    await city.pool.execute("DELETE FROM iot.outbox")
    return rows


async def shown(city: City) -> list[AlarmRow]:
    async with city.pool.acquire() as connection:
        return await list_alarms(connection)


async def over(city: City, tanks: Sequence[int]) -> None:
    """Let a storm come and go, and nobody take it."""
    await high(city, tanks, 0)
    await high(city, tanks, 60, 10)
    await look(city, T0 + 5 * MINUTE)
    (incident,) = await shown(city)
    assert (incident.rule, incident.state) == ("incident.tank.high", "returned")
    await told(city)


async def test_what_rings_after_an_incident_that_nobody_took_is_told_by_itself(city: City) -> None:
    tanks = await district(city)
    await over(city, tanks)
    await high(city, tanks[:1], 3600)
    assert await told(city) == [("alarm.raised", "tank.high", "tank-0")]
    assert {each.rule for each in await shown(city)} == {"tank.high", "incident.tank.high"}


async def test_second_storm_after_one_that_nobody_took_is_told(city: City) -> None:
    tanks = await district(city)
    await over(city, tanks)
    await high(city, tanks, 3600)
    assert await told(city) == [("alarm.raised", "incident.tank.high", None)]
    (incident,) = await shown(city)
    assert (incident.state, incident.members) == ("unacknowledged", MANY)


async def test_what_rang_while_its_incident_was_found_over_is_told_at_the_next_look(city: City) -> None:
    tanks = await district(city)
    await over(city, tanks)
    await city.flush(seen(tanks[0], 3600, level=90))
    await city.pool.execute(
        "UPDATE iot.alarm SET incident_id = (SELECT max(incident_id) FROM iot.alarm), suppressed_by = 'incident:1'"
        " WHERE cleared_at IS NULL"
    )
    await told(city)
    await look(city, T0 + 3605 * SECOND)
    assert await told(city) == [("alarm.raised", "tank.high", "tank-0")]


async def test_one_that_rang_before_the_flood_was_known_is_as_quiet_inside_as_the_others(city: City) -> None:
    tanks = await district(city)
    await high(city, tanks[:5], 0)
    await high(city, tanks[5:], 10)
    await high(city, tanks[:1], 20, 10)
    await told(city)
    await high(city, tanks[:1], 30)
    assert await told(city) == []


async def test_chain_of_one_that_went_into_an_incident_rings_nobody(city: City) -> None:
    tanks = await district(city)
    async with city.pool.acquire() as connection:
        await chains.add(connection, "all", Chain(steps=(Step(after_s=60, target="ioc"),)), min_severity=Severity.LOW)
        await high(city, tanks[:5], 0)
        await high(city, tanks[5:], 10)
        await told(city)
        await connection.execute("UPDATE iot.escalation SET due_at = $1", T0 + MINUTE)
        await walk(connection, T0 + 2 * MINUTE)
    assert await told(city) == [("alarm.escalated", "incident.tank.high", None)]


async def stepped(city: City) -> None:
    """Let the rule have a step at which it is critical."""
    body = {"steps": [{"at": 95, "severity": "critical"}]}
    await city.pool.execute(
        "INSERT INTO iot.alarm_rule (rule, class_key, body, by) VALUES ('tank.high', 'tank', $1, 'lan')", body
    )
    async with city.pool.acquire() as connection:
        await city.evaluator.load(connection)


async def test_alarm_inside_an_incident_that_becomes_critical_is_told_by_itself(city: City) -> None:
    tanks = await district(city)
    await stepped(city)
    await high(city, tanks, 0)
    await told(city)
    await high(city, tanks[:1], 10, 97)
    assert await told(city) == [("alarm.severity", "tank.high", "tank-0")]
    assert ("tank.high", "critical") in {(each.rule, each.severity) for each in await shown(city)}


async def test_alarm_that_becomes_critical_in_the_very_batch_of_a_flood_is_told(city: City) -> None:
    tanks = await district(city)
    await stepped(city)
    await high(city, tanks[1:], 0)
    await told(city)
    city.now = T0 + 20 * SECOND
    await city.flush(seen(tanks[0], 10, level=90), seen(tanks[0], 20, level=97))
    assert await told(city) == [("alarm.raised", "tank.high", "tank-0"), ("alarm.severity", "tank.high", "tank-0")]


async def test_work_at_a_whole_street_is_no_flood(city: City) -> None:
    tanks = await district(city)
    work = Window(7, Kind.MAINTENANCE, T0, T0 + 10 * MINUTE)
    city.evaluator.window = lambda _, at: work if work.covers(at) else None
    await high(city, tanks, 10)
    assert (await told(city), await shown(city)) == ([], [])


async def test_what_is_simulated_takes_nothing_real_inside(city: City) -> None:
    simulated = await district(city, simulated=True)
    real = await district(city)
    await high(city, simulated, 0, simulated=True)
    assert await told(city) == []
    await high(city, real[:1], 5)
    assert await told(city) == [("alarm.raised", "tank.high", f"tank-{MANY}")]
    await high(city, real[1:], 10)
    assert await told(city) == [("alarm.raised", "incident.tank.high", None)]
    await high(city, simulated[:1], 60, 10, simulated=True)
    await high(city, simulated[:1], 70, simulated=True)
    assert await told(city) == []


async def test_who_takes_an_incident_has_seen_what_is_inside(city: City) -> None:
    tanks = await district(city)
    await high(city, tanks, 0)
    incident = next(each for each in await shown(city) if each.members)
    await take(city, incident.id)
    await look(city, T0 + MINUTE)
    seen_by = await city.pool.fetch("SELECT alarm_id, by FROM iot.alarm_seen WHERE alarm_id <> $1", incident.id)
    assert [row["by"] for row in seen_by] == ["lan"] * MANY
