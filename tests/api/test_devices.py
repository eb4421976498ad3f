"""Devices over HTTP: one, many, found again, removed, restored, accepted from the inbox."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from iot_core.api.application import ROUTES
from iot_core.api.shapes import AreaNew, AuditQuery, DeviceNew, DeviceState, QualityName
from iot_core.errors import ConflictError, NotFoundError, RequestError
from iot_core.model import RESERVED_KEYS, is_reserved
from iot_core.registry.credentials import Authenticator
from iot_core.settings import Settings
from tests.api.city import City


async def test_a_device_is_added_with_a_secret_that_is_shown_once_and_kept_only_salted(city: City) -> None:
    async with city.client() as client:
        added = await client.add_device(DeviceNew(key="smoke-1", class_key="fire_detector", name="Khói 1"))
        assert added.secret
        assert added.address == "iot:smoke-1"
        shown = await client.device("smoke-1")
    assert added.secret not in repr(shown)
    assert (shown.class_key, shown.profile, shown.state) == ("fire_detector", "native-fire-detector", "never")
    assert [unit.has_secret for unit in shown.units] == [True]
    assert await Authenticator(city.path.pool)("smoke-1", added.secret)
    stored = await city.path.pool.fetchval("SELECT string_agg(to_jsonb(t)::text, '') FROM iot.audit t")
    assert "smoke-1" in stored
    assert added.secret not in stored
    assert "$7$" not in stored


async def test_the_class_follows_from_the_profile_and_a_contradiction_is_refused(city: City) -> None:
    async with city.client() as client:
        added = await client.add_device(DeviceNew(key="air-1", profile="airrohr", address="12345"))
        assert (added.device.class_key, added.address) == ("air_quality", "mqtt:airrohr/12345")
        with pytest.raises(RequestError, match=r"registry\.other_class"):
            await client.add_device(DeviceNew(key="air-2", profile="airrohr", class_key="streetlight", address="2"))
        with pytest.raises(NotFoundError, match=r"profile\.unknown"):
            await client.add_device(DeviceNew(key="air-2", profile="airror", address="2"))
        with pytest.raises(RequestError, match=r"registry\.profile_needed"):
            await client.add_device(DeviceNew(key="air-2"))


async def test_a_key_or_address_is_given_once_and_the_error_says_to_whom(city: City) -> None:
    async with city.client() as client:
        await client.add_device(DeviceNew(key="m-1", profile="seeed-s500", address="10.0.3.7/12"))
        with pytest.raises(ConflictError, match=r"registry\.device_exists"):
            await client.add_device(DeviceNew(key="m-1", profile="seeed-s500", address="10.0.3.7/13"))
        with pytest.raises(ConflictError) as caught:
            await client.add_device(DeviceNew(key="m-2", profile="seeed-s500", address="modbus://10.0.3.7:502/12"))
    assert caught.value.facts == {"address": "modbus://10.0.3.7:502/12", "key": "m-1"}


async def test_a_batch_is_added_whole_or_not_at_all(city: City) -> None:
    new = [DeviceNew(key=f"lamp-{n:03}", class_key="streetlight", labels=("a", "b,c")) for n in range(300)]
    async with city.client() as client:
        with pytest.raises(NotFoundError, match=r"registry\.no_area"):
            await client.add_devices([*new, DeviceNew(key="lamp-x", class_key="streetlight", area="nowhere")])
        with pytest.raises(RequestError, match=r"registry\.key_twice"):
            await client.add_devices([*new, new[0]])
        assert (await client.devices()).total == 0
        added = await client.add_devices(new)
        assert [each.device.key for each in added.items] == [each.key for each in new]
        assert len({each.secret for each in added.items}) == 300
        assert (await client.device("lamp-007")).labels == ("a", "b,c")
        assert await city.path.pool.fetchval("SELECT count(*) FROM iot.audit WHERE action = 'device.add'") == 300
        with pytest.raises(ConflictError):
            await client.add_devices([DeviceNew(key="lamp-y", class_key="streetlight"), new[5]])
        assert (await client.devices()).total == 300


async def test_half_a_position_is_refused(city: City) -> None:
    async with city.client() as client:
        for half in (DeviceNew(key="m-1", latitude=20.9), DeviceNew(key="m-1", longitude=107.1)):
            with pytest.raises(RequestError, match=r"registry\.half_position"):
                await client.add_device(msgspec.structs.replace(half, profile="native-water-meter"))
        assert (await client.devices()).total == 0


async def test_devices_are_found_by_class_area_state_and_folded_text(city: City) -> None:
    async with city.client() as client:
        await client.add_area(AreaNew(key="qn", name="Quảng Ninh", name_en="Quang Ninh", kind="province"))
        await client.add_area(AreaNew(key="hl", name="Hạ Long", parent="qn"))
        await client.add_device(DeviceNew(key="s-1", class_key="fire_detector", name="Chợ Hạ Long", area="hl"))
        await client.add_device(DeviceNew(key="s-2", class_key="fire_detector", name="Đường Bãi Cháy", area="qn"))
        await client.add_device(DeviceNew(key="l-1", class_key="streetlight", name="Cột 1"))

        async def keys(**asked: str) -> list[str]:
            return [each.key for each in (await client.devices(**asked)).items]  # type: ignore[arg-type]

        assert await keys(search="ha long") == ["s-1"]
        assert await keys(search="HẠ  cho") == ["s-1"]
        assert await keys(search="duong") == ["s-2"]
        assert await keys(search="%") == []
        assert await keys(area="qn") == ["s-1", "s-2"]
        assert await keys(area="hl") == ["s-1"]
        assert await keys(class_key="streetlight") == ["l-1"]
        assert await keys(state="never") == ["l-1", "s-1", "s-2"]
        assert await keys(state="alarm") == []
        with pytest.raises(NotFoundError, match=r"registry\.no_area"):
            await keys(area="nowhere")
        shown = await client.device("s-1")
        assert (shown.area_path, shown.area_path_en) == (("Quảng Ninh", "Hạ Long"), ("Quang Ninh", "Hạ Long"))


async def test_a_long_list_is_read_page_by_page(city: City) -> None:
    async with city.client() as client:
        await client.add_devices([DeviceNew(key=f"d-{n}", class_key="water_meter") for n in range(5)])
        first = await client.devices(limit=2)
        second = await client.devices(limit=2, after=first.items[-1].key)
        last = await client.devices(limit=2, after=second.items[-1].key)
    assert [[each.key for each in page.items] for page in (first, second, last)] == [
        ["d-0", "d-1"], ["d-2", "d-3"], ["d-4"]
    ]  # fmt: skip
    assert {page.total for page in (first, second, last)} == {5}


async def test_a_removed_device_keeps_its_history_and_comes_back_with_the_secret_it_knows(city: City) -> None:
    secret = await city.add("smoke-1")
    await city.path.say("smoke-1", '{"smoke": false, "battery": 80, "seq": 1}')
    async with city.client() as client:
        removed = await client.remove_device("smoke-1")
        assert (removed.state, removed.address) == (DeviceState.RETIRED, None)
        assert await client.remove_device("smoke-1") == removed
        assert (await client.devices()).items == ()
        assert [each.key for each in (await client.devices(state=DeviceState.RETIRED)).items] == ["smoke-1"]
        assert not await Authenticator(city.path.pool)("smoke-1", secret)
        assert len((await client.telemetry("smoke-1")).items) == 1
        with pytest.raises(ConflictError, match=r"registry\.device_retired"):
            await client.add_device(DeviceNew(key="smoke-1", class_key="fire_detector"))

        number = max(each.operation or 0 for each in (await client.audit(AuditQuery(key="smoke-1"))).items)
        with pytest.raises(ConflictError, match=r"registry\.undone_by_restore"):
            await client.undo(number)
        back = await client.restore_device("smoke-1")
        assert back.secret is None
        assert await Authenticator(city.path.pool)("smoke-1", secret)
        shown = await client.device("smoke-1")
        assert (shown.lifecycle, [unit.mounted_to is None for unit in shown.units]) == ("active", [True, False])
        with pytest.raises(ConflictError, match=r"registry\.not_retired"):
            await client.restore_device("smoke-1")

        await client.remove_device("smoke-1")
        fresh = (await client.restore_device("smoke-1", fresh_secret=True)).secret
    assert fresh
    assert fresh != secret
    assert not await Authenticator(city.path.pool)("smoke-1", secret)


async def test_a_device_is_not_restored_where_somebody_else_stands(city: City) -> None:
    async with city.client() as client:
        await client.add_device(DeviceNew(key="m-1", profile="seeed-s500", address="10.0.3.7/12"))
        await client.remove_device("m-1")
        await client.add_device(DeviceNew(key="m-2", profile="seeed-s500", address="10.0.3.7/12"))
        with pytest.raises(ConflictError) as caught:
            await client.restore_device("m-1")
        assert caught.value.facts["key"] == "m-2"
        assert (await client.device("m-1")).state == "retired"


async def test_what_waited_in_the_inbox_is_taken_up_when_its_sender_is_added(city: City) -> None:
    for n in range(3):
        await city.path.say("smoke-9", f'{{"smoke": false, "battery": {70 + n}, "seq": {n}}}')
    async with city.client() as client:
        waiting = (await client.inbox()).items
        assert [(each.address, each.driver) for each in waiting] == [("iot:smoke-9", "mqtt")]
        assert "battery" in waiting[0].payload
        added = await client.add_device(DeviceNew(key="smoke-9", class_key="fire_detector"))
        assert added.replayed >= 1
        assert (await client.inbox()).items == ()
        assert len((await client.telemetry("smoke-9")).items) == added.replayed


async def test_latest_values_have_their_types_and_a_bad_part_is_held_with_its_reason(city: City) -> None:
    await city.add("smoke-1")
    await city.path.say("smoke-1", '{"smoke": false, "temperature": 21.5, "smell": 3}')
    async with city.client() as client:
        found = {each.metric: each for each in (await client.latest("smoke-1")).items}
        assert found["smoke"].value is False
        assert found["temperature"].value == 21.5
        assert found["temperature"].quality is QualityName.UNCERTAIN
        assert found["temperature"].ucum == "Cel"
        held = (await client.held(device="smoke-1")).items
        assert [each.reason for each in held] == ["unknown_metric"]
        assert held[0].said != "held.unknown_metric"
        assert "smell" in held[0].payload
        shown = await client.device("smoke-1")
    assert (shown.stored_once, shown.held) == (False, 1)


async def test_what_is_not_there_is_said_so(city: City) -> None:
    async with city.client() as client:
        for ask in (client.device, client.latest, client.telemetry, client.remove_device, client.restore_device):
            with pytest.raises(NotFoundError):
                await ask("nobody")
        with pytest.raises(NotFoundError):
            await client.held(device="nobody")
        with pytest.raises(NotFoundError):
            await client.alarms(device="nobody")
        with pytest.raises(NotFoundError):
            await client.device("../areas?x=1")
        with pytest.raises(NotFoundError, match=r"api\.no_class"):
            await client.devices(class_key="street_light")
        await city.add("smoke-1")
        now = datetime.now(UTC)
        with pytest.raises(RequestError, match=r"api\.span_reversed"):
            await client.telemetry("smoke-1", start=now, end=now - timedelta(hours=1))
        with pytest.raises(RequestError, match=r"api\.no_metric"):
            await client.telemetry("smoke-1", metrics=["smell"])


@pytest.mark.parametrize("key", ["claim", "rows", "iot-core", "iot-core-ingest"])
async def test_a_device_cannot_be_called_by_a_word_of_the_platform(city: City, key: str) -> None:
    reply = await city.ask("POST", "/devices", json={"key": key, "class": "streetlight"})
    assert (reply.status, reply.json["code"]) == (400, "registry.reserved_key")


def test_every_word_that_stands_where_keys_stand_in_paths_is_reserved() -> None:
    words = {
        parts[2] for route in ROUTES if (parts := route.path.split("/"))[1] in {"devices", "areas"} and len(parts) > 2
    }
    assert {word for word in words if not word.startswith("{")} <= RESERVED_KEYS
    assert is_reserved(Settings().mqtt.client_id)
