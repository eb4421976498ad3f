"""`iot twin`, `iot schedule` and the harmless command of `iot device test`, as people type them, in both languages."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiomqtt
import msgspec
import pytest

from iot_core.api import shapes
from iot_core.app import Core
from iot_core.cli import device_test
from iot_core.errors import DeviceUnreachable
from simulators.obedience import Obedience
from tests.core import core_running, forked, until

pytestmark = pytest.mark.timeout(180)
Free = Callable[[int], int]


@asynccontextmanager
async def living(core: Core, key: str, secret: str, lamp: Obedience) -> AsyncIterator[tuple[aiomqtt.Client, list[str]]]:
    """Be a native lamp that takes commands and configuration."""
    own = f"iot/v1/{key}"
    async with aiomqtt.Client(
        core.broker.host, core.broker.port, username=key, password=secret, identifier=key
    ) as client:
        await client.subscribe([(f"{own}/commands", 1), (f"{own}/config", 1)])
        await client.publish(f"{own}/status", "online", qos=1, retain=True)

        async def listen() -> None:
            async for message in client.messages:
                payload = bytes(message.payload)
                if message.topic.matches(f"{own}/config"):
                    await client.publish(f"{own}/config/reported", lamp.configure(payload), qos=1)
                else:
                    told.append(msgspec.json.decode(payload)["name"])
                    await client.publish(f"{own}/commands/result", lamp.command(payload), qos=1)

        told: list[str] = []
        listening = asyncio.create_task(listen())
        try:
            yield client, told
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)


async def test_configuration_and_schedules_from_the_command_line(dsn: str, state_path: Path, free_ports: Free) -> None:
    async with core_running(dsn, state_path, free_ports) as (core, client):
        where = ("--url", core.url, "--token", core.token)

        async def iot(*words: str, code: int = 0, lang: str = "en") -> str:
            done, out, err = await forked(*words, *where, "--lang", lang, within_s=60)
            assert (done, "Traceback" in err) == (code, False), (words, out, err)
            return err if code else out

        async def data(*words: str) -> Any:
            return json.loads(await iot(*words, "--output", "json"))

        made = await client.add_device(
            shapes.DeviceNew(key="lamp-1", profile="native-streetlight", latitude=20.95, longitude=107.07)
        )
        await client.add_device(
            shapes.DeviceNew(key="lamp-2", profile="tasmota-energy", address="kerb_7", latitude=20.95, longitude=107.07)
        )
        said = await iot("twin", "set", "lamp-1", "interval=60", "level_at_power_on=30")
        assert "pending" in said
        assert "colour" in await iot("twin", "set", "lamp-1", "colour=3", code=1)
        async with living(core, "lamp-1", made.secret or "", Obedience(known=frozenset({"interval", "schedule"}))):

            async def refused() -> bool:
                return {each.key: each.sync for each in (await client.twin("lamp-1")).keys} == {
                    "interval": "in_sync", "level_at_power_on": "refused",
                }  # fmt: skip

            await until(refused)
            shown = await iot("twin", "show", "lamp-1", lang="vi")
            assert "từ chối" in shown
            (row,) = await data("twin", "list")
            assert (row["device"], row["version"], row["reported_version"]) == ("lamp-1", 1, 1)
            await iot("twin", "set", "lamp-1", "interval=61", "--version", "7", code=1)
            assert (await data("twin", "set", "lamp-1", "level_at_power_on=none"))["version"] == 2

            points = ("dusk-15m dim level=100", "23:00 dim level=60", "dawn dim level=0")
            assert "noon" in await iot("schedule", "add", "x", "--where", "key=lamp-1", "noon dim level=40", code=1)
            added = await data("schedule", "add", "evening", "--where", "class=streetlight", *points)
            assert (added["devices"], added["points"]) == (2, list(points))

            async def stored() -> bool:
                return (await client.schedule("evening")).stored_on == 1

            await until(stored)
            assert "evening" in await iot("schedule", "list", lang="vi")
            assert "23:00 dim level=60" in await iot("schedule", "show", "evening")
            coming = await data("schedule", "preview", "evening", "--days", "2")
            assert [each["params"]["level"] for each in coming][:6].count(60) == 2, coming
            over = await iot("schedule", "override", "evening", "dim level=77", "--for", "4h")
            assert "dim level=77" in over
            told = (await client.commands(shapes.CommandsQuery(device="lamp-2"))).items
            assert told or await until(lambda: _commands(client, "lamp-2")), "the override is sent to all"
            for words in (("dim level=77",), ("--for", "4h"), ("dim level=77", "--for", "4h", "--end"), ()):
                assert "--end" in await iot("schedule", "override", "evening", *words, code=2)
            assert "evening" in await iot("schedule", "override", "evening", "--end")
            ended = await client.schedule("evening")
            assert ended.override_to is not None
            assert ended.override_to <= datetime.now(UTC)
            assert (await data("schedule", "remove", "evening"))["key"] == "evening"
            await iot("schedule", "show", "evening", code=1)


class Late:
    """A core where the device's word that it is online comes behind its first reading."""

    def __init__(self) -> None:
        self.asked = 0

    async def command(self, key: str, _name: str, _params: Any) -> str:
        self.asked += 1
        if self.asked == 1:
            raise DeviceUnreachable("command.offline", device=key)
        return "sent"


async def test_a_commissioning_waits_for_a_device_to_say_that_it_is_online() -> None:
    late: Any = Late()
    sent: Any = await device_test._sent(late, "lamp-1", "resume", 30)
    assert sent == "sent"
    late.asked = 0
    with pytest.raises(DeviceUnreachable):
        await device_test._sent(late, "lamp-1", "resume", 0)


async def _commands(client: Any, key: str) -> Any:
    return (await client.commands(shapes.CommandsQuery(device=key))).items


async def test_a_commissioning_tries_the_command_that_its_class_calls_harmless(
    dsn: str, state_path: Path, free_ports: Free
) -> None:
    async with core_running(dsn, state_path, free_ports) as (core, client):
        made = await client.add_device(shapes.DeviceNew(key="lamp-1", profile="native-streetlight"))
        await client.add_device(shapes.DeviceNew(key="meter-1", profile="native-water-meter"))
        since = shapes.CommissioningQuery(since=datetime.now(UTC))
        assert (await client.commissioning("meter-1", since)).harmless is None
        async with living(core, "lamp-1", made.secret or "", Obedience()) as (lamp, told):
            await lamp.publish("iot/v1/lamp-1/telemetry", json.dumps({"power": 80.5, "dim": 100}), qos=1)
            await until(lambda: core.counters.total("ingest_stored") >= 1)
            words = ("device", "test", "lamp-1", "--since", "1m", "--wait", "20s", "--output", "json")
            code, out, err = await forked(*words, "--url", core.url, "--token", core.token, within_s=60)
            assert code == 0, err
            kept = json.loads(out)
            assert (kept["harmless"], kept["command"], kept["command_state"]) == ("resume", "resume", "succeeded")
            assert told == ["resume"]
        made = await client.add_device(shapes.DeviceNew(key="lamp-9", profile="native-streetlight"))
        async with aiomqtt.Client(
            core.broker.host, core.broker.port, username="lamp-9", password=made.secret, identifier="lamp-9"
        ) as mute:  # it never says that it is online, so nothing can be sent to it
            await mute.publish("iot/v1/lamp-9/telemetry", json.dumps({"power": 80.5, "dim": 100}), qos=1)
            await until(lambda: core.counters.total("ingest_stored") >= 2)
            words = ("device", "test", "lamp-9", "--since", "1m", "--wait", "2s", "--lang", "en")
            code, out, err = await forked(*words, "--url", core.url, "--token", core.token, within_s=60)
        assert (code, "nothing was sent" in err, "--no-command" in err) == (1, True, True), err
        assert "says that" not in out
