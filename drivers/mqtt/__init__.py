"""MQTT: native topics and those of the profiles, from the broker to the ingest path.

broker --QoS 1--> Session -----------------> Intake --emit--> ingest          persistent session, one client id
  ^                  '<------- PUBACK <--------- settle() <---- COMMIT
  |----- stored ----- Receipts <-- numbers <------'                           a connection of its own
  '----- commands --- Outlet (MQTTium) <-- send(unit, command)                another one

new device --claim--> Listener (claims.py), which is no broker
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar

from drivers.mqtt.claims import Listener
from drivers.mqtt.downlink import Outgoing, outgoing
from drivers.mqtt.intake import Asks, Intake
from drivers.mqtt.outlet import Outlet
from drivers.mqtt.receipts import Receipts
from drivers.mqtt.topics import Topics
from iot_core.driver import Driver
from iot_core.model import CommandState

if TYPE_CHECKING:
    from iot_core.driver import DriverContext, Emit, Units
    from iot_core.model import Command, MountedUnit, Numbers

__all__ = ["MqttDriver", "driver"]


class MqttDriver(Driver):
    """Speaks MQTT 3.1.1 to one broker. Cancelled, it takes nothing more and waits briefly for what it handed over."""

    scheme: ClassVar[str] = "mqtt"

    def __init__(self, context: DriverContext) -> None:
        super().__init__(context)
        self._outlet = Outlet(context)
        self._receipts = Receipts(context) if context.settings.mqtt.receipts else None
        committed = self._receipts.note if self._receipts is not None else _untold
        self._asks = Asks(self._outlet.ask)
        self._intake = Intake(context, Topics(context.profiles), committed, self._asks)

    async def run(self, units: Units, emit: Emit) -> None:
        """Deliver uplinks until cancelled; a broker that is away is tried again by ourselves, with the same session."""
        async with asyncio.TaskGroup() as group:
            for listener in self._claims():
                group.create_task(listener.run(), name="mqtt claims")
            group.create_task(self._outlet.run(), name="mqtt outlet")
            group.create_task(self._asks.run(), name="mqtt asks")
            group.create_task(self._intake.run(units, emit), name="mqtt intake")
            if self._receipts is not None:
                group.create_task(self._receipts.run(), name="mqtt receipts")

    def _claims(self) -> list[Listener]:
        """Make the listeners for claims: in clear, over TLS, both or none."""
        context, ports = self.context, self.context.settings.claims
        if context.claim is None:
            return []
        made = [Listener(context, context.claim, ports.port)] if ports.port else []
        if ports.tls_port and context.claim_tls is not None:
            made.append(Listener(context, context.claim, ports.tls_port, context.claim_tls))
        return made

    async def listening(self) -> None:
        """Wait for the first SUBACK: what is published before it, on a broker that never saw us, reaches nobody."""
        await self._intake.subscribed.wait()

    def connected(self) -> bool:
        """Say whether the broker is there."""
        return not self._intake.broker_away

    async def send(self, unit: MountedUnit, command: Command) -> CommandState:
        """Publish a command: the broker has it. Raises DeviceUnreachable when it does not, else as `outgoing`."""
        message = outgoing(unit, command, self.context.profiles, self._intake.heard_on.get(unit.address, ""))
        await self._outlet.send(unit, message)
        return CommandState.SENT

    async def configure(self, unit: MountedUnit, document: bytes) -> None:
        """Publish it retained, so that the broker gives it to a device that connects later."""
        await self._outlet.send(unit, Outgoing(f"iot/v1/{unit.device_key}/config", document, retain=True))

    def address_line(self) -> str:
        """Say which broker."""
        broker = self.context.broker
        return f"{broker.host}:{broker.port} ({broker.kind})"


def _untold(_: Numbers) -> None:
    """Stand in for receipts where settings have none."""


driver = MqttDriver
