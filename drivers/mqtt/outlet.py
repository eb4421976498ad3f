"""The connection that commands go out by, and that hears what the broker says of itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from drivers.mqtt.backoff import Backoff
from drivers.mqtt.link import connected
from iot_core.errors import DeviceUnreachable, DriverUnavailable

if TYPE_CHECKING:
    from drivers.mqtt.downlink import Outgoing
    from drivers.mqtt.link import Link
    from iot_core.driver import DriverContext
    from iot_core.model import MountedUnit

__all__ = ["Outlet"]

log = structlog.get_logger()

_DROPPED: Final = "$SYS/broker/publish/messages/dropped"
_SEND_S: Final = 5.0


class Outlet:
    """Its session is not kept: a command is sent now or not at all, and is never stuck behind telemetry."""

    def __init__(self, context: DriverContext) -> None:
        self._context = context
        self._link: Link | None = None
        self._dropped = 0
        self._backoff = Backoff()

    async def run(self) -> None:
        """Stay connected until cancelled."""
        while True:
            try:
                await self._connection()
            except DriverUnavailable:
                log.debug("mqtt.outlet_away")
            await self._backoff.wait()

    async def send(self, unit: MountedUnit, message: Outgoing) -> None:
        """Publish a command. Raises DeviceUnreachable when the broker did not take it in time."""
        if (link := self._link) is None:
            raise DeviceUnreachable("broker.not_sent", device=unit.device_key)
        try:
            async with asyncio.timeout(_SEND_S):
                await link.publish(message.topic, message.payload, retain=message.retain)
        except (TimeoutError, DriverUnavailable) as exc:
            raise DeviceUnreachable("broker.not_sent", device=unit.device_key) from exc

    async def ask(self, topic: str, payload: bytes) -> bool:
        """Publish at QoS 0, as a question that is asked again when nobody answers; False when nobody takes it."""
        if (link := self._link) is None:
            return False
        try:
            async with asyncio.timeout(_SEND_S):
                await link.publish(topic, payload, qos=0)
        except (TimeoutError, DriverUnavailable):
            return False
        return True

    async def _connection(self) -> None:
        mqtt = self._context.settings.mqtt
        name = f"{mqtt.client_id}-commands"
        async with connected(self._context.broker, name, mqtt) as link:
            self._link = link
            self._backoff.succeeded()
            try:
                await self._listen(link)
            finally:
                self._link = None

    async def _listen(self, link: Link) -> None:
        if self._context.broker.kind == "mosquitto":
            await link.subscribe([_DROPPED], qos=0)
        async for message in link.messages():
            if message.topic == _DROPPED:
                self._count_dropped(message.payload)

    def _count_dropped(self, said: bytes) -> None:
        """Count what the broker threw away since it last said; after a restart it begins at 0 again."""
        if not said.isdigit():
            return
        total = int(said)
        new = total - self._dropped if total >= self._dropped else total
        self._dropped = total
        if new:
            log.warning("mqtt.broker_dropped", messages=new)
            self._context.count("mqtt_broker_dropped", new)
