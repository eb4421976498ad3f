"""Rights that hold in an area: lists show what stands there, and everything else is refused by right and area.

ha-long ── hong-gai (lamp-1) ── hong-gai-1 (smoke-1)
        └─ bai-chay (lamp-2)
(no area: lamp-3)
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from iot_core.api import shapes
from iot_core.api.application import ROUTES
from iot_core.api.routes import Reach
from iot_core.client import Client
from iot_core.errors import ForbiddenError, RequestError
from iot_core.registry import commands
from tests.api.city import City

PASSWORD = "four unrelated words 1"


@pytest.fixture
async def there(city: City) -> City:
    """Give a city with areas and devices, and a technician for one of the areas."""
    async with city.client() as client:
        for key, parent in (
            ("ha-long", None),
            ("hong-gai", "ha-long"),
            ("hong-gai-1", "hong-gai"),
            ("bai-chay", "ha-long"),
        ):
            await client.add_area(shapes.AreaNew(key=key, name=key, parent=parent))
        for key, area in (("lamp-1", "hong-gai"), ("smoke-1", "hong-gai-1"), ("lamp-2", "bai-chay"), ("lamp-3", None)):
            class_key = "fire_detector" if key == "smoke-1" else "streetlight"
            await client.add_device(shapes.DeviceNew(key=key, class_key=class_key, area=area))
    return city


@asynccontextmanager
async def technician(city: City, *areas: str, role: str = "technician") -> AsyncIterator[Client]:
    """Give the client of a user who has a role in some areas."""
    rights = tuple(shapes.RightNew(role=shapes.Role(role), area=area) for area in areas)
    async with city.client() as admin:
        await admin.add_user(shapes.UserNew(name="an", password=PASSWORD, rights=rights))
    async with Client(city.url, lang="en") as stranger:
        token = await stranger.login(shapes.LoginNewToken(user="an", password=PASSWORD, name="laptop"))
    async with Client(city.url, token.secret, lang="en") as client:
        yield client


def keys(found: Any) -> list[str]:
    return [each.key for each in found.items]


async def test_lists_show_what_stands_in_the_areas_of_who_asks(there: City) -> None:
    async with technician(there, "hong-gai") as client:
        assert keys(await client.devices()) == ["lamp-1", "smoke-1"]
        assert (await client.devices(limit=1)).total == 2
        assert keys(await client.device_rows()) == ["lamp-1", "smoke-1"]
        assert keys(await client.device_rows("class=streetlight")) == ["lamp-1"]
        assert keys(await client.areas()) == ["hong-gai", "hong-gai-1"]
        assert [each.key for each in (await client.area_tree()).items] == ["hong-gai"]
        assert keys(await client.map()) == ["lamp-1", "smoke-1"]
        assert (await client.me()).rights == (shapes.Right(role=shapes.Role.TECHNICIAN, area="hong-gai"),)
        assert {each.subject for each in (await client.audit(shapes.AuditQuery())).items} == {
            "device/lamp-1", "device/smoke-1", "area/hong-gai", "area/hong-gai-1",
        }  # fmt: skip


async def test_a_devices_audit_tells_what_it_was_ordered_to_do_to_whom_its_area_is_open(there: City) -> None:
    async def order(*devices: str) -> int:
        async with there.path.pool.acquire() as connection:
            ids = await connection.fetch("SELECT id FROM iot.device WHERE key = ANY($1)", devices)
            new = [commands.New(device_id=row["id"]) for row in ids]
            soon = datetime.now(UTC) + timedelta(hours=1)
            return (await commands.create(connection, "reset", {}, new, by="the admin", expires_at=soon))[0]

    both, far = await order("smoke-1", "lamp-2"), await order("lamp-2")
    async with there.client() as admin:
        await admin.cancel_order(far)
        said = await admin.audit(shapes.AuditQuery(key="lamp-2"))
        assert [each.action for each in said.items] == ["command.cancel", "command.send", "command.send", "device.add"]
    async with technician(there, "hong-gai") as client:
        mine = [each for each in (await client.audit(shapes.AuditQuery())).items if each.action.startswith("command")]
        assert [each.subject for each in mine] == [f"command-order/{both}"]
        assert (await client.audit(shapes.AuditQuery(key="lamp-2"))).items == tuple(mine)


async def test_alarms_of_elsewhere_are_neither_listed_nor_shown_nor_taken(there: City) -> None:
    here, elsewhere = await _alarm(there, "smoke-1"), await _alarm(there, "lamp-2")
    async with technician(there, "hong-gai") as client:
        listed = await client.alarms()
        assert ([each.id for each in listed.items], listed.total) == ([here], 1)
        assert (await client.acknowledge(here)).acknowledged_by == "an"
        for refused in (client.alarm(elsewhere), client.acknowledge(elsewhere), client.alarms(device="lamp-2")):
            with pytest.raises(ForbiddenError) as said:
                await refused
            assert said.value.code == "api.forbidden_area"
            assert said.value.facts["area"] == "bai-chay"


async def test_writes_elsewhere_are_refused_by_right_and_area(there: City) -> None:
    new = shapes.DeviceNew
    edit = shapes.DeviceEdit
    async with technician(there, "hong-gai") as client:
        await client.add_device(new(key="lamp-4", class_key="streetlight", area="hong-gai-1"))
        await client.edit_devices(edit(keys=("lamp-4",), notes="new"))
        refusals: dict[str, list[Any]] = {
            "bai-chay": [
                client.remove_device("lamp-2"),
                client.add_device(new(key="lamp-9", class_key="streetlight", area="bai-chay")),
                client.edit_devices(edit(where="class=streetlight and area=bai-chay", notes="mine")),
                client.edit_devices(edit(keys=("lamp-1",), area="bai-chay")),
                client.edit_devices(edit(keys=("lamp-1", "lamp-2"), notes="mine")),
                client.rename_area("bai-chay", shapes.AreaRename(name="Mine")),
                client.command("lamp-2", "set_dim", {"level": 0}),
                client.set_login("lamp-2", "a", "b"),
                client.import_devices(
                    shapes.DeviceImport(rows=(shapes.DeviceRow(row=2, key="lamp-2", profile="native-streetlight"),))
                ),
                client.merge_areas(shapes.AreaMerge(areas=("hong-gai",), into="bai-chay")),
            ],
            "-": [
                client.remove_device("lamp-3"),
                client.add_device(new(key="lamp-9", class_key="streetlight")),
                client.move_area("hong-gai-1", shapes.AreaMove(parent=None)),
            ],
            "ha-long": [client.area("ha-long"), client.add_area(shapes.AreaNew(key="x", name="x", parent="ha-long"))],
            "*": [client.reject(addresses=["iot:x"]), client.alarm_kpi()],
        }
        for area, refused in refusals.items():
            for asked in refused:
                with pytest.raises(ForbiddenError) as said:
                    await asked
                facts = said.value.facts
                code = "api.forbidden_no_area" if area == "-" else "api.forbidden_area"
                assert (said.value.code, facts["area"], facts["held"]) == (code, area, "hong-gai"), facts
                assert facts["action"] in {"devices", "areas", "read", "command"}
    async with there.client() as admin:
        assert keys(await admin.devices()) == ["lamp-1", "lamp-2", "lamp-3", "lamp-4", "smoke-1"]


async def test_a_role_in_one_area_and_another_role_elsewhere_hold_each_where_they_were_given(there: City) -> None:
    async with technician(there, "hong-gai") as client, there.client() as admin:
        wider = shapes.RightNew(role=shapes.Role.VIEWER, area="ha-long")
        await admin.change_rights("an", shapes.UserRights(give=(wider,)))
        assert keys(await client.devices()) == ["lamp-1", "lamp-2", "smoke-1"]
        await client.edit_devices(shapes.DeviceEdit(keys=("lamp-1",), notes="mine"))
        with pytest.raises(ForbiddenError, match=r"api\.forbidden_area"):
            await client.edit_devices(shapes.DeviceEdit(keys=("lamp-2",), notes="mine"))


async def test_a_device_that_moves_into_the_area_comes_into_reach(there: City) -> None:
    async with technician(there, "hong-gai") as client, there.client() as admin:
        await admin.move_area("bai-chay", shapes.AreaMove(parent="hong-gai"))
        assert keys(await client.devices()) == ["lamp-1", "lamp-2", "smoke-1"]


async def test_undoing_reaches_no_further_than_doing(there: City) -> None:
    async with technician(there, "hong-gai") as client, there.client() as admin:
        here = await admin.edit_devices(shapes.DeviceEdit(keys=("lamp-1",), notes="a"))
        elsewhere = await admin.edit_devices(shapes.DeviceEdit(keys=("lamp-2",), notes="b"))
        await client.undo(here.operation or 0)
        with pytest.raises(ForbiddenError, match=r"api\.forbidden_area"):
            await client.undo(elsewhere.operation or 0)


async def test_the_stream_tells_of_the_areas_of_who_listens_only(there: City) -> None:
    async with technician(there, "hong-gai") as client:
        connected = asyncio.Event()
        heard: list[str | None] = []

        async def listen() -> None:
            async with aclosing(client.events(connected=connected.set)) as events:
                async for event in events:
                    if isinstance(event, shapes.AlarmHappened):
                        heard.append(event.alarm.device)
                        if event.alarm.device == "smoke-1":
                            return

        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            group.create_task(listen())
            await connected.wait()
            await _alarm(there, "lamp-2")
            await _alarm(there, "smoke-1")
    assert heard == ["smoke-1"]


async def test_a_program_s_token_holds_in_its_areas_only(there: City) -> None:
    async with there.client() as admin:
        made = await admin.add_token("scada", shapes.Role.TECHNICIAN, areas=["bai-chay"], days=1)
        assert made.token.areas == ("bai-chay",)
        with pytest.raises(RequestError, match=r"registry\.no_area"):
            await admin.add_token("x", shapes.Role.VIEWER, areas=["nowhere"])
    async with Client(there.url, made.secret, lang="en") as client:
        assert keys(await client.devices()) == ["lamp-2"]
        code = await client.sign_in_code()
    reply = await there.ask(
        "POST", "/session", role=None, headers={"X-Requested-With": "iot"}, json={"code": code.code}
    )
    cookie = {"Cookie": reply.headers["Set-Cookie"].partition(";")[0]}
    listed = await there.ask("GET", "/devices", role=None, headers=cookie)
    assert [each["key"] for each in listed.json["items"]] == ["lamp-2"]


async def test_every_route_keeps_to_areas_or_is_closed_to_who_has_rights_in_some_only(there: City) -> None:
    async with technician(there, "hong-gai", role="admin") as client:
        token = client._headers["Authorization"]
        for route in ROUTES:
            if route.action is None or route.path == "/login":
                continue
            path = route.path.replace("/devices/{key}", "/devices/lamp-2").replace("/areas/{key}", "/areas/bai-chay")
            asked = there.ask(
                route.method, re.sub(r"{\w+}", "999", path), role=None, headers={"Authorization": token}, json={"n": 1}
            )
            if route.reaches is Reach.EVERYWHERE or (route.reaches is Reach.PATH and path != route.path):
                reply = await asked
                assert (reply.status, reply.json["code"]) == (403, "api.forbidden_area"), route.path
            elif route.events:
                asked.close()  # streams are tried above
            else:
                assert (await asked).status not in {401, 500}, route.path


async def test_a_user_without_any_right_sees_nothing(there: City) -> None:
    async with technician(there, "hong-gai") as client, there.client() as admin:
        taken = shapes.RightNew(role=shapes.Role.TECHNICIAN, area="hong-gai")
        await admin.change_rights("an", shapes.UserRights(take=(taken,)))
        with pytest.raises(ForbiddenError) as said:
            await client.devices()
        assert (said.value.code, said.value.facts["action"]) == ("api.forbidden", "read")


async def _alarm(city: City, device: str) -> int:
    async with city.path.pool.acquire() as connection, connection.transaction():
        number: int = await connection.fetchval(
            """
            INSERT INTO iot.alarm (source_kind, source_id, device_id, rule, severity, title_vi, title_en, metric,
                raised_at, received_at)
            SELECT 'device', id, id, 'test', 'high', 'Thử', 'Test', 'smoke', now(), now() FROM iot.device WHERE key = $1
            RETURNING id
            """,
            device,
        )
        await connection.execute(
            "INSERT INTO iot.alarm_event (alarm_id, kind, at) VALUES ($1, 'raised', now())", number
        )
    return number
