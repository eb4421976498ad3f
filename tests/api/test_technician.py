"""What a technician does at a device: maintenance, walk tests, the test of one that was just hung up."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec
import pytest

from iot_core.alarms.quiet import settle
from iot_core.api import shapes
from iot_core.api.shapes import AreaNew
from iot_core.errors import ForbiddenError, NotFoundError, RequestError
from tests.api.city import City
from tests.api.test_rights_by_area import technician

HOUR = timedelta(hours=1)


def now() -> datetime:
    return datetime.now(UTC)


async def test_maintenance_is_previewed_begun_listed_and_ended(city: City) -> None:
    async with city.client("technician") as client:
        await client.add_area(AreaNew(key="ward", name="Hồng Gai"))
        await city.add("lamp-1", "streetlight", area="ward")
        await city.add("lamp-2", "streetlight", area="ward")
        body = shapes.WindowNew(area="ward", ends=now() + HOUR, reason="new cables", dry_run=True)
        would = await client.open_window(body)
        assert (would.operation, would.total) == (None, 2)
        assert (await client.windows()).items == ()
        done = await client.open_window(shapes.WindowNew(area="ward", ends=body.ends, reason="new cables"))
        assert done.operation is not None
        (window,) = (await client.windows(device="lamp-1")).items
        assert (window.area, window.devices, window.by, window.reason) == ("ward", 2, "the technician", "new cables")
        assert (await client.device("lamp-1")).lifecycle == "maintenance"
        ended = await client.end_window(window.id)
        assert ended.ended_by == "the technician"
        assert (await client.device("lamp-1")).lifecycle == "provisioned"
        assert (await client.windows()).items == ()
        assert len((await client.windows(since=now() - HOUR)).items) == 1
        with pytest.raises(NotFoundError):
            await client.end_window(999)


async def test_beginning_maintenance_is_taken_back_by_its_number(city: City) -> None:
    async with city.client() as client:
        await city.add("lamp-1", "streetlight")
        done = await client.open_window(shapes.WindowNew(keys=("lamp-1",), ends=now() + HOUR))
        assert done.operation is not None
        await client.undo(done.operation)
        assert (await client.windows()).items == ()
        assert (await client.device("lamp-1")).lifecycle == "provisioned"


async def test_a_test_is_of_devices_by_key_and_shown_with_them(city: City) -> None:
    await city.add("smoke-1")
    async with city.client("technician") as client:
        await client.open_window(shapes.WindowNew(kind="test", keys=("smoke-1",), ends=now() + HOUR / 2))
        shown = await client.device("smoke-1")
        assert [window.kind for window in shown.windows] == ["test"]
        with pytest.raises(RequestError, match=r"maintenance\.test_by_key"):
            await client.open_window(shapes.WindowNew(kind="test", label="x", ends=now() + HOUR))


async def test_alarms_inside_a_test_are_tests_and_inside_maintenance_quiet_and_the_neighbours_are_neither(
    city: City,
) -> None:
    for key in ("smoke-1", "smoke-2", "smoke-3"):
        await city.add(key)
    city.path.evaluator.window = city.path.directory.window
    async with city.client("technician") as client:
        begun = now()
        await client.open_window(shapes.WindowNew(kind="test", keys=("smoke-1",), ends=begun + HOUR / 2))
        await client.open_window(shapes.WindowNew(keys=("smoke-2",), ends=begun + HOUR))
        await city.path.reload()
        for key in ("smoke-1", "smoke-2", "smoke-3"):
            await city.path.say(key, json.dumps({"time": now().isoformat(), "smoke": True}))
        rows = await city.path.pool.fetch(
            "SELECT key, test, suppressed_by FROM iot.alarm JOIN iot.device ON device.id = device_id ORDER BY key"
        )
        assert [tuple(row) for row in rows] == [
            ("smoke-1", True, None), ("smoke-2", False, "maintenance:2"), ("smoke-3", False, None),
        ]  # fmt: skip
        assert [(await client.device(each["key"])).state for each in rows] == ["ok", "ok", "alarm"]
        quiet = next(each for each in (await client.windows()).items if each.device == "smoke-2")
        assert quiet.suppressed == 1


async def test_a_walk_test_inside_maintenance_begins_and_ends_without_a_sound(city: City) -> None:
    for key in ("walked", "quiet"):
        await city.add(key)
    evaluator = city.path.evaluator
    evaluator.window = city.path.directory.window

    async def marks(at: datetime) -> list[tuple[object, ...]]:
        await city.path.reload()
        await settle(city.path.pool, evaluator, at)
        rows = await city.path.pool.fetch(
            "SELECT key, test, suppressed_by FROM iot.alarm JOIN iot.device ON device.id = device_id ORDER BY key DESC"
        )
        return [tuple(row) for row in rows]

    async def smoke(key: str) -> None:
        await city.path.reload()
        await city.path.say(key, json.dumps({"time": now().isoformat(), "smoke": True}))

    async with city.client("technician") as client:
        begun = now()
        await client.open_window(shapes.WindowNew(keys=("walked", "quiet"), ends=begun + 2 * HOUR))
        await smoke("quiet")
        before = await marks(begun + HOUR / 8)
        assert before == [("quiet", False, before[0][2])]
        assert str(before[0][2]).startswith("maintenance:")
        await client.open_window(shapes.WindowNew(kind="test", keys=("walked",), ends=begun + HOUR / 2))
        await client.open_window(shapes.WindowNew(kind="test", keys=("quiet",), ends=begun + HOUR / 2))
        await smoke("walked")
        during = [("walked", True, None), before[0]]
        assert await marks(begun + HOUR / 4) == during, "a test that begins gives nothing back to the city"
        assert await marks(begun + HOUR) == during, "nor one that ends while the work goes on"
        assert await marks(begun + 3 * HOUR) == [("walked", False, None), ("quiet", False, None)], "what stands, rings"


async def test_who_has_the_right_in_one_area_works_only_there(city: City) -> None:
    async with city.client() as client:
        for area in ("mine", "theirs"):
            await client.add_area(AreaNew(key=area, name=area))
            await city.add(f"lamp-{area}", "streetlight", area=area)
        for key in ("lamp-mine", "lamp-theirs"):
            await client.edit_devices(shapes.DeviceEdit(keys=(key,), add_labels=("phase-1",)))
        await client.open_window(shapes.WindowNew(keys=("lamp-theirs",), ends=now() + HOUR))
        (theirs,) = (await client.windows()).items
    async with technician(city, "mine") as an:
        await an.open_window(shapes.WindowNew(keys=("lamp-mine",), ends=now() + HOUR))
        for more in ({"keys": ("lamp-theirs",)}, {"label": "phase-1"}, {"area": "theirs"}):
            with pytest.raises(ForbiddenError):
                await an.open_window(msgspec.convert({"ends": now() + HOUR, **more}, shapes.WindowNew))
        with pytest.raises(ForbiddenError):
            await an.end_window(theirs.id)
        assert [each.device for each in (await an.windows()).items] == ["lamp-mine"]


async def test_a_device_passes_when_it_says_what_its_model_can_say(city: City) -> None:
    since = now()
    await city.add("aq-1", "air_quality")
    async with city.client("technician") as client:
        asked = shapes.CommissioningQuery(since=since)
        before = await client.commissioning("aq-1", asked)
        assert (before.passed, before.heard_at) == (False, None)
        await city.path.say("aq-1", json.dumps({"time": now().isoformat(), "pm25": 12.5}))
        kept = await client.keep_commissioning("aq-1", shapes.CommissioningNew(since=since, notes="mast 3"))
        assert kept.passed
        results = {each.metric: each.result for each in kept.metrics}
        assert (results["pm25"], results["pm10"]) == ("ok", "excused")
        (record,) = (await client.commissionings("aq-1")).items
        assert (record.passed, record.notes, record.by) == (True, "mast 3", "the technician")
        assert (await client.device("aq-1")).commissioned_at == record.at


async def test_a_model_that_leaves_a_metric_out_or_says_nonsense_does_not_pass(city: City) -> None:
    since = now()
    await city.add("aq-1", "air_quality")
    async with city.client("technician") as client:
        await city.path.say("aq-1", json.dumps({"time": now().isoformat(), "pm25": -50, "temperature": "warm"}))
        seen = await client.commissioning("aq-1", shapes.CommissioningQuery(since=since))
        assert {each.metric: each.result for each in seen.metrics}["pm25"] == "bad"
        assert (seen.held, seen.passed) == (1, False)
        with pytest.raises(RequestError, match=r"commissioning\.no_metric"):
            await client.commissioning("aq-1", shapes.CommissioningQuery(since=since, without="smell"))


async def test_what_is_noted_of_a_device_and_its_unit_is_shown_and_can_be_taken_back(city: City) -> None:
    await city.add("wm-1", "water_meter")
    async with city.client() as client:
        body = shapes.DeviceEdit(
            keys=("wm-1",), photos=("photos/wm-1.jpg",), notes="behind the gate", firmware="1.4",
            warranty_until=date(2031, 6, 30), calibrated_at=date(2026, 6, 30), calibration_due=date(2031, 6, 30),
        )  # fmt: skip
        done = await client.edit_devices(body)
        shown = await client.device("wm-1")
        unit = shown.units[0]
        assert (shown.photos, shown.notes, unit.firmware) == (("photos/wm-1.jpg",), "behind the gate", "1.4")
        assert [str(unit.warranty_until), str(unit.calibrated_at)] == ["2031-06-30", "2026-06-30"]
        assert done.operation is not None
        await client.undo(done.operation)
        shown = await client.device("wm-1")
        unit = shown.units[0]
        assert (shown.photos, shown.notes, unit.firmware, unit.warranty_until) == ((), "", None, None)


async def test_a_window_that_overlaps_another_one_says_so(city: City) -> None:
    for key in ("lamp-1", "lamp-2"):
        await city.add(key, "streetlight")
    async with city.client() as client:
        soon = now()

        async def begin(first: int, last: int, **what: Any) -> tuple[str, ...]:
            new = shapes.WindowNew(starts=soon + first * HOUR, ends=soon + last * HOUR, **what)
            return (await client.open_window(new)).warnings

        assert await begin(1, 3, keys=("lamp-1",)) == ()
        assert await begin(3, 4, keys=("lamp-1",)) == (), "one after the other"
        assert await begin(1, 3, keys=("lamp-2",)) == (), "another device"
        (said,) = await begin(2, 3, keys=("lamp-1",), dry_run=True)
        assert "lamp-1" in said
        assert "iot maintenance list lamp-1" in said
        assert len(await begin(2, 5, keys=("lamp-1",))) == 2
        (said,) = await begin(1, 2, kind="test", keys=("lamp-1",))
        assert said.startswith("Window")
