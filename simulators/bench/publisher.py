"""A lean MQTT publisher, a process of its own: many device connections, each with a window of unacknowledged messages.

Run as `python -m simulators.bench.publisher` with a Load as JSON on standard input; a Sent comes out. It speaks just
enough MQTT 3.1.1 by itself (CONNECT, PUBLISH at QoS 1), because a client library would be what is measured.
"""

from __future__ import annotations

import asyncio
import struct
import sys
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

import msgspec

_CONNACK: Final = 2
_PUBACK: Final = 4
_IDS: Final = 65_535
_TICK_S: Final = 0.01


class Load(msgspec.Struct, frozen=True):
    """What to publish: as `accounts`, for `seconds`, at `rate` messages a second over all (0: as fast as it goes)."""

    host: str
    port: int
    accounts: tuple[tuple[str, str], ...]
    seconds: float
    rate: float = 0.0
    window: int = 20
    start: str = ""
    """Time of each device's first reading, RFC 3339; the next ones follow by seconds."""


class Sent(msgspec.Struct, frozen=True):
    """How many the broker acknowledged, how many were written at all, and how long it took."""

    acknowledged: int
    written: int
    seconds: float
    cpu_s: float


class Device(asyncio.Protocol):
    """One connection: sends the next message for every acknowledgement, within its window."""

    def __init__(self, key: str, secret: str, start: datetime) -> None:
        self.connected: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.written = self.acknowledged = 0
        self._key, self._secret = key, secret
        self._topic = _text(f"iot/v1/{key}/telemetry")
        self._start = start
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say who we are."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        flags = 0xC2 if self._secret else 0x02
        names = _text(self._key) + (_text(self._key) + _text(self._secret) if self._secret else b"")
        transport.write(_packet(0x10, _text("MQTT") + bytes([4, flags]) + struct.pack(">H", 0) + names))

    def data_received(self, data: bytes) -> None:
        """Count acknowledgements; every answer we can get is four bytes long."""
        self._buffer += data
        whole = len(self._buffer) // 4 * 4
        for at in range(0, whole, 4):
            kind = self._buffer[at] >> 4
            if kind == _PUBACK:
                self.acknowledged += 1
            elif kind == _CONNACK and not self.connected.done():
                if self._buffer[at + 3]:
                    self.connected.set_exception(ConnectionError(f"refused: {self._buffer[at + 3]}"))
                else:
                    self.connected.set_result(None)
        self._buffer = self._buffer[whole:]

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail a connection that never came to be."""
        if not self.connected.done():
            self.connected.set_exception(exc or ConnectionError("closed"))

    def send(self, most: int, window: int) -> int:
        """Write up to `most` messages, as far as the window goes; say how many."""
        number = min(most, window - (self.written - self.acknowledged))
        if number > 0:
            assert self._transport is not None
            self._transport.write(b"".join(self._message(self.written + n) for n in range(number)))
            self.written += number
        return max(number, 0)

    def _message(self, n: int) -> bytes:
        at = (self._start + timedelta(seconds=n)).isoformat()
        body = (
            f'{{"time":"{at}","seq":{n},"pm25":{n % 900 / 10},"pm10":{n % 800 / 10},"temperature":{20 + n % 90 / 10},'
            f'"humidity":{40 + n % 50},"co2":{400 + n % 900},"pressure":{1000 + n % 200 / 10}}}'
        )
        return _packet(0x32, self._topic + struct.pack(">H", n % _IDS + 1) + body.encode())


async def publish(load: Load) -> Sent:
    """Publish the load and wait (bounded) for the last acknowledgements."""
    loop = asyncio.get_running_loop()
    start = datetime.fromisoformat(load.start) if load.start else datetime.now(UTC) - timedelta(hours=6)
    devices = [Device(key, secret, start) for key, secret in load.accounts]
    for device in devices:
        await loop.create_connection(partial(_same, device), load.host, load.port)
        await device.connected
    began, cpu = time.perf_counter(), time.process_time()
    due = 0.0
    while (elapsed := time.perf_counter() - began) < load.seconds:
        due = elapsed * load.rate - sum(device.written for device in devices) if load.rate else float("inf")
        share = int(due / len(devices)) + 1 if load.rate else load.window
        for device in devices:
            if due < 1:
                break
            due -= device.send(share, load.window)
        await asyncio.sleep(_TICK_S if load.rate else 0)
    async with asyncio.timeout(60):
        # A thousand connections, looked at together.
        while any(device.acknowledged < device.written for device in devices):  # noqa: ASYNC110
            await asyncio.sleep(_TICK_S)
    return Sent(
        sum(device.acknowledged for device in devices),
        sum(device.written for device in devices),
        time.perf_counter() - began,
        time.process_time() - cpu,
    )


def _same(device: Device) -> Device:
    return device


def _text(said: str) -> bytes:
    return struct.pack(">H", len(said)) + said.encode()


def _packet(kind: int, body: bytes) -> bytes:
    length = len(body)
    sizes = bytearray()
    while True:
        length, rest = divmod(length, 128)
        sizes.append(rest | (0x80 if length else 0))
        if not length:
            return bytes([kind]) + bytes(sizes) + body


if __name__ == "__main__":
    asked = msgspec.json.decode(sys.stdin.buffer.read(), type=Load)
    sys.stdout.write(msgspec.json.encode(asyncio.run(publish(asked))).decode() + "\n")
