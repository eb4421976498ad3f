"""Things in the field: a lamp and a detector on MQTT, a meter on CoAP, a flow meter on Modbus. None of it ours."""

from __future__ import annotations

import asyncio
import json
import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import aiomqtt

REGISTERS = {0: 0x0000, 1: 0x3FC0, 8: 0x86A0, 9: 0x0001, 10: 0x0000, 11: 0x3E80, 32: 0x0000, 33: 0x41A4}
"""A TUF-2000M: 1.5 m3/h, 100000.25 m3, 20.5 degC; low word first."""


def publish(port: int, key: str, secret: str, **values: object) -> None:
    """Say something over MQTT, as the device itself."""

    async def say() -> None:
        async with aiomqtt.Client("127.0.0.1", port, username=key, password=secret) as client:
            body = json.dumps({"time": datetime.now(UTC).isoformat(), **values})
            await client.publish(f"iot/v1/{key}/telemetry", body, qos=1)

    asyncio.run(asyncio.wait_for(say(), 60))


class _Registers(socketserver.BaseRequestHandler):
    """Answers function 3 (read holding registers); Modbus Application Protocol 1.1b3, section 6.3."""

    request: Any

    def handle(self) -> None:
        while len(head := self._exactly(12)) == 12:
            transaction, _, _, unit, function, address, count = struct.unpack(">HHHBBHH", head)
            words = [REGISTERS.get(address + each, 0) for each in range(count)]
            body = struct.pack(f">BBB{count}H", unit, function, 2 * count, *words)
            self.request.sendall(struct.pack(">HHH", transaction, 0, len(body)) + body)

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count and (part := self.request.recv(count - len(data))):
            data += part
        return data


@contextmanager
def flow_meter() -> Iterator[int]:
    """Run a flow meter; give its port."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Registers) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()
