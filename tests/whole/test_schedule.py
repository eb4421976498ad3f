"""Schedules reach lamps: stored where they can keep them, sent to the others, and what was missed once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from iot_core.api import shapes
from iot_core.client import Client
from iot_core.errors import RequestError
from iot_core.registry import schedules
from simulators.obedience import Obedience
from tests.core import core_running, until
from tests.whole.test_twin import obeys

pytestmark = pytest.mark.timeout(120)
Free = Callable[[int], int]


async def sent(client: Client, device: str) -> list[shapes.Command]:
    return list((await client.commands(shapes.CommandsQuery(device=device))).items)


async def test_what_was_missed_is_caught_up_once_and_a_lamp_that_keeps_it_is_left_alone(
    dsn: str, state_path: Path, free_ports: Free
) -> None:
    async with core_running(dsn, state_path, free_ports) as (core, client), AsyncExitStack() as stack:
        made = await client.add_device(
            shapes.DeviceNew(key="lamp-1", profile="native-streetlight", latitude=20.95, longitude=107.07)
        )
        vendor = shapes.DeviceNew(
            key="lamp-2", profile="tasmota-energy", address="kerb_7", latitude=20.95, longitude=107.07
        )
        await client.add_device(vendor)
        lamp = Obedience()
        task = asyncio.create_task(obeys(core, "lamp-1", made.secret or "", lamp))
        stack.callback(task.cancel)
        with pytest.raises(RequestError, match="level"):
            await client.add_schedule("evening", "class=streetlight", ["dusk dim level=400"])
        assert (await client.schedules()).items == ()
        # None of them comes while the test runs, whatever the time is.
        there = datetime.now(ZoneInfo("Asia/Ho_Chi_Minh"))
        points = [
            f"{there + timedelta(hours=in_h):%H:%M} dim level={level}" for in_h, level in ((2, 100), (8, 60), (14, 0))
        ]
        added = await client.add_schedule("evening", "class=streetlight", points)
        assert added.devices == 2
        assert {moment.name for moment in added.coming} == {"dim"}

        async def kept() -> bool:
            return (await client.schedule("evening")).stored_on == 1

        await until(kept, what="the native lamp says that it keeps it")
        assert [each["name"] for each in lamp.config["schedule"]["points"]][:3] == ["dim", "dim", "dim"]
        assert not await sent(client, "lamp-2"), "nothing is due at once: the past was before the schedule"
        # The core was down over three moments.
        await core.pool.execute("UPDATE iot.schedule SET done_until = now() - interval '1 day'")
        await until(lambda: sent(client, "lamp-2"))
        await asyncio.sleep(1.5)
        commands = await sent(client, "lamp-2")
        assert [(each.name, each.source, each.by) for each in commands] == [("dim", "schedule", "schedule/evening")]
        assert not await sent(client, "lamp-1"), "it carries the schedule out itself"
        # Something else for a while, then back.
        await client.override_schedule("evening", "dim level=77", 3_600)

        async def overridden() -> list[dict[str, object]]:
            return [each.params for each in await sent(client, "lamp-2")]

        await until(lambda: _are(overridden, 2))
        # The hour is over: a second's override may be over before a busy core has looked.
        await core.pool.execute("UPDATE iot.schedule SET override_to = now()")
        await until(lambda: _are(overridden, 3))
        assert [each["level"] for each in reversed(await overridden())][1:] == [77, commands[0].params["level"]]
        await client.add_schedule("other", "key=lamp-1", ["22:00 dim level=10"])
        await until(lambda: lamp.config["schedule"]["key"] == "other")
        await client.remove_schedule("evening")
        kept_now = await client.twin("lamp-1")
        assert [each.key for each in kept_now.keys] == ["schedule"], "the other one stays on the lamp"
        await client.remove_schedule("other")
        await until(lambda: "schedule" not in lamp.config)
        says = "SELECT NOT reported ? 'schedule' FROM iot.twin"
        await until(lambda: core.pool.fetchval(says), what="what the lamp keeps no longer is not believed")


async def _are(found: Callable[[], Any], many: int) -> bool:
    return len(await found()) >= many


async def test_a_moment_that_comes_is_sent_in_its_second(dsn: str, state_path: Path, free_ports: Free) -> None:
    async with core_running(dsn, state_path, free_ports) as (core, client):
        await client.add_device(
            shapes.DeviceNew(key="lamp-2", profile="tasmota-energy", address="kerb_7", latitude=20.95, longitude=107.07)
        )
        there = datetime.now(ZoneInfo("Asia/Ho_Chi_Minh"))
        await client.add_schedule("now", "class=streetlight", [f"{there:%H:%M} switch on=true"])
        # It was made after the minute began; a minute before that nothing was done yet.
        before = datetime.now(UTC) - timedelta(minutes=2)
        await core.pool.execute("UPDATE iot.schedule SET done_until = $1", before)
        await until(lambda: sent(client, "lamp-2"))
        assert len(await sent(client, "lamp-2")) == 1


async def test_it_sleeps_until_the_next_moment_or_a_change(
    dsn: str, state_path: Path, free_ports: Free, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    schedules_of = schedules.schedules

    async def counted(connection: Any) -> Any:
        nonlocal looks
        looks += 1
        return await schedules_of(connection)

    monkeypatch.setattr(schedules, "schedules", counted)
    async with core_running(dsn, state_path, free_ports) as (_, client):
        await client.add_device(
            shapes.DeviceNew(key="lamp-2", profile="tasmota-energy", address="kerb_7", latitude=20.95, longitude=107.07)
        )
        far = datetime.now(ZoneInfo("Asia/Ho_Chi_Minh")) + timedelta(hours=3)
        await client.add_schedule("later", "class=streetlight", [f"{far:%H:%M} switch on=true"])
        await client.override_schedule("later", "switch on=false", 2)
        over = (await client.schedule("later")).override_to
        assert over is not None

        async def back() -> shapes.Command | None:
            found = await sent(client, "lamp-2")
            return found[0] if len(found) == 2 else None

        last: shapes.Command = await until(back)
        assert last.params == {"on": True}
        assert over <= last.queued_at < over + timedelta(seconds=30), "at the override's end, not at its next look"
        for _ in range(8):
            settled = looks
            await asyncio.sleep(1.5)
            if looks == settled:
                return
        pytest.fail("nothing is due for hours, and it looks all the same")
