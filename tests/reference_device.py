"""A device that loses nothing, in forty lines of aiomqtt: docs/protocol.md, "How to lose nothing"."""

import asyncio
import json
import time
from datetime import UTC, datetime

import aiomqtt


class Device:
    def __init__(self, host: str, port: int, key: str, secret: str, again_s: float = 30.0) -> None:
        self.host, self.port, self.key, self.secret, self.again_s = host, port, key, secret, again_s
        self.run = format(time.time_ns(), "x")  # new whenever the counter starts again
        self.seq = 0
        self.kept: dict[int, bytes] = {}  # in a real device: in flash, and the oldest goes when it is full

    def measure(self, **values: float) -> None:
        said = {"time": datetime.now(UTC).isoformat(), "run": self.run, "seq": self.seq, **values}
        self.kept[self.seq] = json.dumps(said).encode()
        self.seq += 1

    async def work(self) -> None:
        while True:
            try:
                async with aiomqtt.Client(self.host, self.port, username=self.key, password=self.secret) as client:
                    await client.subscribe(f"iot/v1/{self.key}/stored", qos=1)
                    async with asyncio.TaskGroup() as group:
                        group.create_task(self.forget(client))
                        group.create_task(self.send(client))
            except* (aiomqtt.MqttError, OSError):
                await asyncio.sleep(0.2)

    async def forget(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            receipt = json.loads(message.payload)
            for first, last in receipt["seq"] if receipt["run"] == self.run else []:
                self.kept = {seq: body for seq, body in self.kept.items() if not first <= seq <= last}

    async def send(self, client: aiomqtt.Client) -> None:
        sent: dict[int, float] = {}  # when; what no receipt covered for too long is sent again
        while True:
            for seq, body in sorted(self.kept.items()):
                if time.monotonic() - sent.get(seq, -1e9) > self.again_s:
                    sent[seq] = time.monotonic()
                    await client.publish(f"iot/v1/{self.key}/telemetry", body, qos=1)
            await asyncio.sleep(0.05)
