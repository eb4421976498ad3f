"""Devices on CoAP: a confirmable POST for each message; 2.04 means that it is committed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import aiocoap
import msgspec
from aiocoap.error import Error

from simulators.device import Message, SimDevice
from simulators.faces.pace import spoken
from simulators.ledger import Ledger, Stopwatch

ANSWER_S = 30.0
PAUSE_S = 1.0
ASK_S = 10.0
"""How often a native device asks what it is to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoapFace:
    """Where the CoAP server is, and the ledger that notes what was sent."""

    host: str
    port: int
    ledger: Ledger
    every: float
    ask_s: float = ASK_S

    async def run(self, device: SimDevice, stop: asyncio.Event) -> None:
        """Speak for a device until `stop`, from a socket of its own."""
        context = await aiocoap.Context.create_client_context()
        loop = asyncio.get_running_loop()
        ask_at = loop.time() + self.ask_s
        try:
            async for message in spoken(device, self.every, stop):
                lines = self.ledger.send("coap", device.key, message.said)
                watch = Stopwatch()
                while not await self._post(context, device, message):
                    if stop.is_set():
                        return
                    await asyncio.sleep(PAUSE_S)
                self.ledger.committed_ms.append(watch.ms())
                self.ledger.broken += message.broken
                self.ledger.acknowledge(lines)
                if loop.time() >= ask_at:
                    ask_at = loop.time() + self.ask_s
                    await self._obey(context, device)
        finally:
            await context.shutdown()

    async def _post(self, context: aiocoap.Context, device: SimDevice, message: Message) -> bool:
        """Post; say whether the server took responsibility. It holds what it cannot read, and says 4.00."""
        said = {"payload": message.payload, "content_format": message.content_format}
        for _ in range(message.copies):
            answer = await self._ask(context, device, "telemetry", aiocoap.POST, readable=not message.broken, **said)
            if answer is None:
                return False
        return True

    async def _obey(self, context: aiocoap.Context, device: SimDevice) -> None:
        """Fetch what the device is to do, do it, and say so."""
        if not device.address.startswith("iot:") or (told := await self._ask(context, device, "commands")) is None:
            return
        for asked in msgspec.json.decode(told.payload or b"[]"):
            result = device.obedience.command(msgspec.json.encode(asked))
            await self._ask(context, device, "commands/result", aiocoap.POST, payload=result, content_format=50)

    async def _ask(
        self, context: aiocoap.Context, device: SimDevice, tail: str, code: aiocoap.Code = aiocoap.GET, *,
        readable: bool = True, **facts: Any,
    ) -> aiocoap.Message | None:  # fmt: skip
        """Make a request; None, with a problem noted, for anything but success. Refused, it shows its other secret."""
        uri = f"coap://{self.host}:{self.port}/v1/{device.key}/{tail}?token={device.secret}"
        try:
            async with asyncio.timeout(ANSWER_S):
                response = await context.request(aiocoap.Message(code=code, uri=uri, **facts)).response
        except (Error, OSError, TimeoutError) as exc:
            self.ledger.problems[f"coap: {type(exc).__name__}"] += 1
            return None
        if not readable and response.code == aiocoap.BAD_REQUEST:
            return response
        if not response.code.is_successful():
            self.ledger.problems[f"coap: {response.code.dotted}"] += 1
            if response.code == aiocoap.UNAUTHORIZED:
                device.secrets.refused()
            return None
        device.secrets.opened()
        return response
