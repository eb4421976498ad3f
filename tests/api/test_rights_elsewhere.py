"""A technician of one area reaches for another: through selectors, schedules, windows, channels, bridges, the inbox.

ha-long ── hong-gai (lamp-1) ── hong-gai-1 (smoke-1)
        └─ bai-chay (lamp-2)
(no area: lamp-3)
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import pytest

from iot_core.api import shapes
from iot_core.api.application import ROUTES
from iot_core.api.routes import Reach
from iot_core.client import Client
from iot_core.errors import ForbiddenError
from iot_core.registry.authority import Authority
from tests.api.city import City
from tests.api.test_rights_by_area import technician, there

__all__ = ["there"]

CITY_WIDE = {
    "/firmware", "/firmware/signers", "/firmware/signers/{name}", "/firmware/{id}/plan", "/campaigns",
    "/campaigns/{id}", "/campaigns/{id}/pause", "/campaigns/{id}/resume", "/campaigns/{id}/rollback",
    "/campaigns/{id}/stop", "/inbox", "/alarms/kpi", "/alarms/handover",
    "/batches", "/batches/{key}", "/ca", "/centers", "/centers/{key}",
    "/escalations", "/escalations/{key}", "/holidays", "/holidays/{day}", "/inbox/reject", "/push", "/push/log",
    "/push/prove", "/push/retry", "/push/{key}", "/push/{key}/rotate", "/push/{key}/test", "/reports",
    "/reports/again", "/survey", "/telemetry/import", "/tokens", "/tokens/{id}", "/users", "/users/{name}",
    "/users/{name}/password", "/users/{name}/rights",
}  # fmt: skip
"""What only a right everywhere opens, because it is of the whole city: a new route must be put here on purpose."""
LAMPS = "class=streetlight"
POINTS = ("dusk dim level=60",)


async def refused(asked: Awaitable[Any], area: str, code: str = "api.forbidden_area") -> None:
    code = "api.forbidden_no_area" if area == "-" else code
    with pytest.raises(ForbiddenError) as said:
        await asked
    assert (said.value.code, said.value.facts.get("area", area)) == (code, area), said.value.facts


async def place(admin: Client) -> None:
    """Let the lamps stand somewhere: a schedule needs the sun of their place."""
    for key, latitude in (("lamp-1", 20.95), ("lamp-2", 20.96)):
        await admin.edit_devices(shapes.DeviceEdit(keys=(key,), latitude=latitude, longitude=107.0))


def test_only_what_is_of_the_whole_city_is_closed_to_who_has_rights_in_some_areas() -> None:
    assert {route.path for route in ROUTES if route.reaches is Reach.EVERYWHERE} == CITY_WIDE


async def test_a_schedule_holds_in_the_areas_of_who_makes_it_now_and_later(there: City) -> None:
    async with there.client() as admin, technician(there, "hong-gai") as client:
        await place(admin)
        await refused(client.add_schedule("all", LAMPS, POINTS), "bai-chay")
        # It means lamp-1 only today; a lamp that is added elsewhere tomorrow would be commanded too.
        await refused(client.add_schedule("mine", f"{LAMPS} and key=lamp-1", POINTS), "", "api.selector_area")
        await refused(
            client.add_schedule("mine", f"{LAMPS} and key=lamp-1 and area=ha-long", POINTS), "", "api.selector_area"
        )
        made = await client.add_schedule("mine", f"{LAMPS} and area=hong-gai", POINTS)
        assert made.devices == 1
        await admin.add_schedule("theirs", f"{LAMPS} and area=bai-chay", POINTS)
        await admin.add_schedule("city", LAMPS, POINTS)
        assert [each.key for each in (await client.schedules()).items] == ["city", "mine"]
        assert (await client.schedule("city")).devices == 3
        await refused(client.schedule("theirs"), "bai-chay")
        for key in ("theirs", "city"):
            await refused(client.override_schedule(key, "dim level=0", 60), "bai-chay")
            await refused(client.remove_schedule(key), "bai-chay")
        await client.override_schedule("mine", "dim level=10", 60)
        await client.remove_schedule("mine")
        assert [each.key for each in (await admin.schedules()).items] == ["city", "theirs"]


async def test_a_window_over_a_label_or_a_wider_area_keeps_no_alarm_elsewhere_quiet(there: City) -> None:
    async with there.client() as admin, technician(there, "hong-gai") as client:
        await admin.edit_devices(shapes.DeviceEdit(keys=("smoke-1",), add_labels=("works",)))
        ends = await there.path.pool.fetchval("SELECT now() + interval '1 hour'")
        await client.open_window(shapes.WindowNew(label="works", ends=ends, reason="paint"))
        await admin.edit_devices(shapes.DeviceEdit(keys=("lamp-2",), add_labels=("works",)))  # labelled afterwards
        assert not (await admin.windows(device="lamp-2")).items
        assert len((await admin.windows(device="smoke-1")).items) == 1
        await refused(client.open_window(shapes.WindowNew(label="works", ends=ends)), "bai-chay")
        await admin.remove_device("lamp-2")
        await refused(client.open_window(shapes.WindowNew(area="ha-long", ends=ends)), "ha-long")  # it covers ours only
        await client.open_window(shapes.WindowNew(area="hong-gai", ends=ends))


async def test_an_undo_puts_nothing_back_where_it_may_not_be_put(there: City) -> None:
    async with there.client() as admin, technician(there, "hong-gai") as client:
        moved = await admin.edit_devices(shapes.DeviceEdit(keys=("lamp-2",), area="hong-gai"))
        await refused(client.undo(moved.operation or 0), "bai-chay")
        hung = await admin.move_area("bai-chay", shapes.AreaMove(parent="hong-gai"))
        await refused(client.undo(hung.operation or 0), "ha-long")
        assert (await admin.area("bai-chay")).parent == "hong-gai"


async def test_areas_are_imported_below_ones_own_only(there: City) -> None:
    new = shapes.AreaNew
    async with technician(there, "hong-gai") as client:
        for areas, area in (
            ((new(key="x", name="X"),), "-"),
            ((new(key="x", name="X", parent="ha-long"),), "ha-long"),
            ((new(key="x", name="X", parent="y"), new(key="y", name="Y", parent="bai-chay")), "bai-chay"),
            ((new(key="bai-chay", name="Mine", parent="hong-gai"),), "bai-chay"),
            ((new(key="hong-gai", name="Free", parent=None),), "-"),
        ):
            await refused(client.import_areas(shapes.AreaImport(areas=areas)), area)
        street = new(key="le-loi", name="Lê Lợi", parent="hong-gai-1")
        house = new(key="le-loi-1", name="1", parent="le-loi")
        assert (await client.import_areas(shapes.AreaImport(areas=(house, street)))).total == 2


async def test_a_channel_that_feeds_a_device_elsewhere_is_not_taken_from_it(there: City) -> None:
    async with there.client() as admin, technician(there, "hong-gai") as client:
        panel = shapes.DeviceNew(key="panel", profile="zigbee2mqtt-smoke", address="hall", area="hong-gai")
        await admin.add_device(panel)
        await admin.feed_channel("panel", "zone-2", "lamp-2")
        for device in ("smoke-1", None):
            await refused(client.feed_channel("panel", "zone-2", device), "bai-chay")
        await admin.feed_channel("panel", "zone-2", None)
        await refused(client.feed_channel("panel", "zone-2", "lamp-2"), "bai-chay")
        await client.feed_channel("panel", "zone-2", "smoke-1")


async def test_a_bridge_is_not_opened_over_what_speaks_elsewhere(there: City) -> None:
    async with there.client() as admin, technician(there, "hong-gai") as client:
        for key, area in (("gw-1", "hong-gai"), ("gw-2", "bai-chay")):
            await admin.add_device(shapes.DeviceNew(key=key, profile="native-streetlight", area=area))
        await admin.set_bridge("gw-2", ["site-2"])
        await admin.add_device(
            shapes.DeviceNew(key="smoke-2", profile="zigbee2mqtt-smoke", address="attic", area="bai-chay")
        )
        for topic in ("site-2", "site-2/floor-1", "zigbee2mqtt", "zigbee2mqtt/attic"):
            await refused(client.set_bridge("gw-1", [topic]), "bai-chay")
        await client.set_bridge("gw-1", ["site-1", "zigbee2mqtt/cellar"])
        await refused(client.set_bridge("gw-2", ["site-1"]), "bai-chay")


async def test_the_inbox_is_for_technicians_and_what_they_accept_stands_in_their_area(there: City) -> None:
    async with there.client() as admin, technician(there, "hong-gai") as client:
        for key, area in (("gw-1", "hong-gai"), ("gw-2", "bai-chay")):
            await admin.add_device(shapes.DeviceNew(key=key, profile="native-streetlight", area=area))
            await admin.set_bridge(key, [f"zigbee2mqtt/{key}"])
        for name in ("gw-1/hall", "gw-1/attic", "gw-2/hall", "nobodys"):
            topic = f"zigbee2mqtt/{name}"
            await there.path.say("", b'{"smoke": false}', address=f"mqtt:{topic}", topic=topic)
        seen = {each.address.rpartition("zigbee2mqtt/")[2] for each in (await client.inbox()).items}
        assert seen == {"gw-1/hall", "gw-1/attic", "nobodys"}
        assert len((await admin.inbox()).items) == 4

        def accept(name: str, **more: Any) -> Awaitable[Any]:
            address = f"mqtt:zigbee2mqtt/{name}"
            return client.accept(shapes.InboxAccept(address=address, profile="zigbee2mqtt-smoke", **more))

        await refused(accept("gw-1/hall", key="s-1"), "-")
        await refused(accept("gw-1/hall", key="s-1", area="bai-chay"), "bai-chay")
        await refused(accept("gw-2/hall", key="s-1", area="hong-gai"), "bai-chay")
        await refused(accept("gw-1/hall", key="lamp-2", replace=True), "bai-chay")
        await accept("gw-1/hall", key="s-1", area="hong-gai")
        await refused(client.accept_all(shapes.InboxAcceptAll(profile="zigbee2mqtt-smoke")), "-")
        done = await client.accept_all(shapes.InboxAcceptAll(profile="zigbee2mqtt-smoke", area="hong-gai"))
        assert [each.address for each in done.preview] == ["mqtt:zigbee2mqtt/gw-1/attic"]
        await refused(client.reject(addresses=["mqtt:zigbee2mqtt/nobodys"]), "*")


async def test_what_a_bridge_elsewhere_carries_is_not_taken_by_adding_importing_or_exchanging_a_device(
    there: City,
) -> None:
    async with there.client() as admin, technician(there, "hong-gai") as client:
        for key, area in (("gw-1", "hong-gai"), ("gw-2", "bai-chay")):
            await admin.add_device(shapes.DeviceNew(key=key, profile="native-streetlight", area=area))
            await admin.set_bridge(key, [f"zigbee2mqtt/{key}"])
        topic = "zigbee2mqtt/gw-2/hall"
        await there.path.say("", b'{"smoke": true}', address=f"mqtt:{topic}", topic=topic)
        facts: dict[str, Any] = {"profile": "zigbee2mqtt-smoke", "area": "hong-gai"}
        theirs = {**facts, "address": "gw-2/hall"}
        await refused(client.add_device(shapes.DeviceNew(key="s-1", **theirs)), "bai-chay")
        await refused(client.add_devices([shapes.DeviceNew(key="s-1", **theirs)]), "bai-chay")
        for dry in (True, False):
            rows = (shapes.DeviceRow(row=2, key="s-1", **theirs),)
            await refused(client.import_devices(shapes.DeviceImport(rows=rows, dry_run=dry)), "bai-chay")
        await client.add_device(shapes.DeviceNew(key="s-1", **facts, address="gw-1/hall"))
        await refused(client.replace_device("s-1", shapes.DeviceReplace(address="gw-2/hall")), "bai-chay")
        await client.replace_device("s-1", shapes.DeviceReplace(address="gw-1/attic"))
        await admin.add_device(shapes.DeviceNew(key="s-2", **(theirs | {"area": "bai-chay"})))


async def test_new_secrets_are_made_in_ones_own_areas_only(there: City) -> None:
    async with there.client() as admin, technician(there, "hong-gai") as client:
        wanted = shapes.SecretsRotate
        for asked in (wanted(where=LAMPS), wanted(devices=("lamp-1", "lamp-2")), wanted(where=LAMPS, dry=True)):
            await refused(client.rotate_secrets(asked), "bai-chay")
        assert not await there.path.pool.fetchval("SELECT count(*) FROM iot.unit WHERE next_hash IS NOT NULL")
        assert (await client.rotate_secrets(wanted(where=f"{LAMPS} and area=hong-gai", dry=True))).total == 1
        (lamp,) = (await client.rotate_secrets(wanted(devices=("lamp-1",)))).states.items()
        assert lamp == ("queued", 1)
        order = (await admin.rotate_secrets(wanted(devices=("lamp-2",)))).number or 0
        await refused(client.cancel_order(order), "bai-chay")
        await refused(client.command_order(order), "bai-chay")


async def test_a_viewer_of_an_area_does_not_see_what_waits(there: City) -> None:
    async with technician(there, "hong-gai", role="viewer") as client:
        await refused(client.inbox(), "hong-gai", "api.forbidden")


async def test_rules_are_seen_and_changed_where_they_hold(there: City) -> None:
    async with there.client() as admin, technician(there, "hong-gai", role="admin") as client:
        rule = (await admin.rules_at("lamp-1")).items[0].rule

        def change(who: Client, where: str) -> Awaitable[Any]:
            return who.change_rule(rule, shapes.RuleChange(where=where, body={"for": "1h"}))

        for where in ("", "area=ha-long", "area=bai-chay", "device=lamp-2", "device=lamp-1", "label=old"):
            await change(admin, where)
        held = {each.where for each in (await client.rule_changes()).items}
        assert held == {each.where for each in (await admin.rule_changes()).items} - {"area=bai-chay", "device=lamp-2"}
        for where, area in (("", "*"), ("label=old", "*"), ("area=ha-long", "ha-long"), ("device=lamp-2", "bai-chay")):
            await refused(change(client, where), area)
        await change(client, "area=hong-gai")
        await change(client, "device=lamp-1")


async def test_certificates_are_listed_and_revoked_in_ones_own_areas(there: City, tmp_path: Any) -> None:
    authority = Authority(tmp_path / "authority")
    async with there.path.pool.acquire() as connection:
        await authority.ensure(connection, by="test")
        issued = {
            key: await authority.issue(connection, key, days=9, csr=None, by="test") for key in ("lamp-1", "lamp-2")
        }
    async with technician(there, "hong-gai", role="admin") as client:
        assert [each.device for each in (await client.certificates()).items] == ["lamp-1"]
        assert (await client.batches()).items == ()
        await refused(client.revoke_certificate(issued["lamp-2"].serial), "bai-chay")
        async with there.path.pool.acquire() as connection:
            numbers = {each.serial for each in await authority.certificates(connection) if each.revoked_at is None}
        assert numbers == {each.serial for each in issued.values()}
