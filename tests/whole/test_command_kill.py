"""A core that is really killed in the middle of an order: nothing is done twice and nothing is forgotten."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiomqtt
import asyncpg
import msgspec
import pytest

from iot_core.api import shapes
from simulators.obedience import Obedience
from tests.core import until
from tests.drivers.modbus_peer import Memory, peer
from tests.up import Up, core_process

pytestmark = pytest.mark.timeout(240)
Free = Callable[[int], int]
LAMPS = 30


class Fleet:
    """Native lamps that carry out what they are told, each id once, and count what they hear."""

    def __init__(self, up: Up) -> None:
        self._up = up
        self.heard: Counter[tuple[str, int]] = Counter()
        self.lamps: dict[str, Obedience] = {}

    @asynccontextmanager
    async def living(self, secrets: dict[str, str]) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self._live(key, secret)) for key, secret in secrets.items()]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _live(self, key: str, secret: str) -> None:
        lamp = self.lamps[key] = Obedience()
        while True:
            with contextlib.suppress(aiomqtt.MqttError):
                async with aiomqtt.Client(
                    "127.0.0.1", self._up.port + 1, username=key, password=secret, identifier=key, timeout=5
                ) as client:
                    await client.subscribe(f"iot/v1/{key}/commands", qos=1)
                    await client.publish(f"iot/v1/{key}/status", "online", qos=1, retain=True)
                    async for message in client.messages:
                        payload = bytes(message.payload)
                        self.heard[key, msgspec.json.decode(payload)["id"]] += 1
                        await client.publish(f"iot/v1/{key}/commands/result", lamp.command(payload), qos=1)
            await asyncio.sleep(0.1)


async def test_a_core_killed_within_an_order_does_nothing_twice_and_forgets_nothing(
    dsn: str, state_path: Path, free_ports: Free, free_port: Callable[[], int]
) -> None:
    keys = [f"lamp-{number:02}" for number in range(LAMPS)]
    panel, port = Memory(words=dict.fromkeys([*range(2000, 2006), *range(4000, 4012)], 0)), free_port()
    async with core_process(state_path, free_ports(3), STORE_DSN=dsn) as up, peer(port, {9: panel}):
        fleet = Fleet(up)
        async with up.client() as client:
            new = tuple(shapes.DeviceNew(key=key, profile="native-streetlight") for key in keys)
            secrets = {each.device.key: each.secret or "" for each in (await client.add_devices(new)).items}
            await client.add_device(shapes.DeviceNew(key="lc-1", profile="ge-a-series", address=f"127.0.0.1:{port}/9"))
        async with fleet.living(secrets):
            async with up.client() as client:
                where = "class=streetlight"
                order = await client.order_command(
                    shapes.OrderNew(name="dim", params={"level": 40}, where=where, rate=8, ttl_s=600)
                )
                number = order.number or 0

                async def carried(at_least: int) -> bool:
                    return sum(lamp.carried for lamp in fleet.lamps.values()) >= at_least

                modbus = await client.order_command(
                    shapes.OrderNew(name="switch", params={"on": True}, devices=("lc-1",), ttl_s=600)
                )
                await until(lambda: carried(8), within_s=40)
            await up.kill()
            assert not await carried(LAMPS), "it was killed in the middle"
            connection = await asyncpg.connect(dsn)
            ended = {
                row["id"] for row in await connection.fetch("SELECT id FROM iot.command WHERE ended_at IS NOT NULL")
            }
            await connection.close()
            await up.start()
            async with up.client() as client:

                async def over() -> bool:
                    states = (await client.command_order(number)).states
                    return states == {"succeeded": LAMPS}

                await until(over, within_s=90, what="every lamp of the order is done")
                rows = (await client.commands(shapes.CommandsQuery(order=number, limit=100))).items

                async def read_back() -> bool:
                    return (await client.command_order(modbus.number or 0)).states == {"succeeded": 1}

                await until(read_back, within_s=60)
        assert {lamp.carried for lamp in fleet.lamps.values()} == {1}, "each lamp did it once"
        assert set(fleet.heard) == {(row.device, row.id) for row in rows}, "nobody was told anything else"
        assert ended, "some were over when it was killed"
        assert {fleet.heard[row.device, row.id] for row in rows if row.id in ended} == {1}, "they were not said again"
        assert panel.words[2001] == 1
