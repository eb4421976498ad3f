"""Every form of a rule that is judged on the way in, from its YAML to its alarm."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from iot_core.alarms.book import laid_over, read_body
from iot_core.alarms.episodes import Reading, episodes
from iot_core.alarms.lifecycle import acknowledge, list_alarms
from iot_core.alarms.rules import Phase, compile_rule, fire, read
from iot_core.alarms.rules import State as RuleState
from iot_core.alarms.say import say
from iot_core.errors import ConfigError
from iot_core.model import AlarmRule, Severity
from tests.alarms.city import MINUTE, SECOND, T0, TANK, City, at, seen, smoke

if TYPE_CHECKING:
    from collections.abc import Mapping

BASE: Mapping[str, Any] = {"title": {"vi": "x", "en": "x"}, "severity": "medium", "source": "test"}


def rule(when: Mapping[str, Any], **more: Any) -> AlarmRule:
    found = read_body(TANK, "tank.new", {**BASE, "when": when, **more})
    assert found is not None
    return found


async def have(city: City, name: str, when: Mapping[str, Any], /, **more: Any) -> None:
    """Make a rule for the whole class, as a person would."""
    scope = {key: more.pop(key, None) for key in ("area_id", "label", "device_id")}
    class_key, _, _ = name.partition(".")
    body = {**BASE, "when": when, **more} if when else more
    await city.pool.execute(
        "INSERT INTO iot.alarm_rule (rule, class_key, body, by, area_id, label, device_id)"
        " VALUES ($1, $2, $3, 'lan', $4, $5, $6)",
        name, class_key, body, scope["area_id"], scope["label"], scope["device_id"],
    )  # fmt: skip
    async with city.pool.acquire() as connection:
        await city.evaluator.load(connection)


@pytest.mark.parametrize(
    ("when", "problem"),
    [
        ({"metric": "level"}, "exactly one of"),
        ({"metric": "level", "above": 1, "below": 2}, "exactly one of"),
        ({"metric": "nothing", "above": 1}, "a metric of this class"),
        ({"metric": "valve", "above": 1}, "what a metric of type enum"),
        ({"metric": "valve", "in": ["open", "ajar"]}, "what a metric of type enum"),
        ({"at_least": 3, "of": [{"metric": "level", "above": 1}]}, "a number from 1 to 1"),
        ({"all": [{"silent_for": 3}]}, "inside a group"),
        ({"devices": ["nothing"], "at_least": 2}, "rules of this class"),
        ({"metric": "level", "rollup": "mean", "above": 3}, "a duration"),
        ({"metric": "level", "stuck_for": "long"}, "a duration"),
        ({"metric": "level", "above": 1, "over": "5m"}, "beside a rate"),
        ({"metric": "level", "above": 1, "times": 2}, "beside rollup"),
        ({"metric": "level", "above": 1, "at_least": 2}, "beside of or devices"),
        ({"metric": "level", "above": 1, "within": "5m"}, "beside devices"),
        ({"metric": "level", "above": 1, "behind": "detector"}, "beside devices"),
        ({"devices": ["high"], "at_least": 2, "above": 3}, "beside a metric"),
        ({"devices": ["high"], "at_least": 2, "metric": "level"}, "one condition"),
        ({"all": [{"metric": "level", "above": 1}], "in": [3]}, "beside a metric"),
        ({"devices": ["high"], "at_least": 2, "all": [{"metric": "level", "above": 1}]}, "one kind"),
    ],
)
def test_condition_that_cannot_be_understood_says_where(when: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as refused:
        rule(when)
    assert problem in str(refused.value.facts["expected"])
    assert str(refused.value.facts["key"]).startswith("rules.new.when")


@pytest.mark.parametrize(
    ("when", "said"),
    [
        ({"in": [100, 13, 0.5]}, "level in 0.5, 13, 100"),
        ({"stuck_for": "2h"}, "level stuck for 2h"),
        ({"changed": True, "over": "1h"}, "level changed within 1h"),
    ],
)
def test_condition_is_said_as_people_say_it(when: dict[str, Any], said: str) -> None:
    assert say(rule({"metric": "level", **when}), "en") == said


async def test_conditions_of_a_group_count_together_as_near_as_it_says(city: City) -> None:
    both = {"all": [{"metric": "level", "above": 50}, {"metric": "pressure", "above": 5}]}
    await have(city, "tank.both", {**both, "over": "2m"})
    await have(city, "tank.near", both)
    assert [say(rule({**both, **more}), "en") for more in ({"over": "2m"}, {})] == [
        "all of (level above 50; pressure above 5) within 2m", "all of (level above 50; pressure above 5)"
    ]  # fmt: skip
    tank = await city.device("tank-1")
    await city.flush(seen(tank, 0, level=60))
    await city.flush(seen(tank, 180, pressure=6))
    assert {alarm.rule for alarm in await city.alarms()} == {"tank.near"}
    await city.flush(seen(tank, 240, level=61))
    assert {alarm.rule for alarm in await city.alarms()} == {"tank.near", "tank.both"}


def test_alarm_of_the_past_that_a_timer_would_have_raised_shows_what_stood_then() -> None:
    compiled = compile_rule(rule({"metric": "level", "below": 10}, **{"for": "1m"}))
    readings = [Reading(T0, 5.0, 5.0), Reading(T0 + 5 * MINUTE, 20.0, 20.0)]
    (found,) = episodes(compiled, readings, T0 + 10 * MINUTE, lambda _hours, _at: True)
    assert (found.raised_at, found.cleared_at, found.value) == (T0 + MINUTE, T0 + 5 * MINUTE, 5.0)


def test_hours_that_cannot_be_understood_are_refused_before_they_are_judged() -> None:
    with pytest.raises(ConfigError) as refused:
        rule({"metric": "level", "above": 1}, hours="at night")
    assert refused.value.facts["key"] == "rules.new.hours"


def test_alarm_that_is_gone_only_for_a_moment_does_not_return() -> None:
    compiled = compile_rule(rule({"metric": "level", "above": 80}, gone_for="5m"))
    state, _ = read(compiled, RuleState(), T0, 90.0)
    state, _ = read(compiled, state, T0 + MINUTE, 10.0)
    assert state.due_at == T0 + 6 * MINUTE
    state, _ = read(compiled, state, T0 + 2 * MINUTE, 90.0)
    assert (state.phase, state.due_at) == (Phase.ACTIVE, None)
    state, _ = read(compiled, state, T0 + 3 * MINUTE, 10.0)
    assert fire(state, T0 + 7 * MINUTE)[0].phase is Phase.ACTIVE
    state, (returned,) = fire(state, T0 + 30 * MINUTE)
    assert (state.phase, returned.at) == (Phase.NORMAL, T0 + 8 * MINUTE)


def test_change_lays_a_limit_over_a_rule_and_keeps_the_rest() -> None:
    below = {"severity": "low", "when": {"metric": "level", "above": 80}}
    assert laid_over(below, {"when": {"above": 90}}) == {"severity": "low", "when": {"metric": "level", "above": 90}}
    other = {"when": {"metric": "level", "below": 3}}
    assert laid_over(below, other)["when"] == other["when"]


async def test_alarm_rises_with_its_steps_and_never_falls(city: City) -> None:
    await have(city, "tank.flow", {"metric": "level", "above": 20}, steps=[{"at": 50, "severity": "critical"}])
    tank = await city.device("tank-1")
    await city.flush(seen(tank, 0, level=25))
    await city.flush(seen(tank, 10, level=60))
    await city.flush(seen(tank, 20, level=30))
    (alarm,) = [each for each in await city.alarms() if each.rule == "tank.flow"]
    assert alarm.severity is Severity.CRITICAL
    assert await city.events() == ["raised", "severity"]


@pytest.mark.parametrize(("when", "raised"), [({"in": ["open", "stuck"]}, True), ({"not_in": ["open"]}, False)])
async def test_value_in_or_out_of_a_set(city: City, when: dict[str, Any], raised: bool) -> None:
    await have(city, "tank.valve", {"metric": "valve", **when})
    tank = await city.device("tank-1")
    await city.flush(seen(tank, 0, valve="open"))
    assert bool(await city.alarms()) is raised
    await city.flush(seen(tank, 10, valve="shut"))
    assert bool(await city.alarms(open_only=True)) is True


async def test_all_of_several_metrics_may_come_in_separate_messages(city: City) -> None:
    both = {"all": [{"metric": "level", "above": 50}, {"metric": "pressure", "below": 4}]}
    await have(city, "tank.both", both)
    tank = await city.device("tank-1")
    await city.flush(seen(tank, 0, level=60))
    assert await city.alarms() == []
    await city.restart()
    await city.flush(seen(tank, 60, pressure=3))
    assert await city.state(tank, "tank.both") == "active"
    await city.flush(seen(tank, 120, level=40))
    assert await city.state(tank, "tank.both") == "normal"
    await city.flush(seen(tank, 60 * 60, level=60))  # the pressure is an hour old: nobody knows
    assert await city.state(tank, "tank.both") == "normal"
    await city.flush(seen(tank, 60, pressure=3))  # again: raises nothing twice
    assert await city.events() == ["raised", "cleared"]


async def test_two_of_three_metrics(city: City) -> None:
    of = [{"metric": "level", "above": 50}, {"metric": "pressure", "below": 4}, {"metric": "valve", "equals": "shut"}]
    await have(city, "tank.two", {"at_least": 2, "of": of})
    tank = await city.device("tank-1")
    await city.flush(seen(tank, 0, level=60, pressure=5, valve="open"))
    assert await city.alarms() == []
    await city.flush(seen(tank, 10, level=60, pressure=5, valve="shut"))
    assert await city.events() == ["raised"]


async def test_alarm_of_several_metrics_shows_the_first_that_its_rule_names(city: City) -> None:
    await have(city, "tank.both", {"all": [{"metric": "pressure", "below": 4}, {"metric": "level", "above": 50}]})
    await city.flush(seen(await city.device("tank-1"), 0, level=60, pressure=3))
    assert [(row.metric, row.value) for row in await city.alarms()] == [("pressure", 3)]


async def test_rule_rings_only_in_its_hours(city: City) -> None:
    # T0 is 10:00 on a Tuesday in Vietnam.
    await have(city, "tank.day", {"metric": "level", "above": 50}, hours="daily 10:30-12:00")
    tank = await city.device("tank-1")
    await city.flush(seen(tank, 0, level=60))
    assert await city.alarms() == []
    await city.flush(seen(tank, 31 * 60, level=60))
    assert await city.events() == ["raised"]


async def test_reading_outside_a_rules_hours_asks_nothing_of_the_database(city: City) -> None:
    await have(city, "tank.night", {"metric": "level", "above": 50}, hours="daily 22:00-04:00")
    both = {"all": [{"metric": "level", "above": 50}, {"metric": "pressure", "below": 4}]}
    await have(city, "tank.both", both, hours="daily 22:00-04:00")
    tank = await city.device("tank-1")
    no_database: Any = None
    assert (await city.evaluator.evaluate(no_database, [seen(tank, 0, level=60, pressure=3)], now=T0)).phases == {}
    await city.flush(seen(tank, 12 * 3600, level=60, pressure=3))
    assert await city.events() == ["raised", "raised"]
    await city.flush(seen(tank, 19 * 3600, level=40, pressure=3))
    assert await city.events() == ["raised", "raised", "cleared", "cleared"]


async def test_timer_rings_only_where_its_own_time_is_within_the_hours(city: City) -> None:
    await have(city, "tank.day", {"metric": "level", "above": 50}, hours="daily 09:00-10:10", **{"for": "5m"})
    in_time, too_late = await city.device("tank-1"), await city.device("tank-2")
    await city.flush(seen(in_time, 0, level=60), seen(too_late, 7 * 60, level=60))
    await city.flush(*(seen(tank, 30 * 60, level=60) for tank in (in_time, too_late)))
    assert [(each.device_key, each.raised_at) for each in await city.alarms()] == [("tank-1", T0 + 5 * MINUTE)]


async def test_late_reading_outside_a_rules_hours_drops_nothing(city: City) -> None:
    await have(city, "tank.day", {"metric": "level", "above": 50}, hours="daily 10:05-12:00", **{"for": "5m"})
    tank = await city.device("tank-1")
    await city.flush(seen(tank, 6 * 60, level=60))
    await city.flush(at(tank, 4 * 60, 7 * 60, level=60))
    assert await city.state(tank, "tank.day") == "pending"


async def test_group_is_asked_of_the_newest_value_of_each_metric(city: City) -> None:
    await have(city, "tank.both", {"all": [{"metric": "level", "above": 50}, {"metric": "pressure", "below": 4}]})
    tank = await city.device("tank-1")
    await city.flush(seen(tank, 100, level=10))
    await city.flush(at(tank, 50, 101, level=60, pressure=3))  # kept since 50 s: the level has fallen since
    assert await city.events() == []
    await city.flush(seen(tank, 120, level=60))
    await city.flush(at(tank, 60, 121, pressure=3.5))
    assert await city.events() == ["raised"]
    await city.flush(seen(tank, 130, pressure=5), seen(tank, 140, level=60))
    assert await city.events() == ["raised", "cleared"]


async def area(city: City, key: str, parent: int | None = None) -> int:
    made: int = await city.pool.fetchval(
        "INSERT INTO iot.area (key, name, parent_id) VALUES ($1, $1, $2) RETURNING id", key, parent
    )
    return made


async def place(city: City, device: int, where: int, labels: list[str] | None = None) -> None:
    await city.pool.execute(
        "UPDATE iot.device SET area_id = $2, labels = COALESCE($3, labels) WHERE id = $1", device, where, labels
    )
    async with city.pool.acquire() as connection:
        await city.evaluator.load(connection)


async def test_narrower_change_wins_and_is_taken_over_at_run_time(city: City) -> None:
    ward = await area(city, "ward")
    street = await area(city, "street", ward)
    tanks = [await city.device(f"tank-{number}") for number in range(4)]
    for tank, labels in zip(tanks[1:], ([], ["old"], ["old"]), strict=True):
        await place(city, tank, street, labels)
    await have(city, "tank.high", {}, when={"above": 10}, area_id=ward)
    await have(city, "tank.high", {}, when={"above": 20}, area_id=street)
    await have(city, "tank.high", {}, when={"above": 30}, label="old")
    await have(city, "tank.high", {}, enabled=False, device_id=tanks[3])
    limits = [watch.rule.threshold if (watch := city.evaluator.watch("tank.high", tank)) else None for tank in tanks]
    assert limits == [80.0, 20, 30, None]
    await city.flush(*(seen(tank, 0, level=25) for tank in tanks))
    assert [each.device_key for each in await city.alarms()] == ["tank-1"]


async def test_switching_a_rule_off_for_a_device_returns_its_alarm(city: City) -> None:
    tank = await city.device("tank-1")
    await city.flush(seen(tank, 0, level=90))
    await have(city, "tank.high", {}, enabled=False, device_id=tank)
    city.now = T0 + MINUTE
    timers = city.timers()
    await timers.look(healthy=True)
    assert await city.events() == ["raised", "cleared"]


async def test_a_device_whose_silence_is_switched_off_stays_quiet_and_its_neighbour_does_not(city: City) -> None:
    quiet, watched = await city.device("tank-1"), await city.device("tank-2")
    await city.flush(seen(quiet, 0, level=10), seen(watched, 0, level=10))
    await have(city, "tank.silent", {"silent_for": 3}, enabled=False, device_id=quiet)
    timers = city.timers()
    for seconds in (0, 186, 192, 198):
        city.now = T0 + seconds * SECOND
        await timers.look(healthy=True)
    assert [each.device_key for each in await city.alarms()] == ["tank-2"]
    assert await city.events() == ["raised"]


ZONE = {"devices": ["smoke"], "at_least": 2, "within": "60s", "alone": "high"}


@pytest.mark.parametrize(
    ("seconds", "fires"),
    [((0, 45), 1), ((0, 0), 1), ((45, 0), 1), ((0, 300), 1)],
    ids=["within a minute", "at once", "the second's clock is behind", "the first still holds"],
)
async def test_two_detectors_of_one_zone_confirm_a_fire(city: City, seconds: tuple[int, int], fires: int) -> None:
    await have(city, "detector.fire", ZONE, severity="critical", latched=True)
    zone = await area(city, "floor-3")
    detectors = [await city.device(f"smoke-{number}", "detector") for number in range(2)]
    for detector in detectors:
        await place(city, detector, zone)
    await city.flush(smoke(detectors[0], seconds[0], 400))
    (alone,) = await city.alarms()
    assert (alone.rule, alone.severity) == ("detector.smoke", Severity.HIGH)
    await city.restart()
    await city.flush(smoke(detectors[1], seconds[1], 401))
    confirmed = [each for each in await city.alarms() if each.rule == "detector.fire"]
    assert len(confirmed) == fires
    assert (confirmed[0].severity, confirmed[0].source_kind, confirmed[0].area_key) == (
        Severity.CRITICAL, "area", "floor-3",
    )  # fmt: skip
    await city.restart()
    await city.flush(*(smoke(detector, at, 402) for detector, at in zip(detectors, seconds, strict=True)))
    assert len(await city.alarms()) == 3


async def test_detectors_that_do_not_confirm_each_other(city: City) -> None:
    await have(city, "detector.fire", ZONE, severity="critical", latched=True)
    floors = [await area(city, "floor-1"), await area(city, "floor-2")]
    detectors = [await city.device(f"smoke-{number}", "detector") for number in range(4)]
    for detector, floor in zip(detectors, (floors[0], floors[1], floors[1]), strict=False):
        await place(city, detector, floor)
    await city.flush(smoke(detectors[0], 0), smoke(detectors[1], 5), smoke(detectors[3], 6))  # one on each floor
    await city.flush(smoke(detectors[1], 20, smoke=False))
    await city.flush(smoke(detectors[2], 120))  # the other one was over for 100 s
    rules = [(each.rule, each.severity) for each in await city.alarms()]
    assert rules == [
        ("detector.smoke", Severity.CRITICAL),  # the only one of its floor: nobody could confirm it
        ("detector.smoke", Severity.HIGH),
        ("detector.smoke", Severity.CRITICAL),
        ("detector.smoke", Severity.HIGH),
    ]


async def test_confirmed_fire_of_detectors_that_are_gone_returns(city: City) -> None:
    await have(city, "detector.fire", ZONE, severity="critical")
    floor = await area(city, "floor-1")
    detectors = [await city.device(f"smoke-{number}", "detector") for number in range(2)]
    for detector in detectors:
        await place(city, detector, floor)
    await city.flush(*(smoke(detector, 0) for detector in detectors))
    city.now = T0 + MINUTE
    await city.timers().look(healthy=True)
    assert [each.rule for each in await city.alarms(open_only=True) if each.cleared_at] == []
    await city.pool.execute("UPDATE iot.device SET lifecycle = 'retired', retired_at = now()")
    for _ in range(2):  # first the devices, then the area
        await city.timers().look(healthy=True)
    assert [each.rule for each in await city.alarms() if each.cleared_at] == ["detector.fire"]


async def test_rule_over_devices_counts_what_a_timer_raised_and_returned(city: City) -> None:
    await have(city, "tank.dry_street", {"devices": ["dry"], "at_least": 2, "within": "60s"})
    street = await area(city, "street-1")
    tanks = [await city.device(f"tank-{number}") for number in range(2)]
    for tank in tanks:
        await place(city, tank, street)
    await city.flush(*(seen(tank, 0, pressure=0.5) for tank in tanks))
    city.now = T0 + 6 * MINUTE
    await city.timers().fire_due(city.now)
    found = [(each.rule, each.area_key, each.raised_at) for each in await city.alarms()]
    assert ("tank.dry_street", "street-1", T0 + 5 * MINUTE) in found
    await city.flush(*(seen(tank, 400, pressure=5) for tank in tanks))
    assert (await city.events())[-3:] == ["cleared"] * 3


async def test_outage_is_one_alarm_with_its_devices_inside_and_old_faults_are_none_of_it(city: City) -> None:
    when = {"devices": ["high", "stuck"], "at_least": 2, "within": "10m", "area_kind": "street", "fresh": True}
    await have(city, "tank.outage", when, severity="medium")
    street = await area(city, "street-1")
    await city.pool.execute("UPDATE iot.area SET kind = 'street' WHERE id = $1", street)
    old, *lamps = [await city.device(f"tank-{number}") for number in range(4)]
    for tank in (old, *lamps):
        await place(city, tank, street)
    await city.flush(seen(old, 0, level=90))
    await city.flush(seen(lamps[0], 3600, level=90))
    assert {each.rule for each in await city.alarms()} == {"tank.high"}, "the old one began an hour before"
    await city.flush(seen(lamps[1], 3660, valve="stuck"))
    async with city.pool.acquire() as connection:
        shown = await list_alarms(connection)
    assert sorted((each.rule, each.device_key, each.members) for each in shown) == [
        ("tank.high", "tank-0", 0), ("tank.outage", "tank-2", 2),
    ]  # fmt: skip
    await city.flush(seen(lamps[2], 3700, level=90))
    await city.flush(seen(lamps[1], 3800, valve="open"), seen(lamps[0], 3800, level=10))
    assert await city.state(street, "tank.outage") == "normal"
    async with city.pool.acquire() as connection:
        assert {each.device_key for each in await list_alarms(connection) if each.cleared_at is None} == {
            "tank-0", "tank-3",
        }  # fmt: skip


async def test_smoke_that_lasted_long_still_confirms_a_fire_just_after_it(city: City) -> None:
    await have(city, "detector.fire", ZONE, severity="critical", latched=True)
    floor = await area(city, "floor-1")
    first, second = [await city.device(f"smoke-{number}", "detector") for number in range(2)]
    for detector in (first, second):
        await place(city, detector, floor)
    await city.flush(smoke(first, 0))
    await city.flush(smoke(first, 300, smoke=False))
    await city.flush(smoke(second, 320))
    assert sorted(each.rule for each in await city.alarms()) == ["detector.fire", "detector.smoke", "detector.smoke"]


async def test_rule_over_devices_looks_at_areas_of_its_kind_only(city: City) -> None:
    await have(city, "detector.fire", {**ZONE, "area_kind": "fire_zone"}, severity="critical", latched=True)
    ward, floor = await area(city, "ward-1"), await area(city, "floor-1")
    await city.pool.execute("UPDATE iot.area SET kind = 'fire_zone' WHERE id = $1", floor)
    detectors = [await city.device(f"smoke-{number}", "detector") for number in range(4)]
    for detector, there in zip(detectors, (ward, ward, floor, floor), strict=True):
        await place(city, detector, there)
    await city.flush(*(smoke(detector, number) for number, detector in enumerate(detectors)))
    found = [(each.rule, each.severity) for each in await city.alarms()]
    assert sorted(found) == [
        ("detector.fire", Severity.CRITICAL),
        ("detector.smoke", Severity.CRITICAL), ("detector.smoke", Severity.CRITICAL),  # of a ward: each is a fire
        ("detector.smoke", Severity.HIGH), ("detector.smoke", Severity.HIGH),
    ]  # fmt: skip


async def test_shelved_source_stays_quiet_and_rings_when_the_time_is_over(city: City) -> None:
    tank = await city.device("tank-1")
    await city.pool.execute(
        "INSERT INTO iot.shelf VALUES ('device', $1, 'tank.high', $2, 'pump is being exchanged', 'lan')",
        tank,
        T0 + timedelta(hours=1),
    )
    await city.flush(seen(tank, 0, level=90))
    (alarm,) = await city.alarms()
    assert (alarm.shelved_by, alarm.quiet(T0), alarm.quiet(T0 + timedelta(hours=2))) == ("lan", True, False)
    async with city.pool.acquire() as connection:
        await acknowledge(connection, alarm.id, by="lan", now=T0 + SECOND)
    assert await city.events() == ["raised", "acknowledged"]
