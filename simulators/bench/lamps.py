"""Lamps that connect and obey, in a process of its own, each with the connection and the login of a real one.

Run as `python -m simulators.bench.lamps` with a Fleet as a line of JSON on standard input. Each line that comes out is
a lamp's key, when it began to connect, and when the broker had confirmed its `online` (seconds of time.monotonic, which
all processes share). It ends when standard input does.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from contextlib import suppress
from typing import Final

import aiomqtt
import msgspec

from simulators.obedience import Obedience

__all__ = ["Fleet"]

_ANSWER_S: Final = 30.0
_AGAIN_S: Final = 1.0


class Fleet(msgspec.Struct, frozen=True):
    """Key and secret of each lamp, and how many connect a second."""

    host: str
    port: int
    accounts: tuple[tuple[str, str], ...]
    rate: float


async def _lamp(fleet: Fleet, key: str, secret: str) -> None:
    topic = f"iot/v1/{key}"
    will = aiomqtt.Will(f"{topic}/status", "offline", qos=1, retain=True)
    obedience, told = Obedience(), False
    while True:
        began = time.monotonic()
        with suppress(aiomqtt.MqttError):
            async with aiomqtt.Client(
                fleet.host, fleet.port, username=key, password=secret, identifier=key, will=will, timeout=_ANSWER_S,
                protocol=aiomqtt.ProtocolVersion.V311, keepalive=600,
            ) as client:  # fmt: skip
                await client.subscribe(f"{topic}/commands", 1)
                await client.publish(f"{topic}/status", "online", qos=1, retain=True)
                if not told:
                    told = True
                    sys.stdout.write(f"{key} {began} {time.monotonic()}\n")
                    sys.stdout.flush()
                async for message in client.messages:
                    answer = obedience.command(bytes(message.payload))
                    await client.publish(f"{topic}/commands/result", answer, qos=1)
        await asyncio.sleep(_AGAIN_S)


async def _shine(fleet: Fleet) -> None:
    lamps = []
    for key, secret in fleet.accounts:
        lamps.append(asyncio.create_task(_lamp(fleet, key, secret), name=key))
        await asyncio.sleep(1 / fleet.rate)
    await asyncio.to_thread(sys.stdin.read)
    os._exit(0)  # the power is cut: nobody says goodbye, and their wills speak for them


if __name__ == "__main__":
    asyncio.run(_shine(msgspec.json.decode(sys.stdin.readline(), type=Fleet)))
