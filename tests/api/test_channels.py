"""A unit that feeds several devices is told over HTTP and the CLI which channel speaks of which device."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from iot_core.api.shapes import DeviceNew
from iot_core.errors import ConflictError, NotFoundError, RequestError
from tests.api.city import City

ADDRESS = "modbus://10.0.3.7:502/1"


async def test_a_mapped_channel_feeds_its_device_from_the_next_message_on(city: City) -> None:
    async with city.client() as client:
        await client.add_device(DeviceNew(key="panel", profile="rtk-smartalarm", address="10.0.3.7/1"))
        await client.add_device(DeviceNew(key="hall", class_key="fire_detector"))
        before = await client.channels("panel")
        assert [(each.channel, each.device) for each in before.items] == [(str(n), None) for n in range(1, 9)]
        after = await client.feed_channel("panel", "2", "hall")
        assert [each.device for each in after.items if each.channel == "2"] == ["hall"]
        await city.path.reload()
        await city.path.say(
            "panel", b"", driver="modbus", address=ADDRESS, received_at=datetime.now(UTC),
            registers={"coil:1": [0, 1], "coil:11": [0, 1], "coil:21": [0, 0]},
        )  # fmt: skip
        shown = await client.device("hall")
        assert {each.metric: each.value for each in shown.latest} == {"alarm": True, "disabled": False}
        assert [each.rule for each in shown.alarms] == ["fire_detector.alarm"]
        again = await client.feed_channel("panel", "2", None)
        assert {each.device for each in again.items} == {None}


async def test_what_cannot_be_fed_is_refused_with_what_can(city: City) -> None:
    async with city.client() as client:
        await client.add_device(DeviceNew(key="panel", profile="rtk-smartalarm", address="10.0.3.7/1"))
        await client.add_device(DeviceNew(key="hall", class_key="fire_detector"))
        with pytest.raises(NotFoundError, match=r"channel\.unknown") as caught:
            await client.feed_channel("panel", "9", "hall")
        assert caught.value.facts["known"] == "1, 2, 3, 4, 5, 6, 7, 8"
        with pytest.raises(NotFoundError, match=r"channel\.no_device"):
            await client.feed_channel("panel", "1", "nowhere")
        with pytest.raises(ConflictError, match=r"channel\.itself"):
            await client.feed_channel("panel", "1", "panel")
        with pytest.raises(RequestError, match=r"channel\.none"):
            await client.feed_channel("hall", "1", "panel")
