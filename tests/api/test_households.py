"""What one household uses: for the right `household` where its meter stands, over every way out of the platform."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from iot_core.api import shapes
from iot_core.errors import ForbiddenError
from tests.api.city import City, Reply

PASSWORD = "four unrelated words 1"
SERIES = (
    "/devices/{key}/telemetry", "/devices/{key}/chart?metric=volume", "/telemetry/stats?devices={key}&by=device",
    "/telemetry/stats?devices={key}&by=all", "/telemetry/export?devices={key}", "/telemetry/watch?device={key}",
)  # fmt: skip
NEWEST = ("/devices/{key}/latest", "/telemetry/latest?devices={key}",
          "/devices/{key}/commissioning?since=2026-01-01T00:00:00Z", "/devices/{key}/commissionings")  # fmt: skip


@pytest.fixture
async def homes(city: City) -> City:
    """Give a city with a meter in each of two areas, one that is nobody's home, and a lamp."""
    async with city.client() as client:
        for key in ("hong-gai", "bai-chay"):
            await client.add_area(shapes.AreaNew(key=key, name=key))
    for key, area, labels in (
        ("wm-1", "hong-gai", ()),
        ("wm-2", "bai-chay", ()),
        ("town-hall", "hong-gai", ("public",)),
    ):
        await city.add(key, "water_meter", area=area, labels=labels)
        await city.path.say(key, json.dumps({"volume": 12.5, "unknown_thing": 1}))
    await city.add("lamp-1", "streetlight", area="hong-gai")
    await city.path.say("lamp-1", json.dumps({"power": 40.0}))
    return city


async def ask(city: City, path: str, key: str, role: str, **more: Any) -> Reply:
    return await city.ask("GET", path.format(key=key), role=role, **more)


def refusal(reply: Reply) -> tuple[int, str, str]:
    return reply.status, reply.json["code"], reply.json["facts"]["action"]


async def test_a_viewer_sees_of_a_households_meter_that_it_lives_and_nothing_that_it_says(homes: City) -> None:
    for path in (*SERIES, *NEWEST):
        assert refusal(await ask(homes, path, "wm-1", "viewer")) == (403, "api.forbidden", "household"), path
    shown = (await ask(homes, "/devices/{key}", "wm-1", "viewer")).json
    assert (shown["latest"], shown["withheld"], shown["state"]) == ([], True, "ok")
    lists = await homes.ask("GET", "/telemetry/latest", role="viewer")
    assert {each["device"] for each in lists.json["items"]} == {"town-hall", "lamp-1"}
    sums = await homes.ask("GET", "/telemetry/stats?class=water_meter&by=device&metrics=volume", role="viewer")
    assert {each["device"] for each in sums.json["items"]} == {"town-hall"}
    assert {each["device"] for each in (await homes.ask("GET", "/held", role="viewer")).json["items"]} == {"town-hall"}
    held = (await homes.ask("GET", "/held?device=wm-1")).json["items"][0]["id"]
    assert refusal(await homes.ask("GET", f"/held/{held}", role="viewer")) == (403, "api.forbidden", "household")


async def test_an_alarm_tells_a_viewer_no_number_of_a_household(homes: City) -> None:
    now = datetime.now(UTC)
    back = [{"time": (now - timedelta(minutes=45 - 5 * n)).isoformat(), "flow": -0.7531} for n in range(10)]

    async def heard(role: str, key: str) -> str:
        connected = asyncio.Event()
        async with homes.client(role) as client, aclosing(client.events(connected=connected.set)) as events:
            first = asyncio.ensure_future(anext(events))
            await connected.wait()
            await homes.path.say(key, json.dumps(back))
            while not isinstance(happened := await first, shapes.AlarmHappened):
                first = asyncio.ensure_future(anext(events))
            return msgspec.json.encode(happened).decode()

    for key, role, told in (("wm-1", "viewer", False), ("wm-2", "technician", True), ("town-hall", "viewer", True)):
        said = [await heard(role, key)]
        (alarm,) = (await homes.ask("GET", f"/alarms?open=false&device={key}", role=role)).json["items"]
        number = alarm["id"]
        paths = (f"/alarms?open=false&device={key}", f"/alarms/{number}", f"/alarms/{number}/trace", f"/devices/{key}")
        said += [(await homes.ask("GET", path, role=role)).data.decode() for path in paths]
        assert ["0.7531" in each for each in said] == [told] * 5, (key, role)
        assert alarm["rule"] == "water_meter.backflow"


async def test_a_technician_reads_the_meter_and_not_how_its_household_lives(homes: City) -> None:
    for path in NEWEST:
        assert (await ask(homes, path, "wm-1", "technician")).status == 200, path
    shown = (await ask(homes, "/devices/{key}", "wm-1", "technician")).json
    assert ([each["value"] for each in shown["latest"]], shown["withheld"]) == ([12.5], False)
    for path in SERIES:
        assert refusal(await ask(homes, path, "wm-1", "technician")) == (403, "api.forbidden", "household"), path


async def test_an_operator_and_who_asks_for_a_public_meter_see_all(homes: City) -> None:
    for path in (*SERIES, *NEWEST):
        if "watch" in path:
            continue  # a stream without an end
        assert (await ask(homes, path, "wm-1", "operator")).status == 200, path
        assert (await ask(homes, path, "town-hall", "viewer")).status == 200, path


async def test_the_right_holds_where_it_was_given(homes: City) -> None:
    rights = (
        shapes.RightNew(role=shapes.Role.VIEWER),
        shapes.RightNew(role=shapes.Role.OPERATOR, area="hong-gai"),
    )
    async with homes.client() as admin:
        await admin.add_user(shapes.UserNew(name="an", password=PASSWORD, rights=rights))
        token = (await admin.login(shapes.LoginNewToken(user="an", password=PASSWORD, name="x"))).secret
    own: dict[str, Any] = {"role": None, "headers": {"Authorization": f"Bearer {token}"}}
    for path in (*SERIES[:5], *NEWEST):
        assert (await homes.ask("GET", path.format(key="wm-1"), **own)).status == 200, path
        reply = await homes.ask("GET", path.format(key="wm-2"), **own)
        assert (*refusal(reply), reply.json["facts"]["area"]) == (403, "api.forbidden_area", "household", "bai-chay")
    rows = (await homes.ask("GET", "/telemetry/export?class=water_meter", **own)).data.splitlines()
    assert {json.loads(row)["device"] for row in rows} == {"town-hall", "wm-1"}


async def test_nobody_makes_a_meter_public_who_may_not_see_it(homes: City) -> None:
    labels = ("public",)
    new = shapes.DeviceNew
    row = shapes.DeviceRow
    async with homes.client("technician") as technician:
        for asked in (
            technician.edit_devices(shapes.DeviceEdit(keys=("wm-1",), add_labels=labels)),
            technician.add_device(new(key="wm-3", class_key="water_meter", labels=labels)),
            technician.add_device(new(key="wm-3", profile="native-water-meter", labels=labels)),
            technician.import_devices(shapes.DeviceImport(rows=(row(row=2, key="wm-1", labels=labels),))),
        ):
            assert await _refused(asked) == "household"
        await technician.add_device(new(key="lamp-2", class_key="streetlight", labels=labels))
        await technician.edit_devices(shapes.DeviceEdit(keys=("lamp-1",), add_labels=labels))
    async with homes.client("operator") as operator:
        await operator.edit_devices(shapes.DeviceEdit(keys=("wm-1",), add_labels=labels))
        assert (await ask(homes, SERIES[0], "wm-1", "viewer")).status == 200
        taken = await operator.edit_devices(shapes.DeviceEdit(keys=("wm-1",), drop_labels=labels))
    assert taken.operation is not None
    async with homes.client("technician") as technician:
        assert await _refused(technician.undo(taken.operation)) == "household"
    async with homes.client("operator") as operator:
        await operator.undo(taken.operation)


async def test_trying_a_rule_does_not_read_a_households_meter_out(homes: City) -> None:
    body = {"title": {"vi": "x", "en": "x"}, "severity": "low", "source": "test"}
    asked = {
        "since": (datetime.now(UTC) - timedelta(days=1)).isoformat(),
        "body": {**body, "when": {"metric": "volume", "above": 12}},
    }
    seen = await homes.ask("POST", "/rules/water_meter.curious/try", role="viewer", json=asked)
    assert {each["source"] for each in seen.json["raised"]} == {"town-hall"}
    seen = await homes.ask("POST", "/rules/water_meter.curious/try", role="operator", json=asked)
    assert {each["source"] for each in seen.json["raised"]} == {"town-hall", "wm-1", "wm-2"}


async def _refused(asked: Any) -> str:
    with pytest.raises(ForbiddenError) as said:
        await asked
    return str(said.value.facts["action"])
