"""Mosquitto 2.0.11 does not hold its window towards a slow reader; our own bounds keep the packet ids apart."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from tests import servers
from tests.drivers.test_mqtt.bench import DURABLE, Ingest, context, publish, running, settle, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from iot_core.driver import DriverContext
    from iot_core.model import Uplink
    from tests.servers import Mosquitto

MESSAGES = 70_000  # more than there are packet ids
BOUND = 25_000
CONNECT, PUBLISH, PUBACK, SUBSCRIBE = 1, 3, 4, 8


class Meter:
    """Stands between broker and driver and counts what was delivered and not yet acknowledged."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.open: dict[int, int] = {}
        self.most = 0
        self.twice = 0

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        with tempfile.TemporaryDirectory(prefix="iot-", dir="/tmp") as folder:
            path = f"{folder}/meter.sock"
            server = await asyncio.start_unix_server(self._connection, path, limit=1 << 16)
            try:
                yield path
            finally:
                server.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open.clear()
        broker_reader, broker_writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._copy(broker_reader, writer))
                group.create_task(self._copy(reader, broker_writer))
        except* (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            broker_writer.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readexactly(2)
                length, shift, size = head[1] & 127, 7, head
                while size[-1] & 128:
                    size += await reader.readexactly(1)
                    length |= (size[-1] & 127) << shift
                    shift += 7
                body = await reader.readexactly(length)
                self._see(head[0], body)
                writer.write(size + body)
                await writer.drain()
        finally:
            writer.close()

    def _see(self, first: int, body: bytes) -> None:
        if first >> 4 == PUBLISH and first & 0x06:
            at = 2 + int.from_bytes(body[:2], "big")
            packet = int.from_bytes(body[at : at + 2], "big")
            self.twice += packet in self.open
            self.open[packet] = 1
            self.most = max(self.most, len(self.open))
        elif first >> 4 == PUBACK:
            self.open.pop(int.from_bytes(body[:2], "big"), None)


class Slow(Ingest):
    """An ingest path that commits in batches, slower than the broker delivers."""

    def __init__(self) -> None:
        super().__init__(finish=False)
        self.waiting: asyncio.Queue[Uplink] = asyncio.Queue(10_000)

    async def emit(self, uplink: Uplink) -> None:
        await self.waiting.put(uplink)

    async def commit(self) -> None:
        while True:
            batch = [await self.waiting.get()]
            while len(batch) < 5_000 and not self.waiting.empty():
                batch.append(self.waiting.get_nowait())
            await asyncio.sleep(0.3)
            for uplink in batch:
                self.taken.append(uplink)
                await settle(uplink)


def lines() -> bytes:
    return b"".join(b'{"seq": %d, "pm25": 35.2, "pm10": 60.1}\n' % number for number in range(MESSAGES))


@asynccontextmanager
async def saturated(folder: Path, *listeners: str) -> AsyncIterator[Mosquitto]:
    """Give a broker that has waited with more messages than there are packet ids for a driver that it knows."""
    with servers.mosquitto(folder / "broker", *DURABLE, "max_inflight_messages 2000", *listeners) as broker:
        async with running(context(broker.port), Ingest().emit):
            pass
        assert await publish(broker, "-q", "0", "-l", "-t", "iot/v1/aq-1/telemetry", lines=lines()) == 0
        yield broker


async def drained(bench: DriverContext) -> Slow:
    """Read it all with a slow store."""
    slow = Slow()
    committing = asyncio.create_task(slow.commit())
    async with running(bench, slow.emit):
        await until(lambda: len(slow.taken) >= MESSAGES, 90, "all of them")
    committing.cancel()
    return slow


async def test_at_saturation_with_a_slow_store_nothing_is_lost_on_the_cores_own_socket(tmp_path: Path) -> None:
    counted = Counter[str]()
    with tempfile.TemporaryDirectory(prefix="iot-", dir="/tmp") as folder:
        path = f"{folder}/core.sock"
        async with saturated(tmp_path, f"listener 0 {path}") as broker:
            slow = await drained(context(broker.port, counted=counted, socket=path))
    assert len(set(slow.payloads())) == MESSAGES
    assert not counted["mqtt_packet_id_twice"]


async def test_the_cores_own_socket_keeps_the_window_bounded(tmp_path: Path) -> None:
    async with saturated(tmp_path) as broker:
        meter = Meter(broker.port)
        async with meter.listening() as path:
            slow = await drained(context(broker.port, socket=path))
    assert len(set(slow.payloads())) == MESSAGES
    assert meter.twice == 0
    assert meter.most <= BOUND


async def test_at_saturation_with_a_slow_store_nothing_is_lost_over_tcp(tmp_path: Path) -> None:
    async with saturated(tmp_path) as broker:
        slow = await drained(context(broker.port))
    assert len(set(slow.payloads())) == MESSAGES


async def _length(reader: asyncio.StreamReader) -> int:
    """Read a remaining length (MQTT 3.1.1, 2.2.3)."""
    length = shift = 0
    while True:
        (byte,) = await reader.readexactly(1)
        length |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return length


def _filters(said: bytes) -> int:
    """Count the topic filters of a SUBSCRIBE: each has a length, itself and a QoS."""
    number = 0
    while said:
        said = said[2 + int.from_bytes(said[:2], "big") + 1 :]
        number += 1
    return number


class CarelessBroker:
    """Uses one packet id for two messages, as Mosquitto 2.0.11 does past 65,535; forgets only what is acknowledged."""

    def __init__(self) -> None:
        self.held = [(5, b"first"), (5, b"second"), (6, b"third")]
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        sending = False
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                first = (await reader.readexactly(1))[0]
                body = await reader.readexactly(await _length(reader))
                if first >> 4 == CONNECT:
                    writer.write(b"\x20\x02\x01\x00")
                    sending = body.endswith(b"iot-core-ingest")
                elif first >> 4 == SUBSCRIBE:
                    granted = b"\x01" * _filters(body[2:])
                    writer.write(bytes([0x90, 2 + len(granted)]) + body[:2] + granted)
                    for packet, payload in self.held if sending else ():
                        topic = b"iot/v1/a/telemetry"
                        content = bytes([0, len(topic)]) + topic + packet.to_bytes(2, "big") + payload
                        writer.write(bytes([0x32, len(content)]) + content)
                elif first >> 4 == PUBACK:
                    packet = int.from_bytes(body, "big")
                    self.held.remove(next(one for one in self.held if one[0] == packet))
        writer.close()


async def test_two_messages_with_one_packet_id_are_both_stored_before_they_are_acknowledged() -> None:
    careless, counted, slow = CarelessBroker(), Counter[str](), Slow()
    server = await asyncio.start_server(careless.serve, "127.0.0.1", 0)
    committing = asyncio.create_task(slow.commit())
    port: int = server.sockets[0].getsockname()[1]
    async with running(context(port, counted=counted, kind="external"), slow.emit):
        await until(lambda: not careless.held)
    committing.cancel()
    server.close()
    assert set(slow.payloads()) == {"first", "second", "third"}
    assert counted["mqtt_packet_id_twice"] == 1
