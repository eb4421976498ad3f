"""New devices that claim themselves over MQTT, in a process of its own, each with the connection of a real one.

Run as `python -m simulators.bench.claimants` with a Run as a line of JSON on standard input: all claim at once, and
keep their connections until they have their secrets. Each line that comes out is a serial number, `began`, `waiting` or
`accepted`, and when (seconds of time.monotonic, which all processes share). It ends when standard input does.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
import time
from typing import Final

import aiomqtt
import msgspec

__all__ = ["Run"]

_ANSWER_S: Final = 60.0
_CLAIM: Final = "iot/v1/claim"


class Run(msgspec.Struct, frozen=True):
    """Where to claim, with which batch key, and the serial numbers."""

    host: str
    port: int
    batch: str
    key: str
    serials: tuple[str, ...]


async def _claim(run: Run, serial: str) -> None:
    reply = secrets.token_urlsafe(24)
    _say(serial, "began")
    async with aiomqtt.Client(
        run.host, run.port, username=run.batch, password=run.key, identifier=reply, timeout=_ANSWER_S,
        protocol=aiomqtt.ProtocolVersion.V311, keepalive=600,
    ) as client:  # fmt: skip
        await client.subscribe(f"{_CLAIM}/{reply}", 1)
        await client.publish(_CLAIM, json.dumps({"serial": serial, "reply": reply}), qos=1)
        async for message in client.messages:
            state = json.loads(bytes(message.payload))["state"]
            _say(serial, state)
            if state != "waiting":
                return


def _say(serial: str, what: str) -> None:
    sys.stdout.write(f"{serial} {what} {time.monotonic()}\n")
    sys.stdout.flush()


async def _all(run: Run) -> None:
    claiming = [asyncio.create_task(_claim(run, serial), name=serial) for serial in run.serials]
    await asyncio.to_thread(sys.stdin.read)
    for task in claiming:
        task.cancel()
    await asyncio.gather(*claiming, return_exceptions=True)
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(_all(msgspec.json.decode(sys.stdin.readline(), type=Run)))
