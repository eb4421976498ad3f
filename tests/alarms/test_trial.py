"""A rule tried over what is stored raises what it raised when the readings came."""

from __future__ import annotations

import asyncio
import random
import threading
from typing import TYPE_CHECKING, Any

import pytest

from iot_core.alarms.changes import book_with, where_of
from iot_core.alarms.episodes import Bucket, Episode, episodes, spans
from iot_core.alarms.times import Times
from iot_core.alarms.trial import Raised, Trial, part_of
from tests.alarms.city import MINUTE, T0, City, Knowledge, at, seen, smoke
from tests.alarms.test_computed import look
from tests.alarms.test_language import have

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

END = 120


async def tried(city: City, rule: str, body: Mapping[str, Any] | None = None, where: str = "") -> list[Raised]:
    """Try a rule over the first two hours, two devices at a time."""
    found: list[Raised] = []
    after: int | None = None
    async with city.pool.acquire() as connection:
        book = await book_with(connection, Knowledge(), rule, await where_of(connection, where), body)
        watch = next(each for each in book.all() if each.rule.key == rule)
        times = Times()
        await times.load(connection)
        while True:
            part = await part_of(connection, watch, None, after, 2)
            trial = Trial(
                connection=connection, book=book, times=times, rule=rule, since=T0 - MINUTE, until=T0 + END * MINUTE
            )
            found += await trial.at(part)
            after = part.place
            if after is None:
                return found


async def raised(city: City, rule: str) -> list[tuple[str, float, float | None, str]]:
    """Read from the table what was raised live, in minutes after T0."""
    rows = await city.pool.fetch(
        "SELECT d.key, a.raised_at, a.cleared_at, a.severity FROM iot.alarm a JOIN iot.device d ON d.id = a.device_id"
        " WHERE a.rule = $1",
        rule,
    )
    return sorted((row["key"], *minutes(row["raised_at"], row["cleared_at"]), row["severity"]) for row in rows)


def shown(found: list[Raised]) -> list[tuple[str, float, float | None, str]]:
    return sorted(
        (each.source, *minutes(each.episode.raised_at, each.episode.cleared_at), each.episode.severity.value)
        for each in found
    )


def minutes(start: Any, end: Any) -> tuple[float, float | None]:
    return (start - T0) / MINUTE, None if end is None else (end - T0) / MINUTE


async def live(city: City, *, seed: int, per_row: float = 0.8) -> None:
    """Let three tanks speak for two hours, each alarm acknowledged at once, timers looked at every minute."""
    dice = random.Random(seed)
    tanks = [await city.device(f"tank-{number}") for number in range(3)]
    for minute in range(END):
        city.now = T0 + minute * MINUTE
        rows = []
        for tank in tanks:
            said = {
                "level": dice.choice((20, 60, 78, 82, 95)), "pressure": dice.choice((0.5, 2, 6)),
                "valve": dice.choice(("open", "open", "shut", "stuck")),
            }  # fmt: skip
            values = {key: value for key, value in said.items() if dice.random() < per_row}
            if values and dice.random() < 0.9:
                bad = city.bit("tank", "level") if dice.random() < 0.05 else 0
                rows.append(seen(tank, minute * 60, bad=bad, **values))
        if rows:
            await city.flush(*rows)
        await city.timers().fire_due(city.now)
        await city.pool.execute(
            "UPDATE iot.alarm SET acknowledged_at = raised_at, acknowledged_by = 'lan', closed_at = cleared_at"
            " WHERE cleared_at IS NOT NULL AND closed_at IS NULL"
        )
    city.now = T0 + END * MINUTE
    await city.timers().fire_due(city.now)


async def test_a_reading_at_the_limit_is_not_above_it(city: City) -> None:
    await have(city, "tank.more", {"metric": "level", "above": 0.1})
    tank = await city.device("tank-1")
    await city.flush(*(seen(tank, minute * 60, level=level) for minute, level in enumerate((0.1, 0.2, 0.1))))
    assert await raised(city, "tank.more") == [("tank-1", 1, 2, "medium")]
    assert shown(await tried(city, "tank.more")) == [("tank-1", 1, 2, "medium")]


async def test_what_lives_in_the_loop_goes_on_while_a_rule_is_tried(
    city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    await have(city, "tank.more", {"metric": "level", "above": 50})
    await city.flush(seen(await city.device("tank-1"), 0, level=90))
    loop, went_on = asyncio.get_running_loop(), threading.Event()

    def judged(*asked: Any) -> Iterator[Episode]:
        loop.call_soon_threadsafe(went_on.set)
        assert went_on.wait(20), "the loop stands still"
        return episodes(*asked)

    monkeypatch.setattr("iot_core.alarms.trial.episodes", judged)
    assert [each.source for each in await tried(city, "tank.more")] == ["tank-1"]


CONDITIONS: Mapping[str, dict[str, Any]] = {
    "hysteresis": {"when": {"metric": "level", "above": 80}, "hysteresis": 5},
    "on_delay": {"when": {"metric": "level", "above": 50}, "for": "3m"},
    "off_delay": {"when": {"metric": "level", "above": 80}, "gone_for": "4m"},
    "steps": {
        "when": {"metric": "level", "above": 70}, "severity": "low",
        "steps": [{"at": 80, "severity": "high"}, {"at": 90, "severity": "critical"}],
    },
    "hours": {"when": {"metric": "level", "above": 15}, "hours": "daily 10:30-11:15"},
    "hours_held": {"when": {"metric": "level", "above": 50}, "for": "2m", "hours": "daily 10:20-11:40"},
    "below": {"when": {"metric": "pressure", "below": 1}, "hysteresis": 3},
    "enum": {"when": {"metric": "valve", "in": ["shut", "stuck"]}},
    "not_in": {"when": {"metric": "valve", "not_in": ["open"]}, "for": "1m"},
    "group": {"when": {"all": [{"metric": "level", "above": 50}, {"metric": "pressure", "below": 5}]}},
    "at_least": {
        "when": {
            "at_least": 2,
            "of": [
                {"metric": "level", "above": 50}, {"metric": "pressure", "below": 5},
                {"metric": "valve", "equals": "stuck"},
            ],
        }
    },
}  # fmt: skip


async def test_trial_raises_what_was_raised_when_the_readings_came(city: City) -> None:
    for name, body in CONDITIONS.items():
        await have(city, f"tank.{name}", body["when"], **{key: value for key, value in body.items() if key != "when"})
    await live(city, seed=7)
    for name in CONDITIONS:
        there = await raised(city, f"tank.{name}")
        assert there, "a history in which nothing happens would show nothing"
        assert (name, shown(await tried(city, f"tank.{name}"))) == (name, there)


async def test_change_is_tried_where_it_would_hold_and_nothing_is_written(city: City) -> None:
    first, second = await city.device("tank-1"), await city.device("tank-2")
    await city.flush(seen(first, 0, level=70), seen(second, 0, level=70), seen(first, 60, level=10))
    assert await tried(city, "tank.high") == []
    lower = await tried(city, "tank.high", {"when": {"above": 60}}, "device=tank-1")
    assert shown(lower) == [("tank-1", 0.0, 1.0, "high")]
    assert await city.pool.fetchval("SELECT count(*) FROM iot.alarm_rule") == 0
    assert await city.alarms() == []


async def test_silence_is_tried_by_the_gaps_that_are_stored(city: City) -> None:
    tank = await city.device("tank-1")
    await city.flush(*(seen(tank, minute * 60, level=1) for minute in (0, 1, 2, 10, 11)))
    assert shown(await tried(city, "tank.silent")) == [("tank-1", 5.0, 10.0, "low"), ("tank-1", 14.0, None, "low")]


async def test_metric_that_stays_away_is_tried_while_its_device_speaks(city: City) -> None:
    await have(city, "tank.mute", {"metric": "level", "silent_for": 3})
    tank = await city.device("tank-1")
    await city.flush(
        seen(tank, 0, level=1),
        *(seen(tank, minute * 60, pressure=2) for minute in range(1, 6)),
        seen(tank, 360, level=1),
    )
    assert shown(await tried(city, "tank.mute")) == [("tank-1", 3.0, 6.0, "medium")]


async def test_plausibility_is_tried_by_the_marks_of_the_rows(city: City) -> None:
    box = await city.device("box", "detector")
    mask = city.bit("detector", "temperature")
    await city.flush(
        at(box, 0, 0, class_key="detector", temperature=20.0),
        at(box, 60, 60, class_key="detector", temperature=900.0, bad=mask),
        at(box, 120, 120, class_key="detector", temperature=20.0),
    )
    assert shown(await tried(city, "detector.implausible")) == [("box", 1.0, 2.0, "high")]


async def test_rule_over_devices_is_tried_by_areas(city: City) -> None:
    await have(city, "detector.fire", {"devices": ["smoke"], "at_least": 2, "within": "60s"}, severity="critical")
    area = await city.pool.fetchval(
        "INSERT INTO iot.area (key, kind, name) VALUES ('block-a', 'zone', 'A') RETURNING id"
    )
    boxes = [await city.device(f"box-{number}", "detector") for number in range(3)]
    await city.pool.execute("UPDATE iot.device SET area_id = $1", area)
    await city.flush(smoke(boxes[0], 0), smoke(boxes[0], 30, smoke=False), smoke(boxes[1], 300))
    assert await tried(city, "detector.fire") == [], "one after the other is no coincidence"
    await city.flush(smoke(boxes[2], 330), smoke(boxes[1], 400, smoke=False), smoke(boxes[2], 420, smoke=False))
    assert shown(await tried(city, "detector.fire")) == [("block-a", 5.5, 7.0, "critical")]


async def test_rule_over_devices_is_tried_once_where_one_device_has_rules_of_its_own(city: City) -> None:
    await have(city, "detector.fire", {"devices": ["smoke"], "at_least": 2, "within": "60s"}, severity="critical")
    area = await city.pool.fetchval(
        "INSERT INTO iot.area (key, kind, name) VALUES ('block-a', 'zone', 'A') RETURNING id"
    )
    boxes = [await city.device(f"box-{number}", "detector") for number in range(2)]
    await city.pool.execute("UPDATE iot.device SET area_id = $1", area)
    await have(city, "detector.silent", {"silent_for": 9}, device_id=boxes[0])
    await city.flush(smoke(boxes[0], 0), smoke(boxes[1], 30))
    assert shown(await tried(city, "detector.fire")) == [("block-a", 0.5, None, "critical")]


async def test_silence_of_a_device_fed_by_a_channel_is_tried_by_its_units_interval(city: City) -> None:
    gateway, fed = await city.device("gateway-1"), await city.device("tank-fed")
    await city.pool.execute("DELETE FROM iot.unit WHERE device_id = $1", fed)
    await city.pool.execute(
        "INSERT INTO iot.channel (unit_id, channel, device_id) SELECT id, 'a', $2 FROM iot.unit WHERE device_id = $1",
        gateway, fed,
    )  # fmt: skip
    await city.flush(seen(fed, 0, level=1), seen(fed, 600, level=1))
    assert shown(await tried(city, "tank.silent"))[0] == ("tank-fed", 3.0, 10.0, "low")


async def test_span_is_tried_a_twelfth_of_it_apart(city: City) -> None:
    await have(city, "tank.span", {"metric": "level", "rollup": "mean", "over": "12m", "above": 50})
    tank = await city.device("tank-1")
    await city.flush(*(seen(tank, minute * 60, level=10 if minute < 20 else 90) for minute in range(60)))
    (found,) = shown(await tried(city, "tank.span"))
    for minute in range(60):
        await look(city, minute)
    ((_, started, _, _),) = await raised(city, "tank.span")
    assert abs(found[1] - started) <= 1
    assert found[2] is None


def test_span_slides_over_what_is_there_and_over_nothing() -> None:
    def bucket(minute: int, value: float) -> Bucket:
        start = T0 + minute * MINUTE
        return Bucket(start, 1, start, start, value, value, value, value, value)

    over = 3 * MINUTE
    amounts = list(spans([bucket(0, 1.0), bucket(1, 5.0), bucket(9, 3.0)], over, MINUTE))
    assert [(at - T0) / MINUTE for at, _ in amounts] == [1, 2, 3, 4, 10, 11, 12]
    assert [(each.lowest, each.highest, each.mean) for _, each in amounts[:2]] == [(1, 1, 1), (1, 5, 3)]
    assert [each.readings for _, each in amounts] == [1, 2, 2, 1, 1, 1, 1]
