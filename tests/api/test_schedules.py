"""Schedules over HTTP: where nobody knows where devices stand, their clock still counts."""

from __future__ import annotations

import pytest

from iot_core.errors import RequestError
from tests.api.city import City


async def test_a_schedule_by_the_clock_needs_nobody_to_know_where_its_devices_stand(city: City) -> None:
    await city.add("lamp-1", "streetlight")
    async with city.client() as client:
        with pytest.raises(RequestError, match=r"schedule\.no_place"):
            await client.add_schedule("evening", "class=streetlight", ["dusk dim level=100", "23:00 dim level=60"])
        added = await client.add_schedule("evening", "class=streetlight", ["18:00 dim level=100", "23:00 dim level=60"])
        shown = (await client.schedules()).items
    assert added.latitude is None
    assert {f"{each.at:%H:%M} {each.params['level']}" for each in added.coming} == {"18:00 100", "23:00 60"}
    assert [each.key for each in shown] == ["evening"]
