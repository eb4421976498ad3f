"""A PUBLISH that comes again with the DUP flag, from the device or from the broker, is stored once."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from drivers.mqtt.session import Session
from iot_core.api.shapes import DeviceNew
from iot_core.client import Client
from tests import servers
from tests.core import core_running, until

AT = datetime(2026, 11, 20, 1, 0, tzinfo=UTC)
KEY = "aq-1"
TOPIC = f"iot/v1/{KEY}/telemetry"
DUP = 0x08
PACKET_ID = b"\0\7"
CONNACK, PUBACK = b"\x20\x02", b"\x40\x02" + PACKET_ID
NUMBERED = json.dumps({"seq": 4, "pm25": 12.5}).encode()
TIMED = json.dumps({"time": AT.isoformat(), "pm25": 37.4}).encode()


def text(said: str) -> bytes:
    return len(said).to_bytes(2, "big") + said.encode()


def packet(first: int, body: bytes) -> bytes:
    """Frame a packet shorter than 128 bytes (MQTT 3.1.1, section 2.2)."""
    assert len(body) < 128
    return bytes((first, len(body))) + body


def publish(payload: bytes, *, dup: bool) -> bytes:
    return packet(0x32 | DUP * dup, text(TOPIC) + PACKET_ID + payload)


@asynccontextmanager
async def device(host: str, port: int, secret: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect by hand, with a session that lasts: clean session 0, user name and password."""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(packet(0x10, text("MQTT") + b"\4\xc0\0\x3c" + text("by-hand") + text(KEY) + text(secret)))
    assert (await reader.readexactly(4))[:2] == CONNACK
    try:
        yield reader, writer
    finally:
        writer.transport.abort()  # a cut line, no DISCONNECT


async def stored(client: Client) -> list[dict[str, object]]:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    return [dict(row.values) for row in (await client.telemetry(KEY, start=start, end=datetime.now(UTC))).items]


@pytest.mark.parametrize("body", [NUMBERED, TIMED], ids=["by its number", "by its time"])
async def test_a_device_that_repeats_with_dup_what_the_broker_had_is_stored_once(
    dsn: str, state_path: Path, free_ports: Callable[[int], int], body: bytes
) -> None:
    async with core_running(dsn, state_path, free_ports) as (core, client):
        secret = (await client.add_device(DeviceNew(key=KEY, profile="native-air-quality"))).secret or ""
        where = (core.broker.host, core.broker.port, secret)
        async with device(*where) as (reader, writer):
            writer.write(publish(body, dup=False))
            await until(lambda: core.counters.total("ingest_uplinks") == 1, what="the first is stored")
        async with device(*where) as (reader, writer):  # the PUBACK was lost with the line
            writer.write(publish(body, dup=True))
            assert await asyncio.wait_for(reader.readexactly(4), 60) == PUBACK
            await until(lambda: core.counters.total("ingest_uplinks") == 2, what="the second came through")
        assert await stored(client) == [{"pm25": json.loads(body)["pm25"]}]


async def test_what_a_broker_redelivers_with_dup_to_the_worker_that_took_over_is_stored_once(
    dsn: str,
    state_path: Path,
    free_ports: Callable[[int], int],
    mosquitto: servers.Mosquitto,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first worker commits and its PUBACKs are lost; a second one takes its session over while it still lives."""
    heard = bytearray()

    def lost(self: Session, packet_ids: Any) -> bool:
        del self, packet_ids
        return True

    hear = Session.data_received

    def overheard(self: Session, data: bytes) -> None:
        heard.extend(data)
        hear(self, data)

    settings = {"mqtt": {"broker": "external", "port": mosquitto.port}}
    second = state_path.with_name(f"{state_path.name}-second")
    async with core_running(dsn, state_path, free_ports, **settings) as (core, client):
        await client.add_device(DeviceNew(key=KEY, profile="native-air-quality"))
        with monkeypatch.context() as patch:
            patch.setattr(Session, "acknowledge", lost)
            for body in (NUMBERED, TIMED):
                async with device(mosquitto.host, mosquitto.port, "") as (reader, writer):
                    writer.write(publish(body, dup=False))
                    assert await asyncio.wait_for(reader.readexactly(4), 60) == PUBACK
            await until(lambda: core.counters.total("ingest_uplinks") == 2, what="both are stored")
        before = await stored(client)
        monkeypatch.setattr(Session, "data_received", overheard)
        async with core_running(dsn, second, free_ports, **settings) as (other, _):
            await until(
                lambda: sum(each.counters.total("ingest_uplinks") for each in (core, other)) >= 4,
                what="both came again",
            )
            assert other.counters.total("mqtt_disconnected") + core.counters.total("mqtt_disconnected") >= 1
        assert len(re.findall(rb"\x3a.\x00." + TOPIC.encode(), bytes(heard), re.DOTALL)) >= 2, "DUP was set"
        assert sorted(values["pm25"] for values in before) == [12.5, 37.4]  # type: ignore[type-var]
        assert await stored(client) == before
