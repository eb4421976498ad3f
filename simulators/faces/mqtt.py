"""Devices on MQTT: a connection each with its own credentials, presence with a last will, QoS 1."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiomqtt
import msgspec
from aiomqtt.exceptions import MqttConnectError

from iot_core import sparkplug
from simulators.device import Message, SimDevice
from simulators.faces.pace import spoken
from simulators.ledger import Ledger, Sent

ANSWER_S = 10.0
"""How long a device waits for the broker's word before it connects anew."""
FIRST_PAUSE_S, LAST_PAUSE_S = 0.3, 3.0
"""Pause before the next try: the first, and what it grows to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttFace:
    """Where the broker is, and the ledger that notes what was sent."""

    host: str
    port: int
    ledger: Ledger
    every: float

    async def run(self, device: SimDevice, stop: asyncio.Event) -> None:
        """Speak for a device until `stop`; when the broker was away, send again what it had not answered."""
        unanswered: list[tuple[Message, Sequence[Sent]]] = []
        beat = spoken(device, self.every, stop)
        pause = FIRST_PAUSE_S
        while True:
            try:
                async with self._client(device) as client, _obeying(client, device):
                    pause = FIRST_PAUSE_S
                    device.secrets.opened()
                    await _presence(client, device, "online")
                    while unanswered:
                        await self._publish(client, *unanswered[0])
                        unanswered.pop(0)
                    async for message in beat:
                        unanswered.append((message, self.ledger.send("mqtt", message.key, message.said)))
                        await self._publish(client, *unanswered[0])
                        unanswered.pop(0)
                    await _presence(client, device, "offline")
                    return
            except aiomqtt.MqttError as exc:
                if isinstance(exc, MqttConnectError):
                    device.secrets.refused()
                self.ledger.problems[f"mqtt: {exc}"] += 1
                if stop.is_set() and not unanswered:
                    return
                await asyncio.sleep(pause)
                pause = min(LAST_PAUSE_S, pause * 2)

    def _client(self, device: SimDevice) -> aiomqtt.Client:
        topic, (will, retain) = _presence_topic(device, "offline"), _presence_said(device, "offline")
        return aiomqtt.Client(
            self.host,
            self.port,
            username=device.login,
            password=device.secret,
            identifier=device.login,
            protocol=aiomqtt.ProtocolVersion.V311,
            timeout=ANSWER_S,
            keepalive=30,
            will=aiomqtt.Will(topic, will, qos=1, retain=retain) if topic else None,
        )

    async def _publish(self, client: aiomqtt.Client, message: Message, lines: Sequence[Sent]) -> None:
        """Publish, and wait for the broker's word."""
        for _ in range(message.copies):
            await client.publish(message.topic, message.payload, qos=1)
        self.ledger.broken += message.broken
        self.ledger.acknowledge(lines)


def _presence_topic(device: SimDevice, state: str) -> str:
    """Give the topic of a native device's presence, or of a Sparkplug node's; other vendors have their own ways."""
    if device.address.startswith(sparkplug.SCHEME):
        kind = sparkplug.Kind.NBIRTH if state == "online" else sparkplug.Kind.NDEATH
        inner = device.address.removeprefix(sparkplug.SCHEME)
        return sparkplug.Topic.of(inner, node=kind, device=kind).text
    return f"iot/v1/{device.key}/status" if device.address.startswith("iot:") else ""


def _presence_said(device: SimDevice, state: str) -> tuple[bytes, bool]:
    """Give what is published of presence, and whether it is retained."""
    if device.address.startswith(sparkplug.SCHEME):
        return sparkplug.birth(round(time.time() * 1000), 0), False
    return state.encode(), True


async def _presence(client: aiomqtt.Client, device: SimDevice, state: str) -> None:
    if topic := _presence_topic(device, state):
        payload, retain = _presence_said(device, state)
        await client.publish(topic, payload, qos=1, retain=retain)


@asynccontextmanager
async def _obeying(client: aiomqtt.Client, device: SimDevice) -> AsyncIterator[None]:
    """Let a native device take commands, configuration and firmware while the block lasts."""
    if not device.address.startswith("iot:"):
        yield
        return
    own = f"iot/v1/{device.key}"
    await client.subscribe([(f"{own}/commands", 1), (f"{own}/config", 1)])
    tasks = [asyncio.create_task(_listen(client, device, own), name=f"{device.key} obeys")]
    if device.updating is not None:

        async def say(result: dict[str, Any]) -> None:
            await client.publish(f"{own}/commands/result", msgspec.json.encode(result), qos=1)

        tasks.append(asyncio.create_task(device.updating.run(say), name=f"{device.key} updates"))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)  # a lost connection is noticed by whoever sends


async def _listen(client: aiomqtt.Client, device: SimDevice, own: str) -> None:
    async for message in client.messages:
        payload = bytes(message.payload)
        if str(message.topic).endswith("/config"):
            await client.publish(f"{own}/config/reported", device.obedience.configure(payload), qos=1)
        else:
            await client.publish(f"{own}/commands/result", _result(device, payload), qos=1)


def _result(device: SimDevice, payload: bytes) -> bytes:
    """Answer a command."""
    asked = msgspec.json.decode(payload)
    if asked["name"] == "firmware" and device.updating is not None:
        return msgspec.json.encode(device.updating.told(asked))
    return device.obedience.command(payload)
