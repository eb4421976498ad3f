"""Devices on CoAP: a confirmable POST for each message; 2.04 means that it is committed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import aiocoap
from aiocoap.error import Error

from simulators.device import Message, SimDevice
from simulators.faces.pace import spoken
from simulators.ledger import Ledger, Stopwatch

ANSWER_S = 30.0
PAUSE_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CoapFace:
    """Where the CoAP server is, and the ledger that notes what was sent."""

    host: str
    port: int
    ledger: Ledger
    every: float

    async def run(self, device: SimDevice, stop: asyncio.Event) -> None:
        """Speak for a device until `stop`, from a socket of its own."""
        context = await aiocoap.Context.create_client_context()
        try:
            async for message in spoken(device, self.every, stop):
                lines = self.ledger.send("coap", device.key, message.said)
                watch = Stopwatch()
                while not await self._post(context, device, message):
                    if stop.is_set():
                        return
                    await asyncio.sleep(PAUSE_S)
                self.ledger.committed_ms.append(watch.ms())
                self.ledger.acknowledge(lines)
        finally:
            await context.shutdown()

    async def _post(self, context: aiocoap.Context, device: SimDevice, message: Message) -> bool:
        """Post; say whether the server took responsibility."""
        request = aiocoap.Message(
            code=aiocoap.POST,
            uri=f"coap://{self.host}:{self.port}/v1/{device.key}/telemetry?token={device.secret}",
            payload=message.payload,
            content_format=message.content_format,
        )
        try:
            async with asyncio.timeout(ANSWER_S):
                response = await context.request(request).response
        except (Error, OSError, TimeoutError) as exc:
            self.ledger.problems[f"coap: {type(exc).__name__}"] += 1
            return False
        if not response.code.is_successful():
            self.ledger.problems[f"coap: {response.code.dotted}"] += 1
            return False
        return True
