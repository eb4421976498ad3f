"""The city while it runs: every device on its face, every gateway on its port, until it is told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final

from simulators.faces.camera import CameraFace
from simulators.faces.coap import CoapFace
from simulators.faces.modbus import Gateway, gateway, unit_of
from simulators.faces.mqtt import MqttFace
from simulators.physics import Fire
from simulators.physics.fire import ULTRA_FAST

if TYPE_CHECKING:
    from simulators.device import SimDevice
    from simulators.ledger import Ledger
    from simulators.registration import Registered

EVERY_S: Final = 2.0
"""How often a device speaks. Modbus devices and cameras speak when they are asked."""
_LAST_WORDS_S: Final = 20.0
_LAST_CYCLE_S: Final = 3.0
_LAST_POLL_S: Final = 0.3
_LOOK_S: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """Where the core takes what devices say."""

    mqtt: tuple[str, int]
    coap: tuple[str, int]


@dataclass(slots=True)
class Town:
    """A running city."""

    registered: Registered
    ledger: Ledger
    stop: asyncio.Event
    gateways: list[Gateway] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def devices(self) -> Sequence[SimDevice]:
        """All devices."""
        return self.registered.devices

    def ignite(self, building: str, at: datetime) -> list[SimDevice]:
        """Set a building on fire: burning foam, which its detectors are close to. Give them, the closest first."""
        burning = [device for device in self.devices if device.plan.building == building]
        for device in burning:
            device.ignite(Fire(ignited=at, growth=ULTRA_FAST))
        return burning

    async def put_out(self, burning: Sequence[SimDevice]) -> None:
        """End a fire, and let its detectors say so: delays that began with it end too. Bounded."""
        spoken = {device.key: device.seq for device in burning}
        for device in burning:
            device.ignite(None)
        deadline = asyncio.get_running_loop().time() + _LAST_WORDS_S
        while any(device.seq == spoken[device.key] for device in burning):
            if asyncio.get_running_loop().time() >= deadline:
                return
            await asyncio.sleep(_LOOK_S)

    async def rest(self) -> None:
        """Let every device finish its sentence, those behind gateways too. Bounded."""
        self.stop.set()
        for each in self.gateways:
            each.silent = True
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=_LAST_WORDS_S)
        for _ in range(round(_LAST_CYCLE_S / _LOOK_S)):
            if not any(each.busy for each in self.gateways):
                break
            await asyncio.sleep(_LOOK_S)
        await asyncio.sleep(_LAST_POLL_S)  # a poller reads the last answers before the connections close


@asynccontextmanager
async def running_town(
    registered: Registered, endpoints: Endpoints, ledger: Ledger, *, every: float = EVERY_S
) -> AsyncIterator[Town]:
    """Run the city while the block lasts."""
    town = Town(registered, ledger, asyncio.Event())
    mqtt = MqttFace(host=endpoints.mqtt[0], port=endpoints.mqtt[1], ledger=ledger, every=every)
    coap = CoapFace(host=endpoints.coap[0], port=endpoints.coap[1], ledger=ledger, every=every)
    camera = CameraFace(ledger)
    faces = {"mqtt": mqtt.run, "coap": coap.run}
    async with AsyncExitStack() as stack:
        for (host, port), units in registered.behind.items():
            served = [unit_of(device, unit_id) for device, unit_id in units]
            town.gateways.append(await stack.enter_async_context(gateway(served, port, ledger, host)))
        group = await stack.enter_async_context(asyncio.TaskGroup())
        for device in town.devices:
            if not device.plan.bridged and (face := faces.get(device.plan.voice.protocol)) is not None:
                town.tasks.append(group.create_task(face(device, town.stop), name=f"sim {device.key}"))
        for device, (host, port) in registered.cameras:
            town.tasks.append(group.create_task(camera.run(device, host, port, town.stop), name=f"sim {device.key}"))
        stack.push_async_callback(_end, town)
        yield town


async def _end(town: Town) -> None:
    for task in town.tasks:
        task.cancel()
    await asyncio.sleep(0)
