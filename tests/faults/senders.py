"""Small honest devices: each says its messages in order, notes what it was told is safe, and always comes back."""

from __future__ import annotations

import asyncio
import json
import struct
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiocoap
import aiomqtt

from tests.core import command, until
from tests.drivers.modbus_peer import Asked, peer
from tests.faults.ledger import METRIC, Ledger, at, body

RETRY_S: Final = 0.1
PATIENCE_S: Final = 5
LAST_RECEIPT_S: Final = 2
LAST_TRIES: Final = 10


@dataclass
class Sender(ABC):
    """A device that sends message after message, each until it is acknowledged."""

    port: int
    key: str
    secret: str
    timed: bool = True
    interval_s: float = 0.005
    said: list[int] = field(default_factory=list)
    """Numbers that were acknowledged, in order."""

    async def run(self, stop: asyncio.Event) -> None:
        """Send until told to stop."""
        while not stop.is_set():
            try:
                await self.connection(stop)
            except* (aiomqtt.MqttError, aiocoap.error.Error, OSError, TimeoutError):
                pass
            await asyncio.sleep(RETRY_S)

    @abstractmethod
    async def connection(self, stop: asyncio.Event) -> None:
        """Send as long as one connection lasts."""

    def message(self) -> str:
        return body(len(self.said), timed=self.timed)

    def acknowledged(self) -> None:
        self.said.append(len(self.said))

    async def reaches(self, number: int, *, within_s: float = 60.0) -> None:
        """Wait until so many were acknowledged."""
        await until(lambda: len(self.said) >= number, within_s=within_s, what=f"{self.key}: {number} acknowledged")


@dataclass
class Mqtt(Sender):
    """QoS 1, one message in flight; forgets a message with its PUBACK."""

    user: str = ""
    """Its login, where that is not its key."""

    async def connection(self, stop: asyncio.Event) -> None:
        async with self.client() as client:
            await self.publish(client, stop)

    def client(self) -> aiomqtt.Client:
        return aiomqtt.Client(
            "127.0.0.1", self.port, username=self.user or self.key, password=self.secret, identifier=self.key,
            timeout=PATIENCE_S,
        )  # fmt: skip

    async def publish(self, client: aiomqtt.Client, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await client.publish(f"iot/v1/{self.key}/telemetry", self.message(), qos=1)
            self.acknowledged()
            await asyncio.sleep(self.interval_s)


@dataclass
class SetBack(Mqtt):
    """Its clock is set back in mid-stream: it says times again that it has said before."""

    after: int = 200
    seconds: int = 100

    def message(self) -> str:
        number = len(self.said)
        if number < self.after:
            return super().message()
        return json.dumps({"time": at(number - self.seconds).isoformat(), "seq": number, METRIC: number})


@dataclass
class Careful(Mqtt):
    """Keeps what it said until a receipt names it, and says it again on every new connection (docs/protocol.md)."""

    kept: dict[int, str] = field(default_factory=dict)
    receipts: int = 0

    def message(self) -> str:
        said = super().message()
        self.kept[len(self.said)] = said
        return said

    async def connection(self, stop: asyncio.Event) -> None:
        async with self.client() as client, asyncio.TaskGroup() as group:
            await client.subscribe(f"iot/v1/{self.key}/stored", qos=1)
            hearing = group.create_task(self.hear(client))
            await self.again(client)
            await self.publish(client, stop)
            for _ in range(LAST_TRIES):  # a receipt that came while we were away is not told twice, unless we ask
                await asyncio.sleep(LAST_RECEIPT_S)
                if not self.kept:
                    break
                await self.again(client)
            hearing.cancel()

    async def again(self, client: aiomqtt.Client) -> None:
        """Say again what no receipt has named."""
        for number in sorted(self.kept):
            if number in self.kept:
                await client.publish(f"iot/v1/{self.key}/telemetry", self.kept[number], qos=1)

    async def hear(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            assert isinstance(message.payload, bytes)
            self.receipts += 1
            for first, last in json.loads(message.payload)["seq"]:
                for number in range(first, last + 1):
                    self.kept.pop(number, None)


@dataclass
class Coap(Sender):
    """Confirmable POSTs, one at a time; only 2.04 counts."""

    refused: int = 0

    async def connection(self, stop: asyncio.Event) -> None:
        uri = f"coap://127.0.0.1:{self.port}/v1/{self.key}/telemetry?token={self.secret}"
        context = await aiocoap.Context.create_client_context()
        try:
            while not stop.is_set():
                request = aiocoap.Message(
                    code=aiocoap.POST, uri=uri, payload=self.message().encode(), content_format=50
                )
                async with asyncio.timeout(PATIENCE_S):
                    answer = await context.request(request).response
                if answer.code == aiocoap.CHANGED:
                    self.acknowledged()
                else:
                    self.refused += 1
                    await asyncio.sleep(RETRY_S)
                await asyncio.sleep(self.interval_s)
        finally:
            await context.shutdown()


@dataclass
class Meter:
    """A Modbus unit whose register counts the polls; a poll that it answered is taken."""

    port: int
    key: str = "modbus-1"
    answered: list[int] = field(default_factory=list)

    async def answer(self, asked: Asked, writer: asyncio.StreamWriter) -> None:
        number = len(self.answered)
        writer.write(asked.words(list(struct.unpack(">2H", struct.pack(">I", number)))))
        self.answered.append(number)


PROFILE: Final = """\
model: fault-meter
vendor: Test
title: {vi: Đồng hồ, en: Meter}
source: "tests/faults/senders.py"
interval: 1s
modbus:
  points:
    co2: {table: holding, address: 0, type: uint32}
examples:
  - {name: a count, registers: {"holding:0": [0, 400]}, values: {co2: 400}}
  - {name: half of it, registers: {"holding:0": [0]}, held: truncated}
"""


def profiles(folder: Path) -> str:
    """Make a folder of own profiles with the meter's, and name it."""
    own = folder / "profiles" / "air_quality"
    own.mkdir(parents=True)
    (own / "fault_meter.yaml").write_text(PROFILE, encoding="utf-8")
    return str(own.parent)


@asynccontextmanager
async def meter(port: int) -> AsyncIterator[Meter]:
    """Run a unit of the profile above."""
    made = Meter(port)
    async with peer(port, {1: made.answer}):
        yield made


@asynccontextmanager
async def sending(*senders: Sender) -> AsyncIterator[None]:
    """Let devices send while the block lasts; each ends with an acknowledgement."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for sender in senders:
            group.create_task(sender.run(stop), name=sender.key)
        yield
        stop.set()


def ledger_of(*senders: Sender) -> Ledger:
    """Write down what each was told."""
    made = Ledger()
    for sender in senders:
        made.note(sender.key, sender.said)
    return made


AT_ONCE: Final = 50_000
"""mosquitto_pub waits for the acknowledgement of its last packet id, and past 65,535 an earlier one has the same."""


async def publish_all(port: int, key: str, secret: str, first: int, number: int, *, user: str = "") -> list[int]:
    """Publish at full speed, QoS 1; give the numbers, for mosquitto_pub exits with 0 once all are acknowledged."""
    words = ("-p", str(port), "-q", "1", "-u", user or key, "-P", secret, "-i", key, "-l")
    topic = f"iot/v1/{key}/telemetry"
    for start in range(first, first + number, AT_ONCE):
        numbers = range(start, min(start + AT_ONCE, first + number))
        lines = "".join(f"{body(each)}\n" for each in numbers).encode()
        code, out, err = await command("mosquitto_pub", *words, "-t", topic, stdin=lines, within_s=120)
        assert code == 0, out + err
    return list(range(first, first + number))
