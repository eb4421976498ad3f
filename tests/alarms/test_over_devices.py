"""Rules over devices: whose alarm it is, an area's or a gateway's, which change of the rule holds there."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from iot_core.alarms.book import RuleBook, read_body
from iot_core.alarms.changes import change_rule, where_of
from iot_core.alarms.lifecycle import list_alarms
from iot_core.alarms.times import Times
from iot_core.alarms.trial import Trial, part_of
from iot_core.errors import ConfigError, RequestError
from iot_core.model import Severity
from iot_core.registry import found as devices
from tests.alarms.city import MINUTE, SECOND, T0, TANK, City, Knowledge, seen
from tests.alarms.test_language import BASE, area, have, place

OUTAGE: dict[str, Any] = {
    "devices": ["high"], "at_least": 2, "within": "10m", "area_kind": "street", "behind": "detector", "fresh": True,
}  # fmt: skip


async def street_of(city: City, key: str = "street-1") -> int:
    made = await area(city, key)
    await city.pool.execute("UPDATE iot.area SET kind = 'street' WHERE id = $1", made)
    return made


async def tanks_in(city: City, where: int, number: int, **more: Any) -> list[int]:
    first = await city.pool.fetchval("SELECT count(*) FROM iot.device")
    made = [await city.device(f"tank-{first + each}", **more) for each in range(number)]
    for each in made:
        await place(city, each, where)
    return made


async def outage(city: City, kind: str, source: int) -> str | None:
    state = "SELECT state FROM iot.rule_state WHERE (source_kind, source_id, rule) = ($1, $2, 'tank.outage')"
    found: str | None = await city.pool.fetchval(state, kind, source)
    return found


async def shown(city: City) -> list[tuple[str, str | None, int]]:
    async with city.pool.acquire() as connection:
        return sorted((each.rule, each.device_key, each.members) for each in await list_alarms(connection))


async def test_outage_behind_a_gateway_is_one_alarm_of_the_gateway_with_its_devices_inside(city: City) -> None:
    await have(city, "tank.outage", OUTAGE, severity="high")
    street = await street_of(city)
    cabinet = await city.device("cabinet-1", "detector")
    lamps = await tanks_in(city, street, 3, gateway_id=cabinet)
    alone = await tanks_in(city, street, 1)
    await city.flush(seen(lamps[0], 0, level=90), seen(alone[0], 1, level=90))
    assert {each.rule for each in await city.alarms()} == {"tank.high"}, "one of the cabinet and one of the street"
    await city.restart()
    await city.flush(seen(lamps[1], 60, level=90))
    assert await shown(city) == [("tank.high", "tank-4", 0), ("tank.outage", "cabinet-1", 2)]
    async with city.pool.acquire() as connection:
        (row,) = [each for each in await devices.devices(connection, devices.Filter()) if each.key == "cabinet-1"]
        assert row.state == "alarm"
    await city.restart()
    await city.flush(seen(cabinet, 70, class_key="detector", co=1.0), seen(lamps[2], 80, level=90))
    assert ("tank.outage", "cabinet-1", 3) in await shown(city)
    city.now = T0 + 2 * MINUTE
    await city.timers().look(healthy=True)
    assert await outage(city, "device", cabinet) == "active"
    await city.flush(*(seen(each, 130, level=10) for each in lamps))
    assert await outage(city, "device", cabinet) == "normal"


async def test_outage_that_ends_lamp_by_lamp_rings_once(city: City) -> None:
    await have(city, "tank.outage", {**OUTAGE, "at_least": 3})
    cabinet = await city.device("cabinet-1", "detector")
    lamps = await tanks_in(city, await street_of(city), 4, gateway_id=cabinet)
    for second, lamp in enumerate(lamps):
        await city.flush(seen(lamp, second, level=90))
    for second, lamp in enumerate(lamps, 60):
        await city.flush(seen(lamp, second, level=10))
    await city.flush(seen(lamps[0], 80, level=90))  # one alone: the others have recovered
    rang = [each.cleared_at for each in await city.alarms() if each.rule == "tank.outage"]
    assert rang == [T0 + 61 * SECOND]
    assert await outage(city, "device", cabinet) == "normal"


async def test_outage_of_a_gateway_ends_when_nobody_is_behind_it_any_more(city: City) -> None:
    await have(city, "tank.outage", OUTAGE)
    cabinet = await city.device("cabinet-1", "detector")
    await have(city, "detector.smoke", {}, device_id=cabinet, severity="high")  # has rules of its own
    lamps = await tanks_in(city, await street_of(city), 2, gateway_id=cabinet)
    await city.flush(*(seen(each, 0, level=90) for each in lamps))
    city.now = T0 + MINUTE
    await city.timers().withdraw_orphans(city.now)
    assert await outage(city, "device", cabinet) == "active"
    await city.pool.execute("UPDATE iot.device SET gateway_id = NULL")
    await city.timers().withdraw_orphans(city.now)
    assert await outage(city, "device", cabinet) == "normal"


async def test_change_for_an_area_holds_for_a_rule_over_devices(city: City) -> None:
    await have(city, "tank.outage", {**OUTAGE, "behind": None}, severity="high")
    plain, strict, off = [await street_of(city, key) for key in ("plain", "strict", "off")]
    await have(city, "tank.outage", {}, when={"at_least": 3}, severity="low", area_id=strict, **{"for": "1m"})
    await have(city, "tank.outage", {}, enabled=False, area_id=off)
    for street in (plain, strict, off):
        tanks = await tanks_in(city, street, 3)
        await city.flush(seen(tanks[0], 0, level=90), seen(tanks[1], 1, level=90))
    states = [await outage(city, "area", street) for street in (plain, strict, off)]
    assert states == ["active", "normal", None]
    await city.flush(seen(await city.pool.fetchval("SELECT id FROM iot.device WHERE key = 'tank-5'"), 2, level=90))
    assert await outage(city, "area", strict) == "pending"
    city.now = T0 + 2 * MINUTE
    await city.restart()
    await city.timers().fire_due(city.now)
    rang = {each.area_key: each.severity for each in await city.alarms() if each.rule == "tank.outage"}
    assert rang == {"plain": Severity.HIGH, "strict": Severity.LOW}
    await have(city, "tank.outage", {}, enabled=False, area_id=plain)
    await city.timers().withdraw_orphans(city.now)
    assert await outage(city, "area", plain) == "normal", "switched off there"
    assert await outage(city, "area", strict) == "active"


@pytest.mark.parametrize("where", ["label=old", "device=tank-0"])
@pytest.mark.parametrize("body", [{"enabled": False}, {"when": {"at_least": 3}}])
async def test_rule_over_devices_is_changed_for_no_label_and_no_single_device(
    city: City, where: str, body: dict[str, Any]
) -> None:
    await have(city, "tank.outage", OUTAGE)
    await city.device("tank-0")
    async with city.pool.acquire() as connection:
        scope = await where_of(connection, where)
        with pytest.raises(RequestError, match=r"rule\.over_devices"):
            await change_rule(connection, TANK, "tank.outage", scope, body, by="lan")
        with pytest.raises(RequestError, match=r"rule\.over_devices"):
            await change_rule(connection, TANK, "tank.high", scope, {"when": OUTAGE}, by="lan")
        await change_rule(connection, TANK, "tank.high", scope, {"severity": "low"}, by="lan")


async def test_rule_over_devices_is_tried_at_gateways_and_as_it_stands_in_each_area(city: City) -> None:
    await have(city, "tank.outage", OUTAGE)
    cabinet = await city.device("cabinet-1", "detector")
    street, off = await street_of(city), await street_of(city, "off")
    await have(city, "tank.outage", {}, enabled=False, area_id=off)
    groups = [
        await tanks_in(city, street, 2, gateway_id=cabinet),
        await tanks_in(city, street, 2), await tanks_in(city, off, 2),
    ]  # fmt: skip
    await city.flush(*(seen(each, 0, level=90) for group in groups for each in group))
    async with city.pool.acquire() as connection:
        book = RuleBook(Knowledge())
        await book.load(connection)
        watch = book.watch("tank.outage")
        assert watch is not None
        trial = Trial(
            connection=connection, book=book, times=Times(), rule="tank.outage",
            since=T0 - timedelta(hours=1), until=T0 + timedelta(hours=1),
        )  # fmt: skip
        sources: list[str] = []
        place: int | None = None
        while True:
            part = await part_of(connection, watch, None, place, 1)
            sources += [each.source for each in await trial.at(part)]
            if (place := part.place) is None:
                break
    assert sorted(sources) == ["cabinet-1", "street-1"]
    rang = [(each.device_key if each.source_kind == "device" else each.area_key) for each in await city.alarms()
            if each.rule == "tank.outage"]  # fmt: skip
    assert sorted(map(str, rang)) == ["cabinet-1", "street-1"]


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"hysteresis": -3}, "hysteresis"),
        ({"for": "9000000d"}, "for"),
        ({"gone_for": "401d"}, "gone_for"),
        ({"when": {"metric": "level", "rate_above": 1, "over": "9000000d"}}, "over"),
        ({"when": {"metric": "level", "stuck_for": "3000000d"}}, "stuck_for"),
        ({"when": {"silent_for": 1e300}}, "silent_for"),
        ({"when": {"devices": ["odd"], "at_least": 2}}, "devices"),
        ({"when": {"devices": ["high"], "at_least": 2, "behind": "detector", "alone": "low"}}, "alone"),
    ],
)
def test_rule_that_no_clock_can_follow_or_that_counts_itself_is_refused(change: dict[str, Any], key: str) -> None:
    body = {**BASE, "when": {"metric": "level", "above": 1}, **change}
    with pytest.raises(ConfigError) as caught:
        read_body(TANK, "tank.odd", body, frozenset({"odd", "high"}))
    assert str(caught.value.facts["key"]).endswith(key)
