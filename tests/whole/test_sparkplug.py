"""An edge node of Sparkplug B at a whole core: its login, births asked for, deaths at once, aliases over a restart."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import aiomqtt
import asyncpg

from iot_core import sparkplug
from iot_core.api.shapes import DeviceNew
from iot_core.app import Core
from iot_core.client import Client
from tests.core import core_running, until
from tests.sparkplug_wire import BOOLEAN, FLOAT, Node, Said

NODE, BOARD = "sparkplug:park/node-1", "sparkplug:park/node-1/board"
VOLTAGE = Said(name="Supply Voltage", alias=1, type=FLOAT, value=12.0)
DOOR = Said(name="Inputs/A", alias=2, type=BOOLEAN, value=False)
Free = Callable[[int], int]


def now() -> int:
    return round(datetime.now(UTC).timestamp() * 1000)


def data(said: Said, value: object) -> Said:
    return replace(said, name=None, type=None, time=now(), value=value)


@asynccontextmanager
async def edge(core: Core, secret: str, node: Node) -> AsyncIterator[aiomqtt.Client]:
    """Connect as the node does: with its own login, its will, and an ear for commands."""
    will = aiomqtt.Will("spBv1.0/park/NDEATH/node-1", node.will(), qos=1)
    host, port = core.broker.host, core.broker.port
    async with aiomqtt.Client(host, port, username="node-1", password=secret, will=will) as client:
        await client.subscribe("spBv1.0/STATE/ioc", qos=1)
        state = await anext(aiter(client.messages))
        assert state.retain, "said before it came: it need not wait for its primary host"
        assert json.loads(bytes(state.payload))["online"] is True
        await client.unsubscribe("spBv1.0/STATE/ioc")
        await client.subscribe("spBv1.0/park/NCMD/node-1")
        yield client


async def born(client: aiomqtt.Client, node: Node) -> None:
    await client.publish("spBv1.0/park/NBIRTH/node-1", node.birth(replace(VOLTAGE, time=now()), time=now()), qos=1)
    dbirth = node.message(replace(DOOR, time=now()), time=now())
    await client.publish("spBv1.0/park/DBIRTH/node-1/board", dbirth, qos=1)


async def latest(client: Client, key: str) -> dict[str, object]:
    return {each.metric: each.value for each in (await client.device(key)).latest}


async def online(client: Client) -> tuple[bool | None, bool | None]:
    return (await client.device("node-1")).online, (await client.device("board")).online


async def held(pool: asyncpg.Pool) -> list[str]:
    return [row["reason"] for row in await pool.fetch("SELECT reason FROM iot.held_uplink ORDER BY id")]


async def test_an_edge_node_and_the_device_behind_it(dsn: str, state_path: Path, free_ports: Free) -> None:
    node = Node(bd_seq=7)
    async with core_running(dsn, state_path, free_ports, mqtt={"sparkplug_host": "ioc"}) as (core, client):
        added = await client.add_device(DeviceNew(key="node-1", profile="sparkplug-pibrella", address="park/node-1"))
        board = DeviceNew(key="board", profile="sparkplug-pibrella", address="park/node-1/board", gateway="node-1")
        assert added.address == NODE
        assert added.secret is not None
        behind = await client.add_device(board)
        assert (behind.address, behind.secret) == (BOARD, None), "it speaks through its node"

        async with edge(core, added.secret, node) as mqtt:
            # It was there before the core, so its birth was never heard.
            early = node.message(data(DOOR, True), time=now())
            await mqtt.publish("spBv1.0/park/DDATA/node-1/board", early, qos=1)
            await until(lambda: _is(held(core.pool), ["no_birth"]), what="held for want of a birth")
            command = await anext(aiter(mqtt.messages))
            assert sparkplug.read(bytes(command.payload)).metrics[0].name == "Node Control/Rebirth"
            await born(mqtt, node)
            await until(lambda: _is(online(client), (True, True)), what="born")
            await until(lambda: _is(held(core.pool), []), what="what was held is read")
            rows = await core.pool.fetch("SELECT door_open FROM telemetry.lighting_cabinet ORDER BY time")
            assert [row["door_open"] for row in rows if row["door_open"] is not None] == [True, False]
            await mqtt.publish("spBv1.0/park/NDATA/node-1", node.message(data(VOLTAGE, 11.5), time=now()), qos=1)
            await until(lambda: _is(latest(client, "node-1"), {"voltage": 11.5}))
            # Topics of others are not its own, and a birth there changes nothing.
            await mqtt.publish("spBv1.0/park/NBIRTH/node-2", node.birth(time=now()), qos=1)
            node.seq = 2
    # The core is away, the node is not; afterwards it says what changed, by alias.
    async with core_running(dsn, state_path, free_ports, mqtt={"sparkplug_host": "ioc"}) as (core, client):
        kept = await core.pool.fetch("SELECT address FROM iot.driver_session WHERE address LIKE 'sparkplug:%'")
        assert len(kept) == 2, "node-2 was not let in"
        async with edge(core, added.secret, node) as mqtt:
            await mqtt.publish("spBv1.0/park/NDATA/node-1", node.message(data(VOLTAGE, 11.0), time=now()), qos=1)
            await until(lambda: _is(latest(client, "node-1"), {"voltage": 11.0}), what="read by the remembered alias")
            row = await core.pool.fetchrow("SELECT quality FROM telemetry.lighting_cabinet ORDER BY time DESC LIMIT 1")
            assert row is not None
            assert row["quality"] == 1, "uncertain: a birth may have been missed"
            await born(mqtt, node)
            await until(lambda: _is(online(client), (True, True)), what="born again")
            await mqtt.publish("spBv1.0/park/NDEATH/node-1", replace(node, bd_seq=6).will(), qos=1)
            outdated = core.counters.total
            await until(lambda: outdated("sparkplug_outdated_death"), what="the will of an older connection")
            assert await online(client) == (True, True)
            await mqtt.publish("spBv1.0/park/NDEATH/node-1", node.will(), qos=1)
            await until(lambda: _is(online(client), (False, False)), what="node and board are offline at once")


async def _is(asked: Awaitable[object], wanted: object) -> bool:
    return await asked == wanted
