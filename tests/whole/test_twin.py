"""What devices should be set to reaches them over every protocol, and what they say shows what differs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiocoap
import aiomqtt
import pytest

from iot_core.api import shapes
from iot_core.app import Core
from iot_core.client import Client
from iot_core.errors import ConflictError, RequestError
from simulators.obedience import Obedience
from tests.core import core_running, until
from tests.drivers.modbus_peer import Memory, peer

pytestmark = pytest.mark.timeout(120)
Free = Callable[[int], int]


def standing(found: shapes.Twin) -> dict[str, str]:
    return {each.key: each.sync for each in found.keys}


async def stands(client: Client, key: str, wanted: dict[str, str]) -> shapes.Twin:
    async def reached() -> shapes.Twin | None:
        found = await client.twin(key)
        return found if standing(found) == wanted else None

    found: shapes.Twin = await until(reached, what=f"{key} is {wanted}")
    return found


async def obeys(core: Core, key: str, secret: str, obedience: Obedience) -> None:
    """Be a native lamp, as the simulators are, until cancelled."""
    async with aiomqtt.Client(
        core.broker.host, core.broker.port, username=key, password=secret, identifier=key
    ) as lamp:
        await lamp.subscribe(f"iot/v1/{key}/config", qos=1)
        await lamp.publish(f"iot/v1/{key}/status", "online", qos=1, retain=True)
        async for message in lamp.messages:
            answer = obedience.configure(bytes(message.payload))
            await lamp.publish(f"iot/v1/{key}/config/reported", answer, qos=1)


async def test_an_offline_lamp_finds_its_configuration_and_says_what_it_took(
    dsn: str, state_path: Path, free_ports: Free
) -> None:
    async with core_running(dsn, state_path, free_ports) as (core, client), AsyncExitStack() as stack:
        made = await client.add_device(shapes.DeviceNew(key="lamp-1", profile="native-streetlight"))
        with pytest.raises(RequestError, match="colour"):
            await client.change_twin("lamp-1", {"colour": 3})
        with pytest.raises(RequestError, match="interval"):
            await client.change_twin("lamp-1", {"interval": 0})
        first = await client.change_twin("lamp-1", {"interval": 60, "level_at_power_on": 30})
        assert (first.version, standing(first)) == (1, {"interval": "pending", "level_at_power_on": "pending"})
        with pytest.raises(ConflictError):
            await client.change_twin("lamp-1", {"interval": 61}, version=7)
        lamp = Obedience(known=frozenset({"interval"}))
        task = asyncio.create_task(obeys(core, "lamp-1", made.secret or "", lamp))
        stack.callback(task.cancel)
        found = await stands(client, "lamp-1", {"interval": "in_sync", "level_at_power_on": "refused"})
        assert lamp.config == {"interval": 60}
        assert [each.refused for each in found.keys] == [None, "unknown"]
        await client.change_twin("lamp-1", {"level_at_power_on": None})
        await stands(client, "lamp-1", {"interval": "in_sync"})
        lamp.config["interval"] = 5  # somebody turned it by hand
        async with aiomqtt.Client(
            core.broker.host, core.broker.port, username="lamp-1", password=made.secret, identifier="hand"
        ) as hand:
            await hand.publish("iot/v1/lamp-1/config/reported", lamp.reported(), qos=1)
            for nonsense in ("{", "[]", '{"version": -1, "config": {}}', '{"version": 1, "config": {"a": "\\u0000"}}'):
                await hand.publish("iot/v1/lamp-1/config/reported", nonsense, qos=1)
        await stands(client, "lamp-1", {"interval": "drifted"})
        assert [each.device for each in (await client.twins()).items] == ["lamp-1"]


async def test_a_coap_device_fetches_it_and_says_so(dsn: str, state_path: Path, free_ports: Free) -> None:
    async with core_running(dsn, state_path, free_ports) as (core, client):
        made = await client.add_device(shapes.DeviceNew(key="aq-1", profile="native-air-quality"))
        await client.change_twin("aq-1", {"interval": 300})
        context = await aiocoap.Context.create_client_context()
        host, port = core.coap

        async def ask(code: Any, tail: str, secret: str, payload: bytes = b"") -> Any:
            uri = f"coap://{host}:{port}/v1/aq-1/{tail}?token={secret}"
            return await context.request(aiocoap.Message(code=code, uri=uri, payload=payload)).response

        try:
            assert (await ask(aiocoap.GET, "config", "wrong")).code == aiocoap.UNAUTHORIZED
            told = json.loads((await ask(aiocoap.GET, "config", made.secret or "")).payload)
            assert told == {"version": 1, "config": {"interval": 300}}
            reported = json.dumps(told).encode()
            assert (await ask(aiocoap.POST, "config/reported", made.secret or "", reported)).code == aiocoap.CHANGED
            assert standing(await client.twin("aq-1")) == {"interval": "in_sync"}, "2.04 is after COMMIT"
        finally:
            await context.shutdown()


async def test_a_coap_lamp_takes_and_reports_a_schedule_in_blocks(dsn: str, state_path: Path, free_ports: Free) -> None:
    async with core_running(dsn, state_path, free_ports) as (core, client):
        made = await client.add_device(
            shapes.DeviceNew(key="lamp-1", profile="native-streetlight", latitude=20.95, longitude=107.07)
        )
        await client.add_schedule("evening", "key=lamp-1", [f"{hour}:00 dim level={hour}" for hour in range(10, 20)])
        await stands(client, "lamp-1", {"schedule": "pending"})
        context = await aiocoap.Context.create_client_context()
        host, port = core.coap

        async def ask(code: Any, tail: str, *, whole: bool = True, **message: Any) -> Any:
            uri = f"coap://{host}:{port}/v1/lamp-1/{tail}?token={made.secret}"
            return await context.request(
                aiocoap.Message(code=code, uri=uri, **message), handle_blockwise=whole
            ).response

        try:
            first = await ask(aiocoap.GET, "config", whole=False)
            assert (len(first.payload), first.opt.block2.more) == (1_024, True), "by itself, for who does not ask"
            small = await ask(aiocoap.GET, "config", whole=False, block2=(3, False, 2))
            assert (len(small.payload), small.opt.block2, small.opt.etag) == (64, (3, True, 2), first.opt.etag)
            assert small.payload == first.payload[192:256]
            beyond = await ask(aiocoap.GET, "config", whole=False, block2=(900, False, 6))
            assert beyond.code == aiocoap.BAD_REQUEST
            told = (await ask(aiocoap.GET, "config")).payload
            assert len(json.loads(told)["config"]["schedule"]["points"]) > 60
            assert (await ask(aiocoap.POST, "config/reported", payload=told)).code == aiocoap.CHANGED
            assert standing(await client.twin("lamp-1")) == {"schedule": "in_sync"}
            lost = await ask(aiocoap.POST, "config/reported", whole=False, payload=b"x" * 64, block1=(7, False, 2))
            assert lost.code == aiocoap.REQUEST_ENTITY_INCOMPLETE
        finally:
            await context.shutdown()


async def test_modbus_is_written_read_back_and_found_drifted(
    dsn: str, state_path: Path, free_ports: Free, free_port: Callable[[], int]
) -> None:
    panel = Memory(words=dict.fromkeys([*range(2000, 2006), *range(4000, 4012)], 0))
    port = free_port()
    async with core_running(dsn, state_path, free_ports) as (_, client):
        await client.add_device(shapes.DeviceNew(key="lc-1", profile="ge-a-series", address=f"127.0.0.1:{port}/9"))
        await client.change_twin("lc-1", {"contactor": True})
        await asyncio.sleep(0.3)
        assert standing(await client.twin("lc-1")) == {"contactor": "pending"}, "nobody answers yet"
        async with peer(port, {9: panel}):
            await stands(client, "lc-1", {"contactor": "in_sync"})
            assert panel.words[2001] == 1
            panel.words[2001] = 0
            assert standing(await client.check_twin("lc-1")) == {"contactor": "drifted"}
            panel.words[2001] = 1
            assert standing(await client.check_twin("lc-1")) == {"contactor": "in_sync"}
            panel.functions -= {6, 16}
            await client.change_twin("lc-1", {"contactor": False})
            (key,) = (await stands(client, "lc-1", {"contactor": "refused"})).keys
            assert "lc-1" in (key.refused or ""), "a sentence, no code"
            assert "exception 1" in (key.refused or "")
